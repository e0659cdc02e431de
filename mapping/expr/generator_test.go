package expr_test

import (
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"strings"
)

// generated is an expression with the features it uses.
type generated struct {
	sql      string
	features []string
}

// generator generates random expressions that PostgreSQL mostly accepts. kinds are
// its coarse types.
type generator struct {
	r    *rand.Rand
	used map[string]bool
	made map[string]int // by feature
}

// columnsOf are the columns of each kind.
var columnsOf = map[string][]string{
	"int": {"i2", "i4", "i8", "i4", "id"}, "num": {"n", "n122", "dn", "n122"}, "float": {"f4", "f8"}, "money": {"m"},
	"text": {"t", "v", "c2", "c5", "sn", "doc", `"Nome Útil"`}, "bool": {"b"}, "date": {"d"}, "ts": {"ts"}, "tz": {"tz"}, "time": {"tm"}, "iv": {"iv"},
	"uuid": {"u"}, "json": {"j"}, "jsonb": {"jb"}, "bytea": {"ba"}, "enum": {"e"}, "ints": {"ai"}, "texts": {"at"}, "nums": {"an"}, "enums": {"ae"}, "inet": {"ip"},
}

// literalsOf are constants of each kind.
var literalsOf = map[string][]string{
	"int":   {"0", "1", "-1", "2", "3", "10", "100", "2147483647", "-2147483648", "3000000000", "32767::smallint", "5::bigint", "null::int"},
	"num":   {"0.0", "1.5", "-2.50", "100.00", "0.001", "12345678901234567890.123", "'NaN'::numeric", "1e5", "1.", ".5", "99999999999999999999", "null::numeric", "'Infinity'::numeric"},
	"float": {"1.5::float8", "0::float8", "'NaN'::float8", "'-Infinity'::float8", "0.1::real", "1e300::float8", "2::float4", "1e-300::double precision"},
	"money": {"'12.34'::money", "0::money", "'-1.5'::money"},
	"text": {"'AT'", "''", "'a'", "'Ação'", "'  x '", "'at'", "'S'", "'VI  '", "'%a%'", "'a'::text", "'AT'::varchar", "'A '::char(3)", "'abc'::varchar(2)", "E'a\\nb'", "null::text",
		"'2024-02-29'", "'12'", "'ção'"},
	"bool":  {"true", "false", "null::bool", "'t'::bool", "null"},
	"date":  {"date '2024-02-29'", "'2000-01-01'::date", "date 'infinity'", "date '0001-01-01 BC'", "date '2018-11-04'", "null::date"},
	"ts":    {"timestamp '2024-02-29 12:34:56.789'", "'2000-01-01'::timestamp", "timestamp '-infinity'", "timestamp '2018-11-04 00:00:00'", "timestamp '0044-03-15 BC'"},
	"tz":    {"timestamptz '2024-02-29 12:34:56.789-03'", "'2000-01-01'::timestamptz", "timestamptz 'infinity'", "timestamptz '2018-11-04 00:30:00'"},
	"time":  {"time '12:00'", "'23:59:59.5'::time"},
	"iv":    {"interval '1 day'", "interval '1 month'", "'-2 hours'::interval", "interval '1 year 2 mons 3 days 04:05:06.7'", "interval '30 days'", "interval '0'"},
	"uuid":  {"'a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11'::uuid", "'{A0EEBC999C0B4EF8BB6D6BB9BD380A11}'::uuid"},
	"json":  {`'{"a": 1}'::json`, `'[1,2]'::json`},
	"jsonb": {`'{"a": 1, "b": [1, 2]}'::jsonb`, `'[1, "a"]'::jsonb`, `'1.00'::jsonb`, `'null'::jsonb`, `'{"b": {"c": 1e2}, "a": "\u00e9"}'::jsonb`, `'"a"'::jsonb`, `'{}'::jsonb`},
	"bytea": {`'\x616263'::bytea`, `'abc'::bytea`, `'\x'::bytea`}, "enum": {"'ENTRADA'::tp_sentido", "'SAIDA'::tp_sentido"},
	"ints":  {"'{1,2}'::int[]", "array[1,2,3]", "'{}'::int[]", "array[1,null]"},
	"texts": {"array['a','AT']", "'{AT,VI}'::text[]", "'{}'::text[]", "array['a',null]::text[]"},
	"nums":  {"array[1.0,2.50]", "'{1,2.5}'::numeric[]", "array[1,2.5]"},
	"enums": {"'{ENTRADA}'::tp_sentido[]"}, "inet": {"'10.0.0.1'::inet", "'10.0.0.0/8'::inet"},
}

// template is a form of an expression: $name is an operand of a kind.
// The feature is what it shows.
type template struct{ feature, form string }

func (g *generator) pick(list []string) string { return list[g.r.IntN(len(list))] }

