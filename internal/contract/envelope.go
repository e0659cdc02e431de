package contract

import (
	"encoding/json"
	"slices"

	"gancho/delivery/endpoint"
	"gancho/delivery/webhook"
	"gancho/internal/jsonschema"
	"gancho/mapping"
)

// body is how the bodies of requests are written.
type body struct {
	format  endpoint.Format
	strings bool // numbers are strings
}

// bodies are all, the usual one first.
func bodies() []body {
	return []body{
		{endpoint.FormatStandard, false}, {endpoint.FormatStandard, true},
		{endpoint.FormatCloudEvents, false}, {endpoint.FormatCloudEvents, true},
		{endpoint.FormatCloudEventsBinary, false}, {endpoint.FormatCloudEventsBinary, true},
		{endpoint.FormatBare, false}, {endpoint.FormatBare, true},
		{endpoint.FormatForm, true},
	}
}

// bodyOf is how an endpoint's bodies are written. A form has texts only.
func bodyOf(ep *endpoint.Endpoint) body {
	return body{ep.Format, ep.StringNumbers || ep.Format == endpoint.FormatForm}
}

// name is that of the body's definition.
func (b body) name() string {
	if b.strings && b.format != endpoint.FormatForm {
		return b.format.String() + "-strings"
	}
	return b.format.String()
}

// written is the schema of a value of the event as the body has it.
func (b body) written(s *jsonschema.Schema) *jsonschema.Schema {
	switch {
	case b.format == endpoint.FormatForm:
		return s.Form()
	case b.strings:
		return s.NumbersAsStrings()
	}
	return s
}

// definitions are schemas by name, and how they are referred to.
type definitions struct {
	list   jsonschema.Properties
	prefix string // of references
	scope  string // of names
}

func (d *definitions) add(name string, s *jsonschema.Schema) *jsonschema.Schema {
	name = d.scope + name
	if d.list.Named(name) == nil {
		d.list = append(d.list, jsonschema.Property{Name: name, Schema: s})
	}
	return &jsonschema.Schema{Ref: d.prefix + name}
}

// body adds the definition of the event's body, and those that it needs.
func (e *Event) body(d *definitions, b body) *jsonschema.Schema {
	var of []*jsonschema.Schema
	for i := range e.Variants {
		of = append(of, e.envelope(d, b, &e.Variants[i]))
	}
	return d.add(b.name(), jsonschema.Any(of...))
}

// dataName is the name of the definition of data.
func (e *Event) dataName(b body, v *Variant) string {
	name := "data" + e.suffix(v)
	switch {
	case b.format == endpoint.FormatForm:
		return name + "-form"
	case b.strings:
		return name + "-strings"
	}
	return name
}

// envelope is the schema of a body of a variant.
func (e *Event) envelope(d *definitions, b body, v *Variant) *jsonschema.Schema {
	if b.format == endpoint.FormatChat { // for people, in a form that is the service's
		return &jsonschema.Schema{Type: jsonschema.Types{jsonschema.Object}}
	}
	data := d.add(e.dataName(b, v), b.written(v.Data))
	if b.format == endpoint.FormatForm { // an empty object is an empty text
		data = jsonschema.Any(data, &jsonschema.Schema{Type: text(), Enum: empty()})
	}
	if b.format == endpoint.FormatBare || b.format == endpoint.FormatCloudEventsBinary {
		return data
	}
	return e.members(b, v, data)
}

// members is the schema of an object of the envelope's members, or headers.
func (e *Event) members(b body, v *Variant, data *jsonschema.Schema) *jsonschema.Schema {
	out := &jsonschema.Schema{Type: jsonschema.Types{jsonschema.Object}}
	for _, m := range webhook.Envelope(b.format) {
		schema, always := e.member(m.Name, b, v, data)
		if schema == nil {
			continue
		}
		out.Properties = append(out.Properties, jsonschema.Property{Name: m.Name, Schema: schema})
		if m.Required || always {
			out.Required = append(out.Required, m.Name)
		}
	}
	return out
}

// headers is the schema of the attributes that are headers.
func (e *Event) headers(b body, v *Variant) *jsonschema.Schema { return e.members(b, v, nil) }

