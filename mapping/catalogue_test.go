package mapping_test

import (
	"context"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/jackc/pgx/v5"

	"gancho/mapping"
)

const cataloguedSchema = inherited + `
create type estado as enum ('a', 'b');
create domain dm_estado as estado;
create domain dm_valor as numeric(12,3);
create type endereco as (rua varchar(40), numero int);
create table "Fichas" ("Código" int primary key, estado dm_estado, estados estado[], valor dm_valor, largo varchar(30)[], casa endereco,
	quando timestamptz(3), hora time(0), nome text collate "C", faixa int4range, extras jsonb);
alter table "Fichas" replica identity full;
create table acessos (id int, dia date, valor int, primary key (id, dia)) partition by range (dia);
create table acessos_resto partition of acessos default;
`

const cataloguedRules = `
rules:
  - {event: venda, table: vendas, on: insert, data: {valor: valor}}
  - event: ficha
    table: '"Fichas"'
    on: [update, delete]
    when: estado = 'a' and igual.n > 0
    columns: ['"Código"', estado, estados, valor, largo, casa, quando, hora, nome, faixa, extras]
    data:
      duas: nome similar to 'A%' and "Código" > 1
      soma: (select sum(n) from unnest(array[1, 2]) n where n < valor)
      misto: format('%s/%s', igual.nome, nome)
    lookup:
      igual: select count(*) as n, max(nome) as nome from "Fichas" f where f.valor = old.valor
  - {event: acesso, table: acessos, on: insert, collapse: id, columns: [id, valor]}
`

// TestCatalogue: what is saved binds the rules as the source does, and nothing is lost on
// the way through the file.
func TestCatalogue(t *testing.T) {
	t.Parallel()
	conn, err := pgx.Connect(context.Background(), pg.Database(t, "", cataloguedSchema))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = conn.Close(context.Background()) })
	options := mapping.Options{Location: saoPaulo(t)}
	live := bind(t, conn, options, cataloguedRules)
	text, err := live.Catalogue().Append(nil)
	if err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{
		"name: public.dm_valor\n    kind: domain\n    of: numeric(12,3)", "type: public._estado", "type: _varchar(30)", "type: public.endereco", "partition_key: [dia]",
		"heirs: [public.devolucoes, public.vendas_2026, public.vendas_2027, public.vendas_2027_01]", "collation: pg_catalog.\"C\"", "{name: quando, type: timestamptz(3)}",
	} {
		if !strings.Contains(string(text), want) {
			t.Errorf("the catalogue lacks %q:\n%s", want, text)
		}
	}
	saved, err := mapping.ParseCatalogue("catalogue.yaml", text)
	if err != nil {
		t.Fatal(err)
	}
	bound, err := parse(t, options, cataloguedRules).BindTo(saved)
	if err != nil {
		t.Fatal(err)
	}
	again, err := bound.Catalogue().Append(nil)
	if err != nil {
		t.Fatal(err)
	}
	diff(t, "catalogue", string(again), string(text))
	diff(t, "tables", bound.TableNames(), live.TableNames())
	unplaced := func(all []mapping.Question) (out []mapping.Evaluated) {
		for _, q := range all {
			out = append(out, q.Expressions...)
		}
		return out
	}
	if d := cmp.Diff(unplaced(live.Questions()), unplaced(bound.Questions())); d != "" {
		t.Errorf("the questions differ:\n%s", d)
	}

	if _, err := conn.Exec(context.Background(), `alter type estado add value 'c'; alter table vendas_2026 drop column obs; alter table acessos replica identity full; drop table vendas_2027_01`); err != nil {
		t.Fatal(err)
	}
	drift, outdated := saved.Differences(bind(t, conn, options, cataloguedRules).Catalogue())
	if !slices.ContainsFunc(drift, func(line string) bool { return strings.HasPrefix(line, "type public.estado was ") }) {
		t.Errorf("the drift is %q", drift)
	}
	if !slices.Contains(outdated, "table public.acessos had replica identity d and has f") {
		t.Errorf("what is outdated is %q", outdated)
	}
}
