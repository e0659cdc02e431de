package bridge_test

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/rs/zerolog"

	"gancho/cdc"
	"gancho/delivery/endpoint"
	"gancho/delivery/queue"
	"gancho/internal/bridge"
	"gancho/internal/testservers"
	"gancho/mapping"
)

const fleetRules = `
rules:
  - event: pedido.novo
    table: pedidos
    on: insert
    tenant: empresa
    key: cliente
    columns: [id, cliente, n]
`

const fleetTable = "create table pedidos (id bigserial primary key, empresa int not null, cliente int not null, n int not null)"

// shops are the databases of many customers on one cluster, what reads them, and what receives their events.
type shops struct {
	t        testing.TB
	pg       *testservers.Postgres
	redis    *testservers.Redis
	where    fleetPlaces
	options  bridge.Options
	receiver *httptest.Server

	mu       sync.Mutex
	received []received
	arrived  map[string]int // how many different events of each source were received
	ids      map[string]bool
	refuse   func(r *received) int // an answer instead of 200; nil or 0: none
	changed  chan struct{}         // closed and replaced when something was received
}

type received struct {
	ID, Type, Tenant string
	Timestamp        time.Time
	Data             struct{ ID, Cliente, N int }
	at               time.Time
}

func newShops(t testing.TB, n int) *shops {
	t.Helper()
	s := &shops{t: t, changed: make(chan struct{}), arrived: map[string]int{}, ids: map[string]bool{}}
	var err error
	if s.pg, err = testservers.StartPostgres(testservers.PostgresOptions{Settings: map[string]string{"max_replication_slots": "400", "max_wal_senders": "20", "max_connections": "100"}}); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(s.pg.Close)
	if s.redis, err = testservers.StartRedis(testservers.RedisOptions{}); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(s.redis.Close)
	for i := range n {
		s.create(shop(i))
	}
	s.receiver = httptest.NewServer(http.HandlerFunc(s.receive))
	t.Cleanup(s.receiver.Close)
	dir := t.TempDir()
	rules := filepath.Join(dir, "rules.yaml")
	if err := os.WriteFile(rules, []byte(fleetRules), 0o600); err != nil {
		t.Fatal(err)
	}
	s.where = fleetPlaces{DSN: s.pg.DSN("database_name") + "&application_name=gancho", Redis: s.redis.URL(), Receiver: s.receiver.URL, Rules: rules, Streams: 4, VisitEvery: 10 * time.Second}
	s.options = s.where.options(zerolog.New(zerolog.TestWriter{T: t, Frame: 1}).Level(zerolog.InfoLevel))
	return s
}

// fleetPlaces are where the servers are, for another process.
type fleetPlaces struct {
	DSN             string // database_name: the database
	Redis, Receiver string
	Rules           string // the file
	Streams         int
	VisitEvery      time.Duration
}

func (p *fleetPlaces) dsn(database string) string {
	return strings.Replace(p.DSN, "database_name", database, 1)
}

func (p *fleetPlaces) options(log zerolog.Logger) bridge.Options {
	return bridge.Options{
		Source:   cdc.Options{Slot: "gancho", Publication: "gancho", Create: true},
		Location: time.UTC, TransactionMemory: 64 << 20, LagWarning: 1 << 30,
		Queue:   queue.Options{URL: p.Redis},
		Sources: &bridge.Sources{List: p.list, Cluster: func() string { return p.dsn("postgres") }, Streams: p.Streams, VisitEvery: p.VisitEvery},
		Capture: true, Deliver: true, Listen: "127.0.0.1:0", Shutdown: 5 * time.Second, Log: log,
		Load: func() (*bridge.Definitions, error) {
			parsed, err := mapping.Parse(mapping.Options{Files: []string{p.Rules}, Publication: "gancho"})
			return &bridge.Definitions{Rules: parsed, Endpoints: []*endpoint.Endpoint{{
				Name: "crm", URL: p.Receiver, AllowHTTP: true, AllowPrivate: []netip.Prefix{netip.MustParsePrefix("127.0.0.0/8")},
				Retry: []time.Duration{200 * time.Millisecond, 500 * time.Millisecond, time.Second, 2 * time.Second},
			}}}, err
		},
	}
}

func shop(i int) string { return fmt.Sprintf("loja_%03d", i) }

// create creates a database, with the table of the rules.
func (s *shops) create(name string, statements ...string) {
	s.t.Helper()
	s.exec("postgres", "create database "+name)
	if len(statements) == 0 {
		statements = []string{fleetTable}
	}
	for _, sql := range statements {
		s.exec(name, sql)
	}
}

