package cdc

import (
	"context"
	"errors"
	"slices"
	"strings"

	"github.com/rs/zerolog"
)

// decoder turns pgoutput messages into calls of a handler. It allocates for
// relations, and when types are read again. Not safe for use by several goroutines.
type decoder struct {
	types *Types
	// loadTypes reads the types with these OIDs from the catalogue.
	loadTypes func(ctx context.Context, oids []uint32) error
	// relations are those the server described in this session; kept has them
	// of earlier ones too, so that a table keeps its pointer.
	relations map[uint32]*Relation
	kept      map[uint32]*Relation
	// read are the tables of DecodeRows, where the stream describes them otherwise or not yet.
	read map[uint32]*Relation

	// outer and inner are the last two descriptions since the last row, families
	// the roots with their partitions, by OID, and warned the partitions that were
	// logged; see partition.go.
	outer, inner *Relation
	families     map[uint32]*family
	warned       map[uint32]bool
	log          zerolog.Logger

	// typesSeen is the version of types that the relations have.
	typesSeen uint64

	tx      Transaction
	inTx    bool
	end     LSN // of the newest whole transaction of the session
	ordinal uint64

	change         Change
	newRow, oldRow []Datum
	encoding       Encoding
	converted      []byte   // the values of the change at hand that the encoding changes, reused
	truncated      []uint32 // of the last TRUNCATE, reused
}

func newDecoder(types *Types, loadTypes func(context.Context, []uint32) error) *decoder {
	return &decoder{types: types, loadTypes: loadTypes, relations: make(map[uint32]*Relation), kept: make(map[uint32]*Relation),
		read: make(map[uint32]*Relation), families: make(map[uint32]*family), warned: make(map[uint32]bool)}
}

// reset forgets what belongs to the session: a half transaction, and which
// relations were described.
func (d *decoder) reset() {
	d.inTx, d.end = false, 0
	clear(d.relations)
	clear(d.families)
	d.outer, d.inner = nil, nil
}

// message decodes one message and calls the handler. Errors are a
// [*DecodeError], the handler's, those of loading types, or errRedescribe.
func (d *decoder) message(ctx context.Context, src []byte, h Handler) error {
	if len(src) == 0 {
		return d.errorf(0, "it is empty")
	}
	c := cursor{rest: src[1:]}
	switch kind := src[0]; kind {
	case 'I', 'U', 'D':
		return d.row(ctx, kind, &c, h)
	case 'B':
		return d.begin(&c, h)
	case 'C':
		return d.commit(&c, h)
	case 'R':
		return d.relation(ctx, &c)
	case 'T':
		return d.truncate(ctx, &c, h)
	case 'M':
		return d.emitted(&c, h)
	case 'O', 'Y':
		skip(kind, &c)
		return d.check(kind, &c)
	default:
		return d.errorf(kind, "it is not in protocol version 1")
	}
}

func (d *decoder) check(kind byte, c *cursor) error {
	if c.reason != "" {
		return d.errorf(kind, c.reason)
	}
	return nil
}

func (d *decoder) errorf(kind byte, reason string) error {
	e := &DecodeError{Message: kind, Reason: reason}
	if d.inTx {
		e.LSN = d.tx.Commit
	}
	return e
}

func (d *decoder) begin(c *cursor, h Handler) error {
	tx := decodeBegin(c)
	if c.reason == "" && d.inTx {
		c.fail("the transaction before it has no commit")
	}
	if err := d.check('B', c); err != nil {
		return err
	}
	d.tx, d.inTx, d.ordinal = tx, true, 0
	if version := d.types.version.Load(); version != d.typesSeen {
		d.typesSeen = version
		for _, rel := range d.relations {
			d.store(d.refresh(rel))
		}
	}
	return handled(h.Begin(&d.tx))
}

func (d *decoder) commit(c *cursor, h Handler) error {
	position, end := decodeCommit(c)
	switch {
	case c.reason != "":
	case !d.inTx:
		c.fail("it has no begin")
	case position != d.tx.Commit:
		c.fail("its position is not that of its begin")
	}
	if err := d.check('C', c); err != nil {
		return err
	}
	d.tx.End, d.end, d.inTx = end, end, false
	return handled(h.Commit(&d.tx))
}

