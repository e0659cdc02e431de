package main_test

import (
	"encoding/json"
	"fmt"
	"maps"
	"net/http"
	"regexp"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"gancho/cdc"
	"gancho/delivery/queue/queuetest"
	"gancho/internal/testservers"
)

const leaveTable = `create table fichas (id int primary key, nome text)`

const leaveRules = `rules:
  - event: ficha.nova
    table: fichas
    on: [insert, update, delete]
    columns: [id]
`

// TestTableLeavesTheStream: whatever takes a rule's table out of the stream stops
// the bridge with its reason, and the next start names the gap.
func TestTableLeavesTheStream(t *testing.T) {
	t.Parallel()
	cases := map[string]struct {
		leave  string // what takes it out
		reason string
		back   string // what the next start needs before it
	}{
		"created again":    {"drop table fichas; " + leaveTable, "it is not in publication gancho or gancho_insert", ""},
		"swapped":          {"create table nova (like fichas including all); alter table fichas rename to velha; alter table nova rename to fichas", "it is not in publication gancho or gancho_insert", ""},
		"another schema":   {"create schema outro; alter table fichas set schema outro", "it does not exist any more", "alter table outro.fichas set schema public"},
		"taken out":        {"alter publication gancho drop table fichas", "it is not in publication gancho or gancho_insert", ""},
		"narrowed":         {"alter publication gancho set (publish = 'insert')", "publication gancho does not publish its update, delete", "alter publication gancho set (publish = 'insert, update, delete, truncate')"},
		"new root":         {"create table raiz (like fichas) partition by range (id); alter table raiz attach partition fichas default; alter publication gancho add table raiz", "it is a partition of public.raiz", "alter table raiz detach partition fichas; alter publication gancho drop table raiz"},
		"without via root": {"drop table fichas; create table fichas (id int primary key, nome text) partition by range (id)", "it is not in publication gancho or gancho_insert", "create table p partition of fichas default"},
	}
	for _, name := range testservers.Sample(slices.Sorted(maps.Keys(cases))) {
		c := cases[name]
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			w := newWorld(t, testservers.RedisOptions{}, leaveTable)
			r := newReceiver(t, nil)
			w.rules = leaveRules
			w.endpoint("a", r.url(), "events: ['*', 'gancho.*']")
			b := w.run()
			w.exec("insert into fichas values (1)")
			r.waitCount(1)
			b.waitLog("tables of the rules are watched")
			w.exec(c.leave)
			b.wait(1)
			for _, part := range []string{"table public.fichas has left the stream: " + c.reason, "on_schema_change: stop"} {
				if !strings.Contains(b.text(), part) {
					t.Errorf("%q is not in the log:\n%s", part, tail(b.text(), 3000))
				}
			}
			if c.back != "" {
				w.exec(c.back)
			}
			b = w.run()
			var gap struct{ Level, Table, Reason, From, To string }
			if err := json.Unmarshal([]byte(b.waitLog("table was not in the stream for a while")), &gap); err != nil {
				t.Fatal(err)
			}
			if gap.Level != "error" || gap.Table != "public.fichas" || !strings.HasPrefix(gap.Reason, c.reason) || gap.From == "0/0" || gap.From >= gap.To {
				t.Errorf("gap %+v", gap)
			}
			w.exec("insert into fichas values (2)")
			// The notices have keys of their own: they may arrive after the row.
			r.waitFor(time.Minute, "the new row, and that the gap opened and that it closed", func(all []arrival) bool {
				row, notices := false, 0
				for _, a := range all {
					row = row || a.field("id") == "2"
					if a.event == "gancho.table.gap" {
						notices++
					}
				}
				return row && notices == 2
			})
			b.stop()
		})
	}
}

