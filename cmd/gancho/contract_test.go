package main_test

import (
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

const contractCatalogue = `
settings: {encoding: UTF8, locale_provider: c, collation: C, ctype: C, lc_monetary: C, money_digits: 2, search_path: [public]}
tables:
  - name: public.cobrancas
    replica_identity: f
    primary_key: [id]
    columns:
      - {name: id, type: int8, not_null: true}
      - {name: valor, type: "numeric(12,2)", not_null: true}
      - {name: cpf, type: varchar(14)}
`

const contractRules = `
rules:
  - event: cobranca.liquidada
    title: Cobrança liquidada
    table: cobrancas
    on: update
    tenant: id
    data: {id: id, valor: valor, cpf: mask_cpf(cpf)}
  - {event: OutroNome, table: cobrancas, on: delete, columns: [id]}
`

const contractConfig = `
source: {dsn: "${GANCHO_TEST_UNSET}"}
queue: {redis: "redis://127.0.0.1:1/0"}
rules: [rules.yaml]
endpoints:
  - {name: crm, url: "https://crm.example.com/x", secret: whsec_MDEyMzQ1Njc4OWFiY2RlZjAxMjM0NTY3ODlhYmNkZWY=, events: ["cobranca.*"], format: cloudevents, numbers: string, extra: {validationtoken: segredo-do-crm}}
  - {name: erp, url: "https://erp.example.com/x", secret: whsec_MDEyMzQ1Njc4OWFiY2RlZjAxMjM0NTY3ODlhYmNkZWQ=}
`

// contractDir has files for gancho events without a server.
func contractDir(t *testing.T) (dir, config string) {
	t.Helper()
	dir = t.TempDir()
	for name, text := range map[string]string{"gancho.yaml": contractConfig, "rules.yaml": contractRules, "catalogue.yaml": contractCatalogue} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	return dir, filepath.Join(dir, "gancho.yaml")
}

// edit replaces a text in a file.
func edit(t *testing.T, path, from, to string) {
	t.Helper()
	text, err := os.ReadFile(path)
	if err != nil || !strings.Contains(string(text), from) {
		t.Fatalf("%s has no %q (%v)", path, from, err)
	}
	if err := os.WriteFile(path, []byte(strings.Replace(string(text), from, to, 1)), 0o600); err != nil {
		t.Fatal(err)
	}
}

// TestEventsContract: the events are described without a server, and without a variable set.
func TestEventsContract(t *testing.T) {
	t.Parallel()
	dir, config := contractDir(t)
	for format, want := range map[string]string{
		"jsonschema": "urn:gancho:event:cobranca.liquidada", "openapi": `"openapi": "3.1.1"`, "asyncapi": `"asyncapi": "3.0.0"`, "markdown": "## cobranca.liquidada",
	} {
		code, out, errs := command(t, "events", "--format", format, "--config", config)
		if code != 0 || !strings.Contains(out, want) || !strings.Contains(out, "OutroNome") {
			t.Errorf("%s: %d %s%s", format, code, out, errs)
		}
		if format != "markdown" && !json.Valid([]byte(out)) {
			t.Errorf("%s is no JSON: %s", format, out)
		}
	}
	to := filepath.Join(dir, "contract")
	if code, out, errs := command(t, "events", "--format", "jsonschema", "-o", to, "--config", config); code != 0 || out != to+": 2 files\n" {
		t.Errorf("%d %s%s", code, out, errs)
	}
	for _, name := range []string{"cobranca.liquidada.schema.json", "%4Futro%4Eome.schema.json"} {
		if _, err := os.Stat(filepath.Join(to, name)); err != nil {
			t.Error(err)
		}
	}
	for _, c := range []struct {
		args []string
		code int
		want string
	}{
		{[]string{"--format", "json"}, 2, "did you mean jsonschema?"}, {[]string{"--format", "xml"}, 2, "write one of jsonschema, openapi, asyncapi, markdown"},
		{[]string{"--endpoint", "crm"}, 2, "--endpoint needs --format"}, {[]string{"--format", "openapi", "--endpoint", "crm"}, 1, "GANCHO_TEST_UNSET"}, {[]string{"--format", ""}, 2, "--format"},
	} {
		if code, _, errs := command(t, append([]string{"events", "--config", config}, c.args...)...); code != c.code || !strings.Contains(errs, c.want) {
			t.Errorf("gancho events %q: %d %s", c.args, code, errs)
		}
	}
	edit(t, config, "${GANCHO_TEST_UNSET}", "postgres://nobody@127.0.0.1:1/none")
	code, out, errs := command(t, "events", "--format", "openapi", "--endpoint", "crm", "--config", config)
	if code != 0 || !strings.Contains(out, "application/cloudevents+json") || !strings.Contains(out, "data-strings") || strings.Contains(out, "OutroNome") {
		t.Errorf("%d %s%s", code, out, errs)
	}
	if strings.Contains(out, "segredo-do-crm") {
		t.Error("the document shows what is secret")
	}
	if code, _, errs := command(t, "events", "--format", "openapi", "--endpoint", "cmr", "--config", config); code != 2 || !strings.Contains(errs, "are crm, erp") {
		t.Errorf("%d %s", code, errs)
	}
}

// TestCompatibleWith: what breaks receivers fails the check and names them; additions pass.
func TestCompatibleWith(t *testing.T) {
	t.Parallel()
	dir, config := contractDir(t)
	edit(t, config, "${GANCHO_TEST_UNSET}", "postgres://nobody@127.0.0.1:1/none")
	former := filepath.Join(dir, "contract")
	check := func() (int, string, string) {
		return command(t, "check", "--offline", "--compatible-with", former, "--config", config)
	}
	if code, _, errs := check(); code != 2 || !strings.Contains(errs, "gancho events --format jsonschema -o "+former) {
		t.Errorf("without schemas: %d %s", code, errs)
	}
	if code, _, errs := command(t, "events", "--format", "jsonschema", "-o", former, "--config", config); code != 0 {
		t.Fatal(errs)
	}
	if code, out, errs := check(); code != 0 || strings.Contains(out, "event ") {
		t.Errorf("unchanged: %d %s%s", code, out, errs)
	}
	rules := filepath.Join(dir, "rules.yaml")
	edit(t, rules, "columns: [id]", "columns: [id, valor]")
	if code, out, errs := check(); code != 0 || !strings.Contains(out, "event OutroNome: data.valor is new\n") {
		t.Errorf("an addition: %d %s%s", code, out, errs)
	}
	edit(t, rules, "valor: valor, ", "")
	code, _, errs := check()
	if code != 1 || !strings.Contains(errs, "event cobranca.liquidada: data.valor is no longer sent; it goes to crm, erp\n") || !strings.Contains(errs, "1 change of the events would break receivers") {
		t.Errorf("a removal: %d %s", code, errs)
	}
	if err := os.WriteFile(filepath.Join(former, "x.schema.json"), []byte("{}"), 0o600); err != nil {
		t.Fatal(err)
	}
	if code, _, errs := check(); code != 2 || !strings.Contains(errs, "x.schema.json") {
		t.Errorf("another file: %d %s", code, errs)
	}
}
