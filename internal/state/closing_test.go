package state_test

import (
	"os"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"gancho/internal/state"
	"gancho/internal/testservers"
)

// TestGiven lists what an endpoint was given in a day, each once, and nothing else.
func TestGiven(t *testing.T) {
	t.Parallel()
	s, _ := newStore(t)
	ctx := t.Context()
	const source = "a1b2c3d4"
	id := func(n string) string { return source + "-001-0000000001a2b3c" + n + "-000000000000-0000" }
	given := func(n string, change func(*state.Attempt)) state.Attempt {
		a := attempt("crm", len(n))
		a.Entry, a.WebhookID, a.Committed = "4503599627370497-"+n, id(n), noon
		change(&a)
		return a
	}
	keep := func(*state.Attempt) {}
	check(t, s.WriteAttempts(ctx, []state.Attempt{
		given("3", keep), given("1", keep),
		given("2", func(a *state.Attempt) { a.Event, a.Outcome = "cliente.novo", "dead" }),
		given("2", func(a *state.Attempt) { a.Event, a.Outcome, a.Number = "cliente.novo", "retry", 2 }),
		given("1", func(a *state.Attempt) { a.Replay, a.Entry = true, "2-1" }),
		// Not given in the day, or not yet, or not captured, or by another one:
		given("4", func(a *state.Attempt) { a.Outcome = "retry" }),
		given("5", func(a *state.Attempt) { a.Replay = true }),
		given("6", func(a *state.Attempt) { a.Committed = noon.Add(time.Hour) }),
		given("a", func(a *state.Attempt) { a.Entry = "1772366400000-0" }), // of a timer
		given("7", func(a *state.Attempt) { a.Endpoint = "erp" }),
		given("8", func(a *state.Attempt) { a.WebhookID = "gancho-0123456789abcdef" }),
		given("9", func(a *state.Attempt) { a.WebhookID = "b" + a.WebhookID[1:] }),
	}))
	died := state.DeadLetter{Endpoint: "crm"} // without an attempt
	died.Handle, died.Reason = "1-1", "too large"
	died.Message.ID, died.Message.Type, died.Message.Tenant, died.Message.Time = id("0"), "cobranca.liquidada", "1", noon
	again := died
	again.Handle, again.Message.ID, again.Message.Replay = "1-2", id("5"), true
	timed, run := died, died // these are not in what a day has been given
	timed.Handle, timed.Message.ID, timed.Message.Op = "1-3", id("b"), "timer"
	run.Handle, run.Message.ID, run.Message.Op = "1-4", id("c"), "schedule"
	check(t, s.WriteDead(ctx, []state.DeadLetter{died, again, timed, run}))

	day := state.Given{Endpoint: "crm", Source: source, From: noon, To: noon.Add(time.Hour)}
	event := func(n, name string) state.GivenEvent { return state.GivenEvent{WebhookID: id(n), Event: name} }
	var got []state.GivenEvent
	check(t, s.GivenIDs(ctx, day, func(e state.GivenEvent) { got = append(got, e) }))
	want := []state.GivenEvent{event("0", "cobranca.liquidada"), event("1", "cobranca.liquidada"), event("2", "cliente.novo"), event("3", "cobranca.liquidada")}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
	last, err := s.LastGiven(ctx, day)
	if check(t, err); last != id("3") {
		t.Errorf("the last is %q", last)
	}
	for n := 1; n <= 5; n++ {
		got = nil
		for after := ""; ; after = got[len(got)-1].WebhookID {
			page, err := s.GivenPage(ctx, day, after, last, n)
			check(t, err)
			if got = append(got, page...); len(page) < n {
				break
			}
		}
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("by %d: %s", n, diff)
		}
	}
	day.Source = ""
	if page, err := s.GivenPage(ctx, day, id("3"), "~", 3); err != nil || len(page) != 1 {
		t.Errorf("of any source: %v, %v", page, err)
	}
	day.From = day.To
	if last, err := s.LastGiven(ctx, day); err != nil || last != "" {
		t.Errorf("the last of nothing: %q, %v", last, err)
	}
}

// givenDay is how many events TestGivenOfALargeDay has; GANCHO_TEST_DAY sets another number, such as 1000000.
func givenDay(t *testing.T) int {
	n := 20_000
	if text := os.Getenv("GANCHO_TEST_DAY"); text != "" {
		var err error
		if n, err = strconv.Atoi(text); err != nil {
			t.Fatalf("GANCHO_TEST_DAY: %v", err)
		}
	}
	return n
}

