package queue_test

import (
	"testing"
	"time"

	"gancho/delivery/queue"
	"gancho/delivery/queue/queuetest"
	"gancho/internal/testservers"
)

// TestLeasesWhenClockIsSetBack: the clock of Redis is set back by an hour after a process has taken an endpoint. It keeps it while it renews its
// lease, and others get it half a minute after it has died, not in an hour, when it is no longer counted either.
func TestLeasesWhenClockIsSetBack(t *testing.T) {
	t.Parallel()
	clock, r := testservers.NewClock(t), queuetest.StartRedis(t)
	for name, value := range clock.Environment() {
		r.Setenv(name, value)
	}
	r.Kill()
	if err := r.Start(); err != nil {
		t.Fatal(err)
	}
	set := func(ahead time.Duration) {
		t.Helper()
		if err := clock.Set(ahead); err != nil {
			t.Fatal(err)
		}
	}
	set(time.Hour)
	const lease = 10 * time.Second
	a, one := []string{"a"}, queuetest.Open(t, r).Worker()
	owners, err := one.Acquire(t.Context(), lease, a)
	if err != nil || owners[0] == nil {
		t.Fatalf("acquired %v, %v", owners, err)
	}
	other := queuetest.Open(t, r).Worker()
	processes := func(of *queue.Worker, want int) {
		t.Helper()
		if n, err := of.Heartbeat(t.Context(), lease); n != want || err != nil {
			t.Fatalf("%d processes, %v; want %d", n, err, want)
		}
	}
	processes(one, 1)
	free := func(want bool) {
		t.Helper()
		got, err := other.Free(t.Context(), a)
		if err != nil || got[0] != want {
			t.Fatalf("free: %v, %v; want %t", got, err, want)
		}
	}
	set(0)
	free(false)
	if at, err := queuetest.Client(t, r).ZScore(t.Context(), "gancho:leases", queuetest.Client(t, r).Get(t.Context(), "gancho:{a}:fence").Val()).Result(); err != nil || at > float64(time.Now().Add(40*time.Second).UnixMilli()) {
		t.Errorf("the lease ends at %.0f, %v", at, err)
	}
	processes(other, 2)
	set(20 * time.Second)
	free(false)
	set(40 * time.Second)
	processes(other, 1)
	free(true)
	if owners, err = other.Acquire(t.Context(), lease, a); err != nil || owners[0] == nil {
		t.Errorf("the other one acquired %v, %v", owners, err)
	}
}
