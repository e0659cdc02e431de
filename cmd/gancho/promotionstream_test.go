package main_test

import (
	"context"
	"strings"
	"testing"

	"gancho/delivery/queue/queuetest"
	"gancho/internal/testservers"
)

// newStandbyWorld is a world whose DSN leads to a standby, with a slot of its own there, and a running bridge. The
// publications are the primary's. It returns a DSN for writers, who follow a promotion.
func newStandbyWorld(t *testing.T, primary *testservers.Postgres) (w *world, standby *testservers.Postgres, writers string) {
	t.Helper()
	w = newWorldOn(t, primary, "", testservers.RedisOptions{}, loadTable)
	w.rules = loadRules
	w.run().stop() // which creates the publications, and a slot that the standby does not have
	w.dropSlot()
	if err := w.redisClient().FlushAll(t.Context()).Err(); err != nil {
		t.Fatal(err)
	}
	standby, err := primary.StartStandby(nil)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(standby.Close)
	database := w.dsn[strings.LastIndex(w.dsn, "/")+1 : strings.LastIndex(w.dsn, "?")]
	w.dsn = standby.DSN(database)
	return w, standby, testservers.HostsDSN(database, primary, standby)
}

// runOnStandby starts a bridge whose slot begins at a record that only the primary writes.
func (w *world) runOnStandby(primary *testservers.Postgres) *bridge {
	w.t.Helper()
	b := w.start("run", "--create", "--config", w.write())
	ready := make(chan struct{})
	written := make(chan struct{})
	go func() {
		defer close(written)
		queuetest.Eventually(w.t, "the bridge to be ready", func() bool {
			_ = primary.Exec(context.Background(), "postgres", "select pg_log_standby_snapshot()")
			select {
			case <-ready:
				return true
			default:
				return false
			}
		})
	}()
	b.waitLog("bridge is ready")
	close(ready)
	<-written
	return b
}

// TestPromotionUnderAStream: the standby that the bridge reads becomes the primary, while its stream is open and under
// traffic. The stream goes on. A bridge that is killed then, and one that is stopped, read on in the same epoch: what was
// read behind the place where the timelines part is this server's own.
func TestPromotionUnderAStream(t *testing.T) {
	testservers.Whole(t)
	t.Parallel()
	primary := ownPostgres(t, nil)
	version, err := primary.Version()
	if err != nil {
		t.Fatal(err)
	}
	if version < 16 {
		t.Skip("a standby can be read from PostgreSQL 16 on")
	}
	w, standby, writers := newStandbyWorld(t, primary)
	r := newReceiver(t, nil)
	w.endpoint("a", r.url())
	b := w.runOnStandby(primary)
	l := startLoad(t, writers, fullPace)
	l.waitRows(500)
	primary.Kill()
	if err := standby.Promote(); err != nil {
		t.Fatal(err)
	}
	l.waitRows(500)
	rows := l.stop()
	checkDelivery(t, r.waitCount(rows), rows)
	if n := strings.Count(b.text(), `"replication started"`); n != 1 {
		t.Errorf("replication was started %d times: the stream was not the one that was open", n)
	}

	l = startLoad(t, writers, fullPace)
	l.waitRows(100)
	b.kill()
	l.waitRows(100)
	b = w.start("run", "--config", w.write())
	b.waitLog("the source was promoted, and has all that was read")
	b.waitLog("bridge is ready")
	l.waitRows(100)
	b.stop()
	l.waitRows(100)
	b = w.run()
	if strings.Contains(b.text(), "was promoted") {
		t.Errorf("the promotion is told again:\n%s", b.text())
	}
	rows = l.stop()
	t.Logf("%d rows, %d repeats", rows, checkDelivery(t, r.waitCount(rows), rows))
	w.recover(0, []string{"--dry-run"}, "there is nothing to recover")
	w.recover(0, []string{"--list"}, "no gap is known")
	b.stop()
}
