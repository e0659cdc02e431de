package console

import (
	"cmp"
	"context"
	"errors"
	"net/http"
	"net/url"
	"strings"
	"time"

	"gancho/delivery/endpoint"
	"gancho/delivery/webhook"
	"gancho/internal/control"
	"gancho/internal/state"
)

func endpointsScreen() screen {
	return screen{name: "endpoints", path: "endpoints", role: state.Viewer, routes: []route{
		{pattern: "GET /endpoints", handle: (*visit).showEndpoints},
		{pattern: "GET /endpoints/{name}", handle: (*visit).showEndpoint},
		{pattern: "GET /new-endpoint", role: state.Admin, handle: (*visit).showNewEndpoint},
		{pattern: "POST /new-endpoint", role: state.Admin, handle: (*visit).addEndpoint},
		{pattern: "GET /endpoints/{name}/edit", role: state.Admin, handle: (*visit).showEditEndpoint},
		{pattern: "POST /endpoints/{name}/edit", role: state.Admin, handle: (*visit).editEndpoint},
		{pattern: "POST /endpoints/{name}/test", role: state.Operator, handle: (*visit).testEndpoint},
		{pattern: "POST /endpoints/{name}/activate", role: state.Operator, handle: switchingEndpoint((*control.Service).Activate, "endpoint_activated")},
		{pattern: "POST /endpoints/{name}/pause", role: state.Operator, handle: switchingEndpoint((*control.Service).Pause, "endpoint_paused")},
		{pattern: "POST /endpoints/{name}/deactivate", role: state.Admin, handle: switchingEndpoint((*control.Service).Deactivate, "endpoint_deactivated")},
		{pattern: "POST /endpoints/{name}/rotate", role: state.Admin, handle: (*visit).rotateSecret},
		{pattern: "POST /endpoints/{name}/remove", role: state.Admin, handle: (*visit).removeEndpoint},
	}}
}

// endpointsPage are endpoints by name.
type endpointsPage struct {
	Filter    form
	Endpoints []control.EndpointView
	Pager     pager
	Add       bool // the visitor may add one
}

func (v *visit) showEndpoints() (reply, error) {
	query := v.http.URL.Query()
	found, err := v.Control.Endpoints(v.ctx(), v.actor, cmp.Or(query.Get("cursor"), before(query.Get("from"))), control.DefaultPage)
	if err != nil {
		return reply{}, err
	}
	return page("endpoints", endpointsPage{
		Filter: form{Values: query}, Endpoints: found.Items, Pager: v.pager(found.Next), Add: v.actor.Role.Covers(state.Admin),
	})
}

// before is a cursor after which names come that are not before this text. Names are of ASCII, in the order of its codes, so that
// none stands between the two.
func before(from string) string {
	from = strings.ToLower(strings.TrimSpace(from))
	if from == "" || from[len(from)-1] == 0 {
		return ""
	}
	last := len(from) - 1
	return from[:last] + string(rune(from[last]-1)) + "\x7f"
}

// endpointPage is one endpoint, and what can be done with it.
type endpointPage struct {
	control.EndpointView
	YAML            string // its settings, without secrets
	Trouble         string // what is not in order, in English
	Form            form   // of the rotation and the removal
	Operator, Admin bool
	Stored          bool // it can be changed here
	Created         *control.CreatedView
}

func (v *visit) endpointPage(e *control.EndpointView, f form) endpointPage {
	if f.Values == nil {
		f.Values = url.Values{"overlap": {"24h"}}
	}
	p := endpointPage{EndpointView: *e, YAML: yamlOf(e.Settings), Form: f, Stored: e.From == control.FromStore}
	p.Operator, p.Admin = v.actor.Role.Covers(state.Operator), v.actor.Role.Covers(state.Admin)
	_, p.Trouble = e.Complaint()
	return p
}

func (v *visit) name() string { return v.http.PathValue("name") }

func (v *visit) showEndpoint() (reply, error) {
	e, err := v.Control.Endpoint(v.ctx(), v.actor, v.name())
	if err != nil {
		return reply{}, err
	}
	return page("endpoint", v.endpointPage(&e, form{}))
}

// switchingEndpoint handles what changes the state of an endpoint.
func switchingEndpoint(to func(*control.Service, context.Context, control.Actor, string) (control.EndpointView, error), done string) func(*visit) (reply, error) {
	return func(v *visit) (reply, error) {
		if _, err := to(v.Control, v.ctx(), v.actor, v.name()); err != nil {
			return v.endpointRefused(err, form{})
		}
		return goTo(endpointPath(v.name()), done)
	}
}

