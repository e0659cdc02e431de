package contract_test

import (
	"os"
	"strings"
	"testing"

	"github.com/santhosh-tekuri/jsonschema/v6"

	"gancho/delivery/endpoint"
	"gancho/internal/contract"
)

// metaSchema is a schema of documents, of the OpenAPI or the AsyncAPI Initiative.
func metaSchema(t *testing.T, name string) *jsonschema.Schema {
	t.Helper()
	text, err := os.ReadFile("testdata/" + name)
	if err != nil {
		t.Fatal(err)
	}
	c := jsonschema.NewCompiler()
	if err := c.AddResource("mem:official", value(t, text)); err != nil {
		t.Fatal(err)
	}
	s, err := c.Compile("mem:official")
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// openAPI checks a document by the schema of OpenAPI 3.1, that its webhooks are the events,
// and that their samples are what it says.
func openAPI(t *testing.T, official *jsonschema.Schema, events []contract.Event, ep *endpoint.Endpoint) {
	t.Helper()
	text := []byte(document(t, contract.OpenAPI(events, ep)))
	if err := official.Validate(value(t, text)); err != nil {
		t.Errorf("%v\n%s", err, text)
	}
	c := jsonschema.NewCompiler()
	if err := c.AddResource("mem:document", value(t, text)); err != nil {
		t.Fatal(err)
	}
	webhooks := value(t, text).(map[string]any)["webhooks"].(map[string]any)
	if len(webhooks) != len(events) {
		t.Errorf("%d webhooks of %d events", len(webhooks), len(events))
	}
	for i := range events {
		e := &events[i]
		post := webhooks[e.Name].(map[string]any)["post"].(map[string]any)
		var headers []string
		for _, p := range post["parameters"].([]any) {
			headers = append(headers, p.(map[string]any)["name"].(string))
		}
		if !strings.HasPrefix(strings.Join(headers, " "), "Webhook-Id Webhook-Timestamp Webhook-Signature") {
			t.Errorf("%s has the headers %q", e.Name, headers)
		}
		media := post["requestBody"].(map[string]any)["content"].(map[string]any)
		for kind, m := range media {
			escaped := strings.ReplaceAll(kind, "/", "~1")
			schema, err := c.Compile("mem:document#/webhooks/" + e.Name + "/post/requestBody/content/" + escaped + "/schema")
			if err != nil {
				t.Fatal(err)
			}
			if sample, ok := m.(map[string]any)["example"]; ok {
				if err := schema.Validate(sample); err != nil {
					t.Errorf("%s as %s: %v", e.Name, ep.Format, err)
				}
			} else if ep.Format != endpoint.FormatForm {
				t.Errorf("%s has no example", e.Name)
			}
		}
	}
}

// asyncAPI checks a document by the schema of AsyncAPI 3, that what it refers to is there, and that its
// samples are what it says.
func asyncAPI(t *testing.T, official *jsonschema.Schema, events []contract.Event, ep *endpoint.Endpoint) {
	t.Helper()
	text := []byte(document(t, contract.AsyncAPI(events, ep)))
	if err := official.Validate(value(t, text)); err != nil {
		t.Errorf("%v\n%s", err, text)
	}
	c := jsonschema.NewCompiler()
	if err := c.AddResource("mem:document", value(t, text)); err != nil {
		t.Fatal(err)
	}
	whole := value(t, text).(map[string]any)
	messages := whole["components"].(map[string]any)["messages"].(map[string]any)
	channel := whole["channels"].(map[string]any)["webhook"].(map[string]any)["messages"].(map[string]any)
	if sent := whole["operations"].(map[string]any)["deliver"].(map[string]any)["messages"].([]any); len(messages) != len(events) || len(channel) != len(events) || len(sent) != len(events) {
		t.Errorf("%d messages, %d of the channel and %d sent, of %d events", len(messages), len(channel), len(sent), len(events))
	}
	for name := range channel {
		m, ok := messages[name].(map[string]any)
		if !ok {
			t.Errorf("the channel has message %s, which is not there", name)
			continue
		}
		payload, err := c.Compile("mem:document#/components/messages/" + name + "/payload")
		if err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		samples, _ := m["examples"].([]any)
		if len(samples) == 0 && ep.Format != endpoint.FormatForm {
			t.Errorf("%s has no sample", name)
		}
		for _, sample := range samples {
			if err := payload.Validate(sample.(map[string]any)["payload"]); err != nil {
				t.Errorf("%s: %v", name, err)
			}
		}
	}
	for what, broken := range map[string][2]string{
		"another action": {`"action": "send"`, `"action": "deliver"`}, "a channel that is no reference": {`"channel": {`, `"channels": {`},
		"an unknown member": {`"address": null`, `"adress": null`}, "another version": {`"asyncapi": "3.0.0"`, `"asyncapi": "2.6.0"`},
	} {
		if other := strings.Replace(string(text), broken[0], broken[1], 1); other == string(text) || official.Validate(value(t, []byte(other))) == nil {
			t.Errorf("a document with %s is accepted", what)
		}
	}
}
