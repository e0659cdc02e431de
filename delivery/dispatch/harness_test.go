package dispatch_test

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"gancho/delivery/queue/queuetest"

	"gancho/delivery/dispatch"
	"gancho/delivery/endpoint"
	"gancho/delivery/queue"
	"gancho/delivery/webhook"
)

// arrival is one request, as the receiver saw it.
type arrival struct {
	endpoint, id, key, data string
	at                      time.Time
}

// receiver is a sender whose requests end in memory.
type receiver struct {
	// answer decides; nil: delivered.
	answer func(ctx context.Context, ep *endpoint.Endpoint, m *webhook.Message, n int) webhook.Outcome
	// answerList decides about lists; nil: delivered. n counts the requests, from 1.
	answerList func(ctx context.Context, ep *endpoint.Endpoint, ms []*webhook.Message, n int) webhook.Outcome

	mu       sync.Mutex
	changed  chan struct{}
	arrivals []arrival
	lists    []request
	attempts map[string]int // by endpoint and id
	inFlight map[string]int // by endpoint
	peak     map[string]int

	redials atomic.Int64
}

func newReceiver() *receiver {
	return &receiver{changed: make(chan struct{}), attempts: map[string]int{}, inFlight: map[string]int{}, peak: map[string]int{}}
}

// Send implements the dispatcher's sender.
func (r *receiver) Send(ctx context.Context, ep *endpoint.Endpoint, m *webhook.Message) webhook.Outcome {
	r.mu.Lock()
	r.arrivals = append(r.arrivals, arrival{ep.Name, m.ID, m.Tenant + "/" + m.Key, string(m.Data), time.Now()})
	r.attempts[ep.Name+m.ID]++
	n := r.attempts[ep.Name+m.ID]
	r.inFlight[ep.Name]++
	r.peak[ep.Name] = max(r.peak[ep.Name], r.inFlight[ep.Name])
	close(r.changed)
	r.changed = make(chan struct{})
	r.mu.Unlock()
	defer func() {
		r.mu.Lock()
		r.inFlight[ep.Name]--
		r.mu.Unlock()
	}()
	if r.answer == nil {
		return delivered()
	}
	return r.answer(ctx, ep, m, n)
}

// Redial implements the dispatcher's sender.
func (r *receiver) Redial(*endpoint.Endpoint) { r.redials.Add(1) }

// request is a list, as the receiver saw it.
type request struct {
	ids []string
	at  time.Time
}

// SendList implements the dispatcher's sender. Its events arrive when they are accepted.
func (r *receiver) SendList(ctx context.Context, ep *endpoint.Endpoint, ms []*webhook.Message) webhook.Outcome {
	now := time.Now()
	list := request{at: now}
	for _, m := range ms {
		list.ids = append(list.ids, m.ID)
	}
	r.mu.Lock()
	r.lists = append(r.lists, list)
	n := len(r.lists)
	r.inFlight[ep.Name]++
	r.peak[ep.Name] = max(r.peak[ep.Name], r.inFlight[ep.Name])
	r.mu.Unlock()
	o := delivered()
	if r.answerList != nil {
		o = r.answerList(ctx, ep, ms, n)
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	r.inFlight[ep.Name]--
	if o.Kind == webhook.Delivered {
		for _, m := range ms {
			r.arrivals = append(r.arrivals, arrival{ep.Name, m.ID, m.Tenant + "/" + m.Key, string(m.Data), now})
		}
	}
	close(r.changed)
	r.changed = make(chan struct{})
	return o
}

// count is the number of requests.
func (r *receiver) count() (n int) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, attempts := range r.attempts {
		n += attempts
	}
	return n + len(r.lists)
}

// peakOf is the most requests that were in flight to an endpoint.
func (r *receiver) peakOf(endpoint string) int {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.peak[endpoint]
}

func (r *receiver) attemptsOf(endpoint, id string) int {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.attempts[endpoint+id]
}

func delivered() webhook.Outcome {
	return webhook.Outcome{Kind: webhook.Delivered, Status: 204, Class: webhook.ClassOK}
}

func status(code int) webhook.Outcome {
	return webhook.Outcome{Kind: webhook.Retry, Status: code, Class: webhook.ClassStatus, Err: fmt.Errorf("status %d", code), Answer: []byte("no")}
}

func refused() webhook.Outcome {
	return webhook.Outcome{Kind: webhook.Retry, Class: webhook.ClassConnection, Err: errors.New("connection refused")}
}

func canceled() webhook.Outcome {
	return webhook.Outcome{Kind: webhook.Retry, Class: webhook.ClassCanceled, Err: context.Canceled}
}

// until waits until the arrivals satisfy the condition.
func (r *receiver) until(t testing.TB, what string, ok func(all []arrival) bool) []arrival {
	t.Helper()
	deadline := time.After(queuetest.Patience)
	for {
		r.mu.Lock()
		all, changed := r.arrivals, r.changed
		r.mu.Unlock()
		if ok(all) {
			return all
		}
		select {
		case <-changed:
		case <-deadline:
			t.Fatalf("waited for %s: %d arrivals", what, len(all))
		}
	}
}

// distinct waits until n different events have arrived, and returns all arrivals.
func (r *receiver) distinct(t testing.TB, n int) []arrival {
	t.Helper()
	seen, looked := map[string]bool{}, 0
	return r.until(t, fmt.Sprintf("%d different events", n), func(all []arrival) bool {
		for _, a := range all[looked:] {
			seen[a.endpoint+a.id] = true
		}
		looked = len(all)
		return len(seen) >= n
	})
}

// checkOrder fails unless the first arrivals of each endpoint and key are in
// the order of their ids, and returns how many arrivals were repeats.
func checkOrder(t testing.TB, all []arrival) (repeats int) {
	t.Helper()
	last, seen := map[string]string{}, map[string]bool{}
	for _, a := range all {
		if seen[a.endpoint+a.id] {
			repeats++
			continue
		}
		seen[a.endpoint+a.id] = true
		k := a.endpoint + " " + a.key
		if a.id <= last[k] {
			t.Errorf("%s: first arrival of %s after %s", k, a.id, last[k])
		}
		last[k] = a.id
	}
	return repeats
}

// startDispatcher runs a dispatcher until the test ends, or stop is called.
func startDispatcher(t testing.TB, q *queue.Queue, r *receiver, o dispatch.Options, endpoints ...endpoint.Endpoint) (d *dispatch.Dispatcher, stop func()) {
	t.Helper()
	o.Logger = queuetest.Logger(t)
	return runDispatcher(t, q, r, o, endpoints...)
}

func runDispatcher(t testing.TB, q *queue.Queue, r *receiver, o dispatch.Options, endpoints ...endpoint.Endpoint) (d *dispatch.Dispatcher, stop func()) {
	t.Helper()
	d = dispatch.New(q, r, queuetest.Endpoints(endpoints...), o)
	return d, run(t, d)
}

// deliver is dispatch with a sender that sends.
func deliver(t testing.TB, q *queue.Queue, s *webhook.Sender, o dispatch.Options, endpoints ...endpoint.Endpoint) (stop func()) {
	t.Helper()
	o.Logger = queuetest.Logger(t)
	return run(t, dispatch.New(q, s, queuetest.Endpoints(endpoints...), o))
}

func run(t testing.TB, d *dispatch.Dispatcher) (stop func()) {
	t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- d.Run(ctx) }()
	stop = sync.OnceFunc(func() {
		cancel()
		if err := <-done; err != nil {
			t.Errorf("run dispatcher: %v", err)
		}
	})
	t.Cleanup(stop)
	return stop
}
