package mapping

import (
	"gancho/cdc"
	"gancho/internal/strictyaml"
)

// rootOnly silences a rule for a deleted row whose parent is deleted too.
type rootOnly struct {
	value strictyaml.Value
	// parent are the columns that hold the parent's key; key are the columns of
	// that key, when they are not the primary key.
	parent, key []columnRef
}

func parseRootOnly(v strictyaml.Value) *rootOnly {
	o := &rootOnly{value: v}
	if !v.IsMap() {
		o.parent = columnRefs(v, "root_only")
		return o
	}
	v.Map(
		strictyaml.Required("parent", func(v strictyaml.Value) { o.parent = columnRefs(v, "root_only.parent") }),
		strictyaml.Optional("key", func(v strictyaml.Value) { o.key = columnRefs(v, "root_only.key") }),
	)
	return o
}

func names(refs []columnRef) []string {
	return mapped(refs, func(ref columnRef) string { return ref.name })
}

// mapped returns what a function makes of each item.
func mapped[T, U any](list []T, f func(T) U) []U {
	out := make([]U, len(list))
	for i, item := range list {
		out[i] = f(item)
	}
	return out
}

// matchParent brings a deleted row together with its parent and its children.
func (m *Mapper) matchParent(r *transactionPlan, n *net) error {
	c := &m.collector
	rel := n.plan.relation
	c.before = datums(c.before, n.old, len(rel.Columns))
	var known bool
	if c.key, known = appendColumns(c.key[:0], rel, r.key, c.before); known {
		if err := c.addMatch(r.bound.number, tagFirst, n.last, n.side, nil); err != nil {
			return err
		}
	}
	for _, i := range r.parent {
		if c.before != nil && !c.before[i].Known() {
			// The parent is not known: applying the rule parks the change, with the reason.
			return c.result(n, n.last, n.side, r.bound.number, 0)
		}
	}
	if c.key, known = appendColumns(c.key[:0], rel, r.parent, c.before); !known {
		return c.result(n, n.last, n.side, r.bound.number, 0) // it has no parent
	}
	c.scratch = c.reference(append(c.scratch[:0], 0), n)
	return c.addMatch(r.bound.number, tagSecond, n.last, n.side, c.scratch)
}

// bindRootOnly checks the columns of root_only.
func (b *binder) bindRootOnly(bound *boundRule, c *compiler) {
	o := bound.rootOnly
	if o == nil {
		return
	}
	bound.rootKey = names(o.key)
	keys := o.key
	if len(keys) == 0 {
		bound.rootKey = bound.table.PrimaryKey
		keys = columnRefsOf(o.value, bound.rootKey)
	}
	if len(keys) != len(o.parent) {
		b.mistake(o.value, -1, "write root_only: {parent: [...], key: [...]} with as many columns on both sides",
			"root_only has %s for a key of %s", columnCount(len(o.parent)), columnCount(len(keys)))
		return
	}
	for i := range keys {
		p, k := c.joinColumn(o.parent[i], "root_only", groupDelete), c.joinColumn(keys[i], "root_only", groupDelete)
		if p >= 0 && k >= 0 {
			columns := bound.table.Relation.Columns
			b.checkComparable(o.parent[i].value, columns[p], columns[k])
		}
	}
}

// joinColumn finds a column by which rows are matched.
func (c *compiler) joinColumn(ref columnRef, path string, g group) int {
	i := c.find(ref)
	if i >= 0 {
		u := use{value: ref.value, path: path, group: g}
		u.Name, u.Index, u.Old = ref.name, i, g == groupDelete
		c.uses = append(c.uses, u)
	}
	return i
}

// checkComparable: equal values of both columns have equal texts.
func (b *binder) checkComparable(v strictyaml.Value, a, o cdc.Column) {
	if family := keyFamily(a.Type); family == "" || family != keyFamily(o.Type) {
		b.mistake(v, -1, "columns that are compared must both be integers, texts, or of one type among uuid, date and enum",
			"column %q of type %s cannot be compared with %q of type %s", a.Name, a.Type.Name, o.Name, o.Type.Name)
	}
}

// keyFamily is the set of types within which equal values have equal texts, ""
// for types of which one value has several.
func keyFamily(t *cdc.Type) string {
	t = t.Base()
	switch t.Name {
	case "int2", "int4", "int8", "oid":
		return "integer"
	case "text", "varchar", "bpchar", "name", "char":
		return "text"
	}
	if textIsValue(t) {
		return t.Schema + "." + t.Name
	}
	return ""
}
