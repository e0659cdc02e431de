package mapping_test

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/rs/zerolog"

	"gancho/cdc"
	"gancho/internal/testservers"
	"gancho/mapping"
)

// delegateSchema is what conditions of real triggers name: functions in SQL and PL/pgSQL,
// other tables, and a pair of tables that holds old and new rows.
const delegateSchema = `revoke create on schema public from public; -- PostgreSQL 14 grants it
create table titulos (id int primary key, cliente_id int, valor numeric(12,2), pago money, nome text, codigo char(6), doc varchar(14), situacao char(2), vencimento date, criado timestamp,
	pago_em timestamptz, duracao interval, tags text[], extras jsonb, sentido tp_sentido, ativo dm_sn, taxa real);
alter table titulos replica identity full;
create table titulos_antes (like titulos);
create table parcelas (titulo_id int, valor numeric(12,2), paga boolean);
create function soma(titulo int) returns numeric stable language sql as 'select coalesce(sum(p.valor), 0) from public.parcelas p where p.titulo_id = titulo';
create function dobro(n numeric) returns numeric immutable language plpgsql as 'begin return n * 2; end';
create function resumo(t titulos) returns text stable language sql as $$select t.id || ':' || coalesce(t.nome, '-')$$;
create function exigente(n int) returns int stable language plpgsql as $$begin if n = 3 then raise exception 'sem %', n; end if; return n; end$$;
create function sorteio() returns int language sql as 'select 1';
insert into titulos values
	(1, 10, 100.50, '12.34', 'José da Silva', 'A1', '12345678901', 'AB', '2026-11-30', '2026-11-21 10:00', '2026-11-21 23:30-03', '1 day 02:03', '{a,"b c",NULL}', '{"a": 1, "b": {"c": "x"}}', 'ENTRADA', 'S', 0.1),
	(2, 11, 0, '1234.50', 'ana MARIA', 'B', null, 'LI', '2024-02-29', '2018-11-04 00:30', '2018-11-04 03:00+00', '13 mons', '{}', '[1, 2]', 'SAIDA', 'N', 1e10),
	(3, 99, null, null, null, null, 'x''y\z', null, null, null, null, null, null, null, null, 'S', null);
insert into titulos_antes values
	(1, 10, 100.5, '12.34', 'José da Silva', 'A1', '12345678901', 'AB', '2026-11-30', '2026-11-21 10:00', '2026-11-21 23:30-03', '1 day 02:03', '{a,"b c",NULL}', '{"a": 1, "b": {"c": "x"}}', 'ENTRADA', 'S', 0.1),
	(2, 11, 7, '1234.50', 'ana', 'B', null, 'AB', '2024-02-28', '2018-11-04 00:30', '2018-11-04 02:00+00', '13 mons', '{x}', '[1]', 'ENTRADA', 'S', 1),
	(3, 99, null, '0', 'x', null, 'x', 'AB', null, null, null, null, null, null, null, 'S', null);
insert into parcelas values (1, 50.25, true), (1, 50.25, false), (2, 1, true), (4, 9, false);
insert into clientes (id, empresa_id, nome) values (10, 7, 'Dez'), (11, 8, 'Onze');
`

// triggerExpressions are of kinds that triggers, checks and indexes of old applications have.
var triggerExpressions = []string{
	// Rows.
	"(new.valor, new.situacao) <> (old.valor, old.situacao)", "row(new.valor, new.nome) is distinct from row(old.valor, old.nome)",
	"old is distinct from new", "old.* is distinct from new.*", "row(new.*) is distinct from row(old.*)", "(new.id, new.valor) in ((1, 100.50), (2, 0))", "new is null", "not (new is not null)",
	"to_jsonb(new) - 'extras'", "to_jsonb(new) - array['pago', 'taxa']", "(select count(*) from jsonb_each(to_jsonb(new)) n join jsonb_each(to_jsonb(old)) o using (key) where n.value is distinct from o.value)", "resumo(new)", "resumo(new.*)", "(new).nome",
	// Other tables.
	"exists (select 1 from parcelas p where p.titulo_id = new.id and not p.paga)", "(select nome from clientes where id = cliente_id)", "new.cliente_id in (select id from clientes where empresa_id = 7)",
	"(select sum(valor) from parcelas where titulo_id = new.id)",
	"(select string_agg(p.valor::text, ';' order by p.valor) from parcelas p where p.titulo_id = new.id)", "array(select valor from parcelas where titulo_id = new.id order by 1)", "new.valor > all (select valor from parcelas where titulo_id = new.id)",
	"(select json_agg(json_build_object('v', p.valor, 'p', p.paga) order by p.valor) from parcelas p where p.titulo_id = new.id)", "(with t as (select new.valor as v) select v + 1 from t)",
	"case when exists (select from clientes c where c.id = new.cliente_id) then 'tem' else 'falta' end",
	// Functions of the database.
	"soma(new.id)", "soma(id) = coalesce(valor, 0)", "dobro(new.valor)", "public.dobro(valor) > 10", "dobro(soma(new.id)) + 1", "resumo(old)",
	// PostgreSQL's own that the language has not.
	"regexp_replace(new.doc, '[^0-9]', '', 'g')", `regexp_replace(nome, '\s+', '-')`, `new.nome ~ '\mSil'`, "regexp_match(nome, '(J)(o)')", "to_date('21/11/2026', 'DD/MM/YYYY')", "to_date(doc, 'YYYYMMDDHH24')", "to_timestamp(0) = pago_em",
	"format('%s-%I', new.nome, new.doc)", "format('%1$s %1$L', codigo)", "string_to_array(nome, ' ')", "(string_to_array(nome, ' '))[1]", "tags[1:2]", "array_append(tags, 'z')", "array_remove(new.tags, 'a')", "cardinality(tags || array['x'])",
	"jsonb_build_object('id', id, 'v', valor, 'n', nome)", "json_build_array(id, nome, criado)", "jsonb_set(extras, '{a}', '2')", "jsonb_path_exists(extras, '$.a')", "extras ? 'a'", "extras #- '{b,c}'", "extras['b']", "jsonb_strip_nulls(extras)", "to_jsonb(tags)", "row_to_json(new) ->> 'codigo'",
	"initcap(nome)", "translate(nome, 'áéí', 'aei')", "nome similar to '%(a|o)%'", "nome collate \"C\" < 'b'", "lower(nome) = 'ana maria'", "ascii(nome)", "chr(65)", "encode(convert_to(nome, 'UTF8'), 'hex')", "sha256(nome::bytea)", "quote_literal(doc)", "repeat('x', id)", "lpad(doc, 14, '0')",
	"overlay(doc placing '***' from 1 for 3)", "substring(doc from '^[0-9]{3}')", "substring(doc similar '%#\"2345#\"%' escape '#')", "position('a' in nome)", "trim(both 'x' from doc)", "power(id, 2)", "width_bucket(valor, 0, 100, 5)", "valor::int % 2", "gcd(id, 4)", "greatest(valor, dobro(1))", "to_char(valor, 'FM999G990D00')",
	"to_char(id, 'FMRN')", "extract(dow from vencimento)", "vencimento between date '2024-01-01' and current_date", "age(vencimento, '2020-01-01')", "justify_interval(duracao)", "date_bin('15 min', criado, '2001-01-01')", "make_interval(days => id)", "vencimento + interval '1' month", "(vencimento, vencimento + 1) overlaps (date '2024-02-29', date '2024-03-02')",
	"pago_em::date", "to_char(pago_em, 'YYYY-MM-DD HH24:MI OF')", "date_trunc('day', pago_em)", "pago_em at time zone 'Asia/Tokyo'", "pago_em > now() - interval '1 day'", "now()", "current_timestamp at time zone 'UTC'", "extract(epoch from (now() - pago_em))", "localtimestamp - criado", "criado at time zone 'America/Sao_Paulo' = pago_em",
	"pago > 10::numeric::money", "pago::numeric * 2", "tsrange(criado, null) @> '2030-01-01'::timestamp", "int4range(1, id) && int4range(2, 5)", "'10.0.0.1'::inet << '10.0.0.0/8'", "to_tsvector('simple', nome) @@ to_tsquery('simple', 'ana')",
	"sentido = any (enum_range(null::tp_sentido))", "sentido > 'ENTRADA'", "ativo::text || codigo", "codigo || '|'", "length(codigo)", "octet_length(codigo)", "codigo = 'A1'", "taxa * 3", "taxa::numeric", "num_nulls(valor, nome)", "nullif(dobro(valor), 201)", "case soma(id) when 100.5 then 'a' when 1 then 'b' end",
	"changed(valor) and exists (select 1)", "became(situacao, 'LI') or soma(id) > 1000", "mask_cpf(doc) || regexp_replace('a', 'a', 'b')", "nome is normalized", "hashtext(nome)", "overlay(nome placing 'x' from 1)", "pg_typeof(valor)", "coalesce(nome, format('%s', id))",
}

