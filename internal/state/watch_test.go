package state_test

import (
	"context"
	"errors"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"go.uber.org/goleak"

	"gancho/delivery/endpoint"
	"gancho/internal/state"
	"gancho/internal/testservers"
	"gancho/migrations"
)

// patience is how long a test waits for what must happen. It is shorter than
// the slow poll, which therefore does not find what a notification should bring.
const patience = 25 * time.Second

// watcher runs a watch until the test ends.
type watcher struct {
	t      *testing.T
	topics map[state.Topic]chan struct{}
}

// watch returns when the watch listens.
func watch(t *testing.T, s *state.Store) *watcher {
	t.Helper()
	w := &watcher{t, map[state.Topic]chan struct{}{}}
	for _, topic := range []state.Topic{state.TopicEndpoints, state.TopicJobs, state.TopicDrops} {
		w.topics[topic] = make(chan struct{}, 100)
	}
	ctx, stop := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() { ended <- s.Watch(ctx, func(topic state.Topic) { w.topics[topic] <- struct{}{} }) }()
	t.Cleanup(func() {
		stop()
		if err := <-ended; err != nil {
			t.Errorf("watch: %v", err)
		}
	})
	w.begins()
	w.sees(state.TopicEndpoints)
	return w
}

// begins waits for a connection that listens, which tells of jobs and drops.
func (w *watcher) begins() {
	w.t.Helper()
	w.sees(state.TopicJobs)
	w.sees(state.TopicDrops)
}

func (w *watcher) sees(topic state.Topic) {
	w.t.Helper()
	timeout := time.NewTimer(patience)
	defer timeout.Stop()
	select {
	case <-w.topics[topic]:
	case <-timeout.C:
		w.t.Fatalf("a change of topic %s was not seen", topic)
	}
}

// sawAll reports what was told of and not waited for.
func (w *watcher) sawAll() {
	w.t.Helper()
	for topic, c := range w.topics {
		if len(c) > 0 {
			w.t.Errorf("%d changes of topic %s were told of that nobody made", len(c), topic)
		}
	}
}

const killWatch = `select count(pg_terminate_backend(pid)) from pg_stat_activity where datname = current_database() and application_name = 'gancho-state-watch'`

func TestWatch(t *testing.T) {
	t.Parallel()
	s, _ := newStore(t)
	w := watch(t, s)
	for _, change := range []struct {
		name  string
		topic state.Topic
		do    func() error
	}{
		{"add", state.TopicEndpoints, func() error { return second2(s.AddEndpoint(t.Context(), "cli:ana", newEndpoint("crm"), nil)) }},
		{"pause", state.TopicEndpoints, func() error { return second2(s.SetEndpointState(t.Context(), "cli:ana", "crm", endpoint.Paused)) }},
		{"rotate", state.TopicEndpoints, func() error {
			return second2(s.RotateSecret(t.Context(), "cli:ana", "crm", endpoint.GenerateSecret(), 0))
		}},
		{"remove", state.TopicEndpoints, func() error { return s.RemoveEndpoint(t.Context(), "cli:ana", "crm", false) }},
		{"drop", state.TopicDrops, func() error { return s.DropQueue(t.Context(), "cli:ana", "crm") }},
		{"resend", state.TopicJobs, func() error {
			return second2(s.CreateJob(t.Context(), "cli:ana", state.Job{Kind: state.Resend, Endpoint: "crm"}))
		}},
		{"give back", state.TopicJobs, func() error {
			job, err := s.ClaimJob(t.Context(), "worker", time.Hour)
			if err != nil {
				return err
			}
			return s.FinishJob(t.Context(), job, state.Queued, "")
		}},
	} {
		if err := change.do(); err != nil {
			t.Fatalf("%s: %v", change.name, err)
		}
		w.sees(change.topic)
	}
	w.sawAll()
}

// TestWatchReconnects kills the watch's connection before each change: the
// next connection sees it.
func TestWatchReconnects(t *testing.T) {
	t.Parallel()
	s, dsn := newStore(t)
	must[state.Endpoint](t)(s.AddEndpoint(t.Context(), "cli:ana", newEndpoint("crm"), nil))
	w := watch(t, s)
	for _, to := range []endpoint.State{endpoint.Paused, endpoint.Active, endpoint.Inactive} {
		same(t, "connections that were killed", 1, query[int](t, dsn, killWatch))
		must[state.Endpoint](t)(s.SetEndpointState(t.Context(), "cli:ana", "crm", to))
		w.begins()
		w.sees(state.TopicEndpoints)
	}
	w.sawAll()
}

