package main_test

import (
	"context"
	"fmt"
	"strings"
	"testing"

	"github.com/jackc/pgx/v5"

	"gancho/delivery/queue/queuetest"
	"gancho/internal/testservers"
)

// pair is a world on a primary with a standby that has the slot, too: synchronized by the server from PostgreSQL 17 on, before
// that copied, as Patroni does. The DSN has the former primary first.
type pair struct {
	*world
	primary, standby *testservers.Postgres
	database         string
	synchronizes     bool // the server synchronizes slots, and may keep the stream from being ahead of the standby
}

func newPair(t *testing.T) *pair {
	t.Helper()
	return newPairOf(t, loadRules, loadTable)
}

func newPairOf(t *testing.T, rules string, statements ...string) *pair {
	t.Helper()
	p := &pair{primary: ownPostgres(t, nil)}
	version, err := p.primary.Version()
	if err != nil {
		t.Fatal(err)
	}
	p.synchronizes = version >= 17
	p.world = newWorldOn(t, p.primary, "", testservers.RedisOptions{}, statements...)
	p.rules = rules
	p.database = p.dsn[strings.LastIndex(p.dsn, "/")+1 : strings.LastIndex(p.dsn, "?")]
	p.run().stop() // which makes the slot
	var settings map[string]string
	var slots []string
	if p.synchronizes {
		settings = map[string]string{"sync_replication_slots": "on"}
	} else {
		slots = []string{p.slot()}
	}
	if p.standby, err = p.primary.StartStandby(settings, slots...); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(p.standby.Close)
	p.dsn = testservers.HostsDSN(p.database, p.primary, p.standby)
	return p
}

// inStep waits until the standby has all that the primary has, and the slot.
func (p *pair) inStep() {
	p.t.Helper()
	on := func(s *testservers.Postgres) *pgx.Conn {
		conn, err := pgx.Connect(context.Background(), s.DSN(p.database))
		if err != nil {
			p.t.Fatal(err)
		}
		p.t.Cleanup(func() { _ = conn.Close(context.Background()) })
		return conn
	}
	primary, standby := on(p.primary), on(p.standby)
	queuetest.Eventually(p.t, "the standby to be in step", func() bool {
		var end string
		var there bool
		err := primary.QueryRow(context.Background(), "select pg_current_wal_lsn()::text").Scan(&end)
		if err == nil {
			err = standby.QueryRow(context.Background(), `select pg_last_wal_replay_lsn() >= $1::pg_lsn
				and exists (select from pg_replication_slots s where slot_name = $2 and coalesce((to_jsonb(s)->>'synced')::bool, true) and not temporary)`, end, p.slot()).Scan(&there)
		}
		if err != nil {
			p.t.Fatal(err)
		}
		return there
	})
}

func (p *pair) failOver() {
	p.t.Helper()
	p.primary.Kill()
	if err := p.standby.Promote(); err != nil {
		p.t.Fatal(err)
	}
}

// TestPromotionUnderTraffic: the primary dies, and its standby is promoted. Capture goes on by itself in the same
// epoch, and the former primary, when it comes back, is not read.
func TestPromotionUnderTraffic(t *testing.T) {
	testservers.Whole(t)
	t.Parallel()
	p := newPair(t)
	r := newReceiver(t, nil)
	p.endpoint("a", r.url())
	if p.synchronizes {
		for _, statement := range []string{"alter system set synchronized_standby_slots = 'standby'", "select pg_reload_conf()"} {
			if err := p.primary.Exec(t.Context(), "postgres", statement); err != nil {
				t.Fatal(err)
			}
		}
	}
	b := p.start("run", "--config", p.write())
	b.waitLog("bridge is ready")
	l := startLoad(t, p.dsn, fullPace)
	l.waitRows(300)
	if p.synchronizes { // a new slot is there once it has moved on
		p.inStepSlot()
		l.waitRows(300)
	} else { // the stream is ahead of the standby, by what nobody knows: only without traffic is nothing lost
		l.stop()
		p.inStep()
	}
	p.failOver()
	if !p.synchronizes {
		l = startLoad(t, p.dsn, fullPace)
	}
	b.waitLogs("the source was promoted, and has all that was read", 1)
	b.waitLogs("replication started", 2)
	l.waitRows(300)
	rows := l.stop()
	t.Logf("%d rows, %d repeats", rows, checkDelivery(t, r.waitCount(rows), rows))

	// The former primary takes writes, too, and comes first in the DSN.
	if err := p.primary.Start(); err != nil {
		t.Fatal(err)
	}
	if err := p.standby.Exec(t.Context(), "postgres", "select pg_terminate_backend(pid) from pg_stat_replication"); err != nil {
		t.Fatal(err)
	}
	b.refusedBy("timeline was 2 and is 1")
	p.primary.Kill()
	b.waitLogs("replication started", 3)
	p.exec("insert into eventos (cliente_id, seq) values (900, 1)")
	r.waitCount(rows + 1)
	p.recover(0, []string{"--dry-run"}, "there is nothing to recover")
	b.stop()
}

// inStepSlot waits until the standby has the slot.
func (p *pair) inStepSlot() {
	p.t.Helper()
	conn, err := pgx.Connect(context.Background(), p.standby.DSN(p.database))
	if err != nil {
		p.t.Fatal(err)
	}
	defer func() { _ = conn.Close(context.Background()) }()
	queuetest.Eventually(p.t, "the standby to have the slot", func() bool {
		var there bool
		err := conn.QueryRow(context.Background(), "select exists (select from pg_replication_slots s where slot_name = $1 and not temporary)", p.slot()).Scan(&there)
		return err == nil && there
	})
}

// TestPromotionThatLostTheEnd: the promoted server lacks what was read of the primary, as asynchronous replication allows. Nothing
// is read on in silence, and gancho recover is the way on.
func TestPromotionThatLostTheEnd(t *testing.T) {
	testservers.Whole(t)
	t.Parallel()
	p := newPair(t)
	r := newReceiver(t, nil)
	p.endpoint("a", r.url())
	b := p.start("run", "--config", p.write())
	b.waitLog("bridge is ready")
	for seq := 1; seq <= 3; seq++ {
		p.exec("insert into eventos (cliente_id, seq) values (1, $1)", seq)
	}
	r.waitCount(3)
	p.inStepSlot()
	p.inStep()
	p.standby.Stop("fast")
	for seq := 4; seq <= 6; seq++ {
		p.exec("insert into eventos (cliente_id, seq) values (1, $1)", seq)
	}
	r.waitCount(6)
	p.primary.Kill()
	if err := p.standby.Start(); err != nil {
		t.Fatal(err)
	}
	if err := p.standby.Promote(); err != nil {
		t.Fatal(err)
	}
	b.refusedBy("lacks the transaction at")
	p.exec("insert into eventos (cliente_id, seq) values (1, 104)")
	p.recover(3, []string{"--dry-run"}, "timeline was 1 and is 2", "lacks the transaction at", "come again or do not exist any more")
	p.recover(0, []string{"--yes"}, "Recorded as gap 2", "come again, or do not exist any more")
	b.waitLogs("replication started", 2)
	r.waitFor(queuetest.Patience, "the change of the promoted server", func(all []arrival) bool {
		for _, a := range all {
			if a.field("seq") == fmt.Sprint(104) {
				return true
			}
		}
		return false
	})
	p.recover(0, []string{"--list"}, "timeline (accepted)")
	b.stop()
}
