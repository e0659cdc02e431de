package main_test

import (
	"context"
	"encoding/json"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	main "gancho/cmd/gancho"
	"gancho/delivery/endpoint"
	"gancho/delivery/queue"
	"gancho/delivery/queue/queuetest"
	"gancho/delivery/webhook"
	"gancho/internal/control"
	"gancho/internal/testservers"
	"gancho/migrations"
)

// stateKey encrypts in every test that does not look at keys.
const stateKey = "k1:MDEyMzQ1Njc4OTAxMjM0NTY3ODkwMTIzNDU2Nzg5MDE="

// session is a world with state and nobody who runs, for commands.
type session struct {
	*world
	path string // of gancho.yaml
}

// newSession has the state's schema in its database and one endpoint in its file.
func newSession(t *testing.T, more ...string) *session {
	t.Helper()
	w := newWorldOn(t, pg, pg.Template(t, "state", migrations.Apply), testservers.RedisOptions{}, loadTable)
	w.rules = loadRules
	w.extra = strings.Join(append([]string{"state:", "  key: " + stateKey}, prefix("  ", more)...), "\n")
	w.endpoint("do-arquivo", "http://127.0.0.1:9")
	return &session{world: w, path: w.write()}
}

// gancho runs a command on the session's configuration.
func (s *session) gancho(args ...string) (code int, stdout, stderr string) {
	s.t.Helper()
	return command(s.t, append(args, "--config", s.path)...)
}

// stream runs a command whose output is not kept.
func (s *session) stream(out io.Writer, args ...string) (code int) {
	return main.Main(context.Background(), append(args, "--config", s.path), strings.NewReader(""), out, io.Discard)
}

// ok runs a command that has to succeed, and returns what it printed.
func (s *session) ok(args ...string) string {
	s.t.Helper()
	code, stdout, stderr := s.gancho(args...)
	if code != 0 {
		s.t.Fatalf("gancho %s: exit %d\n%s%s", strings.Join(args, " "), code, stdout, stderr)
	}
	return stdout
}

// fails runs a command that has to end with the code, and says what it has to say.
func (s *session) fails(code int, part string, args ...string) {
	s.t.Helper()
	got, stdout, stderr := s.gancho(args...)
	if got != code || !strings.Contains(stderr, part) {
		s.t.Errorf("gancho %s: exit %d, want %d with %q\n%s%s", strings.Join(args, " "), got, code, part, tail(stdout, 500), tail(stderr, 500))
	}
}

// decoded runs a command with --json and decodes what it printed.
func decoded[T any](s *session, args ...string) T {
	s.t.Helper()
	var v T
	out := s.ok(append(args, "--json")...)
	if err := json.Unmarshal([]byte(out), &v); err != nil {
		s.t.Fatalf("gancho %s: %v\n%s", strings.Join(args, " "), err, out)
	}
	return v
}

// queue is the session's queue, for what no command does.
func (s *session) queue(endpoints ...*endpoint.Endpoint) *queue.Queue {
	s.t.Helper()
	q, err := queue.Open(context.Background(), queue.Options{URL: s.redis.URL(), Endpoints: endpoints})
	if err != nil {
		s.t.Fatal(err)
	}
	s.t.Cleanup(func() { _ = q.Close() })
	return q
}

