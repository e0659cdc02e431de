package pgtext_test

import (
	"context"
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/jackc/pgx/v5"

	"gancho/cdc"
	"gancho/internal/pgtext"
)

// customTypes are the kinds of types that users create.
func customTypes() []string {
	return []string{
		try,
		`create type mood as enum ('sad', 'so "so"', 'happy')`,
		`create domain flag as char(1) check (value in ('S', 'N'))`,
		`create domain cpf as varchar(14)`,
		`create domain money_amount as numeric(12,2)`,
		`create domain money_amount2 as money_amount`,
		`create domain tags as text[]`,
		`create domain document as jsonb`,
		`create domain moment as timestamp`,
		`create domain instant as timestamptz`,
		`create type item as (id int, name text, tags text[], price numeric, day date, ok bool)`,
		`create type pedido as (nr bigint, items item[], extra jsonb, "Obs. ""é""" text, f char(5), at timestamp)`,
		`create type hollow as ()`,
		`create type floatrange as range (subtype = float8, subtype_diff = float8mi)`,
		`create extension hstore`,
	}
}

// sample is a value, and the expression of the jsonb that is expected of it
// ($ standing for the value) where that is not to_jsonb.
type sample struct{ value, want string }

const (
	asLocal  = `to_jsonb($ at time zone 'America/Sao_Paulo')`        // timestamp: shown as the instant that it is in the zone
	inBase64 = `to_jsonb(translate(encode($, 'base64'), E'\n', ''))` // bytea
	unpadded = `to_jsonb(rtrim($::text))`                            // char(n)
)

