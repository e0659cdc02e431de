package dispatch_test

import (
	"context"
	"fmt"
	"math/rand/v2"
	"sync"
	"testing"
	"time"

	"gancho/delivery/dispatch"
	"gancho/delivery/endpoint"
	"gancho/delivery/queue"
	"gancho/delivery/queue/queuetest"
	"gancho/delivery/webhook"
	"gancho/internal/testservers"
)

// resting runs a dispatcher whose endpoints rest very soon.
func resting(t *testing.T, q *queue.Queue, r *receiver, o dispatch.Options, endpoints ...endpoint.Endpoint) (d *dispatch.Dispatcher, stop func()) {
	t.Helper()
	o.Logger = queuetest.Logger(t)
	d = dispatch.New(q, r, queuetest.Endpoints(endpoints...), o)
	d.RestAfter(time.Millisecond)
	return d, run(t, d)
}

// Thousands of endpoints rest and wake, while their settings change, others own some of them for a while, and events come.
// Nothing is lost, sent twice or out of order, and all rest in the end.
func TestThousandsRestAndWake(t *testing.T) {
	const rounds = 4
	n := testservers.Cases(1000)
	r := queuetest.StartRedis(t)
	eps := make([]endpoint.Endpoint, n)
	for i := range eps {
		eps[i] = endpoint.Endpoint{Name: fmt.Sprintf("e%04d", i), Concurrency: 2}
		switch i % 10 {
		case 7:
			eps[i].Order = endpoint.OrderEndpoint
		case 8:
			eps[i].Compact = true
		case 9:
			eps[i].Batch.Max = 3
		}
	}
	q := queuetest.Open(t, r, eps...)
	sink := newReceiver()
	d, _ := resting(t, q, sink, dispatch.Options{}, eps...)
	rest := func(settings []endpoint.Endpoint) { // an update has the leases renewed, with which endpoints begin to rest
		t.Helper()
		queuetest.Eventually(t, "all to be had, and to rest", func() bool {
			d.Update(queuetest.Endpoints(settings...))
			return d.Loaded() == n && d.Awake() == 0
		})
	}
	rest(eps)
	random := rand.New(rand.NewPCG(1, 2))
	next := 0
	for round := range rounds {
		var busy sync.WaitGroup
		busy.Go(func() { // keys that no event has twice: with Compact, another would take its place
			for range 3 {
				queuetest.AppendEvents(t, q, next, next+2, 1, func(i int) string { return fmt.Sprint("k", i) })
				next += 2
			}
		})
		changed := make([]endpoint.Endpoint, n)
		copy(changed, eps)
		for i := range changed {
			changed[i].Timeout = time.Duration(1+random.IntN(3)) * time.Second
		}
		d.Update(queuetest.Endpoints(changed...))
		if round == rounds/2 { // some are another process's for a while
			_, stop := resting(t, queuetest.OpenOnly(t, r, eps...), sink, dispatch.Options{}, eps...)
			queuetest.Eventually(t, "the other to have some", func() bool { return d.Loaded() < n })
			stop()
		}
		busy.Wait()
		sink.distinct(t, n*next)
		rest(changed)
	}
	all := sink.list()
	if repeats := checkOrder(t, all); repeats > 0 || len(all) != n*next {
		t.Errorf("%d arrivals, of which %d were sent again, want %d", len(all), repeats, n*next)
	}
	if events, bytes := d.Held(); events != 0 || bytes != 0 {
		t.Errorf("%d events of %d bytes count as held in memory, and there are none", events, bytes)
	}
}

