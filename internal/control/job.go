package control

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"slices"
	"sync"

	"gancho/delivery/endpoint"
	"gancho/delivery/webhook"
	"gancho/internal/state"
)

// CreateRedrive creates a job of r's Rate, or with DryRun only counts, for each
// endpoint that has dead letters that r's Filter chooses; one that chooses
// everything has to say so: all. Dead letters of tenants and sources that are not the
// endpoint's are left out: they may be from an earlier endpoint of that name. A
// dead letter is deleted when it is queued again. Needs Operator.
func (s *Service) CreateRedrive(ctx context.Context, a Actor, r state.Job, all bool) ([]state.Job, error) {
	store, err := s.stored(a, state.Operator)
	if err != nil {
		return nil, err
	}
	if err := checkRate(r.Rate); err != nil {
		return nil, err
	}
	if err := checkChoice(r.Filter, all); err != nil {
		return nil, err
	}
	f, err := s.deadFilter(a, r.Filter)
	if err != nil {
		return nil, err
	}
	endpoints, err := s.redriveTargets(ctx, a, f)
	if err != nil {
		return nil, err
	}
	if err := s.checkJobRoom(&r, s.usage(ctx), endpoints...); err != nil {
		return nil, err
	}
	jobs := []state.Job{}
	for _, e := range endpoints {
		f, ours, err := deadOf(f, &e)
		if err != nil {
			return nil, err
		}
		if !ours {
			continue
		}
		n, err := store.CountDead(ctx, f)
		if err != nil {
			return nil, err
		}
		if n > 0 {
			jobs = append(jobs, state.Job{Kind: state.Redrive, Endpoint: f.Endpoint, Filter: f, Rate: r.Rate, DryRun: r.DryRun, Total: n, Tenant: a.Tenant})
		}
	}
	return s.createJobs(ctx, a, jobs)
}

// deadOf limits a choice of dead letters to those that the endpoint may have now. ours: there may be some.
func deadOf(f state.Filter, e *found) (_ state.Filter, ours bool, err error) {
	var public struct { // not encrypted, so that an endpoint whose settings cannot be decrypted has it, too
		Sources []string `json:"sources"`
	}
	if err := json.Unmarshal(e.Public, &public); err != nil {
		return f, false, fmt.Errorf("read the sources of endpoint %q: %w", e.Name, err)
	}
	f.Endpoint, f.Tenants = e.Name, e.Tenants
	if len(f.Sources) == 0 {
		f.Sources = public.Sources
		return f, true, nil
	}
	own := endpoint.Endpoint{Sources: public.Sources}
	f.Sources = slices.DeleteFunc(slices.Clone(f.Sources), func(source string) bool { return !own.Reads(source) })
	return f, len(f.Sources) > 0, nil
}

// redriveTargets are the endpoints whose dead letters the filter may choose.
func (s *Service) redriveTargets(ctx context.Context, a Actor, f state.Filter) ([]found, error) {
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
	dead, err := s.Store.CountDeadByEndpoint(ctx, f)
	if err != nil {
		return nil, err
	}
	return slices.DeleteFunc(known, func(e found) bool { return dead[e.Name] == 0 }), nil
}

// CreateResend creates a job of r's Rate, or with DryRun only counts, that sends
// kept events of the endpoint's tenants and sources that r's Filter chooses to r's Endpoint
// again. Needs Operator.
func (s *Service) CreateResend(ctx context.Context, a Actor, r state.Job) (state.Job, error) {
	j, err := s.resendOf(ctx, a, r, s.usage(ctx))
	if err == nil {
		j.Total, err = s.Store.CountEvents(ctx, j.Filter)
	}
	if err != nil {
		return state.Job{}, err
	}
	return s.createJob(ctx, a, j)
}

// CheckResend returns why CreateResend would refuse a resend, and creates none.
func (s *Service) CheckResend(ctx context.Context, a Actor, r state.Job) error {
	_, err := s.resendOf(ctx, a, r, s.usage(ctx))
	return err
}

// CreateResends creates the resends of which CreateResend would create each, all or none, and those alone that have something
// to send. What they send may be kept first, together with them. Needs Operator.
func (s *Service) CreateResends(ctx context.Context, a Actor, resends []state.Job, keep []webhook.Message) ([]state.Job, error) {
	jobs, used := make([]state.Job, len(resends)), s.usage(ctx)
	for i := range resends {
		var err error
		if jobs[i], err = s.resendOf(ctx, a, resends[i], used); err != nil {
			return nil, err
		}
	}
	jobs, err := s.Store.Within(state.Limits{Jobs: maxJobs}).CreateJobsOf(ctx, a.Name, jobs, keep)
	return jobs, quotaError(err, a.Tenant, overJobs, maxJobs)
}

