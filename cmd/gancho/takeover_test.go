package main_test

import (
	"fmt"
	"os"
	"strings"
	"syscall"
	"testing"
	"time"

	"gancho/internal/testservers"
)

const (
	// takeOverLimit is what a stand-by promises after the end of the process that captures,
	// orderlyLimit after one that says goodbye; slack is for the machine.
	takeOverLimit, orderlyLimit = 10 * time.Second, 3 * time.Second
	slack                       = 5 * time.Second
)

// standby starts a process that waits for the slot.
func (w *world) standby() *bridge {
	w.t.Helper()
	b := w.start("run", "--config", w.write())
	b.waitLog("slot is in use")
	return b
}

// takesOver waits until a process captures, and checks how long that took.
func (b *bridge) takesOver(limit time.Duration, turn int) time.Duration {
	b.t.Helper()
	began := time.Now()
	b.waitLogs("replication started", turn)
	took := time.Since(began)
	if took > limit+slack {
		b.t.Errorf("the take-over took %s, want at most %s", took, limit)
	}
	return took
}

// TestTakeovers kills the active one of two processes again and again, at any moment.
// GANCHO_TEST_TAKEOVERS sets another number of rounds.
func TestTakeovers(t *testing.T) {
	testservers.Whole(t)
	t.Parallel()
	rounds := 3
	if s := os.Getenv("GANCHO_TEST_TAKEOVERS"); s != "" {
		if _, err := fmt.Sscan(s, &rounds); err != nil {
			t.Fatalf("GANCHO_TEST_TAKEOVERS: %v", err)
		}
	}
	random := seeded(t)
	w := newWorld(t, testservers.RedisOptions{}, loadTable)
	r := newReceiver(t, nil)
	w.rules = loadRules
	w.endpoint("a", r.url())
	active := w.run()
	l := startLoad(t, w.dsn, loadPace)
	var longest time.Duration
	for range rounds {
		next := w.standby()
		l.waitRows(random.IntN(300))
		active.kill()
		longest = max(longest, next.takesOver(takeOverLimit, 1))
		active = next
	}
	finish(t, l, r, rounds)
	t.Logf("the longest of %d take-overs after kill -9 took %s", rounds, longest)
	next := w.standby()
	began := time.Now()
	active.stop()
	next.takesOver(orderlyLimit, 1)
	t.Logf("the take-over after an orderly stop took %s, the stop included", time.Since(began))
	next.stop()
}

// TestStoppedCaptureIsFenced stops the active process, as a machine that is gone or a network that
// is cut would look to the source: its slot goes to the other one. When it wakes up with
// what it had read, it appends nothing of it, and stands by.
func TestStoppedCaptureIsFenced(t *testing.T) {
	testservers.Whole(t)
	t.Parallel()
	w := newWorld(t, testservers.RedisOptions{}, loadTable)
	r := newReceiver(t, nil)
	w.rules = loadRules
	w.endpoint("a", r.url())
	both := [2]*bridge{w.run(), w.standby()}
	turns := [2]int{1, 0}
	l := startLoad(t, w.dsn, fullPace)
	for i := range 2 {
		active, other := both[i], both[1-i]
		l.waitRows(300)
		active.signal(syscall.SIGSTOP)
		turns[1-i]++
		t.Logf("the take-over from a process that is gone took %s", other.takesOver(takeOverLimit, turns[1-i]))
		l.waitRows(300)
		active.signal(syscall.SIGCONT)
		active.waitLogs("slot is in use", 1+i)
	}
	finish(t, l, r, 4)
	for _, b := range both {
		b.stop()
		if n := strings.Count(b.text(), "another process captures now"); n > 2 {
			t.Errorf("a process that was fenced once said so %d times", n)
		}
	}
}

// TestStandByOfANewEpoch: a process that waits for the slot while gancho recover begins a new epoch stands by for
// that, and captures when its turn comes.
func TestStandByOfANewEpoch(t *testing.T) {
	testservers.Whole(t)
	t.Parallel()
	w := newWorld(t, testservers.RedisOptions{}, loadTable)
	r := newReceiver(t, nil)
	w.rules = loadRules
	w.endpoint("a", r.url())
	active, waiting := w.run(), w.standby()
	w.exec("insert into eventos (cliente_id, seq) values (1, 1)")
	r.waitCount(1)
	waiting.signal(syscall.SIGSTOP)
	active.stop()
	w.dropSlot()
	w.recover(0, []string{"--yes"}, "Recorded as gap 2")
	active = w.run()
	waiting.signal(syscall.SIGCONT)
	w.exec("insert into eventos (cliente_id, seq) values (1, 2)")
	r.waitCount(2)
	active.kill()
	waiting.waitLog("capture begins again, and compares them")
	waiting.takesOver(takeOverLimit, 1)
	w.exec("insert into eventos (cliente_id, seq) values (1, 3)")
	epochs := map[string]string{}
	for _, a := range r.waitCount(3) {
		epochs[a.field("seq")] = a.id[strings.Index(a.id, "-"):][:6]
	}
	if epochs["1"] == epochs["2"] || epochs["2"] != epochs["3"] {
		t.Errorf("epochs of the three: %v", epochs)
	}
	waiting.stop()
}
