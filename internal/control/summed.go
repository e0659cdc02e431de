package control

import (
	"cmp"
	"context"
	"slices"
	"strings"
	"time"
)

// summedFor is for how long the sums over several sources are shown: the queue of each is opened for them.
const summedFor = 15 * time.Second

// summed are the sums over several sources, as they were read last.
type summed struct {
	turn   chan struct{} // capacity 1: who reads them, or looks whether they are read; the others wait for the same
	read   time.Time     // when they were, as far as they could be
	failed error         // why not all
	rules  []RuleRate
	timers []TimerView
}

// sums are the rates of the rules and the pending timers, over all sources; of several as they were at most summedFor ago. Beside an error, which names
// the sources that it is of, they are those of the others.
func (s *Service) sums(ctx context.Context, now time.Time) ([]RuleRate, []TimerView, error) {
	if s.EachSource == nil {
		if err := s.unreachable(); err != nil {
			return nil, nil, err
		}
		rules, err := s.ruleRates(ctx, now)
		if err != nil {
			return nil, nil, err
		}
		timers, err := s.timers(ctx)
		return rules, timers, err
	}
	m := &s.summed
	select {
	case m.turn <- struct{}{}:
		defer func() { <-m.turn }()
	case <-ctx.Done():
		return nil, nil, ctx.Err()
	}
	if time.Since(m.read) < summedFor {
		return slices.Clone(m.rules), slices.Clone(m.timers), m.failed
	}
	rules, timers := map[string]*RuleRate{}, map[TimerView]*TimerView{}
	type of struct {
		rules  []RuleRate
		timers []TimerView
	}
	err := gather(ctx, s, func(source *Service) (one of, err error) {
		one.rules, one.timers, err = source.sums(ctx, now)
		return one, err
	}, func(one of) {
		for i := range one.rules {
			addRate(rules, &one.rules[i])
		}
		for i := range one.timers {
			addTimers(timers, &one.timers[i])
		}
	})
	if err != nil && ctx.Err() != nil {
		return nil, nil, err // it is not known whether they can be read
	}
	m.read, m.failed, m.rules, m.timers = time.Now(), err, nil, nil
	for _, r := range rules {
		m.rules = append(m.rules, *r)
	}
	for _, t := range timers {
		m.timers = append(m.timers, *t)
	}
	slices.SortFunc(m.rules, func(a, b RuleRate) int { return strings.Compare(a.Rule, b.Rule) })
	sortTimers(m.timers)
	return slices.Clone(m.rules), slices.Clone(m.timers), err
}

func addRate(to map[string]*RuleRate, r *RuleRate) {
	sum := to[r.Rule]
	if sum == nil {
		sum = &RuleRate{Rule: r.Rule, Event: r.Event}
		to[r.Rule] = sum
	}
	sum.Seen, sum.Matched, sum.Parked, sum.PerMinute = sum.Seen+r.Seen, sum.Matched+r.Matched, sum.Parked+r.Parked, sum.PerMinute+r.PerMinute
}

func addTimers(to map[TimerView]*TimerView, t *TimerView) {
	key := TimerView{Rule: t.Rule, Event: t.Event, Table: t.Table}
	sum := to[key]
	if sum == nil {
		sum = &key
		to[key] = sum
	}
	if !t.Next.IsZero() && (sum.Next.IsZero() || t.Next.Before(sum.Next)) {
		sum.Next = t.Next
	}
	sum.Pending, sum.Failed = sum.Pending+t.Pending, sum.Failed+t.Failed
}

func sortTimers(all []TimerView) {
	slices.SortFunc(all, func(a, b TimerView) int {
		return cmp.Or(strings.Compare(a.Event, b.Event), strings.Compare(a.Table, b.Table), strings.Compare(a.Rule, b.Rule))
	})
}
