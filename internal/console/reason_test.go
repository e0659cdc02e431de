package console_test

import (
	"net/http"
	"regexp"
	"slices"
	"strings"
	"testing"

	"gancho/internal/state"
	"gancho/internal/testservers"
)

// What is stored in English, as why something failed, is said in the language of the page: on each page that has it.
func TestReasonsArePortuguese(t *testing.T) {
	testservers.Whole(t)
	t.Parallel()
	w := newBusiness(t)
	b := w.as(state.Admin, "")
	b.open("/console/").shows(http.StatusOK, "todas as tentativas falham desde ")
	b.open("/console/endpoints/bi-suspenso").shows(http.StatusOK, "todas as tentativas falham desde ")
	if !regexp.MustCompile(`falham desde \d\d/\d\d/\d{4} \d\d:\d\d:\d\d `).MatchString(b.text()) {
		t.Errorf("a time is not as those of the page are: %s", b.text())
	}
	const gone = `aplicar a regra cobranca.vencida: a coluna "vencimento" da tabela public.cobrancas não está mais no fluxo; corrija a regra e recarregue`
	b.open("/console/pending").shows(http.StatusOK, "POST em https://crm.example.com: resposta 422 Unprocessable Entity", "avaliar data.desconto: divisão por zero (SQLSTATE 22012)", gone,
		`a tabela public.cobrancas não serve mais à regra: "A" não é um rótulo do enum situacao; quis dizer "ABERTA"?`,
		"when precisa de old.status, que está fora da replica identity e não foi enviada; execute ALTER TABLE public.cobrancas REPLICA IDENTITY FULL;")
	group := ""
	for n := range b.page.Descendants() {
		if href := attribute(n, "href"); strings.HasPrefix(href, "/console/pending/parked?") && strings.Contains(href, "vencimento") {
			group = href
		}
	}
	b.open(group).shows(http.StatusOK, "Motivo: rules/financeiro.yaml:21: "+gone)
	one := ""
	for n := range b.page.Descendants() {
		if href := attribute(n, "href"); strings.HasPrefix(href, "/console/pending/parked/") {
			one = href
		}
	}
	b.open(one).shows(http.StatusOK, gone)
	b.open(b.href("Ver o que falhou pelo mesmo motivo")).shows(http.StatusOK, "3 mudanças estacionadas neste grupo")
}

// From a dead letter one gets to what can be done: its group, and its deliveries, where it is sent again.
func TestDeadLetterLeadsOn(t *testing.T) {
	t.Parallel()
	w := newBusiness(t)
	b := w.as(state.Admin, centro.id)
	b.open("/console/pending")
	one := ""
	for n := range b.page.Descendants() {
		if href := attribute(n, "href"); strings.HasPrefix(href, "/console/pending/dead/") {
			one = href
		}
	}
	b.open(one)
	at := b.at.Path
	b.open(b.href("Ver as entregas deste evento")).shows(http.StatusOK, "MORTA")
	b.open(at).open(b.href("Ver o que falhou pelo mesmo motivo")).shows(http.StatusOK, "entregas mortas neste grupo", "Reenviar")
}

// The navigation has screens by their titles: a vendor's first for its unit, and last for operators.
func TestNavigationOfVendors(t *testing.T) {
	testservers.Whole(t)
	t.Parallel()
	w := newBusiness(t)
	nav := func(b *visitor) (names []string) {
		for n := range b.open("/console/audit").page.Descendants() {
			if n.Data == "nav" && attribute(n, "aria-label") == "Telas" {
				for a := range n.Descendants() {
					if a.Data == "a" {
						names = append(names, textOf(a))
					}
				}
			}
		}
		return names
	}
	titles := []string{"Webhooks (iset)", "Notificação via Webhook", "Webhooks (superlogica)"}
	if got := nav(w.as(state.Admin, centro.id)); len(got) < 4 || !slices.Equal(got[:3], titles) || got[3] != "Painel" {
		t.Errorf("a unit's navigation is %q", got)
	}
	if got := nav(w.as(state.Admin, "")); len(got) < 4 || got[0] != "Painel" || !slices.Equal(got[len(got)-3:], titles) {
		t.Errorf("an operator's navigation is %q", got)
	}
}
