package delivery_test

import (
	"context"
	"errors"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"gancho/delivery"
	"gancho/internal/testservers"
)

// confirmations are what RunDurable has confirmed.
type confirmations struct {
	mu   sync.Mutex
	list []uint64
}

func (c *confirmations) add(lsn uint64) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.list = append(c.list, lsn)
}

func (c *confirmations) newest() uint64 {
	c.mu.Lock()
	defer c.mu.Unlock()
	if len(c.list) == 0 {
		return 0
	}
	return c.list[len(c.list)-1]
}

// runDurable runs it until the test ends, or returns its error to the channel.
func runDurable(t *testing.T, q *delivery.Queue) (*confirmations, <-chan error) {
	t.Helper()
	c, ended := &confirmations{}, make(chan error, 1)
	ctx, cancel := context.WithCancel(context.Background())
	var running sync.WaitGroup
	running.Go(func() { ended <- q.RunDurable(ctx, c.add) })
	t.Cleanup(func() { cancel(); running.Wait() })
	return c, ended
}

func recorded(t *testing.T, r *testservers.Redis) uint64 {
	t.Helper()
	n, err := strconv.ParseUint(redisClient(t, r).HGet(t.Context(), "gancho:source", "confirmed").Val(), 10, 64)
	if err != nil {
		t.Fatal(err)
	}
	return n
}

func TestConfirmAtOnceWithFsyncAlways(t *testing.T) {
	t.Parallel()
	r := startRedis(t, "appendfsync", "always")
	q := openQueue(t, r, delivery.Endpoint{Name: "a"})
	c, _ := runDurable(t, q)
	start := time.Now()
	appendEvents(t, q, 0, 10, 10, keyModulo(1))
	q.Appended(lsnOf(9))
	eventually(t, "the confirmation", func() bool { return c.newest() == lsnOf(9) })
	if d := time.Since(start); d > 1500*time.Millisecond {
		t.Errorf("confirmed after %s, want at once", d)
	}
	if n := recorded(t, r); n != lsnOf(9) {
		t.Errorf("recorded %x, want %x", n, lsnOf(9))
	}
	// A position at which nothing was appended is durable too.
	q.Appended(lsnOf(12))
	eventually(t, "the confirmation", func() bool { return c.newest() == lsnOf(12) })
}

// trustsWAITAOF reports whether the server's WAITAOF answers after the fsync
// under everysec: Redis from 8 on, and no Valkey yet.
func trustsWAITAOF(t *testing.T, r *testservers.Redis) bool {
	t.Helper()
	info := redisClient(t, r).InfoMap(t.Context(), "server").Val()["Server"]
	major, _, _ := strings.Cut(info["redis_version"], ".")
	n, err := strconv.Atoi(major)
	return err == nil && n >= 8 && info["valkey_version"] == ""
}

func TestConfirmAfterTwoSecondsWithEverysec(t *testing.T) {
	t.Parallel()
	r := startRedis(t)
	q := openQueue(t, r, delivery.Endpoint{Name: "a"})
	c, _ := runDurable(t, q)
	start := time.Now()
	for i := range 3 {
		appendEvents(t, q, i, i+1, 1, keyModulo(1))
		q.Appended(lsnOf(i))
	}
	eventually(t, "the confirmation", func() bool { return c.newest() == lsnOf(2) })
	if d := time.Since(start); d < 2*time.Second && !trustsWAITAOF(t, r) {
		t.Errorf("confirmed after %s, want 2 s or more", d)
	}
	if n := recorded(t, r); n < c.newest() {
		t.Errorf("confirmed %x before it was recorded: %x", c.newest(), n)
	}
}

