package draft

import (
	"context"
	"fmt"
	"regexp"
	"slices"
	"strings"

	"github.com/jackc/pgx/v5"

	"gancho/cdc"
)

// expected are the tables that presets are written for, with their columns.
type expected map[string][]string

var createTable = regexp.MustCompile(`(?is)\bCREATE\s+(?:UNLOGGED\s+)?TABLE\s+([a-z_]+)\s*\(`)

// parseSchema reads the CREATE TABLE statements of a script. It is enough for
// the legacy schema, whose names are plain.
func parseSchema(script string) expected {
	script = regexp.MustCompile(`--[^\n]*`).ReplaceAllString(script, "")
	tables := expected{}
	for _, m := range createTable.FindAllStringSubmatchIndex(script, -1) {
		name := script[m[2]:m[3]]
		for _, part := range topLevel(script[m[1]:]) {
			word, _, _ := strings.Cut(strings.TrimSpace(part), " ")
			if word != "" && word == strings.ToLower(word) { // else a constraint
				tables[name] = append(tables[name], word)
			}
		}
	}
	return tables
}

// topLevel splits what stands before the closing parenthesis at its commas.
func topLevel(s string) []string {
	var parts []string
	depth, start := 0, 0
	for i, c := range s {
		switch {
		case c == '(':
			depth++
		case c == ')' && depth == 0:
			return append(parts, s[start:i])
		case c == ')':
			depth--
		case c == ',' && depth == 0:
			parts, start = append(parts, s[start:i]), i+1
		}
	}
	return parts
}

// table is a table of the database at hand.
type table struct {
	cdc.Name
	// visible: the name alone finds it.
	visible bool
	columns []string
}

// written is the table's name as a rule has it.
func (t *table) written() string {
	if t.visible {
		return cdc.QuoteIdentifier(t.Name.Name)
	}
	return t.Name.String()
}

// loadTables reads all tables and views with their columns, but for partitions.
func loadTables(ctx context.Context, conn *pgx.Conn) ([]*table, error) {
	rows, err := conn.Query(ctx, `
		select n.nspname::text, c.relname::text, pg_table_is_visible(c.oid),
			coalesce((select array_agg(a.attname::text order by a.attnum) from pg_catalog.pg_attribute a
				where a.attrelid = c.oid and a.attnum > 0 and not a.attisdropped), '{}')
		from pg_catalog.pg_class c join pg_catalog.pg_namespace n on n.oid = c.relnamespace
		where c.relkind in ('r', 'p', 'v', 'm', 'f') and not c.relispartition
			and n.nspname not in ('information_schema', 'gancho') and n.nspname !~ '^pg_'
		order by pg_table_is_visible(c.oid) desc, c.relkind in ('r', 'p') desc, 1, 2`)
	if err != nil {
		return nil, fmt.Errorf("read tables and columns: %w", err)
	}
	tables, err := pgx.CollectRows(rows, func(row pgx.CollectableRow) (*table, error) {
		t := &table{}
		return t, row.Scan(&t.Schema, &t.Name.Name, &t.visible, &t.columns)
	})
	if err != nil {
		return nil, fmt.Errorf("read tables and columns: %w", err)
	}
	return slices.Clip(tables), nil
}
