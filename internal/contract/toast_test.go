package contract_test

import (
	"cmp"
	"fmt"
	"regexp"
	"strconv"
	"strings"
	"testing"
)

// TestOutOfLine: what PostgreSQL stores out of line, when every value is as long as its type
// lets it be, may be left out by an update; and where the schema requires a field its column is sent.
func TestOutOfLine(t *testing.T) {
	t.Parallel()
	columns := func(n int, typ string) []string {
		var out []string
		for i := range n {
			out = append(out, fmt.Sprintf("c%d %s", i, typ))
		}
		return out
	}
	tables := map[string]struct {
		columns []string
		before  string // the table's settings when its row is written
		after   string // and when it is updated
		text    int    // characters of a text; 0: 3,000
		// The schema has the first column as optional, and the server leaves it out: it does not where
		// a setting keeps it in line and no row was written before that.
		optional, leftOut bool
	}{
		"curta":   {columns: columns(1, "varchar(100)")},
		"quatro":  {columns: columns(4, "varchar(100)")},
		"muitas":  {columns: columns(12, "varchar(50)"), optional: true, leftOut: true},
		"breves":  {columns: columns(100, "varchar(4)")},
		"fixa":    {columns: columns(20, "char(20)")},
		"fixas":   {columns: columns(30, "char(20)"), optional: true, leftOut: true},
		"texto":   {columns: columns(1, "text"), optional: true, leftOut: true},
		"numeros": {columns: columns(60, "bigint")},

		"alvo":           {columns: []string{"c0 varchar(50)", "c1 varchar(50)", "c2 text"}, before: "set (toast_tuple_target = 128)", optional: true, leftOut: true},
		"sem_alvo":       {columns: []string{"c0 varchar(50)", "c1 varchar(50)", "c2 text"}},
		"alvo_sem_longa": {columns: columns(4, "varchar(100)"), before: "set (toast_tuple_target = 128)"},
		"alvo_alto":      {columns: columns(12, "varchar(50)"), before: "set (toast_tuple_target = 8000)", optional: true},
		"principal":      {columns: columns(1, "text"), before: "alter c0 set storage main", optional: true, leftOut: true},
		"ao_lado":        {columns: []string{"c0 varchar(100)", "c1 text"}, before: "alter c1 set storage main", text: 750, optional: true, leftOut: true},
		"sem_lado":       {columns: []string{"c0 varchar(100)", "c1 text"}, text: 750},
		"plana":          {columns: columns(1, "text"), before: "alter c0 set storage plain", text: 1000, optional: true},
		"plana_depois":   {columns: columns(1, "text"), after: "alter c0 set storage plain", text: 1000, optional: true, leftOut: true},
		"numericos":      {columns: columns(5, "numeric(1000)")},
		"externos":       {columns: columns(5, "numeric(1000)"), before: "alter c0 set storage external", optional: true, leftOut: true},
		"pagina":         {columns: columns(17, "numeric(1000)"), optional: true, leftOut: true},
		"numero_livre":   {columns: []string{"c0 varchar(14)", "c1 numeric"}, optional: true, leftOut: true}, // as long as a page
		"particao":       {columns: []string{"c0 varchar(50)", "c1 varchar(50)", "c2 text"}, before: "set (toast_tuple_target = 128)", optional: true, leftOut: true},
	}
	var schema, rules strings.Builder
	rules.WriteString("rules:\n")
	stored := func(name string) string { // where the rows are
		if name == "particao" {
			return name + "_0"
		}
		return name
	}
	for name, c := range tables {
		tail := ""
		if name == "particao" {
			tail = fmt.Sprintf(" partition by hash (id);\ncreate table %s partition of %s for values with (modulus 1, remainder 0)", stored(name), name)
		}
		fmt.Fprintf(&schema, "create table %s (id int primary key, %s)%s;\n", name, strings.Join(c.columns, ", "), tail)
		if c.before != "" {
			fmt.Fprintf(&schema, "alter table %s %s;\n", stored(name), c.before)
		}
		fmt.Fprintf(&rules, "  - {event: %s, table: %[1]s, on: update, columns: [id, c0]}\n", name)
	}
	// Random letters of four bytes, and random digits, which cannot be compressed to the size of a page's share.
	schema.WriteString(`create function longo(n int) returns text language sql as $$ select string_agg(chr(65536 + (random() * 60000)::int), '') from generate_series(1, n) $$;
		create function digitos(n int) returns numeric language sql as $$ select ('9' || string_agg((random() * 9)::int::text, ''))::numeric from generate_series(2, n) $$;`)
	s := open(t, schema.String(), rules.String())
	exec := func(sql string, args ...any) {
		if _, err := s.conn.Exec(t.Context(), sql, args...); err != nil {
			t.Fatalf("%s: %v", sql, err)
		}
	}
	exec("select pg_create_logical_replication_slot('toast_' || current_database(), 'test_decoding')")
	defer exec("select pg_drop_replication_slot('toast_' || current_database())")
	for _, e := range s.events {
		c := tables[e.Name]
		if optional := len(e.Variants[0].LeftOut) > 0; optional != c.optional {
			t.Errorf("%s: its field may be left out: %v", e.Name, optional)
		}
		exec(fmt.Sprintf("insert into %s select 1, %s", e.Name, strings.Join(longest(c.columns, c.text), ", ")))
		if c.after != "" {
			exec(fmt.Sprintf("alter table %s %s", stored(e.Name), c.after))
		}
		exec("select count(*) from pg_logical_slot_get_changes('toast_' || current_database(), null, null)")
		exec(fmt.Sprintf("update %s set id = 2", e.Name))
		var row string
		if err := s.conn.QueryRow(t.Context(), "select string_agg(data, '') from pg_logical_slot_get_changes('toast_' || current_database(), null, null) where data like 'table %'").Scan(&row); err != nil {
			t.Fatal(err)
		}
		if leftOut := regexp.MustCompile(` c0\[[^\]]*\]:unchanged-toast-datum`).MatchString(row); leftOut != c.leftOut {
			t.Errorf("%s: the server leaves its value out: %v", e.Name, leftOut)
		}
	}
}

// longest are expressions for the longest values of the columns.
func longest(columns []string, text int) []string {
	var values []string
	for _, column := range columns {
		_, typ, _ := strings.Cut(column, " ")
		name, size, _ := strings.Cut(strings.TrimSuffix(typ, ")"), "(")
		n, _ := strconv.Atoi(size)
		switch {
		case name == "bigint":
			values = append(values, "9223372036854775807")
		case name == "numeric":
			values = append(values, fmt.Sprintf("digitos(%d)", cmp.Or(n, 6000)))
		case n > 0:
			values = append(values, fmt.Sprintf("longo(%d)", n))
		case text > 0:
			values = append(values, fmt.Sprintf("longo(%d)", text))
		default:
			values = append(values, "longo(3000)")
		}
	}
	return values
}
