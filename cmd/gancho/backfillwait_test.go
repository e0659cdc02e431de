package main_test

import (
	"bufio"
	"context"
	"io"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	main "gancho/cmd/gancho"
	"gancho/delivery/queue/queuetest"
	"gancho/internal/state"
	"gancho/internal/testservers"
)

// TestBackfillOfLockedTable: the application has locked the table whose rows are read. The job says so, positions are
// confirmed meanwhile, and it goes on when the lock is gone.
func TestBackfillOfLockedTable(t *testing.T) {
	testservers.Whole(t)
	t.Parallel()
	s := newBackfillWorld(t, 600)
	r := newReceiver(t, nil)
	b := s.started(map[string]*receiver{"a": r})
	id := decoded[struct{ Items []state.Job }](s, "backfill", "--rule", "conta.estado", "--rate", "100/s").Items[0].ID
	r.waitCount(100)
	conn := s.connect()
	tx, err := conn.Begin(context.Background())
	if err != nil {
		t.Fatal(err)
	}
	if _, err := tx.Exec(context.Background(), "lock table contas in access exclusive mode"); err != nil {
		t.Fatal(err)
	}
	text := "session " + strconv.FormatUint(uint64(conn.PgConn().PID()), 10)
	queuetest.Eventually(t, "who has locked the table", func() bool {
		j := s.jobIn(id, state.Running)
		return strings.Contains(j.Waits, text) && strings.Contains(j.Waits, "has locked table public.contas")
	})
	var now string
	if err := conn.QueryRow(context.Background(), "select pg_current_wal_lsn()::text").Scan(&now); err != nil {
		t.Fatal(err)
	}
	queuetest.Eventually(t, "what came before is confirmed", func() bool {
		var confirmed bool
		err := conn.QueryRow(context.Background(), "select confirmed_flush_lsn >= $1::text::pg_lsn from pg_replication_slots where slot_name = $2", now, s.slot()).Scan(&confirmed)
		return err == nil && confirmed
	})
	if err := tx.Rollback(context.Background()); err != nil {
		t.Fatal(err)
	}
	if j := s.jobIn(id, state.Done, state.Failed); j.State != state.Done || j.Sent != 600 || j.Waits != "" {
		t.Errorf("it ended as %+v", j)
	}
	l := s.caughtUp(r)
	if len(l.read) != 600 {
		t.Errorf("%d rows were read, want 600", len(l.read))
	}
	b.stop()
}

// TestBackfillToDeadReceiver: the one endpoint of a backfill takes nothing. Who waits for the job is told, and what to do.
func TestBackfillToDeadReceiver(t *testing.T) {
	testservers.Whole(t)
	t.Parallel()
	s := newBackfillWorld(t, 600)
	s.endpoint("morto", "http://"+closedPort(t))
	b := s.started(nil)
	lines, errs := io.Pipe()
	code := make(chan int, 1)
	go func() {
		code <- main.Main(context.Background(), []string{"backfill", "--rule", "conta.estado", "--endpoint", "morto", "--wait", "--config", s.path}, strings.NewReader(""), io.Discard, errs)
		_ = errs.Close()
	}()
	told := false
	for in := bufio.NewScanner(lines); in.Scan(); {
		if !told && strings.Contains(in.Text(), "it waits: no event is delivered to morto") {
			told = true
			s.ok("backfill", "cancel", "1")
		}
	}
	if got := <-code; got != 1 || !told {
		t.Errorf("exit %d, and told that the receiver is dead: %v", got, told)
	}
	b.stop()
}

// TestBackfillOfNewRules: a table comes into the rules while a backfill runs. Its changes are kept before its rows are read.
func TestBackfillOfNewRules(t *testing.T) {
	testservers.Whole(t)
	t.Parallel()
	s := newBackfillWorld(t, 1000)
	s.exec("create table novas (id int primary key)")
	s.exec("insert into novas values (7)")
	r := newReceiver(t, nil)
	b := s.started(map[string]*receiver{"a": r})
	id := decoded[struct{ Items []state.Job }](s, "backfill", "--all", "--rate", "200/s").Items[0].ID
	r.waitCount(100)
	s.exec("alter publication gancho add table novas")
	s.rules += "  - {event: nova.lida, table: novas, on: insert, data: {id: id}}\n"
	s.write()
	b.signal(syscall.SIGHUP)
	b.waitLog("configuration reloaded")
	queuetest.Eventually(t, "both tables on record", func() bool {
		text, err := s.redisClient().HGet(context.Background(), "gancho:source", "reads").Result()
		return err == nil && strings.Contains(text, ",")
	})
	if j := s.jobIn(id, state.Done, state.Failed); j.State != state.Done || j.Sent != 1001 {
		t.Errorf("it ended as %+v", j)
	}
	r.waitFor(time.Minute, "the row of the new table", func(all []arrival) bool {
		return slices.ContainsFunc(all, func(a arrival) bool { return a.event == "nova.lida" && a.field("id") == "7" })
	})
	b.stop()
}
