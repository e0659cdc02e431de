package control

import (
	"context"
	"errors"
	"slices"
	"strings"
	"time"

	"gancho/delivery/queue"
	"gancho/delivery/webhook"
	"gancho/internal/state"
)

// Deliveries lists the attempts of the delivery log that the filter chooses,
// the newest first: everything sent to an endpoint between two times, about a
// key, or of one event. Needs Viewer.
func (s *Service) Deliveries(ctx context.Context, a Actor, f state.Filter, cursor string, limit int) (Page[DeliveryView], error) {
	page := Page[DeliveryView]{Items: []DeliveryView{}}
	store, err := s.stored(a, state.Viewer)
	if err != nil {
		return page, err
	}
	n, err := pageSize(limit)
	if err != nil {
		return page, err
	}
	if err := span(f); err != nil {
		return page, err
	}
	if f.Outcome != "" && !slices.Contains(Outcomes(), f.Outcome) {
		return page, invalid("/outcome", "write one of "+strings.Join(Outcomes(), ", "), "there is no outcome %q", f.Outcome)
	}
	if f, err = a.scope(f); err != nil {
		return page, err
	}
	rows, next, err := store.Attempts(ctx, f, cursor, n)
	switch {
	case errors.Is(err, state.ErrCursor):
		return page, invalid("/cursor", "take the next of the page before, as it is", "the cursor is not one of this list")
	case err != nil:
		return page, err
	}
	for _, r := range rows {
		page.Items = append(page.Items, DeliveryView{
			Time: r.Time, Endpoint: r.Endpoint, WebhookID: r.WebhookID, Event: r.Event, Tenant: r.Tenant, Key: r.Key,
			Committed: r.Committed, Attempt: r.Number, Outcome: r.Outcome, Class: r.Class, Status: r.Status, Error: r.Error,
			DurationMS: float64(r.Duration) / float64(time.Millisecond), Replay: r.Replay,
		})
	}
	page.Next = next
	return page, nil
}

// Outcomes are what an attempt of the delivery log may have come to: dead is
// the one after which the event was given up. The caller owns the slice.
func Outcomes() []string {
	return []string{
		webhook.Delivered.String(), webhook.Retry.String(), webhook.Refused.String(), webhook.Gone.String(), queue.OutcomeDead,
	}
}

// span refuses a filter whose times exclude each other.
func span(f state.Filter) error {
	if !f.From.IsZero() && !f.To.IsZero() && !f.From.Before(f.To) {
		return invalid("/from", "from is included, to is not", "from (%s) is not before to (%s)", f.From.Format(time.RFC3339), f.To.Format(time.RFC3339))
	}
	return nil
}
