package mapping

import (
	"cmp"
	"context"
	"encoding/binary"
	"errors"

	"gancho/cdc"
	"gancho/mapping/expr"
)

const (
	// maxPending and maxPendingBytes are the entries, and their bytes, from which on
	// Full asks for a Resolve within a transaction.
	maxPending      = 1000
	maxPendingBytes = 1 << 20
	// keepPending is how many bytes stay allocated between two calls of Resolve.
	keepPending = 4 << 20
	// maxResults bounds what lookups of several changes have found, and the row that one
	// finds, in bytes.
	maxResults = 16 << 20
)

// waiting is what is pending, in the order of its positions. It owns copies of
// everything, and reuses its memory.
type waiting struct {
	entries []entry
	// text and datums are what entries refer to. They only grow until clear: when
	// one is reallocated, earlier entries keep its old array.
	text   []byte
	datums []cdc.Datum
	asked  []int32
	// transactions are those of entries that wait for a lookup.
	transactions []*cdc.Transaction
	queries      []*query
	byID         map[string]*query
	key          []byte
	// results are the texts of the rows that queries have found; several: they are for
	// more than one entry, and bounded.
	results []byte
	several bool
}

// entry is one pending event or parked change. Exactly one of the three is set.
type entry struct {
	kind   entryKind
	event  Event
	parked Parked
	// Of what waits for lookups:
	rule   *rulePlan
	n      int
	change cdc.Change
	asked  []int32 // by lookup: which of the query's sets of arguments; -1: not used
	// before is asked for what previous shows: a set of the old row's values.
	before []int32
	// child is the mapper's childChanged; unkept is why change is not whole; undecided is
	// why it is parked, unless a conjunct that depends on lookups is false.
	child             bool
	unkept, undecided string
}

type entryKind uint8

const (
	entryEvent   entryKind = iota // complete, and behind what is not
	entryParked                   // complete as well
	entryWaiting                  // an event that lacks lookups
)

// query is one lookup for all entries that need it.
type query struct {
	lookup *boundLookup
	sets   map[string]int32 // of arguments, by their key
	// arguments has all sets, one after the other; rows has as many results.
	arguments []cdc.Datum
	rows      []foundRow
	// known are the sets that have been wanted; wanted are those to read next.
	known  []bool
	wanted []int32
}

// want asks for a set unless its row has been asked for.
func (q *query) want(set int32) {
	if !q.known[set] {
		q.known[set] = true
		q.wanted = append(q.wanted, set)
	}
}

// forget drops all rows that queries have found.
func (w *waiting) forget() {
	for _, q := range w.queries {
		clear(q.rows)
		clear(q.known)
		q.wanted = q.wanted[:0]
	}
	w.results = w.results[:0]
}

// foundRow is what a lookup found.
type foundRow struct {
	row []cdc.Datum
	// reason is why there is no row, without row data.
	reason string
	done   bool
	// failed: the reason is an error of the data, for which a nullable leaf is null.
	failed bool
}

// next adds an entry and reuses what the one in its place had before.
func (w *waiting) next(kind entryKind) *entry {
	if len(w.entries) < cap(w.entries) {
		w.entries = w.entries[:len(w.entries)+1]
	} else {
		w.entries = append(w.entries, entry{})
	}
	e := &w.entries[len(w.entries)-1]
	e.kind = kind
	return e
}

// keep copies bytes; nil stays nil.
func (w *waiting) keep(b []byte) []byte {
	if b == nil {
		return nil
	}
	start := len(w.text)
	w.text = append(w.text, b...)
	return w.text[start:len(w.text):len(w.text)]
}

func (w *waiting) keepDatum(d cdc.Datum) cdc.Datum {
	if d.State == cdc.Present || d.State == cdc.Invalid {
		d.Text = w.keep(d.Text)
	}
	return d
}

// keepRow copies some columns of a row, the others are missing; whole: all of them.
func (w *waiting) keepRow(row []cdc.Datum, columns []int, whole bool) []cdc.Datum {
	if row == nil {
		return nil
	}
	start := len(w.datums)
	w.datums = append(w.datums, make([]cdc.Datum, len(row))...)
	out := w.datums[start:len(w.datums):len(w.datums)]
	if whole {
		for i := range row {
			out[i] = w.keepDatum(row[i])
		}
		return out
	}
	for _, i := range columns {
		out[i] = w.keepDatum(row[i])
	}
	return out
}

