package expr_test

import (
	"context"
	"encoding/hex"
	"fmt"
	"math/rand/v2"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"gancho/cdc"
	"gancho/internal/pgtext"
	"gancho/mapping/expr"
)

// source is a table in a real database, its description, and a pair of rows,
// old and new, for every id.
type source struct {
	locale   string
	version  int       // the server's, such as 15
	conn     *pgx.Conn // in the rules' session: the source's time zone
	relation *cdc.Relation
	changes  []*cdc.Change
}

const zone = "America/Sao_Paulo"

const sourceDDL = `
create domain dm_sn as char(1);
create domain dm_doc as varchar(14);
create domain dm_val as numeric(14,4);
create type tp_sentido as enum ('ENTRADA','SAIDA','Ánulo');
create type tp_par as (a int, b text);
create table o (id int primary key, i2 smallint, i4 int, i8 bigint, n numeric, n122 numeric(12,2), f4 real, f8 double precision, m money,
  t text, v varchar(20), c2 char(2), c5 char(5), sn dm_sn, doc dm_doc, dn dm_val, b boolean, d date, ts timestamp, tz timestamptz, tm time, iv interval,
  u uuid, j json, jb jsonb, ba bytea, e tp_sentido, ai int[], at text[], an numeric[], ae tp_sentido[], ip inet, r int4range, rz tstzrange, mz tstzmultirange, cp tp_par, "Nome Útil" text);
create table n (like o);
create function ev(e text) returns text[] language plpgsql as $$
declare r text[]; one text; i int;
begin
  begin
    execute 'select array_agg(case when v is null then null else ''='' || format(''%s'', v) end order by id) from (select new.id, (' || e ||
      ') as v from n as new join o as old on old.id = new.id offset 0) s' into r;
    return r;
  exception
    when syntax_error_or_access_rule_violation then -- of the parser or analyser: the same for each row
      if sqlstate <> '42P22' then
        return array_fill('!' || sqlstate, array[(select count(*)::int from n)]);
      end if;
    when others then null;
  end;
  r := '{}';
  for i in select id from n order by id loop
    begin
      execute 'select case when v is null then null else ''='' || format(''%s'', v) end from (select (' || e ||
        ') as v from n as new join o as old on old.id = new.id where new.id = ' || i || ' offset 0) s' into one;
      r := r || one;
    exception when others then r := r || ('!' || sqlstate);
    end;
  end loop;
  return r;
end $$;`

