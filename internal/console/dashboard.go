package console

import (
	"cmp"
	"html/template"
	"slices"
	"time"

	"gancho/delivery/endpoint"
	"gancho/delivery/webhook"
	"gancho/internal/control"
	"gancho/internal/language"
	"gancho/internal/state"
)

func dashboardScreen() screen {
	return screen{name: "dashboard", path: "", role: state.Viewer, routes: []route{
		{pattern: "GET /", handle: (*visit).showDashboard},
		{pattern: "GET /rates", handle: (*visit).showRates},
		{pattern: "POST /resume/{name}", role: state.Operator, handle: (*visit).resume},
		{pattern: "POST /ping/{name}", role: state.Operator, handle: (*visit).ping},
	}}
}

// dashboardPage is everything at a glance: what is wrong first.
type dashboardPage struct {
	Status    control.StatusView
	Problems  []trouble
	Steps     []step // of who has not received an event yet
	Hour      hour
	Endpoints []control.EndpointView // those with the most queued first
	Queued    int64
	Timers    *control.TimerView // of all rules; nil: there are none
	MayAct    bool
}

// trouble is what is wrong, and what helps.
type trouble struct {
	control.Complaint
	Badge badge
	// See is where more is seen of it; Resume is the endpoint whose deliveries a button resumes. Empty: none.
	See, Resume string
}

// step is one of the first ones.
type step struct {
	Name string
	Done bool
	Ping string // the endpoint that a button sends a ping to
}

// hour is what was sent in the last one.
type hour struct {
	Delivered, Failed         int64
	MostDelivered, MostFailed int64 // in a minute
	P50, P95                  webhook.Milliseconds
	DeliveredLine, FailedLine template.HTML
}

// dashboardEndpoints is how many endpoints are shown.
const dashboardEndpoints = 50

func (v *visit) showDashboard() (reply, error) {
	status, err := v.Control.Status(v.ctx(), v.actor)
	if err != nil {
		return reply{}, err
	}
	p := dashboardPage{Status: status, Problems: v.troubles(&status), Endpoints: slices.Clone(status.Endpoints), Timers: allTimers(status.Timers), MayAct: v.actor.Role.Covers(state.Operator)}
	for i := range p.Endpoints {
		p.Queued += queued(&p.Endpoints[i])
	}
	slices.SortStableFunc(p.Endpoints, func(a, b control.EndpointView) int { return cmp.Compare(queued(&b), queued(&a)) })
	p.Endpoints = p.Endpoints[:min(len(p.Endpoints), dashboardEndpoints)]
	if p.Steps, err = v.steps(&status); err != nil {
		return reply{}, err
	}
	if p.Hour, err = v.lastHour(); err != nil {
		return reply{}, err
	}
	return page("dashboard", p)
}

// allTimers sums up those of all rules; nil: there are none.
func allTimers(timers []control.TimerView) *control.TimerView {
	if len(timers) == 0 {
		return nil
	}
	var all control.TimerView
	for i := range timers {
		all.Pending += timers[i].Pending
		if next := timers[i].Next; all.Next.IsZero() || !next.IsZero() && next.Before(all.Next) {
			all.Next = next
		}
	}
	return &all
}

// The kinds of troubles beside the control's complaints.
const (
	paused control.ComplaintKind = "paused"
	dead   control.ComplaintKind = "dead"
	parked control.ComplaintKind = "parked"
)

// troubles are the complaints, the worst first, then what waits for somebody.
func (v *visit) troubles(status *control.StatusView) []trouble {
	var out []trouble
	add := func(kind string, c control.Complaint) {
		t := trouble{Complaint: c, Badge: newBadge(kind, v.language.Word("complaint", c.Kind))}
		switch c.Kind {
		case control.EndpointSuspended, paused:
			t.Resume = c.Subject
		}
		switch c.Kind {
		case control.EndpointSuspended, control.EndpointFailing, control.EndpointBlocked:
			t.See = root + "deliveries?" + queryOf("q", "endpoint:"+c.Subject, "span", "week")
		case control.ClosingIncomplete:
			t.See = root + "deliveries?" + queryOf("q", "endpoint:"+c.Subject, "span", "week")
		case control.ScheduleFails:
			if i := slices.IndexFunc(status.Schedules, func(s control.ScheduleView) bool { return s.Event == c.Subject }); i >= 0 {
				t.See = root + "rules/rule?" + queryOf("at", status.Schedules[i].Rule)
			}
		case dead:
			t.See = root + "deliveries?" + queryOf("q", "endpoint:"+c.Subject, "outcome", "dead", "span", "all")
		case parked:
			if v.has("pending") {
				t.See = root + "pending"
			}
		}
		out = append(out, t)
	}
	for _, c := range status.Complaints() {
		add("bad", c)
	}
	for i := range status.Endpoints {
		e := &status.Endpoints[i]
		if e.State == endpoint.Paused.String() && queued(e) > 0 {
			add("warn", control.Complaint{Kind: paused, Subject: e.Name})
		}
		if e.Live != nil && e.Live.Dead > 0 {
			add("warn", control.Complaint{Kind: dead, Subject: e.Name})
		}
	}
	if status.Parked > 0 {
		add("warn", control.Complaint{Kind: parked})
	}
	return out
}

