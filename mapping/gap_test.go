package mapping_test

import (
	"context"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/jackc/pgx/v5"

	"gancho/cdc"
	"gancho/mapping"
)

// TestGapTables: which rows a gap may have left out, by the columns of changed_at, and which
// columns cannot say that.
func TestGapTables(t *testing.T) {
	t.Parallel()
	conn, err := pgx.Connect(t.Context(), pg.Database(t, "", `create table pedidos (id int primary key, "Mudou" timestamptz, alterado timestamp, dia date, nota text)`, "create table itens (id int primary key)"))
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = conn.Close(context.Background()) }()
	zone, err := time.LoadLocation("America/Sao_Paulo")
	if err != nil {
		t.Fatal(err)
	}
	bind := func(rules ...string) (*mapping.Ruleset, error) {
		return parse(t, mapping.Options{Location: zone}, "rules:\n  - "+strings.Join(rules, "\n  - ")+"\n").Bind(t.Context(), conn)
	}
	rules, err := bind(
		`{event: a, table: pedidos, on: [insert, update], columns: [id], changed_at: ['"Mudou"', dia]}`,
		"{event: b, table: pedidos, on: insert, columns: [id], changed_at: alterado}",
		"{event: c, table: pedidos, on: delete, columns: [id]}",
		"{event: d, table: itens, on: insert, columns: [id]}",
	)
	if err != nil {
		t.Fatal(err)
	}
	want := []mapping.GapTable{
		{Table: cdc.Name{Schema: "public", Name: "itens"}, Events: []string{"d"}},
		{
			Table: cdc.Name{Schema: "public", Name: "pedidos"}, Events: []string{"a", "b"}, Unknown: []string{"c"},
			Where: `"Mudou" >= '2026-11-29 01:30:00+00' or dia >= '2026-11-28' or alterado >= '2026-11-28 22:30:00'`,
		},
	}
	if diff := cmp.Diff(want, rules.GapTables(time.Date(2026, 11, 29, 2, 30, 0, 0, time.UTC))); diff != "" {
		t.Errorf("tables (-want +got):\n%s", diff)
	}
	if got := rules.GapTables(time.Time{}); got[1].Where != "" {
		t.Errorf("since an unknown time: %+v", got)
	}
	for rule, want := range map[string]string{
		"{event: a, table: pedidos, on: insert, columns: [id], changed_at: nota}":  "changed_at needs a timestamp or a date",
		"{event: a, table: pedidos, on: insert, columns: [id], changed_at: mudou}": `column "mudou" is not in table pedidos`,
	} {
		if _, err := bind(rule); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v", rule, err)
		}
	}
}