// delegateRules has a rule for each of the expressions.
func delegateRules(expressions []string) string {
	var b strings.Builder
	b.WriteString("rules:\n")
	for i, e := range expressions {
		fmt.Fprintf(&b, "  - event: e%d\n    table: titulos\n    on: update\n    columns: [id]\n    data:\n      v: |-\n        (%s)::text\n", i, e)
	}
	return b.String()
}

// stored reads a table's rows as the stream has them.
func stored(t testing.TB, conn *pgx.Conn, rel *cdc.Relation, table string) []values {
	t.Helper()
	ctx := context.Background()
	if _, err := conn.Exec(ctx, "set timezone to 'UTC'; set extra_float_digits to 3; set lc_monetary to 'C'"); err != nil {
		t.Fatal(err)
	}
	var columns []string
	for _, c := range rel.Columns {
		columns = append(columns, fmt.Sprintf("format('%%s', %[1]q) as %[1]q, %[1]q is null", c.Name))
	}
	rows, err := conn.Query(ctx, "select "+strings.Join(columns, ", ")+" from "+table+" order by id")
	if err != nil {
		t.Fatal(err)
	}
	var out []values
	for rows.Next() {
		row, err := rows.Values()
		if err != nil {
			t.Fatal(err)
		}
		v := values{}
		for i, c := range rel.Columns {
			if row[2*i+1] != true {
				v[c.Name] = row[2*i]
			}
		}
		out = append(out, v)
	}
	if rows.Err() != nil {
		t.Fatal(rows.Err())
	}
	return out
}

// What triggers have in their conditions is accepted, and has the value that PostgreSQL
// gives for the same rows in a session with the source's time zone.
func TestDelegateEqualsPostgres(t *testing.T) {
	testservers.Whole(t)
	t.Parallel()
	l := newLab(t, pg, mapping.Options{Location: saoPaulo(t)}, delegateRules(triggerExpressions), delegateSchema)
	l.compareDelegated(triggerExpressions)
}

// compareDelegated compares the rules that delegateRules has for the expressions with
// PostgreSQL, over the rows of titulos. What fails here fails there.
func (l *lab) compareDelegated(expressions []string) {
	l.Helper()
	ctx := context.Background()
	rel := relation(l, l.conn, "", "titulos")
	before, after := stored(l, l.conn, rel, "titulos_antes"), stored(l, l.conn, rel, "titulos")
	l.tx.Time = change(rel, cdc.Update, nil, nil).Tx.Time
	var changes []*cdc.Change
	for i := range after {
		c := l.change("titulos", after[i])
		c.Op, c.Old = cdc.Update, row(rel, before[i])
		changes = append(changes, c)
	}
	events := l.resolve(changes...)
	if len(events) != len(after)*len(expressions) {
		l.Fatalf("%d events", len(events))
	}
	if _, err := l.conn.Exec(ctx, "reset lc_monetary; set timezone to 'America/Sao_Paulo'"); err != nil {
		l.Fatal(err)
	}
	const commit = "timestamptz '2026-11-21 17:02:03.456789+00'"
	sql := strings.NewReplacer("changed(valor)", "(old.valor is distinct from new.valor)", "became(situacao, 'LI')", "(new.situacao = 'LI' and old.situacao is distinct from 'LI')",
		"mask_cpf(doc)", "case doc when '12345678901' then '***.456.789-**' when 'x''y\\z' then '***.***.***-**' end", "resumo(old)", "resumo(row(old.*)::titulos)", "now()", commit, "current_timestamp", commit, "localtimestamp", commit+"::timestamp", "current_date", commit+"::date")
	accepted := 0
	for i, event := range events {
		n, id := i%len(expressions), i/len(expressions)+1
		var want *string
		err := l.conn.QueryRow(ctx, "select (select ("+sql.Replace(expressions[n])+")::text from titulos new where new.id = old.id) from titulos_antes old where old.id = $1", id).Scan(&want)
		if event.Parked != "" || err != nil {
			if event.Parked == "" || err == nil {
				l.Errorf("row %d: %s\n  here       %s%s\n  PostgreSQL %v", id, expressions[n], event.Data, event.Parked, err)
			}
			continue
		}
		accepted++
		wanted, _ := json.Marshal(want)
		if got := strings.TrimSuffix(strings.TrimPrefix(event.Data, fmt.Sprintf(`{"id":%d,"v":`, id)), "}"); got != string(wanted) {
			l.Errorf("row %d: %s\n  here       %s\n  PostgreSQL %s", id, expressions[n], got, wanted)
		}
	}
	if accepted < len(events)*9/10 {
		l.Errorf("%d of %d have a value", accepted, len(events))
	}
}

