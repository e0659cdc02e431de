package tracing_test

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/rs/zerolog"
	v1 "go.opentelemetry.io/proto/slim/otlp/collector/trace/v1"
	otlp "go.opentelemetry.io/proto/slim/otlp/trace/v1"
	"go.uber.org/goleak"
	"google.golang.org/protobuf/proto"

	"gancho/internal/tracing"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// collector reads requests as the official definition has them, and answers as the test says.
type collector struct {
	*httptest.Server
	spans    chan *otlp.Span
	requests chan *http.Request
}

func newCollector(t *testing.T, answer func(w http.ResponseWriter, n int)) *collector {
	t.Helper()
	c := &collector{spans: make(chan *otlp.Span, 1<<16), requests: make(chan *http.Request, 1<<10)}
	n := 0
	var mu sync.Mutex
	c.Server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, err := io.ReadAll(r.Body)
		if err != nil {
			return // the exporter gave up
		}
		request := &v1.ExportTraceServiceRequest{}
		if err := proto.Unmarshal(body, request); err != nil {
			t.Errorf("the request is not OTLP: %v", err)
		}
		if len(request.ProtoReflect().GetUnknown()) > 0 {
			t.Error("the request has fields that OTLP does not know")
		}
		mu.Lock()
		n++
		number := n
		mu.Unlock()
		w.Header().Set("Content-Type", "application/x-protobuf")
		recorder := &statusRecorder{ResponseWriter: w}
		if answer != nil {
			answer(recorder, number)
		}
		if recorder.status == 0 {
			for _, resource := range request.ResourceSpans {
				for _, scope := range resource.ScopeSpans {
					for _, s := range scope.Spans {
						c.spans <- s
					}
				}
			}
		}
		c.requests <- r
	}))
	t.Cleanup(c.Close)
	return c
}

type statusRecorder struct {
	http.ResponseWriter
	status int
}

func (r *statusRecorder) WriteHeader(status int) {
	r.status = status
	r.ResponseWriter.WriteHeader(status)
}

// counts is what an exporter has counted.
type counts struct {
	mu sync.Mutex
	of map[tracing.Outcome]int
}

func (c *counts) add(o tracing.Outcome, n int) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.of[o] += n
}

func (c *counts) all() map[tracing.Outcome]int {
	c.mu.Lock()
	defer c.mu.Unlock()
	out := map[tracing.Outcome]int{}
	for o, n := range c.of {
		out[o] = n
	}
	return out
}

// lines is a log that is written while it is read.
type lines struct {
	mu   sync.Mutex
	text bytes.Buffer
}

func (l *lines) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.text.Write(p)
}

func (l *lines) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.text.String()
}

// start runs an exporter; stop ends it and returns what it has counted and logged.
func start(t *testing.T, c tracing.Collector) (e *tracing.Exporter, stop func() (map[tracing.Outcome]int, string)) {
	t.Helper()
	log, counted := &lines{}, &counts{of: map[tracing.Outcome]int{}}
	e = tracing.New(tracing.Options{
		Resource: []tracing.Attribute{tracing.Text("service.name", "gancho")}, Version: "1.2.3", Count: counted.add, Logger: zerolog.New(log),
	})
	e.Use(c)
	ctx, cancel := context.WithCancel(context.Background())
	var running sync.WaitGroup
	running.Go(func() { e.Run(ctx) })
	end := sync.OnceFunc(func() {
		cancel()
		running.Wait()
	})
	t.Cleanup(end)
	return e, func() (map[tracing.Outcome]int, string) {
		end()
		return counted.all(), log.String()
	}
}

func span(i int) tracing.Span {
	at := time.Date(2026, 1, 2, 3, 4, 5, 6000, time.UTC)
	id := fmt.Sprintf("event %d", i)
	return tracing.Span{Trace: tracing.TraceOf(id), ID: tracing.SpanOf(id), Name: "pedido.novo", Kind: tracing.Producer, Start: at, End: at.Add(time.Second)}
}

