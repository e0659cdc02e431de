package mapping

import (
	"cmp"
	"context"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"unicode"

	"github.com/jackc/pgx/v5"

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
}

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
		for _, e := range leaves(r.data) {
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

// span is a part of a text.
type span struct{ from, to int }

// conjuncts are the operands of the ANDs at the top of a condition, without those of
// BETWEEN, and one span where OR or nothing stands there.
func conjuncts(text string) []span {
	tokens, _ := expr.Tokens(text)
	whole := []span{{0, len(text)}}
	depth, from, betweens := 0, 0, 0
	var spans []span
	for i, t := range tokens {
		switch {
		case tokens.At(i - 1).Is("."): // a column may have the name of any keyword
		case t.Is("("), t.Is("["), t.Is("case"):
			depth++
		case t.Is(")"), t.Is("]"), t.Is("end"):
			depth--
		case depth > 0:
		case t.Is("or"):
			return whole
		case t.Is("between"):
			betweens++
		case t.Is("and") && betweens > 0:
			betweens--
		case t.Is("and"):
			spans = append(spans, span{from, t.Start})
			from = t.End
		}
	}
	return append(spans, span{from, len(text)})
}

// only is a text with blanks for what is outside of a span, so that offsets stay.
func only(text string, s span) string {
	return strings.Repeat(" ", s.from) + text[s.from:s.to] + strings.Repeat(" ", len(text)-s.to)
}

// blank removes a conjunct and the AND that joins it to what is before it, or behind the
// first ones.
func blank(text []byte, s span, all []span, i int) {
	from, to := s.from, s.to
	if i > 0 {
		from = all[i-1].to
	}
	if i+1 < len(all) && strings.TrimSpace(string(text[:from])) == "" {
		to = all[i+1].from
	}
	for at := from; at < to; at++ {
		text[at] = ' '
	}
}

// try has the source check an expression that the language refuses. What both refuse is a
// mistake: the language's words for it are better, unless it is only the language's.
func (d *delegator) try(ctx context.Context, e *expression, condition bool, refused []*expr.Error) error {
	own := slices.DeleteFunc(slices.Clone(refused), func(m *expr.Error) bool { return m.Unsupported })
	report := func(list []*expr.Error, hint string) {
		d.compiler.refused[site{e, d.group}] = true
		for _, m := range list {
			d.mistake(e.value, m.Offset, strings.TrimPrefix(m.Hint+hint, "; "), "%s", m.Message)
		}
	}
	if d.options.Evaluate == EvaluateLocal {
		hint := "; or remove rules.evaluate: local, and PostgreSQL may evaluate " + e.path
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
	before := len(d.errors)
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
	if err := d.noteBodies(ctx, d.bound.rule, d.bound.table, bound); err != nil {
		return err
	}
	if len(d.errors) > before {
		d.compiler.refused[site{e, d.group}] = true
		return nil
	}
	d.accepted = append(d.accepted, bound)
	d.noteDelegated(e)
	return nil
}

// noteDelegated reports, once for a rule, that the source evaluates an expression of it.
func (d *delegator) noteDelegated(e *expression) {
	before := slices.Clone(d.findings)
	d.note(d.bound.rule, d.bound.table, "rules.evaluate: local refuses it",
		"%s is evaluated by PostgreSQL, in one query for each batch of changes", e.path)
	if slices.Contains(before, d.findings[len(before)]) {
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
	s := scanner{delegator: d, text: e.text}
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
	l.sql = head + e.text + tail
	return l, nil
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

// scanner finds in an expression what its query takes from the change.
type scanner struct {
	*delegator
	text   string
	tokens expr.TokenList
	params []sqlParam
	joins  []*boundLookup
}

// sessionWords are keywords for what the session has, and sessionHint says why not.
var sessionWords = []string{"current_user", "session_user", "user", "current_role", "current_catalog", "current_schema"}

const sessionHint = "the change does not say which session made it; leave it out"

func (s *scanner) scan() []*expr.Error {
	var fault *expr.Error
	if s.tokens, fault = expr.Tokens(s.text); fault != nil {
		return []*expr.Error{fault}
	}
	if fault := balanced(s.tokens); fault != nil {
		return []*expr.Error{fault}
	}
	for i := 0; i < len(s.tokens); i++ {
		t, next := s.tokens[i], s.tokens.At(i+1)
		if s.tokens.At(i - 1).Is(".") {
			continue
		}
		last, local := s.ownTerm(i)
		switch {
		case local != "":
		case t.IsWord() && slices.Contains(sessionWords, t.Text):
			return []*expr.Error{{Offset: t.Start, Length: t.End - t.Start, Message: t.Text + " is that of Gancho's own session", Hint: sessionHint}}
		case t.Is("new") || t.Is("old"):
			if column := s.tokens.At(i + 2); next.Is(".") && column.IsName() {
				last, local = i+2, t.Text+"."+s.text[column.Start:column.End]
				break
			}
			fault := s.wholeRow(i)
			if len(fault) > 0 {
				return fault
			}
		case t.IsName() && next.Is("."):
			for _, l := range s.bound.lookups {
				if l.expression == nil && l.name == t.Text && !slices.Contains(s.joins, l) {
					s.joins = append(s.joins, l)
				}
			}
		case isClockText(t.Text) && !s.isCastToText(i):
			return []*expr.Error{{Offset: t.Start, Length: t.End - t.Start, Message: t.Text + " is the time of the query where a date or a time is expected",
				Hint: "write now() or current_date, which are the commit's, or " + t.Text + "::text for a text"}}
		}
		if local == "" {
			continue
		}
		p, fault := s.param(t.Start, s.tokens[last].End, local)
		for _, m := range fault {
			if m.Unsupported && expr.IsOwn(t.Text) {
				m.Hint = t.Text + "() is evaluated by Gancho, with what is within it; let a lookup do the rest, and give it the lookup's column"
			}
		}
		if len(fault) > 0 {
			return fault
		}
		s.params = append(s.params, *p)
		i = last
	}
	return nil
}

// isClockText reports whether a token is a string that PostgreSQL may read as a time that
// depends on its clock: 'now()', E'today 10:00'. A word before the clock's makes it a text.
func isClockText(token string) bool {
	token = strings.ToLower(token)
	switch {
	case strings.HasPrefix(token, "e'"):
		token = token[1:]
	case strings.HasPrefix(token, "$"):
		_, token, _ = strings.Cut(token[1:], "$")
	case !strings.HasPrefix(token, "'"):
		return false
	}
	words := strings.FieldsFunc(token, func(r rune) bool { return !unicode.IsLetter(r) })
	return len(words) > 0 && slices.Contains([]string{"now", "today", "tomorrow", "yesterday"}, words[0])
}

// isCastToText: a cast to text follows a literal, and no other one follows that.
func (s *scanner) isCastToText(i int) bool {
	typ := s.tokens.At(i + 2)
	return s.tokens.At(i+1).Is("::") && (typ.Is("text") || typ.Is("varchar")) && !s.tokens.At(i+3).Is("::")
}

// ownTerm is what the language evaluates wherever it stands: the time of the commit, and
// functions that PostgreSQL has not. It returns the last token of it.
func (s *scanner) ownTerm(i int) (last int, local string) {
	t := s.tokens[i]
	called := s.tokens.At(i + 1).Is("(")
	switch {
	case !t.IsWord():
	case called && expr.IsOwn(t.Text):
		last = s.closing(i + 1)
		return last, s.text[t.Start:s.tokens[last].End]
	case called && s.tokens.At(i+2).Is(")") && (t.Is("now") || t.Is("transaction_timestamp") || t.Is("statement_timestamp")):
		return i + 2, "now()"
	case t.Is("current_timestamp") || t.Is("current_date") || t.Is("localtimestamp"):
		return i, t.Text
	case t.Is("localtime"):
		return i, "localtimestamp::time"
	}
	return 0, ""
}

// closing is the token that closes the parenthesis at i.
func (s *scanner) closing(i int) int {
	depth := 0
	for ; ; i++ {
		switch {
		case s.tokens[i].Is("("):
			depth++
		case s.tokens[i].Is(")"):
			if depth--; depth == 0 {
				return i
			}
		}
	}
}

// wholeRow adds new or old, without a column, as a value of the table's type.
func (s *scanner) wholeRow(i int) []*expr.Error {
	t := s.tokens[i]
	fault := func(message, hint string) []*expr.Error {
		return []*expr.Error{{Offset: t.Start, Length: t.End - t.Start, Message: message, Hint: hint}}
	}
	table := s.bound.table
	if len(table.Generated) > 0 {
		return fault(t.Text+" has generated columns, and the stream does not carry them", "name the columns")
	}
	p := sqlParam{start: t.Start, end: t.End, rowType: table.Relation.TableName(), old: t.Is("old")}
	if s.tokens.At(i+1).Is(".") && s.tokens.At(i+2).Is("*") {
		p.end = s.tokens[i+2].End
		p.spread = s.tokens.At(i-1).Is("(") && s.tokens.At(i-2).Is("row")
	}
	for _, column := range table.Relation.Columns {
		part, fault := s.param(t.Start, t.End, t.Text+"."+quoted(column.Name))
		if len(fault) > 0 {
			return fault
		}
		p.row = append(p.row, *part)
	}
	s.params = append(s.params, p)
	return nil
}

// balanced: the text cannot end the parenthesis that it is put in.
func balanced(tokens expr.TokenList) *expr.Error {
	depth := 0
	var open expr.Token
	for _, t := range tokens {
		switch {
		case t.IsParameter():
			return &expr.Error{Offset: t.Start, Message: t.Text + " has no value", Hint: "write new.column, or old.column"}
		case t.Is(";"):
			return &expr.Error{Offset: t.Start, Message: "an expression has no semicolon", Hint: "remove it"}
		case t.Is(",") && depth == 0:
			return &expr.Error{Offset: t.Start, Message: "an expression has one value", Hint: "remove the comma"}
		case t.Is("("), t.Is("["):
			if depth == 0 {
				open = t
			}
			depth++
		case t.Is(")"), t.Is("]"):
			if depth--; depth < 0 {
				return &expr.Error{Offset: t.Start, Message: "this parenthesis closes nothing", Hint: "remove it"}
			}
		}
	}
	if depth > 0 {
		return &expr.Error{Offset: open.Start, Message: "a parenthesis is not closed", Hint: "add )"}
	}
	return nil
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
			lookup: number, column: column, params: l.arguments(), joins: l.joins,
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
	compiled, err := compile(quoted(c.lookups[d.lookup].name)+"."+d.column, &all)
	for _, m := range mistakes(err) {
		c.mistakes = append(c.mistakes, u.value.Mistake(-1, m.Hint, "%s", m.Message))
	}
	c.asked[d.lookup] = true
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

// checkVolatile refuses what an expression calls and would not be the same if it were
// evaluated again, or in another session.
func (b *binder) checkVolatile(ctx context.Context, l *lookup, in reads) error {
	functions, operators := in.called()
	rows, _ := b.conn.Query(ctx, `
		with called as (select p.* from pg_catalog.pg_proc p where p.oid = any($1) or p.oid in (select oprcode from pg_catalog.pg_operator where oid = any($2)))
		select p.proname::text, p.oid::regprocedure::text, p.oid < 16384, p.provolatile = 'v' from called p
		where p.provolatile = 'v' or p.oid < 16384 and (p.proname = any($3) or p.proname = 'age' and p.pronargs = 1)
		order by 2 limit 1`, functions, operators, sessionFunctions) // CollectRows returns its error
	type call struct {
		Name, Title       string
		BuiltIn, Volatile bool
	}
	calls, err := pgx.CollectRows(rows, pgx.RowToStructByPos[call])
	if err != nil {
		return fmt.Errorf("read what %s calls: %w", l.title(), err)
	}
	for _, f := range calls {
		at := mention(l.text, "", f.Name)
		switch {
		case f.Volatile && f.BuiltIn:
			b.mistake(l.value, at, "leave it out", "%s calls %s, which is volatile: each time that the change is read it has another value", l.title(), f.Title)
		case f.Volatile:
			b.mistake(l.value, at, fmt.Sprintf("if it writes nothing and depends on its arguments and on tables alone, run ALTER FUNCTION %s STABLE; or call it in a lookup", f.Title),
				"%s calls %s, which is volatile (pg_proc.provolatile)", l.title(), f.Title)
		case f.Name == "age":
			b.mistake(l.value, at, "write age(current_date, ...)", "%s calls %s, which counts to the day of the query", l.title(), f.Title)
		case slices.Contains([]string{"now", "transaction_timestamp", "statement_timestamp"}, f.Name):
			b.mistake(l.value, at, "write now(), which is the time of the commit", "%s calls %s, which is the time of the query", l.title(), f.Title)
		default:
			b.mistake(l.value, at, sessionHint, "%s calls %s, which tells of Gancho's own session", l.title(), f.Title)
		}
	}
	return nil
}

// sessionFunctions are PostgreSQL's own functions that are not volatile and depend on the
// session, or on the time.
var sessionFunctions = []string{
	"now", "transaction_timestamp", "statement_timestamp", "current_user", "session_user", "getpgusername", "current_setting", "current_query",
	"inet_client_addr", "inet_client_port", "inet_server_addr", "inet_server_port", "pg_backend_pid", "pg_trigger_depth", "txid_current", "txid_current_if_assigned",
	"pg_current_xact_id", "pg_current_xact_id_if_assigned", "txid_current_snapshot", "pg_current_snapshot", "current_database", "current_schema", "current_schemas",
}

// closestFunction is a hint for a function that does not exist, or not for such arguments.
func (b *binder) closestFunction(ctx context.Context, text string) (string, error) {
	written := strings.Trim(calledName.FindString(text), `"`)
	rows, _ := b.conn.Query(ctx, `
		select p.proname::text, p.oid::regprocedure::text from pg_catalog.pg_proc p join pg_catalog.pg_namespace n on n.oid = p.pronamespace
		where p.prokind in ('f', 'a') and p.prorettype <> 'trigger'::regtype and (n.nspname = 'pg_catalog' and p.proname not like 'pg\_%' or n.nspname = any(`+cdc.DatabasePath+`)) order by 2`)
	type function struct{ Name, Title string }
	all, err := pgx.CollectRows(rows, pgx.RowToStructByPos[function])
	if err != nil {
		return "", fmt.Errorf("find function %s: %w", written, err)
	}
	var names, forms []string
	for _, f := range all {
		names = append(names, f.Name)
		if strings.EqualFold(f.Name, written) && len(forms) < 4 {
			forms = append(forms, f.Title)
		}
	}
	if len(forms) > 0 {
		return "there is " + strings.Join(forms, ", ") + "; cast the arguments", nil
	}
	if near := strictyaml.Closest(written, names); near != "" {
		return "did you mean " + near + "?", nil
	}
	return "", nil
}
