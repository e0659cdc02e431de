package queue

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"gancho/delivery/webhook"

	"github.com/redis/go-redis/v9"
)

// Overflow is where the oldest events of a backlog go that is over its quota: the state
// database. docs/adr/0009 has the protocol. What it has of an endpoint is described by a
// head, which only the owner with the head's claim changes: ErrStale for any other.
// Everything that it has written survives its crash.
type Overflow interface {
	// Heads are those of all endpoints that have events there.
	Heads(ctx context.Context) (map[string]Head, error)
	// Take has the claim be the head's from now on, unless owned, which it calls while nobody
	// else changes the head, returns an error. A head that does not exist is created
	// if it is to begin, else it is the zero one; one without events is removed, unless it is
	// to begin, and keeps its end in what is returned.
	Take(ctx context.Context, endpoint, claim string, begin bool, owned func() error) (Head, error)
	// Move calls read with the end while nobody else changes the head, adds the entries
	// that it returns, which are after the end, and raises the end to the last of them.
	Move(ctx context.Context, endpoint, claim string, read func(end ID) ([]Entry, error)) (Head, error)
	// Page returns events after an id, up to the end, at most count of them and
	// about budget bytes, without what they owe to their ids.
	Page(ctx context.Context, endpoint string, after, end ID, count, budget int) ([]Entry, error)
	// Acknowledge deletes events, and makes dead letters of others; those that do not exist
	// are ignored. A head without events is removed.
	Acknowledge(ctx context.Context, endpoint, claim string, done []ID, dead []OverflowDead) (Head, error)
	// Drop deletes the endpoint's head and events.
	Drop(ctx context.Context, endpoint string) error
	// Forget returns, by endpoint, the subject's events, after it has deleted them if
	// they are to be removed: then all endpoints with a head are there, though they
	// have none. It waits for a Move that has read its entries.
	Forget(ctx context.Context, s Subject, remove bool) (map[string][]ID, error)
}

// Head is what an Overflow has of an endpoint: everything up to End that is not done. The
// zero Head is of an endpoint that has nothing there.
type Head struct {
	End           ID
	Events, Bytes int64
	Oldest        time.Time // when the first was committed
}

// OverflowDead is an event of an Overflow that becomes a dead letter.
type OverflowDead struct {
	DeadResult
	WebhookID, Sequence string
}

// ErrStale says that the head, or the fence, has another claim, or none: the owner is another
// one, or the endpoint was dropped.
var ErrStale = errors.New("another process delivers to the endpoint now")

// errNoOverflow: the process has no state database, and something is there.
var errNoOverflow = errors.New("a part of the backlog is in the state database, which this process does not have; configure state.dsn and state.key as in the process that moved it")

// mark is the head as the endpoint's state has it in the field overflow. Without it the Overflow
// has nothing of the endpoint; its figures are for Stats.
func (h *Head) mark() string {
	oldest := int64(0)
	if !h.Oldest.IsZero() {
		oldest = h.Oldest.UnixMicro()
	}
	return fmt.Sprintf("%s %d %d %d", h.End, h.Events, h.Bytes, oldest)
}

// parseMark reads a mark; what is not one is the zero Head.
func parseMark(text string) (h Head) {
	f := strings.Fields(text)
	if len(f) != 4 {
		return Head{}
	}
	number := func(s string) int64 { n, _ := strconv.ParseInt(s, 10, 64); return n } // what is not one is 0
	h.End, _ = ParseID(f[0])
	h.Events, h.Bytes = number(f[1]), number(f[2])
	if at := number(f[3]); at != 0 {
		h.Oldest = time.UnixMicro(at).UTC()
	}
	return h
}

// overflowed is what an owner knows of its endpoint's head.
type overflowed struct {
	// changing is held while the head, or the mark, changes in the Overflow and in Redis.
	changing sync.Mutex
	// unsure: it is not known whether the last Move was committed. Guarded by changing.
	unsure bool
	// removed: somebody may have removed events from the Overflow.
	removed atomic.Bool

	mu    sync.Mutex
	head  Head   // guarded by mu
	moves uint64 // how often the end was raised; guarded by mu
	// marked: Redis may have a mark; generation is that of the Redis in which it was set.
	// Guarded by mu.
	marked     bool
	generation uint64
}

