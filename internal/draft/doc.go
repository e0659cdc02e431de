// Package draft adapts a preset's rule file, which is written for the legacy
// schema of migrations, to the catalogue of another database: gancho init uses
// it.
//
// Names are placed by what they are, from the surest to the least sure: the
// same name, the same but for case, accents and punctuation, a known synonym, a
// near spelling. Every name that was not simply found is reported, because a
// guess is a person's to confirm. The draft is then bound as gancho check binds
// it, and a rule that does not fit is commented out with the reason; so that
// what is left is in order, but for statements that only a DBA may run.
//
// Nothing is written to the database.
package draft
