package control

import (
	"context"
	"slices"

	"gancho/delivery/queue"
	"gancho/internal/state"
)

// Gap is what is missing of a source.
type Gap struct {
	Source string `json:"source,omitempty"` // of several, which
	queue.Gap
}

// Gaps lists what is missing because the slot was lost or a transaction was stepped over, the
// newest first, of all sources. Needs Viewer, of all tenants.
func (s *Service) Gaps(ctx context.Context, a Actor) ([]Gap, error) {
	if err := a.mayParked(state.Viewer); err != nil {
		return nil, err
	}
	all := []Gap{}
	err := gather(ctx, s, func(of *Service) (gaps []Gap, err error) {
		if err := of.unreachable(); err != nil {
			return nil, err
		}
		some, err := of.Queue.Gaps(ctx)
		for i := range some {
			gaps = append(gaps, Gap{of.SourceName, some[i]})
		}
		return gaps, err
	}, func(some []Gap) { all = append(all, some...) })
	if err != nil {
		return nil, err
	}
	slices.SortStableFunc(all, func(a, b Gap) int { return b.Recorded.Compare(a.Recorded) })
	return all, nil
}
