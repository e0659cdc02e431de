package queue

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"fmt"
	"iter"
	"strings"
	"time"

	"gancho/delivery/webhook"
)

// local is what delivers in this process, which hears of new events without a
// detour through Redis. Both methods are called by many goroutines.
type local interface {
	// Offer says that something was appended to an endpoint's stream. It must
	// not wait, and must not keep what it is given.
	Offer(a *Appended)
	// Owns reports whether this process delivers to the endpoint.
	Owns(endpoint string) bool
}

// Appended is what one call has appended to one of an endpoint's streams.
type Appended struct {
	Endpoint string
	Side     bool // to the side stream, from where it has to be read

	stream *stream
	batch  *Batch
	source string
}

// Follows reports whether the events come right after the one with this id, and
// all of them were appended now.
func (a *Appended) Follows(id ID) bool {
	return a.stream != nil && a.stream.refused == 0 && !id.IsZero() && a.stream.prev == id
}

// Events are the events, with memory of their own, in stream order.
func (a *Appended) Events() iter.Seq2[ID, *webhook.Message] {
	return func(yield func(ID, *webhook.Message) bool) {
		for _, i := range a.stream.batch {
			rec := &a.batch.records[i]
			if !yield(rec.id, a.batch.message(rec, a.source)) {
				return
			}
		}
	}
}

// Worker is one of the processes that share the queue's endpoints.
type Worker struct {
	q       *Queue
	process string // unique
	claims  int
}

// Worker returns a new worker. Its methods belong to one goroutine at a time.
func (q *Queue) Worker() *Worker {
	var unique [8]byte
	_, _ = rand.Read(unique[:]) // never fails
	return &Worker{q: q, process: hex.EncodeToString(unique[:])}
}

// Attach has what this process appends offered to l, until detach is called.
// One at a time is attached to a queue.
func (w *Worker) Attach(l local) (detach func()) {
	w.q.local.Store(&l)
	return func() { w.q.local.CompareAndSwap(&l, nil) }
}

// Acquire takes leases in one round trip, and returns an owner for each of the
// endpoints that it has got, and nil for the others: of those whose server does
// not answer, none. The error is the first of them.
func (w *Worker) Acquire(ctx context.Context, ttl time.Duration, endpoints []string) ([]*Owner, error) {
	asked := make([]*Owner, len(endpoints))
	for i, name := range endpoints {
		w.claims++
		asked[i] = &Owner{q: w.q, endpoint: name, claim: fmt.Sprintf("%s-%d", w.process, w.claims)}
	}
	return w.q.acquire(ctx, ttl, asked)
}

// Renew renews leases in one round trip: see Queue.renew.
func (w *Worker) Renew(ctx context.Context, ttl time.Duration, of []Renewal) ([]Standing, error) {
	return w.q.renew(ctx, ttl, of)
}

// Free reports, for each endpoint, whether nobody is known to have its lease.
// With an error it tells of those endpoints whose server has answered.
func (w *Worker) Free(ctx context.Context, endpoints []string) ([]bool, error) {
	return w.q.free(ctx, endpoints)
}

// Heartbeat says that the process lives, and returns how many do. It also
// inspects all masters, where they may change: see attend.
func (w *Worker) Heartbeat(ctx context.Context, ttl time.Duration) (processes int, err error) {
	if err := w.q.attend(ctx); err != nil {
		return 0, err
	}
	return w.q.heartbeat(ctx, w.process, ttl)
}

// Briefly bounds calls that go to several servers: one that hangs must not
// cost the leases on the others, which are renewed in time with both bounds.
func (w *Worker) Briefly(ctx context.Context, d time.Duration) (context.Context, context.CancelFunc) {
	return w.q.briefly(ctx, d)
}

// WakeAll tells the other processes to look at all leases now.
func (w *Worker) WakeAll(ctx context.Context) error { return w.q.tellAll(ctx) }

// Leave unregisters the process and tells the others, who take its endpoints.
func (w *Worker) Leave(ctx context.Context) error { return w.q.leave(ctx, w.process) }

// Listen calls wake with what other processes have appended for this one, until
// the context ends. No endpoint: everything is to be looked at, because
// somebody asks for it, or because something may have been missed.
func (w *Worker) Listen(ctx context.Context, wake func(endpoint string, side bool)) {
	for failures := 1; ctx.Err() == nil; failures++ {
		if w.subscribe(ctx, wake) {
			failures = 1
		}
		Pause(ctx, Backoff(failures))
	}
}

// subscribe listens until the connection breaks, and reports whether there was one.
func (w *Worker) subscribe(ctx context.Context, wake func(endpoint string, side bool)) (heard bool) {
	sub, err := w.q.subscribe(ctx)
	if err != nil {
		return false
	}
	defer context.AfterFunc(ctx, func() { _ = sub.Close() })()
	defer func() { _ = sub.Close() }() // the second time it says that it was closed
	if _, err := sub.Receive(ctx); err != nil {
		return false
	}
	wake(WakeAll, false) // what was missed
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

// Owner is the handle of whoever has an endpoint's lease: what it reads, and
// writes under its fencing token. Its methods may be called concurrently.
type Owner struct {
	q               *Queue
	endpoint, claim string
}

// Generation counts the restarts of Redis that this process has noticed: what
// was read before it rose may have been lost since.
func (o *Owner) Generation() uint64 { return o.q.generations.Load() }

// Load reads what the last owner has left: the endpoint's state, and the
// attempts of the events that have failed.
func (o *Owner) Load(ctx context.Context) (Condition, map[ID]Attempts, error) {
	s, err := o.q.loadState(ctx, o.endpoint)
	if err != nil {
		return Condition{}, nil, err
	}
	retries, err := o.q.loadRetries(ctx, o.endpoint)
	return s, retries, err
}

// Read returns the entries of one of the endpoint's streams that come after an
// id, at most count of them, and about budget bytes; end: there are no more.
func (o *Owner) Read(ctx context.Context, side bool, after ID, count, budget int) (page []Entry, end bool, err error) {
	key := o.q.keys.events(o.endpoint)
	if side {
		key = o.q.keys.side(o.endpoint)
	}
	return o.q.read(ctx, o.endpoint, key, after, count, budget)
}

// Fetch reads one event again. It returns nil when the event is gone.
func (o *Owner) Fetch(ctx context.Context, id ID) (*webhook.Message, error) {
	return o.q.fetch(ctx, o.endpoint, id)
}

// Write writes the results. It returns false when somebody else owns the
// endpoint now, and nothing was written.
func (o *Owner) Write(ctx context.Context, r *Results) (bool, error) {
	return o.q.write(ctx, o.endpoint, o.claim, r)
}

// Release gives the lease back, and tells the other processes.
func (o *Owner) Release(ctx context.Context) error {
	if err := o.q.release(ctx, o.endpoint, o.claim); err != nil {
		return err
	}
	return o.q.tellAll(ctx)
}
