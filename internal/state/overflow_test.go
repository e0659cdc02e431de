package state_test

import (
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"gancho/cdc"
	"gancho/delivery/endpoint"
	"gancho/delivery/queue"
	"gancho/delivery/queue/queuetest"
	"gancho/delivery/webhook"
	"gancho/internal/state"
)

// A backlog that has moved is delivered before what was queued later, once, and counted all
// the time; an event that is in flight or waits for its retry may move, too.
func TestOverflowIsDeliveredInOrder(t *testing.T) {
	t.Parallel()
	w := newOverflowWorld(t)
	fails := map[string]bool{}
	w.sink.fails = func(id string) webhook.Outcome {
		if strings.Contains(id, fmt.Sprintf("%016x-", queuetest.LSN(200))) {
			return webhook.Outcome{Kind: webhook.Retry, Status: 500, Class: webhook.ClassStatus, Wish: webhook.WishAbort}
		}
		if w.random.IntN(3) == 0 && !fails[id] {
			fails[id] = true
			return webhook.Outcome{Kind: webhook.Retry, Status: 404, Class: webhook.ClassStatus}
		}
		return webhook.Outcome{Kind: webhook.Delivered}
	}
	w.append(50)
	w.set(endpoint.Paused)
	w.append(300)
	before := w.stats()
	s := w.moved(20)
	if s.Backlog < 300 || s.Overflowed != s.Backlog-20 || w.rows() != int(s.Overflowed) || s.OverflowedBytes == 0 || s.Oldest.Before(before.Oldest) { // what was in flight may have arrived since
		t.Errorf("%d of %d events have moved, %d rows; the oldest %s, before %s", s.Overflowed, s.Backlog, w.rows(), s.Oldest, before.Oldest)
	}
	var waiting int64
	for _, n := range must[map[queue.RuleKey]int64](t)(w.store.Overflow().Waiting(t.Context(), "a")) {
		waiting += n
	}
	if waiting != s.Overflowed {
		t.Errorf("%d are counted there, want %d", waiting, s.Overflowed)
	}
	w.append(100)
	w.set(endpoint.Active)
	for range 20 { // more moves while it is delivered
		w.append(10)
		w.d.Overflow(map[string]int64{"a": 5})
	}
	w.end(1)
	if w.sink.repeats != 0 {
		t.Errorf("%d events have arrived again", w.sink.repeats)
	}
	dead := must[[]state.DeadLetter](t)(w.store.DeadLetters(t.Context(), state.Filter{}, 0, 10))
	if want := queuetest.Event(200, "k0"); len(dead) != 1 || string(dead[0].Data) != string(want.Data) || dead[0].Key != "k0" || !dead[0].Time.Equal(want.Time) || dead[0].Attempts != 1 {
		t.Errorf("the dead letters are %+v", dead)
	}
	if left := w.stats(); left.Retrying+left.Dead != 0 {
		t.Errorf("redis has %+v", left)
	}
}

// Redis loses its last second, connections to PostgreSQL break, owners change: all events
// arrive, first in the order of their key.
func TestOverflowOverFailures(t *testing.T) {
	t.Parallel()
	w := newOverflowWorld(t)
	for i := range 36 {
		switch what := w.random.IntN(10); {
		case what < 4:
			w.set([]endpoint.State{endpoint.Active, endpoint.Paused}[w.random.IntN(2)])
		case what < 6:
			execute(t, w.dsn, `select pg_terminate_backend(pid) from pg_stat_activity where datname = current_database() and application_name = 'gancho-state'`)
		case what < 8:
			w.stop()
			w.deliver()
		}
		w.append(1 + w.random.IntN(40))
		w.d.Overflow(map[string]int64{"a": w.random.Int64N(30)})
		if i%12 == 11 {
			w.losePower()
		}
	}
	w.end(0)
	t.Logf("%d of %d events have arrived again", w.sink.repeats, w.appended)
}

