package console_test

import (
	"context"
	"net"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"gancho/delivery/queue/queuetest"
	"gancho/delivery/webhook"
	"gancho/internal/browser"
	"gancho/internal/console"
	"gancho/internal/control"
	"gancho/internal/presets"
	"gancho/internal/state"
	"gancho/internal/testservers"
	"gancho/mapping"
)

// vendor is a screen of ours whose endpoints may be on this machine.
func vendor(t testing.TB, name string) presets.Screen {
	t.Helper()
	src, err := os.ReadFile(filepath.Join("..", "presets", name+".screen.yaml"))
	if err != nil {
		t.Fatal(err)
	}
	text, more := string(src), "allow_http: true\n  allow_private: [127.0.0.0/8]\n"
	if strings.Contains(text, "\nendpoint: ") {
		text = strings.Replace(text, "\n  format: form\n", "\n  format: form\n  "+more, 1)
	} else {
		text += "endpoint:\n  " + more
	}
	p, err := presets.ParseScreen(name+".screen.yaml", []byte(text))
	if err != nil {
		t.Fatal(err)
	}
	return p
}

// newUnits starts a console with vendors' screens; the rules make all their events.
func newUnits(t *testing.T, more func(*console.Options), vendors ...presets.Screen) *world {
	t.Helper()
	w := newConsole(t, func(o *console.Options) {
		o.Vendors = vendors
		o.Control.Screens = vendors
		o.Control.Catalogue = func() (types []mapping.EventType) {
			for _, p := range vendors {
				for _, a := range p.Actions() {
					for _, event := range a.Events {
						types = append(types, mapping.EventType{Name: event})
					}
				}
			}
			return types
		}
		if more != nil {
			more(o)
		}
	})
	return w
}

// Each screen in both languages, light and dark, wide and narrow: empty, filled, with a mistake.
func TestUnitsInChromium(t *testing.T) {
	testservers.Whole(t)
	t.Parallel()
	w := newUnits(t, nil, vendor(t, "pacto"), vendor(t, "superlogica"), vendor(t, "iset"))
	shots := os.Getenv("GANCHO_TEST_SHOTS") // a directory; "": nobody looks
	for i, o := range testservers.Sample([]browser.Options{{Width: 1280, Height: 900}, {Dark: true, Language: "en", Width: 320, Height: 640}}) {
		say := func(pt, en string) string {
			if o.Language == "en" {
				return en
			}
			return pt
		}
		p := chromium.Page(t, o)
		look := func(what string) {
			t.Helper()
			for _, v := range p.Violations() {
				t.Errorf("%s %+v: %s", what, o, v)
			}
			if p.ScrollsSideways() {
				t.Errorf("%s scrolls sideways at %d px", what, o.Width)
			}
			if shots != "" {
				if err := os.WriteFile(filepath.Join(shots, what+"-"+say("pt", "en")+".png"), p.Screenshot(), 0o600); err != nil {
					t.Error(err)
				}
			}
		}
		tenant := []string{"1", "2"}[i]
		p.Open(w.link(state.Admin, tenant))
		p.Follow(say("Entrar", "Enter"))
		if !strings.HasSuffix(p.URL(), "/console/units/pacto") {
			t.Fatalf("a unit lands on %s: %s", p.URL(), p.Text())
		}
		look("pacto-vazia")
		p.Fill("URL Webhook", "http://10.0.0.1/x")
		p.Follow(say("Ativar", "Activate"))
		p.WaitText(say("Este endereço é de uma rede interna", "This address is in a private network"))
		look("pacto-erro")
		p.Fill("URL Webhook", w.receiver.URL+"/hooks/segredo")
		p.Follow(say("Ativar", "Activate"))
		p.WaitText(say("A integração está ATIVA", "The integration is ACTIVE"))
		p.Follow(say("Testar", "Test"))
		p.WaitText(say("que respondeu 204", "which answered 204"))
		look("pacto-ativa")

		p.Open(w.url + "/console/units/superlogica")
		look("superlogica-vazia")
		p.Follow(say("Instalar", "Install"))
		look("superlogica-token")
		p.Follow(say("Novo", "New"))
		look("superlogica-novo")
		p.Choose(say("Ação", "Action"), say("Cobrança liquidada", "Charge settled"))
		p.Fill("URL", w.receiver.URL+"/hooks/segredo")
		p.Follow(say("Salvar", "Save"))
		p.WaitText(say("O teste não foi aceito por", "The test was not accepted by")) // it answers without {"status":200}
		look("superlogica-lista")

		p.Open(w.url + "/console/units/iset")
		p.Fill(say("Pedido Removido", "Order removed"), w.receiver.URL+"/a/1")
		p.Follow(say("Adicionar URL: Pedido Removido", "Add a URL: Order removed"))
		p.Fill(say("Pedido Removido (2)", "Order removed (2)"), "ftp://x")
		p.Follow(say("Salvar alterações", "Save changes"))
		p.WaitText(say("Isto não é um endereço", "This is not an address"))
		look("iset-erro")
		p.Fill(say("Pedido Removido (2)", "Order removed (2)"), w.receiver.URL+"/b/2")
		p.Follow(say("Salvar alterações", "Save changes"))
		p.WaitText(say("Alterações salvas", "The changes are saved"))
		look("iset-salva")
		for _, refused := range p.Refused() {
			t.Errorf("%+v: the policy has refused %s", o, refused)
		}
	}
}

