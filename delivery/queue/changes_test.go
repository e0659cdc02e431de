package queue_test

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"

	"gancho/delivery/queue/queuetest"

	"gancho/delivery/endpoint"
	"gancho/delivery/queue"
	"gancho/internal/testservers"
)

// set changes a setting of a server while it runs.
func set(t *testing.T, r *testservers.Redis, name, value string) {
	t.Helper()
	if err := queuetest.Client(t, r).ConfigSet(t.Context(), name, value).Err(); err != nil {
		t.Fatal(err)
	}
}

// A setting that loses events stops confirmations, with its name, until it is fixed.
func TestSettingsThatChangeWhileRunning(t *testing.T) {
	t.Parallel()
	for _, c := range []struct{ fsync, name, bad, good string }{
		{"always", "maxmemory-policy", "allkeys-lru", "noeviction"},
		{"everysec", "maxmemory-policy", "volatile-ttl", "noeviction"},
		{"always", "appendonly", "no", "yes"},
		{"everysec", "appendonly", "no", "yes"},
	} {
		t.Run(c.name+" under "+c.fsync, func(t *testing.T) {
			t.Parallel()
			r := queuetest.StartRedis(t, "appendfsync", c.fsync)
			q := queuetest.Open(t, r, endpoint.Endpoint{Name: "a"})
			confirmed, _ := queuetest.RunDurable(t, q)
			queuetest.AppendEvents(t, q, 0, 2, 1, queuetest.KeyModulo(1))
			q.Appended(queuetest.LSN(1))
			queuetest.Eventually(t, "the confirmation", func() bool { return confirmed.Newest() == queuetest.LSN(1) })
			set(t, r, c.name, c.bad)
			queuetest.AppendEvents(t, q, 2, 4, 1, queuetest.KeyModulo(1))
			q.Appended(queuetest.LSN(3))
			var setting *queue.SettingError
			queuetest.Eventually(t, "the setting to be reported", func() bool { return errors.As(q.Unconfirmed(), &setting) })
			if setting.Setting != c.name || setting.Value != c.bad {
				t.Errorf("reported %+v", setting)
			}
			if n := confirmed.Newest(); n != queuetest.LSN(1) {
				t.Errorf("confirmed %x while %s was %s", n, c.name, c.bad)
			}
			set(t, r, c.name, c.good)
			queuetest.Eventually(t, "the confirmation", func() bool { return confirmed.Newest() == queuetest.LSN(3) })
			if err := q.Unconfirmed(); err != nil {
				t.Errorf("still reported: %v", err)
			}
		})
	}
}

// What is to be durable is not written while a setting loses it; once that is fixed, it is.
func TestDurablyReadsSettings(t *testing.T) {
	t.Parallel()
	r := queuetest.StartRedis(t, "appendfsync", "always")
	q := queuetest.Open(t, r, endpoint.Endpoint{Name: "a"})
	written := 0
	durably := func() error { return q.Durably(t.Context(), "a", func() error { written++; return nil }) }
	for _, c := range []struct{ name, bad, good string }{
		{"maxmemory-policy", "allkeys-lru", "noeviction"}, {"appendfsync", "no", "everysec"}, {"appendonly", "no", "yes"},
	} {
		set(t, r, c.name, c.bad)
		if err := durably(); !errors.Is(err, queue.ErrUnreachable) || !strings.Contains(err.Error(), c.name) {
			t.Errorf("%s is %s: %v, want an ErrUnreachable that names it", c.name, c.bad, err)
		}
		set(t, r, c.name, c.good)
	}
	if written > 0 {
		t.Errorf("it was written %d times", written)
	}
	set(t, r, "appendfsync", "always")
	if err := durably(); err != nil || written != 1 {
		t.Errorf("with safe settings: %v, written %d times", err, written)
	}
	during := q.Durably(t.Context(), "a", func() error { set(t, r, "appendfsync", "everysec"); return nil })
	if !errors.Is(during, queue.ErrUnreachable) || !strings.Contains(during.Error(), "everysec") {
		t.Errorf("changed meanwhile: %v, want an ErrUnreachable that names the setting", during)
	}
}

