package control

import (
	"context"
	"time"

	"gancho/internal/state"
)

// Rates is what was sent in a span of time.
type Rates struct {
	From time.Time `json:"from"`
	To   time.Time `json:"to"`
	// StepSeconds is how long an interval is. Intervals in which nothing was sent are there, too.
	StepSeconds int64            `json:"step_seconds"`
	Intervals   []state.Interval `json:"intervals"`
}

// The spans that Rates answers, with their steps.
var rateSteps = []struct{ span, step time.Duration }{
	{time.Hour, time.Minute}, {6 * time.Hour, 5 * time.Minute}, {24 * time.Hour, 20 * time.Minute}, {7 * 24 * time.Hour, 2 * time.Hour},
}

// Rates returns what was sent lately to an endpoint ("": to all) that the actor sees: in the last hour, or in the shortest of six hours, a day
// and a week that the span fits in. Needs Viewer.
func (s *Service) Rates(ctx context.Context, a Actor, endpoint string, span time.Duration) (Rates, error) {
	store, err := s.stored(a, state.Viewer)
	if err != nil {
		return Rates{}, err
	}
	if endpoint != "" {
		if _, err := s.find(ctx, a, endpoint); err != nil {
			return Rates{}, err
		}
	}
	chosen := rateSteps[len(rateSteps)-1]
	for i := len(rateSteps) - 1; i >= 0 && rateSteps[i].span >= span; i-- {
		chosen = rateSteps[i]
	}
	if span > chosen.span {
		return Rates{}, invalid("/span", "write at most 168h", "a week is the longest span")
	}
	to := time.Now().UTC().Truncate(chosen.step).Add(chosen.step)
	r := Rates{From: to.Add(-chosen.span), To: to, StepSeconds: int64(chosen.step / time.Second)}
	found, err := store.Intervals(ctx, r.From, r.To, chosen.step, endpoint, a.Tenant)
	if err != nil {
		return Rates{}, err
	}
	for at := r.From; at.Before(r.To); at = at.Add(chosen.step) {
		if len(found) > 0 && found[0].From.Equal(at) {
			r.Intervals, found = append(r.Intervals, found[0]), found[1:]
			continue
		}
		r.Intervals = append(r.Intervals, state.Interval{From: at})
	}
	return r, nil
}
