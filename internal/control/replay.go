package control

import (
	"context"
	"errors"

	"gancho/delivery/endpoint"
	"gancho/internal/state"
)

// ReplayView is what a replay has created: a job for each endpoint that has something to get.
type ReplayView struct {
	Jobs []state.Job `json:"items"`
	// LeftOut are endpoints that it cannot be sent to.
	LeftOut []LeftOut `json:"left_out"`
}

// LeftOut is an endpoint that a replay to all leaves out, and why.
type LeftOut struct {
	Endpoint string `json:"endpoint"`
	Reason   string `json:"reason"`
	err      error
}

// CreateReplay creates resends, as CreateResend does, of r's Filter to r's Endpoint, or to all that take the events: all or
// none, and those alone that have something to send. With DryRun it only counts. Needs Operator.
func (s *Service) CreateReplay(ctx context.Context, a Actor, r state.Job) (ReplayView, error) {
	view := ReplayView{Jobs: []state.Job{}, LeftOut: []LeftOut{}}
	names, left, err := s.ReplayTo(ctx, a, r)
	view.LeftOut = append(view.LeftOut, left...)
	if err != nil {
		return view, err
	}
	jobs := make([]state.Job, len(names))
	for i, name := range names {
		jobs[i] = r
		jobs[i].Endpoint = name
	}
	if !r.DryRun {
		jobs, err = s.CreateResends(ctx, a, jobs, nil)
		view.Jobs = append(view.Jobs, jobs...)
		return view, err
	}
	for _, j := range jobs {
		if j, err = s.CreateResend(ctx, a, j); err != nil {
			return view, err
		}
		if j.Total > 0 {
			view.Jobs = append(view.Jobs, j)
		}
	}
	return view, nil
}

// ReplayTo are the endpoints that a replay would be sent to: the one that is named, which must be usable, or all but those
// that are inactive and those that are left out. When none is left, the error says why. Needs Operator.
func (s *Service) ReplayTo(ctx context.Context, a Actor, r state.Job) (names []string, left []LeftOut, err error) {
	r.DryRun = false // it shows what would be refused
	if r.Endpoint != "" {
		return []string{r.Endpoint}, nil, s.CheckResend(ctx, a, r)
	}
	if _, err := s.stored(a, state.Operator); err != nil {
		return nil, nil, err
	}
	if _, err := a.scope(r.Filter); err != nil {
		return nil, nil, err
	}
	known, err := s.known(ctx, a)
	if err != nil {
		return nil, nil, err
	}
	used := s.usage(ctx)
	for i := range known {
		r.Endpoint = known[i].Name
		if known[i].State == endpoint.Inactive {
			continue // nothing is queued for it
		}
		_, err := s.resendOf(ctx, a, r, used)
		if err == nil {
			names = append(names, r.Endpoint)
			continue
		}
		reason := leftOutReason(a, err)
		if reason == "" {
			return nil, nil, err
		}
		left = append(left, LeftOut{r.Endpoint, reason, err})
	}
	if len(names) > 0 || len(left) == 0 {
		return names, left, nil
	}
	for i := range left {
		err = errors.Join(err, left[i].err)
	}
	return nil, left, err
}

// leftOutReason is why a replay leaves out one endpoint, as the actor may read it. It is empty where the error is no endpoint's alone: it is
// wrong what is asked for, or something cannot be read.
func leftOutReason(a Actor, err error) string {
	_, over := errors.AsType[*QuotaError](err)
	switch {
	case errors.Is(err, state.ErrNotFound):
		return "it does not exist any more"
	case isSealed(err) && a.Tenant != "":
		return "its settings cannot be decrypted; ask the operator of Gancho"
	case over || unusable(err):
		return err.Error()
	}
	return ""
}
