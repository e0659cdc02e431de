package main_test

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"os"
	"os/exec"
	"slices"
	"strings"
	"testing"
	"time"

	"gancho/delivery/queue/queuetest"
	"gancho/internal/testservers"
)

// ownPostgres is a server for one test: one that changes its settings, stops it, writes much WAL,
// which every slot's session of a server has to read, or holds a transaction open, for which
// every slot that is created in a server waits.
func ownPostgres(t *testing.T, settings map[string]string) *testservers.Postgres {
	t.Helper()
	server, err := testservers.StartPostgres(testservers.PostgresOptions{Settings: settings})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(server.Close)
	return server
}

// recover runs gancho recover and checks its exit code and that its output has the parts.
func (w *world) recover(code int, args []string, parts ...string) string {
	w.t.Helper()
	return w.command(code, append([]string{"recover"}, args...), parts...)
}

// refusedBy waits until the bridge refuses to capture, and checks that it says why and is not ready.
func (b *bridge) refusedBy(reason string) {
	b.t.Helper()
	line := b.waitLog("capture is refused")
	if !strings.Contains(line, reason) || !strings.Contains(line, "gancho recover") || !strings.Contains(line, "changes that committed after") {
		b.t.Errorf("the refusal does not have %q, the gap and the command: %s", reason, line)
	}
	b.notReady(reason)
}

// dropSlot takes the slot from its reader.
func (w *world) dropSlot() {
	w.t.Helper()
	conn := w.connect()
	queuetest.Eventually(w.t, "the slot to be dropped", func() bool {
		_, err := conn.Exec(context.Background(), `select pg_terminate_backend(active_pid) from pg_replication_slots where slot_name = $1 and active`, w.slot())
		if err == nil {
			_, err = conn.Exec(context.Background(), `select pg_drop_replication_slot($1)`, w.slot())
		}
		return err == nil
	})
}

const recoverRules = `rules:
  - {event: novo, table: eventos, on: insert, columns: [cliente_id, seq], key: cliente_id, changed_at: criado_em}
  - {event: fora, table: eventos, on: delete, columns: [id]}
`

// TestSlotDropped: the slot is dropped under a running bridge. What is queued is delivered, nothing is read on in
// silence, and after gancho recover, which may be killed at any time, the bridge captures again.
func TestSlotDropped(t *testing.T) {
	testservers.Whole(t)
	t.Parallel()
	w := newWorld(t, testservers.RedisOptions{}, loadTable, "alter table eventos add criado_em timestamptz default now()")
	hold := make(chan struct{})
	r := newReceiver(t, func(rw http.ResponseWriter, a arrival) {
		if a.field("seq") == "2" {
			<-hold
		}
		rw.WriteHeader(http.StatusNoContent)
	})
	w.rules = recoverRules
	w.endpoint("a", r.url())
	b := w.run()
	w.exec("insert into eventos (cliente_id, seq) values (1, 1), (1, 2), (1, 3)")
	r.waitCount(2)
	w.dropSlot()
	b.refusedBy("it does not exist")
	if code, report := w.examined("--only", "slot.refused"); code != 3 || !strings.Contains(report.Findings[0].Title, "changes that committed after") {
		t.Errorf("doctor exits %d: %+v", code, report.Findings)
	}
	w.exec("insert into eventos (cliente_id, seq) values (1, 4)") // it makes no event
	close(hold)
	r.waitCount(3)
	w.recover(2, nil, "add --yes")
	w.recover(3, []string{"--dry-run"}, "it does not exist", "changes that committed after 0/", "make a new slot")
	killed := 0
	for delay := 40 * time.Millisecond; ; delay += 40 * time.Millisecond {
		c := w.start("recover", "--yes", "--config", w.write())
		select {
		case <-c.done:
		case <-time.After(delay):
			killed++
			c.kill()
			continue
		}
		if code := c.cmd.ProcessState.ExitCode(); code != 0 {
			t.Fatalf("exit %d: %s", code, c.text())
		}
		break
	}
	t.Logf("killed %d times", killed)
	b.waitLogs("bridge is ready", 2)
	w.exec("insert into eventos (cliente_id, seq) values (1, 5)")
	var seqs []string
	for _, a := range r.waitCount(4) {
		if seq := a.field("seq"); !slices.Contains(seqs, seq) { // the one that was held is sent again
			seqs = append(seqs, seq)
		}
	}
	if got := strings.Join(seqs, " "); got != "1 2 3 5" {
		t.Errorf("arrived %s", got)
	}
	var gaps []struct{ Reason, From, To string }
	if err := json.Unmarshal([]byte(w.recover(0, []string{"--list", "--json"})), &gaps); err != nil || len(gaps) != 1 || gaps[0].Reason != "missing" || gaps[0].To == "" {
		t.Errorf("gaps %+v, %v", gaps, err)
	}
	w.recover(0, []string{"--yes"}, "there is nothing to recover")
	// Recreated while nobody was connected for a moment: it stands further on. What was confirmed
	// before has the time from which recover advises a backfill.
	conn := w.connect()
	var written string
	if err := conn.QueryRow(context.Background(), "select pg_current_wal_insert_lsn()::text").Scan(&written); err != nil {
		t.Fatal(err)
	}
	queuetest.Eventually(t, "the last event to be confirmed", func() (confirmed bool) {
		err := conn.QueryRow(context.Background(), "select confirmed_flush_lsn >= $1::text::pg_lsn from pg_replication_slots where slot_name = $2", written, w.slot()).Scan(&confirmed)
		return err == nil && confirmed
	})
	queuetest.Eventually(t, "the slot to be recreated", func() bool {
		_, err := conn.Exec(context.Background(), `do $$ begin
			perform pg_terminate_backend(active_pid) from pg_replication_slots where slot_name = '`+w.slot()+`' and active; end $$`)
		if err == nil {
			_, err = conn.Exec(context.Background(), `select pg_drop_replication_slot('`+w.slot()+`'), pg_logical_emit_message(false, 'x', 'y')`)
		}
		if err == nil {
			_, err = conn.Exec(context.Background(), `select pg_create_logical_replication_slot('`+w.slot()+`', 'pgoutput')`)
		}
		return err == nil
	})
	b.waitLogs("capture is refused", 2)
	w.recover(0, []string{"--yes"}, "Recorded as gap 3", "gancho backfill --table public.eventos --where 'criado_em >= ", "fora of public.eventos", "deleted in the gap are unknown")
	b.waitLogs("bridge is ready", 3)
	w.exec("insert into eventos (cliente_id, seq) values (1, 6)")
	r.waitCount(5)
	b.stop()
}

