package mapping

import (
	"bytes"
	"encoding/binary"
	"hash/maphash"
	"slices"

	"gancho/cdc"
	"gancho/mapping/expr"
)

// transactionTable is a table whose changes wait for the commit: rules are applied
// to the net effect of a transaction on a row, or on a row's parent.
type transactionTable struct {
	key      []string      // what tells rows apart
	moving   []string      // what of it a row keeps that moves to another partition; nil for others
	number   byte          // among those of one table
	children []*boundChild // the rules for whose tables it is a child
}

// collectPlan is how a Mapper handles the changes of such a table, as the stream
// describes it.
type collectPlan struct {
	table    *transactionTable
	relation *cdc.Relation
	// key are the columns that tell rows apart; nil: every change is a row of its own.
	// moving are those of them that a row keeps that moves; nil: none moves.
	key, moving []int
	rules       [cdc.Delete + 1][]*transactionPlan
	families    []family
	children    []childPlan
	subjects    [cdc.Delete + 1]subjectPlan
	// broken is the first error of a rule for which the table is a child.
	broken *SchemaError
}

// transactionPlan is a per-transaction rule compiled for one operation.
type transactionPlan struct {
	rulePlan
	// parent and key are the columns of root_only; nil without it.
	parent, key []int
}

func newCollectPlans(rs *Ruleset, rel *cdc.Relation, older bool, report func(*SchemaError)) []*collectPlan {
	var plans []*collectPlan
	for _, table := range rs.transactional[rel.TableName()] {
		plans = append(plans, newCollectPlan(table, rel, older, report))
	}
	return plans
}

// collectsFor is the plan of a per-transaction rule.
func (p *tablePlan) collectsFor(b *boundRule) *collectPlan {
	i := slices.IndexFunc(p.collects, func(c *collectPlan) bool { return slices.Equal(c.table.moving, b.moving) })
	return p.collects[i]
}

func newCollectPlan(table *transactionTable, rel *cdc.Relation, older bool, report func(*SchemaError)) *collectPlan {
	p := &collectPlan{table: table, relation: rel, key: columnIndexes(rel, table.key), moving: columnIndexes(rel, table.moving)}
	for _, child := range table.children {
		c := newChildPlan(child, rel, older)
		p.children = append(p.children, c)
		if c.drift.broken == nil {
			continue
		}
		if p.broken == nil {
			p.broken = c.drift.broken
		}
		report(c.drift.broken)
	}
	return p
}

func (p *collectPlan) add(op cdc.Op, r *rulePlan) {
	t := &transactionPlan{rulePlan: *r}
	b := r.bound
	if b.rootOnly != nil && op == cdc.Delete {
		t.parent, t.key = columnIndexes(p.relation, names(b.rootOnly.parent)), columnIndexes(p.relation, b.rootKey)
	}
	p.rules[op] = append(p.rules[op], t)
	known := slices.ContainsFunc(p.families, func(f family) bool { return f.bound == b })
	if len(b.children) > 0 && r.broken == nil && !known {
		p.families = append(p.families, family{b, columnIndexes(p.relation, b.familyKey)})
	}
}

// rule finds a rule by its number among the per-transaction ones.
func (p *collectPlan) rule(op cdc.Op, number int) *transactionPlan {
	for _, r := range p.rules[op] {
		if r.bound.number == number {
			return r
		}
	}
	return nil
}

// columnIndexes returns the indexes of columns; nil when one does not exist.
func columnIndexes(rel *cdc.Relation, names []string) []int {
	var out []int
	for _, name := range names {
		i := rel.Column(name)
		if i < 0 {
			return nil
		}
		out = append(out, i)
	}
	return out
}

// collector holds what waits for the commit of the open transaction.
type collector struct {
	seed maphash.Seed
	// settings are the rules'.
	settings expr.Settings
	// count is the number of row changes so far, of whatever tables.
	count uint64
	// changes are all changes of the tables concerned, by row and order.
	changes sorter
	// matches bring together what rules compare with each other: parents and
	// children, rows of one collapse key.
	matches sorter
	// results are the rules to apply, by the positions of their events.
	results sorter
	plans   []*collectPlan
	// moves are the rows that moved to another partition.
	moves moves
	// emptied are the TRUNCATEs of a table.
	emptied map[*transactionTable][]uint64
	// rows are the net changes, unless they are too many: then they are only in
	// matches and results.
	rows []storedRow
	// current is the number of the one at hand, and slots find them by hash.
	current int
	slots   []int32
	// parents is the number of results whose row must be read from the source.
	parents int
	// joining is the group of matches at hand.
	joining joining
	// batch are results of which some wait for rows of the source.
	batch        []result
	key, scratch []byte
	before, now  []cdc.Datum
	change       cdc.Change
}

