package control

import (
	"cmp"
	"context"
	"slices"
	"strings"
	"time"

	"gancho/delivery/queue"
	"gancho/internal/state"
)

// maxGroups bounds how many groups are returned.
const maxGroups = 100

// DeadGroups groups the dead letters that the filter chooses by endpoint, event and how the
// last attempt has failed, with one of each as DeadLetters lists it: up to a hundred groups,
// the largest first. Needs Viewer.
func (s *Service) DeadGroups(ctx context.Context, a Actor, f state.Filter) ([]state.DeadGroup, error) {
	store, err := s.stored(a, state.Viewer)
	if err != nil {
		return nil, err
	}
	if f, err = s.deadFilter(a, f); err != nil {
		return nil, err
	}
	shown, err := s.shown(ctx, a)
	if err != nil {
		return nil, err
	}
	groups, err := store.DeadGroups(ctx, f, maxGroups)
	for i := range groups {
		listedDead(&groups[i].Sample, shown)
	}
	return groups, err
}

// ParkedGroup are parked changes of a rule for the same reason.
type ParkedGroup struct {
	Source string `json:"source,omitempty"` // of several, which
	Event  string `json:"event,omitempty"`
	Rule   string `json:"rule"`
	Table  string `json:"table"`
	Reason string `json:"reason"`
	Count  int64  `json:"count"`
	// Redrivable are how many of them can be redriven.
	Redrivable int64 `json:"redrivable"`
	// Oldest and Newest are when they were committed.
	Oldest time.Time `json:"oldest"`
	Newest time.Time `json:"newest"`
	// Sample is the oldest, without its row, which ParkedChange shows.
	Sample queue.ParkedChange `json:"sample"`
}

// ParkedGroups groups the parked changes that the filter chooses by rule and reason, and source, with
// one of each: up to a hundred groups, the largest first. It reads all of them, without
// their rows. Needs Viewer.
func (s *Service) ParkedGroups(ctx context.Context, a Actor, f state.Filter) ([]ParkedGroup, error) {
	if err := a.mayParked(state.Viewer); err != nil {
		return nil, err
	}
	filter, err := parkedFilter(f)
	if err != nil {
		return nil, err
	}
	out := []ParkedGroup{}
	err = gather(ctx, s, func(of *Service) ([]ParkedGroup, error) { return of.parkedGroups(ctx, filter) }, func(some []ParkedGroup) { out = append(out, some...) })
	if err != nil {
		return nil, err
	}
	slices.SortFunc(out, func(a, b ParkedGroup) int {
		return cmp.Or(cmp.Compare(b.Count, a.Count), strings.Compare(a.Source, b.Source), a.Sample.ID.Compare(b.Sample.ID))
	})
	return out[:min(len(out), maxGroups)], nil
}

// parkedGroups are those of one source, in no order.
func (s *Service) parkedGroups(ctx context.Context, filter queue.ParkedFilter) ([]ParkedGroup, error) {
	type sort struct{ event, rule, table, reason string }
	groups := map[sort]*ParkedGroup{}
	if err := s.unreachable(); err != nil {
		return nil, err
	}
	err := s.Queue.EachParked(ctx, filter, func(p *queue.ParkedChange) {
		k := sort{p.Type, p.Rule, p.Table, p.Reason}
		g := groups[k]
		if g == nil {
			g = &ParkedGroup{Source: s.SourceName, Event: p.Type, Rule: p.Rule, Table: p.Table, Reason: p.Reason, Oldest: p.Time, Newest: p.Time, Sample: *p}
			groups[k] = g
		}
		g.Count++
		if p.Redrivable {
			g.Redrivable++
		}
		if p.Time.After(g.Newest) {
			g.Newest = p.Time
		}
	})
	if err != nil {
		return nil, err
	}
	out := make([]ParkedGroup, 0, len(groups))
	for _, g := range groups {
		out = append(out, *g)
	}
	return out, nil
}