// What somebody, or Redis, changes reaches an endpoint that rests.
func TestRestingEndpointsLearnOfChanges(t *testing.T) {
	t.Parallel()
	r := queuetest.StartRedis(t)
	eps := []endpoint.Endpoint{{Name: "a"}, {Name: "b"}, {Name: "c"}}
	q := queuetest.Open(t, r, eps...)
	sink := newReceiver()
	gone := make(chan struct{})
	sink.answer = func(_ context.Context, ep *endpoint.Endpoint, _ *webhook.Message, _ int) webhook.Outcome {
		select {
		case <-gone:
		default:
			if ep.Name == "b" {
				return answer(410, webhook.Gone)
			}
		}
		return delivered()
	}
	d, _ := resting(t, q, sink, dispatch.Options{Lease: 100 * time.Millisecond}, eps...)
	rest := func(what string, but int) {
		t.Helper()
		queuetest.Eventually(t, what, func() bool { return d.Loaded()+d.Halted() >= len(eps) && d.Awake() == but })
	}
	rest("all to rest", 0)
	queuetest.AppendEvents(t, q, 0, 1, 1, queuetest.KeyModulo(1))
	sink.until(t, "three requests", func(all []arrival) bool { return len(all) == 3 })
	rest("all to rest but the suspended one, which has an event in its lane", 1)
	if s, err := queuetest.Stats(t.Context(), q, "b"); err != nil || s.Reason == "" || s.Backlog != 1 {
		t.Fatalf("%+v, %v, want a suspended endpoint with an event", s, err)
	}

	paused := []endpoint.Endpoint{eps[0], eps[1], {Name: "c", State: endpoint.Paused}}
	d.Update(queuetest.Endpoints(paused...))
	queuetest.AppendEvents(t, q, 1, 3, 1, queuetest.KeyModulo(1))
	sink.until(t, "those of the first", func(all []arrival) bool { return len(all) == 5 })
	rest("the paused one to rest, too", 1)

	close(gone)
	if resumed, err := q.ResumeAll(t.Context(), []string{"a", "b", "c"}); err != nil || len(resumed) != 1 || resumed[0] != "b" {
		t.Errorf("resumed %v, %v, want b", resumed, err)
	}
	sink.distinct(t, 7)
	d.Update(queuetest.Endpoints(eps...))
	sink.distinct(t, 9)
	rest("all to rest", 0)
	checkOrder(t, sink.list())

	// An event that was not announced is found by the renewal of its lease.
	id, err := queue.NewID(1, queuetest.Event(9, "k").Position, 0)
	if err != nil {
		t.Fatal(err)
	}
	if err := queuetest.Client(t, r).Do(t.Context(), "XADD", "gancho:{a}:q", id.String(), "t", "x.y", "k", "k", "n", "1", "c", "1", "d", "{}", "v", "v1").Err(); err != nil {
		t.Fatal(err)
	}
	sink.distinct(t, 10)
}

// What fails does not rest: its retries, its breaker and its count of failures go on.
func TestFailingEndpointsDoNotRest(t *testing.T) {
	t.Parallel()
	r := queuetest.StartRedis(t)
	ep := endpoint.Endpoint{Name: "a", Retry: ms(1), Timeout: time.Second}
	q := queuetest.Open(t, r, ep)
	sink := newReceiver()
	back := make(chan struct{})
	sink.answer = func(context.Context, *endpoint.Endpoint, *webhook.Message, int) webhook.Outcome {
		select {
		case <-back:
			return delivered()
		default:
			return status(500)
		}
	}
	d, _ := resting(t, q, sink, dispatch.Options{Lease: 100 * time.Millisecond}, ep)
	queuetest.Eventually(t, "it to rest", func() bool { return d.Loaded() == 1 && d.Awake() == 0 })
	// Each becomes a dead letter with its second failure, so that between two nothing is left to be delivered.
	open := func() bool { return queuetest.Client(t, r).HGet(t.Context(), "gancho:{a}:state", "open").Val() > "0" }
	for i := 0; !open(); i++ {
		if i > 20 {
			t.Fatal("the breaker does not open: the failures before are forgotten")
		}
		calls := queuetest.Calls(t, queuetest.Client(t, r))["zadd"]
		queuetest.AppendEvents(t, q, i, i+1, 1, func(i int) string { return fmt.Sprint("k", i) })
		queuetest.Eventually(t, "the event to be given up, or the breaker to be open", func() bool {
			s, err := queuetest.Stats(t.Context(), q, "a")
			return err == nil && (s.Backlog == 0 || open())
		})
		queuetest.Eventually(t, "renewals", func() bool { return queuetest.Calls(t, queuetest.Client(t, r))["zadd"] > calls+2 })
	}
	if d.Awake() != 1 {
		t.Error("an endpoint whose breaker is open rests")
	}
	close(back)
	queuetest.AppendEvents(t, q, 100, 101, 1, queuetest.KeyModulo(1)) // it is the probe that closes the breaker
	queuetest.Drained(t, q, "a")
	queuetest.Eventually(t, "it to rest", func() bool { return d.Awake() == 0 })
}

