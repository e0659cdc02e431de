package control_test

import (
	"context"
	"errors"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"gancho/cdc"
	"gancho/delivery/queue"
	"gancho/delivery/webhook"
	"gancho/internal/control"
	"gancho/internal/state"
	"gancho/mapping"
)

// operation is a method of the service, on something of tenant 1.
type operation struct {
	needs state.Role
	// hidden: to tenant 2's actor it answers as for what does not exist.
	hidden bool
	// unscoped: it is of no tenant, and hidden from all of them.
	unscoped bool
	call     func(ctx context.Context, g *gym, a control.Actor) error
}

// operations are all methods of the service, by their names.
func operations() map[string]operation {
	drop := func(_ any, err error) error { return err }
	return map[string]operation{
		"Endpoints": {state.Viewer, false, false, func(ctx context.Context, g *gym, a control.Actor) error { return drop(g.Endpoints(ctx, a, "", 0)) }},
		"Endpoint":  {state.Viewer, true, false, func(ctx context.Context, g *gym, a control.Actor) error { return drop(g.Endpoint(ctx, a, "um")) }},
		"Settings":  {state.Viewer, true, false, func(ctx context.Context, g *gym, a control.Actor) error { return drop(g.Settings(ctx, a, "um")) }},
		"AddEndpoint": {state.Admin, false, false, func(ctx context.Context, g *gym, a control.Actor) error {
			return drop(g.AddEndpoint(ctx, a, control.NewEndpoint{Name: g.name(), Document: []byte(`{"url": "https://example.com"}`)}))
		}},
		"EditEndpoint": {state.Admin, true, false, func(ctx context.Context, g *gym, a control.Actor) error {
			return drop(g.EditEndpoint(ctx, a, "um", control.Edit{Patch: []byte(`{"rate": "5/s"}`)}))
		}},
		"Activate":   {state.Operator, true, false, func(ctx context.Context, g *gym, a control.Actor) error { return drop(g.Activate(ctx, a, "um")) }},
		"Pause":      {state.Operator, true, false, func(ctx context.Context, g *gym, a control.Actor) error { return drop(g.Pause(ctx, a, "um")) }},
		"Deactivate": {state.Admin, true, false, func(ctx context.Context, g *gym, a control.Actor) error { return drop(g.Deactivate(ctx, a, "um")) }},
		"Rotate": {state.Admin, true, false, func(ctx context.Context, g *gym, a control.Actor) error {
			return drop(g.Rotate(ctx, a, "um", control.Rotation{}))
		}},
		"Test": {state.Operator, true, false, func(ctx context.Context, g *gym, a control.Actor) error {
			x, err := g.Test(ctx, a, "um")
			if err == nil && x.Outcome != "delivered" {
				return errors.New(x.Error)
			}
			return err
		}},
		"Remove": {state.Admin, true, false, func(ctx context.Context, g *gym, a control.Actor) error {
			return drop(g.Remove(ctx, a, g.endpoint(g.name(), "[1]"), true))
		}},
		"Deliveries": {state.Viewer, false, false, func(ctx context.Context, g *gym, a control.Actor) error {
			return drop(g.Deliveries(ctx, a, state.Filter{}, "", 0))
		}},
		"Delivery": {state.Viewer, true, false, func(ctx context.Context, g *gym, a control.Actor) error {
			return drop(g.Delivery(ctx, a, g.delivered().ID))
		}},
		"Event": {state.Viewer, true, false, func(ctx context.Context, g *gym, a control.Actor) error {
			return drop(g.Event(ctx, a, g.delivered().WebhookID, "um"))
		}},
		"ResendDeliveries": {state.Operator, false, false, func(ctx context.Context, g *gym, a control.Actor) error {
			id := g.delivered().WebhookID
			found, err := g.ResendDeliveries(ctx, a, state.Job{Filter: state.Filter{Webhooks: []string{id}}, DryRun: true})
			if err == nil && (found.Total == 1) == (a.Tenant == "2") {
				return errors.New("the delivery of tenant 1 would be sent again by 2, or not by its own")
			}
			return err
		}},
		"Rates": {state.Viewer, true, false, func(ctx context.Context, g *gym, a control.Actor) error {
			return drop(g.Rates(ctx, a, "um", time.Hour))
		}},
		"Tail": {state.Viewer, true, false, func(ctx context.Context, g *gym, a control.Actor) error {
			tenant := "1"
			return drop(g.Tail(ctx, a, state.Filter{Tenant: &tenant}))
		}},
		"DeadGroups": {state.Viewer, false, false, func(ctx context.Context, g *gym, a control.Actor) error {
			return drop(g.DeadGroups(ctx, a, state.Filter{}))
		}},
		"ParkedGroups": {state.Viewer, false, true, func(ctx context.Context, g *gym, a control.Actor) error {
			return drop(g.ParkedGroups(ctx, a, state.Filter{}))
		}},
		"Why": {state.Viewer, false, false, func(ctx context.Context, g *gym, a control.Actor) error {
			return drop(g.Why(ctx, a, control.WhyQuestion{Table: "cobrancas", Key: "7"}))
		}},
		"DeadLetters": {state.Viewer, false, false, func(ctx context.Context, g *gym, a control.Actor) error {
			return drop(g.DeadLetters(ctx, a, state.Filter{}, "", 0))
		}},
		"DeadLetter": {state.Viewer, true, false, func(ctx context.Context, g *gym, a control.Actor) error {
			return drop(g.DeadLetter(ctx, a, g.dead("um", "1")))
		}},
		"CountDead": {state.Viewer, true, false, func(ctx context.Context, g *gym, a control.Actor) error {
			tenant := "1"
			return drop(g.CountDead(ctx, a, state.Filter{Tenant: &tenant}))
		}},
		"DropDead": {state.Admin, false, false, func(ctx context.Context, g *gym, a control.Actor) error {
			id := g.dead("um", "1")
			n, err := g.DropDead(ctx, a, state.Filter{IDs: []int64{id}}, false)
			if err == nil && (n == 1) == (a.Tenant == "2") {
				return errors.New("the dead letter of tenant 1 was dropped by 2, or not by its own")
			}
			return err
		}},
		"Forget": {state.Admin, true, false, func(ctx context.Context, g *gym, a control.Actor) error {
			tenant := "1"
			return drop(g.Forget(ctx, a, control.ForgetRequest{Tenant: &tenant, Key: "nobody"}))
		}},
		"CreateRedrive": {state.Operator, true, false, func(ctx context.Context, g *gym, a control.Actor) error {
			return drop(g.CreateRedrive(ctx, a, state.Job{Filter: state.Filter{Endpoint: "um"}}, false))
		}},
		"CheckResend": {state.Operator, true, false, func(ctx context.Context, g *gym, a control.Actor) error {
			return g.CheckResend(ctx, a, state.Job{Endpoint: "um", Filter: state.Filter{Key: "7"}})
		}},
		"CreateResends": {state.Operator, true, false, func(ctx context.Context, g *gym, a control.Actor) error {
			return drop(g.CreateResends(ctx, a, []state.Job{{Endpoint: "um", Filter: state.Filter{Key: "7"}}}, nil))
		}},
		"CreateResend": {state.Operator, true, false, func(ctx context.Context, g *gym, a control.Actor) error {
			return drop(g.CreateResend(ctx, a, state.Job{Endpoint: "um", Filter: state.Filter{Key: "7"}}))
		}},
		"ResendMissing": {state.Operator, true, false, func(ctx context.Context, g *gym, a control.Actor) error {
			return drop(g.ResendMissing(ctx, a, state.Job{Endpoint: "um", Filter: state.Filter{Key: "7"}}, func(string) bool { return false }))
		}},
		"Of": {state.Viewer, true, false, func(ctx context.Context, g *gym, a control.Actor) error {
			o := g.Options
			o.OfSource = func(_ context.Context, name string, do func(*control.Service) error) (bool, error) {
				return name == "1", do(g.Service)
			}
			return control.New(o).Of(ctx, a, "1", func(*control.Service) error { return nil })
		}},
		"Installation": {state.Viewer, false, false, func(ctx context.Context, g *gym, a control.Actor) error { return drop(g.Installation(ctx, a)) }},
		"Prove": {state.Viewer, false, true, func(ctx context.Context, g *gym, a control.Actor) error {
			return drop(g.Prove(ctx, a, queue.TallySpan{From: time.Now().Add(-time.Hour), To: time.Now()}))
		}},
		"Closing": {state.Viewer, true, false, func(ctx context.Context, g *gym, a control.Actor) error {
			return drop(g.Closing(ctx, a, "um", "2026-11-20", "", 0))
		}},
		"Jobs": {state.Viewer, false, false, func(ctx context.Context, g *gym, a control.Actor) error { return drop(g.Jobs(ctx, a, "", 0)) }},
		"Job":  {state.Viewer, true, false, func(ctx context.Context, g *gym, a control.Actor) error { return drop(g.Job(ctx, a, g.job())) }},
		"CancelJob": {state.Operator, true, false, func(ctx context.Context, g *gym, a control.Actor) error {
			return drop(g.CancelJob(ctx, a, g.job()))
		}},
		"SourcesNow": {state.Viewer, false, true, func(ctx context.Context, g *gym, a control.Actor) error { return drop(g.SourcesNow(ctx, a)) }},
		"Gaps":       {state.Viewer, false, true, func(ctx context.Context, g *gym, a control.Actor) error { return drop(g.Gaps(ctx, a)) }},
		"Parked": {state.Viewer, false, true, func(ctx context.Context, g *gym, a control.Actor) error {
			return drop(g.Parked(ctx, a, state.Filter{}, "", 0))
		}},
		"ParkedChange": {state.Viewer, false, true, func(ctx context.Context, g *gym, a control.Actor) error {
			return drop(g.ParkedChange(ctx, a, g.parked()))
		}},
		"CountParked": {state.Viewer, false, true, func(ctx context.Context, g *gym, a control.Actor) error {
			return drop(g.CountParked(ctx, a, state.Filter{}))
		}},
		"RedriveParked": {state.Operator, false, true, func(ctx context.Context, g *gym, a control.Actor) error {
			return drop(g.RedriveParked(ctx, a, state.Job{}, true))
		}},
		"DropParked": {state.Admin, false, true, func(ctx context.Context, g *gym, a control.Actor) error {
			return drop(g.DropParked(ctx, a, state.Filter{}, true))
		}},
		"CreateReplay": {state.Operator, false, false, func(ctx context.Context, g *gym, a control.Actor) error {
			return drop(g.CreateReplay(ctx, a, state.Job{Filter: state.Filter{From: time.Now().Add(-time.Hour)}, DryRun: true}))
		}},
		"CreateCorrections": {state.Operator, false, false, func(ctx context.Context, g *gym, a control.Actor) error {
			return drop(g.CreateCorrections(ctx, a, state.Job{Filter: state.Filter{From: time.Now().Add(-time.Hour)}}, &control.Corrections{}))
		}},
		"CreateCorrection": {state.Admin, false, true, func(ctx context.Context, g *gym, a control.Actor) error {
			return drop(g.CreateCorrection(ctx, a, control.Correction{
				Rules: map[string]string{"rules/a.yaml": "rules: []\n"}, Replay: state.Job{Filter: state.Filter{From: time.Now().Add(-time.Hour)}, DryRun: true},
			}))
		}},
		"ReplayTo": {state.Operator, false, false, func(ctx context.Context, g *gym, a control.Actor) error {
			_, _, err := g.ReplayTo(ctx, a, state.Job{Filter: state.Filter{From: time.Now().Add(-time.Hour)}})
			return err
		}},
		"CreateBackfill": {state.Operator, false, true, func(ctx context.Context, g *gym, a control.Actor) error {
			return drop(g.CreateBackfill(ctx, a, state.Job{Filter: state.Filter{Table: "cobrancas"}, DryRun: true}))
		}},
		"PauseJob": {state.Operator, false, true, func(ctx context.Context, g *gym, a control.Actor) error {
			return drop(g.PauseJob(ctx, a, g.backfill()))
		}},
		"ResumeJob": {state.Operator, false, true, func(ctx context.Context, g *gym, a control.Actor) error {
			id := g.backfill()
			if g.Store != nil {
				if _, err := g.PauseJob(ctx, root, id); err != nil {
					return err
				}
			}
			return drop(g.ResumeJob(ctx, a, id))
		}},
		"EventTypes":   {state.Viewer, false, false, func(ctx context.Context, g *gym, a control.Actor) error { return drop(g.EventTypes(ctx, a)) }},
		"Status":       {state.Viewer, false, false, func(ctx context.Context, g *gym, a control.Actor) error { return drop(g.Status(ctx, a)) }},
		"Doctor":       {state.Operator, false, true, func(ctx context.Context, g *gym, a control.Actor) error { return drop(g.Doctor(ctx, a)) }},
		"SourceStatus": {state.Viewer, false, true, func(ctx context.Context, g *gym, a control.Actor) error { return drop(g.SourceStatus(ctx, a)) }},
		"EventContract": {state.Viewer, false, false, func(ctx context.Context, g *gym, a control.Actor) error {
			return drop(g.EventContract(ctx, a, "cobranca.paga"))
		}},
		"Rules": {state.Operator, false, true, func(ctx context.Context, g *gym, a control.Actor) error { return drop(g.Rules(ctx, a)) }},
		"RuleFile": {state.Operator, false, true, func(ctx context.Context, g *gym, a control.Actor) error {
			return drop(g.RuleFile(ctx, a, "rules/a.yaml"))
		}},
		"RecentChanges": {state.Operator, false, true, func(ctx context.Context, g *gym, a control.Actor) error {
			return drop(g.RecentChanges(ctx, a, "", 0))
		}},
		"DraftTest": {state.Operator, false, true, func(ctx context.Context, g *gym, a control.Actor) error {
			return drop(g.DraftTest(ctx, a, control.WhyQuestion{Table: "cobrancas", Key: "1"}))
		}},
		"Simulate": {state.Admin, false, true, func(ctx context.Context, g *gym, a control.Actor) error {
			return drop(g.Simulate(ctx, a, control.Simulation{File: "rules/a.yaml", Text: "rules: []", Table: "cobrancas"}))
		}},
		"Audit": {state.Viewer, false, false, func(ctx context.Context, g *gym, a control.Actor) error {
			return drop(g.Audit(ctx, a, state.AuditFilter{}, "", 0))
		}},
		"Tokens": {state.Admin, false, false, func(ctx context.Context, g *gym, a control.Actor) error { return drop(g.Tokens(ctx, a)) }},
		"CreateToken": {state.Admin, false, false, func(ctx context.Context, g *gym, a control.Actor) error {
			return drop(g.CreateToken(ctx, a, control.NewToken{Token: state.Token{Name: g.name(), Role: state.Viewer}}))
		}},
		"Unit": {state.Viewer, true, false, func(ctx context.Context, g *gym, a control.Actor) error { return drop(g.Unit(ctx, a, "iset", "1")) }},
		"ChangeUnit": {state.Admin, true, false, func(ctx context.Context, g *gym, a control.Actor) error {
			return drop(g.ChangeUnit(ctx, a, "iset", control.UnitChange{Tenant: "1", State: "active"}))
		}},
		"ScreenViews": {state.Viewer, false, false, func(ctx context.Context, g *gym, a control.Actor) error { return drop(g.ScreenViews(ctx, a)) }},
		"Fields":      {state.Viewer, true, false, func(ctx context.Context, g *gym, a control.Actor) error { return drop(g.Fields(ctx, a, "1")) }},
		"ChangeFields": {state.Admin, true, false, func(ctx context.Context, g *gym, a control.Actor) error {
			return drop(g.ChangeFields(ctx, a, "1", map[string]*string{"validationtoken": new(g.name())}))
		}},
		"CreateLink": {state.Admin, false, false, func(ctx context.Context, g *gym, a control.Actor) error {
			return drop(g.CreateLink(ctx, a, control.NewLink{Role: state.Viewer}))
		}},
		"Sessions": {state.Admin, false, false, func(ctx context.Context, g *gym, a control.Actor) error { return drop(g.Sessions(ctx, a)) }},
		"EndSession": {state.Admin, true, false, func(ctx context.Context, g *gym, a control.Actor) error {
			s, _, err := g.Store.BeginSession(ctx, state.Token{Name: g.name(), Role: state.Viewer, Tenant: "1"})
			if err != nil {
				return err
			}
			return g.EndSession(ctx, a, s.ID)
		}},
		"RevokeToken": {state.Admin, true, false, func(ctx context.Context, g *gym, a control.Actor) error {
			t, err := g.CreateToken(ctx, root, control.NewToken{Token: state.Token{Name: g.name(), Role: state.Viewer, Tenant: "1"}})
			if err != nil {
				return err
			}
			return g.RevokeToken(ctx, a, t.Name)
		}},
	}
}

