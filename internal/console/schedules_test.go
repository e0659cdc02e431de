package console_test

import (
	"context"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"gancho/cdc"
	"gancho/delivery/queue"
	"gancho/internal/control"
	"gancho/internal/state"
	"gancho/mapping"
)

// What became of a row's timers is told on its page, and how many wait on that of their rule and on the panel.
func TestTimedRule(t *testing.T) {
	t.Parallel()
	w := newConsole(t)
	file := filepath.Join(t.TempDir(), "prazos.yaml")
	if err := os.WriteFile(file, []byte("rules:\n  - {event: vencido, table: pedidos, on: insert, after: vence, columns: [id]}\n"), 0o600); err != nil {
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
	place := parsed.Sources()[0].Place
	page := "/console/rules/rule?" + url.Values{"at": {place}}.Encode()
	b := w.as(state.Operator, "")
	b.open(page).shows(http.StatusOK, "vencido")
	if strings.Contains(b.text(), "Temporizadores") {
		t.Error("a rule without timers shows some")
	}
	due := time.Date(2095, 3, 2, 8, 0, 0, 0, time.UTC)
	const rule = "public.pedidos 0 vencido"
	batch := w.queue.NewBatch()
	if _, err := w.queue.Claim(t.Context(), queue.Source{SystemID: "7300000000000000001", Database: "academia", Slot: "gancho", Timeline: 1, ConfirmedFlush: 0x1000}, false); err != nil {
		t.Fatal(err)
	}
	for i, key := range []string{"1", "2"} {
		c := mapping.TimerChange{Position: cdc.Position{Commit: cdc.LSN(0x2000 + i)}, Rule: rule, Key: mapping.EncodeKey(key), Due: due.AddDate(-100*i, 0, 0)}
		if err := batch.Timer(&c); err != nil {
			t.Fatal(err)
		}
	}
	if err := w.queue.Append(t.Context(), batch); err != nil {
		t.Fatal(err)
	}
	if err := w.queue.ApplyTimers(t.Context()); err != nil {
		t.Fatal(err)
	}
	failed, err := w.queue.DueTimers(t.Context(), time.Now(), queue.WhichTimers{}, 10)
	if err != nil || len(failed) != 1 {
		t.Fatal(failed, err)
	}
	if err := w.queue.FireTimers(t.Context(), []queue.FiredTimer{{PendingTimer: failed[0], Failure: &queue.TimerFailure{Event: "vencido", Place: place, Table: "public.pedidos", Reason: "division by zero"}}}); err != nil {
		t.Fatal(err)
	}
	b.open(page).shows(http.StatusOK, "Temporizadores", "Esperando 1", "Próximo vencimento 02/03/2095 08:00", "Estacionados 1")
	b.open("/console/").shows(http.StatusOK, "Temporizadores que esperam 1", "Próximo a vencer 02/03/2095 08:00")

	one := func(r control.WhyRule) control.WhyChange {
		r.Rule, r.Event, r.Outcome = place, "vencido", control.WhyTimerSet
		return control.WhyChange{Time: due, Op: "update", Position: "0/1", Rules: []control.WhyRule{r}}
	}
	w.control.Verdicts = func(q control.WhyQuestion) (control.WhyView, error) {
		return control.WhyView{Table: "public.pedidos", Key: q.Key, Changes: []control.WhyChange{
			one(control.WhyRule{WebhookID: failed[0].ID.WebhookID("0123abcd")}), one(control.WhyRule{WebhookID: "w-2", Due: due}), one(control.WhyRule{WebhookID: "w-3", CanceledBy: due}),
		}}, nil
	}
	w.control.RowTimers = func(ctx context.Context, _ control.WhyQuestion) ([]queue.PendingTimer, error) {
		return w.queue.RowTimers(ctx, []string{rule}, mapping.EncodeKey("2"))
	}
	b.open("/console/rules")
	b.submit("Explicar as mudanças", "Chave primária", "2").shows(http.StatusOK, "Venceu, e o evento não pôde ser calculado; está estacionado. divisão por zero", "Vence em 02/03/2095 08:00", "A mudança de 02/03/2095 08:00:00 o cancela")
}

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
	w.control.Verdicts = func(q control.WhyQuestion) (control.WhyView, error) {
		return control.WhyView{Table: "public.clientes", Key: q.Key, Schedules: []control.WhySchedule{{ScheduleView: control.ScheduleView{Rule: parsed.Sources()[0].Place, Event: "cliente.ausente"}}}}, nil
	}
	attempt := state.Attempt{Time: due.Add(time.Minute), Endpoint: "crm", Entry: "1-1", WebhookID: "agenda-1", Event: "cliente.ausente", Key: "7", Committed: due, Number: 1, Outcome: "delivered", Status: 200}
	if err := w.store.WriteAttempts(ctx, []state.Attempt{attempt}); err != nil {
		t.Fatal(err)
	}
	b.submit("Explicar as mudanças", "Chave primária", "7").shows(http.StatusOK, "daily 08:00", "Última execução", "the table is locked", "O evento mais novo com esta chave é agenda-1, da execução de 02/03/2026 08:00")
	b.submit("Explicar as mudanças", "Chave primária", "8").shows(http.StatusOK, "O registro de entregas não tem evento dela com esta chave")
	b.open("/console/").shows(http.StatusOK, "Uma execução de um agendamento falha, ou linhas ficaram sem evento", "cliente.ausente", "the table is locked")
}
