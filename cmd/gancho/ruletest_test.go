package main_test

import (
	"encoding/json"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"gancho/internal/testservers"
)

const testedRules = `rules:
  - event: cobranca.paga
    table: cobrancas
    on: update
    when: old.status <> 'L' and new.status = 'L'
    tenant: empresa_id
    data:
      id: id
      valor: valor
      cliente: cliente.nome
      classe: classe(valor)
      token: hmac(id::text, 'chave')
    lookup:
      cliente: select nome from clientes where id = new.cliente_id
`

const testedCases = `tests:
  - name: a payment
    given: {update: cobrancas, old: {id: 1, empresa_id: 7, status: P, valor: 10}, new: {status: L}}
    lookups: {cliente: {nome: Ana}}
    evaluated: {classe(valor): pequena}
    expect:
      - event: cobranca.paga
        tenant: 7
        # what is paid
        data: {id: 1, valor: 10, cliente: Ana, classe: pequena, token: abc}
  - name: no payment
    given: {update: cobrancas, old: {id: 1, status: L}, new: {valor: 11}}
    expect: none
`

// TestRuleTests: the catalogue is saved, the tests run without the source, an expectation
// is updated, and check finds that the source is another one.
func TestRuleTests(t *testing.T) {
	testservers.Whole(t)
	dsn := pg.Database(t, "",
		"create table cobrancas (id int primary key, empresa_id int, cliente_id int, status char(1), valor numeric(10,2))", "alter table cobrancas replica identity full",
		"create table clientes (id int primary key, nome text)", "insert into clientes values (3, 'Rui')",
		"create function classe(numeric) returns text language sql stable as $$ select case when $1 > 100 then 'grande' else 'miúda' end $$",
	)
	dir := t.TempDir()
	config := filepath.Join(dir, "gancho.yaml")
	write := func(name, text string) {
		t.Helper()
		if err := os.MkdirAll(filepath.Dir(filepath.Join(dir, name)), 0o750); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	write("gancho.yaml", "source: {dsn: '${RULE_TESTS_DSN}', timezone: America/Sao_Paulo}\nqueue: {redis: '${RULE_TESTS_REDIS}'}\n"+
		"privacy: {secrets: {chave: '${RULE_TESTS_SECRET}'}}\nrules: [rules.yaml]\nendpoints: [{name: a, url: '${RULE_TESTS_URL}', secret: '${RULE_TESTS_SECRET}'}]\n")
	write("rules.yaml", testedRules)
	write("tests/cobrancas.yaml", testedCases)
	expect := func(wantCode int, want []string, args ...string) string {
		t.Helper()
		code, stdout, stderr := command(t, append(args, "--config", config)...)
		if code != wantCode {
			t.Fatalf("gancho %s: exit %d, want %d:\n%s%s", strings.Join(args, " "), code, wantCode, stdout, stderr)
		}
		for _, text := range want {
			if !strings.Contains(stdout+stderr, text) {
				t.Errorf("gancho %s does not say %q:\n%s%s", strings.Join(args, " "), text, stdout, stderr)
			}
		}
		return stdout
	}
	expect(2, []string{"catalogue.yaml does not exist", "gancho catalogue save"}, "test")
	t.Setenv("RULE_TESTS_DSN", dsn)
	t.Setenv("RULE_TESTS_REDIS", "redis://nowhere.invalid")
	t.Setenv("RULE_TESTS_SECRET", "a secret of thirty-two characters")
	t.Setenv("RULE_TESTS_URL", "https://nowhere.invalid/")
	expect(0, []string{"catalogue.yaml: 1 table and 2 queries"}, "catalogue", "save")
	for _, name := range []string{"DSN", "REDIS", "SECRET", "URL"} {
		if err := os.Unsetenv("RULE_TESTS_" + name); err != nil {
			t.Fatal(err)
		}
	}
	expect(1, []string{
		"FAIL " + filepath.Join(dir, "tests/cobrancas.yaml") + ":2: a payment\n", "cobrancas.yaml:10: event 1, cobranca.paga: data.valor\n    expected 10\n    got      10.00\n",
		"2 cases, 1 failed", "1 case of 2 failed",
	}, "test")
	portuguese := &portugueseSession{t: t}
	portuguese.run(1, "test", "--config", config)
	expect(0, []string{"2 cases, 1 written"}, "test", "--update")
	expect(0, []string{"2 cases, 0 failed"}, "test")
	if text := mustRead(t, filepath.Join(dir, "tests/cobrancas.yaml")); !strings.Contains(text, "        # what is paid\n") || !strings.Contains(text, "valor: 10.00\n") {
		t.Errorf("the updated file is:\n%s", text)
	}
	var out struct {
		Items []struct {
			Name   string
			Passed bool
		}
		Failed   int
		Untested []string
	}
	if err := json.Unmarshal([]byte(expect(0, nil, "test", "--json", "--junit", filepath.Join(dir, "junit.xml"))), &out); err != nil {
		t.Fatal(err)
	}
	if len(out.Items) != 2 || !out.Items[0].Passed || out.Failed != 0 || len(out.Untested) != 1 {
		t.Errorf("--json prints %+v", out)
	}
	if text := mustRead(t, filepath.Join(dir, "junit.xml")); !strings.Contains(text, `tests="2" failures="0"`) {
		t.Errorf("the JUnit file is:\n%s", text)
	}
	expect(0, []string{"1 case, 0 failed"}, "test", "--run", "no payment")
	portuguese.run(0, "test", "--config", config)
	expect(2, []string{`no case matches --run "nothing"`}, "test", "--run", "nothing")
	expect(2, []string{"--run: error parsing regexp"}, "test", "--run", "(")
	expect(2, []string{"elsewhere.yaml does not exist"}, "test", filepath.Join(dir, "elsewhere.yaml"))

	// What the case does not say is asked of the source.
	write("tests/cobrancas.yaml", `tests:
  - name: a payment
    given: {update: cobrancas, old: {id: 1, cliente_id: 3, status: P, valor: 10}, new: {status: L}}
    expect:
      - event: cobranca.paga
        partial: {cliente: Rui, classe: miúda}
`)
	expect(1, []string{"reads lookup cliente; write lookups: {cliente: {nome: ...}} in the case"}, "test")
	expect(0, []string{"1 case, 0 failed"}, "test", "--dsn", dsn)

	write("rules.yaml", strings.Replace(testedRules, "id: id", "id: idd", 1))
	expect(2, []string{`column "idd" is not in table`}, "test")
	portuguese.run(2, "test", "--config", config)
	portuguese.compare("test", map[string]string{regexp.QuoteMeta(dir): "DIR"})
	write("rules.yaml", strings.Replace(testedRules, "select nome from", "select nome, id from", 1))
	expect(2, []string{"lookup cliente is not in the saved catalogue; write it again: gancho catalogue save"}, "test")
	write("rules.yaml", testedRules)

	fix(t, dsn, "create publication gancho for table cobrancas")
	t.Setenv("RULE_TESTS_DSN", dsn)
	t.Setenv("RULE_TESTS_REDIS", "redis://nowhere.invalid")
	t.Setenv("RULE_TESTS_SECRET", "a secret of thirty-two characters")
	t.Setenv("RULE_TESTS_URL", "https://nowhere.invalid/")
	expect(0, nil, "check")
	fix(t, dsn, "alter table cobrancas alter valor type numeric(12,4)")
	expect(1, []string{
		"table public.cobrancas: column valor was {name: valor, type: 'numeric(10,2)'} and is {name: valor, type: 'numeric(12,4)'}",
		"write it again with: gancho catalogue save",
	}, "check")
}