// resendOf checks a resend, and limits its filter to what the endpoint may have.
func (s *Service) resendOf(ctx context.Context, a Actor, r state.Job, used usage) (state.Job, error) {
	if _, err := s.stored(a, state.Operator); err != nil {
		return state.Job{}, err
	}
	f := r.Filter
	switch {
	case r.Endpoint == "":
		return state.Job{}, invalid("/endpoint", "name the endpoint that is to receive them", "no endpoint is named")
	case f.Endpoint != "" || len(f.IDs) > 0 || f.Outcome != "":
		return state.Job{}, invalid("/filter", "choose by webhook_ids, tenant, key, events, from and to", "kept events have no endpoint, ids or outcome")
	}
	for _, err := range []error{checkRate(r.Rate), checkChoice(f, false), checkSpan(f.From, f.To), checkEvents(f.Events)} {
		if err != nil {
			return state.Job{}, err
		}
	}
	e, err := s.find(ctx, a, r.Endpoint)
	if err != nil {
		return state.Job{}, err
	}
	d, err := s.delivered(e)
	if err != nil {
		return state.Job{}, err
	}
	if d.State == endpoint.Inactive {
		return state.Job{}, inactive(r.Endpoint)
	}
	if f, err = s.tagged(f); err != nil {
		return state.Job{}, err
	}
	if f, err = a.scope(f); err != nil {
		return state.Job{}, err
	}
	f.Tenants, f.Sources = d.Tenants, d.Sources
	if len(f.Events) == 0 {
		f.Events = d.Events
	}
	j := state.Job{Kind: state.Resend, Endpoint: r.Endpoint, Filter: f, Rate: r.Rate, DryRun: r.DryRun, Tenant: a.Tenant}
	if err := s.checkJobRoom(&r, used, e); err != nil {
		return state.Job{}, err
	}
	return j, nil
}

// createJobs creates all or none; dry runs are none.
func (s *Service) createJobs(ctx context.Context, a Actor, jobs []state.Job) ([]state.Job, error) {
	if len(jobs) == 0 || jobs[0].DryRun {
		return jobs, nil
	}
	for i := range jobs {
		if k := jobs[i].Kind; k == state.RedriveParked || k == state.Backfill { // it is not in what they choose, as it is in tenants
			jobs[i].Filter.Sources = s.ownSource()
		}
	}
	jobs, err := s.Store.Within(state.Limits{Jobs: maxJobs}).CreateJobs(ctx, a.Name, jobs)
	return jobs, quotaError(err, a.Tenant, overJobs, maxJobs)
}

func (s *Service) createJob(ctx context.Context, a Actor, j state.Job) (state.Job, error) {
	jobs, err := s.createJobs(ctx, a, []state.Job{j})
	if err != nil {
		return state.Job{}, err
	}
	return jobs[0], nil
}

const (
	// maxJobs is how many resends and redrives of a tenant may wait or be under way.
	maxJobs = 200
	// minRate is the lowest rate of a job, in events a second.
	minRate = 0.01
)

// inactiveError is the InvalidError of what is to be sent to an inactive endpoint.
type inactiveError struct{ error }

func (e inactiveError) Unwrap() error { return e.error }

func inactive(endpointName string) error {
	return inactiveError{invalid("/endpoint", "activate it first", "endpoint %q is inactive: nothing is queued for it", endpointName)}
}

// unusable reports whether an error is that of one endpoint to which nothing can be sent: it is gone, inactive, or state.key
// cannot decrypt its settings.
func unusable(err error) bool {
	_, idle := errors.AsType[inactiveError](err)
	return idle || errors.Is(err, state.ErrNotFound) || isSealed(err)
}

// usage is what tenants use, read when it is asked for first.
type usage func() (map[string]*use, error)

func (s *Service) usage(ctx context.Context) usage {
	return sync.OnceValues(func() (map[string]*use, error) { return s.used(ctx) })
}

// checkJobRoom refuses a job whose events would make a backlog longer that is over its
// quota, at any of its endpoints.
func (s *Service) checkJobRoom(j *state.Job, used usage, to ...found) error {
	if j.DryRun {
		return nil
	}
	now, err := used()
	if err != nil {
		return err
	}
	for _, e := range to {
		if err := s.Quotas.checkRoom(now, e.Tenants, false); err != nil {
			return err
		}
	}
	return nil
}

// checkRate refuses a number that is not a rate.
func checkRate(r float64) error {
	if r > 0 && r < minRate {
		return invalid("/rate", "choose fewer events, or write a higher one", "the lowest rate is %v events a second", minRate)
	}
	if r < 0 || math.IsNaN(r) || math.IsInf(r, 0) {
		return invalid("/rate", "write the most events a second, or leave it out", "%v is not a rate", r)
	}
	return nil
}

// shown is a job as an actor may see it: what chooses the rows of a backfill may have personal data in it, which only
// an administrator of all tenants sees.
func (a Actor) shown(j state.Job) state.Job {
	if j.Filter.Where != "" && (a.Role != state.Admin || a.Tenant != "") {
		j.Filter.Where = state.HiddenWhere
	}
	return j
}

// Jobs lists resends and redrives, the newest first. Needs Viewer.
func (s *Service) Jobs(ctx context.Context, a Actor, cursor string, limit int) (Page[state.Job], error) {
	return numbered(s, a, cursor, limit, func(j *state.Job) int64 { return j.ID }, func(store *state.Store, before int64, n int) ([]state.Job, error) {
		jobs, err := store.Jobs(ctx, a.Tenant, before, n)
		for i := range jobs {
			jobs[i] = a.shown(jobs[i])
		}
		return jobs, err
	})
}

// Job returns a resend or redrive. Needs Viewer.
func (s *Service) Job(ctx context.Context, a Actor, id int64) (state.Job, error) {
	store, err := s.stored(a, state.Viewer)
	if err != nil {
		return state.Job{}, err
	}
	j, err := store.Job(ctx, id, a.Tenant)
	return a.shown(j), err
}

// CancelJob stops a resend or redrive; what it has queued stays queued. Needs
// Operator.
func (s *Service) CancelJob(ctx context.Context, a Actor, id int64) (state.Job, error) {
	store, err := s.stored(a, state.Operator)
	if err != nil {
		return state.Job{}, err
	}
	j, err := store.CancelJob(ctx, a.Name, id, a.Tenant)
	return a.shown(j), err
}
