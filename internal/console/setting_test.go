package console_test

import (
	"encoding/json"
	"net/http"
	"strings"
	"testing"

	"gancho/delivery/endpoint"
	"gancho/internal/state"
	"gancho/internal/strictyaml"
)

// The form has a field for every setting that a document may have.
func TestEverySetting(t *testing.T) {
	t.Parallel()
	w := newConsole(t)
	b := w.as(state.Admin, "").open("/console/new-endpoint").shows(http.StatusOK)
	elsewhere := map[string]bool{"name": true, "state": true, "secret": true, "secrets": true}
	schema, err := json.Marshal(strictyaml.Schema("", false, func(v strictyaml.Value) {
		v.Map(strictyaml.Optional("endpoints", func(v strictyaml.Value) { endpoint.DecodeList(v) }))
	}))
	if err != nil {
		t.Fatal(err)
	}
	var file struct {
		Properties struct {
			Endpoints struct {
				Items struct {
					Properties map[string]struct {
						Properties map[string]any `json:"properties"`
					} `json:"properties"`
				} `json:"items"`
			} `json:"endpoints"`
		} `json:"properties"`
	}
	if err := json.Unmarshal(schema, &file); err != nil {
		t.Fatal(err)
	}
	settings := file.Properties.Endpoints.Items.Properties
	if len(settings) < 20 {
		t.Fatalf("the schema has %d settings: %.300s", len(settings), schema)
	}
	for name, property := range settings {
		names := []string{name}
		if len(property.Properties) > 0 {
			names = nil
			for inner := range property.Properties {
				names = append(names, name+"/"+inner)
			}
		}
		for _, name := range names {
			if !elsewhere[name] && !strings.Contains(b.body, ` name="`+name+`"`) {
				t.Errorf("the form has no field for %s", name)
			}
		}
	}
}
