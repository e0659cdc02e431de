package dispatch_test

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"gancho/delivery/queue/queuetest"

	"github.com/redis/go-redis/v9"

	"gancho/delivery/dispatch"
	"gancho/delivery/endpoint"
	"gancho/delivery/queue"
	"gancho/delivery/webhook"
	"gancho/internal/testservers"
)

func startCluster(t testing.TB, replicas int) *testservers.Cluster {
	t.Helper()
	c, err := testservers.StartCluster(testservers.ClusterOptions{Replicas: replicas})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(c.Close)
	return c
}

func openCluster(t testing.TB, c *testservers.Cluster, endpoints ...endpoint.Endpoint) *queue.Queue {
	t.Helper()
	return openPart(t, c, "gancho", endpoints...)
}

// openPart opens the queue of a prefix: tests that break no node share a cluster.
func openPart(t testing.TB, c *testservers.Cluster, prefix string, endpoints ...endpoint.Endpoint) *queue.Queue {
	t.Helper()
	return openAt(t, queue.Options{Cluster: &queue.ClusterOptions{Addresses: c.Addresses()}, Prefix: prefix, Endpoints: queuetest.Endpoints(endpoints...)})
}

// The subtests run one after the other: the last ones spoil the nodes' settings.
func TestCluster(t *testing.T) {
	t.Parallel()
	c := startCluster(t, 0)
	t.Run("append and deliver", func(t *testing.T) { testClusterDelivers(t, c) })
	t.Run("wake other processes", func(t *testing.T) { testClusterWakes(t, c) })
	t.Run("claim with the record lost", func(t *testing.T) { testClusterClaim(t, c) })
	t.Run("fence", func(t *testing.T) { testClusterFence(t, c) })
	t.Run("parked changes", func(t *testing.T) {
		client := redis.NewClusterClient(&redis.ClusterOptions{Addrs: c.Addresses()})
		defer func() { _ = client.Close() }()
		testUnpark(t, openPart(t, c, "parked", unparkEndpoints()...), client, "parked")
		testRekeyParked(t, openPart(t, c, "rekey", unparkEndpoints()...), client, "rekey")
	})
	t.Run("forget a key", func(t *testing.T) { testForgetParts(t, openPart(t, c, "forget", unparkEndpoints()[:2]...), 2) })
	t.Run("one full node", func(t *testing.T) { testClusterFull(t, c) })
	t.Run("one bad node", func(t *testing.T) { testClusterSettings(t, c) })
}

// openAt opens a queue wherever it is, and claims it for the usual source.
func openAt(t testing.TB, o queue.Options) *queue.Queue {
	t.Helper()
	o.Logger = queuetest.Logger(t)
	q, err := queue.Open(t.Context(), o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := q.Close(); err != nil {
			t.Errorf("close queue: %v", err)
		}
	})
	if _, err := q.Claim(t.Context(), queuetest.Source(), false); err != nil {
		t.Fatal(err)
	}
	return q
}

func owner(t testing.TB, c *testservers.Cluster, key string) *testservers.Redis {
	t.Helper()
	r, err := c.Owner(t.Context(), key)
	if err != nil {
		t.Fatal(err)
	}
	return r
}

// inspected waits until the queue has asked a server n times how it is.
func inspected(t testing.TB, r *testservers.Redis, n int) {
	t.Helper()
	c := queuetest.Client(t, r)
	first, own := 0, 0
	queuetest.Eventually(t, "the server to be inspected", func() bool {
		calls := commandCalls(t, c, "info") - own // before this one
		own++
		if first == 0 {
			first = calls
		}
		return calls-first >= n
	})
}

// commandCalls is how often a server has run a command.
func commandCalls(t testing.TB, c *redis.Client, command string) int {
	t.Helper()
	stats, _, _ := strings.Cut(strings.TrimPrefix(c.InfoMap(t.Context(), "commandstats").Item("Commandstats", "cmdstat_"+command), "calls="), ",")
	if stats == "" {
		return 0
	}
	n, err := strconv.Atoi(stats)
	if err != nil {
		t.Fatal(err)
	}
	return n
}

// spread are endpoints of which each of the nodes has some.
func spread(t testing.TB, c *testservers.Cluster, n int) []endpoint.Endpoint {
	t.Helper()
	eps, nodes := endpoints(n), map[*testservers.Redis]bool{}
	for i := range eps {
		eps[i].Retry = ms(1, 1, 1, 1, 1, 1, 1)
		nodes[owner(t, c, "gancho:{"+eps[i].Name+"}:q")] = true
	}
	if len(nodes) < 3 {
		t.Fatalf("the endpoints are on %d nodes only", len(nodes))
	}
	return eps
}

