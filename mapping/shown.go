package mapping

import (
	"slices"

	"gancho/cdc"
	"gancho/mapping/expr"
)

// ShownNames are, for each leaf of a rule's payload by its dotted path, the names of what
// it shows as it is: columns, those of lookups, and domains of their types. What a mask or
// a hash hides is not among them. Of the tenant they are under the empty path. A leaf of
// an expression that PostgreSQL evaluates has all names in its text.
func (rs *Ruleset) ShownNames(place string) map[string][]string {
	out := map[string][]string{}
	for _, b := range rs.rules {
		if b.place() != place {
			continue
		}
		for _, ref := range b.rule.columns {
			out[ref.name] = rs.shownBy(b, &expression{text: quoted(ref.name)})
		}
		for _, f := range leafFields(b.data) {
			out[f.path] = rs.shownBy(b, f.leaf)
		}
		if b.tenant != nil {
			out[""] = rs.shownBy(b, b.tenant)
		}
	}
	return out
}

// leafFields are the leaves of a payload.
func leafFields(f *field) []*field {
	switch {
	case f == nil:
		return nil
	case f.leaf != nil:
		return []*field{f}
	}
	var all []*field
	for _, child := range f.fields {
		all = append(all, leafFields(child)...)
	}
	return all
}

// shownBy are the names that an expression of a rule shows.
func (rs *Ruleset) shownBy(b *boundRule, e *expression) []string {
	var out []string
	tokens := unhidden(e.text)
	for i, t := range tokens {
		next := tokens.At(i + 1)
		if !t.IsName() || next.Is("(") {
			continue
		}
		out = append(out, t.Text)
		if c := b.table.Relation.Column(t.Text); c >= 0 {
			out = append(out, domainName(b.table.Relation.Columns[c].Type))
		}
		whole := !next.Is(".") || tokens.At(i+2).Is("*")
		if (t.Is("new") || t.Is("old") || t.Text == b.table.Relation.Name) && whole {
			for _, column := range b.table.Relation.Columns {
				out = append(out, column.Name, domainName(column.Type))
			}
		}
		l := slices.IndexFunc(b.lookups, func(l *boundLookup) bool { return l.expression == nil && l.name == t.Text })
		if l >= 0 && next.Is(".") && b.lookups[l].renames(tokens.At(i+2).Text) {
			inner := unhidden(b.lookups[l].text)
			for j, t := range inner {
				if t.IsName() && !inner.At(j+1).Is("(") {
					out = append(out, t.Text)
				}
			}
		}
	}
	return slices.DeleteFunc(out, func(name string) bool { return name == "" })
}

// renames reports whether a column of the lookup may be another one under a new name.
func (l *boundLookup) renames(column string) bool {
	i := slices.IndexFunc(l.columns, func(c cdc.Column) bool { return c.Name == column })
	if i < 0 || l.computed[i] {
		return true
	}
	tokens, _ := expr.Tokens(l.text)
	for i, t := range tokens {
		named := t.IsName() && t.Text == column
		before := tokens.At(i - 1)
		if named && (before.Is("as") || before.IsName() && !before.Is("select") && !before.Is("distinct")) {
			return true
		}
	}
	return false
}

// unhidden are the tokens of an SQL text outside of the calls of Gancho's own functions,
// which hide values or tell only whether they changed.
func unhidden(sql string) expr.TokenList {
	tokens, _ := expr.Tokens(sql) // up to an error, which is reported elsewhere
	var out expr.TokenList
	depth := 0 // within such a call
	for i, t := range tokens {
		own := t.IsWord() && expr.IsOwn(t.Text) && tokens.At(i+1).Is("(")
		switch {
		case depth > 0 && t.Is("("), depth == 0 && t.Is("(") && tokens.At(i-1).IsWord() && expr.IsOwn(tokens.At(i-1).Text):
			depth++
		case depth > 0 && t.Is(")"):
			depth--
		case depth == 0 && !own:
			out = append(out, t)
		}
	}
	return out
}

// domainName is the name of a domain, which may say more than that of its columns.
func domainName(t *cdc.Type) string {
	if t.Kind == cdc.KindDomain {
		return t.Name
	}
	return ""
}

// masks reports whether the rule shows a column of a lookup only masked or hashed.
func (b *boundRule) masks(lookup, column string) bool {
	named := func(tokens expr.TokenList) bool {
		for i, t := range tokens {
			if t.Text == lookup && tokens.At(i+1).Is(".") && tokens.At(i+2).Text == column {
				return true
			}
		}
		return false
	}
	shown := []*expression{b.tenant, b.key}
	for _, f := range append(leafFields(b.data), leafFields(b.tags)...) {
		shown = append(shown, f.leaf)
	}
	masked := false
	for _, e := range shown {
		if e == nil {
			continue
		}
		if named(unhidden(e.text)) {
			return false
		}
		all, _ := expr.Tokens(e.text)
		masked = masked || named(all)
	}
	return masked
}

// namesMembers reports whether values of a type have members with names of their own, or
// may: elements of an array may be texts of JSON or XML.
func namesMembers(t *cdc.Type) bool {
	switch t = t.Base(); t.Kind {
	case cdc.KindComposite, cdc.KindArray:
		return true
	case cdc.KindBase:
		return slices.Contains([]string{"json", "jsonb", "hstore", "xml"}, t.Name)
	}
	return false
}
