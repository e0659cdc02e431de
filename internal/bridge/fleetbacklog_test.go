package bridge_test

import (
	"context"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"net/http"
	"os"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/redis/go-redis/v9"
	"github.com/rs/zerolog"

	"gancho/delivery/endpoint"
	"gancho/delivery/queue"
	"gancho/delivery/queue/queuetest"
	"gancho/internal/bridge"
	"gancho/internal/control"
	"gancho/internal/state"
	"gancho/internal/testservers"
)

// withState gives the bridge a state database of its own, and an address that is known.
func (s *shops) withState() {
	s.t.Helper()
	s.exec("postgres", "create database estado")
	keys, err := state.ParseKeys("a:" + base64.StdEncoding.EncodeToString(make([]byte, 32)))
	if err != nil {
		s.t.Fatal(err)
	}
	s.options.State = &bridge.StateOptions{DSN: s.pg.DSN("estado"), Keyring: keys, KeepLog: time.Hour}
	if s.options.Listen, err = testservers.FreeAddress(); err != nil {
		s.t.Fatal(err)
	}
}

// eventually waits until something is as it is to be, which is asked again and again.
func (s *shops) eventually(what string, is func() bool) {
	s.t.Helper()
	queuetest.Eventually(s.t.(*testing.T), what, is)
}

// estado reads a number from the state database; -1: it is not there yet.
func (s *shops) estado(sql string) (n int) {
	s.t.Helper()
	conn, err := pgx.Connect(s.t.Context(), s.pg.DSN("estado"))
	if err != nil {
		s.t.Fatal(err)
	}
	defer func() { _ = conn.Close(context.Background()) }()
	if err := conn.QueryRow(s.t.Context(), sql).Scan(&n); err != nil {
		return -1
	}
	return n
}

// source asks the API for a source.
func (s *shops) source(token, name string) (found control.Source) {
	s.t.Helper()
	r, err := http.NewRequestWithContext(s.t.Context(), http.MethodGet, "http://"+s.options.Listen+"/api/v1/sources", http.NoBody)
	if err != nil {
		s.t.Fatal(err)
	}
	r.Header.Set("Authorization", "Bearer "+token)
	answer, err := http.DefaultClient.Do(r)
	if err != nil {
		return found
	}
	defer func() { _ = answer.Body.Close() }()
	var view control.SourcesView
	if err := json.NewDecoder(answer.Body).Decode(&view); err != nil {
		s.t.Fatal(err)
	}
	for _, one := range view.Sources {
		if one.Name == name {
			found = one
		}
	}
	return found
}

// TestFleetOverflows: of backlogs over the quota, the oldest events of each source move to the state database, and are delivered from
// there in the order of their keys, though Redis has lost meanwhile that they are there.
func TestFleetOverflows(t *testing.T) {
	t.Parallel()
	const rows, quota = 60, 30
	s := newShops(t, 3)
	s.withState()
	s.options.Quotas.Total.Backlog = quota
	s.options.Sources.VisitEvery = 3 * time.Second
	reload := make(chan os.Signal, 1)
	s.options.Reload = reload
	var active atomic.Bool
	load := s.options.Load
	s.options.Load = func() (*bridge.Definitions, error) {
		d, err := load()
		if err == nil && !active.Load() {
			d.Endpoints[0].State = endpoint.Paused
		}
		return d, err
	}
	stop := s.start()
	s.awaitSlots(3)
	want := map[string]int{}
	add := func(n int) {
		for i := range 2 {
			s.exec(shop(i), fmt.Sprintf("insert into pedidos (empresa, cliente, n) select 1, c %% 3, c + %d from generate_series(1, %d) c", want[shop(i)], n))
			want[shop(i)] += n
		}
	}
	add(rows)
	overflowed := func(source string) int {
		return s.estado("select coalesce(sum(events), 0)::int from gancho.overflow_heads where endpoint = 'gancho_" + source + "/crm'")
	}
	client := redis.NewClient(&redis.Options{Addr: s.redis.Addr()})
	defer func() { _ = client.Close() }()
	inRedis := func() (n int64) {
		for i := range 2 {
			n += client.XLen(t.Context(), "gancho:"+shop(i)+":{crm}:q").Val()
		}
		return n
	}
	s.eventually("events in the state database", func() bool {
		return overflowed(shop(0))+overflowed(shop(1)) >= 2*rows-quota && inRedis() <= quota
	})
	if overflowed(shop(0)) == 0 || overflowed(shop(1)) == 0 {
		t.Errorf("of the sources %d and %d events have moved", overflowed(shop(0)), overflowed(shop(1)))
	}
	stop()
	add(5)
	for i := range 2 {
		if n := client.HDel(t.Context(), "gancho:"+shop(i)+":{crm}:state", "overflow").Val(); n != 1 {
			t.Errorf("%s has %d marks", shop(i), n)
		}
	}
	active.Store(true)
	s.start()
	s.await("all events", time.Minute, func([]received) bool {
		return s.arrived[shop(0)] == want[shop(0)] && s.arrived[shop(1)] == want[shop(1)]
	})
	s.check(want)
	s.eventually("an empty overflow", func() bool { return s.estado("select count(*)::int from gancho.overflow") == 0 })
}

