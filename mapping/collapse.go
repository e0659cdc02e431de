package mapping

import (
	"bytes"
	"context"
	"encoding/binary"
	"slices"
	"strings"

	"gancho/cdc"
	"gancho/internal/strictyaml"
)

// perTransaction: the rule waits for the commit.
func (r *rule) perTransaction() bool {
	return len(r.collapse) > 0 || len(r.children) > 0 || r.rootOnly != nil
}

// waitsFor names the key that makes the rule wait for the commit.
func (r *rule) waitsFor() string {
	switch {
	case len(r.children) > 0:
		return "children"
	case r.rootOnly != nil:
		return "root_only"
	}
	return "collapse"
}

func parseCollapse(v strictyaml.Value) []*expression {
	items := v.ListOrOne()
	if len(items) == 0 {
		v.Errorf("write the column, or the list of columns, of which one transaction makes one event", "collapse is an empty list")
	}
	return mapped(items, func(item strictyaml.Value) *expression { return parseExpression(item, "collapse") })
}

// collapsesRows: collapse names all columns of the primary key, so that each row
// is its own group.
func (r *rule) collapsesRows(primaryKey []string) bool {
	var named []string
	for _, e := range r.collapse {
		name, err := cdc.ParseName(e.text)
		if err != nil || name.Schema != "" {
			return false
		}
		named = append(named, name.Name)
	}
	return len(primaryKey) > 0 && !slices.ContainsFunc(primaryKey, func(c string) bool { return !slices.Contains(named, c) })
}

// movingKey is the primary key without the columns by which the table is partitioned,
// if a rule's collapse names it: a row keeps it when an update moves it to another
// partition. Its events are ordered by it. It is nil for any other rule.
func (b *binder) movingKey(ctx context.Context, r *rule, t *cdc.Table) ([]string, error) {
	if t.Kind != 'p' || len(r.collapse) == 0 || r.waitsFor() != "collapse" || r.collapsesRows(t.PrimaryKey) {
		return nil, nil
	}
	partitionKey, err := b.partitionKey(ctx, t)
	if err != nil {
		return nil, err
	}
	b.saving.partitioned[t.Relation.OID] = partitionKey
	rest := slices.DeleteFunc(slices.Clone(t.PrimaryKey), func(column string) bool { return slices.Contains(partitionKey, column) })
	if !r.collapsesRows(rest) {
		return nil, nil
	}
	return rest, nil
}

func (b *binder) partitionKey(ctx context.Context, t *cdc.Table) ([]string, error) {
	if b.saved != nil {
		return b.saved.partitionKey(t), nil
	}
	return cdc.PartitionKey(ctx, b.conn, b.options.Encoding, t)
}

// orderingKey are the columns by which events are ordered, unless the rule has a key.
func (b *boundRule) orderingKey() []string {
	if b.moving != nil {
		return b.moving
	}
	return b.table.PrimaryKey
}

// checkMovingTenant: rows of two tenants with the same key are not one row, and an update
// of the tenant must not show the old one's data to the new one.
func (b *binder) checkMovingTenant(bound *boundRule, uses []use) {
	if bound.moving == nil || bound.tenant == nil {
		return
	}
	for _, u := range uses {
		ofTenant := u.path == bound.tenant.path || slices.ContainsFunc(bound.lookups, func(l *boundLookup) bool {
			return l.path() == u.path && strings.Contains(bound.tenant.text, l.name)
		})
		if ofTenant && slices.Contains(bound.table.PrimaryKey, u.Name) && !slices.Contains(bound.moving, u.Name) {
			b.mistake(bound.collapse[0].value, -1, "add the column to collapse", "the tenant depends on column %q of the primary key, and collapse is without it: an update that changes it would show a row of one tenant to another", u.Name)
			return
		}
	}
}

// A match is one side of two rows that have a key in common, such as a parent
// and its child. Its own key is rule, common key, tag, time and side.
const (
	tagFirst  = 0 // children, and the keys of deleted rows
	tagSecond = 1 // the rows that ask for them

	matchTail = 1 + 8 + 1
)

// joining is the state while matches with one common key are read.
type joining struct {
	started bool
	number  int
	key     []byte // rule and common key
	// found: there was a first one; last and side are of the last one.
	found bool
	last  uint64
	side  side
	// asked: there was a second one. value is the last one's.
	asked bool
	value []byte
}

