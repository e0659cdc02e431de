package dispatch_test

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"gancho/delivery/dispatch"
	"gancho/delivery/endpoint"
	"gancho/delivery/queue"
	"gancho/delivery/queue/queuetest"
	"gancho/delivery/webhook"

	"github.com/google/go-cmp/cmp"
)

// appendAll appends events, each key or key/event name.
func appendAll(t *testing.T, q *queue.Queue, from int, events ...string) {
	t.Helper()
	b := q.NewBatch()
	for i, e := range events {
		key, name, named := strings.Cut(e, "/")
		ev := queuetest.Event(from+i, key)
		if named {
			ev.Type = name
		}
		if _, err := b.Add(ev); err != nil {
			t.Fatal(err)
		}
	}
	if err := q.Append(t.Context(), b); err != nil {
		t.Fatal(err)
	}
}

// ends are the numbers of the events that the log says have ended so, in the order of the events, with the number of the
// attempts that came before.
func ends(records []queue.LogRecord, outcome string) (out []string) {
	for _, l := range records {
		if l.Outcome == outcome {
			out = append(out, fmt.Sprintf("%02d after %d", number(l.WebhookID), l.Number))
		}
	}
	slices.Sort(out)
	return out
}

// arrived are the numbers of the events that have arrived, in order.
func (r *receiver) arrived() (out []int) {
	for _, a := range r.list() {
		out = append(out, number(a.id))
	}
	return out
}

// Of what waits when the endpoint begins, the newest of each key and name is sent, in order; what has no key is sent
// whole. The others are in the log, with their bodies, and counted.
func TestCompactSendsTheNewestOfAKey(t *testing.T) {
	t.Parallel()
	for name, ep := range map[string]endpoint.Endpoint{
		"key":      {Concurrency: 1},
		"endpoint": {Order: endpoint.OrderEndpoint},
		"batch":    {Batch: endpoint.Batching{Max: 3}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			r := queuetest.StartRedis(t)
			ep.Name, ep.Compact = "a", true
			q := queuetest.Open(t, r, ep)
			sink := newReceiver()
			appendAll(t, q, 0, "a", "b", "a/removed", "a", "", "b", "a", "", "c", "a/removed", "b")
			var counted atomic.Int64
			o := dispatch.Options{Log: true, KeepEvents: true, Superseded: func(string) { counted.Add(1) }}
			_, stop := startDispatcher(t, q, sink, o, ep)
			sink.distinct(t, 6)
			queuetest.Drained(t, q, "a")
			stop()
			got := sink.arrived()
			if ep.Order == endpoint.OrderKey && ep.Batch.Max == 0 {
				slices.Sort(got) // keys overtake each other
			}
			if diff := cmp.Diff([]int{4, 6, 7, 8, 9, 10}, got); diff != "" {
				t.Error(diff)
			}
			records, _ := logged(t, q, "a", 11)
			want := []string{"00 after 0", "01 after 0", "02 after 0", "03 after 0", "05 after 0"}
			if diff := cmp.Diff(want, ends(records, queue.OutcomeSuperseded)); diff != "" {
				t.Error(diff)
			}
			for _, l := range records {
				if l.Kept == nil {
					t.Errorf("%s, %s, is not kept", l.WebhookID, l.Outcome)
				}
			}
			at := queuetest.Event(0, "").Time
			fates, err := q.Fates(t.Context(), "a", []int64{at.Unix() / int64(queue.TallyInterval/time.Second)})
			if err != nil {
				t.Fatal(err)
			}
			sums := map[queue.Fate]int64{}
			for key, n := range fates {
				sums[key.Fate] += n
			}
			if diff := cmp.Diff(map[queue.Fate]int64{queue.FateDelivered: 6, queue.FateSuperseded: 5}, sums); diff != "" {
				t.Error(diff)
			}
			if counted.Load() != 5 {
				t.Errorf("%d are counted as superseded, want 5", counted.Load())
			}
		})
	}
}

// An event in flight is not superseded; those behind it are.
func TestCompactLeavesWhatIsInFlight(t *testing.T) {
	t.Parallel()
	r := queuetest.StartRedis(t)
	ep := endpoint.Endpoint{Name: "a", Compact: true}
	q := queuetest.Open(t, r, ep)
	sink := newReceiver()
	answer := make(chan struct{})
	sink.answer = func(context.Context, *endpoint.Endpoint, *webhook.Message, int) webhook.Outcome {
		<-answer
		return delivered()
	}
	d, stop := startDispatcher(t, q, sink, dispatch.Options{Log: true}, ep)
	queuetest.Eventually(t, "the streams to be read to their ends", func() bool { return d.Loaded() == 1 })
	appendAll(t, q, 0, "a")
	sink.distinct(t, 1)
	appendAll(t, q, 1, "a")
	appendAll(t, q, 2, "a")
	records, _ := logged(t, q, "a", 1)
	close(answer)
	sink.distinct(t, 2)
	queuetest.Drained(t, q, "a")
	stop()
	if diff := cmp.Diff([]string{"01 after 0"}, ends(records, queue.OutcomeSuperseded)); diff != "" {
		t.Error(diff)
	}
	if diff := cmp.Diff([]int{0, 2}, sink.arrived()); diff != "" {
		t.Error(diff)
	}
}