// TestGivenOfALargeDay: of a day with many events, some of them twice in the log, and with as many of the day after, all are
// listed, by pages, and a page reads no more than it has.
func TestGivenOfALargeDay(t *testing.T) {
	testservers.Whole(t)
	t.Parallel()
	s, dsn := newStore(t)
	ctx, n, conn := t.Context(), givenDay(t), connect(t, dsn)
	first := attempt("crm", 1)
	first.Committed, first.Time = noon.Add(-time.Minute), noon.Add(-time.Minute)
	check(t, s.WriteAttempts(ctx, []state.Attempt{first})) // makes the partition
	next := first
	next.Time, next.Committed = noon.Add(24*time.Hour), noon.Add(24*time.Hour)
	check(t, s.WriteAttempts(ctx, []state.Attempt{next}))
	const insert = `insert into gancho.attempts (time, endpoint, entry, number, webhook_id, event, tenant, key, committed, outcome, class, status, error, micros, replay)
		select $1::timestamptz + i * interval '1 ms', 'crm', (4503599627370496 + $2 + i)::text || '-0', copy, 'a1b2c3d4-001-' || lpad(to_hex($2 + i * 200), 16, '0') || '-000000000000-0000',
			'pedido.' || i % 3, '1', i::text, $1::timestamptz + i * interval '1 ms', 'delivered', '', 200, '', 900, false
		from generate_series(1, $3::int) i, lateral generate_series(1, case i % 7 when 0 then 2 else 1 end) copy`
	for _, day := range []struct {
		at    time.Time
		first int64
	}{{noon, 1 << 30}, {noon.Add(24 * time.Hour), 1 << 40}} {
		if _, err := conn.Exec(ctx, insert, day.at, day.first, n); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := conn.Exec(ctx, "analyze gancho.attempts"); err != nil {
		t.Fatal(err)
	}
	day := state.Given{Endpoint: "crm", Source: "a1b2c3d4", From: noon, To: noon.Add(12 * time.Hour)}
	began, all := time.Now(), make([]string, 0, n)
	check(t, s.GivenIDs(ctx, day, func(e state.GivenEvent) { all = append(all, e.WebhookID) }))
	read := time.Since(began)
	if len(all) != n || !slices.IsSorted(all) || len(slices.Compact(slices.Clone(all))) != n {
		t.Fatalf("%d events, want %d, sorted and each once", len(all), n)
	}
	began = time.Now()
	last, err := s.LastGiven(ctx, day)
	check(t, err)
	const size = 500
	listed, after, pages := 0, "", 0
	for ; ; pages++ {
		page, err := s.GivenPage(ctx, day, after, last, size)
		check(t, err)
		for i := range page {
			if page[i].WebhookID != all[listed+i] {
				t.Fatalf("event %d is %s, want %s", listed+i, page[i].WebhookID, all[listed+i])
			}
		}
		if listed += len(page); len(page) < size {
			break
		}
		after = page[len(page)-1].WebhookID
	}
	if listed != n {
		t.Errorf("%d events were listed, want %d", listed, n)
	}
	t.Logf("%d events of two days of as many: read in %s; listed in %d pages in %s, %s a page", n, read.Round(time.Millisecond), pages+1, time.Since(began).Round(time.Millisecond), (time.Since(began) / time.Duration(pages+1)).Round(time.Microsecond))
	// The last page, with the next day behind it.
	plan, err := s.ExplainGiven(ctx, day, all[n-size], last, size)
	check(t, err)
	if strings.Contains(plan, "Seq Scan on attempts") || !strings.Contains(plan, "Index Scan using attempts") {
		t.Errorf("a page is not read by an index:\n%s", plan)
	}
	if removed := regexp.MustCompile(`Rows Removed by Filter: (\d{3,})`).FindString(plan); removed != "" {
		t.Errorf("a page reads others' rows (%s):\n%s", removed, plan)
	}
}

// TestLastGivenOfAnOldDay: the last event of a day is found also when it was delivered days later, and without reading what the days
// between have.
func TestLastGivenOfAnOldDay(t *testing.T) {
	t.Parallel()
	s, dsn := newStore(t)
	ctx, conn := t.Context(), connect(t, dsn)
	const days, each = 6, 2000
	const insert = `insert into gancho.attempts (time, endpoint, entry, number, webhook_id, event, tenant, key, committed, outcome, class, status, error, micros, replay)
		select $1::timestamptz + i * interval '1 ms', 'crm', (4503599627370496 + $2 + i)::text || '-0', 1, 'a1b2c3d4-001-' || lpad(to_hex($2 + i), 16, '0') || '-000000000000-0000',
			'pedido', '1', i::text, $1::timestamptz + i * interval '1 ms', 'delivered', '', 200, '', 900, false from generate_series(1, $3::int) i`
	day := func(n int) time.Time { return noon.Add(time.Duration(n) * 24 * time.Hour) }
	for n := range days {
		first := attempt("erp", 1)
		first.Committed, first.Time = day(n), day(n)
		check(t, s.WriteAttempts(ctx, []state.Attempt{first})) // makes the partition
		if _, err := conn.Exec(ctx, insert, day(n), int64(1+n)<<30, each); err != nil {
			t.Fatal(err)
		}
	}
	given := state.Given{Endpoint: "crm", Source: "a1b2c3d4", From: noon, To: noon.Add(12 * time.Hour)}
	want := func(text string) {
		t.Helper()
		if _, err := conn.Exec(ctx, "analyze gancho.attempts"); err != nil {
			t.Fatal(err)
		}
		last, err := s.LastGiven(ctx, given)
		if check(t, err); last != text {
			t.Errorf("the last is %q, want %q", last, text)
		}
		plan, err := s.ExplainLastGiven(ctx, given)
		check(t, err)
		removed := 0
		for _, found := range regexp.MustCompile(`Rows Removed by Filter: (\d+)`).FindAllStringSubmatch(plan, -1) {
			n, err := strconv.Atoi(found[1])
			check(t, err)
			removed += n
		}
		if removed > each+days { // of the day after, and one of another endpoint a day
			t.Errorf("%d rows of other days were read:\n%s", removed, plan)
		}
	}
	want("a1b2c3d4-001-00000000400007d0-000000000000-0000")
	late := attempt("crm", 1)
	late.Entry, late.WebhookID = "4503599627370497-1", "a1b2c3d4-001-0000000041000000-000000000000-0000"
	late.Committed, late.Time = noon.Add(time.Hour), day(days-1)
	check(t, s.WriteAttempts(ctx, []state.Attempt{late}))
	want(late.WebhookID)
	soon := late // within the hour after the day
	soon.Entry, soon.WebhookID = "4503599627370497-2", "a1b2c3d4-001-0000000042000000-000000000000-0000"
	soon.Time = given.To.Add(30 * time.Minute)
	check(t, s.WriteAttempts(ctx, []state.Attempt{soon}))
	want(soon.WebhookID)
	// A day of an outage: all its events are late, after retries. It is read from the index, which has no retry.
	const outage = `insert into gancho.attempts (time, endpoint, entry, number, webhook_id, event, tenant, key, committed, outcome, class, status, error, micros, replay)
		select $1::timestamptz + i * interval '1 ms' + n * interval '1 minute', 'crm', (4503599627380496 + i)::text || '-0', n, 'a1b2c3d4-001-' || lpad(to_hex($2::bigint + i), 16, '0') || '-000000000000-0000',
			'pedido', '1', i::text, $3::timestamptz + i * interval '1 ms', case when n = 5 then 'delivered' else 'retry' end, '', 200, '', 900, false
		from generate_series(1, $4::int) i, generate_series(1, 5) n`
	if _, err := conn.Exec(ctx, outage, day(days-1), int64(1)<<31, noon.Add(2*time.Hour), each); err != nil {
		t.Fatal(err)
	}
	if _, err := conn.Exec(ctx, "vacuum gancho.attempts"); err != nil {
		t.Fatal(err)
	}
	want("a1b2c3d4-001-00000000800007d0-000000000000-0000")
	plan, err := s.ExplainLastGiven(ctx, given)
	check(t, err)
	if !regexp.MustCompile(`Index Only Scan using \S*committed\S* .*rows=200[01]\b`).MatchString(plan) {
		t.Errorf("what was late is not read from its index alone:\n%s", plan)
	}
}
