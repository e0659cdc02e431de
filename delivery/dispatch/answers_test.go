package dispatch_test

import (
	"bytes"
	"compress/gzip"
	"context"
	"errors"
	"fmt"
	"io"
	"log"
	"net"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"strings"
	"testing"
	"time"

	"gancho/delivery/dispatch"
	"gancho/delivery/endpoint"
	"gancho/delivery/queue"
	"gancho/delivery/queue/queuetest"
	"gancho/delivery/webhook"
)

// played is an answer that a receiver plays, and what it means.
type played struct {
	name  string
	serve http.HandlerFunc
	// What the log says.
	outcome, class string
	status         int
	// When the event is sent again, from the attempt; 0: never.
	wait   time.Duration
	paused string
	change func(*endpoint.Endpoint)
}

func says(status int, header ...string) http.HandlerFunc {
	return func(w http.ResponseWriter, _ *http.Request) {
		for i := 0; i < len(header); i += 2 {
			w.Header().Add(header[i], header[i+1])
		}
		w.WriteHeader(status)
	}
}

// The waits of the schedules: too long for a second attempt in the test.
const (
	retryPlayed   = time.Hour
	refusalPlayed = 2 * time.Hour
)

// answers are of every kind that there is.
func answers(t *testing.T, end <-chan struct{}) []played {
	t.Helper()
	const retry, refusal = retryPlayed, refusalPlayed
	var out []played
	for _, s := range []int{200, 201, 202, 204, 206, 299} {
		out = append(out, played{name: fmt.Sprint(s), serve: says(s), outcome: "delivered", class: webhook.ClassOK, status: s})
	}
	for _, s := range []int{300, 301, 302, 303, 304, 307, 308, 408, 425, 429, 500, 501, 502, 503, 504, 507, 511, 599} {
		out = append(out, played{name: fmt.Sprint(s), serve: says(s, "Location", "/200"), outcome: "retry", class: webhook.ClassStatus, status: s, wait: retry})
	}
	for _, s := range []int{400, 401, 402, 403, 404, 405, 406, 407, 409, 411, 413, 415, 418, 422, 423, 426, 431, 451, 499} {
		out = append(out, played{name: fmt.Sprint(s), serve: says(s), outcome: "refused", class: webhook.ClassStatus, status: s, wait: refusal})
	}
	in := func(status int, d time.Duration) http.HandlerFunc {
		return func(w http.ResponseWriter, r *http.Request) {
			says(status, "Retry-After", time.Now().Add(d).UTC().Format(http.TimeFormat))(w, r)
		}
	}
	const asked = "the receiver asked for it (webhook-delivery: pause)"
	out = append(out,
		played{name: "410", serve: says(410), outcome: "gone", class: webhook.ClassStatus, status: 410, paused: "the receiver answered 410 Gone"},
		played{name: "retry-after", serve: says(503, "Retry-After", "7200"), outcome: "retry", class: webhook.ClassStatus, status: 503, wait: 2 * time.Hour},
		played{name: "retry-after-date", serve: in(429, 3*time.Hour), outcome: "retry", class: webhook.ClassStatus, status: 429, wait: 3 * time.Hour},
		played{name: "retry-after-days", serve: says(429, "Retry-After", "1000000"), outcome: "retry", class: webhook.ClassStatus, status: 429, wait: 24 * time.Hour},
		played{name: "retry-after-past", serve: in(503, -time.Hour), outcome: "retry", class: webhook.ClassStatus, status: 503, wait: retry},
		played{name: "retry-after-nonsense", serve: says(503, "Retry-After", "soon"), outcome: "retry", class: webhook.ClassStatus, status: 503, wait: retry},
		played{name: "retry-after-500", serve: says(500, "Retry-After", "7200"), outcome: "retry", class: webhook.ClassStatus, status: 500, wait: retry},
		played{name: "pause-200", serve: says(200, "Webhook-Delivery", "pause"), outcome: "delivered", class: webhook.ClassOK, status: 200, paused: asked},
		played{name: "pause-500", serve: says(500, "webhook-delivery", " PAUSE "), outcome: "retry", class: webhook.ClassStatus, status: 500, wait: retry, paused: asked},
		played{name: "pause-404", serve: says(404, "webhook-delivery", "pause"), outcome: "refused", class: webhook.ClassStatus, status: 404, wait: refusal, paused: asked},
		played{name: "abort-500", serve: says(500, "webhook-delivery", "abort"), outcome: "dead", class: webhook.ClassStatus, status: 500},
		played{name: "abort-400", serve: says(400, "webhook-delivery", "Abort"), outcome: "dead", class: webhook.ClassStatus, status: 400},
		played{name: "abort-302", serve: says(302, "webhook-delivery", "abort"), outcome: "dead", class: webhook.ClassStatus, status: 302},
		played{name: "abort-200", serve: says(200, "webhook-delivery", "abort"), outcome: "delivered", class: webhook.ClassOK, status: 200},
		played{name: "other-wish", serve: says(200, "webhook-delivery", "faster"), outcome: "delivered", class: webhook.ClassOK, status: 200},
	)
	return append(out, oddAnswers(t, end)...)
}

