package mapping

import (
	"slices"
	"strconv"
	"strings"

	"gancho/cdc"
	"gancho/mapping/expr"
)

func hasMoney(t *cdc.Type) bool {
	t = t.Base()
	if t.Kind == cdc.KindArray && t.Elem != nil {
		t = t.Elem.Base()
	}
	return t.Name == "money" && t.Schema == "pg_catalog"
}

// query is the lookup that evaluates an expression. Bare columns become its parameters, and
// columns of the rule's lookups those of their rows, when the server does not know them: no
// name within the query hides them, and they hide none of it.
func (d *delegator) query(e *expression) (*lookup, []*expr.Error) {
	l := &lookup{name: e.path, value: e.value, text: e.text, expression: e}
	l.text, l.masked = d.unmasked(e.text)
	s := scanner{delegator: d, text: l.text}
	if fault := s.scan(); len(fault) > 0 {
		return nil, fault
	}
	// VALUES has no aggregate, window or set-returning function, as a trigger's WHEN has none.
	head, tail := "values ((", "\n))"
	if d.joins = s.joins; len(s.joins) > 0 {
		l.joins, head = true, "values ((select _v.v from (select) _x"
		for i, joined := range s.joins {
			head += " left join lateral (\n"
			l.takeOver(joined.lookup, len(head))
			head += joined.sql + "\n) as " + joinedRow(i)
			for j := range joined.columns {
				head += []string{"(", ", "}[min(j, 1)] + joinedColumn(j)
			}
			head += []string{"", ")"}[min(len(joined.columns), 1)] + " on true"
		}
		head, tail = head+" cross join lateral (values ((", "\n))) _v(v)))"
	}
	l.lead = len(head)
	l.takeOver(&lookup{params: s.params}, l.lead)
	l.sql = head + l.text + tail
	return l, nil
}

// unmasked is the argument of a mask around which nothing else stands, if the language
// refuses it; blanks are in the place of the mask. Otherwise it is the whole text.
func (d *delegator) unmasked(text string) (string, mask) {
	tokens, fault := expr.Tokens(text)
	if fault != nil || !expr.IsMask(tokens.At(0).Text) || !tokens[0].IsWord() || !tokens.At(1).Is("(") || balanced(tokens[1:]) != nil || closing(tokens, 1) != len(tokens)-1 {
		return text, mask{}
	}
	end, depth := len(tokens)-1, 0
	for i, t := range tokens[:end] {
		switch {
		case t.Is("("), t.Is("["):
			depth++
		case t.Is(")"), t.Is("]"):
			depth--
		case t.Is(",") && depth == 1:
			end = min(end, i)
		}
	}
	argument := span{tokens[1].End, tokens[end].Start}
	inner := only(text, argument)
	if _, err := expr.Compile(inner, d.scope); err == nil || strings.TrimSpace(inner) == "" {
		return text, mask{} // what is refused is the rest
	}
	return inner, mask{text[:argument.from], text[argument.to:]}
}

// takeOver takes over what another query takes from the change, whose text stands at an
// offset of this one's.
func (l *lookup) takeOver(o *lookup, shift int) {
	for _, p := range o.params {
		p.start, p.end = p.start+shift, p.end+shift
		l.params = append(l.params, p)
	}
	for _, s := range o.schemas {
		l.schemas = append(l.schemas, edit{s.start + shift, s.end + shift, s.text})
	}
}

// joinedRow and joinedColumn are the names, in the query of an expression, of what a lookup
// finds: no table or column has them.
func joinedRow(i int) string    { return "_l" + strconv.Itoa(i+1) }
func joinedColumn(i int) string { return "_l_" + strconv.Itoa(i+1) }

// resolve makes a parameter of the name at an offset of the expression, which the server
// does not know: a column of the table, or what the language knows by itself; or puts what a
// lookup finds in its place. It reports whether the name is known now.
func (d *delegator) resolve(l *lookup, at int) bool {
	tokens, _ := expr.Tokens(l.text)
	i := slices.IndexFunc(tokens, func(t expr.Token) bool { return t.Start == at })
	if i < 0 || !tokens[i].IsName() || tokens.At(i-1).Is(".") {
		return false
	}
	t := tokens[i]
	if tokens.At(i + 1).Is(".") {
		return d.resolveJoined(l, t, tokens.At(i+2))
	}
	if formula := d.compiler.generated[t.Text]; formula != "" {
		d.clearer = generatedMistake(l.value, t.Start, t.Text, formula)
		return false
	}
	p, fault := d.param(t.Start, t.End, l.text[t.Start:t.End])
	if len(fault) > 0 || slices.ContainsFunc(l.params, func(o sqlParam) bool { return o.start == t.Start+l.lead }) {
		return false
	}
	p.start, p.end = p.start+l.lead, p.end+l.lead
	l.params = append(l.params, *p)
	return true
}

// resolveJoined puts a column of what a lookup finds in the place of lookup.column.
func (d *delegator) resolveJoined(l *lookup, name, column expr.Token) bool {
	start := name.Start + l.lead
	i := slices.IndexFunc(d.joins, func(o *boundLookup) bool { return o.name == name.Text })
	if i < 0 || slices.ContainsFunc(l.schemas, func(e edit) bool { return e.start == start }) {
		return false
	}
	columns := mapped(d.joins[i].columns, func(c cdc.Column) string { return c.Name })
	j := slices.Index(columns, column.Text)
	switch {
	case column.IsName() && j >= 0:
		l.schemas = append(l.schemas, edit{start, column.End + l.lead, joinedRow(i) + "." + joinedColumn(j)})
		return true
	case column.IsName():
		_, err := expr.Compile(l.text[name.Start:column.End], d.scope)
		for _, m := range mistakes(err) {
			d.clearer = l.value.Mistake(name.Start+m.Offset, m.Hint, "%s", m.Message)
		}
	default:
		d.clearer = l.value.Mistake(name.Start, "name its columns", "lookup %s is no value", name.Text)
	}
	return false
}

// param is what the language makes of an expression, as a parameter in the place of a part
// of the text.
func (d *delegator) param(start, end int, local string) (*sqlParam, []*expr.Error) {
	compiled, err := expr.Compile(local, early(d.scope))
	if err != nil {
		fault := mistakes(err)
		for _, m := range fault {
			m.Offset += start
		}
		return nil, fault
	}
	p := &sqlParam{start: start, end: end, own: local, typ: compiled.Type()}
	if column, bare := compiled.Bare(); bare {
		p.own, p.old, p.column = "", column.Old, column.Name
		p.collation = d.compiler.collations[column.Name]
	}
	if base := p.typ.Base(); base.Kind == cdc.KindArray && hasMoney(base) {
		return nil, []*expr.Error{{Offset: start, Length: end - start, Message: "money[] cannot be given to PostgreSQL", Hint: "leave it out"}}
	}
	return p, nil
}
