package contract

import (
	"encoding/json"
	"net/url"
	"regexp"

	"gancho/delivery/endpoint"
	"gancho/internal/jsonschema"
)

// idPrefix begins the identifiers of schemas.
const idPrefix = "urn:gancho:event:"

// Schema returns the JSON Schema of the event's bodies for the endpoint: its root is that of
// the endpoint's body, and its definitions are those of all formats.
func (e *Event) Schema(ep *endpoint.Endpoint) *jsonschema.Schema {
	d := definitions{prefix: "#/$defs/"}
	for _, b := range bodies() {
		e.body(&d, b)
	}
	b := bodyOf(ep)
	e.body(&d, b) // a chat's is not among them
	out := &jsonschema.Schema{Dialect: jsonschema.Dialect, ID: idPrefix + url.PathEscape(e.Name), Title: e.heading(), Description: e.Description}
	root := &jsonschema.Schema{Ref: d.prefix + b.name()}
	_, sample := e.Sample(ep)
	if b.format != endpoint.FormatForm {
		out.Examples = []json.RawMessage{sample}
	}
	if ep.Batch.Max > 1 {
		out.Type, out.Items, out.MinItems = jsonschema.Types{jsonschema.Array}, root, 1
	} else {
		out.Ref = root.Ref
	}
	for i := range e.Variants {
		v := &e.Variants[i]
		headers := body{format: endpoint.FormatCloudEventsBinary}
		d.add("headers"+e.suffix(v), e.headers(headers, v))
	}
	out.Defs = d.list
	return out
}

// Bundle returns one schema of the bodies of all events, with theirs embedded.
func Bundle(events []Event, ep *endpoint.Endpoint) *jsonschema.Schema {
	out := &jsonschema.Schema{Dialect: jsonschema.Dialect, Title: "Events"}
	for i := range events {
		schema := events[i].Schema(ep)
		out.AnyOf = append(out.AnyOf, &jsonschema.Schema{Ref: schema.ID})
		out.Defs = append(out.Defs, jsonschema.Property{Name: events[i].Name, Schema: schema})
	}
	return out
}

// accepts reports whether a pattern that this program has written accepts a text.
func accepts(pattern, text string) bool {
	re, err := regexp.Compile(pattern)
	return err == nil && re.MatchString(text)
}
