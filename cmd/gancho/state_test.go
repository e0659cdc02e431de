package main_test

import (
	"cmp"
	"encoding/json"
	"fmt"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"gancho/delivery/queue/queuetest"
	"gancho/internal/testservers"
)

// rowsOf are the rows of the arrivals in the order of their commits, each once.
func rowsOf(all []arrival) []int {
	var rows []int
	seen := map[string]bool{}
	for _, a := range all {
		if id, err := strconv.Atoi(a.field("id")); err == nil && !seen[a.id] {
			rows = append(rows, id)
			seen[a.id] = true
		}
	}
	slices.Sort(rows)
	return rows
}

// TestStoredEndpoints changes endpoints while events flow, one process
// capturing and another delivering. Each change is seen within a second in
// both, and nothing is lost or repeated.
func TestStoredEndpoints(t *testing.T) {
	t.Parallel()
	s := newStateful(t, pg, nil, loadTable)
	s.rules = loadRules
	all, first, second := newReceiver(t, nil), newReceiver(t, nil), newReceiver(t, nil)
	s.endpoint("file", all.url())
	capture := s.run("--only", "capture")
	deliver := s.start("run", "--only", "deliver", "--config", s.write())
	deliver.waitLog("bridge is ready")
	s.add(capture, "crm", first.url())
	l := startLoad(t, s.dsn, loadPace)

	// within makes a change and waits for what shows that it is in effect: a
	// second at most, and more on a machine on which the call itself takes long.
	within := func(what string, change, effect func()) {
		t.Helper()
		start := time.Now()
		change()
		called := time.Since(start)
		effect()
		if took := time.Since(start); took > time.Second+10*called {
			t.Errorf("%s took %v, more than a second and ten times the call's %v", what, took, called)
		}
	}
	// stops makes a change that ends the second endpoint's events.
	stops := func(what, method, path string) {
		t.Helper()
		const applied = "endpoints applied"
		before := strings.Count(deliver.text(), applied)
		within(what, func() { s.call(capture, method, path, "", nil) }, func() { deliver.waitLogs(applied, before+1) })
		// A line may be about the change before: what counts is that nothing follows.
		all.waitFor(30*time.Second, "a hundred later events elsewhere after "+what, func(a []arrival) bool {
			sent, _ := second.snapshot()
			rows, last := rowsOf(a), rowsOf(sent)
			return len(rows) > 100 && rows[len(rows)-100] > last[len(last)-1]
		})
	}
	some := func(a []arrival) bool { return len(a) > 0 }
	first.waitFor(30*time.Second, "events of the added endpoint", some)

	// A second endpoint for the same events.
	within("the second endpoint", func() { s.add(capture, "erp", second.url()) },
		func() { second.waitFor(30*time.Second, "events of the second endpoint", some) })

	// An edit moves the events that follow to another address.
	moved := newReceiver(t, nil)
	within("the edit", func() { s.call(deliver, http.MethodPatch, "/endpoints/crm", `{"url": "`+moved.url()+`"}`, nil) },
		func() { moved.waitFor(30*time.Second, "events of the edited endpoint", some) })

	// Paused: nothing is sent, everything is kept.
	stops("the pause", http.MethodPost, "/endpoints/erp/pause")
	before, _ := second.snapshot()
	within("the activation", func() { s.call(capture, http.MethodPost, "/endpoints/erp/activate", "", nil) }, func() {
		second.waitFor(30*time.Second, "events of the activated endpoint", func(a []arrival) bool { return len(a) > len(before) })
	})

	// Removed without its queue: nothing more comes, the others go on.
	l.waitRows(50)
	stops("the removal", http.MethodDelete, "/endpoints/erp")
	rows := l.stop()
	whole := all.waitCount(rows)
	checkDelivery(t, whole, rows)

	// crm got each event once from its first on, at one address or the other.
	a, _ := first.snapshot()
	beginning := rowsOf(a)[0]
	want := rows - beginning + 1
	moved.waitFor(30*time.Second, "all events of the edited endpoint", func(b []arrival) bool { return len(rowsOf(append(slices.Clone(a), b...))) >= want })
	b, _ := moved.snapshot()
	a, _ = first.snapshot()
	checkRun(t, "crm", whole, append(slices.Clone(a), b...))
	// erp got each once, too, but for those that are left in its queue.
	sent, _ := second.snapshot()
	checkRun(t, "erp", whole, append(slices.Clone(sent), s.queued("erp")...))
	for _, p := range []*bridge{capture, deliver} {
		p.stop()
	}
}

