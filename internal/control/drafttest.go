package control

import (
	"context"

	"gancho/delivery/queue"
	"gancho/internal/state"
)

// DraftTest returns a row of the source as a file of cases for gancho test, with what the rules make of it: personal values are masked, and lookups are
// left to who writes the test. That the row was read is written to the audit log. It does not exist for a tenant. Needs Operator.
func (s *Service) DraftTest(ctx context.Context, a Actor, q WhyQuestion) ([]byte, error) {
	if _, err := s.stored(a, state.Operator); err != nil {
		return nil, err
	}
	if a.Tenant != "" {
		return nil, state.ErrNotFound
	}
	q.Change = "" // of one the key is not remembered
	if err := q.check(a); err != nil {
		return nil, err
	}
	if err := s.whichSource(ctx); err != nil {
		return nil, err
	}
	if s.DraftTestOf == nil {
		return nil, &ElsewhereError{}
	}
	read := state.Change{Actor: a.Name, Action: "row.read", Object: "row/" + s.inSource(q.Table) + "/" + s.Store.Pseudonym(queue.Subject{Key: q.Key})}
	if err := s.Store.RecordRead(ctx, read); err != nil {
		return nil, err
	}
	file, err := s.DraftTestOf(ctx, q)
	if err == nil && file == nil {
		return nil, invalid("/key", "check the key, and whether the row was deleted", "there is no row with this key")
	}
	return file, err
}
