package control_test

import (
	"context"
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"gancho/internal/control"
	"gancho/internal/state"
	"gancho/mapping"
)

const parkedID = "01234567-001-0000000000001000-000000000000-0000"

// verdicts are those of a row that made an event, and did not by another rule, and was parked
// by a third.
func verdicts(q control.WhyQuestion) (control.WhyView, error) {
	return control.WhyView{Table: q.Table, Key: q.Key, Changes: []control.WhyChange{{Op: "update", Rules: []control.WhyRule{
		{Event: "cobranca.paga", Outcome: control.WhyEvent, WebhookID: "why-" + q.Key, Endpoints: []control.WhyEndpoint{
			{Endpoint: "um", Tenants: []string{"1"}}, {Endpoint: "dois", Tenants: []string{"2"}, Refused: "tenant"}, {Endpoint: "todos"},
		}},
		{Event: "cobranca.aberta", Outcome: control.WhyFalse, Number: 1, Of: 2, Conjunct: "empresa_id <> 2"},
		{Event: "cobranca.nova", Outcome: control.WhyParked, WebhookID: parkedID},
	}}}}, nil
}

// TestWhy: a tenant is told of its own endpoints alone, and not what conditions say, nor what
// became of parked changes; and the log is joined to what is told.
func TestWhy(t *testing.T) {
	t.Parallel()
	g := newGym(t)
	ctx, now := context.Background(), time.Now().UTC().Truncate(time.Microsecond)
	var attempts []state.Attempt
	for _, name := range []string{"um", "todos"} {
		for i := range 2 {
			attempts = append(attempts, state.Attempt{
				Time: now.Add(time.Duration(i) * time.Second), Endpoint: name, Entry: name, WebhookID: "why-7", Event: "cobranca.paga", Tenant: "1", Key: "7", Committed: now, Number: i + 1, Outcome: "retry", Error: "the answer of " + name,
			})
		}
	}
	attempts = append(attempts, state.Attempt{Time: now, Endpoint: "um", Entry: "redriven", WebhookID: parkedID, Event: "cobranca.nova", Tenant: "1", Key: "7", Committed: now, Number: 1, Outcome: "delivered", Replay: true})
	if err := g.Store.WriteAttempts(ctx, attempts); err != nil {
		t.Fatal(err)
	}
	ask := func(tenant string) (shown []string, rules []control.WhyRule) {
		t.Helper()
		v, err := g.Why(ctx, control.Actor{Name: "token:t", Role: state.Viewer, Tenant: tenant}, control.WhyQuestion{Table: "cobrancas", Key: "7"})
		if err != nil {
			t.Fatal(err)
		}
		rules = v.Changes[0].Rules
		for _, e := range rules[0].Endpoints {
			line := e.Endpoint + " " + e.Refused
			for _, a := range e.Attempts {
				line += " " + a.Error
			}
			shown = append(shown, line)
		}
		return shown, rules
	}
	all, rules := ask("")
	if diff := cmp.Diff([]string{"um  the answer of um the answer of um", "dois tenant", "todos  the answer of todos the answer of todos"}, all); diff != "" {
		t.Errorf("the operator: -want +got\n%s", diff)
	}
	if rules[1].Conjunct == "" || !rules[2].Unparked || !rules[2].Redriven() {
		t.Errorf("the operator: %+v", rules)
	}
	// How the event ended at the operator's endpoint is the tenant's to know, as in the log.
	one, rules := ask("1")
	if diff := cmp.Diff([]string{"um  the answer of um the answer of um", "todos   "}, one); diff != "" {
		t.Errorf("tenant 1: -want +got\n%s", diff)
	}
	if rules[1].Conjunct != "" || rules[1].Number != 1 || rules[2].Unparked || rules[2].Parked != "" || !rules[2].Redriven() {
		t.Errorf("tenant 1: %+v", rules)
	}
	if two, rules := ask("2"); !cmp.Equal(two, []string{"dois tenant"}) || rules[2].Sent() {
		t.Errorf("tenant 2: %q, %+v", two, rules)
	}
	// The row as it is now: for operators of no tenant, and written down without its key.
	row := control.WhyQuestion{Table: "cobrancas", Key: "7", Row: true}
	var unread error
	g.JudgeRow = func(_ context.Context, q control.WhyQuestion) (*mapping.RowJudgement, error) {
		return &mapping.RowJudgement{Found: q.Key == "7"}, unread
	}
	forbidden, invalid := new(control.ForbiddenError), new(control.InvalidError)
	if _, err := g.Why(ctx, control.Actor{Name: "token:v", Role: state.Viewer}, row); !errors.As(err, &forbidden) || forbidden.Needs != state.Operator {
		t.Errorf("a viewer reads a row: %v", err)
	}
	if _, err := g.Why(ctx, control.Actor{Name: "token:1", Role: state.Admin, Tenant: "1"}, row); !errors.As(err, &invalid) {
		t.Errorf("a tenant reads a row: %v", err)
	}
	operator := control.Actor{Name: "token:o", Role: state.Operator}
	if v, err := g.Why(ctx, operator, row); err != nil || v.Row == nil || !v.Row.Found {
		t.Errorf("an operator reads a row: %+v, %v", v.Row, err)
	}
	unread = errors.New("the source does not answer")
	if v, err := g.Why(ctx, operator, row); err != nil || v.Row != nil || v.RowUnread != unread.Error() || len(v.Changes) == 0 {
		t.Errorf("a row that cannot be read: %+v, %v", v, err)
	}
	log, err := g.Audit(ctx, operator, state.AuditFilter{Action: "row.read"}, "", 0)
	if err != nil || len(log.Items) != 1 || log.Items[0].Actor != "token:o" || !strings.HasPrefix(log.Items[0].Object, "row/cobrancas/") || strings.HasSuffix(log.Items[0].Object, "/7") {
		t.Errorf("the audit log has %+v, %v", log.Items, err)
	}
	// A process that does not capture, and questions without a row.
	g.Verdicts = nil
	elsewhere := new(control.ElsewhereError)
	if _, err := g.Why(ctx, root, control.WhyQuestion{Table: "cobrancas", Key: "7"}); !errors.As(err, &elsewhere) {
		t.Errorf("elsewhere: %v", err)
	}
	if _, err := g.Why(ctx, root, control.WhyQuestion{}); !errors.As(err, &invalid) || len(invalid.Problems) != 2 {
		t.Errorf("no row: %v", err)
	}
}

