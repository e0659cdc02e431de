package mapping

import (
	"bytes"
	"encoding/binary"
	"math/bits"
	"slices"

	"gancho/cdc"
)

// net is the net effect of a transaction on one row.
type net struct {
	plan *collectPlan
	// before and after: the row was there before the transaction, and is after it.
	before, after bool
	// last is the number of the row's last change within the transaction.
	last uint64
	side side
	// old is the row before the first change and new that after the last, as
	// appendDatums has them. old is empty where the stream did not send it.
	old, new []byte
	// holes: new has values that were not sent, because no change touched them.
	holes bool
}

// side tells apart the rows for which one change is the last: its own, and those
// that it ended. Positions depend on it, so that no two events share one.
type side byte

const (
	sideRow    side = iota // the changed row itself
	sideKey                // a row that the change ended by giving it another key
	sideParent             // a parent that lost a child by the change
)

// ordinal is the ordinal of an event about a row whose last change is given: behind
// those of all changes of the transaction.
func (s side) ordinal(changes, last uint64) uint64 { return (1+uint64(s))*changes + last }

// op is the operation with the same effect, 0 for none.
func (n *net) op() cdc.Op {
	switch {
	case n.before && n.after:
		return cdc.Update
	case n.after:
		return cdc.Insert
	case n.before:
		return cdc.Delete
	}
	return 0
}

// then adds a later change of the same row.
func (n *net) then(next *net) {
	if n.plan != next.plan {
		n.old, n.new = moved(n.old, n.plan.relation, next.plan.relation), moved(n.new, n.plan.relation, next.plan.relation)
		n.plan = next.plan
	}
	if n.before && len(n.old) == 0 {
		// An update that does not change the replica identity sends no old row; a
		// later change sends at least the identity.
		n.old = next.old
	}
	if next.holes && n.after && next.after {
		next.new, next.holes = filled(next.new, n.new, len(n.plan.relation.Columns))
	}
	n.after, n.new, n.holes = next.after, next.new, next.holes
	n.last, n.side = next.last, next.side
}

// emptied adds a TRUNCATE.
func (n *net) emptied() { n.after, n.new, n.holes = false, nil, false }

// identical reports whether the row is known to be as before. What was not sent,
// because no change touched it, is the same.
func (n *net) identical() bool {
	if !n.before || !n.after || len(n.old) == 0 {
		return false
	}
	if !n.holes {
		return bytes.Equal(n.old, n.new)
	}
	return !n.differs(nil, nil)
}

// differs reports whether one of the columns, any for nil, has or may have another
// value than before: by its text, or by what equal makes of two texts that differ.
func (n *net) differs(columns []int, equal func(column int, a, b []byte) bool) bool {
	if len(n.old) == 0 {
		return true
	}
	was, now := reader{n.old}, reader{n.new}
	for i := range n.plan.relation.Columns {
		a, b := was.next(), now.next()
		if columns != nil && !slices.Contains(columns, i) || b.State == cdc.Unchanged || a.State == b.State && bytes.Equal(a.Text, b.Text) {
			continue
		}
		if a.State != b.State || a.State != cdc.Present || equal == nil || !equal(i, a.Text, b.Text) {
			return true
		}
	}
	return false
}

// row is the row that names columns without old or new.
func (n *net) row() []byte {
	if n.after {
		return n.new
	}
	return n.old
}

// stateBits hold a cdc.State.
const stateBits = 3

// appendDatums appends a row in its compact form and reports whether it has
// values that were not sent because they were not touched.
func appendDatums(dst []byte, row []cdc.Datum) (out []byte, holes bool) {
	for i := range row {
		d := &row[i]
		size := 0
		if d.State == cdc.Present || d.State == cdc.Invalid {
			size = len(d.Text)
		}
		holes = holes || d.State == cdc.Unchanged
		if head := uint64(size)<<stateBits | uint64(d.State); head < 0x80 {
			dst = append(dst, byte(head))
		} else {
			dst = binary.AppendUvarint(dst, head)
		}
		dst = append(dst, d.Text[:size]...)
	}
	return dst, holes
}

// reader reads the datums of a row, which alias it.
type reader struct{ rest []byte }

func (r *reader) next() cdc.Datum {
	if len(r.rest) == 0 {
		return cdc.Datum{}
	}
	head, n := uint64(r.rest[0]), 1
	if head >= 0x80 {
		head, n = binary.Uvarint(r.rest)
	}
	d := cdc.Datum{State: cdc.State(head & (1<<stateBits - 1))}
	end := n + int(head>>stateBits)
	if d.State == cdc.Present || d.State == cdc.Invalid {
		d.Text = r.rest[n:end:end]
	}
	r.rest = r.rest[end:]
	return d
}

// datums are the values of a row, nil for no row.
func datums(dst []cdc.Datum, row []byte, columns int) []cdc.Datum {
	if len(row) == 0 {
		return nil
	}
	dst = dst[:0]
	r := reader{row}
	for range columns {
		dst = append(dst, r.next())
	}
	return dst
}

