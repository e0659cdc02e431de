package state_test

import (
	"context"
	"errors"
	"testing"
	"time"

	"go.uber.org/goleak"

	"gancho/delivery/endpoint"
	"gancho/internal/state"
	"gancho/internal/testservers"
	"gancho/migrations"
)

// watcher runs a watch until the test ends.
type watcher struct {
	t       *testing.T
	changes chan time.Time
}

func watch(t *testing.T, s *state.Store) *watcher {
	t.Helper()
	w := &watcher{t, make(chan time.Time, 100)}
	ctx, stop := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() { ended <- s.Watch(ctx, func() { w.changes <- time.Now() }) }()
	t.Cleanup(func() {
		stop()
		if err := <-ended; err != nil {
			t.Errorf("watch: %v", err)
		}
	})
	w.within(10 * time.Second) // at the start
	return w
}

// within waits for the next change and returns how long it took.
func (w *watcher) within(limit time.Duration) time.Duration {
	w.t.Helper()
	began := time.Now()
	timeout := time.NewTimer(30 * time.Second)
	defer timeout.Stop()
	select {
	case at := <-w.changes:
		took := max(at.Sub(began), 0)
		if took > limit {
			w.t.Errorf("the change was seen after %v, want %v", took, limit)
		}
		return took
	case <-timeout.C:
		w.t.Fatal("the change was not seen")
		return 0
	}
}

// listening waits until the watch's own connection listens.
func listening(t *testing.T, dsn string) int {
	t.Helper()
	conn := connect(t, dsn)
	for range 2000 {
		var pid int
		check(t, conn.QueryRow(t.Context(), `select coalesce(max(pid), 0) from pg_stat_activity where datname = current_database()
			and application_name = 'gancho-state-watch' and query ilike 'listen%' and state = 'idle'`).Scan(&pid))
		if pid != 0 {
			return pid
		}
		pause() // the server tells nobody who listens
	}
	t.Fatal("nobody listens")
	return 0
}

func pause() { <-time.After(5 * time.Millisecond) }

func TestWatch(t *testing.T) {
	t.Parallel()
	s, dsn := newStore(t)
	w := watch(t, s)
	listening(t, dsn)
	changes := []struct {
		name string
		do   func() error
	}{
		{"add", func() error { return second2(s.AddEndpoint(t.Context(), "cli:ana", newEndpoint("crm"), nil)) }},
		{"pause", func() error { return second2(s.SetEndpointState(t.Context(), "cli:ana", "crm", endpoint.Paused)) }},
		{"rotate", func() error {
			return second2(s.RotateSecret(t.Context(), "cli:ana", "crm", endpoint.GenerateSecret(), 0))
		}},
		{"remove", func() error { return s.RemoveEndpoint(t.Context(), "cli:ana", "crm", true) }},
	}
	for _, c := range changes {
		check(t, c.do())
		t.Logf("%s: seen after %v", c.name, w.within(500*time.Millisecond))
	}
	select {
	case <-w.changes:
		t.Error("a change was told of twice")
	default:
	}
}

// TestWatchWithoutNotifications kills the listening connection again and
// again: the poll sees the changes within a second.
func TestWatchWithoutNotifications(t *testing.T) {
	t.Parallel()
	s, dsn := newStore(t)
	w := watch(t, s)
	listening(t, dsn)
	ctx, stop := context.WithCancel(t.Context())
	killer := connect(t, dsn)
	killed, ended := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(ended)
		for n := 0; ctx.Err() == nil; pause() {
			var hits int
			err := killer.QueryRow(ctx, `select count(pg_terminate_backend(pid)) from pg_stat_activity where datname = current_database() and application_name = 'gancho-state-watch'`).Scan(&hits)
			if err == nil && n == 0 && hits > 0 {
				close(killed)
				n = hits
			}
		}
	}()
	<-killed
	must[state.Endpoint](t)(s.AddEndpoint(t.Context(), "cli:ana", newEndpoint("crm"), nil))
	t.Logf("seen after %v", w.within(time.Second))
	for _, to := range []endpoint.State{endpoint.Paused, endpoint.Active, endpoint.Inactive} {
		must[state.Endpoint](t)(s.SetEndpointState(t.Context(), "cli:ana", "crm", to))
		t.Logf("seen after %v", w.within(time.Second))
	}
	stop()
	<-ended
}

// TestWatchExpiry: nobody changes anything, and yet a secret ends.
func TestWatchExpiry(t *testing.T) {
	t.Parallel()
	s, _ := newStore(t)
	old, next := endpoint.GenerateSecret(), endpoint.GenerateSecret()
	must[state.Endpoint](t)(s.AddEndpoint(t.Context(), "cli:ana", newEndpoint("crm"), []endpoint.Secret{old}))
	w := watch(t, s)
	e := must[state.Endpoint](t)(s.RotateSecret(t.Context(), "cli:ana", "crm", next, 1500*time.Millisecond))
	w.within(time.Second)
	same(t, "secrets during the overlap", 2, len(e.Secrets))
	w.within(2 * time.Second)
	if late := time.Since(e.Secrets[1].Expires); late > time.Second || late < 0 {
		t.Errorf("told %v after the secret expired", late)
	}
	e = must[state.Endpoint](t)(s.Endpoint(t.Context(), "crm"))
	if len(e.Secrets) != 1 || !e.Secrets[0].Secret.Equal(next) {
		t.Errorf("secrets after the overlap: %v", e.Secrets)
	}
}

// TestWatchOverRestart: changes made after the server was away are seen, and
// nothing is told when nothing has changed.
func TestWatchOverRestart(t *testing.T) {
	t.Parallel()
	server, err := testservers.StartPostgres(testservers.PostgresOptions{})
	check(t, err)
	t.Cleanup(server.Close)
	dsn := server.DSN("postgres")
	must[[]string](t)(migrations.Apply(t.Context(), dsn))
	s := open(t, dsn, keys(t, "a"))
	w := watch(t, s)
	listening(t, dsn)
	server.Stop("immediate")
	if _, err := s.Endpoints(t.Context()); !errors.Is(err, state.ErrUnreachable) {
		t.Fatalf("the server is still there: %v", err)
	}
	check(t, server.Start())
	must[state.Endpoint](t)(s.AddEndpoint(t.Context(), "cli:ana", newEndpoint("crm"), nil))
	w.within(2 * time.Second)
	listening(t, dsn)
	select {
	case <-w.changes:
		t.Error("a change was told of that nobody made")
	default:
	}
}

// TestWatchEnds leaves nothing running.
func TestWatchEnds(t *testing.T) {
	dsn := database(t, "")
	before := goleak.IgnoreCurrent()
	s, err := state.Open(t.Context(), state.Options{DSN: dsn, Keyring: keys(t, "a")})
	check(t, err)
	ctx, stop := context.WithCancel(t.Context())
	if err := s.Watch(ctx, stop); err != nil {
		t.Error(err)
	}
	s.Close()
	goleak.VerifyNone(t, before)
}
