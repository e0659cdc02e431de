package mapping_test

import (
	"context"
	"strings"
	"testing"

	"github.com/jackc/pgx/v5"

	"gancho/internal/testservers"
	"gancho/mapping"
)

// TestFullAdvice: REPLICA IDENTITY FULL is advised only where the application's
// UPDATE works under it, with what has to be done first.
func TestFullAdvice(t *testing.T) {
	testservers.Whole(t)
	t.Parallel()
	const (
		plain  = "create table itens (id int primary key, qtd int)"
		stored = "create table itens (id int primary key, qtd int, total int generated always as (qtd * 2) stored)"
		ours   = "create publication gancho for table itens"
		run    = "\nALTER TABLE public.itens REPLICA IDENTITY FULL;"
	)
	for name, c := range map[string]struct {
		since, until string // the first and the last version
		statements   []string
		fix          string // "" is for none that is SQL
	}{
		"plain":                               {"14", "18", []string{plain, ours}, run},
		"generated, not published yet":        {"14", "18", []string{stored}, run},
		"generated, published":                {"14", "17", []string{stored, ours}, run},
		"generated, published without it":     {"18", "18", []string{stored, ours}, "\nALTER PUBLICATION gancho SET (publish_generated_columns = stored);\n-- it raises the WAL of the table's updates and deletes by about 40 %\nALTER TABLE public.itens REPLICA IDENTITY FULL;"},
		"generated, another tool":             {"18", "18", []string{stored, ours, "create publication outra for all tables"}, ""},
		"virtual":                             {"18", "18", []string{strings.Replace(stored, "stored", "virtual", 1)}, ""},
		"another tool's column list":          {"15", "18", []string{plain, "create publication outra for table itens (id, qtd)"}, ""},
		"another tool's column list, inserts": {"15", "18", []string{plain, "create publication outra for table itens (id, qtd) with (publish = 'insert')"}, run},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			if major, _, _ := strings.Cut(serverVersion(t), "."); major < c.since || major > c.until {
				t.Skipf("for PostgreSQL %s to %s", c.since, c.until)
			}
			conn := connect(t, c.statements...)
			rules := parse(t, mapping.Options{Publication: "gancho"}, "rules:\n  - {event: a, table: itens, on: update, when: old.qtd <> new.qtd, columns: [id]}\n")
			_, err := rules.Bind(context.Background(), conn)
			if err == nil {
				t.Fatal("the rule was accepted without old values")
			}
			_, fix, _ := strings.Cut(err.Error(), "only under REPLICA IDENTITY FULL")
			if c.fix == "" {
				if !strings.Contains(fix, "do without it: under REPLICA IDENTITY FULL the application's own UPDATE and DELETE of public.itens would fail") {
					t.Errorf("advice %s", fix)
				}
				return
			}
			if !strings.Contains(fix, c.fix) {
				t.Fatalf("advice %s, want %s", fix, c.fix)
			}
			if _, err := conn.Exec(context.Background(), c.fix, pgx.QueryExecModeSimpleProtocol); err != nil {
				t.Fatal(err)
			}
			if _, err := rules.Bind(context.Background(), conn); err != nil {
				t.Error(err)
			}
			for _, statement := range []string{"insert into itens (id, qtd) values (1, 1)", "update itens set qtd = 2", "delete from itens"} {
				if _, err := conn.Exec(context.Background(), statement); err != nil {
					t.Errorf("%s: %v", statement, err)
				}
			}
		})
	}
}
