package cdc_test

import (
	"strings"
	"testing"

	"gancho/cdc"
	"gancho/internal/testservers"
)

// TestRemarks: what does not get along with other tools of the database.
func TestRemarks(t *testing.T) {
	t.Parallel()
	server, err := testservers.StartPostgres(testservers.PostgresOptions{Settings: map[string]string{"wal_level": "replica"}, Arguments: []string{"-c", "wal_level=logical"}})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(server.Close)
	conn := dial(t, server.Database(t, "", "create table t (id int primary key)", "create publication gancho for table t"))
	says := func(parts ...string) {
		t.Helper()
		remarks, err := cdc.Remarks(t.Context(), conn, "", "gancho")
		if err != nil || len(remarks) != len(parts) {
			t.Fatalf("%d remarks, want %d: %+v, %v", len(remarks), len(parts), remarks, err)
		}
		for i, part := range parts {
			if !strings.Contains(remarks[i].String(), part) {
				t.Errorf("remark %q, want %q", remarks[i].String(), part)
			}
		}
	}
	says("pg_upgrade and pg_rewind")
	// As create extension pglogical does.
	do(t, conn, "insert into pg_catalog.pg_extension (oid, extname, extowner, extnamespace, extrelocatable, extversion) values (99999, 'pglogical', 10, 2200, false, '2.4.2')",
		"drop publication gancho", "create publication gancho for all tables")
	says("a new table without a primary key refuses", "pg_upgrade and pg_rewind", "pglogical is installed")
}
