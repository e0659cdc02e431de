package mapping

import (
	"context"
	"slices"

	"gancho/cdc"
	"gancho/internal/strictyaml"
	"gancho/mapping/expr"
)

// A row alone, as a table has it now, is no change: nothing is known of the row before.
// Here are rules for such rows. They are the same rules, compiled as ever, without the
// conjuncts of when that need the row before.

// whenPart is a conjunct of a rule's when, as one for a group of operations.
type whenPart struct {
	span
	// late is set where the conjunct is decided once lookups are read.
	late *expression
	// old: it needs the row before.
	old bool
}

// whenParts takes the condition of a rule apart.
func (rs *Ruleset) whenParts(b *boundRule, g group) []whenPart {
	if b.when == nil {
		return nil
	}
	spans := conjuncts(b.when.text)
	parts := make([]whenPart, len(spans))
	for i, s := range spans {
		parts[i].span = s
		part := &expression{value: b.when.value, path: b.when.path, text: only(b.when.text, s)}
		if c := b.conditions[g]; c != nil {
			j := slices.IndexFunc(c.late, func(e *expression) bool { return conjunctAt(spans, firstByte(e.text)) == uint8(i) })
			if j >= 0 {
				parts[i].late, part = c.late[j], c.late[j]
			}
		}
		parts[i].old = rs.needsOld(b, g, part)
	}
	return parts
}

// needsOld reports whether an expression of a rule, or what it looks up, needs the row
// before the change. A deleted row is the row itself.
func (rs *Ruleset) needsOld(b *boundRule, g group, e *expression) bool {
	if e == nil || g == groupDelete {
		return false
	}
	c := &compiler{relation: b.table.Relation, lookups: b.lookups, settings: rs.settings, collations: b.table.Collations}
	scope := c.scope(b.rule, g)
	takes := func(params []sqlParam) bool {
		return slices.ContainsFunc(params, func(p sqlParam) bool {
			compiled, err := expr.Compile(p.local(), early(scope))
			return err == nil && compiled.NeedsOld()
		})
	}
	if d := b.delegated[site{e, g}]; d != nil {
		return takes(d.params)
	}
	compiled, err := expr.Compile(e.text, scope)
	if err != nil {
		return false // the compiler of the plan says so
	}
	return compiled.NeedsOld() || slices.ContainsFunc(compiled.Lookups(), func(l expr.LookupColumn) bool {
		return takes(b.lookups[l.Lookup].arguments())
	})
}

// alone is the rule for rows alone, of which keep chooses the conjuncts of when.
func (b *boundRule) alone(g group, parts []whenPart, keep func(int, whenPart) bool) *boundRule {
	own, bound := *b.rule, *b
	own.watch, own.watchAll, own.previous = nil, strictyaml.Value{}, false
	own.collapse, own.children, own.rootOnly = nil, nil, nil
	bound.rule = &own
	if b.when == nil {
		return &bound
	}
	spans := mapped(parts, func(p whenPart) span { return p.span })
	text, kept := []byte(b.when.text), condition{}
	local := 0
	for i, p := range parts {
		switch {
		case !keep(i, p):
		case p.late != nil:
			kept.late = append(kept.late, p.late)
		default:
			local++
			continue
		}
		blank(text, p.span, spans, i)
	}
	if local > 0 {
		kept.early = &expression{value: b.when.value, path: b.when.path, text: string(text)}
	}
	bound.conditions = map[group]*condition{g: &kept}
	bound.lookups = mapped(b.lookups, func(l *boundLookup) *boundLookup {
		if l.expression == nil {
			return l
		}
		lenient := *l // what needs the row before is not asked of it
		lenient.lenient = true
		return &lenient
	})
	return &bound
}

// AloneRule is how a RowMapper takes a rule.
type AloneRule struct {
	Rule  string `json:"rule"` // file:line
	Event string `json:"event"`
	// As is what the row counts as: insert, or update for a rule without it. Empty: the
	// rule is left out, and Left is why.
	As   string `json:"as,omitempty"`
	Left string `json:"left_out,omitempty"`
	// Unjudged are the parts of the rule that need the row before the change. Conjuncts of
	// when count as true, and watch lets the row pass.
	Unjudged []string `json:"unjudged,omitempty"`

	op   cdc.Op
	n    int
	plan *rulePlan
}

// RowMapper applies rules to rows as they are in a table. A row counts as inserted, or, for
// a rule that is not for inserts, as updated, by a change of which nothing is known: see
// AloneRule. What a rule would put together with other rows of a transaction is an event
// of its own. A RowMapper belongs to one goroutine.
type RowMapper struct {
	mapper *Mapper
	table  *cdc.Table
	rules  []AloneRule
	before []cdc.Datum // of which nothing was sent
}

