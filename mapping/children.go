package mapping

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/jackc/pgx/v5/pgconn"

	"gancho/cdc"
	"gancho/internal/strictyaml"
)

// childRef is a table whose rows belong to rows of the rule's table.
type childRef struct {
	value      strictyaml.Value
	table      cdc.Name
	tableValue strictyaml.Value
	// parent are the child's columns that hold the parent's key; key are the
	// columns of that key, when they are not the primary key.
	parent, key []columnRef
	// watch are the columns of which one must have changed in an update.
	watch []columnRef
}

func parseChildren(v strictyaml.Value) []*childRef {
	items := v.ListOrOne()
	if len(items) == 0 {
		v.Errorf("write children: [{table: itens_pedido, parent: pedido_id}]", "children is an empty list")
	}
	var out []*childRef
	for _, item := range items {
		c := &childRef{value: item}
		item.Map(
			strictyaml.Required("table", func(v strictyaml.Value) { c.table, c.tableValue = tableName(v), v }),
			strictyaml.Required("parent", func(v strictyaml.Value) { c.parent = columnRefs(v, "children.parent") }),
			strictyaml.Optional("key", func(v strictyaml.Value) { c.key = columnRefs(v, "children.key") }),
			strictyaml.Optional("watch", func(v strictyaml.Value) { c.watch = columnRefs(v, "children.watch") }),
		)
		if slices.ContainsFunc(out, func(o *childRef) bool { return o.table == c.table }) && c.tableValue.Valid() {
			c.tableValue.Errorf("remove one, or write a rule for each", "the child table %s is given twice", c.table)
		}
		out = append(out, c)
	}
	return out
}

// boundChild is a child table of a rule, which fits the catalogue.
type boundChild struct {
	// boundRule is the rule with what it uses of the child table.
	*boundRule
	owner         *boundRule
	parent, watch []string
}

// childPlan is a boundChild for a relation of the stream.
type childPlan struct {
	number  int
	columns []int
	// decisive are the columns of which one must differ after an update: those
	// watched and the parent's key; nil: any.
	decisive []int
	// drift parks changes when the relation does not fit.
	drift rulePlan
}

func newChildPlan(b *boundChild, rel *cdc.Relation, older bool) childPlan {
	p := childPlan{number: b.owner.number, columns: columnIndexes(rel, b.parent)}
	p.drift = rulePlan{bound: b.boundRule, place: b.place(), table: rel.TableName()}
	if changed := b.differences(rel, older); len(changed) > 0 {
		p.drift.broken = changed[0]
	}
	for i, column := range rel.Columns {
		if _, used := b.columns[column.Name]; used && !b.denied[column.Name] {
			p.drift.row = append(p.drift.row, rowColumn{i, jsonKey(column.Name)})
		}
	}
	if len(b.watch) > 0 {
		p.decisive = slices.Concat(p.columns, columnIndexes(rel, b.watch))
	}
	return p
}

// family are the columns of a parent that its children refer to.
type family struct {
	bound   *boundRule
	columns []int
}

// matchOwn brings a row together with its children.
func (m *Mapper) matchOwn(f family, n *net, op cdc.Op) error {
	c := &m.collector
	row := datums(c.now, n.row(), len(n.plan.relation.Columns))
	if row != nil {
		c.now = row
	}
	var known bool
	if c.key, known = c.appendColumns(c.key[:0], n.plan.relation, f.columns, row); !known {
		if op == 0 || !f.bound.ops.has(op) || n.identical() {
			return nil
		}
		return c.result(n, n.last, n.side, f.bound.number, 0)
	}
	c.scratch = c.reference(append(c.scratch[:0], 0), n)
	return c.addMatch(f.bound.number, tagSecond, n.last, n.side, c.scratch)
}

// matchChild brings a row together with its parent, and with the one that it had.
func (m *Mapper) matchChild(p *childPlan, n *net, op cdc.Op) error {
	c := &m.collector
	equal := func(column int, a, b []byte) bool {
		t := n.plan.relation.Columns[column].Type
		return bytes.Equal(c.settings.EqualText(a, t), c.settings.EqualText(b, t))
	}
	if p.drift.broken != nil || op == cdc.Update && p.decisive != nil && !n.differs(p.decisive, equal) {
		return nil //nolint:nilerr // a broken rule has been reported
	}
	rel := n.plan.relation
	c.key = c.key[:0]
	if n.after {
		c.now = datums(c.now, n.new, len(rel.Columns))
		var known bool
		if c.key, known = c.appendColumns(c.key, rel, p.columns, c.now); !known {
			c.key = c.key[:0]
		} else if err := c.addMatch(p.number, tagFirst, n.last, n.side, nil); err != nil {
			return err
		}
	}
	if !n.before || len(n.old) == 0 {
		return nil
	}
	c.before = datums(c.before, n.old, len(rel.Columns))
	former, known := c.appendColumns(nil, rel, p.columns, c.before)
	if !known || n.after && bytes.Equal(former, c.key) {
		return nil
	}
	s := n.side
	if n.after {
		s = sideParent
	}
	c.key = former
	return c.addMatch(p.number, tagFirst, n.last, s, nil)
}