func samples() []sample {
	var out []sample
	add := func(want, form string, values ...string) {
		for _, v := range values {
			out = append(out, sample{fmt.Sprintf(form, v), want})
		}
	}
	add("", "%s::int2", "0", "(-32768)", "32767")
	add("", "%s::int4", "0", "(-2147483648)", "2147483647")
	add("", "%s::int8", "0", "(-9223372036854775808)", "9223372036854775807")
	add("", "'%s'::numeric", "0", "0.00", "-0.001", "12345678901234567890123456789012345678", "0.00000000000000000000000000000000000001", "99999999999999999999.990", "NaN", "Infinity", "-Infinity", "1e40", "123.4500")
	add("", "'%s'::float4", "0", "-0", "0.1", "3.4028235e38", "1e-45", "NaN", "Infinity", "-Infinity", "16777216")
	add("", "'%s'::float8", "0", "-0", "0.1", "0.30000000000000004", "1.7976931348623157e308", "5e-324", "1e15", "1e16", "NaN", "Infinity", "-Infinity")
	add("", "%s::bool", "true", "false")
	add("", "%s::text", `''`, `'plain'`, `'aspas "duplas" e \barra\'`, `E'\b\f\n\r\t\x01\x1f\x7f'`, `'São João, ção'`, `'😀'`, `U&'\2028x\2029'`, `'</script>'`, `' NULL '`)
	add("", "%s", `'x'::name`, `'a'::"char"`, `'varchar'::varchar(10)`, `'12345678901'::cpf`, `'x'::unknown::text`)
	add(unpadded, "%s", `'ab'::char(5)`, `''::char(3)`, `' a '::char(6)`, `'çã'::char(4)`, `'S'::flag`)
	add(inBase64, `'\x%s'::bytea`, "", "00", "deadbeef", "0001", strings.Repeat("5c22", 1000))
	add("", "date '%s'", "2026-01-31", "0001-01-01", "0044-03-15 BC", "infinity", "-infinity", "12026-01-01", "5874897-12-31")
	add("", "time '%s'", "00:00:00", "24:00:00", "12:34:56.789")
	add("", "timetz '%s'", "12:34:56.789-03", "00:00:00+05:30")
	add(asLocal, "timestamp '%s'", "2026-01-31 14:30:00", "2026-07-31 14:30:00.000001", "2018-11-03 23:59:59", "2018-11-04 01:00:00", "2018-11-03 23:59:59.999999",
		"2019-02-16 22:59:59", "2019-02-17 00:00:00", "infinity", "-infinity", "12026-01-01 00:00:00", "1914-01-02 00:00:00", "1985-11-01 23:59:59", "1985-11-02 01:00:00")
	add("", "timestamp '%s'", "2018-11-04 00:00:00", "2018-11-04 00:00:00.000001", "2018-11-04 00:59:59.999999", "1985-11-02 00:00:00", "1985-11-02 00:59:59", // skipped
		"2019-02-16 23:00:00", "2019-02-16 23:30:00", "2019-02-16 23:59:59.999999", // twice
		"1899-12-30 00:00:00", "1913-12-31 23:59:59", "0001-01-01 00:00:00", "0044-03-15 12:00:00.5 BC") // before standard time
	add("", "timestamptz '%s'", "2026-01-31 14:30:00-03", "2026-07-31 14:30:00.5+00", "2018-11-04 03:00:00+00", "2019-02-17 01:30:00+00", "2019-02-17 02:30:00+00", "infinity", "-infinity", "1970-01-01 00:00:00+00", "12026-01-01 00:00:00+00")
	add("", "interval '%s'", "1 year 2 mons -3 days +04:05:06.7", "0", "1 day ago")
	add("", "'%s'::uuid", "a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11")
	add("", "'%s'::json", `{"a": 1, "a": 2}`, ` [1 , "x" ] `, `"text"`, "3.00", "null", "{\"a\":\n\t[1,\r\n2], \"b\": \"\\n\\u00e9\"}", "1e400")
	add("", "'%s'::jsonb", `{"b": [1, 2.50, {"c": null}], "a": "é\n😀"}`, "[]", "{}", `"x"`, "null", "true", "1e100")
	add("", "'%s'::int4[]", "{}", "{1,NULL,3}", "{{1,2},{3,4}}", "[0:1]={5,6}", "[-1:0][2:3]={{1,2},{3,4}}", "{{{1},{2}},{{3},{4}}}")
	add("", "%s::text[]", `array['a','b,c','"d"','\e','','NULL',null,' x ','{}','é']`, `array[['a','b'],[null,'{"']]`, `'{}'`)
	add("", "%s", `array['x','y']::varchar[]`, `array[true,false,null]`, `array['NaN',1.50,null]::numeric[]`, `array['{"a": [1,"\\"]}', null]::jsonb[]`, `array[date '2026-01-31', 'infinity', '0044-03-15 BC']`,
		`array['(1,2),(0,0)','(4,5),(3,3)']::box[]`, `array['a=>1','']::hstore[]`, `array['sad','so "so"',null]::mood[]`, `array['12.50',null]::money_amount[]`, `'{a,"b c"}'::tags`, `'{{a},{b}}'::tags`)
	add(`'["ab", null, ""]'::jsonb`, "%s", `array['ab',null,'']::char(5)[]`)
	add(`'["3q0=", null]'::jsonb`, "%s", `array['\xdead',null]::bytea[]`)
	add(`'["2026-01-31T14:30:00-03:00", null, "infinity"]'::jsonb`, "%s", `array['2026-01-31 14:30:00',null,'infinity']::timestamp[]`)
	add("", "%s", `'so "so"'::mood`, `12.50::money_amount`, `12.50::money_amount2`, `'{"a": 1}'::document`, `timestamptz '2026-01-31 14:30:00.5-03'::instant`)
	add(asLocal, "%s", `(timestamp '2026-01-31 14:30:00.25')::moment`)
	add("", "%s", `int4range(1,10)`, `numrange(null,1.5,'[]')`, `'empty'::int8range`, `tsrange('2026-01-01','2026-02-01')`, `daterange('2026-01-01','infinity')`, `'{[1,3),[5,9)}'::int4multirange`,
		`floatrange(0.5,1.5)`, `array[int4range(1,2),null]`)
	add("", "%s", `inet '10.0.0.1'`, `inet '10.0.0.1/24'`, `inet '::1'`, `cidr '10.0.0.0/8'`, `macaddr '08:00:2b:01:02:03'`, `macaddr8 '08:00:2b:01:02:03:04:05'`)
	add("", "%s", `12345.67::money`, `(-5)::money`, `B'10101'`, `'101'::varbit`, `point '(1,2)'`, `box '(1,2),(3,4)'`, `circle '<(0,0),1>'`, `'a b'::tsvector`, `'a & b'::tsquery`, `'0/16B3748'::pg_lsn`,
		`123::oid`, `'pg_class'::regclass`, `'1 2 3'::int2vector::text`, `'<a href="x">é</a>'::xml`, `'$.a[*]'::jsonpath`, `'10:20:10,14'::txid_snapshot`)
	add("", "%s", `''::hstore`, `'a=>1, "b \" c"=>"\"x\\y\"", d=>NULL, "é"=>"NULL"'::hstore`)
	add("", "%s", `row(1,'a "b" \ c',array['x','y z'],12.50,date '2026-01-31',true)::item`, `row(null,null,null,null,null,null)::item`, `row(1,'','{}',0,null,false)::item`, `row()::hollow`,
		`array[row(1,'(,)"',null,null,null,null)::item,null]`)
	add(`'{"nr": 9223372036854775807, "items": [{"id": 1, "name": "x\"y", "tags": ["a,b", null], "price": 1.50, "day": "0044-03-15 BC", "ok": true}, null], "extra": {"k": [1, "é"]}, "Obs. \"é\"": "fim\n", "f": "ab", "at": "2018-11-04T00:00:00"}'::jsonb`,
		"%s", `row(9223372036854775807, array[row(1,'x"y',array['a,b',null],1.50,date '0044-03-15 BC',true)::item,null], '{"k":[1,"é"]}', E'fim\n', 'ab', timestamp '2018-11-04 00:00:00')::pedido`)
	return out
}