// update is a change of a row of the table, with the same old row but for what before has.
func (l *lab) update(table string, before, after values) *cdc.Change {
	c := l.change(table, after)
	c.Op, c.Old = cdc.Update, row(c.Relation, with(after, before))
	return c
}

// A condition is decided here as far as possible, and only what is left travels: what ends
// false or null is no event, and lookups may decide, too.
func TestDelegateWhen(t *testing.T) {
	t.Parallel()
	l := newLab(t, pg, mapping.Options{}, `
rules:
  - event: devedor
    table: contratos
    on: [insert, update]
    when: |
      new.situacao = 'LI' and -- a comment, and more
      exists (select from clientes c where c.id = cliente_id and c.nome like 'A%') and valor
        between 1 and 100
    columns: [id]
  - event: unidade
    table: contratos
    on: insert
    when: cliente.empresa_id = 8 and new.valor > 0
    columns: [id]
    data: {nome: "upper(cliente.nome)", dividido: "100 / (id - 4)"}
    lookup:
      cliente: select empresa_id, nome from clientes where id = new.cliente_id
  - event: inteira
    table: contratos
    on: insert
    when: new.valor > 50 or format('%s', cliente.nome) = 'Bia'
    columns: [id]
    lookup:
      cliente: select nome from clientes where id = new.cliente_id
`, fewClients)
	var changes []*cdc.Change
	for id, v := range []values{
		{"cliente_id": "1", "situacao": "LI", "valor": "10"}, {"cliente_id": "1", "situacao": "AB", "valor": "10"}, {"cliente_id": "2", "situacao": "LI", "valor": "10"},
		{"cliente_id": "2", "situacao": "XX", "valor": "0"}, {"cliente_id": "2", "valor": nil}, {"cliente_id": nil, "situacao": "LI", "valor": "60"}, {"cliente_id": "1", "situacao": "LI", "valor": "99"},
	} {
		changes = append(changes, l.change("contratos", with(v, values{"id": fmt.Sprint(id + 1)})))
	}
	before := l.source.Queries()
	var all []string
	for _, e := range l.resolve(changes...) {
		all = append(all, e.Type+" "+e.Data)
	}
	diff(t, "events", all, []string{
		`devedor {"id":1}`,
		`unidade {"id":3,"nome":"BIA","dividido":-100}`, `inteira {"id":3}`,
		`inteira {"id":4}`, `inteira {"id":5}`, `inteira {"id":6}`,
		`devedor {"id":7}`, `inteira {"id":7}`,
	})
	if n := l.source.Queries() - before; n > 5 { // visible, two conditions, a lookup, a payload
		t.Errorf("%d queries", n)
	}
	// The row that the payload fails for is not looked at when the rule does not fire.
	l.begin("")
	if got := l.resolve(l.change("contratos", values{"id": "4", "cliente_id": "1", "valor": "1"})); len(got) != 0 {
		t.Errorf("%+v", got)
	}
	l.begin("")
	if got := l.resolve(l.change("contratos", values{"id": "4", "cliente_id": "2", "valor": "1"})); len(got) != 2 || !strings.Contains(got[0].Parked, "data.dividido") && !strings.Contains(got[0].Parked, "SQLSTATE 22012") {
		t.Errorf("%+v", got)
	}
}

// A conjunct that fails decides nothing where another one, which the source evaluates, is
// false.
func TestDelegateGuards(t *testing.T) {
	t.Parallel()
	l := newLab(t, pg, mapping.Options{}, `
rules:
  - {event: guarda, table: clientes, on: update, columns: [id], when: "so_digitos(codigo) and codigo::int > 5"}
  - {event: depois, table: clientes, on: update, columns: [id], when: "exists (select from parcelas p where p.titulo_id = new.id) and 100 / (id - 2) > 5"}
  - {event: longa, table: clientes, on: update, columns: [id], when: "exists (select from parcelas p where p.titulo_id = new.id) and observacao like 'l%'"}
`, delegateSchema, `create function so_digitos(t text) returns boolean immutable language plpgsql as $$begin return trim(t) ~ '^[0-9]+$'; end$$`)
	var all []string
	for _, e := range l.resolve(
		l.update("clientes", nil, with(client(), values{"id": "9", "codigo": "A1", "observacao": cdc.Unchanged})),
		l.update("clientes", nil, with(client(), values{"id": "2", "codigo": "77"})),
	) {
		reason := e.Parked[strings.LastIndex(e.Parked, ":")+1:]
		all = append(all, e.Type+" "+e.Data+reason)
	}
	diff(t, "events", all, []string{`guarda {"id":2}`, `depois  division by zero (SQLSTATE 22012)`, `longa {"id":2}`})
}

