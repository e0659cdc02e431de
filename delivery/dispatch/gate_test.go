package dispatch_test

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"gancho/delivery/dispatch"
	"gancho/delivery/endpoint"
	"gancho/delivery/queue/queuetest"
	"gancho/delivery/webhook"
)

const (
	gateBehind = 8   // endpoints with a backlog
	gateEvents = 300 // of each of them
	gateLimit  = 3
)

// backlogs returns a dispatcher with a narrow gate, endpoints with a backlog, and one more without.
func backlogs(t *testing.T, sink *receiver) (d *dispatch.Dispatcher, appendLive func(i int), stop func()) {
	t.Helper()
	r := queuetest.StartRedis(t)
	eps := []endpoint.Endpoint{{Name: "live", Tenants: []string{"2"}}}
	for i := range gateBehind {
		eps = append(eps, endpoint.Endpoint{Name: fmt.Sprint("behind", i), Tenants: []string{"1"}, Concurrency: 4})
	}
	eps[1].Order = endpoint.OrderEndpoint
	eps[2].Batch = endpoint.Batching{Max: 10, Wait: time.Millisecond}
	q := queuetest.Open(t, r, eps...)
	queuetest.AppendEvents(t, q, 0, gateEvents, 50, queuetest.KeyModulo(40))
	d = dispatch.New(q, sink, queuetest.Endpoints(eps...), dispatch.Options{Logger: queuetest.Logger(t), DrainTimeout: time.Millisecond})
	d.NarrowGate(gateLimit)
	stop = run(t, d)
	return d, func(i int) {
		ev := queuetest.Event(gateEvents+i, "k")
		ev.Tenant = []byte("2")
		b := q.NewBatch()
		if _, err := b.Add(ev); err != nil {
			t.Fatal(err)
		}
		if err := q.Append(t.Context(), b); err != nil {
			t.Fatal(err)
		}
	}, stop
}

// A new event of an endpoint that is not behind goes past the backlogs of others, of which no more is in flight than the gate allows. Everything
// arrives once and in order.
func TestNewEventsPassBacklogs(t *testing.T) {
	t.Parallel()
	const live = 5
	sink, held := newReceiver(), make(chan struct{})
	hold := func(ctx context.Context, name string) webhook.Outcome {
		if name != "live" {
			select {
			case <-held:
			case <-ctx.Done():
				return canceled()
			}
		}
		return delivered()
	}
	sink.answer = func(ctx context.Context, ep *endpoint.Endpoint, _ *webhook.Message, _ int) webhook.Outcome {
		return hold(ctx, ep.Name)
	}
	sink.answerList = func(ctx context.Context, ep *endpoint.Endpoint, _ []*webhook.Message, _ int) webhook.Outcome {
		return hold(ctx, ep.Name)
	}
	d, appendLive, stop := backlogs(t, sink)
	queuetest.Eventually(t, "all to be read, and most to wait", func() bool {
		requests, waiting := d.AtGate()
		return requests >= gateLimit && waiting >= gateBehind-gateLimit
	})
	for i := range live {
		appendLive(i)
		sink.until(t, "a new event", func(all []arrival) bool {
			return len(slices.DeleteFunc(slices.Clone(all), func(a arrival) bool { return a.endpoint != "live" })) == i+1
		})
	}
	if n := sink.count(); n < gateLimit || n >= live+2*gateLimit {
		t.Errorf("%d requests, of which %d are new events; want %d or a few more out of backlogs", n, live, gateLimit)
	}
	close(held)
	all := sink.distinct(t, gateBehind*gateEvents+live)
	if n := checkOrder(t, all); n != 0 {
		t.Errorf("%d repeats", n)
	}
	queuetest.Eventually(t, "the gate to be empty", func() bool {
		requests, waiting := d.AtGate()
		return requests == 0 && waiting == 0
	})
	stop()
}

// Who waits at the gate when the process ends leaves it.
func TestGateIsEmptyAtTheEnd(t *testing.T) {
	t.Parallel()
	sink := newReceiver()
	sink.answer = func(ctx context.Context, _ *endpoint.Endpoint, _ *webhook.Message, _ int) webhook.Outcome {
		<-ctx.Done()
		return canceled()
	}
	sink.answerList = func(ctx context.Context, ep *endpoint.Endpoint, ms []*webhook.Message, n int) webhook.Outcome {
		return sink.answer(ctx, ep, ms[0], n)
	}
	d, _, stop := backlogs(t, sink)
	queuetest.Eventually(t, "most to wait", func() bool {
		_, waiting := d.AtGate()
		return waiting >= gateBehind-gateLimit
	})
	stop()
	if requests, waiting := d.AtGate(); requests != 0 || waiting != 0 {
		t.Errorf("%d requests count and %d couriers wait after the end", requests, waiting)
	}
	if n := sink.count(); n >= 2*gateLimit {
		t.Errorf("%d requests were made, of which %d may be at once", n, gateLimit)
	}
	if slices.ContainsFunc(sink.arrivals, func(a arrival) bool { return !strings.HasPrefix(a.endpoint, "behind") }) {
		t.Error("an event has arrived where there was none")
	}
}