// TestSlotInvalidated: the server gives the slot's WAL up, because there is too much of it.
func TestSlotInvalidated(t *testing.T) {
	t.Parallel()
	server := ownPostgres(t, map[string]string{"max_slot_wal_keep_size": "'16MB'", "max_wal_size": "'32MB'"})
	w := newWorldOn(t, server, "", testservers.RedisOptions{}, loadTable)
	r, b := w.firstEvent()
	b.stop()
	conn := w.connect()
	queuetest.Eventually(t, "the slot to be invalidated", func() bool {
		var lost bool
		w.exec("select pg_logical_emit_message(false, 'x', repeat('x', 4000000)), pg_switch_wal()")
		w.exec("checkpoint")
		if err := conn.QueryRow(context.Background(), "select wal_status = 'lost' from pg_replication_slots where slot_name = $1", w.slot()).Scan(&lost); err != nil {
			t.Fatal(err)
		}
		return lost
	})
	b = w.start("run", "--create", "--config", w.write())
	b.refusedBy("max_slot_wal_keep_size")
	w.recover(0, []string{"--yes"}, "Recorded as gap 2", "gancho backfill --table public.eventos\n")
	b.waitLog("bridge is ready")
	w.exec("insert into eventos (cliente_id, seq) values (1, 2)")
	r.waitCount(2)
	w.recover(0, []string{"--list"}, "wal_removed (accepted)")
	b.stop()
}

// TestWALBudget: a long transaction holds WAL back, which is told at half of the budget and at 80 %, and
// beyond it the slot is given up after the gap was recorded.
func TestWALBudget(t *testing.T) {
	t.Parallel()
	server := ownPostgres(t, nil)
	w := newWorldOn(t, server, "", testservers.RedisOptions{}, loadTable)
	w.source = "  wal_budget: 40MB\n  on_budget: drop_slot"
	r, b := w.firstEvent()
	long := w.connect()
	if _, err := long.Exec(context.Background(), "begin; insert into eventos (cliente_id, seq) values (2, 1)"); err != nil {
		t.Fatal(err)
	}
	write := func(mb int) {
		for range mb {
			w.exec("select pg_logical_emit_message(false, 'x', repeat('x', 1000000))")
		}
	}
	write(26)
	b.waitLog("of source.wal_budget; beyond it the slot is dropped")
	write(9)
	line := b.waitLogs("of source.wal_budget; beyond it the slot is dropped", 2)
	if !strings.Contains(line, `"level":"error"`) {
		t.Errorf("the alert is no error: %s", line)
	}
	b.notReady("of source.wal_budget")
	w.command(3, []string{"status"}, "wal budget", "wal_budget")
	write(8)
	b.waitLog("the slot is given up")
	b.refusedBy("gancho has dropped it: source.on_budget")
	if _, err := long.Exec(context.Background(), "commit"); err != nil { // it makes no event
		t.Fatal(err)
	}
	w.recover(0, []string{"--list"}, "wal_budget (open: run gancho recover)")
	w.recover(0, []string{"--yes"}, "Recorded as gap 2", "gancho backfill --table public.eventos")
	b.waitLogs("bridge is ready", 2)
	w.recover(0, []string{"--list"}, "wal_budget (accepted)")
	w.exec("insert into eventos (cliente_id, seq) values (1, 2)")
	if all := r.waitCount(2); len(all) != 2 || all[1].field("seq") != "2" {
		t.Errorf("arrived %d", len(all))
	}
	b.stop()
}

