package state_test

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"gancho/delivery/webhook"
	"gancho/internal/state"
	"gancho/internal/testservers"
)

// attempt is the n-th of an endpoint.
func attempt(endpoint string, n int) state.Attempt {
	return state.Attempt{
		Time: noon.Add(time.Duration(n) * time.Second), Endpoint: endpoint, Entry: fmt.Sprintf("45-%d", n),
		WebhookID: fmt.Sprintf("abc-%04d", n), Event: "cobranca.liquidada", Tenant: "1", Key: fmt.Sprint(n % 10),
		Committed: noon.Add(-time.Minute), Number: 1, Outcome: "delivered", Class: "ok", Status: 200, Duration: webhook.Milliseconds(12345 * time.Microsecond),
	}
}

// TestAttemptsGoStraight: only rows of which some exist take the way over a temporary table.
func TestAttemptsGoStraight(t *testing.T) {
	t.Parallel()
	s, dsn := newStore(t)
	staged := func() (n int) {
		t.Helper()
		check(t, connect(t, dsn).QueryRow(t.Context(), `select count(*) from pg_class where relname = 'gancho_attempts' and relpersistence = 't'`).Scan(&n))
		return n
	}
	rows := []state.Attempt{attempt("crm", 1), attempt("crm", 2), attempt("crm", 3)}
	check(t, s.WriteAttempts(t.Context(), rows[:2]))
	if n := staged(); n != 0 {
		t.Errorf("%d temporary tables for rows of which none existed", n)
	}
	check(t, s.WriteAttempts(t.Context(), rows))
	page, _, err := s.Attempts(t.Context(), state.Filter{}, "", 10)
	check(t, err)
	if n := staged(); n != 1 || len(page) != len(rows) {
		t.Errorf("%d temporary tables, %d rows; want 1, %d", n, len(page), len(rows))
	}
}

func TestAttempts(t *testing.T) {
	t.Parallel()
	s, _ := newStore(t)
	ctx := t.Context()
	var all []state.Attempt // newest first
	for n := 250; n >= 0; n-- {
		a := attempt("crm", n)
		if n%2 == 1 {
			a.Endpoint, a.Tenant, a.Event = "erp", "2", "cliente.novo"
		}
		if n%50 == 0 {
			a.Outcome, a.Class, a.Status, a.Error, a.Number, a.Replay = "retry", "status", 503, "answered 503 Service Unavailable", 2, true
		}
		all = append(all, a)
	}
	check(t, s.WriteAttempts(ctx, all[100:]))
	check(t, s.WriteAttempts(ctx, all)) // again, and more
	check(t, s.WriteAttempts(ctx, nil))

	for name, c := range map[string]struct {
		filter state.Filter
		takes  func(a *state.Attempt) bool
	}{
		"all":          {state.Filter{}, func(*state.Attempt) bool { return true }},
		"endpoint":     {state.Filter{Endpoint: "erp"}, func(a *state.Attempt) bool { return a.Endpoint == "erp" }},
		"tenant":       {state.Filter{Tenant: pointer("2")}, func(a *state.Attempt) bool { return a.Tenant == "2" }},
		"no tenant":    {state.Filter{Tenant: pointer("")}, func(a *state.Attempt) bool { return a.Tenant == "" }},
		"tenants":      {state.Filter{Tenants: []string{"2", "3"}}, func(a *state.Attempt) bool { return a.Tenant == "2" }},
		"key":          {state.Filter{Key: "4"}, func(a *state.Attempt) bool { return a.Key == "4" }},
		"tenant's key": {state.Filter{Key: "4", Tenant: pointer("2")}, func(*state.Attempt) bool { return false }},
		"webhook":      {state.Filter{Webhooks: []string{"abc-0007", "abc-0009"}}, func(a *state.Attempt) bool { return a.WebhookID == "abc-0007" || a.WebhookID == "abc-0009" }},
		"outcome":      {state.Filter{Outcome: "retry"}, func(a *state.Attempt) bool { return a.Outcome == "retry" }},
		"event":        {state.Filter{Events: []string{"cliente.novo"}}, func(a *state.Attempt) bool { return a.Event == "cliente.novo" }},
		"pattern":      {state.Filter{Events: []string{"cob*liq*"}}, func(a *state.Attempt) bool { return a.Event == "cobranca.liquidada" }},
		"both":         {state.Filter{Events: []string{"cob*", "cliente.novo"}}, func(*state.Attempt) bool { return true }},
		"like's signs": {state.Filter{Events: []string{"cliente_nov%*"}}, func(*state.Attempt) bool { return false }},
		"from and to": {state.Filter{From: noon.Add(10 * time.Second), To: noon.Add(20 * time.Second)}, func(a *state.Attempt) bool {
			return a.Time.Sub(noon) >= 10*time.Second && a.Time.Sub(noon) < 20*time.Second
		}},
		"another's key": {state.Filter{Key: "4", Endpoint: "erp"}, func(*state.Attempt) bool { return false }},
	} {
		t.Run(name, func(t *testing.T) {
			var want, got []state.Attempt
			for i := range all {
				if c.takes(&all[i]) {
					want = append(want, all[i])
				}
			}
			cursor, pages := "", 0
			for {
				page, next, err := s.Attempts(ctx, c.filter, cursor, 40)
				check(t, err)
				got, pages = append(got, page...), pages+1
				if cursor = next; next == "" {
					break
				}
			}
			same(t, "rows", want, got)
			if most := 1 + len(want)/40; pages > most {
				t.Errorf("%d pages for %d rows", pages, len(want))
			}
		})
	}
	for _, cursor := range []string{"x", "e30!", "bm90IGpzb24"} {
		if _, _, err := s.Attempts(ctx, state.Filter{}, cursor, 10); !errors.Is(err, state.ErrCursor) {
			t.Errorf("cursor %q: %v, want ErrCursor", cursor, err)
		}
	}
}

