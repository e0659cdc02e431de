package mapping_test

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"testing"

	"gancho/internal/testservers"
	"gancho/mapping"
)

// inherited is a table whose rows a trigger puts into children, as in PostgreSQL 9.
const inherited = `
create table vendas (id int primary key, dia date, valor numeric(10,2));
create table vendas_2026 (obs text, check (dia < '2027-01-01')) inherits (vendas);
create table vendas_2027 (id int, dia date, valor numeric(10,2), primary key (id));
alter table vendas_2027 inherit vendas;
create table vendas_2027_01 () inherits (vendas_2027);
alter table vendas_2026 add primary key (id);
alter table vendas_2027_01 add primary key (id);
create table devolucoes (motivo text, primary key (id)) inherits (vendas);
create function reparte() returns trigger language plpgsql as $$ begin
	if new.dia < '2027-01-01' then insert into vendas_2026 (id, dia, valor) values (new.*); else insert into vendas_2027_01 values (new.*); end if;
	return null; end $$;
create trigger reparte before insert on vendas for each row execute function reparte();
`

// TestInheritedRows: a rule applies to the rows that inherit from its table, as
// a query of the table does; not to those of a table with rules of its own.
func TestInheritedRows(t *testing.T) {
	t.Parallel()
	l := startLive(t, inherited, `
rules:
  - {event: venda, table: vendas, on: [insert, update, delete], data: {valor: valor}}
  - {event: zerada, table: vendas, on: truncate, data: {feito: "'sim'"}}
  - {event: devolucao, table: devolucoes, on: insert, columns: [id, motivo]}
`)
	diff(t, "events", l.do("insert into vendas values (1, '2026-05-01', 10), (2, '2027-05-01', 20)", "update vendas set valor = 11 where id = 1", "delete from vendas where id = 2",
		"insert into vendas_2027 values (3, '2027-06-01', 30)", "insert into devolucoes values (4, '2026-05-01', 40, 'tamanho')", "truncate only vendas_2027", "truncate vendas"),
		[]got{
			{Type: "venda", Key: "1", Data: `{"valor":10.00}`},
			{Type: "venda", Key: "2", Data: `{"valor":20.00}`},
			{Type: "venda", Key: "1", Data: `{"valor":11.00}`},
			{Type: "venda", Key: "2", Data: `{}`, Unchanged: `["valor"]`},
			{Type: "venda", Key: "3", Data: `{"valor":30.00}`},
			{Type: "devolucao", Key: "4", Data: `{"id":4,"motivo":"tamanho"}`},
			{Type: "zerada", Data: `{"feito":"sim"}`},
		})
}

// TestInheritedFromTheNearest: rules on a table and on an heir of it apply to a child of
// the heir as to the heir.
func TestInheritedFromTheNearest(t *testing.T) {
	t.Parallel()
	l := startLive(t, inherited, `
rules:
  - {event: venda, table: vendas, on: insert, columns: [id]}
  - {event: venda_2027, table: vendas_2027, on: insert, columns: [id]}
`)
	diff(t, "events", l.do("insert into vendas values (1, '2026-05-01', 10), (2, '2027-05-01', 20)", "insert into vendas_2027 values (3, '2027-06-01', 30)"), []got{
		{Type: "venda", Key: "1", Data: `{"id":1}`},
		{Type: "venda_2027", Key: "2", Data: `{"id":2}`},
		{Type: "venda_2027", Key: "3", Data: `{"id":3}`},
	})
}

// TestInheritedMistakes: what an heir lacks is said with its name.
func TestInheritedMistakes(t *testing.T) {
	testservers.Whole(t)
	t.Parallel()
	for name, c := range map[string]struct {
		statement, rule string
		want            string
		finding         bool
	}{
		"no identity":   {"alter table vendas_2026 drop constraint vendas_2026_pkey", "on: update, columns: [id]", "table public.vendas_2026 has no replica identity", false},
		"inserts":       {"alter table vendas_2026 drop constraint vendas_2026_pkey", "on: insert, columns: [id]", "", false},
		"old values":    {"alter table vendas replica identity full", "on: update, watch: [valor], columns: [id]", "\nALTER TABLE public.vendas_2026 REPLICA IDENTITY FULL;", false},
		"a rule's own":  {"select 1", "on: insert, columns: [id]}\n  - {event: b, table: vendas_2026, on: insert, columns: [id]", "the rule does not apply to rows of public.vendas_2026, which inherit from the table and have rules of their own", true},
		"children":      {"select 1", "on: [insert, update], columns: [id]}\n  - {event: b, table: clientes, on: update, children: {table: vendas, parent: id}, columns: [id]", "changes of tables that inherit from it do not count as changes of the parent", true},
		"a transaction": {"select 1", "on: [insert, update, delete], collapse: id, columns: [id]", "the rule does not apply to rows of public.devolucoes, public.vendas_2026, public.vendas_2027, public.vendas_2027_01", true},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			conn := connect(t, inherited, c.statement)
			rs, err := parse(t, mapping.Options{Deny: []string{"devolucoes.motivo"}}, "rules:\n  - {event: a, table: vendas, "+c.rule+"}\n").Bind(context.Background(), conn)
			said := ""
			if err != nil {
				said = err.Error()
			} else if c.finding {
				said = strings.Join(findings(rs), "\n")
			}
			if (err != nil) != (c.want != "" && !c.finding) || !strings.Contains(said, c.want) {
				t.Errorf("says %s, want %q", said, c.want)
			}
		})
	}
}