// Another appendfsync needs another proof, and no is none.
func TestFsyncThatChangesWhileRunning(t *testing.T) {
	t.Parallel()
	r := queuetest.StartRedis(t, "appendfsync", "always")
	q := queuetest.Open(t, r, endpoint.Endpoint{Name: "a"})
	for _, c := range []struct{ name, value, fsync string }{
		{"no-appendfsync-on-rewrite", "yes", "always with no-appendfsync-on-rewrite"},
		{"no-appendfsync-on-rewrite", "no", "always"},
		{"appendfsync", "everysec", "everysec"},
		{"appendfsync", "no", "no"},
	} {
		fsync := c.fsync
		confirmed, ended := queuetest.RunDurable(t, q)
		set(t, r, c.name, c.value)
		queuetest.AppendEvents(t, q, 0, 2, 2, queuetest.KeyModulo(1))
		q.Appended(queuetest.LSN(1))
		if err := <-ended; !errors.Is(err, queue.ErrRestarted) || !strings.HasSuffix(err.Error(), " to "+fsync) {
			t.Errorf("ended with %v, want an ErrRestarted that names %s", err, fsync)
		}
		if n := confirmed.Newest(); n != 0 {
			t.Errorf("confirmed %x by the wrong proof", n)
		}
		var setting *queue.SettingError
		if err := q.AcceptRestart(t.Context()); fsync == "no" != errors.As(err, &setting) {
			t.Errorf("%s: accepted with %v", fsync, err)
		}
	}
}

// A server that was a replica for a moment, of one with older data, has its old run id.
func TestDemotedAndPromotedWithOlderData(t *testing.T) {
	t.Parallel()
	r, other := queuetest.StartRedis(t), queuetest.StartRedis(t)
	q := queuetest.Open(t, r, endpoint.Endpoint{Name: "a"})
	c, o := queuetest.Client(t, r), queuetest.Client(t, other)
	set(t, r, "repl-diskless-sync-delay", "0")
	set(t, other, "repl-diskless-sync-delay", "0")
	follow := func(follower *testservers.Redis, leader *testservers.Redis, events int64) {
		t.Helper()
		host, port, _ := strings.Cut(leader.Addr(), ":")
		f := queuetest.Client(t, follower)
		if err := f.ReplicaOf(t.Context(), host, port).Err(); err != nil {
			t.Fatal(err)
		}
		queuetest.Eventually(t, "the replica", func() bool { return f.XLen(t.Context(), "gancho:{a}:q").Val() == events })
		queuetest.Eventually(t, "the link", func() bool {
			return f.InfoMap(t.Context(), "replication").Item("Replication", "master_link_status") == "up"
		})
	}
	queuetest.AppendEvents(t, q, 0, 90, 30, queuetest.KeyModulo(3))
	follow(other, r, 90)
	if err := o.ReplicaOf(t.Context(), "NO", "ONE").Err(); err != nil {
		t.Fatal(err)
	}
	if err := q.AcceptRestart(t.Context()); err != nil { // the first replica changed the replication id
		t.Fatal(err)
	}
	confirmed, ended := queuetest.RunDurable(t, q)
	queuetest.AppendEvents(t, q, 90, 110, 20, queuetest.KeyModulo(3))
	runID := func() string { return c.InfoMap(t.Context(), "server").Item("Server", "run_id") }
	before := runID()
	follow(r, other, 90)
	b := q.NewBatch()
	if _, err := b.Add(queuetest.Event(110, "k2")); err != nil {
		t.Fatal(err)
	}
	if err := q.Append(t.Context(), b); !errors.Is(err, queue.ErrUnreachable) {
		t.Errorf("append to the replica: %v, want ErrUnreachable", err)
	}
	if err := c.ReplicaOf(t.Context(), "NO", "ONE").Err(); err != nil {
		t.Fatal(err)
	}
	if runID() != before {
		t.Fatal("the run id has changed: nothing was tested")
	}
	if err := q.Append(t.Context(), b); !errors.Is(err, queue.ErrRestarted) {
		t.Errorf("append beyond the gap: %v, want ErrRestarted", err)
	}
	q.Appended(queuetest.LSN(110))
	if err := <-ended; !errors.Is(err, queue.ErrRestarted) {
		t.Errorf("RunDurable ended with %v, want ErrRestarted", err)
	}
	if n := confirmed.Newest(); n != 0 {
		t.Errorf("confirmed %x", n)
	}
	if err := q.AcceptRestart(t.Context()); err != nil {
		t.Fatal(err)
	}
	queuetest.AppendEvents(t, q, 0, 111, 50, queuetest.KeyModulo(3))
	if n := c.XLen(t.Context(), "gancho:{a}:q").Val(); n != 111 {
		t.Errorf("%d events, want 111", n)
	}
}