func testClusterDelivers(t *testing.T, c *testservers.Cluster) {
	t.Helper()
	eps := spread(t, c, 12)
	q := openPart(t, c, "deliver", eps...)
	sink := newReceiver()
	sink.answer = func(_ context.Context, _ *endpoint.Endpoint, m *webhook.Message, n int) webhook.Outcome {
		if strings.HasSuffix(m.Key, "3") && n == 1 {
			return status(500) // so that all kinds of results are written
		}
		return delivered()
	}
	startDispatcher(t, q, sink, dispatch.Options{Lease: time.Hour}, eps...)
	const total = 400
	for i := 0; i < total; i += 20 {
		queuetest.AppendEvents(t, q, i, i+20, 240, queuetest.KeyModulo(17))
	}
	checkOrder(t, sink.distinct(t, total*len(eps)))
	for _, ep := range eps {
		queuetest.Drained(t, q, ep.Name)
	}
	// Appending all of it again changes nothing.
	queuetest.AppendEvents(t, q, 0, total, 300, queuetest.KeyModulo(17))
	for _, ep := range eps {
		if held, err := queuetest.Stats(t.Context(), q, ep.Name); held.Backlog != 0 || err != nil {
			t.Errorf("%s: %d events, %v", ep.Name, held.Backlog, err)
		}
	}
	orphans, err := q.Orphans(t.Context(), nil)
	if len(orphans) != 0 || err != nil {
		t.Errorf("orphans %v, %v", orphans, err)
	}
	if _, err := q.Resume(t.Context(), eps[0].Name); err != nil {
		t.Error(err)
	}
	if _, err := q.Hasten(t.Context(), eps[1].Name); err != nil {
		t.Error(err)
	}
}

// A worker in another process is woken, whatever nodes the two talk to.
func testClusterWakes(t *testing.T, c *testservers.Cluster) {
	t.Helper()
	eps := spread(t, c, 6)
	q := openPart(t, c, "wake", eps...)
	sink := newReceiver()
	startDispatcher(t, openPart(t, c, "wake", eps...), sink, dispatch.Options{Lease: time.Hour}, eps...)
	queuetest.Eventually(t, "the leases", func() bool {
		for _, ep := range eps {
			stats, err := q.Stats(t.Context(), []string{ep.Name})
			if err != nil || !stats[0].Owned {
				return false
			}
		}
		return true
	})
	queuetest.Eventually(t, "the subscription", func() bool {
		n := int64(0)
		for _, node := range c.Nodes() {
			n += queuetest.Client(t, node).PubSubNumSub(t.Context(), "wake:wake").Val()["wake:wake"]
		}
		return n == 1
	})
	for i := range 10 {
		queuetest.AppendEvents(t, q, i, i+1, 1, queuetest.KeyModulo(1))
		sink.distinct(t, (i+1)*len(eps))
	}
}

// The batch is refused by the full node as a whole, and is repeated until it
// is everywhere; what the others had taken is not doubled.
func testClusterFull(t *testing.T, c *testservers.Cluster) {
	t.Helper()
	eps := spread(t, c, 6)
	q := openPart(t, c, "full", eps...)
	full := owner(t, c, "full:{e0}:q")
	client := queuetest.Client(t, full)
	if err := client.ConfigSet(t.Context(), "maxmemory", "1").Err(); err != nil {
		t.Fatal(err)
	}
	b := q.NewBatch()
	for i := range 10 {
		if _, err := b.Add(queuetest.Event(i, "k")); err != nil {
			t.Fatal(err)
		}
	}
	for range 2 {
		if err := q.Append(t.Context(), b); !errors.Is(err, queue.ErrFull) {
			t.Fatalf("append returned %v, want ErrFull", err)
		}
	}
	if err := client.ConfigSet(t.Context(), "maxmemory", "0").Err(); err != nil {
		t.Fatal(err)
	}
	if err := q.Append(t.Context(), b); err != nil {
		t.Fatal(err)
	}
	for _, ep := range eps {
		if held, err := queuetest.Stats(t.Context(), q, ep.Name); held.Backlog != 10 || err != nil {
			t.Errorf("%s: %d events, %v, want 10", ep.Name, held.Backlog, err)
		}
	}
}

