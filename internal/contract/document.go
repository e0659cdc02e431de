package contract

import (
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"unicode"

	"gancho/delivery/endpoint"
	"gancho/delivery/webhook"
	"gancho/internal/jsonschema"
)

// object is a JSON object of a document.
type object = jsonschema.Members

// about are the texts of a document about all events.
const about = "Each event is one POST request, signed as Standard Webhooks (https://www.standardwebhooks.com) defines. " +
	"Answer 2xx once the event is stored; other answers are retried. Ignore fields and headers that are not described here: some will be added."

// document builds an OpenAPI or AsyncAPI document.
type document struct {
	events   []Event
	endpoint *endpoint.Endpoint
	body     body
	schemas  definitions
	names    map[string]string // of components, by events
}

func newDocument(events []Event, ep *endpoint.Endpoint) *document {
	d := &document{events: events, endpoint: ep, body: bodyOf(ep), names: map[string]string{}}
	d.schemas.prefix = "#/components/schemas/"
	taken := map[string]bool{}
	for _, e := range events {
		name := componentName(e.Name)
		for n := 2; taken[name]; n++ {
			name = fmt.Sprintf("%s_%d", componentName(e.Name), n)
		}
		d.names[e.Name], taken[name] = name, true
	}
	return d
}

// componentName is a name as both specifications let components have it.
func componentName(event string) string {
	return strings.Map(func(r rune) rune {
		if r < unicode.MaxASCII && (unicode.IsLetter(r) || unicode.IsDigit(r)) || r == '.' || r == '-' || r == '_' {
			return r
		}
		return '_'
	}, event)
}

// payload is the schema of a request with the event.
func (d *document) payload(e *Event) *jsonschema.Schema {
	d.schemas.scope = d.names[e.Name] + "."
	one := e.body(&d.schemas, d.body)
	if d.endpoint.Batch.Max > 1 {
		return &jsonschema.Schema{Type: jsonschema.Types{jsonschema.Array}, Items: one, MinItems: 1}
	}
	return one
}

// header is a header of the requests.
type header struct {
	name     string
	schema   *jsonschema.Schema
	required bool
}

// headers are those of the signature, and of the format.
func (d *document) headers(e *Event) []header {
	text := func(description string) *jsonschema.Schema {
		return &jsonschema.Schema{Type: text(), Description: description}
	}
	replay := text("true where the event is sent again on demand")
	replay.Const = jsonschema.Text("true")
	out := []header{
		{endpoint.HeaderID, text("the event's id, the same over every retry: what was seen before is a repetition"), true},
		{endpoint.HeaderTimestamp, &jsonschema.Schema{Type: jsonschema.Types{jsonschema.String}, Pattern: "^[0-9]+$", Description: "when the request was made, in seconds since 1970"}, true},
		{endpoint.HeaderSignature, text("signatures of id.timestamp.body, separated by blanks: v1,<base64 of HMAC-SHA256> or v1a,<base64 of ed25519>"), len(d.endpoint.Secrets) > 0},
		{endpoint.HeaderReplay, replay, false},
	}
	if d.body.format != endpoint.FormatCloudEventsBinary {
		return out
	}
	merged := map[string]bool{}
	for i := range e.Variants {
		all := e.headers(d.body, &e.Variants[i])
		for _, p := range all.Properties {
			if !merged[p.Name] {
				out = append(out, header{p.Name, p.Schema, slices.Contains(all.Required, p.Name)})
			}
			merged[p.Name] = true
		}
	}
	return out
}

// sample is the event's body as a value of the document: JSON, or the text of a form.
func (d *document) sample(e *Event) json.RawMessage {
	_, body := e.Sample(d.endpoint)
	if d.body.format == endpoint.FormatForm {
		return jsonschema.Text(string(body))
	}
	return body
}

func (d *document) contentType() string { return webhook.ContentType(d.endpoint) }

func (d *document) info(title string) object {
	return object{{Name: "title", Value: title}, {Name: "version", Value: "1.0.0"}, {Name: "description", Value: about}}
}

// with adds a member whose text is not empty.
func with(o object, name, text string) object {
	if text == "" {
		return o
	}
	return append(o, jsonschema.Member{Name: name, Value: text})
}
