package dispatch_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"gancho/delivery/queue/queuetest"

	"github.com/google/go-cmp/cmp"

	"gancho/cdc"
	"gancho/delivery/dispatch"
	"gancho/delivery/endpoint"
	"gancho/delivery/queue"
	"gancho/delivery/webhook"
)

// kept is the i-th event of the usual source, as somebody who kept it has it.
func kept(t testing.TB, i int, key string) webhook.Message {
	t.Helper()
	id, err := queue.NewID(1, cdc.Position{Commit: cdc.LSN(queuetest.LSN(i))}, 0)
	if err != nil {
		t.Fatal(err)
	}
	ev := queuetest.Event(i, key)
	return webhook.Message{
		ID: id.WebhookID("0badcafe"), Sequence: id.Sequence(), Type: ev.Type, Tenant: string(ev.Tenant), Key: string(ev.Key),
		Time: ev.Time, Data: ev.Data, Previous: []byte(`{"id":0}`), Unchanged: []byte(`["foto"]`), Errors: []byte(`["nascimento"]`), Op: "update", Version: ev.Version,
	}
}

func keptFrom(t testing.TB, from, to int, key func(int) string) []webhook.Message {
	t.Helper()
	var out []webhook.Message
	for i := from; i < to; i++ {
		out = append(out, kept(t, i, key(i)))
	}
	return out
}

// sent collects whole messages.
type sent struct {
	mu   sync.Mutex
	list []webhook.Message
}

func (s *sent) add(m *webhook.Message) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.list = append(s.list, *m)
}

func (s *sent) all() []webhook.Message {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.Clone(s.list)
}

func (s *sent) answer(_ context.Context, _ *endpoint.Endpoint, m *webhook.Message, _ int) webhook.Outcome {
	s.add(m)
	return delivered()
}

// opened waits until the gate is open, and reports false when the request was
// aborted before, as at the end of a test that has failed.
func opened(ctx context.Context, gate <-chan struct{}) bool {
	select {
	case <-gate:
		return true
	case <-ctx.Done():
		return false
	}
}

func noReplays(t testing.TB, q *queue.Queue, endpoint string) {
	t.Helper()
	queuetest.Eventually(t, "no replays", func() bool {
		n, err := q.ReplayBacklog(t.Context(), endpoint)
		return err == nil && n == 0
	})
}

// A replay arrives as it was, marked, immediately, from this process and another.
func TestReplayArrivesAsItWas(t *testing.T) {
	t.Parallel()
	r := queuetest.StartRedis(t)
	ep := endpoint.Endpoint{Name: "a"}
	q := queuetest.Open(t, r, ep)
	sink, got := newReceiver(), &sent{}
	sink.answer = got.answer
	startDispatcher(t, q, sink, dispatch.Options{Lease: time.Hour}, ep)
	c := queuetest.Client(t, r)
	queuetest.Eventually(t, "the subscription", func() bool { return c.PubSubNumSub(t.Context(), "gancho:wake").Val()["gancho:wake"] == 1 })
	queuetest.Eventually(t, "the lease", func() bool { return queuetest.Owned(t, q, "a") })

	other := queuetest.OpenOnly(t, r)
	var want []webhook.Message
	for i := range 20 {
		m := kept(t, i, "k")
		from := q
		if i%2 == 1 {
			from = other
		}
		if err := queuetest.Replay(t.Context(), from, "a", []webhook.Message{m}); err != nil {
			t.Fatal(err)
		}
		m.Replay = true
		want = append(want, m)
		sink.distinct(t, i+1) // the next renewal is in an hour
	}
	noReplays(t, q, "a")
	if diff := cmp.Diff(want, got.all()); diff != "" {
		t.Errorf("replays (-want +got):\n%s", diff)
	}
	if err := queuetest.Replay(t.Context(), q, "a", nil); err != nil {
		t.Errorf("replay nothing: %v", err)
	}
}

