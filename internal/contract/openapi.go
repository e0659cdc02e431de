package contract

import (
	"gancho/delivery/endpoint"
	"gancho/internal/jsonschema"
)

// OpenAPI returns an OpenAPI 3.1 document whose webhooks are the events, as the endpoint
// gets them. https://spec.openapis.org/oas/v3.1.1.html
func OpenAPI(events []Event, ep *endpoint.Endpoint) jsonschema.Members {
	d := newDocument(events, ep)
	var webhooks, tags object
	grouped := map[string]bool{}
	for i := range events {
		e := &events[i]
		webhooks = append(webhooks, jsonschema.Member{Name: e.Name, Value: object{{Name: "post", Value: d.operation(e)}}})
		if e.Group != "" && !grouped[e.Group] {
			grouped[e.Group] = true
			tags = append(tags, jsonschema.Member{Name: e.Group})
		}
	}
	out := object{
		{Name: "openapi", Value: "3.1.1"},
		{Name: "info", Value: d.info("Webhooks")},
		{Name: "jsonSchemaDialect", Value: jsonschema.Dialect},
	}
	if len(tags) > 0 {
		var list []object
		for _, t := range tags {
			list = append(list, object{{Name: "name", Value: t.Name}})
		}
		out = append(out, jsonschema.Member{Name: "tags", Value: list})
	}
	return append(out,
		jsonschema.Member{Name: "webhooks", Value: webhooks},
		jsonschema.Member{Name: "components", Value: object{{Name: "schemas", Value: d.schemas.list}}},
	)
}

// operation is the request with an event.
func (d *document) operation(e *Event) object {
	out := object{{Name: "operationId", Value: d.names[e.Name]}, {Name: "summary", Value: e.heading()}}
	out = with(out, "description", e.Description)
	if e.Group != "" {
		out = append(out, jsonschema.Member{Name: "tags", Value: []string{e.Group}})
	}
	var parameters []object
	for _, h := range d.headers(e) {
		schema := *h.schema
		description := schema.Description
		schema.Description = ""
		p := object{{Name: "name", Value: h.name}, {Name: "in", Value: "header"}}
		p = with(p, "description", description)
		p = append(p, jsonschema.Member{Name: "required", Value: h.required}, jsonschema.Member{Name: "schema", Value: &schema})
		parameters = append(parameters, p)
	}
	media := object{{Name: "schema", Value: d.payload(e)}}
	if d.body.format == endpoint.FormatForm {
		media = append(media, jsonschema.Member{Name: "encoding", Value: object{{Name: "data", Value: object{{Name: "style", Value: "deepObject"}, {Name: "explode", Value: true}}}}})
	} else {
		media = append(media, jsonschema.Member{Name: "example", Value: d.sample(e)})
	}
	return append(out,
		jsonschema.Member{Name: "parameters", Value: parameters},
		jsonschema.Member{Name: "requestBody", Value: object{
			{Name: "required", Value: true},
			{Name: "content", Value: object{{Name: d.contentType(), Value: media}}},
		}},
		jsonschema.Member{Name: "responses", Value: responses()},
	)
}

// responses are what Gancho makes of answers.
func responses() object {
	answer := func(status, description string) jsonschema.Member {
		return jsonschema.Member{Name: status, Value: object{{Name: "description", Value: description}}}
	}
	return object{
		answer("2XX", "The event was taken, and is not sent again."),
		answer("410", "Nothing more is wanted: the endpoint is paused."),
		answer("429", "Too many requests; Retry-After is honoured."),
		answer("4XX", "The request itself is refused; it is retried a few times."),
		answer("5XX", "The event is retried with growing waits."),
	}
}
