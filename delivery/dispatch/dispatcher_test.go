package dispatch_test

import (
	"context"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"gancho/delivery/dispatch"
	"gancho/delivery/endpoint"
	"gancho/delivery/queue"
	"gancho/delivery/queue/queuetest"
	"gancho/delivery/webhook"
)

func ms(n ...int) []time.Duration {
	out := make([]time.Duration, len(n))
	for i, v := range n {
		out[i] = time.Duration(v) * time.Millisecond
	}
	return out
}

func TestDelivery(t *testing.T) {
	t.Parallel()
	r := queuetest.StartRedis(t)
	eps := []endpoint.Endpoint{{Name: "a"}, {Name: "b", Concurrency: 3}, {Name: "c", Order: endpoint.OrderEndpoint}, {Name: "d", Order: endpoint.OrderNone}}
	q := queuetest.Open(t, r, eps...)
	queuetest.AppendEvents(t, q, 0, 500, 50, queuetest.KeyModulo(7)) // before anybody delivers
	sink := newReceiver()
	startDispatcher(t, q, sink, dispatch.Options{}, eps...)
	queuetest.AppendEvents(t, q, 500, 1000, 7, queuetest.KeyModulo(7)) // while somebody does
	all := sink.distinct(t, 4*1000)
	if n := checkOrder(t, slices.DeleteFunc(slices.Clone(all), func(a arrival) bool { return a.endpoint == "d" })); n != 0 || len(all) != 4000 {
		t.Errorf("%d repeats among %d arrivals, want none among 4000", n, len(all))
	}
	for _, ep := range eps {
		queuetest.Drained(t, q, ep.Name)
	}
	if p := sink.peakOf("b"); p > 3 {
		t.Errorf("%d requests in flight, want at most 3", p)
	}
	if p := sink.peakOf("c"); p != 1 {
		t.Errorf("%d requests in flight, want 1", p)
	}
}

func TestMessageIsWhatWasAdded(t *testing.T) {
	t.Parallel()
	r := queuetest.StartRedis(t)
	ep := endpoint.Endpoint{Name: "a"}
	q := queuetest.Open(t, r, ep)
	var mu sync.Mutex
	var got []webhook.Message
	sink := newReceiver()
	sink.answer = func(_ context.Context, _ *endpoint.Endpoint, m *webhook.Message, _ int) webhook.Outcome {
		mu.Lock()
		defer mu.Unlock()
		got = append(got, *m)
		return delivered()
	}
	startDispatcher(t, q, sink, dispatch.Options{}, ep)
	// The first comes by Redis, the others are handed over within the process.
	for i := range 3 {
		ev := queuetest.Event(i, "chave ção")
		ev.Previous, ev.Unchanged, ev.Errors = []byte(`{"a":1}`), []byte(`["b"]`), []byte(`["c"]`)
		if i == 2 {
			ev.Tenant, ev.Previous, ev.Unchanged, ev.Errors = nil, nil, nil, nil
		}
		b := q.NewBatch()
		if _, err := b.Add(ev); err != nil {
			t.Fatal(err)
		}
		if err := q.Append(t.Context(), b); err != nil {
			t.Fatal(err)
		}
		b.Reset()
		sink.distinct(t, i+1)
		queuetest.Drained(t, q, "a")
	}
	for i, m := range got {
		ev := queuetest.Event(i, "chave ção")
		id, err := queue.NewID(1, ev.Position, 0)
		if err != nil {
			t.Fatal(err)
		}
		want := webhook.Message{ID: id.WebhookID(m.ID[:8]), Type: ev.Type, Tenant: "1", Key: "chave ção", Time: ev.Time,
			Sequence: id.Sequence(), Data: ev.Data, Previous: []byte(`{"a":1}`), Unchanged: []byte(`["b"]`), Errors: []byte(`["c"]`), Op: "update", Version: "v1"}
		if i == 2 {
			want.Tenant, want.Previous, want.Unchanged, want.Errors = "", nil, nil, nil
		}
		if g, w := fmt.Sprintf("%+q", []any{m}), fmt.Sprintf("%+q", []any{want}); g != w || (m.Previous == nil) != (want.Previous == nil) {
			t.Errorf("event %d: got %s, want %s", i, g, w)
		}
	}
}