func TestJSONEqualsPostgres(t *testing.T) {
	t.Parallel()
	dsn := pg.Database(t, "", customTypes()...)
	utc, local := connect(t, dsn, "UTC"), connect(t, dsn, "America/Sao_Paulo")
	types := &catalogue{conn: utc, known: map[uint32]*cdc.Type{}}
	options := &pgtext.JSONOptions{Location: location(t, "America/Sao_Paulo")}
	for _, s := range samples() {
		var text string
		var oid uint32
		var typmod int32
		err := utc.QueryRow(context.Background(), "select v::text, pg_typeof(v)::oid, -1 from (select "+s.value+") s(v)").Scan(&text, &oid, &typmod)
		if err != nil {
			t.Fatalf("%s: %v", s.value, err)
		}
		got, err := pgtext.AppendJSON([]byte("before"), types.load(t, oid), typmod, printed(t, utc, s.value, text), options)
		if err != nil {
			t.Errorf("%s: %v", s.value, err)
			continue
		}
		got = got[len("before"):]
		if s.want == asLocal {
			wall := &pgtext.JSONOptions{Location: options.Location, Wall: true}
			shown, err := pgtext.AppendJSON(nil, types.load(t, oid), typmod, printed(t, utc, s.value, text), wall)
			var want string
			if err := utc.QueryRow(context.Background(), "select to_jsonb("+s.value+")::text").Scan(&want); err != nil {
				t.Fatalf("%s: %v", s.value, err)
			}
			if err != nil || string(shown) != want {
				t.Errorf("%s: with Wall %s, %v; want %s", s.value, shown, err, want)
			}
		}
		if !json.Valid(got) {
			t.Errorf("%s: invalid JSON %s", s.value, got)
			continue
		}
		want := s.want
		if want == "" {
			want = "to_jsonb($)"
		}
		var equal bool
		var wanted string
		want = strings.ReplaceAll(want, "$", "("+s.value+")")
		if err := local.QueryRow(context.Background(), "select $1::text::jsonb = w, w::text from (select "+want+") s(w)", string(got)).Scan(&equal, &wanted); err != nil {
			t.Fatalf("%s: %v", s.value, err)
		}
		if !equal {
			t.Errorf("%s\n got %s\nwant %s", s.value, got, wanted)
		}
	}
}

