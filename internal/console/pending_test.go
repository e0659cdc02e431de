package console_test

import (
	"context"
	"fmt"
	"net/http"
	"net/url"
	"strings"
	"testing"
	"time"

	"gancho/cdc"
	"gancho/delivery/queue"
	"gancho/delivery/webhook"
	"gancho/internal/control"
	"gancho/internal/state"
	"gancho/mapping"
)

// dead gives an event of a tenant up, with the status of its last answer.
func (w *world) dead(endpoint, tenant, id string, status int) {
	w.t.Helper()
	now := time.Now()
	d := state.DeadLetter{Endpoint: endpoint, DeadEvent: queue.DeadEvent{
		Handle: id, Reason: "refused", Attempts: 3, Failures: queue.Failures{First: now, Last: now, Status: status, Class: webhook.ClassStatus},
		Message: webhook.Message{ID: id, Type: "cobranca.paga", Tenant: tenant, Key: "7", Time: now, Sequence: "1", Data: []byte(`{"valor":"10.00"}`)},
	}}
	if err := w.store.WriteDead(context.Background(), []state.DeadLetter{d}); err != nil {
		w.t.Fatal(err)
	}
}

// parked parks changes, one for each reason.
func (w *world) parked(reasons ...string) {
	w.t.Helper()
	ctx := context.Background()
	source := queue.Source{SystemID: "7300000000000000001", Database: "academia", Slot: "gancho", Timeline: 1, ConfirmedFlush: 0x1000}
	if _, err := w.queue.Claim(ctx, source, false); err != nil {
		w.t.Fatal(err)
	}
	batch := w.queue.NewBatch()
	for i, reason := range reasons {
		p := mapping.Parked{
			Position: cdc.Position{Commit: cdc.LSN(0x2000 + i)}, Rule: "regras.yaml:3", Type: "cliente.novo", Table: "public.clientes", Op: cdc.Insert,
			Time: time.Now(), Reason: reason, Row: []byte(`{"new":{"id":1}}`),
		}
		if err := batch.Park(&p); err != nil {
			w.t.Fatal(err)
		}
	}
	if err := w.queue.Append(ctx, batch); err != nil {
		w.t.Fatal(err)
	}
}

// What waits for somebody is shown by its reason; a group is redriven or dropped, and nothing beside it.
func TestPending(t *testing.T) {
	t.Parallel()
	w := newConsole(t)
	ctx := context.Background()
	b := w.as(state.Admin, "")
	b.open("/console/pending").shows(http.StatusOK, "Nenhuma entrega morta.", "Nenhuma mudança estacionada.")
	w.endpoint("crm", "1")
	w.endpoint("erp", "2")
	for i := range 3 {
		w.dead("crm", "1", fmt.Sprint("a", i), 400)
	}
	w.dead("crm", "1", "b0", 500)
	w.dead("erp", "2", "c0", 500)
	w.parked("o valor não cabe", "o valor não cabe", "falta o e-mail")
	b.open("/console/pending").shows(http.StatusOK, "O servidor recusou", "a2", "o valor não cabe", "falta o e-mail", "0 podem ser reprocessadas")

	b.open(b.href("✕ O servidor recusou 400")).shows(http.StatusOK, "3 entregas mortas neste grupo", "Status HTTP: 400")
	one := *b
	one.open(one.href("a0")).shows(http.StatusOK, "valor", "Última tentativa")
	b.submit("Reenviar 3", "Máximo por segundo", "depressa").shows(http.StatusUnprocessableEntity, "Isto não é uma velocidade")
	b.submit("Reenviar 3", "Máximo por segundo", "2,5").shows(http.StatusOK, "O reenvio começou", "Reenvio de entregas mortas → crm", "0 de 3", "Status HTTP: 400")
	jobs, err := w.control.Jobs(ctx, root, "", 0)
	if err != nil || len(jobs.Items) != 1 || jobs.Items[0].Rate != 2.5 || jobs.Items[0].Total != 3 {
		t.Fatalf("%+v, %v", jobs, err)
	}
	claimed, err := w.store.ClaimJob(ctx, "worker", time.Minute)
	if err != nil || claimed == nil {
		t.Fatal(err)
	}
	letters, err := w.store.DeadLetters(ctx, claimed.Filter, 0, 10)
	if err != nil || len(letters) != 3 {
		t.Errorf("the job of a group chooses %d dead letters, want its 3: %v", len(letters), err)
	}

	b.open("/console/pending").open(b.href("! o valor não cabe")).shows(http.StatusOK, "2 mudanças estacionadas neste grupo", "não podem ser reprocessadas")
	b.submit("Descartar 2").shows(http.StatusUnprocessableEntity, "Marque a caixa")
	b.post("/console/pending/parked", url.Values{"do": {"drop"}, "confirm": {"yes"}, "rule": {"regras.yaml:3"}}).shows(http.StatusNotFound) // half a group is more than the group
	b.post("/console/pending/parked", url.Values{"do": {"drop"}, "confirm": {"yes"}, "rule": {"regras.yaml:3"}, "event": {"cliente.novo"}, "reason": {"o valor não cabe"}}).
		shows(http.StatusOK, "descartado de vez", "falta o e-mail")
	if n, err := w.control.CountParked(ctx, root, state.Filter{}); n != 1 || err != nil {
		t.Errorf("%d parked changes are left, want 1: %v", n, err)
	}
	b.open(b.href("! falta o e-mail")).submit("Reprocessar 1").shows(http.StatusOK, "Reprocessamento de mudanças estacionadas", "falta o e-mail")

	// A tenant sees what is its own, and drops nothing of others.
	tenant := w.as(state.Admin, "1")
	tenant.open("/console/pending").shows(http.StatusOK, "b0")
	if text := tenant.text(); strings.Contains(text, "c0") || strings.Contains(text, "estacionada") {
		t.Errorf("a tenant sees what is not its own: %s", text)
	}
	group := url.Values{"do": {"drop"}, "confirm": {"yes"}, "endpoint": {"erp"}, "event": {"cobranca.paga"}, "class": {webhook.ClassStatus}, "status": {"500"}}
	tenant.open("/console/pending/dead?"+group.Encode()).shows(http.StatusOK, "Não há mais nada neste grupo")
	tenant.post("/console/pending/dead", group).shows(http.StatusOK, "nada foi feito")
	tenant.open("/console/pending/parked?rule=regras.yaml%3A3&reason=falta+o+e-mail").shows(http.StatusNotFound)
	viewer := w.as(state.Viewer, "")
	viewer.post("/console/pending/dead", group).shows(http.StatusForbidden)
	if n, err := w.control.CountDead(ctx, control.Actor{Name: "x", Role: state.Viewer}, state.Filter{Endpoint: "erp"}); n != 1 || err != nil {
		t.Errorf("%d dead letters of another tenant are left, want 1: %v", n, err)
	}
}

