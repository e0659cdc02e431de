package queue

import (
	"bytes"
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strconv"
	"sync"
	"sync/atomic"

	"gancho/delivery/webhook"
)

// Entry is an event as a stream holds it.
type Entry struct {
	ID  ID
	Msg *webhook.Message
}

// A page is read in steps, which begin with firstStep entries and double while their mean size allows it, up to
// maxStep: a page of the same number of entries may be hundreds of times larger than the one before, and would have to fit into
// memory here and in Redis. (A script that stops at a number of bytes takes one call, and six times as much of Redis: Lua gets a
// copy of everything.)
const (
	firstStep = 4
	maxStep   = 128
)

// readStep bounds the next step of reading a stream by the ones before.
type readStep struct {
	mu            sync.Mutex
	entries, mean int // how many it may have, 0: firstStep; and the size of those that were read last, in bytes
}

// begin is before the first step of a page, which is a small one: what comes may be larger than what came before.
func (s *readStep) begin() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.entries = min(s.entries, 4*firstStep)
}

// next returns how many entries to read: at least one, and no more than are wanted, or than room bytes
// have room for if they are like the last.
func (s *readStep) next(wanted, room int) int {
	s.mu.Lock()
	defer s.mu.Unlock()
	n := min(cmp.Or(s.entries, firstStep), wanted)
	if s.mean > 0 {
		n = min(n, room/s.mean)
	}
	return max(n, 1)
}

