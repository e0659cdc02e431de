package remote

import (
	"context"
	"fmt"
	"net/http"
	"net/url"
	"strconv"
	"time"

	"gancho/delivery/queue"
	"gancho/internal/api"
	"gancho/internal/control"
	"gancho/internal/doctor"
	"gancho/internal/state"
	"gancho/mapping"
)

// get reads what is at a path.
func get[T any](ctx context.Context, c *Client, path string, query url.Values, args ...string) (view T, err error) {
	err = c.ask(ctx, request{method: http.MethodGet, path: path, args: args, query: query}, &view)
	return view, err
}

// whole reads a list without pages.
func whole[T any](ctx context.Context, c *Client, path string, query url.Values) ([]T, error) {
	page, err := get[control.Page[T]](ctx, c, path, query)
	return page.Items, err
}

// paged reads a page of a list. The API's cursors have the list's name in them, control's have not.
func paged[T any](ctx context.Context, c *Client, list, path string, query url.Values, cursor string, limit int) (control.Page[T], error) {
	if query == nil {
		query = url.Values{}
	}
	if cursor != "" {
		query.Set("cursor", api.Cursor(list, cursor))
	}
	if limit != 0 {
		query.Set("limit", strconv.Itoa(limit))
	}
	page, err := get[control.Page[T]](ctx, c, path, query)
	if page.Next == "" || err != nil {
		return page, err
	}
	next, ok := api.ParseCursor(list, page.Next)
	if !ok {
		return page, fmt.Errorf("ask gancho run at %s: its cursor cannot be read, it may be of another version", c.address)
	}
	page.Next = next
	return page, nil
}

func number(id int64) string { return strconv.FormatInt(id, 10) }

// span adds two times, as far as there are any.
func span(q url.Values, from, to time.Time) url.Values {
	for name, t := range map[string]time.Time{"from": from, "to": to} {
		if !t.IsZero() {
			q.Set(name, t.Format(time.RFC3339Nano))
		}
	}
	return q
}

// parameters are a filter's.
func parameters(f state.Filter) url.Values {
	q := span(url.Values{}, f.From, f.To)
	for name, text := range map[string]string{"endpoint": f.Endpoint, "key": f.Key, "outcome": f.Outcome, "class": f.Class, "rule": f.Rule, "reason": f.Reason} {
		if text != "" {
			q.Set(name, text)
		}
	}
	for name, texts := range map[string][]string{"webhook_id": f.Webhooks, "tag": f.Tags, "event": f.Events} {
		if len(texts) > 0 {
			q[name] = texts
		}
	}
	if f.Tenant != nil {
		q.Set("tenant", *f.Tenant)
	}
	if f.Status != nil {
		q.Set("status", strconv.Itoa(*f.Status))
	}
	if f.Latest {
		q.Set("latest", "true")
	}
	return q
}

// Installation describes the bridge.
func (c *Client) Installation(ctx context.Context, _ control.Actor) (control.InstallationView, error) {
	return get[control.InstallationView](ctx, c, "/installation", nil)
}

// Status is everything at a glance.
func (c *Client) Status(ctx context.Context, _ control.Actor) (control.StatusView, error) {
	v, err := get[control.StatusView](ctx, c, "/status", nil)
	if v.Errors == nil {
		v.Errors = map[string]string{}
	}
	return v, err
}

// SourcesNow lists the sources of a bridge that has several.
func (c *Client) SourcesNow(ctx context.Context, _ control.Actor) (control.SourcesView, error) {
	return get[control.SourcesView](ctx, c, "/sources", nil)
}

// Doctor looks at everything that the bridge stands on.
func (c *Client) Doctor(ctx context.Context, _ control.Actor) (doctor.Report, error) {
	return get[doctor.Report](ctx, c, "/doctor", nil)
}

// Prove accounts for the changes and events of a span.
func (c *Client) Prove(ctx context.Context, _ control.Actor, s queue.TallySpan) (control.ProveView, error) {
	q := span(url.Values{}, s.From, s.To)
	if s.First != 0 {
		q.Set("from_position", s.First.String())
	}
	if s.Last != 0 {
		q.Set("to_position", s.Last.String())
	}
	return get[control.ProveView](ctx, c, "/proof", q)
}