// oddAnswers are those that are not a status and headers alone.
func oddAnswers(t *testing.T, end <-chan struct{}) []played {
	t.Helper()
	const retry = retryPlayed
	wait := func(r *http.Request) {
		select {
		case <-r.Context().Done():
		case <-end:
		}
	}
	broken := func(w http.ResponseWriter, what string) {
		c, _, err := http.NewResponseController(w).Hijack()
		if err != nil {
			t.Error(err)
			return
		}
		_, _ = io.WriteString(c, what) // the other side may be gone
		if tcp, ok := c.(*net.TCPConn); ok && what == "" {
			_ = tcp.SetLinger(0) // a reset
		}
		_ = c.Close()
	}
	var bomb bytes.Buffer
	z := gzip.NewWriter(&bomb)
	if _, err := io.CopyN(z, zeros{}, 32<<20); err != nil || z.Close() != nil {
		t.Fatal(err)
	}
	lost := func(name, class string, serve http.HandlerFunc, change func(*endpoint.Endpoint)) played {
		return played{name: name, serve: serve, outcome: "retry", class: class, wait: retry, change: change}
	}
	impatient := func(ep *endpoint.Endpoint) { ep.Timeout = 3 * time.Second } // and the machine may be busy
	at := func(url string) func(*endpoint.Endpoint) { return func(ep *endpoint.Endpoint) { ep.URL = url } }
	closed, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	_ = closed.Close()
	out := []played{
		lost("slow", webhook.ClassTimeout, func(_ http.ResponseWriter, r *http.Request) { wait(r) }, impatient),
		lost("reset", webhook.ClassConnection, func(w http.ResponseWriter, _ *http.Request) { broken(w, "") }, nil),
		lost("no-http", webhook.ClassProtocol, func(w http.ResponseWriter, _ *http.Request) { broken(w, "220 smtp ready\r\n\r\n") }, nil),
		lost("nobody", webhook.ClassConnection, nil, at("http://"+closed.Addr().String())),
		lost("no-such-name", webhook.ClassDNS, nil, at("http://crm.example.test/")),
		lost("private", webhook.ClassRefused, nil, at("http://10.0.0.1/")),
		lost("metadata", webhook.ClassRefused, nil, at("http://169.254.169.254/latest")),
	}
	slow := lost("slow-body", webhook.ClassTimeout, func(w http.ResponseWriter, r *http.Request) {
		w.WriteHeader(http.StatusOK)
		_ = http.NewResponseController(w).Flush() // the test looks at the other side
		wait(r)
	}, impatient)
	slow.status = 200
	cut := lost("cut-body", webhook.ClassConnection, func(w http.ResponseWriter, _ *http.Request) {
		broken(w, "HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nhalf")
	}, nil)
	cut.status = 200
	return append(out, slow, cut,
		played{name: "endless", outcome: "delivered", class: webhook.ClassOK, status: 200, serve: func(w http.ResponseWriter, _ *http.Request) {
			_, _ = io.Copy(w, zeros{}) // until it is cut off
		}},
		played{name: "bomb", outcome: "delivered", class: webhook.ClassOK, status: 200, serve: func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Encoding", "gzip")
			_, _ = w.Write(bomb.Bytes())
		}},
		played{name: "body", outcome: "retry", class: webhook.ClassBody, status: 200, wait: retry, serve: func(w http.ResponseWriter, _ *http.Request) {
			_, _ = io.WriteString(w, `{"status":500}`)
		}, change: func(ep *endpoint.Endpoint) { ep.Success.Body = `"status":200\b` }},
		played{name: "own-status", outcome: "retry", class: webhook.ClassStatus, status: 201, wait: retry, serve: says(201), change: func(ep *endpoint.Endpoint) {
			ep.Success.Status = [][2]int{{200, 200}}
		}},
	)
}