func (d *decoder) row(ctx context.Context, kind byte, c *cursor, h Handler) error {
	rel := d.target(c)
	if rel == nil {
		return d.check(kind, c)
	}
	op := Insert + Op(strings.IndexByte("IUD", kind))
	d.converted = d.converted[:0]
	part := c.uint8()
	old := kind != 'I' && (part == 'K' || part == 'O')
	if old && (part == 'O') != (rel.ReplicaIdentity == 'f') {
		var err error
		if rel, err = d.altered(rel); err != nil {
			return err
		}
	}
	if kind != 'I' && rel.Weaker != nil {
		d.warn(rel)
	}
	d.change = Change{Position: Position{Commit: d.tx.Commit, Ordinal: d.ordinal}, Tx: &d.tx, Op: op, Relation: rel}
	if old {
		d.change.Old = d.rowFor(&d.oldRow, rel)
		d.oldTuple(c, part == 'K')
		if kind == 'U' {
			part = c.uint8()
		}
	}
	switch {
	case kind == 'D' && d.change.Old == nil:
		c.fail("it has no old row")
	case kind != 'D' && part != 'N':
		c.fail("it has no new row")
	case kind != 'D':
		d.change.New = d.rowFor(&d.newRow, rel)
		decodeTuple(c, d.change.New)
		d.convert(d.change.New)
		d.fillUnchanged()
	}
	c.end()
	if err := d.check(kind, c); err != nil {
		return err
	}
	d.ordinal++
	return d.handle(ctx, h)
}

// emitted passes a message that belongs to a transaction to a handler that takes them.
func (d *decoder) emitted(c *cursor, h Handler) error {
	m, transactional := decodeMessage(c)
	if c.reason == "" && transactional && !d.inTx {
		c.fail("it is outside a transaction")
	}
	if err := d.check('M', c); err != nil {
		return err
	}
	takes, ok := h.(MessageHandler)
	if !ok || !transactional {
		return nil
	}
	return handled(takes.Message(&d.tx, m))
}

// handle passes the change to the handler, and again each time that the handler
// finds the relation's types out of date.
func (d *decoder) handle(ctx context.Context, h Handler) error {
	err := h.Change(&d.change)
	for n := 0; n < maxReloads && errors.Is(err, ErrStaleTypes); n++ {
		if d.change.Relation, err = d.reload(ctx, d.change.Relation); err != nil {
			return err
		}
		err = h.Change(&d.change)
	}
	return handled(err)
}

// maxReloads is far more often than a handler asks, once for each label that it
// does not know.
const maxReloads = 100

// target reads the OID that a row message begins with.
func (d *decoder) target(c *cursor) *Relation {
	oid := c.uint32()
	switch {
	case c.reason != "":
		return nil
	case !d.inTx:
		c.fail("it is outside a transaction")
		return nil
	}
	rel := d.relations[oid]
	if rel == nil {
		c.fail("its table was not described")
		return nil
	}
	if d.inner != nil {
		rel = d.locate(rel)
	}
	return rel
}

// rowFor returns a row of the relation's width in the reused memory.
func (d *decoder) rowFor(row *[]Datum, rel *Relation) []Datum {
	*row = slices.Grow((*row)[:0], len(rel.Columns))
	return (*row)[:len(rel.Columns)]
}

// oldTuple reads the old row. In one that has only identity columns, the table's
// or a partition's, the server sends null for all others, whatever their value.
func (d *decoder) oldTuple(c *cursor, identityOnly bool) {
	decodeTuple(c, d.change.Old)
	d.convert(d.change.Old)
	if !identityOnly && d.change.Relation.Weaker == nil {
		return
	}
	for i := range d.change.Old {
		if d.change.Old[i].State == Null && !d.change.Relation.Columns[i].Key {
			d.change.Old[i].State = Missing
		}
	}
}

// convert makes the values of a row UTF-8.
func (d *decoder) convert(row []Datum) {
	if d.encoding == "" {
		return
	}
	for i := range row {
		d.converted = d.encoding.Convert(&row[i], d.converted)
	}
}

