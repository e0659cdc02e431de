package cdc_test

import (
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

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

// TestNullableIdentity: from 18 on, an index over a column whose NOT NULL is not valid can be the
// replica identity, and nothing tells rows with a null there apart that are deleted.
func TestNullableIdentity(t *testing.T) {
	t.Parallel()
	dsn := pg.Database(t, "", "create table t (id int primary key, loja int, q int)", "insert into t values (1, null, 1), (2, 7, 1)", "create unique index i on t (loja)")
	conn := dial(t, dsn)
	if value[int](t, conn, "select current_setting('server_version_num')::int") < 180000 {
		if _, err := conn.Exec(t.Context(), "alter table t add constraint n not null loja not valid"); err == nil {
			t.Error("there is such a constraint before 18")
		}
		return
	}
	do(t, conn, "alter table t add constraint n not null loja not valid", "alter table t replica identity using index i", "create publication gancho for table t")
	remarks, err := cdc.Remarks(t.Context(), conn, "", "gancho")
	if err != nil || len(remarks) != 1 || remarks[0].ID != "identity.nullable" || remarks[0].Statements[0].SQL != "ALTER TABLE public.t VALIDATE CONSTRAINT n;" {
		t.Fatalf("remarks %+v, %v", remarks, err)
	}
	s := start(t, optionsFor(dsn), allOps("t"))
	do(t, conn, "delete from t where id = 2", "delete from t where id = 1", "insert into t values (3, 8, 1)")
	if diff := cmp.Diff([]string{"delete public.t old(id=<missing> loja=7 q=<missing>)", "delete public.t old(id=<missing> loja=<null> q=<missing>)", "insert public.t new(id=3 loja=8 q=1)"}, s.changes(3)); diff != "" {
		t.Errorf("changes (-want +got):\n%s", diff)
	}
	do(t, conn, remarks[0].Statements[0].SQL)
	if remarks, err = cdc.Remarks(t.Context(), conn, "", "gancho"); err != nil || len(remarks) > 0 {
		t.Errorf("remarks %+v, %v", remarks, err)
	}
}