// First deliveries are in order per key, whatever the receiver answers.
func TestOrderUnderRandomFailures(t *testing.T) {
	t.Parallel()
	r := queuetest.StartRedis(t)
	ep := endpoint.Endpoint{Name: "a", Concurrency: 8, Retry: ms(1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 10, 10, 10, 10, 10, 10)}
	q := queuetest.Open(t, r, ep)
	random := random(t)
	var mu sync.Mutex
	sink := newReceiver()
	done := map[string]string{} // by key, the newest that succeeded
	sink.answer = func(_ context.Context, _ *endpoint.Endpoint, m *webhook.Message, _ int) webhook.Outcome {
		mu.Lock()
		defer mu.Unlock()
		switch random.IntN(6) {
		case 0:
			return status(500)
		case 1:
			return status(404)
		case 2:
			return refused()
		}
		if m.ID <= done[m.Key] {
			t.Errorf("%s succeeded after %s", m.ID, done[m.Key])
		}
		done[m.Key] = m.ID
		return delivered()
	}
	_, stop := startDispatcher(t, q, sink, dispatch.Options{WindowEvents: 40}, ep)
	queuetest.AppendEvents(t, q, 0, 600, 13, queuetest.KeyModulo(11))
	sink.distinct(t, 600)
	queuetest.Drained(t, q, "a")
	stop()
	checkOrder(t, sink.list())
}

func TestFailingKeyDelaysNoOther(t *testing.T) {
	t.Parallel()
	r := queuetest.StartRedis(t)
	ep := endpoint.Endpoint{Name: "a", Retry: []time.Duration{time.Hour}}
	q := queuetest.Open(t, r, ep)
	sink := newReceiver()
	sink.answer = func(_ context.Context, _ *endpoint.Endpoint, m *webhook.Message, _ int) webhook.Outcome {
		if m.Key == "bad" {
			return status(500)
		}
		return delivered()
	}
	// Far more events of the failing key than the window holds come first.
	queuetest.AppendEvents(t, q, 0, 2000, 500, func(int) string { return "bad" })
	queuetest.AppendEvents(t, q, 2000, 2100, 50, queuetest.KeyModulo(5))
	startDispatcher(t, q, sink, dispatch.Options{WindowEvents: 64}, ep)
	all := sink.distinct(t, 101)
	if len(all) != 101 {
		t.Errorf("%d arrivals, want 101: one of the failing key", len(all))
	}
	queuetest.Eventually(t, "the others to be done", func() bool {
		held, err := queuetest.Stats(t.Context(), q, "a")
		return err == nil && held.Backlog == 2000
	})
}

func TestSlowAndDeadEndpointsDelayNoOther(t *testing.T) {
	t.Parallel()
	r := queuetest.StartRedis(t)
	eps := []endpoint.Endpoint{{Name: "good"}, {Name: "slow"}, {Name: "dead"}}
	q := queuetest.Open(t, r, eps...)
	sink := newReceiver()
	sink.answer = func(ctx context.Context, ep *endpoint.Endpoint, _ *webhook.Message, _ int) webhook.Outcome {
		switch ep.Name {
		case "slow":
			<-ctx.Done()
			return canceled()
		case "dead":
			return refused()
		}
		return delivered()
	}
	startDispatcher(t, q, sink, dispatch.Options{DrainTimeout: time.Millisecond}, eps...)
	queuetest.AppendEvents(t, q, 0, 2000, 100, queuetest.KeyModulo(50))
	sink.until(t, "2000 events at the good endpoint", func(all []arrival) bool {
		n := 0
		for _, a := range all {
			if a.endpoint == "good" {
				n++
			}
		}
		return n == 2000
	})
	queuetest.Drained(t, q, "good")
	// The breaker keeps the dead endpoint from being called for each event.
	n := 0
	for _, a := range sink.list() {
		if a.endpoint == "dead" {
			n++
		}
	}
	if limit := 10 + endpoint.DefaultConcurrency; n > limit {
		t.Errorf("%d attempts at the dead endpoint, want at most %d", n, limit)
	}
}

