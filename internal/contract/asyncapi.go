package contract

import (
	"gancho/delivery/endpoint"
	"gancho/internal/jsonschema"
)

// AsyncAPI returns an AsyncAPI 3 document of an application that sends the events, as the
// endpoint gets them. https://www.asyncapi.com/docs/reference/specification/v3.0.0
func AsyncAPI(events []Event, ep *endpoint.Endpoint) jsonschema.Members {
	d := newDocument(events, ep)
	var refs, messages object
	var sent []object
	for i := range events {
		e := &events[i]
		name := d.names[e.Name]
		messages = append(messages, jsonschema.Member{Name: name, Value: d.message(e)})
		refs = append(refs, jsonschema.Member{Name: name, Value: reference("#/components/messages/" + name)})
		sent = append(sent, reference("#/channels/webhook/messages/"+name))
	}
	return object{
		{Name: "asyncapi", Value: "3.0.0"},
		{Name: "info", Value: d.info("Webhooks")},
		{Name: "defaultContentType", Value: d.contentType()},
		{Name: "channels", Value: object{{Name: "webhook", Value: object{
			{Name: "address", Value: nil},
			{Name: "description", Value: "The receiver's URL."},
			{Name: "messages", Value: refs},
		}}}},
		{Name: "operations", Value: object{{Name: "deliver", Value: object{
			{Name: "action", Value: "send"},
			{Name: "channel", Value: reference("#/channels/webhook")},
			{Name: "bindings", Value: object{{Name: "http", Value: object{{Name: "method", Value: "POST"}, {Name: "bindingVersion", Value: "0.3.0"}}}}},
			{Name: "messages", Value: sent},
		}}}},
		{Name: "components", Value: object{{Name: "messages", Value: messages}, {Name: "schemas", Value: draft7(d.schemas.list)}}},
	}
}

func reference(to string) object { return object{{Name: "$ref", Value: to}} }

// message is a message of an event.
func (d *document) message(e *Event) object {
	headers := &jsonschema.Schema{Type: jsonschema.Types{jsonschema.Object}}
	for _, h := range d.headers(e) {
		headers.Properties = append(headers.Properties, jsonschema.Property{Name: h.name, Schema: h.schema})
		if h.required {
			headers.Required = append(headers.Required, h.name)
		}
	}
	out := object{{Name: "name", Value: e.Name}, {Name: "title", Value: e.heading()}}
	out = with(out, "description", e.Description)
	if e.Group != "" {
		out = append(out, jsonschema.Member{Name: "tags", Value: []object{{{Name: "name", Value: e.Group}}}})
	}
	out = append(out,
		jsonschema.Member{Name: "contentType", Value: d.contentType()},
		jsonschema.Member{Name: "headers", Value: headers},
		jsonschema.Member{Name: "payload", Value: d.payload(e)},
	)
	if d.body.format == endpoint.FormatForm {
		return out
	}
	return append(out, jsonschema.Member{Name: "examples", Value: []object{{{Name: "name", Value: "sample"}, {Name: "payload", Value: d.sample(e)}}}})
}

// draft7 are the schemas without what AsyncAPI's own, a superset of draft 7, does not have.
func draft7(of jsonschema.Properties) jsonschema.Properties {
	out := make(jsonschema.Properties, len(of))
	for i, p := range of {
		out[i] = jsonschema.Property{Name: p.Name, Schema: p.Schema.WithoutPrefixes()}
	}
	return out
}