// A node dies and comes back on its AOF.
func TestClusterNodeKilled(t *testing.T) {
	t.Parallel()
	c := startCluster(t, 0)
	eps := spread(t, c, 6)
	q := openCluster(t, c, eps...)
	sink := newReceiver()
	_, stop := startDispatcher(t, q, sink, dispatch.Options{Lease: 2 * time.Second}, eps...)
	const total, kills = 1200, 3
	capture, stopCapture := startCapture(t, q, nil, total, 300, 600, 900)
	for k := range kills {
		capture.after(t, (k+1)*total/(kills+1))
		node := c.Nodes()[k]
		node.Kill()
		if err := node.Start(); err != nil {
			t.Fatal(err)
		}
	}
	all := sink.distinct(t, total*len(eps))
	for _, ep := range eps {
		queuetest.Drained(t, q, ep.Name)
	}
	stopCapture()
	stop()
	t.Logf("%d repeats in %d kills, %d rewinds", checkOrder(t, all), kills, capture.rewinds)
	if capture.rewinds == 0 {
		t.Error("the capture never noticed a restart")
	}
}

// A master dies for good, and its replica is promoted, without the end of what
// it was given, perhaps.
func TestClusterFailover(t *testing.T) {
	testservers.Whole(t)
	t.Parallel()
	c := startCluster(t, 1)
	eps := spread(t, c, 6)
	q := openCluster(t, c, eps...)
	sink := newReceiver()
	_, stop := startDispatcher(t, q, sink, dispatch.Options{Lease: 2 * time.Second}, eps...)
	const total = 1200
	late, err := queue.Open(t.Context(), queue.Options{Cluster: &queue.ClusterOptions{Addresses: c.Addresses()}, Prefix: "gancho", Logger: queuetest.Logger(t)})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = late.Close() })
	capture, stopCapture := startCapture(t, q, nil, total, 400, 800)
	var killed *testservers.Redis
	for k, key := range []string{"gancho:{e0}:q", "gancho:source"} {
		capture.after(t, (k+1)*total/3)
		if killed != nil { // it comes back as a replica
			if err := killed.Start(); err != nil {
				t.Fatal(err)
			}
		}
		killed = owner(t, c, key)
		killed.Kill()
	}
	all := sink.distinct(t, total*len(eps))
	for _, ep := range eps {
		queuetest.Drained(t, q, ep.Name)
	}
	queuetest.Eventually(t, "the last position to be confirmed", func() bool { return capture.confirmed.Newest() == queuetest.LSN(total-1) })
	stopCapture()
	stop()
	queuetest.Eventually(t, "a claim by one who has met other masters", func() bool {
		_, err := late.Claim(t.Context(), queuetest.Source(), false)
		if err != nil && !errors.Is(err, queue.ErrUnreachable) {
			t.Fatal(err)
		}
		return err == nil
	})
	t.Logf("%d repeats, %d rewinds", checkOrder(t, all), capture.rewinds)
	if capture.rewinds == 0 {
		t.Error("the capture never noticed the failover")
	}
}

// Slots move to another node and back while events flow.
func TestClusterSlotsMove(t *testing.T) {
	testservers.Whole(t)
	t.Parallel()
	c := startCluster(t, 0)
	eps := spread(t, c, 6)
	q := openCluster(t, c, eps...)
	sink := newReceiver()
	_, stop := startDispatcher(t, q, sink, dispatch.Options{Lease: 2 * time.Second}, eps...)
	const total = 1500
	capture, stopCapture := startCapture(t, q, nil, total, 250, 500, 750, 1000)
	for k := range 4 {
		capture.after(t, (k+1)*250)
		key := fmt.Sprintf("gancho:{e%d}:q", k%2)
		from := owner(t, c, key)
		for _, to := range c.Nodes() {
			if to != from {
				if err := c.MoveSlot(t.Context(), key, to); err != nil {
					t.Fatal(err)
				}
				break
			}
		}
	}
	all := sink.distinct(t, total*len(eps))
	for _, ep := range eps {
		queuetest.Drained(t, q, ep.Name)
	}
	stopCapture()
	stop()
	t.Logf("%d repeats, %d rewinds", checkOrder(t, all), capture.rewinds)
}