// addMatch adds a match of a rule. The common key is in c.key.
func (c *collector) addMatch(number int, tag byte, last uint64, s side, value []byte) error {
	l := &c.matches
	start := len(l.arena)
	l.arena = binary.BigEndian.AppendUint16(l.arena, uint16(number)) // bounded when rules are bound
	l.arena = append(append(l.arena, c.key...), tag)
	l.arena = append(binary.BigEndian.AppendUint64(l.arena, last), byte(s))
	key := len(l.arena) - start
	l.arena = append(l.arena, value...)
	return l.push(start, key)
}

// join turns matches into results.
func (m *Mapper) join() error {
	c := &m.collector
	g := &c.joining
	g.started = false
	err := c.matches.each(func(key, value []byte) error {
		common, tail := key[:len(key)-matchTail], key[len(key)-matchTail:]
		if !g.started || !bytes.Equal(common, g.key) {
			if err := m.endGroup(); err != nil {
				return err
			}
			*g = joining{started: true, number: int(binary.BigEndian.Uint16(key)), key: append(g.key[:0], common...), value: g.value[:0]}
		}
		last, s := binary.BigEndian.Uint64(tail[1:]), side(tail[9])
		if tail[0] == tagFirst {
			g.found, g.last, g.side = true, last, s
			return nil
		}
		return m.joinAsking(last, s, value)
	})
	if err != nil {
		return err
	}
	return m.endGroup()
}

// joinAsking handles a row that asks for others of its group, which come before it.
func (m *Mapper) joinAsking(last uint64, s side, value []byte) error {
	c := &m.collector
	g := &c.joining
	b := m.rules.perTransaction[g.number]
	switch {
	case len(b.children) > 0:
		return m.joinParent(b, last, s, value)
	case b.rootOnly != nil:
		if g.found {
			m.toldNet(last, Verdict{Rule: uint16(g.number), Outcome: Root})
			return nil // the parent is deleted too
		}
		return c.addResult(last, s, g.number, value)
	}
	// Rows of one collapse key come in the order of the transaction.
	g.asked, g.last, g.side = true, last, s
	g.value = append(g.value[:0], value...)
	return nil
}

// endGroup adds the result of a whole group.
func (m *Mapper) endGroup() error {
	c := &m.collector
	g := &c.joining
	if !g.started {
		return nil
	}
	b := m.rules.perTransaction[g.number]
	switch {
	case len(b.children) > 0:
		if !g.found || g.asked {
			return nil
		}
		c.parents++
		return c.addResult(g.last, g.side, g.number, append([]byte{resultParent | resultChild}, g.key[2:]...))
	case b.rootOnly != nil || !g.asked:
		return nil
	}
	return c.addResult(g.last, g.side, g.number, g.value)
}

// matchGroup brings together the rows of one collapse key. Of those that the rule
// fires for, the last one makes the event.
func (m *Mapper) matchGroup(tx *cdc.Transaction, r *transactionPlan, n *net) error {
	c := &m.collector
	m.load(c.as(n, tx, n.last))
	fires, failed := m.fires(&r.rulePlan, &c.change)
	switch {
	case failed != nil: // applying the result parks the change
		return c.result(n, n.last, n.side, r.bound.number, 0)
	case !fires:
		m.why.Rule = uint16(r.bound.number)
		m.toldNet(n.last, m.why)
		return nil
	}
	var known bool
	if c.key, known, failed = m.inputsOf(c.key[:0], r); failed != nil || !known {
		// A null says nothing about what belongs together.
		flags := byte(0)
		if failed != nil {
			flags = resultGroup
		}
		return c.result(n, n.last, n.side, r.bound.number, flags)
	}
	m.toldNet(n.last, Verdict{Rule: uint16(r.bound.number), Outcome: Grouped})
	c.scratch = c.reference(append(c.scratch[:0], 0), n)
	return c.addMatch(r.bound.number, tagSecond, n.last, n.side, c.scratch)
}

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
	if c.key, known = c.appendColumns(c.key[:0], rel, r.key, c.before); known {
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
	if c.key, known = c.appendColumns(c.key[:0], rel, r.parent, c.before); !known {
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
