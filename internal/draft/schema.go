package draft

import "strings"

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

// target is the table that a column refers to by its name: cliente_id to clientes;
// empty: to none.
func (e expected) target(column string) string {
	one, is := strings.CutSuffix(column, "_id")
	for name := range e {
		if is && singular(name) == one {
			return name
		}
	}
	return ""
}
