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
					Properties map[string]property `json:"properties"`
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
	for name, p := range settings {
		for _, name := range p.places(name) {
			if !elsewhere[name] && !strings.Contains(b.body, ` name="`+name+`"`) {
				t.Errorf("the form has no field for %s", name)
			}
		}
	}
}

// property is one of a schema's object.
type property struct {
	Properties map[string]property `json:"properties"`
}

// places are where the values of the property at a place are.
func (p property) places(at string) []string {
	if len(p.Properties) == 0 {
		return []string{at}
	}
	var out []string
	for name, inner := range p.Properties {
		out = append(out, inner.places(at+"/"+name)...)
	}
	return out
}

// What is nested on the form is saved as it was filled in: a login takes the place of another, a list of signatures is YAML, and
// what is not shown is kept.
func TestNestedSettings(t *testing.T) {
	t.Parallel()
	w := newConsole(t)
	b := w.as(state.Admin, "")
	b.open("/console/new-endpoint").submit("Criar endpoint", "Nome", "assinado", "URL", "https://x.example.com/hooks",
		"Assinaturas de outros fornecedores", "- github\n- header: x-sig\n  of: '{timestamp}.{body}'", "Assinar como Standard Webhooks", "false",
		"OAuth 2.0: URL do token", "https://l.example.com/token", "OAuth 2.0: cliente", "academia", "OAuth 2.0: segredo do cliente", "segredo-do-cliente",
		"OAuth 2.0: escopos", "ler, escrever").shows(http.StatusCreated)
	const edit = "/console/endpoints/assinado/edit"
	b.open(edit).submit("Salvar", "Tempo limite", "7s").shows(http.StatusOK, "timeout: 7s", "preset: github", "header: X-Sig", "of: '{timestamp}.{body}'",
		"standard: false", "client_id: academia", "client_secret: '***'", "- escrever")
	e, err := w.store.Endpoint(t.Context(), "assinado")
	if err != nil || !strings.Contains(string(e.Document), `"client_secret":"segredo-do-cliente"`) {
		t.Errorf("stored: %s %v", e.Document, err)
	}
	b.open(edit).submit("Salvar", "OAuth 2.0: URL do token", "", "OAuth 2.0: cliente", "", "OAuth 2.0: segredo do cliente", "", "OAuth 2.0: escopos", "",
		"Basic: usuário", "ana", "Basic: senha", "segredo-da-ana", "Assinaturas de outros fornecedores", "[shopify]").shows(http.StatusOK, "user: ana", "password: '***'", "preset: shopify")
	b.open(edit).submit("Salvar", "Assinaturas de outros fornecedores", "[gitlab]").shows(http.StatusUnprocessableEntity, "você quis dizer")
}
