// Package migrations holds the project's SQL, embedded in the binary.
//
// The directory legacy has the schema of a gym, billing and shop system as
// vendors wrote it for twenty years: the demo, the compose file and the tests
// load it. Gancho never changes a source database from here: identity.sql,
// which a DBA would run for Gancho, is handed out as text like the rest, and
// who executes it decides.
package migrations
