package dispatch_test

import (
	"strconv"
	"strings"
	"testing"
	"time"

	"gancho/delivery/dispatch"
	"gancho/delivery/queue/queuetest"

	"github.com/redis/go-redis/v9"
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
	c := queuetest.Client(t, r)
	for _, ep := range eps {
		queuetest.Eventually(t, "the lease", func() bool { return queuetest.Owned(t, q, ep.Name) })
	}
	// The first seconds are those of a process that has just started.
	start := calls(t, c)
	queuetest.Eventually(t, "an inspection", func() bool { return calls(t, c)["zremrangebyscore"] > start["zremrangebyscore"] })
	before := calls(t, c)
	queuetest.Eventually(t, "renewals", func() bool { return calls(t, c)["time"] >= before["time"]+2*renewals })
	after := calls(t, c)
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

// calls are how often Redis has executed each command, those of scripts included.
func calls(t *testing.T, c *redis.Client) map[string]int {
	t.Helper()
	text, err := c.Info(t.Context(), "commandstats").Result()
	if err != nil {
		t.Fatal(err)
	}
	out := map[string]int{}
	for line := range strings.Lines(text) {
		name, rest, ok := strings.Cut(strings.TrimPrefix(line, "cmdstat_"), ":calls=")
		if !ok {
			continue
		}
		n, _, _ := strings.Cut(rest, ",")
		if out[name], err = strconv.Atoi(n); err != nil {
			t.Fatal(err)
		}
	}
	return out
}