// pools are the values that rows are made of, as SQL.
var pools = map[string][]string{
	"i2":        {"0", "1", "-1", "7", "32767", "-32768", "100"},
	"i4":        {"0", "1", "-1", "2", "10", "2147483647", "-2147483648", "123456"},
	"i8":        {"0", "1", "-3", "9223372036854775807", "-9223372036854775808", "5000000000"},
	"n":         {"0", "1.50", "-1.5", "0.00", "12345678901234567890123456789012345678", "-0.000000000000000000000000000001", "'NaN'", "'Infinity'", "'-Infinity'", "2.5", "-2.5", "1e20", "99999999999999999.9", "3"},
	"n122":      {"0", "10.00", "-99.99", "9999999999.99", "12.50", "0.01"},
	"f4":        {"0", "'-0'", "1.5", "-2.25", "'NaN'", "'Infinity'", "3.4e38", "1e-40", "0.1", "16777216"},
	"f8":        {"0", "'-0'", "0.1", "1e308", "'NaN'", "'Infinity'", "'-Infinity'", "5e-324", "1e15", "123456789.125", "2.5", "-3.5", "9007199254740993"},
	"m":         {"0", "12.34", "-5.00", "1234567.89"},
	"t":         {"''", "'a'", "'AT'", "'Ação'", "'  x  '", "'123'", "'-4.5'", "'a,b,c'", "'ação é çedilha ÀÉÎ'", "'100%'", "'a_b'", "E'l1\\nl2'", "'true'", "'2024-02-29'", "'ENTRADA'", "'😀x'", "'aAbB'", "'{1,2}'", "'back\\slash'", "'7'"},
	"v":         {"''", "'AT'", "'at'", "'Ação'", "'x '", "'12'", "'abcdefghij'", "'VI'"},
	"c2":        {"'AT'", "'VI'", "'A'", "' A'", "''", "'ç'", "'10'"},
	"c5":        {"'AT'", "'abcde'", "''", "'a  b'", "'12'", "'é'", "'CA'"},
	"sn":        {"'S'", "'N'", "''", "'s'"},
	"doc":       {"'12345678901'", "''", "'S'", "'00'"},
	"dn":        {"0", "1.5", "-12.3456", "'NaN'", "1000000000"},
	"b":         {"true", "false"},
	"d":         {"'2024-02-29'", "'2000-01-01'", "'0044-03-15 BC'", "'infinity'", "'-infinity'", "'2026-11-21'", "'1999-12-31'", "'2018-11-04'", "'5874897-12-31'"},
	"ts":        {"'2024-02-29 23:59:59.999999'", "'2000-01-01'", "'infinity'", "'-infinity'", "'2018-11-04 00:30:00'", "'0044-03-15 12:00:00 BC'", "'2026-11-21 10:11:12.5'", "'2018-02-17 23:30:00'"},
	"tz":        {"'2024-02-29 23:59:59.999999+00'", "'2000-01-01 02:00:00+00'", "'infinity'", "'-infinity'", "'2018-11-04 02:59:59+00'", "'2018-11-04 03:00:00+00'", "'2026-11-21 10:11:12.5-03'", "'2018-02-18 01:30:00+00'"},
	"tm":        {"'00:00'", "'23:59:59.999999'", "'24:00:00'", "'12:34:56.7'"},
	"iv":        {"'1 day'", "'1 mon'", "'-1 year 2 days 03:04:05.678'", "'0'", "'25:00:00'", "'30 days'", "'13 mons -3 days'"},
	"u":         {"'a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11'", "'00000000-0000-0000-0000-000000000000'", "'ffffffff-ffff-ffff-ffff-ffffffffffff'"},
	"j":         {`'{"a": 1, "b": [1,2], "a": "z"}'`, `'[1, "x", null]'`, `'null'`, `'"s\u00e9\n"'`, `'5'`, `'{"c": {"d": null}}'`},
	"jb":        {`'{"a": 1, "b": [1, 2, {"c": 3}], "t": "x", "nul": null}'`, `'[1, "a", null, 2.50]'`, `'{}'`, `'[]'`, `'5'`, `'"a"'`, `'null'`, `'true'`, `'{"a": 1.0}'`, `'{"a": {"b": "é\"q"}}'`, `'[[1],[2]]'`},
	"ba":        {`'\x'`, `'\x00ff'`, `'\x616263'`},
	"e":         {"'ENTRADA'", "'SAIDA'", "'Ánulo'"},
	"ai":        {"'{}'", "'{1,2,3}'", "'{1,NULL}'", "'{{1,2},{3,4}}'", "'[0:1]={5,6}'", "'{2147483647}'", "(select array_agg(nullif(i, 7)) from generate_series(-50, 100) i)", "array_fill(3, array[2, 70], array[0, 1])"},
	"at":        {"'{}'", "'{a,AT}'", "'{NULL,\"\"}'", "'{\"a b\",\"q\\\"\"}'", "'{VI,\"null\"}'", "(select array_agg(case i when 3 then null when 4 then 'AT' else 'q\"' || i end) from generate_series(1, 60) i)"},
	"an":        {"'{}'", "'{1.0,2.50}'", "'{NaN,NULL}'", "(select array_agg(i::numeric(9,2) / 4) from generate_series(-50, 50) i)"},
	"ae":        {"'{}'", "'{ENTRADA,SAIDA}'", "'{NULL}'"},
	"ip":        {"'10.0.0.1'", "'10.0.0.0/8'", "'::1'", "'2001:db8::/32'"},
	"r":         {"'[1,5)'", "'empty'", "'(,3)'"},
	"rz":        {"'[2018-02-18 01:30+00,2018-11-04 03:00+00)'", "'empty'", "'(,infinity]'", "'[\"0044-03-15 12:00:00+00 BC\",2026-11-21 10:11:12.5-03]'"},
	"mz":        {"'{}'", "'{[2018-02-18 01:30+00,2018-11-04 03:00+00),[2026-11-21 10:11:12.5-03,)}'"},
	"cp":        {"'(1,x)'", "'(,)'", "'(2,)'"},
	"Nome Útil": {"'sim'", "''"},
}