// printed returns the value as the stream sends it: by the type's output
// function, from which a cast to text may differ (char, bool, hstore...).
func printed(t *testing.T, conn *pgx.Conn, value, cast string) []byte {
	t.Helper()
	results, err := conn.PgConn().Exec(context.Background(), "select "+value).ReadAll()
	if err != nil {
		t.Fatalf("%s: %v", value, err)
	}
	text := results[0].Rows[0][0]
	if text == nil {
		t.Fatalf("%s is null, and %q as text", value, cast)
	}
	return text
}

// catalogue resolves types as cdc does.
type catalogue struct {
	conn  *pgx.Conn
	known map[uint32]*cdc.Type
}

func (c *catalogue) load(t *testing.T, oid uint32) *cdc.Type {
	t.Helper()
	if typ := c.known[oid]; typ != nil {
		return typ
	}
	typ := &cdc.Type{OID: oid, TypeMod: -1}
	c.known[oid] = typ
	var kind, delim string
	var below, relation uint32
	var array bool
	err := c.conn.QueryRow(context.Background(), `
		select t.typname, n.nspname, t.typtype::text, t.typdelim::text, t.typrelid,
		       t.typelem <> 0 and t.typsubscript = 'array_subscript_handler'::regproc,
		       case when t.typtype = 'd' then t.typbasetype when t.typtype in ('r', 'm') then 0 else t.typelem end
		from pg_type t join pg_namespace n on n.oid = t.typnamespace where t.oid = $1`, oid).
		Scan(&typ.Name, &typ.Schema, &kind, &delim, &relation, &array, &below)
	if err != nil {
		t.Fatalf("read type %d: %v", oid, err)
	}
	switch {
	case kind == "d":
		typ.Kind = cdc.KindDomain
	case kind == "e":
		typ.Kind = cdc.KindEnum
	case kind == "r":
		typ.Kind = cdc.KindRange
	case kind == "m":
		typ.Kind = cdc.KindMultirange
	case kind == "c":
		typ.Kind = cdc.KindComposite
		c.fields(t, typ, relation)
	case array:
		typ.Kind = cdc.KindArray
	default:
		typ.Kind = cdc.KindBase
	}
	if typ.Kind == cdc.KindDomain || typ.Kind == cdc.KindArray {
		typ.Elem = c.load(t, below)
		typ.Delim = delim[0]
		if typ.Kind == cdc.KindArray && typ.Elem.Delim != 0 {
			typ.Delim = typ.Elem.Delim
		}
	} else {
		typ.Delim = delim[0]
	}
	return typ
}

func (c *catalogue) fields(t *testing.T, typ *cdc.Type, relation uint32) {
	t.Helper()
	rows, err := c.conn.Query(context.Background(), `select attname, atttypid from pg_attribute where attrelid = $1 and attnum > 0 and not attisdropped order by attnum`, relation)
	if err != nil {
		t.Fatal(err)
	}
	type field struct {
		Name string
		OID  uint32
	}
	fields, err := pgx.CollectRows(rows, pgx.RowToStructByPos[field])
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range fields {
		typ.Fields = append(typ.Fields, cdc.Field{Name: f.Name, Type: c.load(t, f.OID)})
	}
}

