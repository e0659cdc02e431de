package bridge

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"time"

	"gancho/delivery/queue"
	"gancho/delivery/webhook"
	"gancho/internal/control"
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
	filter, after, seen, err := j.choiceOf(ctx, job, turn)
	if err != nil || filter.Last.IsZero() {
		return err
	}
	size := jobPage
	if job.Rate > 0 {
		size = min(size, max(1, int(job.Rate)))
	}
	lookup := j.capture.newLookup()
	defer lookup.Close(context.WithoutCancel(ctx))
	p := postponed{jobs: j, waits: j.waiting(job), turn: turn, seen: seen}
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
		err := j.untilTaken(ctx, job, turn, func() (err error) {
			page, err = j.queue.ParkedPage(ctx, filter, after, size, redrivePageBytes)
			return err
		})
		if err != nil {
			return err
		}
		if len(page) == 0 && !p.some {
			return j.untilTaken(ctx, job, turn, func() error { return j.queue.ForgetReasons(ctx) })
		}
		if len(page) == 0 {
			if err := p.untilRoom(ctx); err != nil {
				return err
			}
			after, p.some = p.before, false
			continue
		}
		r := redrive{jobs: j, job: job, redriver: mapping.NewRedriver(j.capture.bound.Load(), lookup), reasons: map[queue.ID]string{}, postponed: &p}
		if err := r.run(ctx, after, page); err != nil {
			return errors.Join(err, r.advancePart(ctx, after, filter.Last))
		}
		after = page[len(page)-1].ID
		if after.Compare(p.seen) > 0 {
			p.seen = after
		}
		at := after // where another process continues
		if p.some {
			at = p.before
		}
		sent := int64(len(r.done)) - r.silent + r.redue
		_, err = tryState(ctx, j.bridge, func() (struct{}, error) {
			return struct{}{}, j.store.AdvanceParked(ctx, job, at, filter.Last, p.seen, sent, r.silent, r.kept)
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

// untilTaken calls do until Redis is reachable and not full, or the turn is over.
func (j *jobs) untilTaken(ctx context.Context, job *state.Job, turn time.Time, do func() error) error {
	refused := j.refusal(job)
	for {
		err := do()
		if !isRefusal(err) {
			refused.over()
			return err
		}
		refused.about(err)
		if j.parkedTurnIsOver(turn) {
			return &turnOverError{time.Now()}
		}
		if err := retry.Wait(ctx, jobPause); err != nil {
			return err
		}
	}
}

// choiceOf returns which parked changes the job chooses of those that there are now, and
// where it continues; it has been as far as seen. It does not follow those that are parked meanwhile.
func (j *jobs) choiceOf(ctx context.Context, job *state.Job, turn time.Time) (filter queue.ParkedFilter, after, seen queue.ID, err error) {
	filter, err = job.Filter.ParkedFilter()
	if err == nil && job.Cursor != "" {
		after, filter.Last, seen, err = state.ParkedCursor(job.Cursor)
	}
	if err != nil || !filter.Last.IsZero() {
		return filter, after, seen, err
	}
	err = j.untilTaken(ctx, job, turn, func() (err error) {
		filter.Last, err = j.queue.LastParkedID(ctx)
		return err
	})
	return filter, after, seen, err
}

// redrive is a page of a job of parked changes.
type redrive struct {
	*jobs
	job      *state.Job
	redriver *mapping.Redriver
	// done are to be removed; silent of them have no event any more.
	done     []queue.Unparked
	unparked bool // they were, instead
	// timers are to be made due again; redue is how many were.
	timers []queue.ID
	redue  int64
	silent int64
	// kept is how many stay, reasons are why, where that may be another reason than before.
	kept    int64
	reasons map[queue.ID]string
	*postponed
}

// run works on a page, which begins after an id.
func (r *redrive) run(ctx context.Context, after queue.ID, page []queue.ParkedChange) error {
	for i := range page {
		if err := r.mapAgain(ctx, &page[i]); err != nil {
			return err
		}
	}
	if err := r.postpone(ctx, after); err != nil {
		return err
	}
	for id, reason := range r.reasons {
		if err := r.untilTaken(ctx, r.job, r.turn, func() error { return r.queue.StillParked(ctx, id, reason) }); err != nil {
			return err
		}
	}
	err := r.untilTaken(ctx, r.job, r.turn, func() error {
		n, err := r.queue.RedriveTimers(ctx, r.timers)
		r.redue += n
		return err
	})
	if err != nil {
		return err
	}
	if r.redue > 0 {
		signal(r.capture.stage.timers)
	}
	done := 0
	err = r.untilTaken(ctx, r.job, r.turn, func() error {
		n, err := r.queue.Unpark(ctx, r.done[done:])
		done += n
		return err
	})
	r.done = r.done[:done]
	r.unparked = true
	return err
}

// advancePart writes down what a page that ended too early has sent: nobody finds those changes
// again. The job continues where the page begins, and counts there what it keeps.
func (r *redrive) advancePart(ctx context.Context, after, last queue.ID) error {
	if r.redue == 0 && (!r.unparked || len(r.done) == 0) {
		return nil
	}
	if !r.unparked {
		r.done = nil
	}
	silent := int64(0)
	for i := range r.done {
		if len(r.done[i].Endpoints) == 0 {
			silent++
		}
	}
	at := after
	if r.some {
		at = r.before
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), patience.Max)
	defer cancel()
	sent := int64(len(r.done)) - silent + r.redue
	_, err := tryState(ctx, r.bridge, func() (struct{}, error) {
		return struct{}{}, r.store.AdvanceParked(ctx, r.job, at, last, r.seen, sent, silent, 0)
	})
	r.metrics.jobEvents.WithLabelValues(string(r.job.Kind)).Add(float64(sent))
	return err
}

// postpone leaves those changes for a later pass whose events go to an endpoint without room:
// it does not hold up those of others.
func (r *redrive) postpone(ctx context.Context, after queue.ID) error {
	room := map[string]bool{}
	kept := r.done[:0]
	for i := range r.done {
		fits := true
		for _, name := range r.done[i].Endpoints {
			if _, checked := room[name]; !checked {
				has, over, err := r.room(ctx, name)
				if err != nil {
					return err
				}
				room[name] = has
				if err := r.lacks(ctx, name, has, over); err != nil {
					return err
				}
			}
			fits = fits && room[name]
		}
		if fits {
			kept = append(kept, r.done[i])
			continue
		}
		if !r.some {
			r.some, r.before = true, after
		}
	}
	clear(r.done[len(kept):])
	r.done = kept
	return nil
}

// postponed is what a job of parked changes has left for a later pass.
type postponed struct {
	*jobs
	waits  *quotaWait
	turn   time.Time       // when it ends
	some   bool            // this pass has left some
	before queue.ID        // where the page begins that has the first of them
	seen   queue.ID        // the last change of any pass
	full   map[string]bool // endpoints without room
}

// lacks notes whether an endpoint has room, and reports once that it has none.
func (p *postponed) lacks(ctx context.Context, endpoint string, room bool, over []control.Excess) error {
	if room {
		delete(p.full, endpoint)
		return nil
	}
	if p.full == nil {
		p.full = map[string]bool{}
	}
	if !p.full[endpoint] {
		p.full[endpoint] = true
		p.Log.Warn().Int64("job", p.waits.job.ID).Str("endpoint", endpoint).
			Msg("a redrive of parked changes leaves those of an endpoint whose queue has no room for later; those of others are sent")
	}
	if len(over) == 0 {
		return nil
	}
	return p.waits.on(ctx, over)
}

// untilRoom waits until one of the endpoints has room.
func (p *postponed) untilRoom(ctx context.Context) error {
	for len(p.full) > 0 {
		if err := retry.Wait(ctx, jobPause); err != nil {
			return err
		}
		switch {
		case !p.capturing():
			return errCapturesNot
		case p.parkedTurnIsOver(p.turn):
			return &turnOverError{time.Now()}
		}
		for name := range p.full {
			room, over, err := p.room(ctx, name)
			if err == nil && (room || len(over) > 0) {
				err = p.waits.on(ctx, over)
			}
			if err != nil {
				return err
			}
			if room {
				p.full = nil
				break
			}
		}
	}
	return nil
}

// mapAgain maps one change, into done or kept. Its error is that the context has ended.
func (r *redrive) mapAgain(ctx context.Context, p *queue.ParkedChange) error {
	if !p.Redrivable {
		r.keep(p)
		return nil
	}
	if rule := p.TimerRule(); rule != "" {
		if _, known := r.capture.bound.Load().TimerRule(rule); !known {
			r.keep(p) // it would be dropped; it can still be put back
			return nil
		}
		r.timers = append(r.timers, p.ID)
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
	r.keep(p)
	r.reasons[p.ID] = reason
}

// keep counts a change that stays, once in all passes.
func (r *redrive) keep(p *queue.ParkedChange) {
	if p.ID.Compare(r.seen) > 0 {
		r.kept++
	}
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
	if len(e.Tags) > 0 {
		return json.Unmarshal(e.Tags, &s.event.Message.Tags)
	}
	return nil
}

func (s *redriven) Park(p *mapping.Parked) error {
	s.reason = p.Reason
	return nil
}