// TestFiltersAreNotWidened: a part of a filter that the rows do not have is an
// error, not left out.
func TestFiltersAreNotWidened(t *testing.T) {
	t.Parallel()
	s, _ := newStore(t)
	ctx := t.Context()
	count := func(f state.Filter) error { return second2(s.CountEvents(ctx, f)) }
	job := func(f state.Filter) error {
		return second2(s.CreateJob(ctx, "cli:ana", state.Job{Kind: state.Resend, Endpoint: "crm", Filter: f}))
	}
	log := func(f state.Filter) error {
		_, _, err := s.Attempts(ctx, f, "", 1)
		return err
	}
	drop := func(f state.Filter) error { return second2(s.DropDead(ctx, "cli:ana", f)) }
	check(t, s.WriteDead(ctx, []state.DeadLetter{deadLetter("crm", 1)}))
	for name, err := range map[string]error{
		"events by id":            count(state.Filter{IDs: []int64{1}}),
		"events by endpoint":      count(state.Filter{Endpoint: "crm"}),
		"events by outcome":       count(state.Filter{Outcome: "retry"}),
		"a resend by id":          job(state.Filter{IDs: []int64{1}}),
		"attempts by id":          log(state.Filter{IDs: []int64{1}}),
		"dead letters by outcome": drop(state.Filter{Outcome: "retry"}),
		"a count of dead letters": second2(s.CountDead(ctx, state.Filter{Outcome: "retry"})),
		"a page of dead letters":  second2(s.DeadLetters(ctx, state.Filter{Outcome: "retry"}, 0, 1)),
	} {
		if err == nil || !strings.Contains(err.Error(), "they have no") {
			t.Errorf("%s: %v", name, err)
		}
	}
	same(t, "dead letters", int64(1), must[int64](t)(s.CountDead(ctx, state.Filter{})))
}

// TestSameMoment: attempts of one moment are told apart, also over pages.
func TestSameMoment(t *testing.T) {
	t.Parallel()
	s, _ := newStore(t)
	var rows []state.Attempt
	for n := range 20 {
		a := attempt("crm", n)
		a.Time = noon
		rows = append(rows, a)
	}
	check(t, s.WriteAttempts(t.Context(), rows))
	for name, f := range map[string]state.Filter{
		"all": {}, "an endpoint's": {Endpoint: "crm"}, "an event's": {Events: []string{"cobranca.liquidada"}}, "a pattern's": {Events: []string{"*"}}, "of one outcome": {Endpoint: "crm", Outcome: "delivered"},
	} {
		seen, cursor := map[string]bool{}, ""
		for {
			page, next, err := s.Attempts(t.Context(), f, cursor, 3)
			check(t, err)
			for _, a := range page {
				if seen[a.Entry] {
					t.Errorf("%s: %s is on two pages", name, a.Entry)
				}
				seen[a.Entry] = true
			}
			if cursor = next; next == "" {
				break
			}
		}
		if len(seen) != len(rows) {
			t.Errorf("%s: %d rows on the pages, want %d", name, len(seen), len(rows))
		}
	}
}