// FLUSHALL, an evicted stream and a deleted record are told as what they are, and keep
// the epoch.
func TestLostKeys(t *testing.T) {
	t.Parallel()
	for _, lost := range []string{"FLUSHALL", "UNLINK gancho:{a}:q", "DEL gancho:source"} {
		t.Run(lost, func(t *testing.T) {
			t.Parallel()
			r := queuetest.StartRedis(t, "appendfsync", "always")
			q := queuetest.Open(t, r, endpoint.Endpoint{Name: "a"})
			other := queuetest.Source()
			other.Timeline = 2
			epoch, err := q.Claim(t.Context(), other, true)
			if err != nil || epoch != 2 {
				t.Fatalf("epoch %d, %v", epoch, err)
			}
			confirmed, ended := &queuetest.Confirmations{}, make(chan error, 1)
			ctx, stop := context.WithCancel(t.Context())
			go func() { ended <- q.RunDurable(ctx, confirmed.Add) }()
			queuetest.AppendEvents(t, q, 0, 4, 1, queuetest.KeyModulo(1))
			q.Appended(queuetest.LSN(3))
			queuetest.Eventually(t, "the confirmation", func() bool { return confirmed.Newest() == queuetest.LSN(3) })
			c := queuetest.Client(t, r)
			var args []any
			for _, word := range strings.Fields(lost) {
				args = append(args, word)
			}
			if err := c.Do(t.Context(), args...).Err(); err != nil {
				t.Fatal(err)
			}
			b := q.NewBatch()
			for i := 4; i < 6; i++ {
				if _, err := b.Add(queuetest.Event(i, "k0")); err != nil {
					t.Fatal(err)
				}
			}
			if err = q.Append(t.Context(), b); err != nil {
				stop()
				if ended := <-ended; ended != nil {
					t.Errorf("RunDurable ended with %v", ended)
				}
			} else {
				q.Appended(queuetest.LSN(5))
				err = <-ended
			}
			stop()
			what := new(queue.LostError)
			if !errors.As(err, &what) || !errors.Is(err, queue.ErrRestarted) {
				t.Fatalf("got %v, want a LostError", err)
			}
			if n := confirmed.Newest(); n != queuetest.LSN(3) {
				t.Errorf("confirmed %x", n)
			}
			if err := q.AcceptRestart(t.Context()); err != nil {
				t.Fatal(err)
			}
			// The next start finds the slot where it was confirmed.
			other.ConfirmedFlush = queuetest.LSN(3)
			if again, err := queuetest.OpenOnly(t, r).Claim(t.Context(), other, false); err != nil || again != epoch {
				t.Errorf("claimed again: epoch %d, %v", again, err)
			}
			queuetest.AppendEvents(t, q, 4, 6, 2, queuetest.KeyModulo(1)) // after the rewind
			confirmed, _ = queuetest.RunDurable(t, q)
			q.Appended(queuetest.LSN(5))
			queuetest.Eventually(t, "the confirmation", func() bool { return confirmed.Newest() == queuetest.LSN(5) })
			if got := c.HGet(t.Context(), "gancho:source", "epoch").Val(); got != fmt.Sprint(epoch) {
				t.Errorf("epoch %q, want %d", got, epoch)
			}
			want := int64(2)
			if strings.HasPrefix(lost, "DEL") {
				want = 6
			}
			if n := c.XLen(t.Context(), "gancho:{a}:q").Val(); n != want {
				t.Errorf("%d events, want %d", n, want)
			}
		})
	}
}

