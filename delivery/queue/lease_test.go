package queue_test

import (
	"testing"
	"time"

	"gancho/delivery/queue"
	"gancho/delivery/queue/queuetest"

	"github.com/redis/go-redis/v9"
)

// leases are two workers of one queue, and what they must have in common.
type leases struct {
	*testing.T
	client *redis.Client
	queues [2]*queue.Queue
	of     [2]*queue.Worker
}

func newLeases(t *testing.T) *leases {
	t.Helper()
	r := queuetest.StartRedis(t)
	l := &leases{T: t, client: queuetest.Client(t, r)}
	for i := range l.of {
		l.queues[i] = queuetest.OpenOnly(t, r)
		l.of[i] = l.queues[i].Worker()
	}
	return l
}

const leaseTime = time.Hour

func (l *leases) acquire(worker int, endpoint string, want bool) *queue.Owner {
	l.Helper()
	owners, err := l.of[worker].Acquire(l.Context(), leaseTime, []string{endpoint})
	if err != nil || (owners[0] != nil) != want {
		l.Errorf("worker %d acquired %s: %v, %v, want %v", worker, endpoint, owners[0] != nil, err, want)
	}
	return owners[0]
}

func (l *leases) renew(worker int, o *queue.Owner, inspect bool) queue.Standing {
	l.Helper()
	s, err := l.of[worker].Renew(l.Context(), leaseTime, []queue.Renewal{{Owner: o}}, inspect)
	if err != nil {
		l.Fatal(err)
	}
	return s[0]
}

// expire has all leases expire.
func (l *leases) expire() {
	l.Helper()
	for _, member := range l.client.ZRange(l.Context(), "gancho:leases", 0, -1).Val() {
		if err := l.client.ZAdd(l.Context(), "gancho:leases", redis.Z{Score: 1, Member: member}).Err(); err != nil {
			l.Fatal(err)
		}
	}
}

func (l *leases) writes(o *queue.Owner) bool {
	l.Helper()
	r := &queue.Results{}
	r.Hold(time.UnixMilli(1))
	owned, err := o.Write(l.Context(), r)
	if err != nil {
		l.Fatal(err)
	}
	return owned
}

func TestLeaseIsExclusive(t *testing.T) {
	t.Parallel()
	l := newLeases(t)
	o := l.acquire(0, "a", true)
	l.acquire(1, "a", false)
	if free, err := l.of[1].Free(t.Context(), []string{"a", "b"}); err != nil || free[0] || !free[1] {
		t.Errorf("free: %v, %v, want b only", free, err)
	}
	if s := l.renew(0, o, false); !s.Owned || !s.Inspected {
		t.Errorf("the first renewal returned %+v, want owned and inspected", s)
	}
	if n, err := l.of[0].Heartbeat(t.Context(), leaseTime); n != 1 || err != nil {
		t.Errorf("%d processes, %v, want 1", n, err)
	}
	if n, err := l.of[1].Heartbeat(t.Context(), leaseTime); n != 2 || err != nil {
		t.Errorf("%d processes, %v, want 2", n, err)
	}
	if s := l.renew(0, o, false); !s.Owned || s.Inspected {
		t.Errorf("the second renewal returned %+v, want owned and not inspected", s)
	}
	if err := o.Release(t.Context()); err != nil {
		t.Fatal(err)
	}
	if s := l.renew(0, o, false); s.Owned {
		t.Error("a lease was renewed after it was released")
	}
	l.acquire(1, "a", true)
}

// An expired lease is its owner's until somebody takes it; then the owner is
// stale, and writes nothing.
func TestLeaseExpires(t *testing.T) {
	t.Parallel()
	l := newLeases(t)
	stale := l.acquire(0, "a", true)
	l.renew(0, stale, true)
	l.expire()
	if free, err := l.of[1].Free(t.Context(), []string{"a"}); err != nil || !free[0] {
		t.Errorf("free: %v, %v, want true", free, err)
	}
	if s := l.renew(0, stale, false); !s.Owned {
		t.Error("an expired lease that nobody took was not renewed")
	}
	l.acquire(1, "a", false)
	l.expire()
	o := l.acquire(1, "a", true)
	if s := l.renew(0, stale, false); s.Owned {
		t.Error("a lease was renewed that another process has taken")
	}
	if l.writes(stale) || !l.writes(o) {
		t.Error("the stale owner wrote, or the owner did not")
	}
	// Redis has lost the leases, or all of it.
	for _, keys := range [][]string{{"gancho:leases"}, {"gancho:leases", "gancho:{a}:fence"}} {
		if err := l.client.Del(t.Context(), keys...).Err(); err != nil {
			t.Fatal(err)
		}
		if s := l.renew(1, o, false); !s.Owned || !l.writes(o) {
			t.Errorf("%v were lost, and with them the lease", keys)
		}
	}
}

// While Redis is full, deliveries are what makes room: leases work on.
func TestLeasesOnAFullRedis(t *testing.T) {
	t.Parallel()
	l := newLeases(t)
	o := l.acquire(0, "a", true)
	l.renew(0, o, true)
	if _, err := l.of[0].Heartbeat(t.Context(), leaseTime); err != nil {
		t.Fatal(err)
	}
	if err := l.client.ConfigSet(t.Context(), "maxmemory", "1").Err(); err != nil {
		t.Fatal(err)
	}
	for _, inspect := range []bool{false, true} {
		if s := l.renew(0, o, inspect); !s.Owned || s.Inspected != inspect {
			t.Errorf("inspect %v: got %+v", inspect, s)
		}
	}
	if n, err := l.of[1].Heartbeat(t.Context(), leaseTime); n != 2 || err != nil {
		t.Errorf("%d processes, %v, want 2", n, err)
	}
	l.acquire(1, "b", true)
	if !l.writes(o) {
		t.Error("the owner cannot write")
	}
	if err := o.Release(t.Context()); err != nil {
		t.Error(err)
	}
}

// A process of a version that had a key for each lease keeps its endpoints.
func TestLeaseOfAnOlderVersion(t *testing.T) {
	t.Parallel()
	l := newLeases(t)
	if err := l.client.Set(t.Context(), "gancho:{a}:lease", "old-1", leaseTime).Err(); err != nil {
		t.Fatal(err)
	}
	l.acquire(0, "a", false)
	if free, err := l.of[0].Free(t.Context(), []string{"a"}); err != nil || free[0] {
		t.Errorf("free: %v, %v, want false", free, err)
	}
	if err := l.client.Del(t.Context(), "gancho:{a}:lease").Err(); err != nil {
		t.Fatal(err)
	}
	l.acquire(0, "a", true)
}
