package queue

import (
	"fmt"
	"slices"
	"strconv"
	"time"

	"gancho/cdc"
	"gancho/mapping"
)

// Batch collects copies of events for one Append, and keeps its memory over
// Reset. It belongs to one goroutine at a time. Some hundred events cost least
// per event; a batch holds Redis up for as long as it takes to append, so keep
// it under a few MiB when the events allow it.
type Batch struct {
	q            *Queue
	token        uint64 // of the turn at the slot in which its first record was added
	buf          []byte // what the spans of records point into
	records      []record
	destinations []destination
	// Ids have to rise, or Redis would refuse an event as a duplicate.
	lastEvent, lastParked, lastTimer ID
	tally                            *Tally // counts what is added; nil: nobody does
}

type span struct{ from, to int }

// record is an event, a parked change or what one means for a timer, in the batch's buffer.
type record struct {
	id     ID
	text   span            // the id's
	entry  span            // an event, packed: see entry.go
	parked *mapping.Parked // without its row and change; nil: an event, or a timer's change
	timer  bool            // its rule is typ, its member key, the former one tenant, when it is due micros, what is done data, and its key, if that is not the member, change
	// Of a parked change, and of a timer's:
	typ         string
	tenant, key span
	micros      span // the time's, as text
	data        span // a parked change: its row
	change      span // what a redrive of it needs, encrypted
}

type destination struct {
	record int
	stream *stream
}

// NewBatch returns an empty batch for this queue.
func (q *Queue) NewBatch() *Batch { return &Batch{q: q} }

// CountIn has what is added from now on counted, too.
func (b *Batch) CountIn(t *Tally) { b.tally = t }

// Len is the number of appends: events times their endpoints, and parked changes.
func (b *Batch) Len() int { return len(b.destinations) }

// Bytes is how large the events are. Each is sent to Redis once for every endpoint.
func (b *Batch) Bytes() int { return len(b.buf) }

// Reset empties the batch.
func (b *Batch) Reset() {
	const keep = 4 << 20 // a single huge event does not stay in memory
	if cap(b.buf) > keep {
		b.buf = nil
	}
	clear(b.records) // releases the strings
	b.buf, b.records, b.destinations = b.buf[:0], b.records[:0], b.destinations[:0]
	b.lastEvent, b.lastParked, b.lastTimer = ID{}, ID{}, ID{}
}

// Add copies the event and routes it to the endpoints of the last Update; it returns
// how many get it, maybe none. It fails before Claim, when the position does not fit
// into an id, and when the event does not come after the one before.
func (b *Batch) Add(ev *mapping.Event) (int, error) { return b.AddFor(ev, "") }

// AddFor is Add for one of these endpoints alone; "": for all of them.
func (b *Batch) AddFor(ev *mapping.Event, endpoint string) (int, error) {
	r := b.q.routes.Load()
	matched := r.router.match(ev.Type, ev.Tenant)
	if endpoint != "" {
		i := slices.IndexFunc(matched, func(i int) bool { return r.streams[i].endpoint == endpoint })
		matched = matched[max(i, 0) : i+1] // the router's own are not to be changed
	}
	if b.tally != nil {
		b.tally.event(ev, r, matched)
	}
	if len(matched) == 0 {
		return 0, nil
	}
	id, err := b.next(&b.lastEvent, ev.Position, ev.N)
	if err != nil {
		return 0, fmt.Errorf("add event %s: %w", ev.Type, err)
	}
	rec := record{id: id, text: b.putID(id)}
	from := len(b.buf)
	b.buf = appendEntry(b.buf, ev.Time, &[entryParts][]byte{
		partType: []byte(ev.Type), partTenant: ev.Tenant, partKey: ev.Key, partVersion: []byte(ev.Version), partOp: []byte(ev.Op.String()),
		partData: ev.Data, partPrevious: ev.Previous, partUnchanged: ev.Unchanged, partErrors: ev.Errors, partTags: ev.Tags, partChange: ev.Change,
	})
	rec.entry = span{from, len(b.buf)}
	b.records = append(b.records, rec)
	for _, i := range matched {
		b.destinations = append(b.destinations, destination{len(b.records) - 1, r.streams[i]})
	}
	return len(matched), nil
}

// Park adds a change that no event could be made of to the parked changes. Its Change is
// stored as it is: the caller has encrypted it. Parking it again, after a rewind, is harmless.
func (b *Batch) Park(p *mapping.Parked) error {
	id, err := b.next(&b.lastParked, p.Position, p.N)
	if err != nil {
		return fmt.Errorf("park change of %s: %w", p.Table, err)
	}
	if b.tally != nil {
		b.tally.park(p)
	}
	parked := *p
	parked.Row, parked.Change, parked.Tenant, parked.Key = nil, nil, nil, nil
	rec := record{id: id, parked: &parked}
	rec.text, rec.micros = b.identify(id, p.Time)
	rec.data, rec.change = b.put(p.Row), b.put(p.Change)
	b.records = append(b.records, rec)
	b.destinations = append(b.destinations, destination{len(b.records) - 1, b.q.appender.parked})
	return nil
}

func (b *Batch) next(last *ID, p cdc.Position, n int) (ID, error) {
	c := b.q.sources.current.Load()
	if c == nil {
		return ID{}, ErrNotClaimed
	}
	id, err := NewID(c.epoch, p, n)
	if err != nil {
		return ID{}, err
	}
	if id.Compare(*last) <= 0 {
		return ID{}, fmt.Errorf("position %s does not come after %s; events are added in commit order", id, *last)
	}
	*last = id
	if len(b.records) == 0 {
		b.token = b.q.Token()
	}
	return id, nil
}

func (b *Batch) identify(id ID, at time.Time) (text, micros span) {
	text = b.putID(id)
	from := len(b.buf)
	b.buf = strconv.AppendInt(b.buf, at.UnixMicro(), 10)
	return text, span{from, len(b.buf)}
}

func (b *Batch) putID(id ID) span {
	from := len(b.buf)
	b.buf = id.append(b.buf)
	return span{from, len(b.buf)}
}

func (b *Batch) put(p []byte) span {
	from := len(b.buf)
	b.buf = append(b.buf, p...)
	return span{from, len(b.buf)}
}

func (b *Batch) bytes(s span) []byte { return b.buf[s.from:s.to:s.to] }

func parseMicros(s string) (time.Time, error) {
	n, err := strconv.ParseInt(s, 10, 64)
	if err != nil {
		return time.Time{}, fmt.Errorf("parse commit time %q: %w", s, err)
	}
	return time.UnixMicro(n).UTC(), nil
}