// encodings are the names of sources that are encodings under locale C.
var encodings = map[string]bool{"LATIN1": true, "SQL_ASCII": true}

// hasLocale reports whether the server can have a database of a locale.
func hasLocale(t testing.TB, locale string) (has bool) {
	t.Helper()
	ctx := context.Background()
	conn, err := pgx.Connect(ctx, pg.DSN("postgres"))
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = conn.Close(ctx) }()
	name := strings.Replace(locale, "UTF-8", "utf8", 1)
	err = conn.QueryRow(ctx, `select not $1 like 'pt%' or exists (select from pg_collation where collname = $1)
		and ($1 not like '%icu' or current_setting('server_version_num')::int >= 150000)`, name).Scan(&has)
	if err != nil {
		t.Fatal(err)
	}
	return has
}

// openSource creates the table with n pairs of rows in a database of a locale, or
// of one of the encodings.
func openSource(t testing.TB, locale string, r *rand.Rand, n int) *source {
	t.Helper()
	return openSourceAs(t, locale, r, n, "", "")
}

// openSourceAs is openSource with statements that run before and after the tables are
// filled.
func openSourceAs(t testing.TB, locale string, r *rand.Rand, n int, before, after string) *source {
	t.Helper()
	ctx := context.Background()
	options := "template template0 encoding 'UTF8' locale '" + locale + "'"
	switch icu, isICU := strings.CutSuffix(locale, "-x-icu"); {
	case encodings[locale]:
		options = "template template0 encoding '" + locale + "' locale 'C'"
	case isICU:
		options = "template template0 encoding 'UTF8' locale 'C' locale_provider icu icu_locale '" + icu + "'"
	}
	ddl := sourceDDL
	if locale == "SQL_ASCII" { // a result may be half a character, which is not sent
		ddl = strings.ReplaceAll(ddl, "format(''%s'', v)", "encode(convert_to(format(''%s'', v), ''SQL_ASCII''), ''hex'')")
	}
	dsn := pg.Database(t, options, "set client_encoding = 'UTF8';"+ddl)
	connect := func(tz string) *pgx.Conn {
		cfg, err := pgx.ParseConfig(dsn)
		if err != nil {
			t.Fatal(err)
		}
		cfg.DefaultQueryExecMode = pgx.QueryExecModeSimpleProtocol // everything as text, as pgoutput sends it
		for k, v := range map[string]string{"TimeZone": tz, "datestyle": "ISO", "intervalstyle": "postgres", "extra_float_digits": "3", "bytea_output": "hex", "jit": "off", "client_encoding": "UTF8"} {
			cfg.RuntimeParams[k] = v
		}
		conn, err := pgx.ConnectConfig(ctx, cfg)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = conn.Close(ctx) })
		return conn
	}
	stream := connect("UTC")
	if _, err := stream.Exec(ctx, before); err != nil {
		t.Fatal(err)
	}
	s := &source{locale: locale, conn: connect(zone), relation: describe(t, stream, "o")}
	if strings.HasPrefix(locale, "pt_BR") { // the stream has money in the form of C
		if _, err := s.conn.Exec(ctx, "set lc_monetary to '"+locale+"'"); err != nil {
			t.Fatal(err)
		}
	}
	if err := s.conn.QueryRow(ctx, "select current_setting('server_version_num')::int / 10000").Scan(&s.version); err != nil {
		t.Fatal(err)
	}
	fill(t, stream, s.relation, r, n, locale == "LATIN1")
	if _, err := stream.Exec(ctx, after); err != nil {
		t.Fatal(err)
	}
	old, fresh := readRows(t, stream, "o"), readRows(t, stream, "n")
	for i := range old {
		s.changes = append(s.changes, &cdc.Change{Op: cdc.Update, Relation: s.relation, Tx: &cdc.Transaction{Time: commitTime}, Old: old[i], New: fresh[i]})
	}
	return s
}