func TestBreakerProbesAndCloses(t *testing.T) {
	t.Parallel()
	r := queuetest.StartRedis(t)
	ep := endpoint.Endpoint{Name: "a", Concurrency: 4, Retry: ms(1)}
	q := queuetest.Open(t, r, ep)
	sink := newReceiver()
	var mu sync.Mutex
	up := false
	sink.answer = func(context.Context, *endpoint.Endpoint, *webhook.Message, int) webhook.Outcome {
		mu.Lock()
		defer mu.Unlock()
		if up {
			return delivered()
		}
		return refused()
	}
	queuetest.AppendEvents(t, q, 0, 300, 100, queuetest.KeyModulo(100))
	startDispatcher(t, q, sink, dispatch.Options{}, ep)
	c := queuetest.Client(t, r)
	queuetest.Eventually(t, "the breaker to open", func() bool { return c.HGet(t.Context(), "gancho:{a}:state", "open").Val() != "" })
	before := len(sink.list())
	if before > 10+4+1 {
		t.Errorf("%d attempts until the first probe, want at most 15", before)
	}
	sink.until(t, "a probe", func(all []arrival) bool { return len(all) > before })
	mu.Lock()
	up = true
	mu.Unlock()
	sink.distinct(t, 300)
	queuetest.Drained(t, q, "a")
	checkOrder(t, sink.list())
	// With one retry each, no event may have been exhausted while it was down.
	if held, err := queuetest.Stats(t.Context(), q, "a"); held.Dead != 0 || err != nil {
		t.Errorf("%d dead letters, %v, want none: open time uses no attempts up", held.Dead, err)
	}
}

func TestExhaustedEventsBecomeDeadLetters(t *testing.T) {
	t.Parallel()
	r := queuetest.StartRedis(t)
	ep := endpoint.Endpoint{Name: "a", Retry: ms(1, 1)}
	q := queuetest.Open(t, r, ep)
	sink := newReceiver()
	sink.answer = func(_ context.Context, _ *endpoint.Endpoint, m *webhook.Message, _ int) webhook.Outcome {
		if strings.Contains(string(m.Data), `"id":3,`) {
			return status(422)
		}
		return delivered()
	}
	startDispatcher(t, q, sink, dispatch.Options{}, ep)
	queuetest.AppendEvents(t, q, 0, 6, 6, queuetest.KeyModulo(1))
	sink.distinct(t, 6)
	queuetest.Drained(t, q, "a")
	dead, err := q.Dead(t.Context(), "a", "", 10)
	if err != nil || len(dead) != 1 {
		t.Fatalf("%d dead letters, %v, want 1", len(dead), err)
	}
	d := dead[0]
	if d.Attempts != 3 || d.Status != 422 || d.Answer != "no" || string(d.Data) != `{"id":3,"key":"k0"}` || d.Key != "k0" || d.Reason == "" ||
		d.First.IsZero() || d.Last.Before(d.First) || d.ID != sink.list()[3].id {
		t.Errorf("got %+v", d)
	}
	if rest, err := q.Dead(t.Context(), "a", d.Handle, 10); len(rest) != 0 || err != nil {
		t.Errorf("%d after the last, %v", len(rest), err)
	}
	checkOrder(t, sink.list())
	c := queuetest.Client(t, r)
	if n := c.Exists(t.Context(), "gancho:{a}:rt", "gancho:{a}:at").Val(); n != 0 {
		t.Error("attempts of events that are done are still kept")
	}
}

