package state_test

import (
	"cmp"
	"context"
	"errors"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strconv"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"gancho/delivery/dispatch"
	"gancho/delivery/endpoint"
	"gancho/delivery/queue"
	"gancho/delivery/queue/queuetest"
	"gancho/delivery/webhook"
	"gancho/internal/retry"
	"gancho/internal/state"
	"gancho/internal/testservers"
)

// receiver takes an endpoint's events, and fails some of them the first time.
type receiver struct {
	of     string // the endpoint
	fails  func(webhookID string) webhook.Outcome
	beside atomic.Int64 // events of other endpoints

	mu      sync.Mutex
	taken   map[string]int
	last    map[string]string // the last first arrival, by key
	repeats int
	t       *testing.T
}

func (r *receiver) Send(_ context.Context, ep *endpoint.Endpoint, m *webhook.Message) webhook.Outcome {
	if ep.Name != r.of {
		r.beside.Add(1)
		return webhook.Outcome{Kind: webhook.Delivered, Status: 204, Class: webhook.ClassOK}
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	if o := r.fails(m.ID); o.Kind != webhook.Delivered {
		return o
	}
	if r.taken[m.ID]++; r.taken[m.ID] > 1 {
		r.repeats++
		return webhook.Outcome{Kind: webhook.Delivered, Status: 204, Class: webhook.ClassOK}
	}
	if m.ID <= r.last[m.Key] {
		r.t.Errorf("key %s: %s has arrived after %s", m.Key, m.ID, r.last[m.Key])
	}
	r.last[m.Key] = m.ID
	return webhook.Outcome{Kind: webhook.Delivered, Status: 204, Class: webhook.ClassOK}
}

func (r *receiver) SendList(context.Context, *endpoint.Endpoint, []*webhook.Message) webhook.Outcome {
	return webhook.Outcome{}
}

func (r *receiver) Redial(*endpoint.Endpoint) {}

func (r *receiver) count() int {
	r.mu.Lock()
	defer r.mu.Unlock()
	return len(r.taken)
}

func newReceiver(t *testing.T, of string) *receiver {
	return &receiver{
		t: t, of: of, taken: map[string]int{}, last: map[string]string{}, fails: func(string) webhook.Outcome { return webhook.Outcome{Kind: webhook.Delivered} },
	}
}

// seeded is the same in every run; GANCHO_TEST_SEED sets another.
func seeded(t *testing.T) *rand.Rand {
	t.Helper()
	seed, err := strconv.ParseUint(cmp.Or(os.Getenv("GANCHO_TEST_SEED"), "1"), 10, 64)
	check(t, err)
	return rand.New(rand.NewPCG(seed, 1))
}

// watched notes how much of Redis's file is synced when the first events of an overflow move.
type watched struct {
	queue.Overflow
	w     *overflowWorld
	begun atomic.Bool
}

func (o *watched) Take(ctx context.Context, endpoint, claim string, begin bool, owned func() error) (queue.Head, error) {
	o.begun.Store(o.begun.Load() || begin)
	return o.Overflow.Take(ctx, endpoint, claim, begin, owned)
}

func (o *watched) Move(ctx context.Context, endpoint, claim string, read func(queue.ID) ([]queue.Entry, error)) (queue.Head, error) {
	if o.begun.Swap(false) {
		_, size := o.w.aof()
		o.w.durable.Store(size)
	}
	return o.Overflow.Move(ctx, endpoint, claim, read)
}

// overflowWorld is a queue whose backlogs overflow, and what appends and delivers.
type overflowWorld struct {
	t      *testing.T
	random *rand.Rand
	redis  *testservers.Redis
	store  *state.Store
	dsn    string
	q      *queue.Queue
	sink   *receiver
	ep     endpoint.Endpoint
	beside []endpoint.Endpoint
	lease  time.Duration
	d      *dispatch.Dispatcher
	stop   func()

	appended int // events, in the order of which the next one is appended
	durable  atomic.Int64
	newest   queuetest.Confirmations
	confirms func() // ends the confirmations
}

func newOverflowWorld(t *testing.T, beside ...endpoint.Endpoint) *overflowWorld {
	t.Helper()
	w := &overflowWorld{
		t: t, beside: beside, lease: time.Second, random: seeded(t), redis: queuetest.StartRedis(t), ep: endpoint.Endpoint{Name: "a", Concurrency: 4, Retry: []time.Duration{time.Millisecond, time.Millisecond}},
		sink: newReceiver(t, "a"),
	}
	w.store, w.dsn = newStore(t)
	w.q = w.open()
	if _, err := w.q.Claim(t.Context(), queuetest.Source(), false); err != nil {
		t.Fatal(err)
	}
	w.confirm()
	w.deliver()
	t.Cleanup(func() { w.stop(); w.confirms() })
	return w
}

func (w *overflowWorld) open() *queue.Queue {
	w.t.Helper()
	q, err := queue.Open(w.t.Context(), queue.Options{URL: w.redis.URL(), Endpoints: queuetest.Endpoints(w.endpoints()...), Overflow: &watched{Overflow: w.store.Overflow(), w: w}, Logger: queuetest.Logger(w.t)})
	if err != nil {
		w.t.Fatal(err)
	}
	w.t.Cleanup(func() { _ = q.Close() })
	return q
}

// overflowWindow is how many events are in memory.
const overflowWindow = 16

func (w *overflowWorld) endpoints() []endpoint.Endpoint {
	return append([]endpoint.Endpoint{w.ep}, w.beside...)
}

func (w *overflowWorld) deliver() { w.d, w.stop = w.dispatch(w.q) }

func (w *overflowWorld) dispatch(q *queue.Queue) (d *dispatch.Dispatcher, stop func()) {
	d = dispatch.New(q, w.sink, queuetest.Endpoints(w.endpoints()...), dispatch.Options{Lease: w.lease, WindowEvents: overflowWindow, Logger: queuetest.Logger(w.t)})
	return d, running(d)
}

func running(d *dispatch.Dispatcher) (stop func()) {
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan struct{})
	go func() {
		defer close(done)
		_ = d.Run(ctx)
	}()
	return sync.OnceFunc(func() { cancel(); <-done })
}