// What fails for one row parks that change alone; what was not sent is left out, or parks
// where it would decide; previous shows what the old row gives.
func TestDelegateRows(t *testing.T) {
	testservers.Whole(t)
	t.Parallel()
	l := newLab(t, pg, mapping.Options{}, `
rules:
  - event: cliente
    table: clientes
    on: update
    tenant: format('%s', empresa_id)
    key: format('%s', trim(codigo))
    columns: [id]
    data:
      exige: exigente(id)
      texto: format('%s', observacao)
      lista: ["format('%s', observacao)"]
      nome: format('<%s>', nome)
      fixo: format('x')
      mudou: format('%s', old.nome)
    previous: true
  - event: longo
    table: clientes
    on: update
    when: new.observacao similar to 'l%' and id > 0
    columns: [id]
`, delegateSchema)
	var changes []*cdc.Change
	for id := range 20 {
		changes = append(changes, l.update("clientes", values{"nome": "Antes"}, with(client(), values{"id": fmt.Sprint(id)})))
	}
	changes = append(changes, l.update("clientes", values{"observacao": cdc.Missing}, with(client(), values{"observacao": cdc.Unchanged, "id": "50"})))
	var parked, events []string
	for _, e := range l.resolve(changes...) {
		switch {
		case e.Parked != "":
			parked = append(parked, e.Type+" "+e.Parked[strings.Index(" "+e.Parked, ": ")+1:])
		case e.Type == "cliente":
			events = append(events, strings.Join([]string{e.Tenant, e.Key, e.Data, e.Previous, e.Unchanged}, " "))
		}
	}
	diff(t, "parked", parked, []string{
		"cliente read tenant, key and 6 others: the query fails: the server refuses a value (SQLSTATE P0001)",
		"longo when needs new.observacao, a large value that the update did not touch and was not sent; table public.clientes has REPLICA IDENTITY FULL, so one of its partitions does not have it; run gancho check, which names it",
	})
	if len(events) != 20 {
		t.Fatalf("%d events", len(events))
	}
	diff(t, "first", events[0], `1 C1 {"id":0,"exige":0,"texto":"longa","lista":["longa"],"nome":"<Ana>","fixo":"x","mudou":"Antes"} {"nome":"<Antes>"} `)
	diff(t, "last", events[19], `1 C1 {"id":50,"exige":50,"nome":"<Ana>","fixo":"x","mudou":"Ana"} {} ["texto","lista"]`)
}

// What no value can be made of parks its change alone, also where the server does not call
// it an error of the data; what is in the message of a function does not leave.
func TestDelegateParksOneValue(t *testing.T) {
	t.Parallel()
	l := newLab(t, pg, mapping.Options{}, `
rules:
  - event: a
    table: clientes
    on: insert
    columns: [id]
    data: {inteiro: (select saldo::int), exige: exigente(id)}
`, delegateSchema)
	var changes []*cdc.Change
	for id, saldo := range []string{"1", "NaN", "1e20", "3", "4"} {
		changes = append(changes, l.change("clientes", values{"id": fmt.Sprint(id), "saldo": saldo}))
	}
	var all []string
	for _, e := range l.resolve(changes...) {
		_, reason, _ := strings.Cut(e.Parked, "fails: ")
		all = append(all, e.Data+reason)
	}
	diff(t, "events", all, []string{
		`{"id":0,"inteiro":1,"exige":0}`, "the server refuses a value (SQLSTATE 0A000)", "the server refuses a value (SQLSTATE 22003)", "the server refuses a value (SQLSTATE P0001)", `{"id":4,"inteiro":4,"exige":4}`,
	})
}

// What a routine raises for one row parks that row alone, whatever its code; its message
// and what it quotes stay here.
func TestDelegateRaises(t *testing.T) {
	t.Parallel()
	l := newLab(t, pg, mapping.Options{}, `
rules:
  - event: a
    table: clientes
    on: insert
    columns: [id]
    data: {x: "levanta(id, codigo)", y: "dinamica(nome)"}
`, delegateSchema, `
create function levanta(n int, codigo text) returns int stable language plpgsql as $$begin if codigo <> 'C1' then raise exception 'segredo %', n using errcode = trim(codigo); end if; return n; end$$;
create function dinamica(t text) returns text stable language plpgsql as $$declare r text; begin if t <> 'Ana' then execute 'select ' || t into r; end if; return r; end$$`)
	codes := []string{"C1", "55000", "XX000", "40001", "55P03", "42501", "57014", "53400", "25006", "28000", "08006", "42703"}
	var changes []*cdc.Change
	for id, code := range codes {
		v := values{"id": fmt.Sprint(id), "codigo": code}
		if code == "42703" {
			v = values{"id": fmt.Sprint(id), "codigo": "C1", "nome": "segredo_ana"}
		}
		changes = append(changes, l.change("clientes", with(client(), v)))
	}
	events := l.resolve(changes...)
	for i, e := range events {
		if i == 0 && e.Data != `{"id":0,"x":0,"y":null}` || i > 0 && !strings.Contains(e.Parked, "(SQLSTATE "+codes[i]+")") || strings.Contains(e.Parked, "segredo") {
			t.Errorf("%s: %+v", codes[i], e)
		}
	}
	if len(events) != len(codes) || strings.Contains(l.log.String(), "segredo") {
		t.Errorf("%d events; %s", len(events), l.log.String())
	}
	// A row's privilege is not missing for the others.
	if err := l.source.Denied(); err != nil {
		t.Error(err)
	}
}

// What the source evaluates for many changes is held for a few at a time, and a value that
// is too large parks its change.
func TestDelegateLargeValues(t *testing.T) {
	testservers.Whole(t)
	t.Parallel()
	const rules = `
rules:
  - {event: a, table: clientes, on: insert, columns: [id], data: {x: "(select repeat('x', 1000000 * id))"}}
`
	l := newLab(t, pg, mapping.Options{}, rules, delegateSchema)
	patient := mapping.NewSource(l.dsn, "", zerolog.Nop()) // the lab's has a short statement_timeout
	t.Cleanup(func() { patient.Close(context.Background()) })
	l.mapper = mapping.NewMapper(bind(t, l.conn, mapping.Options{}, rules), nil, mapping.WithSource(patient))
	var changes []*cdc.Change
	for _, id := range []string{"7", "6", "20", "9", "9", "5", "0"} {
		changes = append(changes, l.change("clientes", with(client(), values{"id": id})))
	}
	var all []string
	for _, e := range l.resolve(changes...) {
		_, reason, _ := strings.Cut(e.Parked, "data.x: ")
		all = append(all, fmt.Sprint(len(e.Data)/1000000, reason))
	}
	diff(t, "events", all, []string{"7", "6", "0the row that it finds has more than 16 MiB", "9", "9", "5", "0"})
	if n := l.mapper.Pending(); n != 0 {
		t.Error(n)
	}
}