// was notes how many entries were read, of so many bytes, when so many were wanted.
func (s *readStep) was(entries, bytes, wanted int) {
	if entries == 0 {
		return
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.mean = bytes/entries + 1
	if entries < wanted || 2*entries > s.entries { // less because of the size, or more than before
		s.entries = min(2*entries, maxStep)
	}
}

// Read returns the entries of one of the endpoint's streams that come after an
// id, at most count of them, and about budget bytes; end: there are no more. The first
// part of the main one may be in the Overflow.
func (o *Owner) Read(ctx context.Context, side bool, after ID, count, budget int) (page []Entry, end bool, err error) {
	if side {
		return o.readStream(ctx, true, after, count, budget)
	}
	return o.readMain(ctx, after, count, budget)
}

func (o *Owner) readStream(ctx context.Context, side bool, after ID, count, budget int) (page []Entry, end bool, err error) {
	q, endpoint := o.q, o.endpoint
	key := q.keys.events(endpoint)
	if side {
		key = q.keys.side(endpoint)
	}
	step := &o.steps[0]
	if side {
		step = &o.steps[1]
	}
	step.begin()
	for read := 0; !end && len(page) < count && read < budget; {
		wanted := count - len(page)
		n := step.next(wanted, budget-read)
		reply, err := q.client.Do(ctx, "XRANGE", key, from(after), "+", "COUNT", n).Slice()
		if err != nil {
			return nil, false, annotate(err, "read events of endpoint %q", endpoint)
		}
		bytes := 0
		for _, raw := range reply {
			e, size, err := q.decode(ctx, raw)
			if err != nil {
				return nil, false, fmt.Errorf("read events of endpoint %q: %w", endpoint, err)
			}
			page, after, bytes = append(page, e), e.ID, bytes+size
		}
		read += bytes
		if end = len(reply) < n; !end {
			step.was(n, bytes, wanted)
		}
	}
	return page, end, nil
}

// from is where to read on after an id. No entry has the zero one.
func from(id ID) string { return "(" + id.String() }

// Fetch reads one event again. It returns nil when the event does not exist any more.
func (o *Owner) Fetch(ctx context.Context, id ID) (*webhook.Message, error) { return o.fetch(ctx, id) }

func (o *Owner) fetchStream(ctx context.Context, id ID) (*webhook.Message, error) {
	q, endpoint, text := o.q, o.endpoint, id.String()
	reply, err := q.client.Do(ctx, "XRANGE", q.keys.stream(endpoint, id), text, text).Slice()
	if err == nil && len(reply) == 0 {
		return nil, nil
	}
	var e Entry
	if err == nil {
		e, _, err = q.decode(ctx, reply[0])
	}
	return e.Msg, annotate(err, "read event %s of endpoint %q", text, endpoint)
}

var errEntry = errors.New("an entry is not one that Gancho has written; another program uses the same keys, give it another queue.prefix")

// decode returns an entry, and the size of what it says.
func (q *Queue) decode(ctx context.Context, raw any) (e Entry, size int, err error) {
	pair, ok := raw.([]any)
	if !ok || len(pair) != 2 {
		return e, 0, errEntry
	}
	text, ok1 := pair[0].(string)
	fields, ok2 := pair[1].([]any)
	if !ok1 || !ok2 {
		return e, 0, errEntry
	}
	id, err := ParseID(text)
	if err != nil {
		return e, 0, err
	}
	m := &webhook.Message{}
	for i := 0; i+1 < len(fields); i += 2 {
		if err := fill(m, fields[i], fields[i+1]); err != nil {
			return e, 0, err
		}
		value, _ := fields[i+1].(string)
		size += len(value)
	}
	return Entry{id, m}, size, q.identify(ctx, id, m)
}

// identify sets what the message of an entry owes to the entry's id. The side
// stream's have brought their own webhook-ids.
func (q *Queue) identify(ctx context.Context, id ID, m *webhook.Message) error {
	if id.FromSide() {
		if m.Sequence == "" {
			m.Sequence = cmp.Or(sequenceOf(m.ID), id.Sequence())
		}
		return nil
	}
	source, err := q.sources.of(ctx, id.Epoch())
	if err != nil {
		return err
	}
	m.ID = id.WebhookID(source)
	m.Sequence = m.ID[len(source)+1:]
	return nil
}

// fill sets what a field of an entry says. It ignores fields of newer versions.
func fill(m *webhook.Message, field, text any) (err error) {
	name, ok1 := field.(string)
	value, ok2 := text.(string)
	if !ok1 || !ok2 {
		return errEntry
	}
	if isPacked(name, value) {
		return unpackEntry(m, []byte(value))
	}
	switch name {
	case "t":
		m.Type = value
	case "k":
		m.Key = value
	case "n":
		m.Tenant = value
	case "c":
		m.Time, err = parseMicros(value)
	case "d":
		m.Data = []byte(value)
	case "v":
		m.Version = value
	case "p":
		m.Previous = []byte(value)
	case "u":
		m.Unchanged = []byte(value)
	case "e":
		m.Errors = []byte(value)
	case "g":
		err = json.Unmarshal([]byte(value), &m.Tags)
	case "h":
		m.Change = []byte(value)
	case "o":
		m.Op = value
	case "l":
		m.Late, err = strconv.ParseInt(value, 10, 64)
	case "w":
		m.ID = value
	case "s":
		m.Sequence = value
	case "r":
		m.Replay = true
	}
	return err
}

// message returns, with its own memory, what a reader of the record's entry would get.
func (b *Batch) message(rec *record, source string) *webhook.Message {
	m := &webhook.Message{ID: rec.id.WebhookID(source)}
	m.Sequence = m.ID[len(source)+1:]
	_ = unpackEntry(m, bytes.Clone(b.bytes(rec.entry))) // as this process has packed it
	return m
}

// Owner reads, and writes under its claim, the fencing token, as whoever has an
// endpoint's lease. Its methods may be called concurrently, but for Write and MoveOldest.
type Owner struct {
	q               *Queue
	endpoint, claim string
	over            overflowed
	steps           [2]readStep   // of reading the main and the side stream
	whole           atomic.Uint64 // one more than the generation of Redis that was found without holes
}

// Generation counts the restarts of Redis that this process has noticed: what
// was read before it rose may have been lost since.
func (o *Owner) Generation() uint64 { return o.q.servers.generations.Load() }

// Load reads what the last owner has left: the endpoint's state, and failed events' attempts.
func (o *Owner) Load(ctx context.Context) (Condition, map[ID]Attempts, error) {
	s, err := o.q.loadCondition(ctx, o.endpoint)
	if err != nil {
		return Condition{}, nil, err
	}
	if err := o.loadOverflow(ctx, s.overflows); err != nil {
		return Condition{}, nil, err
	}
	retries, err := o.q.loadRetries(ctx, o.endpoint)
	return s, retries, err
}

// Release gives the lease back. The other processes acquire the endpoint when they look next, as WakeAll has them do.
func (o *Owner) Release(ctx context.Context) error {
	keys := []string{o.q.leasesOf(o.endpoint), o.q.keys.fence(o.endpoint)}
	err := releaseScript.Run(ctx, o.q.client, keys, o.claim).Err()
	return annotate(err, "release endpoint %q", o.endpoint)
}
