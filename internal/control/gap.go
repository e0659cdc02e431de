package control

import (
	"context"

	"gancho/delivery/queue"
	"gancho/internal/state"
)

// Gaps lists what is missing because the slot was lost or a transaction was stepped over, the
// newest first. Needs Viewer, of all tenants.
func (s *Service) Gaps(ctx context.Context, a Actor) ([]queue.Gap, error) {
	if err := a.mayParked(state.Viewer); err != nil {
		return nil, err
	}
	if err := s.apart(runRecover); err != nil {
		return nil, err
	}
	return s.Queue.Gaps(ctx)
}
