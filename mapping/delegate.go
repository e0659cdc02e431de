package mapping

import (
	"cmp"
	"context"
	"fmt"
	"slices"
	"strconv"
	"strings"

	"gancho/cdc"
	"gancho/internal/strictyaml"
	"gancho/mapping/expr"
)

// What the language lacks PostgreSQL evaluates: such an expression becomes a lookup of its
// own, values (expression), whose arguments are the columns that it names, at their types.
// Those of a rule's payload, key and tenant are one query for a batch of changes, and
// those of its condition another. All that holds for lookups holds for them: the room,
// the role, privacy.deny, and that a row whose values fail parks its change alone.

// site is an expression of a rule, as one for a group of operations.
type site struct {
	expression *expression
	group      group
}

// delegated is an expression that the source evaluates.
type delegated struct {
	lookup int // among the rule's
	column string
	params []sqlParam // as arguments has them
	joins  bool       // it names columns of lookups
	masked mask
}

// mask is what stands around the part of an expression that the source evaluates: a call
// of one of our own functions, which hides its first argument.
type mask struct{ before, after string }

// condition is a rule's when for a group of operations, in parts.
type condition struct {
	early *expression   // what is decided at the change; nil: nothing
	late  []*expression // what is decided once lookups are read
}

// delegate finds the expressions of a rule that the source must evaluate, adds their
// lookups to the rule, and parts its condition.
func (b *binder) delegate(ctx context.Context, bound *boundRule, c *compiler) error {
	r := bound.rule
	for g := range groups {
		if r.ops&g.ops() == 0 {
			continue
		}
		d := &delegator{binder: b, bound: bound, compiler: c, group: g, scope: c.scope(r, g)}
		if err := d.condition(ctx, r.when); err != nil {
			return err
		}
		c.join(bound, g, "when", d.take())
		for _, e := range []*expression{r.tenant, r.key} {
			if err := d.tryValue(ctx, e); err != nil {
				return err
			}
		}
		if r.onError.Valid() {
			c.join(bound, g, "subject", d.take())
		}
		for _, e := range append(leaves(r.data), leaves(r.tags)...) {
			if err := d.tryValue(ctx, e); err != nil {
				return err
			}
		}
		all := d.take()
		if !r.onError.Valid() {
			c.join(bound, g, "data", all)
			continue
		}
		for i := range all { // one that fails must not take others with it
			if len(bound.lookups) == expr.MaxLookups {
				b.mistake(r.onError, -1, "write two rules", "a rule with on_error has at most %d lookups and expressions that PostgreSQL evaluates", expr.MaxLookups)
				break
			}
			c.join(bound, g, "data "+strconv.Itoa(i+1), all[i:i+1])
			bound.lookups[len(bound.lookups)-1].nullable = true
		}
	}
	return nil
}

// tryValue has the source check a value of a rule that the language refuses.
func (d *delegator) tryValue(ctx context.Context, e *expression) error {
	if e == nil {
		return nil
	}
	_, err := expr.Compile(e.text, d.scope)
	if err == nil {
		return nil
	}
	return d.try(ctx, e, false, mistakes(err))
}

// leaves are the expressions of a payload.
func leaves(f *field) []*expression {
	switch {
	case f == nil:
		return nil
	case f.leaf != nil:
		return []*expression{f.leaf}
	}
	var all []*expression
	for _, child := range f.fields {
		all = append(all, leaves(child)...)
	}
	return all
}

// delegator tries expressions of a rule, for a group of operations, on the source.
type delegator struct {
	*binder
	bound    *boundRule
	compiler *compiler
	group    group
	scope    *expr.Scope
	// accepted are those that the source evaluates.
	accepted []*boundLookup
	// joins are the lookups that the expression at hand names.
	joins []*boundLookup
	// clearer is a mistake of a name in it, in better words than the server's.
	clearer *strictyaml.Error
}

func (d *delegator) take() []*boundLookup {
	all := d.accepted
	d.accepted = nil
	return all
}

