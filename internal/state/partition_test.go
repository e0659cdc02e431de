package state_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"gancho/delivery/endpoint"
	"gancho/delivery/webhook"
	"gancho/internal/state"
)

// days are the days of a table's partitions, as offsets from today.
func days(t *testing.T, dsn, table string) []int {
	t.Helper()
	conn := connect(t, dsn)
	rows, err := conn.Query(t.Context(), `select relname::text from pg_inherits join pg_class c on c.oid = inhrelid where inhparent = $1::text::regclass`, "gancho."+table)
	check(t, err)
	names := must[[]string](t)(pgx.CollectRows(rows, pgx.RowTo[string]))
	today := time.Now().UTC().Truncate(24 * time.Hour)
	out := []int{}
	for _, name := range names {
		day := must[time.Time](t)(time.Parse("20060102", name[len(table)+2:]))
		out = append(out, int(day.Sub(today).Hours()/24))
	}
	slices.Sort(out)
	return out
}

func TestMaintain(t *testing.T) {
	t.Parallel()
	s, dsn := newStore(t)
	ctx := t.Context()
	now := time.Now().UTC()
	var attempts []state.Attempt
	var events []webhook.Message
	for day := range 12 {
		a, e := attempt("crm", day), event(day)
		a.Time, e.Time = now.AddDate(0, 0, -day), now.AddDate(0, 0, -day)
		attempts, events = append(attempts, a), append(events, e)
	}
	check(t, s.WriteAttempts(ctx, attempts))
	check(t, s.WriteEvents(ctx, events))
	same(t, "days of attempts before", []int{-11, -10, -9, -8, -7, -6, -5, -4, -3, -2, -1, 0}, days(t, dsn, "attempts"))

	must[state.Endpoint](t)(s.AddEndpoint(ctx, "cli:ana", newEndpoint("crm"), []endpoint.Secret{endpoint.GenerateSecret()}))
	must[state.Endpoint](t)(s.RotateSecret(ctx, "cli:ana", "crm", endpoint.GenerateSecret(), 0))
	must[state.Job](t)(s.CreateJob(ctx, "cli:ana", state.Job{Kind: state.Resend, Endpoint: "crm"}))
	check(t, s.FinishJob(ctx, must[*state.Job](t)(s.ClaimJob(ctx, "w", time.Minute)), state.Done, ""))
	execute(t, dsn, `create table gancho.events_px (like gancho.events including all)`) // somebody's

	keepEvents, keepLog := 72*time.Hour, 240*time.Hour
	for range 2 {
		check(t, s.Maintain(ctx, keepEvents, keepLog))
		same(t, "days of events", []int{-3, -2, -1, 0, 1, 2}, days(t, dsn, "events"))
		same(t, "days of attempts", []int{-10, -9, -8, -7, -6, -5, -4, -3, -2, -1, 0, 1, 2}, days(t, dsn, "attempts"))
	}
	same(t, "secrets that are kept", 2, query[int](t, dsn, `select count(*) from gancho.secrets`))
	same(t, "jobs that are kept", 1, query[int](t, dsn, `select count(*) from gancho.jobs`))

	// A day that has been dropped is there again when it is written to.
	check(t, s.WriteEvents(ctx, events))
	check(t, s.WriteAttempts(ctx, attempts))
	same(t, "events", int64(12), must[int64](t)(s.CountEvents(ctx, state.Filter{})))

	revision := query[int](t, dsn, `select n from gancho.revision`)
	check(t, s.Maintain(ctx, 0, 0))
	same(t, "secrets of this week", 2, query[int](t, dsn, `select count(*) from gancho.secrets`))
	same(t, "revision after nothing has changed", revision, query[int](t, dsn, `select n from gancho.revision`))
	execute(t, dsn, `alter table gancho.secrets disable trigger bump; update gancho.secrets set expires = expires - interval '8 days';
		alter table gancho.secrets enable trigger bump; update gancho.jobs set finished = finished - interval '8 days'`)
	check(t, s.Maintain(ctx, 0, 0))
	same(t, "days of events, none kept", []int{0, 1, 2}, days(t, dsn, "events"))
	same(t, "secrets", 1, query[int](t, dsn, `select count(*) from gancho.secrets`))
	same(t, "jobs", 0, query[int](t, dsn, `select count(*) from gancho.jobs`))
	same(t, "revision after secrets are gone", revision+1, query[int](t, dsn, `select n from gancho.revision`))
	check(t, s.Maintain(ctx, 0, 0))
	same(t, "revision after nothing has changed", revision+1, query[int](t, dsn, `select n from gancho.revision`))
}