// An operational event is no replay, and has a sequence of its own that rises.
func TestAnnouncedEvents(t *testing.T) {
	t.Parallel()
	r := queuetest.StartRedis(t)
	eps := endpoints(2)
	q := queuetest.Open(t, r, eps...)
	sink, got := newReceiver(), &sent{}
	sink.answer = got.answer
	startDispatcher(t, q, sink, dispatch.Options{}, eps...)
	at := time.UnixMicro(1_767_225_600_000_000).UTC()
	for i := range 3 {
		m := webhook.Message{ID: fmt.Sprint("op-", i), Type: "gancho.endpoint.paused", Time: at, Data: []byte(`{}`)}
		if err := q.Announce(t.Context(), []string{"e0", "e1"}, m); err != nil {
			t.Fatal(err)
		}
		sink.distinct(t, 2*(i+1))
	}
	noReplays(t, q, "e0")
	last := map[string]string{}
	for i, m := range got.all() {
		if want := fmt.Sprint("op-", i/2); m.ID != want || m.Replay || m.Type != "gancho.endpoint.paused" || !m.Time.Equal(at) {
			t.Errorf("event %d: %+v, want %s", i, m, want)
		}
		if m.Sequence <= last[m.ID] || len(m.Sequence) != len(kept(t, 0, "k").Sequence) {
			t.Errorf("event %d: sequence %q after %q", i, m.Sequence, last[m.ID])
		}
	}
}

// The same key's first deliveries go on while its replay fails, and the other
// way round.
func TestReplayAndFirstDeliveryOfAKeyAreApart(t *testing.T) {
	t.Parallel()
	for _, order := range []endpoint.Order{endpoint.OrderKey, endpoint.OrderEndpoint} {
		t.Run(order.String(), func(t *testing.T) {
			t.Parallel()
			r := queuetest.StartRedis(t)
			ep := endpoint.Endpoint{Name: "a", Order: order, Retry: ms(1, 1, 3_600_000)}
			q := queuetest.Open(t, r, ep)
			sink, got := newReceiver(), &sent{}
			sink.answer = func(_ context.Context, _ *endpoint.Endpoint, m *webhook.Message, _ int) webhook.Outcome {
				if failing := string(m.Data); strings.Contains(failing, `"id":100,`) || strings.Contains(failing, `"id":5,`) {
					return status(422)
				}
				got.add(m)
				return delivered()
			}
			if err := queuetest.Replay(t.Context(), q, "a", keptFrom(t, 100, 110, queuetest.KeyModulo(1))); err != nil {
				t.Fatal(err)
			}
			queuetest.AppendEvents(t, q, 0, 10, 10, queuetest.KeyModulo(1))
			startDispatcher(t, q, sink, dispatch.Options{}, ep)
			queuetest.Eventually(t, "the first deliveries before the failing one", func() bool { return len(got.all()) == 5 })
			for i, m := range got.all() {
				if want := fmt.Sprintf(`{"id":%d,"key":"k0"}`, i); string(m.Data) != want {
					t.Errorf("%d: %s, want %s", i, m.Data, want)
				}
			}
			if n, _ := q.ReplayBacklog(t.Context(), "a"); n != 10 {
				t.Errorf("%d replays wait, want 10: the first of them fails", n)
			}
		})
	}
}

