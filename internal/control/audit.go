package control

import (
	"context"

	"gancho/internal/state"
)

// Audit lists who changed what, the newest first. The filter's tenant is the
// actor's. Needs Viewer.
func (s *Service) Audit(ctx context.Context, a Actor, f state.AuditFilter, cursor string, limit int) (Page[state.Change], error) {
	return numbered(s, a, cursor, limit, func(c *state.Change) int64 { return c.ID }, func(store *state.Store, before int64, n int) ([]state.Change, error) {
		if err := checkSpan(f.From, f.To); err != nil {
			return nil, err
		}
		f.Tenant = nil
		if a.Tenant != "" {
			f.Tenant = &a.Tenant
		}
		return store.Audit(ctx, f, before, n)
	})
}
