package main_test

import (
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"strings"
	"testing"

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
	var text string
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
		for !strings.Contains(text, part) {
			var status int
			if status, text = fetch(t, base+"/metrics"); status != http.StatusOK {
				t.Fatalf("/metrics answers %d", status)
			}
			if t.Context().Err() != nil {
				t.Fatalf("no %s in:\n%s", part, text)
			}
		}
	}
	if status, _ := fetch(t, base+"/healthz"); status != http.StatusOK {
		t.Errorf("/healthz answers %d", status)
	}
	ready := func(want int) {
		t.Helper()
		for {
			if status, _ := fetch(t, base+"/readyz"); status == want {
				return
			}
		}
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
	if code != 1 || !strings.Contains(stdout, "not ready: capture waits: permission denied") || !strings.Contains(stderr, "capture") {
		t.Errorf("exit %d\n%s%s", code, stdout, stderr)
	}
}
