package queue

import (
	"context"
	"errors"
	"fmt"
	"slices"
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
	// if it is to begin, else it is the zero one. One without events begins anew.
	Take(ctx context.Context, endpoint, claim string, begin bool, owned func() error) (Head, error)
	// Move calls read with the end while nobody else changes the head, adds the entries
	// that it returns, which are after the end, and raises the end to the last of them.
	Move(ctx context.Context, endpoint, claim string, read func(end ID) ([]Entry, error)) (Head, error)
	// Page returns events after an id, up to the end, at most count of them and
	// about budget bytes.
	Page(ctx context.Context, endpoint string, after, end ID, count, budget int) ([]Entry, error)
	// Acknowledge deletes events that were delivered or superseded, and makes dead letters of others; those that
	// do not exist are ignored.
	Acknowledge(ctx context.Context, endpoint, claim string, done, superseded []ID, dead []DeadResult) (Head, error)
	// End removes a head of the claim's that has no events.
	End(ctx context.Context, endpoint, claim string) error
	// Drop deletes the endpoint's head and events.
	Drop(ctx context.Context, endpoint string) error
	// Forget calls each with the subject's events of an endpoint, if they are to be removed
	// right after they were: then with all endpoints that have a head, though they have
	// none, but those that get none of the subject's events (Elsewhere), which do not wait for
	// it. Of one that failed it does not know whether they are removed, and calls each with
	// none. It waits for a Move that has read its entries. It ends with the first error.
	Forget(ctx context.Context, s Subject, remove bool, each func(endpoint string, found []ID) error) error
}

// ErrStale says that the head, or the fence, has another claim, or none: the owner is another
// one, or the endpoint was dropped.
var ErrStale = errors.New("another process delivers to the endpoint now")

// ErrNoOverflow says that the process has no state database, and that something is there. Give the lease back.
var ErrNoOverflow = errors.New("a part of the backlog is in the state database, which this process does not have; configure state.dsn and state.key as in the process that moved it")

// What MoveOldest moves at once: transactions are short, and a page is in memory.
const (
	moveEvents = 500
	moveBytes  = 2 << 20
)

// beginTimeout is how long acknowledgements of an endpoint that has nothing in the Overflow may wait
// for one that does not answer.
const beginTimeout = 2 * time.Second

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
		if err := o.checkHoles(ctx); err != nil {
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
	taking, cancel := context.WithTimeout(ctx, beginTimeout)
	defer cancel()
	h, err := o.q.overflow.Take(taking, o.endpoint, o.claim, true, func() error { return o.owned(taking) })
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

// readMain reads the endpoint's events after an id, and none behind a hole.
func (o *Owner) readMain(ctx context.Context, after ID, count, budget int) (page []Entry, end bool, err error) {
	for generation := o.Generation(); ; generation = o.Generation() {
		if err := o.checkHoles(ctx); err != nil {
			return nil, false, err
		}
		page, end, err = o.readParts(ctx, after, count, budget)
		if err != nil || o.Generation() == generation { // else what was read may be of a Redis that has one
			return page, end, err
		}
	}
}

// readParts reads the endpoint's events after an id: those of the Overflow first.
func (o *Owner) readParts(ctx context.Context, after ID, count, budget int) (page []Entry, end bool, err error) {
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
	if o.q.overflow == nil {
		return true, nil, nil // and a mark that somebody has set is not its own to remove
	}
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
	done, superseded := slices.DeleteFunc(slices.Concat(r.Done, r.Clean), o.InStream), slices.DeleteFunc(slices.Clone(r.Superseded), o.InStream)
	var dead []DeadResult
	for i := range r.Dead {
		if o.InStream(r.Dead[i].ID) {
			continue
		}
		dead = append(dead, r.Dead[i])
	}
	if len(done)+len(superseded)+len(dead) == 0 {
		return true, nil, nil
	}
	h, err = o.q.overflow.Acknowledge(ctx, o.endpoint, o.claim, done, superseded, dead)
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
	err = q.overflow.Forget(ctx, *s, remove, func(endpoint string, found []ID) error {
		total += int64(len(found))
		if !remove {
			return nil
		}
		return q.notifyForgotten(context.WithoutCancel(ctx), endpoint, found) // they are removed already
	})
	return total, err
}

// notifyForgotten has the owner of an endpoint drop events that were removed from the Overflow.
// Also without events: a call that failed may have removed them.
func (q *Queue) notifyForgotten(ctx context.Context, endpoint string, found []ID) error {
	keys := []string{q.keys.state(endpoint), q.keys.due(endpoint), q.keys.attempts(endpoint)}
	for at := 0; at == 0 || at < len(found); at += moveEvents {
		args := (&idTexts{}).appendIDs(nil, func(ID) bool { return true }, found[at:min(at+moveEvents, len(found))])[1:]
		if err := forgetOverflowedScript.Run(ctx, q.client, keys, args...).Err(); err != nil {
			return annotate(err, "forget events of endpoint %q", endpoint)
		}
	}
	if len(found) == 0 {
		return nil // Forget wakes all in the end
	}
	return q.wakeForgotten(ctx)
}

// wakeForgotten has the owners look for what was forgotten.
func (q *Queue) wakeForgotten(ctx context.Context) error {
	return annotate(q.client.Publish(ctx, q.keys.wake(), WakeAll).Err(), "have events forgotten")
}
