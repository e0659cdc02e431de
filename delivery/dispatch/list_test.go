package dispatch_test

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"gancho/delivery/queue/queuetest"

	"github.com/google/go-cmp/cmp"

	"gancho/cdc"
	"gancho/delivery/dispatch"
	"gancho/delivery/endpoint"
	"gancho/delivery/queue"
	"gancho/delivery/webhook"
)

// numbers are the events' numbers in a test, of each list.
func numbers(lists []request) [][]int {
	out := make([][]int, len(lists))
	for i, l := range lists {
		for _, id := range l.ids {
			out[i] = append(out[i], number(id))
		}
	}
	return out
}

// number is the number that event was called with, of a webhook-id.
func number(webhookID string) int {
	_, id, err := queue.ParseWebhookID(webhookID)
	if err != nil {
		return -1
	}
	return (int(id.Position().Commit) - 0x2000) / 0x100
}

func upTo(from, to int) []int {
	out := make([]int, 0, to-from)
	for i := from; i < to; i++ {
		out = append(out, i)
	}
	return out
}

func (r *receiver) requests() []request {
	r.mu.Lock()
	defer r.mu.Unlock()
	return slices.Clone(r.lists)
}

func TestListsOfWhatIsThere(t *testing.T) {
	t.Parallel()
	r := queuetest.StartRedis(t)
	ep := endpoint.Endpoint{Name: "a", Batch: endpoint.Batching{Max: 50}}
	q := queuetest.Open(t, r, ep)
	queuetest.AppendEvents(t, q, 0, 220, 11, queuetest.KeyModulo(7))
	sink := newReceiver()
	_, stop := startDispatcher(t, q, sink, dispatch.Options{}, ep)
	sink.distinct(t, 220)
	queuetest.Drained(t, q, "a")
	stop()
	want := [][]int{upTo(0, 50), upTo(50, 100), upTo(100, 150), upTo(150, 200), upTo(200, 220)}
	if diff := cmp.Diff(want, numbers(sink.requests())); diff != "" {
		t.Error(diff)
	}
	if sink.peakOf("a") != 1 {
		t.Errorf("%d requests in flight, want 1", sink.peakOf("a"))
	}
}

func TestListWaitsForMore(t *testing.T) {
	t.Parallel()
	r := queuetest.StartRedis(t)
	const wait = 300 * time.Millisecond
	ep := endpoint.Endpoint{Name: "a", Batch: endpoint.Batching{Max: 10, Wait: wait}}
	q := queuetest.Open(t, r, ep)
	sink := newReceiver()
	d, _ := startDispatcher(t, q, sink, dispatch.Options{}, ep)
	queuetest.Eventually(t, "the streams to be read to their ends", func() bool { return d.Loaded() == 1 })
	start := time.Now()
	queuetest.AppendEvents(t, q, 0, 3, 1, queuetest.KeyModulo(3)) // not enough for a list: it waits
	sink.distinct(t, 3)
	if took := sink.requests()[0].at.Sub(start); took < wait {
		t.Errorf("a list of 3 was sent after %s, want %s or more", took, wait)
	}
	queuetest.Drained(t, q, "a")
	ep.Batch.Wait = time.Hour
	d.Update(queuetest.Endpoints(ep))
	queuetest.AppendEvents(t, q, 3, 13, 1, queuetest.KeyModulo(3)) // enough: it does not
	sink.distinct(t, 13)
	if diff := cmp.Diff([][]int{upTo(0, 3), upTo(3, 13)}, numbers(sink.requests())); diff != "" {
		t.Error(diff)
	}
}