func endpointPath(name string) string { return "endpoints/" + url.PathEscape(name) }

// endpointRefused shows the endpoint again with what was wrong; other errors are returned.
func (v *visit) endpointRefused(err error, f form) (reply, error) {
	var readOnly *control.ReadOnlyError
	switch {
	case errors.As(err, &readOnly):
		f.Problems = map[string]string{"": v.text("endpoint.read_only")}
	case len(f.Problems) == 0:
		return reply{}, err
	}
	e, err := v.Control.Endpoint(v.ctx(), v.actor, v.name())
	if err != nil {
		return reply{}, err
	}
	return refused("endpoint", v.endpointPage(&e, f))
}

// overlaps are how long the keys before a new one may go on.
var overlaps = map[string]time.Duration{"0": 0, "24h": 24 * time.Hour, "7d": 7 * 24 * time.Hour, "30d": 30 * 24 * time.Hour}

// rotateSecret answers with the page itself: the key is in no address, and is gone with the page.
func (v *visit) rotateSecret() (reply, error) {
	values := v.http.PostForm
	overlap, known := overlaps[values.Get("overlap")]
	r := control.Rotation{Overlap: overlap, Ed25519: values.Get("kind") == "ed25519"}
	var err error
	if !known {
		err = v.mistake("/overlap", v.text("endpoint.overlap_unknown"))
	} else if given := strings.TrimSpace(values.Get("secret")); given != "" {
		secret, parseErr := endpoint.ParseSecret(given)
		if r.Secret, r.Ed25519 = &secret, false; parseErr != nil {
			err = &control.InvalidError{Problems: []control.Problem{{Pointer: "/secret", Message: parseErr.Error()}}}
		}
	}
	var made control.CreatedView
	if err == nil {
		made, err = v.Control.Rotate(v.ctx(), v.actor, v.name(), r)
	}
	if err != nil {
		values.Del("secret")
		f, _ := v.form(values, err, "overlap", "kind", "secret")
		return v.endpointRefused(err, f)
	}
	return v.created(made, http.StatusOK)
}

// created shows an endpoint with its new key, this once.
func (v *visit) created(made control.CreatedView, status int) (reply, error) {
	e, err := v.Control.Endpoint(v.ctx(), v.actor, made.Endpoint.Name)
	if err != nil {
		return reply{}, err
	}
	p := v.endpointPage(&e, form{})
	p.Created = &made
	return reply{status: status, template: "endpoint", data: p}, nil
}

// testPage is a test that was sent, as a delivery.
type testPage struct {
	Name     string
	Badge    badge
	Exchange webhook.Exchange
	Timing   []timing
}

// timing is how long a step of a request took.
type timing struct {
	Name string
	Took time.Duration
}

func (v *visit) testEndpoint() (reply, error) {
	x, err := v.Control.Test(v.ctx(), v.actor, v.name())
	if err != nil {
		return v.endpointRefused(err, form{})
	}
	kind := "bad"
	if x.Outcome == webhook.Delivered.String() {
		kind = "good"
	}
	p := testPage{Name: v.name(), Badge: newBadge(kind, v.language.Word("test.outcome", x.Outcome)), Exchange: x}
	for _, t := range []timing{
		{"dns", time.Duration(x.Timing.DNS)}, {"connect", time.Duration(x.Timing.Connect)}, {"tls", time.Duration(x.Timing.TLS)},
		{"first_byte", time.Duration(x.Timing.FirstByte)}, {"total", time.Duration(x.Timing.Total)},
	} {
		if t.Took > 0 {
			p.Timing = append(p.Timing, timing{v.language.Word("test.step", t.Name), t.Took.Round(10 * time.Microsecond)})
		}
	}
	return page("endpoint-test", p)
}

// removeEndpoint needs the name once more: it cannot be undone.
func (v *visit) removeEndpoint() (reply, error) {
	values := v.http.PostForm
	var err error
	if values.Get("confirm") != v.name() {
		err = v.mistake("/confirm", v.text("endpoint.unconfirmed"))
	} else {
		_, err = v.Control.Remove(v.ctx(), v.actor, v.name(), values.Get("queue") == "drop")
	}
	if err != nil {
		f, _ := v.form(values, err, "confirm")
		return v.endpointRefused(err, f)
	}
	if values.Get("queue") == "drop" {
		return goTo("endpoints", "endpoint_removed_dropped")
	}
	return goTo("endpoints", "endpoint_removed")
}