// entries are n whole events, without what they owe to their ids.
func entries(t *testing.T, n int) []queue.Entry {
	t.Helper()
	all := make([]queue.Entry, n)
	for i := range all {
		id := must[queue.ID](t)(queue.NewID(1, cdc.Position{Commit: cdc.LSN(queuetest.LSN(i))}, 0))
		m := &webhook.Message{Type: "order.paid", Tenant: "acme", Key: fmt.Sprint("k", i), Time: time.UnixMicro(int64(i)).UTC(), Version: "v1", Op: "update", ID: id.WebhookID("0123abcd"), Sequence: id.Sequence()}
		m.Data, m.Previous, m.Unchanged, m.Errors = []byte(`{"a":1}`), []byte(`{"a":0}`), []byte(`["b"]`), []byte(`[{"field":"c"}]`)
		if i%2 == 1 { // of no change
			m.Op, m.Previous, m.Unchanged, m.Errors = "", nil, nil, nil
		}
		all[i] = queue.Entry{ID: id, Msg: m}
	}
	return all
}

func byPosition(page []queue.Entry) map[string]*webhook.Message {
	m := map[string]*webhook.Message{}
	for _, e := range page {
		m[e.ID.String()] = e.Msg
	}
	return m
}

// moveEntries moves them to an endpoint's overflow, whose claim is claim.
func moveEntries(t *testing.T, o *state.Overflow, endpoint, claim string, all []queue.Entry) queue.Head {
	t.Helper()
	must[queue.Head](t)(o.Take(t.Context(), endpoint, claim, true, func() error { return nil }))
	return must[queue.Head](t)(o.Move(t.Context(), endpoint, claim, func(queue.ID) ([]queue.Entry, error) { return all, nil }))
}

// An event that has moved is the same as before, also as a dead letter.
func TestOverflowKeepsTheWholeEvent(t *testing.T) {
	t.Parallel()
	s, _ := newStore(t)
	o, all := s.Overflow(), entries(t, 4)
	h := moveEntries(t, o, "a", "1", all)
	page := must[[]queue.Entry](t)(o.Page(t.Context(), "a", queue.ID{}, h.End, 10, 1<<20))
	same(t, "page", byPosition(all), byPosition(page))

	id, at := all[0].ID, time.UnixMicro(1).UTC()
	died := queue.DeadResult{ID: id, Reason: "refused"}
	died.First, died.Last = at, at
	must[queue.Head](t)(o.Acknowledge(t.Context(), "a", "1", nil, nil, []queue.DeadResult{died}))
	dead := must[[]state.DeadLetter](t)(s.DeadLetters(t.Context(), state.Filter{}, 0, 10))
	want := *all[0].Msg
	want.ID, want.Sequence = id.WebhookID("0123abcd"), id.Sequence()
	if len(dead) != 1 {
		t.Fatalf("%d dead letters", len(dead))
	}
	same(t, "dead letter", want, dead[0].Message)
}

// Sources have endpoints of the same name, and events at the same positions: none sees what another has in the state database, and
// dead letters have the endpoint's own name.
func TestOverflowOfSources(t *testing.T) {
	t.Parallel()
	s, _ := newStore(t)
	all := entries(t, 4)
	only, one, other := s.Overflow(), s.OverflowOf("gancho_1"), s.OverflowOf("gancho_10")
	moveEntries(t, only, "a", "1", all[:1])
	moveEntries(t, one, "a", "1", all[:2])
	moveEntries(t, other, "a", "1", all)
	left := func(only, one, other int) {
		t.Helper()
		for _, c := range []struct {
			of   *state.Overflow
			want int
		}{{s.Overflow(), only}, {s.OverflowOf("gancho_1"), one}, {s.OverflowOf("gancho_10"), other}} {
			heads := must[map[string]queue.Head](t)(c.of.Heads(t.Context()))
			if n := int(heads["a"].Events); n != c.want || len(heads) > 1 {
				t.Errorf("%d events in %v, want %d", n, heads, c.want)
			}
			waiting := 0
			for _, n := range must[map[queue.RuleKey]int64](t)(c.of.Waiting(t.Context(), "a")) {
				waiting += int(n)
			}
			if waiting != c.want {
				t.Errorf("%d events wait, want %d", waiting, c.want)
			}
		}
	}
	left(1, 2, 4)
	of := queue.Subject{Tenant: "acme", Key: "k0"}
	for _, elsewhere := range [][]string{{"a"}, {"b"}} {
		of.Elsewhere = elsewhere
		forgotten := 0
		check(t, one.Forget(t.Context(), of, true, func(endpoint string, found []queue.ID) error {
			if endpoint != "a" {
				t.Errorf("the endpoint is %q", endpoint)
			}
			forgotten += len(found)
			return nil
		}))
		if want := map[string]int{"a": 0, "b": 1}[elsewhere[0]]; forgotten != want {
			t.Errorf("%d events are forgotten, want %d", forgotten, want)
		}
	}
	left(1, 1, 4)
	died := queue.DeadResult{ID: all[1].ID, Reason: "refused"}
	died.First, died.Last = time.UnixMicro(1).UTC(), time.UnixMicro(1).UTC()
	must[queue.Head](t)(other.Acknowledge(t.Context(), "a", "1", nil, nil, []queue.DeadResult{died}))
	if dead := must[[]state.DeadLetter](t)(s.DeadLetters(t.Context(), state.Filter{}, 0, 10)); len(dead) != 1 || dead[0].Endpoint != "a" {
		t.Errorf("the dead letters are %v", dead)
	}
	left(1, 1, 3)
	check(t, other.Drop(t.Context(), "a"))
	left(1, 1, 0)
}