func (w *waiting) event(e *Event) {
	kept := &w.next(entryEvent).event
	*kept = *e
	kept.Tenant, kept.Key = w.keep(e.Tenant), w.keep(e.Key)
	kept.Data, kept.Previous, kept.Unchanged = w.keep(e.Data), w.keep(e.Previous), w.keep(e.Unchanged)
	kept.Errors, kept.Tags, kept.Change = w.keep(e.Errors), w.keep(e.Tags), w.keep(e.Change)
}

func (w *waiting) park(p *Parked) {
	kept := &w.next(entryParked).parked
	*kept = *p
	kept.Row, kept.Change, kept.Tenant, kept.Key = w.keep(p.Row), w.keep(p.Change), w.keep(p.Tenant), w.keep(p.Key)
}

// transaction returns the waiting's own copy of a transaction.
func (w *waiting) transaction(tx *cdc.Transaction) *cdc.Transaction {
	if n := len(w.transactions); n > 0 && w.transactions[n-1].Commit == tx.Commit {
		return w.transactions[n-1]
	}
	kept := *tx
	w.transactions = append(w.transactions, &kept)
	return &kept
}

// query returns the query of a lookup. Rules with the same lookup share it.
func (w *waiting) query(l *boundLookup) *query {
	if q := w.byID[l.id]; q != nil {
		return q
	}
	if w.byID == nil {
		w.byID = map[string]*query{}
	}
	q := &query{lookup: l, sets: map[string]int32{}}
	w.byID[l.id] = q
	w.queries = append(w.queries, q)
	return q
}

// set returns the number of a set of arguments, the same for equal ones.
func (w *waiting) set(q *query, arguments []cdc.Datum) int32 {
	w.key = appendKey(w.key[:0], arguments)
	if i, ok := q.sets[string(w.key)]; ok {
		return i
	}
	i := int32(len(q.rows))
	q.sets[string(w.key)] = i
	for _, d := range arguments {
		q.arguments = append(q.arguments, w.keepDatum(d))
	}
	q.rows, q.known = append(q.rows, foundRow{}), append(q.known, false)
	return i
}

// appendKey appends the arguments so that only equal ones give equal bytes.
func appendKey(dst []byte, arguments []cdc.Datum) []byte {
	for _, d := range arguments {
		dst = append(dst, byte(d.State))
		if d.State == cdc.Present {
			dst = binary.AppendUvarint(dst, uint64(len(d.Text)))
			dst = append(dst, d.Text...)
		}
	}
	return dst
}

// clear discards everything.
func (w *waiting) clear() {
	clear(w.entries) // what they refer to
	if cap(w.text) > keepPending {
		w.text = nil
	}
	if cap(w.results) > keepPending {
		w.results = nil
	}
	w.results = w.results[:0]
	w.entries, w.text, w.datums, w.asked = w.entries[:0], w.text[:0], w.datums[:0], w.asked[:0]
	w.transactions = nil
	w.queries = w.queries[:0]
	clear(w.byID)
}

// suspend makes a change pending for which a rule has fired and lookups must be
// read; undecided is why it may not have, and only they can say that it has not.
func (m *Mapper) suspend(r *rulePlan, n int, c *cdc.Change, sink Sink, undecided string) error {
	w := &m.waiting
	start := len(w.asked)
	failed := m.ask(r, m.machine, func(programLookup) bool { return true })
	middle := len(w.asked)
	if failed == nil && r.bound.previous && c.Op == cdc.Update && c.Old != nil {
		m.loadBefore(c)
		failed = m.ask(r, m.before, func(l programLookup) bool { return l.lenient })
	}
	if failed != nil {
		w.asked = w.asked[:start]
		return m.park(r, n, c, sink, cmp.Or(undecided, failed.reason(r, c.Relation)))
	}
	m.told(n, Awaits)
	e := w.next(entryWaiting)
	e.rule, e.n, e.asked, e.before = r, n, w.asked[start:middle:middle], w.asked[middle:len(w.asked):len(w.asked)]
	e.change = *c
	e.change.Tx = w.transaction(c.Tx)
	whole := m.keeps && fits(c)
	e.child, e.unkept, e.undecided = m.childChanged, "", undecided
	if m.keeps && !whole {
		e.unkept = unkeptSize
	}
	e.change.New, e.change.Old = w.keepRow(c.New, r.needs, whole), w.keepRow(c.Old, r.needs, whole)
	return nil
}

