package draft

import (
	"context"
	"fmt"
	"slices"

	"github.com/jackc/pgx/v5"

	"gancho/cdc"
)

// expected are the tables that presets are written for, with their columns.
type expected map[string][]string

// parseSchema reads the CREATE TABLE statements of a script. It is enough for
// the legacy schema, whose names are plain and whose constraints begin in upper case.
func parseSchema(script string) expected {
	tables := expected{}
	list := split(script)
	for i := range list {
		if !list.At(i-1).Is("table") || !list.At(i-2).Is("create") && !list.At(i-2).Is("unlogged") || !list.At(i+1).Is("(") {
			continue
		}
		name, depth := list[i].Text, 1
		for j := i + 2; j < len(list) && depth > 0; j++ {
			t := list[j]
			switch {
			case t.Is("("):
				depth++
			case t.Is(")"):
				depth--
			case depth == 1 && (j == i+2 || list[j-1].Is(",")) && t.Text == script[t.Start:t.End]:
				tables[name] = append(tables[name], t.Text)
			}
		}
	}
	return tables
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
	rows, _ := conn.Query(ctx, `
		select n.nspname::text, c.relname::text, coalesce(`+cdc.Found("c.relname")+` = c.oid, false) as visible,
			coalesce((select array_agg(a.attname::text order by a.attnum) from pg_catalog.pg_attribute a
				where a.attrelid = c.oid and a.attnum > 0 and not a.attisdropped), '{}')
		from pg_catalog.pg_class c join pg_catalog.pg_namespace n on n.oid = c.relnamespace
		where c.relkind in ('r', 'p', 'v', 'm', 'f') and not c.relispartition
			and n.nspname not in ('information_schema', 'gancho') and n.nspname !~ '^pg_'
		order by visible desc, c.relkind in ('r', 'p') desc, 1, 2`) // CollectRows returns its error
	tables, err := pgx.CollectRows(rows, func(row pgx.CollectableRow) (*table, error) {
		t := &table{}
		return t, row.Scan(&t.Schema, &t.Name.Name, &t.visible, &t.columns)
	})
	if err != nil {
		return nil, fmt.Errorf("read tables and columns: %w", err)
	}
	return slices.Clip(tables), nil
}
