package bridge_test

import (
	"cmp"
	"context"
	"encoding/json"
	"fmt"
	"maps"
	"math/rand/v2"
	"net/http"
	"os"
	"os/exec"
	"slices"
	"strconv"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/rs/zerolog"

	"gancho/internal/bridge"
	"gancho/internal/testservers"
)

// fleetEnv has the places of the process that TestFleetKilled kills.
const fleetEnv = "GANCHO_TEST_FLEET"

// TestFleetProcess is no test: it is the process that TestFleetKilled kills.
func TestFleetProcess(t *testing.T) {
	text := os.Getenv(fleetEnv)
	if text == "" {
		t.Skip("it is the process of another test")
	}
	var places fleetPlaces
	if err := json.Unmarshal([]byte(text), &places); err != nil {
		t.Fatal(err)
	}
	if err := bridge.Run(t.Context(), places.options(zerolog.New(os.Stderr).Level(zerolog.WarnLevel))); err != nil {
		t.Fatal(err)
	}
}

// fleetProcess starts the process that reads the shops, for tests that kill it or measure it.
func (s *shops) fleetProcess(log *os.File) *exec.Cmd {
	s.t.Helper()
	places, err := json.Marshal(s.where)
	if err != nil {
		s.t.Fatal(err)
	}
	cmd := exec.Command(os.Args[0], "-test.run=^TestFleetProcess$", "-test.timeout=0")
	cmd.Env = append(os.Environ(), fleetEnv+"="+string(places))
	cmd.Stdout, cmd.Stderr = log, log
	cmd.SysProcAttr = testservers.ChildAttr(syscall.SIGKILL, nil)
	if err := cmd.Start(); err != nil {
		s.t.Fatal(err)
	}
	return cmd
}

// TestFleetKilled kills the process, Redis and PostgreSQL at random while rows are committed to databases that are read all the time
// and to others that are visited, and while databases come and go. Each row that was committed has arrived then, under one id, and in
// the order of its key.
func TestFleetKilled(t *testing.T) {
	testservers.Whole(t)
	t.Parallel()
	kills, err := strconv.Atoi(cmp.Or(os.Getenv("GANCHO_TEST_FLEET_KILLS"), "12"))
	if err != nil {
		t.Fatal(err)
	}
	seed, err := strconv.ParseUint(cmp.Or(os.Getenv("GANCHO_TEST_SEED"), "1"), 10, 64)
	if err != nil {
		t.Fatal(err)
	}
	k := newKilledFleet(t, seed)
	for range kills {
		k.round()
	}
	k.end()
}

const (
	// killedShops databases there are at first, of which the first killedHot are written to all the time.
	killedShops, killedHot = 8, 2
	killedKeys             = 4
)

// killedFleet is the world of TestFleetKilled.
type killedFleet struct {
	*shops
	random  *rand.Rand
	log     *os.File
	process *exec.Cmd
	ended   chan struct{} // closed when the process has ended
	writers map[string]*shopWriter
	created int
	kills   map[string]int
	known   map[string]map[int]shopRow // of databases that are gone
}

// shopRow is a row that was committed.
type shopRow struct{ cliente, n int }

// shopWriter commits rows to a database until it is stopped, whatever becomes of the server meanwhile.
type shopWriter struct {
	stop, ended chan struct{}
	committed   atomic.Int64
}

func newKilledFleet(t *testing.T, seed uint64) *killedFleet {
	t.Helper()
	log, err := os.CreateTemp(t.TempDir(), "log")
	if err != nil {
		t.Fatal(err)
	}
	k := &killedFleet{
		shops: newShops(t, killedShops), random: rand.New(rand.NewPCG(seed, 2)), log: log, created: killedShops,
		writers: map[string]*shopWriter{}, kills: map[string]int{}, known: map[string]map[int]shopRow{},
	}
	refusals := rand.New(rand.NewPCG(seed, 3))
	k.refuse = func(*received) int {
		if refusals.IntN(50) == 0 {
			return http.StatusServiceUnavailable
		}
		return 0
	}
	k.run()
	t.Cleanup(func() {
		for name := range k.writers {
			k.stopWriting(name)
		}
		_ = k.process.Process.Kill() // it may have ended
		<-k.ended
		if text, err := os.ReadFile(log.Name()); t.Failed() && err == nil {
			t.Logf("the process has logged:\n%s", text[max(0, len(text)-64<<10):])
		}
		_ = log.Close()
	})
	k.awaitSlots(killedShops)
	for i := range killedShops {
		k.write(shop(i), i < killedHot)
	}
	return k
}