func TestRestartStopsAppendingAndConfirming(t *testing.T) {
	t.Parallel()
	r := startRedis(t)
	q := openQueue(t, r, delivery.Endpoint{Name: "a"})
	c, ended := runDurable(t, q)
	appendEvents(t, q, 0, 5, 5, keyModulo(1))
	q.Appended(lsnOf(4))
	eventually(t, "the record", func() bool { return recorded(t, r) == lsnOf(4) })
	r.Kill()
	if err := r.Start(); err != nil {
		t.Fatal(err)
	}
	if err := <-ended; !errors.Is(err, delivery.ErrRestarted) {
		t.Errorf("RunDurable returned %v, want ErrRestarted", err)
	}
	if c.newest() != 0 {
		t.Errorf("confirmed %x, though the server has restarted", c.newest())
	}
	b := q.NewBatch()
	if _, err := b.Add(event(5, "k")); err != nil {
		t.Fatal(err)
	}
	for range 3 { // however often it is tried, and over whatever connection
		if err := q.Append(t.Context(), b); !errors.Is(err, delivery.ErrRestarted) && !errors.Is(err, delivery.ErrUnreachable) {
			t.Errorf("append returned %v, want ErrRestarted", err)
		}
	}
	// While it waits for a slow disk, Redis has not even written what it answered to.
	if n, err := redisClient(t, r).XLen(t.Context(), "gancho:{a}:q").Result(); n != 5 && n != 0 || err != nil {
		t.Errorf("%d events, %v, want those from before, or none: none beyond the gap", n, err)
	}
	if err := q.AcceptRestart(t.Context()); err != nil {
		t.Fatal(err)
	}
	appendEvents(t, q, 0, 6, 6, keyModulo(1)) // after the rewind
	if n := redisClient(t, r).XLen(t.Context(), "gancho:{a}:q").Val(); n != 6 {
		t.Errorf("%d events, want 6", n)
	}
	c, _ = runDurable(t, q)
	q.Appended(lsnOf(5))
	eventually(t, "the confirmation", func() bool { return c.newest() == lsnOf(5) })
}

func TestUnreachableIsToldAndEnds(t *testing.T) {
	t.Parallel()
	r := startRedis(t)
	q := openQueue(t, r, delivery.Endpoint{Name: "a"})
	b := q.NewBatch()
	if _, err := b.Add(event(1, "k")); err != nil {
		t.Fatal(err)
	}
	r.Kill()
	if err := q.Append(t.Context(), b); !errors.Is(err, delivery.ErrUnreachable) {
		t.Errorf("append returned %v, want ErrUnreachable", err)
	}
	if err := q.Ping(t.Context()); !errors.Is(err, delivery.ErrUnreachable) {
		t.Errorf("ping returned %v, want ErrUnreachable", err)
	}
	if err := q.AcceptRestart(t.Context()); !errors.Is(err, delivery.ErrUnreachable) {
		t.Errorf("accept returned %v, want ErrUnreachable", err)
	}
}

func TestRestartAcceptedWithItsRecordLost(t *testing.T) {
	t.Parallel()
	r := startRedis(t)
	q := openQueue(t, r, delivery.Endpoint{Name: "a"})
	if err := redisClient(t, r).FlushAll(t.Context()).Err(); err != nil {
		t.Fatal(err)
	}
	if err := q.AcceptRestart(t.Context()); err != nil {
		t.Fatal(err)
	}
	appendEvents(t, q, 0, 1, 1, keyModulo(1))
	if epoch, err := openOnly(t, r).Claim(t.Context(), source(), false); err != nil || epoch != 1 {
		t.Errorf("claimed epoch %d, %v, want 1", epoch, err)
	}
}

func TestOlderClaimIsRefused(t *testing.T) {
	t.Parallel()
	r := startRedis(t)
	q := openQueue(t, r, delivery.Endpoint{Name: "a"})
	other := source()
	other.Timeline = 2
	if _, err := openOnly(t, r).Claim(t.Context(), other, true); err != nil {
		t.Fatal(err)
	}
	_, ended := runDurable(t, q)
	q.Appended(lsnOf(1))
	if err := <-ended; err == nil || errors.Is(err, delivery.ErrRestarted) {
		t.Errorf("got %v, want an error that says who has the queue", err)
	}
	if err := q.AcceptRestart(t.Context()); err == nil {
		t.Error("accepted a restart with the queue in other hands")
	}
}