// queued are the events in an endpoint's queue, as if they had arrived.
func (s *stateful) queued(endpoint string) []arrival {
	s.t.Helper()
	entries, err := s.redisClient().XRange(s.t.Context(), "gancho:{"+endpoint+"}:q", "-", "+").Result()
	if err != nil {
		s.t.Fatal(err)
	}
	out := make([]arrival, len(entries))
	for i, e := range entries {
		out[i].id = e.ID
		text, _ := queuetest.Fields(s.t, e.Values)["d"].(string)
		if err := json.Unmarshal([]byte(text), &out[i].data); err != nil {
			s.t.Fatal(err)
		}
	}
	return out
}

// checkRun checks that the arrivals are each row of a range in commit order, once. whole are
// those of an endpoint that got every row.
func checkRun(t *testing.T, what string, whole, all []arrival) {
	t.Helper()
	rows := rowsOf(all)
	if len(rows) == 0 || len(all) != len(rows) {
		t.Fatalf("%s: %d arrivals of %d events", what, len(all), len(rows))
	}
	got := map[int]bool{}
	for _, row := range rows {
		got[row] = true
	}
	var committed []int // rows
	sequence := func(a arrival) string {
		var body struct{ Sequence string }
		if err := json.Unmarshal(a.body, &body); err != nil || body.Sequence == "" {
			t.Fatalf("%s: no sequence in %s: %v", what, a.body, err)
		}
		return body.Sequence
	}
	for _, a := range slices.SortedFunc(slices.Values(whole), func(a, b arrival) int { return cmp.Compare(sequence(a), sequence(b)) }) {
		if row, err := strconv.Atoi(a.field("id")); err == nil {
			committed = append(committed, row)
		}
	}
	committed = slices.Compact(committed)
	first := slices.IndexFunc(committed, func(row int) bool { return got[row] })
	if first < 0 || first+len(rows) > len(committed) {
		t.Fatalf("%s: %d rows of %d that were committed", what, len(rows), len(committed))
	}
	for _, row := range committed[first : first+len(rows)] {
		if !got[row] {
			t.Errorf("%s: row %d is missing, of %d that were committed one after another", what, row, len(rows))
		}
	}
}

// TestStoredEndpointClash: an endpoint of the file wins over a stored one of
// the same name, and says so.
func TestStoredEndpointClash(t *testing.T) {
	testservers.Whole(t)
	t.Parallel()
	s := newStateful(t, pg, nil, loadTable)
	s.rules = loadRules
	file, stored := newReceiver(t, nil), newReceiver(t, nil)
	b := s.run()
	s.add(b, "crm", stored.url())
	s.exec("insert into eventos (cliente_id, seq) values (1, 1)")
	stored.waitCount(1)
	b.stop()
	s.endpoint("crm", file.url())
	b = s.run()
	b.waitLog("have the same name")
	s.exec("insert into eventos (cliente_id, seq) values (1, 2)")
	file.waitCount(1)
	if all, _ := stored.snapshot(); len(all) != 1 {
		t.Errorf("the stored endpoint got %d events", len(all))
	}
	b.stop()
}