// NewRowMapper returns a RowMapper for the rules of a table. The source, which may be nil
// when no rule reads it, is read as it is at the time.
func NewRowMapper(rs *Ruleset, table *cdc.Table, source *Source) *RowMapper {
	r := &RowMapper{mapper: NewMapper(rs, nil, WithSource(source), WithPast()), table: table}
	r.mapper.redrives = true // what does not fit is parked
	r.before = make([]cdc.Datum, len(table.Relation.Columns))
	for i, b := range rs.byTable[table.Relation.TableName()] {
		if rs.numbered {
			i = b.number
		}
		r.rules = append(r.rules, rs.aloneRule(b, i))
	}
	return r
}

func (rs *Ruleset) aloneRule(b *boundRule, n int) AloneRule {
	out := AloneRule{Rule: b.place(), Event: b.event, n: n, op: cdc.Update}
	if b.ops.has(cdc.Insert) {
		out.op = cdc.Insert
	}
	if !b.ops.has(out.op) {
		out.Left = "it is for " + b.ops.String() + ", and a row that exists is neither"
		return out
	}
	update := out.op == cdc.Update
	for _, e := range []*expression{b.tenant, b.key} {
		if update && rs.needsOld(b, groupWrite, e) {
			out.Left = e.path + " needs the row before the update"
			return out
		}
	}
	parts := rs.whenParts(b, groupWrite)
	texts := rs.conjunctTexts(b)
	for i, p := range parts {
		if update && p.old {
			out.Unjudged = append(out.Unjudged, "when: "+texts[i])
		}
	}
	if update && (len(b.watch) > 0 || b.watchAll.Valid()) {
		out.Unjudged = append(out.Unjudged, "watch")
	}
	if update && b.previous {
		out.Unjudged = append(out.Unjudged, "previous")
	}
	bound := b.alone(groupWrite, parts, func(_ int, p whenPart) bool { return !update || !p.old })
	out.As, out.plan = out.op.String(), newRulePlan(rs, bound, b.table.Relation, false, groupWrite)
	return out
}

// conjunctTexts are the conjuncts of when, each in one line.
func (rs *Ruleset) conjunctTexts(b *boundRule) []string {
	for _, t := range rs.Texts() {
		if t.Place == b.place() && !t.Child {
			return t.Conjuncts
		}
	}
	return nil
}

// Rules says how the rules are taken, in their order.
func (r *RowMapper) Rules() []AloneRule { return slices.Clone(r.rules) }

// Columns are the columns of the table's relation that Map needs.
func (r *RowMapper) Columns() []int {
	var out []int
	for i, column := range r.table.Relation.Columns {
		if slices.ContainsFunc(r.rules, func(a AloneRule) bool { return a.plan != nil && a.plan.reads(i, column.Name) }) {
			out = append(out, i)
		}
	}
	return out
}

// reads reports whether the rule depends on a column.
func (r *rulePlan) reads(index int, name string) bool {
	_, used := r.bound.columns[name]
	return used || slices.Contains(r.needs, index)
}

// Map gives the sink what the rules make of a row of the table's relation, of which some
// columns may be missing. The position, which must rise, and the time, which is that of
// now(), are the event's.
func (r *RowMapper) Map(tx *cdc.Transaction, ordinal uint64, row []cdc.Datum, sink Sink) error {
	m := r.mapper
	change := cdc.Change{Position: cdc.Position{Commit: tx.Commit, Ordinal: ordinal}, Tx: tx, Relation: r.table.Relation, New: row}
	m.childChanged = true // watch lets it pass
	defer func() { m.childChanged = false }()
	for i := range r.rules {
		a := &r.rules[i]
		if a.plan == nil {
			continue
		}
		if change.Op != a.op {
			if change.Op, change.Old = a.op, nil; a.op == cdc.Update {
				change.Old = r.before
			}
			m.load(&change)
		}
		if err := m.apply(a.plan, a.n, &change, sink); err != nil {
			return err
		}
	}
	return nil
}

// Full reports whether so much is pending that Resolve should be called now.
func (r *RowMapper) Full() bool { return r.mapper.Full() }

// Resolve reads what is pending and gives it to the sink; see Mapper.Resolve.
func (r *RowMapper) Resolve(ctx context.Context, sink Sink) error { return r.mapper.Resolve(ctx, sink) }