func TestRetriesAreDurable(t *testing.T) {
	t.Parallel()
	r := queuetest.StartRedis(t)
	const second = 400 * time.Millisecond
	ep := endpoint.Endpoint{Name: "a", Retry: []time.Duration{time.Millisecond, second, time.Hour}}
	q := queuetest.Open(t, r, ep)
	sink := newReceiver()
	sink.answer = func(_ context.Context, _ *endpoint.Endpoint, _ *webhook.Message, n int) webhook.Outcome {
		if n <= 2 {
			return status(503)
		}
		return delivered()
	}
	queuetest.AppendEvents(t, q, 0, 3, 3, queuetest.KeyModulo(1))
	_, stop := startDispatcher(t, q, sink, dispatch.Options{}, ep)
	sink.until(t, "two attempts", func(all []arrival) bool { return len(all) == 2 })
	stop()
	// Another process knows when the third is due, and that two were made.
	var mu sync.Mutex
	var numbers []int
	observe := func(a dispatch.Attempt) {
		mu.Lock()
		defer mu.Unlock()
		numbers = append(numbers, a.Number)
	}
	_, stop = startDispatcher(t, queuetest.OpenOnly(t, r), sink, dispatch.Options{Observe: observe}, ep)
	all := sink.until(t, "the third attempt", func(all []arrival) bool { return len(all) >= 3 })
	if wait := all[2].at.Sub(all[1].at); wait < second {
		t.Errorf("the third attempt came after %s, want %s or more", wait, second)
	}
	sink.until(t, "all", func(all []arrival) bool { return len(all) == 3+2*3 })
	queuetest.Drained(t, q, "a")
	stop()
	if want := []int{3, 1, 2, 3, 1, 2, 3}; !slices.Equal(numbers, want) {
		t.Errorf("attempts numbered %v, want %v", numbers, want)
	}
	checkOrder(t, sink.list())
}

func TestRetryAfterHoldsTheEndpoint(t *testing.T) {
	t.Parallel()
	r := queuetest.StartRedis(t)
	const pause = 700 * time.Millisecond
	ep := endpoint.Endpoint{Name: "a", Concurrency: 1, Retry: ms(1, 1)}
	q := queuetest.Open(t, r, ep)
	sink := newReceiver()
	sink.answer = func(_ context.Context, _ *endpoint.Endpoint, m *webhook.Message, n int) webhook.Outcome {
		o := delivered()
		if m.Key == "k0" && n == 1 {
			o = status(429)
			o.RetryAfter = pause
		}
		return o
	}
	queuetest.AppendEvents(t, q, 0, 4, 4, queuetest.KeyModulo(4))
	_, stop := startDispatcher(t, q, sink, dispatch.Options{}, ep)
	sink.until(t, "the first", func(all []arrival) bool { return len(all) == 1 })
	queuetest.Eventually(t, "the pause to be kept", func() bool {
		s, err := queuetest.Stats(t.Context(), q, "a")
		return err == nil && !s.Until.IsZero()
	})
	stop() // the pause outlives the process
	startDispatcher(t, queuetest.OpenOnly(t, r), sink, dispatch.Options{}, ep)
	all := sink.until(t, "all", func(all []arrival) bool { return len(all) == 5 })
	if wait := all[1].at.Sub(all[0].at); wait < pause-time.Millisecond { // Redis keeps milliseconds
		t.Errorf("the next request came after %s, want %s or more", wait, pause)
	}
}

