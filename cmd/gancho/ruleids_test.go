package main_test

import (
	"strings"
	"syscall"
	"testing"
	"time"

	"gancho/internal/testservers"
)

// TestRulesKeepTheirIDs reorders the rules between a kill and the replay: an event has
// the webhook-id that it had, also for an endpoint that gets no other events, and a rule
// that comes later is numbered later, wherever it stands.
func TestRulesKeepTheirIDs(t *testing.T) {
	testservers.Whole(t)
	t.Parallel()
	w := newWorld(t, testservers.RedisOptions{}, "create table pedidos (id int primary key, loja int not null default 1)")
	receivers := map[string]*receiver{}
	for _, event := range []string{"a", "b", "c", "d"} {
		receivers[event] = newReceiver(t, nil)
		w.endpoint(event, receivers[event].url(), "events: ["+event+"]")
	}
	order := func(events string) {
		w.rules = "rules:\n"
		for _, event := range strings.Fields(events) {
			w.rules += "  - {event: " + event + ", table: pedidos, on: insert, key: loja, columns: [id]}\n"
		}
	}
	appendOnly := func(value string) {
		t.Helper()
		if err := w.redisClient().ConfigSet(t.Context(), "appendonly", value).Err(); err != nil {
			t.Fatal(err)
		}
	}
	arrived := func(row, events string) {
		t.Helper()
		for _, event := range strings.Fields(events) {
			receivers[event].waitFor(time.Minute, "row "+row+" as "+event, func(all []arrival) bool {
				return len(all) > 0 && all[len(all)-1].field("id") == row
			})
		}
	}

	order("a b")
	b := w.run()
	appendOnly("no") // now nothing is confirmed
	w.exec("insert into pedidos values (1)")
	arrived("1", "a b")
	b.kill()
	appendOnly("yes")

	order("c b a")
	b = w.run()
	arrived("1", "c") // it was read again
	w.exec("insert into pedidos values (2)")
	arrived("2", "a b c")

	order("d c a")
	w.write()
	if err := b.cmd.Process.Signal(syscall.SIGHUP); err != nil {
		t.Fatal(err)
	}
	b.waitLog("configuration reloaded")
	w.exec("insert into pedidos values (3)")
	arrived("3", "a c d")
	b.stop()

	for event, n := range map[string]string{"a": "-0000", "b": "-0001", "c": "-0002", "d": "-0003"} {
		ids := map[string]string{}
		all, _ := receivers[event].snapshot()
		for _, a := range all {
			row := a.field("id")
			if ids[row] != "" && ids[row] != a.id || !strings.HasSuffix(a.id, n) {
				t.Errorf("row %s came to %s as %s, want ...%s; before as %q", row, event, a.id, n, ids[row])
			}
			ids[row] = a.id
		}
	}
}
