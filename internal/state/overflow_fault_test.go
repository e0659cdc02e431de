package state_test

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"

	"gancho/delivery/dispatch"
	"gancho/delivery/endpoint"
	"gancho/delivery/queue"
	"gancho/delivery/queue/queuetest"
	"gancho/delivery/webhook"
	"gancho/internal/testservers"
)

// begun is a transaction that has executed some SQL, until end is called.
func begun(t *testing.T, dsn, sql string) (end func()) {
	t.Helper()
	tx := must[pgx.Tx](t)(connect(t, dsn).Begin(t.Context()))
	must[pgconn.CommandTag](t)(tx.Exec(t.Context(), sql))
	return func() { t.Helper(); check(t, tx.Commit(t.Context())) }
}

// While only acknowledgements of what has moved fail, their results do not fill the memory:
// the endpoint stops, and others go on; then it goes on, too.
func TestOverflowBoundsResults(t *testing.T) {
	t.Parallel()
	w := newOverflowWorld(t, endpoint.Endpoint{Name: "b"})
	w.stop()
	w.lease = time.Hour // so that nothing else has it go on
	w.deliver()
	const window = overflowWindow
	w.set(endpoint.Paused)
	w.append(60 * window)
	w.moved(20 * window)
	unlock := begun(t, w.dsn, `lock table gancho.overflow_heads in exclusive mode`)
	w.set(endpoint.Active)
	queuetest.Eventually(t, "the endpoint to stop", func() bool { return w.sink.count() >= 8*window })
	w.append(20 * window)
	queuetest.Eventually(t, "the other endpoint's events", func() bool { return w.sink.beside.Load() == 80*window })
	if n := w.sink.count(); n > 9*window {
		t.Errorf("%d events were sent whose acknowledgement fails", n)
	}
	unlock()
	w.end(0)
}

// A state database that does not answer does not hold up the acknowledgements of an endpoint that
// has nothing there, however often events are to move.
func TestOverflowToASilentDatabase(t *testing.T) {
	t.Parallel()
	w := newOverflowWorld(t)
	first := queuetest.Event(0, "").Position.Commit
	waits := func(id string) bool { return strings.Contains(id, fmt.Sprintf("%016x-", uint64(first))) }
	w.sink.fails = func(id string) webhook.Outcome {
		if waits(id) {
			return webhook.Outcome{Kind: webhook.Retry, Status: 429, Class: webhook.ClassStatus}
		}
		return webhook.Outcome{Kind: webhook.Delivered}
	}
	w.ep.Retry = []time.Duration{time.Hour}
	w.set(endpoint.Active)
	unlock := begun(t, w.dsn, `lock table gancho.overflow_heads in access exclusive mode`)
	w.append(1)
	queuetest.Eventually(t, "48 acknowledgements, one after the other", func() bool {
		w.d.Overflow(map[string]int64{"a": 0})
		if w.stats().Backlog != int64(w.appended+4)/5 { // those of the key that waits
			return false
		}
		w.append(1)
		return w.appended > 60
	})
	unlock()
	w.sink.mu.Lock()
	w.sink.fails = func(string) webhook.Outcome { return webhook.Outcome{Kind: webhook.Delivered} }
	w.sink.mu.Unlock()
	must[int](t)(w.q.Hasten(t.Context(), "a"))
	w.end(0)
}

// A process that captures asks the one that delivers to move events.
func TestOverflowOfAnotherProcess(t *testing.T) {
	t.Parallel()
	w := newOverflowWorld(t)
	w.set(endpoint.Paused)
	w.append(30)
	other := w.open()
	queuetest.Eventually(t, "a short stream", func() bool {
		check(t, other.AskOverflow(t.Context(), map[string]int64{"a": 10, "unknown": 0}))
		return w.stats().Overflowed == 20
	})
	w.end(0)
}

// A process without a state database leaves an endpoint to others of whose backlog a part is
// there, also when it learns that late.
func TestOverflowIsLeftToWhoHasIt(t *testing.T) {
	t.Parallel()
	w := newOverflowWorld(t)
	w.set(endpoint.Paused)
	w.append(30)
	w.moved(10)
	w.stop()
	without := queuetest.OpenOnly(t, w.redis, w.ep)
	worker := without.Worker()
	if !must[[]bool](t)(worker.Free(t.Context(), []string{"a"}))[0] {
		t.Fatal("the endpoint is not free")
	}
	if must[[]*queue.Owner](t)(worker.Acquire(t.Context(), time.Hour, []string{"a"}))[0] != nil {
		t.Fatal("it is acquired")
	}
	d, stop := w.dispatch(without)
	defer stop()
	queuetest.Eventually(t, "an endpoint that nobody delivers to", func() bool { return slices.Equal(d.Left(), []string{"a"}) })
	check(t, queuetest.Client(t, w.redis).HDel(t.Context(), "gancho:{a}:state", "overflow").Err()) // as FLUSHALL does
	queuetest.Eventually(t, "an owner", func() bool { return w.stats().Owned })
	check(t, w.q.RestoreOverflow(t.Context()))
	w.deliver()
	w.end(0)
}

