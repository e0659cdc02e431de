package console_test

import (
	"context"
	"net/http"
	"net/url"
	"strings"
	"testing"

	"gancho/internal/browser"
	"gancho/internal/console"
	"gancho/internal/control"
	"gancho/internal/state"
	"gancho/internal/testservers"
)

// A link signs in, and the screens of the frame can be used by everybody, in both languages, light and dark, wide and narrow.
func TestInChromium(t *testing.T) {
	t.Parallel()
	w := newConsole(t)
	w.endpoint("crm", "")
	for _, o := range testservers.Sample([]browser.Options{{Width: 1280, Height: 900}, {Dark: true, Language: "en", Width: 320, Height: 640}, {NoScript: true, Width: 360, Height: 640}}) {
		p := chromium.Page(t, o)
		enter := map[bool]string{true: "Enter", false: "Entrar"}[o.Language == "en"]
		p.Open(w.link(state.Admin, ""))
		p.Follow(enter)
		if !strings.HasSuffix(p.URL(), "/console/") {
			t.Fatalf("the link leads to %s: %s", p.URL(), p.Text())
		}
		for _, path := range []string{"/console/", "/console/access", "/console/audit"} {
			p.Open(w.url + path)
			if !o.NoScript {
				for _, v := range p.Violations() {
					t.Errorf("%s %+v: %s", path, o, v)
				}
			}
			if p.ScrollsSideways() {
				t.Errorf("%s scrolls sideways at %d px", path, o.Width)
			}
		}
		for _, refused := range p.Refused() {
			t.Errorf("%+v: the policy has refused %s", o, refused)
		}
	}
}

// A link is used once. It has no more rights than its maker, and its session ends with the maker's token.
func TestLink(t *testing.T) {
	t.Parallel()
	w := newConsole(t)
	name, text := w.token(state.Admin, "1")
	token, err := w.store.Authenticate(context.Background(), text)
	if err != nil {
		t.Fatal(err)
	}
	maker := control.Actor{Name: "token:" + name, Role: token.Role, Tenant: token.Tenant, Token: token.ID}
	if _, err := w.control.CreateLink(context.Background(), maker, control.NewLink{Role: state.Admin, Tenant: "2"}); err == nil {
		t.Error("a tenant's token has made a link for another tenant")
	}
	l, err := w.control.CreateLink(context.Background(), maker, control.NewLink{Role: state.Viewer, ReturnURL: "https://erp.example.com/", Language: "en", Theme: "dark"})
	if err != nil {
		t.Fatal(err)
	}
	b, other := w.visitor(), w.visitor()
	b.open(l.URL).shows(http.StatusOK, "This link signs you in, once, with the role viewer.")
	other.open(l.URL).shows(http.StatusOK) // looking at it does not use it up
	b.submit("Enter").shows(http.StatusOK, "Dashboard", "Back", "1 · token:"+name)
	if !strings.Contains(b.body, `data-theme="dark"`) || !strings.Contains(b.body, `href="https://erp.example.com/"`) {
		t.Error("the link's theme or return address is not used")
	}
	other.submit("Enter").shows(http.StatusGone, "Este link já foi usado")
	other.open("/console/").shows(http.StatusOK, "Token da API")
	if err := w.control.RevokeToken(context.Background(), root, name); err != nil {
		t.Fatal(err)
	}
	b.open("/console/").shows(http.StatusOK, "API token")
}

// Every answer has the headers that keep other sites' pages out, and no request of theirs changes anything.
func TestStrangers(t *testing.T) {
	t.Parallel()
	w := newConsole(t, func(o *console.Options) { o.Embed = []string{"https://erp.example.com"} })
	b := w.as(state.Admin, "")
	for _, path := range []string{"/console/", "/console/sign-in", "/console/no-such-page", "/console/enter/x"} {
		b.open(path)
		for name, want := range map[string]string{
			"Content-Security-Policy": "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; connect-src 'self'; form-action 'self'; base-uri 'none'; " +
				"frame-ancestors https://erp.example.com; require-trusted-types-for 'script'; trusted-types 'none'",
			"X-Content-Type-Options": "nosniff", "Referrer-Policy": "same-origin", "Cache-Control": "no-store",
		} {
			if got := b.header.Get(name); got != want {
				t.Errorf("%s: %s is %q, want %q", path, name, got, want)
			}
		}
	}
	name, _ := w.token(state.Viewer, "")
	for _, c := range []struct {
		what, header, value string
		status              int
	}{
		{"a cross-site form", "Sec-Fetch-Site", "cross-site", http.StatusForbidden},
		{"a form of another origin", "Origin", "https://evil.example", http.StatusForbidden},
		{"a foreign host", "Host", "evil.example", http.StatusMisdirectedRequest},
	} {
		request, err := http.NewRequestWithContext(context.Background(), http.MethodPost, w.url+"/console/access/tokens/"+name+"/revoke", http.NoBody)
		if err != nil {
			t.Fatal(err)
		}
		if request.Header.Set(c.header, c.value); c.header == "Host" {
			request.Host = c.value
		}
		if b.do(request); b.status != c.status {
			t.Errorf("%s: status %d, want %d", c.what, b.status, c.status)
		}
	}
	b.open("/console/access").shows(http.StatusOK, name)
	b.post("/console/settings", url.Values{"language": {"en"}, "back": {"//evil.example/console/"}})
	if b.at.Host != strings.TrimPrefix(w.url, "http://") || b.at.Path != "/console/" {
		t.Errorf("a form leads to %s", b.at)
	}
}