// A domain that is NOT NULL refuses no value that was not sent, and what violates one is a
// failure of its leaf.
func TestDelegateDomains(t *testing.T) {
	t.Parallel()
	l := newLab(t, pg, mapping.Options{}, `
rules:
  - {event: a, table: notas, on: update, columns: [id], data: {x: "format('<%s>', texto)", y: "format('<%s>', id)"}}
  - {event: b, table: notas, on: update, on_error: null, columns: [id], data: {x: "format('<%s>', texto)", y: "(select id::dm_positivo)", z: "(select nullif(id, 1)::dm_positivo)"}}
`, delegateSchema, "create domain dm_texto as text not null; create domain dm_positivo as int not null check (value > 0); create table notas (id int primary key, texto dm_texto); alter table notas replica identity full")
	var all []string
	for _, e := range l.resolve(
		l.update("notas", values{"texto": "antes"}, values{"id": "1", "texto": cdc.Unchanged}), l.update("notas", nil, values{"id": "-2", "texto": "ok"}),
	) {
		all = append(all, strings.Join([]string{e.Type, e.Data, e.Unchanged, e.Errors, e.Parked}, " "))
	}
	diff(t, "events", all, []string{
		`a {"id":1,"y":"<1>"} ["x"]  `, `b {"id":1,"y":1,"z":null} ["x"] ["z"] `,
		`a {"id":-2,"x":"<ok>","y":"<-2>"}   `, `b {"id":-2,"x":"<ok>","y":null,"z":null}  ["y","z"] `,
	})
}

// A delegated value leaves as one of its type does; what has no type of a column is text.
func TestDelegateTypes(t *testing.T) {
	t.Parallel()
	l := newLab(t, pg, mapping.Options{Location: saoPaulo(t)}, `
rules:
  - event: a
    table: titulos
    on: [insert, truncate]
    key: "'k'"
    data:
      inteiro: (select 1)
      numero: (select 1.50)
      logico: (select true)
      texto: (select 'x')
      nulo: (select null)
      char: (select 'ab'::char(5))
      data: (select date '2026-11-21')
      instante: (select timestamptz '2026-11-21 10:00+00')
      local: (select timestamp '2026-11-21 10:00')
      json: json_build_object('a', 1.50)
      lista: (select array[1, null])
      bytes: (select '\x0102'::bytea)
      intervalo: (select interval '1 day')
      faixa: (select tstzrange('2026-11-21 10:00+00', null))
      linha: (select row(1, 'a b'))
      tipo: (select null::titulos)
      contagem: (select count(*) from parcelas)
`, delegateSchema)
	events := l.resolve(l.change("titulos", values{"id": "1"}), &cdc.Change{
		Position: cdc.Position{Commit: l.tx.Commit, Ordinal: 99}, Tx: l.tx, Op: cdc.Truncate, Relation: relation(t, l.conn, "", "titulos"),
	})
	const data = `{"inteiro":1,"numero":1.50,"logico":true,"texto":"x","nulo":null,"char":"ab","data":"2026-11-21","instante":"2026-11-21T07:00:00-03:00","local":"2026-11-21T10:00:00",` +
		`"json":{"a" : 1.50},"lista":[1,null],"bytes":"AQI=","intervalo":"1 day","faixa":"[\"2026-11-21 07:00:00-03\",)","linha":"(1,\"a b\")","tipo":null,"contagem":4}`
	diff(t, "events", events, []got{{Type: "a", Key: "k", Data: data}, {Type: "a", Key: "k", Data: data}})
}

// With on_error: null, what PostgreSQL cannot evaluate for a row is null alone, and named.
func TestDelegateOnError(t *testing.T) {
	t.Parallel()
	l := newLab(t, pg, mapping.Options{}, `
rules:
  - event: a
    table: clientes
    on: update
    on_error: null
    previous: true
    data: {id: id, razao: (select 100 / saldo), numero: (select codigo::int), nome: "format('%s', nome)", exige: exigente(id)}
`, delegateSchema)
	var all []string
	for _, e := range l.resolve(
		l.update("clientes", values{"saldo": "0"}, with(client(), values{"saldo": "4", "codigo": "12"})),
		l.update("clientes", values{"saldo": "5", "nome": "Eva"}, with(client(), values{"saldo": "0"})),
		l.update("clientes", nil, with(client(), values{"id": "3"})),
	) {
		_, reason, _ := strings.Cut(e.Parked, "fails: ")
		all = append(all, strings.Join([]string{e.Data, e.Previous, e.Errors, reason}, " "))
	}
	diff(t, "events", all, []string{
		`{"id":7,"razao":25.0000000000000000,"numero":12,"nome":"Ana","exige":7} {"razao":null} ["previous.razao"] `,
		`{"id":7,"razao":null,"numero":null,"nome":"Ana","exige":7} {"razao":20.0000000000000000,"nome":"Eva"} ["razao","numero"] `,
		`   the server refuses a value (SQLSTATE P0001)`,
	})
}