// joinParent handles a parent's own change, which comes behind those of its children.
func (m *Mapper) joinParent(b *boundRule, last uint64, s side, value []byte) error {
	c := &m.collector
	g := &c.joining
	g.asked = true
	n := c.dereference(value[1:])
	op := n.op()
	switch {
	case op == 0 || !b.ops.has(op):
		return nil
	case op != cdc.Update:
		return c.addResult(last, s, g.number, value)
	case !g.found:
		if n.identical() {
			return nil
		}
		return c.addResult(last, s, g.number, value)
	}
	if g.last > last {
		last, s, g.last = g.last, g.side, 0
	}
	c.scratch = append(append(c.scratch[:0], resultChild), value[1:]...)
	return c.addResult(last, s, g.number, c.scratch)
}

// parentPlan is the plan for the rows of the rule's table that the source has.
func (m *Mapper) parentPlan(b *boundRule) *collectPlan {
	if p := m.plans[b.table.Relation.OID]; p != nil {
		return p.collectsFor(b)
	}
	return m.plan(b.table.Relation, false).collectsFor(b)
}

// readParents reads the rows of parents that the transaction did not change,
// after its commit, with one query for each rule.
func (m *Mapper) readParents(ctx context.Context, tx *cdc.Transaction, batch []result) error {
	byRule := map[int]map[string]*result{}
	for i := range batch {
		r := &batch[i]
		if r.flags&resultParent == 0 {
			continue
		}
		if byRule[r.number] == nil {
			byRule[r.number] = map[string]*result{}
		}
		byRule[r.number][string(r.about)] = r
	}
	for _, number := range slices.Sorted(maps.Keys(byRule)) {
		b := m.rules.perTransaction[number]
		if m.rows != nil {
			if err := m.knownParents(b, byRule[number]); err != nil {
				return err
			}
			continue
		}
		if m.source == nil {
			return fmt.Errorf("apply rule %s: it has children, and there is no source to read their parents from", b.place())
		}
		if err := m.readParentsOf(ctx, tx, b, byRule[number]); err != nil {
			return fmt.Errorf("read rows of %s for rule %s: %w", b.table.Relation.TableName(), b.place(), err)
		}
	}
	return nil
}

// readParentsOf reads the parents of one rule.
func (m *Mapper) readParentsOf(ctx context.Context, tx *cdc.Transaction, b *boundRule, wanted map[string]*result) error {
	return m.readParentRows(ctx, []*cdc.Transaction{tx}, b, wanted)
}

// readParentRows is readParentsOf once the transactions are visible.
func (m *Mapper) readParentRows(ctx context.Context, txs []*cdc.Transaction, b *boundRule, wanted map[string]*result) error {
	what := "parents of " + b.event + " of " + b.place()
	read := func(keys []string) error {
		err := m.readRows(ctx, b, wanted, keys)
		if isBroken(err) {
			sql, _ := parentQuery(b, b.table.Relation, columnIndexes(b.table.Relation, b.familyKey))
			err = m.source.explain(ctx, what, err, sql, m.rules.denied)
		}
		return err
	}
	refused := func(key string, err error) {
		if !noSuchKey(err) {
			wanted[key].reason = "its parent cannot be read: " + withoutData(err).Error()
		}
	}
	keys := slices.Sorted(maps.Keys(wanted))
	rest, err := readInParts(ctx, m.source, what, m.unseen(txs...), keys, read, refused)
	m.source.note(what, err)
	if !isBroken(err) {
		return err
	}
	hint := "correct the rule and load it again"
	if isDenied(err) {
		hint = deniedHint(err)
	}
	broken := b.schemaError(b.table.Relation, "", "can no longer be read: "+withoutData(err).Error(), hint)
	if m.rules.ends(err) && !m.redrives {
		return broken
	}
	rel := m.parentPlan(b).relation
	columns := columnIndexes(rel, b.familyKey)
	row := slices.Repeat([]cdc.Datum{{State: cdc.Unchanged}}, len(rel.Columns))
	for _, about := range rest {
		for i, text := range keyTexts([]byte(about), len(columns)) {
			row[columns[i]] = cdc.Datum{State: cdc.Present, Text: text}
		}
		wanted[about].row, _ = appendDatums(nil, row)
		wanted[about].reason = broken.Error()
	}
	return nil
}

