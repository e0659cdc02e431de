package queue_test

import (
	"bytes"
	"errors"
	"os"
	"path/filepath"
	"testing"
	"time"

	"gancho/delivery/queue/queuetest"

	"gancho/delivery/endpoint"
	"gancho/delivery/queue"
	"gancho/internal/testservers"
)

// readAOF returns the append-only file, and its name.
func readAOF(t *testing.T, r *testservers.Redis) (name string, text []byte) {
	t.Helper()
	files, err := filepath.Glob(filepath.Join(r.Dir(), "appendonlydir", "*.incr.aof"))
	if err != nil || len(files) != 1 {
		t.Fatalf("find the append-only file: %v, %v", files, err)
	}
	if text, err = os.ReadFile(files[0]); err != nil {
		t.Fatal(err)
	}
	return files[0], text
}

// tearTransaction cuts the append-only file inside the last transaction that it
// has: behind MULTI, in the middle of a command.
func tearTransaction(t *testing.T, r *testservers.Redis) {
	t.Helper()
	name, text := readAOF(t, r)
	multi := bytes.LastIndex(text, []byte("MULTI\r\n"))
	if multi < 0 {
		t.Fatal("the append-only file has no transaction")
	}
	end := bytes.LastIndex(text, []byte("EXEC\r\n"))
	if end < multi {
		t.Fatal("the last transaction does not end")
	}
	if err := os.Truncate(name, int64(multi+(end-multi)*3/4)); err != nil {
		t.Fatal(err)
	}
}

// Redis cuts a torn append-only file behind the last whole command, be that in an
// open MULTI, and appends behind it: at its next start it drops what no EXEC has
// ended. What was confirmed must not be among it.
func TestTornTransaction(t *testing.T) {
	t.Parallel()
	for _, fsync := range []string{"everysec", "always"} {
		t.Run(fsync, func(t *testing.T) {
			t.Parallel()
			r := queuetest.StartRedis(t, "aof-load-truncated", "yes", "appendfsync", fsync)
			q := queuetest.Open(t, r, endpoint.Endpoint{Name: "a"})
			queuetest.AppendEvents(t, q, 0, 8, 8, queuetest.KeyModulo(1))
			// Redis does not write while it waits for a slow disk.
			queuetest.Eventually(t, "the append in the file", func() bool {
				_, text := readAOF(t, r)
				return bytes.Contains(text, []byte("gancho:{a}:q"))
			})
			r.Kill()
			tearTransaction(t, r)
			if err := r.Start(); err != nil {
				t.Fatal(err)
			}
			queuetest.Eventually(t, "the restart to be accepted", func() bool { return q.AcceptRestart(t.Context()) == nil })
			c, _ := queuetest.RunDurable(t, q)
			const total = 12
			queuetest.AppendEvents(t, q, 0, total, 1, queuetest.KeyModulo(1)) // one transaction each
			q.Appended(queuetest.LSN(total - 1))
			queuetest.Eventually(t, "the confirmation", func() bool { return c.Newest() == queuetest.LSN(total-1) })
			r.Stop()
			if err := r.Start(); err != nil {
				t.Fatal(err)
			}
			if n := queuetest.Client(t, r).XLen(t.Context(), "gancho:{a}:q").Val(); n != total {
				t.Errorf("%d events of %d are there that were confirmed", n, total)
			}
		})
	}
}

// What a torn seal has left is no obstacle to the next one.
func TestTornSeal(t *testing.T) {
	t.Parallel()
	r := queuetest.StartRedis(t)
	q := queuetest.Open(t, r, endpoint.Endpoint{Name: "a"})
	c := queuetest.Client(t, r)
	for _, key := range []string{"gancho:{}:seal", "gancho:{a}:seal"} {
		if err := c.Set(t.Context(), key, "", 0).Err(); err != nil {
			t.Fatal(err)
		}
	}
	if err := q.AcceptRestart(t.Context()); err != nil {
		t.Error(err)
	}
	if err := q.Durably(t.Context(), "a", func() error { return nil }); err != nil {
		t.Error(err)
	}
	if left := c.Keys(t.Context(), "*seal").Val(); len(left) > 0 {
		t.Errorf("left: %q", left)
	}
}