// A function that is not declared stable is refused by its name; rules.evaluate: local
// refuses everything that PostgreSQL would evaluate, each by its place; and what is
// accepted is reported with its cost.
func TestDelegateRefusals(t *testing.T) {
	t.Parallel()
	conn := connect(t, delegateSchema)
	const rules = `
rules:
  - event: a
    table: clientes
    on: [insert, delete]
    when: exists (select 1) and ativo = 'S'
    data: {a: "format('%s', id)", b: id}
`
	var all []string
	for _, f := range findings(bind(t, conn, mapping.Options{}, rules)) {
		if strings.Contains(f, "evaluated by") {
			all = append(all, f)
		}
	}
	diff(t, "findings", all, []string{
		"when is evaluated by the source: one round trip per batch of changes, 0.9 of the rate of local evaluation; rules.evaluate: local refuses it",
		"data.a is evaluated by the source: one round trip per batch of changes, 0.9 of the rate of local evaluation; rules.evaluate: local refuses it",
	})
	// The figure is the one that was measured.
	figures, err := os.ReadFile("../docs/performance.md")
	if err != nil || !regexp.MustCompile(`\| an expression that PostgreSQL evaluates, .* \| 0\.9 \|`).Match(figures) {
		t.Errorf("docs/performance.md has another figure; %v", err)
	}
	for _, c := range []struct {
		o    mapping.Options
		text string
		want []string
	}{
		{mapping.Options{Evaluate: mapping.EvaluateLocal}, rules, []string{
			"rules.yaml:6:11: subqueries are not supported; use a lookup; or remove rules.evaluate: local, and PostgreSQL may evaluate when",
			"rules.yaml:7:16: function format is not supported", "function format is not supported; remove rules.evaluate: local, and PostgreSQL may evaluate data.a",
		}},
		{mapping.Options{}, strings.ReplaceAll(rules, "format('%s', id)", "sorteio()"), []string{"data.a calls sorteio(), which is volatile (pg_proc.provolatile)", "run ALTER FUNCTION sorteio() STABLE"}},
		{mapping.Options{Deny: []string{"clientes.nome"}}, strings.ReplaceAll(rules, "'%s', id", "'%s', nome"), []string{`column "nome" must not be sent: privacy.deny has clientes.nome`}},
		{mapping.Options{Deny: []string{"clientes.nome"}}, strings.ReplaceAll(rules, "format('%s', id)", "(select c.nome from clientes c limit 1)"), []string{`data.a reads column "nome", which must not be sent: privacy.deny has clientes.nome; remove it from the expression`}},
		{mapping.Options{Deny: []string{"clientes.nome"}}, strings.ReplaceAll(rules, "format('%s', id)", "resumo(null)"), []string{"data.a calls resumo(titulos), which may read columns of privacy.deny"}},
	} {
		_, err := parse(t, c.o, c.text).Bind(context.Background(), conn)
		for _, want := range c.want {
			if err == nil || !strings.Contains(err.Error(), want) {
				t.Errorf("%v; want %q", err, want)
			}
		}
	}
	// A condition decides, and does not show.
	bind(t, conn, mapping.Options{Deny: []string{"clientes.nome"}}, strings.ReplaceAll(rules, "exists (select 1)", "format('%s', nome) = 'x'"))
}

// The database's own locale, collation, encoding and search_path decide what an expression
// means, and a column's own collation.
func TestDelegateInDatabases(t *testing.T) {
	testservers.Whole(t)
	t.Parallel()
	expressions := []string{
		"nome < 'b'", "upper(nome)", "nome < 'É'", "ordenado < 'b'", "ordenado > 'ana'", "solto = 'ANA'", "max_texto(ordenado, nome)", "pago = '1234.50'", "pago::text", "pago > '10'::money", "initcap(nome)", "lower(nome) ilike 'JOSÉ%'",
		"convert_to(nome, 'UTF8')", "length(nome)", "octet_length(nome)", "nome ~ '[[:upper:]]'", "exists (select 1 from clientes c where c.nome = solto)", "to_char(valor, 'L999D99')", "md5(nome)", "format('%s é', nome)",
	}
	for _, c := range []struct{ name, needs, options, after string }{
		{"LATIN1", "", "template template0 encoding 'LATIN1' locale 'C'", ""},
		{"ICU", "select 1 from pg_collation where collname = 'pt-BR-x-icu' and current_setting('server_version_num')::int >= 150000", "template template0 encoding 'UTF8' locale 'C' locale_provider icu icu_locale 'pt-BR'", ""},
		{"pt_BR", "select 1 from pg_collation where collname = 'pt_BR.utf8'", "template template0 encoding 'UTF8' locale 'pt_BR.UTF-8'",
			"do $$ begin execute format('alter database %I set lc_monetary to %L', current_database(), 'pt_BR.UTF-8'); end $$"},
		{"search_path", "", "", `alter schema public rename to app; revoke create on schema app from public;
			do $$ begin execute format('alter database %I set search_path to app', current_database());
				execute format('alter database %I set lc_monetary to %L', current_database(), 'C.UTF-8'); end $$`},
	} {
		t.Run(c.name, func(t *testing.T) {
			if c.needs != "" && !has(t, c.needs) {
				t.Skip("the server lacks the locale")
			}
			statements := []string{delegateSchema, `
				alter table titulos add column ordenado text, add column solto text;
				alter table titulos_antes add column ordenado text, add column solto text;
				update titulos set ordenado = nome, solto = nome;
				create function max_texto(a text, b text) returns text immutable language sql as 'select greatest(a collate "C", b)'`}
			if c.name != "LATIN1" && has(t, "select 1 from pg_collation where collname = 'pt-BR-x-icu'") {
				statements = append(statements, `create collation sem_caixa (provider = icu, locale = 'und-u-ks-level2', deterministic = false);
					alter table titulos alter ordenado type text collate "pt-BR-x-icu", alter solto type text collate sem_caixa`)
			}
			if c.after != "" {
				statements = append(statements, c.after)
			}
			l := newLabIn(t, pg, c.options, mapping.Options{Location: saoPaulo(t)}, delegateRules(expressions), statements...)
			l.compareDelegated(expressions)
		})
	}
}

// has reports whether the server has what a query asks for.
func has(t testing.TB, query string) bool {
	t.Helper()
	conn, err := pgx.Connect(context.Background(), pg.DSN("postgres"))
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = conn.Close(context.Background()) }()
	rows, err := conn.Query(context.Background(), query)
	if err != nil {
		t.Fatal(err)
	}
	defer rows.Close()
	return rows.Next()
}

