package bridge

import (
	"bytes"
	"context"
	"errors"
	"time"

	"gancho/delivery/queue"
	"gancho/delivery/webhook"
	"gancho/internal/retry"
	"gancho/internal/state"
	"gancho/mapping"
)

// redrivePageBytes is about how much of the rows of parked changes is in memory.
const redrivePageBytes = 8 << 20

// errCapturesNot: another process captures now, or soon, and has the rules.
var errCapturesNot = errors.New("this process captures no longer")

// redriveParked maps the parked changes that a job chooses by the newest rules, queues what
// they lead to, and removes them. One job does so at a time, in the process that captures:
// no two send the same change.
func (j *jobs) redriveParked(ctx context.Context, job *state.Job) error {
	if err := j.beginParked(ctx, time.Now().Add(jobTurn)); err != nil {
		return err
	}
	defer func() { <-j.parked }()
	turn := time.Now().Add(jobTurn)
	filter, after, err := j.choiceOf(ctx, job)
	if err != nil || filter.Last.IsZero() {
		return err
	}
	size := jobPage
	if job.Rate > 0 {
		size = min(size, max(1, int(job.Rate)))
	}
	lookup := j.capture.newLookup()
	defer lookup.Close(context.WithoutCancel(ctx))
	for due := time.Now(); ; {
		if err := retry.Wait(ctx, min(time.Until(due), jobPause)); err != nil {
			return err
		}
		if !j.capturing() {
			return errCapturesNot
		}
		if j.parkedTurnIsOver(turn) {
			return &turnOverError{due}
		}
		if time.Now().Before(due) {
			continue
		}
		var page []queue.ParkedChange
		err := j.untilTaken(ctx, job, func() (err error) {
			page, err = j.queue.ParkedPage(ctx, filter, after, size, redrivePageBytes)
			return err
		})
		if err != nil {
			return err
		}
		if len(page) == 0 {
			return j.untilTaken(ctx, job, func() error { return j.queue.ForgetReasons(ctx) })
		}
		r := redrive{jobs: j, job: job, turn: turn, redriver: mapping.NewRedriver(j.capture.bound.Load(), lookup), reasons: map[queue.ID]string{}}
		if err := r.run(ctx, page); err != nil {
			return err
		}
		if r.waited {
			continue // the rules and lookups may be others by now
		}
		after = page[len(page)-1].ID
		sent := int64(len(r.done)) - r.silent
		_, err = tryState(ctx, j.bridge, func() (struct{}, error) {
			return struct{}{}, j.store.AdvanceParked(ctx, job, after, filter.Last, sent, r.silent, r.kept)
		})
		if err != nil {
			return err
		}
		j.metrics.jobEvents.WithLabelValues(string(job.Kind)).Add(float64(sent))
		if job.Rate > 0 {
			due = time.Now().Add(time.Duration(float64(len(page)) / job.Rate * float64(time.Second)))
		}
	}
}

// beginParked waits until no other job of parked changes is at work, at most for a turn if
// others wait for a place.
func (j *jobs) beginParked(ctx context.Context, turn time.Time) error {
	j.parkedWaiting.Add(1)
	defer j.parkedWaiting.Add(-1)
	for {
		select {
		case <-ctx.Done():
			return ctx.Err()
		case j.parked <- struct{}{}:
			return nil
		case <-time.After(jobPause):
		}
		if j.turnIsOver(turn) {
			return &turnOverError{time.Now()}
		}
	}
}

// parkedTurnIsOver is turnIsOver of the job of parked changes that is at work, for which
// others of its kind wait, too.
func (j *jobs) parkedTurnIsOver(turn time.Time) bool {
	return j.turnIsOver(turn) || j.parkedWaiting.Load() > 0 && time.Now().After(turn)
}

// choiceOf returns which parked changes the job chooses of those that there are now, and
// where it continues. It does not follow those that are parked meanwhile.
func (j *jobs) choiceOf(ctx context.Context, job *state.Job) (filter queue.ParkedFilter, after queue.ID, err error) {
	filter, err = job.Filter.ParkedFilter()
	if err == nil && job.Cursor != "" {
		after, filter.Last, err = state.ParkedCursor(job.Cursor)
	}
	if err != nil || !filter.Last.IsZero() {
		return filter, after, err
	}
	err = j.untilTaken(ctx, job, func() (err error) {
		filter.Last, err = j.queue.LastParked(ctx)
		return err
	})
	return filter, after, err
}

