package mapping

import (
	"cmp"
	"slices"

	"gancho/cdc"
	"gancho/mapping/expr"
)

// Tables returns what the publication must publish of each table, by the names
// as they are written, sorted. What rules with collapse, children or root_only
// need besides their own operations is known after Bind.
func (r *Rules) Tables() []cdc.TableNeed {
	var c needs
	for _, r := range r.rules {
		c.add(r.table, r.ops)
		for _, child := range r.children {
			c.add(child.table, rowOps())
		}
	}
	return c.sorted()
}

// Finding is what a person should know about the source, and no mistake in a rule.
type Finding struct {
	// Rule is the place of the rule, file:line.
	Rule  string
	Table cdc.Name
	// Message is the fact, Fix the statement or edit that would change it.
	Message, Fix string
}

// Ruleset is a set of rules that fit the source. It is immutable.
type Ruleset struct {
	rules   []*boundRule
	byTable map[cdc.Name][]*boundRule
	// perTransaction are the rules that wait for the commit, by their numbers;
	// transactional are the tables that they depend on.
	perTransaction []*boundRule
	transactional  map[cdc.Name]*transactionTable
	findings       []Finding
	settings       expr.Settings
	policy         Policy
}

// Tables returns what the publication must publish of each table, by resolved
// names, sorted.
func (rs *Ruleset) Tables() []cdc.TableNeed {
	var c needs
	for _, b := range rs.withChildren() {
		c.add(b.table.Relation.TableName(), b.seen)
	}
	return c.sorted()
}

// needs collects what is needed of tables.
type needs []cdc.TableNeed

func (c *needs) add(name cdc.Name, ops opSet) {
	i := slices.IndexFunc(*c, func(n cdc.TableNeed) bool { return n.Schema == name.Schema && n.Name == name.Name })
	if i < 0 {
		i, *c = len(*c), append(*c, cdc.TableNeed{Schema: name.Schema, Name: name.Name})
	}
	n := &(*c)[i]
	n.Insert = n.Insert || ops.has(cdc.Insert)
	n.Update = n.Update || ops.has(cdc.Update)
	n.Delete = n.Delete || ops.has(cdc.Delete)
	n.Truncate = n.Truncate || ops.has(cdc.Truncate)
}

func (c needs) sorted() []cdc.TableNeed {
	slices.SortFunc(c, func(a, b cdc.TableNeed) int {
		return cmp.Or(cmp.Compare(a.Schema, b.Schema), cmp.Compare(a.Name, b.Name))
	})
	return c
}

// Findings returns what the person should know about the source.
func (rs *Ruleset) Findings() []Finding { return slices.Clone(rs.findings) }

// Len is the number of rules.
func (rs *Ruleset) Len() int { return len(rs.rules) }
