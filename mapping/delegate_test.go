package mapping_test

import (
	"context"
	"encoding/json"
	"fmt"
	"strings"
	"testing"

	"github.com/jackc/pgx/v5"

	"gancho/cdc"
	"gancho/mapping"
)

// delegateSchema is what conditions of real triggers name: functions in SQL and PL/pgSQL,
// other tables, and a pair of tables that holds old and new rows.
const delegateSchema = `
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
	t.Parallel()
	ctx := context.Background()
	l := newLab(t, pg, mapping.Options{Location: saoPaulo(t)}, delegateRules(triggerExpressions), delegateSchema)
	rel := relation(t, l.conn, "", "titulos")
	before, after := stored(t, l.conn, rel, "titulos_antes"), stored(t, l.conn, rel, "titulos")
	l.tx.Time = change(rel, cdc.Update, nil, nil).Tx.Time
	var changes []*cdc.Change
	for i := range after {
		c := l.change("titulos", after[i])
		c.Op, c.Old = cdc.Update, row(rel, before[i])
		changes = append(changes, c)
	}
	events := l.resolve(changes...)
	if len(events) != len(after)*len(triggerExpressions) {
		t.Fatalf("%d events", len(events))
	}
	if _, err := l.conn.Exec(ctx, "set timezone to 'America/Sao_Paulo'"); err != nil {
		t.Fatal(err)
	}
	const commit = "timestamptz '2026-11-21 17:02:03.456789+00'"
	sql := strings.NewReplacer("changed(valor)", "(old.valor is distinct from new.valor)", "became(situacao, 'LI')", "(new.situacao = 'LI' and old.situacao is distinct from 'LI')",
		"mask_cpf(doc)", "case doc when '12345678901' then '***.456.789-**' when 'x''y\\z' then '***.***.***-**' end", "resumo(old)", "resumo(row(old.*)::titulos)", "now()", commit, "current_timestamp", commit, "localtimestamp", commit+"::timestamp", "current_date", commit+"::date")
	accepted := 0
	for i, event := range events {
		n, id := i%len(triggerExpressions), i/len(triggerExpressions)+1
		var want *string
		err := l.conn.QueryRow(ctx, "select (select ("+sql.Replace(triggerExpressions[n])+")::text from titulos new where new.id = old.id) from titulos_antes old where old.id = $1", id).Scan(&want)
		if event.Parked != "" || err != nil {
			if event.Parked == "" || err == nil {
				t.Errorf("row %d: %s\n  here       %s%s\n  PostgreSQL %v", id, triggerExpressions[n], event.Data, event.Parked, err)
			}
			continue
		}
		accepted++
		wanted, _ := json.Marshal(want)
		if got := strings.TrimSuffix(strings.TrimPrefix(event.Data, fmt.Sprintf(`{"id":%d,"v":`, id)), "}"); got != string(wanted) {
			t.Errorf("row %d: %s\n  here       %s\n  PostgreSQL %s", id, triggerExpressions[n], got, wanted)
		}
	}
	if accepted < len(events)*9/10 {
		t.Errorf("%d of %d have a value", accepted, len(events))
	}
}