// TestTableComesBack: under the policy park the bridge adds the table again, names
// the gap and goes on. The events of the gap wait for room in Redis.
func TestTableComesBack(t *testing.T) {
	t.Parallel()
	w := newWorld(t, testservers.RedisOptions{}, leaveTable)
	r := newReceiver(t, nil)
	w.source = "  on_schema_change: park"
	w.rules = leaveRules
	w.endpoint("a", r.url(), "events: ['*', 'gancho.*']")
	b := w.run()
	w.exec("insert into fichas values (1)")
	r.waitCount(1)
	b.waitLog("tables of the rules are watched")
	full := func(maxmemory string) {
		if err := w.redisClient().ConfigSet(t.Context(), "maxmemory", maxmemory).Err(); err != nil {
			t.Fatal(err)
		}
	}
	full("1")
	// The old table's rows, which are still in the stream, tell at once.
	w.exec("create table nova (like fichas including all); alter table fichas rename to velha; alter table nova rename to fichas; insert into velha values (9)")
	var gap struct{ Reason, From, To string }
	if err := json.Unmarshal([]byte(b.waitLog("table was not in the stream for a while")), &gap); err != nil {
		t.Fatal(err)
	}
	from, _ := cdc.ParseLSN(gap.From)
	to, _ := cdc.ParseLSN(gap.To)
	if gap.Reason != "it is not in publication gancho or gancho_insert" || from >= to {
		t.Errorf("gap %+v", gap)
	}
	b.waitLog("event about a gap cannot be queued")
	full("0")
	w.exec("insert into fichas values (2)")
	all := r.waitFor(time.Minute, "that the gap opened, that it closed, and the new row", func(all []arrival) bool { return len(all) == 4 })
	var gaps []string
	for _, a := range all[1:] {
		if a.event == "gancho.table.gap" {
			gaps = append(gaps, a.field("to"))
		} else if a.field("id") != "2" {
			t.Errorf("row %s arrived, want 2", a.field("id"))
		}
	}
	if want := []string{"", gap.To}; !slices.Equal(gaps, want) {
		t.Errorf("events of gaps end at %q, want %q", gaps, want)
	}
	if status, text := fetch(t, "http://"+b.listening()+"/readyz"); status != http.StatusOK {
		t.Errorf("/readyz answers %d: %s", status, text)
	}
	if _, text := fetch(t, "http://"+b.listening()+"/metrics"); !strings.Contains(text, `gancho_table_gaps_total{table="public.fichas"} 1`) {
		t.Errorf("the metrics do not count the gap:\n%s", text)
	}
	b.stop()
}

// TestTableLeavesABacklog: a table that leaves while changes of it are still to be
// read is reported immediately, and ends the bridge when they are in the queues:
// the advice to remove its rules would lose them.
func TestTableLeavesABacklog(t *testing.T) {
	t.Parallel()
	w := newWorld(t, testservers.RedisOptions{}, leaveTable)
	r := newReceiver(t, nil)
	w.rules = leaveRules
	w.endpoint("a", r.url(), "events: ['*']")
	b := w.run()
	w.exec("insert into fichas values (1)")
	r.waitCount(1)
	b.waitLog("tables of the rules are watched")
	full := func(maxmemory string) {
		if err := w.redisClient().ConfigSet(t.Context(), "maxmemory", maxmemory).Err(); err != nil {
			t.Fatal(err)
		}
	}
	full("1")
	w.exec("insert into fichas values (2)")
	b.waitLog("capture waits, and the source keeps its WAL")
	w.exec("drop table fichas")
	b.waitLog("table has left the stream")
	if line := b.waitLog("capture ends (on_schema_change: stop) when it has read"); !strings.Contains(line, "bytes of WAL are left") {
		t.Errorf("it does not say how much: %s", line)
	}
	full("0")
	b.wait(1)
	if !strings.Contains(b.text(), "table public.fichas has left the stream: it does not exist any more; its changes after") {
		t.Errorf("the log:\n%s", tail(b.text(), 3000))
	}
	w.rules = strings.Replace(leaveRules, "fichas", "outras", 1)
	w.exec("create table outras (id int primary key)")
	b = w.run()
	r.waitFor(time.Minute, "the row from before", func(all []arrival) bool { return len(all) == 2 && all[1].field("id") == "2" })
	b.stop()
}