func (o *Owner) head() (Head, uint64) {
	o.over.mu.Lock()
	defer o.over.mu.Unlock()
	return o.over.head, o.over.moves
}

// adopt sets the head that the Overflow has returned. The end never goes back: also when
// the head has been removed, nothing up to it is to be delivered from the stream.
func (o *Owner) adopt(h Head) {
	o.over.mu.Lock()
	defer o.over.mu.Unlock()
	if h.End.Compare(o.over.head.End) > 0 {
		o.over.moves++
	} else {
		h.End = o.over.head.End
	}
	o.over.head = h
}

// InStream reports whether an event's place is the endpoint's stream, not the Overflow.
func (o *Owner) InStream(id ID) bool {
	h, _ := o.head()
	return id.FromSide() || id.Compare(h.End) > 0
}

// markScript sets or removes the mark and removes from the stream what is up to the end, if the caller still owns
// the endpoint; it returns how many entries are left, or -1. Its first write is one that a
// full Redis allows: see ackScript. KEYS: fence, stream, state. ARGV: claim, mark, the
// first id after the end.
var markScript = redis.NewScript(`
if redis.call('GET', KEYS[1]) ~= ARGV[1] then return -1 end
redis.call('XDEL', KEYS[2], '0-0')
redis.call('XTRIM', KEYS[2], 'MINID', ARGV[3])
if ARGV[2] == '' then redis.call('HDEL', KEYS[3], 'overflow') else redis.call('HSET', KEYS[3], 'overflow', ARGV[2]) end
return redis.call('XLEN', KEYS[2])`)

// setMark brings Redis up to the owner's head, and returns how many events the stream has
// left. ErrStale: another process owns the endpoint.
func (o *Owner) setMark(ctx context.Context, h Head, mark string) (left int64, err error) {
	k, generation := o.q.keys, o.Generation()
	o.markedAs(mark != "" || o.mayBeMarked(), generation)
	keys := []string{k.fence(o.endpoint), k.events(o.endpoint), k.state(o.endpoint)}
	left, err = markScript.Run(ctx, o.q.client, keys, o.claim, mark, h.End.next().String()).Int64()
	if err != nil {
		return 0, annotate(err, "mark the overflow of endpoint %q", o.endpoint)
	}
	if left < 0 {
		return 0, ErrStale
	}
	o.markedAs(mark != "", generation)
	return left, nil
}

func (o *Owner) markedAs(marked bool, generation uint64) {
	o.over.mu.Lock()
	defer o.over.mu.Unlock()
	o.over.marked, o.over.generation = marked, generation
}

func (o *Owner) mayBeMarked() bool {
	o.over.mu.Lock()
	defer o.over.mu.Unlock()
	return o.over.marked
}

// loadOverflow takes the head, if the endpoint is marked, before anything is read.
func (o *Owner) loadOverflow(ctx context.Context, marked bool) error {
	o.over.changing.Lock()
	defer o.over.changing.Unlock()
	o.markedAs(marked, o.Generation())
	if !marked {
		return nil
	}
	return o.takeLocked(ctx)
}

// owned returns ErrStale if another process owns the endpoint. While the head cannot change,
// who gets the lease after it takes the head after it, too.
func (o *Owner) owned(ctx context.Context) error {
	fence, err := o.q.client.Get(ctx, o.q.keys.fence(o.endpoint)).Result()
	switch {
	case err != nil && !errors.Is(err, redis.Nil):
		return annotate(err, "read who owns endpoint %q", o.endpoint)
	case fence != o.claim:
		return ErrStale
	}
	return nil
}

