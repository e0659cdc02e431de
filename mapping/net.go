package mapping

import (
	"bytes"
	"encoding/binary"
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
	return !n.differs(nil)
}

// differs reports whether one of the columns, any for nil, has or may have another
// value than before.
func (n *net) differs(columns []int) bool {
	if len(n.old) == 0 {
		return true
	}
	was, now := reader{n.old}, reader{n.new}
	for i := range n.plan.relation.Columns {
		a, b := was.next(), now.next()
		if (columns == nil || slices.Contains(columns, i)) && b.State != cdc.Unchanged && (a.State != b.State || !bytes.Equal(a.Text, b.Text)) {
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

// appendDatums appends a row in its compact form and reports whether it has
// values that were not sent because they were not touched.
func appendDatums(dst []byte, row []cdc.Datum) (out []byte, holes bool) {
	for i := range row {
		d := &row[i]
		size := 0
		if d.State == cdc.Present {
			size = len(d.Text)
		}
		holes = holes || d.State == cdc.Unchanged
		if head := uint64(size)<<2 | uint64(d.State); head < 0x80 {
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
	d := cdc.Datum{State: cdc.State(head & 3)}
	end := n + int(head>>2)
	if d.State == cdc.Present {
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
		if now[i].State == cdc.Unchanged && i < len(was) && was[i].Known() {
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
