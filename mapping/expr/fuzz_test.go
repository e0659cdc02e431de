package expr_test

import (
	"errors"
	"testing"

	"gancho/cdc"
	"gancho/mapping/expr"
)

// corpus are the seeds of the fuzz targets.
var corpus = []string{
	"old.status <> 'L' and new.status = 'L'", "a in (1,2) = b", "case when a then 1 else 2 end", "a between symmetric 1 and 2", `E'\u00e9\x41'`, "-2147483648", "a::numeric(12,2)",
	"extract(year from a)", "trim(both 'x' from a)", "a like 'x%' escape '!'", "not not a is not distinct from b", "array[1,2][1]", "date '2026-01-01'", `"Nome Útil"`, "a -> 'b' #>> '{c}'",
	"position('a' in b)", "substring(a from 2 for 3)", "id = 1 and situacao = 'AT' or changed(valor)", "became(situacao, 'AT')", "nome ~ '^[a-z]+$'", "to_char(valor, 'FM990.00')", "valor / id % 3",
	"coalesce(nome, 'x') || id", "(extras ->> 'a')::int > 5", "sentido = 'ENTRADA'", "tags @> array['a']", "id = any('{1,2}')", "cadastro + interval '1 day' > now()", "lpad(nome, 10, '0')", "/* a */ 1 -- b",
	"greatest(id, 2.5)", "$$x$$", "U&'x'", "((((1))))", "a at time zone 'UTC'", "'{\"a\":[1]}'::jsonb", "1e400::float8", "repeat('x', 3)", "nascimento - 1", "x'00'", "1..2", "a.b.c.d", "new.*", "count(*)",
}

// FuzzParse checks that nothing panics, and that the normal form parses to itself.
func FuzzParse(f *testing.F) {
	for _, s := range corpus {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, src string) {
		once, err := expr.Reformat(src)
		if err != nil {
			return
		}
		twice, err := expr.Reformat(once)
		if err != nil {
			t.Fatalf("%q: normal form %q does not parse: %v", src, once, err)
		}
		if once != twice {
			t.Fatalf("%q: normal form %q becomes %q", src, once, twice)
		}
	})
}

// FuzzCompile checks that checking and evaluating do not panic, and that places are
// inside the source.
func FuzzCompile(f *testing.F) {
	for _, s := range corpus {
		f.Add(s)
	}
	scope := legacy()
	row := make([]cdc.Datum, len(scope.Relation.Columns))
	for i, text := range []string{"7", "AT", "Ana", "S", "SAIDA", "12.50", "2000-01-31", `{"a": 5}`, `[1]`, "2026-11-21 10:00:00", "x", "t", "POINT", "{a,b}"} {
		row[i] = cdc.Datum{State: cdc.Present, Text: []byte(text)}
	}
	change := &cdc.Change{Op: cdc.Update, Relation: scope.Relation, Tx: &cdc.Transaction{Time: commitTime}, New: row, Old: make([]cdc.Datum, len(row))}
	for i := range change.Old {
		change.Old[i] = cdc.Datum{State: cdc.State(i % 4), Text: row[i].Text}
	}
	f.Fuzz(func(t *testing.T, src string) {
		e, err := expr.Compile(src, scope)
		if err != nil {
			var list expr.Errors
			if !errors.As(err, &list) {
				t.Fatalf("%q: %v is no Errors", src, err)
			}
			for _, e := range list {
				if e.Offset < 0 || e.Offset > len(src) || e.Length < 1 || e.Message == "" {
					t.Fatalf("%q: error at %d+%d: %s", src, e.Offset, e.Length, e.Message)
				}
			}
			return
		}
		form, err := expr.Reformat(src)
		if err != nil {
			t.Fatalf("%q compiles, but does not parse: %v", src, err)
		}
		if _, err := expr.Compile(form, scope); err != nil {
			t.Fatalf("%q: its form %q does not compile: %v", src, form, err)
		}
		m := expr.NewMachine(scope.Settings)
		m.Load(change)
		_, _, _ = m.AppendText(nil, e) // any error will do
		_, _ = m.AppendJSON(nil, e, nil)
	})
}
