package mapping

import (
	"errors"
	"slices"
	"unsafe"

	"gancho/cdc"
)

// maxOverlay bounds, in bytes of memory, what an Overlay keeps of rows, maxLost the transactions that it knows apart
// although there was no room for their rows: behind that many, those that follow each other are one.
const (
	maxOverlay = 64 << 20
	maxLost    = 10_000
)

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
	lost         int // of the transactions
	bytes        int
	limit        int
}

// overlaid is what one transaction has changed, or several that are lost.
type overlaid struct {
	xid     uint32  // the lowest
	last    uint32  // the highest
	lost    bool    // there was no room for its rows
	before  cdc.LSN // everything that commits before it has been handed over
	first   cdc.LSN // the end of the first one
	end     cdc.LSN
	changes []cdc.Change
	bytes   int // of memory, with the room in changes
}

// NewOverlay returns an empty one.
func NewOverlay() *Overlay { return &Overlay{limit: maxOverlay} }

// Begin opens a transaction; everything that commits before the position has been handed over.
func (o *Overlay) Begin(tx *cdc.Transaction, before cdc.LSN) {
	o.transactions = append(o.transactions, overlaid{xid: tx.XID, last: tx.XID, before: before, bytes: overlaidSize})
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
		*t = overlaid{xid: t.xid, last: t.last, before: t.before, lost: true, bytes: overlaidSize}
		o.lost++
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
	t.first, t.end = end, end
	if !t.lost || o.lost <= maxLost || !o.transactions[last-1].lost {
		return
	}
	before := &o.transactions[last-1]
	before.end = end
	if int32(t.xid-before.xid) < 0 { // they wrap around
		before.xid = t.xid
	}
	if int32(t.last-before.last) > 0 {
		before.last = t.last
	}
	o.bytes -= t.bytes
	o.lost--
	o.transactions = o.transactions[:last]
}

// Reset drops what the stream repeats when it starts again: an open transaction, and those that end
// behind the position.
func (o *Overlay) Reset(from cdc.LSN) {
	if o.open {
		o.drop(func(t *overlaid) bool { return t == &o.transactions[len(o.transactions)-1] })
		o.open = false
	}
	o.drop(func(t *overlaid) bool { return t.first > from })
}

// Clear drops everything.
func (o *Overlay) Clear() { *o = Overlay{limit: o.limit} }

func (o *Overlay) drop(which func(*overlaid) bool) {
	kept := o.transactions[:0:0]
	for i := range o.transactions {
		t := &o.transactions[i]
		if which(t) {
			o.bytes -= t.bytes
			if t.lost {
				o.lost--
			}
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
		return seen.hasAll(t.xid, t.last) && !(o.open && t == &o.transactions[open])
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
