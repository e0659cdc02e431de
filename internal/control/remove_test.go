package control_test

import (
	"context"
	"errors"
	"slices"
	"testing"
	"time"

	"gancho/delivery/queue/queuetest"
	"gancho/delivery/webhook"
	"gancho/internal/control"
	"gancho/internal/state"
)

// TestRemoveAndDrop: a queue outlives its endpoint unless it is to be dropped,
// and is dropped later on demand, but never under an endpoint that has it.
func TestRemoveAndDrop(t *testing.T) {
	t.Parallel()
	g := newGym(t)
	ctx := context.Background()
	one := control.Actor{Name: "token:1", Role: state.Admin, Tenant: "1"}
	queue := func(name string) {
		t.Helper()
		if err := queuetest.Replay(ctx, g.Queue, name, []webhook.Message{{ID: "x", Type: "a", Time: time.Now(), Data: []byte("1")}}); err != nil {
			t.Fatal(err)
		}
	}
	drops := func() []string {
		t.Helper()
		names, err := g.Store.Drops(ctx)
		if err != nil {
			t.Fatal(err)
		}
		return names
	}
	queue("um")
	r, err := g.Remove(ctx, root, "um", false)
	if err != nil || r.Queued != 1 || r.Dropped || r.Orphaned || len(drops()) != 0 {
		t.Errorf("%+v, %v, drops %v", r, err, drops())
	}
	if _, err := g.Remove(ctx, one, "um", true); !errors.Is(err, state.ErrNotFound) {
		t.Errorf("a tenant drops what is no endpoint: %v", err)
	}
	r, err = g.Remove(ctx, root, "um", true)
	if err != nil || r.Queued != 1 || !r.Orphaned || !slices.Equal(drops(), []string{"um"}) {
		t.Errorf("%+v, %v, drops %v", r, err, drops())
	}
	var taken *control.TakenError
	if _, err := g.AddEndpoint(ctx, root, control.NewEndpoint{Name: "um", Document: []byte("url: https://example.com\n")}); !errors.Is(err, state.ErrConflict) || errors.As(err, &taken) {
		t.Errorf("an endpoint whose queue is still to be dropped was added: %v", err)
	}
	if _, err := g.Remove(ctx, root, "nunca", true); !errors.Is(err, state.ErrNotFound) {
		t.Errorf("nothing at all was removed: %v", err)
	}
	if err := g.Store.DropQueue(ctx, root.Name, "dois"); !errors.Is(err, state.ErrConflict) {
		t.Errorf("the queue of an endpoint: %v, want a conflict", err)
	}
	var readOnly *control.ReadOnlyError
	if _, err := g.Remove(ctx, root, "arquivo", true); !errors.As(err, &readOnly) {
		t.Errorf("the file's endpoint: %v", err)
	}
	changes, err := g.Audit(ctx, root, state.AuditFilter{Object: "endpoint/um"}, "", 0)
	if err != nil {
		t.Fatal(err)
	}
	var actions []string
	for _, c := range changes.Items {
		actions = append(actions, c.Action)
	}
	if want := []string{"queue.drop", "endpoint.remove", "endpoint.add"}; !slices.Equal(actions, want) {
		t.Errorf("the audit log has %v, want %v", actions, want)
	}
}

// TestQueueLeftBehind: what an endpoint leaves in its queue goes to nobody but
// whom the operator gives its name to.
func TestQueueLeftBehind(t *testing.T) {
	t.Parallel()
	g := newGym(t)
	ctx := context.Background()
	err := queuetest.Replay(ctx, g.Queue, "um", []webhook.Message{{ID: "x", Type: "a", Tenant: "1", Time: time.Now(), Data: []byte("1")}})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := g.Remove(ctx, root, "um", false); err != nil {
		t.Fatal(err)
	}
	again := control.NewEndpoint{Name: "um", Document: []byte("url: https://example.com\n")}
	var taken *control.TakenError
	for _, tenant := range []string{"1", "2"} {
		a := control.Actor{Name: "token:" + tenant, Role: state.Admin, Tenant: tenant}
		if _, err := g.AddEndpoint(ctx, a, again); !errors.As(err, &taken) {
			t.Errorf("tenant %s takes over what is queued: %v", tenant, err)
		}
	}
	if _, err := g.AddEndpoint(ctx, root, again); err != nil {
		t.Errorf("the operator does not: %v", err)
	}
}