func TestOpenClusterThatIsNone(t *testing.T) {
	t.Parallel()
	r := queuetest.StartRedis(t)
	_, err := queue.Open(t.Context(), queue.Options{Cluster: &queue.ClusterOptions{Addresses: []string{r.Addr()}}, Logger: queuetest.Logger(t)})
	var setting *queue.SettingError
	if !errors.As(err, &setting) || setting.Setting != "cluster-enabled" {
		t.Errorf("got %v, want a SettingError for cluster-enabled", err)
	}
	node := queuetest.StartRedis(t, "cluster-enabled", "yes")
	_, err = queue.Open(t.Context(), queue.Options{URL: node.URL(), Logger: queuetest.Logger(t)})
	if !errors.As(err, &setting) || !strings.Contains(err.Error(), "queue.cluster") {
		t.Errorf("got %v, want a SettingError that names queue.cluster", err)
	}
	_, err = queue.Open(t.Context(), queue.Options{Cluster: &queue.ClusterOptions{Addresses: []string{node.Addr()}}, Logger: queuetest.Logger(t)})
	if !errors.Is(err, queue.ErrUnreachable) || !strings.Contains(err.Error(), "0 of 16384 slots") {
		t.Errorf("got %v, want ErrUnreachable that names the slots", err)
	}
	node.Kill()
	_, err = queue.Open(t.Context(), queue.Options{Cluster: &queue.ClusterOptions{Addresses: []string{node.Addr()}}, Logger: queuetest.Logger(t)})
	if !errors.Is(err, queue.ErrUnreachable) {
		t.Errorf("got %v, want ErrUnreachable", err)
	}
	for _, o := range []queue.Options{{}, {URL: r.URL(), Cluster: &queue.ClusterOptions{}}} {
		if _, err := queue.Open(t.Context(), o); err == nil {
			t.Errorf("opened %+v", o)
		}
	}
}

// Every master's settings count.
func testClusterSettings(t *testing.T, c *testservers.Cluster) {
	t.Helper()
	if err := queuetest.Client(t, c.Nodes()[2]).ConfigSet(t.Context(), "maxmemory-policy", "allkeys-lru").Err(); err != nil {
		t.Fatal(err)
	}
	_, err := queue.Open(t.Context(), queue.Options{Cluster: &queue.ClusterOptions{Addresses: c.Addresses()[:1]}, Logger: queuetest.Logger(t)})
	var setting *queue.SettingError
	if !errors.As(err, &setting) || setting.Setting != "maxmemory-policy" {
		t.Errorf("got %v, want a SettingError for maxmemory-policy", err)
	}
}

// What only the master had is lost with it: it was not confirmed, and is
// appended again, though the other masters still have their part.
func TestClusterFailoverLosesTheTail(t *testing.T) {
	testservers.Whole(t)
	t.Parallel()
	c := startCluster(t, 1)
	eps := spread(t, c, 6)
	q := openCluster(t, c, eps...)
	sink := newReceiver()
	_, stop := startDispatcher(t, q, sink, dispatch.Options{Lease: 2 * time.Second}, eps...)
	const total, safe = 1000, 500
	first, stopFirst := startCapture(t, q, nil, safe, safe)
	queuetest.Eventually(t, "the first half to be confirmed", func() bool { return first.confirmed.Newest() == queuetest.LSN(safe-1) })
	stopFirst()
	master := owner(t, c, "gancho:{e0}:q")
	replica := c.ReplicaOf(master)
	signal(t, syscall.SIGSTOP, replica)
	second, stopSecond := startCapture(t, q, nil, total, total)
	second.after(t, total)
	sink.distinct(t, total*len(eps))
	inspected(t, master, 20)
	if n := second.confirmed.Newest(); n > queuetest.LSN(safe-1) {
		t.Errorf("confirmed %x, which a replica does not have", n)
	}
	master.Kill()
	signal(t, syscall.SIGCONT, replica)
	queuetest.Eventually(t, "the replica to be promoted", func() bool { return owner(t, c, "gancho:{e0}:q") == replica })
	queuetest.Eventually(t, "the last position to be confirmed", func() bool { return second.confirmed.Newest() == queuetest.LSN(total-1) })
	for _, ep := range eps {
		queuetest.Drained(t, q, ep.Name)
	}
	stopSecond()
	stop()
	if second.rewinds == 0 {
		t.Error("the capture never noticed the failover")
	}
	t.Logf("%d repeats, %d rewinds", checkOrder(t, sink.list()), second.rewinds)
}

