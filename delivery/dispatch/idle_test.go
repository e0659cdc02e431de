package dispatch_test

import (
	"testing"
	"time"

	"gancho/delivery/dispatch"
	"gancho/delivery/queue/queuetest"
)

// renewals is after how many renewals of a lease everything is inspected once.
const renewals = 18

// A process that has nothing to do keeps its leases and sends nothing else. Its
// rate is given for each renewal of the default lease, of which there are 18 a
// minute, so the test does not have to last as long.
func TestIdleProcessIsQuiet(t *testing.T) {
	t.Parallel()
	r := queuetest.StartRedis(t)
	eps := endpoints(3)
	q := queuetest.Open(t, r, eps...)
	queuetest.RunDurable(t, q)
	startDispatcher(t, q, newReceiver(), dispatch.Options{Lease: 600 * time.Millisecond}, eps...)
	for _, ep := range eps {
		queuetest.Eventually(t, "the lease", func() bool { return queuetest.Owned(t, q, ep.Name) })
	}
	// The first seconds are those of a process that has just started.
	start := queuetest.Calls(t, r)
	queuetest.Eventually(t, "an inspection", func() bool { return queuetest.Calls(t, r)["zremrangebyscore"] > start["zremrangebyscore"] })
	before := queuetest.Calls(t, r)
	queuetest.Eventually(t, "renewals", func() bool { return queuetest.Calls(t, r)["time"] >= before["time"]+2*renewals })
	after := queuetest.Calls(t, r)
	total, perCommand := 0, map[string]int{}
	for name, n := range after {
		if n -= before[name]; n > 0 && name != "info" { // the test's own
			total, perCommand[name] = total+n, n
		}
	}
	// For both renewals and inspections, time is called once: 18 a minute.
	perMinute := total * renewals / perCommand["time"]
	t.Logf("%d commands a minute with the default lease: %v", perMinute, perCommand)
	if perMinute > 85 {
		t.Errorf("an idle process sends %d commands a minute, want at most 85: %v", perMinute, perCommand)
	}
}
