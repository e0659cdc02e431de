package dispatch_test

import (
	"context"
	"sync"
	"testing"
	"time"

	"gancho/delivery/dispatch"
	"gancho/delivery/endpoint"
	"gancho/delivery/queue/queuetest"
	"gancho/delivery/webhook"
)

// What waits follows changed settings, whether they change under the owner's
// eyes or before it is the owner.
func TestWhatWaitsFollowsChangedSettings(t *testing.T) {
	t.Parallel()
	down := []webhook.Outcome{status(500), delivered()}
	for name, c := range map[string]struct {
		before, after endpoint.Endpoint
		answers       []webhook.Outcome // the last one goes on
		dead          int64
	}{
		"a shorter schedule":         {endpoint.Endpoint{Retry: []time.Duration{time.Hour}}, endpoint.Endpoint{Retry: ms(1)}, down, 0},
		"a schedule that is used up": {endpoint.Endpoint{Retry: []time.Duration{time.Hour}}, endpoint.Endpoint{Retry: ms()}, down, 0},
		"a shorter schedule after refusals": {
			endpoint.Endpoint{RetryRefused: []time.Duration{time.Hour}}, endpoint.Endpoint{RetryRefused: ms(1)},
			[]webhook.Outcome{answer(400, webhook.Refused), delivered()}, 0,
		},
		"a shorter age": {endpoint.Endpoint{Retry: []time.Duration{time.Hour}}, endpoint.Endpoint{Retry: []time.Duration{time.Hour}, MaxAge: time.Millisecond}, down, 0},
		"no more blocking": {
			endpoint.Endpoint{Retry: ms(), OnExhausted: endpoint.Block}, endpoint.Endpoint{Retry: ms()}, []webhook.Outcome{status(500)}, 1,
		},
		"lists": {endpoint.Endpoint{Retry: []time.Duration{time.Hour}}, endpoint.Endpoint{Retry: ms(1), Batch: endpoint.Batching{Max: 10}}, down, 0},
	} {
		for _, restart := range []bool{false, true} {
			t.Run(name+map[bool]string{true: ", after a restart"}[restart], func(t *testing.T) {
				t.Parallel()
				r := queuetest.StartRedis(t)
				before, after := c.before, c.after
				before.Name, after.Name = "a", "a"
				q := queuetest.Open(t, r, before)
				queuetest.AppendEvents(t, q, 0, 1, 1, queuetest.KeyModulo(1))
				sink := newReceiver()
				sink.answer = func(_ context.Context, _ *endpoint.Endpoint, _ *webhook.Message, n int) webhook.Outcome {
					return c.answers[min(n, len(c.answers))-1]
				}
				d, stop := startDispatcher(t, q, sink, dispatch.Options{Lease: time.Hour}, before)
				rc := queuetest.Client(t, r)
				queuetest.Eventually(t, "the event to wait", func() bool { return rc.ZCard(t.Context(), "gancho:{a}:rt").Val() == 1 })
				if restart {
					stop()
					startDispatcher(t, queuetest.OpenOnly(t, r), sink, dispatch.Options{}, after)
				} else {
					d.Update(queuetest.Endpoints(after))
				}
				queuetest.Drained(t, q, "a")
				if held, err := queuetest.Stats(t.Context(), q, "a"); held.Dead != c.dead || err != nil {
					t.Errorf("%d dead letters, %v, want %d", held.Dead, err, c.dead)
				}
				if after.Batch.Max > 0 && len(sink.requests()) != 1 {
					t.Errorf("%d lists, want 1", len(sink.requests()))
				}
			})
		}
	}
}