func (w *overflowWorld) confirm() {
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan struct{})
	go func() {
		defer close(done)
		_ = w.q.RunDurable(ctx, func(lsn uint64) {
			if _, size := w.aof(); size > 0 {
				w.durable.Store(size)
			}
			w.newest.Add(lsn)
		})
	}()
	w.confirms = sync.OnceFunc(func() { cancel(); <-done })
}

func (w *overflowWorld) aof() (name string, size int64) {
	files, _ := filepath.Glob(filepath.Join(w.redis.Dir(), "appendonlydir", "*.incr.aof"))
	if len(files) != 1 {
		return "", 0
	}
	if st, err := os.Stat(files[0]); err == nil {
		size = st.Size()
	}
	return files[0], size
}

// append appends n more events, after a restart of Redis from the confirmed position on.
func (w *overflowWorld) append(n int) {
	w.t.Helper()
	b := w.q.NewBatch()
	for to := w.appended + n; w.appended < to; {
		b.Reset()
		for i := w.appended; i < to && b.Len() < 7; i++ {
			if _, err := b.Add(queuetest.Event(i, queuetest.KeyModulo(5)(i))); err != nil {
				w.t.Fatal(err)
			}
		}
		err := w.q.Append(w.t.Context(), b)
		switch {
		case err == nil:
			w.appended += b.Len() / len(w.endpoints())
			w.q.Appended(queuetest.LSN(w.appended - 1))
		case errors.Is(err, queue.ErrRestarted):
			w.rewind()
		default:
			check(w.t, retry.Wait(w.t.Context(), time.Millisecond))
		}
	}
}

