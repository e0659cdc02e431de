package control

import (
	"context"
	"fmt"
	"slices"
	"time"

	"gancho/delivery/endpoint"
	"gancho/delivery/queue"
	"gancho/internal/doctor"
	"gancho/internal/state"
	"gancho/mapping"
)

// addLive adds to the views what the queue holds of the endpoints, in one round
// trip, and how many dead letters of the actor's the store has of them.
func (s *Service) addLive(ctx context.Context, a Actor, views []EndpointView) error {
	if len(views) == 0 || s.Queue == nil { // of many sources none is asked
		return nil
	}
	names := make([]string, len(views))
	for i, v := range views {
		names[i] = v.Name
	}
	stats, err := s.stats(ctx, names)
	if err != nil {
		return err
	}
	dead, err := s.countDead(ctx, a, names)
	if err != nil {
		return err
	}
	for i := range views {
		stats[i].Dead += dead[names[i]]
		views[i].Live = &stats[i]
	}
	return nil
}

// countDead counts the actor's dead letters in the store.
func (s *Service) countDead(ctx context.Context, a Actor, names []string) (map[string]int64, error) {
	f, err := a.scope(state.Filter{Sources: s.ownSource()})
	if err != nil {
		return nil, err
	}
	switch {
	case s.Store == nil:
		return nil, nil
	case len(names) > 1:
		if len(names) <= MaxPage {
			f.Endpoints = names // else it reads the dead letters of all
		}
		return s.Store.CountDeadByEndpoint(ctx, f)
	}
	f.Endpoint = names[0]
	n, err := s.Store.CountDead(ctx, f)
	return map[string]int64{names[0]: n}, err
}

// budgetAlerts is the part of the WAL budget, in percent, from which on something is wrong.
const budgetAlerts = 80

// slotTimeout is how long Status waits for the source.
const slotTimeout = 3 * time.Second

// Status returns everything at a glance. The errors of parts that are
// unreachable are in its Errors, beside the parts that are not. A tenant's token
// sees its own endpoints and jobs. Needs Viewer.
func (s *Service) Status(ctx context.Context, a Actor) (StatusView, error) {
	if err := a.may(state.Viewer); err != nil {
		return StatusView{}, err
	}
	v := StatusView{Version: s.Version, Source: s.SourceName, Time: time.Now().UTC(), Errors: map[string]string{}}
	note := func(part string, err error) bool {
		switch {
		case err != nil && a.Tenant != "":
			v.Errors[part] = "it does not answer" // the error itself names servers
		case err != nil:
			v.Errors[part] = err.Error()
		}
		return err == nil
	}
	note("queue", s.unreachable())
	known, err := s.known(ctx, a)
	if note("state", err) {
		v.Endpoints = viewsOf(known)
		if s.Queue != nil && note("queue", s.addLive(ctx, a, v.Endpoints)) {
			v.OverQuota = s.overQuota(a, known, v.Endpoints)
		}
		if s.Store != nil {
			v.Jobs, err = s.unfinishedJobs(ctx, a)
			note("state", err)
			note("state", s.addRecent(ctx, a, v.Time, v.Endpoints))
		}
	}
	if a.Tenant != "" {
		return v, nil
	}
	if s.Store != nil && s.Catalogue != nil {
		if schedules, err := s.schedules(ctx); note("state", err) {
			v.Schedules = schedules
		}
	}
	if s.Queue != nil {
		var m MemoryView
		if m.Used, m.Max, err = s.Queue.Memory(ctx); note("queue", err) {
			v.Memory = &m
			v.Rules, v.Timers, err = s.sums(ctx, v.Time) // else each of several sources would wait for Redis
			note("queue", err)
		}
		v.Expiring, err = s.expiring(ctx)
		note("queue", err)
		if v.Parked, err = s.Queue.ParkedCount(ctx); err == nil {
			var also int64
			also, err = s.parkedOfSources(ctx)
			v.Parked += also
		}
		if note("queue", err) && v.Errors["state"] == "" {
			v.Orphans, err = s.orphans(ctx, v.Endpoints)
			note("queue", err)
		}
	}
	s.addSource(ctx, &v, note)
	return v, nil
}