// run starts the process.
func (k *killedFleet) run() {
	k.t.Helper()
	process, ended := k.fleetProcess(k.log), make(chan struct{})
	k.process, k.ended = process, ended
	go func() {
		defer close(ended)
		_ = process.Wait() // it is killed
	}()
}

// write begins to commit rows.
func (k *killedFleet) write(name string, hot bool) {
	w := &shopWriter{stop: make(chan struct{}), ended: make(chan struct{})}
	k.writers[name] = w
	random := rand.New(rand.NewPCG(k.random.Uint64(), 4))
	go func() {
		defer close(w.ended)
		w.run(k.pg.DSN(name), func() time.Duration {
			if hot {
				return time.Duration(1+random.IntN(20)) * time.Millisecond
			}
			return time.Duration(300+random.IntN(4000)) * time.Millisecond
		}, random)
	}()
}

// run commits rows, one at a time and with rising numbers, of which some may be missing: what became of a statement that failed is not known.
func (w *shopWriter) run(dsn string, pause func() time.Duration, random *rand.Rand) {
	var conn *pgx.Conn
	defer func() {
		if conn != nil {
			_ = conn.Close(context.Background())
		}
	}()
	for n := 1; ; n++ {
		select {
		case <-w.stop:
			return
		case <-time.After(pause()): // the pace of the application
		}
		ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
		var err error
		if conn == nil || conn.IsClosed() {
			conn, err = pgx.Connect(ctx, dsn)
		}
		if err == nil {
			_, err = conn.Exec(ctx, "insert into pedidos (empresa, cliente, n) values (1, $1, $2)", random.IntN(killedKeys), n)
		}
		cancel()
		if err == nil {
			w.committed.Add(1)
		} else if conn != nil {
			_ = conn.Close(context.Background())
			conn = nil
		}
	}
}

// stopWriting ends the writer of a database.
func (k *killedFleet) stopWriting(name string) {
	w := k.writers[name]
	close(w.stop)
	<-w.ended
	delete(k.writers, name)
}

// round kills something after a while.
func (k *killedFleet) round() {
	k.t.Helper()
	select {
	case <-k.ended:
		k.t.Fatal("the process has ended by itself")
	case <-time.After(time.Duration(300+k.random.IntN(2700)) * time.Millisecond): // so long it lives
	}
	var what string
	switch n := k.random.IntN(20); {
	case n < 4:
		what = "redis"
		k.redis.Kill()
		k.started(k.redis.StartSupervised())
	case n < 6:
		what = "postgresql, killed"
		k.pg.Kill()
		k.started(k.pg.Start())
	case n < 8:
		what = "postgresql, restarted"
		k.pg.Stop("fast")
		k.started(k.pg.Start())
	case n < 9:
		what = "all"
		k.killProcess()
		k.redis.Kill()
		k.pg.Kill()
		k.started(k.redis.StartSupervised())
		k.started(k.pg.Start())
		k.run()
	case n < 10:
		what = "bridge, with a database more"
		k.killProcess()
		name := shop(k.created)
		k.create(name)
		k.created++
		k.run()
		k.awaitSlots(len(k.writers) + 1) // rows from before it has one are no events
		k.write(name, false)
	case n < 11 && len(k.writers) > killedShops-2:
		what = "bridge, with a database less"
		k.vanish(shop(killedHot + k.random.IntN(k.created-killedHot)))
		k.killProcess()
		k.run()
	default:
		what = "bridge"
		k.killProcess()
		k.run()
	}
	k.kills[what]++
}

func (k *killedFleet) started(err error) {
	k.t.Helper()
	if err != nil {
		k.t.Fatal(err)
	}
}

func (k *killedFleet) killProcess() {
	_ = k.process.Process.Kill() // it has not ended, or the next round says so
	<-k.ended
}

// vanish drops a database, once its events have arrived; nothing if it is gone.
func (k *killedFleet) vanish(name string) {
	k.t.Helper()
	if k.writers[name] == nil {
		return
	}
	k.stopWriting(name)
	k.known[name] = k.rows(name)
	k.await("all events of one that goes", 2*time.Minute, func([]received) bool { return k.arrived[name] >= len(k.known[name]) })
	for dropped := false; !dropped; { // it is visited now and then
		err := k.pg.Exec(context.Background(), name, "select pg_drop_replication_slot(slot_name) from pg_replication_slots where database = current_database() and not active")
		if err == nil {
			err = k.pg.Exec(context.Background(), "postgres", "drop database "+name+" with (force)")
		}
		dropped = err == nil
	}
}

