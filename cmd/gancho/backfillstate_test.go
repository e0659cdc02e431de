package main_test

import (
	"context"
	"fmt"
	"syscall"
	"testing"

	"github.com/jackc/pgx/v5"

	"gancho/delivery/queue/queuetest"
	"gancho/internal/state"
)

// Where the state is on another server than the rows, it survives what the source has lost.

// otherState puts the state into a database of the tests' own server.
func (s *session) otherState() (dsn string) {
	dsn = pg.Database(s.t, "")
	s.extra = fmt.Sprintf("state: {dsn: '%s', key: '%s'}", dsn, stateKey)
	return dsn
}

// eventsOf checks that each row has an event in an endpoint's stream, and returns how many events there are.
func (s *session) eventsOf(endpoint string, rows int) int {
	s.t.Helper()
	entries, got := s.queuedEvents(endpoint), map[string]bool{}
	for i := range entries {
		got[entries[i].field("id")] = true
	}
	if len(got) != rows {
		s.t.Errorf("%d rows of %d have an event", len(got), rows)
	}
	return len(entries)
}

// TestBackfillIsPromoted: the last chunks are on the primary alone when it dies, and capture has not read them: the standby is
// the same source, nothing that was read is lost, and the job goes back all the same.
func TestBackfillIsPromoted(t *testing.T) {
	t.Parallel()
	const rows = 6000
	p := newPairOf(t, backfillRules, backfillTable, backfillInsert(rows))
	s := &session{world: p.world}
	s.otherState()
	s.endpoint("a", "http://"+closedPort(t), "state: paused")
	s.path = s.write()
	b := s.run()
	s.exec("insert into contas values (0, 0, null)") // moves the slot on
	p.inStep()
	id := s.startBackfill("--rate", "1000/s")
	queued := func() int64 { return s.redisClient().XLen(context.Background(), "gancho:{a}:q").Val() }
	queuetest.Eventually(t, "events in redis", func() bool { return queued() > 200 })

	conn := s.connect()
	walsender := func(sql string, args ...any) (pid int) {
		t.Helper()
		if err := conn.QueryRow(context.Background(), sql, args...).Scan(&pid); err != nil {
			t.Fatal(err)
		}
		if err := syscall.Kill(pid, syscall.SIGSTOP); err != nil {
			t.Fatal(err)
		}
		return pid
	}
	stopped := []int{walsender("select active_pid from pg_replication_slots where slot_name = $1", s.slot())}
	var sent string
	if err := conn.QueryRow(context.Background(), "select pg_current_wal_flush_lsn()::text").Scan(&sent); err != nil {
		t.Fatal(err)
	}
	standby, err := pgx.Connect(context.Background(), p.standby.DSN(p.database))
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = standby.Close(context.Background()) }()
	queuetest.Eventually(t, "the standby to have what was read", func() (has bool) {
		err := standby.QueryRow(context.Background(), "select pg_last_wal_receive_lsn() >= $1::pg_lsn", sent).Scan(&has)
		return err == nil && has
	})
	stopped = append(stopped, walsender("select r.pid from pg_stat_replication r left join pg_replication_slots s on s.active_pid = r.pid where s.slot_type is distinct from 'logical'"))
	before := s.jobIn(id, state.Running).Sent
	var last state.Job
	announced := map[int64]bool{}
	queuetest.Eventually(t, "chunks on the primary alone", func() bool {
		last = s.jobIn(id, state.Running)
		announced[last.Sent] = true
		return last.Sent > before && len(announced) > 2
	})
	b.kill()
	p.primary.Kill()
	for _, pid := range stopped {
		_ = syscall.Kill(pid, syscall.SIGKILL)
	}
	has := queued()
	if err := p.standby.Promote(); err != nil {
		t.Fatal(err)
	}
	b = s.start("run", "--config", s.path)
	b.waitLog("the source was promoted, and has all that was read")
	if j := s.jobIn(id, state.Done, state.Failed); j.State != state.Done || j.Sent != rows+1 {
		t.Errorf("it ended as %+v", j)
	}
	b.waitLogs("the source has another epoch or timeline", 1)
	t.Logf("redis had %d events of %d rows; %d rows were read again", has, last.Sent, s.eventsOf("a", rows+1)-rows-1)
	b.stop()
}