// What is kept of a failed replay outlives the process; exhausted, it is a dead
// letter with its own webhook-id.
func TestFailedReplayIsRetriedAndGivenUp(t *testing.T) {
	t.Parallel()
	r := queuetest.StartRedis(t)
	ep := endpoint.Endpoint{Name: "a", Retry: ms(1, 3600_000, 1)}
	q := queuetest.Open(t, r, ep)
	first := newReceiver()
	first.answer = func(context.Context, *endpoint.Endpoint, *webhook.Message, int) webhook.Outcome { return status(500) }
	_, stop := startDispatcher(t, q, first, dispatch.Options{}, ep)
	replays := keptFrom(t, 0, 2, queuetest.KeyModulo(2))
	if err := queuetest.Replay(t.Context(), q, "a", replays); err != nil {
		t.Fatal(err)
	}
	first.until(t, "two attempts at both", func(all []arrival) bool { return len(all) == 4 })
	stop()
	second := newReceiver()
	second.answer = func(_ context.Context, _ *endpoint.Endpoint, m *webhook.Message, _ int) webhook.Outcome {
		if m.ID == replays[1].ID {
			return delivered()
		}
		return status(500)
	}
	ep.Retry = ms(1, 1, 1)
	startDispatcher(t, q, second, dispatch.Options{}, ep)
	queuetest.Eventually(t, "a dead letter", func() bool { held, _ := queuetest.Stats(t.Context(), q, "a"); return held.Dead == 1 })
	noReplays(t, q, "a")
	dead, err := q.Dead(t.Context(), "a", "", 10)
	if err != nil {
		t.Fatal(err)
	}
	want := replays[0]
	want.Replay = true
	if diff := cmp.Diff(want, dead[0].Message); diff != "" {
		t.Errorf("dead letter (-want +got):\n%s", diff)
	}
	if dead[0].Attempts != 4 || dead[0].Status != 500 {
		t.Errorf("dead letter after %d attempts with status %d, want 4 with 500", dead[0].Attempts, dead[0].Status)
	}
	c := queuetest.Client(t, r)
	queuetest.Eventually(t, "nothing kept of the failures", func() bool {
		return c.Exists(t.Context(), "gancho:{a}:rt", "gancho:{a}:at").Val() == 0
	})
	if err := q.TrimDead(t.Context(), "a", dead[0].Handle); err != nil {
		t.Fatal(err)
	}
	if held, _ := queuetest.Stats(t.Context(), q, "a"); held.Dead != 0 {
		t.Errorf("%d dead letters after trimming, want none", held.Dead)
	}
}

// However many replays there are, and however slow the receiver is, they take
// at most half of the requests, and a new event is sent immediately.
func TestReplaysLeaveRoom(t *testing.T) {
	t.Parallel()
	r := queuetest.StartRedis(t)
	ep := endpoint.Endpoint{Name: "a", Concurrency: 4}
	q := queuetest.Open(t, r, ep)
	sink := newReceiver()
	release := make(chan struct{})
	sink.answer = func(ctx context.Context, _ *endpoint.Endpoint, m *webhook.Message, _ int) webhook.Outcome {
		if m.Replay && !opened(ctx, release) {
			return canceled()
		}
		return delivered()
	}
	if err := queuetest.Replay(t.Context(), q, "a", keptFrom(t, 1000, 1400, queuetest.KeyModulo(400))); err != nil {
		t.Fatal(err)
	}
	_, stop := startDispatcher(t, q, sink, dispatch.Options{}, ep)
	sink.until(t, "replays in flight", func(all []arrival) bool { return len(all) == 2 })
	for i := range 50 {
		queuetest.AppendEvents(t, q, i, i+1, 1, queuetest.KeyModulo(50))
		sink.distinct(t, i+3)
	}
	if n := len(sink.list()); n != 52 {
		t.Errorf("%d requests, want 50 and 2 replays", n)
	}
	close(release)
	sink.distinct(t, 450)
	noReplays(t, q, "a")
	stop()
	if sink.peakOf("a") > 4 {
		t.Errorf("%d requests in flight, want at most 4", sink.peakOf("a"))
	}
}

// With one request at a time, replays and first deliveries take turns: neither
// waits for all of the other.
func TestReplaysTakeTurns(t *testing.T) {
	t.Parallel()
	r := queuetest.StartRedis(t)
	ep := endpoint.Endpoint{Name: "a", Order: endpoint.OrderEndpoint}
	q := queuetest.Open(t, r, ep)
	sink, got := newReceiver(), &sent{}
	read := make(chan struct{})
	sink.answer = func(ctx context.Context, ep *endpoint.Endpoint, m *webhook.Message, n int) webhook.Outcome {
		if !opened(ctx, read) {
			return canceled()
		}
		return got.answer(ctx, ep, m, n)
	}
	// No more than leaves room in the window: both streams can be read to their
	// ends again, should the first inspection of the lease ask for it.
	if err := queuetest.Replay(t.Context(), q, "a", keptFrom(t, 1000, 1100, queuetest.KeyModulo(7))); err != nil {
		t.Fatal(err)
	}
	queuetest.AppendEvents(t, q, 0, 100, 50, queuetest.KeyModulo(7))
	d, stop := startDispatcher(t, q, sink, dispatch.Options{}, ep)
	queuetest.Eventually(t, "both streams to be read", func() bool { return d.Loaded() == 1 })
	close(read)
	sink.distinct(t, 200)
	stop()
	replays, longest, run := 0, 0, 0
	for i, m := range got.all() {
		if m.Replay {
			replays++
		}
		if i > 0 && m.Replay == got.list[i-1].Replay {
			run++
		} else {
			run = 0
		}
		if i > 0 && i < 150 { // neither is at its end
			longest = max(longest, run)
		}
	}
	if replays != 100 || longest > 2 {
		t.Errorf("%d replays, up to %d of one kind in a row", replays, longest)
	}
}

