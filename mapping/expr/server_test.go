package expr_test

import (
	"math/rand/v2"
	"testing"
)

// TestServerValues compares single expressions with the server: each was evaluated
// to another value once. What is refused here is fine, too.
func TestServerValues(t *testing.T) {
	t.Parallel()
	d := newDifferential(t, openSource(t, "C.UTF-8", rand.New(rand.NewPCG(1, 1)), rowsPerSource))
	d.lenient = true
	var batch []generated
	for _, sql := range []string{
		"new.i2::oid", "new.i2::oid::text", "new.i4::oid", "new.i4::oid::regclass::text", "1259::oid::regclass::text", "new.i2::regtype::text", "new.i8::oid", "new.i4::regclass", "array[new.i2]::oid[]",
		// The clock of São Paulo went back at 2018-02-18 02:00 UTC.
		"age('2018-02-18 02:15+00'::timestamptz, '2018-02-18 01:45+00'::timestamptz)", "age('2018-02-18 01:45+00'::timestamptz, '2018-02-18 02:15+00'::timestamptz)",
		"age('2018-03-18 02:15+00'::timestamptz, '2018-02-18 01:45+00'::timestamptz)", "age('2018-02-18 02:15+00'::timestamptz, new.tz)", "age(new.tz, '2018-02-18 01:45+00'::timestamptz)",
		"extract(quarter from new.iv)", "extract(quarter from interval '-1 year')", "extract(quarter from interval '-13 months')", "date_part('quarter', interval '-3 months')",
		`'"\ud800"'::json`, `'{"a": "\ud800", "b": 1}'::json`, `'{"a": "\ud800", "b": 1}'::json -> 'b'`, `'["\u0000", 1]'::json ->> 1`, `'{"a": "\\u0000", "b": 1}'::json ->> 'b'`, `'1e999999'::json`,
		`json_typeof('"\ud800"'::json)`, `json_array_length('["\ud800"]'::json)`, `(case when new.id >= 0 then '["\ud800", 1]' end)::json -> 1`, `(case when new.id >= 0 then '{"\ud800": 1}' end)::json -> 'x'`,
		"new.ip = (case when new.id >= 0 then '10.0.0.01' end)::inet", "new.ip = (case when new.id >= 0 then 'not an address' end)::inet", "new.ip = (case when new.id >= 0 then '10.0.0.1/32' end)::inet",
		"(case when new.id >= 0 then '{\"{\\\"b\\\": 1e2, \\\"a\\\": 1}\"}' end)::jsonb[]", "(case when new.id >= 0 then '10.0.0.1/32' end)::cidr::inet::text", "'10.0.0.1'::cidr::inet", "concat('10.0.0.1/32'::cidr::inet)",
		`(case when new.id >= 0 then '{"a": 1, "a": {"b": 1e2, "aa": "\u00e9"}}' end)::jsonb`, `new.jb @> (case when new.id >= 0 then '{"a": 1}' end)::jsonb`,
		"translate(new.t, 'aaç', 'xyz')", "translate(new.t, 'açb', '1')", "translate(new.t, '', 'x')", "replace(new.t, 'a', 'ção')", "replace('aaa', 'aa', 'b')", "ltrim(new.t, 'çaA')", "btrim(new.t, 'ãAç ')",
		"new.rz", "new.mz", "new.rz::text", "new.mz || 'x'", "concat(new.rz, new.mz)", "array[new.rz, old.rz]", "coalesce(new.rz, old.rz)", "new.rz is distinct from null", "array_to_string(array[new.mz, old.mz], ';')",
		"overlay(new.t placing 'abc' from 2 for -1)", "'{1,2}' = new.ai", "num_nulls('{1}', null)", "concat('{1}', null)",
		"new.n * new.n > new.n", "(new.n / 3)::numeric(1000,3)", "'1e-16383'::numeric < 1", "'1e131071'::numeric > '1e-16383'::numeric", "'-1e131071'::numeric < new.n", "1::numeric / '1e5000'::numeric", "'1e5000'::numeric / 7 > 1",
		// Numerics of many digits, and arrays that are long enough for a hash table.
		"repeat('7', 60)::numeric + new.n", "repeat('9', 60)::numeric - new.n", "repeat('9', 60)::numeric * new.i4", "repeat('9', 60)::numeric / nullif(new.i8, 0)", "repeat('12', 40)::numeric % nullif(new.i2, 0)",
		"('-' || repeat('9', 60) || '.95')::numeric % 0.07", "div(('-' || repeat('9', 60) || '.95')::numeric, 7)", "round((repeat('9', 60) || '.95')::numeric, 1)", "trunc((repeat('9', 60) || '.95')::numeric, -3)",
		"ceil(('-' || repeat('9', 60) || '.95')::numeric)", "floor(('-' || repeat('9', 60) || '.95')::numeric)", "new.n / repeat('3', 60)::numeric", "repeat('3', 60)::numeric > new.n", "abs(('-' || repeat('3', 60))::numeric)::numeric(1000,2)",
		"('0.' || repeat('0', 50) || repeat('5', 50))::numeric - 1", "1 / ('0.' || repeat('0', 50) || repeat('5', 50))::numeric",
		"array[1.0, 2, 3, 4, 5, 6, 7, 8, 9, 10.50, new.n] @> array[10.5, 9, 8.00, 7, 6, 5, 4, 3, 2, 1.000]", "array[1, 2, 3, 4, 5, 6, 7, 8, 9, new.i4] && array[11, 12, 13, 14, 15, 16, 17, 18, 19, old.i4]",
		"array[0, 2, 3, 4, 5, 6, 7, 8, 9, new.f8] @> array['-0'::float8, 2, 3, 4, 5, 6, 7, 8, 9, old.f8]", "array['a', 'b', 'c', 'd', 'e', 'f', 'g', 'h', 'i', new.t] <@ array['i', 'h', 'g', 'f', 'e', 'd', 'c', 'b', 'a', old.t]",
		"array['a ', 'b', 'c', 'd', 'e', 'f', 'g', 'h', 'i', new.c5]::char(5)[] <@ array['i', 'h', 'g', 'f', 'e', 'd', 'c', 'b ', 'a', old.c2]::char(5)[]", "array_fill(1, array[3])", "'{1,2,3,4,5,6,7,8,9,10,null}'::int[] @> '{1,2,3,4,5,6,7,8,9,null}'::int[]",
	} {
		batch = append(batch, generated{sql: sql})
	}
	d.run(t, batch)
}
