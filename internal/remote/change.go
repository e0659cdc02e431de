package remote

import (
	"context"
	"encoding/json"
	"net/http"
	"net/url"
	"strconv"

	"gancho/delivery/webhook"
	"gancho/internal/control"
	"gancho/internal/state"
	"gancho/internal/strictyaml"
)

// post does something.
func post[T any](ctx context.Context, c *Client, path string, body any, args ...string) (view T, err error) {
	err = c.ask(ctx, request{method: http.MethodPost, path: path, args: args, body: body}, &view)
	return view, err
}

// AddEndpoint stores a new endpoint. What is wrong with its document is found here, where its lines are known.
func (c *Client) AddEndpoint(ctx context.Context, _ control.Actor, n control.NewEndpoint) (v control.CreatedView, err error) {
	if err := n.Check(); err != nil {
		return v, err
	}
	settings := map[string]any{}
	if err := json.Unmarshal(strictyaml.Parse(n.Origin, n.Document, nil).Root().JSON(), &settings); err != nil {
		return v, err
	}
	if n.Name != "" {
		settings["name"] = n.Name
	}
	if len(n.Secrets) > 0 {
		delete(settings, "secrets")
		settings["secret"] = n.Secrets[0].Reveal()
	}
	r := request{method: http.MethodPost, path: "/endpoints", body: settings}
	if n.Ed25519 {
		r.query = url.Values{"ed25519": {"true"}}
	}
	err = c.ask(ctx, r, &v)
	if name, ok := settings["name"].(string); ok && isConflict(err) {
		err = &control.TakenError{Name: name}
	}
	return v, err
}

// EditEndpoint changes an endpoint's settings.
func (c *Client) EditEndpoint(ctx context.Context, _ control.Actor, name string, e control.Edit) (v control.EndpointView, err error) {
	err = c.ask(ctx, request{method: http.MethodPatch, path: "/endpoints/{name}", args: []string{name}, body: e.Patch, version: e.Version}, &v)
	return v, err
}

// Activate lets an endpoint be sent to again.
func (c *Client) Activate(ctx context.Context, _ control.Actor, name string) (control.EndpointView, error) {
	return post[control.EndpointView](ctx, c, "/endpoints/{name}/activate", nil, name)
}

// Pause keeps an endpoint's events in its queue.
func (c *Client) Pause(ctx context.Context, _ control.Actor, name string) (control.EndpointView, error) {
	return post[control.EndpointView](ctx, c, "/endpoints/{name}/pause", nil, name)
}

// Deactivate lets nothing more be queued for an endpoint.
func (c *Client) Deactivate(ctx context.Context, _ control.Actor, name string) (control.EndpointView, error) {
	return post[control.EndpointView](ctx, c, "/endpoints/{name}/deactivate", nil, name)
}

// Rotate gives an endpoint a new signing key.
func (c *Client) Rotate(ctx context.Context, _ control.Actor, name string, r control.Rotation) (control.CreatedView, error) {
	body := map[string]any{"overlap": r.Overlap.String()}
	if r.Secret != nil {
		body["secret"] = r.Secret.Reveal()
	}
	if r.Ed25519 {
		body["ed25519"] = true
	}
	return post[control.CreatedView](ctx, c, "/endpoints/{name}/rotate", body, name)
}

// Remove deletes an endpoint and its keys.
func (c *Client) Remove(ctx context.Context, _ control.Actor, name string, dropQueue bool) (v control.RemovedView, err error) {
	err = c.ask(ctx, request{method: http.MethodDelete, path: "/endpoints/{name}", args: []string{name}, query: url.Values{"drop_queue": {strconv.FormatBool(dropQueue)}}}, &v)
	return v, err
}

// Test sends a ping to an endpoint.
func (c *Client) Test(ctx context.Context, _ control.Actor, name string) (webhook.Exchange, error) {
	return post[webhook.Exchange](ctx, c, "/endpoints/{name}/test", nil, name)
}

// jobBody is what creates a job.
type jobBody struct {
	Endpoint string       `json:"endpoint,omitempty"`
	Filter   state.Filter `json:"filter"`
	All      bool         `json:"all,omitempty"`
	Rate     float64      `json:"rate,omitempty"`
	DryRun   bool         `json:"dry_run,omitempty"`
}

func bodyOf(r state.Job, all bool) jobBody {
	return jobBody{Endpoint: r.Endpoint, Filter: r.Filter, All: all, Rate: r.Rate, DryRun: r.DryRun}
}

// CreateRedrive creates jobs for dead letters.
func (c *Client) CreateRedrive(ctx context.Context, _ control.Actor, r state.Job, all bool) ([]state.Job, error) {
	page, err := post[control.Page[state.Job]](ctx, c, "/dead-letters/redrive", bodyOf(r, all))
	return page.Items, err
}