// In an expression with a lookup, a bare column is the table's, also where the lookup has
// one, or is one, of its name; and a subquery's own names hide the lookup's.
func TestDelegateNames(t *testing.T) {
	t.Parallel()
	l := newLab(t, pg, mapping.Options{}, `
rules:
  - event: a
    table: contratos
    on: insert
    columns: [id]
    data:
      nua: format('%s/%s/%s', valor.situacao, situacao, valor)
      dentro: (select valor.situacao || (select max(valor.nome) from clientes valor where valor.id = new.cliente_id) from clientes c where c.id = valor.id)
    lookup:
      valor: select id, situacao from clientes where id = new.cliente_id
`, delegateSchema)
	events := l.resolve(l.change("contratos", values{"id": "1", "cliente_id": "10", "situacao": "CT", "valor": "5.00"}))
	diff(t, "events", events, []got{{Type: "a", Key: "1", Data: `{"id":1,"nua":"VI/CT/5.00","dentro":"VIDez"}`}})
	for text, want := range map[string]string{
		"format('%s', valor.situacoa)": `column "situacoa" is not in lookup valor; did you mean "situacao"?`,
		"to_jsonb(valor.*)":            "lookup valor is no value; name its columns",
	} {
		_, err := parse(t, mapping.Options{}, fmt.Sprintf("rules:\n  - event: a\n    table: contratos\n    on: insert\n    columns: [id]\n    data: {x: %q}\n    lookup:\n      valor: select situacao from clientes where id = new.cliente_id\n", text)).Bind(context.Background(), l.conn)
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%v; want %q", err, want)
		}
	}
}

// A text that PostgreSQL would read as the time of the query is refused in whatever form,
// unless it is a text.
func TestDelegateClock(t *testing.T) {
	t.Parallel()
	conn := connect(t, delegateSchema)
	expressions := []string{
		"dt_cadastro < '  Now' and exists (select 1)", "(select cast('now' as timestamptz))", "(select timestamptz E'now')", "(select timestamp with time zone 'now()')", "(select 'now'::pg_catalog.timestamptz)", "(select date $x$tomorrow$x$)",
		"(select 'today 10:00'::timestamp)", "(select '10:00 yesterday'::timestamp)", "greatest((select null::timestamptz), 'now')", "row(1, dt_cadastro) < row(1, 'today') and exists (select 1)", "(select 'now'::text::timestamptz)",
		`(select E'\x6eow'::timestamptz)`, `(select E'\u0074oday'::date)`, "(select 'to'\n         'day'::date)", "(select '{infinity,now}'::timestamptz[])", "(select '{NULL, Monday today}'::date[])",
		"(select '[2020-01-01,today)'::daterange)", "(select N'now'::timestamptz)", "(select current_time)", "(select current_time(0))",
	}
	_, err := parse(t, mapping.Options{}, strings.ReplaceAll(delegateRules(expressions), "titulos", "clientes")).Bind(context.Background(), conn)
	if n := strings.Count(fmt.Sprint(err), "is the time of the query"); n != len(expressions) {
		t.Errorf("%d of %d are refused: %v", n, len(expressions), err)
	}
	for text, want := range map[string]string{
		`(select U&'\006eow'::timestamptz)`: "U&'...' and U&\"...\" are not supported", `(select U&"nome")`: "U&'...' and U&\"...\" are not supported",
		"(select time '10:00'::timetz)": "whose offset is that of the day of the query", "(select system_user)": "that of Gancho's own session",
		"(select pg_postmaster_start_time())": "tells of Gancho's own session", "(select has_table_privilege('titulos', 'select'))": "tells of Gancho's own session",
	} {
		_, err := parse(t, mapping.Options{}, delegateRules([]string{text})).Bind(context.Background(), conn)
		if !strings.Contains(fmt.Sprint(err), want) {
			t.Errorf("%s: %v; want %q", text, err, want)
		}
	}
	bind(t, conn, mapping.Options{}, delegateRules([]string{"has_table_privilege('postgres', 'titulos', 'select')", "format('%s', 'now'::text)", "format('válido: %s, today', id)", "format('nowhere')"}))
}

// A mask around what the source evaluates hides as it does around a column, and what a
// parked change shows is without the columns that are shown only so.
func TestDelegateMasks(t *testing.T) {
	testservers.Whole(t)
	t.Parallel()
	masks := []string{"mask_cpf(%s)", "mask_cnpj(%s)", "mask_email(%s)", "mask_phone(%s)", " last4 ( %s )", "hmac(%s, 'k')"}
	var rules strings.Builder
	rules.WriteString("rules:\n  - event: a\n    table: clientes\n    on: [update, delete]\n    columns: [id]\n    data:\n")
	for i, mask := range masks {
		fmt.Fprintf(&rules, "      aqui%d: %q\n      la%d: %q\n      velho%d: %q\n", i, fmt.Sprintf(mask, "email"), i, fmt.Sprintf(mask, "(select format('%s', email) where email is not null)"), i, fmt.Sprintf(mask, "(select old.email)"))
	}
	rules.WriteString("      divide: (select 1 / id)\n")
	l := newLab(t, pg, mapping.Options{Secrets: map[string][]byte{"k": []byte("0123456789abcdef")}}, rules.String(), delegateSchema)
	texts := []any{"12345678909", "12345678000195", "José.da.Silva@exemplo.com.br", "+55 11 3333-4444", "4111 1111 1111 1234", "", " ", "ção", nil}
	var changes []*cdc.Change
	for i, text := range texts {
		changes = append(changes, l.update("clientes", nil, with(client(), values{"id": fmt.Sprint(i + 1), "email": text})))
	}
	for i, e := range l.resolve(changes...) {
		var data map[string]any
		if err := json.Unmarshal([]byte(e.Data), &data); err != nil {
			t.Fatal(err, e.Parked)
		}
		for n := range masks {
			here := data[fmt.Sprint("aqui", n)]
			if there, old := data[fmt.Sprint("la", n)], data[fmt.Sprint("velho", n)]; here != there || here != old || (here == nil) != (texts[i] == nil) {
				t.Errorf("%s of %q: here %v, there %v and %v", masks[n], texts[i], here, there, old)
			}
		}
	}
	l.begin("")
	parked := l.resolve(l.update("clientes", nil, with(client(), values{"id": "0", "email": "ana@exemplo.com.br"})))
	if len(parked) != 1 || !strings.Contains(parked[0].Parked, "22012") || strings.Contains(fmt.Sprint(parked), "exemplo") {
		t.Errorf("%+v", parked)
	}
	for text, want := range map[string]string{
		"mask_cpf((select 1))":                             "mask_cpf() hides text, not integer; write mask_cpf(lpad(x::text, 11, '0'))",
		"hmac((select 'a'), 'outra')":                      `secret "outra" is not in privacy.secrets`,
		"mask_cpf((select 'a'), 1)":                        "mask_cpf() takes one argument",
		"format('%s', mask_cpf(format('%s', nome)))":       "mask_cpf() is evaluated by Gancho, with what is within it",
		"mask_cpf((select nomes from clientes c limit 1))": `column "nomes" does not exist`,
	} {
		_, err := parse(t, mapping.Options{}, fmt.Sprintf("rules:\n  - {event: a, table: clientes, on: insert, data: {x: %q}}\n", text)).Bind(context.Background(), l.conn)
		if !strings.Contains(fmt.Sprint(err), want) {
			t.Errorf("%s: %v; want %q", text, err, want)
		}
	}
	_, err := parse(t, mapping.Options{Deny: []string{"clientes.email"}}, "rules:\n  - {event: a, table: clientes, on: insert, data: {x: \"mask_email(format('%s', email))\"}}\n").Bind(context.Background(), l.conn)
	if !strings.Contains(fmt.Sprint(err), `column "email" must not be sent`) {
		t.Error(err)
	}
}

