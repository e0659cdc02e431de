package main_test

import (
	"bufio"
	"context"
	"encoding/json"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	main "gancho/cmd/gancho"
	"gancho/delivery/endpoint"
	"gancho/delivery/webhook"
	"gancho/internal/testservers"
)

// forwarded is a line of gancho listen --forward --json.
type forwarded struct {
	Endpoint, Event, Error string
	WebhookID              string `json:"webhook_id"`
	Replay                 bool
	Request                *struct{ Headers http.Header }
	Answer                 *struct {
		Status int
		Body   string
	}
}

// forwarding runs gancho listen --forward, and returns its lines, what it says, and what ends it.
func (d *desk) forwarding(args ...string) (next func() forwarded, said *bufio.Scanner, end func() int) {
	ctx, interrupt := context.WithCancel(d.t.Context())
	outReader, out := io.Pipe()
	notesReader, notes := io.Pipe()
	code := make(chan int, 1)
	go func() {
		code <- main.Main(ctx, append([]string{"listen", "--json", "--api", d.address, "--forward"}, args...), strings.NewReader(""), out, notes)
		_, _ = out.Close(), notes.Close()
	}()
	lines, said := bufio.NewScanner(outReader), bufio.NewScanner(notesReader)
	lines.Buffer(nil, 1<<20)
	return func() (f forwarded) {
			d.t.Helper()
			if !lines.Scan() {
				d.t.Fatal("the lines have ended")
			}
			if err := json.Unmarshal(lines.Bytes(), &f); err != nil {
				d.t.Errorf("%v: %s", err, lines.Text())
			}
			return f
		}, said, func() int {
			interrupt()
			return <-code
		}
}