// redrive is a page of a job of parked changes.
type redrive struct {
	*jobs
	job      *state.Job
	turn     time.Time // when it ends
	redriver *mapping.Redriver
	// done are to be removed; silent of them have no event any more.
	done   []queue.Unparked
	silent int64
	// kept is how many stay, reasons are why, where that may be another reason than before.
	kept    int64
	reasons map[queue.ID]string
	// waited: an endpoint had no room for its events. Nothing was done.
	waited bool
}

func (r *redrive) run(ctx context.Context, page []queue.ParkedChange) error {
	for i := range page {
		if err := r.mapAgain(ctx, &page[i]); err != nil {
			return err
		}
	}
	if err := r.untilRoom(ctx); err != nil || r.waited {
		return err
	}
	for id, reason := range r.reasons {
		if err := r.untilTaken(ctx, r.job, func() error { return r.queue.StillParked(ctx, id, reason) }); err != nil {
			return err
		}
	}
	return r.untilTaken(ctx, r.job, func() error { return r.queue.Unpark(ctx, r.done) })
}

// untilRoom waits until each endpoint that gets one of the events has room for them.
func (r *redrive) untilRoom(ctx context.Context) error {
	checked, waits := map[string]bool{}, r.overQuota(r.job)
	for i := range r.done {
		for _, endpoint := range r.done[i].Endpoints {
			for !checked[endpoint] {
				room, err := r.room(ctx, endpoint, waits)
				switch checked[endpoint] = room; {
				case err != nil:
					return err
				case !r.capturing():
					return errCapturesNot
				case room:
					continue
				case r.parkedTurnIsOver(r.turn):
					return &turnOverError{time.Now()}
				}
				r.waited = true
				if err := retry.Wait(ctx, jobPause); err != nil {
					return err
				}
			}
		}
	}
	return nil
}

// mapAgain maps one change, into done or kept. Its error is that the context has ended.
func (r *redrive) mapAgain(ctx context.Context, p *queue.ParkedChange) error {
	if !p.Redrivable {
		r.kept++
		return nil
	}
	row, err := r.State.Keyring.OpenParked(p)
	if err != nil {
		r.stays(p, err.Error())
		return nil
	}
	out := redriven{of: p, endpoints: func(e *mapping.Event) []string { return queue.Routed(r.endpointsNow(), e.Type, e.Tenant) }}
	err = r.redriver.Map(ctx, row.Change, &out)
	switch {
	case ctx.Err() != nil:
		return ctx.Err()
	case err != nil:
		r.stays(p, err.Error())
	case out.reason != "":
		r.stays(p, out.reason)
	default:
		if len(out.event.Endpoints) == 0 {
			r.silent++
		}
		out.event.ID = p.ID
		r.done = append(r.done, out.event)
	}
	return nil
}

func (r *redrive) stays(p *queue.ParkedChange, reason string) {
	r.kept++
	r.reasons[p.ID] = reason
}

// redriven is a sink for what one parked change leads to.
type redriven struct {
	of        *queue.ParkedChange
	endpoints func(*mapping.Event) []string
	event     queue.Unparked
	reason    string
}

// errNoID: an event without its webhook-id would be another one.
var errNoID = errors.New("the name of its source is not known, without which it has no webhook-id")

func (s *redriven) Event(e *mapping.Event) error {
	if s.of.WebhookID == "" {
		return errNoID
	}
	s.event.Endpoints = s.endpoints(e)
	if len(s.event.Endpoints) == 0 {
		s.reason = "no endpoint takes its event now (its name, its tenant)"
	}
	s.event.Message = webhook.Message{
		ID: s.of.WebhookID, Type: e.Type, Tenant: string(e.Tenant), Key: string(e.Key), Time: e.Time, Version: e.Version,
		Data: bytes.Clone(e.Data), Previous: bytes.Clone(e.Previous), Unchanged: bytes.Clone(e.Unchanged),
		Op: e.Op.String(), Errors: bytes.Clone(e.Errors),
	}
	return nil
}

func (s *redriven) Park(p *mapping.Parked) error {
	s.reason = p.Reason
	return nil
}