// Pacto: one address for a unit, stored inactive, activated, deactivated. Others' units do not exist.
func TestSingle(t *testing.T) {
	t.Parallel()
	w := newUnits(t, func(o *console.Options) {
		o.Tenants = func(context.Context) ([]console.Tenant, error) {
			return []console.Tenant{{ID: "1", Name: "Centro"}, {ID: "2", Name: "Norte"}}, nil
		}
	}, vendor(t, "pacto"))
	all := w.as(state.Admin, "")
	all.open("/console/units/pacto").shows(http.StatusOK, "Selecione a empresa")
	all.submit("Avançar", "Selecione a empresa", "2").shows(http.StatusOK, "Norte", "URL Webhook", "INATIVA", "notificarAcesso")
	all.submit("Salvar alterações", "URL Webhook", w.receiver.URL+"/hooks/segredo").shows(http.StatusOK, "Norte", "permanece INATIVA", "– INATIVA")
	if strings.Contains(all.body, "segredo") {
		t.Error("the page shows the path of a URL")
	}
	all.submit("Ativar").shows(http.StatusOK, "✓ ATIVA", "Desativar")
	all.submit("Testar").shows(http.StatusOK, "que respondeu 204")
	all.submit("Desativar").shows(http.StatusOK, "– INATIVA")

	mine := w.as(state.Admin, "1")
	mine.open("/console/units/pacto").shows(http.StatusOK, "URL Webhook", "INATIVA")
	if strings.Contains(mine.text(), "Selecione a empresa") {
		t.Error("a unit is asked which one it is")
	}
	view := w.unit("pacto", "2")
	mine.post("/console/units/pacto/test", url.Values{"endpoint": {view.Addresses[0].Endpoint}}).shows(http.StatusNotFound)
	mine.post("/console/units/pacto/remove", url.Values{"endpoint": {view.Addresses[0].Endpoint}}).shows(http.StatusNotFound)
	mine.post("/console/units/pacto", url.Values{"tenant": {"2"}, "do": {"deactivate"}}).shows(http.StatusNotFound)
	viewer := w.as(state.Viewer, "2")
	viewer.open("/console/units/pacto").shows(http.StatusOK, "INATIVA")
	viewer.post("/console/units/pacto", url.Values{"do": {"activate"}}).shows(http.StatusForbidden)
}

// unit is what a unit has set.
func (w *world) unit(screen, tenant string) control.UnitView {
	w.t.Helper()
	view, err := w.control.Unit(context.Background(), root, screen, tenant)
	if err != nil {
		w.t.Fatal(err)
	}
	return view
}

