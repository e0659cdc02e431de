package mapping

import (
	"slices"
	"strings"

	"gancho/cdc"
	"gancho/mapping/expr"
)

// Coverage counts, for each conjunct of each rule's when, what it was for the changes that
// a Mapper has seen. It belongs to the Mapper's goroutine.
type Coverage struct {
	rules map[string]*coveredRule // by their places
	// compiled are the conjuncts that can be decided at the change.
	compiled map[*rulePlan][]*expr.Expr
}

type coveredRule struct {
	rule      *rule
	conjuncts []Conjunct
}

// Conjunct is an operand of the ANDs at the top of a rule's when.
type Conjunct struct {
	Rule  string `json:"rule"` // file:line
	Event string `json:"event"`
	Place string `json:"place"` // file:line:col
	Text  string `json:"text"`
	// How often it was what.
	True  int `json:"true"`
	False int `json:"false"`
	Null  int `json:"null"`
}

// WithCoverage has the Mapper count what the conjuncts of conditions were.
func WithCoverage(c *Coverage) MapperOption { return func(m *Mapper) { m.coverage = c } }

// NewCoverage counts for the rules.
func NewCoverage(rs *Ruleset) *Coverage {
	c := &Coverage{rules: map[string]*coveredRule{}, compiled: map[*rulePlan][]*expr.Expr{}}
	for _, b := range rs.rules {
		covered := &coveredRule{rule: b.rule}
		c.rules[b.place()] = covered
		if b.when == nil {
			continue
		}
		for _, s := range conjuncts(b.when.text) {
			text := b.when.text[s.from:s.to]
			at := s.from + firstByte(text)
			covered.conjuncts = append(covered.conjuncts, Conjunct{
				Rule: b.place(), Event: b.event, Place: b.when.place(at), Text: strings.Join(strings.Fields(text), " "),
			})
		}
	}
	return c
}

// Conjuncts are those of all rules, in the order of the files.
func (c *Coverage) Conjuncts(rs *Ruleset) []Conjunct {
	out := []Conjunct{}
	for _, b := range rs.rules {
		out = append(out, c.rules[b.place()].conjuncts...)
	}
	return out
}

// count notes what the conjuncts are for the change that is loaded.
func (c *Coverage) count(m *Mapper, r *rulePlan, change *cdc.Change) {
	covered := c.rules[r.place]
	if covered == nil || len(covered.conjuncts) == 0 {
		return
	}
	compiled, known := c.compiled[r]
	if !known {
		b, g := r.bound, groupOf(change.Op)
		scope := (&compiler{relation: change.Relation, lookups: b.lookups, settings: m.rules.settings, collations: b.table.Collations}).scope(b.rule, g)
		for _, s := range conjuncts(b.when.text) {
			e, err := expr.CompileBool(only(b.when.text, s), early(scope))
			if err != nil {
				e = nil // decided later, see countLate
			}
			compiled = append(compiled, e)
		}
		c.compiled[r] = compiled
	}
	for i, e := range compiled {
		if e == nil {
			continue
		}
		if value, null, err := m.machine.Bool(e); err == nil {
			covered.conjuncts[i].add(value, null)
		}
	}
}

// countLate notes what a conjunct is that depends on lookups.
func (c *Coverage) countLate(r *rulePlan, e *expression, value, null bool) {
	covered := c.rules[r.place]
	if covered == nil {
		return
	}
	text := strings.Join(strings.Fields(e.text), " ")
	if i := slices.IndexFunc(covered.conjuncts, func(c Conjunct) bool { return c.Text == text }); i >= 0 {
		covered.conjuncts[i].add(value, null)
	}
}

func (c *Conjunct) add(value, null bool) {
	switch {
	case null:
		c.Null++
	case value:
		c.True++
	default:
		c.False++
	}
}