// One bad event takes no good ones with it.
func TestListIsCutToFindTheEventAtFault(t *testing.T) {
	t.Parallel()
	at := func(o webhook.Outcome, w webhook.Wish) webhook.Outcome { o.Wish = w; return o }
	wrong := status(422)
	wrong.Kind = webhook.Refused
	for name, c := range map[string]struct {
		answer   webhook.Outcome
		lists    [][]int
		attempts int
		reason   string
	}{
		"refused": {
			answer: wrong, attempts: 3 + 3, reason: "the receiver has refused it: no success in 6 attempts",
			lists: [][]int{upTo(0, 8), upTo(0, 4), upTo(4, 8), {4, 5}, {4}, {5}, {5}, {5}, {6, 7}},
		},
		"exhausted": {
			answer: status(500), attempts: 3 + 3, reason: "no success in 6 attempts",
			lists: [][]int{upTo(0, 8), upTo(0, 8), upTo(0, 8), upTo(0, 4), upTo(4, 8), {4, 5}, {4}, {5}, {6, 7}},
		},
		"aborted": {
			answer: at(status(500), webhook.WishAbort), attempts: 4, reason: "the receiver asked not to repeat it (webhook-delivery: abort)",
			lists: [][]int{upTo(0, 8), upTo(0, 4), upTo(4, 8), {4, 5}, {4}, {5}, {6, 7}},
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			r := queuetest.StartRedis(t)
			ep := endpoint.Endpoint{Name: "a", Batch: endpoint.Batching{Max: 8}, Retry: ms(1, 1), RetryRefused: ms(1, 1)}
			q := queuetest.Open(t, r, ep)
			queuetest.AppendEvents(t, q, 0, 8, 8, queuetest.KeyModulo(3))
			sink := newReceiver()
			sink.answerList = func(_ context.Context, _ *endpoint.Endpoint, list []*webhook.Message, _ int) webhook.Outcome {
				if slices.ContainsFunc(list, func(m *webhook.Message) bool { return number(m.ID) == 5 }) {
					return c.answer
				}
				return delivered()
			}
			_, stop := startDispatcher(t, q, sink, dispatch.Options{}, ep)
			sink.distinct(t, 7)
			queuetest.Drained(t, q, "a")
			stop()
			if diff := cmp.Diff(c.lists, numbers(sink.requests())); diff != "" {
				t.Error(diff)
			}
			dead, err := q.Dead(t.Context(), "a", "", 10)
			if err != nil || len(dead) != 1 {
				t.Fatalf("%d dead letters, %v, want 1", len(dead), err)
			}
			if d := dead[0]; number(d.ID) != 5 || d.Attempts != c.attempts || d.Reason != c.reason {
				t.Errorf("event %d is dead after %d attempts: %q; want event 5 after %d: %q", number(d.ID), d.Attempts, d.Reason, c.attempts, c.reason)
			}
			if n := queuetest.Client(t, r).Exists(t.Context(), "gancho:{a}:rt", "gancho:{a}:at").Val(); n != 0 {
				t.Error("attempts of events that are done are still kept")
			}
		})
	}
}

func TestListEndsWithItsTransaction(t *testing.T) {
	t.Parallel()
	r := queuetest.StartRedis(t)
	ep := endpoint.Endpoint{Name: "a", Batch: endpoint.Batching{Max: 10, Wait: time.Hour, PerTransaction: true}}
	q := queuetest.Open(t, r, ep)
	sink := newReceiver()
	startDispatcher(t, q, sink, dispatch.Options{}, ep)
	b := q.NewBatch()
	for i, n := range []int{3, 1, 14, 2} { // events of each transaction
		for ordinal := range n {
			ev := queuetest.Event(i, "k")
			ev.Position = cdc.Position{Commit: cdc.LSN(queuetest.LSN(i)), Ordinal: uint64(ordinal)}
			if _, err := b.Add(ev); err != nil {
				t.Fatal(err)
			}
		}
	}
	if err := q.Append(t.Context(), b); err != nil {
		t.Fatal(err)
	}
	// Nobody knows yet that the last transaction is complete.
	sink.distinct(t, 3+1+14)
	want := "[[0 0 0] [1] [2 2 2 2 2 2 2 2 2 2] [2 2 2 2]]"
	if got := fmt.Sprint(numbers(sink.requests())); got != want {
		t.Errorf("got %s, want %s", got, want)
	}
}

// What is kept of a list's events in memory is bounded by its bytes, and so is
// the list.
func TestListIsBoundedByItsBytes(t *testing.T) {
	t.Parallel()
	r := queuetest.StartRedis(t)
	ep := endpoint.Endpoint{Name: "a", Batch: endpoint.Batching{Max: 1000}, Retry: ms(1)}
	q := queuetest.Open(t, r, ep)
	const size, total = 40_000, 300
	b := q.NewBatch()
	for i := range total {
		ev := queuetest.Event(i, "k")
		ev.Data = fmt.Appendf(nil, `{"text":%q}`, strings.Repeat("x", size))
		if _, err := b.Add(ev); err != nil {
			t.Fatal(err)
		}
		if b.Len() == 100 {
			if err := q.Append(t.Context(), b); err != nil {
				t.Fatal(err)
			}
			b.Reset()
		}
	}
	largest := 0
	sink := newReceiver()
	sink.answerList = func(_ context.Context, _ *endpoint.Endpoint, list []*webhook.Message, n int) webhook.Outcome {
		bytes := 0
		for _, m := range list {
			bytes += len(m.Data)
		}
		largest = max(largest, bytes)
		if n%3 == 0 {
			return status(500) // and read again
		}
		return delivered()
	}
	_, stop := startDispatcher(t, q, sink, dispatch.Options{}, ep)
	sink.distinct(t, total)
	queuetest.Drained(t, q, "a")
	stop()
	if limit := dispatch.DefaultWindowBytes / 2; largest > limit || largest < limit/2 {
		t.Errorf("the largest list had %d bytes, want at most %d, and half of that", largest, limit)
	}
	checkOrder(t, sink.list())
}

