package console

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"net/http"
	"slices"
	"strings"

	"gancho/delivery/webhook"
	"gancho/internal/control"
	"gancho/internal/state"
)

// deliveryPage is all that is known of an event at an endpoint.
type deliveryPage struct {
	state.Attempt // the one that is looked at
	Unit          string
	Detail        *webhook.Detail
	// Attempts are all of the event at the endpoint, the oldest first.
	Attempts []state.Attempt
	Event    *control.EventView // nil: it is not kept
	// Request are the headers that were sent, else those that would be; Curl is the same as a command.
	Request   http.Header
	Curl      string
	Data      []value
	Rows      string // the event's data, indented
	Form      form
	MayResend bool
	Rules     bool // there is a screen for them
	Endpoints bool // and one of the endpoint
}

// value is one of an event's data, with what it was before; "" of one that was or is not there.
type value struct {
	Name, Before, After string
	Changed             bool
}

func (v *visit) delivery(f form) (deliveryPage, error) {
	found, err := v.Control.Delivery(v.ctx(), v.actor, v.http.PathValue("id"))
	if err != nil {
		return deliveryPage{}, err
	}
	if f.Values == nil {
		f.Values = map[string][]string{"endpoint": {found.Endpoint}}
	}
	p := deliveryPage{Attempt: found.Attempt, Unit: v.unit(found.Tenant), Detail: found.Detail, Form: f, MayResend: v.actor.Role.Covers(state.Operator), Rules: v.has("rules")}
	switch _, err := v.Control.Settings(v.ctx(), v.actor, found.Endpoint); { // one that others have, too, does not exist for a tenant
	case err == nil:
		p.Endpoints = v.has("endpoints")
	case !errors.Is(err, state.ErrNotFound):
		return deliveryPage{}, err
	}
	attempts, err := v.Control.Deliveries(v.ctx(), v.actor, state.Filter{Webhooks: []string{found.WebhookID}, Endpoint: found.Endpoint}, "", control.MaxPage)
	if err != nil {
		return p, err
	}
	p.Attempts = attempts.Items
	slices.Reverse(p.Attempts)
	event, err := v.Control.Event(v.ctx(), v.actor, found.WebhookID, found.Endpoint)
	switch {
	case errors.Is(err, state.ErrNotFound):
	case err != nil:
		return p, err
	default:
		p.Event = &event
		p.Data, p.Rows = values(event.Data, event.Previous), indent(event.Data)
		if event.Request != nil {
			p.Request = event.Request.Header
		}
	}
	if found.Detail != nil && found.Detail.Request != nil {
		p.Request = found.Detail.Request
	}
	if p.Event != nil && p.Event.Request != nil {
		p.Curl = curl(p.Event.Request, p.Request)
	}
	return p, nil
}

// values are the members of an event's data beside those of before.
func values(data, previous json.RawMessage) []value {
	is, was := members(data), members(previous)
	names := maps.Clone(is)
	maps.Copy(names, was)
	var out []value
	for _, name := range slices.Sorted(maps.Keys(names)) {
		before, old := was[name]
		one := value{Name: name, Before: string(before), After: string(is[name])}
		one.Changed = old && one.Before != one.After
		out = append(out, one)
	}
	return out
}

func indent(document json.RawMessage) string {
	var out bytes.Buffer
	if json.Indent(&out, document, "", "  ") != nil {
		return string(document)
	}
	return out.String()
}

// curl is a request as a command for a shell. What is secret in it is *** already.
func curl(r *webhook.ExchangeRequest, header http.Header) string {
	quote := func(text string) string { return "'" + strings.ReplaceAll(text, "'", `'\''`) + "'" }
	var out strings.Builder
	fmt.Fprintf(&out, "curl -X %s %s", r.Method, quote(r.URL))
	for _, name := range slices.Sorted(maps.Keys(header)) {
		if name == "Content-Length" || name == "Accept-Encoding" {
			continue // curl's own
		}
		for _, text := range header[name] {
			fmt.Fprintf(&out, " \\\n  -H %s", quote(strings.ToLower(name)+": "+text))
		}
	}
	fmt.Fprintf(&out, " \\\n  --data-raw %s", quote(r.Body))
	return out.String()
}

func (v *visit) showDelivery() (reply, error) {
	p, err := v.delivery(form{})
	if err != nil {
		return reply{}, err
	}
	return page("delivery", p)
}

// resendOne sends the event again, to the endpoint that the form says.
func (v *visit) resendOne() (reply, error) {
	found, err := v.Control.Delivery(v.ctx(), v.actor, v.http.PathValue("id"))
	if err != nil {
		return reply{}, err
	}
	posted := v.http.PostForm
	done, err := v.Control.ResendDeliveries(v.ctx(), v.actor, state.Job{
		Endpoint: posted.Get("endpoint"), Filter: state.Filter{Webhooks: []string{found.WebhookID}, Endpoint: found.Endpoint},
	})
	f, mistaken := v.form(posted, err, "endpoint")
	problem := ""
	switch {
	case errors.Is(err, state.ErrNotFound):
		problem = v.text("deliveries.no_endpoint")
	case err == nil && done.Total == 0:
		problem = v.text("delivery.not_kept")
	case err != nil && !mistaken:
		return reply{}, err
	}
	if problem != "" {
		f, mistaken = form{Values: posted, Problems: map[string]string{"endpoint": problem}}, true
	}
	if mistaken {
		p, err := v.delivery(f)
		if err != nil {
			return reply{}, err
		}
		return refused("delivery", p)
	}
	return goTo("deliveries/"+v.http.PathValue("id"), "resend_started")
}
