package delivery_test

import (
	"context"
	"math/rand/v2"
	"sync"
	"testing"
	"time"

	"gancho/delivery"
)

// What waits follows changed settings, whether they change under the owner's
// eyes or before it is the owner.
func TestWhatWaitsFollowsChangedSettings(t *testing.T) {
	t.Parallel()
	down := []delivery.Outcome{status(500), delivered()}
	for name, c := range map[string]struct {
		before, after delivery.Endpoint
		answers       []delivery.Outcome // the last one goes on
		dead          int64
	}{
		"a shorter schedule":         {delivery.Endpoint{Retry: []time.Duration{time.Hour}}, delivery.Endpoint{Retry: ms(1)}, down, 0},
		"a schedule that is used up": {delivery.Endpoint{Retry: []time.Duration{time.Hour}}, delivery.Endpoint{Retry: ms()}, down, 0},
		"a shorter schedule after refusals": {
			delivery.Endpoint{RetryRefused: []time.Duration{time.Hour}}, delivery.Endpoint{RetryRefused: ms(1)},
			[]delivery.Outcome{answer(400, delivery.Refused), delivered()}, 0,
		},
		"a shorter age": {delivery.Endpoint{Retry: []time.Duration{time.Hour}}, delivery.Endpoint{Retry: []time.Duration{time.Hour}, MaxAge: time.Millisecond}, down, 0},
		"no more blocking": {
			delivery.Endpoint{Retry: ms(), OnExhausted: delivery.Block}, delivery.Endpoint{Retry: ms()}, []delivery.Outcome{status(500)}, 1,
		},
		"lists": {delivery.Endpoint{Retry: []time.Duration{time.Hour}}, delivery.Endpoint{Retry: ms(1), Batch: delivery.Batching{Max: 10}}, down, 0},
	} {
		for _, restart := range []bool{false, true} {
			t.Run(name+map[bool]string{true: ", after a restart"}[restart], func(t *testing.T) {
				t.Parallel()
				r := startRedis(t)
				before, after := c.before, c.after
				before.Name, after.Name = "a", "a"
				q := openQueue(t, r, before)
				appendEvents(t, q, 0, 1, 1, keyModulo(1))
				sink := newReceiver()
				sink.answer = func(_ context.Context, _ *delivery.Endpoint, _ *delivery.Message, n int) delivery.Outcome {
					return c.answers[min(n, len(c.answers))-1]
				}
				d, stop := startDispatcher(t, q, sink, delivery.DispatcherOptions{Lease: time.Hour}, before)
				rc := redisClient(t, r)
				eventually(t, "the event to wait", func() bool { return rc.ZCard(t.Context(), "gancho:{a}:rt").Val() == 1 })
				if restart {
					stop()
					startDispatcher(t, openOnly(t, r), sink, delivery.DispatcherOptions{}, after)
				} else {
					d.Update([]delivery.Endpoint{after})
				}
				drained(t, q, "a")
				if n, err := q.DeadCount(t.Context(), "a"); n != c.dead || err != nil {
					t.Errorf("%d dead letters, %v, want %d", n, err, c.dead)
				}
				if after.Batch.Max > 0 && len(sink.requests()) != 1 {
					t.Errorf("%d lists, want 1", len(sink.requests()))
				}
			})
		}
	}
}

// Whatever of an endpoint changes while events are under way, each is delivered
// once, in order.
func TestEverythingChangesUnderLoad(t *testing.T) {
	t.Parallel()
	r := startRedis(t)
	settings := []delivery.Endpoint{
		{},
		{Batch: delivery.Batching{Max: 20, Wait: 5 * time.Millisecond}},
		{Concurrency: 1},
		{State: delivery.Paused},
		{Order: delivery.OrderEndpoint, Rate: 500},
		{Batch: delivery.Batching{Max: 3, PerTransaction: true}},
		{Concurrency: 40, Retry: ms(1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1)},
		{State: delivery.Inactive},
		{Rate: 2000, OnExhausted: delivery.Block},
	}
	for i := range settings {
		settings[i].Name = "a"
		if settings[i].Retry == nil {
			settings[i].Retry = ms(2, 2, 2, 2, 2, 2, 2, 2, 2, 2, 2, 2)
		}
	}
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	random := rand.New(rand.NewPCG(seed, 1))
	q := openQueue(t, r, settings[0])
	var mu sync.Mutex
	taken, last := map[string]int{}, map[string]string{}
	take := func(ms ...*delivery.Message) delivery.Outcome {
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
	sink.answer = func(_ context.Context, _ *delivery.Endpoint, m *delivery.Message, _ int) delivery.Outcome {
		return take(m)
	}
	sink.answerList = func(_ context.Context, _ *delivery.Endpoint, list []*delivery.Message, _ int) delivery.Outcome {
		return take(list...)
	}
	d, stop := startDispatcher(t, q, sink, delivery.DispatcherOptions{}, settings[0])
	const total, rounds = 1800, 36
	for i := range rounds {
		appendEvents(t, q, i*total/rounds, (i+1)*total/rounds, 7, keyModulo(9))
		d.Update(settings[i%len(settings) : i%len(settings)+1])
		// Some are taken before the next change.
		if ep := settings[i%len(settings)]; ep.State == delivery.Active {
			n := count()
			eventually(t, "some to be taken", func() bool { return count() > n || count() == (i+1)*total/rounds })
		}
	}
	d.Update(settings[:1])
	drained(t, q, "a")
	stop()
	for id, n := range taken {
		if n != 1 {
			t.Errorf("%s was taken %d times", id, n)
		}
	}
	if n, err := q.DeadCount(t.Context(), "a"); err != nil || len(taken) != total || n != 0 {
		t.Errorf("%d events taken, %d dead letters, %v; want %d and none", len(taken), n, err, total)
	}
}
