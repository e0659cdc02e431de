package control

import (
	"context"
	"encoding/json"
	"strconv"

	"gancho/internal/state"
)

// DeadLetters lists the dead letters that the filter chooses, the oldest
// first, without what only DeadLetter shows. Needs Viewer.
func (s *Service) DeadLetters(ctx context.Context, a Actor, f state.Filter, cursor string, limit int) (Page[state.DeadLetter], error) {
	shown, err := s.shown(ctx, a)
	if err != nil {
		return Page[state.DeadLetter]{Items: []state.DeadLetter{}}, err
	}
	page, err := numbered(s, a, cursor, limit, func(d *state.DeadLetter) int64 { return d.ID }, func(store *state.Store, after int64, n int) ([]state.DeadLetter, error) {
		f, err := s.deadFilter(a, f)
		if err != nil {
			return nil, err
		}
		return store.DeadLetters(ctx, f, after, n)
	})
	for i := range page.Items {
		listedDead(&page.Items[i], shown)
	}
	return page, err
}

// listedDead takes out of a dead letter what only DeadLetter shows.
func listedDead(d *state.DeadLetter, shown func(endpoint, class string, text, answer *string)) {
	shown(d.Endpoint, d.Class, &d.Error, &d.Answer)
	d.Data, d.Previous, d.Unchanged, d.Errors, d.Op, d.Sequence, d.Version, d.Answer = nil, nil, nil, nil, "", "", "", ""
}

// deadFilter checks a filter and limits it to the actor's rows, and to those of the source, of several, that the Service is of.
func (s *Service) deadFilter(a Actor, f state.Filter) (state.Filter, error) {
	for _, err := range []error{checkSpan(f.From, f.To), checkEvents(f.Events)} {
		if err != nil {
			return f, err
		}
	}
	if f.Outcome != "" {
		return f, invalid("/outcome", "leave it out", "dead letters have no outcome")
	}
	if f.Rule != "" || f.Reason != "" {
		return f, invalid("/filter", "choose by class and status", "dead letters have no rule or reason")
	}
	f, err := s.tagged(f)
	if err != nil {
		return f, err
	}
	if own := s.ownSource(); own != nil {
		f.Sources = own
	}
	return a.scope(f)
}

// DeadLetter returns a dead letter with its body, and writes to the audit log that the
// actor has read it. Needs Viewer.
func (s *Service) DeadLetter(ctx context.Context, a Actor, id int64) (DeadDetail, error) {
	store, err := s.stored(a, state.Viewer)
	if err != nil {
		return DeadDetail{}, err
	}
	d, err := store.DeadLetter(ctx, id, a.Tenant)
	if err == nil && s.SourceName != "" && SourceOf(d.Tenant) != s.SourceName {
		err = state.ErrNotFound
	}
	if err != nil {
		return DeadDetail{}, err
	}
	shown, err := s.shown(ctx, a)
	if err != nil {
		return DeadDetail{}, err
	}
	shown(d.Endpoint, d.Class, &d.Error, &d.Answer)
	read := state.Change{Actor: a.Name, Tenant: d.Tenant, Action: "dead.read", Object: "dead/" + strconv.FormatInt(id, 10)}
	if err := store.RecordRead(ctx, read); err != nil {
		return DeadDetail{}, err
	}
	return DeadDetail{DeadLetter: d, Data: jsonOf(d.Data), Previous: jsonOf(d.Previous), Unchanged: jsonOf(d.Unchanged), Errors: jsonOf(d.Errors)}, nil
}

// DeadDetail is a dead letter with its body.
type DeadDetail struct {
	state.DeadLetter
	Data      json.RawMessage `json:"data"`
	Previous  json.RawMessage `json:"previous,omitempty"`
	Unchanged json.RawMessage `json:"unchanged,omitempty"`
	Errors    json.RawMessage `json:"errors,omitempty"`
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

// DropDead deletes the dead letters that the filter chooses permanently,
// and returns how many. A filter that chooses everything has to say so: all. A tenant
// drops those of its own endpoints. Needs Admin.
func (s *Service) DropDead(ctx context.Context, a Actor, f state.Filter, all bool) (int64, error) {
	store, err := s.stored(a, state.Admin)
	if err != nil {
		return 0, err
	}
	if err := checkChoice(f, all); err != nil {
		return 0, err
	}
	if f, err = s.deadFilter(a, f); err != nil {
		return 0, err
	}
	if a.Tenant != "" {
		own, err := s.known(ctx, a)
		if err != nil || len(own) == 0 {
			return 0, err
		}
		f.Endpoints = namesOf(own)
	}
	return store.DropDead(ctx, a.Name, f)
}

// checkChoice refuses an empty filter, which would choose everything.
func checkChoice(f state.Filter, all bool) error {
	empty := len(f.IDs) == 0 && len(f.Parked) == 0 && len(f.Webhooks) == 0 && f.Endpoint == "" && f.Tenant == nil && f.Key == "" && len(f.Tags) == 0 && len(f.Events) == 0 &&
		f.From.IsZero() && f.To.IsZero() && f.Class == "" && f.Status == nil && f.Rule == "" && f.Reason == ""
	if empty && !all {
		return invalid("", "name ids, an endpoint, a key, tags, events or times, or say all", "the filter is empty, which would choose everything")
	}
	return nil
}

// jsonOf is a stored body as JSON: nil when it is empty, a JSON string when it
// is not JSON.
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
