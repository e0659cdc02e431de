package expr_test

import (
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
	"runtime/metrics"
	"slices"
	"strings"
	"testing"
	"time"

	"gancho/cdc"
	"gancho/internal/testservers"
	"gancho/mapping/expr"
)

// texts is a scope of text columns a, b and c, for updates.
func texts() *expr.Scope {
	columns := make([]cdc.Column, 3)
	for i := range columns {
		columns[i] = cdc.Column{Name: "abc"[i : i+1], Type: baseType(25, "text"), TypeMod: -1}
	}
	return &expr.Scope{Relation: &cdc.Relation{Name: "t", Columns: columns}, New: true, Insert: true, Settings: expr.Settings{Collation: "C.UTF-8", CType: "C.UTF-8"}}
}

func inserted(s *expr.Scope, values ...string) *cdc.Change {
	c := &cdc.Change{Op: cdc.Insert, Relation: s.Relation, Tx: &cdc.Transaction{Time: commitTime}}
	for _, v := range values {
		c.New = append(c.New, cdc.Datum{State: cdc.Present, Text: []byte(v)})
	}
	return c
}

// allocated is how many bytes the process has allocated so far.
func allocated() uint64 {
	sample := []metrics.Sample{{Name: "/gc/heap/allocs:bytes"}}
	metrics.Read(sample)
	return sample[0].Value.Uint64()
}

// TestPoisonRow: rows of half a megabyte that would take gigabytes of memory, or
// minutes, are errors instead. It does not run in parallel with others, because it
// measures what is allocated.
func TestPoisonRow(t *testing.T) {
	const size, memory, steps, slack = 500_000, 100 << 20, 1 << 26, 4 << 20
	many := func(item string) string { return strings.Repeat(item, size/len(item)) }
	list := func(item string) string { return "[" + strings.TrimSuffix(many(item+","), ",") + "]" }
	braces := func(item string) string { return "{" + strings.TrimSuffix(many(item+","), ",") + "}" }
	nested := func(open, close string) string {
		const depth = 9_000
		return strings.Repeat(open, depth) + "1" + strings.Repeat(close, depth)
	}
	scope := texts()
	scope.Relation.Columns[1].Type = baseType(3802, "jsonb")
	doubled := "a"
	for range 11 {
		doubled = "(" + doubled + "||" + doubled + ")"
	}
	rows := map[string]struct {
		src     string
		a, b, c string
		fails   bool
	}{
		"replace":            {"replace(a, 'x', a)", many("x"), "1", "", true},
		"chained ||":         {doubled, many("x"), "1", "", true},
		"concat_ws":          {"concat_ws(a" + strings.Repeat(", a", 600) + ")", many("x"), "1", "", true},
		"array_to_string":    {"array_to_string(a::text[], c)", braces("x"), "1", many("y")[:100_000], true},
		"array":              {"cardinality(a::int[])", braces("1"), "1", "", false},
		"repeat":             {"repeat(a, 1000)", many("x"), "1", "", true},
		"lpad":               {"lpad(a, 200000000, c)", "x", "1", "é", true},
		"jsonb numbers":      {"a::jsonb ? 'x'", list("1e131071"), "1", "", true},
		"jsonb small number": {"a::jsonb ? 'x'", list("1e-16383"), "1", "", true},
		"numeric":            {"a::numeric > 1", many("9"), "1", "", true},
		"nested objects":     {`a::jsonb @> '{"a":{"a":1}}'`, nested(`{"b":1,"a":`, "}"), "1", "", false},
		"nested arrays":      {"a::jsonb @> b", nested("[", "]"), nested("[", "]"), "", false},
		"other nested":       {"a::jsonb @> b", nested("[", "]"), strings.Replace(nested("[", "]"), "1", "2", 1), "", false},
		"jsonb arrays":       {"b @> c::jsonb", "", list("1"), list("2"), false},
		"jsonb objects":      {"b @> c::jsonb", "", object(20_000), object(20_000), false},
		"jsonb quadratic":    {"b @> c::jsonb", "", numbers(60_000), numbers(60_000), true},
		"like":               {"a like c", many("x"), "1", "%" + many("x")[:size/2] + "y%", true},
		"translate":          {"translate(a, c, 'z')", many("x"), "1", many("y") + "x", true},
		"trim":               {"ltrim(a, c)", many("é"), "1", strings.Repeat("y", size) + "é", true},
		"case":               {"upper(lower(a))", many("é"), "1", "", false},
		"like_escape":        {"a like c escape '!'", many("x"), "1", many("!x"), false},
		"JSON of text":       {"repeat(a, 150)", many("\x01"), "1", "", true},
	}
	for _, name := range testservers.Sample(slices.Sorted(maps.Keys(rows))) {
		of := rows[name]
		e, err := expr.Compile(of.src, scope)
		if err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		m := expr.WithBudget(expr.NewMachine(scope.Settings), memory, steps)
		m.Load(inserted(scope, of.a, of.b, of.c))
		before := allocated()
		_, err = m.AppendJSON(nil, e, nil)
		used := allocated() - before
		var failed *expr.EvalError
		if errors.As(err, &failed) != of.fails || of.fails && failed.Code != "54000" && name != "numeric" {
			t.Errorf("%s: error %v, want one %v", name, err, of.fails)
		}
		if used > memory+slack {
			t.Errorf("%s: %d bytes were allocated, more than the budget of %d", name, used, memory)
		}
	}
}

