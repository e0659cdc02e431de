package control

import (
	"context"
	"sync"
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
	// Total is all of it.
	Total state.Interval `json:"total"`
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
	key := ratesKey{endpoint, a.Tenant, chosen.span}
	if r, ok := s.rates.known(key); ok {
		return r, nil
	}
	to := time.Now().UTC().Truncate(chosen.step).Add(chosen.step)
	r := Rates{From: to.Add(-chosen.span), To: to, StepSeconds: int64(chosen.step / time.Second)}
	total, found, err := store.Intervals(ctx, r.From, r.To, chosen.step, endpoint, a.Tenant)
	if err != nil {
		return Rates{}, err
	}
	r.Total, r.Total.From = total, r.From
	for at := r.From; at.Before(r.To); at = at.Add(chosen.step) {
		one := state.Interval{From: at}
		if len(found) > 0 && found[0].From.Equal(at) {
			one, found = found[0], found[1:]
		}
		r.Intervals = append(r.Intervals, one)
	}
	s.rates.keep(key, r)
	return r, nil
}

// The bounds of the rates that are kept.
const (
	// ratesAge is how old they may be: of a busy hour they are read from millions of rows, and a page asks every few seconds.
	ratesAge  = 15 * time.Second
	ratesKept = 1000
)

// rates are those that were read lately.
type rates struct {
	mu   sync.Mutex
	kept map[ratesKey]keptRates
}

type ratesKey struct {
	endpoint, tenant string
	span             time.Duration
}

type keptRates struct {
	Rates
	read time.Time
}

func (r *rates) known(key ratesKey) (Rates, bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	found, ok := r.kept[key]
	return found.Rates, ok && time.Since(found.read) < ratesAge
}

func (r *rates) keep(key ratesKey, found Rates) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.kept == nil || len(r.kept) >= ratesKept {
		r.kept = map[ratesKey]keptRates{}
	}
	r.kept[key] = keptRates{found, time.Now()}
}