var commitTime = time.Date(2026, 11, 21, 1, 30, 0, 123456000, time.UTC) // the 20th in São Paulo

func fill(t testing.TB, conn *pgx.Conn, rel *cdc.Relation, r *rand.Rand, n int, latin1 bool) {
	t.Helper()
	var sql strings.Builder
	for _, table := range []string{"o", "n"} {
		for id := range n {
			fmt.Fprintf(&sql, "insert into %s values (%d", table, id)
			for _, c := range rel.Columns[1:] {
				v := "null"
				if pool := pools[c.Name]; r.IntN(8) > 0 {
					v = pool[r.IntN(len(pool))]
				}
				sql.WriteString(", " + v)
			}
			sql.WriteString(");\n")
		}
	}
	sql.WriteString("update n set t = o.t, i4 = o.i4, c2 = o.c2 from o where o.id = n.id and o.id % 4 = 0; analyze;")
	text := sql.String()
	if latin1 {
		text = strings.ReplaceAll(text, "😀", "ÿ")
	}
	if _, err := conn.Exec(context.Background(), text); err != nil {
		t.Fatal(err)
	}
}

func readRows(t testing.TB, conn *pgx.Conn, table string) [][]cdc.Datum {
	t.Helper()
	rows, err := conn.Query(context.Background(), "select * from "+table+" order by id")
	if err != nil {
		t.Fatal(err)
	}
	defer rows.Close()
	var all [][]cdc.Datum
	for rows.Next() {
		var row []cdc.Datum
		for _, raw := range rows.RawValues() {
			if raw == nil {
				row = append(row, cdc.Datum{State: cdc.Null})
			} else {
				row = append(row, cdc.Datum{State: cdc.Present, Text: []byte(string(raw))})
			}
		}
		all = append(all, row)
	}
	if err := rows.Err(); err != nil {
		t.Fatal(err)
	}
	return all
}

// describe reads a relation from the catalogue.
func describe(t testing.TB, conn *pgx.Conn, table string) *cdc.Relation {
	t.Helper()
	ctx := context.Background()
	rel := &cdc.Relation{Schema: "public", Name: table, ReplicaIdentity: 'f'}
	type attr struct {
		name string
		oid  uint32
		mod  int32
	}
	rows, err := conn.Query(ctx, "select attname::text, atttypid::int8, atttypmod from pg_attribute where attrelid = '"+table+"'::regclass and attnum > 0 and not attisdropped order by attnum")
	if err != nil {
		t.Fatal(err)
	}
	attrs, err := pgx.CollectRows(rows, func(r pgx.CollectableRow) (a attr, err error) {
		err = r.Scan(&a.name, &a.oid, &a.mod)
		return a, err
	})
	if err != nil {
		t.Fatal(err)
	}
	types := map[uint32]*cdc.Type{}
	for _, a := range attrs {
		rel.Columns = append(rel.Columns, cdc.Column{Name: a.name, Key: true, Type: typeOf(t, conn, types, a.oid), TypeMod: a.mod})
	}
	return rel
}