// takeLocked takes the head of an endpoint that may be marked. ErrStale: another process
// owns it.
func (o *Owner) takeLocked(ctx context.Context) error {
	if o.q.overflow == nil {
		return errNoOverflow
	}
	h, err := o.q.overflow.Take(ctx, o.endpoint, o.claim, false, func() error { return o.owned(ctx) })
	if err != nil {
		return fmt.Errorf("read which events of endpoint %q are in the state database: %w", o.endpoint, err)
	}
	o.adopt(h)
	o.over.unsure = false
	mark := ""
	if h.Events > 0 {
		mark = h.mark()
	}
	h, _ = o.head() // its end is never before that of the database
	_, err = o.setMark(ctx, h, mark)
	return err
}

// EventsRemoved says that somebody has removed events of the endpoint (Standing.Forgotten).
// Call it before they are read again.
func (o *Owner) EventsRemoved() { o.over.removed.Store(true) }

// takeAgainLocked takes the head again when it may not be what the owner knows of it.
func (o *Owner) takeAgainLocked(ctx context.Context) error {
	h, _ := o.head()
	removed := o.over.removed.Swap(false) && h.Events > 0
	if !removed && !o.over.unsure {
		return nil
	}
	err := o.takeLocked(ctx)
	if err != nil && removed {
		o.over.removed.Store(true)
	}
	return err
}

// restoreMark brings a Redis that was restarted up to the head: it may have lost the mark, or
// restored one that had been removed.
func (o *Owner) restoreMark(ctx context.Context) error {
	o.over.mu.Lock()
	known := o.over.generation == o.Generation()
	o.over.mu.Unlock()
	if known || o.q.overflow == nil {
		return nil
	}
	o.over.changing.Lock()
	defer o.over.changing.Unlock()
	h, _ := o.head()
	if h.Events > 0 {
		_, err := o.setMark(ctx, h, h.mark())
		return err
	}
	generation := o.Generation()
	mark, err := o.q.client.HGet(ctx, o.q.keys.state(o.endpoint), "overflow").Result()
	switch {
	case err == nil && mark != "":
		return o.takeLocked(ctx)
	case err != nil && !errors.Is(err, redis.Nil):
		return annotate(err, "read the overflow of endpoint %q", o.endpoint)
	case h.End.IsZero():
		o.markedAs(false, generation)
		return nil
	}
	_, err = o.setMark(ctx, h, "") // what has come back with the mark is done
	return err
}

// What MoveOldest moves at once: transactions are short, and a page is in memory.
const (
	moveEvents = 500
	moveBytes  = 2 << 20
)

// MoveOldest moves some of the oldest events from the endpoint's stream to the Overflow, in flight
// or not, while the stream has more than keep; more: it still has. false: another process
// owns the endpoint. Call it from the goroutine that calls Write.
func (o *Owner) MoveOldest(ctx context.Context, keep int64) (owned, more bool, err error) {
	if o.q.overflow == nil {
		return true, false, nil
	}
	o.over.changing.Lock()
	defer o.over.changing.Unlock()
	more, err = o.moveOldestLocked(ctx, keep)
	if errors.Is(err, ErrStale) {
		return false, false, nil
	}
	return true, more, err
}

func (o *Owner) moveOldestLocked(ctx context.Context, keep int64) (more bool, err error) {
	q := o.q
	if err := o.takeAgainLocked(ctx); err != nil {
		return false, err
	}
	left, err := q.client.XLen(ctx, q.keys.events(o.endpoint)).Result()
	if err != nil || left <= keep {
		return false, annotate(err, "count events of endpoint %q", o.endpoint)
	}
	h, _ := o.head()
	if h.Events == 0 {
		if err := o.beginOverflow(ctx); err != nil {
			return false, err
		}
	}
	o.over.unsure = true
	floor := h.End // what a restart of Redis has restored up to there is done
	h, err = q.overflow.Move(ctx, o.endpoint, o.claim, func(end ID) ([]Entry, error) {
		if end.Compare(floor) < 0 {
			end = floor
		}
		// Behind a hole nothing moves: the end would pass what is to be appended again.
		generation := o.Generation()
		if err := q.checkHoles(ctx); err != nil {
			return nil, err
		}
		page, _, err := o.readStream(ctx, false, end, int(min(left-keep, moveEvents)), moveBytes)
		if err == nil && o.Generation() != generation {
			err = ErrRestarted
		}
		return page, err
	})
	if err != nil {
		return false, fmt.Errorf("move events of endpoint %q to the state database: %w", o.endpoint, err)
	}
	o.adopt(h) // before the stream is cut: who reads it meanwhile sees that it was
	o.over.unsure = false
	left, err = o.setMark(ctx, h, h.mark())
	return left > keep, err
}