// RedriveParked creates a job for parked changes.
func (c *Client) RedriveParked(ctx context.Context, _ control.Actor, r state.Job, all bool) ([]state.Job, error) {
	page, err := post[control.Page[state.Job]](ctx, c, "/parked/redrive", bodyOf(r, all))
	return page.Items, err
}

// CreateResend creates a job for kept events.
func (c *Client) CreateResend(ctx context.Context, _ control.Actor, r state.Job) (state.Job, error) {
	return post[state.Job](ctx, c, "/resends", bodyOf(r, false))
}

// CreateBackfill creates a job for rows. Without a table and events it is for all.
func (c *Client) CreateBackfill(ctx context.Context, _ control.Actor, r state.Job) (control.BackfillView, error) {
	return post[control.BackfillView](ctx, c, "/backfills", bodyOf(r, r.Filter.Table == "" && len(r.Filter.Events) == 0))
}

// CancelJob ends a job.
func (c *Client) CancelJob(ctx context.Context, _ control.Actor, id int64) (state.Job, error) {
	return post[state.Job](ctx, c, "/resends/{id}/cancel", nil, number(id))
}

// PauseJob stops a backfill for a while.
func (c *Client) PauseJob(ctx context.Context, _ control.Actor, id int64) (state.Job, error) {
	return post[state.Job](ctx, c, "/resends/{id}/pause", nil, number(id))
}

// ResumeJob lets it go on.
func (c *Client) ResumeJob(ctx context.Context, _ control.Actor, id int64) (state.Job, error) {
	return post[state.Job](ctx, c, "/resends/{id}/resume", nil, number(id))
}

// drop deletes what a filter chooses, or counts it.
func (c *Client) drop(ctx context.Context, path string, f state.Filter, all, dryRun bool) (int64, error) {
	v, err := post[struct{ Dropped int64 }](ctx, c, path, jobBody{Filter: f, All: all, DryRun: dryRun})
	return v.Dropped, err
}

// CountDead counts dead letters.
func (c *Client) CountDead(ctx context.Context, _ control.Actor, f state.Filter) (int64, error) {
	return c.drop(ctx, "/dead-letters/drop", f, false, true)
}

// DropDead deletes dead letters.
func (c *Client) DropDead(ctx context.Context, _ control.Actor, f state.Filter, all bool) (int64, error) {
	return c.drop(ctx, "/dead-letters/drop", f, all, false)
}

// CountParked counts parked changes.
func (c *Client) CountParked(ctx context.Context, _ control.Actor, f state.Filter) (int64, error) {
	return c.drop(ctx, "/parked/drop", f, false, true)
}

// DropParked deletes parked changes.
func (c *Client) DropParked(ctx context.Context, _ control.Actor, f state.Filter, all bool) (int64, error) {
	return c.drop(ctx, "/parked/drop", f, all, false)
}

// Forget erases what is kept of a person.
func (c *Client) Forget(ctx context.Context, _ control.Actor, r control.ForgetRequest) (control.Receipt, error) {
	body := map[string]any{"key": r.Key, "dry_run": r.DryRun}
	if r.Tenant != nil {
		body["tenant"] = *r.Tenant
	}
	if len(r.Events) > 0 {
		body["events"] = r.Events
	}
	return post[control.Receipt](ctx, c, "/forget", body)
}

// CreateToken creates a token.
func (c *Client) CreateToken(ctx context.Context, _ control.Actor, n control.NewToken) (control.CreatedToken, error) {
	body := map[string]any{"name": n.Name, "role": n.Role}
	if n.Tenant != "" {
		body["tenant"] = n.Tenant
	}
	switch {
	case n.Forever:
		body["expires"] = "never"
	case !n.Expires.IsZero():
		body["expires"] = n.Expires
	}
	return post[control.CreatedToken](ctx, c, "/tokens", body)
}

// RevokeToken revokes a token.
func (c *Client) RevokeToken(ctx context.Context, _ control.Actor, name string) error {
	return c.ask(ctx, request{method: http.MethodDelete, path: "/tokens/{name}", args: []string{name}}, nil)
}

// CreateLink creates a link into the console.
func (c *Client) CreateLink(ctx context.Context, _ control.Actor, n control.NewLink) (control.CreatedLink, error) {
	body := map[string]any{"role": n.Role}
	for name, text := range map[string]string{"tenant": n.Tenant, "return_url": n.ReturnURL, "language": n.Language, "theme": n.Theme} {
		if text != "" {
			body[name] = text
		}
	}
	if n.For != 0 {
		body["for"] = n.For.String()
	}
	return post[control.CreatedLink](ctx, c, "/console-links", body)
}
