package control

import (
	"context"
	"encoding/json"
	"errors"
	"maps"
	"net/http"
	"slices"
	"time"

	"gancho/delivery/endpoint"
	"gancho/delivery/queue"
	"gancho/delivery/webhook"
	"gancho/internal/state"
	"gancho/mapping"
)

// EventView is a kept event with its body, and what was attempted of it.
type EventView struct {
	WebhookID string    `json:"webhook_id"`
	Event     string    `json:"event"`
	Tenant    string    `json:"tenant,omitempty"`
	Key       string    `json:"key,omitempty"`
	Committed time.Time `json:"committed"`
	Op        string    `json:"op,omitempty"`
	Tags      []string  `json:"tags,omitempty"`
	// Rules make events of this name, as they are now: their places, file:line.
	Rules     []string        `json:"rules,omitempty"`
	Data      json.RawMessage `json:"data"`
	Previous  json.RawMessage `json:"previous,omitempty"`
	Unchanged json.RawMessage `json:"unchanged,omitempty"`
	Errors    json.RawMessage `json:"errors,omitempty"`
	// Request is what the endpoint that was asked about would be sent now, unsigned.
	Request *webhook.ExchangeRequest `json:"request,omitempty"`
}

// Event returns a kept event (state.keep_events), with the request of it that the endpoint ("": of none) would get, and writes to the audit
// log that the actor has read it. Needs Viewer.
func (s *Service) Event(ctx context.Context, a Actor, webhookID, endpointName string) (EventView, error) {
	store, err := s.stored(a, state.Viewer)
	if err != nil {
		return EventView{}, err
	}
	m, err := store.Event(ctx, webhookID, a.Tenant)
	if err != nil {
		return EventView{}, err
	}
	read := state.Change{Actor: a.Name, Tenant: m.Tenant, Action: "event.read", Object: "event/" + m.ID}
	if err := store.RecordRead(ctx, read); err != nil {
		return EventView{}, err
	}
	v := EventView{
		WebhookID: m.ID, Event: m.Type, Tenant: m.Tenant, Key: m.Key, Committed: m.Time, Op: m.Op, Tags: m.Tags, Rules: s.rulesOf(m.Type),
		Data: jsonOf(m.Data), Previous: jsonOf(m.Previous), Unchanged: jsonOf(m.Unchanged), Errors: jsonOf(m.Errors),
	}
	if endpointName != "" {
		v.Request, err = s.preview(ctx, a, endpointName, &m)
	}
	return v, err
}

// preview is the request of an event; nil when the endpoint is gone, not the actor's, or cannot be delivered to.
func (s *Service) preview(ctx context.Context, a Actor, name string, m *webhook.Message) (*webhook.ExchangeRequest, error) {
	found, err := s.find(ctx, a, name)
	if errors.Is(err, state.ErrNotFound) || isSealed(err) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	e, err := s.delivered(found)
	if err != nil {
		return nil, err
	}
	m.Title = s.titleOf(m.Type)
	header, body := webhook.NewPreview(&e).Request(m)
	return &webhook.ExchangeRequest{Method: http.MethodPost, URL: endpoint.MaskURL(e.URL), Header: header, Body: string(body)}, nil
}

// titleOf is what people call an event; empty where the rules do not say it, or are not known here.
func (s *Service) titleOf(event string) string {
	if s.Catalogue == nil {
		return ""
	}
	types := s.Catalogue()
	if i := slices.IndexFunc(types, func(t mapping.EventType) bool { return t.Name == event }); i >= 0 {
		return types[i].Title
	}
	return ""
}

// rulesOf are the places of the rules that make an event.
func (s *Service) rulesOf(event string) []string {
	if s.Catalogue == nil {
		return nil
	}
	var places []string
	for _, t := range s.Catalogue() {
		if t.Name != event {
			continue
		}
		for i := range t.Rules {
			places = append(places, t.Rules[i].Place)
		}
	}
	return places
}

// MaxDeliveries is how many deliveries are sent again at once.
const MaxDeliveries = 20_000

// Resends is what ResendDeliveries has created.
type Resends struct {
	// Jobs are one or more for each endpoint.
	Jobs []state.Job `json:"jobs"`
	// Total is how many events they send.
	Total int64 `json:"total"`
	// Unsent are deliveries that the filter chooses and that are not sent again: their event is no longer kept (state.keep_events), or
	// its endpoint is gone, another tenant's too, inactive, no longer for it, or has settings that state.key cannot decrypt.
	Unsent int64 `json:"unsent"`
}

// ResendDeliveries creates jobs, or with DryRun only counts, that send again the events of the deliveries that r's Filter chooses: each to
// the endpoint that it was for, or all of them to r's Endpoint; superseded ones only with that outcome, or by their ids. All jobs or none are created. Needs Operator.
func (s *Service) ResendDeliveries(ctx context.Context, a Actor, r state.Job) (Resends, error) {
	out := Resends{Jobs: []state.Job{}}
	if _, err := s.stored(a, state.Operator); err != nil {
		return out, err
	}
	if err := checkChoice(r.Filter, r.Filter.Outcome != ""); err != nil {
		return out, err
	}
	if err := checkRate(r.Rate); err != nil {
		return out, err
	}
	ids, err := s.deliveredTo(ctx, a, r)
	if err != nil {
		return out, err
	}
	used := s.usage(ctx)
	for _, name := range slices.Sorted(maps.Keys(ids)) {
		for some := range slices.Chunk(ids[name], missingInJob) {
			one, err := s.resendOf(ctx, a, state.Job{Endpoint: name, Rate: r.Rate, DryRun: r.DryRun, Filter: state.Filter{Webhooks: some}}, used)
			if r.Endpoint == "" && unusable(err) {
				out.Unsent += int64(len(some))
				continue
			}
			if err != nil {
				return out, err
			}
			if one.Total, err = s.Store.CountEvents(ctx, one.Filter); err != nil {
				return out, err
			}
			out.Total += one.Total
			out.Unsent += int64(len(some)) - one.Total
			if one.Total > 0 {
				out.Jobs = append(out.Jobs, one)
			}
		}
	}
	out.Jobs, err = s.createJobs(ctx, a, out.Jobs)
	return out, err
}

// deliveredTo are the webhook-ids of the deliveries that a job's filter chooses, by the endpoint that they are to be sent to.
func (s *Service) deliveredTo(ctx context.Context, a Actor, r state.Job) (map[string][]string, error) {
	out, seen, n := map[string][]string{}, map[[2]string]bool{}, 0
	// In one read nearly always: planning each, over the partitions of many days, takes as long as a page.
	const page = MaxDeliveries + 1
	f := r.Filter
	f.Latest = true
	for cursor := ""; ; {
		found, err := s.deliveries(ctx, a, f, cursor, page)
		if err != nil {
			return nil, err
		}
		for i := range found.Items {
			at := &found.Items[i]
			if at.Outcome == queue.OutcomeSuperseded && f.Outcome == "" && len(f.Webhooks) == 0 {
				continue // it was left out on purpose; whoever wants it asks for this outcome
			}
			to := at.Endpoint
			if r.Endpoint != "" {
				to = r.Endpoint
			}
			if seen[[2]string{to, at.WebhookID}] {
				continue
			}
			seen[[2]string{to, at.WebhookID}] = true
			if n++; n > MaxDeliveries {
				return nil, invalid("/filter", "choose a shorter span, an endpoint or an event", "more than %d deliveries are chosen", MaxDeliveries)
			}
			out[to] = append(out[to], at.WebhookID)
		}
		if cursor = found.Next; cursor == "" {
			break
		}
	}
	return out, nil
}
