package control

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"gancho/delivery/queue"
	"gancho/delivery/webhook"
	"gancho/internal/state"
)

// Deliveries lists the attempts of the delivery log that the filter chooses,
// the newest first: everything sent to an endpoint between two times, about a
// key, or of one event. A tenant sees of endpoints that are not its own only how its
// events ended. Needs Viewer.
func (s *Service) Deliveries(ctx context.Context, a Actor, f state.Filter, cursor string, limit int) (Page[state.Attempt], error) {
	none := Page[state.Attempt]{Items: []state.Attempt{}}
	if _, err := s.stored(a, state.Viewer); err != nil {
		return none, err
	}
	n, err := pageSize(limit)
	if err != nil {
		return none, err
	}
	return s.deliveries(ctx, a, f, cursor, n)
}

// deliveries is Deliveries with a page of any size, to a caller that has asked for the role.
func (s *Service) deliveries(ctx context.Context, a Actor, f state.Filter, cursor string, n int) (Page[state.Attempt], error) {
	none := Page[state.Attempt]{Items: []state.Attempt{}}
	for _, err := range []error{checkSpan(f.From, f.To), checkEvents(f.Events)} {
		if err != nil {
			return none, err
		}
	}
	if f.Outcome != "" && !slices.Contains(Outcomes(), f.Outcome) {
		return none, invalid("/outcome", "write one of "+strings.Join(Outcomes(), ", "), "the outcome %q does not exist", f.Outcome)
	}
	f, err := s.tagged(f)
	if err != nil {
		return none, err
	}
	if f, err = a.scope(f); err != nil {
		return none, err
	}
	shown, err := s.shown(ctx, a)
	if err != nil {
		return none, err
	}
	rows, next, err := s.Store.Attempts(ctx, f, cursor, n)
	switch {
	case errors.Is(err, state.ErrCursor):
		return none, badCursor()
	case err != nil:
		return none, err
	}
	for i := range rows {
		rows[i].ID = state.AttemptID(&rows[i])
		shown(rows[i].Endpoint, rows[i].Class, &rows[i].Error, new(string))
	}
	page := cut(rows, n, nil)
	page.Next = next
	return page, nil
}

// DeliveryDetail is an attempt with what is kept of it.
type DeliveryDetail struct {
	state.Attempt
	// Detail is nil when state.keep_answers or the endpoint's tenant say that it is not for
	// the actor, or the attempt was a later one of a list.
	Detail *webhook.Detail `json:"detail,omitempty"`
}

// Delivery returns an attempt of the delivery log with what the receiver has answered, and
// writes to the audit log that the actor has read that. Needs Viewer.
func (s *Service) Delivery(ctx context.Context, a Actor, id string) (DeliveryDetail, error) {
	store, err := s.stored(a, state.Viewer)
	if err != nil {
		return DeliveryDetail{}, err
	}
	row, err := store.Attempt(ctx, id, a.Tenant)
	if err != nil {
		return DeliveryDetail{}, err
	}
	shown, err := s.shown(ctx, a)
	if err != nil {
		return DeliveryDetail{}, err
	}
	kept := string(row.Detail)
	shown(row.Endpoint, row.Class, &row.Error, &kept)
	row.ID, row.Detail = id, nil
	d := DeliveryDetail{Attempt: row}
	if kept == "" {
		return d, nil
	}
	if err := json.Unmarshal([]byte(kept), &d.Detail); err != nil {
		return DeliveryDetail{}, fmt.Errorf("read what is kept of an attempt: %w", err)
	}
	read := state.Change{Actor: a.Name, Tenant: row.Tenant, Action: "delivery.read", Object: "delivery/" + row.WebhookID}
	return d, store.RecordRead(ctx, read)
}

// Outcomes are those that a row of the delivery log may have: dead is the
// last attempt of an event that became a dead letter, and superseded is no attempt: the end of an event that was
// not sent, because a newer one of its key was there. The caller owns the slice.
func Outcomes() []string {
	return []string{
		webhook.Delivered.String(), webhook.Retry.String(), webhook.Refused.String(), webhook.Gone.String(), queue.OutcomeDead, queue.OutcomeSuperseded,
	}
}

// expressible reports whether the time, in UTC, has a year that JSON can express.
func expressible(t time.Time) bool {
	year := t.UTC().Year()
	return year >= 0 && year <= 9999
}

// checkSpan refuses times that exclude each other, or are beyond those that can be stored.
func checkSpan(from, to time.Time) error {
	const hint, beyond = "leave it out", "the year of this time, in UTC, is not from 0 to 9999"
	switch {
	case !expressible(from):
		return invalid("/from", hint, beyond)
	case !expressible(to):
		return invalid("/to", hint, beyond)
	}
	if !from.IsZero() && !to.IsZero() && !from.Before(to) {
		return invalid("/from", "from is included, to is not", "from (%s) is not before to (%s)", from.Format(time.RFC3339), to.Format(time.RFC3339))
	}
	return nil
}

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