// Of an inactive endpoint, which nobody delivers to, the events move as well, and none is sent.
func TestOverflowOfInactiveEndpoint(t *testing.T) {
	t.Parallel()
	w := newOverflowWorld(t)
	w.set(endpoint.Paused)
	w.append(30)
	w.set(endpoint.Inactive)
	queuetest.Eventually(t, "no owner", func() bool { return !w.stats().Owned })
	w.moved(5)
	if n := w.sink.count(); n != 0 {
		t.Errorf("%d events were sent", n)
	}
	w.end(0)
}

// A mark that was set when the last event was acknowledged is removed again.
func TestOverflowMarkOfNothing(t *testing.T) {
	t.Parallel()
	w := newOverflowWorld(t)
	w.append(10)
	queuetest.Eventually(t, "the events", func() bool { return w.sink.count() == 10 })
	c := queuetest.Client(t, w.redis)
	check(t, c.HSet(t.Context(), "gancho:{a}:state", "overflow", "1-1 7 700 0").Err())
	check(t, c.Publish(t.Context(), "gancho:wake", queue.WakeAll).Err())
	queuetest.Eventually(t, "no overflow", func() bool { return w.stats().Overflowed == 0 })
}

// dying is an Overflow whose user dies when a call has been committed.
type dying struct {
	queue.Overflow
	move, take func()
}

func (o *dying) Move(ctx context.Context, endpoint, claim string, read func(queue.ID) ([]queue.Entry, error)) (queue.Head, error) {
	h, err := o.Overflow.Move(ctx, endpoint, claim, read)
	o.move()
	return h, err
}

func (o *dying) Take(ctx context.Context, endpoint, claim string, begin bool, owned func() error) (queue.Head, error) {
	h, err := o.Overflow.Take(ctx, endpoint, claim, begin, owned)
	if !begin {
		o.take()
	}
	return h, err
}

// What has moved and is done does not come again from the stream, in which it still is, whoever
// dies before Redis hears of it.
func TestOverflowEndOutlivesItsEvents(t *testing.T) {
	t.Parallel()
	s, dsn := newStore(t)
	r := queuetest.StartRedis(t)
	c := queuetest.Client(t, r)
	own := func(o queue.Overflow) (*queue.Owner, *queue.Queue) {
		t.Helper()
		check(t, c.Del(t.Context(), "gancho:leases").Err())
		q := must[*queue.Queue](t)(queue.Open(t.Context(), queue.Options{URL: r.URL(), Endpoints: []*endpoint.Endpoint{{Name: "a"}}, Overflow: o, Logger: queuetest.Logger(t)}))
		t.Cleanup(func() { _ = q.Close() })
		return must[[]*queue.Owner](t)(q.Worker().Acquire(t.Context(), time.Hour, []string{"a"}))[0], q
	}
	life, die := context.WithCancel(t.Context())
	mover, q := own(&dying{s.Overflow(), die, func() {}})
	must[uint16](t)(q.Claim(t.Context(), queuetest.Source(), false))
	queuetest.AppendEvents(t, q, 0, 10, 5, queuetest.KeyModulo(1))
	if _, _, err := mover.MoveOldest(life, 4); err == nil {
		t.Fatal("it has not died")
	}
	if n := query[int](t, dsn, `select count(*)::int from gancho.overflow`); n != 6 {
		t.Fatalf("%d events have moved", n)
	}
	of := queue.Subject{Tenant: string(queuetest.Event(0, "").Tenant), Key: "k0"}
	check(t, s.Overflow().Forget(t.Context(), of, true, unheard))
	for range 2 {
		life, die := context.WithCancel(t.Context())
		taker, _ := own(&dying{s.Overflow(), func() {}, die})
		if _, _, err := taker.Load(life); err == nil {
			t.Fatal("it has not died")
		}
	}
	owner, _ := own(s.Overflow())
	if _, _, err := owner.Load(t.Context()); err != nil {
		t.Fatal(err)
	}
	page, _, err := owner.Read(t.Context(), false, queue.ID{}, 100, 1<<20)
	if len(page) != 4 || err != nil {
		t.Errorf("%d events are read, want the 4 that have not moved; %v", len(page), err)
	}
	if n := query[int](t, dsn, `select count(*)::int from gancho.overflow_heads`); n != 0 {
		t.Errorf("%d heads are left", n)
	}
}

