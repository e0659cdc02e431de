package dispatch_test

import (
	"context"
	"fmt"
	"testing"

	"github.com/google/go-cmp/cmp"

	"gancho/delivery/dispatch"
	"gancho/delivery/endpoint"
	"gancho/delivery/queue/queuetest"
	"gancho/delivery/webhook"
	"gancho/internal/testservers"
)

// TestLostAnswersToACourier: Redis has executed what a courier asks, and the answer does not arrive,
// again and again. Each event is sent once for each of its attempts, in order, and each dead letter is there once.
func TestLostAnswersToACourier(t *testing.T) {
	t.Parallel()
	r := queuetest.StartRedis(t)
	proxy := testservers.StartProxy(t, r.Addr())
	ep := endpoint.Endpoint{Name: "a", Retry: ms(1, 1)}
	q := queuetest.Open(t, r, ep)
	sink := newReceiver()
	// The fifth of a dozen fails for good, and the others of its key fail once.
	failures := map[string]int{}
	want := map[string]int{}
	const total, keys = 24, 6
	for i := range total {
		id := fmt.Sprint(i)
		switch want[id] = 1; {
		case i%12 == 4:
			failures[id], want[id] = 3, 3
		case i%keys == 4:
			failures[id], want[id] = 1, 2
		}
	}
	name := func(m *webhook.Message) string {
		var i int
		if _, err := fmt.Sscanf(string(m.Data), `{"id":%d,`, &i); err != nil {
			t.Errorf("%s: %v", m.Data, err)
		}
		return fmt.Sprint(i)
	}
	sink.answer = func(_ context.Context, _ *endpoint.Endpoint, m *webhook.Message, n int) webhook.Outcome {
		if n <= failures[name(m)] {
			return status(503)
		}
		return delivered()
	}
	_, stop := startDispatcher(t, queuetest.OpenOnly(t, proxy, ep), sink, dispatch.Options{}, ep)
	const each = 4 // a courier waits a moment before it asks again
	for i := 0; i < total; i += each {
		lost := proxy.LoseAnswer("gancho:{a}:dead") // an acknowledgement names it
		queuetest.AppendEvents(t, q, i, i+each, 1, queuetest.KeyModulo(keys))
		<-lost
	}
	queuetest.Drained(t, q, "a")
	stop()
	got := map[string]int{}
	for _, a := range sink.list() {
		got[name(&webhook.Message{Data: []byte(a.data)})]++
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("requests of each event: -want +got\n%s", diff)
	}
	checkOrder(t, sink.list())
	if s, err := queuetest.Stats(t.Context(), q, "a"); err != nil || s.Dead != total/12 || s.Retrying != 0 {
		t.Errorf("%+v, %v", s, err)
	}
}
