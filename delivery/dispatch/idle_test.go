package dispatch_test

import (
	"testing"
	"time"

	"gancho/delivery/dispatch"
	"gancho/delivery/endpoint"
	"gancho/delivery/queue"
	"gancho/delivery/queue/queuetest"
	"gancho/internal/testservers"
)

// renewals is how many there are in a minute with the default lease, in which
// everything is inspected once.
const renewals = 18

// A process that has nothing to do keeps its leases and sends nothing else. What
// it sends in a minute follows from what each renewal takes, so the test does not
// have to last as long.
func TestIdleProcessIsQuiet(t *testing.T) {
	testservers.Whole(t)
	t.Parallel()
	r := queuetest.StartRedis(t)
	eps := endpoints(3)
	q := queuetest.Open(t, r, eps...)
	c := queuetest.Client(t, r)
	queuetest.RunDurable(t, q)
	startDispatcher(t, q, newReceiver(), dispatch.Options{Lease: 600 * time.Millisecond}, eps...)
	for _, ep := range eps {
		queuetest.Eventually(t, "the lease", func() bool { return queuetest.Owned(t, q, ep.Name) })
	}
	// The first seconds are those of a process that has just started.
	start := queuetest.Calls(t, c)
	queuetest.Eventually(t, "an inspection", func() bool { return queuetest.Calls(t, c)["zremrangebyscore"] > start["zremrangebyscore"] })
	before := queuetest.Calls(t, c)
	queuetest.Eventually(t, "renewals", func() bool { return queuetest.Calls(t, c)["time"] >= before["time"]+2*renewals })
	after := queuetest.Calls(t, c)
	total, perCommand := 0, map[string]int{}
	for name, n := range after {
		if n -= before[name]; n > 0 && name != "info" { // the test's own
			total, perCommand[name] = total+n, n
		}
	}
	// Each script calls time once. On a slow machine, renewals are late and there are
	// more inspections between them than there would be, so what these send besides
	// is counted for one of them.
	calls, inspections := perCommand["time"], perCommand["mget"]
	if inspections == 0 {
		t.Fatalf("nothing was inspected: %v", perCommand)
	}
	const each = 3 // a script that calls time and zadd
	perMinute := renewals*each + (total-calls*each)/inspections
	t.Logf("%d commands a minute with the default lease: %v", perMinute, perCommand)
	if perMinute > 75 {
		t.Errorf("an idle process sends %d commands a minute, want at most 75: %v", perMinute, perCommand)
	}
}

// An event of which no notification came is found by the owner, in time.
func TestLostNotification(t *testing.T) {
	t.Parallel()
	r := queuetest.StartRedis(t)
	ep := endpoint.Endpoint{Name: "a"}
	q := queuetest.Open(t, r, ep)
	queuetest.AppendEvents(t, q, 0, 1, 1, queuetest.KeyModulo(1))
	sink := newReceiver()
	startDispatcher(t, q, sink, dispatch.Options{Lease: 300 * time.Millisecond}, ep)
	sink.distinct(t, 1)
	queuetest.Drained(t, q, "a")
	id, err := queue.NewID(1, queuetest.Event(1, "k").Position, 0)
	if err != nil {
		t.Fatal(err)
	}
	err = queuetest.Client(t, r).Do(t.Context(), "XADD", "gancho:{a}:q", id.String(), "t", "x.y", "k", "k", "n", "1", "c", "1", "d", "{}", "v", "v1").Err()
	if err != nil {
		t.Fatal(err)
	}
	sink.distinct(t, 2)
}