func TestGonePausesUntilUnpaused(t *testing.T) {
	t.Parallel()
	r := queuetest.StartRedis(t)
	ep := endpoint.Endpoint{Name: "a", Concurrency: 1}
	q := queuetest.Open(t, r, ep)
	sink := newReceiver()
	sink.answer = func(_ context.Context, _ *endpoint.Endpoint, _ *webhook.Message, n int) webhook.Outcome {
		if n == 1 {
			return webhook.Outcome{Kind: webhook.Gone, Status: 410, Class: webhook.ClassStatus}
		}
		return delivered()
	}
	queuetest.AppendEvents(t, q, 0, 1, 1, queuetest.KeyModulo(1))
	_, stop := startDispatcher(t, q, sink, dispatch.Options{}, ep)
	queuetest.Eventually(t, "the pause", func() bool {
		s, err := queuetest.Stats(t.Context(), q, "a")
		return err == nil && strings.Contains(s.Reason, "410") && !s.Since.IsZero()
	})
	stop()
	// The suspension outlives the process, and ends in every process immediately.
	_, stop = startDispatcher(t, queuetest.OpenOnly(t, r), sink, dispatch.Options{Lease: time.Hour}, ep)
	queuetest.Eventually(t, "the lease", func() bool { return queuetest.Owned(t, q, "a") })
	if len(sink.list()) != 1 {
		t.Errorf("%d attempts while paused, want 1", len(sink.list()))
	}
	if _, err := q.Resume(t.Context(), "a"); err != nil {
		t.Fatal(err)
	}
	sink.until(t, "the repeat", func(all []arrival) bool { return len(all) == 2 })
	queuetest.Drained(t, q, "a")
	stop()
}

func TestExhaustedMayBlockOrPause(t *testing.T) {
	t.Parallel()
	r := queuetest.StartRedis(t)
	eps := []endpoint.Endpoint{
		{Name: "block", Retry: ms(), OnExhausted: endpoint.Block}, {Name: "pause", Retry: ms(), OnExhausted: endpoint.Pause, Concurrency: 1},
	}
	q := queuetest.Open(t, r, eps...)
	sink := newReceiver()
	sink.answer = func(_ context.Context, _ *endpoint.Endpoint, m *webhook.Message, n int) webhook.Outcome {
		if strings.Contains(string(m.Data), `"id":0,`) && n == 1 {
			return status(400)
		}
		return delivered()
	}
	startDispatcher(t, q, sink, dispatch.Options{Lease: time.Second}, eps...)
	queuetest.AppendEvents(t, q, 0, 20, 20, queuetest.KeyModulo(2))
	left := func(name string) int64 {
		held, err := queuetest.Stats(t.Context(), q, name)
		if err != nil {
			t.Fatal(err)
		}
		return held.Backlog
	}
	queuetest.Eventually(t, "the other key", func() bool { return left("block") == 10 })
	queuetest.Eventually(t, "the pause", func() bool {
		s, err := queuetest.Stats(t.Context(), q, "pause")
		return err == nil && s.Reason != ""
	})
	if n := left("pause"); n != 20 {
		t.Errorf("%d events left at the paused endpoint, want 20", n)
	}
	if n, err := q.Hasten(t.Context(), "block"); n != 1 || err != nil {
		t.Errorf("unblocked %d, %v, want 1", n, err)
	}
	if _, err := q.Resume(t.Context(), "pause"); err != nil {
		t.Fatal(err)
	}
	queuetest.Drained(t, q, "block")
	queuetest.Drained(t, q, "pause")
	checkOrder(t, sink.list())
}

// Whoever fixes a receiver does not wait for the next step of the schedule,
// which may be a day away.
func TestHasten(t *testing.T) {
	t.Parallel()
	r := queuetest.StartRedis(t)
	ep := endpoint.Endpoint{Name: "a", Retry: []time.Duration{time.Hour, time.Hour}}
	q := queuetest.Open(t, r, ep)
	sink := newReceiver()
	var fixed atomic.Bool
	sink.answer = func(context.Context, *endpoint.Endpoint, *webhook.Message, int) webhook.Outcome {
		if fixed.Load() {
			return delivered()
		}
		return status(429)
	}
	startDispatcher(t, q, sink, dispatch.Options{Lease: time.Hour}, ep)
	queuetest.AppendEvents(t, q, 0, 20, 20, queuetest.KeyModulo(5))
	queuetest.Eventually(t, "the failures", func() bool {
		s, err := q.Stats(t.Context(), []string{"a"})
		return err == nil && s[0].Retrying == 5
	})
	if resumed, err := q.Resume(t.Context(), "a"); resumed || err != nil {
		t.Errorf("resumed: %v, %v; nothing is paused or blocked", resumed, err)
	}
	fixed.Store(true)
	if n, err := q.Hasten(t.Context(), "a"); n != 5 || err != nil {
		t.Errorf("hastened %d, %v, want 5", n, err)
	}
	queuetest.Drained(t, q, "a")
	checkOrder(t, sink.list())
}

