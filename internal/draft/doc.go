// Package draft writes rules for a database that nobody here has seen, from its
// catalogue: gancho init uses it.
//
// # Tables
//
// Drafter.Tables writes a rule file for a table: its columns with their types, those
// that are personal by their names masked or commented out, and as comments what is
// only a guess or needs something first (the tenant, lookups, conditions, updates of a
// table without a replica identity).
//
// # Presets
//
// Drafter.Draft adapts a rule file that is written for the legacy schema of
// migrations. A name is looked for in four ways, the surest first: the same name, the
// same but for case, accents and punctuation, a known synonym, a near spelling. A table
// is taken for another only if its columns and foreign keys are like the other's, too,
// which is its score. Every name that was not simply found is reported, because a guess
// is a person's to confirm. A leaf, a tenant or a lookup whose columns are not found is
// left out of its rule; without its table, condition or key the rule is commented out.
//
// # What both promise
//
// The draft is bound as gancho check binds it, and what does not fit is commented out
// with the reason. What is left is in order, but for statements that only a DBA may
// run before a preset's rules see old values. Nothing is written to the database.
package draft