// TestLargeArray: what asks little of a large array does not read the rest, which would
// take memory in proportion to its length.
func TestLargeArray(t *testing.T) {
	t.Parallel()
	const length, memory, steps = 50_000, 4 << 10, 64
	var numbers, times, table strings.Builder
	for i := range length {
		fmt.Fprintf(&numbers, ",%d", i-100)
		fmt.Fprintf(&times, `,"2024-01-31 10:00:00.%06d"`, i)
		fmt.Fprintf(&table, ",{%d,NULL}", i)
	}
	scope := texts()
	of := func(oid uint32, elem *cdc.Type) *cdc.Type {
		return &cdc.Type{OID: oid, Schema: "pg_catalog", Name: "_" + elem.Name, Kind: cdc.KindArray, Elem: elem, TypeMod: -1, Delim: ','}
	}
	integers := of(1007, baseType(23, "int4"))
	scope.Relation.Columns = append(scope.Relation.Columns, cdc.Column{Name: "d", TypeMod: -1})
	for i, typ := range []*cdc.Type{integers, of(1115, baseType(1114, "timestamp")), integers, of(1015, baseType(1043, "varchar"))} {
		scope.Relation.Columns[i].Type = typ
	}
	change := inserted(scope, "{"+numbers.String()[1:]+"}", "{"+times.String()[1:]+"}", "[0:49999][3:4]={"+table.String()[1:]+"}", "{"+numbers.String()[1:]+"}")
	for _, src := range []string{
		"cardinality(a) = 50000", "cardinality(b) = 50000", "cardinality(c) = 100000", "array_length(b, 1) = 50000", "array_length(c, 2) = 2",
		"a[1] = -100", "a[50000] = 49899", "a[50001] is null", "b[1] < b[2]", "b[50000] = '2024-01-31 10:00:00.049999'", "c[1] is null", "-99 = any(a)", "0 > any(a)", "not -100 <> all(a)", "b[1] = any(b)", "0 = any(c)",
		"a <> c", "a = c is false", "cardinality(coalesce(a, c)) = 50000", "(case when a[1] < 0 then a end)[2] = -99", "'-99' = any(d)", "d::text[] <> array['']", "lower(d[3]) = '-98'",
	} {
		e, err := expr.Compile(src, scope)
		if err != nil {
			t.Errorf("%s: %v", src, err)
			continue
		}
		m := expr.WithBudget(expr.NewMachine(scope.Settings), memory, steps)
		m.Load(change)
		if is, _, err := m.Bool(e); err != nil || !is {
			t.Errorf("%s: %v, %v", src, is, err)
		}
	}
}

// object is a jsonb object of n fields, in jsonb's order.
func object(n int) string {
	var b strings.Builder
	for i := range n {
		fmt.Fprintf(&b, `, "k%06d": %d`, i, i)
	}
	return "{" + b.String()[2:] + "}"
}

// numbers is a jsonb array of the first n numbers.
func numbers(n int) string {
	var b strings.Builder
	for i := range n {
		fmt.Fprintf(&b, ", %d", i)
	}
	return "[" + b.String()[2:] + "]"
}

// FuzzBudget evaluates random accepted expressions over random rows with large
// values, under a small budget: nothing panics, allocates more than the budget or
// takes long.
func FuzzBudget(f *testing.F) {
	const memory, steps, slack = 1 << 20, 1 << 22, 2 << 20
	for seed := range uint64(20) {
		f.Add(seed)
	}
	loc, err := time.LoadLocation(zone)
	if err != nil {
		f.Fatal(err)
	}
	scope := &expr.Scope{Relation: generatorRelation(), Old: true, New: true, Update: true, Settings: expr.Settings{Location: loc, Collation: "C.UTF-8", CType: "C.UTF-8"}}
	f.Fuzz(func(t *testing.T, seed uint64) {
		r := rand.New(rand.NewPCG(seed, seed))
		change := &cdc.Change{Op: cdc.Update, Relation: scope.Relation, Tx: &cdc.Transaction{Time: commitTime}, Old: largeRow(r, scope.Relation), New: largeRow(r, scope.Relation)}
		g := &generator{r: r, made: map[string]int{}}
		machine := expr.WithBudget(expr.NewMachine(scope.Settings), memory, steps)
		for range 50 {
			src := g.expression().sql
			e, err := expr.Compile(src, scope)
			if err != nil {
				continue
			}
			machine.Load(change)
			before, began := allocated(), time.Now()
			_, _, err = machine.AppendText(nil, e)
			allowed := uint64(memory + slack)
			if strings.Contains(src, "regexp_replace(") { // the race detector's sync.Pool drops what regexp would use again
				allowed += 16 << 20
			}
			if used := allocated() - before; used > allowed {
				t.Errorf("%s: %d bytes were allocated, more than the budget of %d (error: %v)", src, used, memory, err)
			}
			if took := time.Since(began); took > 10*time.Second {
				t.Errorf("%s: took %v", src, took)
			}
		}
	})
}

