package cdc

import (
	"context"
	"encoding/binary"
	"errors"
)

// Rows are rows of one table as a text that travels in a message of the stream: the table as
// pgoutput would describe it, and tuples. A row has all columns of the table; those that were not
// read are Missing in it.

// AppendTable appends the table that rows of AppendRow belong to.
func AppendTable(dst []byte, rel *Relation) []byte {
	start := len(dst)
	dst = append(dst, 0, 0, 0, 0)
	dst = binary.BigEndian.AppendUint32(dst, rel.OID)
	dst = append(append(dst, rel.Schema...), 0)
	dst = append(append(dst, rel.Name...), 0)
	dst = append(dst, rel.ReplicaIdentity)
	dst = binary.BigEndian.AppendUint16(dst, uint16(len(rel.Columns))) // at most 1,600
	for _, c := range rel.Columns {
		key := byte(0)
		if c.Key {
			key = 1
		}
		dst = append(append(append(dst, key), c.Name...), 0)
		dst = binary.BigEndian.AppendUint32(dst, c.Type.OID)
		dst = binary.BigEndian.AppendUint32(dst, uint32(c.TypeMod))
	}
	binary.BigEndian.PutUint32(dst[start:], uint32(len(dst)-start-4))
	return dst
}

// appendDatum appends a column's value; text nil: it is null.
func appendDatum(dst, text []byte) []byte {
	if text == nil {
		return append(dst, 'n')
	}
	dst = binary.BigEndian.AppendUint32(append(dst, 't'), uint32(len(text)))
	return append(dst, text...)
}

// missingDatum stands for a column that was not read.
const missingDatum = 'm'

// DecodeRows calls each for every row that a text of AppendTable and its rows has, with a change
// whose Op is [Read] and whose position counts them from 0 within the transaction. When each
// returns [ErrStaleTypes], the relation's types are read from the catalogue and it is called
// again. The relation is that of the stream where both describe the table in the same way. It
// is to be called from the Handler. Its errors are a [*DecodeError], each's, and those of loading types.
func (r *Reader) DecodeRows(ctx context.Context, tx *Transaction, src []byte, each func(*Change) error) error {
	return r.decoder.decodeRows(ctx, tx, src, each)
}

func (d *decoder) decodeRows(ctx context.Context, tx *Transaction, src []byte, each func(*Change) error) error {
	c := cursor{rest: src}
	rel, err := d.readTable(ctx, &c)
	if err != nil {
		return err
	}
	row := make([]Datum, len(rel.Columns))
	var converted []byte
	for n := uint64(0); len(c.rest) > 0; n++ {
		decodeRow(&c, row)
		if err := d.check('M', &c); err != nil {
			return err
		}
		converted = converted[:0]
		if d.encoding != "" {
			for i := range row {
				converted = d.encoding.Convert(&row[i], converted)
			}
		}
		change := Change{Position: Position{Commit: tx.Commit, Ordinal: n}, Tx: tx, Op: Read, Relation: rel, New: row}
		err := each(&change)
		for n := 0; n < maxReloads && errors.Is(err, ErrStaleTypes); n++ {
			if rel, err = d.reloaded(ctx, rel); err != nil {
				return err
			}
			d.read[rel.OID], change.Relation = rel, rel
			err = each(&change)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// readTable reads what AppendTable wrote.
func (d *decoder) readTable(ctx context.Context, c *cursor) (*Relation, error) {
	described := cursor{rest: c.bytes(int(int32(c.uint32()))), reason: c.reason}
	var m relation
	m.decode(&described)
	if err := d.check('M', &described); err != nil {
		return nil, err
	}
	if err := d.typify(ctx, &m); err != nil {
		return nil, err
	}
	for _, known := range []*Relation{d.relations[m.OID], d.read[m.OID]} {
		if known != nil && known.equal(&m.Relation) {
			return known, nil
		}
	}
	d.read[m.OID] = &m.Relation
	return &m.Relation, nil
}

func decodeRow(c *cursor, row []Datum) {
	for i := range row {
		switch c.uint8() {
		case 'n':
			row[i] = Datum{State: Null}
		case missingDatum:
			row[i] = Datum{State: Missing}
		case 't':
			row[i] = Datum{State: Present, Text: c.bytes(int(int32(c.uint32())))}
		default:
			c.fail("a value in it has an unknown form")
			return
		}
	}
}
