package main_test

import (
	"cmp"
	"encoding/hex"
	"encoding/json"
	"io"
	"net/http"
	"net/http/httptest"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	gocmp "github.com/google/go-cmp/cmp"
	v1 "go.opentelemetry.io/proto/slim/otlp/collector/trace/v1"
	otlp "go.opentelemetry.io/proto/slim/otlp/trace/v1"
	"google.golang.org/protobuf/proto"

	"gancho/internal/testservers"
	"gancho/internal/tracing"
)

// spanCollector is a collector that keeps what it gets; answer, if not nil, may refuse or delay a request first.
type spanCollector struct {
	*httptest.Server
	mu      sync.Mutex
	spans   []*otlp.Span
	changed chan struct{} // closed and replaced with each request
}

func newSpanCollector(t *testing.T, answer func(http.ResponseWriter, *http.Request) bool) *spanCollector {
	t.Helper()
	c := &spanCollector{changed: make(chan struct{})}
	c.Server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if answer != nil && !answer(w, r) {
			return
		}
		body, err := io.ReadAll(r.Body)
		request := &v1.ExportTraceServiceRequest{}
		if err != nil || proto.Unmarshal(body, request) != nil || r.URL.Path != "/v1/traces" || r.Header.Get("Authorization") != "Bearer S3NHA" {
			t.Errorf("%s %v: no OTLP with our header", r.URL.Path, err)
		}
		c.mu.Lock()
		defer c.mu.Unlock()
		for _, resource := range request.ResourceSpans {
			for _, scope := range resource.ScopeSpans {
				c.spans = append(c.spans, scope.Spans...)
			}
		}
		close(c.changed)
		c.changed = make(chan struct{})
	}))
	t.Cleanup(c.Close)
	return c
}

// of waits until a webhook-id's trace has n spans, each once, and returns them by id.
func (c *spanCollector) of(t *testing.T, webhookID string, n int) map[string]*otlp.Span {
	t.Helper()
	trace := tracing.TraceOf(webhookID)
	limit := time.NewTimer(time.Minute)
	defer limit.Stop()
	for {
		c.mu.Lock()
		found, changed := map[string]*otlp.Span{}, c.changed
		for _, s := range c.spans {
			if string(s.TraceId) == string(trace[:]) {
				found[hex.EncodeToString(s.SpanId)] = s
			}
		}
		c.mu.Unlock()
		if len(found) >= n {
			return found
		}
		select {
		case <-changed:
		case <-limit.C:
			t.Fatalf("the trace of %s has %d spans, not %d: %v", webhookID, len(found), n, found)
		}
	}
}

// tree is a trace as text: each span's name, below its parent's, with what the attributes named say.
func tree(spans map[string]*otlp.Span, parent string, attributes ...string) []string {
	var out []string
	for id, s := range spans {
		if hex.EncodeToString(s.ParentSpanId) != parent {
			continue
		}
		line := s.Name
		for _, a := range s.Attributes {
			for _, name := range attributes {
				if a.Key == name {
					line += " " + cmp.Or(a.Value.GetStringValue(), strconv.FormatInt(a.Value.GetIntValue(), 10))
				}
			}
		}
		out = append(out, line)
		for _, below := range tree(spans, id, attributes...) {
			out = append(out, "  "+below)
		}
	}
	return sortedTree(out)
}

// sortedTree sorts siblings with what is below them.
func sortedTree(lines []string) []string {
	var blocks [][]string
	for _, l := range lines {
		if !strings.HasPrefix(l, " ") {
			blocks = append(blocks, nil)
		}
		blocks[len(blocks)-1] = append(blocks[len(blocks)-1], l)
	}
	for i := range blocks {
		for j := range i {
			if strings.Join(blocks[i], "\n") < strings.Join(blocks[j], "\n") {
				blocks[i], blocks[j] = blocks[j], blocks[i]
			}
		}
	}
	var out []string
	for _, b := range blocks {
		out = append(out, b...)
	}
	return out
}

// TestTraces: an event is one trace over a failed attempt and a kill -9 of the bridge; each request has the id of its attempt, and
// nothing of the row is in it.
func TestTraces(t *testing.T) {
	t.Parallel()
	c := newSpanCollector(t, nil)
	w := newWorld(t, testservers.RedisOptions{}, `create table pedidos (id int primary key, nome text)`)
	w.rules = "rules:\n  - {event: pedido.novo, table: pedidos, on: insert, tenant: id, columns: [id, nome]}\n"
	var mu sync.Mutex
	failing := true
	r := newReceiver(t, func(w http.ResponseWriter, _ arrival) {
		mu.Lock()
		defer mu.Unlock()
		if failing {
			w.WriteHeader(http.StatusBadGateway)
		}
	})
	w.endpoint("crm", r.url(), "retry: [10s, 10s, 10s]")
	w.extra = "tracing: {otlp: '" + c.URL + "', headers: {Authorization: Bearer S3NHA}}\n"
	b := w.run()
	w.exec("insert into pedidos values (7, 'Maria')")
	first := r.waitCount(1)[0]
	id := first.id
	c.of(t, id, 4) // the attempt is there before it is killed
	b.kill()
	mu.Lock()
	failing = false
	mu.Unlock()
	b = w.run()
	all := r.waitFor(time.Minute, "second attempt", func(all []arrival) bool { return len(all) >= 2 })
	spans := c.of(t, id, 6)
	got := tree(spans, "", "gancho.tenant", "gancho.attempt", "gancho.outcome", "http.response.status_code", "gancho.endpoint", "gancho.op")
	if diff := gocmp.Diff([]string{
		"pedido.novo 7 insert", "  capture", "  deliver 7 crm delivered", "    POST 7 crm delivered 2 200", "    POST 7 crm retry 1 502", "  queue",
	}, got); diff != "" {
		t.Error(diff)
	}
	for _, a := range []arrival{all[0], all[len(all)-1]} {
		trace, span, ok := tracing.ParseTraceparent(a.traceparent)
		if s := spans[hex.EncodeToString(span[:])]; !ok || trace != tracing.TraceOf(id) || s == nil || s.Name != "POST" {
			t.Errorf("traceparent %q names no span", a.traceparent)
		}
	}
	for _, s := range spans {
		if strings.Contains(s.String(), "Maria") || s.StartTimeUnixNano > s.EndTimeUnixNano {
			t.Errorf("%v", s)
		}
	}
	b.waitMetric(`gancho_trace_spans_total{outcome="dropped"} 0`)
	b.stop()
	if strings.Contains(b.text(), "S3NHA") {
		t.Error("the log has the header")
	}
}