// TestWatchExpiry: nobody changes anything, and yet a secret ends.
func TestWatchExpiry(t *testing.T) {
	t.Parallel()
	s, _ := newStore(t)
	old, next := endpoint.GenerateSecret(), endpoint.GenerateSecret()
	must[state.Endpoint](t)(s.AddEndpoint(t.Context(), "cli:ana", newEndpoint("crm"), []endpoint.Secret{old}))
	w := watch(t, s)
	e := must[state.Endpoint](t)(s.RotateSecret(t.Context(), "cli:ana", "crm", next, time.Second))
	w.sees(state.TopicEndpoints)
	same(t, "secrets during the overlap", 2, len(e.Secrets))
	w.sees(state.TopicEndpoints)
	if late := time.Since(e.Secrets[1].Expires); late < 0 {
		t.Errorf("told %v before the secret expired", -late)
	}
	e = must[state.Endpoint](t)(s.Endpoint(t.Context(), "crm"))
	if len(e.Secrets) != 1 || !e.Secrets[0].Secret.Equal(next) {
		t.Errorf("secrets after the overlap: %v", e.Secrets)
	}
}

// TestWatchLease: a worker dies, and its job waits for another one.
func TestWatchLease(t *testing.T) {
	t.Parallel()
	s, _ := newStore(t)
	must[state.Job](t)(s.CreateJob(t.Context(), "cli:ana", state.Job{Kind: state.Resend, Endpoint: "crm"}))
	must[*state.Job](t)(s.ClaimJob(t.Context(), "dead", time.Second))
	w := watch(t, s)
	w.sees(state.TopicJobs)
	if job := must[*state.Job](t)(s.ClaimJob(t.Context(), "alive", time.Hour)); job == nil {
		t.Error("told of a job that is not to be had")
	}
}

// TestWatchOverRestart: changes made after the server was unreachable are seen, and
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
	server.Stop("immediate")
	if _, err := s.EndpointsOf(t.Context(), ""); !errors.Is(err, state.ErrUnreachable) {
		t.Fatalf("the server is still there: %v", err)
	}
	check(t, server.Start())
	w.begins()
	must[state.Endpoint](t)(s.AddEndpoint(t.Context(), "cli:ana", newEndpoint("crm"), nil))
	w.sees(state.TopicEndpoints)
	w.sawAll()
}

// TestWatchThroughPooler: a pooler has process ids of its own, and passes no
// notifications on.
func TestWatchThroughPooler(t *testing.T) {
	t.Parallel()
	_, dsn := newStore(t)
	pooler := testservers.StartPooler(t, dsn)
	application := must[*pgx.Conn](t)(pgx.Connect(t.Context(), pooler.DSN()))
	t.Cleanup(func() { _ = application.Close(context.Background()) })
	session := func() (text string) {
		t.Helper()
		check(t, application.QueryRow(t.Context(), `select coalesce(string_agg(name || ' = ' || setting, ', ' order by name), '')
			|| (select coalesce(string_agg(c, ', '), '') from pg_listening_channels() c) from pg_settings where source = 'session'`).Scan(&text))
		return text
	}
	before := session()
	s := open(t, pooler.DSN(), keys(t, "a"))
	w := watch(t, s)
	must[state.Endpoint](t)(s.AddEndpoint(t.Context(), "cli:ana", newEndpoint("crm"), nil))
	w.sees(state.TopicEndpoints)
	must[state.Job](t)(s.CreateJob(t.Context(), "cli:ana", state.Job{Kind: state.Resend, Endpoint: "crm"}))
	w.sees(state.TopicJobs)
	if after := session(); after != before {
		t.Errorf("the application's session has %q, and had %q", after, before)
	}
}

// TestWatchEnds leaves nothing running.
func TestWatchEnds(t *testing.T) {
	dsn := database(t, "")
	before := goleak.IgnoreCurrent()
	s, err := state.Open(t.Context(), state.Options{DSN: dsn, Keyring: keys(t, "a")})
	check(t, err)
	ctx, stop := context.WithCancel(t.Context())
	if err := s.Watch(ctx, func(state.Topic) { stop() }); err != nil {
		t.Error(err)
	}
	s.Close()
	goleak.VerifyNone(t, before)
}