// delivered is a new delivery to um of an event of tenant 1, which is kept; a made-up one without a state.
func (g *gym) delivered() state.Attempt {
	g.t.Helper()
	if g.Store == nil {
		return state.Attempt{ID: "x", WebhookID: "x"}
	}
	key := g.name()
	g.attempt("um", "1", key, time.Now())
	page, err := g.Deliveries(context.Background(), root, state.Filter{Key: key}, "", 1)
	if err != nil || len(page.Items) != 1 {
		g.t.Fatal(page, err)
	}
	return page.Items[0]
}

// parked parks a change and returns its position.
func (g *gym) parked() string {
	g.t.Helper()
	ctx := context.Background()
	source := queue.Source{SystemID: "7300000000000000001", Database: "academia", Slot: "gancho", Timeline: 1, ConfirmedFlush: 0x1000}
	if _, err := g.Queue.Claim(ctx, source, false); err != nil {
		g.t.Fatal(err)
	}
	batch, p := g.Queue.NewBatch(), mapping.Parked{Position: cdc.Position{Commit: cdc.LSN(0x2000 + g.made.Add(1))}, Op: cdc.Insert, Time: time.Now()}
	id, err := queue.NewID(1, p.Position, p.N)
	if err == nil {
		err = batch.Park(&p)
	}
	if err == nil {
		err = g.Queue.Append(ctx, batch)
	}
	if err != nil {
		g.t.Fatal(err)
	}
	return id.String()
}

