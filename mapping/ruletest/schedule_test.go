package ruletest_test

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"gancho/mapping"
)

const scheduledRules = `
rules:
  - event: vencida
    schedule: daily 08:00
    query: select id, empresa_id, valor, vence from cobrancas where vence < current_date - 3
    once: [id, vence]
    tenant: empresa_id
    key: id
    data: {id: id, valor: valor, metade: "round(10 / valor, 1)", hoje: current_date}
  - {event: nova, table: cobrancas, on: insert, columns: [id]}
  - {event: resumo, schedule: hourly, query: select count(*) as n from cobrancas, columns: [n]}
`

const scheduledQueries = `
  - table: query
    sql: select id, empresa_id, valor, vence from cobrancas where vence < current_date - 3
    result:
      - {name: id, type: int4}
      - {name: empresa_id, type: int4}
      - {name: valor, type: 'numeric(10,2)'}
      - {name: vence, type: date}
  - table: query
    sql: select count(*) as n from cobrancas
    result:
      - {name: n, type: int8, computed: true}
`

const scheduledCases = `
tests:
  - name: a row is an event, and its time that of the case
    now: 2026-03-01 08:00:00-03
    given: {schedule: vencida, rows: [{id: 1, empresa_id: 7, valor: 4.00, vence: 2026-02-20}]}
    expect: [{event: vencida, op: schedule, tenant: "7", key: "1", data: {id: 1, valor: 4.00, metade: 2.5, hoje: "2026-03-01"}}]
  - name: once over runs
    given:
      - {schedule: vencida, rows: [{id: 1, valor: 1, vence: 2026-02-20}, {id: 2, valor: 0, vence: 2026-02-20}]}
      - {schedule: vencida, rows: [{id: 1, valor: 2, vence: 2026-02-20}, {id: 2, valor: 5, vence: 2026-02-20}, {id: 1, valor: 2, vence: 2026-02-21}]}
    expect: [{event: vencida, key: "1"}, {parked: vencida}, {event: vencida, key: "2"}, {event: vencida, key: "1"}]
  - name: without once, each run
    given: [{schedule: resumo, rows: {n: 5}}, {schedule: resumo, rows: {n: 5}}]
    expect: [{event: resumo, data: {n: 5}}, {event: resumo, data: {n: 5}}]
  - name: no row
    given: {schedule: vencida, rows: []}
    expect: none
`

// Cases give the rows of a schedule's query.
func TestSchedules(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	write := func(name, text string) string {
		path := filepath.Join(dir, name)
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		return path
	}
	parsed, err := mapping.Parse(mapping.Options{Files: []string{write("rules.yaml", scheduledRules)}, Location: saoPaulo(t)})
	if err != nil {
		t.Fatal(err)
	}
	catalogue, err := os.ReadFile("testdata/catalogue.yaml")
	if err != nil {
		t.Fatal(err)
	}
	saved, err := mapping.ParseCatalogue("catalogue.yaml", append(catalogue, scheduledQueries...))
	if err != nil {
		t.Fatal(err)
	}
	rs, err := parsed.BindTo(saved)
	if err != nil {
		t.Fatal(err)
	}
	suite, err := load(t, rs, write("cases.yaml", scheduledCases))
	if err != nil {
		t.Fatal(err)
	}
	r, err := suite.Run(t.Context(), nil, nil)
	if err != nil {
		t.Fatal(err)
	}
	if got := failures(r); got != "" || len(r.Unfired) != 1 || !strings.HasSuffix(r.Unfired[0], ": nova") {
		t.Errorf("%s, unfired %q", got, r.Unfired)
	}
	wrong := write("wrong.yaml", `
tests:
  - {name: a, given: {schedule: vencidas, rows: []}, expect: none}
  - {name: b, given: {schedule: vencida}, expect: none}
  - {name: c, given: {rows: [{id: 1}]}, expect: none}
  - {name: d, given: {schedule: vencida, rows: [{nome: Ana}]}, expect: none}
  - {name: e, given: {insert: cobrancas, new: {id: 1}, rows: [{id: 1}]}, expect: none}
`)
	_, err = load(t, rs, wrong)
	if err == nil {
		t.Fatal("mistakes are none")
	}
	want := []string{
		`3:33: no rule with schedule makes event "vencidas"; did you mean "vencida"?`,
		`4:22: a run of vencida needs rows; write rows: with what the query has at that time, such as [{id: 1}], or []`,
		`5:22: rows are of a rule with schedule; write schedule: with the event of the rule`,
		`6:50: column "nome" is not in table query; its columns are id, empresa_id, valor, vence`,
		`7:62: rows are of a run of a rule with schedule; remove them, or write them beside schedule:`,
	}
	if diff := cmp.Diff(want, strings.Split(strings.ReplaceAll(err.Error(), wrong+":", ""), "\n")); diff != "" {
		t.Error(diff)
	}
}
