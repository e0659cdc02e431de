package console_test

import (
	"context"
	"encoding/json"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"testing"
	"time"

	"gancho/delivery/webhook"
	"gancho/internal/control"
	"gancho/internal/state"
)

// A backfill is planned, begun, paused, resumed and canceled from the screen, and nobody sees another tenant's jobs.
func TestJobs(t *testing.T) {
	t.Parallel()
	w := newConsole(t)
	w.endpoint("crm", "1")
	b := w.as(state.Operator, "")
	b.open("/console/jobs").shows(http.StatusOK, "Nenhum trabalho ainda.").submit("Simular", "Tabela", "cobrancas").shows(http.StatusUnprocessableEntity, "Este processo não captura")
	w.control.Backfill = func(_ context.Context, f state.Filter, show bool) (control.BackfillPlan, error) {
		if f.Where == "errada" {
			return control.BackfillPlan{}, &control.InvalidError{Problems: []control.Problem{{Pointer: "/filter/where", Message: "there is no column errada"}}}
		}
		table := control.BackfillTable{Table: "public.cobrancas", Rows: 1200, Events: []string{"cobranca.paga"}}
		if show {
			table.Samples = []json.RawMessage{json.RawMessage(`{"event":"cobranca.paga"}`)}
		}
		return control.BackfillPlan{Tables: []control.BackfillTable{table}, Rows: 1200, Estimated: true}, nil
	}
	b.submit("Iniciar carga", "Tabela", "").shows(http.StatusUnprocessableEntity, "Escolha uma tabela")
	b.submit("Simular", "Tabela", "cobrancas", "Condição", "errada").shows(http.StatusUnprocessableEntity, "there is no column errada")
	if !strings.Contains(b.body, `id="f-where-problem"`) {
		t.Error("the mistake does not stand beside its field")
	}
	b.submit("Simular", "Condição", "", "Endpoint", "nenhum").shows(http.StatusUnprocessableEntity, "Não há endpoint com este nome")
	b.submit("Simular", "Endpoint", "crm").shows(http.StatusOK, "cerca de 1.200 linhas", `{"event":"cobranca.paga"}`, "Nenhum trabalho ainda.")
	b.submit("Iniciar carga", "Máximo por segundo", "50").shows(http.StatusOK, "A carga começou", "Carga inicial → crm", "NA FILA", "0 de 1.200 (estimado)")
	b.submit("Iniciar carga", "Tabela", "cobrancas").shows(http.StatusUnprocessableEntity, "só pode haver uma por vez")
	b.open("/console/jobs").submit("Pausar o trabalho 1").shows(http.StatusOK, "PAUSADO")
	b.submit("Retomar o trabalho 1").shows(http.StatusOK, "NA FILA")

	tenant := w.as(state.Operator, "1")
	tenant.open("/console/jobs").shows(http.StatusOK, "Nenhum trabalho ainda.")
	if strings.Contains(tenant.text(), "Carga inicial") {
		t.Error("a tenant is offered a backfill, which reads everybody's rows")
	}
	for _, act := range []string{"1/pause", "1/resume", "1/cancel", "backfill"} {
		tenant.post("/console/jobs/"+act, url.Values{"table": {"cobrancas"}}).shows(http.StatusNotFound)
	}
	w.as(state.Viewer, "").post("/console/jobs/1/cancel", nil).shows(http.StatusForbidden)
	b.submit("Cancelar o trabalho 1").shows(http.StatusOK, "CANCELADO")
	b.post("/console/jobs/1/cancel", nil).shows(http.StatusConflict)
}

// Kept events of a span are counted and sent again, to an endpoint or to all that take them; a tenant's are its own.
func TestReplay(t *testing.T) {
	t.Parallel()
	w := newConsole(t)
	w.endpoint("crm", "1")
	w.endpoint("erp", "2")
	now := time.Now()
	events := make([]webhook.Message, 3)
	for i := range events {
		events[i] = webhook.Message{ID: "a1b2c3d4-001-00000000016b3748-00000000000" + strconv.Itoa(i) + "-0000", Type: "cobranca.paga", Tenant: strconv.Itoa(1 + i/2), Key: "1", Time: now.Add(-time.Minute), Data: []byte("{}")}
	}
	if err := w.store.WriteEvents(context.Background(), events); err != nil {
		t.Fatal(err)
	}
	b := w.as(state.Operator, "")
	b.open("/console/jobs")
	b.open(b.href("Enviar de novo eventos guardados")).shows(http.StatusOK, "como eram")
	b.submit("Simular").shows(http.StatusUnprocessableEntity, "Informe desde quando")
	b.submit("Simular", "Desde", "ontem").shows(http.StatusUnprocessableEntity, "Escreva uma data e um horário")
	b.submit("Simular", "Desde", "2020-01-01T00:00", "Endpoint", "nenhum").shows(http.StatusUnprocessableEntity, "Não há endpoint com este nome")
	b.submit("Simular", "Endpoint", "", "Até", "2020-01-02T00:00").shows(http.StatusOK, "Nenhum evento guardado corresponde")
	b.submit("Simular", "Até", "").shows(http.StatusOK, "crm: 2 eventos seriam enviados", "erp: 1 evento seria enviado")
	b.submit("Enviar de novo", "Endpoint", "crm").shows(http.StatusOK, "Reenvio → crm", "0 de 2")
	// What is left out is said before it begins, and when it does.
	w.endpoint("antigo", "")
	w.exec(`update gancho.endpoints set sealed = '\x00' where name = 'antigo'`)
	b.open("/console/jobs/replay").submit("Simular", "Desde", "2020-01-01T00:00").shows(http.StatusOK, "erp: 1 evento seria enviado", "antigo fica de fora: decifrar")
	b.submit("Enviar de novo").shows(http.StatusOK, "O reenvio começou.", "antigo fica de fora: decifrar")

	tenant := w.as(state.Operator, "2")
	tenant.open("/console/jobs/replay").submit("Simular", "Desde", "2020-01-01T00:00").shows(http.StatusOK, "erp: 1 evento seria enviado")
	if strings.Contains(tenant.text(), "crm") {
		t.Error("a tenant sees another's endpoint")
	}
	tenant.submit("Enviar de novo", "Endpoint", "crm").shows(http.StatusNotFound)
}