// TestCapturePauses: before Redis is full, capture waits, the session with the source lasts longer than the source
// waits for a sign of life, and it goes on once there is room.
func TestCapturePauses(t *testing.T) {
	t.Parallel()
	w := newWorld(t, testservers.RedisOptions{}, loadTable)
	w.exec("do $$ begin execute format('alter database %I set wal_sender_timeout = %L', current_database(), '1s'); end $$")
	r, b := w.firstEvent()
	c := w.redisClient()
	memory, err := c.InfoMap(t.Context(), "memory").Result()
	if err != nil {
		t.Fatal(err)
	}
	var used int
	if _, err := fmt.Sscan(memory["Memory"]["used_memory"], &used); err != nil {
		t.Fatal(err)
	}
	limit := func(bytes int) {
		t.Helper()
		if err := c.ConfigSet(t.Context(), "maxmemory", fmt.Sprint(bytes)).Err(); err != nil {
			t.Fatal(err)
		}
	}
	limit(used * 100 / 95)
	rows := 1
	queuetest.Eventually(t, "capture to wait", func() bool { // the memory is looked at twice a second
		rows++
		w.exec("insert into eventos (cliente_id, seq) values (1, $1)", rows)
		return strings.Contains(b.text(), "redis is filling up; capture waits, and the source keeps its WAL")
	})
	b.notReady("of its maxmemory, and events are appended again at 75 %")
	if _, text := fetch(t, "http://"+b.listening()+"/metrics"); !strings.Contains(text, "gancho_capture_paused 1") {
		t.Error("the metrics do not say that capture waits")
	}
	conn := w.connect()
	session := func() (began string) {
		if err := conn.QueryRow(context.Background(), `select coalesce(max(s.backend_start::text), '') from pg_stat_replication s
			join pg_replication_slots r on r.active_pid = s.pid where r.slot_name = $1`, w.slot()).Scan(&began); err != nil {
			t.Fatal(err)
		}
		return began
	}
	began := session()
	if _, err := conn.Exec(context.Background(), "select pg_sleep(3)"); err != nil { // three times wal_sender_timeout
		t.Fatal(err)
	}
	if again := session(); again != began || began == "" {
		t.Errorf("the session of %q became that of %q", began, again)
	}
	if all, _ := r.snapshot(); len(all) >= rows {
		t.Errorf("%d events of %d arrived", len(all), rows)
	}
	limit(used * 2)
	b.waitLog("redis accepts events again")
	checkDelivery(t, r.waitCount(rows), rows)
	b.stop()
}

// copyData copies a data directory, of a server that is stopped.
func copyData(t *testing.T, from, to string) {
	t.Helper()
	if err := os.RemoveAll(to); err != nil {
		t.Fatal(err)
	}
	if out, err := exec.CommandContext(t.Context(), "cp", "-a", from, to).CombinedOutput(); err != nil {
		t.Fatalf("copy %s: %v\n%s", from, err, out)
	}
}