// TestMovedRows: an update of the partition key is a delete and an insert, and with
// collapse by the rest of the primary key an update. Rows that only move between
// partitions are then no event.
func TestMovedRows(t *testing.T) {
	t.Parallel()
	s := newTransactions(t, `
rules:
  - {event: leitura, table: leituras, on: [insert, update, delete], collapse: id, previous: true, columns: [id, dia]}
  - {event: mudou, table: leituras, on: update, collapse: id, when: old.valor <> new.valor, columns: [id, valor]}
  - {event: linha, table: leituras, on: [insert, update, delete], collapse: [dia, id], columns: [id, dia]}
  - {event: crua, table: leituras, on: [update, delete], columns: [dia]}
  - {event: nota, table: anotadas, on: insert, columns: [leitura]}
`, "create table anotadas (leitura int)", "create table leituras (id int, dia date, valor int, primary key (id, dia)) partition by range (dia)",
		"create table leituras_1 partition of leituras for values from ('2026-01-01') to ('2026-02-01')", "create table leituras_resto partition of leituras default",
		"alter table leituras replica identity full", "alter table leituras_1 replica identity full", "alter table leituras_resto replica identity full")
	s.check(t,
		"insert into leituras values (1, '2026-01-05', 1), (2, '2026-05-05', 2)", []string{
			`leitura 1 {"id":1,"dia":"2026-01-05"}`, `linha 1,2026-01-05 {"id":1,"dia":"2026-01-05"}`, `leitura 2 {"id":2,"dia":"2026-05-05"}`, `linha 2,2026-05-05 {"id":2,"dia":"2026-05-05"}`,
		},
		"begin; create temp table guarda on commit drop as select * from leituras_resto; delete from leituras_resto; create table leituras_5 partition of leituras for values from ('2026-05-01') to ('2026-06-01'); alter table leituras_5 replica identity full; insert into leituras select * from guarda; commit", []string{`crua 2,2026-05-05 {"dia":"2026-05-05"}`},
		"update leituras set dia = '2026-06-05', valor = 9 where id = 1", []string{
			`crua 1,2026-01-05 {"dia":"2026-01-05"}`, `linha 1,2026-01-05 {"id":1,"dia":"2026-01-05"}`,
			`leitura 1 {"id":1,"dia":"2026-06-05"} {"dia":"2026-01-05"}`, `mudou 1 {"id":1,"valor":9}`, `linha 1,2026-06-05 {"id":1,"dia":"2026-06-05"}`,
		},
		"update leituras set dia = '2026-06-06' where id = 1", []string{ // within the partition
			`crua 1,2026-06-06 {"dia":"2026-06-06"}`, `leitura 1 {"id":1,"dia":"2026-06-06"} {"dia":"2026-06-05"}`,
			`linha 1,2026-06-06 {"id":1,"dia":"2026-06-06"}`, `linha 1,2026-06-05 {"id":1,"dia":"2026-06-05"}`,
		},
		"begin; update leituras set dia = '2026-01-06', valor = 8 where id = 1; update leituras set dia = '2026-06-06', valor = 9 where id = 1; commit", []string{
			`crua 1,2026-06-06 {"dia":"2026-06-06"}`, `crua 1,2026-01-06 {"dia":"2026-01-06"}`, // there and back
		},
		"begin; update leituras set dia = '2026-01-06' where id = 1; delete from leituras where id = 1; commit", []string{
			`crua 1,2026-06-06 {"dia":"2026-06-06"}`, `crua 1,2026-01-06 {"dia":"2026-01-06"}`, `linha 1,2026-06-06 {"id":1,"dia":"2026-06-06"}`, `leitura 1 {"id":1,"dia":"2026-06-06"}`,
		},
		"begin; insert into leituras values (3, '2026-01-05', 1); update leituras set dia = '2026-06-06' where id = 3; commit", []string{
			`crua 3,2026-01-05 {"dia":"2026-01-05"}`, `leitura 3 {"id":3,"dia":"2026-06-06"}`, `linha 3,2026-06-06 {"id":3,"dia":"2026-06-06"}`,
		},
		// A trigger of the partition that the row comes to writes between the two.
		"begin; create function anota() returns trigger language plpgsql as 'begin insert into anotadas values (new.id); return new; end'; create trigger anota before insert on leituras_resto for each row execute function anota(); insert into leituras values (4, '2026-01-05', 1); commit", []string{`leitura 4 {"id":4,"dia":"2026-01-05"}`, `linha 4,2026-01-05 {"id":4,"dia":"2026-01-05"}`},
		"update leituras set dia = '2026-06-06' where id = 4", []string{
			`crua 4,2026-01-05 {"dia":"2026-01-05"}`, `nota  {"leitura":4}`, `linha 4,2026-01-05 {"id":4,"dia":"2026-01-05"}`,
			`leitura 4 {"id":4,"dia":"2026-06-06"} {"dia":"2026-01-05"}`, `linha 4,2026-06-06 {"id":4,"dia":"2026-06-06"}`,
		},
	)
}