// A list that has failed is sent again as it is, and its first event carries
// the attempts: also to another process, which may make it longer.
func TestFailedListIsSentAgainAsItIs(t *testing.T) {
	t.Parallel()
	r := queuetest.StartRedis(t)
	ep := endpoint.Endpoint{Name: "a", Batch: endpoint.Batching{Max: 10}, Retry: []time.Duration{300 * time.Millisecond, time.Hour}}
	q := queuetest.Open(t, r, ep)
	queuetest.AppendEvents(t, q, 0, 5, 5, queuetest.KeyModulo(3))
	sink := newReceiver()
	sink.answerList = func(_ context.Context, _ *endpoint.Endpoint, _ []*webhook.Message, n int) webhook.Outcome {
		return status(500)
	}
	_, stop := startDispatcher(t, q, sink, dispatch.Options{}, ep)
	queuetest.Eventually(t, "the first request", func() bool { return len(sink.requests()) == 1 })
	queuetest.AppendEvents(t, q, 5, 8, 3, queuetest.KeyModulo(3))
	queuetest.Eventually(t, "the second", func() bool { return len(sink.requests()) == 2 })
	stop()
	rc := queuetest.Client(t, r)
	if k, ok := keptOf(t, rc, "a"); !ok || k.N != 2 || k.due.Sub(k.Last) < time.Hour-time.Millisecond {
		t.Errorf("kept %+v, %t", k, ok)
	}
	if n := rc.HLen(t.Context(), "gancho:{a}:at").Val(); n != 1 {
		t.Errorf("attempts of %d events are kept, want of the first", n)
	}
	pass(t, rc, "a", 2*time.Hour)
	var log []int
	observe := func(a dispatch.Attempt) { log = append(log, a.Number) }
	sink.answerList = nil
	_, stop = startDispatcher(t, queuetest.OpenOnly(t, r), sink, dispatch.Options{Observe: observe}, ep)
	queuetest.Drained(t, q, "a")
	stop()
	if diff := cmp.Diff([][]int{upTo(0, 5), upTo(0, 5), upTo(0, 8)}, numbers(sink.requests())); diff != "" {
		t.Error(diff)
	}
	if want := []int{3, 3, 3, 3, 3, 3, 3, 3}; !slices.Equal(log, want) {
		t.Errorf("attempts numbered %v, want %v", log, want)
	}
	if n := rc.Exists(t.Context(), "gancho:{a}:rt", "gancho:{a}:at").Val(); n != 0 {
		t.Error("attempts of events that are done are still kept")
	}
}

// What is sent again makes lists of its own, even while first deliveries wait
// for more.
func TestReplaysMakeListsOfTheirOwn(t *testing.T) {
	t.Parallel()
	r := queuetest.StartRedis(t)
	ep := endpoint.Endpoint{Name: "a", Batch: endpoint.Batching{Max: 4, Wait: time.Hour}}
	q := queuetest.Open(t, r, ep)
	queuetest.AppendEvents(t, q, 0, 3, 3, queuetest.KeyModulo(1)) // one too few: it waits
	replays := make([]webhook.Message, 6)
	for i := range replays {
		ev := queuetest.Event(100+i, "k0")
		id, err := queue.NewID(1, ev.Position, 0)
		if err != nil {
			t.Fatal(err)
		}
		replays[i] = webhook.Message{ID: id.WebhookID("00000000"), Type: ev.Type, Tenant: "1", Key: "k0", Time: ev.Time, Data: ev.Data}
	}
	if err := queuetest.Replay(t.Context(), q, "a", replays); err != nil {
		t.Fatal(err)
	}
	sink := newReceiver()
	startDispatcher(t, q, sink, dispatch.Options{}, ep)
	sink.distinct(t, 6)
	queuetest.AppendEvents(t, q, 3, 4, 1, queuetest.KeyModulo(1))
	sink.distinct(t, 10)
	if diff := cmp.Diff([][]int{upTo(100, 104), upTo(104, 106), upTo(0, 4)}, numbers(sink.requests())); diff != "" {
		t.Error(diff)
	}
}

func TestRedisKilledWhileListsAreDelivered(t *testing.T) {
	t.Parallel()
	r := queuetest.StartRedis(t)
	ep := endpoint.Endpoint{Name: "a", Batch: endpoint.Batching{Max: 30}, Retry: ms(1, 1, 1, 1, 1, 1, 1)}
	q := queuetest.Open(t, r, ep)
	sink := newReceiver()
	sink.answerList = func(_ context.Context, _ *endpoint.Endpoint, _ []*webhook.Message, n int) webhook.Outcome {
		if n%7 == 0 {
			return status(500)
		}
		return delivered()
	}
	_, stop := startDispatcher(t, q, sink, dispatch.Options{Lease: 2 * time.Second}, ep)
	const total, kills = 1800, 2
	c, stopCapture := startCapture(t, q, nil, total, 600, 1200)
	for k := range kills {
		c.after(t, 600*(k+1))
		r.Kill()
		if err := r.Start(); err != nil {
			t.Fatal(err)
		}
	}
	sink.distinct(t, total)
	queuetest.Drained(t, q, "a")
	stopCapture()
	stop()
	if repeats := checkOrder(t, sink.list()); repeats > kills*ep.Batch.Max {
		t.Errorf("%d repeats, want at most %d", repeats, kills*ep.Batch.Max)
	}
}