// TestRandomJSON compares composites and arrays of random content with to_jsonb.
func TestRandomJSON(t *testing.T) {
	t.Parallel()
	r := random(t)
	conn := connect(t, pg.Database(t, "", append(customTypes(), "create table t (n serial, v pedido)")...), "UTC")
	types := &catalogue{conn: conn, known: map[uint32]*cdc.Type{}}
	var oid uint32
	if err := conn.QueryRow(context.Background(), "select 'pedido'::regtype::oid").Scan(&oid); err != nil {
		t.Fatal(err)
	}
	pedido := types.load(t, oid)
	var values strings.Builder
	for i := range 300 {
		if i > 0 {
			values.WriteString(", ")
		}
		fmt.Fprintf(&values, "(row(%d, %s, %s, %s, null, %s)::pedido)", r.Int64(), randomItems(r), quote(randomDocument(r, 3)), quote(randomText(r)), tsText(r.Int64N(1e15)))
	}
	if _, err := conn.Exec(context.Background(), "insert into t (v) values "+values.String()); err != nil {
		t.Fatal(err)
	}
	results, err := conn.PgConn().Exec(context.Background(), `select v, to_jsonb(v) || jsonb_build_object('at', (v).at at time zone 'UTC') from t order by n`).ReadAll()
	if err != nil {
		t.Fatal(err)
	}
	options := &pgtext.JSONOptions{}
	for _, row := range results[0].Rows {
		got, err := pgtext.AppendJSON(nil, pedido, -1, row[0], options)
		if err != nil {
			t.Fatalf("%s: %v", row[0], err)
		}
		if canonical, err := pgtext.CanonicalJSONB(nil, got); err != nil || string(canonical) != string(row[1]) {
			t.Errorf("%s\n got %s, %v\nwant %s", row[0], canonical, err, row[1])
		}
	}
}

func randomItems(r *rand.Rand) string {
	var items []string
	for range r.IntN(4) {
		if r.IntN(5) == 0 {
			items = append(items, "null")
			continue
		}
		tags := make([]string, r.IntN(4))
		for i := range tags {
			tags[i] = pick(r, "null", quote(randomText(r)), quote(randomText(r)))
		}
		items = append(items, fmt.Sprintf("row(%d, %s, array[%s]::text[], %s, date '2000-01-01' + %d, %v)::item",
			r.Int32(), pick(r, "null", quote(randomText(r))), strings.Join(tags, ", "), pick(r, "null", "1.50", "-0.001", "'NaN'"), r.IntN(100_000), pick(r, "null", "true", "false")))
	}
	return "array[" + strings.Join(items, ", ") + "]::item[]"
}

func randomText(r *rand.Rand) string {
	alphabet := []rune("ab \"\\,(){}'\n\t\r\b\f\x01\x7fé€😀[]:/=>\u2028\u2029NULL0")
	out := make([]rune, r.IntN(12))
	for i := range out {
		out[i] = pick(r, alphabet...)
	}
	return string(out)
}

func TestNumbersAsStrings(t *testing.T) {
	t.Parallel()
	numeric := &cdc.Type{OID: 1700, Name: "numeric", Kind: cdc.KindBase}
	options := &pgtext.JSONOptions{NumbersAsStrings: true}
	for typ, c := range map[*cdc.Type][2]string{
		{OID: 23, Name: "int4", Kind: cdc.KindBase}:    {"-5", `"-5"`},
		{OID: 20, Name: "int8", Kind: cdc.KindBase}:    {"9223372036854775807", `"9223372036854775807"`},
		{OID: 701, Name: "float8", Kind: cdc.KindBase}: {"1e+300", `"1e+300"`},
		numeric: {"1.50", `"1.50"`},
		{OID: 1231, Name: "_numeric", Kind: cdc.KindArray, Elem: numeric}:            {"{1.50,NULL,NaN}", `["1.50",null,"NaN"]`},
		{OID: 99999, Name: "amount", Kind: cdc.KindDomain, Elem: numeric}:            {"0", `"0"`},
		{OID: 16, Name: "bool", Kind: cdc.KindBase}:                                  {"t", "true"},
		{OID: 3802, Name: "jsonb", Kind: cdc.KindBase}:                               {`{"a": 1}`, `{"a": 1}`},
		{OID: 1082, Name: "date", Kind: cdc.KindBase}:                                {"2026-01-31", `"2026-01-31"`},
		{OID: 99998, Schema: "public", Name: "unknown", Kind: cdc.KindUnknown}:       {"42", `"42"`},
		{OID: 22, Name: "int2vector", Kind: cdc.KindArray, Elem: &cdc.Type{OID: 21}}: {"1 2", `"1 2"`},
	} {
		got, err := pgtext.AppendJSON(nil, typ, -1, []byte(c[0]), options)
		if err != nil || string(got) != c[1] {
			t.Errorf("%s %s: %s, %v; want %s", typ.Name, c[0], got, err, c[1])
		}
	}
}

