package expr_test

import (
	"context"
	_ "embed"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/jackc/pgx/v5"

	"gancho/mapping/expr"
)

// catalogQuery creates catalog.txt: psql -At -f catalog.sql > catalog.txt, on PostgreSQL 15.
//
//go:embed catalog.sql
var catalogQuery string

// TestCatalog compares the embedded catalogue with the server's. On another
// version than 15, whose catalogue it is, a few rows may differ, and more may
// have come.
func TestCatalog(t *testing.T) {
	t.Parallel()
	conn := connectPlain(t, pg.Database(t, ""))
	ctx := context.Background()
	rows, err := conn.Query(ctx, strings.TrimSuffix(strings.TrimSpace(catalogQuery), ";"))
	if err != nil {
		t.Fatal(err)
	}
	want, err := pgx.CollectRows(rows, pgx.RowTo[string])
	if err != nil {
		t.Fatal(err)
	}
	var version int
	if err := conn.QueryRow(ctx, "select current_setting('server_version_num')::int / 10000").Scan(&version); err != nil {
		t.Fatal(err)
	}
	got := strings.Split(strings.TrimSpace(expr.Catalog), "\n")
	if version == 15 {
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("server - embedded +\n%s", diff)
		}
		return
	}
	gone := slices.DeleteFunc(got, func(line string) bool { return slices.Contains(want, line) })
	if len(gone) > 30 {
		t.Errorf("PostgreSQL %d does not have %d rows of the embedded catalogue:\n%s", version, len(gone), strings.Join(gone, "\n"))
	}
}