// TestFleetDeliversApart: a process that only delivers sends the events of a source that is not read by it, and hardly ever written to, when the
// process that reads it has queued them, although no counter says anything.
func TestFleetDeliversApart(t *testing.T) {
	t.Parallel()
	s := newShops(t, 2)
	s.options.Deliver = false
	s.start()
	s.awaitSlots(2)
	s.options.Deliver, s.options.Capture = true, false
	sources := *s.options.Sources
	sources.VisitEvery, sources.Cluster = time.Hour, func() string { return "postgres://postgres@127.0.0.1:1/postgres" }
	s.options.Sources = &sources
	s.start()
	for n := 1; n <= 3; n++ {
		s.exec(shop(1), fmt.Sprintf("insert into pedidos (empresa, cliente, n) values (1, 1, %d)", n))
		s.await("an event of a source that another process reads", 40*time.Second, func([]received) bool { return s.arrived[shop(1)] == n })
		client := redis.NewClient(&redis.Options{Addr: s.redis.Addr()})
		s.eventually("an end of the session", func() bool { return client.ZCard(t.Context(), "gancho:"+shop(1)+":leases").Val() == 0 })
		_ = client.Close()
	}
	s.check(map[string]int{shop(1): 3})
}

// TestFleetBudget: the slot of a source that does not fit the rules any more is given up beyond the budget, and the gap is recorded; that of
// one of which nothing was read is kept, because its gap could not be recorded, and that of one that is read stays.
func TestFleetBudget(t *testing.T) {
	testservers.Whole(t)
	t.Parallel()
	s := newShops(t, 1)
	s.create("loja_torta")
	stop := s.start()
	s.awaitSlots(2)
	s.exec("loja_torta", "insert into pedidos (empresa, cliente, n) values (1, 1, 1)")
	s.await("an event of the source", time.Minute, func([]received) bool { return s.arrived["loja_torta"] == 1 })
	stop()
	s.exec("loja_torta", "alter table pedidos drop column cliente")
	s.create("loja_nova", "create table pedidos (id bigserial primary key)")
	s.exec("loja_nova", "select pg_create_logical_replication_slot('gancho_loja_nova', 'pgoutput')")
	s.options.WALBudget, s.options.DropOverBudget = 24<<20, true
	s.options.Sources.VisitEvery = 2 * time.Second
	var kept atomic.Bool
	s.options.Log = s.options.Log.Hook(zerolog.HookFunc(func(_ *zerolog.Event, _ zerolog.Level, message string) {
		if strings.HasPrefix(message, "the gap cannot be recorded") {
			kept.Store(true)
		}
	}))
	s.start()
	s.awaitSlots(3)
	slots := func(name string) int {
		return s.value("select count(*) from pg_replication_slots where slot_name = $1", "gancho_"+name)
	}
	s.eventually("the slot is given up, and the other one kept", func() bool {
		if s.value("select (pg_current_wal_lsn() - restart_lsn)::bigint from pg_replication_slots where slot_name = 'gancho_loja_nova'") < 32<<20 {
			s.exec(shop(0), "insert into pedidos (empresa, cliente, n) select 1, 1, 0 from generate_series(1, 5000)")
			s.exec(shop(0), "delete from pedidos where n = 0; checkpoint")
		}
		return slots("loja_torta") == 0 && kept.Load()
	})
	client := redis.NewClient(&redis.Options{Addr: s.redis.Addr()})
	defer func() { _ = client.Close() }()
	if gap := client.HGet(t.Context(), "gancho:loja_torta:source", "gap").Val(); !strings.Contains(gap, queue.GapBudget) {
		t.Errorf("the gap is %q", gap)
	}
	if slots("loja_nova") != 1 || slots(shop(0)) != 1 {
		t.Errorf("of the slots that are to be kept there are %d and %d", slots("loja_nova"), slots(shop(0)))
	}
}

// TestFleetUnconfirmed: a source that is visited and whose positions cannot be confirmed is shown with the reason.
func TestFleetUnconfirmed(t *testing.T) {
	t.Parallel()
	s := newShops(t, 2)
	s.withState()
	s.options.Sources.VisitEvery = 2 * time.Second
	s.options.Shutdown = time.Second
	s.start()
	s.awaitSlots(2)
	store, err := state.Open(t.Context(), state.Options{DSN: s.options.State.DSN, Keyring: s.options.State.Keyring})
	if err != nil {
		t.Fatal(err)
	}
	defer store.Close()
	_, token, err := store.CreateToken(t.Context(), "cli:ana", state.Token{Name: "ana", Role: state.Admin})
	if err != nil {
		t.Fatal(err)
	}
	s.eventually("a visit", func() bool { return s.source(token, shop(1)).LastVisit != nil })
	if problem := s.source(token, shop(1)).Problem; problem != "" {
		t.Fatalf("its problem is %q", problem)
	}
	client := redis.NewClient(&redis.Options{Addr: s.redis.Addr()})
	defer func() { _ = client.Close() }()
	if err := client.ConfigSet(t.Context(), "appendfsync", "no").Err(); err != nil {
		t.Fatal(err)
	}
	s.exec(shop(1), "insert into pedidos (empresa, cliente, n) values (1, 1, 1)")
	s.eventually("the reason", func() bool { return strings.Contains(s.source(token, shop(1)).Problem, "not confirmed") })
	if err := client.ConfigSet(t.Context(), "appendfsync", "everysec").Err(); err != nil {
		t.Fatal(err)
	}
	s.eventually("no reason", func() bool { return s.source(token, shop(1)).Problem == "" })
}

// A source with a job keeps its place for longer than others that are written to, and gets one again when it was interrupted; but jobs do not
// take all places that stay.
func TestFleetJobTurns(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		held        time.Duration
		jobs        int // of 8 sources that are written to, while others wait
		interrupted bool
	}{
		{5 * time.Second, 0, false}, {5 * time.Second, 1, false}, {5 * time.Second, 3, false}, {5 * time.Second, 8, true}, {30 * time.Second, 1, true},
	} {
		keep, interrupted := bridge.JobTurns(c.held, c.jobs)
		if keep != 6 || interrupted != c.interrupted {
			t.Errorf("%+v: %d keep their places, and interrupted is %t", c, keep, interrupted)
		}
	}
}