// beginOverflow creates the endpoint's head, and marks the endpoint, durably. In this order: whoever
// gets the lease before the mark is set has it refused, and whoever gets it afterwards
// takes the head before it reads anything.
func (o *Owner) beginOverflow(ctx context.Context) error {
	h, err := o.q.overflow.Take(ctx, o.endpoint, o.claim, true, func() error { return o.owned(ctx) })
	if err != nil {
		return fmt.Errorf("begin to move events of endpoint %q to the state database: %w", o.endpoint, err)
	}
	o.adopt(h)
	return o.q.Durably(ctx, o.endpoint, func() error {
		h, _ := o.head()
		_, err := o.setMark(ctx, h, h.mark())
		return err
	})
}

// readMain reads the endpoint's events after an id: those of the Overflow first.
func (o *Owner) readMain(ctx context.Context, after ID, count, budget int) (page []Entry, end bool, err error) {
	if err := o.restoreMark(ctx); err != nil {
		return nil, false, err
	}
	if o.over.removed.Load() {
		o.over.changing.Lock()
		err := o.takeAgainLocked(ctx)
		o.over.changing.Unlock()
		if err != nil {
			return nil, false, err
		}
	}
	for {
		h, moves := o.head()
		if h.Events > 0 && after.Compare(h.End) < 0 {
			if page, err = o.readOverflow(ctx, after, h.End, count, budget); err != nil || len(page) > 0 {
				return page, false, err
			}
		}
		from := after
		if from.Compare(h.End) < 0 {
			from = h.End
		}
		page, end, err = o.readStream(ctx, false, from, count, budget)
		if _, now := o.head(); err != nil || now == moves {
			return page, end, err
		}
	}
}

func (o *Owner) readOverflow(ctx context.Context, after, end ID, count, budget int) ([]Entry, error) {
	page, err := o.q.overflow.Page(ctx, o.endpoint, after, end, count, budget)
	if err != nil {
		return nil, fmt.Errorf("read events of endpoint %q from the state database: %w", o.endpoint, err)
	}
	for i := range page {
		if err := o.q.identify(ctx, page[i].ID, page[i].Msg); err != nil {
			return nil, fmt.Errorf("read events of endpoint %q from the state database: %w", o.endpoint, err)
		}
	}
	return page, nil
}

// fetch reads one event again, wherever it is.
func (o *Owner) fetch(ctx context.Context, id ID) (*webhook.Message, error) {
	for {
		h, moves := o.head()
		if !id.FromSide() && id.Compare(h.End) <= 0 {
			if h.Events == 0 {
				return nil, nil
			}
			page, err := o.readOverflow(ctx, id.previous(), id, 1, 1)
			if err != nil || len(page) == 0 {
				return nil, err
			}
			return page[0].Msg, nil
		}
		m, err := o.fetchStream(ctx, id)
		if _, now := o.head(); m != nil || err != nil || now == moves {
			return m, err
		}
	}
}