// ask adds the arguments of the rule's lookups that are used and wanted to their queries,
// and which ones they are to what is asked.
func (m *Mapper) ask(r *rulePlan, machine *expr.Machine, wanted func(programLookup) bool) *failure {
	w := &m.waiting
	for _, l := range r.lookups {
		if !l.used || !wanted(l) {
			w.asked = append(w.asked, -1)
			continue
		}
		arguments, failed := m.arguments(machine, l)
		if failed != nil {
			return failed
		}
		w.asked = append(w.asked, w.set(w.query(l.boundLookup), arguments))
	}
	return nil
}

// arguments evaluates the arguments of a lookup; they are valid until the next
// call.
func (m *Mapper) arguments(machine *expr.Machine, l programLookup) ([]cdc.Datum, *failure) {
	m.argument, m.scratch = m.argument[:0], m.scratch[:0]
	for _, a := range l.arguments {
		start := len(m.scratch)
		var null bool
		var err error
		m.scratch, null, err = machine.AppendText(m.scratch, a)
		if unknown, ok := errors.AsType[*expr.UnknownError](err); ok && l.lenient && unknown.State != cdc.Invalid {
			null, err = true, nil
		}
		if err != nil {
			return nil, &failure{part: l.path(), err: err}
		}
		d := cdc.Datum{State: cdc.Null}
		if !null {
			d = cdc.Datum{State: cdc.Present, Text: m.scratch[start:]}
		}
		m.argument = append(m.argument, d)
	}
	return m.argument, nil
}

// Pending is the number of events and parked changes that Resolve will give to
// a sink: those that wait for a lookup, and those behind them, because
// positions in a stream must rise.
func (m *Mapper) Pending() int { return len(m.waiting.entries) }

// Full reports whether so much is pending that Resolve should be called now.
func (m *Mapper) Full() bool {
	return len(m.waiting.entries) >= maxPending || len(m.waiting.text) >= maxPendingBytes
}

// Resolve reads what the pending events wait for, once their transactions are
// visible, and gives them to the sink in order. While the source is unreachable
// it retries, until the context ends. It may be called within a transaction.
func (m *Mapper) Resolve(ctx context.Context, sink Sink) error {
	w := &m.waiting
	if len(w.entries) == 0 {
		w.clear() // a parked change may have left queries
		return nil
	}
	if m.source == nil && m.answer == nil {
		return errors.New("apply rules with lookup: the mapper has no source; add WithSource")
	}
	entries := w.entries
	rest := entries
	for size := len(rest); len(rest) > 0; {
		n := min(size, len(rest))
		err := m.read(ctx, rest[:n])
		if errors.Is(err, ErrTooMuch) {
			size = n / 2
			w.forget()
			continue
		}
		if err != nil {
			w.entries = rest
			return err
		}
		// What the sink is given is complete: none of it becomes pending again.
		w.entries = nil
		for i := range rest[:n] {
			if err := m.release(&rest[i], sink); err != nil {
				return err
			}
		}
		clear(rest[:n]) // what they refer to
		if rest, size = rest[n:], 2*n; len(rest) > 0 {
			w.forget()
		}
	}
	w.entries = entries
	w.clear()
	return nil
}

// read reads what some entries wait for. It returns ErrTooMuch, only for several of them,
// when that would take too much memory.
func (m *Mapper) read(ctx context.Context, entries []entry) error {
	w := &m.waiting
	w.several = len(entries) > 1
	for i := range entries {
		e := &entries[i]
		for _, asked := range [][]int32{e.asked, e.before} {
			for lookup, set := range asked {
				if e.kind == entryWaiting && set >= 0 {
					w.byID[e.rule.lookups[lookup].id].want(set)
				}
			}
		}
	}
	for _, q := range w.queries {
		if len(q.wanted) == 0 {
			continue
		}
		if err := m.lookUp(ctx, q); err != nil {
			return err
		}
		q.wanted = q.wanted[:0]
	}
	return nil
}
