package mapping

import (
	"cmp"
	"fmt"
	"maps"
	"slices"

	"gancho/cdc"
	"gancho/internal/strictyaml"
)

// tablePlan is what a Mapper does with the changes of one relation of the
// stream: the table's rules, compiled against it, by operation.
type tablePlan struct {
	relation *cdc.Relation
	// collects is what waits for the commit, by what tells rows apart; nil when nothing does.
	collects []*collectPlan
	// timers are rules with after, in the order of their numbers.
	timers []rulePlan
	// byOp are in the order of their numbers.
	byOp [cdc.Truncate + 1][]rulePlan
	// broken are the first errors of rules that no longer fit, by operation.
	broken [cdc.Truncate + 1]*SchemaError
	// alterable are the columns that the rules depend on whose types can change
	// without a word in the stream.
	alterable []int
	// subjects are how rows are recognized later, by operation. ruled: the table has rules.
	subjects [cdc.Truncate + 1]subjectPlan
	ruled    bool
}

// rulePlan is one rule compiled for one operation.
type rulePlan struct {
	*program
	n int // Event.N; of a per-transaction rule the bound one's number is
	// identity is that of a rule with after, which its timers have.
	identity string
	bound    *boundRule
	place    string
	table    cdc.Name
	// broken: the rule no longer fits the relation. The program then serves
	// only to decide, and only if decides is true.
	broken  *SchemaError
	decides bool
	// row are the columns of a parked row, with their JSON keys.
	row []rowColumn
	// needs are the columns that an event of the rule depends on: what a change
	// keeps while it waits for lookups.
	needs []int
}

type rowColumn struct {
	index int
	key   string
}

// newTablePlan compiles the table's rules against a relation. Every rule that
// does not fit is reported once. older: the relation is that of a time before the
// rules were bound.
func newTablePlan(rs *Ruleset, rel *cdc.Relation, older bool, report func(*SchemaError)) *tablePlan {
	plan := &tablePlan{relation: rel, alterable: alterableColumns(rs, rel), collects: newCollectPlans(rs, rel, older, report)}
	plan.ruled = len(rs.byTable[rel.TableName()]) > 0 || plan.collects != nil
	for _, b := range rs.byTable[rel.TableName()] {
		var reported bool
		if b.after != nil {
			plan.addTimer(rs, b, older, report)
			continue
		}
		var compiled [groups]*rulePlan
		for _, op := range b.ops.list() {
			g := groupOf(op)
			if compiled[g] == nil {
				compiled[g] = newRulePlan(rs, b, rel, older, g)
			}
			r := compiled[g]
			if b.perTransaction() {
				plan.collectsFor(b).add(op, r)
			} else {
				n := len(plan.byOp[op])
				if rs.numbered {
					n = b.number
				}
				plan.add(op, *r, n)
			}
			if r.broken == nil {
				continue
			}
			if plan.broken[op] == nil {
				plan.broken[op] = r.broken
			}
			if !reported {
				report(r.broken)
			}
			reported = true
		}
	}
	for _, c := range plan.collects {
		plan.addBrokenChildren(rs, c)
	}
	plan.addSubjects(rs)
	return plan
}

// add adds a rule as the number n, behind those with the same one.
func (p *tablePlan) add(op cdc.Op, r rulePlan, n int) {
	r.n = n
	i, _ := slices.BinarySearchFunc(p.byOp[op], n+1, func(r rulePlan, n int) int { return cmp.Compare(r.n, n) })
	p.byOp[op] = slices.Insert(p.byOp[op], i, r)
}

// addBrokenChildren has the table's changes parked for each rule whose child it no
// longer fits: without numbers, behind the table's own rules.
func (p *tablePlan) addBrokenChildren(rs *Ruleset, c *collectPlan) {
	for _, op := range rowOps().list() {
		from := len(p.byOp[op])
		if rs.numbered {
			from = 0
		}
		for _, child := range c.children {
			if child.drift.broken != nil {
				p.add(op, child.drift, from+child.number)
			}
		}
	}
}

func newRulePlan(rs *Ruleset, b *boundRule, rel *cdc.Relation, older bool, g group) *rulePlan {
	c := &compiler{relation: rel, lookups: b.lookups, settings: rs.settings, primaryKey: b.orderingKey(), hiddenKey: b.hiddenKey(), collations: b.table.Collations, delegated: b.delegated, conditions: b.conditions, computed: b.computed}
	r := &rulePlan{bound: b, place: b.place(), table: rel.TableName(), program: c.compile(b.rule, g)}
	changed := b.differences(rel, older)
	switch {
	case len(changed) > 0:
		r.broken = changed[0]
	case len(c.mistakes) > 0:
		m := c.mistakes[0]
		r.broken = b.schemaError(rel, "", "does not fit the rule any more: "+m.Message, m.Hint)
		if older {
			r.broken = b.schemaError(rel, "", "did not fit the rule when the change was made: "+m.Message, olderHint)
		}
	}
	r.decides = r.broken == nil || r.canDecide(c.uses, changed)
	for i, column := range rel.Columns {
		_, used := b.columns[column.Name]
		used = used || slices.ContainsFunc(c.uses, func(u use) bool { return u.Index == i }) // as a part of a whole row
		if used || slices.Contains(r.fallback, i) {
			r.needs = append(r.needs, i)
		}
		if _, used := b.columns[column.Name]; used && !b.denied[column.Name] && !b.hidden[column.Name] {
			r.row = append(r.row, rowColumn{i, jsonKey(column.Name)})
		}
	}
	return r
}

