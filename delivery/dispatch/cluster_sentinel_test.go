package dispatch_test

import (
	"errors"
	"strings"
	"syscall"
	"testing"
	"time"

	"gancho/delivery/queue/queuetest"

	"gancho/delivery/dispatch"
	"gancho/delivery/endpoint"
	"gancho/delivery/queue"
	"gancho/internal/testservers"
)

func startSentinel(t testing.TB, settings ...string) *testservers.Sentinel {
	t.Helper()
	o := testservers.SentinelOptions{Settings: map[string]string{}}
	for i := 0; i < len(settings); i += 2 {
		o.Settings[settings[i]] = settings[i+1]
	}
	s, err := testservers.StartSentinel(o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(s.Close)
	return s
}

func openSentinel(t testing.TB, s *testservers.Sentinel, endpoints ...endpoint.Endpoint) *queue.Queue {
	t.Helper()
	return openAt(t, queue.Options{
		Sentinel:  &queue.SentinelOptions{Master: testservers.MasterName, Addresses: s.Addresses()},
		Endpoints: queuetest.Endpoints(endpoints...),
	})
}

func masterOf(t testing.TB, s *testservers.Sentinel) *testservers.Redis {
	t.Helper()
	r, err := s.Master(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	return r
}

// signal stops and continues processes.
func signal(t testing.TB, sig syscall.Signal, nodes ...*testservers.Redis) {
	t.Helper()
	for _, r := range nodes {
		if err := r.Signal(sig); err != nil {
			t.Fatal(err)
		}
	}
}

// The master is killed under traffic, twice; the first comes back as a replica.
func TestSentinelFailover(t *testing.T) {
	t.Parallel()
	s := startSentinel(t)
	ep := endpoint.Endpoint{Name: "a", Retry: ms(1, 1, 1)}
	q := openSentinel(t, s, ep)
	sink := newReceiver()
	_, stop := startDispatcher(t, q, sink, dispatch.Options{Lease: 2 * time.Second}, ep)
	const total = 3000
	c, stopCapture := startCapture(t, q, nil, total, 1000, 2000)
	for k := range 2 {
		c.after(t, (k+1)*total/3)
		before := masterOf(t, s)
		before.Kill()
		queuetest.Eventually(t, "another master", func() bool { return masterOf(t, s) != before })
		if err := before.Start(); err != nil {
			t.Fatal(err)
		}
	}
	all := sink.distinct(t, total)
	queuetest.Drained(t, q, "a")
	queuetest.Eventually(t, "the last position to be confirmed", func() bool { return c.confirmed.Newest() == queuetest.LSN(total-1) })
	stopCapture()
	stop()
	t.Logf("%d repeats, %d rewinds", checkOrder(t, all), c.rewinds)
	if c.rewinds == 0 {
		t.Error("the capture never noticed a failover")
	}
}

// What only the master had is lost with it: it was not confirmed, and is
// appended again.
func TestSentinelFailoverLosesTheTail(t *testing.T) {
	testservers.Whole(t)
	t.Parallel()
	s := startSentinel(t)
	held := endpoint.Endpoint{Name: "held", State: endpoint.Paused}
	open := endpoint.Endpoint{Name: "open"}
	q := openSentinel(t, s, held, open)
	sink := newReceiver()
	d, stop := startDispatcher(t, q, sink, dispatch.Options{Lease: 2 * time.Second}, held, open)
	const total, safe = 1000, 500
	first, stopFirst := startCapture(t, q, nil, safe, safe)
	first.after(t, safe)
	queuetest.Eventually(t, "the first half to be confirmed", func() bool { return first.confirmed.Newest() == queuetest.LSN(safe-1) })
	stopFirst()
	master := masterOf(t, s)
	var replicas []*testservers.Redis
	for _, r := range s.Nodes() {
		if r != master {
			replicas = append(replicas, r)
		}
	}
	signal(t, syscall.SIGSTOP, replicas...)
	second, stopSecond := startCapture(t, q, nil, total, total)
	second.after(t, total)
	sink.until(t, "all at the open endpoint", func(all []arrival) bool { return len(all) >= total })
	inspected(t, master, 20)
	if n := second.confirmed.Newest(); n > queuetest.LSN(safe-1) {
		t.Errorf("confirmed %x, which no replica has", n)
	}
	master.Kill()
	signal(t, syscall.SIGCONT, replicas...)
	queuetest.Eventually(t, "another master", func() bool { return masterOf(t, s) != master })
	queuetest.Eventually(t, "the last position to be confirmed", func() bool { return second.confirmed.Newest() == queuetest.LSN(total-1) })
	held.State = endpoint.Active
	d.Update(queuetest.Endpoints(held, open))
	all := sink.distinct(t, 2*total)
	queuetest.Drained(t, q, "held")
	queuetest.Drained(t, q, "open")
	stopSecond()
	stop()
	if second.rewinds == 0 {
		t.Error("the capture never noticed the failover")
	}
	t.Logf("%d repeats, %d rewinds", checkOrder(t, all), second.rewinds)
}

// With min-replicas-to-write, a master without them takes nothing, which is
// held up and not lost.
func TestSentinelMasterWithTooFewReplicas(t *testing.T) {
	t.Parallel()
	s := startSentinel(t, "min-replicas-to-write", "1", "min-replicas-max-lag", "1")
	q := openSentinel(t, s, endpoint.Endpoint{Name: "a"})
	nodes := s.Nodes()
	signal(t, syscall.SIGSTOP, nodes[1:]...)
	b := q.NewBatch()
	if _, err := b.Add(queuetest.Event(1, "k")); err != nil {
		t.Fatal(err)
	}
	queuetest.Eventually(t, "the refusal", func() bool {
		err := q.Append(t.Context(), b)
		if err != nil && (!errors.Is(err, queue.ErrUnreachable) || !strings.Contains(err.Error(), "NOREPLICAS")) {
			t.Fatalf("append returned %v, want ErrUnreachable for NOREPLICAS", err)
		}
		return err != nil
	})
	signal(t, syscall.SIGCONT, nodes[1:]...)
	queuetest.Eventually(t, "the append", func() bool { return q.Append(t.Context(), b) == nil })
}

func TestOpenSentinelThatDoesNotHelp(t *testing.T) {
	t.Parallel()
	s := startSentinel(t)
	open := func(o queue.SentinelOptions) error {
		q, err := queue.Open(t.Context(), queue.Options{Sentinel: &o, Logger: queuetest.Logger(t)})
		if err == nil {
			_ = q.Close()
		}
		return err
	}
	err := open(queue.SentinelOptions{Master: "outro", Addresses: s.Addresses()})
	if err == nil || errors.Is(err, queue.ErrUnreachable) || !strings.Contains(err.Error(), `"outro"`) {
		t.Errorf("got %v, want an error for good that names the master", err)
	}
	err = open(queue.SentinelOptions{Master: testservers.MasterName, Addresses: []string{"127.0.0.1:1"}})
	if !errors.Is(err, queue.ErrUnreachable) {
		t.Errorf("got %v, want ErrUnreachable", err)
	}
	// A sentinel that is asked for a queue is no Redis.
	_, err = queue.Open(t.Context(), queue.Options{URL: "redis://" + s.Addresses()[0], Logger: queuetest.Logger(t)})
	if err == nil {
		t.Error("opened a sentinel as a queue")
	}
	// One that is unreachable does no harm.
	s.Sentinels()[0].Kill()
	if err := open(queue.SentinelOptions{Master: testservers.MasterName, Addresses: s.Addresses()}); err != nil {
		t.Error(err)
	}
}
