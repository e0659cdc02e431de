package draft

import (
	"slices"
	"strings"

	"go.yaml.in/yaml/v4"

	"gancho/cdc"
)

// adapt rewrites the names of a file to those of the database. It returns the
// text, and for each rule which names were not found.
func (p *placement) adapt(f *ruleFile) (text string, reasons [][]string) {
	var edits []edit
	for _, rule := range f.rules {
		v := visitor{file: f, renamer: renamer{placement: p, table: foldedName(scalarOf(rule, "table"))}}
		v.rule(rule)
		edits, reasons = append(edits, v.edits...), append(reasons, v.reasons)
	}
	slices.SortFunc(edits, func(a, b edit) int { return a.start - b.start })
	return applied(f.text, edits), reasons
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
	file  *ruleFile
	edits []edit
	// aliased: what is visited stands elsewhere, and is edited there.
	aliased bool
}

func (v *visitor) rule(rule *yaml.Node) {
	for i := 0; i+1 < len(rule.Content); i += 2 {
		n := rule.Content[i+1]
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
	v.missing(missingTable(name))
	return s
}

// children rewrites {table, parent} pairs: the parent column is the child's.
func (v *visitor) children(n *yaml.Node) {
	for _, child := range n.Content {
		other := visitor{file: v.file, renamer: renamer{placement: v.placement, table: foldedName(scalarOf(child, "table"))}, aliased: v.aliased}
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
	case yaml.MappingNode:
		for i := 1; i < len(n.Content); i += 2 {
			v.each(n.Content[i], change)
		}
	case yaml.SequenceNode:
		for _, item := range n.Content {
			v.each(item, change)
		}
	case yaml.ScalarNode:
		if changed := change(n.Value); changed == n.Value || v.aliased {
			return
		}
		if e, ok := v.file.rewrite(n, change); ok {
			v.edits = append(v.edits, e)
		}
	}
}
