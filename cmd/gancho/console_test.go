package main_test

import (
	"context"
	"io"
	"net/http"
	"net/http/cookiejar"
	"strings"
	"testing"

	"gancho/internal/control"
	"gancho/internal/testservers"
)

// fetchPage makes a request as a browser of the page's own origin.
func fetchPage(t *testing.T, client *http.Client, method, url string) (status int, text string) {
	t.Helper()
	r, err := http.NewRequestWithContext(context.Background(), method, url, http.NoBody)
	if err != nil {
		t.Fatal(err)
	}
	r.Header.Set("Sec-Fetch-Site", "same-origin")
	answer, err := client.Do(r)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = answer.Body.Close() }()
	body, err := io.ReadAll(answer.Body)
	if err != nil {
		t.Fatal(err)
	}
	return answer.StatusCode, string(body)
}

// TestConsole: the console and the API are on a listener of their own, without metrics and health. A link of the command signs in, and
// one of the API; the names of units are read as lookups are: by a role that may write nothing.
func TestConsole(t *testing.T) {
	t.Parallel()
	s := newStateful(t, pg, nil, loadTable, "create table empresas (id int, nome_fantasia text)", "insert into empresas values (1, 'Unidade Centro')")
	s.rules = loadRules
	address := closedPort(t)
	s.extra += "\nconsole:\n  listen: " + address + "\n  tenants: {sql: 'select id, nome_fantasia from empresas order by 2'}\n"
	b := s.run("--create")
	config := s.write()
	at := "http://" + address
	for path, want := range map[string]int{"/metrics": 404, "/healthz": 404, "/readyz": 404, "/api/v1/openapi.json": 200, "/api/v1/status": 401, "/console/": 200, "/": 200} {
		if status, _ := fetchPage(t, http.DefaultClient, http.MethodGet, at+path); status != want {
			t.Errorf("%s: status %d, want %d", path, status, want)
		}
	}
	var made control.CreatedLink
	s.call(b, http.MethodPost, "/console-links", `{"role":"viewer","tenant":"1","for":"5m","language":"en"}`, &made)
	code, link, errs := command(t, "console", "link", "--config", config, "--tenant", "1", "--role", "admin", "--for", "15m")
	if code != 0 {
		t.Fatal(errs)
	}
	for _, url := range []string{made.URL, strings.Fields(link)[0]} {
		if !strings.HasPrefix(url, at+"/console/enter/") {
			t.Fatalf("the link is %s", url)
		}
		jar, err := cookiejar.New(nil)
		if err != nil {
			t.Fatal(err)
		}
		if status, text := fetchPage(t, &http.Client{Jar: jar}, http.MethodPost, url); status != http.StatusOK || !strings.Contains(text, "Unidade Centro") {
			t.Errorf("the link leads to %d: %s", status, text)
		}
	}
	for _, wrong := range [][]string{{"--role", "root"}, {"--for", "2d"}} {
		if code, _, _ := command(t, append([]string{"console", "link", "--config", config}, wrong...)...); code != 2 {
			t.Errorf("%v: exit code %d, want 2", wrong, code)
		}
	}
	b.stop()
}

// Without a state.key the console says which two lines to add.
func TestConsoleWithoutState(t *testing.T) {
	t.Parallel()
	w := newWorld(t, testservers.RedisOptions{}, loadTable)
	w.rules = loadRules
	address := closedPort(t)
	w.extra = "console: {listen: '" + address + "'}"
	b := w.run("--create")
	status, text := fetchPage(t, http.DefaultClient, http.MethodGet, "http://"+address+"/console/audit")
	if status != http.StatusServiceUnavailable || !strings.Contains(text, "key: &#39;${GANCHO_STATE_KEY}&#39;") && !strings.Contains(text, "key: '${GANCHO_STATE_KEY}'") {
		t.Errorf("status %d: %s", status, text)
	}
	b.stop()
}