// Bad addresses are told beside the field, with what to write.
func TestBadAddresses(t *testing.T) {
	t.Parallel()
	screen, err := presets.OwnScreen("pacto")
	if err != nil {
		t.Fatal(err)
	}
	w := newUnits(t, func(o *console.Options) {
		o.Control.Resolve = func(_ context.Context, host string) ([]netip.Addr, error) {
			if host == "crm.example.com" {
				return []netip.Addr{netip.MustParseAddr("203.0.114.7")}, nil
			}
			return resolveTest(host)
		}
	}, screen)
	b := w.as(state.Admin, "1")
	b.open("/console/units/pacto")
	for text, want := range map[string]string{
		"":                              "Escreva o endereço, como https://",
		"crm":                           "Isto não é um endereço",
		"http://crm.example.com/":       "precisa começar com https://",
		"https://u:p@crm.example.com/":  "Tire o usuário e a senha",
		"https://127.0.0.1/":            "rede interna",
		"https://interno.example.com/":  "rede interna",
		"https://nenhum.example.com/":   "não existe na internet",
		"https://crm.example.com/#aqui": "Remova o que vem depois de #",
		"https://crm.example.com/***":   "Escreva o endereço inteiro",
	} {
		b.submit("Ativar", "URL Webhook", text).shows(http.StatusUnprocessableEntity, want)
		if !strings.Contains(b.body, `aria-describedby="f-url-problem`) || !strings.Contains(b.body, `value="`+text+`"`) {
			t.Errorf("%q: the mistake is not at the field, or the field has lost what was written", text)
		}
	}
	b.submit("Ativar", "URL Webhook", "https://crm.example.com/").shows(http.StatusOK, "✓ ATIVA")
}

// Superlógica: the token of a unit is shown once, and is in every request from then on.
func TestTable(t *testing.T) {
	t.Parallel()
	got := make(chan string, 10)
	receiver := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		got <- r.FormValue("validationtoken")
		_, _ = w.Write([]byte(`{"status":200}`))
	}))
	t.Cleanup(receiver.Close)
	w := newUnits(t, nil, vendor(t, "superlogica"))
	b := w.as(state.Admin, "1")
	b.open("/console/units/superlogica").submit("Instalar").shows(http.StatusCreated, "só aparece desta vez")
	token := b.token1()
	b.open("/console/units/superlogica").shows(http.StatusOK, "Ainda não há webhooks")
	if strings.Contains(b.body, token) {
		t.Error("the token is shown again")
	}
	b.submit("Novo").submit("Salvar", "Ação", "cobranca.liquidada", "URL", receiver.URL+"/h/1").shows(http.StatusCreated, "que respondeu 200", "Cobrança liquidada", "✓ ATIVA")
	if sent := <-got; sent != token || len(token) < 20 {
		t.Errorf("the test has the token %q, want %q", sent, token)
	}
	b.submit("Novo").submit("Salvar", "Ação", "cobranca.liquidada", "URL", receiver.URL+"/h/1").shows(http.StatusUnprocessableEntity, "já é enviada")
	b.submit("Salvar", "Ação", "cliente.novo", "URL", receiver.URL+"/h/1").shows(http.StatusCreated, "Cliente novo", "Cobrança liquidada")
	<-got
	if n := len(w.unit("superlogica", "1").Addresses); n != 1 {
		t.Errorf("one address has %d endpoints", n)
	}
	b.submit("Gerar outro token").shows(http.StatusCreated)
	if other := b.token1(); other == token {
		t.Error("the token has not changed")
	}
	b.open("/console/units/superlogica").submit("Remover Cliente novo").shows(http.StatusOK, "Feito.", "Cobrança liquidada")
	b.submit("Remover Cobrança liquidada").shows(http.StatusOK, "Ainda não há webhooks")
	audit := w.as(state.Admin, "1")
	audit.open("/console/audit").shows(http.StatusOK, "fields.edit", "unit.edit", "screen/superlogica")
	if strings.Contains(audit.body, token) {
		t.Error("the audit log has the token")
	}
}