func typeOf(t testing.TB, conn *pgx.Conn, known map[uint32]*cdc.Type, oid uint32) *cdc.Type {
	t.Helper()
	if typ := known[oid]; typ != nil {
		return typ
	}
	ctx := context.Background()
	typ := &cdc.Type{OID: oid}
	known[oid] = typ
	var kind, category, delim string
	var elem, base, sub uint32
	err := conn.QueryRow(ctx, `select n.nspname::text, typname::text, typtype::text, typcategory::text, typdelim::text, typelem::int8, typbasetype::int8, typtypmod,
		coalesce((select rngsubtype from pg_range where t.oid in (rngtypid, rngmultitypid)), 0)::int8 from pg_type t join pg_namespace n on n.oid = typnamespace where t.oid = $1`, oid).
		Scan(&typ.Schema, &typ.Name, &kind, &category, &delim, &elem, &base, &typ.TypeMod, &sub)
	if err != nil {
		t.Fatal(err)
	}
	typ.Delim = delim[0]
	switch {
	case kind == "d":
		typ.Kind, typ.Elem = cdc.KindDomain, typeOf(t, conn, known, base)
	case kind == "r":
		typ.Kind, typ.Elem = cdc.KindRange, typeOf(t, conn, known, sub)
	case kind == "m":
		typ.Kind, typ.Elem = cdc.KindMultirange, typeOf(t, conn, known, sub)
	case kind == "c":
		typ.Kind = cdc.KindComposite
	case kind == "e":
		typ.Kind = cdc.KindEnum
		rows, err := conn.Query(ctx, "select enumlabel::text from pg_enum where enumtypid = $1 order by enumsortorder", oid)
		if err != nil {
			t.Fatal(err)
		}
		if typ.Labels, err = pgx.CollectRows(rows, pgx.RowTo[string]); err != nil {
			t.Fatal(err)
		}
	case category == "A":
		typ.Kind, typ.Elem = cdc.KindArray, typeOf(t, conn, known, elem)
	default:
		typ.Kind = cdc.KindBase
	}
	return typ
}

// scope is an update rule's on the source.
func (s *source) scope(t testing.TB) *expr.Scope {
	t.Helper()
	loc, err := time.LoadLocation(zone)
	if err != nil {
		t.Fatal(err)
	}
	settings := expr.Settings{Location: loc, DateOrder: pgtext.OrderMDY, Collation: s.locale, CType: s.locale, Encoding: "UTF8"}
	switch {
	case strings.HasPrefix(s.locale, "pt_BR"):
		settings.Monetary = s.locale
	case strings.HasSuffix(s.locale, "-x-icu"):
		settings.Collation, settings.CType, settings.Provider = "C", "C", "i"
	case encodings[s.locale]:
		settings.Collation, settings.CType, settings.Encoding = "C", "C", s.locale
	}
	return &expr.Scope{Relation: s.relation, Old: true, New: true, Update: true, Settings: settings}
}

// evaluate returns PostgreSQL's result of each expression on each row:
// "=text", "!sqlstate", or nil for null.
func (s *source) evaluate(t testing.TB, sources []string) [][]*string {
	t.Helper()
	var sql strings.Builder
	for i, src := range sources {
		if i > 0 {
			sql.WriteString(" union all ")
		}
		fmt.Fprintf(&sql, "select %d, ev(%s)", i, quote(src))
	}
	rows, err := s.conn.Query(context.Background(), sql.String())
	if err != nil {
		t.Fatal(err)
	}
	defer rows.Close()
	out := make([][]*string, len(sources))
	for rows.Next() {
		var i int
		var list []*string
		if err := rows.Scan(&i, &list); err != nil {
			t.Fatal(err)
		}
		for j, text := range list {
			if s.locale == "SQL_ASCII" && text != nil && (*text)[0] == '=' {
				plain, err := hex.DecodeString((*text)[1:])
				if err != nil {
					t.Fatal(err)
				}
				decoded := "=" + string(plain)
				list[j] = &decoded
			}
		}
		out[i] = list
	}
	if err := rows.Err(); err != nil {
		t.Fatal(err)
	}
	return out
}

func quote(s string) string { return "E'" + strings.NewReplacer(`\`, `\\`, `'`, `''`).Replace(s) + "'" }
