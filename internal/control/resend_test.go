package control_test

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/jackc/pgx/v5"
	"github.com/rs/zerolog"

	"gancho/delivery/queue"
	"gancho/delivery/webhook"
	"gancho/internal/control"
	"gancho/internal/state"
	"gancho/internal/testservers"
	"gancho/mapping"
)

// exec executes a statement in the state database.
func (g *gym) exec(sql string) {
	g.t.Helper()
	conn, err := pgx.Connect(context.Background(), g.dsn)
	if err != nil {
		g.t.Fatal(err)
	}
	defer func() { _ = conn.Close(context.Background()) }()
	if _, err := conn.Exec(context.Background(), sql); err != nil {
		g.t.Fatal(err)
	}
}

// TestResendDeliveries: an endpoint that cannot get its events again does not keep others from it; one that is named is refused.
func TestResendDeliveries(t *testing.T) {
	t.Parallel()
	g := newGym(t)
	ctx := context.Background()
	for _, name := range []string{"um", "dois", "todos"} {
		g.attempt(name, map[string]string{"um": "1", "dois": "2", "todos": "1"}[name], "7", time.Now())
	}
	if _, err := g.Deactivate(ctx, root, "dois"); err != nil {
		t.Fatal(err)
	}
	g.exec(`update gancho.endpoints set sealed = '\x00' where name = 'um'`) // as after a key that was lost
	for _, dry := range []bool{true, false} {
		got, err := g.ResendDeliveries(ctx, root, state.Job{Filter: state.Filter{Outcome: "delivered"}, DryRun: dry})
		if err != nil || got.Total != 1 || got.Unsent != 2 || len(got.Jobs) != 1 || got.Jobs[0].Endpoint != "todos" {
			t.Errorf("dry run %v: %+v, %v", dry, got, err)
		}
	}
	_, err := g.ResendDeliveries(ctx, root, state.Job{Filter: state.Filter{Outcome: "delivered"}, Endpoint: "dois"})
	if invalid := new(control.InvalidError); !errors.As(err, &invalid) || invalid.Problems[0].Pointer != "/endpoint" {
		t.Errorf("to an inactive endpoint: %v", err)
	}
}

// TestReplayLeavesOut: a dry run leaves out what the replay itself does, and a tenant reads nothing of keys.
func TestReplayLeavesOut(t *testing.T) {
	t.Parallel()
	g := newGym(t)
	ctx := context.Background()
	g.attempt("um", "1", "7", time.Now())
	g.attempt("dois", "2", "7", time.Now())
	for i := range 3 {
		m := webhook.Message{ID: fmt.Sprint("m-", i), Type: "gancho.teste", Time: time.Now(), Data: []byte(`{}`)}
		if err := g.Queue.Announce(ctx, []string{"um"}, m); err != nil {
			t.Fatal(err)
		}
	}
	g.Quotas = control.Quotas{Tenant: control.Quota{Backlog: 2}}
	g.exec(`update gancho.endpoints set sealed = '\x00' where name = 'dois'`)
	hour := state.Filter{From: time.Now().Add(-time.Hour)}
	for _, dry := range []bool{true, false} {
		got, err := g.CreateReplay(ctx, root, state.Job{Filter: hour, DryRun: dry})
		if err != nil {
			t.Fatal(err)
		}
		var to, left []string
		for _, j := range got.Jobs {
			to = append(to, j.Endpoint)
		}
		for _, l := range got.LeftOut {
			why, _, _ := strings.Cut(l.Reason, ":")
			left = append(left, l.Endpoint+" "+why)
		}
		over := ` the tenant "1" has 3 queued events, and the quota is 2; let the backlog be delivered`
		want := []string{"arquivo-um" + over, `dois decrypt the settings of endpoint "dois"`, "um" + over}
		if !cmp.Equal(to, []string{"arquivo", "todos"}) || !cmp.Equal(left, want) {
			t.Errorf("dry run %v: to %q\n%s", dry, to, cmp.Diff(want, left))
		}
	}
	two := control.Actor{Name: "token:2", Role: state.Operator, Tenant: "2"}
	_, left, err := g.ReplayTo(ctx, two, state.Job{Filter: hour})
	if err == nil || len(left) != 1 || left[0].Endpoint != "dois" || left[0].Reason != "its settings cannot be decrypted; ask the operator of Gancho" {
		t.Errorf("tenant 2: %+v, %v", left, err)
	}
	other := "1"
	if _, left, err := g.ReplayTo(ctx, two, state.Job{Filter: state.Filter{From: hour.From, Tenant: &other}}); !errors.Is(err, state.ErrNotFound) || len(left) > 0 {
		t.Errorf("events of another tenant: %+v, %v", left, err)
	}
}

// TestWhyParkedTimer: of a timer that is parked it is told why, to a tenant only that it is; what changes the row later does not hide it.
func TestWhyParkedTimer(t *testing.T) {
	t.Parallel()
	g := newGym(t)
	var id queue.ID
	g.Verdicts = func(q control.WhyQuestion) (control.WhyView, error) {
		rule := func(outcome string) []control.WhyRule {
			return []control.WhyRule{{Rule: "r.yaml:3", Event: "vencido", Outcome: outcome, WebhookID: id.WebhookID("0123abcd")}}
		}
		return control.WhyView{Table: q.Table, Key: q.Key, Changes: []control.WhyChange{{Op: "insert", Rules: rule(control.WhyTimerSet)}, {Op: "update", Rules: rule(control.WhyTimerCanceled)}}}, nil
	}
	g.RowTimers = func(context.Context, control.WhyQuestion) ([]queue.PendingTimer, error) {
		return []queue.PendingTimer{{ID: id, Rule: "public.cobrancas 0 vencido", Reason: "division by zero"}}, nil
	}
	for tenant, reason := range map[string]string{"": "division by zero", "1": ""} {
		v, err := g.Why(t.Context(), control.Actor{Name: "token:t", Role: state.Viewer, Tenant: tenant}, control.WhyQuestion{Table: "cobrancas", Key: "7"})
		if err != nil {
			t.Fatal(err)
		}
		if r := v.Changes[0].Rules[0]; !r.TimerParked || r.Parked != reason || !r.CanceledBy.IsZero() || !r.Due.IsZero() {
			t.Errorf("tenant %q: %+v", tenant, r)
		}
	}
}