// condition parts when, unless all of it can be decided at the change.
func (d *delegator) condition(ctx context.Context, when *expression) error {
	if when == nil {
		return nil
	}
	if _, err := expr.CompileBool(when.text, early(d.scope)); err == nil {
		return nil
	}
	var out condition
	before := len(d.errors)
	spans := conjuncts(when.text)
	whole := []byte(when.text)
	for i, s := range spans {
		part := &expression{value: when.value, path: when.path, text: only(when.text, s)}
		if len(spans) == 1 {
			part = when
		}
		_, err := expr.CompileBool(part.text, early(d.scope))
		if err == nil {
			continue
		}
		blank(whole, s, spans, i)
		out.late = append(out.late, part)
		if _, err = expr.CompileBool(part.text, d.scope); err == nil {
			continue
		}
		if err := d.try(ctx, part, true, mistakes(err)); err != nil {
			return err
		}
	}
	if len(out.late) < len(spans) {
		out.early = &expression{value: when.value, path: when.path, text: string(whole)}
	}
	if r := d.bound.rule; len(d.errors) == before && len(r.collapse) > 0 && !r.collapsesRows(d.bound.orderingKey()) {
		d.mistake(when.value, -1, "collapse by the primary key, or write the condition with columns of the table and functions of the rules (docs/rules.md)",
			"collapse by %s chooses the last row for which the rule fires, and when is decided later, by the source", r.collapse[0].text)
	}
	d.compiler.conditions[d.group] = &out
	return nil
}

// try has the source check an expression that the language refuses. What both refuse is a
// mistake: the language's words for it are better, unless it is only the language's.
func (d *delegator) try(ctx context.Context, e *expression, condition bool, refused []*expr.Error) error {
	own := slices.DeleteFunc(slices.Clone(refused), func(m *expr.Error) bool { return m.Unsupported })
	report := func(list []*expr.Error, hint string) {
		d.compiler.refused[site{e, d.group}] = true
		for _, m := range list {
			either := m.Hint
			if hint != "" {
				either = strings.TrimPrefix(either+"; or "+hint, "; or ")
			}
			d.mistake(e.value, m.Offset, either, "%s", m.Message)
		}
	}
	if d.options.Evaluate == EvaluateLocal {
		hint := "remove rules.evaluate: local, and PostgreSQL may evaluate " + e.path
		if len(own) > 0 {
			hint = ""
		}
		if !d.generated(e, refused) {
			report(refused, hint)
		}
		return nil
	}
	if d.generated(e, refused) {
		return nil
	}
	l, fault := d.query(e)
	if len(fault) > 0 {
		if len(own) > 0 {
			fault = own
		}
		report(fault, "")
		return nil
	}
	before, denials := len(d.errors), d.denials
	d.clearer = nil
	bound, code, err := d.prepareLookup(ctx, d.bound.table, l, func(at int) bool { return d.resolve(l, at) })
	if err != nil {
		return err
	}
	if bound == nil {
		d.compiler.refused[site{e, d.group}] = true
		if code == cdc.CodeSyntaxError {
			own = refused
		}
		if d.clearer != nil {
			d.errors = append(d.errors[:before], d.clearer)
		} else if code != "" && len(own) > 0 {
			d.errors = d.errors[:before]
			report(own, "")
		}
		return nil
	}
	switch typ := bound.columns[0].Type; {
	case condition && typ.Base().Name != "bool":
		d.mistake(e.value, firstByte(e.text), "write a comparison", "the condition must be boolean, not %s", typ.Name)
	case hasMoney(typ):
		d.mistake(e.value, firstByte(e.text), "cast it to numeric", "PostgreSQL evaluates %s, and the text form of money depends on lc_monetary", e.path)
	}
	if err := d.denyLookup(ctx, bound, d.bound.table); err != nil {
		return err
	}
	if err := d.noteBodies(ctx, d.bound.rule, bound); err != nil {
		return err
	}
	if len(d.errors)-before > d.denials-denials { // more than a privilege that is missing
		d.compiler.refused[site{e, d.group}] = true
		return nil
	}
	d.accepted = append(d.accepted, bound)
	d.noteDelegated(e)
	return nil
}

// delegatedRate is the rate of a rule with such an expression, as a part of that of the same
// rule evaluated here, in transactions of 1,000 rows: internal/bench measures it
// (docs/performance.md).
const delegatedRate = "0.9"

// noteDelegated reports, once for a rule, that the source evaluates an expression of it.
func (d *delegator) noteDelegated(e *expression) {
	before := slices.Clone(d.findings)
	d.note("expression.delegated", d.bound.rule, words("rules.evaluate: local refuses it"),
		"%s is evaluated by the source: one round trip per batch of changes, %s of the rate of local evaluation", e.path, delegatedRate)
	now := d.findings[len(before)]
	if slices.ContainsFunc(before, func(f cdc.Finding) bool { return f.Where == now.Where && f.Title == now.Title }) {
		d.findings = before
	}
}

// generated reports whether the expression names a generated column, which is a mistake of
// its own.
func (d *delegator) generated(e *expression, refused []*expr.Error) bool {
	return slices.ContainsFunc(refused, func(m *expr.Error) bool {
		_, formula := d.compiler.generatedName(e, m)
		return formula != ""
	})
}

