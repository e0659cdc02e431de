package control_test

import (
	"context"
	"slices"
	"strings"
	"testing"
	"time"

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