// TestNamesWithHistory: a tenant cannot give an endpoint of its own the name of one that
// was another's and got its events, and thereby read what was answered there.
func TestNamesWithHistory(t *testing.T) {
	t.Parallel()
	g := newGym(t)
	ctx := context.Background()
	one, two := control.Actor{Name: "token:1", Role: state.Admin, Tenant: "1"}, control.Actor{Name: "token:2", Role: state.Admin, Tenant: "2"}
	add := func(a control.Actor, name string) error {
		_, err := g.AddEndpoint(ctx, a, control.NewEndpoint{Name: name, Document: []byte("url: https://example.com\n")})
		return err
	}
	remove := func(a control.Actor, name string) {
		t.Helper()
		if _, err := g.Remove(ctx, a, name, false); err != nil {
			t.Fatal(err)
		}
	}
	g.dead("todos", "1")
	g.attempt(g.endpoint("todos-2", ""), "1", "7", time.Now())
	g.dead("um", "1")
	g.attempt("retirado", "1", "7", time.Now()) // of a gancho.yaml that no longer has it
	remove(root, "todos")
	remove(root, "todos-2")
	remove(one, "um")
	var taken *control.TakenError
	for _, name := range []string{"todos", "todos-2", "retirado"} {
		if err := add(one, name); !errors.As(err, &taken) {
			t.Errorf("tenant 1 takes over %s: %v", name, err)
		}
	}
	if err := add(one, "um"); err != nil {
		t.Errorf("its own, again: %v", err)
	}
	// What another tenant adds and removes meanwhile is not in its way.
	remove(one, "um")
	if err := add(two, "um"); err != nil {
		t.Errorf("its name, by another tenant: %v", err)
	}
	remove(two, "um")
	if err := add(one, "um"); err != nil {
		t.Errorf("its own, after another tenant's: %v", err)
	}
	// An endpoint of the file has the name after the removal.
	remove(one, "um")
	g.attempt("um", "1", "7", time.Now().Add(10*time.Minute))
	if err := add(one, "um"); !errors.As(err, &taken) {
		t.Errorf("tenant 1 takes over um, which was the file's: %v", err)
	}
	if err := add(two, "todos"); err != nil {
		t.Errorf("a tenant without events there: %v", err)
	}
	if err := add(root, "todos-2"); err != nil {
		t.Errorf("the operator: %v", err)
	}
}

// TestRedriveOfMany makes a job for each endpoint that exists, and none for
// what is nobody's.
func TestRedriveOfMany(t *testing.T) {
	t.Parallel()
	g := newGym(t)
	ctx := context.Background()
	first := g.dead("um", "1")
	g.dead("um", "1")
	g.dead("arquivo", "")
	g.dead("sumido", "")
	one := control.Actor{Name: "token:1", Role: state.Operator, Tenant: "1"}
	jobs := func(a control.Actor, r state.Job, all bool) map[string]int64 {
		t.Helper()
		made, err := g.CreateRedrive(ctx, a, r, all)
		if err != nil {
			t.Fatal(err)
		}
		out := map[string]int64{}
		for _, j := range made {
			out[j.Endpoint] = j.Total
		}
		return out
	}
	if got := jobs(root, state.Job{DryRun: true}, true); len(got) != 2 || got["um"] != 2 || got["arquivo"] != 1 {
		t.Errorf("all: %v", got)
	}
	if got := jobs(root, state.Job{Filter: state.Filter{IDs: []int64{first}}}, false); len(got) != 1 || got["um"] != 1 {
		t.Errorf("one: %v", got)
	}
	if got := jobs(one, state.Job{}, true); len(got) != 1 || got["um"] != 2 {
		t.Errorf("all of tenant 1: %v", got)
	}
	// Left from another endpoint of the name, of which um must not learn.
	g.dead("um", "2")
	for _, f := range []state.Filter{{}, {Endpoint: "um"}} {
		if got := jobs(root, state.Job{Filter: f, DryRun: true}, true); got["um"] != 2 {
			t.Errorf("with another tenant's: %v", got)
		}
	}
	var invalid *control.InvalidError
	for _, r := range []state.Job{{}, {Filter: state.Filter{Key: "1"}, Rate: -1}, {Filter: state.Filter{Outcome: "dead"}}} {
		if _, err := g.CreateRedrive(ctx, root, r, false); !errors.As(err, &invalid) {
			t.Errorf("%+v: %v, want a refusal", r, err)
		}
	}
	for _, r := range []state.Job{
		{Filter: state.Filter{Key: "1"}}, {Endpoint: "um"}, {Endpoint: "um", Filter: state.Filter{IDs: []int64{1}}},
		{Endpoint: "um", Filter: state.Filter{From: time.Now(), To: time.Now().Add(-time.Hour)}},
	} {
		if _, err := g.CreateResend(ctx, root, r); !errors.As(err, &invalid) {
			t.Errorf("%+v: %v, want a refusal", r, err)
		}
	}
}