// All of a call or nothing.
func TestReplayIntoAFullRedis(t *testing.T) {
	t.Parallel()
	r := queuetest.StartRedis(t)
	q := queuetest.Open(t, r)
	c := queuetest.Client(t, r)
	if err := c.ConfigSet(t.Context(), "maxmemory", "1").Err(); err != nil {
		t.Fatal(err)
	}
	if err := queuetest.Replay(t.Context(), q, "a", keptFrom(t, 0, 10, queuetest.KeyModulo(3))); !errors.Is(err, queue.ErrFull) {
		t.Errorf("replay into a full Redis: %v, want ErrFull", err)
	}
	if n, err := q.ReplayBacklog(t.Context(), "a"); n != 0 || err != nil {
		t.Errorf("%d replays were queued (%v), want none", n, err)
	}
	if err := c.ConfigSet(t.Context(), "maxmemory", "0").Err(); err != nil {
		t.Fatal(err)
	}
	if err := queuetest.Replay(t.Context(), q, "a", keptFrom(t, 0, 10, queuetest.KeyModulo(3))); err != nil {
		t.Error(err)
	}
}

// A restart of Redis while replays and first deliveries are under way loses and
// reorders nothing.
func TestReplaysOverARestartOfRedis(t *testing.T) {
	t.Parallel()
	r := queuetest.StartRedis(t)
	ep := endpoint.Endpoint{Name: "a", Concurrency: 8}
	q := queuetest.Open(t, r, ep)
	sink, got := newReceiver(), &sent{}
	half := make(chan struct{})
	sink.answer = func(ctx context.Context, ep *endpoint.Endpoint, m *webhook.Message, n int) webhook.Outcome {
		if len(got.all()) > 500 && !opened(ctx, half) {
			return canceled()
		}
		return got.answer(ctx, ep, m, n)
	}
	queuetest.AppendEvents(t, q, 0, 1000, 100, queuetest.KeyModulo(13))
	for i := 5000; i < 6000; i += 500 {
		if err := queuetest.Replay(t.Context(), q, "a", keptFrom(t, i, i+500, queuetest.KeyModulo(13))); err != nil {
			t.Fatal(err)
		}
	}
	_, stop := startDispatcher(t, q, sink, dispatch.Options{Lease: time.Second}, ep)
	sink.until(t, "half", func(all []arrival) bool { return len(all) > 505 })
	r.Kill()
	if err := r.Start(); err != nil {
		t.Fatal(err)
	}
	close(half)
	sink.distinct(t, 2000)
	queuetest.Drained(t, q, "a")
	noReplays(t, q, "a")
	stop()
	last, seen := map[string]string{}, map[string]bool{}
	for _, m := range got.all() {
		if seen[m.ID] {
			continue
		}
		seen[m.ID] = true
		lane := fmt.Sprint(m.Key, m.Replay)
		if m.ID <= last[lane] {
			t.Errorf("%s: %s after %s", lane, m.ID, last[lane])
		}
		last[lane] = m.ID
	}
	if repeats := len(got.all()) - len(seen); repeats > 2*8 {
		t.Errorf("%d repeats", repeats)
	}
}

