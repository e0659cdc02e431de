package control

import (
	"context"
	"fmt"
	"time"

	"gancho/delivery/queue"
)

// ExpiryText says what is going to be deleted, when, and what to do.
func ExpiryText(kind string, e *queue.Expiry) string {
	what, setting := "dead letters", "state.keep_dead"
	if kind == queue.ExpiringParked {
		what, setting = "parked changes", "queue.keep_parked"
	}
	return fmt.Sprintf("%d %s will be deleted after %s (%s); redrive or drop them before, or keep them longer", e.Count, what, e.Due.Format(time.RFC3339), setting)
}

// expiring are the deletions that were announced: sentences with what to do.
func (s *Service) expiring(ctx context.Context) ([]string, error) {
	var all []string
	for _, kind := range []string{queue.ExpiringDead, queue.ExpiringParked} {
		e, err := s.Queue.Expiry(ctx, kind)
		if err != nil {
			return all, err
		}
		if e != nil {
			all = append(all, ExpiryText(kind, e))
		}
	}
	return all, nil
}
