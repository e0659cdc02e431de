package console_test

import (
	"context"
	"errors"
	"net/http"
	"strings"
	"testing"

	"github.com/chromedp/chromedp/kb"
	"github.com/jackc/pgx/v5"

	"gancho/internal/browser"
	"gancho/internal/console"
	"gancho/internal/control"
	"gancho/internal/language"
	"gancho/internal/state"
)

// Enter opens the row that j has led to.
func TestEnterOpensARow(t *testing.T) {
	t.Parallel()
	w := newConsole(t)
	w.endpoint("crm", "")
	p := chromium.Page(t, browser.Options{})
	w.enter(p, state.Viewer, "", language.Portuguese)
	p.Open(w.url + "/console/endpoints")
	p.Press("j" + kb.Enter)
	p.WaitText("Todos os endpoints")
	if !strings.HasSuffix(p.URL(), "/console/endpoints/crm") {
		t.Errorf("Enter leads to %s", p.URL())
	}
}

// In a frame of a page that may have it, the session's cookie is one of that page alone; elsewhere it is no other site's.
func TestCookies(t *testing.T) {
	t.Parallel()
	for _, c := range []struct{ embed, destination, want string }{
		{"https://erp.example.com", "iframe", "HttpOnly; Secure; SameSite=None; Partitioned"},
		{"https://erp.example.com", "document", "HttpOnly; Secure; SameSite=Lax"},
		{"", "iframe", "HttpOnly; Secure; SameSite=Lax"},
	} {
		w := newConsole(t, func(o *console.Options) {
			if o.PublicURL = "https://webhooks.example.com"; c.embed != "" {
				o.Embed = []string{c.embed}
			}
		})
		_, text := w.token(state.Viewer, "")
		request, err := http.NewRequestWithContext(context.Background(), http.MethodPost, w.url+"/console/sign-in", strings.NewReader("token="+text))
		if err != nil {
			t.Fatal(err)
		}
		request.Host = "webhooks.example.com"
		request.Header.Set("Content-Type", "application/x-www-form-urlencoded")
		request.Header.Set("Sec-Fetch-Site", "same-origin")
		request.Header.Set("Sec-Fetch-Dest", c.destination)
		answer, err := http.DefaultTransport.RoundTrip(request)
		if err != nil {
			t.Fatal(err)
		}
		_ = answer.Body.Close()
		cookie := answer.Header.Get("Set-Cookie")
		if !strings.HasPrefix(cookie, "__Host-gancho_session=") || !strings.HasSuffix(cookie, c.want) || !strings.Contains(cookie, "Path=/;") || strings.Contains(cookie, "Domain=") {
			t.Errorf("embed %q, %s: status %d, the cookie is %q, want %q", c.embed, c.destination, answer.StatusCode, cookie, c.want)
		}
	}
}

// Over https a cookie that any host of the domain may have planted signs nobody in: neither a made-up one nor one from before, whose
// session ends when its browser comes back.
func TestFormerCookie(t *testing.T) {
	t.Parallel()
	w := newConsole(t, func(o *console.Options) { o.PublicURL = "https://webhooks.example.com" })
	_, text := w.token(state.Viewer, "")
	token, err := w.store.Authenticate(t.Context(), text)
	if err != nil {
		t.Fatal(err)
	}
	_, secret, err := w.store.BeginSession(t.Context(), token)
	if err != nil {
		t.Fatal(err)
	}
	ask := func(path, cookie string) (to string, set []*http.Cookie) {
		request, err := http.NewRequestWithContext(t.Context(), http.MethodGet, w.url+path, http.NoBody)
		if err != nil {
			t.Fatal(err)
		}
		request.Host = "webhooks.example.com"
		request.AddCookie(&http.Cookie{Name: cookie, Value: secret})
		answer, err := http.DefaultTransport.RoundTrip(request)
		if err != nil {
			t.Fatal(err)
		}
		_ = answer.Body.Close()
		return answer.Header.Get("Location"), answer.Cookies()
	}
	if to, _ := ask("/console/", "__Host-gancho_session"); to != "" {
		t.Errorf("the host's own cookie leads to %q", to)
	}
	if to, _ := ask("/console/", "gancho_session"); to != "/console/sign-in" {
		t.Errorf("a cookie of any host leads to %q", to)
	}
	if _, set := ask("/console/sign-in", "gancho_session"); len(set) != 1 || set[0].Name != "gancho_session" || set[0].MaxAge >= 0 || set[0].Path != "/console/" {
		t.Errorf("the former cookie stays: %v", set)
	}
	if _, err := w.store.Session(t.Context(), secret); !errors.Is(err, state.ErrNotFound) {
		t.Errorf("the session of the former cookie goes on: %v", err)
	}
}

