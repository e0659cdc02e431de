package bridge_test

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/redis/go-redis/v9"

	"gancho/delivery/endpoint"
	"gancho/delivery/queue"
	"gancho/delivery/queue/queuetest"
	"gancho/internal/bridge"
	"gancho/internal/control"
	"gancho/internal/state"
	"gancho/internal/testservers"
)

// TestFleetWoken: a session begins to deliver when another process says what there is for it. That leases have changed is no reason, which each session
// that ends says, to its own process, too: two processes would wake each other without end.
func TestFleetWoken(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		why          queue.Wake
		needs, moves bool
	}{
		{queue.Wake{}, false, false}, {queue.Wake{Events: true}, true, false}, {queue.Wake{Overflow: true}, true, true},
	} {
		if needs, looks, moves := bridge.WokenSession(c.why); needs != c.needs || !looks || moves != c.moves {
			t.Errorf("%+v: needs %t, looks %t, moves %t", c.why, needs, looks, moves)
		}
	}
}

// TestFleetLooks: a queue that was woken is looked at, without a walsender where the source is not to be read; with one when it is. That all places are
// taken, perhaps by sources that wait for a full Redis, does not keep it from being looked at.
func TestFleetLooks(t *testing.T) {
	t.Parallel()
	for _, c := range []struct{ due, crowded, read, looked bool }{
		{false, false, false, true}, {true, false, true, false}, {true, true, false, true}, {false, true, false, true},
	} {
		if read, looked := bridge.WokenGrant(c.due, c.crowded); read != c.read || looked != c.looked {
			t.Errorf("%+v: read %t, looked at %t", c, read, looked)
		}
	}
}

// TestFleetVisitEnds: how a visit has ended says when the next one is due, so that none begins before, though the place was given up.
func TestFleetVisitEnds(t *testing.T) {
	t.Parallel()
	if visiting, ended := bridge.DueWhileVisiting(); visiting || !ended {
		t.Errorf("due while it is visited: %t, and after: %t", visiting, ended)
	}
}

