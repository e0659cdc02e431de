package draft

import "slices"

// renamer rewrites the names in the SQL of one rule.
type renamer struct {
	*placement
	table   string // that the rule is on, as expected
	reasons []string
}

func (r *renamer) missing(reason string) {
	if !slices.Contains(r.reasons, reason) {
		r.reasons = append(r.reasons, reason)
	}
}

// column is the actual column, or the expected one with a reason noted.
func (r *renamer) column(table, name string) string {
	found := r.of(table)
	if found == nil {
		r.missing(missingTable(table))
		return name
	}
	if actual := found.column(name); actual != "" {
		return actual
	}
	r.missing(found.missingColumn(table, name))
	return name
}

// expects reports whether the table is expected to have the column.
func (r *renamer) expects(table, column string) bool {
	return slices.Contains(r.expected[table], column)
}

// expression rewrites the columns of an expression of the rule.
func (r *renamer) expression(sql string) string {
	list := tokens(sql)
	var edits []edit
	for i, t := range list {
		if t.kind != identifier || !r.expects(r.table, t.text) || at(list, i+1) == "(" || at(list, i+1) == "." || at(list, i-1) == ":" {
			continue
		}
		if at(list, i-1) == "." && at(list, i-2) != "new" && at(list, i-2) != "old" {
			continue // of a lookup
		}
		edits = append(edits, edit{t.start, t.end, r.column(r.table, t.text)})
	}
	return applied(sql, edits)
}

// at is a token's text, "" outside of the list.
func at(list []token, i int) string {
	if i < 0 || i >= len(list) {
		return ""
	}
	return list[i].text
}

// query rewrites the tables and columns of a lookup. A column of the result
// that changes its name keeps the one that the rule knows it by.
func (r *renamer) query(sql string) string {
	list := tokens(sql)
	aliases, order, edits := r.sources(list)
	output := outputs(list)
	for i, t := range list {
		if t.kind != identifier || at(list, i+1) == "(" || at(list, i+1) == "." || at(list, i-1) == "as" || slices.ContainsFunc(edits, func(e edit) bool { return e.start == t.start }) {
			continue
		}
		table := ""
		switch {
		case at(list, i-1) == ".":
			qualifier := at(list, i-2)
			table = aliases[qualifier]
			if qualifier == "new" || qualifier == "old" {
				table = r.table
			}
		default:
			if j := slices.IndexFunc(order, func(table string) bool { return r.expects(table, t.text) }); j >= 0 {
				table = order[j]
			}
		}
		if table == "" || !r.expects(table, t.text) {
			continue
		}
		name := r.column(table, t.text)
		if name != t.text && output[i] {
			name += " as " + t.text
		}
		edits = append(edits, edit{t.start, t.end, name})
	}
	slices.SortFunc(edits, func(a, b edit) int { return a.start - b.start })
	return applied(sql, edits)
}

// sources finds the tables behind from and join: by alias, in their order, and
// the edits of their names.
func (r *renamer) sources(list []token) (aliases map[string]string, order []string, edits []edit) {
	aliases = map[string]string{}
	for i, t := range list {
		if before := at(list, i-1); t.kind != identifier || before != "from" && before != "join" || r.expected[t.text] == nil {
			continue
		}
		aliases[t.text] = t.text
		order = append(order, t.text)
		next := i + 1
		if at(list, next) == "as" {
			next++
		}
		aliased := next < len(list) && list[next].kind == identifier && !slices.Contains([]string{"where", "on", "join", "left", "inner", "cross", "group", "order", "limit"}, list[next].text)
		if aliased {
			aliases[list[next].text] = t.text
		}
		found := r.of(t.text)
		if found == nil {
			r.missing(missingTable(t.text))
			continue
		}
		name := found.table.written()
		if name != t.text && !aliased { // columns may be qualified by it
			name += " as " + t.text
		}
		edits = append(edits, edit{t.start, t.end, name})
	}
	return aliases, order, edits
}

// outputs are the columns that stand alone in the select list.
func outputs(list []token) map[int]bool {
	out := map[int]bool{}
	depth, start := 0, 1
	for i, t := range list {
		switch {
		case t.text == "(":
			depth++
		case t.text == ")":
			depth--
		case depth == 0 && (t.text == "," || t.text == "from"):
			if i-start == 1 || i-start == 3 && list[start+1].text == "." {
				out[i-1] = true
			}
			if start = i + 1; t.text == "from" {
				return out
			}
		}
	}
	return out
}
