package main_test

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/jackc/pgx/v5"

	"gancho/internal/testservers"
)

// typed is a column of one type with its nasty values, as SQL. want is the SQL
// of what must arrive, with %s for the column; empty: to_jsonb(%s), which is
// what PostgreSQL itself would send. Where it is not empty it is one of the
// differences that internal/pgtext documents.
type typed struct {
	name, declared, want string
	values               []string
}

const saoPaulo = "America/Sao_Paulo"

var typedColumns = []typed{
	{"c_int2", "int2", "", []string{"-32768", "32767", "0"}},
	{"c_int4", "int4", "", []string{"-2147483648", "2147483647"}},
	{"c_int8", "int8", "", []string{"-9223372036854775808", "9223372036854775807", "9007199254740993"}},
	{"c_numeric", "numeric", "", []string{"12345678901234567890123456789012345678", "'NaN'", "'Infinity'", "'-Infinity'", "0.10", "-0.000000000000000000000000000001", "1e20", "100.00"}},
	{"c_numeric12_2", "numeric(12,2)", "", []string{"199.90", "-0.01", "9999999999.99"}},
	{"c_float4", "float4", "to_json(%s)", []string{"0.1", "1e38", "'NaN'", "'Infinity'", "-0.0", "16777217"}},
	{"c_float8", "float8", "to_json(%s)", []string{"0.1", "1e308", "5e-324", "'-Infinity'", "0.30000000000000004", "123456789.123456789"}},
	{"c_bool", "bool", "", []string{"true", "false"}},
	{"c_text", "text", "", []string{`''`, `E'aspas \" barra \\ quebra \n tab \t'`, `E'\x01\x02\x1f\x7f'`, `'São João ção €  😀'`, `E'\u2028\u2029'`, `'null'`, `' espaços '`}},
	{"c_char", "char(10)", "to_jsonb(rtrim(%s))", []string{"'abc'", "''", "'dez letras'"}},
	{"c_varchar", "varchar(20)", "", []string{"'abc  '", "''"}},
	{"c_bytea", "bytea", `to_jsonb(translate(encode(%s, 'base64'), E'\n', ''))`, []string{`'\x00ff10'`, `''`, "decode(repeat('ab', 200), 'hex')"}},
	{"c_date", "date", "", []string{"'2026-11-21'", "'infinity'", "'-infinity'", "'0044-03-15 BC'", "'9999-12-31'"}},
	{"c_time", "time", "", []string{"'23:59:59.999999'", "'00:00'", "'24:00'"}},
	{"c_timetz", "timetz", "", []string{"'12:00:00-03'"}},
	{"c_timestamp", "timestamp", "to_jsonb(%s at time zone '" + saoPaulo + "')", []string{"'2026-11-21 14:30:00.123456'", "'infinity'", "'-infinity'", "'2018-12-25 12:00'", "'2000-01-01'"}},
	// Local mean time was 28 seconds off a whole minute, which RFC 3339 cannot say: it leaves as written.
	{"c_timestamp_bc", "timestamp", "to_jsonb(%s)", []string{"'0044-03-15 12:00 BC'"}},
	{"c_timestamptz", "timestamptz", "", []string{"'2026-11-21 14:30:00.5-03'", "'infinity'", "'2018-12-25 12:00+00'"}},
	{"c_interval", "interval", "", []string{"'1 year 2 mons -3 days 04:05:06.789'", "'0'", "'-1 mon'"}},
	{"c_uuid", "uuid", "", []string{"'a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11'"}},
	{"c_json", "json", "", []string{`'{"b" : 1, "a": [1, 2.50,  null], "s":"x y"}'`, `'null'`, "E'{\\n\"a\": 1}'"}},
	{"c_jsonb", "jsonb", "", []string{`'{"b": 1, "a": [1, 2.50, null]}'`, `'"texto"'`, `'12345678901234567890.10'`}},
	{"c_int_array", "int[]", "", []string{"'{}'", "'{1,null,3}'", "'{{1,2},{3,4}}'", "'[0:1]={5,6}'"}},
	{"c_text_array", "text[]", "", []string{`array['a,b', 'com "aspas"', 'bar\ra', '', 'NULL', null, '{}']`, "'{}'"}},
	{"c_numeric_array", "numeric[]", "", []string{"array[0.10, 'NaN', 12345678901234567890.5]"}},
	{"c_bool_array", "bool[]", "", []string{"'{t,f,null}'"}},
	{"c_enum", "tp_sentido", "", []string{"'ENTRADA'", "'SAIDA'"}},
	{"c_enum_array", "tp_sentido[]", "", []string{"'{ENTRADA,SAIDA}'"}},
	{"c_domain_char", "dm_sn", "", []string{"'S'", "'N'"}},
	{"c_domain_numeric", "dm_valor", "", []string{"10.50"}},
	{"c_domain_domain", "dm_preco", "", []string{"0.99"}},
	{"c_domain_int", "dm_int", "", []string{"42"}},
	{"c_domain_array", "dm_lista", "", []string{"'{a,b}'", "'{}'", "'{{1,2},{3,null}}'"}},
	{"c_domain_composite", "dm_endereco", "", []string{`row('Rua', 10, array['a'])`}},
	{"c_row", "linhas", "", []string{"row(1, '{10.50,2}', 'x')"}},
	{"c_rows", "linhas[]", "", []string{"array[row(1, '{10.50,2}', 'x')::linhas, null]"}},
	{"c_range", "int4range", "", []string{"'[1,5)'", "'empty'", "'(,3]'"}},
	{"c_daterange", "daterange", "", []string{"'[2026-01-01,2026-02-01)'"}},
	{"c_multirange", "int4multirange", "", []string{"'{[1,2),[5,9)}'"}},
	{"c_inet", "inet", "", []string{"'10.0.0.1/8'", "'::1'"}},
	{"c_cidr", "cidr", "", []string{"'10.0.0.0/8'"}},
	{"c_macaddr", "macaddr", "", []string{"'08:00:2b:01:02:03'"}},
	{"c_money", "money", "", []string{"'1234.56'", "'-0.01'"}},
	{"c_bit", "bit(4)", "", []string{"B'1010'"}},
	{"c_varbit", "varbit", "", []string{"B'10101'"}},
	{"c_xml", "xml", "", []string{"'<a b=\"1\">texto &amp; mais</a>'"}},
	{"c_composite", "tp_endereco", "", []string{`row('Rua "A", 1', 10, null)`, `row(null, null, array['x','y z'])`}},
	{"c_point", "point", "", []string{"'(1.5,-2)'"}},
	{"c_tsvector", "tsvector", "", []string{"'a:1 b:2'"}},
	{"c_oid", "oid", "", []string{"4294967295"}},
}

