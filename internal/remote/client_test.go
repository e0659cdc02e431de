package remote_test

import (
	"context"
	"errors"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"gancho/internal/control"
	"gancho/internal/remote"
	"gancho/internal/state"
)

// TestCheckAddress: a token goes over TLS, or to this machine.
func TestCheckAddress(t *testing.T) {
	t.Parallel()
	for text, want := range map[string]string{
		"https://Webhooks.example.com:8622/": "https://webhooks.example.com:8622",
		"http://127.0.0.1:8620":              "http://127.0.0.1:8620",
		"http://[::1]:8620":                  "http://[::1]:8620",
		"http://localhost:8620":              "http://localhost:8620",
		"http://192.0.2.5:8620":              "", // of no machine
		"http://0.0.0.0:8620":                "",
		"http://:8620":                       "",
		"ftp://user:word@example.com":        "",
		"user:word@example.com":              "",
		"ftp://user:a@word@example.com":      "",
		"http://user:word@:8620":             "",
		"http://user:a%zz@word@example.com":  "",
		"http://localhost.example.com":       "",
		"http://127.0.0.1.example.com":       "",
		"webhooks.example.com":               "",
		"ftp://webhooks.example.com":         "",
		"https://user:word@example.com":      "",
		"https://example.com/console":        "",
		"https://example.com?token=1":        "",
		"":                                   "",
	} {
		got, err := remote.CheckAddress(text)
		var wrong *remote.AddressError
		if got != want || (want == "") != errors.As(err, &wrong) {
			t.Errorf("%q: %q, %v; want %q", text, got, err, want)
		}
		if err != nil && strings.Contains(err.Error(), "word") {
			t.Errorf("%q: the error has the password: %v", text, err)
		}
	}
}

// TestClient asks over TLS: redirects are not followed, names are escaped, and answers are control's errors.
func TestClient(t *testing.T) {
	t.Parallel()
	var elsewhere int
	problem := func(w http.ResponseWriter, status int, text string) {
		w.Header().Set("Content-Type", "application/problem+json")
		w.WriteHeader(status)
		_, _ = w.Write([]byte(text))
	}
	server := httptest.NewTLSServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		switch r.URL.EscapedPath() {
		case "/api/v1/endpoints/moved":
			http.Redirect(w, r, "/elsewhere", http.StatusTemporaryRedirect)
		case "/elsewhere":
			elsewhere++
		case "/api/v1/openapi.json":
			_, _ = w.Write([]byte(`{"info":{"version":"v1"},"paths":{"/endpoints/{name}":{"get":{},"patch":{}},"/resends/{id}/cancel":{"post":{}}}}`))
		case "/api/v1/endpoints/a%2Fb%3Fc":
			if r.Header.Get("Authorization") != "Bearer gancho_teste" {
				t.Errorf("the token is %q", r.Header.Get("Authorization"))
			}
			_, _ = w.Write([]byte(`{"name":"a/b?c"}`))
		case "/api/v1/endpoints/nobody":
			problem(w, http.StatusNotFound, `{"type":"urn:gancho:problem:not-found","detail":"Nothing."}`)
		case "/api/v1/endpoints/file":
			problem(w, http.StatusConflict, `{"type":"urn:gancho:problem:read-only","detail":"It is in gancho.yaml."}`)
		case "/api/v1/endpoints/old":
			if r.Header.Get("If-Match") != `"3"` {
				t.Errorf("If-Match is %q", r.Header.Get("If-Match"))
			}
			problem(w, http.StatusPreconditionFailed, `{"type":"urn:gancho:problem:changed","detail":"Changed."}`)
		case "/api/v1/deliveries":
			problem(w, http.StatusBadRequest, `{"type":"urn:gancho:problem:invalid","detail":"Wrong.","errors":[{"parameter":"from","message":"it is late","hint":"write another"}]}`)
		case "/api/v1/tokens":
			problem(w, http.StatusForbidden, `{"type":"urn:gancho:problem:forbidden","detail":"This needs a token with the role admin."}`)
		default:
			_, _ = w.Write([]byte("<html>"))
		}
	}))
	defer server.Close()
	c, err := remote.New(remote.Options{Address: server.URL, Token: "gancho_teste", Transport: server.Client().Transport})
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	ctx, nobody := context.Background(), control.Actor{}
	if e, err := c.Endpoint(ctx, nobody, "a/b?c"); err != nil || e.Name != "a/b?c" {
		t.Errorf("an odd name: %+v, %v", e, err)
	}
	if _, err := c.Endpoint(ctx, nobody, "moved"); err == nil || elsewhere != 0 || !strings.Contains(err.Error(), "it answers 307") {
		t.Errorf("a redirect: %v; followed %d times", err, elsewhere)
	}
	if _, err := c.Endpoint(ctx, nobody, "nobody"); !errors.Is(err, state.ErrNotFound) {
		t.Errorf("nobody: %v", err)
	}
	var readOnly *control.ReadOnlyError
	if _, err := c.EditEndpoint(ctx, nobody, "file", control.Edit{Patch: []byte("{}")}); !errors.As(err, &readOnly) || readOnly.Endpoint != "file" {
		t.Errorf("of the file: %v", err)
	}
	if _, err := c.EditEndpoint(ctx, nobody, "old", control.Edit{Patch: []byte("{}"), Version: 3}); !errors.Is(err, state.ErrConflict) {
		t.Errorf("changed: %v", err)
	}
	var invalid *control.InvalidError
	if _, err := c.Deliveries(ctx, nobody, state.Filter{}, "", 0); !errors.As(err, &invalid) || err.Error() != "from: it is late; write another" {
		t.Errorf("invalid: %v", err)
	}
	if _, err := c.Tokens(ctx, nobody); err == nil || err.Error() != "ask gancho run at "+server.URL+": This needs a token with the role admin" {
		t.Errorf("forbidden: %v", err)
	}
	if _, err := c.Status(ctx, nobody); err == nil || !strings.Contains(err.Error(), "cannot be read") {
		t.Errorf("a page: %v", err)
	}
	server.CloseClientConnections()
	_ = server.Listener.Close()
	var away *remote.UnreachableError
	if _, err := c.Deliveries(ctx, nobody, state.Filter{Key: "segredo"}, "", 0); !errors.As(err, &away) || strings.Contains(err.Error(), "segredo") {
		t.Errorf("unreachable: %v", err)
	}
}