// RuleRate is what a rule has made of the changes of the last hour that has ended, and of this one.
type RuleRate struct {
	Rule      string  `json:"rule"`
	Event     string  `json:"event"`
	Seen      int64   `json:"seen"`
	Matched   int64   `json:"matched"`
	Parked    int64   `json:"parked"`
	PerMinute float64 `json:"matched_per_minute"` // on the average of that time
}

// ruleRates are the rates of all rules that have seen changes.
func (s *Service) ruleRates(ctx context.Context, now time.Time) ([]RuleRate, error) {
	from := now.Truncate(queue.TallyInterval).Add(-queue.TallyInterval)
	tallies, err := s.Queue.Tallies(ctx, queue.TallySpan{From: from, To: now.Add(time.Minute)}) // the source's clock may be ahead
	if err != nil {
		return nil, err
	}
	if tallies.Since.After(from) {
		from = tallies.Since
	}
	p := newProver(tallies)
	p.addRules()
	minutes := max(1, now.Sub(from).Minutes())
	var out []RuleRate
	for _, r := range p.view() {
		out = append(out, RuleRate{Rule: r.Rule, Event: r.Event, Seen: r.Seen, Matched: r.Matched, Parked: r.Parked, PerMinute: float64(r.Matched) / minutes})
	}
	return out, nil
}

// addSource adds the slot and what endangers the source's tables.
func (s *Service) addSource(ctx context.Context, v *StatusView, note func(part string, err error) bool) {
	if s.Capture != nil {
		note("capture", s.Capture(ctx))
	}
	if s.Slot == nil {
		return
	}
	ctx, cancel := context.WithTimeout(ctx, slotTimeout)
	defer cancel()
	slot, err := s.Slot(ctx)
	if !note("slot", err) {
		return
	}
	v.Slot, v.WALBudget = &slot, s.WALBudget
	if budget := s.WALBudget; budget > 0 && slot.HeldBytes >= budget/100*budgetAlerts {
		v.Errors["wal_budget"] = fmt.Sprintf("%d %% of source.wal_budget is held for the slot", slot.HeldBytes/max(1, budget/100))
	}
	if s.Hazards == nil {
		return
	}
	hazards, err := s.Hazards(ctx)
	note("slot", err)
	for _, h := range hazards {
		v.Hazards = append(v.Hazards, h.String()+"; "+h.Fix())
	}
}

// SourceStatus is the part of Status that is about the source. It does not exist for a tenant.
// Needs Viewer.
func (s *Service) SourceStatus(ctx context.Context, a Actor) (StatusView, error) {
	if err := a.may(state.Viewer); err != nil {
		return StatusView{}, err
	}
	if a.Tenant != "" {
		return StatusView{}, state.ErrNotFound
	}
	v := StatusView{Version: s.Version, Source: s.SourceName, Time: time.Now().UTC(), Errors: map[string]string{}}
	s.addSource(ctx, &v, func(part string, err error) bool {
		if err != nil {
			v.Errors[part] = err.Error()
		}
		return err == nil
	})
	return v, nil
}

// addRecent adds to the views what was sent of the actor's events in the minute before now.
func (s *Service) addRecent(ctx context.Context, a Actor, now time.Time, views []EndpointView) error {
	recent, err := s.recent(ctx, a, now, len(views))
	for i := range views {
		if r, ok := recent[views[i].Name]; ok {
			views[i].Recent = &r
		}
	}
	return err
}

// Wrong says what is not in order, each in a few words.
func (v *StatusView) Wrong() []string {
	var wrong []string
	for _, c := range v.Complaints() {
		wrong = append(wrong, c.String())
	}
	return wrong
}

// nearlyFull is the share of maxmemory from which on Redis has to be looked at.
const nearlyFull = 0.85