// TestEndpointsSession is what an operator does with an endpoint in its life.
func TestEndpointsSession(t *testing.T) {
	testservers.Whole(t)
	t.Parallel()
	s := newSession(t)

	// The secret is shown once, and nowhere else.
	out := s.ok("endpoints", "add", "crm-centro", "--url", "https://crm.example.com/hooks?token=t0ken-secreto", "--events", "cobranca.*,cliente.novo",
		"--tenants", "1", "--header", "X-Api-Key: chave-secreta", "--header", "X-Home: ${HOME}", "--rate", "50/s", "--set", "batch.max=10", "--set", "retry=[5s, 1m]")
	made := regexp.MustCompile(`whsec_\S+`).FindString(out)
	if made == "" || !strings.Contains(out, "gancho endpoints test crm-centro") {
		t.Fatalf("add printed\n%s", out)
	}
	e := decoded[control.EndpointView](s, "endpoints", "show", "crm-centro")
	var settings map[string]any
	if err := json.Unmarshal(e.Settings, &settings); err != nil {
		t.Fatal(err)
	}
	want := map[string]any{
		"url": "https://crm.example.com/hooks?token=***", "events": []any{"cobranca.*", "cliente.novo"}, "tenants": []any{"1"},
		"headers": map[string]any{"X-Api-Key": "***", "X-Home": "***"}, "rate": "50/s", "batch": map[string]any{"max": 10.0}, "retry": []any{"5s", "1m"},
	}
	if diff := cmp.Diff(want, settings); diff != "" {
		t.Errorf("settings (-want +got):\n%s", diff)
	}

	// An edit changes what it names; *** and what it does not name stay.
	s.ok("endpoints", "edit", "crm-centro", "--rate", "20/s", "--set", "retry=null", "--set", "headers={X-Api-Key: '***', X-Home: null}")
	e = decoded[control.EndpointView](s, "endpoints", "show", "crm-centro")
	if e.Version != 2 || !strings.Contains(string(e.Settings), `"20/s"`) || strings.Contains(string(e.Settings), "retry") || strings.Contains(string(e.Settings), "X-Home") {
		t.Errorf("after the edit: version %d, %s", e.Version, e.Settings)
	}
	s.fails(1, "was changed in the meantime", "endpoints", "edit", "crm-centro", "--rate", "5/s", "--version", "1")

	// A file's mistakes have its lines.
	file := s.file("crm.yaml", "url: https://crm.example.com\nconcurency: 4\n")
	s.fails(2, file+`:2:1: unknown key "concurency"; did you mean "concurrency"?`, "endpoints", "add", "crm-sul", "--file", file)
	file = s.file("crm.yaml", "url: https://crm.example.com\nsecret: "+secret+"\nstate: paused\nextra: {token: '${HOME}'}\n")
	if out := s.ok("endpoints", "add", "crm-sul", "--file", file, "--timeout", "3s"); strings.Contains(out, "whsec_") {
		t.Errorf("a secret that was given is shown:\n%s", out)
	}

	// States.
	for _, step := range []struct{ do, state string }{{"pause", "paused"}, {"deactivate", "inactive"}, {"activate", "active"}} {
		s.ok("endpoints", step.do, "crm-centro")
		if e := decoded[control.EndpointView](s, "endpoints", "show", "crm-centro"); e.State != step.state {
			t.Errorf("after %s it is %s", step.do, e.State)
		}
	}

	// Rotation: both keys sign for a while, or only the new one.
	out = s.ok("endpoints", "rotate", "crm-centro", "--ed25519", "--overlap", "2h")
	if !strings.Contains(out, "whsk_") || !strings.Contains(out, "whpk_") {
		t.Errorf("rotate printed\n%s", out)
	}
	e = decoded[control.EndpointView](s, "endpoints", "show", "crm-centro")
	if len(e.Keys) != 2 || e.Keys[0].Kind != "ed25519" || e.Keys[1].Expires.IsZero() {
		t.Errorf("keys %+v", e.Keys)
	}
	s.ok("endpoints", "rotate", "crm-centro", "--secret-file", s.file("key", secret+"\n"), "--overlap", "0")
	if e = decoded[control.EndpointView](s, "endpoints", "show", "crm-centro"); len(e.Keys) != 1 || e.Keys[0].Kind != "hmac" {
		t.Errorf("keys %+v", e.Keys)
	}

	all := decoded[control.Page[control.EndpointView]](s, "endpoints", "list")
	names := []string{}
	for _, e := range all.Items {
		names = append(names, e.Name+" "+e.From+" "+e.State)
	}
	if diff := cmp.Diff([]string{"crm-centro store active", "crm-sul store paused", "do-arquivo file active"}, names); diff != "" {
		t.Errorf("list (-want +got):\n%s", diff)
	}

	// What no command shows, log keeps, or error quotes.
	_, status, _ := s.gancho("status", "--json") // it fails, because there is no slot
	everything := s.ok("endpoints", "list") + s.ok("endpoints", "show", "crm-centro") + s.ok("audit", "--all", "--json") + status
	for _, hidden := range []string{made, "t0ken-secreto", "chave-secreta", secret, "whsk_"} {
		if strings.Contains(everything, hidden) {
			t.Errorf("a secret is shown: %s", hidden)
		}
	}

	// The file's endpoint can only be looked at, tested and activated.
	s.fails(2, "is in gancho.yaml", "endpoints", "pause", "do-arquivo")
	s.fails(2, "is in gancho.yaml", "endpoints", "remove", "do-arquivo")
	s.ok("endpoints", "activate", "do-arquivo")

	portuguese := &portugueseSession{t: t}
	config := s.path
	for _, line := range []struct {
		code int
		args string
	}{
		{0, "endpoints list"}, {0, "endpoints show crm-sul"}, {0, "endpoints pause crm-centro"}, {0, "endpoints activate crm-centro"}, {2, "endpoints pause do-arquivo"},
		{2, "endpoints show nenhum"}, {2, "endpoints edit crm-sul --rate depressa"}, {0, "endpoints rotate crm-sul --overlap 2h"}, {0, "endpoints remove crm-centro"}, {2, "endpoints remove crm-centro"},
		{0, "deliveries"}, {0, "dead list"}, {2, "dead show 7"}, {0, "dead drop --all --yes"}, {0, "parked list"}, {0, "parked groups"}, {0, "resend list"}, {0, "resend --endpoint crm-sul --from 2h"},
		{2, "resend show 7"}, {0, "tokens list"}, {0, "tokens create leitor --role viewer --expires never"}, {0, "tokens revoke leitor"}, {2, "tokens revoke leitor"},
		{0, "audit --limit 3"}, {0, "audit --object nada"}, {0, "migrate"}, {0, "secrets rekey"}, {0, "prove"}, {0, "recover --list"}, {0, "forget --tenant 1 --key 4711 --dry-run"},
	} {
		portuguese.run(line.code, append(strings.Fields(line.args), "--config", config)...)
	}
	portuguese.compare("endpoints", map[string]string{
		regexp.QuoteMeta(config): "gancho.yaml", `\d{4}-\d\d-\d\dT[0-9:Z+-]+`: "TIME", `\d{4}-\d\d-\d\d \d\d:\d\d [-+]\d\d:\d\d`: "MINUTE", `(whsec|gancho|whsk|whpk)_[A-Za-z0-9+/=_-]+`: "${1}_SECRET", `cli:\w+`: "cli:USER",
		`\d+\.\d+ ms`: "MS", ` {2,}`: "  ",
	})

	s.ok("endpoints", "remove", "crm-sul")
	s.fails(2, `endpoint "crm-sul" does not exist`, "endpoints", "show", "crm-sul")
}