// TestSlowCatalogue: whoever reads the catalogue may wait for long; readiness does not.
func TestSlowCatalogue(t *testing.T) {
	testservers.Whole(t)
	t.Parallel()
	w := newWorldOn(t, ownPostgres(t, nil), "", testservers.RedisOptions{}, leaveTable)
	w.rules = leaveRules
	b := w.run()
	b.waitLog("tables of the rules are watched")
	base := "http://" + b.listening()
	held := func() string {
		_, text := fetch(t, base+"/metrics")
		return regexp.MustCompile(`(?m)^gancho_slot_wal_held_bytes .*$`).FindString(text)
	}
	conn := w.connect()
	for _, statement := range []string{"begin", "lock table pg_publication in access exclusive mode"} {
		if _, err := conn.Exec(t.Context(), statement); err != nil {
			t.Fatal(err)
		}
	}
	queuetest.Eventually(t, "the bridge to read the catalogue", func() (waits bool) {
		if err := conn.QueryRow(t.Context(), "select exists (select from pg_locks where not granted and relation = 'pg_publication'::regclass and database = (select oid from pg_database where datname = current_database()))").Scan(&waits); err != nil {
			t.Fatal(err)
		}
		held() // has the catalogue read soon
		return waits
	})
	w.exec("select pg_logical_emit_message(false, 'x', repeat('x', 3000000))")
	before := held()
	queuetest.Eventually(t, "the slot to be measured again", func() bool {
		if status, text := fetch(t, base+"/readyz"); status != http.StatusOK {
			t.Fatalf("/readyz answers %d: %s", status, text)
		}
		return held() != before
	})
	if _, err := conn.Exec(t.Context(), "commit"); err != nil {
		t.Fatal(err)
	}
	b.stop()
}

// TestPublicationOfAllTables: following the advice, which lists the tables instead
// of all, in one transaction, is no gap.
func TestPublicationOfAllTables(t *testing.T) {
	t.Parallel()
	w := newWorld(t, testservers.RedisOptions{}, leaveTable, "create publication gancho for all tables with (publish_via_partition_root)")
	r := newReceiver(t, nil)
	w.rules = leaveRules
	w.endpoint("a", r.url(), "events: ['*', 'gancho.*']")
	b := w.run()
	b.waitLog("tables of the rules are watched")
	w.exec("begin; drop publication gancho; create publication gancho for table fichas with (publish_via_partition_root = true); commit")
	w.exec("insert into fichas values (1)")
	r.waitCount(1)
	var oid string
	if err := w.connect().QueryRow(t.Context(), "select oid::text from pg_publication where pubname = 'gancho'").Scan(&oid); err != nil {
		t.Fatal(err)
	}
	client := w.redisClient()
	queuetest.Eventually(t, "the bridge to read the catalogue", func() bool {
		return strings.Contains(client.HGet(t.Context(), "gancho:source", "tables").Val(), `"publication":`+oid)
	})
	b.stop()
	if strings.Contains(b.text(), "table was not in the stream") {
		t.Errorf("a gap is reported:\n%s", b.text())
	}
}

// TestAlteredIdlePartition: a partition without changes that gets REPLICA IDENTITY
// FULL, as the log advises, no longer makes old values of its table unknown.
func TestAlteredIdlePartition(t *testing.T) {
	t.Parallel()
	w := newWorld(t, testservers.RedisOptions{}, `create table cob (id int, dia date, pago date, primary key (id, dia)) partition by range (dia);
		create table cob_1 partition of cob for values from ('2026-01-01') to ('2026-02-01'); create table cob_2 partition of cob for values from ('2026-02-01') to ('2026-03-01');
		alter table cob replica identity full; alter table cob_1 replica identity full; alter table cob_2 replica identity full`)
	r := newReceiver(t, nil)
	w.rules = "rules:\n  - {event: paga, table: cob, on: update, when: old.pago is null and new.pago is not null, key: id, columns: [id]}\n"
	w.endpoint("a", r.url())
	b := w.run()
	b.waitLog("tables of the rules are watched")
	w.exec("create table cob_3 partition of cob for values from ('2026-03-01') to ('2026-04-01'); insert into cob values (0, '2026-03-01')")
	pay := func(id int) {
		t.Helper()
		w.exec(fmt.Sprintf("insert into cob values (%d, '2026-01-05'); update cob set pago = '2026-01-06' where id = %[1]d", id))
	}
	pay(1)
	b.waitLog("change parked")
	w.exec("alter table cob_3 replica identity full")
	b.signal(syscall.SIGHUP) // has the catalogue read now
	id := 1
	queuetest.Eventually(t, "the bridge to describe the partitions", func() bool {
		id++
		pay(id)
		return strings.Contains(b.text(), "its partitions are described as they are now")
	})
	r.waitFor(time.Minute, "a payment", func(all []arrival) bool { return len(all) > 0 })
	b.stop()
}