// ownQueue is a queue without a dispatcher whose events may overflow; own makes another
// process the owner of its endpoint.
func ownQueue(t *testing.T, s *state.Store) (q *queue.Queue, own func() *queue.Owner) {
	t.Helper()
	r := queuetest.StartRedis(t)
	open := func() *queue.Queue {
		q := must[*queue.Queue](t)(queue.Open(t.Context(), queue.Options{
			URL: r.URL(), Endpoints: []*endpoint.Endpoint{{Name: "a"}}, Overflow: s.Overflow(), Logger: queuetest.Logger(t),
		}))
		t.Cleanup(func() { _ = q.Close() })
		return q
	}
	q = open()
	must[uint16](t)(q.Claim(t.Context(), queuetest.Source(), false))
	c := queuetest.Client(t, r)
	return q, func() *queue.Owner {
		t.Helper()
		check(t, c.Del(t.Context(), "gancho:leases").Err()) // those of the owner before have expired
		owners := must[[]*queue.Owner](t)(open().Worker().Acquire(t.Context(), time.Minute, []string{"a"}))
		if len(owners) != 1 || owners[0] == nil {
			t.Fatal("the endpoint has another owner")
		}
		if _, _, err := owners[0].Load(t.Context()); err != nil {
			t.Fatal(err)
		}
		return owners[0]
	}
}

// An owner that does not know yet that it is none takes the head from nobody.
func TestOverflowIsNotTakenByAStaleOwner(t *testing.T) {
	t.Parallel()
	s, dsn := newStore(t)
	q, own := ownQueue(t, s)
	queuetest.AppendEvents(t, q, 0, 10, 5, queuetest.KeyModulo(2))
	stale := own()
	owner := own()
	move := func(o *queue.Owner, keep int64) bool {
		owned, _, err := o.MoveOldest(t.Context(), keep)
		check(t, err)
		return owned
	}
	if move(stale, 5) {
		t.Error("a stale owner has begun an overflow")
	}
	if heads := query[int](t, dsn, `select count(*)::int from gancho.overflow_heads`); heads != 0 {
		t.Errorf("it has left %d heads", heads)
	}
	if !move(owner, 5) || move(stale, 3) || !move(owner, 2) {
		t.Error("a stale owner has taken the head")
	}
	if s := must[queue.Stats](t)(queuetest.Stats(t.Context(), q, "a")); s.Backlog != 10 || s.Overflowed != 8 {
		t.Errorf("%d of %d events have moved", s.Overflowed, s.Backlog)
	}
}