func (m *Mapper) readRows(ctx context.Context, b *boundRule, wanted map[string]*result, which []string) error {
	plan := m.parentPlan(b)
	rel := plan.relation
	keys := columnIndexes(rel, b.familyKey)
	args := make([][]byte, len(keys))
	for _, about := range which {
		for i, text := range keyTexts([]byte(about), len(keys)) {
			args[i] = appendElement(args[i], text, false)
		}
	}
	for i := range args {
		args[i] = append(args[i], '}')
	}
	sql, columns := parentQuery(b, rel, keys)
	row := make([]cdc.Datum, len(rel.Columns))
	return m.source.Query(ctx, sql, args, nil, func(values []cdc.Datum) error {
		clear(row)
		for i, column := range columns {
			row[column] = values[i]
		}
		key, _ := m.collector.appendColumns(nil, rel, keys, row)
		if r := wanted[string(key)]; r != nil {
			r.row, _ = appendDatums(nil, row)
		}
		return nil
	})
}

// rowsRead is the query by which the rule reads rows of its table: parents of children that have changed, or rows whose timers are due.
// false: it reads none, or a mistake has been reported.
func (b *boundRule) rowsRead() (read ruleQuery, is bool) {
	keys, columns := columnIndexes(b.table.Relation, b.familyKey), b.familyKey
	read = ruleQuery{kind: "parents", title: "children", what: "parents of " + b.event + " of " + b.place()}
	if b.after != nil {
		keys, columns = columnIndexes(b.table.Relation, b.table.PrimaryKey), b.table.PrimaryKey
		read.kind, read.title, read.what = "timers", "after", timersOf(b)
	}
	read.value, read.arguments, read.rules = b.rule.tableValue, len(columns), []*boundRule{b}
	read.sql, _ = parentQuery(b, b.table.Relation, keys)
	return read, (len(b.children) > 0 || b.after != nil && len(keys) > 0) && !slices.Contains(keys, -1)
}

// checkRowsRead has the server check that the rows of the rule's table can be read, if it reads them.
func (b *binder) checkRowsRead(ctx context.Context, bound *boundRule) error {
	read, is := bound.rowsRead()
	if !is || b.saved != nil {
		return nil // or there is no server to ask
	}
	err := tryBatch(ctx, b.conn, b.room.path, read.sql, read.arguments)
	pg, ok := errors.AsType[*pgconn.PgError](err)
	title := "children need to read rows of " + bound.table.Relation.TableName().String()
	if bound.after != nil {
		title = "after needs to read rows of " + bound.table.Relation.TableName().String()
	}
	switch {
	case err == nil:
		return nil
	case !ok || b.conn.IsClosed() || passes(err):
		return fmt.Errorf("%s: %s: %w", bound.rule.tableValue.Place(), title, err)
	case cdc.FaultOf(err) != cdc.FaultDenied:
		b.mistake(bound.rule.tableValue, -1, refusalHint(err), "%s: %s", title, pg.Message)
		return nil
	case b.options.Reader != nil:
		return nil // another role reads, which Source.Check asks
	}
	b.denials++
	return b.refuseDenied(ctx, "privilege."+read.kind, bound.rule.tableValue, -1, pg, read.sql, title)
}

// keyTexts are the values that appendColumns wrote; nil: of another number of columns.
func keyTexts(key []byte, columns int) [][]byte {
	out := make([][]byte, columns)
	r := key
	for i := range out {
		size, n := binary.Uvarint(r)
		if n <= 0 || size > uint64(len(r)-n) {
			return nil
		}
		out[i], r = r[n:n+int(size)], r[n+int(size):] // the length of a slice
	}
	if len(r) > 0 {
		return nil
	}
	return out
}

// parentQuery selects the columns that the rule uses, by the key.
func parentQuery(b *boundRule, rel *cdc.Relation, keys []int) (sql string, columns []int) {
	for i, column := range rel.Columns {
		if _, used := b.columns[column.Name]; used {
			columns = append(columns, i)
		}
	}
	return rowsQuery(b.table, rel, keys, columns), columns
}

// rowsQuery selects columns of the rows with the keys that it is given, an array for each column of the key.
func rowsQuery(t *cdc.Table, rel *cdc.Relation, keys, columns []int) string {
	var list, arrays, on []string
	for _, i := range columns {
		list = append(list, "p."+quoted(rel.Columns[i].Name))
	}
	for i, k := range keys {
		base := rel.Columns[k].Type.Base()
		arrays = append(arrays, fmt.Sprintf("$%d::%s.%s[]", i+1, quoted(base.Schema), quoted(base.Name)))
		on = append(on, fmt.Sprintf("p.%s = k.c%d", quoted(rel.Columns[k].Name), i+1))
	}
	names := make([]string, len(keys))
	for i := range names {
		names[i] = fmt.Sprintf("c%d", i+1)
	}
	only := "only "
	if t.Kind == 'p' {
		only = ""
	}
	return fmt.Sprintf("select %s from unnest(%s) k(%s) join %s%s.%s p on %s", strings.Join(list, ", "), strings.Join(arrays, ", "),
		strings.Join(names, ", "), only, quoted(rel.Schema), quoted(rel.Name), strings.Join(on, " and "))
}
