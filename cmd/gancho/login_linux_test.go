package main_test

import (
	"bytes"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"strings"
	"testing"

	"gancho/internal/testservers"
)

// TestLoginOnTerminal: the token that somebody types is kept, and is not shown.
func TestLoginOnTerminal(t *testing.T) {
	t.Parallel()
	const token = "gancho_digitado"
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Header.Get("Authorization") != "Bearer "+token {
			w.WriteHeader(http.StatusTeapot)
		}
		_, _ = w.Write([]byte(`{"version":"v1","timezone":"UTC"}`))
	}))
	t.Cleanup(server.Close)
	person, terminal := testservers.Terminal(t)
	cmd := exec.CommandContext(t.Context(), os.Args[0], "login", "--api", server.URL)
	cmd.Env = commandEnv("GANCHO_TOKEN=")
	cmd.Stdin, cmd.Stdout, cmd.Stderr = terminal, terminal, terminal
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	var seen bytes.Buffer
	read := func(until string) {
		t.Helper()
		buffer := make([]byte, 4096)
		for !strings.Contains(seen.String(), until) {
			n, err := person.Read(buffer)
			if err != nil {
				t.Fatalf("%v: %q", err, seen.String())
			}
			seen.Write(buffer[:n])
		}
	}
	read("token for " + server.URL + ": ")
	if _, err := person.WriteString(token + "\n"); err != nil {
		t.Fatal(err)
	}
	read("logged in at " + server.URL)
	if err := cmd.Wait(); err != nil || strings.Contains(seen.String(), "digitado") {
		t.Errorf("%v: %q", err, seen.String())
	}
}
