package delivery_test

import (
	"context"
	"fmt"
	"testing"
	"time"

	"gancho/delivery"
)

func endpoints(n int) []delivery.Endpoint {
	out := make([]delivery.Endpoint, n)
	for i := range out {
		out[i] = delivery.Endpoint{Name: fmt.Sprint("e", i)}
	}
	return out
}

func TestProcessesShareEndpointsAndTakeOver(t *testing.T) {
	t.Parallel()
	r := startRedis(t)
	eps := endpoints(7)
	q := openQueue(t, r, eps...)
	c := redisClient(t, r)
	keys := make([]string, len(eps))
	for i, ep := range eps {
		keys[i] = "gancho:{" + ep.Name + "}:lease"
	}
	owners := func() map[string]int {
		out := map[string]int{}
		for _, v := range c.MGet(t.Context(), keys...).Val() {
			if s, ok := v.(string); ok {
				out[s[:16]]++
			}
		}
		return out
	}
	one, two := newReceiver(), newReceiver()
	o := delivery.DispatcherOptions{Lease: 600 * time.Millisecond}
	dispatch(t, q, one, o, eps...)
	eventually(t, "one process to have all", func() bool { n := owners(); return len(n) == 1 && sum(n) == 7 })
	q2 := openOnly(t, r, eps...)
	_, stop2 := dispatch(t, q2, two, o, eps...)
	eventually(t, "two processes to share", func() bool {
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
	appendEvents(t, q, 0, 100, 10, keyModulo(5))
	eventually(t, "all to arrive", func() bool { return len(one.list())+len(two.list()) == 700 })
	if len(two.list()) == 0 {
		t.Error("the second process got nothing")
	}
	stop2()
	eventually(t, "the first to have all again", func() bool { n := owners(); return len(n) == 1 && sum(n) == 7 })
	appendEvents(t, q, 100, 200, 10, keyModulo(5))
	eventually(t, "all to arrive", func() bool { return len(one.list())+len(two.list()) == 1400 })
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

// A process that is cut off from Redis stands for one that is stopped and
// comes back: what it does then is refused.
func TestFenceKeepsLateResultsOut(t *testing.T) {
	t.Parallel()
	r := startRedis(t)
	ep := delivery.Endpoint{Name: "a", Retry: []time.Duration{time.Hour}}
	q := openQueue(t, r, ep)
	appendEvents(t, q, 0, 1, 1, keyModulo(1))
	old := newReceiver()
	finish := make(chan struct{})
	old.answer = func(context.Context, *delivery.Endpoint, *delivery.Message, int) delivery.Outcome {
		<-finish
		return status(400) // would schedule a retry in an hour
	}
	dispatch(t, q, old, delivery.DispatcherOptions{Lease: time.Hour}, ep)
	old.until(t, "the request", func(all []arrival) bool { return len(all) == 1 })
	c := redisClient(t, r)
	// Its lease has expired, and a third process has had the endpoint since.
	if err := c.Set(t.Context(), "gancho:{a}:lease", "third-1", 100*time.Millisecond).Err(); err != nil {
		t.Fatal(err)
	}
	if err := c.Set(t.Context(), "gancho:{a}:fence", "third-1", 0).Err(); err != nil {
		t.Fatal(err)
	}
	young := newReceiver()
	begin := make(chan struct{})
	young.answer = func(context.Context, *delivery.Endpoint, *delivery.Message, int) delivery.Outcome {
		<-begin
		return delivered()
	}
	dispatch(t, openOnly(t, r), young, delivery.DispatcherOptions{Lease: 300 * time.Millisecond}, ep)
	young.until(t, "the request of the new owner", func(all []arrival) bool { return len(all) == 1 })
	close(finish)
	appendEvents(t, q, 1, 2, 1, keyModulo(1))
	close(begin)
	young.distinct(t, 2)
	drained(t, q, "a")
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
	r := startRedis(t)
	ep := delivery.Endpoint{Name: "a"}
	q := openQueue(t, r, ep)
	c := redisClient(t, r)
	const lease = 700 * time.Millisecond
	// All that is left of it is its registration and its lease.
	now := c.Time(t.Context()).Val().UnixMilli()
	if err := c.Do(t.Context(), "ZADD", "gancho:workers", now, "dead").Err(); err != nil {
		t.Fatal(err)
	}
	if err := c.Set(t.Context(), "gancho:{a}:lease", "dead-1", lease).Err(); err != nil {
		t.Fatal(err)
	}
	if err := c.Set(t.Context(), "gancho:{a}:fence", "dead-1", 0).Err(); err != nil {
		t.Fatal(err)
	}
	appendEvents(t, q, 0, 10, 10, keyModulo(2))
	start := time.Now()
	sink := newReceiver()
	dispatch(t, q, sink, delivery.DispatcherOptions{Lease: lease}, ep)
	all := sink.distinct(t, 10)
	checkOrder(t, all)
	if wait := all[0].at.Sub(start); wait > 3*lease {
		t.Errorf("taken over after %s, want within the lease of %s and a look", wait, lease)
	}
}

// Appending in one process wakes the deliverers of another at once.
func TestOtherProcessesAreWoken(t *testing.T) {
	t.Parallel()
	r := startRedis(t)
	ep := delivery.Endpoint{Name: "a"}
	q := openQueue(t, r, ep)
	sink := newReceiver()
	dispatch(t, openOnly(t, r), sink, delivery.DispatcherOptions{Lease: time.Hour}, ep)
	c := redisClient(t, r)
	eventually(t, "the subscription", func() bool { return c.PubSubNumSub(t.Context(), "gancho:wake").Val()["gancho:wake"] == 1 })
	eventually(t, "the lease", func() bool { return c.Exists(t.Context(), "gancho:{a}:lease").Val() == 1 })
	for i := range 20 {
		appendEvents(t, q, i, i+1, 1, keyModulo(1))
		sink.distinct(t, i+1)
	}
}

// No poll is between an append and its delivery: here there is none for an hour.
func TestCommitToArrivalWithinTheProcess(t *testing.T) {
	t.Parallel()
	r := startRedis(t)
	ep := delivery.Endpoint{Name: "a"}
	q := openQueue(t, r, ep)
	sink := newReceiver()
	dispatch(t, q, sink, delivery.DispatcherOptions{Lease: time.Hour}, ep)
	var appends, arrivals time.Duration
	for i := range 50 {
		start := time.Now()
		appendEvents(t, q, i, i+1, 1, keyModulo(50))
		appends += time.Since(start)
		all := sink.distinct(t, i+1)
		arrivals += all[i].at.Sub(start)
	}
	// A delivery is a read of Redis after the append. A wait for anything else,
	// such as a poll, would be many times an append.
	const ratio = 20
	if arrivals > ratio*appends {
		t.Errorf("arrivals take %s on average, more than %d times an append's %s", arrivals/50, ratio, appends/50)
	}
}

// An endpoint that the other processes do not know is delivered to, even by a
// process that has its share.
func TestEndpointThatOthersDoNotKnow(t *testing.T) {
	t.Parallel()
	r := startRedis(t)
	eps := endpoints(4)
	q := openQueue(t, r, eps...)
	o := delivery.DispatcherOptions{Lease: 300 * time.Millisecond}
	all, none := newReceiver(), newReceiver()
	dispatch(t, openOnly(t, r), none, o)
	dispatch(t, q, all, o, eps...)
	appendEvents(t, q, 0, 10, 10, keyModulo(5))
	all.distinct(t, 40)
}
