package console_test

import (
	"bufio"
	"context"
	"net/http"
	"net/url"
	"strings"
	"testing"

	"gancho/internal/console"
	"gancho/internal/control"
	"gancho/internal/state"
)

// A link leads back to a page of https or http, and to nothing that a browser would carry out, or that looks like another host.
func TestReturnAddresses(t *testing.T) {
	t.Parallel()
	w := newConsole(t)
	for _, wrong := range []string{
		"javascript:alert(1)", "JavaScript://erp.example.com/%0aalert(1)", "data:text/html,x", "vbscript:x", "//erp.example.com/", "/console/", "erp.example.com", "https:erp.example.com",
		"https://", "https://erp.example.com@evil.example/", "https:\\\\erp.example.com", "https://erp.example.com/\r\nSet-Cookie: x=y", "\thttps://erp.example.com/", "ftp://erp.example.com/",
	} {
		if l, err := w.control.CreateLink(context.Background(), root, control.NewLink{Role: state.Viewer, ReturnURL: wrong}); err == nil {
			t.Errorf("a link leads back to %q: %s", wrong, l.URL)
		}
	}
}

// Where a page leads after a form, or a sign-in, is one of the console's.
func TestOwnPaths(t *testing.T) {
	t.Parallel()
	w := newConsole(t)
	_, text := w.token(state.Viewer, "")
	for _, next := range []string{
		"https://evil.example/console/", "//evil.example/console/", "/\\evil.example/console/", "\\\\evil.example", "/console/..//evil.example", "/console/../../evil.example/", "javascript:alert(1)",
		"/console/\t//evil.example", "/console", "/console/%2f%2fevil.example", "/api/v1/tokens", "/consoles/", "",
	} {
		for path, values := range map[string]url.Values{"/console/sign-in": {"token": {text}, "next": {next}}, "/console/settings": {"theme": {"dark"}, "back": {next}}} {
			request, err := http.NewRequestWithContext(context.Background(), http.MethodPost, w.url+path, strings.NewReader(values.Encode()))
			if err != nil {
				t.Fatal(err)
			}
			request.Header.Set("Content-Type", "application/x-www-form-urlencoded")
			request.Header.Set("Sec-Fetch-Site", "same-origin")
			answer, err := http.DefaultTransport.RoundTrip(request)
			if err != nil {
				t.Fatal(err)
			}
			_ = answer.Body.Close()
			to, err := answer.Location()
			if err != nil || to.Scheme+"://"+to.Host != w.url || !strings.HasPrefix(answer.Header.Get("Location"), "/console/") {
				t.Errorf("%s leads %q to %q, %v", path, next, answer.Header.Get("Location"), err)
			}
		}
	}
}

// A session that somebody else has put into the browser is not the one of who signs in there: each gets a new secret, and the old one ends.
func TestNoSessionIsFixed(t *testing.T) {
	t.Parallel()
	w := newConsole(t)
	victim, thief := w.visitor(), w.as(state.Viewer, "1")
	at, err := url.Parse(w.url + "/console/")
	if err != nil {
		t.Fatal(err)
	}
	for _, planted := range [][]*http.Cookie{thief.client.Jar.Cookies(at), {{Name: "gancho_session", Value: "made-up", Path: "/console/"}}} {
		for _, c := range planted {
			c.Path = "/console/" // as ours are
		}
		victim.client.Jar.SetCookies(at, planted)
		_, text := w.token(state.Admin, "")
		victim.open("/console/sign-in").submit("Entrar", "Token da API", text).shows(http.StatusOK, "Painel")
		for _, c := range victim.client.Jar.Cookies(at) {
			for _, p := range planted {
				if c.Name == p.Name && c.Value == p.Value && c.Name == "gancho_session" {
					t.Error("the session has the secret that was in the browser before")
				}
			}
		}
	}
	thief.open("/console/").shows(http.StatusOK, "Token da API") // its own session ended when another began in its place
}

// What is shown live ends with the session, and while it goes on knows its units after the time of a page.
func TestLiveEndsWithItsSession(t *testing.T) {
	t.Parallel()
	w := newConsole(t, func(o *console.Options) {
		o.Tenants = func(context.Context) ([]console.Tenant, error) {
			return []console.Tenant{{ID: "1", Name: "Centro"}}, nil
		}
	})
	b := w.as(state.Viewer, "")
	request, err := http.NewRequestWithContext(t.Context(), http.MethodGet, w.url+"/console/live/events", http.NoBody)
	if err != nil {
		t.Fatal(err)
	}
	answer, err := (&http.Client{Jar: b.client.Jar}).Do(request)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = answer.Body.Close() }()
	lines := bufio.NewScanner(answer.Body)
	read := 0
	for n := 1; lines.Scan(); { // each line has another follow it, until there is none
		if strings.HasPrefix(lines.Text(), "retry:") || strings.HasPrefix(lines.Text(), "data:") {
			w.sent(n, "crm", "1", "k", "delivered", 1)
			n++
		}
		if read++; read == 2 {
			if err := w.control.RevokeToken(context.Background(), root, b.token); err != nil {
				t.Fatal(err)
			}
		}
	}
	if err := lines.Err(); err != nil || read < 3 {
		t.Errorf("the stream ended after %d lines with %v", read, err)
	}
	b.open("/console/live").shows(http.StatusOK, "Token da API")
}