// generatorRelation describes the table that generated expressions are about, without
// a server.
func generatorRelation() *cdc.Relation {
	rel := &cdc.Relation{Schema: "public", Name: "o", ReplicaIdentity: 'f'}
	add := func(name string, t *cdc.Type) {
		rel.Columns = append(rel.Columns, cdc.Column{Name: name, Key: true, Type: t, TypeMod: -1})
	}
	list := func(name string, oid uint32, elem *cdc.Type) {
		add(name, &cdc.Type{OID: oid, Schema: "pg_catalog", Name: "_" + elem.Name, Kind: cdc.KindArray, Elem: elem, TypeMod: -1, Delim: ','})
	}
	text, numeric, int4 := baseType(25, "text"), baseType(1700, "numeric"), baseType(23, "int4")
	enum := &cdc.Type{OID: 70002, Schema: "public", Name: "tp_sentido", Kind: cdc.KindEnum, Labels: []string{"ENTRADA", "SAIDA", "Ánulo"}, TypeMod: -1}
	for _, c := range []struct {
		names string
		typ   *cdc.Type
	}{
		{"id i4", int4},
		{"i2", baseType(21, "int2")},
		{"i8", baseType(20, "int8")},
		{"n n122 dn", numeric},
		{"f4", baseType(700, "float4")},
		{"f8", baseType(701, "float8")},
		{"m", baseType(790, "money")},
		{"t v doc", text},
		{"c2 c5 sn", baseType(1042, "bpchar")},
		{"b", baseType(16, "bool")},
		{"d", baseType(1082, "date")},
		{"ts", baseType(1114, "timestamp")},
		{"tz", baseType(1184, "timestamptz")},
		{"tm", baseType(1083, "time")},
		{"iv", baseType(1186, "interval")},
		{"u", baseType(2950, "uuid")},
		{"j", baseType(114, "json")},
		{"jb", baseType(3802, "jsonb")},
		{"ba", baseType(17, "bytea")},
		{"ip", baseType(869, "inet")},
		{"e", enum},
		{"r", &cdc.Type{OID: 3904, Schema: "pg_catalog", Name: "int4range", Kind: cdc.KindRange, Elem: int4, TypeMod: -1}},
		{"cp", &cdc.Type{OID: 70003, Schema: "public", Name: "tp_par", Kind: cdc.KindComposite, TypeMod: -1}},
	} {
		for _, name := range strings.Fields(c.names) {
			add(name, c.typ)
		}
	}
	list("ai", 1007, int4)
	list("at", 1009, text)
	list("an", 1231, numeric)
	list("ae", 70004, enum)
	add("Nome Útil", text)
	return rel
}

// largeRow is a row of values that are as long as the type lets them be, or as the budget.
func largeRow(r *rand.Rand, rel *cdc.Relation) []cdc.Datum {
	size := 1 << r.IntN(18)
	list := func(items ...string) string {
		var b strings.Builder
		for b.Len() < size {
			b.WriteString("," + items[r.IntN(len(items))])
		}
		return b.String()[1:]
	}
	row := make([]cdc.Datum, len(rel.Columns))
	for i, c := range rel.Columns {
		pool := pools[c.Name]
		var text string
		switch c.Name {
		case "t", "v", "Nome Útil":
			text = strings.ReplaceAll(list("a", "AT", "ção", "%", `\\`, "😀", "1"), ",", [...]string{"", ","}[r.IntN(2)])
		case "n":
			text = strings.Repeat("9", 1+min(size, 131_000))
		case "dn":
			text = "0." + strings.Repeat("1", 1+min(size, 16_000))
		case "j", "jb":
			text = [...]string{"[" + list("1", "2.50", `"a"`, "null", "[1]") + "]", strings.Repeat(`{"a": [`, size/64) + "1" + strings.Repeat("]}", size/64), object(1 + size/16)}[r.IntN(3)]
		case "ai":
			text = "{" + list("1", "2", "NULL") + "}"
		case "at":
			text = "{" + list("a", "AT", `"x,y"`, "NULL") + "}"
		case "an":
			text = "{" + list("1.0", "2.50", "NaN", strings.Repeat("9", 100)) + "}"
		case "ba":
			text = `\x` + strings.Repeat("00", size)
		default:
			if len(pool) > 0 {
				text = strings.Trim(pool[r.IntN(len(pool))], "'")
			}
		}
		row[i] = cdc.Datum{State: cdc.Present, Text: []byte(text)}
	}
	return row
}
