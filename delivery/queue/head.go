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

	"github.com/redis/go-redis/v9"
)

// Head is what an Overflow has of an endpoint: everything up to End that is not done. The
// zero Head is of an endpoint that has nothing there.
type Head struct {
	End           ID
	Events, Bytes int64
	Oldest        time.Time // when the first was committed
}

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
	// marked: Redis may have a mark; compared: it has what the owner knows, as of a
	// generation of Redis. Guarded by mu.
	marked, compared bool
	generation       uint64
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
	o.over.marked, o.over.compared, o.over.generation = marked, true, generation
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
		return ErrNoOverflow
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
	if _, err = o.setMark(ctx, h, mark); err == nil && mark == "" {
		o.endOverflow(ctx)
	}
	return err
}

// endOverflow removes a head without events, when Redis has no mark any more, and nothing up
// to the end. Before that, whoever becomes the owner needs the end, or what the stream still
// has up to there would be delivered again. A head that is left behind harms nobody: it is
// begun anew.
func (o *Owner) endOverflow(ctx context.Context) {
	if err := o.q.overflow.End(ctx, o.endpoint, o.claim); err != nil {
		o.q.log.Debug().Err(err).Str("endpoint", o.endpoint).Msg("the row of an overflow without events stays until the next one")
	}
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

// compareMark looks again, before more is read, when Redis has a mark of which the owner does not
// know, or none though it should: somebody has restored it, or deleted all keys.
func (o *Owner) compareMark(s *Standing) {
	if !s.Inspected {
		return
	}
	if o.q.overflow == nil {
		s.Elsewhere = s.marked
		return
	}
	o.over.mu.Lock()
	defer o.over.mu.Unlock()
	if s.marked != (o.over.head.Events > 0) {
		o.over.compared, s.More = false, true
	}
}

// restoreMark brings a Redis that was restarted up to the head: it may have lost the mark, or
// restored one that had been removed.
func (o *Owner) restoreMark(ctx context.Context) error {
	o.over.mu.Lock()
	known := o.over.compared && o.over.generation == o.Generation()
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
	}
	// Nothing up to the end has come back, or the mark would have, but for a hole: that comes again.
	// And the end may be of a later epoch than what there is now, in a Redis that somebody has emptied.
	o.markedAs(false, generation)
	o.over.mu.Lock()
	defer o.over.mu.Unlock()
	o.over.head, o.over.moves = Head{}, o.over.moves+1
	return nil
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
	restored := false
	for name, h := range heads {
		if err := q.register(ctx, name); err != nil {
			return err
		}
		set, err := restoreMarkScript.Run(ctx, q.client, []string{q.keys.state(name)}, h.mark()).Bool()
		if err != nil {
			return annotate(err, "mark the overflow of endpoint %q", name)
		}
		if restored = restored || set; set {
			q.log.Warn().Str("endpoint", name).Int64("events", h.Events).
				Msg("redis has lost that a part of the backlog is in the state database: it is delivered from there")
		}
	}
	if !restored {
		return nil
	}
	return annotate(q.client.Publish(ctx, q.keys.wake(), WakeAll).Err(), "have owners find what has overflowed")
}