// The end of a head that was left behind, here of a later epoch, is not that of the next overflow: of
// what Redis has, nothing counts as done.
func TestOverflowBeginsAnew(t *testing.T) {
	t.Parallel()
	s, dsn := newStore(t)
	q, own := ownQueue(t, s)
	queuetest.AppendEvents(t, q, 0, 10, 5, queuetest.KeyModulo(1))
	execute(t, dsn, `insert into gancho.overflow_heads (endpoint, claim, position) values ('a', 'x', '\x7fffffffffffffffffffffffffffffff')`)
	if _, _, err := own().MoveOldest(t.Context(), 4); err != nil {
		t.Fatal(err)
	}
	if s := must[queue.Stats](t)(queuetest.Stats(t.Context(), q, "a")); s.Backlog != 10 || s.Overflowed != 6 {
		t.Errorf("%d of %d events have moved", s.Overflowed, s.Backlog)
	}
}

// An owner that lives on while somebody empties Redis, and begins with the first epoch again, takes
// nothing there for done because of an overflow that it has had in a later epoch.
func TestOverflowBeforeAnEmptiedRedis(t *testing.T) {
	t.Parallel()
	s, _ := newStore(t)
	r := queuetest.StartRedis(t)
	open := func() *queue.Queue {
		t.Helper()
		q := must[*queue.Queue](t)(queue.Open(t.Context(), queue.Options{URL: r.URL(), Endpoints: []*endpoint.Endpoint{{Name: "a"}}, Overflow: s.Overflow(), Logger: queuetest.Logger(t)}))
		t.Cleanup(func() { _ = q.Close() })
		return q
	}
	q, source := open(), queuetest.Source()
	must[uint16](t)(q.Claim(t.Context(), source, false))
	source.Timeline++
	if epoch := must[uint16](t)(q.Claim(t.Context(), source, true)); epoch != 2 {
		t.Fatalf("the epoch is %d", epoch)
	}
	queuetest.AppendEvents(t, q, 0, 10, 5, queuetest.KeyModulo(1))
	owner := must[[]*queue.Owner](t)(open().Worker().Acquire(t.Context(), time.Hour, []string{"a"}))[0]
	read := func() (ids []queue.ID) {
		t.Helper()
		page, _, err := owner.Read(t.Context(), false, queue.ID{}, 100, 1<<20)
		check(t, err)
		for _, e := range page {
			ids = append(ids, e.ID)
		}
		return ids
	}
	if _, _, err := owner.MoveOldest(t.Context(), 0); err != nil {
		t.Fatal(err)
	}
	if !must[bool](t)(owner.Write(t.Context(), &queue.Results{Done: read()})) || len(read()) > 0 {
		t.Fatal("events are left")
	}
	r.Stop()
	check(t, os.RemoveAll(filepath.Join(r.Dir(), "appendonlydir")))
	check(t, r.Start())
	queuetest.Eventually(t, "the claim of an empty Redis", func() bool { _, err := q.Stats(t.Context(), []string{"a"}); return err == nil })
	q = open()
	if epoch := must[uint16](t)(q.Claim(t.Context(), source, false)); epoch != 1 {
		t.Fatalf("the epoch is %d", epoch)
	}
	queuetest.AppendEvents(t, q, 10, 15, 5, queuetest.KeyModulo(1))
	if n := len(read()); n != 5 {
		t.Errorf("%d events are read, want 5", n)
	}
}

// Who forgets a key waits for those who are moving events, which have read them before, and has
// nobody wait but those of one endpoint; endpoints that get none of it are let be.
func TestOverflowForgetsEndpointByEndpoint(t *testing.T) {
	t.Parallel()
	s, dsn := newStore(t)
	o, all := s.Overflow(), entries(t, 3)
	of := queue.Subject{Tenant: all[1].Msg.Tenant, Key: all[1].Msg.Key, Elsewhere: []string{"c"}}
	moveEntries(t, o, "a", "1", all)
	for _, name := range []string{"b", "c"} {
		must[queue.Head](t)(o.Take(t.Context(), name, "1", true, func() error { return nil }))
	}
	unlock := begun(t, dsn, `select from gancho.overflow_heads where endpoint = 'c' for update`)
	defer unlock()

	read, move := make(chan struct{}), make(chan struct{})
	moved := make(chan error, 1)
	go func() {
		_, err := o.Move(t.Context(), "b", "1", func(queue.ID) ([]queue.Entry, error) {
			close(read)
			<-move
			return all, nil
		})
		moved <- err
	}()
	<-read // and Queue.Forget removes the key from the stream
	type result struct {
		found map[string][]queue.ID
		err   error
	}
	forgotten := make(chan result, 1)
	go func() {
		found := map[string][]queue.ID{}
		err := o.Forget(t.Context(), of, true, func(endpoint string, ids []queue.ID) error {
			found[endpoint] = ids
			return nil
		})
		forgotten <- result{found, err}
	}()
	queuetest.Eventually(t, "the wait for the one who moves", func() bool {
		return query[int](t, dsn, `select count(*)::int from pg_stat_activity where datname = current_database() and wait_event_type = 'Lock'`) == 1
	})
	ctx, cancel := context.WithTimeout(t.Context(), queuetest.Patience/2)
	defer cancel()
	h, err := o.Acknowledge(ctx, "a", "1", []queue.ID{all[0].ID}, nil, nil)
	if err != nil || h.Events != 1 {
		t.Errorf("another endpoint's events are acknowledged meanwhile: %d are left, %v", h.Events, err)
	}
	close(move)
	check(t, <-moved)
	got := <-forgotten
	check(t, got.err)
	same(t, "forgotten", fmt.Sprint(map[string][]queue.ID{"a": {all[1].ID}, "b": {all[1].ID}}), fmt.Sprint(got.found))
	if n := query[int](t, dsn, `select count(*)::int from gancho.overflow where key = $1`, of.Key); n != 0 {
		t.Errorf("%d events of the key are left", n)
	}
}