// file writes a file into the world's directory.
func (s *session) file(name, text string) string {
	s.t.Helper()
	path := filepath.Join(s.dir, name)
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		s.t.Fatal(err)
	}
	return path
}

// TestEndpointsTest pings a receiver: the signature is right, the request is
// shown without secrets, and nothing else has changed.
func TestEndpointsTest(t *testing.T) {
	t.Parallel()
	s := newSession(t)
	var bad, careless atomic.Bool
	var right, wrong atomic.Int32
	receiver := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		key, err := endpoint.ParseSecret(secret)
		if err != nil {
			t.Error(err)
		}
		w.Header().Set("X-Servidor", "nginx")
		switch verified := webhook.Verify([]endpoint.Secret{key}, r.Header, body, time.Now()); {
		case bad.Load():
			w.WriteHeader(http.StatusTeapot)
		case r.URL.Path == "/hook" && verified == nil:
			right.Add(1)
		case !careless.Load():
			wrong.Add(1)
			w.WriteHeader(http.StatusForbidden)
		}
		_, _ = io.WriteString(w, "recebido\x1b[31m")
	}))
	t.Cleanup(receiver.Close)
	s.ok("endpoints", "add", "crm", "--url", receiver.URL+"/hook?token=segredo", "--allow-http", "--allow-private", "127.0.0.0/8",
		"--header", "X-Api-Key: chave-secreta", "--secret-file", s.file("key", secret))
	before := s.ok("audit", "--all", "--json")
	out := s.ok("endpoints", "test", "crm")
	if right.Load() != 1 || wrong.Load() != 2 {
		t.Errorf("%d right requests and %d wrong ones, want 1 and 2", right.Load(), wrong.Load())
	}
	for _, part := range []string{"> POST " + receiver.URL + "/hook?token=***", "> webhook-signature: v1,", "> x-api-key: ***", `"type":"ping"`,
		"< HTTP/1.1 200", "< x-servidor: nginx", "< recebido", "delivered: 127.0.0.1:", "total "} {
		if !strings.Contains(out, part) {
			t.Errorf("the exchange lacks %q:\n%s", part, out)
		}
	}
	if strings.Contains(out, "segredo") || strings.Contains(out, "chave-secreta") || strings.Contains(out, "\x1b") {
		t.Errorf("the exchange shows a secret, or speaks to the terminal:\n%s", out)
	}
	if strings.Contains(out, "without notice") {
		t.Errorf("a careful receiver is warned of:\n%s", out)
	}
	careless.Store(true)
	out = s.ok("endpoints", "test", "crm")
	for _, part := range []string{"! the same event with a wrong signature is answered 200 in the same way", "! the same event at a path that does not exist is answered 200"} {
		if !strings.Contains(out, part) {
			t.Errorf("the exchange lacks %q:\n%s", part, out)
		}
	}
	const remembered = "! the same event with a wrong signature is answered 200 in the same way"
	if out := s.ok("endpoints", "show", "crm"); !strings.Contains(out, "tested ") || !strings.Contains(out, remembered) {
		t.Errorf("what the receiver said is not remembered:\n%s", out)
	}
	bad.Store(true)
	code, stdout, stderr := s.gancho("endpoints", "test", "crm", "--json")
	var x webhook.Exchange
	if err := json.Unmarshal([]byte(stdout), &x); err != nil || code != 1 || x.Answer == nil || x.Answer.Status != http.StatusTeapot || x.Outcome != "refused" {
		t.Errorf("exit %d, %v\n%s%s", code, err, stdout, stderr)
	}
	s.fails(1, "connection refused", "endpoints", "test", "do-arquivo")
	after := s.ok("audit", "--all", "--json") // that a test was answered is noted, the newest first
	if first, rest, _ := strings.Cut(after, "\n"); !strings.Contains(first, `"endpoint.test"`) || rest != before {
		t.Errorf("a test has changed something:\n%s", after)
	}
	if n := s.redisClient().DBSize(context.Background()).Val(); n != 0 {
		t.Errorf("a test has left %d keys in Redis", n)
	}
	s.ok("endpoints", "edit", "crm", "--rate", "5/s")
	if out := s.ok("endpoints", "show", "crm"); strings.Contains(out, "tested ") || strings.Contains(out, remembered) {
		t.Errorf("what the receiver said to other settings is shown:\n%s", out)
	}
}

