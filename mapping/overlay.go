package mapping

import (
	"errors"
	"fmt"
	"slices"
	"unsafe"

	"gancho/cdc"
)

// maxOverlay bounds, in bytes of memory, what an Overlay keeps of rows.
const maxOverlay = 64 << 20

// What is kept takes these bytes besides texts. Of transactions a slice has room for more, at most twice as many.
const (
	overlaidSize = 2 * int(unsafe.Sizeof(overlaid{}))
	changeSize   = int(unsafe.Sizeof(cdc.Change{}))
	datumSize    = int(unsafe.Sizeof(cdc.Datum{}))
)

// ErrOverlayFull says that more was changed while rows were read than is kept.
var ErrOverlayFull = errors.New("transactions changed more than 64 MiB of rows of the table while some of its rows were read")

// Overlay keeps what the stream says of some tables until queries see it, so that rows
// that were read can be put into the stream: Over makes of each what it is at that place. A query
// does not see a transaction whose commit comes before it in the WAL until the server has taken it from its
// list of running ones. It belongs to one goroutine.
type Overlay struct {
	transactions []overlaid
	open         bool
	bytes        int
	limit        int
}

// overlaid is what one transaction has changed.
type overlaid struct {
	xid     uint32
	lost    bool    // there was no room for its rows
	before  cdc.LSN // everything that commits before it has been handed over
	end     cdc.LSN
	changes []cdc.Change
	bytes   int // of memory, with the room in changes
}

// NewOverlay returns an empty one.
func NewOverlay() *Overlay { return &Overlay{limit: maxOverlay} }

// Begin opens a transaction; everything that commits before the position has been handed over.
func (o *Overlay) Begin(tx *cdc.Transaction, before cdc.LSN) {
	o.transactions = append(o.transactions, overlaid{xid: tx.XID, before: before, bytes: overlaidSize})
	o.bytes += overlaidSize
	o.open = true
}

// Add keeps a change of the open transaction.
func (o *Overlay) Add(c *cdc.Change) {
	t := &o.transactions[len(o.transactions)-1]
	if t.lost {
		return
	}
	text := 0
	for _, row := range [][]cdc.Datum{c.New, c.Old} {
		for _, d := range row {
			text += len(d.Text)
		}
	}
	size := text + (len(c.New)+len(c.Old))*datumSize
	more := 0 // room for changes
	if len(t.changes) == cap(t.changes) {
		more = max(1, cap(t.changes))
	}
	size += more * changeSize
	if o.bytes+size > o.limit {
		o.bytes += overlaidSize - t.bytes
		*t = overlaid{xid: t.xid, before: t.before, lost: true, bytes: overlaidSize}
		return
	}
	if more > 0 {
		t.changes = append(make([]cdc.Change, 0, cap(t.changes)+more), t.changes...)
	}
	o.bytes, t.bytes = o.bytes+size, t.bytes+size
	kept := cdc.Change{Op: c.Op, Relation: c.Relation}
	// One allocation of the exact size for all texts: a block would be larger than most transactions.
	texts := make([]byte, 0, text)
	kept.New, texts = keep(c.New, texts)
	kept.Old, _ = keep(c.Old, texts)
	t.changes = append(t.changes, kept)
}

// keep copies a row; its texts go behind those in texts, which has room for them.
func keep(row []cdc.Datum, texts []byte) (kept []cdc.Datum, all []byte) {
	if row == nil {
		return nil, texts
	}
	kept = slices.Clone(row)
	for i, d := range row {
		if d.Text == nil {
			continue
		}
		start := len(texts)
		texts = append(texts, d.Text...)
		kept[i].Text = texts[start:len(texts):len(texts)]
	}
	return kept, texts
}

// Commit closes the open transaction. One that has changed none of the tables is forgotten.
func (o *Overlay) Commit(end cdc.LSN) {
	if !o.open {
		return
	}
	o.open = false
	last := len(o.transactions) - 1
	t := &o.transactions[last]
	if len(t.changes) == 0 && !t.lost {
		o.bytes -= t.bytes
		o.transactions = o.transactions[:last]
		return
	}
	t.end = end
}

// Reset drops what the stream repeats when it starts again: an open transaction, and those that end
// behind the position.
func (o *Overlay) Reset(from cdc.LSN) {
	if o.open {
		o.drop(func(t *overlaid) bool { return t == &o.transactions[len(o.transactions)-1] })
		o.open = false
	}
	o.drop(func(t *overlaid) bool { return t.end > from })
}

// Clear drops everything.
func (o *Overlay) Clear() { *o = Overlay{limit: o.limit} }

func (o *Overlay) drop(which func(*overlaid) bool) {
	kept := o.transactions[:0:0]
	for i := range o.transactions {
		t := &o.transactions[i]
		if which(t) {
			o.bytes -= t.bytes
			continue
		}
		kept = append(kept, *t)
	}
	o.transactions = kept
}

// Floor is a position before the oldest transaction that is kept: were the stream to start
// again behind it, that one would be missing. 0: none is kept.
func (o *Overlay) Floor() cdc.LSN {
	if len(o.transactions) == 0 {
		return 0
	}
	return o.transactions[0].before
}