// Under the choice of a source its dead letters alone are shown, and redriven and dropped.
func TestPendingOfSource(t *testing.T) {
	t.Parallel()
	w := newConsole(t)
	house := w.control.Options
	w.control.Sources = func(context.Context) ([]control.Source, error) {
		return []control.Source{{Name: "alfa"}, {Name: "beta"}}, nil
	}
	w.control.OfSource = func(_ context.Context, name string, do func(*control.Service) error) (bool, error) {
		of := house
		of.SourceName = name
		return true, do(control.New(of))
	}
	w.endpoint("crm", "")
	w.dead("crm", "alfa/1", "a0", 400)
	w.dead("crm", "alfa/1", "a1", 400)
	w.dead("crm", "beta/1", "b0", 400)
	w.dead("crm", "beta/1", "b1", 500)
	reader := w.as(state.Viewer, "") // a page that it may not see has nothing to choose
	if reader.open("/console/source").shows(http.StatusForbidden); strings.Contains(reader.text(), "alfa") {
		t.Errorf("sources are shown above a page that is not: %s", reader.text())
	}
	b := w.as(state.Admin, "")
	b.open("/console/source").shows(http.StatusOK, "alfa", "beta")
	b.open("/console/pending").shows(http.StatusOK, "O servidor recusou 400", "O servidor recusou 500")
	b.open("/console/pending?source=alfa").shows(http.StatusOK, "a1")
	if text := b.text(); strings.Contains(text, "b0") || strings.Contains(text, "recusou 500") {
		t.Errorf("dead letters of another source are shown: %s", text)
	}
	b.open(b.href("✕ O servidor recusou 400")).shows(http.StatusOK, "2 entregas mortas neste grupo", "Banco: alfa", "a0", "a1")
	one := *b
	one.open(one.href("a0")).shows(http.StatusOK, "Última tentativa")
	one.open(one.href("Ver o que falhou pelo mesmo motivo")).shows(http.StatusOK, "2 entregas mortas neste grupo", "Banco: alfa")
	b.submit("Reenviar 2").shows(http.StatusOK, "O reenvio começou", "0 de 2", "Banco: alfa")
	group := url.Values{"do": {"drop"}, "confirm": {"yes"}, "endpoint": {"crm"}, "event": {"cobranca.paga"}, "class": {webhook.ClassStatus}, "status": {"400"}, "source": {"beta"}}
	b.post("/console/pending/dead", group).shows(http.StatusOK, "descartado de vez")
	left, err := w.store.DeadLetters(t.Context(), state.Filter{}, 0, 10)
	var ids []string
	for i := range left {
		ids = append(ids, left[i].DeadEvent.ID)
	}
	if err != nil || strings.Join(ids, " ") != "a0 a1 b1" {
		t.Errorf("%q are left: %v", ids, err)
	}
}