// token1 is the secret that the page shows.
func (b *visitor) token1() string {
	for n := range b.page.Descendants() {
		if attribute(n, "class") == "token" {
			return textOf(n)
		}
	}
	return ""
}

// iSET: several addresses for an action, saved together in one entry of the audit log; a removed one with a queue is asked about.
func TestGroups(t *testing.T) {
	t.Parallel()
	w := newUnits(t, nil, vendor(t, "iset"))
	b := w.as(state.Admin, "1")
	b.open("/console/units/iset").shows(http.StatusOK, "API REST: ✓ ATIVA", "Pedidos", "Produtos", "Categorias", "Clientes")
	one, two := w.receiver.URL+"/a/1", w.receiver.URL+"/b/2"
	b.submit("Adicionar URL: Pedido Removido", "Pedido Removido", one, "Compra Iniciada", one).shows(http.StatusOK)
	b.submit("Salvar alterações", "Pedido Removido (2)", two).shows(http.StatusOK, "Alterações salvas")
	view := w.unit("iset", "1")
	if len(view.Addresses) != 2 || strings.Join(view.Addresses[0].Actions, " ") != "pedido-removido compra" || strings.Join(view.Addresses[1].Actions, " ") != "pedido-removido" {
		t.Fatalf("the addresses are %+v", view.Addresses)
	}
	entries, err := w.control.Audit(context.Background(), root, state.AuditFilter{Action: "unit.edit"}, "", 10)
	if err != nil || len(entries.Items) != 1 {
		t.Errorf("%d entries of the audit log, want one: %v", len(entries.Items), err)
	}
	w.append("1", "pedido.removido", view.Addresses[1].Endpoint)
	b.submit("Salvar alterações", "Pedido Removido (2)", "", "Criação/Alteração de Pedido", two).shows(http.StatusOK, "Alterações salvas")
	if view = w.unit("iset", "1"); len(view.Addresses) != 2 || strings.Join(view.Addresses[1].Actions, " ") != "pedido" || view.Addresses[1].Queued != 1 {
		t.Fatalf("the addresses are %+v", view.Addresses)
	}
	b.submit("Salvar alterações", "Criação/Alteração de Pedido", "").shows(http.StatusOK, "1 evento ainda espera")
	b.submit("Manter pausada").shows(http.StatusOK, "URLs removidas", "PAUSADA")
	b.submit("Entregar o que espera").shows(http.StatusOK, "URLs removidas", "ATIVA")
	b.submit("Descartar").shows(http.StatusOK, "Feito.")
	if view = w.unit("iset", "1"); len(view.Leaving) != 0 || len(view.Addresses) != 1 {
		t.Errorf("what is left is %+v", view)
	}
	b.submit("Desativar a API REST").shows(http.StatusOK, "API REST: ✕ INATIVA")
	if view = w.unit("iset", "1"); view.Addresses[0].State != "inactive" {
		t.Errorf("the API is off, and the address is %s", view.Addresses[0].State)
	}
	b.submit("Ativar a API REST").shows(http.StatusOK, "API REST: ✓ ATIVA")
}

// append queues an event for an endpoint, as capture would.
func (w *world) append(tenant, event, endpoint string) {
	w.t.Helper()
	m := webhook.Message{ID: "x", Type: event, Tenant: tenant, Time: time.Now(), Data: []byte("{}")}
	if err := queuetest.Replay(context.Background(), w.queue, endpoint, []webhook.Message{m}); err != nil {
		w.t.Fatal(err)
	}
}

// resolveTest answers for the hosts of tests as DNS would.
func resolveTest(host string) ([]netip.Addr, error) {
	if host == "interno.example.com" {
		return []netip.Addr{netip.MustParseAddr("10.0.0.7")}, nil
	}
	return nil, &net.DNSError{Err: "no such host", Name: host, IsNotFound: true}
}
