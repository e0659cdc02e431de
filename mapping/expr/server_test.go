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
		"(case when new.id >= 0 then '{\"{\\\"b\\\": 1e2, \\\"a\\\": 1}\"}' end)::jsonb[]",
		`(case when new.id >= 0 then '{"a": 1, "a": {"b": 1e2, "aa": "\u00e9"}}' end)::jsonb`, `new.jb @> (case when new.id >= 0 then '{"a": 1}' end)::jsonb`,
		"translate(new.t, 'aaç', 'xyz')", "translate(new.t, 'açb', '1')", "translate(new.t, '', 'x')", "replace(new.t, 'a', 'ção')", "replace('aaa', 'aa', 'b')", "ltrim(new.t, 'çaA')", "btrim(new.t, 'ãAç ')",
		"new.rz", "new.mz", "new.rz::text", "new.mz || 'x'", "concat(new.rz, new.mz)", "array[new.rz, old.rz]", "coalesce(new.rz, old.rz)", "new.rz is distinct from null", "array_to_string(array[new.mz, old.mz], ';')",
		"'{1,2}' = new.ai", "num_nulls('{1}', null)", "concat('{1}', null)",
		"new.n * new.n > new.n", "(new.n / 3)::numeric(1000,3)", "'1e-16383'::numeric < 1", "'1e131071'::numeric > '1e-16383'::numeric", "'-1e131071'::numeric < new.n", "1::numeric / '1e5000'::numeric", "'1e5000'::numeric / 7 > 1",
		// Numerics of many digits.
		"repeat('7', 60)::numeric + new.n", "repeat('9', 60)::numeric - new.n", "repeat('9', 60)::numeric * new.i4", "repeat('9', 60)::numeric / nullif(new.i8, 0)", "repeat('12', 40)::numeric % nullif(new.i2, 0)",
		"('-' || repeat('9', 60) || '.95')::numeric % 0.07", "div(('-' || repeat('9', 60) || '.95')::numeric, 7)", "round((repeat('9', 60) || '.95')::numeric, 1)", "trunc((repeat('9', 60) || '.95')::numeric, -3)",
		"ceil(('-' || repeat('9', 60) || '.95')::numeric)", "floor(('-' || repeat('9', 60) || '.95')::numeric)", "new.n / repeat('3', 60)::numeric", "repeat('3', 60)::numeric > new.n", "abs(('-' || repeat('3', 60))::numeric)::numeric(1000,2)",
		"('0.' || repeat('0', 50) || repeat('5', 50))::numeric - 1", "1 / ('0.' || repeat('0', 50) || repeat('5', 50))::numeric",
	} {
		batch = append(batch, generated{sql: sql})
	}
	d.run(t, batch)
}
