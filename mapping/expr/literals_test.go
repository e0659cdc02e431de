package expr_test

import (
	"math/rand/v2"
	"strings"
	"testing"

	"gancho/internal/testservers"
	"gancho/mapping/expr"
)

// TestUntypedLiterals calls every function and operator of the catalogue with
// strings without a type, nulls and values, and expects PostgreSQL's result,
// PostgreSQL's error, or a refusal.
func TestUntypedLiterals(t *testing.T) {
	t.Parallel()
	r := rand.New(rand.NewPCG(seed(t), 3))
	d := newDifferential(t, openSource(t, "C.UTF-8", r, 1))
	d.lenient = true // 18 casts jsonb's null
	arguments := []string{"'{1,2}'", "'a'", "'1'", "null", "2", "array[1,2]", "'a'::text", "new.ae", "1.5", "'2024-02-29'"}
	seen := map[string]bool{}
	var batch []generated
	add := func(sql string) {
		if !seen[sql] {
			seen[sql] = true
			batch = append(batch, generated{sql: sql})
		}
	}
	for line := range strings.Lines(expr.Catalog) {
		switch f := strings.Fields(line); {
		case f[0] == "o" && f[2] == "-":
			for _, a := range arguments {
				add(f[1] + " " + a)
			}
		case f[0] == "o":
			for _, a := range arguments {
				for _, b := range arguments {
					add("(" + a + ") " + f[1] + " (" + b + ")")
				}
			}
		case f[0] == "f" && f[2] != "-":
			calls(r, f[1], strings.Count(f[2], ",")+1, arguments, add)
			if f[5] == "1" { // variadic
				calls(r, f[1], strings.Count(f[2], ",")+2, arguments, add)
			}
		}
	}
	for _, form := range []string{
		"$ in ($, $)", "$ not in ($)", "$ between $ and $", "$ between symmetric $ and $", "coalesce($, $)", "nullif($, $)", "greatest($, $)", "least($, $)", "case when $ then $ end", "case $ when $ then $ else $ end",
		"$ = any($)", "$ <> all($)", "$ is distinct from $", "$ is not distinct from $", "($)[1]", "($)[$]", "array[$, $]", "array[$]::int[]", "$ like $ escape $", "$ at time zone $", "$ is true", "$ is null", "not $", "$ and $",
		"($, $) = ($, $)", "row($, $) <> ($, $)", "($, $) < ($, $)", "row($, $) >= row($, $)", "row($) = row($)", "($, $) is distinct from ($, $)", "row($, $) is not distinct from row(null, $)", "($, $) is null", "row($, $) is not null", "row($) is null",
		"($, $) in (($, $), row($, $))", "($, $) = ($)", "($, $) = row($)", "($, $) || ($, $)", "row($, $) is true", "row() = row()", "($, $, $) <> (1, $, null)",
		"$::int", "$::int[]", "$::text", "$::numeric(5,2)", "$::date", "$::jsonb", "$::tp_sentido", "$::tp_sentido[]", "$::varchar(2)", "$::bool", "$::timestamptz", "$::interval", "$::uuid", "$::inet", "$::oid", "$::regclass", "$::money", "$::float4",
	} {
		for range 40 {
			parts := strings.Split(form, "$")
			sql := parts[0]
			for _, part := range parts[1:] {
				sql += "(" + append(arguments, "new.jb", "new.d", "new.b", "new.m", "new.ip", "new.r", "new.cp", "new.j", "new.u", "new.tz", "new.iv", "new.e", "new.at")[r.IntN(len(arguments)+13)] + ")" + part
			}
			add(sql)
		}
	}
	batch = testservers.Sample(batch)
	for len(batch) > 0 && d.failures < 30 {
		n := min(len(batch), 200)
		d.run(t, batch[:n])
		batch = batch[n:]
	}
	t.Logf("%d expressions, %d refused", d.expressions, d.refused)
}

// calls adds calls of a function: all of up to two arguments, and some of more.
func calls(r *rand.Rand, name string, n int, arguments []string, add func(sql string)) {
	list := make([]string, n)
	switch n {
	case 1:
		for _, list[0] = range arguments {
			add(name + "(" + list[0] + ")")
		}
		return
	case 2:
		for _, list[0] = range arguments {
			for _, list[1] = range arguments {
				add(name + "(" + list[0] + ", " + list[1] + ")")
			}
		}
		return
	}
	for i := range 60 {
		for j := range list {
			list[j] = arguments[r.IntN(len(arguments))]
			if i < len(arguments) {
				list[j] = arguments[i]
			}
		}
		add(name + "(" + strings.Join(list, ", ") + ")")
	}
}
