package control_test

import (
	"testing"

	"gancho/internal/control"
	"gancho/internal/state"
)

// TestWhereIsHidden: what chooses the rows of a backfill may be personal data, which administrators alone see.
func TestWhereIsHidden(t *testing.T) {
	t.Parallel()
	g := newGym(t)
	const where = "cpf = '529.982.247-25'"
	made, err := g.Store.CreateJob(t.Context(), "cli:teste", state.Job{Kind: state.Backfill, Filter: state.Filter{Where: where}})
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		role state.Role
		want string
	}{{state.Admin, where}, {state.Operator, state.HiddenWhere}, {state.Viewer, state.HiddenWhere}} {
		a := control.Actor{Name: "token:1", Role: c.role}
		shown := map[string]string{}
		note := func(how string, j state.Job, err error) {
			t.Helper()
			if err != nil {
				t.Errorf("%s as %s: %v", how, c.role, err)
			}
			shown[how] = j.Filter.Where
		}
		j, err := g.Job(t.Context(), a, made.ID)
		note("shown", j, err)
		page, err := g.Jobs(t.Context(), a, "", 10)
		if err != nil || len(page.Items) != 1 {
			t.Fatalf("%d jobs, %v", len(page.Items), err)
		}
		note("listed", page.Items[0], nil)
		if c.role != state.Viewer {
			j, err = g.PauseJob(t.Context(), a, made.ID)
			note("paused", j, err)
			j, err = g.ResumeJob(t.Context(), a, made.ID)
			note("resumed", j, err)
		}
		for how, got := range shown {
			if got != c.want {
				t.Errorf("%s to %s as %q, want %q", how, c.role, got, c.want)
			}
		}
	}
	if j, err := g.CancelJob(t.Context(), control.Actor{Name: "token:1", Role: state.Operator}, made.ID); err != nil || j.Filter.Where != state.HiddenWhere {
		t.Errorf("canceled with %q, %v", j.Filter.Where, err)
	}
}
