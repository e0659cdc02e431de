package control

import (
	"context"
	"fmt"
	"math"
	"slices"

	"gancho/internal/state"
)

// Redrive is a wish to send dead letters again, to the endpoints they are of.
type Redrive struct {
	Filter state.Filter `json:"filter"`
	// All has to be set when the filter chooses everything.
	All bool `json:"all,omitempty"`
	// Rate is the most events a second; 0: no limit.
	Rate float64 `json:"rate,omitempty"`
	// DryRun counts, and changes nothing.
	DryRun bool `json:"dry_run,omitempty"`
}

// Resend is a wish to send kept events again to one endpoint.
type Resend struct {
	Endpoint string       `json:"endpoint"`
	Filter   state.Filter `json:"filter"`
	Rate     float64      `json:"rate,omitempty"`
	DryRun   bool         `json:"dry_run,omitempty"`
}

// CreateRedrive makes a job for each endpoint that has dead letters of the
// filter's choice, of those only that it may have by its tenants: they may be
// left from another endpoint of its name. A dead letter is gone once it is
// queued again. Needs Operator.
func (s *Service) CreateRedrive(ctx context.Context, a Actor, r Redrive) ([]JobView, error) {
	store, err := s.stored(a, state.Operator)
	if err != nil {
		return nil, err
	}
	if err := rate(r.Rate); err != nil {
		return nil, err
	}
	if err := chosen(r.Filter, r.All); err != nil {
		return nil, err
	}
	f, err := s.deadFilter(a, r.Filter)
	if err != nil {
		return nil, err
	}
	endpoints, err := s.redriven(ctx, a, f)
	if err != nil {
		return nil, err
	}
	jobs := []JobView{}
	for _, e := range endpoints {
		f.Endpoint, f.Tenants = e.name(), e.tenants()
		n, err := store.CountDead(ctx, f)
		if err != nil {
			return jobs, err
		}
		if n == 0 {
			continue
		}
		j := state.Job{Kind: state.Redrive, Endpoint: f.Endpoint, Filter: f, Rate: r.Rate, Total: n, Tenant: a.Tenant}
		view, err := s.create(ctx, a, j, r.DryRun)
		if err != nil {
			return jobs, err
		}
		jobs = append(jobs, view)
	}
	return jobs, nil
}

// redriven are the endpoints whose dead letters the filter may choose.
func (s *Service) redriven(ctx context.Context, a Actor, f state.Filter) ([]found, error) {
	if f.Endpoint != "" {
		e, err := s.find(ctx, a, f.Endpoint)
		if err != nil {
			return nil, err
		}
		return []found{e}, nil
	}
	known, err := s.known(ctx, a)
	if err != nil {
		return nil, err
	}
	dead, err := s.Store.CountDeadByEndpoint(ctx)
	if err != nil {
		return nil, err
	}
	return slices.DeleteFunc(known, func(e found) bool { return dead[e.name()] == 0 }), nil
}

// CreateResend makes a job that sends kept events again to an endpoint, of
// those only that it may have by its tenants. Needs Operator.
func (s *Service) CreateResend(ctx context.Context, a Actor, r Resend) (JobView, error) {
	store, err := s.stored(a, state.Operator)
	if err != nil {
		return JobView{}, err
	}
	f := r.Filter
	switch {
	case r.Endpoint == "":
		return JobView{}, invalid("/endpoint", "name the endpoint that is to receive them", "no endpoint is named")
	case f.Endpoint != "" || len(f.IDs) > 0 || f.Outcome != "":
		return JobView{}, invalid("/filter", "choose by webhook_ids, tenant, key, events, from and to", "kept events have no endpoint, ids or outcome")
	}
	for _, err := range []error{rate(r.Rate), chosen(f, false), span(f)} {
		if err != nil {
			return JobView{}, err
		}
	}
	e, err := s.find(ctx, a, r.Endpoint)
	if err != nil {
		return JobView{}, err
	}
	d, err := s.delivered(e)
	if err != nil {
		return JobView{}, err
	}
	if f, err = a.scope(f); err != nil {
		return JobView{}, err
	}
	f.Tenants = d.Tenants
	if len(f.Events) == 0 {
		f.Events = d.Events
	}
	j := state.Job{Kind: state.Resend, Endpoint: r.Endpoint, Filter: f, Rate: r.Rate, Tenant: a.Tenant}
	if j.Total, err = store.CountEvents(ctx, f); err != nil {
		return JobView{}, err
	}
	return s.create(ctx, a, j, r.DryRun)
}

func (s *Service) create(ctx context.Context, a Actor, j state.Job, dryRun bool) (JobView, error) {
	if dryRun {
		view := jobView(j)
		view.DryRun = true
		return view, nil
	}
	j, err := s.Store.CreateJob(ctx, a.Name, j)
	if err != nil {
		return JobView{}, fmt.Errorf("create the job for endpoint %q: %w", j.Endpoint, err)
	}
	return jobView(j), nil
}

// rate refuses what is no number of events a second.
func rate(r float64) error {
	if r < 0 || math.IsNaN(r) || math.IsInf(r, 0) {
		return invalid("/rate", "write the most events a second, or leave it out", "%v is not a rate", r)
	}
	return nil
}

// Jobs lists resends and redrives, the newest first. Needs Viewer.
func (s *Service) Jobs(ctx context.Context, a Actor, cursor string, limit int) (Page[JobView], error) {
	none := Page[JobView]{Items: []JobView{}}
	store, n, before, err := s.numberedPage(a, cursor, limit)
	if err != nil {
		return none, err
	}
	rows, err := store.Jobs(ctx, a.Tenant, before, n+1)
	if err != nil {
		return none, err
	}
	return cut(rows, n, jobView, func(j state.Job) int64 { return j.ID }), nil
}

// Job returns a resend or redrive. Needs Viewer.
func (s *Service) Job(ctx context.Context, a Actor, id int64) (JobView, error) {
	store, err := s.stored(a, state.Viewer)
	if err != nil {
		return JobView{}, err
	}
	j, err := store.Job(ctx, id, a.Tenant)
	if err != nil {
		return JobView{}, err
	}
	return jobView(j), nil
}

// CancelJob stops a resend or redrive; what it has queued stays queued. Needs
// Operator.
func (s *Service) CancelJob(ctx context.Context, a Actor, id int64) (JobView, error) {
	store, err := s.stored(a, state.Operator)
	if err != nil {
		return JobView{}, err
	}
	j, err := store.CancelJob(ctx, a.Name, id, a.Tenant)
	if err != nil {
		return JobView{}, err
	}
	return jobView(j), nil
}

func jobView(j state.Job) JobView {
	return JobView{
		ID: j.ID, Kind: j.Kind, Endpoint: j.Endpoint, Filter: j.Filter, Rate: j.Rate, State: j.State, Total: j.Total, Sent: j.Sent,
		Tenant: j.Tenant, Error: j.Error, Actor: j.Actor, Created: j.Created, Started: j.Started, Finished: j.Finished,
	}
}