// Somebody else remembers the epoch that Redis has lost.
func TestClaimAfterRedisLostTheRecord(t *testing.T) {
	t.Parallel()
	r := queuetest.StartRedis(t)
	c := queuetest.Client(t, r)
	claim := func(want uint16, remembered uint16) {
		t.Helper()
		s := queuetest.Source()
		s.ConfirmedFlush = 0x5000
		s.Last = &queue.Claimed{Source: queuetest.Source(), Epoch: remembered}
		epoch, err := queuetest.OpenOnly(t, r).Claim(t.Context(), s, false)
		if err != nil || epoch != want {
			t.Errorf("epoch %d, %v, want %d", epoch, err, want)
		}
	}
	claim(3, 3)
	claim(3, 2) // Redis knows better
	q := queuetest.OpenOnly(t, r, endpoint.Endpoint{Name: "a"})
	if _, err := q.Claim(t.Context(), queuetest.Source(), false); err != nil {
		t.Fatal(err)
	}
	queuetest.AppendEvents(t, q, 0, 1, 1, queuetest.KeyModulo(1))
	lose := func() {
		t.Helper()
		if err := c.Del(t.Context(), "gancho:source").Err(); err != nil {
			t.Fatal(err)
		}
	}
	lose()
	claim(3, 3)
	lose()
	claim(4, 2) // the streams know better than who remembers
	lose()
	other := queuetest.Source()
	other.Timeline, other.Last = 2, &queue.Claimed{Source: queuetest.Source(), Epoch: 4}
	changed := new(queue.SourceChangedError)
	if _, err := queuetest.OpenOnly(t, r).Claim(t.Context(), other, false); !errors.As(err, &changed) {
		t.Errorf("another timeline: %v, want a SourceChangedError", err)
	}
	recreated := queuetest.Source()
	recreated.SlotCreated, recreated.ConfirmedFlush, recreated.Last = true, 0x6000, &queue.Claimed{Source: queuetest.Source(), Epoch: 4}
	if _, err := queuetest.OpenOnly(t, r).Claim(t.Context(), recreated, false); err == nil || !strings.Contains(err.Error(), "recreated at 0/6000, and redis no longer knows") {
		t.Errorf("a slot that was recreated: %v", err)
	}
	spent := queuetest.Source()
	spent.Slot, spent.Last = "o'slot", &queue.Claimed{Source: queuetest.Source(), Epoch: 1<<12 - 1}
	if _, err := queuetest.OpenOnly(t, r).Claim(t.Context(), spent, true); err == nil || !strings.Contains(err.Error(), "gancho.sources where slot = 'o''slot'") {
		t.Errorf("all epochs are spent: %v", err)
	}
}

// The append-only file that was disabled and enabled again is not there before its first
// rewrite ends, and nobody has looked in between.
func TestAppendOnlyDisabledAndEnabledUnnoticed(t *testing.T) {
	t.Parallel()
	for _, fsync := range []string{"always", "everysec"} {
		t.Run(fsync, func(t *testing.T) {
			t.Parallel()
			r := queuetest.StartRedis(t, "appendfsync", fsync)
			q := queuetest.Open(t, r, endpoint.Endpoint{Name: "a"})
			c := queuetest.Client(t, r)
			confirmed := make(chan uint64)
			ctx, end := context.WithCancel(t.Context())
			ended := make(chan error)
			go func() {
				ended <- q.RunDurable(ctx, func(lsn uint64) {
					if c.InfoMap(t.Context(), "persistence").Item("Persistence", "aof_rewrite_in_progress") != "0" {
						t.Errorf("confirmed %x while redis writes its first append-only file", lsn)
					}
					confirmed <- lsn
				})
			}()
			queuetest.AppendEvents(t, q, 0, 2, 1, queuetest.KeyModulo(1))
			q.Appended(queuetest.LSN(1))
			<-confirmed
			set(t, r, "appendonly", "no")
			queuetest.AppendEvents(t, q, 2, 4, 1, queuetest.KeyModulo(1))
			set(t, r, "rdb-key-save-delay", "300000") // µs
			set(t, r, "appendonly", "yes")
			q.Appended(queuetest.LSN(3))
			if lsn := <-confirmed; lsn != queuetest.LSN(3) {
				t.Errorf("confirmed %x", lsn)
			}
			end()
			if err := <-ended; err != nil {
				t.Error(err)
			}
		})
	}
}
