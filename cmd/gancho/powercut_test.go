package main_test

import (
	"context"
	"math/rand/v2"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"gancho/delivery/queue/queuetest"
	"gancho/internal/testservers"
)

// powerCutRounds is how many crashes TestPowerCuts has for each appendfsync;
// GANCHO_TEST_CRASH_ROUNDS sets another number (make test-crash).
const powerCutRounds = 12

// powerCutPace is the time between two transactions.
const powerCutPace = 10 * time.Millisecond

// powerCut is a world whose Redis notes what it has synced.
type powerCut struct {
	*world
	random *rand.Rand
	synced string // folder of the notes
	b      *bridge
}

// gate holds up whoever waits at it while it is closed.
type gate struct {
	mu   sync.Mutex
	open chan struct{} // closed while the gate is open
}

func newGate() *gate {
	g := &gate{open: make(chan struct{})}
	close(g.open)
	return g
}

func (g *gate) set(closed bool) {
	g.mu.Lock()
	defer g.mu.Unlock()
	select {
	case <-g.open:
		if closed {
			g.open = make(chan struct{})
		}
	default:
		if !closed {
			close(g.open)
		}
	}
}

func (g *gate) wait() {
	g.mu.Lock()
	open := g.open
	g.mu.Unlock()
	<-open
}

// TestPowerCuts kills the bridge, Redis and PostgreSQL at random. Of what Redis had not
// synced when it was killed, a random part is lost, in the middle of a command if it so
// happens. One receiver takes events as they come, the other lets them queue up, beyond their quota: the oldest move to
// PostgreSQL. Every row arrives at both, and first in order of its key.
func TestPowerCuts(t *testing.T) {
	testservers.Whole(t)
	t.Parallel()
	rounds := powerCutRounds
	if s := os.Getenv("GANCHO_TEST_CRASH_ROUNDS"); s != "" {
		n, err := strconv.Atoi(s)
		if err != nil {
			t.Fatal(err)
		}
		rounds = n
	}
	cc, err := exec.LookPath("cc")
	if err != nil {
		t.Fatal("no C compiler, so nothing notes what Redis has synced; install it: make deps")
	}
	library := filepath.Join(t.TempDir(), "synced.so")
	if out, err := exec.Command(cc, "-shared", "-fPIC", "-O1", "-o", library, "testdata/synced.c", "-ldl").CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	for _, fsync := range []string{"everysec", "always"} {
		t.Run(fsync, func(t *testing.T) {
			t.Parallel()
			newPowerCut(t, library, fsync).run(rounds)
		})
	}
}

