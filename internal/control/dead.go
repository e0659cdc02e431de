package control

import (
	"context"
	"encoding/json"

	"gancho/delivery/queue"
	"gancho/internal/state"
)

// DeadLetters lists the dead letters that the filter chooses, the oldest
// first. Needs Viewer.
func (s *Service) DeadLetters(ctx context.Context, a Actor, f state.Filter, cursor string, limit int) (Page[DeadView], error) {
	none := Page[DeadView]{Items: []DeadView{}}
	store, n, after, err := s.numberedPage(a, cursor, limit)
	if err != nil {
		return none, err
	}
	if f, err = s.deadFilter(a, f); err != nil {
		return none, err
	}
	rows, err := store.DeadLetters(ctx, f, after, n+1)
	if err != nil {
		return none, err
	}
	return cut(rows, n, deadView, func(d state.DeadLetter) int64 { return d.ID }), nil
}

// deadFilter checks a filter and limits it to the actor's rows.
func (s *Service) deadFilter(a Actor, f state.Filter) (state.Filter, error) {
	if err := span(f); err != nil {
		return f, err
	}
	if f.Outcome != "" {
		return f, invalid("/outcome", "leave it out", "dead letters have no outcome")
	}
	return a.scope(f)
}

// DeadLetter returns a dead letter with its body. Needs Viewer.
func (s *Service) DeadLetter(ctx context.Context, a Actor, id int64) (DeadDetail, error) {
	store, err := s.stored(a, state.Viewer)
	if err != nil {
		return DeadDetail{}, err
	}
	d, err := store.DeadLetter(ctx, id, a.Tenant)
	if err != nil {
		return DeadDetail{}, err
	}
	return DeadDetail{
		DeadView: deadView(d), Sequence: d.Sequence, Version: d.Version, Answer: d.Answer,
		Data: jsonOf(d.Data), Previous: jsonOf(d.Previous), Unchanged: jsonOf(d.Unchanged),
	}, nil
}

// CountDead returns how many dead letters the filter chooses. Needs Viewer.
func (s *Service) CountDead(ctx context.Context, a Actor, f state.Filter) (int64, error) {
	store, err := s.stored(a, state.Viewer)
	if err != nil {
		return 0, err
	}
	if f, err = s.deadFilter(a, f); err != nil {
		return 0, err
	}
	return store.CountDead(ctx, f)
}

// DropDead deletes the dead letters that the filter chooses, for good, and
// returns how many there were. A filter that chooses all has to say so: all.
// Needs Admin.
func (s *Service) DropDead(ctx context.Context, a Actor, f state.Filter, all bool) (int64, error) {
	store, err := s.stored(a, state.Admin)
	if err != nil {
		return 0, err
	}
	if err := chosen(f, all); err != nil {
		return 0, err
	}
	if f, err = s.deadFilter(a, f); err != nil {
		return 0, err
	}
	return store.DropDead(ctx, a.Name, f)
}

// chosen refuses a filter that chooses everything by saying nothing.
func chosen(f state.Filter, all bool) error {
	empty := len(f.IDs) == 0 && len(f.Webhooks) == 0 && f.Endpoint == "" && f.Tenant == nil && f.Key == "" && len(f.Events) == 0 &&
		f.From.IsZero() && f.To.IsZero()
	if empty && !all {
		return invalid("", "name ids, an endpoint, a key, events or times, or say all", "the filter is empty, which would choose everything")
	}
	return nil
}

func deadView(d state.DeadLetter) DeadView {
	return DeadView{
		ID: d.ID, Endpoint: d.Endpoint, WebhookID: d.Message.ID, Event: d.Type, Tenant: d.Tenant, Key: d.Key, Committed: d.Time,
		Reason: d.Reason, Attempts: d.Attempts, First: d.First, Last: d.Last, Status: d.Status, Class: d.Class, Error: d.Error,
	}
}

// jsonOf is a stored body for a view: nil when there is none, a JSON string
// when it is not JSON.
func jsonOf(body []byte) json.RawMessage {
	if len(body) == 0 {
		return nil
	}
	if json.Valid(body) {
		return body
	}
	text, _ := json.Marshal(string(body)) // a string
	return text
}

// Parked lists the changes that no event could be made of, in commit order.
// They belong to no tenant. Needs Viewer.
func (s *Service) Parked(ctx context.Context, a Actor, cursor string, limit int) (Page[ParkedView], error) {
	page := Page[ParkedView]{Items: []ParkedView{}}
	if err := a.may(state.Viewer); err != nil {
		return page, err
	}
	if a.Tenant != "" {
		return page, state.ErrNotFound
	}
	n, err := pageSize(limit)
	if err != nil {
		return page, err
	}
	var after queue.ID
	if cursor != "" {
		if after, err = queue.ParseID(cursor); err != nil {
			return page, invalid("/cursor", "take the next of the page before, as it is", "the cursor is not one of this list")
		}
	}
	rows, err := s.Queue.Parked(ctx, after, int64(n)+1)
	if err != nil {
		return page, err
	}
	for _, p := range rows[:min(len(rows), n)] {
		page.Items = append(page.Items, ParkedView{
			ID: p.ID.String(), Event: p.Type, Rule: p.Rule, Table: p.Table, Operation: p.Op.String(), Reason: p.Reason, Time: p.Time, Row: jsonOf(p.Row),
		})
	}
	if len(rows) > n {
		page.Next = page.Items[n-1].ID
	}
	return page, nil
}
