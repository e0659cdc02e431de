package mapping_test

import (
	"context"
	"errors"
	"os"
	"path/filepath"
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
	if _, err := application.Exec(t.Context(), "rollback"); err != nil {
		t.Fatal(err)
	}
	if _, err := parsed.Bind(t.Context(), conn); err != nil {
		t.Errorf("binding to the table, not locked: %v", err)
	}
}