// TestStoredEndpointUnreadable: what cannot be read or decrypted keeps its last
// good form, and does not hold up the others; a bridge that starts holds it alone, and
// sends what was queued when it can be read again.
func TestStoredEndpointUnreadable(t *testing.T) {
	testservers.Whole(t)
	t.Parallel()
	s := newStateful(t, pg, nil, loadTable)
	s.rules = loadRules
	r, second := newReceiver(t, nil), newReceiver(t, nil)
	b := s.run()
	s.add(b, "newer", r.url())
	s.add(b, "sealed", r.url())
	s.events(1, 1)
	r.waitFor(30*time.Second, "both endpoints", func(all []arrival) bool { return len(all) == 2 })

	store := s.store()
	e, err := store.Endpoint(t.Context(), "newer")
	if err != nil {
		t.Fatal(err)
	}
	e.Document = []byte(`{"url": "https://crm.example.com", "setting_of_tomorrow": 1}`)
	if _, err := store.UpdateEndpoint(t.Context(), "test", e); err != nil {
		t.Fatal(err)
	}
	s.execState(`create table public.sealed as select sealed from gancho.endpoints where name = 'sealed';
		update gancho.endpoints set sealed = '\x0103' || 'k9z'::bytea || sealed, version = version + 1 where name = 'sealed'`)
	b.waitLogs("stored endpoint cannot be read", 2)
	if !strings.Contains(b.text(), "setting_of_tomorrow") {
		t.Error("the log does not say what is wrong")
	}
	s.add(b, "erp", second.url())
	l := startLoad(t, s.dsn, loadPace)
	second.waitFor(30*time.Second, "the endpoint added after the mistakes", func(all []arrival) bool { return len(all) > 0 })
	rows := l.stop()
	r.waitFor(30*time.Second, "all events of both endpoints", func(all []arrival) bool { return len(all) >= 2*rows })
	b.stop()
	b = s.run()
	if line := b.waitLog(`the key \"k9z\", which state.key does not have`); !strings.Contains(line, `"endpoint":"sealed"`) {
		t.Errorf("the log does not say which endpoint: %s", line)
	}
	before, _ := r.snapshot()
	others, _ := second.snapshot()
	s.events(rows+2, 1)
	second.waitFor(30*time.Second, "the event at the other endpoint", func(all []arrival) bool { return len(all) > len(others) })
	if after, _ := r.snapshot(); len(after) > len(before) {
		t.Errorf("%d events were sent to endpoints that cannot be read", len(after)-len(before))
	}
	s.execState(`update gancho.endpoints e set sealed = s.sealed, version = version + 1 from public.sealed s where name = 'sealed'`)
	r.waitFor(30*time.Second, "the event that was held", func(all []arrival) bool { return len(all) > len(before) })
	b.stop()
}

// TestStateNeedsMigration: without --create a bridge says what is missing, and with it makes it.
func TestStateNeedsMigration(t *testing.T) {
	t.Parallel()
	w := newWorld(t, testservers.RedisOptions{}, loadTable)
	w.rules = loadRules
	w.extra = "state: {dsn: '" + pg.Database(t, "") + "', key: '" + stateKey + "'}"
	b := w.start("run", "--config", w.write())
	b.wait(1)
	if !strings.Contains(b.text(), "gancho migrate") {
		t.Errorf("it ended with:\n%s", b.text())
	}
	w.run().stop()
}

// TestWrongStateKey names the place.
func TestWrongStateKey(t *testing.T) {
	t.Parallel()
	s := newStateful(t, pg, nil, loadTable)
	s.rules = loadRules
	s.extra = "state: {key: curta}"
	b := s.start("run", "--config", s.write())
	b.wait(2)
	if !strings.Contains(b.text(), "gancho.yaml:") || !strings.Contains(b.text(), "state.key") {
		t.Errorf("it ended with:\n%s", b.text())
	}
}

// events are n rows of the load's table, written in one transaction.
func (s *stateful) events(from, n int) {
	s.t.Helper()
	s.exec(fmt.Sprintf("insert into eventos (cliente_id, seq) select g %% 20, g from generate_series(%d, %d) g", from, from+n-1))
}
