package control_test

import (
	"context"
	"errors"
	"slices"
	"strings"
	"testing"
	"time"

	"gancho/delivery/queue"
	"gancho/internal/control"
	"gancho/internal/state"
)

// several are the gym's Services of several sources, and one over all of them.
func (g *gym) several(change func(source string, o *control.Options), names ...string) *control.Service {
	g.t.Helper()
	o := g.Options
	o.Sources = func(context.Context) ([]control.Source, error) { return nil, nil }
	o.EachSource = func(_ context.Context, do func(*control.Service) error) error {
		for _, name := range names {
			of := g.Options
			of.SourceName = name
			change(name, &of)
			if err := do(control.New(of)); err != nil {
				return err
			}
		}
		return nil
	}
	return control.New(o)
}

// limited adds an endpoint for tenants and sources.
func (g *gym) limited(house *control.Service, name, sources string) {
	g.t.Helper()
	if _, err := house.AddEndpoint(context.Background(), root, control.NewEndpoint{Name: name, Document: []byte(g.document("") + "sources: " + sources + "\n")}); err != nil {
		g.t.Fatal(err)
	}
}

// What is sent again to an endpoint is of its sources alone, whichever way it is asked for.
func TestSentAgainOfSources(t *testing.T) {
	t.Parallel()
	g := newGym(t)
	ctx := context.Background()
	house := g.several(func(string, *control.Options) {}, "cliente_1", "cliente_17", "cliente_2")
	g.limited(house, "matriz", "[cliente_1*]")
	now := time.Now()
	for _, tenant := range []string{"cliente_1/7", "cliente_17/7", "cliente_2/7", "clienteX1/7"} {
		g.attempt("matriz", tenant, "7", now)
		g.dead("matriz", tenant)
	}
	key := state.Filter{Key: "7"}
	sources := func(what string, jobs []state.Job, err error) {
		t.Helper()
		if err != nil || len(jobs) != 1 || jobs[0].Total != 2 || !slices.Equal(jobs[0].Filter.Sources, []string{"cliente_1*"}) {
			t.Errorf("%s: %+v, %v", what, jobs, err)
		}
	}
	one, err := house.CreateResend(ctx, root, state.Job{Endpoint: "matriz", Filter: key})
	sources("a resend", []state.Job{one}, err)
	some, err := house.CreateResends(ctx, root, []state.Job{{Endpoint: "matriz", Filter: key}}, nil)
	sources("resends", some, err)
	some, err = house.ResendMissing(ctx, root, state.Job{Endpoint: "matriz", Filter: key}, func(string) bool { return false })
	sources("what is missing", some, err)
	replay, err := house.CreateReplay(ctx, root, state.Job{Endpoint: "matriz", Filter: state.Filter{From: now.Add(-time.Hour)}})
	sources("a replay", replay.Jobs, err)
	again, err := house.ResendDeliveries(ctx, root, state.Job{Filter: state.Filter{Endpoint: "matriz"}})
	sources("deliveries", again.Jobs, err)
	if again.Unsent != 2 {
		t.Errorf("%d deliveries are not sent again, want 2", again.Unsent)
	}
	some, err = house.CreateRedrive(ctx, root, state.Job{Filter: state.Filter{Endpoint: "matriz"}}, false)
	sources("a redrive", some, err)

	// A redrive of one source.
	err = house.EachSource(ctx, func(of *control.Service) error {
		jobs, err := of.CreateRedrive(ctx, root, state.Job{Filter: state.Filter{Endpoint: "matriz"}, DryRun: true}, false)
		if err != nil {
			return err
		}
		if takes := strings.HasPrefix(of.SourceName, "cliente_1"); takes != (len(jobs) == 1) || takes && (jobs[0].Total != 1 || !slices.Equal(jobs[0].Filter.Sources, []string{of.SourceName})) {
			t.Errorf("a redrive of %s: %+v", of.SourceName, jobs)
		}
		if n, err := of.CountDead(ctx, root, state.Filter{}); n != 1 || err != nil {
			t.Errorf("%s has %d dead letters: %v", of.SourceName, n, err)
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
}

// The status of one source has its dead letters, deliveries and jobs alone.
func TestStatusOfSource(t *testing.T) {
	t.Parallel()
	g := newGym(t)
	ctx := context.Background()
	slot := func(source string, o *control.Options) {
		o.SourceSlot = "gancho_" + source
		o.Store = o.Store.Of(o.SourceSlot)
	}
	house := g.several(slot, "alfa", "beta")
	g.limited(house, "matriz", "['*']")
	for tenant, n := range map[string]int{"alfa/7": 1, "beta/7": 2} {
		for range n {
			g.attempt("matriz", tenant, "7", time.Now())
			g.dead("matriz", tenant)
		}
	}
	for _, f := range []state.Filter{{Sources: []string{"alfa"}}, {Sources: []string{"b*"}}, {Key: "7"}} {
		f.Endpoint = "matriz"
		if _, err := house.CreateRedrive(ctx, root, state.Job{Filter: f}, false); err != nil {
			t.Fatal(err)
		}
	}
	backfill := state.Job{Kind: state.Backfill, Filter: state.Filter{}, Total: 1}
	if _, err := g.Store.Of("gancho_beta").CreateJobs(ctx, "cli:ana", []state.Job{backfill}); err != nil {
		t.Fatal(err)
	}
	want := map[string][3]int64{"alfa": {1, 1, 2}, "beta": {2, 2, 3}}
	err := house.EachSource(ctx, func(of *control.Service) error {
		v, err := of.Status(ctx, root)
		if err != nil {
			return err
		}
		at := slices.IndexFunc(v.Endpoints, func(e control.EndpointView) bool { return e.Name == "matriz" })
		e := v.Endpoints[at]
		if got := [3]int64{e.Live.Dead, e.Recent.Delivered, int64(len(v.Jobs))}; got != want[of.SourceName] {
			t.Errorf("%s: dead letters, deliveries and jobs %v, want %v", of.SourceName, got, want[of.SourceName])
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
}

// What needs the queue of a source says why there is none while Redis is unreachable; of several sources the others are asked all the same.
func TestOfSourceWithoutQueue(t *testing.T) {
	t.Parallel()
	g := newGym(t)
	ctx := context.Background()
	down := errors.New("redis is away")
	house := g.several(func(source string, o *control.Options) {
		if source == "alfa" {
			o.Queue, o.QueueDown = nil, down
		}
	}, "alfa", "beta")
	err := house.EachSource(ctx, func(of *control.Service) error {
		if of.SourceName != "alfa" {
			return nil
		}
		_, gaps := of.Gaps(ctx, root)
		_, proof := of.Prove(ctx, root, queue.TallySpan{})
		_, timers := of.Rules(ctx, root)
		if !errors.Is(gaps, down) || !errors.Is(proof, down) || timers != nil {
			t.Errorf("gaps: %v; proof: %v; rules: %v", gaps, proof, timers)
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	for what, ask := range map[string]func() error{
		"gaps":   func() error { _, err := house.Gaps(ctx, root); return err },
		"proof":  func() error { _, err := house.Prove(ctx, root, queue.TallySpan{}); return err },
		"parked": func() error { _, err := house.Parked(ctx, root, state.Filter{}, "", 0); return err },
		"forget": func() error {
			tenant := "beta/7"
			_, err := house.Forget(ctx, root, control.ForgetRequest{Tenant: &tenant, Key: "7", DryRun: true})
			return err
		},
	} {
		if err := ask(); !errors.Is(err, down) {
			t.Errorf("%s of all: %v", what, err)
		}
	}
}

// The proof over several sources names those of which nothing is counted.
func TestProveNamesUncounted(t *testing.T) {
	t.Parallel()
	g := newGym(t)
	v, err := g.several(func(string, *control.Options) {}, "beta", "alfa").Prove(context.Background(), root, queue.TallySpan{})
	if err != nil || !slices.Equal(v.Uncounted(), []string{"alfa", "beta"}) || len(v.Sources) != 2 {
		t.Errorf("%+v, %v", v, err)
	}
}
