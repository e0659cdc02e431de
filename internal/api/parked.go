package api

import (
	"net/http"

	"gancho/delivery/queue"
	"gancho/internal/state"
)

// position is the path's {id}. Nothing is at one that is none.
func (c *call) position() (string, error) {
	text := c.http.PathValue("id")
	if _, err := queue.ParseID(text); err != nil {
		return "", notFound()
	}
	return text, nil
}

func (c *call) showParked() (answer, error) {
	position, err := c.position()
	if err != nil {
		return answer{}, err
	}
	view, err := c.control.ParkedChange(c.ctx, c.actor, position)
	return answer{body: view}, err
}

func (c *call) dropOneParked() (answer, error) {
	position, err := c.position()
	if err != nil {
		return answer{}, err
	}
	n, err := c.control.DropParked(c.ctx, c.actor, state.Filter{Parked: []string{position}}, false)
	if err == nil && n == 0 {
		err = state.ErrNotFound
	}
	return answer{}, err
}

func (c *call) dropParked() (answer, error) {
	return c.drop(parkedMember, c.control.CountParked, c.control.DropParked)
}

func (c *call) redriveParked() (answer, error) {
	var r state.Job
	var all bool
	if err := c.decode(parkedMember(&r.Filter), allMember(&all), rateMember(&r.Rate), dryRunMember(&r.DryRun)); err != nil {
		return answer{}, err
	}
	a, err := list(c.control.RedriveParked(c.ctx, c.actor, r, all))
	if !r.DryRun {
		a.status = http.StatusAccepted
	}
	return a, err
}
