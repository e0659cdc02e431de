package delivery

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"fmt"
	"iter"
	"strings"
	"time"
)

// local is what delivers in this process, which hears of new events without a
// detour through Redis. Both methods are called by many goroutines.
type local interface {
	// Offer says that something was appended to an endpoint's stream. It must
	// not wait, and must not keep what it is given.
	Offer(a *appended)
	// Owns reports whether this process delivers to the endpoint.
	Owns(endpoint string) bool
}

// appended is what one call has appended to one of an endpoint's streams.
type appended struct {
	endpoint string
	side     bool // to the side stream, from where it has to be read

	stream *stream
	batch  *Batch
	source string
}

// follows reports whether the events come right after the one with this id, and
// all of them were appended now.
func (a *appended) follows(id ID) bool {
	return a.stream != nil && a.stream.refused == 0 && !id.IsZero() && a.stream.prev == id
}

// events are the events, with memory of their own, in stream order.
func (a *appended) events() iter.Seq2[ID, *Message] {
	return func(yield func(ID, *Message) bool) {
		for _, i := range a.stream.batch {
			rec := &a.batch.records[i]
			if !yield(rec.id, a.batch.message(rec, a.source)) {
				return
			}
		}
	}
}

// worker is one of the processes that share the queue's endpoints.
type worker struct {
	q       *Queue
	process string // unique
	claims  int
}

// worker returns a new worker. Its methods belong to one goroutine at a time.
func (q *Queue) worker() *worker {
	var unique [8]byte
	_, _ = rand.Read(unique[:]) // never fails
	return &worker{q: q, process: hex.EncodeToString(unique[:])}
}

// attach has what this process appends offered to l, until detach is called.
// One at a time is attached to a queue.
func (w *worker) attach(l local) (detach func()) {
	w.q.local.Store(&l)
	return func() { w.q.local.CompareAndSwap(&l, nil) }
}

// acquire takes leases in one round trip, and returns an owner for each of the
// endpoints that it has got, and nil for the others: of those whose server does
// not answer, none. The error is the first of them.
func (w *worker) acquire(ctx context.Context, ttl time.Duration, endpoints []string) ([]*owner, error) {
	asked := make([]*owner, len(endpoints))
	for i, name := range endpoints {
		w.claims++
		asked[i] = &owner{q: w.q, endpoint: name, claim: fmt.Sprintf("%s-%d", w.process, w.claims)}
	}
	return w.q.acquire(ctx, ttl, asked)
}

// renew renews leases in one round trip: see Queue.renew.
func (w *worker) renew(ctx context.Context, ttl time.Duration, of []renewal) ([]standing, error) {
	return w.q.renew(ctx, ttl, of)
}

// free reports, for each endpoint, whether nobody is known to have its lease.
// With an error it tells of those endpoints whose server has answered.
func (w *worker) free(ctx context.Context, endpoints []string) ([]bool, error) {
	return w.q.free(ctx, endpoints)
}

// heartbeat says that the process lives, and returns how many do. It also
// inspects all masters, where they may change: see attend.
func (w *worker) heartbeat(ctx context.Context, ttl time.Duration) (processes int, err error) {
	if err := w.q.attend(ctx); err != nil {
		return 0, err
	}
	return w.q.heartbeat(ctx, w.process, ttl)
}

// briefly bounds calls that go to several servers: one that hangs must not
// cost the leases on the others, which are renewed in time with both bounds.
func (w *worker) briefly(ctx context.Context, d time.Duration) (context.Context, context.CancelFunc) {
	return w.q.briefly(ctx, d)
}

// wakeAll tells the other processes to look at all leases now.
func (w *worker) wakeAll(ctx context.Context) error { return w.q.tellAll(ctx) }

// leave unregisters the process and tells the others, who take its endpoints.
func (w *worker) leave(ctx context.Context) error { return w.q.leave(ctx, w.process) }

// listen calls wake with what other processes have appended for this one, until
// the context ends. No endpoint: everything is to be looked at, because
// somebody asks for it, or because something may have been missed.
func (w *worker) listen(ctx context.Context, wake func(endpoint string, side bool)) {
	for failures := 1; ctx.Err() == nil; failures++ {
		if w.subscribe(ctx, wake) {
			failures = 1
		}
		pause(ctx, backoff(failures))
	}
}

// subscribe listens until the connection breaks, and reports whether there was one.
func (w *worker) subscribe(ctx context.Context, wake func(endpoint string, side bool)) (heard bool) {
	sub, err := w.q.subscribe(ctx)
	if err != nil {
		return false
	}
	defer context.AfterFunc(ctx, func() { _ = sub.Close() })()
	defer func() { _ = sub.Close() }() // the second time it says that it was closed
	if _, err := sub.Receive(ctx); err != nil {
		return false
	}
	wake(wakeAll, false) // what was missed
	for {
		m, err := sub.ReceiveMessage(ctx)
		if err != nil {
			return true
		}
		for _, name := range strings.Split(m.Payload, "\n") {
			name, side := strings.CutSuffix(name, sideMark)
			wake(name, side)
		}
	}
}

// owner is the handle of whoever has an endpoint's lease: what it reads, and
// writes under its fencing token. Its methods may be called concurrently.
type owner struct {
	q               *Queue
	endpoint, claim string
}

// generation counts the restarts of Redis that this process has noticed: what
// was read before it rose may have been lost since.
func (o *owner) generation() uint64 { return o.q.generations.Load() }

// load reads what the last owner has left: the endpoint's state, and the
// attempts of the events that have failed.
func (o *owner) load(ctx context.Context) (condition, map[ID]attempts, error) {
	s, err := o.q.loadState(ctx, o.endpoint)
	if err != nil {
		return condition{}, nil, err
	}
	retries, err := o.q.loadRetries(ctx, o.endpoint)
	return s, retries, err
}

// read returns the entries of one of the endpoint's streams that come after an
// id, at most count of them, and about budget bytes; end: there are no more.
func (o *owner) read(ctx context.Context, side bool, after ID, count, budget int) (page []entry, end bool, err error) {
	key := o.q.keys.events(o.endpoint)
	if side {
		key = o.q.keys.side(o.endpoint)
	}
	return o.q.read(ctx, o.endpoint, key, after, count, budget)
}

// fetch reads one event again. It returns nil when the event is gone.
func (o *owner) fetch(ctx context.Context, id ID) (*Message, error) {
	return o.q.fetch(ctx, o.endpoint, id)
}

// write writes the results. It returns false when somebody else owns the
// endpoint now, and nothing was written.
func (o *owner) write(ctx context.Context, r *results) (bool, error) {
	return o.q.write(ctx, o.endpoint, o.claim, r)
}

// release gives the lease back, and tells the other processes.
func (o *owner) release(ctx context.Context) error {
	if err := o.q.release(ctx, o.endpoint, o.claim); err != nil {
		return err
	}
	return o.q.tellAll(ctx)
}
