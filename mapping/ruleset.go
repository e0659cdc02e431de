package mapping

import (
	"cmp"
	"fmt"
	"slices"
	"strings"

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
		if r.after != nil {
			c.add(r.table, rowOps())
		}
		for _, child := range r.children {
			c.add(child.table, rowOps())
		}
	}
	return c.sorted()
}

// Ruleset is a set of rules that fit the source. Once a Mapper has it, it is
// immutable.
type Ruleset struct {
	rules     []*boundRule // of tables
	schedules []*Scheduled
	byTable   map[cdc.Name][]*boundRule
	// heirs are rules as those of the tables that inherit from theirs.
	heirs []*boundRule
	// perTransaction are the rules that wait for the commit, by their numbers;
	// transactional are the tables that they depend on.
	perTransaction map[int]*boundRule
	transactional  map[cdc.Name][]*transactionTable
	findings       []cdc.Finding
	settings       expr.Settings
	path, schemas  string                       // those of the room of lookups
	denied         map[uint32]map[string]string // by the binder
	catalogue      *Catalogue
	// reader is the role that must read for lookups, because of what it may not read;
	// empty: any.
	reader   string
	policy   Policy
	numbered bool                  // by Number
	timed    map[string]*boundRule // rules with after, by their identities
	// boundAt is the end of the WAL after the rules were bound: a change that
	// committed before it may be of a table that has been altered since.
	boundAt cdc.LSN
	// source is the name that tenants begin with; empty: they are what the rules say.
	source string
}

// Of has the tenants of all events begin with the name of a source and a slash, because the same
// tenant is another one in another database; that of an event without one is the name. Call it before a
// Mapper has the rules.
func (rs *Ruleset) Of(source string) {
	rs.source = source
	for _, s := range rs.schedules {
		s.rules.source = source
	}
}

// appendTenant appends the tenant that a rule gives, which is empty when it gives none.
func (rs *Ruleset) appendTenant(dst, tenant []byte) []byte {
	dst = append(dst, rs.source...)
	if rs.source != "" && len(tenant) > 0 {
		dst = append(dst, '/')
	}
	return append(dst, tenant...)
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

// Ruled returns the tables of Tables as [cdc.Hazards] wants them.
func (rs *Ruleset) Ruled() []cdc.Ruled {
	followed := map[uint32]bool{}
	for _, b := range rs.rules {
		oid := b.table.Relation.OID
		followed[oid] = followed[oid] || !b.perTransaction()
	}
	for _, b := range rs.heirs {
		followed[b.table.Relation.OID] = true
	}
	var tables []cdc.Ruled
	for _, b := range rs.withChildren() {
		oid := b.table.Relation.OID
		tables = append(tables, cdc.Ruled{OID: oid, Alone: !followed[oid]})
	}
	return tables
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
func (rs *Ruleset) Findings() []cdc.Finding { return slices.Clone(rs.findings) }

// Policy is what happens when the source no longer fits the rules.
func (rs *Ruleset) Policy() Policy { return rs.policy }

// Len is the number of rules.
func (rs *Ruleset) Len() int { return len(rs.rules) + len(rs.schedules) }

// publicationFindings reports what row filters and column lists of publications
// hold back. Missing tables and operations are reported by cdc.Prepare, which
// knows what is safe to add. With an empty name nothing is checked.
func publicationFindings(rs *Ruleset, publication string) []cdc.Finding {
	if publication == "" {
		return nil
	}
	var out []cdc.Finding
	for _, b := range rs.withChildren() {
		for _, m := range b.table.Memberships {
			if m.Publication == publication || m.Publication == cdc.InsertPublication(publication) {
				out = append(out, b.restrictionFindings(m)...)
			}
		}
	}
	return out
}

// restrictionFindings checks the row filter and the column list of a membership.
func (b *boundRule) restrictionFindings(m cdc.Membership) []cdc.Finding {
	name := b.table.Relation.TableName()
	again := []cdc.Statement{cdc.RepublishTable(m.Publication, name)}
	var out []cdc.Finding
	add := func(id, title string) {
		out = append(out, cdc.Finding{ID: id, Severity: cdc.SeverityWarning, Title: title, Statements: again, Where: b.place()})
	}
	if m.Filtered {
		add("publication.filter", fmt.Sprintf("publication %s has a row filter on %s: changes of other rows are never seen", m.Publication, name))
	}
	var missing []string
	for column := range b.columns {
		if m.Columns != nil && !slices.Contains(m.Columns, column) {
			missing = append(missing, column)
		}
	}
	if len(missing) > 0 {
		slices.Sort(missing)
		add("publication.columns", fmt.Sprintf("publication %s leaves out the columns %s of %s", m.Publication, strings.Join(missing, ", "), name))
	}
	return out
}
