package state_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"gancho/delivery/queue"
	"gancho/delivery/webhook"
	"gancho/internal/state"
)

// TestForget erases one key of one tenant, and nothing of others, and finds nothing more then.
func TestForget(t *testing.T) {
	t.Parallel()
	s, dsn := newStore(t)
	ctx := t.Context()
	const key = `São "7"`
	of := queue.Subject{Tenant: "1", Key: key, Events: []string{"cobranca.*"}}
	var events []webhook.Message
	var dead []state.DeadLetter
	var attempts []state.Attempt
	for n := range 30 {
		m := message(n)
		m.Key, m.Tenant = key, []string{"1", "2", "1"}[n%3]
		if n%3 == 2 {
			m.Key = "8"
		}
		if n == 0 {
			m.Type = "cliente.novo"
		}
		events = append(events, m)
		d := deadLetter("crm", n)
		d.Message = m
		dead = append(dead, d)
		attempts = append(attempts, state.Attempt{
			Time: noon.Add(time.Duration(n) * time.Second), Endpoint: fmt.Sprint("crm", n%6), Entry: "1-1", Number: 1,
			WebhookID: m.ID, Event: m.Type, Tenant: m.Tenant, Key: m.Key, Committed: m.Time, Outcome: "delivered", Class: "ok",
		})
	}
	check(t, s.WriteEvents(ctx, events))
	check(t, s.WriteDead(ctx, dead))
	check(t, s.WriteAttempts(ctx, attempts))
	// A filter of the audit log and of a job names the key, one of each another tenant's.
	for _, tenant := range []string{"1", "2"} {
		f := state.Filter{Key: key, Tenant: &tenant}
		j := must[state.Job](t)(s.CreateJob(ctx, "teste", state.Job{Kind: state.Resend, Endpoint: "crm", Filter: f}))
		must[state.Job](t)(s.CancelJob(ctx, "teste", j.ID, ""))
	}

	same(t, "receivers", []string{"crm0", "crm3"}, must[[]string](t)(s.Receivers(ctx, of)))
	counted := must[state.Forgotten](t)(s.CountSubject(ctx, of, true))
	got := must[state.Forgotten](t)(s.Forget(ctx, of, true))
	same(t, "counted and erased", counted, got)
	if got.KeptEvents != 9 || got.DeadLetters != 9 || got.Attempts != 9 || got.Mentions == 0 {
		t.Errorf("erased %+v", got)
	}
	same(t, "again", state.Forgotten{}, must[state.Forgotten](t)(s.Forget(ctx, of, true)))
	for _, rest := range []queue.Subject{{Tenant: "2", Key: key}, {Tenant: "1", Key: "8"}} {
		if n := must[state.Forgotten](t)(s.CountSubject(ctx, rest, true)); n.KeptEvents != 10 || n.DeadLetters != 10 || n.Attempts != 10 {
			t.Errorf("%+v has %+v", rest, n)
		}
	}
	if n := must[state.Forgotten](t)(s.CountSubject(ctx, queue.Subject{Tenant: "1", Key: key}, true)); n.KeptEvents != 1 || n.DeadLetters != 1 {
		t.Errorf("the events of another name: %+v", n)
	}
	written, err := json.Marshal(key)
	check(t, err)
	for _, e := range must[[]state.Change](t)(s.Audit(ctx, state.AuditFilter{}, 0, 100)) {
		text := string(e.Before) + string(e.After)
		if strings.Contains(text, `"tenant":"1"`) && strings.Contains(text, string(written)) {
			t.Errorf("the audit log names the key: %s", text)
		}
	}
	for _, j := range must[[]state.Job](t)(s.Jobs(ctx, "", 0, 10)) {
		if want := map[string]string{"1": "***", "2": key}[*j.Filter.Tenant]; j.Filter.Key != want {
			t.Errorf("job of tenant %s has the key %q", *j.Filter.Tenant, j.Filter.Key)
		}
	}

	// The hash is of tenant and key, under the key of the state.
	p := s.Pseudonym(of)
	if strings.Contains(p, key) || p == s.Pseudonym(queue.Subject{Tenant: "2", Key: key}) || p != open(t, dsn, keys(t, "a")).Pseudonym(of) {
		t.Errorf("pseudonym %q", p)
	}
}

