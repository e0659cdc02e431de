package dispatch_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"gancho/delivery/dispatch"
	"gancho/delivery/endpoint"
	"gancho/delivery/queue"
	"gancho/delivery/queue/queuetest"
	"gancho/delivery/webhook"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	"github.com/redis/go-redis/v9"
)

func TestStats(t *testing.T) {
	t.Parallel()
	r := queuetest.StartRedis(t)
	eps := []endpoint.Endpoint{
		{Name: "idle"},
		{Name: "queued", State: endpoint.Paused},
		{Name: "gone"},
		{Name: "blocked", Retry: []time.Duration{}, OnExhausted: endpoint.Block, Events: []string{"cobranca.*"}},
		{Name: "dead", Retry: []time.Duration{}},
	}
	q := queuetest.Open(t, r, eps[1:]...)
	queuetest.AppendEvents(t, q, 0, 5, 5, queuetest.KeyModulo(5))
	if err := queuetest.Replay(t.Context(), q, "queued", keptFrom(t, 100, 107, queuetest.KeyModulo(2))); err != nil {
		t.Fatal(err)
	}
	sink := newReceiver()
	sink.answer = func(_ context.Context, ep *endpoint.Endpoint, m *webhook.Message, _ int) webhook.Outcome {
		switch {
		case ep.Name == "gone":
			o := status(410)
			o.Kind = webhook.Gone
			return o
		case m.Key == "k3":
			return status(404)
		}
		return delivered()
	}
	startDispatcher(t, q, sink, dispatch.Options{Log: true}, eps...)
	names := []string{"idle", "queued", "gone", "blocked", "dead", "unknown"}
	want := []queue.Stats{
		{Endpoint: "idle", Owned: true},
		{Endpoint: "queued", Owned: true, Backlog: 5, Oldest: queuetest.Event(0, "").Time, Replays: 7},
		{Endpoint: "gone", Owned: true, Backlog: 5, Oldest: queuetest.Event(0, "").Time, Suspension: queue.Suspension{Reason: "the receiver answered 410 Gone"}},
		{Endpoint: "blocked", Owned: true, Backlog: 1, Oldest: queuetest.Event(3, "").Time, Blocked: 1, LogRecords: 5},
		{Endpoint: "dead", Owned: true, Dead: 1, LogRecords: 5},
		{Endpoint: "unknown"},
	}
	var diff string
	look := func() bool {
		got, err := q.Stats(t.Context(), names)
		if err != nil {
			t.Fatal(err)
		}
		diff = cmp.Diff(want, got, cmpopts.IgnoreFields(queue.Stats{}, "LogEntries", "Failing", "Bytes"), cmp.FilterPath(func(p cmp.Path) bool {
			return p.Last().String() == ".Since" || p.Last().String() == ".LogRecords" && p.Index(1).String() == "[2]"
		}, cmp.Ignore()))
		return diff == ""
	}
	defer func() {
		if t.Failed() {
			t.Errorf("stats (-want +got):\n%s", diff)
		}
	}()
	queuetest.Eventually(t, "the endpoints to be as they should", look)
	// A server that was restarted has forgotten the script.
	if err := queuetest.Client(t, r).ScriptFlush(t.Context()).Err(); err != nil {
		t.Fatal(err)
	}
	if !look() {
		t.Error("the script is not known any more")
	}
	if none, err := q.Stats(t.Context(), nil); none != nil || err != nil {
		t.Errorf("of no endpoints: %v, %v", none, err)
	}
}

// One round trip is enough for a thousand endpoints.
func TestStatsOfAThousandEndpoints(t *testing.T) {
	t.Parallel()
	r := queuetest.StartRedis(t)
	eps := endpoints(1000)
	q := queuetest.Open(t, r, eps...)
	queuetest.AppendEvents(t, q, 0, 3, 3, queuetest.KeyModulo(3))
	names := make([]string, len(eps))
	for i := range eps {
		names[i] = eps[i].Name
	}
	if _, err := q.Stats(t.Context(), names); err != nil {
		t.Fatal(err)
	}
	client := queuetest.Client(t, r)
	calls := func() int64 {
		var n int64
		if _, err := fmt.Sscanf(client.InfoMap(t.Context(), "stats").Item("Stats", "total_reads_processed"), "%d", &n); err != nil {
			t.Fatal(err)
		}
		return n
	}
	before, start := calls(), time.Now()
	all, err := q.Stats(t.Context(), names)
	took, reads := time.Since(start), calls()-before
	if err != nil {
		t.Fatal(err)
	}
	if slices.ContainsFunc(all, func(s queue.Stats) bool { return s.Backlog != 3 }) {
		t.Error("some endpoints have another backlog than 3")
	}
	t.Logf("%s, %d reads by Redis", took, reads)
	if reads > 100 { // a read takes up to 16 KiB or more of what was sent together
		t.Errorf("Redis has read %d times from its connections: not one round trip", reads)
	}
}

