package bridge_test

import (
	"context"
	"fmt"
	"runtime"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/redis/go-redis/v9"
	"github.com/rs/zerolog"

	"gancho/delivery/endpoint"
	"gancho/delivery/queue"
	"gancho/delivery/queue/queuetest"
	"gancho/delivery/webhook"
	"gancho/internal/bridge"
	"gancho/internal/state"
	"gancho/internal/testservers"
	"gancho/migrations"
)

// TestJobFits: a job goes on as long as its endpoint may have what it chooses.
func TestJobFits(t *testing.T) {
	t.Parallel()
	one, none := "1", ""
	for name, c := range map[string]struct {
		filter  state.Filter
		tenants []string
		state   endpoint.State
		fits    bool
	}{
		"all to all":               {state.Filter{}, nil, endpoint.Active, true},
		"some to all":              {state.Filter{Tenants: []string{"1"}}, nil, endpoint.Active, true},
		"paused":                   {state.Filter{}, nil, endpoint.Paused, true},
		"inactive":                 {state.Filter{}, nil, endpoint.Inactive, false},
		"its own":                  {state.Filter{Tenants: []string{"1", "2"}}, []string{"2", "1"}, endpoint.Active, true},
		"one of its own":           {state.Filter{Tenant: &one}, []string{"2", "1"}, endpoint.Active, true},
		"one of those before":      {state.Filter{Tenant: &one, Tenants: []string{"1", "3"}}, []string{"1", "2"}, endpoint.Active, true},
		"all to some":              {state.Filter{}, []string{"1"}, endpoint.Active, false},
		"those before to others":   {state.Filter{Tenants: []string{"1"}}, []string{"2"}, endpoint.Active, false},
		"those before to fewer":    {state.Filter{Tenants: []string{"1", "2"}}, []string{"2"}, endpoint.Active, false},
		"one to another":           {state.Filter{Tenant: &one}, []string{"2"}, endpoint.Active, false},
		"those without one to one": {state.Filter{Tenant: &none, Tenants: []string{"2"}}, []string{"2"}, endpoint.Active, false},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			job := state.Job{Endpoint: "crm", Filter: c.filter}
			err := bridge.Fit(job, endpoint.Endpoint{Name: "erp"}, endpoint.Endpoint{Name: "crm", Tenants: c.tenants, State: c.state})
			if (err == nil) != c.fits {
				t.Errorf("%v", err)
			}
		})
	}
	for name, c := range map[string]struct{ chosen, sources, want string }{
		"its own":             {"cliente_1*", "cliente_1*", ""},
		"some to all":         {"cliente_1*", "", ""},
		"one of them":         {"cliente_17", "cliente_1*", ""},
		"narrower":            {"cliente_1*_sp", "cliente_*_s*", ""},
		"all to some":         {"", "cliente_1*", "is limited to other sources now; start again"},
		"narrowed meanwhile":  {"cliente_1*", "cliente_17", "is limited to other sources now; start again"},
		"one of two narrowed": {"cliente_1* cliente_2", "cliente_1*", "is limited to other sources now; start again"},
		"to another one":      {"cliente_1", "cliente_2", "is limited to other sources now; start again"},
	} {
		err := bridge.Fit(state.Job{Endpoint: "crm", Filter: state.Filter{Sources: strings.Fields(c.chosen)}}, endpoint.Endpoint{Name: "crm", Sources: strings.Fields(c.sources)})
		if (err == nil) != (c.want == "") || err != nil && !strings.Contains(err.Error(), c.want) {
			t.Errorf("sources, %s: %v", name, err)
		}
	}
	if err := bridge.Fit(state.Job{Endpoint: "crm"}, endpoint.Endpoint{Name: "erp"}); err == nil {
		t.Error("it fits an endpoint that is gone")
	}
}

// TestHeldEndpoint: an endpoint whose settings cannot be decrypted gets no events of tenants and sources that are not its own.
func TestHeldEndpoint(t *testing.T) {
	t.Parallel()
	whole := endpoint.Endpoint{Name: "crm", URL: "https://crm.example", Events: []string{"cliente.*"}, Sources: []string{"cliente_1*"}}
	held := bridge.HeldEndpoint(&state.Endpoint{Name: "crm", Tenants: []string{"cliente_1/7"}, Public: whole.Public()})
	if !held.Reads("cliente_17") || held.Reads("cliente_2") || !slices.Equal(held.Events, whole.Events) || !slices.Equal(held.Tenants, []string{"cliente_1/7"}) {
		t.Errorf("%+v", held)
	}
}

