package cdc

import (
	"bytes"
	"cmp"
	"encoding/binary"
	"time"
)

// The messages of pgoutput, protocol version 1. Decoders read from a cursor,
// which never reads past the message: at a missing byte it fails, and returns
// zeros from then on, so that a decoder checks only once, at its end.
// https://www.postgresql.org/docs/current/protocol-logicalrep-message-formats.html

// cursor reads a message from its beginning to its end.
type cursor struct {
	rest   []byte
	reason string // what is wrong, "" while nothing is
}

func (c *cursor) fail(reason string) {
	if c.reason == "" {
		c.reason = reason
	}
	c.rest = nil
}

func (c *cursor) bytes(n int) []byte {
	if n < 0 || n > len(c.rest) {
		c.fail("it ends too early")
		return nil
	}
	b := c.rest[:n:n]
	c.rest = c.rest[n:]
	return b
}

func (c *cursor) uint8() uint8 {
	if b := c.bytes(1); b != nil {
		return b[0]
	}
	return 0
}

func (c *cursor) uint16() uint16 {
	if b := c.bytes(2); b != nil {
		return binary.BigEndian.Uint16(b)
	}
	return 0
}

func (c *cursor) uint32() uint32 {
	if b := c.bytes(4); b != nil {
		return binary.BigEndian.Uint32(b)
	}
	return 0
}

func (c *cursor) uint64() uint64 {
	if b := c.bytes(8); b != nil {
		return binary.BigEndian.Uint64(b)
	}
	return 0
}

// string reads up to a NUL byte.
func (c *cursor) string() string {
	s, rest, ok := bytes.Cut(c.rest, []byte{0})
	if !ok {
		c.fail("a string in it does not end")
		return ""
	}
	c.rest = rest
	return string(s)
}

// end checks that the whole message was read.
func (c *cursor) end() {
	if len(c.rest) > 0 {
		c.fail("it is longer than its content")
	}
}

// decodeBegin reads the opening of a transaction.
func decodeBegin(c *cursor) (tx Transaction) {
	tx.Commit = LSN(c.uint64())
	tx.Time = timestamp(c.uint64())
	tx.XID = c.uint32()
	c.end()
	return tx
}

// decodeCommit reads the end of a transaction: where its commit record is, and
// the position after that.
func decodeCommit(c *cursor) (commit, end LSN) {
	c.uint8() // flags, unused
	commit = LSN(c.uint64())
	end = LSN(c.uint64())
	c.uint64() // the timestamp, as in begin
	c.end()
	return commit, end
}

// skip reads a message of no use here: the server on which a transaction was
// first committed (O), and the name of a type that is not built in, of which the
// catalogue says more (Y).
func skip(kind byte, c *cursor) {
	switch kind {
	case 'O':
		c.uint64()
		_ = c.string()
	case 'Y':
		c.uint32()
		_ = c.string()
		_ = c.string()
	}
	c.end()
}

// decodeMessage reads what pg_logical_emit_message wrote. The content aliases the message.
func decodeMessage(c *cursor) (m Message, transactional bool) {
	transactional = c.uint8()&1 != 0
	c.uint64() // its own position
	m.Prefix = c.string()
	m.Content = c.bytes(int(int32(c.uint32())))
	c.end()
	return m, transactional
}

// relation describes a table before its first change, and again after it changed.
type relation struct {
	Relation          // its columns have no types yet
	types    []uint32 // the columns', by OID
}

func (m *relation) decode(c *cursor) {
	m.OID = c.uint32()
	m.Schema = cmp.Or(c.string(), "pg_catalog") // which the protocol leaves out
	m.Name = c.string()
	m.ReplicaIdentity = c.uint8()
	n := int(c.uint16())
	for range n {
		if c.reason != "" {
			return
		}
		column := Column{Key: c.uint8()&1 != 0, Name: c.string()}
		m.types = append(m.types, c.uint32())
		column.TypeMod = int32(c.uint32())
		m.Columns = append(m.Columns, column)
	}
	c.end()
}

// decodeTruncate appends the tables of one TRUNCATE.
func decodeTruncate(c *cursor, tables []uint32) []uint32 {
	n := int(c.uint32())
	c.uint8() // CASCADE and RESTART IDENTITY
	for i := 0; i < n && c.reason == ""; i++ {
		tables = append(tables, c.uint32())
	}
	c.end()
	return tables
}

// decodeTuple reads a row of the relation into row, whose values alias the message.
func decodeTuple(c *cursor, row []Datum) {
	if n := int(c.uint16()); n != len(row) {
		c.fail("a row in it does not have the columns of its table")
		return
	}
	for i := range row {
		switch c.uint8() {
		case 'n':
			row[i] = Datum{State: Null}
		case 'u':
			row[i] = Datum{State: Unchanged}
		case 't':
			row[i] = Datum{State: Present, Text: c.bytes(int(int32(c.uint32())))}
		default:
			c.fail("a value in it has an unknown form")
			return
		}
	}
}

// timestamp converts microseconds since 2000-01-01 UTC.
func timestamp(micros uint64) time.Time {
	const epoch = 946684800 // 2000-01-01 in Unix seconds
	us := int64(micros)
	return time.Unix(epoch+us/1e6, us%1e6*1e3).UTC()
}
