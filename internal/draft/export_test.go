package draft

import "gancho/cdc"

// Expected are the tables of the legacy schema.
func Expected(script string) map[string][]string { return parseSchema(script) }

// Adapt rewrites a file for tables that are given, by name, with their columns.
func Adapt(script, text string, tables map[cdc.Name][]string) (string, [][]string, error) {
	p := &placement{expected: parseSchema(script), found: map[string]*placed{}}
	for name, columns := range tables {
		p.tables = append(p.tables, &table{Name: name, visible: name.Schema == "public", columns: columns})
	}
	f, err := parseFile("rules.yaml", text)
	if err != nil {
		return "", nil, err
	}
	adapted, reasons := p.adapt(f)
	return adapted, reasons, nil
}

// CommentOut comments out one rule of a file.
func CommentOut(text string, rule int) (string, int, error) {
	f, err := parseFile("rules.yaml", text)
	if err != nil {
		return "", 0, err
	}
	return f.commentOut(rule, []string{"a reason"}), len(f.rules), nil
}