func newCollector(memory int64) collector {
	part := int(memory / 2) // bytes of memory
	c := collector{seed: maphash.MakeSeed(), emptied: map[*transactionTable][]uint64{}}
	// Once changes are in the file, the other two use their memory.
	c.changes.limit, c.matches.limit, c.results.limit = part, part/2, part/2
	c.moves = moves{limit: part, identities: map[string]string{}}
	return c
}

// reset discards the transaction.
func (c *collector) reset() {
	c.count, c.parents = 0, 0
	if len(c.plans) == 0 {
		return
	}
	c.changes.reset()
	c.matches.reset()
	c.results.reset()
	c.moves.reset()
	clear(c.plans)
	clear(c.emptied)
	clear(c.rows)
	c.plans, c.rows = c.plans[:0], c.rows[:0]
	if cap(c.rows) > keptMemory/128 {
		c.rows, c.slots = nil, nil
	}
}

// failing is the first error of the rules that a change concerns.
func (p *tablePlan) failing(op cdc.Op) *SchemaError {
	broken := p.broken[op]
	for _, c := range p.collects {
		if broken == nil && op != cdc.Truncate {
			broken = c.broken
		}
	}
	return broken
}

// plan returns the number of a plan within the transaction.
func (c *collector) plan(p *collectPlan) int {
	for i := len(c.plans) - 1; i >= 0; i-- {
		if c.plans[i] == p {
			return i
		}
	}
	c.plans = append(c.plans, p)
	return len(c.plans) - 1
}

// The flags of a stored change or net change.
const (
	flagBefore = 1 << iota
	flagAfter
	flagHoles
	flagSide // the first of the bits of the side
)

// collect stores a change until the commit.
func (c *collector) collect(p *collectPlan, change *cdc.Change) error {
	n := net{plan: p, last: change.Ordinal}
	switch change.Op {
	case cdc.Truncate:
		c.plan(p)
		c.emptied[p.table] = append(c.emptied[p.table], change.Ordinal)
		return nil
	case cdc.Insert:
		n.after = true
		if c.moves.deleted == p {
			c.moved(p, change.New, change.Ordinal)
		}
		return c.put(&n, change, change.New)
	case cdc.Delete:
		n.before = true
		if p.moving != nil {
			c.leaves(p, change.Old)
		}
		return c.put(&n, change, change.Old)
	}
	n.before, n.after = true, true
	same := !c.keyChanged(p, change)
	if !same && p.moving != nil {
		c.leaves(p, change.Old)
		same = c.moved(p, change.New, change.Ordinal)
	}
	if same {
		return c.put(&n, change, change.New)
	}
	// To a receiver one row is deleted and another inserted.
	deleted, inserted := *change, *change
	deleted.New, inserted.Old = nil, nil
	n.after, n.side = false, sideKey
	if err := c.put(&n, &deleted, change.Old); err != nil {
		return err
	}
	n.before, n.after, n.side = false, true, sideRow
	return c.put(&n, &inserted, change.New)
}

// keyChanged reports whether an update made of the row another one.
func (c *collector) keyChanged(p *collectPlan, change *cdc.Change) bool {
	if change.Old == nil {
		return false
	}
	for _, i := range p.key {
		was, now, t := change.Old[i], change.New[i], p.relation.Columns[i].Type
		if was.Known() && !bytes.Equal(was.Text, now.Text) && !bytes.Equal(c.settings.EqualText(was.Text, t), c.settings.EqualText(now.Text, t)) {
			return true
		}
	}
	return false
}

// put stores one change of the row that has its key in the given datums.
func (c *collector) put(n *net, change *cdc.Change, identity []cdc.Datum) error {
	s := &c.changes
	start := len(s.arena)
	s.arena = append(s.arena, 0, 0, 0, 0, 0, 0, 0, 0)
	s.arena = n.plan.appendTable(s.arena)
	identified := len(s.arena)
	var known bool
	if s.arena, known = c.appendColumns(s.arena, n.plan.relation, n.plan.key, identity); !known {
		s.arena = binary.BigEndian.AppendUint64(s.arena[:identified], change.Ordinal)
	} else if row, moved := c.moves.identities[string(s.arena[start+8:])]; moved {
		s.arena = append(s.arena[:start+8], row...)
	}
	binary.BigEndian.PutUint64(s.arena[start:], maphash.Bytes(c.seed, s.arena[start+8:]))
	s.arena = binary.BigEndian.AppendUint64(s.arena, change.Ordinal)
	key := len(s.arena) - start
	c.scratch, _ = appendDatums(c.scratch[:0], change.Old)
	n.old = c.scratch
	flags := len(s.arena)
	s.arena = c.appendNet(s.arena, n)
	var holes bool
	if s.arena, holes = appendDatums(s.arena, change.New); holes {
		s.arena[flags] |= flagHoles
	}
	return s.push(start, key)
}