// TestTurns: a job, which may wait for hours, gives its place to another one when all are
// taken, after its turn.
func TestTurns(t *testing.T) {
	t.Parallel()
	if !bridge.GivesPlace(0, true) || bridge.GivesPlace(1, true) || bridge.GivesPlace(0, false) {
		t.Error("jobs give their places up although others are free, before their turn is over, or never")
	}
	for _, waits := range []bool{true, false} {
		if after, before, waiting := bridge.ParkedTurns(t.Context(), waits); after != waits || before || !waiting {
			t.Errorf("with another job of parked changes %v: gives its place %v after its turn, %v before; one that waits %v", waits, after, before, waiting)
		}
	}
}

// TestPageSize: a redrive with a rate waits for the disk once in some seconds' worth, or it
// would wait longer than it sends.
func TestPageSize(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		kind state.JobKind
		rate float64
		want int
	}{
		{state.Resend, 0, 500}, {state.Resend, 40, 40}, {state.Resend, 0.1, 1}, {state.Resend, 1e6, 500},
		{state.Redrive, 0, 5000}, {state.Redrive, 40, 200}, {state.Redrive, 0.1, 1}, {state.Redrive, 1e6, 5000},
	} {
		if got := bridge.PageSize(state.Job{Kind: c.kind, Rate: c.rate}); got != c.want {
			t.Errorf("%s at %v/s: %d events, want %d", c.kind, c.rate, got, c.want)
		}
	}
}

// TestPagesAreFair: a tenant's many jobs leave a slot to another's, and wait behind those of
// whoever has fewer slots.
func TestPagesAreFair(t *testing.T) {
	t.Parallel()
	ctx := t.Context()
	slots := bridge.NewPageSlots(3)
	got := make(chan string, 16)
	ask := func(tenant string) {
		before := slots.Waiting()
		go func() {
			if slots.Take(ctx, tenant) == nil {
				got <- tenant
			}
		}()
		for len(got) == 0 && slots.Waiting() == before {
			runtime.Gosched()
		}
	}
	expect := func(want ...string) {
		t.Helper()
		var all []string
		for range want {
			all = append(all, <-got)
		}
		if slices.Sort(all); !slices.Equal(all, want) || len(got) > 0 {
			t.Fatalf("slots for %v and %d more, want %v", all, len(got), want)
		}
	}
	ask("1")
	expect("1")
	ask("1")
	expect("1")
	for range 3 {
		ask("1") // one slot is left to others
	}
	expect()
	ask("2")
	expect("2")
	ask("2")
	ask("3")
	expect()
	slots.Give("2")
	expect("2") // it has none, as 3, and came before that
	slots.Give("1")
	expect("3") // it has none, and came last
	slots.Give("3")
	expect("1")
	slots.Give("2")
	if slots.Waiting() != 2 { // tenant 1 has two, and the others have gone
		t.Errorf("%d wait", slots.Waiting())
	}
	slots.Give("1")
	slots.Give("1")
	expect("1", "1")
	canceled, cancel := context.WithCancel(ctx)
	cancel()
	if err := slots.Take(canceled, "1"); err == nil {
		slots.Give("1")
	}
	for range 2 { // what gave up has taken nothing
		if err := slots.Take(ctx, "4"); err == nil {
			slots.Give("4")
		}
	}
}

// waitingJobs collects the jobs whose lines say that Redis does not take their events.
type waitingJobs chan string

func (w waitingJobs) Write(line []byte) (int, error) {
	if strings.Contains(string(line), "redis does not take a job's events") {
		w <- string(line)
	}
	return len(line), nil
}

// jobWorld is a state database with one job of one event for each of its endpoints, of which there are
// two more than pages are sent at once.
type jobWorld struct {
	t         *testing.T
	dsn       string
	store     *state.Store
	redis     *testservers.Redis
	queue     *queue.Queue
	client    *redis.Client
	endpoints []endpoint.Endpoint
}

func newJobWorld(t *testing.T, kind state.JobKind) *jobWorld {
	t.Helper()
	ctx := t.Context()
	w := &jobWorld{t: t, dsn: pg.Database(t, ""), redis: queuetest.StartRedis(t)}
	if _, err := migrations.Apply(ctx, w.dsn); err != nil {
		t.Fatal(err)
	}
	var err error
	if w.store, err = state.Open(ctx, state.Options{DSN: w.dsn, Logger: zerolog.Nop()}); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(w.store.Close)
	for i := range bridge.PagesAtOnce + 2 {
		w.endpoints = append(w.endpoints, endpoint.Endpoint{Name: fmt.Sprint("crm", i), URL: "https://crm.example.com"})
	}
	w.queue, w.client = queuetest.Open(t, w.redis, w.endpoints...), queuetest.Client(t, w.redis)
	m := webhook.Message{ID: "1-1-1", Type: "e", Time: time.Now().Add(-time.Minute), Data: []byte("{}")}
	if err := w.store.WriteEvents(ctx, []webhook.Message{m}); err != nil {
		t.Fatal(err)
	}
	for _, e := range w.endpoints {
		if kind == state.Redrive {
			if err := w.store.WriteDead(ctx, []state.DeadLetter{{Endpoint: e.Name, DeadEvent: queue.DeadEvent{Message: m, Reason: "410"}}}); err != nil {
				t.Fatal(err)
			}
		}
		if _, err := w.store.CreateJob(ctx, "test", state.Job{Kind: kind, Endpoint: e.Name}); err != nil {
			t.Fatal(err)
		}
	}
	return w
}

