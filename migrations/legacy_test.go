package migrations_test

import (
	"context"
	"os"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/jackc/pgx/v5"

	"gancho/internal/testservers"
	"gancho/migrations"
)

var pg *testservers.Postgres

func TestMain(m *testing.M) { os.Exit(testservers.Main(m, &pg)) }

func TestLegacyLoads(t *testing.T) {
	t.Parallel()
	for name, options := range map[string]string{
		"utf8":   "",
		"latin1": "template template0 encoding 'LATIN1' locale 'C'",
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			schema, seed, identity := migrations.Legacy()
			ctx := context.Background()
			conn, err := pgx.Connect(ctx, pg.Database(t, options, schema, seed, identity)+"&client_encoding=UTF8")
			if err != nil {
				t.Fatal(err)
			}
			t.Cleanup(func() { _ = conn.Close(ctx) })

			var tables, clients int
			err = conn.QueryRow(ctx, `
				select count(*) filter (where not relispartition), (select count(*) from clientes)
				from pg_class where relnamespace = 'public'::regnamespace and relkind in ('r', 'p')`).Scan(&tables, &clients)
			if err != nil {
				t.Fatal(err)
			}
			if tables != 26 || clients != 20 {
				t.Errorf("%d tables, %d clients; want 26, 20", tables, clients)
			}

			var accents string
			if err := conn.QueryRow(ctx, `select razao_social from empresas where id = 1`).Scan(&accents); err != nil {
				t.Fatal(err)
			}
			if want := "Academia Corpo São Paulo Ltda"; accents != want {
				t.Errorf("razao_social is %q, want %q", accents, want)
			}
		})
	}
}

// Every table of identity.sql ends with FULL, and no other table has it.
func TestLegacyIdentityIsFullWhereNamed(t *testing.T) {
	t.Parallel()
	schema, _, identity := migrations.Legacy()
	var want []string
	for line := range strings.Lines(identity) {
		if rest, ok := strings.CutPrefix(line, "ALTER TABLE "); ok {
			want = append(want, strings.Fields(rest)[0])
		}
	}
	ctx := context.Background()
	conn, err := pgx.Connect(ctx, pg.Database(t, "", schema, identity))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = conn.Close(ctx) })
	rows, err := conn.Query(ctx, `select relname::text from pg_class where relreplident = 'f' and relnamespace = 'public'::regnamespace order by oid`)
	if err != nil {
		t.Fatal(err)
	}
	got, err := pgx.CollectRows(rows, pgx.RowTo[string])
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("tables with REPLICA IDENTITY FULL (-named +found):\n%s", diff)
	}
}

// The view of the schema, unlogged and partitioned tables stay as they were:
// they are what checks of the other packages are tried on.
func TestLegacyKeepsItsOddities(t *testing.T) {
	t.Parallel()
	schema, _, _ := migrations.Legacy()
	ctx := context.Background()
	conn, err := pgx.Connect(ctx, pg.Database(t, "", schema))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = conn.Close(ctx) })
	got := map[string]string{}
	rows, err := conn.Query(ctx, `select relname::text, relkind::text || relpersistence::text from pg_class
		where relname = any(array['acessos', 'carrinhos', 'vw_clientes_ativos', 'TB_FORNECEDOR'])`)
	if err != nil {
		t.Fatal(err)
	}
	var name, kind string
	if _, err := pgx.ForEachRow(rows, []any{&name, &kind}, func() error { got[name] = kind; return nil }); err != nil {
		t.Fatal(err)
	}
	want := map[string]string{"acessos": "pp", "carrinhos": "ru", "vw_clientes_ativos": "vp", "TB_FORNECEDOR": "rp"}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("kinds (-want +got):\n%s", diff)
	}
}
