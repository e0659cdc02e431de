package api

import (
	"context"
	"errors"
	"net/http"
	"strconv"

	"gancho/internal/control"
	"gancho/internal/state"
)

func (c *call) showDelivery() (answer, error) {
	view, err := c.control.Delivery(c.ctx, c.actor, c.http.PathValue("id"))
	return answer{body: view}, err
}

func (c *call) dropOneDead() (answer, error) {
	id, err := c.number()
	if err != nil {
		return answer{}, err
	}
	n, err := c.control.DropDead(c.ctx, c.actor, state.Filter{IDs: []int64{id}}, false)
	if err == nil && n == 0 {
		err = state.ErrNotFound
	}
	return answer{}, err
}

// dropped says how many were deleted, or would be.
type dropped struct {
	Dropped int64 `json:"dropped"`
	DryRun  bool  `json:"dry_run,omitempty"`
}

// drop deletes what the filter of the body chooses, or only counts it.
func (c *call) drop(filterOf func(*state.Filter) member, count func(context.Context, control.Actor, state.Filter) (int64, error),
	remove func(context.Context, control.Actor, state.Filter, bool) (int64, error),
) (answer, error) {
	var filter state.Filter
	var all bool
	d := dropped{}
	err := c.decode(filterOf(&filter), allMember(&all), dryRunMember(&d.DryRun))
	if err != nil {
		return answer{}, err
	}
	if d.DryRun {
		d.Dropped, err = count(c.ctx, c.actor, filter)
	} else {
		d.Dropped, err = remove(c.ctx, c.actor, filter, all)
	}
	return answer{body: d}, err
}

func (c *call) dropDead() (answer, error) {
	return c.drop(func(f *state.Filter) member { return filterMember(f, true) }, c.control.CountDead, c.control.DropDead)
}

func (c *call) redrive() (answer, error) {
	var r state.Job
	var all bool
	if err := c.decode(filterMember(&r.Filter, true), allMember(&all), rateMember(&r.Rate), dryRunMember(&r.DryRun)); err != nil {
		return answer{}, err
	}
	a, err := list(c.control.CreateRedrive(c.ctx, c.actor, r, all))
	if !r.DryRun {
		a.status = http.StatusAccepted
	}
	return a, err
}

func (c *call) resend() (answer, error) {
	var r state.Job
	err := c.decode(
		member{name: "endpoint", into: &r.Endpoint, expects: "the name of the endpoint that is to receive them", required: true},
		filterMember(&r.Filter, false), rateMember(&r.Rate), dryRunMember(&r.DryRun))
	if err != nil {
		return answer{}, err
	}
	job, err := c.control.CreateResend(c.ctx, c.actor, r)
	if err != nil || r.DryRun {
		return answer{body: job}, err
	}
	return answer{status: http.StatusAccepted, body: job, location: root + "/resends/" + strconv.FormatInt(job.ID, 10)}, nil
}

func (c *call) replay() (answer, error) {
	var r state.Job
	err := c.decode(
		member{name: "endpoint", into: &r.Endpoint, expects: "the name of the endpoint that is to receive them"},
		filterMember(&r.Filter, false), rateMember(&r.Rate), dryRunMember(&r.DryRun))
	if err == nil && r.Filter.From.IsZero() {
		err = &control.InvalidError{Problems: []control.Problem{{Pointer: "/filter/from", Message: "it is not said from when on events are sent again", Hint: `write a time such as "2026-03-01T00:00:00Z"`}}}
	}
	if err != nil {
		return answer{}, err
	}
	made, err := c.control.CreateReplay(c.ctx, c.actor, r)
	if err != nil || r.DryRun {
		return answer{body: made}, err
	}
	return answer{status: http.StatusAccepted, body: made}, nil
}

// correct replays kept events through other rules.
func (c *call) correct() (answer, error) {
	var r control.Correction
	f := &r.Replay.Filter
	err := c.decode(
		member{name: "rules", into: &r.Rules, expects: "an object: the text of each rule file by its name", required: true},
		member{name: "endpoint", into: &r.Replay.Endpoint, expects: "the name of the endpoint that is to receive them"},
		member{name: "filter", expects: "an object", members: []member{
			{name: "tenant", into: &f.Tenant, expects: "a text", blank: true},
			{name: "from", into: &f.From, expects: moment},
			{name: "to", into: &f.To, expects: moment},
		}},
		rateMember(&r.Replay.Rate), dryRunMember(&r.Replay.DryRun))
	if err != nil {
		return answer{}, err
	}
	view, err := c.control.CreateCorrection(c.ctx, c.actor, r)
	if err != nil || len(view.Jobs) == 0 {
		return answer{body: view}, err
	}
	return answer{status: http.StatusAccepted, body: view}, nil
}

// switchingJob changes the state of a job; conflict is why that cannot be.
func switchingJob(do func(*control.Service, context.Context, control.Actor, int64) (state.Job, error), conflict string) func(*call) (answer, error) {
	return func(c *call) (answer, error) {
		a, err := numbered(do)(c)
		if errors.Is(err, state.ErrConflict) {
			err = &problem{kind: kindConflict, Detail: conflict}
		}
		return a, err
	}
}

func (c *call) backfill() (answer, error) {
	var r state.Job
	var all bool
	f := &r.Filter
	filter := member{name: "filter", members: []member{
		{name: "table", into: &f.Table, expects: "the name of a table, as SQL writes it"},
		{name: "events", into: &f.Events, expects: "a list of patterns of the events of rules"},
		{name: "tenant", into: &f.Tenant, expects: "a text: the tenant whose events are sent", blank: true},
		{name: "where", into: &f.Where, expects: "an expression, as in when of a rule"},
	}}
	err := c.decode(
		member{name: "endpoint", into: &r.Endpoint, expects: "the name of the endpoint that is to receive them"},
		filter, allMember(&all), rateMember(&r.Rate), dryRunMember(&r.DryRun))
	if err != nil {
		return answer{}, err
	}
	if f.Table == "" && len(f.Events) == 0 && !all {
		return answer{}, &control.InvalidError{Problems: []control.Problem{{
			Message: "the filter chooses no table and no events, which would choose all", Hint: "name a table or events, or say all",
		}}}
	}
	v, err := c.control.CreateBackfill(c.ctx, c.actor, r)
	switch {
	case errors.Is(err, state.ErrConflict):
		return answer{}, &problem{kind: kindConflict, Detail: "A backfill has not ended, and there is one at a time."}
	case err != nil || r.DryRun:
		return answer{body: v}, err
	}
	return answer{status: http.StatusAccepted, body: v, location: root + "/resends/" + strconv.FormatInt(v.ID, 10)}, nil
}

func allMember(into *bool) member {
	return member{name: "all", into: into, expects: "true, when the filter is to choose everything"}
}

func rateMember(into *float64) member {
	return member{name: "rate", into: into, expects: "a number: the most events a second"}
}

func dryRunMember(into *bool) member {
	return member{name: "dry_run", into: into, expects: "true or false"}
}