const typeDefinitions = `
	create domain dm_sn as char(1) check (value in ('S','N'));
	create domain dm_valor as numeric(12,2);
	create domain dm_preco as dm_valor check (value >= 0);
	create domain dm_int as int;
	create type tp_sentido as enum ('ENTRADA','SAIDA');
	create type tp_endereco as (rua text, numero int, tags text[]);
	create domain dm_lista as text[] check (array_length(value, 1) < 9);
	create domain dm_endereco as tp_endereco;
	create table linhas (id int, sobra int, valores numeric(12,2)[], nome text);
	alter table linhas drop column sobra;`

// TestTypes sends every type's values through the whole bridge and compares
// each with what the server's own to_jsonb gives, digit by digit.
func TestTypes(t *testing.T) {
	t.Parallel()
	columns := typedColumns
	var declared, names []string
	rows := 0
	for _, c := range columns {
		declared = append(declared, c.name+" "+c.declared)
		names = append(names, c.name)
		rows = max(rows, len(c.values))
	}
	definitions := typeDefinitions
	if hstore(t) {
		definitions += "create extension hstore;"
		columns = append(columns, typed{"c_hstore", "hstore", "", []string{`'a=>1, "b c"=>NULL, d=>"x \"y\""'`}})
		declared, names = append(declared, "c_hstore hstore"), append(names, "c_hstore")
	}
	w := newWorld(t, testservers.RedisOptions{}, definitions,
		"create table tipos (linha int primary key, "+strings.Join(declared, ", ")+")",
		// What leaks into values unless the session sets its own.
		"do $$ begin execute format('alter database %I set datestyle = ''SQL, DMY''', current_database()); execute format('alter database %I set intervalstyle = ''iso_8601''', current_database()); execute format('alter database %I set bytea_output = ''escape''', current_database()); execute format('alter database %I set extra_float_digits = -10', current_database()); execute format('alter database %I set timezone = ''Asia/Tokyo''', current_database()); end $$")
	r := newReceiver(t, nil)
	w.rules = "rules:\n  - event: tipo\n    table: tipos\n    on: insert\n    columns: [linha, " + strings.Join(names, ", ") + "]\n"
	w.endpoint("a", r.url())
	b := w.run()
	for row := range rows + 1 { // the last one is all null
		values := []string{fmt.Sprint(row)}
		for _, c := range columns {
			v := "null"
			if row < len(c.values) {
				v = c.values[row]
			}
			values = append(values, v)
		}
		w.exec("set datestyle = 'ISO, YMD'; insert into tipos values (" + strings.Join(values, ", ") + ")")
	}
	arrived := map[string]arrival{}
	for _, a := range r.waitCount(rows + 1) {
		arrived[a.field("linha")] = a
	}
	compareTypes(t, w, columns, arrived)
	b.stop()
}