// TestRowsThatShareAKey: rows with the same rest of the primary key stay different ones,
// unless an update moves one to the place of the other; tenants are never put together.
func TestRowsThatShareAKey(t *testing.T) {
	t.Parallel()
	const schema = `
create table cob (empresa_id int, id int, nome text, primary key (empresa_id, id)) partition by list (empresa_id);
create table cob1 partition of cob for values in (1);
create table cob2 partition of cob for values in (2, 3);
alter table cob replica identity full; alter table cob1 replica identity full; alter table cob2 replica identity full;`
	pairs := []any{
		"insert into cob values (1, 1, 'a'), (2, 1, 'b')", []string{`e 1 {"id":1,"op":"insert","de":1,"nome":"a"}`, `e 1 {"id":1,"op":"insert","de":2,"nome":"b"}`},
		"update cob set nome = nome || '!'", []string{`e 1 {"id":1,"op":"update","de":1,"nome":"a!"} {"nome":"a"}`, `e 1 {"id":1,"op":"update","de":2,"nome":"b!"} {"nome":"b"}`},
		"begin; update cob set nome = 'x' where empresa_id = 2; delete from cob where empresa_id = 1; commit", []string{
			`e 1 {"id":1,"op":"update","de":2,"nome":"x"} {"nome":"b!"}`, `e 1 {"id":1,"op":"delete","de":1,"nome":"a!"}`,
		},
		"begin; insert into cob values (3, 1, 'c'); delete from cob where empresa_id = 2; commit", []string{`e 1 {"id":1,"op":"insert","de":3,"nome":"c"}`, `e 1 {"id":1,"op":"delete","de":2,"nome":"x"}`},
		"begin; update cob set empresa_id = 2; update cob set empresa_id = 1; insert into cob values (2, 1, 'd'), (3, 1, 'e'); update cob set nome = 'f' where empresa_id = 3; commit", []string{
			`e 1 {"id":1,"op":"update","de":1,"nome":"c"} {"de":3}`, `e 1 {"id":1,"op":"insert","de":2,"nome":"d"}`, `e 1 {"id":1,"op":"insert","de":3,"nome":"f"}`,
		},
		"begin; delete from cob where empresa_id = 1; update cob set empresa_id = 1 where empresa_id = 2; commit", []string{
			`e 1 {"id":1,"op":"delete","de":1,"nome":"c"}`, `e 1 {"id":1,"op":"update","de":1,"nome":"d"} {"de":2}`,
		},
		"begin; truncate cob; insert into cob values (2, 1, 'n'); commit", []string{`e 1 {"id":1,"op":"insert","de":2,"nome":"n"}`},
	}
	s := newTransactions(t, `
rules:
  - {event: e, table: cob, on: [insert, update, delete], collapse: id, previous: true, columns: [id], data: {op: op, de: empresa_id, nome: nome}}
`, schema)
	s.check(t, pairs...)
	_, err := parse(t, mapping.Options{}, `rules: [{event: e, table: cob, on: update, collapse: id, tenant: "empresa_id::text", columns: [id]}]`).Bind(t.Context(), s.conn)
	if err == nil || !strings.Contains(err.Error(), "add the column to collapse") {
		t.Error(err)
	}
}

// TestInheritedRulesOfOneTable: the rules say to which heirs they will never apply.
func TestInheritedRulesOfOneTable(t *testing.T) {
	t.Parallel()
	conn := connect(t, inherited)
	for rules, want := range map[string]string{
		"[{event: a, table: vendas, on: insert, columns: [id], collapse: id}]":                                                       "vendas true",
		"[{event: a, table: vendas, on: insert, columns: [id], collapse: id}, {event: b, table: vendas, on: insert, columns: [id]}]": "vendas false, devolucoes false, vendas_2026 false, vendas_2027 false, vendas_2027_01 false",
	} {
		bound, err := parse(t, mapping.Options{}, "rules: "+rules).Bind(t.Context(), conn)
		if err != nil {
			t.Fatal(err)
		}
		var got []string
		for _, r := range bound.Ruled() {
			var name string
			if err := conn.QueryRow(t.Context(), "select relname::text from pg_class where oid = $1", r.OID).Scan(&name); err != nil {
				t.Fatal(err)
			}
			if s := fmt.Sprint(name, " ", r.Alone); !slices.Contains(got, s) {
				got = append(got, s)
			}
		}
		if s := strings.Join(got, ", "); s != want {
			t.Errorf("%s: %s, want %s", rules, s, want)
		}
	}
}