// fillUnchanged copies values that the update did not touch from the old row,
// which has them when the replica identity covers the column.
func (d *decoder) fillUnchanged() {
	if d.change.Old == nil {
		return
	}
	for i := range d.change.New {
		if d.change.New[i].State == Unchanged && d.change.Old[i].Sent() {
			d.change.New[i] = d.change.Old[i]
		}
	}
}

func (d *decoder) truncate(ctx context.Context, c *cursor, h Handler) error {
	d.truncated = decodeTruncate(c, d.truncated[:0])
	if c.reason == "" && !d.inTx {
		c.fail("it is outside a transaction")
	}
	d.outer, d.inner = nil, nil
	for _, oid := range d.truncated {
		if c.reason == "" && d.relations[oid] == nil {
			c.fail("its table was not described")
		}
	}
	if err := d.check('T', c); err != nil {
		return err
	}
	for _, oid := range d.truncated {
		d.change = Change{Position: Position{Commit: d.tx.Commit, Ordinal: d.ordinal}, Tx: &d.tx, Op: Truncate, Relation: d.relations[oid]}
		d.ordinal++
		if err := d.handle(ctx, h); err != nil {
			return err
		}
	}
	return nil
}

func (d *decoder) relation(ctx context.Context, c *cursor) error {
	var m relation
	m.decode(c)
	if err := d.check('R', c); err != nil {
		return err
	}
	m.Schema, m.Name = d.encoding.name(m.Schema), d.encoding.name(m.Name)
	for i := range m.Columns {
		m.Columns[i].Name = d.encoding.name(m.Columns[i].Name)
	}
	if err := d.typify(ctx, &m); err != nil {
		return err
	}
	d.outer, d.inner = d.inner, &m.Relation
	return d.describe(&m.Relation)
}

// typify fills in the types of the columns.
func (d *decoder) typify(ctx context.Context, m *relation) error {
	if err := d.loadTypes(ctx, d.unsure(m)); err != nil {
		return err
	}
	for i, oid := range m.types {
		typ := d.types.Lookup(oid)
		if typ == nil {
			typ = &Type{OID: oid, Kind: KindUnknown, TypeMod: -1, Delim: ','}
		}
		m.Columns[i].Type = typ
	}
	return nil
}

// reload reads the relation's types again and returns the relation that has
// them.
func (d *decoder) reload(ctx context.Context, rel *Relation) (*Relation, error) {
	fresh, err := d.reloaded(ctx, rel)
	if err != nil {
		return nil, err
	}
	return d.store(fresh), nil
}

// reloaded is reload that leaves the relation of the stream as it is.
func (d *decoder) reloaded(ctx context.Context, rel *Relation) (*Relation, error) {
	var oids []uint32
	for _, column := range rel.Columns {
		if column.Type.Alterable() {
			oids = append(oids, column.Type.OID)
		}
	}
	if err := d.loadTypes(ctx, oids); err != nil {
		return nil, err
	}
	return d.refresh(rel), nil
}

// refresh returns the relation with its types as they are known now. One that no
// longer exists stays as it was known.
func (d *decoder) refresh(rel *Relation) *Relation {
	fresh := rel
	for i, column := range rel.Columns {
		typ := d.types.Lookup(column.Type.OID)
		if typ == nil || typ == column.Type || typ.Kind == KindUnknown {
			continue
		}
		if fresh == rel {
			fresh = new(*rel)
			fresh.Columns = slices.Clone(rel.Columns)
		}
		fresh.Columns[i].Type = typ
	}
	return fresh
}

// unsure returns the columns' types that the catalogue must be asked about:
// unknown ones, and, when the table is described again because something
// changed, those that can change under the same OID.
func (d *decoder) unsure(m *relation) []uint32 {
	again := d.relations[m.OID] != nil
	return slices.DeleteFunc(slices.Clone(m.types), func(oid uint32) bool {
		typ := d.types.Lookup(oid)
		return typ != nil && !(again && typ.Alterable())
	})
}
