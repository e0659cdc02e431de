package mapping

import (
	"bytes"
	"encoding/binary"
	"math/bits"
	"slices"

	"gancho/cdc"
)

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
	for slot := int(r.prefix) & (len(c.slots) - 1); ; slot = (slot + 1) & (len(c.slots) - 1) { //nolint:gosec // the low bits of a hash
		at := c.slots[slot]
		if at == 0 {
			c.rows = append(c.rows, storedRow{piece, i})
			c.slots[slot] = int32(len(c.rows)) //nolint:gosec // fewer than bytes of memory
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
		return binary.BigEndian.AppendUint32(dst, uint32(c.current)) //nolint:gosec // fewer than bytes of memory
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
