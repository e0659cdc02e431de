package control

import (
	"context"
	"time"

	"gancho/internal/state"
)

// AuditFilter chooses lines of the audit log; empty parts choose all.
type AuditFilter struct {
	Object, Action string
	From, To       time.Time
}

// Audit lists who changed what, the newest first. Needs Viewer.
func (s *Service) Audit(ctx context.Context, a Actor, f AuditFilter, cursor string, limit int) (Page[ChangeView], error) {
	none := Page[ChangeView]{Items: []ChangeView{}}
	store, n, before, err := s.numberedPage(a, cursor, limit)
	if err != nil {
		return none, err
	}
	if err := span(state.Filter{From: f.From, To: f.To}); err != nil {
		return none, err
	}
	filter := state.AuditFilter{Object: f.Object, Action: f.Action, From: f.From, To: f.To}
	if a.Tenant != "" {
		filter.Tenant = &a.Tenant
	}
	rows, err := store.Audit(ctx, filter, before, n+1)
	if err != nil {
		return none, err
	}
	return cut(rows, n, func(c state.Change) ChangeView { return ChangeView(c) }, func(c state.Change) int64 { return c.ID }), nil
}
