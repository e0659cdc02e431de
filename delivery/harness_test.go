package delivery_test

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"
	"github.com/rs/zerolog"

	"gancho/cdc"
	"gancho/delivery"
	"gancho/internal/testservers"
	"gancho/mapping"
)

// patience is how long a test waits for what has to happen.
const patience = 30 * time.Second

func startRedis(t testing.TB, settings ...string) *testservers.Redis {
	t.Helper()
	o := testservers.RedisOptions{Settings: map[string]string{}}
	for i := 0; i < len(settings); i += 2 {
		o.Settings[settings[i]] = settings[i+1]
	}
	r, err := testservers.StartRedis(o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(r.Close)
	return r
}

func redisClient(t testing.TB, r *testservers.Redis) *redis.Client {
	t.Helper()
	c := redis.NewClient(&redis.Options{Addr: r.Addr(), MaxRetries: -1, DisableIdentity: true})
	t.Cleanup(func() { _ = c.Close() })
	return c
}

// openQueue opens the queue and claims it for the usual source.
func openQueue(t testing.TB, r *testservers.Redis, endpoints ...delivery.Endpoint) *delivery.Queue {
	t.Helper()
	q := openOnly(t, r, endpoints...)
	if _, err := q.Claim(t.Context(), source(), false); err != nil {
		t.Fatal(err)
	}
	return q
}

func openOnly(t testing.TB, r *testservers.Redis, endpoints ...delivery.Endpoint) *delivery.Queue {
	t.Helper()
	q, err := delivery.OpenQueue(t.Context(), delivery.QueueOptions{URL: r.URL(), Endpoints: endpoints, Logger: logger(t)})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := q.Close(); err != nil {
			t.Errorf("close queue: %v", err)
		}
	})
	return q
}

func source() delivery.Source {
	return delivery.Source{SystemID: "7300000000000000001", Database: "academia", Slot: "gancho", Timeline: 1, ConfirmedFlush: 0x1000}
}

func logger(t testing.TB) zerolog.Logger {
	t.Helper()
	if testing.Verbose() {
		return zerolog.New(zerolog.NewTestWriter(t)).Level(zerolog.InfoLevel).With().Timestamp().Logger()
	}
	return zerolog.Nop()
}

// event is the i-th of a test: transactions of one change each.
func event(i int, key string) *mapping.Event {
	return &mapping.Event{
		Position: cdc.Position{Commit: cdc.LSN(0x2000 + 0x100*i)},
		Type:     "cobranca.liquidada", Rule: "rules.yaml:1", Version: "v1",
		Time:   time.UnixMicro(1_767_225_600_000_000 + int64(i)).UTC(),
		Tenant: []byte("1"), Key: []byte(key),
		Data: fmt.Appendf(nil, `{"id":%d,"key":%q}`, i, key),
	}
}

func lsnOf(i int) uint64 { return uint64(0x2000 + 0x100*i) }

// appendEvents appends events from..to (excluded) in batches of the size, and
// gives up only when the test ends.
func appendEvents(t testing.TB, q *delivery.Queue, from, to, size int, key func(int) string) {
	t.Helper()
	b := q.NewBatch()
	for i := from; i < to; {
		b.Reset()
		for ; i < to && b.Len() < size; i++ {
			if n, err := b.Add(event(i, key(i))); err != nil || n == 0 {
				t.Fatalf("add event %d: %d endpoints, %v", i, n, err)
			}
		}
		if err := q.Append(t.Context(), b); err != nil {
			t.Fatalf("append: %v", err)
		}
	}
}

func keyModulo(n int) func(int) string { return func(i int) string { return fmt.Sprint("k", i%n) } }

// arrival is one request, as the receiver saw it.
type arrival struct {
	endpoint, id, key, data string
	at                      time.Time
}