func TestUpdate(t *testing.T) {
	t.Parallel()
	r := queuetest.StartRedis(t)
	ep := func(s endpoint.State) endpoint.Endpoint { return endpoint.Endpoint{Name: "a", State: s} }
	q := queuetest.Open(t, r, ep(endpoint.Paused))
	sink := newReceiver()
	d, _ := startDispatcher(t, q, sink, dispatch.Options{Lease: time.Hour}, ep(endpoint.Paused))
	queuetest.AppendEvents(t, q, 0, 10, 10, queuetest.KeyModulo(1))
	queuetest.Eventually(t, "the lease", func() bool { return queuetest.Owned(t, q, "a") })
	if len(sink.list()) != 0 {
		t.Fatal("a paused endpoint got events")
	}
	d.Update(queuetest.Endpoints(ep(endpoint.Active)))
	sink.distinct(t, 10)
	queuetest.Drained(t, q, "a")

	// Inactive: nothing is queued, nothing is sent, nobody owns it.
	d.Update(queuetest.Endpoints(ep(endpoint.Inactive)))
	q.Update(queuetest.Endpoints(ep(endpoint.Inactive)))
	queuetest.Eventually(t, "the lease to be given back", func() bool { return !queuetest.Owned(t, q, "a") })
	b := q.NewBatch()
	if n, err := b.Add(queuetest.Event(11, "k")); n != 0 || err != nil {
		t.Errorf("%d endpoints, %v, want 0", n, err)
	}

	// Another order takes other lanes, and a new endpoint is delivered to.
	again := []endpoint.Endpoint{{Name: "a", Order: endpoint.OrderEndpoint}, {Name: "new"}}
	d.Update(queuetest.Endpoints(again...))
	q.Update(queuetest.Endpoints(again...))
	queuetest.AppendEvents(t, q, 12, 22, 10, queuetest.KeyModulo(3))
	sink.distinct(t, 10+2*10)
	checkOrder(t, sink.list())
}

// An endpoint with a rate gets what the rate allows, here one request an hour,
// and delays no other.
func TestRate(t *testing.T) {
	t.Parallel()
	r := queuetest.StartRedis(t)
	limited, free := endpoint.Endpoint{Name: "limited", Rate: 1. / 3600}, endpoint.Endpoint{Name: "free"}
	q := queuetest.Open(t, r, limited, free)
	sink := newReceiver()
	queuetest.AppendEvents(t, q, 0, 26, 26, queuetest.KeyModulo(26))
	d, _ := startDispatcher(t, q, sink, dispatch.Options{}, limited, free)
	sink.distinct(t, 26+1)
	queuetest.Drained(t, q, "free")
	if n := len(sink.list()); n != 26+1 {
		t.Errorf("%d requests, want 26 and 1", n)
	}
	limited.Rate = 0
	d.Update(queuetest.Endpoints(limited, free))
	sink.distinct(t, 2*26)
}

