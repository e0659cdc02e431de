package migrations

import _ "embed"

var (
	//go:embed legacy/schema.sql
	legacySchema string
	//go:embed legacy/seed.sql
	legacySeed string
	//go:embed legacy/identity.sql
	legacyIdentity string
)

// Legacy returns the demo's legacy system as SQL scripts of several statements,
// to be run in this order in an empty database of PostgreSQL 14 or later, UTF8
// or LATIN1: schema creates 26 tables with their types, triggers and partitions;
// seed adds a few rows; identity sets REPLICA IDENTITY FULL where events need
// the old row, which is all that a DBA changes for Gancho.
//
// The scripts are in UTF-8. To send one as a single query, use a session with
// client_encoding=UTF8: the SET in the script comes too late, because the server
// converts the whole text first. psql sends statement by statement.
func Legacy() (schema, seed, identity string) {
	return legacySchema, legacySeed, legacyIdentity
}