// steps are the first ones, nil once an event was delivered. A tenant's are those that it can take.
func (v *visit) steps(status *control.StatusView) ([]step, error) {
	sent, err := v.Control.Deliveries(v.ctx(), v.actor, state.Filter{Outcome: webhook.Delivered.String()}, "", 1)
	if err != nil || len(sent.Items) > 0 {
		return nil, err
	}
	tested, err := v.Control.Audit(v.ctx(), v.actor, state.AuditFilter{Action: control.Tested}, "", 1)
	if err != nil {
		return nil, err
	}
	events, err := v.Control.EventTypes(v.ctx(), v.actor)
	if err != nil {
		return nil, err
	}
	active := slices.IndexFunc(status.Endpoints, func(e control.EndpointView) bool { return e.State == endpoint.Active.String() })
	ping := step{Name: "ping", Done: len(tested.Items) > 0}
	if active >= 0 && !ping.Done {
		ping.Ping = status.Endpoints[active].Name
	}
	steps := []step{
		{Name: "source", Done: status.Slot != nil}, {Name: "rules", Done: len(events) > 0}, {Name: "slot", Done: status.Slot != nil && status.Slot.Active},
		{Name: "endpoint", Done: active >= 0}, ping, {Name: "event"},
	}
	if v.actor.Tenant != "" {
		steps = steps[3:]
	}
	return steps, nil
}

// lastHour sums up what was sent.
func (v *visit) lastHour() (hour, error) {
	rates, err := v.Control.Rates(v.ctx(), v.actor, "", time.Hour)
	if err != nil {
		return hour{}, err
	}
	var h hour
	var delivered, failed []int64
	for i := range rates.Intervals {
		one := &rates.Intervals[i]
		delivered, failed = append(delivered, one.Delivered), append(failed, one.Failed)
		h.MostDelivered, h.MostFailed = max(h.MostDelivered, one.Delivered), max(h.MostFailed, one.Failed)
	}
	h.Delivered, h.Failed, h.P50, h.P95 = rates.Total.Delivered, rates.Total.Failed, rates.Total.P50, rates.Total.P95
	h.DeliveredLine = spark(delivered, v.text("dashboard.delivered", "n", h.Delivered, "most", h.MostDelivered))
	h.FailedLine = spark(failed, v.text("dashboard.failed", "n", h.Failed, "most", h.MostFailed))
	return h, nil
}

// resume activates an endpoint, whether somebody has paused it or Gancho has suspended it.
func (v *visit) resume() (reply, error) {
	if _, err := v.Control.Activate(v.ctx(), v.actor, v.http.PathValue("name")); err != nil {
		return reply{}, err
	}
	return goTo("", "endpoint_activated")
}

func (v *visit) ping() (reply, error) {
	x, err := v.Control.Test(v.ctx(), v.actor, v.http.PathValue("name"))
	if err != nil {
		return reply{}, err
	}
	if x.Outcome != webhook.Delivered.String() {
		return goTo("", "ping_failed")
	}
	return goTo("", "pinged")
}

func queued(e *control.EndpointView) int64 {
	if e.Live == nil {
		return 0
	}
	return e.Live.Backlog
}

// endpointBadge is an endpoint's state.
func endpointBadge(l *language.Language, e *control.EndpointView) badge {
	if kind, _ := e.Complaint(); kind != "" {
		return newBadge("bad", l.Word("endpoint.state", kind))
	}
	kinds := map[string]string{endpoint.Active.String(): "good", endpoint.Paused.String(): "warn"}
	return newBadge(cmp.Or(kinds[e.State], "idle"), l.Word("endpoint.state", e.State))
}