// canDecide: when and watch are not touched by what has changed.
func (r *rulePlan) canDecide(uses []use, changed []*SchemaError) bool {
	if r.undecided || !r.bound.watchAll.Valid() && r.watch != nil && len(r.watch) != len(r.bound.watch) {
		return false
	}
	return !slices.ContainsFunc(uses, func(u use) bool {
		return (u.path == "when" || u.path == "watch") && slices.ContainsFunc(changed, func(e *SchemaError) bool { return e.Column == u.Name })
	})
}

// padded: the type's values carry blanks that mean nothing.
func padded(t *cdc.Type) bool {
	t = t.Base()
	return t.Name == "bpchar" && t.Schema == "pg_catalog"
}

// place is file:line:col of an offset in the expression.
func (e *expression) place(offset int) string {
	m := e.value.Mistake(offset, "", "")
	return fmt.Sprintf("%s:%d:%d", m.File, m.Line, m.Col)
}

// SchemaError says that a rule no longer fits its table as the stream describes
// it: a column that it uses was dropped or renamed, or has another type.
type SchemaError struct {
	Rule   string // file:line
	Event  string
	Table  cdc.Name
	Column string // empty when it is no single column
	What   string // no longer exists
	Hint   string
}

// Error returns the message with what to do about it.
func (e *SchemaError) Error() string {
	subject := "table " + e.Table.String()
	if e.Column != "" {
		subject = fmt.Sprintf("column %q of table %s", e.Column, e.Table)
	}
	s := fmt.Sprintf("%s: apply rule %s: %s %s", e.Rule, e.Event, subject, e.What)
	if e.Hint != "" {
		s += "; " + e.Hint
	}
	return s
}

// olderHint: no rule fits a table both before and after it was altered.
const olderHint = "the table was altered since, and no rule fits both: set source.on_schema_change: park until the bridge has caught up, and redrive what it parks, or send the rows as they are now with gancho backfill"

// differences compares the columns that a rule uses, as they were when it was
// bound, with the relation of the stream, in the order of their names. A change
// that is older than the rules has the types of its time, to which the rule is
// compiled: that they were others then is no difference.
func (b *boundRule) differences(rel *cdc.Relation, older bool) []*SchemaError {
	var out []*SchemaError
	for _, name := range slices.Sorted(maps.Keys(b.columns)) {
		bound := b.columns[name].Base()
		i := rel.Column(name)
		if i < 0 && older {
			out = append(out, b.schemaError(rel, name, "did not exist when the change was made", olderHint))
			continue
		}
		if i < 0 {
			out = append(out, b.schemaError(rel, name, "is no longer in the stream", droppedHint(b, rel, name)))
			continue
		}
		if now := rel.Columns[i].Type.Base(); now.OID != bound.OID && !older && !b.widened(bound, now) {
			out = append(out, b.schemaError(rel, name, fmt.Sprintf("has changed its type from %s to %s", bound.Name, now.Name),
				"check the rule and load it again"))
		}
	}
	return out
}

// widened reports whether a column's new type only holds more than the one that
// the rule was bound to, so that its values look and compare as they did. The SQL of
// lookups and children names the types, and does not fit.
func (b *boundRule) widened(from, to *cdc.Type) bool {
	if len(b.lookups) > 0 || len(b.children) > 0 || from.Schema != "pg_catalog" || to.Schema != "pg_catalog" {
		return false
	}
	switch from.Name {
	case "int2":
		return to.Name == "int4" || to.Name == "int8"
	case "int4":
		return to.Name == "int8"
	case "varchar":
		return to.Name == "text"
	}
	return false
}

// droppedHint guesses a renamed column: one that the table did not have before.
func droppedHint(b *boundRule, rel *cdc.Relation, name string) string {
	var added []string
	for _, c := range rel.Columns {
		if b.table.Relation.Column(c.Name) < 0 && c.Type.Base().OID == b.columns[name].Base().OID {
			added = append(added, c.Name)
		}
	}
	hint := "correct the rule and load it again"
	renamed := strictyaml.Closest(name, added)
	if len(added) == 1 {
		renamed = added[0]
	}
	if renamed != "" {
		hint = fmt.Sprintf("it may be %s now; %s", cdc.QuoteIdentifier(renamed), hint)
	}
	return hint
}

func (b *boundRule) schemaError(rel *cdc.Relation, column, what, hint string) *SchemaError {
	return &SchemaError{Rule: b.place(), Event: b.event, Table: rel.TableName(), Column: column, What: what, Hint: hint}
}
