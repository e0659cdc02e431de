package contract_test

import (
	"os"
	"strings"
	"testing"

	"github.com/santhosh-tekuri/jsonschema/v6"

	"gancho/delivery/endpoint"
	"gancho/internal/contract"
)

// metaSchema is the schema of OpenAPI 3.1, of the OpenAPI Initiative.
func metaSchema(t *testing.T) *jsonschema.Schema {
	t.Helper()
	text, err := os.ReadFile("testdata/openapi-3.1.json")
	if err != nil {
		t.Fatal(err)
	}
	c := jsonschema.NewCompiler()
	if err := c.AddResource("mem:openapi", value(t, text)); err != nil {
		t.Fatal(err)
	}
	s, err := c.Compile("mem:openapi")
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