// A side stream that is empty after a restart of Redis, and stays so, does not
// have its endpoint remember for ever what it has delivered.
func TestRestartIsForgottenWithAnEmptySideStream(t *testing.T) {
	t.Parallel()
	r := queuetest.StartRedis(t)
	ep := endpoint.Endpoint{Name: "a"}
	q := queuetest.Open(t, r, ep)
	sink := newReceiver()
	d, _ := startDispatcher(t, q, sink, dispatch.Options{Lease: time.Second}, ep)
	queuetest.AppendEvents(t, q, 0, 10, 10, queuetest.KeyModulo(3))
	if err := queuetest.Replay(t.Context(), q, "a", keptFrom(t, 5000, 5010, queuetest.KeyModulo(3))); err != nil {
		t.Fatal(err)
	}
	sink.distinct(t, 20)
	queuetest.Drained(t, q, "a")
	noReplays(t, q, "a")
	r.Kill()
	if err := r.Start(); err != nil {
		t.Fatal(err)
	}
	queuetest.Eventually(t, "the restart to be accepted", func() bool { return q.AcceptRestart(t.Context()) == nil })
	queuetest.Eventually(t, "the restart to be noticed", func() bool { return d.Skipping() > 0 })
	queuetest.AppendEvents(t, q, 10, 20, 10, queuetest.KeyModulo(3))
	sink.distinct(t, 30)
	queuetest.Eventually(t, "the restart to be forgotten", func() bool { return d.Skipping() == 0 })
}

func TestSubscribed(t *testing.T) {
	t.Parallel()
	eps := []endpoint.Endpoint{
		{Name: "all"},
		{Name: "star", Events: []string{"*"}},
		{Name: "operations", Events: []string{"gancho.*"}},
		{Name: "one", Events: []string{"cobranca.*", "gancho.endpoint.paused"}},
		{Name: "other", Events: []string{"gancho.dead_letter"}},
		{Name: "prefix", Events: []string{"gancho*"}},
		{Name: "tenant 1", Events: []string{"gancho.*"}, Tenants: []string{"1"}},
		{Name: "tenants 1 and 2", Events: []string{"gancho.*"}, Tenants: []string{"1", "2"}},
		{Name: "paused", Events: []string{"gancho.*"}, State: endpoint.Paused},
		{Name: "inactive", Events: []string{"gancho.*"}, State: endpoint.Inactive},
	}
	everybody := []string{"operations", "one", "paused"}
	for _, c := range []struct {
		tenants []string
		want    []string
	}{
		{nil, everybody},
		{[]string{""}, everybody},
		{[]string{"3"}, everybody},
		{[]string{"1"}, []string{"operations", "one", "tenant 1", "tenants 1 and 2", "paused"}},
		{[]string{"2"}, []string{"operations", "one", "tenants 1 and 2", "paused"}},
		{[]string{"1", "2"}, []string{"operations", "one", "tenants 1 and 2", "paused"}},
		{[]string{"1", "3"}, everybody},
	} {
		if diff := cmp.Diff(c.want, queue.Subscribed(queuetest.Endpoints(eps...), "gancho.endpoint.paused", c.tenants...)); diff != "" {
			t.Errorf("of tenants %q (-want +got):\n%s", c.tenants, diff)
		}
	}
	if got := queue.Subscribed(queuetest.Endpoints(eps...), "cobranca.liquidada"); got != nil {
		t.Errorf("an ordinary event: %q, want none", got)
	}
}

// replayDurably replays what a job sends from one position to another.
func replayDurably(t *testing.T, q *queue.Queue, endpoint string, after string, messages []webhook.Message) error {
	t.Helper()
	return q.Durably(t.Context(), endpoint, func() error {
		_, err := q.ReplayPart(t.Context(), endpoint, &queue.Part{Job: "1-1", After: after, Position: "10", Messages: messages})
		return err
	})
}