// TestEndpointsSuspended activates endpoints that were paused by themselves, of
// the store and of the file.
func TestEndpointsSuspended(t *testing.T) {
	t.Parallel()
	s := newSession(t)
	s.ok("endpoints", "add", "crm", "--url", "https://crm.example.com")
	for _, name := range []string{"crm", "do-arquivo"} {
		err := s.redisClient().HSet(context.Background(), "gancho:{"+name+"}:state", "paused", "the receiver answered 410 (Gone)", "since", "1795200000000").Err()
		if err != nil {
			t.Fatal(err)
		}
		if e := decoded[control.EndpointView](s, "endpoints", "show", name); e.Live == nil || e.Live.Reason == "" || e.Live.Since.IsZero() {
			t.Errorf("%s: %+v", name, e.Live)
		}
		if out := s.ok("endpoints", "list"); !strings.Contains(out, "suspended") {
			t.Errorf("the list does not say that %s is suspended:\n%s", name, out)
		}
		s.ok("endpoints", "activate", name)
		if e := decoded[control.EndpointView](s, "endpoints", "show", name); e.Live.Reason != "" {
			t.Errorf("%s is still suspended", name)
		}
	}
	if out := s.ok("audit", "--object", "endpoint/do-arquivo"); !strings.Contains(out, "endpoint.activate") {
		t.Errorf("the audit log lacks the activation:\n%s", out)
	}
}

// TestEndpointsRemoved keeps a queue, says so, and drops it later.
func TestEndpointsRemoved(t *testing.T) {
	t.Parallel()
	s := newSession(t)
	s.ok("endpoints", "add", "crm", "--url", "https://crm.example.com")
	err := queuetest.Replay(context.Background(), s.queue(), "crm", []webhook.Message{{ID: "x", Type: "a.b", Time: time.Now(), Data: []byte("1")}})
	if err != nil {
		t.Fatal(err)
	}
	out := s.ok("endpoints", "remove", "crm")
	if !strings.Contains(out, "1 queued event") || !strings.Contains(out, "gancho endpoints remove crm --drop-queue") {
		t.Errorf("remove printed\n%s", out)
	}
	s.fails(2, `endpoint "crm" does not exist`, "endpoints", "remove", "crm")
	if out := s.ok("endpoints", "remove", "crm", "--drop-queue"); !strings.Contains(out, "removed before") {
		t.Errorf("remove --drop-queue printed\n%s", out)
	}
	s.fails(2, `endpoint "nunca" does not exist`, "endpoints", "remove", "nunca", "--drop-queue")
	s.fails(1, "not dropped yet", "endpoints", "add", "crm", "--url", "https://crm.example.com")
}

// TestLostKey: an endpoint that cannot be decrypted is shown as what it is, and
// can be removed; the others are not in its way, nor it in theirs.
func TestLostKey(t *testing.T) {
	t.Parallel()
	s := newSession(t)
	s.ok("endpoints", "add", "antigo", "--url", "https://crm.example.com")
	s.extra = "state: {key: 'k2:YWFhYWFhYWFhYWFhYWFhYWFhYWFhYWFhYWFhYWFhYWE='}"
	s.write()
	s.ok("endpoints", "add", "novo", "--url", "https://crm.example.com")
	if out := s.ok("endpoints", "list"); !regexp.MustCompile(`antigo +unusable`).MatchString(out) || !regexp.MustCompile(`novo +active`).MatchString(out) {
		t.Errorf("list:\n%s", out)
	}
	s.fails(1, "k1", "endpoints", "test", "antigo")
	s.ok("endpoints", "remove", "antigo")
	s.ok("endpoints", "show", "novo")
}