// An event that waits for its retry is superseded, whether the newer one came before its failure or after it, alone or
// in a list; the newer one is sent after the first wait, though the retry is an hour off.
func TestCompactSupersedesARetry(t *testing.T) {
	t.Parallel()
	const long = time.Hour
	for name, c := range map[string]struct {
		batch  int
		before bool // the newer one is there when the event fails
	}{
		"after the failure": {}, "before the failure": {before: true},
		"list, after the failure": {batch: 5}, "list, before the failure": {batch: 5, before: true},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			r := queuetest.StartRedis(t)
			ep := endpoint.Endpoint{Name: "a", Compact: true, Batch: endpoint.Batching{Max: c.batch}, Retry: []time.Duration{time.Millisecond, long}}
			q := queuetest.Open(t, r, ep)
			sink := newReceiver()
			fail := make(chan struct{}, 2)
			answer := func(first string) webhook.Outcome {
				if number(first) != 0 {
					return delivered()
				}
				<-fail
				return status(500)
			}
			sink.answer = func(_ context.Context, _ *endpoint.Endpoint, m *webhook.Message, _ int) webhook.Outcome {
				return answer(m.ID)
			}
			sink.answerList = func(_ context.Context, _ *endpoint.Endpoint, list []*webhook.Message, _ int) webhook.Outcome {
				return answer(list[0].ID)
			}
			d, stop := startDispatcher(t, q, sink, dispatch.Options{Log: true, KeepEvents: true}, ep)
			queuetest.Eventually(t, "the streams to be read to their ends", func() bool { return d.Loaded() == 1 })
			appendAll(t, q, 0, "a")
			fail <- struct{}{}
			queuetest.Eventually(t, "the second attempt", func() bool { return sink.count() == 2 })
			if c.before {
				appendAll(t, q, 1, "b", "a")
				fail <- struct{}{}
			} else {
				fail <- struct{}{}
				queuetest.Eventually(t, "two failures", func() bool { return statsOf(t, q, "a").Retrying == 1 && len(ends(logOf(t, q), "retry")) == 2 })
				appendAll(t, q, 1, "b", "a")
			}
			queuetest.Drained(t, q, "a")
			stop()
			records, _ := logged(t, q, "a", 5)
			if diff := cmp.Diff([]string{"00 after 2"}, ends(records, queue.OutcomeSuperseded)); diff != "" {
				t.Error(diff)
			}
			if diff := cmp.Diff([]string{"01 after 1", "02 after 1"}, ends(records, "delivered")); diff != "" {
				t.Error(diff)
			}
			if n := queuetest.Client(t, r).Exists(t.Context(), "gancho:{a}:rt", "gancho:{a}:at").Val(); n != 0 {
				t.Error("attempts of an event that is superseded are still kept")
			}
		})
	}
}

func logOf(t *testing.T, q *queue.Queue) (records []queue.LogRecord) {
	t.Helper()
	records, _ = logged(t, q, "a", 0)
	return records
}

// What somebody has sent again is sent, whatever waits.
func TestCompactLeavesReplays(t *testing.T) {
	t.Parallel()
	r := queuetest.StartRedis(t)
	ep := endpoint.Endpoint{Name: "a", Compact: true}
	q := queuetest.Open(t, r, ep)
	if err := queuetest.Replay(t.Context(), q, "a", keptFrom(t, 0, 6, queuetest.KeyModulo(2))); err != nil {
		t.Fatal(err)
	}
	sink := newReceiver()
	startDispatcher(t, q, sink, dispatch.Options{}, ep)
	sink.distinct(t, 6)
}

// Whatever is killed, and whatever end Redis loses, the last event of each key arrives, and last.
func TestCompactLosesNoNewestEvent(t *testing.T) {
	t.Parallel()
	for name, batch := range map[string]int{"single events": 0, "lists": 20} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			r := queuetest.StartRedis(t)
			ep := endpoint.Endpoint{Name: "a", Compact: true, Batch: endpoint.Batching{Max: batch}, Retry: ms(1, 1, 1, 1, 1, 1, 1, 1, 1)}
			q := queuetest.Open(t, r, ep)
			sink := newReceiver()
			var requests atomic.Int64
			answer := func() webhook.Outcome {
				if requests.Add(1)%5 == 0 {
					return status(500)
				}
				return delivered()
			}
			sink.answer = func(context.Context, *endpoint.Endpoint, *webhook.Message, int) webhook.Outcome { return answer() }
			sink.answerList = func(context.Context, *endpoint.Endpoint, []*webhook.Message, int) webhook.Outcome { return answer() }
			o := dispatch.Options{Lease: 2 * time.Second, Log: true, WindowEvents: 64}
			_, stop := startDispatcher(t, q, sink, o, ep)
			const total, kills = 4000, 4
			c, stopCapture := startCapture(t, q, r, total, 800, 1600, 2400, 3200)
			for k := range kills {
				c.after(t, (k+1)*total/(kills+1))
				r.Kill()
				truncateAOF(t, r, 0.7, c.durable.Load())
				if err := r.Start(); err != nil {
					t.Fatal(err)
				}
				if k%2 == 1 { // another owner
					stop()
					_, stop = startDispatcher(t, queuetest.OpenOnly(t, r), sink, o, ep)
				}
			}
			queuetest.Eventually(t, "all to be durable", func() bool { return c.confirmed.Newest() == queuetest.LSN(total-1) })
			queuetest.Drained(t, q, "a")
			stopCapture()
			stop()
			last := map[string]int{}
			for _, a := range sink.list() {
				last[a.key] = number(a.id)
			}
			for i := total - 17; i < total; i++ {
				if key := "1/" + queuetest.KeyModulo(17)(i); last[key] != i {
					t.Errorf("%s: the last one that arrived is %d, want %d", key, last[key], i)
				}
			}
			t.Logf("%d of %d arrived", len(sink.list()), total)
		})
	}
}