// backfill is one that has not ended, and there is one at a time.
func (g *gym) backfill() int64 {
	g.t.Helper()
	if g.Store == nil {
		return 1
	}
	ctx := context.Background()
	jobs, err := g.Store.Jobs(ctx, "", 0, 100)
	if err != nil {
		g.t.Fatal(err)
	}
	for _, j := range jobs {
		if j.Kind == state.Backfill && j.State != state.Canceled {
			if _, err := g.CancelJob(ctx, root, j.ID); err != nil {
				g.t.Fatal(err)
			}
		}
	}
	j, err := g.CreateBackfill(ctx, root, state.Job{Filter: state.Filter{Table: "cobrancas"}})
	if err != nil {
		g.t.Fatal(err)
	}
	return j.ID
}

// job is one that tenant 1's token has made.
func (g *gym) job() int64 {
	g.t.Helper()
	a := control.Actor{Name: "token:um", Role: state.Operator, Tenant: "1"}
	j, err := g.CreateResend(context.Background(), a, state.Job{Endpoint: "um", Filter: state.Filter{Key: "7"}})
	if err != nil {
		g.t.Fatal(err)
	}
	return j.ID
}

// TestEveryMethodHasAnOperation: a method that is added has to be tried, too.
func TestEveryMethodHasAnOperation(t *testing.T) {
	t.Parallel()
	all := operations()
	service := reflect.TypeFor[*control.Service]()
	for i := range service.NumMethod() {
		name := service.Method(i).Name
		if promoted := reflect.ValueOf(&control.Options{}).MethodByName(name); promoted.IsValid() {
			continue
		}
		if _, ok := all[name]; !ok {
			t.Errorf("no test calls %s", name)
		}
	}
}

