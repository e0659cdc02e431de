package main_test

import (
	"context"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"gancho/delivery/queue/queuetest"
	"gancho/internal/testservers"
)

// inFlight bounds what one crash may repeat: the requests that were on the
// wire and the answers whose acknowledgement had not reached Redis.
const inFlight = 2 * 16 * 8

// seeded decides when a test kills what; GANCHO_TEST_SEED sets another course.
func seeded(t *testing.T) *rand.Rand {
	seed := uint64(1)
	if s := os.Getenv("GANCHO_TEST_SEED"); s != "" {
		if _, err := fmt.Sscan(s, &seed); err != nil {
			t.Fatalf("GANCHO_TEST_SEED: %v", err)
		}
	}
	t.Logf("GANCHO_TEST_SEED=%d", seed)
	return rand.New(rand.NewPCG(seed, 0))
}

// finish stops the load and waits for every row.
func finish(t *testing.T, l *load, r *receiver, rounds int) {
	t.Helper()
	rows := l.stop()
	repeats := checkDelivery(t, r.waitCount(rows), rows)
	t.Log(describe(rows, repeats, rounds))
	if limit := rounds * inFlight; repeats > limit {
		t.Errorf("%d repeated deliveries in %d rounds; at most %d can have been in flight", repeats, rounds, limit)
	}
}

func TestKillBridge(t *testing.T) {
	testservers.Whole(t)
	t.Parallel()
	random := seeded(t)
	w := newWorld(t, testservers.RedisOptions{}, loadTable)
	r := newReceiver(t, nil)
	w.rules = loadRules
	w.endpoint("a", r.url())
	const rounds = 20
	b := w.run()
	l := startLoad(t, w.dsn, loadPace)
	for range rounds {
		l.waitRows(random.IntN(300))
		b.kill()
		if random.IntN(2) == 0 {
			l.waitRows(random.IntN(200))
		}
		// Half of the time it is killed before it is ready, too.
		b = w.start("run", "--create", "--config", w.write())
		if random.IntN(2) == 0 {
			b.waitLog("bridge is ready")
		}
	}
	finish(t, l, r, rounds)
	b.stop()
}

func TestKillRedis(t *testing.T) {
	testservers.Whole(t)
	t.Parallel()
	random := seeded(t)
	w := newWorld(t, testservers.RedisOptions{}, loadTable)
	r := newReceiver(t, nil)
	w.rules = loadRules
	w.endpoint("a", r.url())
	const rounds = 5
	b := w.run()
	l := startLoad(t, w.dsn, fullPace)
	for range rounds {
		l.waitRows(200 + random.IntN(500))
		w.redis.Kill()
		l.waitRows(random.IntN(300))
		if err := w.redis.Start(); err != nil {
			t.Fatal(err)
		}
	}
	finish(t, l, r, rounds)
	b.stop()
}

// TestRedisLosesItsTail takes the newest part of the append-only file away, as
// a machine that lost power would: with everysec that is what Redis may lose.
func TestRedisLosesItsTail(t *testing.T) {
	testservers.Whole(t)
	t.Parallel()
	w := newWorld(t, testservers.RedisOptions{Settings: map[string]string{"aof-load-truncated": "yes"}}, loadTable)
	// The receiver holds everything back, so that the queue holds all events
	// and the loss hits events that nobody has seen.
	r := newReceiver(t, nil)
	w.rules = loadRules
	w.endpoint("a", r.url(), "state: paused")
	b := w.run()
	l := startLoad(t, w.dsn, loadPace)
	const rounds = 3
	for range rounds {
		l.waitRows(500)
		w.redis.Kill()
		truncateAOF(t, w.redis.Dir())
		if err := w.redis.Start(); err != nil {
			t.Fatalf("%v\n%s", err, w.redis.Log())
		}
		b.waitLog("redis restarted")
	}
	l.waitRows(100)
	b.stop()
	w.endpoints = nil
	w.endpoint("a", r.url())
	b = w.run()
	finish(t, l, r, rounds)
	b.stop()
}