func hstore(t *testing.T) bool {
	t.Helper()
	conn, err := pgx.Connect(context.Background(), pg.DSN("postgres"))
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = conn.Close(context.Background()) }()
	var there bool
	if err := conn.QueryRow(context.Background(), "select exists (select from pg_available_extensions where name = 'hstore')").Scan(&there); err != nil {
		t.Fatal(err)
	}
	return there
}

func compareTypes(t *testing.T, w *world, columns []typed, arrived map[string]arrival) {
	t.Helper()
	conn := w.connect()
	ctx := context.Background()
	if _, err := conn.Exec(ctx, "set timezone = '"+saoPaulo+"'; set datestyle = ISO; set intervalstyle = postgres; set extra_float_digits = 1"); err != nil {
		t.Fatal(err)
	}
	for _, c := range columns {
		want := c.want
		if want == "" {
			want = "to_jsonb(%s)"
		}
		rows, err := conn.Query(ctx, fmt.Sprintf("select linha::text, coalesce(("+want+")::text, 'null') from tipos", c.name))
		if err != nil {
			t.Fatalf("%s: %v", c.name, err)
		}
		expected, err := pgx.CollectRows(rows, pgx.RowToStructByPos[struct{ Row, JSON string }])
		if err != nil {
			t.Fatalf("%s: %v", c.name, err)
		}
		for _, e := range expected {
			got := arrived[e.Row].data[c.name]
			if diff := cmp.Diff(decode(t, e.JSON), decode(t, string(got))); diff != "" {
				t.Errorf("%s, row %s: arrived %s, PostgreSQL has %s", c.name, e.Row, got, e.JSON)
			}
		}
	}
}

// decode keeps numbers as their digits.
func decode(t *testing.T, text string) (v any) {
	t.Helper()
	d := json.NewDecoder(bytes.NewReader([]byte(text)))
	d.UseNumber()
	if err := d.Decode(&v); err != nil {
		t.Fatalf("decode %s: %v", text, err)
	}
	return v
}

// TestLatin1 reads a database of another encoding.
func TestLatin1(t *testing.T) {
	t.Parallel()
	w := newWorldOn(t, pg, "template template0 encoding 'LATIN1' locale 'C'", testservers.RedisOptions{},
		`create table "Situações" (id int primary key, "Descrição" text, sigla char(4))`)
	r := newReceiver(t, nil)
	w.rules = `rules:
  - event: situação
    table: '"Situações"'
    on: insert
    when: '"Descrição" like ''%ção%'''
    data: {id: id, texto: '"Descrição"', sigla: sigla}
`
	w.endpoint("a", r.url())
	b := w.run()
	w.exec(`insert into "Situações" values (1, 'sem', 'ã'), (2, 'inadimplência não, situação ©', 'ÇÃO')`)
	a := r.waitCount(1)[0]
	if got, want := string(a.data["texto"])+string(a.data["sigla"]), `"inadimplência não, situação ©""ÇÃO"`; got != want {
		t.Errorf("arrived %s, want %s", got, want)
	}
	b.stop()
}