// TestSpan: every field arrives as the official definition has it, with the headers and the path of the specification.
func TestSpan(t *testing.T) {
	t.Parallel()
	c := newCollector(t, nil)
	e, stop := start(t, tracing.Collector{URL: c.URL + "/base", Headers: map[string]string{"Authorization": "Bearer S3NHA"}, Sample: 1})
	s := span(1)
	s.Parent, s.LinkTrace, s.Link = tracing.SpanOf("parent"), tracing.TraceOf("other"), tracing.SpanOf("link")
	s.Attributes = []tracing.Attribute{tracing.Text("gancho.tenant", "loja \xff"), tracing.Int("http.response.status_code", 503)}
	s.Failed = "503"
	backwards := span(2)
	backwards.End = backwards.Start.Add(-time.Hour)
	e.Add(s, backwards)
	got, second := <-c.spans, <-c.spans
	r := <-c.requests
	if r.URL.Path != "/base/v1/traces" || r.Header.Get("Content-Type") != "application/x-protobuf" || r.Header.Get("Authorization") != "Bearer S3NHA" || r.Header.Get("User-Agent") != "Gancho/1.2.3" {
		t.Errorf("%s %v", r.URL.Path, r.Header)
	}
	want := fmt.Sprint(s.Trace[:], s.ID[:], s.Parent[:], "pedido.novo", otlp.Span_SPAN_KIND_PRODUCER, s.Start.UnixNano(), s.End.UnixNano(),
		s.LinkTrace[:], s.Link[:], otlp.Status_STATUS_CODE_ERROR, "503", "gancho.tenant", "loja \uFFFD", "http.response.status_code", 503, 1)
	a, b := got.Attributes[0], got.Attributes[1]
	have := fmt.Sprint(got.TraceId, got.SpanId, got.ParentSpanId, got.Name, got.Kind, got.StartTimeUnixNano, got.EndTimeUnixNano,
		got.Links[0].TraceId, got.Links[0].SpanId, got.Status.Code, got.Status.Message, a.Key, a.Value.GetStringValue(), b.Key, b.Value.GetIntValue(), got.Flags)
	if diff := cmp.Diff(want, have); diff != "" {
		t.Error(diff)
	}
	if second.EndTimeUnixNano != second.StartTimeUnixNano || second.ParentSpanId != nil || second.Status != nil {
		t.Errorf("%v", second)
	}
	counted, log := stop()
	if diff := cmp.Diff(map[tracing.Outcome]int{tracing.Sent: 2}, counted); diff != "" || log != "" {
		t.Error(diff, log)
	}
}

// TestOutage: spans wait for a collector that is overloaded, and arrive once; how long it takes is said once.
func TestOutage(t *testing.T) {
	t.Parallel()
	c := newCollector(t, func(w http.ResponseWriter, n int) {
		if n <= 2 {
			w.Header().Set("Retry-After", "1")
			w.WriteHeader(http.StatusServiceUnavailable)
		}
	})
	e, stop := start(t, tracing.Collector{URL: c.URL, Headers: map[string]string{"X-Key": "S3NHA"}, Sample: 1})
	e.Add(span(1))
	<-c.spans
	counted, log := stop()
	if counted[tracing.Sent] != 1 || counted[tracing.Failed] != 0 || strings.Count(log, "takes no spans") != 1 || strings.Count(log, "takes spans again") != 1 {
		t.Errorf("%v %s", counted, log)
	}
}

// TestRefused: what the collector refuses for good is counted, and the reason is logged without secrets.
func TestRefused(t *testing.T) {
	t.Parallel()
	c := newCollector(t, func(w http.ResponseWriter, _ int) { w.WriteHeader(http.StatusUnauthorized) })
	e, stop := start(t, tracing.Collector{URL: c.URL, Headers: map[string]string{"Authorization": "S3NHA"}, Sample: 1})
	e.Add(span(1))
	<-c.requests
	counted, log := stop()
	if counted[tracing.Failed] != 1 || !strings.Contains(log, "401 Unauthorized; correct tracing.headers") || strings.Contains(log, "S3NHA") {
		t.Errorf("%v %s", counted, log)
	}
	partial := newCollector(t, func(w http.ResponseWriter, _ int) {
		body, _ := proto.Marshal(&v1.ExportTraceServiceResponse{PartialSuccess: &v1.ExportTracePartialSuccess{RejectedSpans: 1, ErrorMessage: "too old"}})
		_, _ = w.Write(body)
	})
	e, stop = start(t, tracing.Collector{URL: partial.URL, Sample: 1})
	e.Add(span(1), span(2))
	<-partial.requests
	if counted, log = stop(); counted[tracing.Failed] != 1 || counted[tracing.Sent] != 1 || !strings.Contains(log, "refused 1 of 2 spans: too old") {
		t.Errorf("%v %s", counted, log)
	}
}