// TestAPersonsChangeDialsAnew: an edit and an activation give up the endpoint's
// connections; endpoints that have not changed keep theirs.
func TestAPersonsChangeDialsAnew(t *testing.T) {
	t.Parallel()
	r := queuetest.StartRedis(t)
	ep := endpoint.Endpoint{Name: "a", Retry: []time.Duration{time.Hour}}
	q := queuetest.Open(t, r, ep)
	queuetest.AppendEvents(t, q, 0, 1, 1, queuetest.KeyModulo(1))
	sink := newReceiver()
	sink.answer = func(context.Context, *endpoint.Endpoint, *webhook.Message, int) webhook.Outcome { return status(500) }
	d, _ := startDispatcher(t, q, sink, dispatch.Options{Lease: time.Hour}, ep)
	rc := queuetest.Client(t, r)
	queuetest.Eventually(t, "the event to wait", func() bool { return rc.ZCard(t.Context(), "gancho:{a}:rt").Val() == 1 })
	d.Update(queuetest.Endpoints(ep))
	if n := sink.redials.Load(); n != 0 {
		t.Errorf("%d times dialled anew without a change", n)
	}
	ep.Rate = 100
	d.Update(queuetest.Endpoints(ep))
	if n := sink.redials.Load(); n != 1 {
		t.Errorf("%d times dialled anew after an edit", n)
	}
	if _, err := q.Hasten(t.Context(), "a"); err != nil { // what activating does
		t.Fatal(err)
	}
	queuetest.Eventually(t, "another connection", func() bool { return sink.redials.Load() == 2 })
}

// Whatever of an endpoint changes while events are under way, each is delivered
// once, in order.
func TestEverythingChangesUnderLoad(t *testing.T) {
	t.Parallel()
	r := queuetest.StartRedis(t)
	settings := []endpoint.Endpoint{
		{},
		{Batch: endpoint.Batching{Max: 20, Wait: 5 * time.Millisecond}},
		{Concurrency: 1},
		{State: endpoint.Paused},
		{Order: endpoint.OrderEndpoint, Rate: 500},
		{Batch: endpoint.Batching{Max: 3, PerTransaction: true}},
		{Concurrency: 40, Retry: ms(1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1)},
		{State: endpoint.Inactive},
		{Rate: 2000, OnExhausted: endpoint.Block},
	}
	for i := range settings {
		settings[i].Name = "a"
		if settings[i].Retry == nil {
			settings[i].Retry = ms(2, 2, 2, 2, 2, 2, 2, 2, 2, 2, 2, 2)
		}
	}
	random := random(t)
	q := queuetest.Open(t, r, settings[0])
	var mu sync.Mutex
	taken, last := map[string]int{}, map[string]string{}
	take := func(ms ...*webhook.Message) webhook.Outcome {
		mu.Lock()
		defer mu.Unlock()
		if random.IntN(10) == 0 {
			return status(404)
		}
		for _, m := range ms {
			if taken[m.ID]++; m.ID <= last[m.Key] {
				t.Errorf("%s was taken after %s", m.ID, last[m.Key])
			}
			last[m.Key] = m.ID
		}
		return delivered()
	}
	count := func() int {
		mu.Lock()
		defer mu.Unlock()
		return len(taken)
	}
	sink := newReceiver()
	sink.answer = func(_ context.Context, _ *endpoint.Endpoint, m *webhook.Message, _ int) webhook.Outcome {
		return take(m)
	}
	sink.answerList = func(_ context.Context, _ *endpoint.Endpoint, list []*webhook.Message, _ int) webhook.Outcome {
		return take(list...)
	}
	d, stop := startDispatcher(t, q, sink, dispatch.Options{}, settings[0])
	const total, rounds = 1800, 36
	for i := range rounds {
		queuetest.AppendEvents(t, q, i*total/rounds, (i+1)*total/rounds, 7, queuetest.KeyModulo(9))
		d.Update(queuetest.Endpoints(settings[i%len(settings)]))
		// Some are taken before the next change.
		if ep := settings[i%len(settings)]; ep.State == endpoint.Active {
			n := count()
			queuetest.Eventually(t, "some to be taken", func() bool { return count() > n || count() == (i+1)*total/rounds })
		}
	}
	d.Update(queuetest.Endpoints(settings[:1]...))
	queuetest.Drained(t, q, "a")
	stop()
	for id, n := range taken {
		if n != 1 {
			t.Errorf("%s was taken %d times", id, n)
		}
	}
	if held, err := queuetest.Stats(t.Context(), q, "a"); err != nil || len(taken) != total || held.Dead != 0 {
		t.Errorf("%d events taken, %d dead letters, %v; want %d and none", len(taken), held.Dead, err, total)
	}
}
