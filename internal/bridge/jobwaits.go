package bridge

import (
	"context"
	"errors"
	"sync"

	"gancho/internal/control"
	"gancho/internal/state"
)

// quotaWait reports, in the log and in the job's record, that a job waits for a backlog.
type quotaWait struct {
	*jobs
	job   *state.Job
	log   complaint
	quota excessKey // that is in the record; its figures change all the time
}

func (j *jobs) waiting(job *state.Job) *quotaWait {
	return &quotaWait{jobs: j, job: job, log: complaint{
		log:    j.Log.With().Int64("job", job.ID).Str("endpoint", job.Endpoint).Logger(),
		failed: "a job waits: the backlog that it would make longer is over its quota",
		again:  "the backlog is within its quota: the job goes on",
	}}
}

// on reports that the job waits for the first of these quotas; none: it does not.
func (w *quotaWait) on(ctx context.Context, over []control.Excess) error {
	if len(over) == 0 {
		w.log.over()
		if w.job.Waits == "" {
			return nil
		}
		return w.note(ctx, "")
	}
	w.log.about(errors.New(over[0].String()))
	quota := excessKey{over[0].Tenant, over[0].What}
	if w.job.Waits != "" && quota == w.quota {
		return nil
	}
	w.quota = quota
	return w.note(ctx, (&control.QuotaError{Excess: over[0]}).Error())
}

func (w *quotaWait) note(ctx context.Context, why string) error {
	_, err := tryState(ctx, w.bridge, func() (struct{}, error) { return struct{}{}, w.jobs.store.NoteWait(ctx, w.job, why) })
	return err
}

// refusals are the complaints that Redis does not take jobs' events. One is for all jobs of a kind
// to an endpoint, however often they give their places to each other.
type refusals struct {
	mu sync.Mutex
	of map[refusalKey]*complaint // guarded by mu
}

type refusalKey struct {
	endpoint string
	kind     state.JobKind
}

// refusal reports that Redis does not take a job's events.
func (j *jobs) refusal(job *state.Job) *complaint {
	r, key := &j.refused, refusalKey{job.Endpoint, job.Kind}
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.of == nil {
		r.of = map[refusalKey]*complaint{}
	}
	if r.of[key] == nil {
		r.of[key] = &complaint{
			log:    j.Log.With().Str("kind", string(job.Kind)).Str("endpoint", job.Endpoint).Logger(),
			failed: "redis does not take a job's events safely now: jobs to the endpoint wait",
			again:  "redis takes the events of jobs to the endpoint again",
		}
	}
	return r.of[key]
}
