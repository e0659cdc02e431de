package bridge

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"os"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"gancho/delivery/endpoint"
	"gancho/internal/retry"
	"gancho/internal/state"
)

const (
	// jobsAtOnce is how many jobs a process has: one that waits for a slow or
	// paused endpoint, or its rate, does not hold up the others. When there are more,
	// each gives its place to another after jobTurn. pagesAtOnce is how many of them
	// have a page in memory, from reading it until Redis has it.
	jobsAtOnce  = 64
	jobTurn     = 5 * time.Second
	pagesAtOnce = 4
	// claimAgain is the wait after a claim that failed.
	claimAgain = time.Second
	// jobPage and redrivePage are the most events that are sent between two notes of how
	// far a job is. A redrive waits for Redis's disk with each, a second and a half where
	// WAITAOF is not to be trusted; so with a rate, its pages are of redriveSeconds, not one.
	jobPage, redrivePage = 500, 5000
	redriveSeconds       = 5
	// replayPart is how many of them are appended in one call, which holds Redis up.
	replayPart = 500
	// replayBacklog is how many events of jobs may wait in an endpoint's queue.
	replayBacklog = 10_000
	// jobPause is the wait for room, or between two tries.
	jobPause = 250 * time.Millisecond
	// learnTime is how long a job waits for this process to learn of its endpoint:
	// who adds or activates one may send to it in the same breath.
	learnTime = 3 * time.Second
)

// jobs works on resends and redrives; parked.go has those of parked changes.
type jobs struct {
	*bridge
	store   *state.Store // over the pool of the jobs
	worker  string
	slots   chan struct{} // one for each job that the process has
	pages   *pageSlots
	refused refusals
	parked  chan struct{} // capacity 1: a job of parked changes is at work
	// parkedWaiting are the jobs of parked changes that wait for that one.
	parkedWaiting atomic.Int32
}

func newJobs(b *bridge) *jobs {
	host, err := os.Hostname()
	if err != nil {
		host = "unknown"
	}
	store := b.jobStore
	if b.member != nil {
		store = store.Of(b.member.Slot)
	}
	return &jobs{
		bridge: b, store: store, worker: fmt.Sprintf("%s:%d:%s", host, os.Getpid(), rand.Text()[:6]),
		slots: make(chan struct{}, jobsAtOnce),
		pages: newPageSlots(pagesAtOnce), parked: make(chan struct{}, 1),
	}
}

// run claims jobs and works on them until the context ends; those that are not
// over are given back.
func (j *jobs) run(ctx context.Context) error {
	var working sync.WaitGroup
	defer working.Wait()
	for {
		select {
		case <-ctx.Done():
			return nil
		case j.slots <- struct{}{}:
		}
		var except []state.JobKind
		if !j.capturing() {
			except = append(except, state.RedriveParked, state.Backfill)
		}
		if j.member != nil { // the house sees to those of no source
			except = append(except, state.Resend, state.Redrive)
		}
		job, err := j.store.ClaimJob(ctx, j.worker, state.JobLease, except...)
		if err == nil && job != nil {
			working.Go(func() {
				if j.member != nil {
					j.member.jobs.Add(1)
					defer j.member.jobs.Add(-1)
				}
				j.work(ctx, job)
				<-j.slots
			})
			continue // there may be another one
		}
		<-j.slots
		if err != nil && ctx.Err() == nil {
			j.stateComplaint.about(err)
			_ = retry.Wait(ctx, claimAgain) // its error is the context's
			continue
		}
		select {
		case <-ctx.Done():
			return nil
		case <-j.jobsChanged:
		}
	}
}

// work sends a job's events and says what came of it.
func (j *jobs) work(ctx context.Context, job *state.Job) {
	log := j.Log.With().Int64("job", job.ID).Str("kind", string(job.Kind)).Str("endpoint", job.Endpoint).Logger()
	to, why := state.Done, ""
	err := state.ErrConflict
	if job.State != state.Canceled {
		log.Info().Int64("sent", job.Sent).Int64("total", job.Total).Msg("job started")
		err = j.sendKept(ctx, job)
	}
	if over := new(turnOverError); errors.As(err, &over) {
		// The lease ends anyway: then another one continues.
		if err := j.store.PostponeJob(ctx, job, max(0, time.Until(over.due))); err != nil && ctx.Err() == nil && !errors.Is(err, state.ErrConflict) {
			log.Warn().Err(err).Msg("job could not be given back; it continues when its lease has expired")
		}
		return
	}
	if err != nil && ctx.Err() == nil && job.Kind == state.Redrive {
		if err := j.dropSent(ctx, job); err != nil && ctx.Err() == nil {
			log.Warn().Err(err).Msg("dead letters that the job has sent cannot be deleted now; it keeps them until they can")
			return // whoever claims it when the lease has expired continues here
		}
	}
	switch {
	case ctx.Err() != nil, errors.Is(err, errCapturesNot):
		to = state.Queued
	case errors.Is(err, state.ErrConflict):
		log.Info().Int64("sent", job.Sent).Msg("job was canceled, or another process has it")
		return
	case err != nil:
		to, why = state.Failed, err.Error()
	}
	end, cancel := context.WithTimeout(context.WithoutCancel(ctx), patience.Max)
	defer cancel()
	if err := j.store.FinishJob(end, job, to, why); err != nil {
		log.Warn().Err(err).Msg("end of the job could not be stored; another process will end it")
		return
	}
	if to != state.Queued && (job.Kind == state.Resend || job.Kind == state.Redrive) {
		_ = j.queue.ForgetJob(end, job.Endpoint, job.Key()) // else Redis does so in a week
	}
	j.metrics.jobs.WithLabelValues(string(job.Kind), string(to)).Inc()
	log.Info().Int64("sent", job.Sent).Str("state", string(to)).Str("reason", why).Msg("job ended")
}

