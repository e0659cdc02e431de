package mapping

import (
	"bytes"
	"encoding/binary"

	"gancho/cdc"
)

// An update that moves a row to another partition is in the stream as a delete and an
// insert of another primary key, the next change of the table: what triggers of the other
// partition do to other tables stands between the two. Where a rule's collapse names the rest of
// that key, both are one row, which keeps the identity that it had before. The rest need not
// be unique: any other pair of rows with the same one stays two.

// moves are the rows of a transaction that have moved.
type moves struct {
	// identities are those of rows by their primary keys, where they differ. Beyond
	// limit bytes a row that moves is one that is deleted and another that is inserted.
	identities   map[string]string
	bytes, limit int
	// deleted is where the last change was that deleted a row; nil: it did not.
	deleted *collectPlan
	from    rowKey
	to      rowKey
}

// moveBytes is what a move takes besides the keys.
const moveBytes = 160

// rowKey is a primary key, and what of it a row keeps that moves.
type rowKey struct {
	known     bool
	key, rest []byte
}

func (c *collector) readKey(k *rowKey, p *collectPlan, row []cdc.Datum) {
	var rest bool
	k.key, k.known = c.appendColumns(p.appendTable(k.key[:0]), p.relation, p.key, row)
	k.rest, rest = c.appendColumns(k.rest[:0], p.relation, p.moving, row)
	k.known = k.known && rest
}

// leaves notes a row that is no longer where it was.
func (c *collector) leaves(p *collectPlan, row []cdc.Datum) {
	m := &c.moves
	m.deleted = p
	c.readKey(&m.from, p, row)
}

// moved gives a row the identity of the one that has just left, and reports whether
// that is the same one.
func (c *collector) moved(p *collectPlan, row []cdc.Datum, ordinal uint64) bool {
	m := &c.moves
	m.deleted = nil
	c.readKey(&m.to, p, row)
	if !m.from.known || !m.to.known || !bytes.Equal(m.from.rest, m.to.rest) {
		return false
	}
	if bytes.Equal(m.from.key, m.to.key) {
		return true
	}
	if m.bytes > m.limit {
		return false
	}
	identity, ok := m.identities[string(m.from.key)]
	if !ok {
		identity = string(m.from.key)
	}
	m.identities[string(m.to.key)] = identity
	// A row that is inserted there later is another one.
	m.identities[string(m.from.key)] = string(binary.BigEndian.AppendUint64(m.from.key, ordinal))
	m.bytes += 3*len(m.from.key) + len(m.to.key) + moveBytes
	return true
}

func (m *moves) reset() {
	m.bytes, m.deleted = 0, nil
	if len(m.identities) > keptMemory/moveBytes {
		m.identities = map[string]string{}
	}
	clear(m.identities)
}