// TestRestoredAndOvertaken: the server is restored with its slot, from a copy of its files, and has written
// more WAL since than it had before: everything about it looks as before, but for the WAL itself.
func TestRestoredAndOvertaken(t *testing.T) {
	testservers.Whole(t)
	t.Parallel()
	server := ownPostgres(t, nil)
	w := newWorldOn(t, server, "", testservers.RedisOptions{}, loadTable)
	r, b := w.firstEvent()
	b.stop()
	server.Stop("fast")
	backup := t.TempDir() + "/data"
	copyData(t, server.Data(), backup)
	if err := server.Start(); err != nil {
		t.Fatal(err)
	}
	b = w.run()
	for seq := 2; seq <= 4; seq++ {
		w.exec("insert into eventos (cliente_id, seq) values (1, $1)", seq)
	}
	r.waitCount(4)
	b.stop()
	b = w.run() // the genuine one is taken for what it is
	b.stop()
	server.Stop("fast")
	copyData(t, backup, server.Data())
	if err := server.Start(); err != nil {
		t.Fatal(err)
	}
	// As many rows and more, of other content: the transactions are at other places, or other times.
	for seq := 102; seq <= 130; seq++ {
		w.exec("insert into eventos (cliente_id, seq) values (1, $1)", seq)
	}
	b = w.start("run", "--config", w.write())
	b.refusedBy("does not have the transaction that was read at")
	w.recover(3, []string{"--dry-run"}, "restored to an earlier state")
	w.recover(0, []string{"--yes"}, "Recorded as gap 2", "may come again")
	b.waitLog("bridge is ready")
	seen := map[string]bool{}
	for _, a := range r.waitCount(4 + 29) {
		seen[a.field("seq")] = true
	}
	for seq := 102; seq <= 130; seq++ {
		if !seen[fmt.Sprint(seq)] {
			t.Errorf("%d is missing", seq)
		}
	}
	b.stop()
}

// TestRestoredUnderway: the server is taken back while the bridge runs. Its slot stays where it stands there, so that
// what it has is read after gancho recover.
func TestRestoredUnderway(t *testing.T) {
	testservers.Whole(t)
	t.Parallel()
	server := ownPostgres(t, nil)
	w := newWorldOn(t, server, "", testservers.RedisOptions{}, loadTable)
	r := newReceiver(t, nil)
	w.rules = loadRules
	w.endpoint("a", r.url())
	w.run().stop()
	w.exec("insert into eventos (cliente_id, seq) values (1, 1)") // beyond the slot
	stands := func() (at string) {
		err := w.connect().QueryRow(t.Context(), "select confirmed_flush_lsn::text from pg_replication_slots where slot_name = $1", w.slot()).Scan(&at)
		if err != nil {
			t.Fatal(err)
		}
		return at
	}
	before := stands()
	server.Stop("fast")
	backup := t.TempDir() + "/data"
	copyData(t, server.Data(), backup)
	if err := server.Start(); err != nil {
		t.Fatal(err)
	}
	b := w.run()
	w.exec("select pg_switch_wal()") // the restored one does not get so far by itself
	w.exec("insert into eventos (cliente_id, seq) values (1, 2)")
	r.waitCount(2)
	queuetest.Eventually(t, "the position to be confirmed", func() bool { return stands() != before })
	server.Stop("fast")
	copyData(t, backup, server.Data())
	if err := server.Start(); err != nil {
		t.Fatal(err)
	}
	b.refusedBy("the source")
	if at := stands(); at != before {
		t.Errorf("the slot was moved from %s to %s", before, at)
	}
	w.recover(0, []string{"--yes"}, "Recorded as gap 2", "may come again")
	r.waitCount(3) // 1 comes again
	b.stop()
}

// TestPromotedClone: the DSN leads to a promoted copy of the server, under traffic; it has the same system identifier.
func TestPromotedClone(t *testing.T) {
	testservers.Whole(t)
	t.Parallel()
	server := ownPostgres(t, nil)
	w := newWorldOn(t, server, "", testservers.RedisOptions{}, loadTable)
	r, b := w.firstEvent()
	clone, err := server.Standby()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(clone.Close)
	w.exec("insert into eventos (cliente_id, seq) values (1, 2)")
	r.waitCount(2)
	b.stop()
	database := w.dsn[strings.LastIndex(w.dsn, "/")+1 : strings.LastIndex(w.dsn, "?")]
	if err := clone.Exec(context.Background(), "postgres", "select pg_promote()"); err != nil {
		t.Fatal(err)
	}
	w.dsn = clone.DSN(database)
	b = w.start("run", "--create", "--config", w.write())
	b.refusedBy("it does not exist")
	w.recover(3, []string{"--dry-run"}, "it does not exist")
	w.recover(0, []string{"--yes"}, "Recorded as gap 2")
	b.waitLog("bridge is ready")
	w.exec("insert into eventos (cliente_id, seq) values (1, 3)")
	r.waitCount(3)
	w.recover(0, []string{"--list"}, "missing (accepted)")
	b.stop()
	// A second clone of the first, promoted to a timeline of the same number.
	other, err := server.Standby()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(other.Close)
	w.exec("select pg_switch_wal()")
	if err := server.Exec(context.Background(), database, "insert into eventos (cliente_id, seq) values (1, 9)"); err != nil {
		t.Fatal(err)
	}
	if err := other.Exec(context.Background(), "postgres", "select pg_promote()"); err != nil {
		t.Fatal(err)
	}
	w.dsn = other.DSN(database)
	w.recover(3, []string{"--dry-run"}, "history of the timeline")
}
