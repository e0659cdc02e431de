package control

import (
	"context"
	"slices"

	"gancho/internal/state"
)

// missingInJob is how many events a job names, MaxMissing how many are sent so.
const (
	missingInJob = 5_000
	MaxMissing   = 100_000
)

// ResendMissing creates jobs of r's Rate, or with DryRun only counts, that send the kept events which r's
// Filter chooses for r's Endpoint and which the receiver does not have; has is called with their
// webhook-ids. Those that were superseded at the endpoint are not missing. All jobs or none are created; none is missing: there are no jobs. Needs Operator.
func (s *Service) ResendMissing(ctx context.Context, a Actor, r state.Job, has func(webhookID string) bool) ([]state.Job, error) {
	j, err := s.resendOf(ctx, a, r, s.usage(ctx))
	if err != nil {
		return nil, err
	}
	superseded, err := s.Store.SupersededIDs(ctx, j.Endpoint, j.Filter.From)
	if err != nil {
		return nil, err
	}
	var missing []string
	err = s.Store.KeptIDs(ctx, j.Filter, func(id string) error {
		if superseded[id] || has(id) {
			return nil
		}
		if missing = append(missing, id); len(missing) > MaxMissing {
			return invalid("/filter", "choose a shorter span, or send all of it again", "more than %d events are missing", MaxMissing)
		}
		return nil
	})
	if err != nil {
		return nil, err
	}
	jobs := []state.Job{}
	for ids := range slices.Chunk(missing, missingInJob) {
		one := j
		one.Filter.Webhooks, one.Total = ids, int64(len(ids))
		jobs = append(jobs, one)
	}
	return s.createJobs(ctx, a, jobs)
}
