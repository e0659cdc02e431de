package mapping

import (
	"context"
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
