package console_test

import (
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"testing"
	"time"

	"gancho/internal/control"
	"gancho/internal/state"
	"gancho/mapping"
)

// A rule with schedule shows when it ran and runs, and what is wrong with it, which the panel says as well.
func TestScheduledRule(t *testing.T) {
	t.Parallel()
	w := newConsole(t)
	file := filepath.Join(t.TempDir(), "agenda.yaml")
	if err := os.WriteFile(file, []byte(`rules:
  - {event: cliente.ausente, schedule: daily 08:00, query: select id from clientes, columns: [id]}
  - {event: cliente.novo, table: clientes, on: insert, columns: [id]}
`), 0o600); err != nil {
		t.Fatal(err)
	}
	parsed, err := mapping.Parse(mapping.Options{Files: []string{file}, Location: time.UTC})
	if err != nil {
		t.Fatal(err)
	}
	w.control.Catalogue = parsed.EventTypes
	w.control.RulesInUse = func() control.RulesInUse {
		return control.RulesInUse{Sources: parsed.Sources(), Files: parsed.Files()}
	}
	w.control.SourceSlot = "gancho"
	b := w.as(state.Operator, "")
	page := "/console/rules/rule?" + url.Values{"at": {parsed.Sources()[0].Place}}.Encode()
	b.open("/console/rules").shows(http.StatusOK, "daily 08:00")
	b.open(page).shows(http.StatusOK, "Ainda não rodou.")

	ctx, due := t.Context(), time.Date(2026, 3, 2, 8, 0, 0, 0, time.UTC)
	if err := w.store.AddSchedule(ctx, "gancho", "cliente.ausente", due.Add(-time.Hour)); err != nil {
		t.Fatal(err)
	}
	all, err := w.store.Schedules(ctx, "gancho")
	if err != nil {
		t.Fatal(err)
	}
	id := all["cliente.ausente"].ID
	if err := w.store.BeginRun(ctx, id, due); err != nil {
		t.Fatal(err)
	}
	if err := w.store.EndRun(ctx, id, true, &state.ScheduledRun{Due: due, Took: 1500 * time.Millisecond, Rows: 1234, Uncomputed: 3, Reason: "division by zero"}); err != nil {
		t.Fatal(err)
	}
	b.open(page).shows(http.StatusOK, "PROBLEMA", "linhas sem evento na última execução: 3; a primeira por causa de: divisão por zero", "02/03/2026 08:00", "03/03/2026 08:00", "1.234")
	if err := w.store.BeginRun(ctx, id, due.Add(24*time.Hour)); err != nil {
		t.Fatal(err)
	}
	if err := w.store.FailRun(ctx, id, due.Add(24*time.Hour), "the table is locked"); err != nil {
		t.Fatal(err)
	}
	b.open(page).shows(http.StatusOK, "the table is locked", "03/03/2026 08:00", "04/03/2026 08:00")
	b.open("/console/rules").shows(http.StatusOK, "daily 08:00 ✕ PROBLEMA")
	b.open("/console/").shows(http.StatusOK, "Uma execução de um agendamento falha, ou linhas ficaram sem evento", "cliente.ausente", "the table is locked")
}
