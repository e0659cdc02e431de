package draft

import (
	"slices"
	"strings"

	"go.yaml.in/yaml/v4"

	"gancho/cdc"
	"gancho/mapping/expr"
)

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
		r.missing(r.missingTable(table))
		return name
	}
	if actual := found.column(name); actual != "" {
		return actual
	}
	r.missing(r.missingColumn(found, table, name))
	return name
}

// expects reports whether the table is expected to have the column.
func (r *renamer) expects(table, column string) bool {
	return slices.Contains(r.expected[table], column)
}

// expression rewrites the columns of an expression of the rule.
func (r *renamer) expression(sql string) string {
	list := split(sql)
	var edits []edit
	for i, t := range list {
		if !isColumn(list, i) || !r.expects(r.table, t.Text) || list.At(i-1).Is("::") {
			continue
		}
		if list.At(i-1).Is(".") && !isRow(list.At(i-2)) {
			continue // of a lookup
		}
		edits = append(edits, edit{t.Start, t.End, r.column(r.table, t.Text)})
	}
	return applied(sql, edits)
}

// query rewrites the tables and columns of a lookup. A column of the result
// that changes its name keeps the one that the rule knows it by.
func (r *renamer) query(sql string) string {
	sql = r.pruned(sql)
	list := split(sql)
	aliases, order, edits := r.fromClause(list)
	output := outputs(list)
	for i, t := range list {
		if !isColumn(list, i) || list.At(i-1).Is("as") || slices.ContainsFunc(edits, func(e edit) bool { return e.start == t.Start }) {
			continue
		}
		table := ""
		switch {
		case list.At(i-1).Is(".") && isRow(list.At(i-2)):
			table = r.table
		case list.At(i - 1).Is("."):
			table = aliases[list.At(i-2).Text]
		default:
			if j := slices.IndexFunc(order, func(table string) bool { return r.expects(table, t.Text) }); j >= 0 {
				table = order[j]
			}
		}
		if table == "" || !r.expects(table, t.Text) {
			continue
		}
		name := r.column(table, t.Text)
		if name != t.Text && output[i] {
			name += " as " + t.Text
		}
		edits = append(edits, edit{t.Start, t.End, name})
	}
	slices.SortFunc(edits, func(a, b edit) int { return a.start - b.start })
	return applied(sql, edits)
}

// pruned is a query without the columns of its result that were not found, as long as
// one is left: a leaf that shows one is left out for that.
func (r *renamer) pruned(sql string) string {
	list := split(sql)
	dry := renamer{placement: r.placement, table: r.table}
	aliases, order, _ := dry.fromClause(list)
	var kept []string
	start, end, depth, dropped := 1, 0, 0, false
	for i, t := range list {
		switch {
		case t.Is("("):
			depth++
		case t.Is(")"):
			depth--
		case depth == 0 && i > 0 && (t.Is(",") || t.Is("from")):
			table := ""
			switch name := list[i-1].Text; {
			case i-start == 3 && list[start+1].Is("."):
				table = aliases[list[start].Text]
			case i-start == 1:
				if j := slices.IndexFunc(order, func(table string) bool { return r.expects(table, name) }); j >= 0 {
					table = order[j]
				}
			}
			if table != "" && r.of(table) != nil && r.expects(table, list[i-1].Text) && r.of(table).columns[list[i-1].Text] == "" {
				dropped = true
			} else {
				kept = append(kept, sql[list[start].Start:list[i-1].End])
			}
			start = i + 1
		}
		if depth == 0 && t.Is("from") {
			end = list[i-1].End
			break
		}
	}
	if !dropped || len(kept) == 0 || end == 0 {
		return sql
	}
	return sql[:list[1].Start] + strings.Join(kept, ", ") + sql[end:]
}

// fromClause finds the tables behind from and join: by alias, in their order,
// and the edits of their names.
func (r *renamer) fromClause(list expr.TokenList) (aliases map[string]string, order []string, edits []edit) {
	aliases = map[string]string{}
	for i, t := range list {
		if before := list.At(i - 1); !t.IsWord() || !before.Is("from") && !before.Is("join") || r.expected[t.Text] == nil {
			continue
		}
		aliases[t.Text] = t.Text
		order = append(order, t.Text)
		next := i + 1
		if list.At(next).Is("as") {
			next++
		}
		alias := list.At(next)
		aliased := alias.IsWord() && !slices.Contains([]string{"where", "on", "join", "left", "inner", "cross", "group", "order", "limit"}, alias.Text)
		if aliased {
			aliases[alias.Text] = t.Text
		}
		found := r.of(t.Text)
		if found == nil {
			r.missing(r.missingTable(t.Text))
			continue
		}
		name := found.table.written()
		if name != t.Text && !aliased { // columns may be qualified by it
			name += " as " + t.Text
		}
		edits = append(edits, edit{t.Start, t.End, name})
	}
	return aliases, order, edits
}