// Redis restarts while all endpoints rest: what it has is not sent again, and what comes then is sent.
func TestRestingEndpointsOutliveARestart(t *testing.T) {
	t.Parallel()
	const n = 50
	r := queuetest.StartRedis(t)
	eps := endpoints(n)
	q := queuetest.Open(t, r, eps...)
	sink := newReceiver()
	d, _ := resting(t, q, sink, dispatch.Options{Lease: 500 * time.Millisecond}, eps...)
	queuetest.AppendEvents(t, q, 0, 10, 5, queuetest.KeyModulo(3))
	sink.distinct(t, 10*n)
	queuetest.Eventually(t, "all to rest", func() bool { return d.Loaded() == n && d.Awake() == 0 })
	r.Kill()
	if err := r.Start(); err != nil {
		t.Fatal(err)
	}
	queuetest.Eventually(t, "the restart to be accepted", func() bool { return q.AcceptRestart(t.Context()) == nil })
	queuetest.AppendEvents(t, q, 10, 20, 5, queuetest.KeyModulo(3))
	sink.distinct(t, 20*n)
	queuetest.Eventually(t, "all to rest again", func() bool { return d.Loaded() == n && d.Awake() == 0 })
	checkOrder(t, sink.list())
}

// Redis restarts, and then nothing comes for a quiet endpoint. It rests, and remembers what it has delivered: Redis may have lost
// the acknowledgement, and may restart again before the event is appended again. It remembers of which keys that was the newest, too: an
// older one, which it superseded, may be appended again.
func TestQuietEndpointsRestAfterARestart(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		restarts int
		keys     []string // of events; all but those of k0 are delivered, or superseded, immediately
		compact  bool
	}{
		"once": {1, []string{"k0", "k1"}, false}, "twice": {2, []string{"k0", "k1"}, false},
		"superseded": {1, []string{"k0", "k1", "k1"}, true}, "superseded, twice": {2, []string{"k0", "k1", "k1"}, true},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			r := queuetest.StartRedis(t)
			if err := queuetest.Client(t, r).ConfigSet(t.Context(), "appendfsync", "always").Err(); err != nil {
				t.Fatal(err)
			}
			ep := endpoint.Endpoint{Name: "a", Compact: c.compact}
			q := queuetest.Open(t, r, ep)
			queuetest.AppendEvents(t, q, 0, len(c.keys), len(c.keys), func(i int) string { return c.keys[i] }) // read as one page
			sink := newReceiver()
			finish := make(chan struct{})
			sink.answer = func(ctx context.Context, _ *endpoint.Endpoint, m *webhook.Message, _ int) webhook.Outcome {
				if m.Key == "k0" && !opened(ctx, finish) {
					return canceled()
				}
				return delivered()
			}
			d, _ := resting(t, q, sink, dispatch.Options{Lease: 500 * time.Millisecond}, ep)
			backlog := func(what string, want int64) {
				t.Helper()
				queuetest.Eventually(t, what, func() bool {
					s, err := queuetest.Stats(t.Context(), q, "a")
					return err == nil && s.Backlog == want
				})
			}
			backlog("the others to be acknowledged, which do not wait", 1)
			restart := func() {
				t.Helper()
				r.Kill()
				if err := r.Start(); err != nil {
					t.Fatal(err)
				}
				queuetest.Eventually(t, "the restart to be accepted", func() bool { return q.AcceptRestart(t.Context()) == nil })
			}
			restart()
			queuetest.Eventually(t, "the restart to be noticed", func() bool { return d.Restarted() == 1 })
			close(finish)
			backlog("the first to be acknowledged", 0)
			queuetest.Eventually(t, "it to rest", func() bool { return d.Loaded() == 1 && d.Awake() == 0 })
			if c.restarts == 2 {
				restart()
			}
			id, err := queue.NewID(1, queuetest.Event(1, "k1").Position, 0)
			if err != nil {
				t.Fatal(err)
			}
			client := queuetest.Client(t, r)
			if err := client.Del(t.Context(), "gancho:{a}:q").Err(); err != nil { // with the stream's last id
				t.Fatal(err)
			}
			event := []any{"XADD", "gancho:{a}:q", id.String(), "t", queuetest.Event(1, "k1").Type, "k", "k1", "n", "1", "c", "1", "d", "{}", "v", "v1"}
			if err := client.Do(t.Context(), event...).Err(); err != nil {
				t.Fatal(err)
			}
			backlog("what comes again to be acknowledged again", 0)
			if all := sink.list(); len(all) != 2 {
				t.Errorf("%d requests for two events: %v", len(all), all)
			}
		})
	}
}

