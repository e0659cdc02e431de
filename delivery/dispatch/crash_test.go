package dispatch_test

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"gancho/delivery/queue/queuetest"

	"gancho/delivery/dispatch"
	"gancho/delivery/endpoint"
	"gancho/delivery/queue"
	"gancho/delivery/webhook"
	"gancho/internal/retry"
	"gancho/internal/testservers"
)

// capture plays the capture's part: it appends events in batches, waits
// while Redis is unreachable, and rewinds to the confirmed position after a restart.
type capture struct {
	q         *queue.Queue
	total     int
	confirmed queuetest.Confirmations
	rewinds   int
	aof       *testservers.Redis    // nil: nobody cuts its AOF
	durable   atomic.Int64          // how long the AOF was at the last confirmation, or longer
	marks     map[int]chan struct{} // closed when so many events have been appended
}

func (c *capture) run(ctx context.Context, t *testing.T) {
	t.Helper()
	for from := 0; ctx.Err() == nil; c.rewinds++ {
		durable, cancel := context.WithCancel(ctx)
		restarted := make(chan struct{})
		var running sync.WaitGroup
		running.Go(func() {
			if err := c.q.RunDurable(durable, c.confirm); errors.Is(err, queue.ErrRestarted) {
				close(restarted)
			}
		})
		c.appendFrom(ctx, t, from, restarted)
		cancel()
		running.Wait()
		for ctx.Err() == nil && c.q.AcceptRestart(ctx) != nil {
			_ = retry.Wait(ctx, retryEvery)
		}
		from = 0
		if n := c.confirmed.Newest(); n > 0 {
			from = int(n-queuetest.LSN(0))/0x100 + 1
		}
	}
}

func (c *capture) confirm(lsn uint64) {
	if c.aof != nil {
		if _, size, err := aofOf(c.aof); err == nil {
			c.durable.Store(size)
		}
	}
	c.confirmed.Add(lsn)
}

// appendFrom returns when Redis was restarted, or when the context ends.
func (c *capture) appendFrom(ctx context.Context, t *testing.T, from int, restarted <-chan struct{}) {
	t.Helper()
	b := c.q.NewBatch()
	for i := from; i < c.total && ctx.Err() == nil; {
		b.Reset()
		for ; i < c.total && b.Len() < 20; i++ {
			if _, err := b.Add(queuetest.Event(i, queuetest.KeyModulo(17)(i))); err != nil {
				t.Errorf("add event %d: %v", i, err)
				return
			}
		}
		for {
			err := c.q.Append(ctx, b)
			if err == nil {
				break
			}
			if errors.Is(err, queue.ErrRestarted) || ctx.Err() != nil {
				return
			}
			_ = retry.Wait(ctx, retryEvery)
		}
		c.q.Appended(queuetest.LSN(i - 1))
		c.pass(i)
	}
	select {
	case <-restarted:
	case <-ctx.Done():
	}
}

// retryEvery is how often the capture retries.
const retryEvery = 5 * time.Millisecond

// startCapture appends total events. The marks are what after may be called with.
// aof is the server whose AOF will be cut, if any.
func startCapture(t *testing.T, q *queue.Queue, aof *testservers.Redis, total int, marks ...int) (c *capture, stop func()) {
	t.Helper()
	c = &capture{q: q, aof: aof, total: total, marks: map[int]chan struct{}{}}
	for _, n := range marks {
		c.marks[n] = make(chan struct{})
	}
	ctx, cancel := context.WithCancel(context.Background())
	var running sync.WaitGroup
	running.Go(func() { c.run(ctx, t) })
	stop = sync.OnceFunc(func() { cancel(); running.Wait() })
	t.Cleanup(stop)
	return c, stop
}

// pass closes the marks up to n.
func (c *capture) pass(n int) {
	for mark, passed := range c.marks {
		if mark > n {
			continue
		}
		select {
		case <-passed:
		default:
			close(passed)
		}
	}
}

func (c *capture) after(t *testing.T, n int) {
	t.Helper()
	select {
	case <-c.marks[n]:
	case <-time.After(queuetest.Patience):
		t.Fatalf("waited for %d events to be appended", n)
	}
}

func TestRedisKilledUnderLoad(t *testing.T) {
	t.Parallel()
	r := queuetest.StartRedis(t)
	ep := endpoint.Endpoint{Name: "a", Retry: ms(1, 1, 1, 1, 1, 1, 1)}
	q := queuetest.Open(t, r, ep)
	sink := newReceiver()
	var failed atomic.Int64
	sink.answer = func(_ context.Context, _ *endpoint.Endpoint, m *webhook.Message, n int) webhook.Outcome {
		if strings.HasSuffix(m.Sequence, "5500-000000000000-0000") && n == 1 {
			failed.Add(1)
			return status(404)
		}
		return delivered()
	}
	_, stop := startDispatcher(t, q, sink, dispatch.Options{Lease: 2 * time.Second}, ep)
	const total, kills = 4000, 4
	c, stopCapture := startCapture(t, q, nil, total, 800, 1600, 2400, 3200)
	for k := range kills {
		c.after(t, (k+1)*total/(kills+1))
		r.Kill()
		if err := r.Start(); err != nil {
			t.Fatal(err)
		}
	}
	sink.distinct(t, total)
	queuetest.Drained(t, q, "a")
	stopCapture()
	stop()
	if c.rewinds == 0 {
		t.Error("the capture never noticed a restart")
	}
	repeats := checkOrder(t, sink.list()) - int(failed.Load())
	t.Logf("%d repeats in %d kills, %d rewinds", repeats, kills, c.rewinds)
	if limit := kills * endpoint.DefaultConcurrency; repeats > limit {
		t.Errorf("%d repeats, want at most %d", repeats, limit)
	}
}

