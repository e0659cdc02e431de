package tracing

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	"github.com/rs/zerolog"

	"gancho/internal/retry"
)

const (
	// maxPending bounds the spans that wait: some 5 MiB.
	maxPending = 8192
	// batchSize is how many go with one request; fewer wait up to batchWait for more.
	batchSize = 512
	batchWait = time.Second
	// patience is how long a batch is tried, maxPause how long a collector may have it wait. flushTimeout bounds the last
	// requests at the end.
	patience     = time.Minute
	maxPause     = 30 * time.Second
	flushTimeout = 3 * time.Second
)

var backoff = retry.Backoff{Min: 500 * time.Millisecond, Max: 10 * time.Second}

// Outcome is what became of spans.
type Outcome string

// The outcomes.
const (
	Sent    Outcome = "sent"
	Dropped Outcome = "dropped" // the queue was full, or tracing was turned off
	Failed  Outcome = "failed"  // the collector refused them, or was unreachable for too long
)

// Outcomes are all of them.
func Outcomes() []Outcome { return []Outcome{Sent, Dropped, Failed} }

// Options are what an exporter needs to know.
type Options struct {
	// Resource describes this process.
	Resource []Attribute
	Version  string
	// Count is called with what became of spans, by many goroutines.
	Count  func(Outcome, int)
	Logger zerolog.Logger
}

// Exporter sends spans to a collector. It has none until Use names one. Safe for concurrent use.
type Exporter struct {
	o         Options
	collector atomic.Pointer[Collector]
	client    *client
	wake      chan struct{} // capacity 1: there is a batch

	mu      sync.Mutex
	pending []Span

	// Of Run's goroutine.
	batch   []Span // is being sent
	failing bool   // the last request has failed, which was logged
}

// New returns an exporter without a collector.
func New(o Options) *Exporter {
	e := &Exporter{o: o, client: newClient(), wake: make(chan struct{}, 1)}
	e.collector.Store(&Collector{})
	return e
}

// Use has spans sent to another collector from now on; the zero Collector: to none.
func (e *Exporter) Use(c Collector) {
	if before := e.collector.Swap(&c); !before.equals(&c) {
		e.signal()
	}
}

// On reports whether there is a collector.
func (e *Exporter) On() bool { return e.collector.Load().On() }

// Trace returns the id of an event's trace, and whether the event is traced.
func (e *Exporter) Trace(webhookID string) (TraceID, bool) {
	c := e.collector.Load()
	if !c.On() {
		return TraceID{}, false
	}
	t := TraceOf(webhookID)
	return t, t.sampled(c.Sample)
}

// Add queues spans, or drops those that there is no room for. It never waits.
func (e *Exporter) Add(spans ...Span) {
	e.mu.Lock()
	room := min(len(spans), maxPending-len(e.pending))
	e.pending = append(e.pending, spans[:room]...)
	full := len(e.pending) >= batchSize
	e.mu.Unlock()
	if full || !e.On() { // turned off meanwhile: Run drops them
		e.signal()
	}
	e.count(Dropped, len(spans)-room)
}

func (e *Exporter) signal() {
	select {
	case e.wake <- struct{}{}:
	default:
	}
}

func (e *Exporter) count(o Outcome, n int) {
	if n > 0 && e.o.Count != nil {
		e.o.Count(o, n)
	}
}

// Run sends what is added until the context ends, and then, within some seconds, what is left. Run it once.
func (e *Exporter) Run(ctx context.Context) {
	defer e.client.close()
	for ctx.Err() == nil {
		e.await(ctx)
		for more := true; more; {
			more = e.sendBatch(ctx, patience) && (e.waiting() >= batchSize || !e.On()) // turned off, it drops all: none waits for the next collector
		}
	}
	last, cancel := context.WithTimeout(context.WithoutCancel(ctx), flushTimeout)
	defer cancel()
	for more := true; more; {
		more = e.sendBatch(last, flushTimeout)
	}
}

// await returns when there may be something to send.
func (e *Exporter) await(ctx context.Context) {
	timer := time.NewTimer(batchWait)
	defer timer.Stop()
	idle := timer.C
	if !e.On() {
		idle = nil // whoever turns it on wakes it
	}
	select {
	case <-ctx.Done():
	case <-idle:
	case <-e.wake:
	}
}

// waiting is how many spans are in the queue.
func (e *Exporter) waiting() int {
	e.mu.Lock()
	defer e.mu.Unlock()
	return len(e.pending)
}

// take removes the oldest batch from the queue.
func (e *Exporter) take() []Span {
	e.mu.Lock()
	defer e.mu.Unlock()
	n := min(batchSize, len(e.pending))
	batch := append([]Span(nil), e.pending[:n]...)
	rest := copy(e.pending, e.pending[n:])
	clear(e.pending[rest:]) // releases the texts
	e.pending = e.pending[:rest]
	return batch
}

// sendBatch sends the oldest batch; false: there was none, or the context was canceled.
func (e *Exporter) sendBatch(ctx context.Context, patience time.Duration) bool {
	if len(e.batch) == 0 {
		e.batch = e.take()
	}
	batch := e.batch
	if len(batch) == 0 {
		return false
	}
	body := appendRequest(nil, e.o.Resource, e.o.Version, batch)
	limited, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	answer, err := e.post(limited, body)
	if err != nil && errors.Is(ctx.Err(), context.Canceled) {
		return false // the last requests send it
	}
	e.batch = nil
	switch {
	case errors.Is(err, errOff):
		e.failing = false // the next collector has not failed
		e.count(Dropped, len(batch))
	case err != nil:
		e.count(Failed, len(batch))
		e.complain(err)
	default:
		refused, why := rejected(answer)
		n := int(max(0, min(refused, int64(len(batch)))))
		e.count(Failed, n)
		e.count(Sent, len(batch)-n)
		if n > 0 {
			e.complain(fmt.Errorf("the collector refused %d of %d spans: %s", n, len(batch), excerpt(why)))
		} else if e.failing {
			e.failing = false
			e.o.Logger.Info().Msg("the collector takes spans again")
		}
	}
	return true
}

// errOff: tracing was turned off.
var errOff = errors.New("there is no collector")

// post sends a request to the collector that there is, and again if that may help, until the context ends.
func (e *Exporter) post(ctx context.Context, body []byte) ([]byte, error) {
	for n := 1; ; n++ {
		to := e.collector.Load()
		if !to.On() {
			return nil, errOff
		}
		answer, err := e.client.post(ctx, to, body, e.o.Version)
		if err == nil || ctx.Err() != nil || !again(err) {
			return answer, err
		}
		e.complain(err)
		pause := backoff.Delay(n)
		if refused, ok := errors.AsType[*refusedError](err); ok {
			pause = max(pause, min(refused.after, maxPause))
		}
		if retry.Wait(ctx, pause) != nil {
			return nil, err
		}
	}
}

// complain logs the first failure in a row.
func (e *Exporter) complain(err error) {
	if !e.failing {
		e.failing = true
		e.o.Logger.Warn().Err(err).Msg("the collector takes no spans; those that find no room meanwhile are lost, and deliveries continue")
	}
}