// What belongs to a tenant is seen and changed by its own people and the operator.
func TestTenants(t *testing.T) {
	t.Parallel()
	w := newConsole(t, func(o *console.Options) {
		o.Tenants = func(context.Context) ([]console.Tenant, error) {
			return []console.Tenant{{ID: "1", Name: "Centro"}}, nil
		}
	})
	w.endpoint("dele", "1")
	w.endpoint("alheio", "2")
	admin, other := w.as(state.Admin, "1"), w.as(state.Admin, "2")
	admin.open("/console/").shows(http.StatusOK, "Centro · token:", "dele")
	if strings.Contains(admin.text(), "alheio") {
		t.Error("a tenant sees another's endpoint")
	}
	admin.open("/console/access").shows(http.StatusOK, admin.token)
	if strings.Contains(admin.text(), other.token) {
		t.Error("a tenant sees another's token or session")
	}
	admin.submit("Criar token", "Nome", "Meu Token").shows(http.StatusUnprocessableEntity, "isto não pode ser o nome de um token")
	admin.submit("Criar token", "Nome", other.token).shows(http.StatusUnprocessableEntity, "Este nome está ocupado")
	admin.submit("Criar token", "Nome", "meu", "Papel", "operator", "Expira", "never").shows(http.StatusCreated, "Token meu criado", "gancho_")
	admin.post("/console/access/tokens/"+other.token+"/revoke", nil).shows(http.StatusNotFound)
	admin.open("/console/audit").shows(http.StatusOK, "token.create", "token/meu", `"operator"`)
	if strings.Contains(admin.text(), "alheio") || strings.Contains(admin.text(), other.token) {
		t.Error("a tenant reads another's audit log")
	}
	root := w.as(state.Admin, "")
	root.open("/console/access").submit("Encerrar a sessão de token:"+admin.token).shows(http.StatusOK, "A sessão foi encerrada.")
	admin.open("/console/").shows(http.StatusOK, "Token da API")
}

// The audit log is shown in parts, each entry once.
func TestAuditPages(t *testing.T) {
	t.Parallel()
	w := newConsole(t)
	const entries = 120
	for range entries {
		w.token(state.Viewer, "")
	}
	b := w.as(state.Operator, "")
	b.open("/console/audit?action=token.create")
	seen := map[string]bool{}
	for page := 1; ; page++ {
		for _, word := range strings.Fields(b.text()) {
			if strings.HasPrefix(word, "token/") {
				if seen[word] {
					t.Errorf("page %d shows %s again", page, word)
				}
				seen[word] = true
			}
		}
		next := b.href("Mais antigas")
		if next == "" {
			break
		}
		b.open(next)
	}
	if len(seen) != entries+1 {
		t.Errorf("%d entries are shown, want %d", len(seen), entries+1)
	}
}

// Without a state.key, and while the bridge starts, every page says so.
func TestUnavailable(t *testing.T) {
	t.Parallel()
	w := newConsole(t)
	for reason, text := range map[console.Reason]string{console.NoState: "key: '${GANCHO_STATE_KEY}'", console.Starting: "O Gancho está iniciando"} {
		h, err := console.Unavailable(console.Options{PublicURL: w.url, Language: "pt-BR"}, reason)
		if err != nil {
			t.Fatal(err)
		}
		w.server.Config.Handler = h
		w.visitor().open("/console/access").shows(http.StatusServiceUnavailable, text)
	}
}
