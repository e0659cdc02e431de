package queue_test

import (
	"errors"
	"strconv"
	"strings"
	"testing"
	"time"

	"gancho/delivery/queue/queuetest"

	"gancho/delivery/endpoint"
	"gancho/delivery/queue"
	"gancho/internal/testservers"
)

func recorded(t *testing.T, r *testservers.Redis) uint64 {
	t.Helper()
	n, err := strconv.ParseUint(queuetest.Client(t, r).HGet(t.Context(), "gancho:source", "confirmed").Val(), 10, 64)
	if err != nil {
		t.Fatal(err)
	}
	return n
}

// trustsWaitAOF reports whether the server says itself what is on its disk.
func trustsWaitAOF(t *testing.T, r *testservers.Redis) bool {
	t.Helper()
	info := queuetest.Client(t, r).InfoMap(t.Context(), "server")
	valkey := info.Item("Server", "valkey_version")
	major, _, _ := strings.Cut(info.Item("Server", "redis_version"), ".")
	n, err := strconv.Atoi(major)
	if err != nil {
		t.Fatal(err)
	}
	return n >= 8 && valkey == ""
}

func TestWhoseWAITAOFIsTrusted(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		redis, valkey, name string
		trusted             bool
	}{
		{"6.2.14", "", "", false},
		{"7.0.15", "", "", false},
		{"7.2.4", "", "", false}, // it has the command, and answers before the fsync
		{"7.4.2", "", "", false},
		{"8.0.0", "", "", true},
		{"8.0.6", "", "", true},
		{"10.1.0", "", "", true},
		{"7.2.4", "8.0.1", "valkey", false},
		{"7.2.4", "9.1.2", "valkey", false},
		{"8.2.0", "10.0.0", "valkey", false}, // whatever it calls itself
		{"8.0.0", "", "other", false},
		{"", "", "", false},
	} {
		got := queue.Waits(map[string]string{"redis_version": c.redis, "valkey_version": c.valkey, "server_name": c.name})
		if got != c.trusted {
			t.Errorf("%+v: trusted %v", c, got)
		}
	}
}

// TestProofOverAFork: what was written before a fork is proven by looks behind it.
func TestProofOverAFork(t *testing.T) {
	t.Parallel()
	if got := queue.ProvenBy("1", "1", "1"); !got[2] || got[1] {
		t.Errorf("without a fork: %v", got)
	}
	if got := queue.ProvenBy("1", "2", "2", "2"); got[2] || !got[3] {
		t.Errorf("with one: %v", got)
	}
}

// TestLongRewrite: a rewrite of the append-only file that holds up confirmations for long is
// told, and the positions that wait meanwhile do not become more and more.
func TestLongRewrite(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		running, seconds string
		waits, told      bool
	}{{"0", "-1", false, false}, {"1", "3", true, false}, {"1", "60", true, true}} {
		waits, err := queue.AwaitsRewrite(map[string]string{"aof_rewrite_in_progress": c.running, "aof_current_rewrite_time_sec": c.seconds})
		if waits != c.waits || errors.Is(err, queue.ErrUnreachable) != c.told {
			t.Errorf("%+v: waits %v, %v", c, waits, err)
		}
	}
	all := queue.Remembered(10_000)
	if n := len(all); n > 100 || all[0] != 0 || all[1] != 1 || all[n-1] != 9999 {
		t.Errorf("%d positions are kept: %v", n, all)
	}
}

func TestConfirmImmediatelyWithFsyncAlways(t *testing.T) {
	t.Parallel()
	r := queuetest.StartRedis(t, "appendfsync", "always")
	q := queuetest.Open(t, r, endpoint.Endpoint{Name: "a"})
	c, _ := queuetest.RunDurable(t, q)
	queuetest.AppendEvents(t, q, 0, 10, 10, queuetest.KeyModulo(1))
	q.Appended(queuetest.LSN(9))
	queuetest.Eventually(t, "the confirmation", func() bool { return c.Newest() == queuetest.LSN(9) })
	if n := recorded(t, r); n != queuetest.LSN(9) {
		t.Errorf("recorded %x, want %x", n, queuetest.LSN(9))
	}
	// A position at which nothing was appended is durable too. Were it waited for,
	// the server would be inspected, with three INFOs, four times a second.
	client := queuetest.Client(t, r)
	before := queuetest.Calls(t, client)["info"]
	q.Appended(queuetest.LSN(12))
	queuetest.Eventually(t, "the confirmation", func() bool { return c.Newest() == queuetest.LSN(12) })
	if n := queuetest.Calls(t, client)["info"] - before - 1; n > 3 { // one is the test's own
		t.Errorf("%d INFOs for one confirmation, want at most one inspection", n)
	}
}

func TestConfirmAfterASecondWithEverysec(t *testing.T) {
	t.Parallel()
	r := queuetest.StartRedis(t)
	q := queuetest.Open(t, r, endpoint.Endpoint{Name: "a"})
	c, _ := queuetest.RunDurable(t, q)
	start := time.Now()
	for i := range 3 {
		queuetest.AppendEvents(t, q, i, i+1, 1, queuetest.KeyModulo(1))
		q.Appended(queuetest.LSN(i))
	}
	queuetest.Eventually(t, "the confirmation", func() bool { return c.Newest() == queuetest.LSN(2) })
	if d := time.Since(start); d < time.Second && !trustsWaitAOF(t, r) {
		t.Errorf("confirmed after %s, want 1 s or more", d)
	}
	if n := recorded(t, r); n < c.Newest() {
		t.Errorf("confirmed %x before it was recorded: %x", c.Newest(), n)
	}
}

