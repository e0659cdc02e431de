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
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"gancho/internal/machine"
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
	testservers.Whole(t)
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

	// By a user who may not read the certificate, while the bridge is well.
	other := strings.TrimSuffix(s.path, ".yaml") + "-other.yaml"
	settings, err := os.ReadFile(s.path)
	if err == nil {
		err = os.WriteFile(other, []byte(strings.ReplaceAll(string(settings), "certificate: first.pem", "certificate: "+testservers.Unreadable(t))), 0o600)
	}
	if err != nil {
		t.Fatal(err)
	}
	for _, args := range [][]string{{"status"}, {"health"}} {
		if code, stdout, stderr := command(t, append(args, "--config", other)...); code != 0 {
			t.Errorf("%v of another user: exit %d\n%s%s", args, code, stdout, stderr)
		}
	}
	if _, stdout, stderr := command(t, "doctor", "--only", "listener.*", "--config", other); strings.Count(stdout, "this user may not read its files") != 2 {
		t.Errorf("doctor of another user:\n%s%s", stdout, stderr)
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
	if out := s.ok("health"); out != "ready\n" {
		t.Errorf("health beside half a pair: %q", out)
	}
	if answer, err := asks(t, next).Get("https://" + at + "/healthz"); err != nil {
		t.Errorf("after a refused reload: %v", err)
	} else {
		_ = answer.Body.Close()
	}
}

// TestWhyByName: http.listen may be a name of this machine; and what is wrong with it is said of it, not of a flag that nobody gave.
func TestWhyByName(t *testing.T) {
	t.Parallel()
	w := &world{t: t, dir: t.TempDir()}
	port := closedPort(t)[len("127.0.0.1:"):]
	file := filepath.Join(w.dir, "gancho.yaml")
	w.env = []string{"GANCHO_TOKEN=gancho_teste"}
	if err := os.WriteFile(filepath.Join(w.dir, "rules.yaml"), []byte("rules: []\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	type answer struct {
		code int
		text string
	}
	cases := map[string]answer{"192.0.2.1:" + port: {2, `http.listen: "http://192.0.2.1:` + port + `" has no TLS`}}
	name, err := os.Hostname()
	if err != nil {
		t.Fatal(err)
	}
	if all, err := net.DefaultResolver.LookupHost(t.Context(), name); err == nil && slices.ContainsFunc(all, machine.Own) {
		cases[name+":"+port] = answer{1, "ask gancho run at http://"} // where nobody is
	} else {
		t.Logf("%s is no name of this machine: %v, %v", name, all, err)
	}
	for listen, want := range cases {
		text := "source: {dsn: 'host=127.0.0.1 port=1 dbname=a'}\nqueue: {redis: 'redis://127.0.0.1:1/0'}\nrules: [rules.yaml]\nhttp: {listen: '" + listen + "'}\n"
		if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		b := w.start("why", "--table", "cobrancas", "--key", "1", "--config", file)
		b.wait(want.code)
		if !strings.Contains(b.text(), want.text) || strings.Contains(b.text(), "--url: ") {
			t.Errorf("%s: %s", listen, b.text())
		}
	}
}