func (w *overflowWorld) rewind() {
	w.t.Helper()
	w.confirms()
	for w.q.AcceptRestart(w.t.Context()) != nil {
		check(w.t, retry.Wait(w.t.Context(), time.Millisecond))
	}
	w.appended = 0
	if n := w.newest.Newest(); n > 0 {
		w.appended = int(n-queuetest.LSN(0))/0x100 + 1
	}
	w.confirm()
}

// losePower cuts the end of what Redis has written and not synced.
func (w *overflowWorld) losePower() {
	w.t.Helper()
	w.redis.Kill()
	name, size := w.aof()
	keep := w.durable.Load()
	keep += int64(w.random.Float64() * float64(max(0, size-keep)))
	check(w.t, os.Truncate(name, keep))
	check(w.t, w.redis.Start())
}

func (w *overflowWorld) stats() queue.Stats {
	w.t.Helper()
	s, err := queuetest.Stats(w.t.Context(), w.q, "a")
	if err != nil {
		return queue.Stats{Backlog: -1}
	}
	return s
}

// moved has events be moved until so many are left in Redis.
func (w *overflowWorld) moved(keep int64) queue.Stats {
	w.t.Helper()
	var s queue.Stats
	queuetest.Eventually(w.t, "a short stream", func() bool {
		w.d.Overflow(map[string]int64{"a": keep})
		s = w.stats()
		return s.Backlog >= 0 && s.Backlog-s.Overflowed <= keep
	})
	return s
}

func (w *overflowWorld) set(to endpoint.State) {
	w.ep.State = to
	w.d.Update(queuetest.Endpoints(w.endpoints()...))
}

func (w *overflowWorld) rows() int {
	w.t.Helper()
	return query[int](w.t, w.dsn, `select count(*)::int from gancho.overflow`)
}

// end waits for an end of all events, of which so many become dead letters, or were dropped.
func (w *overflowWorld) end(dead int) {
	w.t.Helper()
	w.set(endpoint.Active)
	w.append(1) // it notices that Redis was restarted
	total := w.appended
	queuetest.Eventually(w.t, "an end of every event", func() bool {
		_, _ = w.q.Resume(w.t.Context(), "a")
		return w.stats().Backlog == 0
	})
	if n := w.sink.count(); n != total-dead {
		w.t.Errorf("%d events have arrived, want %d", n, total-dead)
	}
	if heads := query[int](w.t, w.dsn, `select count(*)::int from gancho.overflow_heads where events > 0`); w.rows() != 0 || heads != 0 {
		w.t.Errorf("%d rows and %d heads are left", w.rows(), heads)
	}
	if got := w.fates(); got[queue.FateDelivered] != int64(total-dead) || got[queue.FateDead]+got[queue.FateDropped] != int64(dead) {
		w.t.Errorf("counted are %v, want %d delivered and %d not", got, total-dead, dead)
	}
}

// fates is what was counted of the endpoint's events, in Redis and in the state database.
func (w *overflowWorld) fates() map[queue.Fate]int64 {
	w.t.Helper()
	at := queuetest.Event(0, "").Time.Unix() / int64(queue.TallyInterval/time.Second)
	here := must[map[queue.EventKey]int64](w.t)(w.q.Fates(w.t.Context(), "a", []int64{at}))
	there := must[map[queue.EventKey]int64](w.t)(w.store.Overflow().Fates(w.t.Context(), "a", at, at+1))
	all := map[queue.Fate]int64{}
	for _, counts := range []map[queue.EventKey]int64{here, there} {
		for key, n := range counts {
			if key.Epoch != 1 || key.Rule != 0 {
				w.t.Errorf("%d events of rule %d in epoch %d are counted", n, key.Rule, key.Epoch)
			}
			all[key.Fate] += n
		}
	}
	return all
}
