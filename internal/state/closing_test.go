package state_test

import (
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"gancho/internal/state"
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
	want := []state.GivenEvent{event("2", "cliente.novo"), event("0", "cobranca.liquidada"), event("1", "cobranca.liquidada"), event("3", "cobranca.liquidada")}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
	got = nil
	for after := ""; ; after = got[len(got)-1].WebhookID {
		page, err := s.GivenPage(ctx, day, after, 3)
		check(t, err)
		if got = append(got, page...); len(page) < 3 {
			break
		}
	}
	want = []state.GivenEvent{event("0", "cobranca.liquidada"), event("1", "cobranca.liquidada"), event("2", "cliente.novo"), event("3", "cobranca.liquidada")}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
	day.Source = ""
	if page, err := s.GivenPage(ctx, day, id("3"), 3); err != nil || len(page) != 1 {
		t.Errorf("of any source: %v, %v", page, err)
	}
}