// receiver is a sender whose requests end in memory.
type receiver struct {
	// answer decides; nil: delivered.
	answer func(ctx context.Context, ep *delivery.Endpoint, m *delivery.Message, n int) delivery.Outcome
	// answerList decides about lists; nil: delivered. n counts the requests, from 1.
	answerList func(ctx context.Context, ep *delivery.Endpoint, ms []*delivery.Message, n int) delivery.Outcome

	mu       sync.Mutex
	changed  chan struct{}
	arrivals []arrival
	lists    []request
	attempts map[string]int // by endpoint and id
	inFlight map[string]int // by endpoint
	peak     map[string]int
}

func newReceiver() *receiver {
	return &receiver{changed: make(chan struct{}), attempts: map[string]int{}, inFlight: map[string]int{}, peak: map[string]int{}}
}

// Send implements the dispatcher's sender.
func (r *receiver) Send(ctx context.Context, ep *delivery.Endpoint, m *delivery.Message) delivery.Outcome {
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

// request is a list, as the receiver saw it.
type request struct {
	ids []string
	at  time.Time
}

// SendList implements the dispatcher's sender. Its events arrive when they are accepted.
func (r *receiver) SendList(ctx context.Context, ep *delivery.Endpoint, ms []*delivery.Message) delivery.Outcome {
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
	if o.Kind == delivery.Delivered {
		for _, m := range ms {
			r.arrivals = append(r.arrivals, arrival{ep.Name, m.ID, m.Tenant + "/" + m.Key, string(m.Data), now})
		}
	}
	close(r.changed)
	r.changed = make(chan struct{})
	return o
}

func delivered() delivery.Outcome {
	return delivery.Outcome{Kind: delivery.Delivered, Status: 204, Class: delivery.ClassOK}
}

func status(code int) delivery.Outcome {
	return delivery.Outcome{Kind: delivery.Retry, Status: code, Class: delivery.ClassStatus, Err: fmt.Errorf("status %d", code), Answer: []byte("no")}
}

func refused() delivery.Outcome {
	return delivery.Outcome{Kind: delivery.Retry, Class: delivery.ClassConnection, Err: errors.New("connection refused")}
}

func canceled() delivery.Outcome {
	return delivery.Outcome{Kind: delivery.Retry, Class: delivery.ClassCanceled, Err: context.Canceled}
}

// until waits until the arrivals satisfy the condition.
func (r *receiver) until(t testing.TB, what string, ok func(all []arrival) bool) []arrival {
	t.Helper()
	deadline := time.After(patience)
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
func startDispatcher(t testing.TB, q *delivery.Queue, r *receiver, o delivery.DispatcherOptions, endpoints ...delivery.Endpoint) (d *delivery.Dispatcher, stop func()) {
	t.Helper()
	o.Logger = logger(t)
	return runDispatcher(t, q, r, o, endpoints...)
}

func runDispatcher(t testing.TB, q *delivery.Queue, r *receiver, o delivery.DispatcherOptions, endpoints ...delivery.Endpoint) (d *delivery.Dispatcher, stop func()) {
	t.Helper()
	d = delivery.NewDispatcher(q, r, endpoints, o)
	return d, run(t, d)
}

// deliver is dispatch with a sender that sends.
func deliver(t testing.TB, q *delivery.Queue, s *delivery.Sender, o delivery.DispatcherOptions, endpoints ...delivery.Endpoint) (stop func()) {
	t.Helper()
	o.Logger = logger(t)
	return run(t, delivery.NewDispatcher(q, s, endpoints, o))
}

func run(t testing.TB, d *delivery.Dispatcher) (stop func()) {
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

// eventually waits for what Redis tells nobody of.
func eventually(t testing.TB, what string, ok func() bool) {
	t.Helper()
	deadline := time.After(patience)
	tick := time.NewTicker(10 * time.Millisecond)
	defer tick.Stop()
	for !ok() {
		select {
		case <-tick.C:
		case <-deadline:
			t.Fatalf("waited for %s", what)
		}
	}
}

// drained waits until the endpoint's stream is empty.
func drained(t testing.TB, q *delivery.Queue, endpoint string) {
	t.Helper()
	eventually(t, "an empty stream of "+endpoint, func() bool {
		n, _, err := q.Backlog(t.Context(), endpoint)
		return err == nil && n == 0
	})
}