// When all that has moved was somebody's who is forgotten, the owner and Redis have no head
// left, and what was queued later is delivered; also when the call that removed it failed.
func TestOverflowThatIsForgotten(t *testing.T) {
	t.Parallel()
	w := newOverflowWorld(t)
	w.set(endpoint.Paused)
	w.append(20)
	w.moved(5)
	for key := range 5 {
		of := queue.Subject{Tenant: string(queuetest.Event(0, "").Tenant), Key: fmt.Sprint("k", key)}
		if key < 4 {
			check(t, w.store.Overflow().Forget(t.Context(), of, true, unheard)) // and Redis hears nothing of it
			continue
		}
		must[queue.Forgotten](t)(w.q.Forget(t.Context(), of))
	}
	queuetest.Eventually(t, "no overflow", func() bool { s := w.stats(); return s.Backlog == 4 && s.Overflowed == 0 })
	w.end(16)
}

func unheard(string, []queue.ID) error { return nil }

// Of what was erased at some endpoints their owners know, and the caller how much it is, also when
// the call fails at another one, whose head somebody has locked. That is not said to be a
// database that nobody reaches.
func TestForgetThatFailsHalfway(t *testing.T) {
	t.Parallel()
	dsn := database(t, "")
	s := open(t, dsn, nil)
	r := queuetest.StartRedis(t)
	q := must[*queue.Queue](t)(queue.Open(t.Context(), queue.Options{URL: r.URL(), Endpoints: []*endpoint.Endpoint{{Name: "a"}, {Name: "b"}}, Overflow: s.Overflow(), Logger: queuetest.Logger(t)}))
	t.Cleanup(func() { _ = q.Close() })
	for _, name := range []string{"a", "b"} {
		moveEntries(t, s.Overflow(), name, "1", entries(t, 3))
	}
	locker := connect(t, dsn)
	tx, err := locker.Begin(t.Context())
	check(t, err)
	_, err = tx.Exec(t.Context(), `select from gancho.overflow_heads where endpoint = 'b' for update`)
	check(t, err)
	of := queue.Subject{Tenant: "acme", Key: "k1"}
	found, err := q.Forget(t.Context(), of)
	if !errors.Is(err, state.ErrBusy) || !errors.Is(err, state.ErrUnreachable) || strings.Contains(err.Error(), "unreachable") {
		t.Errorf("beside a locked head: %v, want ErrBusy", err)
	}
	if found.Queued != 1 {
		t.Errorf("it has erased %d events, want the one of endpoint a", found.Queued)
	}
	if n := must[string](t)(queuetest.Client(t, r).HGet(t.Context(), "gancho:{a}:state", "forgotten").Result()); n == "" {
		t.Error("the owner of endpoint a does not know")
	}
	check(t, tx.Rollback(t.Context()))
	if found := must[queue.Forgotten](t)(q.Forget(t.Context(), of)); found.Queued != 1 {
		t.Errorf("the repeated call has erased %d events, want the one of endpoint b", found.Queued)
	}
}

// A head counts the rows that are there, not those that were to be added.
func TestOverflowCountsItsRows(t *testing.T) {
	t.Parallel()
	s, dsn := newStore(t)
	all := entries(t, 4)
	before := moveEntries(t, s.Overflow(), "a", "1", all)
	execute(t, dsn, `delete from gancho.overflow_heads`)
	same(t, "bytes", before.Bytes, moveEntries(t, s.Overflow(), "a", "2", []queue.Entry{all[0], all[3]}).Bytes)
}

// What is superseded leaves the overflow, and counts apart from what is delivered.
func TestOverflowCountsSuperseded(t *testing.T) {
	t.Parallel()
	s, _ := newStore(t)
	o, all := s.Overflow(), entries(t, 3)
	moveEntries(t, o, "a", "1", all)
	h := must[queue.Head](t)(o.Acknowledge(t.Context(), "a", "1", []queue.ID{all[2].ID}, []queue.ID{all[0].ID, all[1].ID}, nil))
	if h.Events != 0 {
		t.Errorf("%d events are left", h.Events)
	}
	sums := map[queue.Fate]int64{}
	for key, n := range must[map[queue.EventKey]int64](t)(s.Overflow().Fates(t.Context(), "a", 0, 1)) {
		sums[key.Fate] += n
	}
	same(t, "fates", map[queue.Fate]int64{queue.FateDelivered: 1, queue.FateSuperseded: 2}, sums)
}
