package draft

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

// parseReferences reads which tables the columns of a script refer to, by table and column.
func parseReferences(script string) map[string]map[string]string {
	out := map[string]map[string]string{}
	list := split(script)
	table, column, depth := "", "", 0
	for i := range list {
		switch t := list[i]; {
		case list.At(i-1).Is("table") && list.At(i+1).Is("("):
			table, depth = t.Text, 0
		case t.Is("("):
			if depth++; depth == 1 {
				column = list.At(i + 1).Text
			}
		case t.Is(")"):
			depth--
		case t.Is(",") && depth == 1:
			column = list.At(i + 1).Text
		case t.Is("references") && depth == 1 && table != "":
			if out[table] == nil {
				out[table] = map[string]string{}
			}
			out[table][column] = list.At(i + 1).Text
		}
	}
	return out
}