// TestWritersAtOnce: processes that write the first rows of many days at once,
// while another one maintains.
func TestWritersAtOnce(t *testing.T) {
	t.Parallel()
	s, dsn := newStore(t)
	stores := []*state.Store{s, open(t, dsn, keys(t, "a")), open(t, dsn, keys(t, "a"))}
	errs := make(chan error, 2*len(stores))
	for i, store := range stores {
		go func() {
			for day := range 15 {
				a := attempt("crm", day)
				a.Entry = fmt.Sprint(i)
				a.Time = time.Now().AddDate(0, 0, -day)
				if err := store.WriteAttempts(t.Context(), []state.Attempt{a}); err != nil {
					errs <- err
					return
				}
			}
			errs <- nil
		}()
		go func() {
			err := store.Maintain(t.Context(), time.Hour, 240*time.Hour)
			for errors.Is(err, state.ErrUnreachable) { // it waits for no writer for long: the next call tries again
				err = store.Maintain(t.Context(), time.Hour, 240*time.Hour)
			}
			errs <- err
		}()
	}
	for range 2 * len(stores) {
		check(t, <-errs)
	}
	if n := query[int](t, dsn, `select count(*) from gancho.attempts where time > now() - interval '10 days'`); n != 30 {
		t.Errorf("%d attempts of the days that are kept, want 30", n)
	}
}

// TestDaysAreKeptForWriters: rows of an old day are written however often others drop its
// partition meanwhile.
func TestDaysAreKeptForWriters(t *testing.T) {
	t.Parallel()
	s, dsn := newStore(t)
	conn := connect(t, dsn)
	old := attempt("crm", 1)
	old.Time = time.Now().AddDate(0, 0, -30)
	ctx, stop := context.WithCancel(t.Context())
	dropped := make(chan error, 1)
	go func() {
		for {
			if _, err := conn.Exec(t.Context(), `drop table if exists gancho.attempts_p`+old.Time.UTC().Format("20060102")); err != nil || ctx.Err() != nil {
				dropped <- err
				return
			}
		}
	}()
	for range 30 {
		check(t, s.WriteAttempts(t.Context(), []state.Attempt{old}))
	}
	stop()
	check(t, <-dropped)
	check(t, s.WriteAttempts(t.Context(), []state.Attempt{old}))
	same(t, "attempts", 1, query[int](t, dsn, `select count(*) from gancho.attempts`))
}

// TestPartitionsAreUsed: a query of one day does not look at the others.
func TestPartitionsAreUsed(t *testing.T) {
	t.Parallel()
	s, dsn := newStore(t)
	var rows []state.Attempt
	for n := range 5000 {
		a := attempt("crm", n)
		a.Time = noon.AddDate(0, 0, n%5)
		rows = append(rows, a)
	}
	check(t, s.WriteAttempts(t.Context(), rows))
	if n := query[int](t, dsn, `select count(*) from pg_inherits where inhparent = 'gancho.attempts_pkey'::regclass`); n != 5 {
		t.Errorf("%d partitions have the primary key attached, want 5", n)
	}
	if n := query[int](t, dsn, `select count(*) from pg_index where indrelid = 'gancho.attempts_p20260314'::regclass`); n != 9 {
		t.Errorf("a partition has %d indexes, want 9", n)
	}
}