// A power cut while Redis rewrites its append-only file may take the end of one file, and
// not what is in the next. Redis cuts the torn file and ends; started again, it loads what is
// left, which has a hole. What was in it, capture appends again, in order.
func TestHole(t *testing.T) {
	t.Parallel()
	t.Run("as it is", func(t *testing.T) { t.Parallel(); testHole(t, false) })
	t.Run("behind a lost answer", func(t *testing.T) { t.Parallel(); testHole(t, true) })
}

// readAs reads as the owner of an endpoint in a process of its own.
func readAs(t *testing.T, r *testservers.Redis, endpoints ...string) []func() (int, error) {
	t.Helper()
	var eps []endpoint.Endpoint
	for _, name := range endpoints {
		eps = append(eps, endpoint.Endpoint{Name: name})
	}
	owners, err := queuetest.OpenOnly(t, r, eps...).Worker().Acquire(t.Context(), time.Hour, endpoints)
	if err != nil {
		t.Fatal(err)
	}
	var reads []func() (int, error)
	for _, o := range owners {
		reads = append(reads, func() (int, error) {
			page, _, err := o.Read(t.Context(), false, queue.ID{}, 100, 1<<20)
			return len(page), err
		})
	}
	return reads
}

// loseAppend appends the i-th event, and loses the answer.
func loseAppend(t *testing.T, proxy *testservers.Proxy, q *queue.Queue, i int, key func(int) string) {
	t.Helper()
	b := q.NewBatch()
	if _, err := b.Add(queuetest.Event(i, key(i))); err != nil {
		t.Fatal(err)
	}
	lost := proxy.LoseAnswer("EXEC")
	if err := q.Append(t.Context(), b); !errors.Is(err, queue.ErrUnreachable) {
		t.Fatalf("an append whose answer is lost: %v", err)
	}
	<-lost
}

