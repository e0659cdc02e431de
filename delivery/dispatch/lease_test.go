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
)

func endpoints(n int) []endpoint.Endpoint {
	out := make([]endpoint.Endpoint, n)
	for i := range out {
		out[i] = endpoint.Endpoint{Name: fmt.Sprint("e", i)}
	}
	return out
}

func TestProcessesShareEndpointsAndTakeOver(t *testing.T) {
	t.Parallel()
	r := queuetest.StartRedis(t)
	eps := endpoints(7)
	q := queuetest.Open(t, r, eps...)
	c := queuetest.Client(t, r)
	owners := func() map[string]int {
		out := map[string]int{}
		for _, member := range c.ZRange(t.Context(), "gancho:leases", 0, -1).Val() {
			if process, _, claim := strings.Cut(member, "-"); claim {
				out[process]++
			}
		}
		return out
	}
	one, two := newReceiver(), newReceiver()
	o := dispatch.Options{Lease: 600 * time.Millisecond}
	startDispatcher(t, q, one, o, eps...)
	queuetest.Eventually(t, "one process to have all", func() bool { n := owners(); return len(n) == 1 && sum(n) == 7 })
	q2 := queuetest.OpenOnly(t, r, eps...)
	_, stop2 := startDispatcher(t, q2, two, o, eps...)
	queuetest.Eventually(t, "two processes to share", func() bool {
		n := owners()
		if len(n) != 2 || sum(n) != 7 {
			return false
		}
		for _, v := range n {
			if v < 3 {
				return false
			}
		}
		return true
	})
	queuetest.AppendEvents(t, q, 0, 100, 10, queuetest.KeyModulo(5))
	queuetest.Eventually(t, "all to arrive", func() bool { return len(one.list())+len(two.list()) == 700 })
	if len(two.list()) == 0 {
		t.Error("the second process got nothing")
	}
	stop2()
	queuetest.Eventually(t, "the first to have all again", func() bool { n := owners(); return len(n) == 1 && sum(n) == 7 })
	queuetest.AppendEvents(t, q, 100, 200, 10, queuetest.KeyModulo(5))
	queuetest.Eventually(t, "all to arrive", func() bool { return len(one.list())+len(two.list()) == 1400 })
}

// Who gives many leases back wakes the others once for those that go together: each time they inspect everything that they have.
func TestReleasesWakeTheOthersTogether(t *testing.T) {
	t.Parallel()
	const n = 100
	r := queuetest.StartRedis(t)
	eps := endpoints(n)
	q := queuetest.Open(t, r, eps...)
	d, stop := startDispatcher(t, q, newReceiver(), dispatch.Options{}, eps...)
	queuetest.Eventually(t, "all to be had", func() bool { return d.Loaded() == n })
	published := func() int { return queuetest.Calls(t, queuetest.Client(t, r))["publish"] }
	before := published()
	stop()
	if wakes := published() - before; wakes < 1 || wakes > n/5 {
		t.Errorf("the others were woken %d times for %d leases", wakes, n)
	}
}

func sum(m map[string]int) (n int) {
	for _, v := range m {
		n += v
	}
	return n
}

func (r *receiver) list() []arrival {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.arrivals
}

// A stale owner, one that was stopped and comes back: what it writes is refused.
func TestFenceKeepsLateResultsOut(t *testing.T) {
	t.Parallel()
	r := queuetest.StartRedis(t)
	ep := endpoint.Endpoint{Name: "a", Retry: []time.Duration{time.Hour}}
	q := queuetest.Open(t, r, ep)
	queuetest.AppendEvents(t, q, 0, 1, 1, queuetest.KeyModulo(1))
	old := newReceiver()
	finish := make(chan struct{})
	old.answer = func(context.Context, *endpoint.Endpoint, *webhook.Message, int) webhook.Outcome {
		<-finish
		return status(400) // would schedule a retry in an hour
	}
	startDispatcher(t, q, old, dispatch.Options{Lease: time.Hour}, ep)
	old.until(t, "the request", func(all []arrival) bool { return len(all) == 1 })
	c := queuetest.Client(t, r)
	// Its lease has expired, and a third process has had the endpoint since.
	if err := c.Set(t.Context(), "gancho:{a}:lease", "third-1", 100*time.Millisecond).Err(); err != nil {
		t.Fatal(err)
	}
	if err := c.Set(t.Context(), "gancho:{a}:fence", "third-1", 0).Err(); err != nil {
		t.Fatal(err)
	}
	young := newReceiver()
	begin := make(chan struct{})
	young.answer = func(context.Context, *endpoint.Endpoint, *webhook.Message, int) webhook.Outcome {
		<-begin
		return delivered()
	}
	startDispatcher(t, queuetest.OpenOnly(t, r), young, dispatch.Options{Lease: 300 * time.Millisecond}, ep)
	young.until(t, "the request of the new owner", func(all []arrival) bool { return len(all) == 1 })
	close(finish)
	queuetest.AppendEvents(t, q, 1, 2, 1, queuetest.KeyModulo(1))
	close(begin)
	young.distinct(t, 2)
	queuetest.Drained(t, q, "a")
	if n := c.Exists(t.Context(), "gancho:{a}:rt", "gancho:{a}:at").Val(); n != 0 {
		t.Error("the old owner has scheduled a retry")
	}
	if n := len(old.list()); n != 1 {
		t.Errorf("the old owner has sent %d requests, want 1", n)
	}
}

