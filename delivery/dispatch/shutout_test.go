package dispatch_test

import (
	"context"
	"fmt"
	"strings"
	"testing"
	"time"

	"gancho/delivery/dispatch"
	"gancho/delivery/endpoint"
	"gancho/delivery/queue/queuetest"
	"gancho/delivery/webhook"

	"github.com/google/go-cmp/cmp"
)

// forbids answers 403 to the events of these keys, and takes all others.
func forbids(keys ...string) *receiver {
	sink := newReceiver()
	sink.answer = func(_ context.Context, _ *endpoint.Endpoint, m *webhook.Message, _ int) webhook.Outcome {
		for _, key := range keys {
			if m.Key == key {
				return answer(403, webhook.Refused)
			}
		}
		return delivered()
	}
	return sink
}

// TestShutOut: an endpoint that answers 403 to everything is suspended, however it is ordered; one
// that does not like a single event is not, even if no other can be tried while that is; and an
// event that has suspended it does so once.
func TestShutOut(t *testing.T) {
	t.Parallel()
	const all, misconfigured = 4, "misconfigured: "
	for name, c := range map[string]struct {
		order  endpoint.Order
		forbid []string
		// What is there in the end, and after a resumption.
		dead, left, deadThen, leftThen int
		suspended, suspendedThen       bool
	}{
		"one event, in the endpoint's order": {order: endpoint.OrderEndpoint, forbid: []string{"k0"}, dead: 1},
		"one event, in the keys' order":      {forbid: []string{"k0"}, dead: 1},
		// The first alone proves nothing; the second is kept, and ends when it is refused again.
		"two events, in the endpoint's order": {order: endpoint.OrderEndpoint, forbid: []string{"k0", "k1"}, dead: 1, left: 3, suspended: true, deadThen: 2},
		"everything, in the endpoint's order": {
			order: endpoint.OrderEndpoint, forbid: []string{"k0", "k1", "k2", "k3"}, dead: 1, left: 3, suspended: true, deadThen: 2, leftThen: 2, suspendedThen: true,
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			r := queuetest.StartRedis(t)
			ep := endpoint.Endpoint{Name: "a", Order: c.order, Concurrency: 1, RetryRefused: []time.Duration{10 * time.Millisecond}}
			q := queuetest.Open(t, r, ep)
			queuetest.AppendEvents(t, q, 0, all, all, queuetest.KeyModulo(all))
			_, stop := runDispatcher(t, queuetest.OpenOnly(t, r), forbids(c.forbid...), dispatch.Options{}, ep)
			defer stop()
			ends := func(dead, left int, suspended bool) {
				t.Helper()
				want := fmt.Sprint(dead, " dead, ", left, " left, suspended ", suspended)
				got := ""
				queuetest.Eventually(t, want, func() bool {
					s, err := queuetest.Stats(t.Context(), q, "a")
					if err != nil {
						t.Fatal(err)
					}
					if s.Reason != "" && !strings.HasPrefix(s.Reason, misconfigured) {
						t.Fatalf("suspended because of %q", s.Reason)
					}
					got = fmt.Sprint(s.Dead, " dead, ", s.Backlog, " left, suspended ", s.Reason != "")
					return got == want
				})
				if diff := cmp.Diff(want, got); diff != "" {
					t.Error(diff)
				}
			}
			ends(c.dead, c.left, c.suspended)
			if !c.suspended {
				return
			}
			if _, err := q.Resume(t.Context(), "a"); err != nil {
				t.Fatal(err)
			}
			ends(c.deadThen, c.leftThen, c.suspendedThen)
		})
	}
}

// TestShutOutByKeys: of an endpoint that answers 403 to everything nothing is lost, because the first
// event to end is not the only one.
func TestShutOutByKeys(t *testing.T) {
	t.Parallel()
	r := queuetest.StartRedis(t)
	ep := endpoint.Endpoint{Name: "a", Concurrency: 1, RetryRefused: []time.Duration{time.Hour}}
	q := queuetest.Open(t, r, ep)
	rc := queuetest.Client(t, r)
	queuetest.AppendEvents(t, q, 0, 3, 3, queuetest.KeyModulo(3))
	_, stop := runDispatcher(t, queuetest.OpenOnly(t, r), forbids("k0", "k1", "k2"), dispatch.Options{}, ep)
	defer stop()
	queuetest.Eventually(t, "three failures", func() bool { return rc.HLen(t.Context(), "gancho:{a}:at").Val() == 3 })
	if _, err := q.Hasten(t.Context(), "a"); err != nil { // their last attempts
		t.Fatal(err)
	}
	queuetest.Eventually(t, "the suspension", func() bool {
		s, err := queuetest.Stats(t.Context(), q, "a")
		if err == nil && s.Dead > 0 {
			t.Fatalf("%d dead letters of an endpoint that takes nothing", s.Dead)
		}
		return err == nil && s.Backlog == 3 && strings.HasPrefix(s.Reason, "misconfigured: ")
	})
}

// TestShutOutIsRemembered: the next owner knows that something was delivered between an event's
// failures, and does not suspend the endpoint.
func TestShutOutIsRemembered(t *testing.T) {
	t.Parallel()
	r := queuetest.StartRedis(t)
	ep := endpoint.Endpoint{Name: "a", RetryRefused: []time.Duration{time.Hour}}
	q := queuetest.Open(t, r, ep)
	rc := queuetest.Client(t, r)
	queuetest.AppendEvents(t, q, 0, 3, 3, queuetest.KeyModulo(3))
	sink := forbids("k0", "k1")
	_, stop := runDispatcher(t, queuetest.OpenOnly(t, r), sink, dispatch.Options{}, ep)
	queuetest.Eventually(t, "one delivery and two failures", func() bool {
		s, err := queuetest.Stats(t.Context(), q, "a")
		return err == nil && s.Backlog == 2 && rc.HLen(t.Context(), "gancho:{a}:at").Val() == 2
	})
	queuetest.AppendEvents(t, q, 5, 6, 1, func(int) string { return "k2" })
	queuetest.Eventually(t, "a delivery after them", func() bool {
		s, err := queuetest.Stats(t.Context(), q, "a")
		return err == nil && s.Backlog == 2 && sink.count() == 4
	})
	stop()
	pass(t, rc, "a", 2*time.Hour)
	_, stop = runDispatcher(t, queuetest.OpenOnly(t, r), forbids("k0", "k1"), dispatch.Options{}, ep)
	defer stop()
	queuetest.Eventually(t, "two dead letters", func() bool {
		s, err := queuetest.Stats(t.Context(), q, "a")
		if err == nil && s.Reason != "" {
			t.Fatalf("suspended because of %q", s.Reason)
		}
		return err == nil && s.Dead == 2
	})
}