// run works on the jobs until the returned function is called.
func (w *jobWorld) run(log zerolog.Logger) (stop func()) {
	running, cancel := context.WithCancel(w.t.Context())
	ended := make(chan error, 1)
	go func() { ended <- bridge.RunJobs(running, w.store, w.queue, log, w.endpoints...) }()
	return func() {
		cancel()
		if err := <-ended; err != nil {
			w.t.Error(err)
		}
	}
}

// queued reports whether the event of each job is in Redis, once.
func (w *jobWorld) queued() bool {
	return !slices.ContainsFunc(w.endpoints, func(e endpoint.Endpoint) bool {
		n, err := w.queue.ReplayBacklog(w.t.Context(), e.Name)
		if err != nil || n > 1 {
			w.t.Fatalf("the queue of %s has %d events, %v", e.Name, n, err)
		}
		return n == 0
	})
}

// done reports whether each job is, with its event sent.
func (w *jobWorld) done() bool {
	all, err := w.store.Jobs(w.t.Context(), "", 0, 100)
	if err != nil {
		w.t.Fatal(err)
	}
	return len(all) == len(w.endpoints) && !slices.ContainsFunc(all, func(j state.Job) bool { return j.State != state.Done || j.Sent != 1 })
}

// TestRefusedPagesHoldNoPlace: jobs whose events Redis does not take leave the places of
// those that are sending a page to others, and go on when it does.
func TestRefusedPagesHoldNoPlace(t *testing.T) {
	t.Parallel()
	ctx := t.Context()
	w := newJobWorld(t, state.Resend)
	if err := w.client.ConfigSet(ctx, "maxmemory", "1").Err(); err != nil {
		t.Fatal(err)
	}
	// What they would send is not read meanwhile: they do not wait for it.
	locker, err := pgx.Connect(ctx, w.dsn)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = locker.Close(context.Background()) })
	if _, err := locker.Exec(ctx, "begin; lock table gancho.events in access exclusive mode"); err != nil {
		t.Fatal(err)
	}
	waiting := make(waitingJobs, 100)
	stop := w.run(zerolog.New(waiting))
	for range w.endpoints {
		<-waiting
	}
	if _, err := locker.Exec(ctx, "rollback"); err != nil {
		t.Fatal(err)
	}
	if err := w.client.ConfigSet(ctx, "maxmemory", "0").Err(); err != nil {
		t.Fatal(err)
	}
	queuetest.Eventually(t, "the end of the jobs", w.done)
	stop()
	if !w.queued() {
		t.Error("a job is done whose event is not queued")
	}
}

// TestRedrivesWaitForTheDiskWithoutAPlace: a redrive waits, here for a replica that stands still,
// until its events are durable; meanwhile another sends its page.
func TestRedrivesWaitForTheDiskWithoutAPlace(t *testing.T) {
	t.Parallel()
	w := newJobWorld(t, state.Redrive)
	replica := queuetest.StartRedis(t)
	host, port, _ := strings.Cut(w.redis.Addr(), ":")
	if err := queuetest.Client(t, replica).ReplicaOf(t.Context(), host, port).Err(); err != nil {
		t.Fatal(err)
	}
	queuetest.Eventually(t, "the replica", func() bool {
		return strings.Contains(w.client.Info(t.Context(), "replication").Val(), "state=online")
	})
	if err := replica.Signal(syscall.SIGSTOP); err != nil {
		t.Fatal(err)
	}
	stop := w.run(zerolog.Nop())
	queuetest.Eventually(t, "the events of all jobs in Redis", w.queued)
	if w.done() {
		t.Error("redrives are done whose events are not durable")
	}
	if err := replica.Signal(syscall.SIGCONT); err != nil {
		t.Fatal(err)
	}
	queuetest.Eventually(t, "the end of the jobs", w.done)
	stop()
	if left, err := w.store.DeadLetters(t.Context(), state.Filter{}, 0, 100); err != nil || len(left) > 0 {
		t.Errorf("%d dead letters are left, %v", len(left), err)
	}
}