// TestJSONInstants is of what has no value of to_jsonb to compare with.
func TestJSONInstants(t *testing.T) {
	t.Parallel()
	options := &pgtext.JSONOptions{Location: location(t, "America/Sao_Paulo")}
	timestamp := &cdc.Type{OID: 1114, Name: "timestamp", Kind: cdc.KindBase}
	zoned := &cdc.Type{OID: 1184, Name: "timestamptz", Kind: cdc.KindBase}
	for _, c := range []struct {
		typ        *cdc.Type
		text, want string
	}{
		// Local mean time, -03:06:28, has seconds that RFC 3339 has not.
		{zoned, "1900-01-01 03:06:28+00", `"1900-01-01T00:00:28-03:06"`},
		{zoned, "0001-01-01 00:00:00+00", `"0001-12-31T20:54:00-03:06 BC"`},
		{timestamp, "infinity", `"infinity"`},
		{zoned, "-infinity", `"-infinity"`},
	} {
		got, err := pgtext.AppendJSON(nil, c.typ, -1, []byte(c.text), options)
		if err != nil || string(got) != c.want {
			t.Errorf("%s %s: %s, %v; want %s", c.typ.Name, c.text, got, err, c.want)
		}
	}
	// The zone may be changed between two values.
	options.Location = location(t, "Asia/Kolkata")
	got, err := pgtext.AppendJSON(nil, timestamp, -1, []byte("2026-01-31 14:30:00"), options)
	if err != nil || string(got) != `"2026-01-31T14:30:00+05:30"` {
		t.Errorf("after a change of zone: %s, %v", got, err)
	}
	got, err = pgtext.AppendJSON(nil, timestamp, -1, []byte("2026-01-31 14:30:00"), nil)
	if err != nil || string(got) != `"2026-01-31T14:30:00+00:00"` {
		t.Errorf("without options: %s, %v", got, err)
	}
}