// receivers are one for each endpoint.
type receivers map[string]*receiver

func (r receivers) Send(ctx context.Context, ep *endpoint.Endpoint, m *webhook.Message) webhook.Outcome {
	return r[ep.Name].Send(ctx, ep, m)
}

func (r receivers) SendList(context.Context, *endpoint.Endpoint, []*webhook.Message) webhook.Outcome {
	return webhook.Outcome{}
}

func (r receivers) Redial(*endpoint.Endpoint) {}

// In a Redis Cluster, what has moved from any of its masters is delivered in order, over a change
// of the owner.
func TestOverflowInACluster(t *testing.T) {
	t.Parallel()
	s, dsn := newStore(t)
	cluster := must[*testservers.Cluster](t)(testservers.StartCluster(testservers.ClusterOptions{}))
	t.Cleanup(cluster.Close)
	var eps []endpoint.Endpoint
	sinks, nodes := receivers{}, map[*testservers.Redis]bool{}
	for i := range 6 {
		name := fmt.Sprint("e", i)
		eps = append(eps, endpoint.Endpoint{Name: name, State: endpoint.Paused, Concurrency: 4})
		sinks[name] = newReceiver(t, name)
		nodes[must[*testservers.Redis](t)(cluster.Owner(t.Context(), "gancho:{"+name+"}:q"))] = true
	}
	if len(nodes) < 3 {
		t.Fatalf("the endpoints are on %d nodes only", len(nodes))
	}
	q := must[*queue.Queue](t)(queue.Open(t.Context(), queue.Options{
		Cluster: &queue.ClusterOptions{Addresses: cluster.Addresses()}, Endpoints: queuetest.Endpoints(eps...), Overflow: s.Overflow(), Logger: queuetest.Logger(t),
	}))
	t.Cleanup(func() { _ = q.Close() })
	must[uint16](t)(q.Claim(t.Context(), queuetest.Source(), false))
	deliver := func() (d *dispatch.Dispatcher, stop func()) {
		d = dispatch.New(q, sinks, queuetest.Endpoints(eps...), dispatch.Options{Lease: time.Second, WindowEvents: overflowWindow, Logger: queuetest.Logger(t)})
		return d, running(d)
	}
	d, stop := deliver()
	queuetest.AppendEvents(t, q, 0, 100, 7, queuetest.KeyModulo(5))
	keep := map[string]int64{}
	for name := range sinks {
		keep[name] = 10
	}
	each := func(ok func(queue.Stats) bool) bool {
		for name := range sinks {
			if s, err := queuetest.Stats(t.Context(), q, name); err != nil || !ok(s) {
				return false
			}
		}
		return true
	}
	queuetest.Eventually(t, "short streams", func() bool {
		d.Overflow(keep)
		return each(func(s queue.Stats) bool { return s.Backlog == 100 && s.Overflowed == 90 })
	})
	queuetest.AppendEvents(t, q, 100, 120, 7, queuetest.KeyModulo(5))
	stop()
	for i := range eps {
		eps[i].State = endpoint.Active
	}
	_, stop = deliver()
	defer stop()
	queuetest.Eventually(t, "an end of every event", func() bool { return each(func(s queue.Stats) bool { return s.Backlog == 0 }) })
	for name, r := range sinks {
		if r.count() != 120 || r.repeats > 0 {
			t.Errorf("%d events have arrived at %s, %d again", r.count(), name, r.repeats)
		}
	}
	if n := query[int](t, dsn, `select count(*)::int from gancho.overflow`); n != 0 {
		t.Errorf("%d rows are left", n)
	}
}