func newPowerCut(t *testing.T, library, fsync string) *powerCut {
	own, err := testservers.StartPostgres(testservers.PostgresOptions{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(own.Close)
	redis := testservers.RedisOptions{Settings: map[string]string{"appendfsync": fsync, "aof-load-truncated": "yes"}}
	p := &powerCut{world: newWorldOn(t, own, "", redis, loadTable), random: seeded(t), synced: t.TempDir()}
	p.rules = loadRules
	p.extra = "state: {key: '" + stateKey + "'}\nquotas: {total: {backlog: 30}}"
	p.redis.Stop()
	p.redis.Setenv("LD_PRELOAD", library)
	p.redis.Setenv("SYNCED_DIR", p.synced)
	p.restartRedis()
	return p
}

func (p *powerCut) run(rounds int) {
	p.t.Helper()
	slowly := newGate()
	defer slowly.set(false)
	fast, slow := newReceiver(p.t, nil), newReceiver(p.t, func(http.ResponseWriter, arrival) { slowly.wait() })
	p.endpoint("rapido", fast.url())
	p.endpoint("lento", slow.url(), "timeout: 60s")
	p.b = p.world.run()
	l := startLoad(p.t, p.dsn, powerCutPace)
	slowly.set(true)
	queuetest.Eventually(p.t, "events in PostgreSQL", func() bool { return p.overflowed() > 0 })
	begun, overflowed := time.Now(), 0
	for i := range rounds {
		slowly.set(p.random.IntN(3) > 0)
		l.waitRows(10 + p.random.IntN(60))
		if p.random.IntN(2) == 0 {
			p.awaitConfirmation()
		}
		overflowed += p.overflowed()
		p.crash()
		if p.t.Failed() {
			p.t.Fatalf("in round %d", i)
		}
	}
	slowly.set(false)
	rows := l.stop()
	repeats := checkDelivery(p.t, fast.waitCount(rows), rows) + checkDelivery(p.t, slow.waitCount(rows), rows)
	p.t.Logf("%s; %s; %d times there were events in PostgreSQL", describe(rows, repeats, rounds), time.Since(begun).Round(time.Second), overflowed)
	p.b.stop()
}

// overflowed returns 1 if there are events in PostgreSQL.
func (p *powerCut) overflowed() (n int) {
	p.t.Helper()
	conn := p.connect()
	defer func() { _ = conn.Close(context.Background()) }()
	err := conn.QueryRow(context.Background(), "select count(*)::int from (select from gancho.overflow limit 1) one").Scan(&n)
	if err != nil && !strings.Contains(err.Error(), "does not exist") { // the bridge has just been started
		p.t.Fatal(err)
	}
	return n
}

// crash kills something, and has it come back.
func (p *powerCut) crash() {
	p.t.Helper()
	select {
	case <-p.b.done:
		p.t.Fatalf("the bridge has ended by itself:\n%s", tail(p.b.text(), 4000))
	default:
	}
	switch n := p.random.IntN(20); {
	case n < 9:
		p.cutRedis()
		p.restartRedis()
	case n < 12: // orderly: what the server has appended behind a torn end is loaded
		p.redis.Stop()
		p.restartRedis()
	case n < 15:
		p.b.kill()
		p.b = p.start("run", "--create", "--config", p.write())
	case n < 18: // the whole machine
		p.b.kill()
		p.cutRedis()
		p.restartRedis()
		p.b = p.start("run", "--create", "--config", p.write())
	default:
		p.postgres.Kill()
		if err := p.postgres.Start(); err != nil {
			p.t.Fatal(err)
		}
	}
}

func (p *powerCut) restartRedis() {
	p.t.Helper()
	if err := p.redis.StartSupervised(); err != nil {
		p.t.Fatalf("%v\n%s", err, p.redis.Log())
	}
}

// cutRedis kills Redis, and takes a random part of what it had not synced.
func (p *powerCut) cutRedis() {
	p.t.Helper()
	p.redis.Kill()
	files, err := filepath.Glob(filepath.Join(p.redis.Dir(), "appendonlydir", "*.incr.aof"))
	if err != nil || len(files) == 0 {
		p.t.Fatalf("find the append-only file: %v, %v", files, err)
	}
	for _, file := range files {
		info, err := os.Stat(file)
		if err != nil {
			p.t.Fatal(err)
		}
		var synced int64
		if note, err := os.ReadFile(filepath.Join(p.synced, filepath.Base(file))); err == nil {
			if synced, err = strconv.ParseInt(string(note), 10, 64); err != nil {
				p.t.Fatal(err)
			}
		}
		unsynced := info.Size() - synced
		if unsynced <= 0 {
			continue
		}
		// The file system may have written some of it.
		keep := synced
		if p.random.IntN(2) == 0 {
			keep += p.random.Int64N(unsynced + 1)
		}
		if err := os.Truncate(file, keep); err != nil {
			p.t.Fatal(err)
		}
	}
}

// awaitConfirmation waits until what was committed up to now is confirmed, or for as long as
// that takes at most when nothing is wrong: the bridge may have to start first.
func (p *powerCut) awaitConfirmation() {
	p.t.Helper()
	conn := p.connect()
	defer func() { _ = conn.Close(context.Background()) }()
	var now string
	if err := conn.QueryRow(context.Background(), "select pg_current_wal_lsn()::text").Scan(&now); err != nil {
		p.t.Fatal(err)
	}
	for confirmed, begun := false, time.Now(); !confirmed && time.Since(begun) < 10*time.Second; {
		err := conn.QueryRow(context.Background(), `select confirmed_flush_lsn >= $1::pg_lsn from pg_replication_slots, pg_sleep(0.02)
			where slot_name = $2`, now, p.slot()).Scan(&confirmed)
		if err != nil && !strings.Contains(err.Error(), "no rows") {
			p.t.Fatal(err)
		}
	}
}