// aofOf returns the file that Redis appends to, and its size.
func aofOf(r *testservers.Redis) (name string, size int64, err error) {
	files, err := filepath.Glob(filepath.Join(r.Dir(), "appendonlydir", "*.incr.aof"))
	if err != nil {
		return "", 0, err
	}
	if len(files) != 1 {
		return "", 0, fmt.Errorf("found AOF files %v", files)
	}
	st, err := os.Stat(files[0])
	if err != nil {
		return "", 0, err
	}
	return files[0], st.Size(), nil
}

// truncateAOF cuts what Redis has written last, but nothing of the first bytes
// that are durable.
func truncateAOF(t *testing.T, r *testservers.Redis, keep float64, durable int64) {
	t.Helper()
	name, size, err := aofOf(r)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.Truncate(name, max(durable, int64(float64(size)*keep))); err != nil {
		t.Fatal(err)
	}
}

// The end of the AOF is lost, as when the machine loses its power: everything
// arrives, in order, because the position was not confirmed.
func TestLostTailOfAOF(t *testing.T) {
	t.Parallel()
	for _, keep := range []float64{0.95, 0.5, 0.1} {
		t.Run(fmt.Sprint(keep), func(t *testing.T) {
			t.Parallel()
			r := queuetest.StartRedis(t)
			eps := []endpoint.Endpoint{{Name: "a"}, {Name: "down"}}
			q := queuetest.Open(t, r, eps...)
			sink := newReceiver()
			var mu sync.Mutex
			up := false
			sink.answer = func(_ context.Context, ep *endpoint.Endpoint, _ *webhook.Message, _ int) webhook.Outcome {
				mu.Lock()
				defer mu.Unlock()
				if ep.Name == "down" && !up {
					return refused()
				}
				return delivered()
			}
			d, stop := startDispatcher(t, q, sink, dispatch.Options{Lease: 2 * time.Second}, eps...)
			const total = 2000
			c, stopCapture := startCapture(t, q, r, total, total/2)
			c.after(t, total/2)
			r.Kill()
			truncateAOF(t, r, keep, c.durable.Load())
			if err := r.Start(); err != nil {
				t.Fatal(err)
			}
			sink.until(t, "everything at a", func(all []arrival) bool {
				n := map[string]bool{}
				for _, a := range all {
					if a.endpoint == "a" {
						n[a.id] = true
					}
				}
				return len(n) == total
			})
			mu.Lock()
			up = true
			mu.Unlock()
			// It is activated again, so that neither the breaker nor a retry is waited for.
			for _, state := range []endpoint.State{endpoint.Paused, endpoint.Active} {
				eps[1].State = state
				d.Update(queuetest.Endpoints(eps...))
			}
			if _, err := q.Hasten(t.Context(), "down"); err != nil {
				t.Fatal(err)
			}
			sink.distinct(t, 2*total)
			queuetest.Drained(t, q, "a")
			queuetest.Drained(t, q, "down")
			stopCapture()
			stop()
			t.Logf("%d repeats, %d rewinds", checkOrder(t, sink.list()), c.rewinds)
		})
	}
}

// An acknowledgement that cannot be written is kept until Redis answers again:
// the event is not sent again.
func TestRedisUnreachableWhileDelivering(t *testing.T) {
	t.Parallel()
	r := queuetest.StartRedis(t)
	ep := endpoint.Endpoint{Name: "a", Concurrency: 4}
	q := queuetest.Open(t, r, ep)
	sink := newReceiver()
	finish := make(chan struct{})
	sink.answer = func(context.Context, *endpoint.Endpoint, *webhook.Message, int) webhook.Outcome {
		<-finish
		return delivered()
	}
	queuetest.AppendEvents(t, q, 0, 100, 100, queuetest.KeyModulo(10))
	d, stop := startDispatcher(t, q, sink, dispatch.Options{Lease: 500 * time.Millisecond}, ep)
	sink.until(t, "requests in flight", func(all []arrival) bool { return len(all) == 4 })
	r.Kill()
	close(finish)
	queuetest.Eventually(t, "the lease to expire", d.Expired) // nothing may be started then
	if err := r.Start(); err != nil {
		t.Fatal(err)
	}
	sink.distinct(t, 100)
	queuetest.Drained(t, q, "a")
	stop()
	if n := checkOrder(t, sink.list()); n != 0 {
		t.Errorf("%d repeats, want none", n)
	}
}
