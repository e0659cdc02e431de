package draft

import (
	"gancho/cdc"
	"gancho/mapping"
)

// Expected are the tables of the legacy schema.
func Expected(script string) map[string][]string { return parseSchema(script) }

// Adapt rewrites a file for tables that are given, by name, with their columns.
func Adapt(script, text string, tables map[cdc.Name][]string) (string, [][]string, error) {
	p := newPlacement(script, nil)
	for name, columns := range tables {
		t := &table{Name: name, visible: name.Schema == "public", unqualified: name.Schema == "public"}
		for _, c := range columns {
			t.columns = append(t.columns, &column{name: c})
		}
		p.tables = append(p.tables, t)
	}
	f, err := speaker{}.parseFile("rules.yaml", text)
	if err != nil {
		return "", nil, err
	}
	adapted, reasons, parts := p.adapt(f)
	for _, part := range parts {
		reasons[part.rule] = append(reasons[part.rule], part.reason)
	}
	return adapted, reasons, nil
}

// CommentOut comments out one rule of a file.
func CommentOut(text string, rule int) (string, int, error) {
	f, err := speaker{}.parseFile("rules.yaml", text)
	if err != nil {
		return "", 0, err
	}
	return f.commentOut(rule, []string{"a reason"}), len(f.rules), nil
}

// Leaf is the expression that shows a column, empty if it is not sent.
func Leaf(name, kind string) string {
	expression, _, send := leaf(&column{name: name, kind: kind, base: kind})
	if !send {
		return ""
	}
	return expression
}

// Options are those that the Drafter was made with.
func (d *Drafter) Options() mapping.Options { return d.options }

// Guessed is what most texts are written in.
func Guessed(texts [][]byte) cdc.Encoding { return guessed(texts) }