// filled returns the row with values that were not sent copied from the row before.
func filled(row, before []byte, columns int) (out []byte, holes bool) {
	now, was := datums(nil, row, columns), datums(nil, before, columns)
	for i := range now {
		if now[i].State == cdc.Unchanged && i < len(was) && was[i].Sent() {
			now[i] = was[i]
		}
	}
	return appendDatums(nil, now)
}

// moved converts a row to a newer description of its table, which may arrive
// within a transaction. A new column is missing.
func moved(row []byte, from, to *cdc.Relation) []byte {
	was := datums(nil, row, len(from.Columns))
	if was == nil || from == to {
		return row
	}
	now := make([]cdc.Datum, len(to.Columns))
	for i, column := range to.Columns {
		if j := from.Column(column.Name); j >= 0 {
			now[i] = was[j]
		}
	}
	out, _ := appendDatums(nil, now)
	return out
}

// each calls yield with the net change of every row that the transaction changed,
// in no particular order.
func (c *collector) each(yield func(*net) error) error {
	if c.changes.spilled() {
		return c.eachSpilled(yield)
	}
	// In memory a hash table is faster than sorting, and leaves the rows almost in
	// the order of their last changes.
	size := 1 << bits.Len(uint(2*len(c.changes.records)))
	c.slots = slices.Grow(c.slots[:0], size)[:size]
	clear(c.slots)
	for i := range c.changes.records {
		c.merge(i)
	}
	for i := range c.rows {
		c.current = i
		c.finish(&c.rows[i].net)
		if err := yield(&c.rows[i].net); err != nil {
			return err
		}
	}
	return nil
}

// storedRow is a net change in memory, with the record of its first change.
type storedRow struct {
	net
	first int
}

// merge adds the change of a record to its row.
func (c *collector) merge(i int) {
	s := &c.changes
	r := s.records[i]
	identity := s.arena[r.offset : r.offset+int(r.key)-8]
	split, end := r.offset+int(r.key), r.offset+int(r.key+r.value)
	piece := c.net(s.arena[split:end:end])
	for slot := int(r.prefix) & (len(c.slots) - 1); ; slot = (slot + 1) & (len(c.slots) - 1) { // the low bits of a hash
		at := c.slots[slot]
		if at == 0 {
			c.rows = append(c.rows, storedRow{piece, i})
			c.slots[slot] = int32(len(c.rows)) // fewer than bytes of memory
			return
		}
		row := &c.rows[at-1]
		o := s.records[row.first]
		if o.prefix == r.prefix && o.key == r.key && bytes.Equal(identity, s.arena[o.offset:o.offset+int(o.key)-8]) {
			c.follow(&row.net, &piece)
			return
		}
	}
}

// follow adds a later change of a row, after a TRUNCATE that may lie between.
func (c *collector) follow(n, next *net) {
	if c.emptiedBetween(next.plan.table, n.last, next.last) {
		n.emptied()
	}
	n.then(next)
}

// finish adds a TRUNCATE after the row's last change.
func (c *collector) finish(n *net) {
	if c.emptiedBetween(n.plan.table, n.last, ^uint64(0)) {
		n.emptied()
	}
}

func (c *collector) eachSpilled(yield func(*net) error) error {
	var current net
	var row []byte
	err := c.changes.each(func(key, value []byte) error {
		identity := key[:len(key)-8]
		piece := c.net(bytes.Clone(value)) // the bytes are valid until the next one
		if row != nil && bytes.Equal(row, identity) {
			c.follow(&current, &piece)
			return nil
		}
		if row != nil {
			c.finish(&current)
			if err := yield(&current); err != nil {
				return err
			}
		}
		current, row = piece, append(row[:0], identity...)
		return nil
	})
	if err != nil || row == nil {
		return err
	}
	c.finish(&current)
	return yield(&current)
}

// emptiedBetween reports whether a TRUNCATE of the table came between two changes.
func (c *collector) emptiedBetween(t *transactionTable, after, before uint64) bool {
	return slices.ContainsFunc(c.emptied[t], func(at uint64) bool { return after < at && at < before })
}

// reference is what matches and results hold of a net change: the number of one
// in memory, or all of it.
func (c *collector) reference(dst []byte, n *net) []byte {
	if !c.changes.spilled() {
		return binary.BigEndian.AppendUint32(dst, uint32(c.current)) // fewer than bytes of memory
	}
	return append(c.appendNet(dst, n), n.new...)
}

func (c *collector) dereference(src []byte) net {
	if !c.changes.spilled() {
		return c.rows[binary.BigEndian.Uint32(src)].net
	}
	return c.net(src)
}

// as makes a net change one that rules can be applied to.
func (c *collector) as(n *net, tx *cdc.Transaction, ordinal uint64) *cdc.Change {
	columns := len(n.plan.relation.Columns)
	c.change = cdc.Change{
		Position: cdc.Position{Commit: tx.Commit, Ordinal: ordinal}, Tx: tx, Op: n.op(), Relation: n.plan.relation,
	}
	if n.before {
		if c.change.Old = datums(c.before, n.old, columns); c.change.Old != nil {
			c.before = c.change.Old
		}
	}
	if n.after {
		if c.change.New = datums(c.now, n.new, columns); c.change.New != nil {
			c.now = c.change.New
		}
	}
	return &c.change
}
