package main_test

import (
	"context"
	"encoding/binary"
	"encoding/json"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/redis/go-redis/v9"

	"gancho/delivery/queue/queuetest"
	"gancho/internal/state"
	"gancho/internal/testservers"
)

// openReads is the record of an open backfill in Redis; empty: none is open.
func (s *session) openReads() string {
	text, err := s.redisClient().HGet(context.Background(), "gancho:source", "reads").Result()
	if err != nil {
		return ""
	}
	return text
}

// startBackfill starts a backfill of conta.estado and returns its number.
func (s *session) startBackfill(more ...string) int64 {
	s.t.Helper()
	return decoded[struct{ Items []state.Job }](s, append([]string{"backfill", "--rule", "conta.estado"}, more...)...).Items[0].ID
}

// onlyStates has the ledger not ask for conta.nova.
func (l *ledger) onlyStates() *ledger {
	for id := range l.rows {
		l.first[id] = true
	}
	return l
}

// TestBackfillLosesItsSlot: rows that a backfill has written into the stream are lost with the slot before Redis has their
// events. In the new epoch it goes back to what is known to be in Redis.
func TestBackfillLosesItsSlot(t *testing.T) {
	testservers.Whole(t)
	t.Parallel()
	const rows = 5000
	s := newBackfillWorld(t, rows)
	r := newReceiver(t, nil)
	s.endpoint("a", r.url(), "state: paused") // so that much is read ahead
	s.path = s.write()
	b := s.run()
	id := s.startBackfill("--rate", "2000/s")
	queued := func() int64 { return s.redisClient().XLen(context.Background(), "gancho:{a}:q").Val() }
	queuetest.Eventually(t, "events in redis", func() bool { return queued() > 200 })
	s.redis.Kill()
	j := s.jobIn(id, state.Running)
	queuetest.Eventually(t, "a backfill that waits for redis", func() bool {
		j = s.jobIn(id, state.Running)
		return j.Waits != ""
	})
	b.kill()
	if err := s.redis.Start(); err != nil {
		t.Fatal(err)
	}
	has := queued()
	if has >= j.Sent {
		t.Fatalf("redis has %d events, and the job has read %d rows: the test shows nothing", has, j.Sent)
	}
	s.dropSlot()
	b = s.start("run", "--config", s.write())
	b.refusedBy("it does not exist")
	s.ok("recover", "--yes")
	b.waitLog("bridge is ready")
	if line := b.waitLog("the source has another epoch"); line == "" {
		t.Error("it is not said that rows are read again")
	}
	if j := s.jobIn(id, state.Done, state.Failed); j.State != state.Done || j.Sent != rows {
		t.Errorf("it ended as %+v", j)
	}
	entries, got := s.queuedEvents("a"), map[string]bool{}
	for i := range entries {
		got[entries[i].field("id")] = true
	}
	if len(got) != rows {
		t.Errorf("%d rows of %d have an event; redis had %d events and the job had read %d rows when the slot was lost", len(got), rows, has, j.Sent)
	}
	if again := len(entries) - rows; again > int(j.Sent) || again < 0 {
		t.Errorf("%d rows were read again, of %d", again, j.Sent)
	}
	t.Logf("redis had %d events of %d rows; %d rows were read again", has, j.Sent, len(entries)-rows)
	b.stop()
}