// truncateAOF cuts the newest append-only file to three quarters of what it
// gained, in the middle of a command if it so happens.
func truncateAOF(t *testing.T, dir string) {
	t.Helper()
	files, err := filepath.Glob(filepath.Join(dir, "appendonlydir", "*.incr.aof"))
	if err != nil || len(files) != 1 {
		t.Fatalf("find the append-only file: %v, %v", files, err)
	}
	info, err := os.Stat(files[0])
	if err != nil {
		t.Fatal(err)
	}
	cut := min(info.Size()/4, 30_000)
	if err := os.Truncate(files[0], info.Size()-cut); err != nil {
		t.Fatal(err)
	}
}

// TestRestartPostgres restarts the source, which has the state too, while the backlog of a paused
// endpoint moves there; then everything is killed.
func TestRestartPostgres(t *testing.T) {
	testservers.Whole(t)
	t.Parallel()
	random := seeded(t)
	own, err := testservers.StartPostgres(testservers.PostgresOptions{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(own.Close)
	w := newWorldOn(t, own, "", testservers.RedisOptions{}, loadTable)
	w.extra = "state: {key: '" + stateKey + "'}\nquotas: {total: {backlog: 100}}"
	r, paused := newReceiver(t, nil), newReceiver(t, nil)
	w.rules = loadRules
	w.endpoint("a", r.url())
	w.endpoint("parado", paused.url(), "state: paused")
	b := w.run()
	l := startLoad(t, w.dsn, fullPace)
	ends := []func(){own.Kill, func() { own.Stop("fast") }, func() { own.Stop("immediate") }}
	for _, end := range ends {
		l.waitRows(200 + random.IntN(300))
		end()
		if err := own.Start(); err != nil {
			t.Fatal(err)
		}
	}
	l.waitRows(100)
	finish(t, l, r, len(ends))
	queuetest.Eventually(t, "a short queue in redis", func() bool {
		queued, err := w.redisClient().XLen(t.Context(), "gancho:{parado}:q").Result()
		return err == nil && queued <= 100
	})
	b.kill()
	own.Kill()
	w.redis.Kill()
	for _, start := range []func() error{own.Start, w.redis.Start} {
		if err := start(); err != nil {
			t.Fatal(err)
		}
	}
	w.endpoints = nil
	w.endpoint("a", r.url())
	w.endpoint("parado", paused.url())
	b = w.run()
	finish(t, l, paused, 1)
	b.stop()
}

func TestCutConnection(t *testing.T) {
	testservers.Whole(t)
	t.Parallel()
	random := seeded(t)
	w := newWorld(t, testservers.RedisOptions{}, loadTable)
	r := newReceiver(t, nil)
	w.rules = loadRules
	w.endpoint("a", r.url())
	b := w.run()
	l := startLoad(t, w.dsn, fullPace)
	conn := w.connect()
	cut := 0
	for range 5 {
		l.waitRows(200 + random.IntN(300))
		var n int
		if err := conn.QueryRow(context.Background(),
			`select count(pg_terminate_backend(active_pid)) from pg_replication_slots where slot_name = $1 and active`, w.slot()).Scan(&n); err != nil {
			t.Fatal(err)
		}
		cut += n
	}
	if cut == 0 {
		t.Error("no connection was cut")
	}
	finish(t, l, r, 5)
	b.stop()
}

// TestTakeover runs two bridges on one slot: one captures and both may
// deliver; when the first is killed the second takes over everything.
func TestTakeover(t *testing.T) {
	testservers.Whole(t)
	t.Parallel()
	w := newWorld(t, testservers.RedisOptions{}, loadTable)
	r := newReceiver(t, nil)
	w.rules = loadRules
	w.endpoint("a", r.url())
	first := w.run()
	second := w.start("run", "--config", w.write())
	second.waitLog("slot is in use")
	l := startLoad(t, w.dsn, fullPace)
	l.waitRows(500)
	first.kill()
	second.waitLog("bridge is ready")
	l.waitRows(500)
	finish(t, l, r, 1)
	second.stop()
	if strings.Contains(second.text(), "panic") {
		t.Error("the second bridge panicked")
	}
}