// turnOverError ends a job's work for now, between two pages, because others need its place.
type turnOverError struct{ due time.Time } // of the next page

// Error says so.
func (*turnOverError) Error() string { return "the job gives its place to another one" }

// dropSent deletes the dead letters that a redrive has sent when it ends inside a page. It
// does not outlast the lease: whoever claims the job then tries again, for as long as Redis
// takes, which may be that of a rewrite of its append-only file.
func (j *jobs) dropSent(ctx context.Context, job *state.Job) error {
	ctx, cancel := context.WithTimeout(ctx, state.JobLease)
	defer cancel()
	var position string
	err := j.queue.Durably(ctx, job.Endpoint, func() (err error) {
		position, err = j.queue.JobPosition(ctx, job.Endpoint, job.Key())
		return err
	})
	if err != nil {
		return err
	}
	return j.store.DropSent(ctx, job, position) // also when nothing was sent: a canceled job lets go of what it has claimed
}

// sendKept sends the job's pages while its lease is kept. Nothing may hold up
// the lease: whoever takes the job over sends the page that is under way again.
func (j *jobs) sendKept(ctx context.Context, job *state.Job) error {
	sending, stop := context.WithCancelCause(ctx)
	var keeping sync.WaitGroup
	kept := *job // sending changes the job
	keeping.Go(func() { stop(j.keep(sending, kept)) })
	err := j.send(sending, job)
	stop(nil)
	keeping.Wait()
	if cause := context.Cause(sending); err != nil && !errors.Is(cause, context.Canceled) {
		return cause
	}
	return err
}

// keep renews the lease of a job until the context ends, or that fails.
func (j *jobs) keep(ctx context.Context, job state.Job) error {
	for {
		if err := retry.Wait(ctx, state.JobLease/3); err != nil {
			return err
		}
		if err := j.advance(ctx, &job, state.JobPage{}); err != nil {
			return err
		}
	}
}

// fit reports whether there is an endpoint to send to, and whether it may have
// what the job chooses: its tenants or sources may be others than when the job was made,
// or it may be another one of the name.
func (j *jobs) fit(job *state.Job) error {
	if err := j.receives(job.Endpoint); err != nil {
		return err
	}
	all := j.endpointsNow()
	i := slices.IndexFunc(all, func(e *endpoint.Endpoint) bool { return e.Name == job.Endpoint })
	switch {
	case i < 0:
		return nil // it has gone right now, as the next look tells
	case job.Tenant != "" && !slices.Equal(all[i].Tenants, []string{job.Tenant}):
		return fmt.Errorf("endpoint %q is not the tenant's own any more", job.Endpoint)
	case len(all[i].Tenants) > 0 && !covers(all[i].Tenants, &job.Filter):
		return fmt.Errorf("endpoint %q is limited to other tenants now; start again", job.Endpoint)
	case !readsAll(all[i], &job.Filter):
		return fmt.Errorf("endpoint %q is limited to other sources now; start again", job.Endpoint)
	}
	return nil
}

// receives reports whether events are queued for an endpoint.
func (j *jobs) receives(name string) error {
	all := j.endpointsNow()
	i := slices.IndexFunc(all, func(e *endpoint.Endpoint) bool { return e.Name == name })
	switch {
	case i < 0:
		return fmt.Errorf("there is no endpoint %q any more", name)
	case all[i].State == endpoint.Inactive:
		return fmt.Errorf("endpoint %q is inactive: nothing is queued for it; activate it and start again", name)
	}
	return nil
}

// readsAll reports whether the filter chooses events of the endpoint's sources only. A pattern of the endpoint that covers the text of another
// one covers all that this one does: a star of it is within one of its own.
func readsAll(e *endpoint.Endpoint, f *state.Filter) bool {
	return len(e.Sources) == 0 || len(f.Sources) > 0 && !slices.ContainsFunc(f.Sources, func(p string) bool { return !e.Reads(p) })
}

// covers reports whether the filter chooses these tenants' events only.
func covers(tenants []string, f *state.Filter) bool {
	chosen := f.Tenants
	if f.Tenant != nil {
		chosen = []string{*f.Tenant}
	}
	return len(chosen) > 0 && !slices.ContainsFunc(chosen, func(t string) bool { return !slices.Contains(tenants, t) })
}

// tryState calls try until it succeeds or fails for another reason than that the
// state database is unreachable.
func tryState[T any](ctx context.Context, b *bridge, try func() (T, error)) (T, error) {
	return retry.Do(ctx, patience, func() (T, error) {
		v, err := try()
		if err == nil {
			b.stateComplaint.over()
		}
		return v, err
	}, func(err error) bool {
		if !unreachable(err) {
			return false
		}
		b.stateComplaint.about(err)
		return true
	})
}
