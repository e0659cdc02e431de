package console_test

import (
	"context"
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"testing"
	"time"

	"gancho/delivery/webhook"
	"gancho/internal/state"
	"gancho/internal/testservers"
)

// An endpoint is created, tested, changed, given a new key and removed, without YAML, curl or JavaScript.
func TestEndpointScreens(t *testing.T) {
	testservers.Whole(t)
	t.Parallel()
	w := newConsole(t)
	b := w.as(state.Admin, "")
	b.open("/console/endpoints").shows(http.StatusOK, "Ainda não há endpoints.").open(b.href("Novo endpoint"))
	b.submit("Criar endpoint", "Nome", "CRM", "URL", "ftp://crm.example.com", "Tempo limite", "depressa", "Requisições ao mesmo tempo", "muitas").shows(http.StatusUnprocessableEntity, "Nada foi salvo")
	for _, field := range []string{"url", "timeout", "concurrency"} {
		if !strings.Contains(b.body, `id="f-`+field+`-problem"`) {
			t.Errorf("no mistake stands beside %s: %s", field, b.text())
		}
	}
	b.submit("Criar endpoint", "Nome", "CRM", "URL", w.receiver.URL, "Tempo limite", "", "Requisições ao mesmo tempo", "", "Permitir http", "true", "Redes privadas permitidas", "127.0.0.0/8").
		shows(http.StatusUnprocessableEntity, `"CRM" não pode ser o nome de um endpoint; use letras minúsculas`)
	b.submit("Criar endpoint", "Nome", "crm", "Cabeçalhos", "Authorization: Bearer s3gr3d0\nX-Loja: 7").shows(http.StatusCreated, "INATIVO", "whsec_", "Authorization: '***'")
	b.open("/console/endpoints/crm").shows(http.StatusOK, "INATIVO")
	for _, secret := range []string{"whsec_", "s3gr3d0"} {
		if strings.Contains(strings.ReplaceAll(b.body, "Senão, whsec_", ""), secret) {
			t.Errorf("the page shows %s", secret)
		}
	}
	b.submit("Testar").shows(http.StatusOK, "ENTREGUE", "HTTP 204", "ping", "Webhook-Signature")
	if strings.Contains(b.body, "s3gr3d0") {
		t.Error("the test shows a secret")
	}
	b.open("/console/endpoints/crm").shows(http.StatusOK, "Último teste", "num caminho que não existe também recebe 204")
	b.submit("Ativar").shows(http.StatusOK, "O endpoint está ativo", "ATIVO")
	b.submit("Pausar").shows(http.StatusOK, "PAUSADO", "Os eventos esperam na fila")

	// What is not touched stays, secrets included; what is emptied has its default again.
	b.open("/console/endpoints/crm/edit").submit("Salvar", "Tempo limite", "7s", "Esperas entre tentativas", "1s, 2m", "Eventos por requisição", "10", "Fechamento do dia", "daily 00:10").shows(http.StatusOK, "salvas", "closing: daily 00:10", "timeout: 7s", "- 2m", "max: 10")
	b.open("/console/endpoints/crm/edit").submit("Salvar", "Cabeçalhos", "Authorization: ***", "Tempo limite", "", "Eventos por requisição", "", "Status que valem como entregue", "200, 204").shows(http.StatusOK)
	for _, gone := range []string{"timeout", "X-Loja", "batch", "Último teste", "também recebe"} {
		if strings.Contains(b.text(), gone) {
			t.Errorf("%s is still there: %s", gone, b.text())
		}
	}
	stale := w.as(state.Admin, "").open("/console/endpoints/crm/edit?as=yaml")
	b.open("/console/endpoints/crm/edit?as=yaml").submit("Salvar", "Configurações em YAML", "url: '***'\nmax_ages: 1h\n").shows(http.StatusUnprocessableEntity, "max_ages")
	b.open("/console/endpoints/crm/edit?as=yaml")
	text := strings.ReplaceAll(fieldText(b, "document"), "allow_http", "max_age: 36h\ntenants: [0123]\nallow_http")
	b.submit("Salvar", "Configurações em YAML", text).shows(http.StatusOK, "max_age: 36h", "0123")
	stale.submit("Salvar").shows(http.StatusUnprocessableEntity, "Alguém mudou este endpoint")
	stored, err := w.store.Endpoint(context.Background(), "crm")
	if err != nil || !strings.Contains(string(stored.Document), "Bearer s3gr3d0") || !strings.Contains(string(stored.Document), w.receiver.URL) {
		t.Errorf("what was not touched is lost: %s, %v", stored.Document, err)
	}

	b.open("/console/endpoints/crm").submit("Criar nova chave", "Chave que você já tem (opcional)", "curta").shows(http.StatusUnprocessableEntity, "24")
	b.submit("Criar nova chave", "As chaves anteriores assinam por mais", "7d", "Tipo da chave", "ed25519").shows(http.StatusOK, "whpk_", "ainda assinam até")
	b.open("/console/endpoints/crm").submit("Desativar").shows(http.StatusOK, "nada mais entra na fila")
	b.submit("Remover endpoint", "Nome do endpoint", "CRM").shows(http.StatusUnprocessableEntity, "escreva o nome do endpoint exatamente")
	b.submit("Remover endpoint", "Nome do endpoint", "crm", "A fila dele", "drop").shows(http.StatusOK, "a fila dele é descartada")
	b.open("/console/endpoints/crm").shows(http.StatusNotFound)
}