// TestAccess calls every method with every role, for no tenant, the owner's and
// another's.
func TestAccess(t *testing.T) {
	t.Parallel()
	g := newGym(t)
	ctx := context.Background()
	for name, op := range operations() {
		for _, role := range []state.Role{"", state.Viewer, state.Operator, state.Admin, "root"} {
			for _, tenant := range []string{"", "1", "2"} {
				a := control.Actor{Name: "token:teste", Role: role, Tenant: tenant}
				if _, err := g.Activate(ctx, root, "um"); err != nil { // the last one may have switched it off
					t.Fatal(err)
				}
				err := op.call(ctx, g, a)
				var forbidden *control.ForbiddenError
				switch {
				case !role.Covers(op.needs):
					if !errors.As(err, &forbidden) || forbidden.Needs != op.needs {
						t.Errorf("%s by %q of tenant %q: %v, want that it needs %s", name, role, tenant, err, op.needs)
					}
				case op.hidden && tenant == "2", op.unscoped && tenant != "":
					if !errors.Is(err, state.ErrNotFound) {
						t.Errorf("%s by %q of tenant %q: %v, want not found", name, role, tenant, err)
					}
				case err != nil:
					t.Errorf("%s by %q of tenant %q: %v", name, role, tenant, err)
				}
			}
		}
	}
}