func TestMalformedValues(t *testing.T) {
	t.Parallel()
	integer := &cdc.Type{OID: 23, Name: "int4", Schema: "pg_catalog", Kind: cdc.KindBase}
	pair := &cdc.Type{OID: 99999, Schema: "public", Name: "pair", Kind: cdc.KindComposite, Fields: []cdc.Field{{Name: "a", Type: integer}, {Name: "b", Type: integer}}}
	array := &cdc.Type{OID: 1007, Name: "_int4", Schema: "pg_catalog", Kind: cdc.KindArray, Elem: integer}
	for _, c := range []struct {
		typ  *cdc.Type
		text string
		want string
	}{
		{integer, "", "write int4 as JSON: malformed number"},
		{integer, "01", "write int4 as JSON: malformed number"},
		{integer, "secret", "write int4 as JSON: malformed number"},
		{&cdc.Type{OID: 16, Name: "bool"}, "true", "write bool as JSON: malformed boolean"},
		{&cdc.Type{OID: 17, Name: "bytea"}, "abc", `write bytea as JSON: malformed bytea: want the hex form (\x...)`},
		{&cdc.Type{OID: 3802, Name: "jsonb"}, `{"a":}`, "write jsonb as JSON: invalid input syntax for type json"},
		{&cdc.Type{OID: 3802, Name: "jsonb"}, strings.Repeat("[", 10_001), "write jsonb as JSON: JSON nested deeper than 10000 levels"},
		{&cdc.Type{OID: 1114, Name: "timestamp"}, "01/31/2026 10:00:00", "write timestamp as JSON: invalid timestamp: write YYYY-MM-DD HH:MM:SS, such as 2026-01-31 14:30:00"},
		{array, "{1,2", "write _int4 as JSON: malformed array literal"},
		{array, "{1,,2}", "write _int4 as JSON: malformed array literal"},
		{array, "{1}}", "write _int4 as JSON: malformed array literal"},
		{array, "{x}", "write _int4 as JSON: malformed number"},
		{pair, "(1)", "write public.pair as JSON: malformed record literal"},
		{pair, "(1,2,3)", "write public.pair as JSON: malformed record literal"},
		{pair, "(1,2", "write public.pair as JSON: malformed record literal"},
		{&cdc.Type{Name: "hstore", Schema: "public", Kind: cdc.KindBase}, `"a"=>1`, "write public.hstore as JSON: malformed hstore"},
	} {
		got, err := pgtext.AppendJSON([]byte("before"), c.typ, -1, []byte(c.text), nil)
		if err == nil || err.Error() != c.want || string(got) != "before" {
			t.Errorf("%s %q: %s, %v; want %s", c.typ.Name, c.text, got, err, c.want)
		}
	}
}

func TestArrays(t *testing.T) {
	t.Parallel()
	type result struct {
		Elements      []string
		Length, Lower []int
	}
	for text, want := range map[string]result{
		`{}`:                                  {nil, nil, nil},
		`{a,NULL,"NULL","x\"\\y"}`:            {[]string{"a", "<null>", "NULL", `x"\y`}, []int{4}, []int{1}},
		`{{1,2,3},{4,5,6}}`:                   {[]string{"1", "2", "3", "4", "5", "6"}, []int{2, 3}, []int{1, 1}},
		`[0:1]={a,b}`:                         {[]string{"a", "b"}, []int{2}, []int{0}},
		`[-1:0][5:5]={{""},{null}}`:           {[]string{"", "<null>"}, []int{2, 1}, []int{-1, 5}},
		" { a b , \\N\\  ,\"c \"\t,\\null } ": {[]string{"a b", "N ", "c ", "null"}, []int{4}, []int{1}},
	} {
		elements, reader, err := readArray(text)
		if err != nil {
			t.Errorf("%s: %v", text, err)
			continue
		}
		got := result{Elements: elements}
		got.Length, got.Lower = reader.Shape()
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("%s: %s", text, diff)
		}
	}
	for _, text := range []string{
		"", "a", "{", "{a", "{a,", "{a,}", "{,a}", "{a}b", "{a}}", "{{a},b}", "{a,{b}}", "{{a},{b,c}}", "{{}}", "{{a},{}}", `{"a}`, `{"a"b}`, `{a"b"}`, `{a\`, "{a{b}",
		"[0:1]={a}", "[0:1]{a,b}", "[1:0]={}", "[+0:1]={a,b}", "[0:]={a}", "[0:1][0:0]={a,b}", "{{{{{{{a}}}}}}}", "{a} {b}",
	} {
		if elements, _, err := readArray(text); err == nil {
			t.Errorf("%s: read as %q, want an error", text, elements)
		}
	}
}

func readArray(text string) (elements []string, r pgtext.ArrayReader, err error) {
	r = pgtext.ReadArray([]byte(text), ',')
	for {
		item, elem, err := r.Next()
		switch item {
		case pgtext.ArrayEnd:
			return elements, r, err
		case pgtext.ArrayNull:
			elements = append(elements, "<null>")
		case pgtext.ArrayElement:
			elements = append(elements, string(elem))
		}
	}
}
