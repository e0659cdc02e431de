package main_test

import (
	"crypto/tls"
	"crypto/x509"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"gancho/internal/testservers"
)

// asks is a client that trusts one certificate.
func asks(t *testing.T, certificate string) *http.Client {
	t.Helper()
	text, err := os.ReadFile(certificate)
	if err != nil {
		t.Fatal(err)
	}
	pool := x509.NewCertPool()
	pool.AppendCertsFromPEM(text)
	transport := &http.Transport{TLSClientConfig: &tls.Config{RootCAs: pool, MinVersion: tls.VersionTLS12}, DisableKeepAlives: true, ForceAttemptHTTP2: true}
	t.Cleanup(transport.CloseIdleConnections)
	return &http.Client{Transport: transport}
}

// TestListenersTLS: the bridge speaks TLS by itself: health, metrics, API and console; commands beside it and at a desk find it, and a
// renewed certificate needs no restart.
func TestListenersTLS(t *testing.T) {
	t.Parallel()
	w := newWorld(t, testservers.RedisOptions{}, "create table cobrancas (id int primary key, valor int)")
	certificate, key := testservers.WriteCertificate(t, w.dir, "first", time.Hour)
	next, nextKey := testservers.WriteCertificate(t, w.dir, "second", 48*time.Hour)
	at, pages := closedPort(t), closedPort(t)
	const files = "tls: {certificate: first.pem, key: first.key}"
	w.http = "  " + files
	w.extra = "state: {key: '" + stateKey + "'}\nconsole: {listen: " + pages + ", " + files + "}"
	w.rules = "rules:\n  - {event: cobranca.nova, table: cobrancas, on: insert, columns: [id, valor]}\n"
	r := newReceiver(t, nil)
	w.endpoint("crm", r.url())
	s := &session{world: w, path: w.write()}
	text, err := os.ReadFile(s.path)
	if err == nil {
		err = os.WriteFile(s.path, []byte(strings.Replace(string(text), "127.0.0.1:0", at, 1)), 0o600)
	}
	if err != nil {
		t.Fatal(err)
	}
	b := w.start("run", "--create", "--config", s.path)
	b.waitLog("bridge is ready")
	w.exec("insert into cobrancas values (1, 1)")
	r.waitCount(1)

	client := asks(t, certificate)
	for _, url := range []string{"https://" + at + "/readyz", "https://" + at + "/metrics", "https://" + pages + "/console/"} {
		answer, err := client.Get(url)
		if err != nil {
			t.Fatal(err)
		}
		_, _ = io.Copy(io.Discard, answer.Body)
		_ = answer.Body.Close()
		if answer.StatusCode != http.StatusOK || answer.ProtoMajor != 1 || answer.TLS.PeerCertificates[0].Subject.CommonName != "first" {
			t.Errorf("%s: %s %s", url, answer.Proto, answer.Status)
		}
	}
	if status, text := fetch(t, "http://"+at+"/readyz"); status != http.StatusBadRequest {
		t.Errorf("without TLS: %d %s", status, text)
	}

	// Beside the bridge, by the configuration alone.
	if out := s.ok("health"); out != "ready\n" {
		t.Errorf("health: %q", out)
	}
	s.ok("status")
	if out := s.ok("why", "--table", "cobrancas", "--key", "1"); !strings.Contains(out, "cobranca.nova") {
		t.Errorf("why: %s", out)
	}
	if out := s.ok("console", "link"); !strings.HasPrefix(out, "https://"+pages+"/console/enter/") {
		t.Errorf("the console's link: %s", out)
	}
	code, out, _ := s.gancho("doctor", "--only", "listener.*")
	if code != 3 || strings.Count(out, "the certificate that its clients see expires in") != 2 || strings.Count(out, "problem") < 2 {
		t.Errorf("doctor: exit %d\n%s", code, out)
	}

	// At a desk, which trusts the certificate or does not.
	token := decoded[struct{ Token string }](s, "tokens", "create", "mesa", "--role", "viewer").Token
	_, port, _ := net.SplitHostPort(at)
	desk := func(trusted string) (string, error) {
		cmd := exec.CommandContext(t.Context(), os.Args[0], "status", "--api", "https://localhost:"+port)
		cmd.Env = commandEnv("GANCHO_TOKEN="+token+" ", "SSL_CERT_FILE="+trusted)
		out, err := cmd.CombinedOutput()
		return string(out), err
	}
	if out, err := desk(certificate); err != nil || !strings.Contains(out, "crm") {
		t.Errorf("status at a desk: %v\n%s", err, out)
	}
	if out, err := desk(next); err == nil || !strings.Contains(out, "trust its authority on this machine") || strings.Contains(out, token) {
		t.Errorf("status without trust: %v\n%s", err, out)
	}

	// Renewed: with the reload, and no handshake is turned away before.
	for from, to := range map[string]string{next: certificate, nextKey: key} {
		text, err := os.ReadFile(from)
		if err == nil {
			err = os.WriteFile(to, text, 0o600)
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	b.signal(syscall.SIGHUP)
	b.waitLog("configuration reloaded")
	if answer, err := asks(t, next).Get("https://" + at + "/healthz"); err != nil {
		t.Errorf("after the renewal: %v", err)
	} else {
		_ = answer.Body.Close()
	}

	// A pair that is none is refused, and the one before stays.
	if err := os.WriteFile(filepath.Join(w.dir, "first.key"), []byte("x"), 0o600); err != nil {
		t.Fatal(err)
	}
	b.signal(syscall.SIGHUP)
	b.waitLog("reload refused")
	if answer, err := asks(t, next).Get("https://" + at + "/healthz"); err != nil {
		t.Errorf("after a refused reload: %v", err)
	} else {
		_ = answer.Body.Close()
	}
}