// expression generates one expression of any kind.
func (g *generator) expression() generated {
	g.used = map[string]bool{}
	kinds := []string{"bool", "bool", "bool", "bool", "bool", "bool", "bool", "int", "num", "num", "float", "text", "text", "date", "ts", "tz", "time", "iv", "jsonb", "any", "money", "bytea", "ints", "texts", "json", "enum", "uuid"}
	kind := g.pick(kinds)
	sql := g.operand(kind, 1+g.r.IntN(3))
	return generated{sql, slices.Sorted(maps.Keys(g.used))}
}

// showing generates one expression that shows a feature at its top.
func (g *generator) showing(feature string) generated {
	var forms []string
	for _, kind := range slices.Sorted(maps.Keys(templates)) {
		for _, t := range templates[kind] {
			if t.feature == feature {
				forms = append(forms, t.form)
			}
		}
	}
	g.used = map[string]bool{feature: true}
	sql := g.expand(g.pick(forms), 1)
	return generated{sql, slices.Sorted(maps.Keys(g.used))}
}

// known are all features that the generator can show.
func (g *generator) known() []string {
	all := map[string]bool{}
	for _, list := range templates {
		for _, t := range list {
			all[t.feature] = true
		}
	}
	return slices.Sorted(maps.Keys(all))
}

// local are those that the language has.
func (g *generator) local() []string {
	return slices.DeleteFunc(g.known(), func(f string) bool { return slices.Contains(delegatedFeatures, f) })
}

// operand generates an expression of a kind, of at most the depth.
func (g *generator) operand(kind string, depth int) string {
	switch kind {
	case "any": // a value of whatever kind
		return g.operand(g.pick([]string{"int", "num", "float", "text", "date", "ts", "tz", "bool", "enum", "iv", "uuid", "jsonb", "money", "time"}), depth)
	case "fts": // a finite timestamp: age of others differs between versions
		return g.pick([]string{"timestamp '2024-02-29 12:34:56.789'", "coalesce(nullif(nullif(new.ts, 'infinity'), '-infinity'), '2018-11-30')", "timestamp '2018-01-31'", "new.d::timestamp - (new.d::timestamp - '2000-03-31')"})
	case "lit": // an undecorated string, or null
		return g.pick([]string{"'1'", "'a'", "null", "'2024-01-01'", "'t'", "'AT'", "'1.5'", "'ENTRADA'", "'{1,2}'"})
	}
	if depth <= 0 || g.r.IntN(6) == 0 {
		return g.leaf(kind)
	}
	list := templates[kind]
	if len(list) == 0 || g.r.IntN(8) == 0 {
		return g.generic(kind, depth)
	}
	t := list[g.r.IntN(len(list))]
	for range 3 { // what was rare so far
		if u := list[g.r.IntN(len(list))]; g.made[u.feature] < g.made[t.feature] {
			t = u
		}
	}
	g.made[t.feature]++
	g.used[t.feature] = true
	return g.expand(t.form, depth-1)
}

// generic generates the forms that every kind has.
func (g *generator) generic(kind string, depth int) string {
	a, b := g.operand(kind, depth-1), g.operand(kind, depth-1)
	switch g.r.IntN(6) {
	case 0:
		return fmt.Sprintf("coalesce(%s, %s)", a, b)
	case 1:
		return fmt.Sprintf("case when %s then %s else %s end", g.operand("bool", depth-1), a, b)
	case 2:
		if kind == "json" {
			return a
		}
		return fmt.Sprintf("nullif(%s, %s)", a, b)
	case 3:
		if kind == "json" || kind == "jsonb" || kind == "inet" || strings.HasSuffix(kind, "s") {
			return a
		}
		return fmt.Sprintf("%s(%s, %s)", g.pick([]string{"greatest", "least"}), a, b)
	case 4:
		return fmt.Sprintf("case %s when %s then %s end", g.operand("int", depth-1), g.operand("int", depth-1), a)
	}
	return fmt.Sprintf("(%s)", a)
}

func (g *generator) leaf(kind string) string {
	if cols := columnsOf[kind]; g.r.IntN(3) > 0 {
		return g.pick([]string{"new.", "new.", "old."}) + g.pick(cols)
	}
	return g.pick(literalsOf[kind])
}

// expand replaces the $kind operands of a form, in parentheses where needed.
func (g *generator) expand(form string, depth int) string {
	var b strings.Builder
	for {
		i := strings.IndexByte(form, '$')
		if i < 0 {
			b.WriteString(form)
			return b.String()
		}
		b.WriteString(form[:i])
		form = form[i+1:]
		n := 0
		for n < len(form) && (form[n] >= 'a' && form[n] <= 'z') {
			n++
		}
		kind := form[:n]
		form = form[n:]
		if kind == "" {
			b.WriteByte('$')
			continue
		}
		if kind == "cmp" {
			b.WriteString(g.pick([]string{"=", "<>", "<", "<=", ">", ">=", "=", "="}))
			continue
		}
		op := g.operand(kind, depth)
		if strings.ContainsAny(op, " -") && !strings.HasPrefix(op, "(") && !strings.HasPrefix(op, "'") || strings.HasPrefix(op, "(") {
			op = "(" + op + ")"
		}
		b.WriteString(op)
	}
}
