// Package migrations holds the project's SQL, embedded in the binary.
//
// The directory gancho has Gancho's own schema, as numbered steps of which each
// is applied once, in a transaction (Apply). Nothing outside the schema gancho
// is touched, so it may live in the source's database. A step that has been
// released is never edited: a change is the next step.
//
// The directory legacy has the schema of a gym, billing and shop system as
// vendors wrote it for twenty years: the demo, the compose file and the tests
// load it. Gancho itself never runs these scripts: identity.sql, which a DBA would
// run for Gancho, is returned as text like the rest.
package migrations
