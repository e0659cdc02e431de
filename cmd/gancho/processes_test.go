package main_test

import (
	"context"
	"fmt"
	"net/http"
	"sync"
	"syscall"
	"testing"
	"time"

	"gancho/delivery/dispatch"
	"gancho/internal/testservers"
)

// deliver starts a process that delivers and does nothing else.
func (w *world) deliver() *bridge {
	w.t.Helper()
	b := w.start("run", "--only", "deliver", "--config", w.write())
	b.waitLog("bridge is ready")
	return b
}

// captureOnly starts a process that fills the queues and does nothing else.
func (w *world) captureOnly() *bridge {
	w.t.Helper()
	return w.run("--only", "capture")
}

func (b *bridge) signal(s syscall.Signal) {
	b.t.Helper()
	if err := b.cmd.Process.Signal(s); err != nil {
		b.t.Fatal(err)
	}
}

// longestGap is the longest time between two arrivals.
func longestGap(all []arrival) (longest time.Duration) {
	for i := 1; i < len(all); i++ {
		longest = max(longest, all[i].at.Sub(all[i-1].at))
	}
	return longest
}

// TestDeliverersUnderLoad has three processes deliver to six endpoints. One is
// killed, one is stopped for longer than its lease and continues, and another is
// started: every endpoint continues within the lease, everything arrives, and the
// first deliveries of each key are in order.
func TestDeliverersUnderLoad(t *testing.T) {
	testservers.Whole(t)
	t.Parallel()
	w := newWorld(t, testservers.RedisOptions{}, loadTable)
	w.rules = loadRules
	const endpoints = 6
	receivers := make([]*receiver, endpoints)
	for i := range receivers {
		receivers[i] = newReceiver(t, nil)
		w.endpoint(fmt.Sprint("e", i), receivers[i].url())
	}
	w.extra = "log: {level: debug}" // says who has what
	captures := w.captureOnly()
	deliverers := []*bridge{w.deliver(), w.deliver(), w.deliver()}
	for _, d := range deliverers {
		d.waitLogs("endpoint acquired", endpoints/len(deliverers))
	}
	l := startLoad(t, w.dsn, 100*time.Millisecond) // six times as many deliveries
	grow := func(what string) {
		t.Helper()
		for i, r := range receivers {
			all, _ := r.snapshot()
			n := len(all)
			r.waitFor(3*dispatch.DefaultLease, fmt.Sprintf("e%d to get events %s", i, what), func(all []arrival) bool { return len(all) > n+50 })
		}
	}
	grow("from three processes")
	deliverers[0].kill()
	grow("after one was killed")
	deliverers[1].signal(syscall.SIGSTOP)
	grow("after another was stopped")
	// The others have taken what it had.
	deliverers[1].signal(syscall.SIGCONT)
	deliverers[1].waitLog("lease lost")
	deliverers = append(deliverers, w.deliver())
	deliverers[3].waitLog("endpoint acquired")
	grow("from three processes again")
	rows := l.stop()
	for i, r := range receivers {
		repeats := checkDelivery(t, r.waitCount(rows), rows)
		all, _ := r.snapshot()
		gap := longestGap(all)
		t.Logf("e%d: %s, at most %s without any", i, describe(rows, repeats, 2), gap.Round(time.Millisecond))
		// A lease that was renewed just before runs out, and its end is seen at
		// the next look, a third of it later at the most; the rest is the machine.
		if limit := dispatch.DefaultLease*4/3 + 4*time.Second; gap > limit {
			t.Errorf("e%d got nothing for %s, want at most %s", i, gap, limit)
		}
		if limit := 2 * inFlight; repeats > limit {
			t.Errorf("e%d: %d repeated deliveries; at most %d can have been in flight", i, repeats, limit)
		}
	}
	for _, d := range deliverers[1:] {
		d.stop()
	}
	captures.stop()
}

// TestStoppedDelivererCannotAcknowledge stops a process while a receiver has
// its request. Another process takes over and sends the event again, which the
// receiver refuses this time. Then the first process continues and gets the
// success that it had waited for: were it to acknowledge the event now, the
// event would not come a third time, and the one behind it too early.
func TestStoppedDelivererCannotAcknowledge(t *testing.T) {
	t.Parallel()
	w := newWorld(t, testservers.RedisOptions{}, loadTable)
	w.rules = loadRules
	answered := make(chan struct{}) // the first request may be answered
	answer := sync.OnceFunc(func() { close(answered) })
	var mu sync.Mutex
	attempts := map[string]int{}
	var accepted []arrival
	r := newReceiver(t, func(rw http.ResponseWriter, a arrival) {
		mu.Lock()
		attempts[a.id]++
		n := attempts[a.id]
		mu.Unlock()
		switch {
		case a.field("seq") == "1" && n == 1:
			<-answered
		case a.field("seq") == "1" && n == 2:
			rw.WriteHeader(http.StatusInternalServerError)
			return
		default:
			mu.Lock()
			accepted = append(accepted, a)
			mu.Unlock()
		}
		rw.WriteHeader(http.StatusNoContent)
	})
	t.Cleanup(answer) // or the receiver would not end
	w.endpoint("a", r.url(), "timeout: 60s", "retry: [6s, 6s, 6s]")
	w.extra = "log: {level: debug}"
	captures := w.captureOnly()
	stopped := w.deliver()
	stopped.waitLog("endpoint acquired")
	takesOver := w.deliver()
	insert := func(seq int) { w.exec("insert into eventos (cliente_id, seq) values (1, $1)", seq) }
	insert(1)
	r.waitFor(time.Minute, "the first attempt", func(all []arrival) bool { return len(all) == 1 })
	stopped.signal(syscall.SIGSTOP)
	insert(2)
	r.waitFor(time.Minute, "the second attempt, by the other process", func(all []arrival) bool { return len(all) == 2 })
	insert(3)
	takesOver.waitLog(`"attempt":1,"outcome":"retry"`)
	answer() // it waits in the socket of the stopped process
	stopped.signal(syscall.SIGCONT)
	stopped.waitLog("lease lost")
	all := r.waitFor(time.Minute, "all events", func(all []arrival) bool { return len(all) >= 5 })
	var order string
	for _, a := range all {
		order += a.field("seq")
	}
	if order != "11123" {
		t.Errorf("the events arrived as %s, want 11123", order)
	}
	takesOver.stop()
	stopped.stop()
	captures.stop()
	checkDelivery(t, accepted, 3)
	c := w.redisClient()
	if n := c.XLen(context.Background(), "gancho:{a}:q").Val(); n != 0 {
		t.Errorf("%d events are left in the queue", n)
	}
	if n := c.Exists(context.Background(), "gancho:{a}:rt", "gancho:{a}:at").Val(); n != 0 {
		t.Error("something is kept of the failure")
	}
}