// TestWhyWithoutRedis: what became of changes is told without what only Redis knows, and that is said.
func TestWhyWithoutRedis(t *testing.T) {
	t.Parallel()
	g := newGym(t)
	ctx := context.Background()
	redis, err := testservers.StartRedis(testservers.RedisOptions{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(redis.Close)
	q, err := queue.Open(ctx, queue.Options{URL: redis.URL(), Logger: zerolog.Nop()})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = q.Close() })
	g.Queue = q
	g.Verdicts = func(q control.WhyQuestion) (control.WhyView, error) {
		v, err := verdicts(q)
		v.Changes[0].Rules = append(v.Changes[0].Rules, control.WhyRule{Outcome: control.WhyTimerSet, WebhookID: "timer-1"})
		return v, err
	}
	g.RowTimers = func(ctx context.Context, _ control.WhyQuestion) ([]queue.PendingTimer, error) {
		_, err := q.Timers(ctx)
		return nil, err
	}
	question := control.WhyQuestion{Table: "cobrancas", Key: "7"}
	if v, err := g.Why(ctx, root, question); err != nil || v.QueueUnread {
		t.Errorf("with redis: %+v, %v", v, err)
	}
	redis.Close()
	v, err := g.Why(ctx, root, question)
	if err != nil || !v.QueueUnread || len(v.Changes) != 1 || v.Changes[0].Rules[2].Unparked {
		t.Errorf("without redis: %+v, %v", v, err)
	}
}

// TestRulesWithoutState: rules are listed, and of their schedules it is said that nothing is known.
func TestRulesWithoutState(t *testing.T) {
	t.Parallel()
	g := newGym(t)
	g.Catalogue = func() []mapping.EventType {
		return []mapping.EventType{{Name: "cliente.ausente", Rules: []mapping.EventRule{{Place: "rules/a.yaml:3", Schedule: "daily 08:00"}}}}
	}
	rules, err := g.Rules(context.Background(), root)
	if err != nil || len(rules) != 1 || rules[0].Schedule == nil || rules[0].Schedule.Trouble() != "" {
		t.Fatalf("%+v, %v", rules, err)
	}
	g.exec("alter table gancho.schedules rename to renamed")
	rules, err = g.Rules(context.Background(), root)
	if err != nil || len(rules) != 1 || rules[0].Schedule == nil || rules[0].Schedule.Unread == "" {
		t.Fatalf("without the table: %+v, %v", rules, err)
	}
	if got := rules[0].Schedule.Trouble(); !strings.HasPrefix(got, "when it ran and runs is not known: ") {
		t.Errorf("its trouble is %q", got)
	}
}

// TestSupersededAreNotSentAgain: what was left out on purpose is neither missing nor sent again, unless somebody asks for
// it, and is no attempt in what is said of the endpoint.
func TestSupersededAreNotSentAgain(t *testing.T) {
	t.Parallel()
	g := newGym(t)
	ctx := context.Background()
	const older, newer = "7", "8"
	for _, key := range []string{older, newer} {
		g.attempt("todos", "1", key, time.Now())
	}
	g.exec(`update gancho.attempts set outcome = 'superseded', number = 0, status = 0, class = '' where key = '` + older + `'`)
	total := func(f state.Filter) int64 {
		t.Helper()
		got, err := g.ResendDeliveries(ctx, root, state.Job{Filter: f, DryRun: true})
		if err != nil || got.Unsent != 0 {
			t.Fatal(got, err)
		}
		return got.Total
	}
	hour := state.Filter{From: time.Now().Add(-time.Hour)}
	asked := hour
	asked.Outcome = queue.OutcomeSuperseded
	if n, named := total(hour), total(asked); n != 1 || named != 1 {
		t.Errorf("%d of the span are sent again, and %d of that outcome, want 1 of each", n, named)
	}
	jobs, err := g.ResendMissing(ctx, root, state.Job{Endpoint: "todos", Filter: hour, DryRun: true}, func(string) bool { return false })
	if err != nil || len(jobs) != 1 || jobs[0].Total != 1 {
		t.Errorf("missing: %+v, %v; want the newer event", jobs, err)
	}
	sum, _, err := g.Store.Intervals(ctx, hour.From, time.Now().Add(time.Hour), time.Hour, "todos", "")
	if err != nil || sum.Delivered != 1 || sum.Failed != 0 {
		t.Errorf("rates: %+v, %v", sum, err)
	}
	recent, err := g.Store.Recent(ctx, hour.From, "", nil)
	if err != nil || recent["todos"].Delivered != 1 || recent["todos"].Failed != 0 || recent["todos"].Outcome != "delivered" {
		t.Errorf("recent: %+v, %v", recent, err)
	}
	lately, err := g.Store.Lately(ctx, []string{"todos"}, hour.From, "")
	if err != nil || lately["todos"].Attempts != 1 || lately["todos"].Delivered != 1 {
		t.Errorf("lately: %+v, %v", lately, err)
	}
	last, err := g.Store.LastAttempts(ctx, []string{"todos"})
	if err != nil || last["todos"].Outcome != "delivered" {
		t.Errorf("last attempts: %+v, %v", last, err)
	}
}
