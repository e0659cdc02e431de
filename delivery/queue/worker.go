package queue

import (
	"context"
	"crypto/rand"
	"iter"
	"maps"
	"slices"
	"strconv"
	"strings"
	"sync/atomic"
	"time"

	"gancho/delivery/webhook"
	"gancho/internal/retry"
)

// deliverer is what delivers in this process, which learns of new events
// without a detour through Redis. Both methods are called by many goroutines.
type deliverer interface {
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

// Worker is one of the processes that share the queue's endpoints: it acquires
// leases, renews them, and learns what other processes have appended for it.
// But for Listen and WakeAll, its methods belong to one goroutine at a time.
//
// Renewing is all that a quiet process sends. Of changes it learns from what is
// published, and, should a notification be lost, once in inspectEvery leases.
type Worker struct {
	q       *Queue
	process string // unique
	claims  int

	wakes      atomic.Uint64        // how often Listen was asked to inspect everything
	inspected  inspection           // of the endpoints
	identified inspection           // of the masters
	counted    inspection           // of the processes
	processes  int                  // that were alive then
	elsewhere  map[string]time.Time // endpoints left to processes with an Overflow: when that was logged
	extended   time.Time            // when the process's own entry was
}

// inspectEvery is after how many times a lease's length everything is
// inspected that notifications usually report.
const inspectEvery = 3

// inspection is when something was last read from Redis, and what was known then.
type inspection struct {
	at         time.Time
	wakes      uint64
	generation uint64
}

func (w *Worker) begin() inspection {
	return inspection{at: time.Now(), wakes: w.wakes.Load(), generation: w.q.servers.generations.Load()}
}

// stale reports whether something may have changed since.
func (i inspection) stale(now inspection, ttl time.Duration) bool {
	return i.wakes != now.wakes || i.generation != now.generation || now.at.Sub(i.at) >= inspectEvery*ttl
}

// Worker returns a new worker.
func (q *Queue) Worker() *Worker {
	return &Worker{q: q, process: rand.Text(), elsewhere: map[string]time.Time{}}
}

// Overflows reports whether the process has an Overflow to which backlogs can move.
func (w *Worker) Overflows() bool { return w.q.overflow != nil }

// Elsewhere reports whether the last Acquire of the endpoint has left it to a process with an
// Overflow.
func (w *Worker) Elsewhere(endpoint string) bool {
	_, left := w.elsewhere[endpoint]
	return left
}

// Attach offers what this process appends to d, the queue's only one, until detach.
func (w *Worker) Attach(d deliverer) (detach func()) {
	w.q.local.Store(&d)
	return func() { w.q.local.CompareAndSwap(&d, nil) }
}

// Briefly bounds calls that go to several servers: one that hangs must not
// cost the leases on the others, which are renewed in time with both bounds.
func (w *Worker) Briefly(ctx context.Context, d time.Duration) (context.Context, context.CancelFunc) {
	if w.q.cluster == nil {
		return ctx, func() {}
	}
	return context.WithTimeout(ctx, max(d, time.Second))
}

// wakeSuffix ends the name of the channel on which processes wake each other.
const wakeSuffix = ":wake"

// WakeAll is what is published when owners should inspect everything; else it
// is the names of endpoints that have new events, one per line.
const WakeAll = ""

// WakeAll has the other processes inspect all leases now.
func (w *Worker) WakeAll(ctx context.Context) error {
	return annotate(w.q.client.Publish(ctx, w.q.keys.wake(), WakeAll).Err(), "wake the other processes")
}

// overflowMark stands, in what is published, between an endpoint's name and how many of its
// events may stay in its stream.
const overflowMark = "\x01"

// AskOverflow asks other processes to move the oldest events of the endpoints that they
// deliver to, until so many of each are left in Redis: see Owner.MoveOldest.
func (q *Queue) AskOverflow(ctx context.Context, keep map[string]int64) error {
	if len(keep) == 0 {
		return nil
	}
	var lines []string
	for _, name := range slices.Sorted(maps.Keys(keep)) {
		lines = append(lines, name+overflowMark+strconv.FormatInt(keep[name], 10))
	}
	return annotate(q.client.Publish(ctx, q.keys.wake(), strings.Join(lines, "\n")).Err(), "ask other processes to move backlogs")
}

// Leave unregisters the process and wakes the others, who take its endpoints.
func (w *Worker) Leave(ctx context.Context) error {
	if err := w.q.client.ZRem(ctx, w.q.keys.leases(), w.process).Err(); err != nil {
		return annotate(err, "unregister process")
	}
	return w.WakeAll(ctx)
}

// Listen calls wake with what other processes have appended for this one, until
// the context ends. With WakeAll as the endpoint everything is to be inspected,
// because somebody asks for it, or because a notification may have been missed.
// It calls overflow with what AskOverflow was called with in another process.
func (w *Worker) Listen(ctx context.Context, wake func(endpoint string, side bool), overflow func(keep map[string]int64)) {
	for failures := 1; ctx.Err() == nil; failures++ {
		if w.listenOnce(ctx, wake, overflow) {
			failures = 1
		}
		_ = retry.Wait(ctx, Backoff(failures)) // the loop sees the context's end
	}
}

func (w *Worker) listenOnce(ctx context.Context, wake func(endpoint string, side bool), overflow func(keep map[string]int64)) (connected bool) {
	wakeAll := func() {
		w.wakes.Add(1)
		wake(WakeAll, false)
	}
	sub, err := w.q.subscribe(ctx)
	if err != nil {
		return false
	}
	defer context.AfterFunc(ctx, func() { _ = sub.Close() })()
	defer func() { _ = sub.Close() }() // the second time it says that it was closed
	if _, err := sub.Receive(ctx); err != nil {
		return false
	}
	wakeAll() // what was missed
	for {
		m, err := sub.ReceiveMessage(ctx)
		if err != nil {
			return true
		}
		for _, name := range strings.Split(m.Payload, "\n") {
			if name == WakeAll {
				wakeAll()
				continue
			}
			if name, text, ok := strings.Cut(name, overflowMark); ok {
				if keep, err := strconv.ParseInt(text, 10, 64); err == nil { // what is no number, a newer version has asked for
					overflow(map[string]int64{name: keep})
				}
				continue
			}
			wake(strings.CutSuffix(name, sideMark))
		}
	}
}
