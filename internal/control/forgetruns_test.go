package control_test

import (
	"context"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/redis/go-redis/v9"

	"gancho/delivery/webhook"
	"gancho/internal/control"
	"gancho/internal/state"
)

// TestForgetRuns: whoever forgets somebody is told of events that a scheduled run has not queued yet, and, the operator, that rows which were
// sent are known by digests.
func TestForgetRuns(t *testing.T) {
	t.Parallel()
	g := newGym(t)
	ctx, tenant := context.Background(), "1"
	due := time.Date(2026, 3, 1, 8, 0, 0, 0, time.UTC)
	check := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	const runs, digests, unread = "1 scheduled runs that have not ended", "by digests", "a run of the schedule cliente.ausente has events that cannot be read"
	left := func(a control.Actor, key string, want ...string) {
		t.Helper()
		r, err := g.Forget(ctx, a, control.ForgetRequest{Tenant: &tenant, Key: key})
		check(err)
		text := strings.Join(r.Left, "\n")
		for _, part := range []string{runs, digests, unread} {
			wanted := strings.Contains(strings.Join(want, "\n"), part)
			if strings.Contains(text, part) != wanted {
				t.Errorf("of %s, %s is left:\n%s\nwant %q: %t", key, a.Name, text, part, wanted)
			}
		}
	}
	check(g.Store.AddSchedule(ctx, "slot", "cliente.ausente", due.Add(-time.Hour)))
	all, err := g.Store.Schedules(ctx, "slot")
	check(err)
	id := all["cliente.ausente"].ID
	check(g.Store.BeginRun(ctx, id, due))
	part := &state.ScheduledPart{Number: 1, Rows: []state.RowHash{{1}}, Messages: []state.ScheduledMessage{
		{Message: webhook.Message{ID: "e", Type: "cliente.ausente", Tenant: tenant, Key: "4711", Time: due}, Payload: []byte(`{"nome":"Maria"}`)},
	}}
	check(g.Store.StorePart(ctx, id, due, part))
	one := control.Actor{Name: "token:um", Role: state.Admin, Tenant: tenant}
	left(root, "4711", runs)
	left(one, "4711", runs)
	left(root, "4712")
	check(g.Store.EndPart(ctx, id, due, part))
	left(root, "4711", digests)
	left(one, "4711")

	// What cannot be read is named, and keeps nobody from being forgotten.
	check(g.Store.EndRun(ctx, id, true, &state.ScheduledRun{Due: due}))
	due = due.Add(time.Hour)
	check(g.Store.BeginRun(ctx, id, due))
	check(g.Store.StorePart(ctx, id, due, part))
	conn, err := pgx.Connect(ctx, g.dsn)
	check(err)
	defer func() { _ = conn.Close(ctx) }()
	_, err = conn.Exec(ctx, `update gancho.schedules set messages = 'x'`)
	check(err)
	left(root, "4712", digests, unread)
}

// TestForgetUnreadableLog: attempts that cannot be read keep nobody from being forgotten; the receipt says, once, that there are some.
func TestForgetUnreadableLog(t *testing.T) {
	t.Parallel()
	g := newGym(t)
	ctx, tenant := context.Background(), "1"
	c := redis.NewClient(&redis.Options{Addr: g.redis.Addr(), DisableIdentity: true})
	defer func() { _ = c.Close() }()
	if err := c.Do(ctx, "XADD", "gancho:{um}:log", "*", "n", "1", "b", "of another version").Err(); err != nil {
		t.Fatal(err)
	}
	const want = "1 entries of the log of attempts in redis cannot be read"
	for _, dry := range []bool{true, false} {
		r, err := g.Forget(ctx, root, control.ForgetRequest{Tenant: &tenant, Key: "4711", DryRun: dry})
		if text := strings.Join(r.Left, "\n"); err != nil || strings.Count(text, want) != 1 {
			t.Errorf("dry run %t: %v, and is left:\n%s", dry, err, text)
		}
	}
}
