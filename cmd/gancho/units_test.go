package main_test

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"gancho/internal/browser"
	"gancho/internal/presets"
	"gancho/internal/testservers"
	"gancho/migrations"
)

// unitWorld is the legacy database with a bridge that has the rules and the screens of all vendors.
type unitWorld struct {
	*stateful
	b      *bridge
	config string
	hooks  *httptest.Server
	got    chan hook
	rows   int
}

// hook is a webhook that arrived, with the path that it was posted to.
type hook struct{ path, event, token string }

// newUnitWorld starts it. The screens are ours, with endpoints that may be on this machine.
func newUnitWorld(t *testing.T) *unitWorld {
	t.Helper()
	schema, seed, identity := migrations.Legacy()
	u := &unitWorld{stateful: newStateful(t, pg, nil, schema, seed, identity), got: make(chan hook, 1000)}
	u.source = "  timezone: America/Sao_Paulo"
	u.hooks = httptest.NewServer(http.HandlerFunc(u.receive))
	t.Cleanup(u.hooks.Close)
	var screens, rules []string
	for _, name := range presets.Names() {
		screens = append(screens, name+".screen.yaml")
		u.writeScreen(name + ".screen.yaml")
		files, err := presets.Files(name)
		if err != nil {
			t.Fatal(err)
		}
		for file, text := range files {
			rules = append(rules, file)
			if err := os.WriteFile(filepath.Join(u.dir, file), text, 0o600); err != nil {
				t.Fatal(err)
			}
		}
	}
	u.extra += "\nconsole:\n  listen: " + closedPort(t) + "\n  screens: [" + strings.Join(screens, ", ") + "]\n  tenants: {sql: 'select id, nome_fantasia from empresas order by 2'}\n"
	u.config = u.write()
	config, err := os.ReadFile(u.config)
	if err != nil {
		t.Fatal(err)
	}
	config = bytes.Replace(config, []byte("[rules.yaml]"), []byte("["+strings.Join(rules, ", ")+"]"), 1)
	if err := os.WriteFile(u.config, config, 0o600); err != nil {
		t.Fatal(err)
	}
	u.b = u.start("run", "--create", "--config", u.config)
	u.b.waitLog("bridge is ready")
	return u
}

func (u *unitWorld) writeScreen(file string) {
	u.t.Helper()
	src, err := os.ReadFile(filepath.Join("..", "..", "internal", "presets", file))
	if err != nil {
		u.t.Fatal(err)
	}
	text, local := string(src), "  allow_http: true\n  allow_private: [127.0.0.0/8]\n"
	if at := strings.Index(text, "\n  format: form\n"); at >= 0 {
		text = text[:at+1] + local + text[at+1:]
	} else {
		text += "endpoint:\n" + local
	}
	if err := os.WriteFile(filepath.Join(u.dir, file), []byte(text), 0o600); err != nil {
		u.t.Fatal(err)
	}
}

// receive answers as receivers of Superlógica do, which are content with JSON, too.
func (u *unitWorld) receive(w http.ResponseWriter, r *http.Request) {
	h := hook{path: r.URL.Path, token: r.PostFormValue("validationtoken"), event: r.PostFormValue("type")}
	if strings.HasPrefix(r.Header.Get("Content-Type"), "application/json") {
		body, err := io.ReadAll(r.Body)
		var envelope struct{ Type string }
		if err == nil && json.Unmarshal(body, &envelope) == nil {
			h.event = envelope.Type
		}
	}
	select {
	case u.got <- h:
	case <-r.Context().Done():
	}
	_, _ = w.Write([]byte(`{"status":200}`))
}

// wait changes rows until a webhook of the event has arrived at each of the paths: what is changed before the bridge has applied an address is
// not for it.
func (u *unitWorld) wait(event, token, sql string, paths ...string) {
	u.t.Helper()
	tick := time.NewTicker(time.Second)
	defer tick.Stop()
	deadline := time.After(60 * time.Second)
	missing := map[string]bool{}
	for _, p := range paths {
		missing[p] = true
	}
	u.change(sql)
	for len(missing) > 0 {
		select {
		case h := <-u.got:
			if h.event == event && missing[h.path] {
				if h.token != token {
					u.t.Errorf("%s has the token %q, want %q", h.path, h.token, token)
				}
				delete(missing, h.path)
			}
		case <-tick.C:
			u.change(sql)
		case <-deadline:
			u.t.Fatalf("no %s at %v", event, missing)
		}
	}
}

func (u *unitWorld) change(sql string) {
	u.t.Helper()
	u.rows++
	u.exec(fmt.Sprintf(sql, 5000+u.rows))
}

