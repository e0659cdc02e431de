// Package draft adapts a preset's rule file, which is written for the legacy
// schema of migrations, to the catalogue of another database: gancho init uses
// it.
//
// A name is looked for in four ways, the surest first: the same name, the same
// but for case, accents and punctuation, a known synonym, a near spelling. Every
// name that was not simply found is reported, because a guess is a person's to
// confirm. The draft is then bound as gancho check binds it, and a rule that does
// not fit is commented out with the reason. What is left is in order, but for
// statements that only a DBA may run.
//
// Nothing is written to the database.
package draft