// An address that guesses is told to wait, with 429, and by a page.
func TestThrottledSignIn(t *testing.T) {
	t.Parallel()
	w := newConsole(t, func(o *console.Options) {
		o.Admit = func(context.Context, string, string) (state.Token, error) { return state.Token{}, control.ErrThrottled }
	})
	w.visitor().open("/console/sign-in").submit("Entrar", "Token da API", "gancho_x").shows(http.StatusTooManyRequests, "Entrar")
}

// exec changes what only time would.
func (w *world) exec(sql string) {
	w.t.Helper()
	conn, err := pgx.Connect(context.Background(), w.dsn)
	if err != nil {
		w.t.Fatal(err)
	}
	defer func() { _ = conn.Close(context.Background()) }()
	if tag, err := conn.Exec(context.Background(), sql); err != nil || tag.RowsAffected() == 0 {
		w.t.Fatalf("%s: %v, %v", sql, tag, err)
	}
}

// A session ends after 12 hours without use, and a link a minute after it was opened first.
func TestExpiry(t *testing.T) {
	t.Parallel()
	w := newConsole(t)
	b := w.as(state.Viewer, "")
	w.exec(`update gancho.sessions set last_used = now() - interval '11 hours 58 minutes'`)
	b.open("/console/").shows(http.StatusOK, "Painel")
	w.exec(`update gancho.sessions set last_used = now() - interval '12 hours 1 minute'`)
	b.open("/console/").shows(http.StatusOK, "Token da API")

	opened := w.visitor().open(w.link(state.Viewer, ""))
	w.exec(`update gancho.console_links set expires = expires - interval '61 seconds' where expires < now() + interval '61 seconds'`)
	opened.submit("Entrar").shows(http.StatusGone)
	opened.open("/console/").shows(http.StatusOK, "Token da API")
}

// The first steps tick themselves; a ping and the resuming of an endpoint are buttons of Painel.
func TestDashboardActs(t *testing.T) {
	t.Parallel()
	w := newConsole(t)
	b := w.as(state.Operator, "")
	b.open("/console/").shows(http.StatusOK, "– a fazer Criar um endpoint e ativá-lo")
	w.endpoint("crm", "")
	if _, err := w.control.Activate(context.Background(), root, "crm"); err != nil {
		t.Fatal(err)
	}
	b.open("/console/").shows(http.StatusOK, "✓ feito Criar um endpoint e ativá-lo")
	b.submit("Enviar um ping").shows(http.StatusOK, "O ping foi entregue.")
	w.tried("crm", "", 1, 0)
	if b.open("/console/"); strings.Contains(b.text(), "Primeiros passos") {
		t.Errorf("the first steps stay after the first event: %s", b.text())
	}
}

// What is suspended is resumed where it is told.
func TestResume(t *testing.T) {
	t.Parallel()
	w := newBusiness(t)
	b := w.as(state.Operator, "")
	b.open("/console/").submit("Retomar as entregas de bi-suspenso").shows(http.StatusOK, "O endpoint está ativo")
	for _, button := range b.buttons() {
		if button == "Retomar as entregas de bi-suspenso" {
			t.Error("the endpoint is still told to be suspended")
		}
	}
	if strings.Contains(b.text(), "bi-suspenso ✕ As entregas estão suspensas") {
		t.Errorf("the endpoint is still suspended: %s", b.text())
	}
}
