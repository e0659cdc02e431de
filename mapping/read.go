package mapping

import (
	"maps"
	"slices"
	"strings"

	"gancho/cdc"
	"gancho/mapping/expr"
)

// ReadTable is a table whose rows rules take that are there already.
type ReadTable struct {
	Table *cdc.Table
	// Columns are those that the rules depend on.
	Columns []string
	// Rules are the places of the rules, file:line, and Events what they make.
	Rules, Events []string
}

// reads reports whether the rule takes rows that are there already: one with after sets their timers.
func (b *boundRule) reads() bool { return b.ops.has(cdc.Insert) && !b.noBackfill }

// Reads returns the tables of rules that are on insert, unless they say backfill: never, and whose
// event is chosen, by their names: a table that inherits from a rule's is one of its own. Without timers, rules with after are left out. Its error is a
// *SchemaError: a rule no longer fits its table.
func (rs *Ruleset) Reads(chosen func(event string) bool, timers bool) ([]ReadTable, error) {
	var out []ReadTable
	names := slices.SortedFunc(maps.Keys(rs.byTable), func(a, b cdc.Name) int { return strings.Compare(a.String(), b.String()) })
	for _, name := range names {
		var t ReadTable
		needed := map[string]bool{}
		for _, b := range rs.byTable[name] {
			if !b.reads() || !chosen(b.event) || b.after != nil && !timers {
				continue
			}
			rel := b.table.Relation
			plan := newRulePlan(rs, b, rel, false, groupWrite)
			if plan.broken != nil {
				return nil, plan.broken
			}
			for _, i := range plan.needs {
				needed[rel.Columns[i].Name] = true
			}
			t.Table = b.table
			t.Rules, t.Events = append(t.Rules, b.place()), append(t.Events, b.event)
		}
		if t.Table != nil {
			t.Columns = slices.Sorted(maps.Keys(needed))
			out = append(out, t)
		}
	}
	return out, nil
}

// CheckWhere checks that an expression over a table's rows is one of the language, which the server then
// evaluates: it reads nothing but the row, and has no effect.
func (rs *Ruleset) CheckWhere(t *cdc.Table, where string) error {
	_, err := expr.CompileBool(where, &expr.Scope{
		Relation: t.Relation, New: true, Insert: true, Settings: rs.settings, Generated: len(t.Generated) > 0,
		Collation: func(column int) (name string, deterministic bool) {
			own := t.Collations[t.Relation.Columns[column].Name]
			return own.Name, own.Deterministic
		},
	})
	return err
}

// Path is the search_path by which the names in the rules were found.
func (rs *Ruleset) Path() string { return rs.path }

// readPlan is what a Mapper does with rows of one relation that were there already.
type readPlan struct {
	*tablePlan
	rules   []*rulePlan // in the order of their numbers
	subject subjectPlan
}

// planRead returns the plan, nil when the rules know another version of a type than the relation.
func (m *Mapper) planRead(rel *cdc.Relation) *readPlan {
	if plan := m.readPlans[rel.OID]; plan != nil && plan.relation == rel {
		return plan
	}
	if m.outdated(rel) {
		return nil
	}
	plan := &readPlan{tablePlan: newTablePlan(m.rules, rel, false, m.schemaChange)}
	for i := range plan.byOp[cdc.Insert] {
		plan.rules = append(plan.rules, &plan.byOp[cdc.Insert][i])
	}
	for _, c := range plan.collects {
		for _, t := range c.rules[cdc.Insert] {
			t.n = t.bound.number
			plan.rules = append(plan.rules, &t.rulePlan)
		}
	}
	for i := range plan.timers {
		plan.rules = append(plan.rules, &plan.timers[i])
	}
	plan.rules = slices.DeleteFunc(plan.rules, func(r *rulePlan) bool { return !r.bound.reads() })
	slices.SortFunc(plan.rules, func(a, b *rulePlan) int { return a.n - b.n })
	plan.subject = subjectPlan{columnIndexes(rel, m.rules.primaryKey(rel.TableName())), tenantOf(plan.rules)}
	m.readPlans[rel.OID] = plan
	return plan
}

// Read gives the sink the events of a row that was there already, a [cdc.Read], and what had to be
// parked: of each rule that is on insert and whose event is chosen, as if the row were inserted
// in a transaction of its own. A sink that takes timers is given those of rules with after. Its errors are those of Map; a *SchemaError comes before anything is given to the
// sink, under either policy.
func (m *Mapper) Read(c *cdc.Change, chosen func(event string) bool, sink Sink) error {
	plan := m.planRead(c.Relation)
	if plan == nil || len(plan.alterable) > 0 && m.stale(plan.tablePlan, c) {
		return cdc.ErrStaleTypes
	}
	for _, r := range plan.rules {
		if r.broken != nil && chosen(r.bound.event) {
			return r.broken
		}
	}
	m.load(c)
	for _, r := range plan.rules {
		if !chosen(r.bound.event) {
			continue
		}
		before := len(m.observation.Verdicts)
		take := m.readTimer
		if r.bound.after == nil {
			take = func(r *rulePlan, c *cdc.Change, sink Sink) error { return m.apply(r, r.n, c, sink) }
		}
		if err := take(r, c, sink); err != nil {
			m.forgetVerdicts()
			return err
		}
		m.observeEvent(c, &plan.subject, before)
	}
	if len(m.observation.Verdicts) > 0 {
		m.observe(c, &plan.subject)
	}
	return nil
}
