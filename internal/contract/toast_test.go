package contract_test

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	"gancho/mapping"
)

// TestOutOfLine: what PostgreSQL stores out of line, when every value is as long as its type
// lets it be, may be left out; and where the schema requires every field it stores nothing
// out of line.
func TestOutOfLine(t *testing.T) {
	t.Parallel()
	columns := func(n int, typ string) string {
		var out []string
		for i := range n {
			out = append(out, fmt.Sprintf("c%d %s", i, typ))
		}
		return strings.Join(out, ", ")
	}
	tables := map[string]struct {
		columns string
		moved   bool
	}{
		"curta":   {columns(1, "varchar(100)"), false},
		"quatro":  {columns(4, "varchar(100)"), false},
		"muitas":  {columns(12, "varchar(50)"), true},
		"breves":  {columns(100, "varchar(4)"), false},
		"fixa":    {columns(20, "char(20)"), false},
		"fixas":   {columns(30, "char(20)"), true},
		"texto":   {columns(1, "text"), true},
		"numeros": {columns(60, "bigint"), false},
	}
	var schema, rules strings.Builder
	rules.WriteString("rules:\n")
	for name, c := range tables {
		fmt.Fprintf(&schema, "create table %s (id int primary key, %s);\n", name, c.columns)
		fmt.Fprintf(&rules, "  - {event: %s, table: %[1]s, on: update, columns: [id, c0]}\n", name)
	}
	// Random letters of four bytes, which cannot be compressed to the size of a page's share.
	schema.WriteString(`create function longo(n int) returns text language sql as $$ select string_agg(chr(65536 + (random() * 60000)::int), '') from generate_series(1, n) $$;`)
	s := open(t, schema.String(), rules.String())
	var payloads []mapping.Payload
	for _, e := range s.events {
		payloads = append(payloads, mapping.Payload{Event: e.Name, LeftOut: e.Variants[0].LeftOut})
	}
	for name, c := range tables {
		i := slices.IndexFunc(payloads, func(p mapping.Payload) bool { return p.Event == name })
		if optional := len(payloads[i].LeftOut) > 0; optional != c.moved {
			t.Errorf("%s: its field may be left out: %v", name, optional)
		}
		var values []string
		for column := range strings.SplitSeq(c.columns, ", ") {
			typ := strings.SplitN(column, " ", 2)[1]
			n := 3000
			if _, err := fmt.Sscanf(typ[strings.IndexByte(typ+"(", '(')+min(1, strings.Count(typ, "(")):], "%d", &n); err != nil {
				n = 3000
			}
			value := fmt.Sprintf("longo(%d)", n)
			if typ == "bigint" {
				value = "9223372036854775807"
			}
			values = append(values, value)
		}
		if _, err := s.conn.Exec(t.Context(), fmt.Sprintf("insert into %s select 1, %s", name, strings.Join(values, ", "))); err != nil {
			t.Fatal(err)
		}
		var bytes int64
		if err := s.conn.QueryRow(t.Context(), "select coalesce(pg_relation_size(nullif(reltoastrelid, 0)), 0) from pg_class where oid = $1::regclass", name).Scan(&bytes); err != nil {
			t.Fatal(err)
		}
		if bytes > 0 != c.moved {
			t.Errorf("%s has %d bytes out of line", name, bytes)
		}
	}
}