// Of several sources it is told once of a schedule what is the same of all, and of each what is its own: also where the others have sent so much
// with the key since that no page has it.
func TestWhySchedulesOfSources(t *testing.T) {
	t.Parallel()
	g := newGym(t)
	house := g.several(func(source string, o *control.Options) {
		o.Verdicts = func(q control.WhyQuestion) (control.WhyView, error) {
			if source == "vazia" || q.Key == "nenhuma" {
				return control.WhyView{}, &control.InvalidError{Problems: []control.Problem{{Pointer: "/table", Message: "no rule is for the table"}}}
			}
			return control.WhyView{Table: q.Table, Key: q.Key, Rules: []control.WhyTableRule{}, Changes: []control.WhyChange{}, Schedules: []control.WhySchedule{
				{ScheduleView: control.ScheduleView{Rule: "r.yaml:3", Event: "cobranca.paga"}}, {ScheduleView: control.ScheduleView{Rule: "r.yaml:9", Event: "cobranca.nova"}},
			}}, nil
		}
		o.Catalogue = func() []mapping.EventType { return nil }
	}, "alfa", "beta", "vazia")
	ask := func(key string) ([]string, error) {
		v, err := house.Why(t.Context(), root, control.WhyQuestion{Table: "cobrancas", Key: key})
		if err == nil && !v.Queried() {
			t.Errorf("it is not said that queries alone read the table: %+v", v)
		}
		var out []string
		for _, w := range v.Schedules {
			text := w.Source + " " + w.Rule
			if w.Sent != nil {
				text += " " + w.Sent.Tenant
			}
			out = append(out, text)
		}
		return out, err
	}
	if got, err := ask("7"); err != nil || !cmp.Equal(got, []string{" r.yaml:3", " r.yaml:9"}) {
		t.Errorf("nothing was sent: %q, %v", got, err)
	}
	now := time.Now()
	g.attempt("todos", "alfa/1", "7", now.Add(-time.Hour))
	for i := range control.DefaultPage + 1 {
		g.attempt("todos", "gama/1", "7", now.Add(time.Duration(i)*time.Millisecond))
	}
	if got, err := ask("7"); err != nil || !cmp.Equal(got, []string{"alfa r.yaml:3 alfa/1", " r.yaml:9"}) {
		t.Errorf("one source has sent it: %q, %v", got, err)
	}
	if _, err := ask("nenhuma"); err == nil || !strings.Contains(err.Error(), "no rule is for the table") {
		t.Errorf("no source reads the table: %v", err)
	}
}