// The commit's time, with as many decimals as an expression asks for.
func TestDelegatePrecision(t *testing.T) {
	t.Parallel()
	l := newLab(t, pg, mapping.Options{Location: saoPaulo(t)}, delegateRules([]string{"(select current_timestamp(3))", "current_timestamp(0)", "(select localtimestamp(0))", "(select localtime(2))"}), delegateSchema)
	l.tx.Time = time.Date(2026, 11, 21, 17, 2, 3, 456789000, time.UTC)
	var all []string
	for _, e := range l.resolve(l.update("titulos", nil, values{"id": "1"})) {
		all = append(all, e.Data+e.Parked)
	}
	diff(t, "events", all, []string{
		`{"id":1,"v":"2026-11-21 14:02:03.457-03"}`, `{"id":1,"v":"2026-11-21 14:02:03-03"}`, `{"id":1,"v":"2026-11-21 14:02:03"}`, `{"id":1,"v":"14:02:03.46"}`,
	})
}

// A column with the name of a keyword does not end a conjunct.
func TestDelegateKeywordColumns(t *testing.T) {
	t.Parallel()
	l := newLab(t, pg, mapping.Options{}, `
rules:
  - {event: a, table: agenda, on: insert, columns: [id], when: new.end = 1 and (dobro(id) > 1 and id < 9)}
  - {event: b, table: agenda, on: insert, columns: [id], when: new.case = 1 and dobro(id) > 1}
`, delegateSchema, `create table agenda (id int primary key, "end" int, "case" int)`)
	before := l.source.Queries()
	if got := l.resolve(l.change("agenda", values{"id": "1", "end": "2", "case": "2"})); len(got) != 0 || l.source.Queries() != before {
		t.Errorf("%+v, %d queries", got, l.source.Queries()-before)
	}
	diff(t, "events", l.resolve(l.change("agenda", values{"id": "1", "end": "1", "case": "1"})), []got{{Type: "a", Key: "1", Data: `{"id":1}`}, {N: 1, Type: "b", Key: "1", Data: `{"id":1}`}})
}

// A column of a lookup has the same value in the payload and in an expression: both are of
// the source's zone, whatever settings the database has for its sessions, and so is an
// array with a null or a pattern with a backslash.
func TestDelegateSettings(t *testing.T) {
	t.Parallel()
	settings := "do $$ declare s text; begin foreach s in array array['standard_conforming_strings', 'array_nulls'] loop execute format('alter database %I set %s to off', current_database(), s); end loop; end $$"
	l := newLab(t, pg, mapping.Options{Location: saoPaulo(t)}, `
rules:
  - event: a
    table: contratos
    on: insert
    data:
      dia: cliente.dia
      texto: format('%s', cliente.dia)
      em: cliente.alterado_em
      antigo: cliente.antigo
      nulo: format('%s', coalesce(observacao, 'nulo'))
      sem: (select regexp_replace(situacao, '\d', ''))
    lookup:
      cliente: select alterado_em::date as dia, alterado_em, timestamptz '1900-01-01 12:00+00' as antigo from clientes where id = new.cliente_id
`, delegateSchema, "update clientes set alterado_em = '2026-11-21 01:00+00'", settings)
	diff(t, "events", l.resolve(l.change("contratos", values{"id": "1", "cliente_id": "10", "situacao": "d1"})), []got{
		{Type: "a", Key: "1", Data: `{"dia":"2026-11-20","texto":"2026-11-20","em":"2026-11-20T22:00:00-03:00","antigo":"1900-01-01T08:54:00-03:06","nulo":"nulo","sem":"d"}`},
	})
}

// A column that a table gets later is null in its whole rows until the rules are loaded
// again; without one of those that there were, the row no longer fits.
func TestDelegateRowOfAlteredTable(t *testing.T) {
	t.Parallel()
	l := newLab(t, pg, mapping.Options{OnSchemaChange: mapping.Park}, `
rules:
  - {event: a, table: pares, on: insert, columns: [id], data: {x: to_jsonb(new), y: "row(new.*) is null"}}
`, delegateSchema, `create table pares (id int primary key, v numeric(6,2), j json)`)
	alter := func(statement string) {
		if _, err := l.conn.Exec(context.Background(), statement); err != nil {
			t.Fatal(err)
		}
	}
	row := values{"id": "1", "v": "1.50", "j": `{"a" : [1, 2]}`}
	alter("alter table pares add extra text default 'x'; alter table pares alter id type bigint")
	diff(t, "added", l.resolve(l.change("pares", row)), []got{
		{Type: "a", Key: "1", Data: `{"id":1,"x":{"j": {"a": [1, 2]}, "v": 1.50, "id": 1, "extra": null},"y":false}`},
	})
	before := l.change("pares", row)
	alter("alter table pares rename v to w")
	if got := l.resolve(before); len(got) != 1 || !strings.Contains(got[0].Parked, `no longer fits the database: column "v" not found in data type`) {
		t.Errorf("%+v", got)
	}
}