// TestSlow: a collector that does not answer holds up nobody; what finds no room is dropped and counted.
func TestSlow(t *testing.T) {
	t.Parallel()
	arrived, release := make(chan struct{}, 1<<10), make(chan struct{})
	c := newCollector(t, func(http.ResponseWriter, int) {
		arrived <- struct{}{}
		<-release
	})
	e, stop := start(t, tracing.Collector{URL: c.URL, Sample: 1})
	e.Add(span(0))
	<-arrived
	const many = 20_000 // more than there is room for
	for i := range many {
		e.Add(span(i + 1))
	}
	close(release)
	const room = 8192
	for range room + 1 {
		<-c.spans
	}
	counted, _ := stop()
	if diff := cmp.Diff(map[tracing.Outcome]int{tracing.Sent: room + 1, tracing.Dropped: many - room}, counted); diff != "" {
		t.Error(diff)
	}
}

// TestEnd: what waits when the process ends is sent, and a collector that is gone does not keep it from ending.
func TestEnd(t *testing.T) {
	t.Parallel()
	c := newCollector(t, nil)
	e, stop := start(t, tracing.Collector{URL: c.URL, Sample: 1})
	for i := range 700 {
		e.Add(span(i))
	}
	if counted, _ := stop(); counted[tracing.Sent] != 700 {
		t.Errorf("%v", counted)
	}
	gone := newCollector(t, nil)
	e, stop = start(t, tracing.Collector{URL: gone.URL, Sample: 1})
	gone.Close()
	e.Add(span(1))
	if counted, log := stop(); counted[tracing.Failed] != 1 || !strings.Contains(log, "takes no spans") {
		t.Errorf("%v %s", counted, log)
	}
}

// TestUse: another collector gets what comes from then on, and none gets nothing.
func TestUse(t *testing.T) {
	t.Parallel()
	first, second := newCollector(t, nil), newCollector(t, nil)
	e, stop := start(t, tracing.Collector{})
	if _, traced := e.Trace("a"); traced || e.On() {
		t.Error("there is a collector")
	}
	e.Use(tracing.Collector{URL: first.URL, Sample: 1})
	if _, traced := e.Trace("a"); !traced {
		t.Error("there is no collector")
	}
	e.Add(span(1))
	<-first.spans
	e.Use(tracing.Collector{URL: second.URL, Sample: 1})
	e.Add(span(2))
	<-second.spans
	e.Use(tracing.Collector{})
	e.Add(span(3))
	counted, _ := stop()
	if n := counted[tracing.Sent] + counted[tracing.Dropped]; n != 3 || counted[tracing.Dropped] == 0 || len(first.spans)+len(second.spans) > 0 {
		t.Errorf("%v", counted)
	}
}

// TestSample: the share holds, the same events are in it everywhere, and a smaller share is a part of a larger one.
func TestSample(t *testing.T) {
	t.Parallel()
	tenth, third := tracing.New(tracing.Options{}), tracing.New(tracing.Options{})
	tenth.Use(tracing.Collector{URL: "http://x", Sample: .1})
	third.Use(tracing.Collector{URL: "http://x", Sample: .3})
	none := tracing.New(tracing.Options{})
	none.Use(tracing.Collector{URL: "http://x"})
	n := 0
	for i := range 10_000 {
		id := fmt.Sprintf("0a1b2c3d-0001-%016x-0000000000-0000", i)
		t1, in := tenth.Trace(id)
		t2, also := third.Trace(id)
		if in && !also || t1 != t2 {
			t.Fatalf("%s: %v %v", id, in, also)
		}
		if _, in := none.Trace(id); in {
			t.Fatal("a share of 0 has an event")
		}
		if in {
			n++
		}
	}
	if n < 850 || n > 1150 {
		t.Errorf("%d of 10000", n)
	}
}