// testClusterFence: whoever was given the slot appends, and nobody else: neither to a stream that both know, nor
// to one that only the one that was stopped knows.
func testClusterFence(t *testing.T, c *testservers.Cluster) {
	t.Helper()
	eps := spread(t, c, 6)
	first, second := openPart(t, c, "fence", eps...), openPart(t, c, "fence", eps[:5]...)
	take := func(q *queue.Queue) {
		t.Helper()
		if err := q.Take(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
	client := redis.NewClusterClient(&redis.ClusterOptions{Addrs: c.Addresses()})
	t.Cleanup(func() { _ = client.Close() })
	batch := func(q *queue.Queue, i int, endpoint string) *queue.Batch {
		b := q.NewBatch()
		if _, err := b.AddFor(queuetest.Event(i, "k"), endpoint); err != nil {
			t.Fatal(err)
		}
		return b
	}
	take(first)
	if err := first.Append(t.Context(), batch(first, 0, "e0")); err != nil {
		t.Fatal(err)
	}
	known, unknown := batch(first, 1, "e0"), batch(first, 1, "e5")
	take(second)
	for name, b := range map[string]*queue.Batch{"e0": known, "e5": unknown} {
		if err := first.Append(t.Context(), b); !errors.Is(err, queue.ErrFenced) {
			t.Errorf("%s: %v, want ErrFenced", name, err)
		}
	}
	for name, want := range map[string]int64{"e0": 1, "e5": 0} {
		if n := client.XLen(t.Context(), "fence:{"+name+"}:q").Val(); n != want {
			t.Errorf("%s has %d events, want %d", name, n, want)
		}
	}
	if err := second.Append(t.Context(), batch(second, 1, "")); err != nil {
		t.Error(err)
	}
	// A token that a node has lost, as in a failover, is there again with the next append.
	if err := client.Del(t.Context(), "fence:{e0}:capture").Err(); err != nil {
		t.Fatal(err)
	}
	if err := second.Append(t.Context(), batch(second, 2, "")); err != nil {
		t.Error(err)
	}
	if now := client.Get(t.Context(), "fence:{e0}:capture").Val(); now != fmt.Sprint(second.Token()) {
		t.Errorf("the copy of the token is %q, want %d", now, second.Token())
	}
	// Nodes lose copies with the end of their files, and whoever was fenced out is the first to see it.
	for name, q := range map[string]*queue.Queue{"who was fenced out": first, "who captures": second} {
		for _, e := range eps {
			client.Del(t.Context(), "fence:{"+e.Name+"}:capture")
		}
		if err := q.AcceptRestart(t.Context()); err != nil {
			t.Fatal(name, err)
		}
		for _, e := range eps {
			if now := client.Get(t.Context(), "fence:{"+e.Name+"}:capture").Val(); now != fmt.Sprint(second.Token()) {
				t.Errorf("%s accepts a restart: the copy of %s is %q, want %d", name, e.Name, now, second.Token())
			}
			if err := first.Append(t.Context(), batch(first, 3, e.Name)); !errors.Is(err, queue.ErrFenced) {
				t.Errorf("%s accepts a restart: %s: %v, want ErrFenced", name, e.Name, err)
			}
		}
	}
}

// The epoch is found in the streams, on whatever node they are.
func testClusterClaim(t *testing.T, c *testservers.Cluster) {
	t.Helper()
	eps := spread(t, c, 6)
	q := openPart(t, c, "claim", eps...)
	queuetest.AppendEvents(t, q, 0, 1, 6, queuetest.KeyModulo(1))
	client := redis.NewClusterClient(&redis.ClusterOptions{Addrs: c.Addresses()})
	t.Cleanup(func() { _ = client.Close() })
	for _, key := range []string{"claim:source", "claim:{e0}:q", "claim:{e1}:q"} {
		if err := client.Del(t.Context(), key).Err(); err != nil {
			t.Fatal(err)
		}
	}
	if epoch, err := openPart(t, c, "claim").Claim(t.Context(), queuetest.Source(), false); err != nil || epoch != 2 {
		t.Errorf("claimed epoch %d, %v, want 2", epoch, err)
	}
	orphans, err := openPart(t, c, "claim").Orphans(t.Context(), queuetest.Endpoints(eps[:3]...))
	if len(orphans) != 3 || err != nil {
		t.Errorf("orphans %v, %v, want three", orphans, err)
	}
}