// A process dies without giving anything back.
func TestTakeOverFromTheDead(t *testing.T) {
	t.Parallel()
	r := queuetest.StartRedis(t)
	ep := endpoint.Endpoint{Name: "a"}
	q := queuetest.Open(t, r, ep)
	c := queuetest.Client(t, r)
	const lease = 700 * time.Millisecond
	// All that is left of it is its registration and its lease.
	start := time.Now()
	expires := c.Time(t.Context()).Val().Add(lease).UnixMilli()
	if err := c.Do(t.Context(), "ZADD", "gancho:leases", expires, "dead", expires, "dead-1").Err(); err != nil {
		t.Fatal(err)
	}
	if err := c.Set(t.Context(), "gancho:{a}:fence", "dead-1", 0).Err(); err != nil {
		t.Fatal(err)
	}
	queuetest.AppendEvents(t, q, 0, 10, 10, queuetest.KeyModulo(2))
	sink := newReceiver()
	startDispatcher(t, q, sink, dispatch.Options{Lease: lease}, ep)
	all := sink.distinct(t, 10)
	checkOrder(t, all)
	if wait := all[0].at.Sub(start); wait < lease-time.Millisecond { // Redis expires by the millisecond
		t.Errorf("taken over after %s, when the lease of %s had not expired", wait, lease)
	}
	// While there are other processes, each round counts them.
	if n := queuetest.Calls(t, c)["zremrangebyscore"]; n > 9 {
		t.Errorf("taken over after %d rounds, of which a lease has three", n)
	}
}

// Appending in one process wakes the couriers of another immediately.
func TestOtherProcessesAreWoken(t *testing.T) {
	t.Parallel()
	r := queuetest.StartRedis(t)
	ep := endpoint.Endpoint{Name: "a"}
	q := queuetest.Open(t, r, ep)
	sink := newReceiver()
	startDispatcher(t, queuetest.OpenOnly(t, r), sink, dispatch.Options{Lease: time.Hour}, ep)
	c := queuetest.Client(t, r)
	queuetest.Eventually(t, "the subscription", func() bool { return c.PubSubNumSub(t.Context(), "gancho:wake").Val()["gancho:wake"] == 1 })
	queuetest.Eventually(t, "the lease", func() bool { return queuetest.Owned(t, q, "a") })
	for i := range 20 {
		queuetest.AppendEvents(t, q, i, i+1, 1, queuetest.KeyModulo(1))
		sink.distinct(t, i+1)
	}
}

// What the process appends itself is delivered without being read from Redis.
func TestOwnAppendsAreNotRead(t *testing.T) {
	t.Parallel()
	r := queuetest.StartRedis(t)
	ep := endpoint.Endpoint{Name: "a"}
	q := queuetest.Open(t, r, ep)
	sink := newReceiver()
	d, _ := startDispatcher(t, q, sink, dispatch.Options{Lease: time.Hour}, ep)
	queuetest.AppendEvents(t, q, 0, 1, 1, queuetest.KeyModulo(50)) // the first is read: the streams were empty
	sink.distinct(t, 1)
	queuetest.Eventually(t, "the streams to be read to their ends", func() bool { return d.Loaded() == 1 })
	c := queuetest.Client(t, r)
	const events = 100
	before := commandCalls(t, c, "xrange")
	for i := range events {
		queuetest.AppendEvents(t, q, 1+i, 2+i, 1, queuetest.KeyModulo(50))
		sink.distinct(t, 2+i)
	}
	// The lease is renewed when the subscription is there, which reads a little.
	if reads := commandCalls(t, c, "xrange") - before; reads > events/4 {
		t.Errorf("%d reads for %d events", reads, events)
	}
}

// An endpoint that the other processes do not know is delivered to, even by a
// process that has its share.
func TestEndpointThatOthersDoNotKnow(t *testing.T) {
	t.Parallel()
	r := queuetest.StartRedis(t)
	eps := endpoints(4)
	q := queuetest.Open(t, r, eps...)
	o := dispatch.Options{Lease: 300 * time.Millisecond}
	all, none := newReceiver(), newReceiver()
	startDispatcher(t, queuetest.OpenOnly(t, r), none, o)
	startDispatcher(t, q, all, o, eps...)
	queuetest.AppendEvents(t, q, 0, 10, 10, queuetest.KeyModulo(5))
	all.distinct(t, 40)
}

// A key of another program concerns its endpoint alone: the others keep their leases.
func TestForeignKeyStopsNoOtherEndpoint(t *testing.T) {
	t.Parallel()
	r := queuetest.StartRedis(t)
	c := queuetest.Client(t, r)
	if err := c.Set(t.Context(), "gancho:{a}:x", "not a stream", 0).Err(); err != nil {
		t.Fatal(err)
	}
	eps := []endpoint.Endpoint{{Name: "a"}, {Name: "b"}}
	q := queuetest.Open(t, r, eps...)
	sink := newReceiver()
	startDispatcher(t, q, sink, dispatch.Options{Lease: 300 * time.Millisecond}, eps...)
	arrivedAtB := func(n int) {
		sink.until(t, "the events at b", func(all []arrival) bool {
			at := 0
			for _, a := range all {
				if a.endpoint == "b" {
					at++
				}
			}
			return at == n
		})
	}
	queuetest.AppendEvents(t, q, 0, 1, 1, queuetest.KeyModulo(1))
	arrivedAtB(1)
	renewed := queuetest.Calls(t, c)["zadd"]
	queuetest.Eventually(t, "several leases' time", func() bool { return queuetest.Calls(t, c)["zadd"] >= renewed+12 })
	queuetest.AppendEvents(t, q, 1, 2, 1, queuetest.KeyModulo(1))
	arrivedAtB(2)
}
