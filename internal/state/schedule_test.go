package state_test

import (
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"gancho/delivery/webhook"
	"gancho/internal/state"
)

// row is the hash of a row.
func row(n byte) state.RowHash { return state.RowHash{n} }

// The rows of a schedule: its parts are stored, ended once, and its rows known for as long as they are to be; all in a database of another encoding, too.
func TestSchedules(t *testing.T) {
	t.Parallel()
	for name, options := range map[string]string{"UTF8": "", "LATIN1": latin1} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			dsn, ctx := database(t, options), t.Context()
			s := open(t, dsn, keys(t, "a"))
			const event, source = "cliente.ausente €", "slot_é"
			since := time.Date(2026, 3, 1, 0, 0, 0, 0, time.UTC)
			known := func() state.Schedule {
				t.Helper()
				all, err := s.Schedules(ctx, source)
				if err != nil {
					t.Fatal(err)
				}
				return all[event]
			}
			check := func(want, err error) {
				t.Helper()
				if !errors.Is(err, want) {
					t.Fatalf("the error is %v, want %v", err, want)
				}
			}
			// One of no source is of before: whoever has its rule takes it over, once.
			check(nil, s.AddSchedule(ctx, "", event, since))
			check(nil, s.AddSchedule(ctx, source, event, since.Add(time.Hour)))
			check(nil, s.AddSchedule(ctx, "other", event, since.Add(2*time.Hour)))
			of := known()
			if !of.Since.Equal(since) || of.Event != event || of.Last != nil || !of.Due.IsZero() {
				t.Fatalf("the schedule is %+v", of)
			}
			if all, err := s.Schedules(ctx, "other"); err != nil || !all[event].Since.Equal(since.Add(2*time.Hour)) {
				t.Fatalf("that of another source is %+v, %v", all, err)
			}
			due := since.Add(8 * time.Hour)
			check(nil, s.BeginRun(ctx, of.ID, due))
			check(state.ErrConflict, s.BeginRun(ctx, of.ID, due))
			check(state.ErrConflict, s.SkipRuns(ctx, of.ID, due))
			check(nil, s.FailRun(ctx, of.ID, due, "não há memória €"))
			if of = known(); of.Failure != "não há memória €" || of.Failed.IsZero() || !of.Due.Equal(due) {
				t.Errorf("a failed run is %+v", of)
			}
			check(nil, s.FailRun(ctx, of.ID, due, ""))
			if of = known(); of.Failure != "" || !of.Failed.IsZero() {
				t.Errorf("a run that goes on is %+v", of)
			}
			part := &state.ScheduledPart{Number: 1, Rows: []state.RowHash{row(1), row(2)}, Messages: []state.ScheduledMessage{
				{Message: webhook.Message{ID: "a", Type: event, Key: "é\x00", Op: "schedule", Time: due, Tags: []string{"x=€"}}, Payload: []byte("{\"nome\": \"São \\u0000 € <a&b>\u2028\"}"), Failing: []byte(`[ "x" ]`)},
			}}
			check(nil, s.StorePart(ctx, of.ID, due, part))
			check(state.ErrConflict, s.StorePart(ctx, of.ID, due, part))
			check(state.ErrConflict, s.EndRun(ctx, of.ID, true, &state.ScheduledRun{Due: due}))
			pending, err := s.PendingPart(ctx, of.ID, due)
			check(nil, err)
			part.Messages[0].Data, part.Messages[0].Errors = part.Messages[0].Payload, part.Messages[0].Failing
			if diff := cmp.Diff(part, pending); diff != "" {
				t.Error(diff)
			}
			check(nil, s.EndPart(ctx, of.ID, due, part))
			check(state.ErrConflict, s.EndPart(ctx, of.ID, due, part))
			if pending, err = s.PendingPart(ctx, of.ID, due); pending != nil || err != nil {
				t.Errorf("an ended part is pending: %+v, %v", pending, err)
			}
			check(nil, s.EndRun(ctx, of.ID, true, &state.ScheduledRun{Due: due, Took: 1500 * time.Millisecond, Rows: 3, Uncomputed: 1, Reason: "divisão por zero €"}))
			of = known()
			of.Last.Ended = time.Time{}
			if diff := cmp.Diff(&state.ScheduledRun{Due: due, Took: 1500 * time.Millisecond, Rows: 3, Events: 1, Uncomputed: 1, Reason: "divisão por zero €"}, of.Last); diff != "" || !of.Since.Equal(due) {
				t.Errorf("the run was, since %v: %s", of.Since, diff)
			}
			sent := func(at time.Time, n ...byte) int {
				t.Helper()
				var rows []state.RowHash
				for _, n := range n {
					rows = append(rows, row(n))
				}
				found, err := s.SentRows(ctx, of.ID, at, rows)
				check(nil, err)
				return len(found)
			}
			run := func(at time.Time, once bool) {
				t.Helper()
				check(nil, s.BeginRun(ctx, of.ID, at))
				check(nil, s.EndRun(ctx, of.ID, once, &state.ScheduledRun{Due: at}))
			}
			const day = 24 * time.Hour
			if n := sent(due.Add(200*day), 1, 9); n != 1 {
				t.Errorf("%d rows are known", n)
			}
			run(due.Add(401*day), true) // no run since had row 2
			if one, two := sent(due.Add(401*day), 1), sent(due.Add(401*day), 2); one != 1 || two != 0 {
				t.Errorf("after 401 days %d rows are known that a run had meanwhile, and %d that none had", one, two)
			}
			run(due.Add(402*day), false)
			if n := sent(due.Add(402*day), 1); n != 0 {
				t.Errorf("a run without once leaves %d rows", n)
			}
			last := known().Since
			check(nil, s.RetireSchedules(ctx, source, []string{event}, last.Add(500*day)))
			check(nil, s.RetireSchedules(ctx, source, []string{}, last.Add(300*day)))
			if known().ID == 0 {
				t.Error("a schedule was forgotten that a rule has, or that has run lately")
			}
			check(nil, s.RetireSchedules(ctx, source, []string{}, last.Add(500*day)))
			if known().ID != 0 {
				t.Error("a schedule that no rule has had for 500 days is known")
			}
		})
	}
}

// A part that cannot be read fails its run, and the error says how to have the run make its events again.
func TestUnreadablePart(t *testing.T) {
	t.Parallel()
	s, dsn := newStore(t)
	ctx := t.Context()
	due := noon.Add(time.Hour)
	check(t, s.AddSchedule(ctx, "slot", "cliente.ausente", noon))
	id := must[map[string]state.Schedule](t)(s.Schedules(ctx, "slot"))["cliente.ausente"].ID
	check(t, s.BeginRun(ctx, id, due))
	check(t, s.StorePart(ctx, id, due, &state.ScheduledPart{Number: 1}))
	execute(t, dsn, `update gancho.schedules set messages = 'x'`)
	_, err := s.PendingPart(ctx, id, due)
	if err == nil {
		t.Fatal("it was read")
	}
	_, fix, _ := strings.Cut(err.Error(), "update ")
	execute(t, dsn, "update "+fix)
	if part := must[*state.ScheduledPart](t)(s.PendingPart(ctx, id, due)); part != nil {
		t.Errorf("%+v is pending", part)
	}
	check(t, s.StorePart(ctx, id, due, &state.ScheduledPart{Number: 2}))
}