// testHole loses the last transaction of a file. lostAnswer: it is repeated in the next
// one, because its answer was lost, and Redis is full when it is found missing.
func testHole(t *testing.T, lostAnswer bool) {
	t.Helper()
	r := queuetest.StartRedis(t, "aof-load-truncated", "yes")
	c := queuetest.Client(t, r)
	proxy := testservers.StartProxy(t, r.Addr())
	q := queuetest.Open(t, proxy, endpoint.Endpoint{Name: "a"}, endpoint.Endpoint{Name: "b"})
	const durable, torn, total = 4, 8, 12
	key := queuetest.KeyModulo(1)
	confirmed, _ := queuetest.RunDurable(t, q)
	queuetest.AppendEvents(t, q, 0, durable, 1, key)
	end := queuetest.LSN(durable-1) + 1 // a transaction ends behind its commit record's LSN
	q.Appended(end)
	queuetest.Eventually(t, "the confirmation", func() bool { return confirmed.Newest() == end })
	queuetest.AppendEvents(t, q, durable, torn-1, 1, key)
	if lostAnswer {
		loseAppend(t, proxy, q, torn-1, key)
	} else {
		queuetest.AppendEvents(t, q, torn-1, torn, 1, key)
	}
	var last int64
	queuetest.Eventually(t, "the appends in the file", func() bool {
		name, text := readAOF(t, r)
		last = int64(bytes.LastIndex(text, []byte("XADD")))
		return name != "" && bytes.Count(text, []byte("XADD")) == 2*torn
	})
	name, _ := readAOF(t, r)
	c.ConfigSet(t.Context(), "rdb-key-save-delay", "1000000") // microseconds
	if err := c.BgRewriteAOF(t.Context()).Err(); err != nil {
		t.Fatal(err)
	}
	if lostAnswer {
		queuetest.AppendEvents(t, q, torn-1, torn, 1, key)
	}
	owned := readAs(t, r, "a")[0]
	if n, err := owned(); n != torn || err != nil {
		t.Fatalf("read %d events, %v", n, err)
	}
	queuetest.AppendEvents(t, q, torn, total, 1, key)
	queuetest.Eventually(t, "the appends in the next file", func() bool {
		files, _ := filepath.Glob(filepath.Join(r.Dir(), "appendonlydir", "*.2.incr.aof"))
		if len(files) == 0 {
			return false
		}
		text, err := os.ReadFile(files[0])
		return err == nil && bytes.Count(text, []byte("XADD")) == 2*(total-torn)
	})
	r.Kill()
	if err := os.Truncate(name, last); err != nil {
		t.Fatal(err)
	}
	if err := r.StartSupervised(); err != nil {
		t.Fatalf("%v\n%s", err, r.Log())
	}
	// Nobody reads what is behind the hole, neither who was there before nor who comes now.
	reads := append(readAs(t, r, "b"), owned)
	for _, read := range reads {
		if n, err := read(); n > 0 || !errors.Is(err, queue.ErrUnreachable) {
			t.Errorf("before the restart is accepted, %d events are read, %v", n, err)
		}
	}
	if lostAnswer {
		set(t, r, "maxmemory", "1")
	}
	queuetest.Eventually(t, "the restart to be accepted", func() bool { return q.AcceptRestart(t.Context()) == nil })
	set(t, r, "maxmemory", "0")
	for _, read := range reads {
		if n, err := read(); n != durable || err != nil {
			t.Errorf("before the capture has appended again, %d events are read, %v", n, err)
		}
	}
	queuetest.AppendEvents(t, q, durable, total, 1, key)
	for _, stream := range []string{"gancho:{a}:q", "gancho:{b}:q"} {
		if n := c.XLen(t.Context(), stream).Val(); n != total {
			t.Errorf("%d events of %d are in %s", n, total, stream)
		}
	}
}

// A Redis that was restarted without a hole makes nobody wait for the capture.
func TestNoHole(t *testing.T) {
	t.Parallel()
	r := queuetest.StartRedis(t, "appendfsync", "always")
	q := queuetest.Open(t, r, endpoint.Endpoint{Name: "a"}, endpoint.Endpoint{Name: "b"})
	queuetest.AppendEvents(t, q, 0, 4, 1, queuetest.KeyModulo(1))
	owned := readAs(t, r, "a")
	r.Kill()
	if err := r.Start(); err != nil {
		t.Fatal(err)
	}
	for _, read := range append(owned, readAs(t, r, "b")...) {
		queuetest.Eventually(t, "the events", func() bool { n, err := read(); return n == 4 && err == nil })
	}
}

// A transaction that was executed once more than its answers say is counted once too often, and
// would hide one that is lost: the next ones make up for it. So they do where one is counted too
// few, which a transaction leaves that sets the count late.
func TestChainIsMadeEven(t *testing.T) {
	t.Parallel()
	r := queuetest.StartRedis(t)
	q := queuetest.Open(t, r, endpoint.Endpoint{Name: "a"})
	c := queuetest.Client(t, r)
	counts := func() (of, newest int64) {
		n := c.BitField(t.Context(), "gancho:{}:chain", "GET", "i64", "#0", "GET", "i64", "#1").Val()
		return n[0], n[1]
	}
	for at, by := range []int{1, 3, -2} {
		queuetest.AppendEvents(t, q, 4*at, 4*at+1, 1, queuetest.KeyModulo(1))
		if err := c.BitField(t.Context(), "gancho:{}:chain", "INCRBY", "i64", "#0", by).Err(); err != nil {
			t.Fatal(err)
		}
		queuetest.AppendEvents(t, q, 4*at+1, 4*at+4, 1, queuetest.KeyModulo(1))
		if count, newest := counts(); count != newest || newest != int64(4*at+4) {
			t.Errorf("%d of %d transactions are counted", count, newest)
		}
	}
}
