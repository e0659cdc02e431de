package console

import (
	"cmp"
	"slices"

	"gancho/delivery/endpoint"
	"gancho/internal/control"
	"gancho/internal/language"
	"gancho/internal/state"
)

func dashboardScreen() screen {
	return screen{name: "dashboard", path: "", role: state.Viewer, routes: []route{{pattern: "GET /", handle: (*visit).showDashboard}}}
}

// dashboardPage is everything at a glance: what is wrong first.
type dashboardPage struct {
	Status    control.StatusView
	Problems  []control.Complaint
	Endpoints []control.EndpointView // those with the most queued first
	Queued    int64
}

// dashboardEndpoints is how many endpoints are shown.
const dashboardEndpoints = 50

func (v *visit) showDashboard() (reply, error) {
	status, err := v.Control.Status(v.ctx(), v.actor)
	if err != nil {
		return reply{}, err
	}
	p := dashboardPage{Status: status, Problems: status.Complaints(), Endpoints: slices.Clone(status.Endpoints)}
	for i := range p.Endpoints {
		p.Queued += queued(&p.Endpoints[i])
	}
	slices.SortStableFunc(p.Endpoints, func(a, b control.EndpointView) int { return cmp.Compare(queued(&b), queued(&a)) })
	p.Endpoints = p.Endpoints[:min(len(p.Endpoints), dashboardEndpoints)]
	return page("dashboard", p)
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