// A job's events are appended once, however many answers are lost.
func TestReplayPart(t *testing.T) {
	t.Parallel()
	r := queuetest.StartRedis(t)
	q := queuetest.Open(t, r)
	backlog := func(want int64) {
		t.Helper()
		if n, err := q.ReplayBacklog(t.Context(), "a"); n != want || err != nil {
			t.Errorf("%d replays are queued (%v), want %d", n, err, want)
		}
	}
	replay := func(job, after, position, want string) {
		t.Helper()
		got, err := q.ReplayPart(t.Context(), "a", &queue.Part{Job: job, After: after, Position: position, Messages: keptFrom(t, 0, 10, queuetest.KeyModulo(3))})
		if err != nil || got != want {
			t.Errorf("job %s from %q to %q: it is at %q, %v; want %q", job, after, position, got, err, want)
		}
	}
	replay("1", "", "10", "10")
	replay("1", "", "10", "10") // the answer was lost
	backlog(10)
	replay("1", "10", "20", "20")
	replay("1", "10", "30", "20") // by a process that has read another page
	replay("2", "", "10", "10")
	backlog(30)
	if err := q.ForgetJob(t.Context(), "a", "1"); err != nil {
		t.Fatal(err)
	}
	replay("1", "20", "30", "") // Redis has lost where it was, so it may have lost the events
	replay("1", "", "30", "30")
	backlog(40)
}

// A job that loses its connection while it waits for the disk does not append again.
func TestWaitForTheDiskIsRepeated(t *testing.T) {
	t.Parallel()
	r := queuetest.StartRedis(t)
	q := queuetest.Open(t, r)
	c := queuetest.Client(t, r)
	written, failed := make(chan struct{}), make(chan error, 1)
	go func() {
		failed <- q.Durably(t.Context(), "a", func() error {
			defer close(written)
			_, err := q.ReplayPart(t.Context(), "a", &queue.Part{Job: "1-1", Position: "10", Messages: keptFrom(t, 0, 10, queuetest.KeyModulo(3))})
			return err
		})
	}()
	<-written
	var err error
	for waiting := true; waiting; { // its answers are lost
		select {
		case err = <-failed:
			waiting = false
		default:
			if err := c.ClientKillByFilter(t.Context(), "TYPE", "normal", "SKIPME", "yes").Err(); err != nil {
				t.Fatal(err)
			}
		}
	}
	if !errors.Is(err, queue.ErrUnreachable) {
		t.Errorf("got %v, want ErrUnreachable", err)
	}
	if err := replayDurably(t, q, "a", "", keptFrom(t, 0, 10, queuetest.KeyModulo(3))); err != nil {
		t.Error(err)
	}
	if n := c.XLen(t.Context(), "gancho:{a}:x").Val(); n != 10 {
		t.Errorf("%d replays are queued, want 10", n)
	}
}

// A replay that is to outlive Redis's memory is not reported before it does.
func TestReplayDurably(t *testing.T) {
	t.Parallel()
	r := queuetest.StartRedis(t)
	q := queuetest.Open(t, r)
	start := time.Now()
	if err := replayDurably(t, q, "a", "", keptFrom(t, 0, 10, queuetest.KeyModulo(3))); err != nil {
		t.Fatal(err)
	}
	took := time.Since(start)
	if n, err := q.ReplayBacklog(t.Context(), "a"); n != 10 || err != nil {
		t.Errorf("%d replays are queued (%v), want 10", n, err)
	}
	t.Logf("durable after %s", took)
	server := queuetest.Client(t, r).InfoMap(t.Context(), "server")
	major, _, _ := strings.Cut(server.Item("Server", "redis_version"), ".")
	if waits := len(major) > 1 || major >= "8"; took < time.Second && (!waits || server.Item("Server", "valkey_version") != "") {
		t.Errorf("a server that syncs each second, without a WAITAOF to trust, was trusted after %s", took)
	}

	// The power goes before it is on the disk.
	failed := make(chan error, 1)
	go func() { failed <- replayDurably(t, q, "b", "", keptFrom(t, 10, 20, queuetest.KeyModulo(3))) }()
	queuetest.Eventually(t, "the append", func() bool { n, _ := q.ReplayBacklog(t.Context(), "b"); return n == 10 })
	r.Kill()
	truncateAOF(t, r, 0.5, 0)
	if err := r.Start(); err != nil {
		t.Fatal(err)
	}
	if err := <-failed; !errors.Is(err, queue.ErrUnreachable) {
		t.Errorf("a replay that was lost: %v, want ErrUnreachable", err)
	}
	if n, err := q.ReplayBacklog(t.Context(), "b"); n == 10 || err != nil {
		t.Errorf("%d replays have survived (%v): nothing was tested", n, err)
	}
}