// TestForgetBars: of what was read of Redis before somebody was forgotten, whatever is being
// written is erased, and the rest is refused.
func TestForgetBars(t *testing.T) {
	t.Parallel()
	s, dsn := newStore(t)
	ctx := t.Context()
	of := queue.Subject{Tenant: "1", Key: "7"}
	m := message(1)
	m.Tenant, m.Key = "1", "7"
	d := deadLetter("crm", 1)
	d.Message = m
	intake := must[*state.Store](t)(s.Intake(ctx))
	// A process is writing: it holds up who forgets, until its transaction has ended.
	conn := must[*pgx.Conn](t)(pgx.Connect(ctx, dsn))
	t.Cleanup(func() { _ = conn.Close(context.Background()) })
	check(t, s.WriteEvents(ctx, []webhook.Message{message(2)})) // the day's partition
	do := func(sql string) {
		t.Helper()
		_, err := conn.Exec(ctx, sql)
		check(t, err)
	}
	do("begin")
	do("lock table gancho.forgets in row share mode") // as a writer does
	do(`insert into gancho.events select committed, 'late', event, '1', '7', sequence, version, data from gancho.events`)
	forgotten := make(chan state.Forgotten, 1)
	failed := make(chan error, 1)
	go func() {
		n, err := s.Forget(ctx, of, true)
		failed <- err
		forgotten <- n
	}()
	const waits = `select count(*) from pg_locks l join pg_class c on c.oid = l.relation where c.relname = 'forgets' and not l.granted`
	for n := 0; n == 0; {
		check(t, conn.QueryRow(ctx, waits).Scan(&n))
		select {
		case err := <-failed:
			t.Fatalf("it has not waited for the writer: %v", err)
		default:
		}
	}
	do("commit")
	check(t, <-failed)
	if n := <-forgotten; n.KeptEvents != 1 {
		t.Errorf("forgot %+v, want what was being written", n)
	}

	for what, write := range map[string]func(*state.Store) error{
		"attempts": func(s *state.Store) error {
			return s.WriteAttempts(ctx, []state.Attempt{{Time: noon, Endpoint: "crm", Tenant: "1", Key: "7", Committed: noon}})
		},
		"events":       func(s *state.Store) error { return s.WriteEvents(ctx, []webhook.Message{m}) },
		"dead letters": func(s *state.Store) error { return s.WriteDead(ctx, []state.DeadLetter{d}) },
	} {
		if err := write(intake); !errors.Is(err, state.ErrForgotten) {
			t.Errorf("%s that were read before: %v", what, err)
		}
		if err := write(must[*state.Store](t)(s.Intake(ctx))); err != nil {
			t.Errorf("%s that were read after: %v", what, err)
		}
	}
	// Who only reads, such as a backup, holds up nobody.
	do("begin")
	do("lock table gancho.forgets in access share mode")
	same(t, "during a backup", state.Forgotten{KeptEvents: 1, DeadLetters: 1, Attempts: 1}, must[state.Forgotten](t)(s.Forget(ctx, of, true)))
	do("rollback")
}

// TestJobsOf: a job may have events in memory until its worker knows that it has ended.
func TestJobsOf(t *testing.T) {
	t.Parallel()
	s, dsn := newStore(t)
	ctx := t.Context()
	tenant := "1"
	of := queue.Subject{Tenant: tenant, Key: "7"}
	create := func() state.Job {
		return must[state.Job](t)(s.CreateJob(ctx, "teste", state.Job{Kind: state.Resend, Endpoint: "crm", Tenant: tenant, Filter: state.Filter{Key: "7", Tenant: &tenant}}))
	}
	expect := func(what string, within time.Duration, all, naming int64) {
		t.Helper()
		a, n, err := s.JobsOf(ctx, of, false, within)
		check(t, err)
		same(t, what, []int64{all, naming}, []int64{a, n})
	}
	never := create()
	expect("a job that waits", 0, 1, 1)
	must[state.Job](t)(s.CancelJob(ctx, "teste", never.ID, ""))
	expect("one that was canceled before it began", time.Hour, 0, 0)
	job := create()
	must[*state.Job](t)(s.ClaimJob(ctx, "w", time.Minute))
	must[state.Job](t)(s.CancelJob(ctx, "teste", job.ID, ""))
	expect("one that was canceled just now", 0, 1, 1)
	_, err := s.Forget(ctx, of, false)
	check(t, err)
	expect("one whose filter was erased", 0, 1, 0)
	execute(t, dsn, fmt.Sprintf(`update gancho.jobs set finished = now() - interval '30 seconds' where id = %d`, job.ID))
	expect("one that ended long before", time.Second, 0, 0)
	expect("one that ended since", 25*time.Second, 1, 0)
}
