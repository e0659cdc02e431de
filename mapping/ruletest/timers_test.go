package ruletest_test

import (
	"context"
	"os"
	"path/filepath"
	"testing"

	"gancho/mapping"
)

const timedRules = `
rules:
  - {event: parada, table: cobrancas, on: [insert, update], when: situacao = 'aberta', after: 1h, columns: [id, valor]}
  - {event: vencida, table: cobrancas, on: [insert, update], when: situacao = 'aberta', after: vence + interval '3 days', columns: [id]}
`

const timedCases = `
tests:
  - name: an hour passes
    given: {insert: cobrancas, new: {id: 1, situacao: aberta}}
    passes: 1h
    expect: [{event: parada, op: timer, data: {id: 1, valor: null}}]
  - name: less than an hour
    given: {insert: cobrancas, new: {id: 1, situacao: aberta}}
    passes: 59m
    expect: none
  - name: paid in time
    given:
      - {insert: cobrancas, new: {id: 1, situacao: aberta}}
      - {update: cobrancas, old: {id: 1, situacao: aberta}, new: {situacao: paga}}
    passes: 2h
    expect: none
  - name: the row is sent as it is then
    given:
      - {insert: cobrancas, new: {id: 1, situacao: aberta}}
      - {update: cobrancas, old: {id: 1, situacao: aberta}, new: {valor: 7}}
    passes: 2h
    expect: [{event: parada, data: {id: 1, valor: 7.00}}]
  - name: a due date that is moved
    given:
      - {insert: cobrancas, new: {id: 1, situacao: paga, vence: 2026-01-02}}
      - {update: cobrancas, old: {id: 1, situacao: paga, vence: 2026-01-02}, new: {situacao: aberta}}
      - {update: cobrancas, old: {id: 1, situacao: aberta, vence: 2026-01-02}, new: {vence: 2026-01-10}}
    now: 2026-01-01 10:00:00-03
    passes: 11d
    expect: [{event: parada}]
  - name: both, in their order
    given: {insert: cobrancas, new: {id: 1, situacao: aberta, vence: 2026-01-02}}
    now: 2026-01-01 10:00:00-03
    passes: 90h
    expect: [{event: parada}, {event: vencida}]
`

// TestTimers: cases let time pass.
func TestTimers(t *testing.T) {
	t.Parallel()
	text, err := os.ReadFile("testdata/catalogue.yaml")
	if err != nil {
		t.Fatal(err)
	}
	saved, err := mapping.ParseCatalogue("catalogue.yaml", text)
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	files := map[string]string{filepath.Join(dir, "rules.yaml"): timedRules, filepath.Join(dir, "cases.yaml"): timedCases}
	for name, text := range files {
		if err := os.WriteFile(name, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	parsed, err := mapping.Parse(mapping.Options{Files: []string{filepath.Join(dir, "rules.yaml")}, Location: saoPaulo(t)})
	if err != nil {
		t.Fatal(err)
	}
	rs, err := parsed.BindTo(saved)
	if err != nil {
		t.Fatal(err)
	}
	suite, err := load(t, rs, filepath.Join(dir, "cases.yaml"))
	if err != nil {
		t.Fatal(err)
	}
	r, err := suite.Run(context.Background(), nil, nil)
	if err != nil {
		t.Fatal(err)
	}
	if got := failures(r); got != "" {
		t.Error(got)
	}
	if untested := r.Untested(); untested != nil {
		t.Errorf("untested: %v", untested)
	}
}