// member is the schema of a member, nil when the event never has it; always: it has it
// although the events of other rules may not.
func (e *Event) member(name string, b body, v *Variant, data *jsonschema.Schema) (schema *jsonschema.Schema, always bool) {
	attribute := b.format == endpoint.FormatCloudEvents || b.format == endpoint.FormatCloudEventsBinary
	name = attributeName(name)
	switch name {
	case "type":
		return &jsonschema.Schema{Type: text(), Const: jsonschema.Text(e.Name)}, false
	case "op":
		out := &jsonschema.Schema{Type: text(), Description: "the operation on the row"}
		for _, op := range v.Ops {
			out.Enum = append(out.Enum, jsonschema.Text(op))
		}
		return out, false
	case "due", "late":
		if !slices.Contains(v.Ops, webhook.OpTimer) {
			return nil, false
		}
		return timerMember(name, b), true
	case "data":
		return data, false
	case "tenant":
		return tenant(b, v)
	case "previous":
		if v.Previous == nil {
			return nil, false
		}
		if attribute {
			return &jsonschema.Schema{Type: text(), Description: "JSON text of what the changed fields had before"}, v.PreviousAlways
		}
		s := *b.written(v.Previous)
		s.Description = "what the changed fields had before"
		if b.format == endpoint.FormatForm {
			return jsonschema.Any(&s, &jsonschema.Schema{Type: text(), Enum: empty()}), v.PreviousAlways
		}
		return &s, v.PreviousAlways
	case "unchanged":
		return paths(v.LeftOut, attribute, "the fields that are left out, because the database did not send their values"), false
	case "errors":
		return paths(v.Failing, attribute, "the fields that are null because their expressions failed"), false
	}
	return fixed(name), false
}

// timerMember is the schema of what the events of timers have beside those of changes.
func timerMember(name string, b body) *jsonschema.Schema {
	if name == "due" {
		return &jsonschema.Schema{Type: text(), Format: "date-time", Description: "when the event was due, in UTC"}
	}
	out := &jsonschema.Schema{Type: jsonschema.Types{jsonschema.Integer}, Description: "how many seconds after that it was queued"}
	if b.format == endpoint.FormatForm || b.format == endpoint.FormatCloudEventsBinary {
		out.Type = text()
	}
	return out
}

// attributeName is the name of a CloudEvents header's attribute.
func attributeName(name string) string {
	const header = "ce-"
	if len(name) > len(header) && name[:len(header)] == header {
		return name[len(header):]
	}
	return name
}

// fixed is the schema of a member that is the same for all events; nil: it is not known.
func fixed(name string) *jsonschema.Schema {
	const at = "when the change was committed, in UTC"
	switch name {
	case "timestamp", "time":
		return &jsonschema.Schema{Type: text(), Format: "date-time", Description: at}
	case "id":
		return &jsonschema.Schema{Type: text(), MinLength: 1, Description: "the same as webhook-id, over every retry and resend: an event with an id that was seen before is a repetition"}
	case "sequence":
		return &jsonschema.Schema{Type: text(), MinLength: 1, Description: "rises with commit order; compared as text"}
	case "specversion":
		return &jsonschema.Schema{Type: text(), Const: jsonschema.Text("1.0")}
	case "source":
		return &jsonschema.Schema{Type: text(), Format: "uri-reference", Description: "the database"}
	case "datacontenttype":
		return &jsonschema.Schema{Type: text(), Const: jsonschema.Text("application/json")}
	}
	return nil
}

func text() jsonschema.Types { return jsonschema.Types{jsonschema.String} }

// tenant is null, or left out in CloudEvents, and an empty text in a form, where there is none.
func tenant(b body, v *Variant) (schema *jsonschema.Schema, always bool) {
	out := &jsonschema.Schema{Type: text(), Description: "whose event it is"}
	always = v.Tenant == mapping.Always
	switch {
	case b.format == endpoint.FormatCloudEvents || b.format == endpoint.FormatCloudEventsBinary:
		if v.Tenant == mapping.Never {
			return nil, false
		}
	case b.format == endpoint.FormatForm && v.Tenant == mapping.Never:
		out.Enum = empty()
	case b.format == endpoint.FormatForm:
	case v.Tenant == mapping.Never:
		out.Type = jsonschema.Types{jsonschema.Null}
	case v.Tenant == mapping.Sometimes:
		out.Type = jsonschema.Types{jsonschema.String, jsonschema.Null}
	}
	return out, always
}

// empty is the value of an empty text.
func empty() []json.RawMessage { return []json.RawMessage{jsonschema.Text("")} }

// paths is the schema of a list of paths; nil: there is none to name.
func paths(of []string, attribute bool, description string) *jsonschema.Schema {
	if len(of) == 0 {
		return nil
	}
	if attribute {
		return &jsonschema.Schema{Type: text(), Description: "JSON text: " + description}
	}
	item := &jsonschema.Schema{Type: text()}
	for _, path := range of {
		item.Enum = append(item.Enum, jsonschema.Text(path))
	}
	return &jsonschema.Schema{Type: jsonschema.Types{jsonschema.Array}, Items: item, MinItems: 1, Description: description}
}
