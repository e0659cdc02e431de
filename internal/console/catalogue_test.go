package console_test

import (
	"encoding/json"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/jackc/pgx/v5"

	"gancho/internal/browser"
	"gancho/internal/contract"
	"gancho/internal/state"
	"gancho/internal/testservers"
	"gancho/mapping"
)

// ruleText is the rules of the tests' source.
const ruleText = `rules:
  # o que o CRM espera
  - event: cobranca.paga
    group: Cobranças
    title: Cobrança paga
    description: Disparado quando a cobrança é liquidada.
    table: cobrancas
    on: update
    when: status = 'L' and valor > 0 and became(status, 'L')
    data:
      numero: numero
      valor: valor
      cpf: mask_cpf(cpf)
  - event: cobranca.criada
    group: Cobranças
    table: cobrancas
    on: insert
    data:
      numero: numero
`

// ruled returns rules of a file that are bound to a database with their table, and its DSN.
func ruled(t testing.TB) (parsed *mapping.Rules, bound *mapping.Ruleset, dsn string) {
	t.Helper()
	dsn = pg.Database(t, "",
		`create table cobrancas (id int primary key, numero text, status char(1), valor numeric(10,2), cpf text)`,
		`alter table cobrancas replica identity full`,
		`insert into cobrancas select i, 'N' || i, case when i % 2 = 0 then 'L' else 'A' end, i, '12345678901' from generate_series(1, 10) i`)
	file := filepath.Join(t.TempDir(), "cobrancas.yaml")
	if err := os.WriteFile(file, []byte(ruleText), 0o600); err != nil {
		t.Fatal(err)
	}
	parsed, err := mapping.Parse(mapping.Options{Files: []string{file}})
	if err != nil {
		t.Fatal(err)
	}
	conn, err := pgx.Connect(t.Context(), dsn)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = conn.Close(t.Context()) }()
	if bound, err = parsed.Bind(t.Context(), conn); err != nil {
		t.Fatal(err)
	}
	return parsed, bound, dsn
}

// The catalogue shows a tenant the events, what they hold without anybody's data, and its own endpoints alone.
func TestCatalogue(t *testing.T) {
	testservers.Whole(t)
	t.Parallel()
	w := newConsole(t)
	w.control.Catalogue = nil
	b := w.as(state.Viewer, "1")
	b.open("/console/catalogue").shows(http.StatusOK, "As regras não geram nenhum evento.")
	parsed, bound, _ := ruled(t)
	w.control.Catalogue = parsed.EventTypes
	b.open("/console/catalogue/cobranca.paga").shows(http.StatusOK, "Nenhum endpoint recebe este evento.", "pelo processo que captura")
	b.open("/console/catalogue/cobranca.paga/schema.json").shows(http.StatusNotFound)
	w.control.Contract = func() []contract.Event { return contract.Events(parsed.EventTypes(), bound.Payloads()) }
	w.endpoint("crm-1", "1")
	w.endpoint("crm-2", "2")
	b.open("/console/catalogue").shows(http.StatusOK, "Cobranças", "Cobrança paga", "Disparado quando a cobrança é liquidada.")
	b.open(b.href("cobranca.paga")).shows(http.StatusOK, "Cobrança paga", "Quem recebe crm-1", `"type": "cobranca.paga"`, `"cpf": "***"`, "Mascarado ou em hash: cpf")
	for _, foreign := range []string{"crm-2", "cobrancas.yaml", "O que dispara"} {
		if strings.Contains(b.text(), foreign) {
			t.Errorf("a tenant is shown %s", foreign)
		}
	}
	b.open(b.href("Baixar o JSON Schema"))
	var schema struct {
		Title string
		Defs  map[string]any `json:"$defs"`
	}
	if err := json.Unmarshal([]byte(b.body), &schema); err != nil || schema.Title != "Cobrança paga" || len(schema.Defs) == 0 {
		t.Errorf("the schema is %s: %v", b.body, err)
	}
	if got := b.header.Get("Content-Disposition"); got != "attachment; filename=cobranca.paga.schema.json" {
		t.Errorf("the schema is sent as %q", got)
	}
	b.open("/console/catalogue/no.such").shows(http.StatusNotFound)
	w.as(state.Viewer, "").open("/console/catalogue/cobranca.paga").shows(http.StatusOK, "crm-1", "crm-2", "O que dispara", "cobrancas (update)")
	for _, o := range testservers.Sample([]browser.Options{{Width: 1280, Height: 900, Language: "en"}, {Dark: true, Width: 320, Height: 640}}) {
		p := chromium.Page(t, o)
		p.Open(w.link(state.Viewer, ""))
		p.Follow(map[bool]string{true: "Enter", false: "Entrar"}[o.Language == "en"])
		p.Open(w.url + "/console/catalogue")
		inspect(t, p, &o, "catalogue")
		p.Follow("cobranca.paga")
		inspect(t, p, &o, "event")
	}
}
