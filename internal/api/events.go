package api

import (
	"errors"
	"net/http"

	"gancho/internal/control"
	"gancho/internal/state"
)

func (c *call) listDeliveries() (answer, error) {
	filter, cursor, limit := c.query.filter(), c.query.cursor("deliveries"), c.query.limit()
	if err := c.query.err(); err != nil {
		return answer{}, err
	}
	p, err := c.control.Deliveries(c.ctx, c.actor, filter, cursor, limit)
	return paged("deliveries", p, err)
}

func (c *call) listDead() (answer, error) {
	filter, cursor, limit := c.query.filter(), c.query.cursor("dead"), c.query.limit()
	if err := c.query.err(); err != nil {
		return answer{}, err
	}
	p, err := c.control.DeadLetters(c.ctx, c.actor, filter, cursor, limit)
	return paged("dead", p, err)
}

func (c *call) showDead() (answer, error) {
	id, err := c.number()
	if err != nil {
		return answer{}, err
	}
	view, err := c.control.DeadLetter(c.ctx, c.actor, id)
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

// dropped says how many dead letters are gone.
type dropped struct {
	Dropped int64 `json:"dropped"`
}

func (c *call) dropDead() (answer, error) {
	var filter state.Filter
	var all bool
	mistakes := decodeObject("", c.body, filterMember(&filter, true), allMember(&all))
	if len(mistakes) > 0 {
		return answer{}, invalid(mistakes...)
	}
	n, err := c.control.DropDead(c.ctx, c.actor, filter, all)
	return answer{body: dropped{n}}, err
}

func (c *call) redrive() (answer, error) {
	var r control.Redrive
	mistakes := decodeObject("", c.body, filterMember(&r.Filter, true), allMember(&r.All), rateMember(&r.Rate), dryRunMember(&r.DryRun))
	if len(mistakes) > 0 {
		return answer{}, invalid(mistakes...)
	}
	jobs, err := c.control.CreateRedrive(c.ctx, c.actor, r)
	a, err := list(jobs, err)
	if !r.DryRun {
		a.status = http.StatusAccepted
	}
	return a, err
}

func (c *call) resend() (answer, error) {
	var r control.Resend
	mistakes := decodeObject("", c.body,
		member{name: "endpoint", into: &r.Endpoint, expects: "the name of the endpoint that is to receive them", required: true},
		filterMember(&r.Filter, false), rateMember(&r.Rate), dryRunMember(&r.DryRun))
	if len(mistakes) > 0 {
		return answer{}, invalid(mistakes...)
	}
	job, err := c.control.CreateResend(c.ctx, c.actor, r)
	if err != nil || r.DryRun {
		return answer{body: job}, err
	}
	return answer{status: http.StatusAccepted, body: job, location: jobPath(job.ID)}, nil
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

func (c *call) listParked() (answer, error) {
	cursor, limit := c.query.cursor("parked"), c.query.limit()
	if err := c.query.err(); err != nil {
		return answer{}, err
	}
	p, err := c.control.Parked(c.ctx, c.actor, cursor, limit)
	return paged("parked", p, err)
}

func (c *call) listJobs() (answer, error) {
	cursor, limit := c.query.cursor("resends"), c.query.limit()
	if err := c.query.err(); err != nil {
		return answer{}, err
	}
	p, err := c.control.Jobs(c.ctx, c.actor, cursor, limit)
	return paged("resends", p, err)
}

func (c *call) showJob() (answer, error) {
	id, err := c.number()
	if err != nil {
		return answer{}, err
	}
	job, err := c.control.Job(c.ctx, c.actor, id)
	return answer{body: job}, err
}

func (c *call) cancelJob() (answer, error) {
	id, err := c.number()
	if err != nil {
		return answer{}, err
	}
	job, err := c.control.CancelJob(c.ctx, c.actor, id)
	if errors.Is(err, state.ErrConflict) {
		return answer{}, &problem{kind: kindConflict, Detail: "It has ended already: there is nothing to cancel."}
	}
	return answer{body: job}, err
}
