package main_test

import (
	"bufio"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"strings"
	"testing"

	"gancho/delivery/queue/queuetest"
	"gancho/internal/testservers"
)

func fetch(t *testing.T, url string) (int, string) {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, url, nil)
	if err != nil {
		t.Fatal(err)
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = resp.Body.Close() }()
	body, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	return resp.StatusCode, string(body)
}

// waitMetric waits until a line of the metrics begins with the text.
func (b *bridge) waitMetric(text string) {
	b.t.Helper()
	url := "http://" + b.listening() + "/metrics"
	queuetest.Eventually(b.t, text, func() bool {
		status, all := fetch(b.t, url)
		if status != http.StatusOK {
			b.t.Fatalf("/metrics answers %d", status)
		}
		return strings.Contains(all, "\n"+text)
	})
}

// TestHealthWhileTheStartWaits: whoever watches is answered, with the reason, before
// Redis is there.
func TestHealthWhileTheStartWaits(t *testing.T) {
	t.Parallel()
	w := newStateful(t, pg, nil, driftTable)
	w.rules = driftRules
	w.redis.Kill()
	b := w.start("run", "--create", "--config", w.write())
	base := "http://" + b.listening()
	b.waitLog("server unreachable; waiting for it")
	for path, want := range map[string]struct {
		status int
		body   string
	}{
		"/healthz":       {http.StatusOK, "ok"},
		"/readyz":        {http.StatusServiceUnavailable, "starting: waiting for redis"},
		"/metrics":       {http.StatusOK, "go_goroutines"},
		"/api/v1/status": {http.StatusServiceUnavailable, "Gancho is starting: waiting for redis."},
	} {
		if status, body := fetch(t, base+path); status != want.status || !strings.Contains(body, want.body) {
			t.Errorf("%s answers %d, %s", path, status, body)
		}
	}
	if err := w.redis.Start(); err != nil {
		t.Fatal(err)
	}
	b.waitLog("bridge is ready")
	if status, body := fetch(t, base+"/readyz"); status != http.StatusOK {
		t.Errorf("/readyz answers %d, %s", status, body)
	}
	if status, body := fetch(t, base+"/api/v1/status"); status != http.StatusUnauthorized {
		t.Errorf("the API answers %d without a token, %s", status, body)
	}
	b.stop()
}

// TestHealthAndMetrics reads what an operator watches, with Redis up and down.
func TestHealthAndMetrics(t *testing.T) {
	t.Parallel()
	w := newWorld(t, testservers.RedisOptions{}, driftTable)
	r := newReceiver(t, nil)
	w.rules = driftRules
	w.endpoint("a", r.url())
	w.endpoint("b", r.url(), "state: paused")
	b := w.run()
	base := "http://" + b.listening()
	w.exec("insert into fichas values (1, 'um', 1.10)")
	w.exec("delete from fichas")
	r.waitCount(2)
	// The gauges are taken every two seconds, the latency when the answer is in.
	for _, part := range []string{
		`gancho_changes_total{op="insert",table="public.fichas"} 1`,
		`gancho_events_total{event="ficha.nome",rule="`,
		`gancho_attempts_total{endpoint="a",outcome="ok"} 2`,
		`gancho_backlog_events{endpoint="b"} 2`,
		`gancho_backlog_events{endpoint="a"} 0`,
		`gancho_oldest_event_age_seconds{endpoint="b"}`,
		`gancho_commit_to_delivered_seconds_count{endpoint="a"} 2`,
		"gancho_slot_lag_bytes ", "gancho_slot_lag_seconds ", "gancho_slot_wal_held_bytes ",
	} {
		b.waitMetric(part)
	}
	if status, _ := fetch(t, base+"/healthz"); status != http.StatusOK {
		t.Errorf("/healthz answers %d", status)
	}
	ready := func(want int) {
		t.Helper()
		queuetest.Eventually(t, fmt.Sprintf("/readyz to answer %d", want), func() bool { status, _ := fetch(t, base+"/readyz"); return status == want })
	}
	ready(http.StatusOK)
	w.redis.Kill()
	ready(http.StatusServiceUnavailable)
	if status, _ := fetch(t, base+"/healthz"); status != http.StatusOK {
		t.Errorf("/healthz answers %d while Redis is unreachable", status)
	}
	if err := w.redis.Start(); err != nil {
		t.Fatal(err)
	}
	ready(http.StatusOK)
	b.stop()
}

// TestUnsolicitedResponseIsLogged: a receiver that speaks unasked has a line in the log, without what
// it said.
func TestUnsolicitedResponseIsLogged(t *testing.T) {
	t.Parallel()
	w := newWorld(t, testservers.RedisOptions{}, driftTable)
	w.rules = "rules:\n  - {event: ficha.valor, table: fichas, on: insert, columns: [id]}\n"
	w.extra = "log: {level: debug}"
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = listener.Close() })
	go func() {
		for {
			conn, err := listener.Accept()
			if err != nil {
				return // the test has ended
			}
			reader := bufio.NewReader(conn)
			if request, err := http.ReadRequest(reader); err == nil {
				_, _ = io.Copy(io.Discard, request.Body)
			}
			_, _ = io.WriteString(conn, "HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")
			_, _ = io.WriteString(conn, "HTTP/1.1 200 segredo\r\n\r\n")
			_, _ = reader.ReadByte() // until the bridge hangs up
			_ = conn.Close()
		}
	}()
	w.endpoint("a", "http://"+listener.Addr().String())
	b := w.run()
	w.exec("insert into fichas values (1, 'um', 1.10)")
	b.waitLog("delivery attempted")
	w.exec("insert into fichas values (2, 'dois', 1.10)") // by then it has been said
	b.waitLog("unsolicited response")
	b.stop()
	for line := range strings.Lines(b.text()) {
		if !json.Valid([]byte(line)) || strings.Contains(line, "segredo") {
			t.Errorf("a line of the log: %s", line)
		}
	}
}

// TestStatusSaysWhatTheBridgeWaitsFor: status asks the bridge on this machine.
func TestStatusSaysWhatTheBridgeWaitsFor(t *testing.T) {
	t.Parallel()
	w := newWorld(t, testservers.RedisOptions{}, driftTable)
	w.rules = driftRules
	waiting := httptest.NewServer(http.HandlerFunc(func(answer http.ResponseWriter, _ *http.Request) {
		http.Error(answer, "capture waits: permission denied", http.StatusServiceUnavailable)
	}))
	t.Cleanup(waiting.Close)
	path := w.write()
	text, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	text = []byte(strings.Replace(string(text), "listen: 127.0.0.1:0", "listen: "+waiting.Listener.Addr().String(), 1))
	if err := os.WriteFile(path, text, 0o600); err != nil {
		t.Fatal(err)
	}
	code, stdout, stderr := command(t, "status", "--config", path)
	if code != 3 || !strings.Contains(stdout, "not ready: capture waits: permission denied") || !strings.Contains(stderr, "capture") {
		t.Errorf("exit %d\n%s%s", code, stdout, stderr)
	}
}
