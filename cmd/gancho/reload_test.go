package main_test

import (
	"fmt"
	"net/http"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"gancho/internal/testservers"
)

// TestReload changes rules and endpoints of a running bridge; a mistake leaves
// everything as it was.
func TestReload(t *testing.T) {
	t.Parallel()
	w := newWorld(t, testservers.RedisOptions{}, driftTable, "create table notas (id int primary key, texto text)")
	first, second := newReceiver(t, nil), newReceiver(t, nil)
	w.rules = driftRules
	w.endpoint("a", first.url())
	b := w.run()
	hangup := func(then string) {
		t.Helper()
		w.write()
		if err := b.cmd.Process.Signal(syscall.SIGHUP); err != nil {
			t.Fatal(err)
		}
		b.waitLog(then)
	}
	w.exec("insert into fichas values (1, 'um', 1.10)")
	first.waitCount(2)

	// A mistake in one file: nothing changes, not even what is right.
	w.rules = strings.Replace(driftRules, "data: {id: id, nome: nome}", "data: {id: id, nome: nomme}", 1)
	w.endpoint("b", second.url())
	hangup("reload refused")
	if !strings.Contains(b.text(), `nomme`) || !strings.Contains(b.text(), "rules.yaml:") {
		t.Errorf("the refusal does not say where and what:\n%s", b.text())
	}
	w.exec("insert into fichas values (2, 'dois', 2.20)")
	first.waitCount(4)

	// A new rule on a table that the publication does not have yet, and an endpoint.
	w.rules = driftRules + "  - event: nota.nova\n    table: notas\n    on: insert\n    columns: [id, texto]\n"
	hangup("configuration reloaded")
	w.exec("insert into notas values (7, 'sete')")
	for _, r := range []*receiver{first, second} {
		r.waitFor(time.Minute, "nota.nova", func(all []arrival) bool {
			return len(all) > 0 && all[len(all)-1].event == "nota.nova" && all[len(all)-1].field("id") == "7"
		})
	}
	if all, _ := second.snapshot(); len(all) != 1 {
		t.Errorf("the new endpoint got %d events, want only what came after it", len(all))
	}
	b.stop()
}

// TestFullQueue lets Redis run out of memory under load: capture waits, the
// application does not, and everything arrives when there is room again.
func TestFullQueue(t *testing.T) {
	t.Parallel()
	w := newWorld(t, testservers.RedisOptions{}, loadTable)
	r := newReceiver(t, nil)
	w.rules = loadRules
	w.endpoint("a", r.url(), "state: paused")
	b := w.run()
	client := w.redisClient()
	used, err := client.InfoMap(t.Context(), "memory").Result()
	if err != nil {
		t.Fatal(err)
	}
	var bytes int
	if _, err := fmt.Sscan(used["Memory"]["used_memory"], &bytes); err != nil {
		t.Fatal(err)
	}
	if err := client.ConfigSet(t.Context(), "maxmemory", fmt.Sprint(bytes+200<<10)).Err(); err != nil {
		t.Fatal(err)
	}
	const rows = 4_000 // several times what there is room for
	w.exec("insert into eventos (cliente_id, seq) select g % 50, 1 + g / 50 from generate_series(0, $1::int - 1) g", rows)
	b.waitLog("capture waits, and the source keeps its WAL")
	w.exec("insert into eventos (cliente_id, seq) values (99, 1)") // the application goes on
	if err := client.ConfigSet(t.Context(), "maxmemory", "0").Err(); err != nil {
		t.Fatal(err)
	}
	b.waitLog("redis accepts events again")
	b.stop()
	w.endpoints = nil
	w.endpoint("a", r.url())
	b = w.run()
	if repeats := checkDelivery(t, r.waitCount(rows+1), rows+1); repeats > 0 {
		t.Errorf("%d repeated deliveries", repeats)
	}
	b.stop()
}

// TestReloadResumes: an endpoint that answered 410 is suspended, announces it, and
// continues after a reload with everything that was kept.
func TestReloadResumes(t *testing.T) {
	t.Parallel()
	w := newWorld(t, testservers.RedisOptions{}, loadTable)
	var gone atomic.Bool
	gone.Store(true)
	r := newReceiver(t, func(w http.ResponseWriter, _ arrival) {
		if gone.Load() {
			w.WriteHeader(http.StatusGone)
		}
	})
	w.rules = loadRules
	w.endpoint("a", r.url())
	b := w.run()
	w.exec("insert into eventos (cliente_id, seq) select 1, g from generate_series(1, 50) g")
	b.waitLog("endpoint suspended")
	b.waitMetric(`gancho_endpoint_paused{endpoint="a"} 1`)
	gone.Store(false)
	if err := b.cmd.Process.Signal(syscall.SIGHUP); err != nil {
		t.Fatal(err)
	}
	b.waitLog("endpoint resumed")
	r.waitCount(50)
	// An endpoint that is taken away with its events queued is not forgotten.
	w.endpoints[0] = strings.Replace(w.endpoints[0], "name: a", "name: b", 1) + "\n    state: paused"
	w.write()
	if err := b.cmd.Process.Signal(syscall.SIGHUP); err != nil {
		t.Fatal(err)
	}
	b.waitLogs("configuration reloaded", 2)
	w.exec("insert into eventos (cliente_id, seq) values (2, 1)")
	queued := &redis.XReadArgs{Streams: []string{"gancho:{b}:q", "0"}, Block: time.Minute}
	if err := w.redisClient().XRead(t.Context(), queued).Err(); err != nil {
		t.Fatal(err)
	}
	b.stop()
	w.endpoints = nil
	w.endpoint("c", r.url())
	b = w.run()
	if line := b.waitLog("not configured"); !strings.Contains(line, `"endpoint":"b"`) {
		t.Errorf("the orphan is not named: %s", line)
	}
	b.stop()
}

// TestReloadNeedsRestart: a publication that the stream does not read cannot be
// added to it, so rules that need one are refused rather than left without events.
func TestReloadNeedsRestart(t *testing.T) {
	t.Parallel()
	w := newWorld(t, testservers.RedisOptions{}, driftTable, "create table livro (texto text)",
		"create publication gancho for table fichas with (publish_via_partition_root = true)")
	r := newReceiver(t, nil)
	w.rules = driftRules
	w.endpoint("a", r.url())
	w.exec("select pg_create_logical_replication_slot('" + w.slot() + "', 'pgoutput')")
	b := w.start("run", "--config", w.write())
	b.waitLog("bridge is ready")
	w.exec("create publication gancho_insert for table livro with (publish = 'insert, truncate', publish_via_partition_root = true)")
	rules := driftRules + "  - {event: livro.linha, table: livro, on: insert, key: texto, columns: [texto]}\n"
	w.rules = rules
	w.write()
	if err := b.cmd.Process.Signal(syscall.SIGHUP); err != nil {
		t.Fatal(err)
	}
	if line := b.waitLog("reload refused"); !strings.Contains(line, "restart") {
		t.Errorf("the refusal does not say to restart: %s", line)
	}
	b.stop()
	b = w.start("run", "--config", w.write())
	b.waitLog("bridge is ready")
	w.exec("insert into livro values ('depois')")
	r.waitCount(1)
	b.stop()
}
