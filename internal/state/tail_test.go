package state_test

import (
	"fmt"
	"testing"
	"time"

	"gancho/internal/state"
)

// A tail returns each attempt once, in whatever order the transactions that write them begin and end.
func TestTail(t *testing.T) {
	t.Parallel()
	s, dsn := newStore(t)
	ctx := t.Context()
	now := time.Now().UTC().Truncate(time.Microsecond)
	attempt := func(n int) state.Attempt {
		return state.Attempt{Time: now.Add(time.Duration(n) * time.Millisecond), Endpoint: "crm", Entry: fmt.Sprintf("0-%d", n), Number: 1, WebhookID: fmt.Sprint("w", n), Outcome: "delivered", Committed: now}
	}
	write := func(n int) {
		t.Helper()
		if err := s.WriteAttempts(ctx, []state.Attempt{attempt(n)}); err != nil {
			t.Fatal(err)
		}
	}
	write(1)
	tail := s.Tail()
	next := func() (ids []string) {
		t.Helper()
		rows, err := tail.Next(ctx)
		if err != nil {
			t.Fatal(err)
		}
		for i := range rows {
			ids = append(ids, rows[i].WebhookID)
		}
		return ids
	}
	same(t, "the first call", []string(nil), next())
	// A transaction that began before a reading, and ends after another one has written and the tail has read.
	slow := connect(t, dsn)
	execute := func(sql string, args ...any) {
		t.Helper()
		if _, err := slow.Exec(ctx, sql, args...); err != nil {
			t.Fatal(err)
		}
	}
	execute(`begin`)
	execute(`insert into gancho.attempts (time, endpoint, entry, number, webhook_id, event, tenant, key, committed, outcome, class, status, error, micros, replay)
		values ($1, 'crm', '0-2', 1, 'w2', '', '', '', $1, 'retry', '', 500, '', 1, false)`, now.Add(2*time.Millisecond))
	write(3)
	same(t, "one that was stored", []string{"w3"}, next())
	execute(`commit`)
	write(4)
	same(t, "one that ended late", []string{"w4", "w2"}, next())
	same(t, "nothing twice", []string(nil), next())
}
