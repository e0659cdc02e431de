package contract

import (
	"encoding/json"
	"slices"
	"strings"
	"time"

	"gancho/delivery/endpoint"
	"gancho/delivery/webhook"
	"gancho/internal/draft"
	"gancho/internal/jsonschema"
)

// sampler makes values that a schema accepts, from nothing else: no row is read. What is
// masked, or personal by its name, is stars.
type sampler struct {
	hidden map[string]bool // paths of data
}

// The parts of a sample that are not the event's own.
const (
	sampleID       = "0a1b2c3d-001-0000000001a2b3c4-000000000000-0000"
	sampleSequence = "001-0000000001a2b3c4-000000000000-0000"
	stars          = "***"
)

var sampleTime = time.Date(2026, 1, 31, 13, 0, 0, 0, time.UTC)

// Sample returns the headers of the format and the body of a request with the event, as the
// endpoint would get it.
func (e *Event) Sample(ep *endpoint.Endpoint) (map[string][]string, []byte) {
	return webhook.Draft(ep, e.message())
}

// message is a sample of the event's first variant.
func (e *Event) message() *webhook.Message {
	v := &e.Variants[0]
	m := &webhook.Message{ID: sampleID, Type: e.Name, Title: e.Title, Time: sampleTime, Sequence: sampleSequence, Op: v.Ops[0]}
	m.Data = e.sample.value(v.Data, "", "")
	if v.Tenant != 0 {
		m.Tenant = "1"
	}
	if v.PreviousAlways {
		m.Previous = []byte("{}")
	}
	return m
}

// value is JSON that the schema accepts. The path is that of data, name its last part.
func (s sampler) value(schema *jsonschema.Schema, path, name string) json.RawMessage {
	private := s.hidden[path] || draft.Personal(name)
	switch {
	case len(schema.Const) > 0:
		return schema.Const
	case len(schema.Enum) > 0:
		return schema.Enum[0]
	case len(schema.AnyOf) > 0:
		return s.value(schema.AnyOf[0], path, name)
	case len(schema.Type) == 0:
		return json.RawMessage("{}")
	}
	switch schema.Type[0] {
	case jsonschema.Object:
		return s.object(schema, path)
	case jsonschema.Array:
		return s.array(schema, path, name)
	case jsonschema.Integer:
		return number(private, "1")
	case jsonschema.Number:
		return number(private, "12.50")
	case jsonschema.Boolean:
		return json.RawMessage("true")
	case jsonschema.Null:
		return json.RawMessage("null")
	}
	return jsonschema.Text(sampleText(schema, name, private))
}

func number(private bool, digits string) json.RawMessage {
	if private {
		digits = "0"
	}
	return json.RawMessage(digits)
}

func (s sampler) object(schema *jsonschema.Schema, path string) json.RawMessage {
	var out jsonschema.Members
	for _, p := range schema.Properties {
		out = append(out, jsonschema.Member{Name: p.Name, Value: s.value(p.Schema, strings.TrimPrefix(path+"."+p.Name, "."), p.Name)})
	}
	text, _ := out.MarshalJSON() // of values that are JSON
	return text
}

func (s sampler) array(schema *jsonschema.Schema, path, name string) json.RawMessage {
	items := []json.RawMessage{}
	for _, item := range schema.Prefix {
		items = append(items, s.value(item, path, name))
	}
	if len(items) == 0 && schema.Items != nil && !schema.Items.IsNothing() {
		items = append(items, s.value(schema.Items, path, name))
	}
	text, _ := json.Marshal(items) // of values that are JSON
	return text
}

// sampleText is a text that the schema accepts.
func sampleText(schema *jsonschema.Schema, name string, private bool) string {
	switch {
	case schema.Format == "date-time":
		return "2026-01-31T10:00:00-03:00"
	case schema.Format == "date":
		return "2026-01-31"
	case schema.Format == "uuid":
		return "7d444840-9dc0-11d1-b245-5ffdce74fad2"
	case schema.ContentEncoding != "":
		return "AAE="
	case schema.Pattern != "":
		for _, text := range []string{"1", "12.50", "2026-01-31T10:00:00"} {
			if accepts(schema.Pattern, text) {
				return text
			}
		}
	}
	text := name
	if private {
		text = stars
	}
	if text == "" {
		text = "a"
	}
	if runes := []rune(text); schema.MaxLength > 0 && len(runes) > schema.MaxLength {
		text = string(runes[:schema.MaxLength])
	}
	return text
}

// Hidden returns the paths of what is masked or hashed, sorted.
func (e *Event) Hidden() []string {
	var out []string
	for path := range e.sample.hidden {
		out = append(out, path)
	}
	slices.Sort(out)
	return out
}
