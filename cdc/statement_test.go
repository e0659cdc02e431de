package cdc_test

import (
	"errors"
	"fmt"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"gancho/cdc"
	"gancho/internal/testservers"
)

// TestStatementsHarmNothing runs the proposed script as the roles that it names, statement by
// statement: whoever owns what, the application's statements work after each, and no table is
// out of the publications between two.
func TestStatementsHarmNothing(t *testing.T) {
	testservers.Whole(t)
	t.Parallel()
	tables := []string{"clientes", "parametros", "estoque_movimentos"}
	for name, setup := range map[string][]string{
		"one superuser": {"create publication gancho for table clientes, parametros, estoque_movimentos with (publish = 'insert')"},
		"the application owns the publication": {
			"alter database DATABASE owner to app_DATABASE", "alter table clientes owner to app_DATABASE", "alter table parametros owner to app_DATABASE", "alter table estoque_movimentos owner to app_DATABASE",
			"set role app_DATABASE", "create publication gancho for table clientes, parametros, estoque_movimentos with (publish = 'insert')", "reset role",
		},
		"tables of several owners": {
			"alter database DATABASE owner to app_DATABASE", "alter table clientes owner to app_DATABASE", "alter table parametros owner to outro_DATABASE",
			"create publication gancho for table clientes, parametros, estoque_movimentos with (publish = 'insert')", "alter publication gancho owner to app_DATABASE",
		},
		"an insert publication with updates": {
			"alter database DATABASE owner to app_DATABASE", "alter table parametros owner to app_DATABASE",
			"create publication gancho for table clientes, parametros, estoque_movimentos with (publish = 'insert')", "alter publication gancho owner to app_DATABASE",
			"create publication gancho_insert with (publish = 'insert, update')",
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			dsn := pg.Database(t, "", legacy...)
			o := optionsFor(dsn)
			o.Create = false
			database := strings.TrimPrefix(o.Slot, "slot_")
			conn, admin := dial(t, dsn), dial(t, pg.DSN("postgres"))
			do(t, admin, "create role app_"+database, "create role outro_"+database)
			t.Cleanup(func() {
				do(t, dial(t, dsn), "reassign owned by app_"+database+", outro_"+database+" to current_user", "drop owned by app_"+database+", outro_"+database)
				do(t, dial(t, pg.DSN("postgres")), "drop role app_"+database, "drop role outro_"+database)
			})
			for _, sql := range setup {
				do(t, conn, strings.ReplaceAll(sql, "DATABASE", database))
			}
			needs := append(allOps("clientes"), cdc.TableNeed{Name: "parametros", Insert: true})
			_, err := cdc.Prepare(t.Context(), o, needs)
			setup := new(cdc.SetupError)
			if !errors.As(err, &setup) {
				t.Fatalf("error %v", err)
			}
			script := cdc.Gather(cdc.Statements(setup.Findings))
			for _, s := range script {
				t.Logf("%s: %s", s.Who, s.SQL)
				if s.Who.Role != "" {
					do(t, conn, "set role "+cdc.QuoteIdentifier(s.Who.Role))
				}
				do(t, conn, s.SQL)
				do(t, conn, "reset role")
				for _, table := range tables {
					do(t, conn, "insert into "+table+" default values")
				}
				do(t, conn, "update clientes set nome = 'a'", "update parametros set valor = 'a'", "update estoque_movimentos set quantidade = 1", "delete from parametros", "delete from estoque_movimentos")
				published := value[int](t, conn, "select count(distinct tablename)::int from pg_publication_tables where tablename = any($1)", tables)
				if published != len(tables) {
					t.Errorf("after it %d of %d tables are published", published, len(tables))
				}
			}
			prepare(t, o, needs)
		})
	}
}

// TestMovedTable moves a table while the application writes to it: no change is missed.
func TestMovedTable(t *testing.T) {
	t.Parallel()
	dsn := pg.Database(t, "", "create table t (id int)", "create publication gancho for table t with (publish = 'insert')", "create publication gancho_insert with (publish = 'insert')")
	conn := dial(t, dsn)
	s := start(t, optionsFor(dsn), []cdc.TableNeed{{Name: "t", Insert: true}})
	writer := dial(t, dsn)
	move := cdc.MoveTable(cdc.Name{Schema: "public", Name: "t"}, "gancho", "gancho_insert")
	var want []string
	for _, sql := range []string{move.SQL, move.Undo} {
		for part := range strings.SplitSeq(strings.TrimSuffix(sql, ";"), "; ") {
			do(t, conn, part)
			want = append(want, fmt.Sprintf("insert public.t new(id=%d)", len(want)))
			do(t, writer, fmt.Sprintf("insert into t values (%d)", len(want)-1))
		}
	}
	if diff := cmp.Diff(want, s.changes(len(want))); diff != "" {
		t.Errorf("changes (-want +got):\n%s", diff)
	}
}