// TestAlteredTypes alters a composite type, one of a domain and the row type of a
// table while the bridge runs: what does not fit is read again with the change, what fits under
// another name at a reload and by the watch.
func TestAlteredTypes(t *testing.T) {
	testservers.Whole(t)
	t.Parallel()
	w := newWorld(t, testservers.RedisOptions{}, `create type ponto as (x int, y int); create domain dm_ponto as ponto;
		create table itens (id int, nome text); create table t (id int primary key, p ponto, d dm_ponto[], i itens)`)
	r := newReceiver(t, nil)
	w.rules = "rules:\n  - event: t\n    table: t\n    on: insert\n    columns: [id, p, d, i]\n"
	w.endpoint("a", r.url())
	b := w.run()
	n := 0
	insert := func(values, want string) {
		t.Helper()
		n++
		w.exec(fmt.Sprintf("insert into t values (%d, %s)", n, values))
		got := r.waitCount(n)[n-1]
		if text := fmt.Sprintf("%s %s %s", got.data["p"], got.data["d"], got.data["i"]); text != want {
			t.Errorf("row %d: arrived %s, want %s", n, text, want)
		}
	}
	insert("(1,2), array['(3,4)'::ponto], (5,'a')", `{"x":1,"y":2} [{"x":3,"y":4}] {"id":5,"nome":"a"}`)
	w.exec("alter type ponto rename attribute y to h")
	b.waitLog("types of the source were altered")
	insert("(1,2), array['(3,4)'::ponto], (5,'a')", `{"x":1,"h":2} [{"x":3,"h":4}] {"id":5,"nome":"a"}`)
	w.exec("alter type ponto add attribute z text; alter table itens add v numeric")
	insert("(1,2,'a'), array['(3,4,b)'::ponto], (5,'a',1.50)", `{"x":1,"h":2,"z":"a"} [{"x":3,"h":4,"z":"b"}] {"id":5,"nome":"a","v":1.50}`)
	w.exec("alter type ponto drop attribute z; alter table itens drop nome")
	insert("(1,2), array['(3,4)'::ponto], (5,1.50)", `{"x":1,"h":2} [{"x":3,"h":4}] {"id":5,"v":1.50}`)
	w.exec("alter type ponto add attribute w int")
	insert("(1,2,3), null, (5,1.50)", `{"x":1,"h":2,"w":3} null {"id":5,"v":1.50}`)
	w.exec("alter type ponto rename attribute w to k; alter table itens rename v to valor")
	b.signal(syscall.SIGHUP)
	b.waitLog("configuration reloaded")
	insert("(1,2,3), null, (5,1.50)", `{"x":1,"h":2,"k":3} null {"id":5,"valor":1.50}`)
	b.stop()
}

// TestAlteredTypeOfLookup alters the type of a lookup's column, which only the
// rules know, and lets the stream, which starts again, read the types first.
func TestAlteredTypeOfLookup(t *testing.T) {
	t.Parallel()
	w := newWorld(t, testservers.RedisOptions{}, `create type endereco as (rua text); create table clientes (id int primary key, e endereco);
		insert into clientes values (1, row('Rua A')); create table t (id int primary key)`)
	r := newReceiver(t, nil)
	w.rules = "rules:\n  - event: t\n    table: t\n    on: insert\n    data: {e: c.e}\n    lookup:\n      c: select e from clientes where id = 1 and new.id > 0\n"
	w.endpoint("a", r.url())
	b := w.run()
	arrives := func(n int) string {
		t.Helper()
		w.exec("insert into t values ($1)", n)
		return string(r.waitCount(n)[n-1].data["e"])
	}
	if got := arrives(1); got != `{"rua":"Rua A"}` {
		t.Errorf("arrived %s", got)
	}
	b.waitLog("tables of the rules are watched")
	w.exec("alter type endereco rename attribute rua to logradouro")
	w.exec("select pg_terminate_backend(active_pid) from pg_replication_slots where slot_name = $1", w.slot())
	b.waitLog("types of the source were altered")
	const want = `{"logradouro":"Rua A"}`
	got := arrives(2)
	for n, end := 3, time.Now().Add(time.Minute); got != want && time.Now().Before(end); n++ { // until the rules are bound
		got = arrives(n)
	}
	if got != want {
		t.Errorf("arrived %s, want %s", got, want)
	}
	b.stop()
}
