package bridge

import (
	"context"
	"errors"
	"sync"
	"time"

	"gancho/delivery/queue"
	"gancho/internal/control"
	"gancho/internal/retry"
	"gancho/internal/state"
)

// send sends the job's pages, in step with its rate and the endpoint's queue.
func (j *jobs) send(ctx context.Context, job *state.Job) error {
	switch job.Kind {
	case state.RedriveParked:
		return j.redriveParked(ctx, job)
	case state.Backfill:
		return j.backfill(ctx, job)
	}
	for begun := time.Now(); j.fit(job) != nil && time.Since(begun) < learnTime; {
		if err := retry.Wait(ctx, jobPause); err != nil {
			return err
		}
	}
	turn := time.Now().Add(jobTurn)
	refused, failures := j.refusal(job), 0
	for due := time.Now(); ; {
		if err := j.until(ctx, job, due, turn); err != nil {
			return err
		}
		if now := time.Now(); due.Before(now) {
			due = now // what was not sent while the endpoint had no room is not made up for
		}
		page, err := j.page(ctx, job)
		if isRefusal(err) { // it waits without the page: others, whose Redis takes theirs, need the place
			refused.about(err)
			failures++
			due = time.Now().Add(patience.Delay(failures))
			continue
		}
		if err != nil || page.Last {
			return err
		}
		refused.over()
		failures = 0
		if len(page.Messages) == 0 {
			due = due.Add(jobPause) // a canceled job is about to let go of what is next
		}
		if job.Rate > 0 {
			due = due.Add(time.Duration(float64(len(page.Messages)) / job.Rate * float64(time.Second)))
		}
	}
}

// pageSize is how many events the job's next page has at most.
func pageSize(job *state.Job) int {
	size, seconds := jobPage, 1.0
	if job.Kind == state.Redrive {
		size, seconds = redrivePage, redriveSeconds
	}
	if job.Rate > 0 {
		size = min(size, max(1, int(job.Rate*seconds)))
	}
	return size
}

// page sends the job's next page and writes that down.
func (j *jobs) page(ctx context.Context, job *state.Job) (state.JobPage, error) {
	if err := j.queue.TakesReplays(ctx, job.Endpoint); err != nil {
		return state.JobPage{}, err // it costs the state database nothing, which may be the application's
	}
	if err := j.pages.take(ctx, job.Tenant); err != nil {
		return state.JobPage{}, err
	}
	give := sync.OnceFunc(func() { j.pages.give(job.Tenant) })
	defer give()
	size := pageSize(job)
	page, err := tryState(ctx, j.bridge, func() (state.JobPage, error) { return j.store.JobPage(ctx, job, size) })
	if err != nil {
		return page, err
	}
	if len(page.Messages) > 0 {
		if err := j.replay(ctx, job, &page, give); err != nil {
			return page, err
		}
	}
	if err := j.advance(ctx, job, page); err != nil {
		return page, err
	}
	j.metrics.jobEvents.WithLabelValues(string(job.Kind)).Add(float64(len(page.Messages)))
	return page, nil
}

// advance writes down what was sent, and renews the lease.
func (j *jobs) advance(ctx context.Context, job *state.Job, page state.JobPage) error {
	_, err := tryState(ctx, j.bridge, func() (struct{}, error) { return struct{}{}, j.store.AdvanceJob(ctx, job, page) })
	return err
}

// turnIsOver: the turn has ended, and other jobs may wait for a place.
func (j *jobs) turnIsOver(turn time.Time) bool {
	return len(j.slots) == cap(j.slots) && time.Now().After(turn)
}

// until waits until the time has come and the endpoint's queue has room. When the turn is
// over and other jobs may wait for a place, it is a *turnOverError.
func (j *jobs) until(ctx context.Context, job *state.Job, due, turn time.Time) error {
	waits := j.waiting(job)
	for {
		if err := j.fit(job); err != nil {
			return err
		}
		if j.turnIsOver(turn) {
			return &turnOverError{due}
		}
		room, over, err := j.room(ctx, job.Endpoint)
		if err == nil {
			err = waits.on(ctx, over)
		}
		if err != nil || room && !time.Now().Before(due) {
			return err
		}
		wait := jobPause
		if left := time.Until(due); left > 0 && room {
			wait = min(wait, left)
		}
		if err := retry.Wait(ctx, wait); err != nil {
			return err
		}
	}
}

// room reports whether the endpoint's queue takes a job's events now: there are few of
// them, and the backlog is within its quota, or else over those that it returns.
func (j *jobs) room(ctx context.Context, endpoint string) (room bool, over []control.Excess, err error) {
	if over = j.excesses.over(j.tenantsOf(endpoint)); len(over) > 0 {
		return false, over, nil
	}
	waiting, err := j.queue.ReplayBacklog(ctx, endpoint)
	if errors.Is(err, queue.ErrUnreachable) {
		return false, nil, nil
	}
	return err == nil && waiting < replayBacklog, nil, err
}

// replay appends the page's events. Redis keeps how far the job is, so none is appended
// twice, whatever answers are lost, and when the page is read and replayed again. A
// dead letter is deleted from the state database next, so it has to be durable in
// Redis; a kept event need not be. Once they are appended it calls give: the events are in memory
// no more, and others need not wait for this job's disk.
func (j *jobs) replay(ctx context.Context, job *state.Job, page *state.JobPage, give func()) error {
	appendPage := func() error {
		if err := j.appendPage(ctx, job, page); err != nil {
			return err
		}
		clear(page.Messages) // how many they were, and where each was, is still needed
		give()
		return nil
	}
	if job.Kind == state.Redrive {
		return j.queue.Durably(ctx, job.Endpoint, appendPage)
	}
	return appendPage()
}

// isRefusal reports whether an error is that Redis is unreachable or full: it passes.
func isRefusal(err error) bool {
	return errors.Is(err, queue.ErrUnreachable) || errors.Is(err, queue.ErrFull)
}

// appendPage appends those of the page's events that Redis has not got from this job,
// replayPart at a time.
func (j *jobs) appendPage(ctx context.Context, job *state.Job, page *state.JobPage) error {
	for at := page.PositionAfter(0); at != page.Position(); {
		done, err := page.Reached(at)
		if err != nil || done == len(page.Messages) {
			return err
		}
		end := min(done+replayPart, len(page.Messages))
		part := queue.Part{Job: job.Key(), After: at, Position: page.PositionAfter(end), Messages: page.Messages[done:end]}
		if at, err = j.queue.ReplayPart(ctx, job.Endpoint, &part); err != nil {
			return err
		}
	}
	return nil
}