// TestTenantSeesItsOwn reads every list as each of two tenants.
func TestTenantSeesItsOwn(t *testing.T) {
	t.Parallel()
	g := newGym(t)
	ctx := context.Background()
	now := time.Now()
	for _, tenant := range []string{"1", "2", ""} {
		g.attempt("todos", tenant, "7", now)
		g.dead("todos", tenant)
		a := control.Actor{Name: "token:" + tenant, Role: state.Admin, Tenant: tenant}
		if _, err := g.CreateToken(ctx, a, control.NewToken{Token: state.Token{Name: "chave" + tenant, Role: state.Viewer}}); err != nil {
			t.Fatal(err)
		}
		endpoint := map[string]string{"1": "um", "2": "dois", "": "todos"}[tenant]
		if _, err := g.CreateResend(ctx, a, state.Job{Endpoint: endpoint, Filter: state.Filter{Key: "7"}}); err != nil {
			t.Fatal(err)
		}
	}
	one := control.Actor{Name: "token:1", Role: state.Admin, Tenant: "1"}
	endpoints, err := g.Endpoints(ctx, one, "", 0)
	if err != nil {
		t.Fatal(err)
	}
	var names []string
	for _, e := range endpoints.Items {
		names = append(names, e.Name)
	}
	if diff := cmp.Diff([]string{"arquivo-um", "um"}, names); diff != "" {
		t.Errorf("endpoints (-want +got):\n%s", diff)
	}
	deliveries, err := g.Deliveries(ctx, one, state.Filter{}, "", 0)
	if err != nil || len(deliveries.Items) != 1 || deliveries.Items[0].Tenant != "1" {
		t.Errorf("deliveries %+v, %v", deliveries, err)
	}
	dead, err := g.DeadLetters(ctx, one, state.Filter{}, "", 0)
	if err != nil || len(dead.Items) != 1 || dead.Items[0].Tenant != "1" {
		t.Errorf("dead letters %+v, %v", dead, err)
	}
	jobs, err := g.Jobs(ctx, one, "", 0)
	if err != nil || len(jobs.Items) != 1 || jobs.Items[0].Endpoint != "um" || jobs.Items[0].Total != 1 {
		t.Errorf("jobs %+v, %v", jobs, err)
	}
	tokens, err := g.Tokens(ctx, one)
	if err != nil || len(tokens) != 1 || tokens[0].Name != "chave1" {
		t.Errorf("tokens %+v, %v", tokens, err)
	}
	changes, err := g.Audit(ctx, one, state.AuditFilter{}, "", 0)
	if err != nil || len(changes.Items) == 0 {
		t.Errorf("audit %+v, %v", changes, err)
	}
	for _, c := range changes.Items {
		if c.Tenant != "1" {
			t.Errorf("the audit log shows %+v", c)
		}
	}
	status, err := g.Status(ctx, one)
	if err != nil || len(status.Endpoints) != 2 || status.Slot != nil || len(status.Orphans) > 0 || len(status.Jobs) != 1 || len(status.Errors) > 0 {
		t.Errorf("status %+v, %v", status, err)
	}
	if whole, err := g.Status(ctx, root); err != nil || len(whole.Endpoints) != 5 || whole.Slot == nil || len(whole.Jobs) != 3 {
		t.Errorf("the whole status %+v, %v", whole, err)
	}
	// A filter for another tenant is no way around.
	other := "2"
	for name, err := range map[string]error{
		"deliveries":   second(g.Deliveries(ctx, one, state.Filter{Tenant: &other}, "", 0)),
		"dead letters": second(g.DeadLetters(ctx, one, state.Filter{Tenant: &other}, "", 0)),
		"drop":         second(g.DropDead(ctx, one, state.Filter{Tenant: &other}, false)),
		"redrive":      second(g.CreateRedrive(ctx, one, state.Job{Filter: state.Filter{Tenant: &other}}, false)),
		"resend":       second(g.CreateResend(ctx, one, state.Job{Endpoint: "um", Filter: state.Filter{Tenant: &other}})),
	} {
		if !errors.Is(err, state.ErrNotFound) {
			t.Errorf("%s of another tenant: %v, want not found", name, err)
		}
	}
	if n, err := g.CountDead(ctx, root, state.Filter{}); err != nil || n != 3 {
		t.Errorf("%d dead letters are left (%v), want all 3", n, err)
	}
}

func second[T any](_ T, err error) error { return err }

// TestTenantCannotReachInside: what opens the operator's network is not a
// tenant's to set, nor to point elsewhere once the operator has set it.
func TestTenantCannotReachInside(t *testing.T) {
	t.Parallel()
	g := newGym(t)
	ctx := context.Background()
	one := control.Actor{Name: "token:1", Role: state.Admin, Tenant: "1"}
	for _, document := range []string{
		`{"url": "https://example.com", "allow_private": ["10.0.0.0/8"]}`,
		`{"url": "http://example.com", "allow_http": true}`,
		`{"url": "https://example.com", "proxy": "http://proxy.example.com:3128"}`,
		`{"url": "https://example.com", "tenants": ["2"]}`,
		`{"url": "https://example.com", "tenants": ["1", "2"]}`,
	} {
		var invalid *control.InvalidError
		if _, err := g.AddEndpoint(ctx, one, control.NewEndpoint{Name: g.name(), Document: []byte(document)}); !errors.As(err, &invalid) {
			t.Errorf("%s: %v, want a refusal", document, err)
		}
	}
	made, err := g.AddEndpoint(ctx, one, control.NewEndpoint{Name: "meu", Document: []byte(`{"url": "https://example.com"}`)})
	if err != nil {
		t.Fatal(err)
	}
	stored, err := g.Store.Endpoint(ctx, "meu")
	if err != nil || !cmp.Equal(stored.Tenants, []string{"1"}) || made.Endpoint.Name != "meu" {
		t.Errorf("tenants %v, %v", stored.Tenants, err)
	}
	for patch, refused := range map[string]bool{
		`{"url": "http://127.0.0.1:6379/"}`:                true, // the operator's allow_private was for another
		`{"allow_private": ["127.0.0.0/8", "10.0.0.0/8"]}`: true,
		`{"tenants": null}`:                                false, // they are what they were
		`{"tenants": ["2"]}`:                               true,
		`{"rate": "3/s"}`:                                  false,
		`{"proxy": "http://proxy.example.com:3128"}`:       true,
		`{"allow_private": null, "allow_http": null, "url": "https://example.com"}`:                             true,
		`{"auth": {"oauth2": {"token_url": "http://127.0.0.1:6379/", "client_id": "a", "client_secret": "b"}}}`: true,
	} {
		var invalid *control.InvalidError
		_, err := g.EditEndpoint(ctx, one, "um", control.Edit{Patch: []byte(patch)})
		if errors.As(err, &invalid) != refused || !refused && err != nil {
			t.Errorf("%s: %v, refused should be %v", patch, err, refused)
		}
	}
	if e, err := g.Store.Endpoint(ctx, "um"); err != nil || !cmp.Equal(e.Tenants, []string{"1"}) {
		t.Errorf("the endpoint's tenants are %v, %v", e.Tenants, err)
	}
}

