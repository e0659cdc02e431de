package console_test

import (
	"context"
	"net/http"
	"net/url"
	"strings"
	"testing"

	"gancho/cdc"
	"gancho/internal/control"
	"gancho/internal/doctor"
	"gancho/internal/state"
	"gancho/internal/testservers"
)

// What is refused below the console is said in the language of the page: a mistake at its field, one without a form, a quota, and what was found at the
// source. What nobody has translated says that it is English.
func TestRefusalsArePortuguese(t *testing.T) {
	testservers.Whole(t)
	t.Parallel()
	w := newConsole(t)
	w.control.Quotas = control.Quotas{Tenant: control.Quota{Endpoints: 1}, Headers: 1}
	w.endpoint("um", "1")
	b := w.as(state.Admin, "1")
	new := func(values ...string) url.Values {
		out := url.Values{"name": {"dois"}, "url": {"https://crm.example.com/hooks"}}
		for i := 0; i+1 < len(values); i += 2 {
			out.Set(values[i], values[i+1])
		}
		return out
	}
	for _, c := range []struct {
		what string
		ask  url.Values
		say  string
	}{
		{"a quota", new(), "A cota foi atingida: endpoints, 1 de no máximo 1."},
		{"a setting", new("timeout", "logo"), `"logo" não é uma duração; escreva um número com a unidade, por exemplo 500ms`},
		{"two settings", new("retry", "1s, nunca", "concurrency", "0"), `"nunca" não é uma duração`},
		{"a document", url.Values{"name": {"dois"}, "document": {"url: https://crm.example.com\nevnts: []\n"}}, `chave desconhecida "evnts"; você quis dizer "events"?`},
		{"a reserved setting", new("allow_http", "true"), "o token de uma unidade não pode definir allow_http; peça ao operador"},
	} {
		if b.post("/console/new-endpoint", c.ask).shows(http.StatusUnprocessableEntity, c.say); strings.Contains(b.text(), "write ") {
			t.Errorf("%s is refused in English: %s", c.what, b.text())
		}
	}
	b.open("/console/deliveries?cursor=errado").shows(http.StatusUnprocessableEntity, "a posição da página não é desta lista")

	w.control.Examine = func(context.Context) (doctor.Report, error) {
		return doctor.Report{Findings: []doctor.Finding{
			{Finding: cdc.Finding{ID: "source.replication", Severity: cdc.SeverityProblem, Where: "replicação", Title: "the role may not replicate: no pg_hba.conf entry", Why: "a reason that nobody has translated"}},
		}}, nil
	}
	root := w.as(state.Operator, "")
	root.open("/console/source").submit("Verificar agora").shows(http.StatusOK, "o papel não pode replicar", "a reason that nobody has translated")
	if !strings.Contains(root.body, `<span lang="en">a reason that nobody`) {
		t.Error("an English text is not marked as one")
	}
}