// Why returns what became of a row's changes.
func (c *Client) Why(ctx context.Context, _ control.Actor, w control.WhyQuestion) (control.WhyView, error) {
	q := span(url.Values{"table": {w.Table}, "key": {w.Key}}, w.From, time.Time{})
	if w.WebhookID != "" {
		q = url.Values{"webhook_id": {w.WebhookID}}
	}
	if w.Row {
		q.Set("row", "true")
	}
	return get[control.WhyView](ctx, c, "/why", q)
}

// Endpoints lists the endpoints.
func (c *Client) Endpoints(ctx context.Context, _ control.Actor, cursor string, limit int) (control.Page[control.EndpointView], error) {
	return paged[control.EndpointView](ctx, c, "endpoints", "/endpoints", nil, cursor, limit)
}

// Endpoint returns one.
func (c *Client) Endpoint(ctx context.Context, _ control.Actor, name string) (control.EndpointView, error) {
	return get[control.EndpointView](ctx, c, "/endpoints/{name}", nil, name)
}

// Deliveries lists attempts of the delivery log.
func (c *Client) Deliveries(ctx context.Context, _ control.Actor, f state.Filter, cursor string, limit int) (control.Page[state.Attempt], error) {
	return paged[state.Attempt](ctx, c, "deliveries", "/deliveries", parameters(f), cursor, limit)
}

// Delivery returns an attempt with what is kept of it.
func (c *Client) Delivery(ctx context.Context, _ control.Actor, id string) (control.DeliveryDetail, error) {
	return get[control.DeliveryDetail](ctx, c, "/deliveries/{id}", nil, id)
}

// DeadLetters lists dead letters.
func (c *Client) DeadLetters(ctx context.Context, _ control.Actor, f state.Filter, cursor string, limit int) (control.Page[state.DeadLetter], error) {
	return paged[state.DeadLetter](ctx, c, "dead", "/dead-letters", parameters(f), cursor, limit)
}

// DeadGroups groups them.
func (c *Client) DeadGroups(ctx context.Context, _ control.Actor, f state.Filter) ([]state.DeadGroup, error) {
	return whole[state.DeadGroup](ctx, c, "/dead-letters/groups", parameters(f))
}

// DeadLetter returns one with its body.
func (c *Client) DeadLetter(ctx context.Context, _ control.Actor, id int64) (control.DeadDetail, error) {
	return get[control.DeadDetail](ctx, c, "/dead-letters/{id}", nil, number(id))
}

// Parked lists parked changes.
func (c *Client) Parked(ctx context.Context, _ control.Actor, f state.Filter, cursor string, limit int) (control.Page[control.Parked], error) {
	return paged[control.Parked](ctx, c, "parked", "/parked", parameters(f), cursor, limit)
}

// ParkedGroups groups them.
func (c *Client) ParkedGroups(ctx context.Context, _ control.Actor, f state.Filter) ([]control.ParkedGroup, error) {
	return whole[control.ParkedGroup](ctx, c, "/parked/groups", parameters(f))
}

// ParkedChange returns one with its row.
func (c *Client) ParkedChange(ctx context.Context, _ control.Actor, id string) (control.ParkedDetail, error) {
	return get[control.ParkedDetail](ctx, c, "/parked/{id}", nil, id)
}

// Jobs lists jobs.
func (c *Client) Jobs(ctx context.Context, _ control.Actor, cursor string, limit int) (control.Page[state.Job], error) {
	return paged[state.Job](ctx, c, "resends", "/resends", nil, cursor, limit)
}

// Job returns one.
func (c *Client) Job(ctx context.Context, _ control.Actor, id int64) (state.Job, error) {
	return get[state.Job](ctx, c, "/resends/{id}", nil, number(id))
}

// EventTypes are the events that the rules make.
func (c *Client) EventTypes(ctx context.Context, _ control.Actor) ([]mapping.EventType, error) {
	return whole[mapping.EventType](ctx, c, "/event-types", nil)
}

// Audit lists who changed what.
func (c *Client) Audit(ctx context.Context, _ control.Actor, f state.AuditFilter, cursor string, limit int) (control.Page[state.Change], error) {
	q := span(url.Values{}, f.From, f.To)
	for name, text := range map[string]string{"object": f.Object, "action": f.Action} {
		if text != "" {
			q.Set(name, text)
		}
	}
	return paged[state.Change](ctx, c, "audit", "/audit", q, cursor, limit)
}

// Tokens lists the tokens.
func (c *Client) Tokens(ctx context.Context, _ control.Actor) ([]state.Token, error) {
	return whole[state.Token](ctx, c, "/tokens", nil)
}