// Dropping leaves nothing, and waits until nobody delivers any more.
func TestDrop(t *testing.T) {
	t.Parallel()
	r := queuetest.StartRedis(t)
	ep := endpoint.Endpoint{Name: "a", Retry: []time.Duration{time.Hour}}
	gone := endpoint.Endpoint{Name: "b"}
	q := queuetest.Open(t, r, ep, gone)
	sink := newReceiver()
	sink.answer = func(_ context.Context, _ *endpoint.Endpoint, m *webhook.Message, n int) webhook.Outcome {
		switch {
		case m.Key == "k1":
			return status(500)
		case m.Key == "k2":
			o := status(410)
			o.Kind = webhook.Gone
			return o
		}
		return delivered()
	}
	queuetest.AppendEvents(t, q, 0, 9, 9, queuetest.KeyModulo(3))
	if err := queuetest.Replay(t.Context(), q, "a", keptFrom(t, 100, 103, queuetest.KeyModulo(1))); err != nil {
		t.Fatal(err)
	}
	d, _ := startDispatcher(t, q, sink, dispatch.Options{Log: true}, ep, gone)
	client := queuetest.Client(t, r)
	queuetest.Eventually(t, "a suspension", func() bool { return statsOf(t, q, "a").Reason != "" })
	if err := q.Drop(t.Context(), "a"); !errors.Is(err, queue.ErrBusy) {
		t.Fatalf("drop while a process delivers: %v, want ErrBusy", err)
	}
	q.Update(queuetest.Endpoints(gone))
	d.Update(queuetest.Endpoints(gone))
	queuetest.Eventually(t, "the lease to be given back", func() bool {
		err := q.Drop(t.Context(), "a")
		if err != nil && !errors.Is(err, queue.ErrBusy) {
			t.Fatal(err)
		}
		return err == nil
	})
	if diff := cmp.Diff([]string{"gancho:{a}:fence"}, leftOf(t, client)); diff != "" {
		t.Errorf("what is left (-want +got):\n%s", diff)
	}
	if ttl := client.PTTL(t.Context(), "gancho:{a}:fence").Val(); ttl <= 0 || ttl > 24*time.Hour {
		t.Errorf("the fence stays for %s", ttl)
	}
	if n := statsOf(t, q, "b").Backlog; n == 0 {
		t.Error("the other endpoint's queue is empty, too")
	}
	if err := q.Drop(t.Context(), "a"); err != nil {
		t.Errorf("drop again: %v", err)
	}

	// An endpoint of the same name starts empty.
	eps := []endpoint.Endpoint{{Name: "a"}, gone}
	q.Update(queuetest.Endpoints(eps...))
	d.Update(queuetest.Endpoints(eps...))
	queuetest.AppendEvents(t, q, 50, 52, 2, queuetest.KeyModulo(1))
	sink.until(t, "events of the new endpoint", func(all []arrival) bool {
		n := 0
		for _, a := range all {
			if a.endpoint == "a" && (a.data == string(queuetest.Event(50, "k0").Data) || a.data == string(queuetest.Event(51, "k0").Data)) {
				n++
			}
		}
		return n == 2
	})
}

// leftOf returns the keys of endpoint a without what was counted of its events, which expires.
func leftOf(t *testing.T, client *redis.Client) []string {
	t.Helper()
	return slices.DeleteFunc(client.Keys(t.Context(), "gancho:{a}:*").Val(), func(key string) bool {
		return strings.HasPrefix(key, "gancho:{a}:tally:") && client.PTTL(t.Context(), key).Val() > 0
	})
}

// An owner that was stopped while its endpoint was dropped cannot come back.
func TestDropKeepsAStoppedOwnerOut(t *testing.T) {
	t.Parallel()
	r := queuetest.StartRedis(t)
	ep := endpoint.Endpoint{Name: "a"}
	q := queuetest.Open(t, r, ep)
	client := queuetest.Client(t, r)
	sink := newReceiver()
	finish := make(chan struct{})
	sink.answer = func(ctx context.Context, _ *endpoint.Endpoint, _ *webhook.Message, _ int) webhook.Outcome {
		if !opened(ctx, finish) {
			return canceled()
		}
		return status(500)
	}
	queuetest.AppendEvents(t, q, 0, 1, 1, queuetest.KeyModulo(1))
	_, stop := startDispatcher(t, q, sink, dispatch.Options{Lease: time.Hour, Log: true}, ep)
	sink.until(t, "the request", func(all []arrival) bool { return len(all) == 1 })
	queuetest.Eventually(t, "the drop", func() bool {
		client.Del(t.Context(), "gancho:leases") // it has expired; a renewal may be under way
		err := q.Drop(t.Context(), "a")
		if err != nil && !errors.Is(err, queue.ErrBusy) {
			t.Fatal(err)
		}
		return err == nil
	})
	close(finish)
	stop()
	if diff := cmp.Diff([]string{"gancho:{a}:fence"}, leftOf(t, client)); diff != "" {
		t.Errorf("what is there (-want +got):\n%s", diff)
	}
	if v := client.Get(t.Context(), "gancho:{a}:fence").Val(); v != "dropped" {
		t.Errorf("the fence is %q", v)
	}
}