// TestUnits follows the help pages of the three vendors, in their words, as a unit does in a browser, with scripts and without. Each ends in a
// webhook that is received after a row change.
func TestUnits(t *testing.T) {
	testservers.Whole(t)
	t.Parallel()
	chromium, err := browser.Start()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(chromium.Close)
	u := newUnitWorld(t)
	for tenant, o := range map[string]browser.Options{"1": {}, "2": {NoScript: true, Width: 360, Height: 640}} {
		code, link, errs := command(t, "console", "link", "--config", u.config, "--tenant", tenant, "--role", "admin")
		if code != 0 {
			t.Fatal(errs)
		}
		p := chromium.Page(t, o)
		p.Open(strings.Fields(link)[0])
		p.Follow("Entrar")
		u.followISET(p, tenant)
		u.followPacto(p, tenant)
		u.followSuperlogica(p, tenant)
		for _, refused := range p.Refused() {
			t.Errorf("%+v: the policy has refused %s", o, refused)
		}
	}
	u.followPactoOfSeveral(chromium.Page(t, browser.Options{Width: 360, Height: 640}))
	u.b.stop()
}

// followPactoOfSeveral is the help page's way where the database has several units: somebody of all of them selects one first.
func (u *unitWorld) followPactoOfSeveral(p *browser.Page) {
	u.t.Helper()
	code, link, errs := command(u.t, "console", "link", "--config", u.config, "--role", "admin")
	if code != 0 {
		u.t.Fatal(errs)
	}
	p.Open(strings.Fields(link)[0])
	p.Follow("Entrar")
	openMenu(p)
	p.Follow("Notificação via Webhook")
	p.Choose("Selecione a empresa", "Corpo SP Zona Sul")
	p.Follow("Avançar")
	p.WaitText("Corpo SP Zona Sul")
	p.Fill("URL Webhook", u.hooks.URL+"/pacto/several")
	p.Follow("Ativar")
	p.WaitText("✓ ATIVA")
	u.wait("notificarCadastro", "", "insert into clientes (empresa_id, matricula, nome, situacao) values (2, '%d', 'Maria', 'AT')", "/pacto/several")
}

// openMenu shows the navigation where it is closed: on a phone.
func openMenu(p *browser.Page) {
	if p.Shows(".nav summary") {
		p.Click("Menu")
	}
}

func (u *unitWorld) followPacto(p *browser.Page, tenant string) {
	u.t.Helper()
	openMenu(p)
	p.Follow("Notificação via Webhook")
	p.Fill("URL Webhook", u.hooks.URL+"/pacto/"+tenant)
	p.Follow("Salvar alterações")
	p.WaitText("permanece INATIVA")
	p.Follow("Ativar")
	p.WaitText("✓ ATIVA")
	u.wait("notificarCadastro", "", "insert into clientes (empresa_id, matricula, nome, situacao) values ("+tenant+", '%d', 'Maria', 'AT')", "/pacto/"+tenant)
	p.Follow("Desativar")
	p.WaitText("– INATIVA")
}

func (u *unitWorld) followSuperlogica(p *browser.Page, tenant string) {
	u.t.Helper()
	openMenu(p)
	p.Follow("Webhooks (superlogica)")
	p.Follow("Instalar")
	token := regexp.MustCompile(`\b[a-z2-7]{26}\b`).FindString(p.Text())
	p.Follow("Novo")
	p.Choose("Ação", "Cliente novo")
	p.Fill("URL", u.hooks.URL+"/superlogica/"+tenant)
	p.Follow("Salvar")
	p.WaitText("que respondeu 200")
	u.wait("cliente.novo", token, "insert into clientes (empresa_id, matricula, nome, situacao) values ("+tenant+", '%d', 'Maria', 'AT')", "/superlogica/"+tenant)
	if token == "" {
		u.t.Error("the page has not shown the token")
	}
}

func (u *unitWorld) followISET(p *browser.Page, tenant string) {
	u.t.Helper()
	const action = "Criação/Alteração de Produto"
	p.WaitText("API REST: ✓ ATIVA")
	p.Fill(action, u.hooks.URL+"/iset/"+tenant)
	p.Follow("Adicionar URL: " + action)
	p.Fill(action+" (2)", u.hooks.URL+"/iset-2/"+tenant)
	p.Follow("Salvar alterações")
	p.WaitText("Alterações salvas")
	u.wait("produto.criado", "", "insert into produtos (empresa_id, codigo, descricao, preco) values ("+tenant+", 'P%d', 'Creatina', 10)", "/iset/"+tenant, "/iset-2/"+tenant)
}