// TestForgetOfATenant: what an operator's forget leaves in the tenant's audit log is the
// receipt of a tenant.
func TestForgetOfATenant(t *testing.T) {
	t.Parallel()
	g := newGym(t)
	ctx := context.Background()
	tenant := "1"
	receipt, err := g.Forget(ctx, root, control.ForgetRequest{Tenant: &tenant, Key: "ninguém"})
	if err != nil || !strings.Contains(strings.Join(receipt.Left, " "), "BGREWRITEAOF") || !strings.Contains(strings.Join(receipt.Left, " "), "state.keep_changes") {
		t.Fatalf("the operator's receipt: %+v, %v", receipt, err)
	}
	one := control.Actor{Name: "token:um", Role: state.Viewer, Tenant: tenant}
	log, err := g.Audit(ctx, one, state.AuditFilter{Action: "forget"}, "", 0)
	if err != nil || len(log.Items) != 1 {
		t.Fatalf("%d entries, %v", len(log.Items), err)
	}
	if after := string(log.Items[0].After); !strings.Contains(after, "ask the operator") || strings.Contains(after, "BGREWRITEAOF") {
		t.Errorf("the tenant reads %s", after)
	}
}

// TestForgetReads: a tenant's forget reads the queues that can have its events, the
// operator's all; what runs or names the key is in the receipt, and a repeated one has the
// receivers of the first.
func TestForgetReads(t *testing.T) {
	t.Parallel()
	g := newGym(t)
	ctx := context.Background()
	tenant, key := "1", "4711"
	one := control.Actor{Name: "token:um", Role: state.Admin, Tenant: tenant}
	m := webhook.Message{ID: "e", Type: "cobranca.paga", Tenant: tenant, Key: key, Time: time.Now(), Data: []byte("1")}
	// dois was the tenant's when it got this, removido was removed.
	if err := g.Queue.Announce(ctx, []string{"um", "todos", "dois", "arquivo", "removido"}, m); err != nil {
		t.Fatal(err)
	}
	g.attempt("todos", tenant, key, time.Now())
	forget := func(a control.Actor, dry bool) control.Receipt {
		t.Helper()
		receipt, err := g.Forget(ctx, a, control.ForgetRequest{Tenant: &tenant, Key: key, DryRun: dry})
		if err != nil {
			t.Fatal(err)
		}
		return receipt
	}
	if r := forget(root, true); r.Erased.Queue.Resends != 5 {
		t.Errorf("the operator counts %+v", r.Erased)
	}
	job, err := g.Store.CreateJob(ctx, "cli:teste", state.Job{Kind: state.Resend, Endpoint: "todos", Filter: state.Filter{Tenant: &tenant, Key: key}})
	if err != nil {
		t.Fatal(err)
	}
	r := forget(one, false)
	if r.Erased.Queue.Resends != 4 || !cmp.Equal(r.Receivers, []string{"todos"}) {
		t.Errorf("the tenant's %+v", r)
	}
	for _, part := range []string{"resends or redrives that have not ended", "1 of them name the key", "has other tenants now"} {
		if left := strings.Join(r.Left, "\n"); !strings.Contains(left, part) {
			t.Errorf("the receipt of the tenant, of an operator's job, lacks %q:\n%s", part, left)
		}
	}
	if _, err := g.Store.CancelJob(ctx, "cli:teste", job.ID, ""); err != nil {
		t.Fatal(err)
	}
	r = forget(root, false)
	if r.Erased.Queue.Resends != 1 || r.Erased.Database.Attempts != 0 || r.Erased.Database.Mentions == 0 || !cmp.Equal(r.Receivers, []string{"todos"}) {
		t.Errorf("the operator's %+v", r)
	}
	if left := strings.Join(r.Left, "\n"); strings.Contains(left, "resends or redrives") || !strings.Contains(left, "receivers have what they were sent") {
		t.Errorf("the second receipt:\n%s", left)
	}
	if r := forget(root, true); r.Erased.Total() != 0 {
		t.Errorf("%+v are left", r.Erased)
	}
}