// overQuota are the quotas of backlogs that are passed, as far as they are the actor's.
func (s *Service) overQuota(a Actor, known []found, views []EndpointView) []string {
	endpoints, stats := make([]*endpoint.Endpoint, len(known)), make([]queue.Stats, len(known))
	for i := range known {
		endpoints[i] = &endpoint.Endpoint{Tenants: known[i].Tenants}
		if views[i].Live != nil {
			stats[i] = *views[i].Live
		}
	}
	var out []string
	for _, x := range s.Quotas.Exceeded(endpoints, stats) {
		if a.Tenant == "" || x.Tenant == a.Tenant {
			out = append(out, x.String()+"; "+x.Fix())
		}
	}
	return out
}

func (s *Service) orphans(ctx context.Context, views []EndpointView) (map[string]int64, error) {
	known := make([]*endpoint.Endpoint, len(views))
	for i, e := range views {
		known[i] = &endpoint.Endpoint{Name: e.Name}
	}
	return s.Queue.Orphans(ctx, known)
}

// has reports whether a job is for the source that the Service is of, perhaps beside others.
func (s *Service) has(j *state.Job) bool {
	if s.SourceName == "" || j.Source != "" {
		return s.SourceName == "" || j.Source == s.SourceSlot
	}
	of := endpoint.Endpoint{Sources: j.Filter.Sources, Tenants: j.Filter.Tenants}
	if t := j.Filter.Tenant; t != nil {
		of.Tenants = []string{*t}
	}
	return queue.TakesSource(&of, s.SourceName)
}

// unfinishedJobs are the jobs that have not ended, among the newest.
func (s *Service) unfinishedJobs(ctx context.Context, a Actor) ([]state.Job, error) {
	jobs, err := s.Store.Jobs(ctx, a.Tenant, 0, MaxPage)
	if err != nil {
		return nil, err
	}
	return slices.DeleteFunc(jobs, func(j state.Job) bool {
		return j.State != state.Queued && j.State != state.Running && j.State != state.Paused || !s.has(&j)
	}), nil
}

// Doctor looks at everything that Gancho stands on. It names servers and roles, so that
// for a tenant's token it does not exist. Needs Operator.
func (s *Service) Doctor(ctx context.Context, a Actor) (doctor.Report, error) {
	if err := a.may(state.Operator); err != nil {
		return doctor.Report{}, err
	}
	if a.Tenant != "" || s.Examine == nil {
		return doctor.Report{}, state.ErrNotFound
	}
	return s.Examine(ctx)
}

// EventTypes lists the events that the rules make. Needs Viewer.
func (s *Service) EventTypes(_ context.Context, a Actor) ([]mapping.EventType, error) {
	if err := a.may(state.Viewer); err != nil {
		return nil, err
	}
	if s.Catalogue == nil {
		return []mapping.EventType{}, nil
	}
	return s.Catalogue(), nil
}

// addTested adds to the views what their receivers said to the last test of the endpoint as it is set now.
func (s *Service) addTested(ctx context.Context, views []EndpointView) error {
	if s.Store == nil || len(views) == 0 {
		return nil
	}
	names := make([]string, len(views))
	for i := range views {
		names[i] = views[i].Name
	}
	tests, err := s.Store.Tests(ctx, names)
	for i := range views {
		if t, ok := tests[views[i].Name]; ok && t.Is(views[i].Settings) {
			views[i].Tested = &t
		}
	}
	return err
}

// latelySpan is from when on the newest attempts of an endpoint are read: of the partitions of a few days only.
const latelySpan = 24 * time.Hour

// addLately adds to the views what the newest attempts with the actor's events led to.
func (s *Service) addLately(ctx context.Context, a Actor, views []EndpointView) error {
	if s.Store == nil || len(views) == 0 {
		return nil
	}
	names := make([]string, len(views))
	for i := range views {
		names[i] = views[i].Name
	}
	lately, err := s.Store.Lately(ctx, names, time.Now().Add(-latelySpan), a.Tenant)
	for i := range views {
		if l, ok := lately[views[i].Name]; ok {
			views[i].Lately = &l
		}
	}
	return err
}