// TestFleetStatsUnread: a source whose queue does not answer counts with what it held when it was read last: without it a backlog would be within its quota
// again, and announced once more afterwards.
func TestFleetStatsUnread(t *testing.T) {
	t.Parallel()
	redis, err := testservers.StartRedis(testservers.RedisOptions{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(redis.Close)
	if n, err := bridge.ClosedStats(t.Context(), redis.URL(), 7); err != nil || n != 7 {
		t.Errorf("its backlog counts as %d events, want 7: %v", n, err)
	}
}

// TestFleetCapturedStats: in a process that captures alone the backlog of a source that is not read counts. Its session ends when others have delivered
// that: what it held would count for long after.
func TestFleetCapturedStats(t *testing.T) {
	t.Parallel()
	for state, waits := range map[endpoint.State]bool{endpoint.Active: true, endpoint.Paused: false} {
		q := queuetest.Open(t, queuetest.StartRedis(t), endpoint.Endpoint{Name: "crm", State: state})
		queuetest.AppendEvents(t, q, 0, 7, 7, queuetest.KeyModulo(1))
		if n, open, err := bridge.CapturedStats(t.Context(), q, state); n != 7 || open != waits || err != nil {
			t.Errorf("%v: %d events, and the session waits is %t: %v", state, n, open, err)
		}
	}
}

// TestFleetRecalls: what is remembered of a source in one epoch has no webhook-ids of another one.
func TestFleetRecalls(t *testing.T) {
	t.Parallel()
	if !bridge.Recalled(1, 1) || bridge.Recalled(1, 2) {
		t.Errorf("of the same epoch %t, of another one %t", bridge.Recalled(1, 1), bridge.Recalled(1, 2))
	}
}

// TestFleetKeepsCause: a source that cannot be read and whose slot is given up is shown with the gap; where the slot cannot be dropped, with why it cannot be
// read.
func TestFleetKeepsCause(t *testing.T) {
	t.Parallel()
	redis, err := testservers.StartRedis(testservers.RedisOptions{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(redis.Close)
	dsn := pg.Database(t, "", "create table pedidos (id int)")
	conn, err := pgx.Connect(t.Context(), dsn)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = conn.Close(context.Background()) }()
	s := bridge.Source{Name: "loja", DSN: dsn, Slot: "gancho_cause", QueuePrefix: "gancho:loja"}
	for _, sql := range []string{"select pg_create_logical_replication_slot('gancho_cause', 'pgoutput')", "insert into pedidos select generate_series(1, 1000)"} {
		if _, err := conn.Exec(t.Context(), sql); err != nil {
			t.Fatal(err)
		}
	}
	claimed := queue.Source{SystemID: "1", Database: "loja", Slot: s.Slot, Timeline: 1, SlotCreated: true, ConfirmedFlush: 1}
	cause := errors.New("column a is not in table b")
	for _, c := range []struct{ at, shown string }{{pg.DSN("nao_existe"), cause.Error()}, {dsn, "source.on_budget"}} {
		problem, err := bridge.UnreadProblem(t.Context(), s, c.at, redis.URL(), claimed, cause)
		if err != nil || problem == nil || !strings.Contains(problem.Error(), c.shown) {
			t.Errorf("it is shown with %v, want %s: %v", problem, c.shown, err)
		}
		claimed.SlotCreated = false
	}
}

// paused has the endpoint paused.
func (s *shops) paused() {
	load := s.options.Load
	s.options.Load = func() (*bridge.Definitions, error) {
		d, err := load()
		if err == nil {
			d.Endpoints[0].State = endpoint.Paused
		}
		return d, err
	}
}

// apart are the options of a process that captures alone, and of one that delivers alone and knows of the sources what Redis says.
func (s *shops) apart() (capturing, delivering bridge.Options) {
	s.t.Helper()
	capturing, delivering = s.options, s.options
	var err error
	if delivering.Listen, err = testservers.FreeAddress(); err != nil {
		s.t.Fatal(err)
	}
	sources := *s.options.Sources
	sources.VisitEvery, sources.Cluster = time.Hour, func() string { return "postgres://postgres@127.0.0.1:1/postgres" }
	capturing.Deliver, delivering.Capture, delivering.Sources = false, false, &sources
	return capturing, delivering
}

// TestFleetOverflowsElsewhere: of a process that captures alone, the backlogs over the quota of paused endpoints are moved by one that delivers alone, which
// knows nothing of the quota; and the backlogs of sources that are not being read count.
func TestFleetOverflowsElsewhere(t *testing.T) {
	testservers.Whole(t)
	t.Parallel()
	const rows, quota = 60, 30
	s := newShops(t, 2)
	s.withState()
	s.paused()
	capturing, delivering := s.apart()
	s.options = delivering
	s.start()
	capturing.Quotas.Total.Backlog, capturing.Sources.VisitEvery = quota, 2*time.Second
	s.options = capturing
	s.start()
	s.awaitSlots(2)
	for i := range 2 {
		s.exec(shop(i), fmt.Sprintf("insert into pedidos (empresa, cliente, n) select 1, c %% 3, c from generate_series(1, %d) c", rows))
	}
	client := redis.NewClient(&redis.Options{Addr: s.redis.Addr()})
	defer func() { _ = client.Close() }()
	s.eventually("events in the state database", func() bool {
		left := client.XLen(t.Context(), "gancho:"+shop(0)+":{crm}:q").Val() + client.XLen(t.Context(), "gancho:"+shop(1)+":{crm}:q").Val()
		moved := s.estado("select coalesce(sum(events), 0)::int from gancho.overflow_heads where endpoint like '%/crm'")
		return left <= quota && moved >= 2*rows-quota
	})
	s.eventually("sessions that end", func() bool {
		var open int
		for i := range 2 {
			open += int(client.ZCard(t.Context(), "gancho:"+shop(i)+":leases").Val())
		}
		return open == 0
	})
	token := s.tokens()(state.Admin, "")
	s.eventually("the backlogs of sources that are not read", func() bool {
		_, body := s.get(token, "/endpoints/crm")
		return strings.Contains(strings.ReplaceAll(body, `": `, `":`), fmt.Sprintf(`"queued":%d,`, 2*rows))
	})
}

// TestFleetFullRedis: without any quota, a Redis that is full of a paused endpoint's events gets room by a process that delivers alone, so that all is captured by
// one that captures alone.
func TestFleetFullRedis(t *testing.T) {
	testservers.Whole(t)
	t.Parallel()
	const rows = 20_000 // of each source
	s := newShops(t, 2)
	s.withState()
	s.paused()
	capturing, delivering := s.apart()
	s.options = capturing
	s.start()
	s.awaitSlots(2)
	s.options = delivering
	s.start()
	client := redis.NewClient(&redis.Options{Addr: s.redis.Addr()})
	defer func() { _ = client.Close() }()
	var used int64
	if _, err := fmt.Sscanf(client.Info(t.Context(), "memory").Val(), "# Memory\r\nused_memory:%d", &used); err != nil {
		t.Fatal(err)
	}
	if err := client.ConfigSet(t.Context(), "maxmemory", fmt.Sprint(used+2<<20)).Err(); err != nil {
		t.Fatal(err)
	}
	for i := range 2 {
		s.exec(shop(i), fmt.Sprintf("insert into pedidos (empresa, cliente, n) select 1, c %% 3, c from generate_series(1, %d) c", rows))
	}
	for _, n := range []int{rows / 2, rows, 2 * rows} { // a busy machine has a minute for each
		s.eventually(fmt.Sprint(n, " events"), func() bool {
			there := s.estado("select coalesce(sum(events), 0)::int from gancho.overflow_heads where endpoint like '%/crm'")
			for i := range 2 {
				there += int(client.XLen(t.Context(), "gancho:"+shop(i)+":{crm}:q").Val())
			}
			return there >= n
		})
	}
	if n := s.estado("select count(*)::int from gancho.overflow"); n == 0 {
		t.Error("redis was not full")
	}
}

// TestFleetRestoresMarksAtTakeover: a process stands by for a source of which events are in the state database; the one that reads it ends, and Redis is
// emptied, or restarted without its newest part: before the process that takes over appends anything, Redis gets to know again that they are there.
func TestFleetRestoresMarksAtTakeover(t *testing.T) {
	testservers.Whole(t)
	t.Parallel()
	t.Run("emptied", func(t *testing.T) {
		t.Parallel()
		restoresMarks(t, func(_ *shops, client *redis.Client, _ string) error {
			return client.FlushAll(context.Background()).Err()
		})
	})
	t.Run("restarted", func(t *testing.T) {
		t.Parallel()
		restoresMarks(t, func(s *shops, client *redis.Client, key string) error { // the record of the source is still there
			ctx := context.Background()
			if err := errors.Join(client.ConfigSet(ctx, "appendfsync", "always").Err(), client.HDel(ctx, key+"state", "overflow").Err(), client.Del(ctx, key+"q").Err()); err != nil {
				return err
			}
			s.redis.Kill()
			return s.redis.Start()
		})
	})
}

func restoresMarks(t *testing.T, lose func(s *shops, client *redis.Client, key string) error) {
	t.Helper()
	s := newShops(t, 1)
	s.withState()
	s.paused()
	s.options.Quotas.Total.Backlog = 10
	s.options.Sources.VisitEvery = 10 * time.Second
	s.options.Shutdown = time.Second
	stop := s.start()
	s.awaitSlots(1)
	s.exec(shop(0), "insert into pedidos (empresa, cliente, n) select 1, 1, n from generate_series(1, 30) n")
	client := redis.NewClient(&redis.Options{Addr: s.redis.Addr()})
	defer func() { _ = client.Close() }()
	key := "gancho:" + shop(0) + ":{crm}:"
	s.eventually("events in the state database", func() bool {
		return client.HExists(t.Context(), key+"state", "overflow").Val() && client.XLen(t.Context(), key+"q").Val() <= 10
	})
	var err error
	if s.options.Listen, err = testservers.FreeAddress(); err != nil {
		t.Fatal(err)
	}
	s.start()
	token := s.tokens()(state.Admin, "")
	s.eventually("another process that stands by", func() bool {
		of := s.source(token, shop(0))
		return of.LastVisit != nil && of.State == control.SourceVisited
	})
	stop()
	if err := lose(s, client, key); err != nil {
		t.Fatal(err)
	}
	s.exec(shop(0), "insert into pedidos (empresa, cliente, n) values (1, 1, 31)")
	s.eventually("the event", func() bool { return client.XLen(t.Context(), key+"q").Val() == 1 })
	if !client.HExists(t.Context(), key+"state", "overflow").Val() {
		t.Error("an event is queued before redis has the mark again")
	}
}