// TestSharedEndpoint: of an endpoint that all tenants share, one sees that its own events
// went there and how they ended, and changes nothing.
func TestSharedEndpoint(t *testing.T) {
	t.Parallel()
	g := newGym(t)
	ctx := context.Background()
	one := control.Actor{Name: "token:1", Role: state.Admin, Tenant: "1"}
	const marked = "post to https://inside.example.com: 10.9.8.7 said so"
	now := time.Now()
	fail := func(endpoint, tenant, class string) int64 {
		t.Helper()
		failures := queue.Failures{First: now, Last: now, Status: 500, Class: class, Error: marked, Answer: marked}
		id := g.name()
		d := state.DeadLetter{Endpoint: endpoint, DeadEvent: queue.DeadEvent{
			Handle: id, Reason: "refused", Attempts: 1, Failures: failures, Message: webhook.Message{ID: id, Type: "e", Tenant: tenant, Time: now},
		}}
		a := state.Attempt{Time: now, Endpoint: endpoint, Entry: id, WebhookID: id, Event: "e", Tenant: tenant, Committed: now, Number: 1, Outcome: "dead", Class: class, Status: 500, Error: marked}
		if err := errors.Join(g.Store.WriteDead(ctx, []state.DeadLetter{d}), g.Store.WriteAttempts(ctx, []state.Attempt{a})); err != nil {
			t.Fatal(err)
		}
		found, err := g.Store.DeadLetters(ctx, state.Filter{Webhooks: []string{id}}, 0, 1)
		if err != nil || len(found) != 1 {
			t.Fatal(found, err)
		}
		return found[0].ID
	}
	shared, own, dns := fail("todos", "1", webhook.ClassStatus), fail("um", "1", webhook.ClassStatus), fail("um", "1", webhook.ClassDNS)
	fail("um", "2", webhook.ClassStatus) // from when it had other tenants
	want := map[int64]string{shared: "", own: marked, dns: "the host of the url cannot be resolved"}

	list, err := g.DeadLetters(ctx, one, state.Filter{}, "", 0)
	if err != nil || len(list.Items) != len(want) {
		t.Fatal(list, err)
	}
	for _, d := range list.Items {
		if d.Error != want[d.ID] || d.Status != 500 {
			t.Errorf("the list shows %+v", d)
		}
	}
	for id, text := range want {
		d, err := g.DeadLetter(ctx, one, id)
		if err != nil || d.Error != text || (d.Answer == "") != (id == shared) || d.Reason != "refused" {
			t.Errorf("dead letter %d is shown as %+v, %v", id, d, err)
		}
	}
	log, err := g.Deliveries(ctx, one, state.Filter{}, "", 0)
	if err != nil || len(log.Items) != len(want) {
		t.Fatal(log, err)
	}
	for _, a := range log.Items {
		if (a.Endpoint == "todos") != (a.Error == "") || a.Outcome != "dead" || a.Status != 500 {
			t.Errorf("the log shows %+v", a)
		}
	}
	if d, err := g.DeadLetter(ctx, root, shared); err != nil || d.Error != marked || d.Answer != marked {
		t.Errorf("the operator sees %+v, %v", d, err)
	}
	if e, err := g.Endpoint(ctx, one, "um"); err != nil || e.Live.Dead != 2 {
		t.Errorf("um is shown as %+v, %v: want its own 2 dead letters", e.Live, err)
	}
	// The rest is the operator's to do.
	for name, filter := range map[string]state.Filter{"by id": {IDs: []int64{shared}}, "by endpoint": {Endpoint: "todos"}} {
		if n, err := g.DropDead(ctx, one, filter, false); err != nil || n != 0 {
			t.Errorf("%s %d were dropped, %v", name, n, err)
		}
	}
	if jobs, err := g.CreateRedrive(ctx, one, state.Job{Filter: state.Filter{IDs: []int64{shared}}}, false); err != nil || len(jobs) != 0 {
		t.Errorf("a redrive: %+v, %v", jobs, err)
	}
	if n, err := g.DropDead(ctx, one, state.Filter{}, true); err != nil || n != 2 {
		t.Errorf("%d of its own were dropped, %v, want 2", n, err)
	}
	if n, err := g.CountDead(ctx, root, state.Filter{}); err != nil || n != 2 {
		t.Errorf("%d dead letters are left, %v, want those of todos and of tenant 2", n, err)
	}
	nobody := control.Actor{Name: "token:9", Role: state.Admin, Tenant: "9"}
	fail("todos", "9", webhook.ClassStatus)
	if n, err := g.DropDead(ctx, nobody, state.Filter{}, true); err != nil || n != 0 {
		t.Errorf("a tenant without endpoints dropped %d, %v", n, err)
	}
}

// TestTenantCannotSteerSecrets: a tenant's administrator changes an endpoint, and what
// the operator has hidden there goes nowhere else by it.
func TestTenantCannotSteerSecrets(t *testing.T) {
	t.Parallel()
	g := newGym(t)
	ctx := context.Background()
	one := control.Actor{Name: "token:1", Role: state.Admin, Tenant: "1"}
	const document = `{"url": "https://crm.example.com/hooks/path?token=query", "tenants": ["1"], "headers": {"X-Key": "segredo"}, "extra": {"token": "segredo"}}`
	made, err := g.AddEndpoint(ctx, root, control.NewEndpoint{Name: "meu", Document: []byte(document)})
	if err != nil {
		t.Fatal(err)
	}
	before, err := g.Store.Endpoint(ctx, "meu")
	if err != nil {
		t.Fatal(err)
	}
	for _, patch := range []string{
		`{"url": "https://evil.example.com/hooks/a"}`, `{"url": "https://crm.example.com/another/customer"}`, `{"url": "https://crm.example.com/hooks/***?token=***&to=evil"}`,
		`{"url": "https://crm.example.com:8443/hooks/***?token=***"}`, `{"success": {"body": "segredo|a"}}`, `{"style": "superlogica"}`, `{"proxy": "http://evil.example.com:3128"}`,
	} {
		var invalid *control.InvalidError
		if _, err := g.EditEndpoint(ctx, one, "meu", control.Edit{Patch: []byte(patch)}); !errors.As(err, &invalid) {
			t.Errorf("%s: %v, want a refusal", patch, err)
		}
	}
	if after, err := g.Store.Endpoint(ctx, "meu"); err != nil || string(after.Document) != string(before.Document) {
		t.Errorf("the settings are %s, %v", after.Document, err)
	}
	// A copy of what is shown has no secret.
	var invalid *control.InvalidError
	if _, err := g.AddEndpoint(ctx, one, control.NewEndpoint{Name: "copia", Document: made.Endpoint.Settings}); !errors.As(err, &invalid) || len(invalid.Problems) != 3 {
		t.Errorf("a copy: %v, want that it lacks three values", err)
	}
	// What it was shown, sent back, is no change; and it may give values of its own.
	if _, err := g.EditEndpoint(ctx, one, "meu", control.Edit{Patch: made.Endpoint.Settings}); err != nil {
		t.Error(err)
	}
	own := `{"url": "https://evil.example.com/hooks", "headers": null, "extra": {"token": "meu"}}`
	if _, err := g.EditEndpoint(ctx, one, "meu", control.Edit{Patch: []byte(own)}); err != nil {
		t.Error(err)
	}
}