func TestDrain(t *testing.T) {
	t.Parallel()
	r := queuetest.StartRedis(t)
	ep := endpoint.Endpoint{Name: "a", Concurrency: 5}
	q := queuetest.Open(t, r, ep)
	sink := newReceiver()
	finish := make(chan struct{})
	sink.answer = func(ctx context.Context, _ *endpoint.Endpoint, m *webhook.Message, _ int) webhook.Outcome {
		if m.Key == "k4" { // this one takes too long
			<-ctx.Done()
			return canceled()
		}
		<-finish
		return delivered()
	}
	queuetest.AppendEvents(t, q, 0, 20, 20, queuetest.KeyModulo(5))
	d, stop := startDispatcher(t, q, sink, dispatch.Options{DrainTimeout: 300 * time.Millisecond}, ep)
	sink.until(t, "five requests in flight", func(all []arrival) bool { return len(all) == 5 })
	stopped := make(chan struct{})
	go func() { stop(); close(stopped) }()
	queuetest.Eventually(t, "the drain to begin", func() bool { return !d.Owns("a") })
	close(finish)
	<-stopped
	if len(sink.list()) != 5 {
		t.Errorf("%d requests, want none after the end", len(sink.list()))
	}
	if held, err := queuetest.Stats(t.Context(), q, "a"); held.Backlog != 16 || err != nil {
		t.Errorf("%d events left, %v, want 16: four were acknowledged", held.Backlog, err)
	}
	c := queuetest.Client(t, r)
	if n := c.Exists(t.Context(), "gancho:leases", "gancho:{a}:rt").Val(); n != 0 {
		t.Error("a lease, or an attempt that we broke off, was left")
	}
}

func TestFullRedisStillDelivers(t *testing.T) {
	t.Parallel()
	r := queuetest.StartRedis(t)
	ep := endpoint.Endpoint{Name: "a", Retry: ms(1, 1)}
	q := queuetest.Open(t, r, ep)
	queuetest.AppendEvents(t, q, 0, 200, 50, queuetest.KeyModulo(20))
	if err := queuetest.Client(t, r).ConfigSet(t.Context(), "maxmemory", "1").Err(); err != nil {
		t.Fatal(err)
	}
	sink := newReceiver()
	sink.answer = func(_ context.Context, _ *endpoint.Endpoint, m *webhook.Message, n int) webhook.Outcome {
		if n == 1 || m.Key == "k7" {
			return status(404)
		}
		return delivered()
	}
	startDispatcher(t, q, sink, dispatch.Options{}, ep)
	sink.distinct(t, 200)
	queuetest.Drained(t, q, "a")
	if held, err := queuetest.Stats(t.Context(), q, "a"); held.Dead != 10 || err != nil {
		t.Errorf("%d dead letters, %v, want 10", held.Dead, err)
	}
}

func TestLatestEpochInIDsOfEveryEvent(t *testing.T) {
	t.Parallel()
	r := queuetest.StartRedis(t)
	q := queuetest.Open(t, r, endpoint.Endpoint{Name: "a"})
	queuetest.AppendEvents(t, q, 100, 101, 1, queuetest.KeyModulo(1))
	restored := queuetest.Source()
	restored.SystemID = "42"
	q2 := queuetest.OpenOnly(t, r, endpoint.Endpoint{Name: "a"})
	if _, err := q2.Claim(t.Context(), restored, true); err != nil {
		t.Fatal(err)
	}
	// The restored source's positions are older, and are not lost.
	queuetest.AppendEvents(t, q2, 5, 6, 1, queuetest.KeyModulo(1))
	sink := newReceiver()
	// A worker that has claimed nothing learns both sources from Redis.
	startDispatcher(t, queuetest.OpenOnly(t, r), sink, dispatch.Options{}, endpoint.Endpoint{Name: "a"})
	all := sink.distinct(t, 2)
	if a, b := all[0].id, all[1].id; !strings.Contains(a, "-001-") || !strings.Contains(b, "-002-") || a[:8] == b[:8] {
		t.Errorf("got %s and %s, want epochs 1 and 2 of different sources", a, b)
	}
	if want := strconv.Itoa(100); !strings.Contains(all[0].data, want) {
		t.Errorf("first came %s", all[0].data)
	}
}