// A chat gets no key that nobody would verify with.
func TestNewChat(t *testing.T) {
	t.Parallel()
	w := newConsole(t)
	b := w.as(state.Admin, "").open("/console/new-endpoint")
	b.submit("Criar endpoint", "Nome", "sala", "URL", "https://hooks.slack.com/services/T0/B0/XyZ123abcDEF", "Estilo pronto", "slack").shows(http.StatusCreated, "style: slack")
	if strings.Contains(b.body, `id="created"`) || strings.Contains(b.body, "XyZ123") {
		t.Errorf("the page shows a key, or the address: %s", b.text())
	}
	stored, err := w.store.Endpoint(context.Background(), "sala")
	if err != nil || len(stored.Secrets) != 0 {
		t.Errorf("%d keys are stored, %v", len(stored.Secrets), err)
	}
}

// fieldText is what a text with several lines has in it.
func fieldText(b *visitor, name string) string {
	for n := range b.page.Descendants() {
		if n.Data == "textarea" && attribute(n, "name") == name && n.FirstChild != nil {
			return n.FirstChild.Data
		}
	}
	return ""
}

// What belongs to another tenant does not exist; what a role may not is neither offered nor done.
func TestEndpointsOfOthers(t *testing.T) {
	t.Parallel()
	w := newConsole(t)
	w.endpoint("meu", "1")
	w.endpoint("alheio", "2")
	b := w.as(state.Admin, "1")
	if b.open("/console/endpoints").shows(http.StatusOK, "meu"); strings.Contains(b.text(), "alheio") {
		t.Error("a tenant sees another's endpoint")
	}
	for _, path := range []string{"", "/edit"} {
		b.open("/console/endpoints/alheio" + path).shows(http.StatusNotFound)
	}
	for _, act := range []string{"edit", "test", "activate", "pause", "deactivate", "rotate", "remove"} {
		b.post("/console/endpoints/alheio/"+act, url.Values{"overlap": {"0"}, "confirm": {"alheio"}, "version": {"1"}, "url": {"https://example.com"}}).shows(http.StatusNotFound)
	}
	b.open("/console/endpoints/meu/edit").submit("Salvar", "Redes privadas permitidas", "127.0.0.0/8, 10.0.0.0/8").shows(http.StatusUnprocessableEntity, "o token de uma unidade não pode definir allow_private; peça ao operador")
	viewer := w.as(state.Viewer, "1").open("/console/endpoints/meu").shows(http.StatusOK, "meu")
	admin := b.open("/console/endpoints/meu").buttons()
	for _, button := range []string{"Testar", "Pausar", "Criar nova chave", "Remover endpoint"} {
		if !slices.Contains(admin, button) {
			t.Errorf("an administrator is not offered %s, but %q", button, admin)
		}
		if slices.Contains(viewer.buttons(), button) {
			t.Errorf("a viewer is offered %s", button)
		}
	}
	viewer.post("/console/endpoints/meu/test", nil).shows(http.StatusForbidden)
	viewer.post("/console/endpoints/meu/remove", url.Values{"confirm": {"meu"}}).shows(http.StatusForbidden)
}

// The list goes by the endpoints' names, shows each once, and shows how the newest attempts went.
func TestEndpointPages(t *testing.T) {
	t.Parallel()
	w := newConsole(t)
	const endpoints = 120
	var want []string
	for i := range endpoints {
		want = append(want, fmt.Sprintf("loja-%03d", i))
		w.endpoint(want[i], "")
	}
	var log []state.Attempt
	for i := range 10 {
		outcome := map[bool]string{true: "delivered", false: "retry"}[i < 7]
		log = append(log, state.Attempt{Time: time.Now().Add(time.Duration(i-20) * time.Second), Endpoint: "loja-001", Entry: fmt.Sprint(i), WebhookID: fmt.Sprint(i), Event: "a", Number: 1, Outcome: outcome, Class: webhook.ClassStatus, Committed: time.Now()})
	}
	if err := w.store.WriteAttempts(context.Background(), log); err != nil {
		t.Fatal(err)
	}
	b := w.as(state.Viewer, "")
	b.open("/console/endpoints").shows(http.StatusOK, "7/10")
	if !strings.Contains(b.body, "7 das últimas 10 tentativas foram entregues") {
		t.Error("the line of the newest attempts has no words")
	}
	var seen []string
	for {
		for n := range b.page.Descendants() {
			if text := textOf(n); n.Data == "a" && strings.HasPrefix(text, "loja-") {
				seen = append(seen, text)
			}
		}
		next := b.href("Próxima página")
		if next == "" {
			break
		}
		b.open(next)
	}
	if !slices.Equal(seen, want) {
		t.Errorf("the pages show %v", seen)
	}
	b.open("/console/endpoints?from=loja-11").shows(http.StatusOK, "loja-110")
	if strings.Contains(b.text(), "loja-109") {
		t.Error("what comes before the name is shown")
	}
	b.open("/console/endpoints?from=zebra").shows(http.StatusOK, "Não há endpoints a partir deste nome.")
}