// outputs are the columns that stand alone in the select list.
func outputs(list expr.TokenList) map[int]bool {
	out := map[int]bool{}
	depth, start := 0, 1
	for i, t := range list {
		switch {
		case t.Is("("):
			depth++
		case t.Is(")"):
			depth--
		case depth == 0 && (t.Is(",") || t.Is("from")):
			if i-start == 1 || i-start == 3 && list[start+1].Is(".") {
				out[i-1] = true
			}
			if start = i + 1; t.Is("from") {
				return out
			}
		}
	}
	return out
}

// split splits SQL up to what PostgreSQL would refuse: binding the draft reports it.
func split(sql string) expr.TokenList {
	list, _ := expr.Tokens(sql)
	return list
}

// isColumn reports whether a token can be the name of a column.
func isColumn(list expr.TokenList, i int) bool {
	return list[i].IsWord() && !list.At(i+1).Is("(") && !list.At(i+1).Is(".")
}

// isRow reports whether a token names a row of the change.
func isRow(t expr.Token) bool { return t.Is("new") || t.Is("old") }

// edit replaces a part of a text.
type edit struct {
	start, end int
	text       string
}

// applied makes edits that are in order and do not overlap.
func applied(text string, edits []edit) string {
	var b strings.Builder
	last := 0
	for _, e := range edits {
		b.WriteString(text[last:e.start])
		b.WriteString(e.text)
		last = e.end
	}
	b.WriteString(text[last:])
	return b.String()
}

// adapt rewrites the names of a file to those of the database. It returns the
// text, for each rule which names were not found that it cannot do without, and
// the parts with such names that it can do without.
func (p *placement) adapt(f *ruleFile) (text string, reasons [][]string, left []part) {
	var edits []edit
	for i, rule := range f.rules {
		v := visitor{file: f, number: i, renamer: renamer{placement: p, table: foldedName(scalarOf(rule, "table"))}}
		v.rule(rule)
		edits, reasons = append(edits, v.edits...), append(reasons, v.reasons)
		if len(v.reasons) == 0 {
			left = append(left, v.parts...)
		}
	}
	slices.SortFunc(edits, func(a, b edit) int { return a.start - b.start })
	return applied(f.text, edits), reasons, left
}

func foldedName(s string) string {
	name, err := cdc.ParseName(s)
	if err != nil {
		return s
	}
	return name.Name
}

// visitor goes through one rule.
type visitor struct {
	renamer
	file   *ruleFile
	number int // of the rule
	edits  []edit
	parts  []part // that have names which were not found
	// path leads to what is visited.
	path []step
	// aliased: what is visited stands elsewhere, and is edited there.
	aliased bool
}

func (v *visitor) rule(rule *yaml.Node) {
	for i := 0; i+1 < len(rule.Content); i += 2 {
		n := rule.Content[i+1]
		v.path = []step{{rule, i + 1}}
		switch key := rule.Content[i].Value; key {
		case "event", "group", "title", "description", "on", "previous", "numbers":
		case "table":
			v.each(n, v.tableName)
		case "lookup":
			v.each(n, func(s string) string {
				if !strings.Contains(strings.ToLower(s), "select") {
					return s // the duration of a cache
				}
				return v.query(s)
			})
		case "children":
			v.children(n)
		case "when", "tenant", "key", "collapse", "root_only", "data", "columns", "watch":
			v.each(n, v.expression)
		}
	}
}

// tableName is the actual name of a table.
func (v *visitor) tableName(s string) string {
	name := foldedName(s)
	if found := v.of(name); found != nil {
		return found.table.written()
	}
	v.missing(v.missingTable(name))
	return s
}

// children rewrites {table, parent} pairs: the parent column is the child's.
func (v *visitor) children(n *yaml.Node) {
	for _, child := range n.Content {
		other := visitor{file: v.file, number: v.number, path: v.path, renamer: renamer{placement: v.placement, table: foldedName(scalarOf(child, "table"))}, aliased: v.aliased}
		for i := 0; i+1 < len(child.Content); i += 2 {
			change := other.expression
			if child.Content[i].Value == "table" {
				change = other.tableName
			}
			other.each(child.Content[i+1], change)
		}
		v.edits = append(v.edits, other.edits...)
		for _, reason := range other.reasons {
			v.missing(reason)
		}
	}
}

// each rewrites every scalar below a node. Keys of mappings are no names of the database.
func (v *visitor) each(n *yaml.Node, change func(string) string) {
	switch n.Kind {
	case yaml.AliasNode:
		was := v.aliased
		v.aliased = true
		v.each(n.Alias, change)
		v.aliased = was
	case yaml.MappingNode, yaml.SequenceNode:
		first := 0
		if n.Kind == yaml.MappingNode {
			first = 1
		}
		way := v.path
		for i := first; i < len(n.Content); i += 1 + first {
			v.path = append(slices.Clip(way), step{n, i})
			v.each(n.Content[i], change)
		}
		v.path = way
	case yaml.ScalarNode:
		before := len(v.reasons)
		changed := change(n.Value)
		if len(v.reasons) > before {
			if p, ok := dispensable(v.number, v.path, v.reasons[before]); ok {
				v.parts, v.reasons = append(v.parts, p), v.reasons[:before]
				return
			}
		}
		if changed == n.Value || v.aliased {
			return
		}
		if e, ok := v.file.rewrite(n, change); ok {
			v.edits = append(v.edits, e)
		}
	}
}