// TestForward: what a bridge delivers comes to a developer's receiver, too, once, with the body and the headers of the endpoint, and
// signatures of a secret of this command's.
func TestForward(t *testing.T) {
	testservers.Whole(t)
	t.Parallel()
	w := newWorld(t, testservers.RedisOptions{}, "create table cobrancas (id int primary key, valor int)")
	w.extra = "state: {key: '" + stateKey + "', keep_events: 1d}"
	w.rules = "rules:\n  - {event: cobranca.nova, table: cobrancas, on: insert, columns: [id, valor]}\n"
	var open atomic.Bool // to what both refuse: an event that one takes is kept
	answer := func(w http.ResponseWriter, a arrival) {
		if strings.Contains(string(a.body), `"id":3`) && !open.Load() {
			w.WriteHeader(http.StatusServiceUnavailable)
		}
	}
	r, crm := newReceiver(t, answer), newReceiver(t, answer)
	w.endpoint("crm", crm.url(), "signatures: [github]", "headers: {X-Chave: segredo-do-crm}", "retry: [1s, 2s, 2s, 2s, 2s, 2s, 2s, 2s, 2s, 2s, 2s, 2s, 2s, 2s, 2s]")
	w.endpoint("outro", r.url())
	s := &session{world: w, path: w.write()}
	b := w.run()
	d := &desk{session: s, address: "http://" + b.listening()}
	d.login(d.address, "mesa", "viewer")

	type request struct {
		header http.Header
		body   []byte
	}
	came := make(chan request, 10)
	developer := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		came <- request{r.Header, body}
		w.WriteHeader(http.StatusTeapot)
		_, _ = io.WriteString(w, "chaleira")
	}))
	t.Cleanup(developer.Close)
	w.exec("insert into cobrancas values (1, 1)") // before: not forwarded
	r.waitCount(1)
	crm.waitCount(1)
	tick := time.NewTicker(50 * time.Millisecond)
	defer tick.Stop()
	for !strings.Contains(s.ok("deliveries", "--endpoint", "crm"), "cobranca.nova") {
		<-tick.C
	}

	next, said, end := d.forwarding(developer.URL+"/hooks", "--endpoint", "crm")
	said.Scan()
	if said.Text() != "forwarding from "+d.address+" to "+developer.URL+"/hooks; Ctrl-C ends it" {
		t.Errorf("it says %q", said.Text())
	}
	said.Scan()
	text, rest, _ := strings.Cut(strings.TrimPrefix(said.Text(), "signed with "), ",")
	key, err := endpoint.ParseSecret(text)
	if err != nil || !strings.Contains(rest, "not with the endpoint's secret") || text == secret {
		t.Fatalf("it says %q: %v", said.Text(), err)
	}
	drained := make(chan struct{})
	go func() {
		defer close(drained)
		for said.Scan() { // a pipe that nobody reads would hold it up
			t.Log(said.Text())
		}
	}()
	w.exec("insert into cobrancas values (2, 20)")
	line := next()
	got := <-came
	if line.Answer == nil || line.Answer.Status != http.StatusTeapot || line.Answer.Body != "chaleira" || line.Endpoint != "crm" || line.Event != "cobranca.nova" {
		t.Errorf("the line: %+v", line)
	}
	if err := webhook.Verify([]endpoint.Secret{key}, got.header, got.body, time.Now()); err != nil {
		t.Errorf("the signature: %v", err)
	}
	if !strings.Contains(string(got.body), `"id":2`) || got.header.Get("Webhook-Id") != line.WebhookID || got.header.Get("Content-Type") != "application/json" {
		t.Errorf("the request: %v %s", got.header, got.body)
	}
	if !strings.HasPrefix(got.header.Get("X-Hub-Signature-256"), "sha256=") || got.header.Get("X-Chave") != "" {
		t.Errorf("the endpoint's own headers: %v", got.header)
	}

	// Its receiver refuses the first attempt: it is said, and forwarded at the end, once.
	w.exec("insert into cobrancas values (3, 30)")
	if line := next(); line.Request != nil || !strings.Contains(line.Error, "it is forwarded when its delivery ends") {
		t.Errorf("the line of one that waits: %+v", line)
	}
	open.Store(true)
	if line, got := next(), <-came; line.Answer == nil || !strings.Contains(string(got.body), `"id":3`) {
		t.Errorf("the line after its retry: %+v, %s", line, got.body)
	}

	// Sent again on the bridge: it comes again, as a replay.
	s.ok("resend", "--endpoint", "crm", "--key", "2", "--wait")
	if line, got := next(), <-came; !line.Replay || !strings.Contains(string(got.body), `"id":2`) || got.header.Get("Webhook-Replay") != "true" {
		t.Errorf("the line of a replay: %+v, %v", line, got.header)
	}
	developer.Close()
	w.exec("insert into cobrancas values (4, 40)")
	if line := next(); line.Answer != nil || !strings.Contains(line.Error, "connection refused") {
		t.Errorf("the line without a receiver: %+v", line)
	}
	if code := end(); code != 0 {
		t.Errorf("exit code %d", code)
	}
	<-drained
	if n := len(came); n != 0 {
		t.Errorf("%d more requests", n)
	}
	for args, want := range map[string]string{
		"--forward localhost:3000":                                        "--forward is not the URL of a receiver",
		"--forward http://localhost:3000":                                 "--api is missing",
		"--forward http://localhost:3000 --api http://192.0.2.1":          "has no TLS",
		"--forward http://localhost:3000 --status 500 --api " + d.address: "--status is for a receiver",
		"--endpoint crm": "--endpoint is for --forward",
		"--forward http://localhost:3000 --endpoint nada --api " + d.address:                                        `endpoint "nada" does not exist; see gancho endpoints list`,
		"--forward http://localhost:3000 --secret whpk_AAAA --api " + d.address:                                     "--secret: parse secret",
		"--forward http://u:segredo@localhost:3000 --api " + d.address:                                              "--forward is not the URL",
		"--forward http://localhost:3000 --json --secret " + secret + " --secret " + secret + " --api " + d.address: "one secret signs",
	} {
		code, _, stderr := commandOn(strings.NewReader(""), append([]string{"listen"}, strings.Fields(args)...)...)
		if code != 2 || !strings.Contains(stderr, want) || strings.Contains(stderr, "segredo") {
			t.Errorf("%s: exit %d, %q; want %q", args, code, stderr, want)
		}
	}
}