// The windows of all endpoints together are bounded, however many are busy, and none is too small to keep its requests in flight.
func TestMemoryOfAllEndpointsIsBounded(t *testing.T) {
	t.Parallel()
	const n, window, concurrency, backlog = 40, 64, 2, 300
	r := queuetest.StartRedis(t)
	eps := endpoints(n)
	for i := range eps {
		eps[i].Concurrency = concurrency
	}
	q := queuetest.Open(t, r, eps...)
	queuetest.AppendEvents(t, q, 0, backlog, 100, queuetest.KeyModulo(50))
	sink := newReceiver()
	release := make(chan struct{})
	sink.answer = func(ctx context.Context, _ *endpoint.Endpoint, _ *webhook.Message, _ int) webhook.Outcome {
		select {
		case <-release:
			return delivered()
		case <-ctx.Done():
			return canceled()
		}
	}
	o := dispatch.Options{WindowEvents: window}
	d, stop := startDispatcher(t, q, sink, o, eps...)
	sink.until(t, "all requests that may be in flight", func(all []arrival) bool { return len(all) == n*concurrency })
	queuetest.Eventually(t, "the windows to be full", func() bool { return d.Full() == n })
	const most = 16*window + n*4*concurrency // of the memory, and the least of each
	events, _ := d.Held()
	if events > most || events < 8*window {
		t.Errorf("%d events are in memory, want at most %d, and not much less than may be", events, most)
	}
	close(release)
	sink.distinct(t, n*backlog)
	if repeats := checkOrder(t, sink.list()); repeats > 0 {
		t.Errorf("%d were sent again", repeats)
	}
	for i := range eps {
		if peak := sink.peakOf(eps[i].Name); peak != concurrency {
			t.Errorf("%s: %d requests in flight at the most, want %d", eps[i].Name, peak, concurrency)
		}
	}
	stop()
	if events, bytes := d.Held(); events != 0 || bytes != 0 {
		t.Errorf("%d events of %d bytes count as held in memory after the end", events, bytes)
	}
}

// A lease that is given back gives its part of the memory to others.
func TestMemoryOfLostEndpointsIsFree(t *testing.T) {
	t.Parallel()
	r := queuetest.StartRedis(t)
	ep := endpoint.Endpoint{Name: "a", Concurrency: 1}
	q := queuetest.Open(t, r, ep)
	queuetest.AppendEvents(t, q, 0, 100, 100, queuetest.KeyModulo(10))
	sink := newReceiver()
	sink.answer = func(ctx context.Context, _ *endpoint.Endpoint, _ *webhook.Message, _ int) webhook.Outcome {
		<-ctx.Done()
		return canceled()
	}
	d, _ := startDispatcher(t, q, sink, dispatch.Options{DrainTimeout: 50 * time.Millisecond}, ep)
	queuetest.Eventually(t, "its events to be in memory", func() bool { events, _ := d.Held(); return events == 100 })
	d.Update(nil)
	queuetest.Eventually(t, "none to be", func() bool { events, bytes := d.Held(); return events == 0 && bytes == 0 })
}