// TestTokensOfATenant: they make tokens of their own tenant only.
func TestTokensOfATenant(t *testing.T) {
	t.Parallel()
	g := newGym(t)
	ctx := context.Background()
	one := control.Actor{Name: "token:1", Role: state.Admin, Tenant: "1"}
	var invalid *control.InvalidError
	if _, err := g.CreateToken(ctx, one, control.NewToken{Token: state.Token{Name: "outro", Role: state.Viewer, Tenant: "2"}}); !errors.As(err, &invalid) {
		t.Errorf("a token of tenant 2: %v, want a refusal", err)
	}
	made, err := g.CreateToken(ctx, one, control.NewToken{Token: state.Token{Name: "meu", Role: state.Viewer}})
	if err != nil || made.Tenant != "1" {
		t.Fatalf("%+v, %v", made, err)
	}
	if token, err := g.Store.Authenticate(ctx, made.Text); err != nil || token.Tenant != "1" || token.Role != state.Viewer {
		t.Errorf("%+v, %v", token, err)
	}
	for _, n := range []state.Token{{Role: state.Viewer}, {Name: "Com Espaço", Role: state.Viewer}, {Name: "x", Role: "root"},
		{Name: "x", Role: state.Viewer, Expires: time.Now().Add(-time.Hour)}} {
		if _, err := g.CreateToken(ctx, root, control.NewToken{Token: n}); !errors.As(err, &invalid) {
			t.Errorf("%+v: %v, want a refusal", n, err)
		}
	}
	if _, err := g.CreateToken(ctx, root, control.NewToken{Token: state.Token{Name: "meu", Role: state.Viewer}}); !errors.Is(err, state.ErrConflict) {
		t.Errorf("a second token of the name: %v, want a conflict", err)
	}
}

// TestNoState: without a state the file's endpoints are all there is.
func TestNoState(t *testing.T) {
	t.Parallel()
	g := newGym(t)
	o := g.Options
	o.Store = nil
	g.Service = control.New(o)
	ctx := context.Background()
	page, err := g.Endpoints(ctx, root, "", 0)
	if err != nil || len(page.Items) != 2 {
		t.Errorf("endpoints %+v, %v", page, err)
	}
	if x, err := g.Test(ctx, root, "arquivo"); err != nil || x.Outcome != "delivered" {
		t.Errorf("test %+v, %v", x, err)
	}
	if _, err := g.Activate(ctx, root, "arquivo"); err != nil {
		t.Error(err)
	}
	if _, err := g.Endpoint(ctx, root, "um"); !errors.Is(err, state.ErrNotFound) {
		t.Errorf("a stored endpoint: %v", err)
	}
	for name, op := range operations() {
		switch name {
		case "Endpoints", "Endpoint", "Settings", "Activate", "Pause", "Deactivate", "Test", "Parked", "ParkedGroups", "ParkedChange", "CountParked", "DropParked", "Forget", "Gaps", "SourcesNow", "Prove", "Of", "Installation", "EventTypes", "Status", "Doctor", "Remove", "DeadLetter", "DropDead", "Job", "CancelJob", "RevokeToken", "EndSession":
			continue // they need nothing of it, or something that only a store can have
		case "SourceStatus", "EventContract", "Rules", "RuleFile", "RecentChanges":
			continue
		}
		if err := op.call(ctx, g, root); !errors.Is(err, control.ErrNoState) {
			t.Errorf("%s: %v, want that there is no state", name, err)
		}
	}
}

// TestSealed: an endpoint whose key is lost is told of only to whom it is known.
func TestSealed(t *testing.T) {
	t.Parallel()
	g := newGym(t)
	ctx := context.Background()
	keys, err := state.ParseKeys("k2:MTIzNDU2Nzg5MDEyMzQ1Njc4OTAxMjM0NTY3ODkwMTI=")
	if err != nil {
		t.Fatal(err)
	}
	store, err := state.Open(ctx, state.Options{DSN: g.dsn, Keyring: keys})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(store.Close)
	o := g.Options
	o.Store = store
	s := control.New(o)
	var sealed *state.KeyError
	for tenant, hidden := range map[string]bool{"": false, "1": false, "2": true} {
		_, err := s.Endpoint(ctx, control.Actor{Name: "token:x", Role: state.Admin, Tenant: tenant}, "um")
		if errors.Is(err, state.ErrNotFound) != hidden || errors.As(err, &sealed) == hidden {
			t.Errorf("tenant %q: %v", tenant, err)
		}
	}
}