// TestHostileTexts writes what a receiver or a row may hold into a database of
// either encoding, and reads it back unchanged.
func TestHostileTexts(t *testing.T) {
	testservers.Whole(t)
	t.Parallel()
	texts := []string{
		"plain", "São Paulo", "€ “aspas” 健康 𝄞", "nul\x00byte", "invalid \xe3\xff", `\u{20ac} \x{ff}`, "\ufffd", strings.Repeat("chave muito longa é ", 2000), "%_*\\'\"",
	}
	for name, options := range map[string]string{
		"utf8": "", "latin1": latin1,
		"win1252":   "template template0 encoding 'WIN1252' locale 'C'",
		"sql_ascii": "template template0 encoding 'SQL_ASCII' locale 'C'",
		"latin9":    "template template0 encoding 'LATIN9' locale 'C'",
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := open(t, database(t, options), keys(t, "a"))
			ctx := t.Context()
			var attempts []state.Attempt
			var events []webhook.Message
			var dead []state.DeadLetter
			for i, text := range texts {
				a := attempt("crm", i)
				a.Tenant, a.Key, a.Error = text, text, text
				attempts = append(attempts, a)
				e := event(i)
				e.Tenant, e.Key, e.Version, e.Data = text, text, text, []byte(text)
				events = append(events, e)
				d := deadLetter("crm", i)
				d.Tenant, d.Key, d.Reason, d.Error, d.Answer, d.Data = text, text, text, text, text, []byte(text)
				dead = append(dead, d)
			}
			check(t, s.WriteAttempts(ctx, attempts))
			check(t, s.WriteEvents(ctx, events))
			check(t, s.WriteDead(ctx, dead))
			for i, text := range texts {
				f := state.Filter{Tenant: &text, Key: text}
				page, _, err := s.Attempts(ctx, f, "", 10)
				check(t, err)
				same(t, "attempts", []state.Attempt{attempts[i]}, page)
				letters := must[[]state.DeadLetter](t)(s.DeadLetters(ctx, f, 0, 10))
				dead[i].ID = int64(i + 1)
				same(t, "dead letters", []state.DeadLetter{dead[i]}, letters)
				if n := must[int64](t)(s.CountEvents(ctx, f)); n != 1 {
					t.Errorf("%d events of %q, want 1", n, text)
				}
			}
			j := must[state.Job](t)(s.CreateJob(ctx, "cli:ana €", state.Job{Kind: state.Resend, Endpoint: "crm", Filter: state.Filter{Key: texts[2]}}))
			same(t, "the job's filter", state.Filter{Key: texts[2]}, j.Filter)
			same(t, "the job's total", int64(1), j.Total)
		})
	}
}

// TestAttemptsOverDays: pages are the same however the attempts are spread over the spans that are searched one after the other.
func TestAttemptsOverDays(t *testing.T) {
	t.Parallel()
	s, _ := newStore(t)
	ctx := t.Context()
	now := time.Now().UTC().Truncate(time.Microsecond)
	day := now.Truncate(24 * time.Hour)
	times := []time.Time{
		now.Add(time.Hour), now, now.Add(-time.Minute), now.Add(-time.Hour), now.Add(-time.Hour - time.Microsecond), day, day.Add(-time.Microsecond),
		day.AddDate(0, 0, -1), day.AddDate(0, 0, -1).Add(-time.Microsecond), day.AddDate(0, 0, -5), day.AddDate(0, 0, -5).Add(-time.Microsecond), day.AddDate(0, 0, -20),
	}
	slices.SortFunc(times, func(a, b time.Time) int { return b.Compare(a) })
	var all []state.Attempt
	for i, at := range times {
		a := attempt("crm", i)
		a.Time = at
		all = append(all, a)
	}
	check(t, s.WriteAttempts(ctx, all))
	for name, f := range map[string]state.Filter{
		"all": {}, "an endpoint's": {Endpoint: "crm"}, "from": {From: day.AddDate(0, 0, -5)}, "to": {To: day}, "a span": {From: day.AddDate(0, 0, -1), To: now},
		"long ago": {To: day.AddDate(0, 0, -4)}, "within the hour": {From: now.Add(-time.Minute), To: now.Add(time.Minute)}, "a pattern": {Events: []string{"*"}}, "the newest": {Latest: true},
	} {
		var want, got []time.Time
		for _, at := range times {
			if !at.Before(f.From) && (f.To.IsZero() || at.Before(f.To)) {
				want = append(want, at)
			}
		}
		for cursor := ""; ; {
			page, next, err := s.Attempts(ctx, f, cursor, 2)
			check(t, err)
			for i := range page {
				got = append(got, page[i].Time)
			}
			if cursor = next; cursor == "" {
				break
			}
		}
		same(t, name, want, got)
	}
}
