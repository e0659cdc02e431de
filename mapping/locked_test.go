package mapping_test

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/jackc/pgx/v5"

	"gancho/cdc"
	"gancho/mapping"
)

// TestBindDoesNotWaitForLockedTables: a table that a lookup reads, and that another session
// has locked, is an error that passes and says who, and no mistake of the rule.
func TestBindDoesNotWaitForLockedTables(t *testing.T) {
	t.Parallel()
	dsn := pg.Database(t, "", "create table o (id int primary key); create table p (id int primary key, name text)")
	dial := func() *pgx.Conn {
		conn, err := pgx.Connect(t.Context(), dsn)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = conn.Close(context.Background()) })
		return conn
	}
	conn, application := dial(), dial()
	file := filepath.Join(t.TempDir(), "rules.yaml")
	const rules = `rules: [{event: o.novo, table: o, on: insert, lookup: {p: "select name from p where id = new.id"}, data: {x: p.name}}]`
	if err := os.WriteFile(file, []byte(rules), 0o600); err != nil {
		t.Fatal(err)
	}
	parsed, err := mapping.Parse(mapping.Options{Files: []string{file}})
	if err != nil {
		t.Fatal(err)
	}
	for _, sql := range []string{"begin", "lock table p in access exclusive mode"} {
		if _, err := application.Exec(t.Context(), sql); err != nil {
			t.Fatal(err)
		}
	}
	_, err = parsed.Bind(t.Context(), conn)
	locked, ok := errors.AsType[*cdc.LockedError](err)
	if !ok || locked.Table.Name != "p" || locked.PID != int(application.PgConn().PID()) || !cdc.FaultOf(err).Passing() {
		t.Errorf("binding to a locked table: %v", err)
	}
	// Where several sessions have locked tables, none is named: it may be an innocent one.
	innocent := dial()
	for _, sql := range []string{"begin", "lock table o in access exclusive mode"} {
		if _, err := innocent.Exec(t.Context(), sql); err != nil {
			t.Fatal(err)
		}
	}
	_, err = parsed.Bind(t.Context(), conn)
	locked, ok = errors.AsType[*cdc.LockedError](err)
	if !ok || locked.PID != 0 || locked.Table != (cdc.Name{}) || strings.Contains(err.Error(), "pg_terminate_backend") {
		t.Errorf("binding beside two sessions with locks: %v", err)
	}
	if !ok || !strings.Contains(err.Error(), "rules.yaml:1") {
		t.Errorf("the error has no place: %v", err)
	}
	for _, c := range []*pgx.Conn{innocent, application} {
		if _, err := c.Exec(t.Context(), "rollback"); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := parsed.Bind(t.Context(), conn); err != nil {
		t.Errorf("binding to the table, not locked: %v", err)
	}
}

// TestBindReportsSlowLookups: a lookup that takes longer than statement_timeout while it is tried is
// a mistake, with its place: it would again.
func TestBindReportsSlowLookups(t *testing.T) {
	t.Parallel()
	dsn := pg.Database(t, "", "create table o (id int primary key)",
		"create function slow(int) returns int immutable language plpgsql as 'begin perform pg_sleep(60); return 1; end'") // planning calls it
	conn, err := pgx.Connect(t.Context(), dsn+"&statement_timeout=300")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = conn.Close(context.Background()) })
	file := filepath.Join(t.TempDir(), "rules.yaml")
	const rules = `rules: [{event: o.novo, table: o, on: insert, lookup: {p: "select public.slow(1) as v"}, data: {x: p.v}}]`
	if err := os.WriteFile(file, []byte(rules), 0o600); err != nil {
		t.Fatal(err)
	}
	parsed, err := mapping.Parse(mapping.Options{Files: []string{file}})
	if err != nil {
		t.Fatal(err)
	}
	_, err = parsed.Bind(t.Context(), conn)
	if _, ok := errors.AsType[*mapping.MistakesError](err); !ok || !strings.Contains(err.Error(), "rules.yaml:1") || !strings.Contains(err.Error(), "statement timeout") {
		t.Errorf("a slow lookup: %v", err)
	}
}