// acknowledgeOverflowed deletes from the Overflow what the results say of its events. mark is the head's
// afterwards, if that may have changed.
func (o *Owner) acknowledgeOverflowed(ctx context.Context, r *Results) (owned bool, mark *string, err error) {
	o.over.changing.Lock()
	defer o.over.changing.Unlock()
	err = o.takeAgainLocked(ctx)
	if errors.Is(err, ErrStale) {
		return false, nil, nil
	}
	if err != nil {
		return true, nil, err
	}
	h, _ := o.head()
	if h.Events == 0 {
		if o.mayBeMarked() {
			return true, new(string), nil
		}
		return true, nil, nil
	}
	var done []ID
	for _, ids := range [][]ID{r.Done, r.Clean} {
		for _, id := range ids {
			if !o.InStream(id) {
				done = append(done, id)
			}
		}
	}
	var dead []OverflowDead
	for i := range r.Dead {
		if o.InStream(r.Dead[i].ID) {
			continue
		}
		d := OverflowDead{DeadResult: r.Dead[i]}
		var m webhook.Message
		if err := o.q.identify(ctx, d.ID, &m); err != nil {
			return true, nil, err
		}
		d.WebhookID, d.Sequence = m.ID, m.Sequence
		dead = append(dead, d)
	}
	if len(done)+len(dead) == 0 {
		return true, nil, nil
	}
	h, err = o.q.overflow.Acknowledge(ctx, o.endpoint, o.claim, done, dead)
	if errors.Is(err, ErrStale) {
		return false, nil, nil
	}
	if err != nil {
		return true, nil, fmt.Errorf("acknowledge events of endpoint %q in the state database: %w", o.endpoint, err)
	}
	o.adopt(h)
	text := ""
	if h.Events > 0 {
		text = h.mark()
	}
	return true, &text, nil
}

// restoreMarkScript sets a mark where there is none. Its first write is one that a full Redis
// allows: see ackScript.
var restoreMarkScript = redis.NewScript(`
redis.call('HDEL', KEYS[1], '')
local mark = redis.call('HGET', KEYS[1], 'overflow')
if mark and mark ~= '' then return 0 end
redis.call('HSET', KEYS[1], 'overflow', ARGV[1])
return 1`)

// RestoreOverflow marks the endpoints that have events in the Overflow, should Redis have
// lost everything. Call it before anything is delivered.
func (q *Queue) RestoreOverflow(ctx context.Context) error {
	heads, err := q.overflow.Heads(ctx)
	if err != nil {
		return err
	}
	for name, h := range heads {
		if err := q.register(ctx, name); err != nil {
			return err
		}
		set, err := restoreMarkScript.Run(ctx, q.client, []string{q.keys.state(name)}, h.mark()).Bool()
		if err != nil {
			return annotate(err, "mark the overflow of endpoint %q", name)
		}
		if set {
			q.log.Warn().Str("endpoint", name).Int64("events", h.Events).
				Msg("redis has lost that a part of the backlog is in the state database: it is delivered from there")
		}
	}
	return nil
}

// forgetOverflowedScript removes what is kept of events that were removed from the
// Overflow, and has the owner take its head and read again. KEYS: state, retries, their attempts.
var forgetOverflowedScript = redis.NewScript(`
if #ARGV > 0 then
  redis.call('ZREM', KEYS[2], unpack(ARGV))
  redis.call('HDEL', KEYS[3], unpack(ARGV))
end
return redis.call('HINCRBY', KEYS[1], 'forgotten', 1)`)

// forgetOverflowed counts, or removes, the subject's events in the Overflow.
func (q *Queue) forgetOverflowed(ctx context.Context, s *Subject, remove bool) (total int64, err error) {
	if q.overflow == nil {
		return 0, nil
	}
	found, err := q.overflow.Forget(ctx, *s, remove)
	if err != nil {
		return 0, err
	}
	for name, ids := range found {
		total += int64(len(ids))
		// Also without events: a call that failed may have removed them.
		for at := 0; remove && (at == 0 || at < len(ids)); at += moveEvents {
			args := appendIDs(nil, func(ID) bool { return true }, ids[at:min(at+moveEvents, len(ids))])[1:]
			keys := []string{q.keys.state(name), q.keys.due(name), q.keys.attempts(name)}
			if err := forgetOverflowedScript.Run(ctx, q.client, keys, args...).Err(); err != nil {
				return total, annotate(err, "forget events of endpoint %q", name)
			}
		}
	}
	return total, nil
}
