package mapping_test

import (
	"context"
	"strings"
	"testing"
	"time"

	"github.com/rs/zerolog"

	"gancho/cdc"
	"gancho/mapping"
)

// TestFireBroken: a lookup that may no longer be read, or no longer fits the database, holds the timers of its rule up under either
// policy: an event that is not made when it is due has no change that could be parked. Once the lookup can be read, they are fired.
func TestFireBroken(t *testing.T) {
	t.Parallel()
	conn := connect(t, "create table vendas (id int primary key)", "insert into vendas select generate_series(1, 3)",
		"create table nomes (id int, nome text)", "insert into nomes values (1, 'Ana')",
		"create function nome_de(int) returns text language plpgsql as $$ begin return (select nome from nomes where id = $1); end $$",
		"create role disparador login", "grant select on vendas, nomes to disparador")
	dropRole(t, conn, "disparador")
	dsn := strings.Replace(conn.Config().ConnString(), "postgres://postgres@", "postgres://disparador@", 1)
	due := time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)
	for _, lookup := range []string{"select nome from nomes where id = new.id", "select nome_de(new.id) as nome"} {
		for _, policy := range []mapping.Policy{mapping.Stop, mapping.Park} {
			rs := bind(t, conn, mapping.Options{OnSchemaChange: policy}, `
rules:
  - {event: vencida, table: vendas, on: insert, after: 1h, on_error: null, lookup: {n: "`+lookup+`"}, data: {id: id, nome: n.nome}}
`)
			rs.Number([]int{4})
			source := mapping.NewSource(dsn, "", zerolog.Nop())
			defer source.Close(context.Background())
			m := mapping.NewMapper(rs, nil, mapping.WithSource(source), mapping.WithPast())
			fire := func() ([]got, error) {
				var timers []mapping.Timer
				for _, key := range []string{"1", "2", "3"} {
					timers = append(timers, mapping.Timer{Rule: rs.TimerRules()[0], Key: mapping.EncodeKey(key), Due: due, Position: cdc.Position{Commit: 9}})
				}
				var r recorder
				err := m.Fire(t.Context(), timers, &r)
				return r.all, err
			}
			for _, c := range []struct{ broken, repaired, want string }{
				{"revoke select on nomes from disparador", "grant select on nomes to disparador", "lacks a privilege"},
				{"revoke select on vendas from disparador", "grant select on vendas to disparador", "GRANT SELECT ON public.vendas TO disparador"},
				{"alter table nomes rename nome to apelido", "alter table nomes rename apelido to nome", "no longer fits the database"},
			} {
				do(t, conn, c.broken)
				before := source.Queries()
				all, err := fire()
				if n := source.Queries() - before; n > 2 { // the rows, and the lookup
					t.Errorf("%s, policy %v, after %s: %d queries", lookup, policy, c.broken, n)
				}
				for _, f := range source.Denials() {
					if !strings.Contains(f.Why, "timers of its rule wait") || strings.Contains(f.Fix(), "parked") {
						t.Errorf("%s, policy %v, after %s: %s; %s", lookup, policy, c.broken, f.Why, f.Fix())
					}
				}
				if err == nil || !strings.Contains(err.Error(), c.want) || len(all) > 0 {
					t.Errorf("%s, policy %v, after %s: %v, and %+v", lookup, policy, c.broken, err, all)
				}
				do(t, conn, c.repaired)
				if all, err := fire(); err != nil || len(all) != 3 || all[0].Data != `{"id":1,"nome":"Ana"}` {
					t.Errorf("%s, policy %v, after %s: %v, and %+v", lookup, policy, c.repaired, err, all)
				}
			}
		}
	}
}
