package console_test

import (
	"context"
	"encoding/json"
	"net/http"
	"net/url"
	"strings"
	"testing"

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
