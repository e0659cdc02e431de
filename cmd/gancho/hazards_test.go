package main_test

import (
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"gancho/internal/testservers"
)

// TestHazardsWatched drops the index that is a table's replica identity under a
// running bridge: the application's UPDATE fails from then on, which the log,
// the metrics and the status say, until it works again. A child that the rule's
// table gets is reported likewise, and followed after a reload.
func TestHazardsWatched(t *testing.T) {
	testservers.Whole(t)
	t.Parallel()
	w := newWorld(t, testservers.RedisOptions{}, "create table fichas (id int not null, nome text, valor numeric(10,2))", "create unique index fichas_id on fichas (id)",
		"alter table fichas replica identity using index fichas_id", "insert into fichas values (1, 'um', 1)", "create table vendas (id int primary key)")
	w.rules = "rules:\n  - {event: ficha.alterada, table: fichas, on: update, key: id, columns: [id, nome]}\n  - {event: venda.nova, table: vendas, on: insert, columns: [id]}\n"
	r := newReceiver(t, nil)
	w.endpoint("a", r.url())
	b := w.run()
	b.waitMetric("gancho_refused_tables 0\n")
	w.exec("update fichas set nome = 'dois'")
	w.exec("drop index fichas_id")
	w.exec("create table vendas_1 (primary key (id)) inherits (vendas)")
	b.waitMetric("gancho_refused_tables 1\n")
	b.waitLog("statements of the application fail")
	b.waitMetric("gancho_unseen_tables 1\n")
	if !strings.Contains(b.text(), "public.vendas_1 inherits from public.vendas") {
		t.Errorf("the log does not name the new child:\n%s", b.text())
	}
	const what = "PostgreSQL refuses the application's UPDATE and DELETE of public.fichas, because publication gancho publishes the table and it has no replica identity; run ALTER TABLE public.fichas REPLICA IDENTITY FULL"
	if _, err := w.connect().Exec(t.Context(), "update fichas set nome = 'três'"); err == nil {
		t.Error("the UPDATE did not fail")
	}
	w.command(3, []string{"status"}, what, "not in order: hazards")
	w.command(1, []string{"check"}, "no replica identity")
	w.exec("alter table fichas replica identity full")
	w.exec("update fichas set nome = 'três'")
	if err := b.cmd.Process.Signal(syscall.SIGHUP); err != nil {
		t.Fatal(err)
	}
	b.waitLog("configuration reloaded")
	w.exec("insert into vendas_1 values (7)")
	r.waitFor(30*time.Second, "a row of the child", func(all []arrival) bool {
		return slices.ContainsFunc(all, func(a arrival) bool { return a.event == "venda.nova" && a.field("id") == "7" })
	})
	b.waitMetric("gancho_refused_tables 0\n")
	b.waitMetric("gancho_unseen_tables 0\n")
	b.stop()
	if n := strings.Count(b.text(), "statements of the application fail"); n != 1 {
		t.Errorf("it was logged %d times", n)
	}
}

// TestSecondBridgeLeavesNoSlot: a bridge for another database is refused on a
// Redis that has a source before it has created anything, is told to use a prefix of its own, and runs with one.
func TestSecondBridgeLeavesNoSlot(t *testing.T) {
	t.Parallel()
	w := newWorld(t, testservers.RedisOptions{}, driftTable)
	w.rules = driftRules
	w.endpoint("a", "http://127.0.0.1:9", "state: paused")
	b := w.run()
	other := newWorldWithout(t, pg, "", driftTable)
	other.redis, other.rules, other.endpoints = w.redis, w.rules, w.endpoints
	second := other.start("run", "--create", "--config", other.write())
	second.wait(1)
	if text := second.text(); !strings.Contains(text, "queue.prefix") || strings.Contains(text, "slot created") {
		t.Errorf("the second bridge says\n%s", text)
	}
	var made int
	if err := other.connect().QueryRow(t.Context(), `select (select count(*) from pg_replication_slots where database = current_database())
		+ (select count(*) from pg_publication)`).Scan(&made); err != nil || made != 0 {
		t.Errorf("%d slots and publications are left (%v):\n%s", made, err, second.text())
	}
	other.queue = "redis: " + w.redis.URL() + "\n  prefix: gancho_2"
	other.run().stop()
	b.stop()
}
