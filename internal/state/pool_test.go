package state_test

import (
	"context"
	"errors"
	"testing"
	"time"

	"gancho/internal/state"
)

// Statements over one pool neither wait for those over another nor outlast its timeout.
func TestPoolsAreApart(t *testing.T) {
	t.Parallel()
	s, dsn := newStore(t)
	ctx := t.Context()
	api, err := s.Apart(state.Pool{Name: "api", Connections: 2, Timeout: 2 * time.Second})
	check(t, err)
	t.Cleanup(api.Close)
	check(t, s.WriteAttempts(ctx, []state.Attempt{attempt("crm", 1)}))

	// Whoever reads the log waits for this lock, whoever writes it does not.
	locker := connect(t, dsn)
	for _, sql := range []string{"begin", "lock table gancho.dead_letters in access exclusive mode"} {
		if _, err := locker.Exec(ctx, sql); err != nil {
			t.Fatal(err)
		}
	}
	const asked = 10
	slow := make(chan error, asked)
	for range asked {
		go func() {
			_, err := api.DeadLetters(context.WithoutCancel(ctx), state.Filter{}, 0, 1)
			slow <- err
		}()
	}
	first := <-slow // the others wait, for the lock or for a connection
	if !errors.Is(first, state.ErrSlow) || !errors.Is(first, state.ErrUnreachable) {
		t.Errorf("a statement that takes too long: %v, want ErrSlow", first)
	}
	check(t, s.WriteAttempts(ctx, []state.Attempt{attempt("crm", 2)}))
	n := query[int](t, dsn, "select count(*)::int from pg_stat_activity where application_name = 'gancho-state-api'")
	if n < 1 || n > 2 {
		t.Errorf("the API has %d connections, want at most 2", n)
	}
	if _, err := locker.Exec(ctx, "rollback"); err != nil {
		t.Fatal(err)
	}
	for range asked - 1 {
		if err := <-slow; err != nil && !errors.Is(err, state.ErrSlow) { // the lock is released: some succeed
			t.Error(err)
		}
	}
	if _, err := api.DeadLetters(ctx, state.Filter{}, 0, 1); err != nil { // the control
		t.Errorf("without the lock: %v", err)
	}
}
