package expr_test

import (
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"testing"
)

// TestLiteralInput casts awkward texts to every type: what PostgreSQL's input
// functions refuse is refused here, and what is accepted here prints the same.
func TestLiteralInput(t *testing.T) {
	t.Parallel()
	texts := []string{
		"", " ", "0", "1", " 1 ", "-1", "+1", "- 1", "--1", "1.5", ".5", "5.", ".", "1e3", "1E+3", "1e-3", "1e", "e1", "1e400", "1e-400", "-0", "0.000", "00012", "12345678901234567890123", "32768", "2147483648",
		"9223372036854775808", "-9223372036854775808", "NaN", "nan", "-nan", "Infinity", "-inf", "+infinity", "inf", "infinit", "1_000", "0x10", "1,000", "$1,234.56", "-$5", "1.005", "1.999", "(1)", "1a",
		"t", "f", "true", "TRUE", " tru ", "yes", "y", "no", "on", "of", "o", "off", "maybe", "10",
		"a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11", "{a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11}", "A0EEBC999C0B4EF8BB6D6BB9BD380A11", "a0ee-bc99-9c0b-4ef8-bb6d-6bb9-bd38-0a11", "a0eebc99-9c0b4ef8-bb6d6bb9-bd380a11", "a0eebc99--9c0b-4ef8-bb6d-6bb9bd380a11", "a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a1", "-a0eebc999c0b4ef8bb6d6bb9bd380a11",
		`\x`, `\x41`, `\x4`, `\x4 1`, `\x4g`, `a\\b`, `a\101`, `a\1`, `\x41 42`, `\000`,
		"2024-02-29", "2023-02-29", "2024-2-3", "20240229", "2024-02-29 10:11:12", "2024-02-29T10:11", "2024-02-29 10:11:12.1234567", "2024-02-29 24:00:00", "2024-02-29 10:11:12-03", "2024-02-29 10:11:12+05:30", "2024-02-29 BC", "0001-01-01 BC", "infinity", "-infinity", "today", "10:11", "10:11:12.5", "24:00", "25:00", "99999-01-01", "294277-01-01", "5874898-01-01",
		"1 day", "1 day 02:03:04", "-1 day", "1 mon -2 days", "1 year 2 months", "P1D", "1.5 days", "02:03", "1 week", "1", "ago", "3 days ago",
		"{}", "{1,2}", "{1, 2}", "{ 1 , 2 }", "{1,2", "{1,,2}", "{NULL,1}", "{null}", `{"a","b c"}`, `{"a\"b"}`, "{{1,2},{3,4}}", "{{1},{2,3}}", "[0:1]={1,2}", "[1:1]={1,2}", "{a b}", `{\"}`, "{{}}", "{1}x",
		"null", "true", `"a"`, `"a`, "{\"a\": 1}", `{"b": 2, "a": 1, "b": 3}`, "[1, 2.50, 1e2, -0]", "[1,]", "{a: 1}", `"\u00e9"`, `"\u0000"`, `"\ud83d\ude00"`, `"\ud83d"`, " 1 ", "01", "1.", `{"aa":1,"b":2}`, "\"a\tb\"",
		"ENTRADA", "entrada", " ENTRADA", "10.0.0.1", "10.0.0.01", "10.0.0.1/32", "10.0.0.0/8", "10/8", "::2", "2001:DB8::1", "2001:db8::/32", "2001:db8:0:0:1::1/64", "::FFFF:1.2.3.4/128", "{10.0.0.01,10.0.0.1/32}", "{\"{\\\"b\\\": 1e2, \\\"a\\\": 1}\"}", "{ENTRADA,NULL}", "{1 day,infinity}", "{ENTRADA,X}", "10.0.0.1/33", "::1", "10.1", "::ffff:1.2.3.4", "abc", "ação", "abc  ", "it's",
	}
	types := []string{"bool", "smallint", "int", "bigint", "numeric", "numeric(6,2)", "real", "float8", "money", "text", "varchar(2)", "char(3)", "bytea", "uuid", "date", "time", "timestamp", "timestamptz", "timestamp(1)", "interval",
		"json", "jsonb", "int[]", "text[]", "numeric[]", "bool[]", "tp_sentido", "inet", "date[]", "cidr", "inet[]", "jsonb[]", "json[]", "interval[]", "tp_sentido[]"}
	s := openSource(t, "C.UTF-8", rand.New(rand.NewPCG(1, 1)), 1)
	d := newDifferential(t, s)
	for _, typ := range types {
		var batch, rows []generated
		for _, text := range texts {
			batch = append(batch, generated{sql: fmt.Sprintf("%s::%s", quote(text), typ), features: []string{typ}})
			rows = append(rows, generated{sql: fmt.Sprintf("(case when new.id >= 0 then %s::text end)::%s", quote(text), typ)})
		}
		d.run(t, batch)
		d.lenient = true // the same text in a row
		d.run(t, rows)
		d.lenient = false
		if d.accepted[typ] == 0 {
			t.Errorf("no text was accepted as %s", typ)
		}
	}
	if d.refused*10 > d.expressions {
		t.Errorf("%d of %d casts were refused, more than a tenth: %v", d.refused, d.expressions, slices.Sorted(maps.Keys(d.reasons)))
	}
}