// Seen drops the transactions that a pg_snapshot sees: those that are taken later do, too.
func (o *Overlay) Seen(text string) error {
	seen, err := parseSnapshot(text)
	if err != nil {
		return err
	}
	open := len(o.transactions) - 1
	o.drop(func(t *overlaid) bool {
		return seen.has(&cdc.Transaction{XID: t.xid}) && !(o.open && t == &o.transactions[open])
	})
	return nil
}

// SnapshotSees reports whether a pg_snapshot sees the transactions of all the ids, as the stream
// has them.
func SnapshotSees(text string, xids []uint32) (bool, error) {
	seen, err := parseSnapshot(text)
	if err != nil {
		return false, err
	}
	return !slices.ContainsFunc(xids, func(xid uint32) bool { return !seen.has(&cdc.Transaction{XID: xid}) }), nil
}

// View is what the kept transactions make of the rows of a table, once Seen has dropped those that the
// rows' snapshot sees. Over applies it.
type View struct {
	mapper *Mapper
	groups []viewGroup
	order  map[*cdc.Relation][]int // the index of a change's column by that of the row's, -1: it has none
	key    []byte
	row    []cdc.Datum
}

// viewGroup are changes whose rows are told apart by the same columns.
type viewGroup struct {
	columns []string
	changes map[string][]*viewChange
}

// viewChange is a change of a row; gone: the row has another key now, or is deleted.
type viewChange struct {
	*cdc.Change
	gone bool
}

// View returns the kept changes of a table with this primary key. ErrOverlayFull; another error is of
// a change that does not say which row it is of.
func (o *Overlay) View(m *Mapper, table uint32, primaryKey []string) (*View, error) {
	v := &View{mapper: m, order: map[*cdc.Relation][]int{}}
	for i := range o.transactions {
		t := &o.transactions[i]
		if t.lost {
			return nil, ErrOverlayFull
		}
		for j := range t.changes {
			c := &t.changes[j]
			if c.Relation.OID != table || c.Op == cdc.Truncate {
				continue // no TRUNCATE gets between a query and the end of its transaction
			}
			if err := v.add(c, primaryKey); err != nil {
				return nil, err
			}
		}
	}
	return v, nil
}

// identity are the columns by which the stream tells rows apart: the primary key if it is always
// sent, else the replica identity.
func identity(rel *cdc.Relation, primaryKey []string) []string {
	var sent []string
	for _, c := range rel.Columns {
		if c.Key {
			sent = append(sent, c.Name)
		}
	}
	if len(sent) == 0 || !slices.ContainsFunc(primaryKey, func(name string) bool { return !slices.Contains(sent, name) }) {
		return primaryKey
	}
	return sent
}

func (v *View) add(c *cdc.Change, primaryKey []string) error {
	names := identity(c.Relation, primaryKey)
	columns := columnIndexes(c.Relation, names)
	i := slices.IndexFunc(v.groups, func(g viewGroup) bool { return slices.Equal(g.columns, names) })
	if i < 0 {
		i = len(v.groups)
		v.groups = append(v.groups, viewGroup{names, map[string][]*viewChange{}})
	}
	changes := v.groups[i].changes
	put := func(row []cdc.Datum, gone bool) bool {
		key, known := v.mapper.collector.appendColumns(nil, c.Relation, columns, row)
		if known {
			changes[string(key)] = append(changes[string(key)], &viewChange{c, gone})
		}
		return known
	}
	known := true
	if c.Old != nil {
		known = put(c.Old, true) // in an update the new row follows, mostly under the same key
	}
	if c.Op != cdc.Delete {
		known = put(c.New, false) && known
	}
	if !known {
		return fmt.Errorf("a change of table %s does not say which row it is of: its replica identity (%v) was not sent", c.Relation.TableName(), names)
	}
	return nil
}

// Over makes the row of a cdc.Read what it is at its place in the stream. It reports false when it
// is no longer there. The row is valid until the next call.
func (v *View) Over(c *cdc.Change) (there bool, err error) {
	there = true
	for i := range v.groups {
		g := &v.groups[i]
		var known bool
		v.key, known = v.mapper.collector.appendColumns(v.key[:0], c.Relation, columnIndexes(c.Relation, g.columns), c.New)
		if !known {
			return false, fmt.Errorf("rows of table %s were read without their replica identity (%v)", c.Relation.TableName(), g.columns)
		}
		changes := g.changes[string(v.key)]
		if len(changes) == 0 {
			continue
		}
		v.row = append(v.row[:0], c.New...)
		c.New = v.row
		for _, change := range changes {
			there = !change.gone
			if there {
				v.apply(change.Change, c)
			}
		}
	}
	return there, nil
}

// apply gives the row the values that a change has sent: others are as they were.
func (v *View) apply(change, row *cdc.Change) {
	order, ok := v.order[change.Relation]
	if !ok {
		for _, c := range row.Relation.Columns {
			order = append(order, change.Relation.Column(c.Name))
		}
		v.order[change.Relation] = order
	}
	for i, from := range order {
		if from >= 0 && change.New[from].Sent() {
			row.New[i] = change.New[from]
		}
	}
}