// An endpoint that gets nothing now leaves its part of the memory to others, and gets all of its events later.
func TestMemoryOfEndpointsThatGetNothing(t *testing.T) {
	t.Parallel()
	const backlog, more = 100, 10
	ep := endpoint.Endpoint{Name: "a", Concurrency: 2, Retry: ms(1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1)}
	paused := ep
	paused.State = endpoint.Paused
	held := status(429)
	held.RetryAfter = time.Hour
	for name, c := range map[string]struct {
		first         webhook.Outcome // what it answers until it goes on; none: nothing
		others        bool            // another process delivers to it then
		quiet, resume func(t *testing.T, d *dispatch.Dispatcher, q *queue.Queue)
	}{
		"paused": {
			quiet: func(_ *testing.T, d *dispatch.Dispatcher, _ *queue.Queue) {
				d.Update(queuetest.Endpoints(paused))
			},
			resume: func(_ *testing.T, d *dispatch.Dispatcher, _ *queue.Queue) {
				d.Update(queuetest.Endpoints(ep))
			},
		},
		"asked for a pause": {
			first: held,
			resume: func(t *testing.T, _ *dispatch.Dispatcher, q *queue.Queue) {
				queuetest.Eventually(t, "the pause to be kept", func() bool {
					s, err := queuetest.Stats(t.Context(), q, "a")
					return err == nil && !s.Until.IsZero()
				})
				if resumed, err := q.Resume(t.Context(), "a"); resumed || err != nil { // as a reload does
					t.Errorf("resumed: %v, %v; nothing is suspended", resumed, err)
				}
				if _, err := q.Hasten(t.Context(), "a"); err != nil {
					t.Error(err)
				}
			},
		},
		"down, and found so by another process": {first: status(500), others: true},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			r := queuetest.StartRedis(t)
			q := queuetest.Open(t, r, ep)
			queuetest.AppendEvents(t, q, 0, backlog, 100, queuetest.KeyModulo(10))
			sink := newReceiver()
			back := make(chan struct{})
			sink.answer = func(ctx context.Context, _ *endpoint.Endpoint, _ *webhook.Message, _ int) webhook.Outcome {
				select {
				case <-back:
					return delivered()
				default:
				}
				if c.first.Status != 0 {
					return c.first
				}
				if !opened(ctx, back) {
					return canceled()
				}
				return delivered()
			}
			d, stop := startDispatcher(t, q, sink, dispatch.Options{}, ep)
			sink.until(t, "a request", func(all []arrival) bool { return len(all) > 0 })
			if c.others {
				queuetest.Eventually(t, "the breaker to be open", func() bool {
					return queuetest.Client(t, r).HGet(t.Context(), "gancho:{a}:state", "open").Val() > "0"
				})
				stop()
				sent := len(sink.list())
				d, _ = startDispatcher(t, q, sink, dispatch.Options{}, ep)
				sink.until(t, "a probe", func(all []arrival) bool { return len(all) > sent })
			}
			if c.quiet != nil {
				queuetest.Eventually(t, "all to be in memory", func() bool { events, _ := d.Held(); return events == backlog })
				c.quiet(t, d, q)
			}
			nothing := func() bool { events, bytes := d.Held(); return events == 0 && bytes == 0 }
			queuetest.Eventually(t, "nothing to be in memory", nothing)
			queuetest.AppendEvents(t, q, backlog, backlog+more, more, queuetest.KeyModulo(10))
			queuetest.Eventually(t, "nothing to be in memory when more has come", nothing)
			close(back)
			if c.resume != nil {
				c.resume(t, d, q)
			}
			checkOrder(t, sink.distinct(t, backlog+more))
		})
	}
}