// appendTable appends what keeps the identities of a table's rows from those of others.
func (p *collectPlan) appendTable(dst []byte) []byte {
	return append(binary.BigEndian.AppendUint32(dst, p.relation.OID), p.table.number)
}

// appendColumns appends the values of columns so that different ones are different
// bytes, and none begins another. It reports false when one is null or not known.
func (c *collector) appendColumns(dst []byte, rel *cdc.Relation, columns []int, row []cdc.Datum) ([]byte, bool) {
	if len(columns) == 0 || row == nil {
		return dst, false
	}
	for _, i := range columns {
		if row[i].State != cdc.Present {
			return dst, false
		}
		text := c.settings.EqualText(row[i].Text, rel.Columns[i].Type)
		dst = append(binary.AppendUvarint(dst, uint64(len(text))), text...)
	}
	return dst, true
}

// appendNet appends all but the new row, which comes last.
func (c *collector) appendNet(dst []byte, n *net) []byte {
	flags := byte(n.side) * flagSide
	if n.before {
		flags |= flagBefore
	}
	if n.after {
		flags |= flagAfter
	}
	if n.holes {
		flags |= flagHoles
	}
	dst = binary.AppendUvarint(append(dst, flags), uint64(c.plan(n.plan))) // an index
	dst = binary.AppendUvarint(dst, n.last)
	return append(binary.AppendUvarint(dst, uint64(len(n.old))), n.old...)
}

// net reads what appendNet wrote, with the new row behind it.
func (c *collector) net(src []byte) net {
	flags := src[0]
	src = src[1:]
	next := func() uint64 {
		v, size := binary.Uvarint(src)
		src = src[size:]
		return v
	}
	n := net{before: flags&flagBefore != 0, after: flags&flagAfter != 0, holes: flags&flagHoles != 0, side: side(flags / flagSide)}
	n.plan = c.plans[next()]
	n.last = next()
	old := next()
	n.old, n.new = src[:old:old], src[old:]
	return n
}

// inputsOf evaluates the expressions of collapse. It reports false when one is null.
func (m *Mapper) inputsOf(dst []byte, r *transactionPlan) ([]byte, bool, *failure) {
	for i, e := range r.group {
		var null bool
		var err error
		if m.scratch, null, err = m.machine.AppendText(m.scratch[:0], e); err != nil {
			return dst, false, &failure{expression: r.bound.collapse[i], err: err}
		}
		if null {
			return dst, false, nil
		}
		text := m.rules.settings.EqualText(m.scratch, e.Type())
		dst = append(binary.AppendUvarint(dst, uint64(len(text))), text...)
	}
	return dst, true, nil
}

// grouped compiles the expressions of collapse; nil when they name the primary
// key, so that each row is its own group.
func (c *compiler) grouped(r *rule, scope *expr.Scope, g group) []*expr.Expr {
	if len(r.collapse) == 0 || r.collapsesRows(c.primaryKey) {
		for _, e := range r.collapse {
			c.expression(e, scope, g, false, use{})
		}
		return nil
	}
	var out []*expr.Expr
	for _, e := range r.collapse {
		if compiled := c.expression(e, scope, g, false, use{}); compiled != nil {
			c.checkKey(e, compiled.Type())
			out = append(out, compiled)
		}
	}
	return out
}

// addTransactional adds a per-transaction rule and the tables that it depends on.
// It reports false when there are too many.
func (rs *Ruleset) addTransactional(b *boundRule) bool {
	if !b.perTransaction() {
		return true
	}
	b.number = len(rs.perTransaction)
	rs.perTransaction[b.number] = b
	rs.transactionTable(b)
	for _, child := range b.children {
		t := rs.transactionTable(child.boundRule)
		t.children = append(t.children, child)
	}
	return b.number < maxRulesPerTable
}

func (rs *Ruleset) transactionTable(b *boundRule) *transactionTable {
	name := b.table.Relation.TableName()
	tables := rs.transactional[name]
	if i := slices.IndexFunc(tables, func(t *transactionTable) bool { return slices.Equal(t.moving, b.moving) }); i >= 0 {
		return tables[i]
	}
	t := &transactionTable{key: b.table.PrimaryKey, moving: b.moving, number: byte(len(tables))} // at most the table's subsets of its primary key that collapse names
	rs.transactional[name] = append(tables, t)
	return t
}

// withChildren lists the rules, for each child table the part of its rule, and
// the heirs.
func (rs *Ruleset) withChildren() []*boundRule {
	var out []*boundRule
	for _, b := range rs.rules {
		out = append(out, b)
		for _, child := range b.children {
			out = append(out, child.boundRule)
		}
	}
	return append(out, rs.heirs...)
}