// rows are those that were committed to a database, by their ids.
func (k *killedFleet) rows(name string) map[int]shopRow {
	k.t.Helper()
	conn, err := pgx.Connect(context.Background(), k.pg.DSN(name))
	if err != nil {
		k.t.Fatal(err)
	}
	defer func() { _ = conn.Close(context.Background()) }()
	all := map[int]shopRow{}
	var id, cliente, n int
	rows, _ := conn.Query(context.Background(), "select id, cliente, n from pedidos")
	if _, err := pgx.ForEachRow(rows, []any{&id, &cliente, &n}, func() error {
		all[id] = shopRow{cliente, n}
		return nil
	}); err != nil {
		k.t.Fatal(err)
	}
	return all
}

// end compares what was committed with what has arrived.
func (k *killedFleet) end() {
	k.t.Helper()
	committed := int64(0)
	for name, w := range maps.Clone(k.writers) {
		k.stopWriting(name)
		k.known[name] = k.rows(name)
		if committed += w.committed.Load(); int64(len(k.known[name])) < w.committed.Load() {
			k.t.Errorf("%s has %d rows, and %d were committed", name, len(k.known[name]), w.committed.Load())
		}
	}
	want, rows := map[string]int{}, 0
	for name, all := range k.known {
		want[name] = len(all)
		rows += len(all)
	}
	defer func() {
		if k.t.Failed() {
			k.explain()
		}
	}()
	k.await("all events", 3*time.Minute, func([]received) bool {
		for source, n := range want {
			if k.arrived[source] < n {
				return false
			}
		}
		return true
	})
	k.check(want)
	k.mu.Lock()
	defer k.mu.Unlock()
	ids := map[string]string{}
	for _, e := range k.received {
		source, _, _ := strings.Cut(e.Tenant, "/")
		if row, there := k.known[source][e.Data.ID]; !there || row != (shopRow{e.Data.Cliente, e.Data.N}) {
			k.t.Errorf("%s: %+v has arrived, and %+v was committed", source, e.Data, row)
		}
		place := fmt.Sprint(source, " ", e.Data.ID)
		if id, seen := ids[place]; seen && id != e.ID {
			k.t.Errorf("row %s has arrived as %s and as %s", place, id, e.ID)
		}
		ids[place] = e.ID
	}
	for source, all := range k.known {
		for id := range all {
			if ids[fmt.Sprint(source, " ", id)] == "" {
				k.t.Errorf("%s: row %d was lost", source, id)
			}
		}
	}
	k.t.Logf("%v; %d rows in %d databases, %d requests", k.kills, rows, len(k.known), len(k.received))
}

// explain logs what is missing, and where the slots stand.
func (k *killedFleet) explain() {
	k.mu.Lock()
	there := map[string]bool{}
	for _, e := range k.received {
		source, _, _ := strings.Cut(e.Tenant, "/")
		there[fmt.Sprint(source, " ", e.Data.ID)] = true
	}
	k.mu.Unlock()
	for source, all := range k.known {
		var missing []int
		for id := range all {
			if !there[fmt.Sprint(source, " ", id)] {
				missing = append(missing, id)
			}
		}
		slices.Sort(missing)
		if len(missing) > 0 {
			k.t.Logf("%s: %d of %d rows are missing, from %d to %d", source, len(missing), len(all), missing[0], missing[len(missing)-1])
		}
	}
	conn, err := pgx.Connect(context.Background(), k.pg.DSN("postgres"))
	if err != nil {
		k.t.Log(err)
		return
	}
	defer func() { _ = conn.Close(context.Background()) }()
	var line string
	rows, _ := conn.Query(context.Background(), "select format('%s: active %s, restart %s, confirmed %s, now %s', database, active, restart_lsn, confirmed_flush_lsn, pg_current_wal_lsn()) from pg_replication_slots order by 1")
	if _, err := pgx.ForEachRow(rows, []any{&line}, func() error {
		k.t.Log(line)
		return nil
	}); err != nil {
		k.t.Log(err)
	}
}