func (s *shops) exec(database, sql string) {
	s.t.Helper()
	if err := s.pg.Exec(context.Background(), database, sql); err != nil {
		s.t.Fatal(err)
	}
}

// list lists the databases of customers.
func (p *fleetPlaces) list(ctx context.Context) ([]bridge.Source, error) {
	conn, err := pgx.Connect(ctx, p.dsn("postgres"))
	if err != nil {
		return nil, err
	}
	defer func() { _ = conn.Close(ctx) }()
	rows, _ := conn.Query(ctx, `select datname::text from pg_database where datname like 'loja\_%'`)
	names, err := pgx.CollectRows(rows, pgx.RowTo[string])
	var out []bridge.Source
	for _, name := range names {
		dsn := p.dsn(name)
		out = append(out, bridge.Source{Name: name, DSN: dsn, LookupDSN: dsn, Slot: "gancho_" + name, QueuePrefix: "gancho:" + name})
	}
	return out, err
}

func (s *shops) receive(w http.ResponseWriter, r *http.Request) {
	body, err := io.ReadAll(r.Body)
	e := received{at: time.Now()}
	if err == nil {
		err = json.Unmarshal(body, &e)
	}
	if err != nil {
		w.WriteHeader(http.StatusBadRequest)
		return
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.refuse != nil {
		if status := s.refuse(&e); status != 0 {
			w.WriteHeader(status)
			return
		}
	}
	s.received = append(s.received, e)
	if source, _, _ := strings.Cut(e.Tenant, "/"); !s.ids[e.ID] {
		s.ids[e.ID] = true
		s.arrived[source]++
	}
	close(s.changed)
	s.changed = make(chan struct{})
}

// await waits until what was received is as asked.
func (s *shops) await(what string, within time.Duration, until func(all []received) bool) {
	s.t.Helper()
	late := time.NewTimer(within)
	defer late.Stop()
	for {
		s.mu.Lock()
		ok, changed, n := until(s.received), s.changed, len(s.received)
		s.mu.Unlock()
		if ok {
			return
		}
		select {
		case <-changed:
		case <-late.C:
			s.t.Fatalf("%s: not within %s; %d events were received", what, within, n)
		}
	}
}

// start starts the bridge; stop ends it.
func (s *shops) start() (stop func()) {
	s.t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	ended, options := make(chan error, 1), s.options // which the test may change for another process
	go func() { ended <- bridge.Run(ctx, options) }()
	var once sync.Once
	stop = func() {
		once.Do(func() {
			cancel()
			if err := <-ended; err != nil {
				s.t.Errorf("the bridge ended with %v", err)
			}
		})
	}
	s.t.Cleanup(stop)
	return stop
}

// value reads one value of the cluster.
func (s *shops) value(sql string, args ...any) (n int) {
	s.t.Helper()
	conn, err := pgx.Connect(context.Background(), s.pg.DSN("postgres"))
	if err == nil {
		defer func() { _ = conn.Close(context.Background()) }()
		err = conn.QueryRow(context.Background(), sql, args...).Scan(&n)
	}
	if err != nil {
		s.t.Fatal(err)
	}
	return n
}

// awaitSlots waits until each source has its slot.
func (s *shops) awaitSlots(n int) {
	s.t.Helper()
	deadline := time.Now().Add(2 * time.Minute)
	for s.value(`select count(*) from pg_replication_slots where confirmed_flush_lsn is not null`) < n {
		if time.Now().After(deadline) {
			s.t.Fatalf("there are not %d slots", n)
		}
		<-time.After(100 * time.Millisecond) // a server that is asked again
	}
}

// check checks that every event was received, in the order of its key, under ids of its own.
func (s *shops) check(want map[string]int) {
	s.t.Helper()
	s.mu.Lock()
	defer s.mu.Unlock()
	ids, last, got := map[string]received{}, map[string]int{}, map[string]int{}
	for _, e := range s.received {
		if known, seen := ids[e.ID]; seen {
			if known.Tenant != e.Tenant || known.Data != e.Data {
				s.t.Errorf("%s is both %v and %v", e.ID, known, e)
			}
			continue // a repeat
		}
		ids[e.ID] = e
		source, _, _ := strings.Cut(e.Tenant, "/")
		got[source]++
		key := fmt.Sprint(source, " ", e.Data.Cliente)
		if e.Data.N <= last[key] {
			s.t.Errorf("%s: %d after %d", key, e.Data.N, last[key])
		}
		last[key] = e.Data.N
	}
	for source, n := range want {
		if got[source] != n {
			s.t.Errorf("%s: %d events, want %d", source, got[source], n)
		}
	}
}

// count is how many different events of a source were received.
func count(all []received, source string) int {
	ids := map[string]bool{}
	for _, e := range all {
		if of, _, _ := strings.Cut(e.Tenant, "/"); of == source {
			ids[e.ID] = true
		}
	}
	return len(ids)
}

// TestFleet: events of many databases arrive, whether they are read all the time or visited, in the order of their keys, and
// no more of them are read at once than may.
func TestFleet(t *testing.T) {
	t.Parallel()
	const databases, hot, rounds = 12, 2, 40
	s := newShops(t, databases)
	s.start()
	s.awaitSlots(databases)
	want := map[string]int{}
	most := 0
	for round := range rounds {
		for i := range databases {
			if i >= hot && round%20 != i {
				continue
			}
			s.exec(shop(i), fmt.Sprintf("insert into pedidos (empresa, cliente, n) select 7, c, %d from generate_series(1, 3) c", round+1))
			want[shop(i)] += 3
		}
		most = max(most, s.value("select count(*) from pg_replication_slots where active"))
	}
	s.await("all events", 60*time.Second, func(all []received) bool {
		for source, n := range want {
			if count(all, source) < n {
				return false
			}
		}
		return true
	})
	s.check(want)
	if most > s.options.Sources.Streams {
		t.Errorf("%d slots were read at once, and %d may", most, s.options.Sources.Streams)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, e := range s.received {
		if !strings.HasSuffix(e.Tenant, "/7") {
			t.Fatalf("tenant is %q", e.Tenant)
		}
	}
}

// TestFleetLeavesOut: a database that does not fit the rules is left out while the others are read, and is read when it fits; one that
// is created is taken up, and one that is dropped let go.
func TestFleetLeavesOut(t *testing.T) {
	t.Parallel()
	s := newShops(t, 2)
	reload := make(chan os.Signal, 1)
	s.options.Reload = reload
	s.options.Sources.VisitEvery = 3 * time.Second
	s.create("loja_torta", "create table pedidos (id bigserial primary key)")
	s.start()
	s.awaitSlots(2)
	s.exec(shop(1), "insert into pedidos (empresa, cliente, n) values (1, 1, 1)")
	s.await("the event of one that fits", 30*time.Second, func(all []received) bool { return count(all, shop(1)) == 1 })

	s.exec("loja_torta", "alter table pedidos add empresa int, add cliente int, add n int")
	s.awaitSlots(3)
	s.exec("loja_torta", "insert into pedidos (empresa, cliente, n) values (null, 1, 1)")
	s.await("the event of one that fits now", 30*time.Second, func(all []received) bool { return count(all, "loja_torta") == 1 })

	s.create("loja_nova")
	reload <- os.Interrupt
	s.awaitSlots(4)
	s.exec("loja_nova", "insert into pedidos (empresa, cliente, n) values (1, 1, 1)")
	s.await("the event of a new one", 30*time.Second, func(all []received) bool { return count(all, "loja_nova") == 1 })

	for dropped := false; !dropped; { // it is visited now and then
		err := s.pg.Exec(t.Context(), shop(0), "select pg_drop_replication_slot(slot_name) from pg_replication_slots where database = current_database() and not active")
		if err == nil {
			err = s.pg.Exec(t.Context(), "postgres", "drop database "+shop(0)+" with (force)")
		}
		dropped = err == nil
	}
	reload <- os.Interrupt
	s.exec(shop(1), "insert into pedidos (empresa, cliente, n) values (1, 1, 2)")
	s.await("an event after one was dropped", 30*time.Second, func(all []received) bool { return count(all, shop(1)) == 2 })
}

// TestFleetRetries: what a receiver has refused is sent again, though its source is not read any more.
func TestFleetRetries(t *testing.T) {
	t.Parallel()
	s := newShops(t, 2)
	s.options.Sources.VisitEvery = time.Hour
	refusals := 0
	s.refuse = func(*received) int {
		if refusals++; refusals <= 3 {
			return http.StatusServiceUnavailable
		}
		return 0
	}
	s.start()
	s.awaitSlots(2)
	s.exec(shop(0), "insert into pedidos (empresa, cliente, n) values (1, 1, 1)")
	s.await("the event", 60*time.Second, func(all []received) bool { return count(all, shop(0)) == 1 })
	s.check(map[string]int{shop(0): 1})
}