func firstByte(text string) int { return len(text) - len(strings.TrimLeft(text, " \t\r\n")) }

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

// groupNames are those of the operations of a group.
var groupNames = [groups]string{"write", "delete", "truncate"}

// join makes one lookup of those of a rule that are read together, and records where their
// expressions are found in it.
func (c *compiler) join(bound *boundRule, g group, stage string, all []*boundLookup) {
	if len(all) == 0 {
		return
	}
	number := len(bound.lookups)
	name := groupNames[g] + " " + stage // no lookup of a rule has a blank in its name
	joined := &boundLookup{
		lookup: &lookup{name: name, value: all[0].value, sql: "values (", expression: &expression{}},
		place:  all[0].place, session: sessionOf(c.settings), reads: reads{columns: map[uint32][]int{}},
	}
	var paths []string
	for i, l := range all {
		column := "column" + strconv.Itoa(i+1) // of VALUES
		if i > 0 {
			joined.sql += ", "
		}
		joined.lookup.takeOver(l.lookup, len(joined.sql)-len("values ("))
		joined.sql += strings.TrimSuffix(strings.TrimPrefix(l.sql, "values ("), ")")
		joined.columns = append(joined.columns, cdc.Column{Name: column, Type: l.columns[0].Type, TypeMod: l.columns[0].TypeMod})
		joined.computed = append(joined.computed, true)
		joined.reads.add(l.reads)
		joined.parts = append(joined.parts, Evaluated{strings.Join(strings.Fields(l.text), " "), l.expression.path})
		if !slices.Contains(paths, l.expression.path) {
			paths = append(paths, l.expression.path)
		}
		c.delegated[site{l.expression, g}] = &delegated{
			lookup: number, column: column, params: l.arguments(), joins: l.joins, masked: l.masked,
		}
	}
	joined.expression.path = strings.Join(paths, ", ")
	if n := len(paths) - 2; n > 1 {
		joined.expression.path = fmt.Sprintf("%s, %s and %d others", paths[0], paths[1], n)
	}
	joined.lenient = stage != "when"
	joined.sql += ")"
	joined.batch, _ = joined.batchSQL(joined.schemas)
	joined.id = joined.session + " " + joined.batch
	bound.lookups = append(bound.lookups, joined)
	c.lookups = bound.lookups
}

// sessionOf is the statement that gives a session what the meaning of an expression
// depends on.
func sessionOf(s expr.Settings) string {
	return zoneOf(s) + ", pg_catalog.set_config('lc_monetary', " + literal(cmp.Or(s.Monetary, "C")) + ", true)"
}

// zoneOf is the statement that gives a session the zone of the source: a lookup and an
// expression that names its columns make the same date of an instant, and so does the
// language. Else lookups have the settings of the stream.
func zoneOf(s expr.Settings) string {
	zone := "UTC"
	if s.Location != nil {
		zone = s.Location.String()
	}
	return "select pg_catalog.set_config('TimeZone', " + literal(zone) + ", true)"
}

// delegate compiles an expression that the source evaluates: the column of its lookup.
func (c *compiler) delegate(d *delegated, scope *expr.Scope, condition bool, u use) *expr.Expr {
	all := *scope
	all.Early = false
	compile := expr.Compile
	if condition {
		compile = expr.CompileBool
	}
	evaluated := quoted(c.lookups[d.lookup].name) + "." + d.column
	compiled, err := compile(d.masked.before+evaluated+d.masked.after, &all)
	for _, m := range mistakes(err) {
		hint := strings.ReplaceAll(m.Hint, evaluated, "x") // nobody has written that name
		c.mistakes = append(c.mistakes, u.value.Mistake(-1, hint, "%s", m.Message))
	}
	c.asked[d.lookup] = true
	u.Hidden = d.masked.before != ""
	for _, p := range d.params {
		argument, err := expr.Compile(p.local(), early(scope))
		for _, m := range mistakes(err) {
			c.mistakes = append(c.mistakes, u.value.Mistake(-1, m.Hint, "%s", m.Message))
		}
		if err == nil {
			c.addUses(argument, u)
		}
	}
	return compiled
}

// columnsOf are the columns that a delegated expression depends on.
func (c *compiler) columnsOf(d *delegated, scope *expr.Scope) []expr.Column {
	var all []expr.Column
	for _, p := range d.params {
		if argument, err := expr.Compile(p.local(), early(scope)); err == nil {
			all = append(all, argument.Columns()...)
		}
	}
	return all
}
