package queue_test

import (
	"errors"
	"io"
	"net"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"gancho/delivery/queue/queuetest"

	"gancho/delivery/endpoint"
	"gancho/delivery/queue"
)

// firewall forwards connections to a server, and forgets those that there are when it
// drops them: nothing that is sent over them arrives, and neither side is told.
type firewall struct {
	listener net.Listener
	era      atomic.Int64
}

func newFirewall(t *testing.T, to string) *firewall {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	f := &firewall{listener: l}
	var forwarding sync.WaitGroup
	var mu sync.Mutex
	var open []net.Conn
	forwarding.Go(func() {
		for {
			in, err := l.Accept()
			if err != nil {
				return
			}
			out, err := net.Dial("tcp", to)
			if err != nil {
				_ = in.Close()
				continue
			}
			mu.Lock()
			open = append(open, in, out)
			mu.Unlock()
			era := f.era.Load()
			forwarding.Go(func() { f.forward(out, in, era) })
			forwarding.Go(func() { f.forward(in, out, era) })
		}
	})
	t.Cleanup(func() {
		_ = l.Close()
		mu.Lock()
		for _, c := range open {
			_ = c.Close()
		}
		mu.Unlock()
		forwarding.Wait()
	})
	return f
}

func (f *firewall) forward(to io.Writer, from io.Reader, era int64) {
	buf := make([]byte, 32<<10)
	for {
		n, err := from.Read(buf)
		if err != nil {
			return
		}
		if f.era.Load() == era {
			_, _ = to.Write(buf[:n])
		}
	}
}

// A connection that a firewall has dropped while it was idle costs little.
func TestDroppedConnection(t *testing.T) {
	t.Parallel()
	r := queuetest.StartRedis(t)
	f := newFirewall(t, r.Addr())
	q, err := queue.Open(t.Context(), queue.Options{
		URL: "redis://" + f.listener.Addr().String(), Endpoints: []*endpoint.Endpoint{{Name: "a"}}, Logger: queuetest.Logger(t),
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = q.Close() })
	if _, err := q.Claim(t.Context(), queuetest.Source(), false); err != nil {
		t.Fatal(err)
	}
	queuetest.AppendEvents(t, q, 0, 1, 1, queuetest.KeyModulo(1))
	idle := time.Now()
	queuetest.Eventually(t, "the connection to be idle", func() bool { return time.Since(idle) > 1100*time.Millisecond })
	f.era.Add(1)
	b := q.NewBatch()
	if _, err := b.Add(queuetest.Event(1, "k0")); err != nil {
		t.Fatal(err)
	}
	start := time.Now()
	queuetest.Eventually(t, "the event to be appended", func() bool {
		err := q.Append(t.Context(), b)
		if err != nil && !errors.Is(err, queue.ErrUnreachable) {
			t.Fatal(err)
		}
		return err == nil
	})
	if took := time.Since(start); took > 15*time.Second { // an answer to an append is waited for twice as long
		t.Errorf("the first event after the drop took %s", took)
	} else {
		t.Logf("the first event after the drop took %s", took)
	}
}