// TestTracesOfTime: what time makes is a trace as well, whose first span is from when it was due to when Redis had it: no change was captured for it.
func TestTracesOfTime(t *testing.T) {
	testservers.Whole(t)
	t.Parallel()
	c := newSpanCollector(t, nil)
	w := newWorld(t, testservers.RedisOptions{}, `create table pedidos (id int primary key, nome text); alter table pedidos replica identity full`)
	w.rules = `rules:
  - {event: pedido.parado, table: pedidos, on: insert, after: 1s, tenant: id, columns: [id, nome]}
  - {event: pedido.lista, schedule: every 10s, query: select id from pedidos, once: [id], tenant: id, columns: [id]}
`
	r := newReceiver(t, nil)
	w.endpoint("crm", r.url())
	w.extra = "state: {key: '" + stateKey + "'}\ntracing: {otlp: '" + c.URL + "', headers: {Authorization: Bearer S3NHA}}\n"
	b := w.run()
	w.exec("insert into pedidos values (7, 'Maria')")
	for _, a := range r.waitCount(2) {
		op := map[string]string{"pedido.parado": "timer", "pedido.lista": "schedule"}[a.event]
		spans := c.of(t, a.id, 3)
		got := tree(spans, "", "gancho.tenant", "gancho.op", "gancho.outcome", "gancho.endpoint")
		if diff := gocmp.Diff([]string{a.event + " 7 " + op, "  deliver 7 crm delivered", "    POST 7 crm delivered"}, got); diff != "" {
			t.Error(diff)
		}
		var envelope struct{ Timestamp time.Time }
		if err := json.Unmarshal(a.body, &envelope); err != nil {
			t.Fatal(err)
		}
		for _, s := range spans {
			begin := time.Unix(0, int64(s.StartTimeUnixNano))
			if s.Name == a.event && (!begin.Equal(envelope.Timestamp) || s.EndTimeUnixNano <= s.StartTimeUnixNano) {
				t.Errorf("the first span of %s begins at %s, and it was due at %s: %v", a.event, begin, envelope.Timestamp, s)
			}
			if strings.Contains(s.String(), "Maria") {
				t.Errorf("%v", s)
			}
		}
	}
	b.stop()
}

// TestTracesOutage: a collector that takes nothing, and one that never answers, hold up no delivery and are told of; a reload turns
// tracing on, and off.
func TestTracesOutage(t *testing.T) {
	testservers.Whole(t)
	t.Parallel()
	release := make(chan struct{})
	slow := newSpanCollector(t, func(_ http.ResponseWriter, r *http.Request) bool {
		select {
		case <-release:
		case <-r.Context().Done():
		}
		return false
	})
	defer close(release)
	full := newSpanCollector(t, func(w http.ResponseWriter, _ *http.Request) bool {
		w.WriteHeader(http.StatusBadRequest)
		return false
	})
	w := newWorld(t, testservers.RedisOptions{}, `create table pedidos (id int primary key)`)
	w.rules = "rules:\n  - {event: pedido.novo, table: pedidos, on: insert, columns: [id]}\n"
	r := newReceiver(t, nil)
	w.endpoint("crm", r.url())
	b := w.run()
	w.exec("insert into pedidos values (1)")
	if h := r.waitCount(1)[0].traceparent; h != "" {
		t.Errorf("there is no tracing, and %q was sent", h)
	}
	for i, url := range []string{slow.URL, full.URL} {
		w.extra = "tracing: {otlp: '" + url + "', headers: {Authorization: Bearer S3NHA}}\n"
		w.write()
		b.signal(syscall.SIGHUP)
		b.waitLogs("configuration reloaded", i+1)
		from := 2 + i*2000
		w.exec("insert into pedidos select generate_series($1::int, $2::int)", from, from+1999)
		all := r.waitCount(1 + (i+1)*2000)
		if h := all[len(all)-1].traceparent; len(h) != 55 {
			t.Errorf("traceparent %q", h)
		}
	}
	b.waitLog("the collector takes no spans")
	if strings.Contains(b.text(), "S3NHA") {
		t.Error("the log has the header")
	}
	b.stop()
}