// TestTraceparent: the header is that of W3C for an id that anybody can compute.
func TestTraceparent(t *testing.T) {
	t.Parallel()
	// printf %s evt | sha256sum
	trace, id := tracing.TraceOf("evt"), tracing.SpanOf("evt")
	text := tracing.Traceparent(trace, id)
	if want := "00-b04f002b6dbff4d1587d0cdcb95c1bc9-b04f002b6dbff4d1-01"; text != want {
		t.Error(text)
	}
	t2, id2, ok := tracing.ParseTraceparent(text)
	if t2 != trace || id2 != id || !ok {
		t.Error(text)
	}
	for _, wrong := range []string{"", "00-zz", strings.Replace(text, "-b0", "-g0", 1), text + "-"} {
		if _, _, ok := tracing.ParseTraceparent(wrong); ok {
			t.Errorf("%q is read", wrong)
		}
	}
}

// TestProbe says why a collector takes nothing, without the address and the headers.
func TestProbe(t *testing.T) {
	t.Parallel()
	well := newCollector(t, nil)
	moved := newCollector(t, func(w http.ResponseWriter, _ int) {
		w.Header().Set("Location", well.URL)
		w.WriteHeader(http.StatusFound)
	})
	gone := newCollector(t, nil)
	gone.Close()
	for url, want := range map[string]string{well.URL: "", moved.URL: "302 Found; redirects are not followed", gone.URL: "refused", "http://h:4317": "gRPC", "ftp://S3NHA": "not the URL of a collector"} {
		c := tracing.Collector{URL: url, Headers: map[string]string{"X-Key": "S3NHA"}}
		err := c.Probe(t.Context(), "1")
		if (err == nil) != (want == "") || err != nil && (!strings.Contains(err.Error(), want) || strings.Contains(err.Error(), "S3NHA")) {
			t.Errorf("%s: %v", url, err)
		}
	}
}

// TestTurnedOff: what waits when there is no collector any more goes to none, also not to the next one, whatever there is of it.
func TestTurnedOff(t *testing.T) {
	t.Parallel()
	down := newCollector(t, func(w http.ResponseWriter, _ int) { w.WriteHeader(http.StatusServiceUnavailable) })
	next := newCollector(t, nil)
	log, dropped := &lines{}, make(chan int, 16)
	e := tracing.New(tracing.Options{Version: "1.2.3", Logger: zerolog.New(log), Count: func(o tracing.Outcome, n int) {
		if o == tracing.Dropped {
			dropped <- n
		}
	}})
	e.Use(tracing.Collector{URL: down.URL, Sample: 1})
	for i := range 700 { // a batch, and some that are fewer
		e.Add(span(i))
	}
	ctx, cancel := context.WithCancel(t.Context())
	var running sync.WaitGroup
	running.Go(func() { e.Run(ctx) })
	defer running.Wait()
	defer cancel()
	<-down.requests
	e.Use(tracing.Collector{})
	drop := func(n int) {
		t.Helper()
		for n > 0 {
			select {
			case some := <-dropped:
				n -= some
			case <-time.After(20 * time.Second):
				t.Fatalf("%d spans wait for another collector", n)
			}
		}
	}
	drop(700)
	for _, n := range []int{600, 1} { // of events that were traced a moment ago
		e.Add(make([]tracing.Span, n)...)
		drop(n)
	}
	e.Use(tracing.Collector{URL: next.URL, Sample: 1})
	e.Add(span(701))
	<-next.spans
	if strings.Contains(log.String(), "takes spans again") || len(next.spans) > 0 {
		t.Errorf("%d old spans were sent; logged\n%s", len(next.spans), log)
	}
}
