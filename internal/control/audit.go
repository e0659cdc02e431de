package control

import (
	"context"
	"time"

	"gancho/internal/state"
)

// AuditFilter chooses entries of the audit log; empty parts choose all.
type AuditFilter struct {
	Object, Action string
	From, To       time.Time
}

// Audit lists who changed what, the newest first. Needs Viewer.
func (s *Service) Audit(ctx context.Context, a Actor, f AuditFilter, cursor string, limit int) (Page[state.Change], error) {
	return numbered(s, a, cursor, limit, func(c *state.Change) int64 { return c.ID }, func(store *state.Store, before int64, n int) ([]state.Change, error) {
		if err := checkSpan(f.From, f.To); err != nil {
			return nil, err
		}
		filter := state.AuditFilter{Object: f.Object, Action: f.Action, From: f.From, To: f.To}
		if a.Tenant != "" {
			filter.Tenant = &a.Tenant
		}
		return store.Audit(ctx, filter, before, n)
	})
}