// TestFaultOfPausedBackfill: rows that capture cannot take come while their job is paused. Then the bridge closes the
// backfill, and is killed. The job goes on behind the last rows that were taken all the same.
func TestFaultOfPausedBackfill(t *testing.T) {
	testservers.Whole(t)
	t.Parallel()
	s := newBackfillWorld(t, 1000)
	r := newReceiver(t, nil)
	b := s.started(map[string]*receiver{"a": r})
	id := s.startBackfill("--rate", "500/s")
	r.waitCount(50)
	b.kill()
	s.ok("backfill", "pause", strconv.FormatInt(id, 10))

	// What its process might have written last, if the table had been altered: rows with a fault, before the first row.
	keys, err := state.ParseKeys(stateKey)
	if err != nil {
		t.Fatal(err)
	}
	err = pgx.BeginFunc(context.Background(), s.connect(), func(tx pgx.Tx) error {
		var xid string
		if err := tx.QueryRow(context.Background(), "select pg_current_xact_id()::text").Scan(&xid); err != nil {
			return err
		}
		header, err := json.Marshal(map[string]any{"Job": id, "Claim": 1, "Seq": 99, "Snapshot": "?", "XID": xid, "Key": []string{"id"}, "Before": state.BackfillPlace{}})
		if err != nil {
			return err
		}
		sealed, err := keys.SealRows(s.slot(), append(binary.BigEndian.AppendUint32(nil, uint32(len(header))), header...))
		if err != nil {
			return err
		}
		_, err = tx.Exec(context.Background(), "select pg_logical_emit_message(true, $1, $2::bytea)", "gancho.rows."+s.slot(), sealed)
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	b = s.run()
	b.waitLog("rows of a backfill were not put into the stream")
	queuetest.Eventually(t, "a closed backfill", func() bool { return s.openReads() == "" })
	b.kill()
	b = s.run()
	s.ok("backfill", "resume", strconv.FormatInt(id, 10))
	if j := s.jobIn(id, state.Done, state.Failed); j.State != state.Done || j.Sent != 1000 {
		t.Errorf("it ended as %+v", j)
	}
	if l := s.caughtUp(r); l.read["1"] != 2 || l.read["1000"] != 1 {
		t.Errorf("row 1 was read %d times and the last one %d times, want 2 and 1: it has not gone back", l.read["1"], l.read["1000"])
	}
	b.stop()
}

// TestBackfillKilledAtItsEnds: the bridge is killed while a backfill is being opened, and while it is being closed: its
// rows are in the stream, and the tables are still on record.
func TestBackfillKilledAtItsEnds(t *testing.T) {
	t.Parallel()
	testservers.Whole(t)
	random, rows := seeded(t), 300
	s := newBackfillWorld(t, rows)
	r := newReceiver(t, nil)
	b := s.started(map[string]*receiver{"a": r})
	c := startChurn(t, s.dsn, random, rows, 20*time.Millisecond)
	for round := range 2 {
		id := s.startBackfill()
		queuetest.Eventually(t, "a backfill that is being opened", func() bool { return s.openReads() != "" })
		b.kill()
		opening := s.jobIn(id, state.Running, state.Queued)
		b = s.run()
		queuetest.Eventually(t, "all rows read, and the backfill not closed", func() bool {
			return s.jobIn(id, state.Running, state.Done).Sent >= int64(rows)/2 && s.openReads() != ""
		})
		b.kill()
		closing := s.jobIn(id, state.Running, state.Queued, state.Done)
		b = s.run()
		j := s.jobIn(id, state.Done, state.Failed)
		if j.State != state.Done {
			t.Errorf("round %d: it ended as %+v", round, j)
		}
		t.Logf("killed with %d rows read, and %s with %d of %d", opening.Sent, closing.State, closing.Sent, j.Sent)
	}
	c.stop()
	l := s.caughtUp(r).onlyStates()
	for id, n := range l.read { // once in each round
		if n <= 2 {
			l.read[id] = 1
		}
	}
	l.check(t, s.contas())
	b.stop()
}

// queuedEvents are the events in an endpoint's stream, as its receiver would have them.
func (s *session) queuedEvents(name string) (all []arrival) {
	s.t.Helper()
	entries, err := s.redisClient().XRange(context.Background(), "gancho:{"+name+"}:q", "-", "+").Result()
	if err != nil {
		s.t.Fatal(err)
	}
	text := func(v any) string { out, _ := v.(string); return out }
	for _, e := range entries {
		at, n, _ := strings.Cut(e.ID, "-")
		fields := queuetest.Fields(s.t, e.Values)
		a := arrival{id: e.ID, event: text(fields["t"])}
		a.body = fmt.Appendf(nil, `{"op": %q, "sequence": "%020s-%020s"}`, text(fields["o"]), at, n)
		if err := json.Unmarshal([]byte(text(fields["d"])), &a.data); err != nil {
			s.t.Fatal(err)
		}
		all = append(all, a)
	}
	return all
}

// TestBackfillReadsAhead: to an endpoint that is paused rows go as fast as they can be read, the next chunk while the last
// one is written. Its events make the table all the same, in their order, while others change the rows, the bridge is
// killed and sessions are cut.
func TestBackfillReadsAhead(t *testing.T) {
	t.Parallel()
	testservers.Whole(t)
	random, rows := seeded(t), testservers.Cases(4*backfillRows(t))
	s := newBackfillWorld(t, rows)
	s.endpoint("a", "http://"+closedPort(t), "state: paused")
	s.path = s.write()
	b := s.run()
	c := startChurn(t, s.dsn, random, rows, 2*time.Millisecond)
	id := s.startBackfill("--table", "contas")
	queuetest.Eventually(t, "a part of the rows", func() bool {
		return s.redisClient().XLen(context.Background(), "gancho:{a}:q").Val() > int64(rows)/4
	})
	s.exec("select pg_terminate_backend(pid) from pg_stat_activity where datname = current_database() and query like '%pg_current_snapshot%' and pid <> pg_backend_pid()")
	b.kill()
	b = s.run()
	if j := s.jobIn(id, state.Done, state.Failed); j.State != state.Done || j.Sent < int64(rows)/2 {
		t.Errorf("job ended as %+v", j)
	}
	c.stop()
	s.exec("insert into contas values (-1, 1, 'fim')")
	queuetest.Eventually(t, "the last row", func() bool {
		last, err := s.redisClient().XRevRangeN(context.Background(), "gancho:{a}:q", "+", "-", 2).Result()
		return err == nil && slices.ContainsFunc(last, func(m redis.XMessage) bool {
			text, _ := queuetest.Fields(t, m.Values)["d"].(string)
			return strings.Contains(text, "fim")
		})
	})
	l := apply(t, s.queuedEvents("a")).onlyStates()
	l.check(t, s.contas())
	t.Logf("%d rows, %d read, %d events", len(l.rows), len(l.read), len(l.known))
	b.stop()
}
