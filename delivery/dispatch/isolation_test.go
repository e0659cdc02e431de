package dispatch_test

import (
	"context"
	"fmt"
	"net"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"slices"
	"strconv"
	"sync"
	"testing"
	"time"

	"gancho/delivery/queue/queuetest"

	"gancho/cdc"
	"gancho/delivery/dispatch"
	"gancho/delivery/endpoint"
	"gancho/delivery/queue"
	"gancho/delivery/webhook"
	"gancho/internal/testservers"
	"gancho/mapping"
)

// crowd is the endpoints of TestDeadEndpointsDelayNoHealthyOne and what they
// post to. Each is of one tenant, its number.
type crowd struct {
	healthy, dead, idle []endpoint.Endpoint

	mu      sync.Mutex
	sent    map[string]time.Time // by the event's number
	latency []time.Duration
	all     chan struct{} // closed when want events have arrived
	want    int
}

const (
	crowdHealthy = 50
	crowdDead    = 50
	crowdIdle    = 900
	// Events to each endpoint that gets some, and to each dead one before.
	crowdRounds   = 20
	crowdFailures = 20
	crowdTimeout  = 300 * time.Millisecond
)

func newCrowd(t *testing.T) *crowd {
	t.Helper()
	c := &crowd{}
	well := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) { c.arrived(r.Header.Get("webhook-id")) }))
	t.Cleanup(well.Close)
	broken := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusInternalServerError) }))
	t.Cleanup(broken.Close)
	mute, err := net.Listen("tcp", "127.0.0.1:0") // accepts, and never answers
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = mute.Close() })
	nobody, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	_ = nobody.Close()
	down := []string{"http://" + nobody.Addr().String(), "http://" + mute.Addr().String(), broken.URL}
	add := func(list *[]endpoint.Endpoint, n int, url func(i int) string) {
		for i := range n {
			name := fmt.Sprint(len(c.healthy) + len(c.dead) + len(c.idle))
			*list = append(*list, endpoint.Endpoint{
				Name: name, Tenants: []string{name}, URL: url(i), AllowHTTP: true, Timeout: crowdTimeout,
				AllowPrivate: []netip.Prefix{netip.MustParsePrefix("127.0.0.0/8")},
			})
		}
	}
	add(&c.healthy, crowdHealthy, func(int) string { return well.URL })
	add(&c.dead, crowdDead, func(i int) string { return down[i%len(down)] })
	add(&c.idle, crowdIdle, func(int) string { return well.URL })
	return c
}

// arrived notes the latency of an event at a healthy endpoint.
func (c *crowd) arrived(webhookID string) {
	now := time.Now()
	_, id, err := queue.ParseWebhookID(webhookID)
	if err != nil {
		return // the test waits in vain for it
	}
	key := strconv.FormatUint(uint64(id.Position().Commit), 10)
	c.mu.Lock()
	defer c.mu.Unlock()
	c.latency = append(c.latency, now.Sub(c.sent[key]))
	if len(c.latency) == c.want {
		close(c.all)
	}
}

// measure waits until the dead endpoints are known to be dead, sends events to
// the healthy endpoints, one at a time, and at the same pace to the dead ones,
// and returns the 99th percentile of the time from the append to the arrival at
// a healthy one.
func (c *crowd) measure(t *testing.T, dead []endpoint.Endpoint, all ...[]endpoint.Endpoint) time.Duration {
	t.Helper()
	r := queuetest.StartRedis(t)
	eps := slices.Concat(all...)
	q := queuetest.Open(t, r, eps...)
	sender := webhook.NewSender(webhook.Options{Version: "test"})
	defer sender.Close()
	d := dispatch.New(q, sender, queuetest.Endpoints(eps...), dispatch.Options{Log: true, DrainTimeout: time.Second})
	ctx, stop := context.WithCancel(t.Context())
	var running sync.WaitGroup
	running.Go(func() { _ = d.Run(ctx) })
	defer running.Wait()
	defer stop()
	queuetest.Eventually(t, "all endpoints to be loaded", func() bool { return d.Loaded() == len(eps) })

	c.mu.Lock()
	c.sent, c.latency, c.all, c.want = map[string]time.Time{}, nil, make(chan struct{}), crowdRounds*len(c.healthy)
	c.mu.Unlock()
	b := q.NewBatch()
	commit := cdc.LSN(0x2000)
	for i := range crowdFailures * len(dead) { // until it is known that they are dead
		commit += 0x100
		c.append(t, q, b, commit, dead[i%len(dead)].Name, i)
	}
	queuetest.Eventually(t, "the dead endpoints to be taken for dead", func() bool { return down(t, q, dead) == len(dead) })
	pace := time.NewTicker(2 * time.Millisecond)
	defer pace.Stop()
	for i := range c.want {
		<-pace.C
		commit += 0x100
		if len(dead) > 0 {
			c.append(t, q, b, commit, dead[i%len(dead)].Name, i)
		}
		c.append(t, q, b, commit+1, c.healthy[i%len(c.healthy)].Name, i)
	}
	select {
	case <-c.all:
	case <-time.After(queuetest.Patience):
		t.Fatal("the healthy endpoints have not got everything")
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	slices.Sort(c.latency)
	return c.latency[len(c.latency)*99/100]
}

// down is how many of the endpoints only get probes.
func down(t *testing.T, q *queue.Queue, endpoints []endpoint.Endpoint) (n int) {
	t.Helper()
	names := make([]string, len(endpoints))
	for i := range endpoints {
		names[i] = endpoints[i].Name
	}
	all, err := q.Stats(t.Context(), names)
	if err != nil {
		t.Fatal(err)
	}
	for i := range all {
		if !all[i].Down.IsZero() {
			n++
		}
	}
	return n
}

func (c *crowd) append(t *testing.T, q *queue.Queue, b *queue.Batch, commit cdc.LSN, tenant string, i int) {
	t.Helper()
	b.Reset()
	ev := &mapping.Event{
		Position: cdc.Position{Commit: commit}, Type: "cobranca.liquidada", Time: time.Now(), Tenant: []byte(tenant),
		Key: []byte(strconv.Itoa(i)), Data: []byte(`{"id":1}`),
	}
	if n, err := b.Add(ev); err != nil || n != 1 {
		t.Fatalf("add event: %d endpoints, %v", n, err)
	}
	c.mu.Lock()
	c.sent[strconv.FormatUint(uint64(commit), 10)] = time.Now()
	c.mu.Unlock()
	if err := q.Append(t.Context(), b); err != nil {
		t.Fatal(err)
	}
}

// Of a thousand endpoints 900 are idle and 50 dead, in every way: the 50 healthy
// ones get their events about as fast as if they were alone, or at least far
// sooner than after the timeout of a dead one. The better of up to three
// measurements counts: the machine does other things, too.
func TestDeadEndpointsDelayNoHealthyOne(t *testing.T) {
	testservers.Whole(t)
	c := newCrowd(t)
	const limit, delayed = 2.0, crowdTimeout / 4
	for range 3 {
		alone := c.measure(t, nil, c.healthy)
		crowded := c.measure(t, c.dead, c.healthy, c.dead, c.idle)
		ratio := float64(crowded) / float64(alone)
		t.Logf("p99 from the append to the arrival: %s alone, %s with %d others: %.2f times", alone, crowded, len(c.dead)+len(c.idle), ratio)
		if ratio <= limit || crowded < delayed {
			return
		}
	}
	t.Errorf("the healthy endpoints take more than %.1f times as long, and more than %s", limit, delayed)
}
