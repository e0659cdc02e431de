package control

import (
	"context"
	"encoding/json"

	"gancho/delivery/endpoint"
	"gancho/internal/state"
)

// BackfillPlan is what a backfill would read.
type BackfillPlan struct {
	Tables []BackfillTable `json:"tables"`
	Rows   int64           `json:"rows"`
	// Estimated: the rows of some table are what the server's statistics say.
	Estimated bool `json:"estimated"`
}

// BackfillTable is a table of a BackfillPlan. A where is not counted: its Rows are all that are read.
type BackfillTable struct {
	Table     string   `json:"table"`
	Rows      int64    `json:"rows"`
	Estimated bool     `json:"estimated"`
	Rules     []string `json:"rules"` // their places, file:line
	Events    []string `json:"events"`
	// Samples are what the first rows lead to: {"event", "op", "data"} with every letter of a value as x and
	// every digit as 9, or {"event", "op", "parked"} with the reason.
	Samples []json.RawMessage `json:"samples,omitempty"`
}

// BackfillView is a backfill with what it reads.
type BackfillView struct {
	state.Job
	Plan BackfillPlan `json:"plan"`
}

// mayBackfill: a table's rows are of any tenant.
func (s *Service) mayBackfill(a Actor) error {
	if err := a.mayParked(state.Operator); err != nil {
		return err
	}
	if s.Store == nil {
		return ErrNoState
	}
	return nil
}

// CreateBackfill creates a job of r's Rate, or with DryRun only plans and shows samples, that sends the rows
// which are there already, through the rules on insert, to r's Endpoint, or to all that get their events. Its Filter
// chooses by Table, Events, Tenant and Where. There is one at a time: state.ErrConflict. Needs Operator.
func (s *Service) CreateBackfill(ctx context.Context, a Actor, r state.Job) (BackfillView, error) {
	if err := s.mayBackfill(a); err != nil {
		return BackfillView{}, err
	}
	if err := s.whichSource(ctx); err != nil {
		return BackfillView{}, err
	}
	if s.Backfill == nil {
		return BackfillView{}, &ElsewhereError{}
	}
	f := state.Filter{Table: r.Filter.Table, Events: r.Filter.Events, Tenant: r.Filter.Tenant, Where: r.Filter.Where}
	given, err := json.Marshal(r.Filter)
	if err != nil {
		return BackfillView{}, err
	}
	if used, err := json.Marshal(f); err != nil || string(used) != string(given) {
		return BackfillView{}, invalid("/filter", "choose by table, events, tenant and where", "rows have no ids, keys, times or outcomes")
	}
	for _, err := range []error{checkRate(r.Rate), checkEvents(f.Events)} {
		if err != nil {
			return BackfillView{}, err
		}
	}
	to := found{}
	if r.Endpoint != "" {
		if to, err = s.find(ctx, a, r.Endpoint); err != nil {
			return BackfillView{}, err
		}
		if d, err := s.delivered(to); err != nil {
			return BackfillView{}, err
		} else if d.State == endpoint.Inactive {
			return BackfillView{}, inactive(r.Endpoint)
		}
	}
	if err := s.checkJobRoom(&r, s.usage(ctx), to); err != nil {
		return BackfillView{}, err
	}
	planned := f
	planned.Endpoint = r.Endpoint
	plan, err := s.Backfill(ctx, planned, r.DryRun)
	if err != nil {
		return BackfillView{}, err
	}
	j := state.Job{Kind: state.Backfill, Endpoint: r.Endpoint, Filter: f, Rate: r.Rate, DryRun: r.DryRun, Total: plan.Rows, Estimated: plan.Estimated}
	j, err = s.createJob(ctx, a, j)
	return BackfillView{Job: a.shown(j), Plan: plan}, err
}

// PauseJob stops a backfill before its next rows; what it has put into the stream is sent. Needs Operator.
func (s *Service) PauseJob(ctx context.Context, a Actor, id int64) (state.Job, error) {
	if err := s.mayBackfill(a); err != nil {
		return state.Job{}, err
	}
	j, err := s.Store.PauseJob(ctx, a.Name, id, "")
	return a.shown(j), err
}

// ResumeJob lets a paused backfill, or one that has failed, go on where it was. Needs Operator.
func (s *Service) ResumeJob(ctx context.Context, a Actor, id int64) (state.Job, error) {
	if err := s.mayBackfill(a); err != nil {
		return state.Job{}, err
	}
	j, err := s.Store.ResumeJob(ctx, a.Name, id, "")
	return a.shown(j), err
}