type zeros struct{}

func (zeros) Read(p []byte) (int, error) { clear(p); return len(p), nil }

// Everything that a receiver can do, over HTTP: what the log says of it, and
// what it means for the event and the endpoint.
func TestAnswersOverHTTP(t *testing.T) {
	t.Parallel()
	end := make(chan struct{})
	all := answers(t, end)
	byName := map[string]http.HandlerFunc{}
	for _, p := range all {
		byName[p.name] = p.serve
	}
	server := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		byName[strings.TrimPrefix(r.URL.Path, "/")](w, r)
	}))
	server.Config.ErrorLog = log.New(io.Discard, "", 0)
	server.Start()
	t.Cleanup(server.Close)
	t.Cleanup(func() { close(end) })
	eps := make([]endpoint.Endpoint, len(all))
	for i, p := range all {
		eps[i] = endpoint.Endpoint{
			Name: p.name, URL: server.URL + "/" + p.name, AllowHTTP: true, AllowPrivate: []netip.Prefix{netip.MustParsePrefix("127.0.0.0/8")},
			Timeout: 20 * time.Second, Retry: []time.Duration{retryPlayed}, RetryRefused: []time.Duration{refusalPlayed},
		}
		if p.change != nil {
			p.change(&eps[i])
		}
	}
	r := queuetest.StartRedis(t)
	q := queuetest.Open(t, r, eps...)
	queuetest.AppendEvents(t, q, 0, 1, 1, queuetest.KeyModulo(1))
	nowhere := &net.Resolver{PreferGo: true, Dial: func(context.Context, string, string) (net.Conn, error) {
		return nil, errors.New("no name server")
	}}
	sender := webhook.NewSender(webhook.Options{Version: "test", Resolver: nowhere})
	t.Cleanup(sender.Close)
	stop := deliver(t, q, sender, dispatch.Options{Log: true, DrainTimeout: time.Minute}, eps...)
	c := queuetest.Client(t, r)
	logged := map[string]queue.LogRecord{}
	queuetest.Eventually(t, "an attempt at each", func() bool {
		for _, p := range all {
			if entries, err := q.Log(t.Context(), p.name, 10); err == nil && len(entries) > 0 {
				logged[p.name] = entries[0].Records[0]
			}
		}
		return len(logged) == len(all)
	})
	stop()
	for _, p := range all {
		t.Run(p.name, func(t *testing.T) {
			l := logged[p.name]
			if l.Outcome != p.outcome || l.Class != p.class || l.Status != p.status || l.Number != 1 {
				t.Errorf("logged attempt %d: %s, %s, %d (%s); want %s, %s, %d", l.Number, l.Outcome, l.Class, l.Status, l.Error, p.outcome, p.class, p.status)
			}
			k, waits := keptOf(t, c, p.name)
			if d := k.due.Sub(k.Last); waits != (p.wait > 0) || waits && (d < p.wait*99/100 || d > p.wait*12/10) {
				t.Errorf("waits: %t, for %s; want %s", waits, d, p.wait)
			}
			s, err := queuetest.Stats(t.Context(), q, p.name)
			if err != nil || s.Reason != p.paused {
				t.Errorf("paused because of %q, %v; want %q", s.Reason, err, p.paused)
			}
			if err != nil || (s.Dead == 1) != (p.outcome == queue.OutcomeDead) {
				t.Errorf("%d dead letters, %v", s.Dead, err)
			}
			if done := p.outcome == "delivered" || p.outcome == queue.OutcomeDead; err != nil || (s.Backlog == 0) != done {
				t.Errorf("%d events left, %v", s.Backlog, err)
			}
		})
	}
}