func TestRestartStopsAppendingAndConfirming(t *testing.T) {
	t.Parallel()
	r := queuetest.StartRedis(t)
	q := queuetest.Open(t, r, endpoint.Endpoint{Name: "a"})
	c, ended := queuetest.RunDurable(t, q)
	queuetest.AppendEvents(t, q, 0, 5, 5, queuetest.KeyModulo(1))
	q.Appended(queuetest.LSN(4))
	queuetest.Eventually(t, "the record", func() bool { return recorded(t, r) == queuetest.LSN(4) })
	r.Kill()
	if err := r.Start(); err != nil {
		t.Fatal(err)
	}
	if err := <-ended; !errors.Is(err, queue.ErrRestarted) {
		t.Errorf("RunDurable returned %v, want ErrRestarted", err)
	}
	if c.Newest() != 0 {
		t.Errorf("confirmed %x, though the server has restarted", c.Newest())
	}
	b := q.NewBatch()
	if _, err := b.Add(queuetest.Event(5, "k")); err != nil {
		t.Fatal(err)
	}
	for range 3 { // however often it is tried, and over whatever connection
		if err := q.Append(t.Context(), b); !errors.Is(err, queue.ErrRestarted) && !errors.Is(err, queue.ErrUnreachable) {
			t.Errorf("append returned %v, want ErrRestarted", err)
		}
	}
	// While it waits for a slow disk, Redis has not even written what it answered to.
	if n, err := queuetest.Client(t, r).XLen(t.Context(), "gancho:{a}:q").Result(); n != 5 && n != 0 || err != nil {
		t.Errorf("%d events, %v, want those from before, or none: none beyond the gap", n, err)
	}
	if err := q.AcceptRestart(t.Context()); err != nil {
		t.Fatal(err)
	}
	queuetest.AppendEvents(t, q, 0, 6, 6, queuetest.KeyModulo(1)) // after the rewind
	if n := queuetest.Client(t, r).XLen(t.Context(), "gancho:{a}:q").Val(); n != 6 {
		t.Errorf("%d events, want 6", n)
	}
	c, _ = queuetest.RunDurable(t, q)
	q.Appended(queuetest.LSN(5))
	queuetest.Eventually(t, "the confirmation", func() bool { return c.Newest() == queuetest.LSN(5) })
}

func TestUnreachableIsReportedAndEnds(t *testing.T) {
	t.Parallel()
	r := queuetest.StartRedis(t)
	q := queuetest.Open(t, r, endpoint.Endpoint{Name: "a"})
	b := q.NewBatch()
	if _, err := b.Add(queuetest.Event(1, "k")); err != nil {
		t.Fatal(err)
	}
	r.Kill()
	if err := q.Append(t.Context(), b); !errors.Is(err, queue.ErrUnreachable) {
		t.Errorf("append returned %v, want ErrUnreachable", err)
	}
	if err := q.Ping(t.Context()); !errors.Is(err, queue.ErrUnreachable) {
		t.Errorf("ping returned %v, want ErrUnreachable", err)
	}
	if err := q.AcceptRestart(t.Context()); !errors.Is(err, queue.ErrUnreachable) {
		t.Errorf("accept returned %v, want ErrUnreachable", err)
	}
}

func TestRestartAcceptedWithItsRecordLost(t *testing.T) {
	t.Parallel()
	r := queuetest.StartRedis(t)
	q := queuetest.Open(t, r, endpoint.Endpoint{Name: "a"})
	if err := queuetest.Client(t, r).FlushAll(t.Context()).Err(); err != nil {
		t.Fatal(err)
	}
	if err := q.AcceptRestart(t.Context()); err != nil {
		t.Fatal(err)
	}
	queuetest.AppendEvents(t, q, 0, 1, 1, queuetest.KeyModulo(1))
	if epoch, err := queuetest.OpenOnly(t, r).Claim(t.Context(), queuetest.Source(), false); err != nil || epoch != 1 {
		t.Errorf("claimed epoch %d, %v, want 1", epoch, err)
	}
}

func TestOlderClaimIsRefused(t *testing.T) {
	t.Parallel()
	r := queuetest.StartRedis(t)
	q := queuetest.Open(t, r, endpoint.Endpoint{Name: "a"})
	other := queuetest.Source()
	other.Timeline = 2
	if _, err := queuetest.OpenOnly(t, r).Claim(t.Context(), other, true); err != nil {
		t.Fatal(err)
	}
	_, ended := queuetest.RunDurable(t, q)
	q.Appended(queuetest.LSN(1))
	if err := <-ended; err == nil || errors.Is(err, queue.ErrRestarted) {
		t.Errorf("got %v, want an error that says who has the queue", err)
	}
	if err := q.AcceptRestart(t.Context()); err == nil {
		t.Error("accepted a restart with the queue in other hands")
	}
}
