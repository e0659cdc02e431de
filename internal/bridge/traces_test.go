package bridge_test

import (
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"slices"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	v1 "go.opentelemetry.io/proto/slim/otlp/collector/trace/v1"
	otlp "go.opentelemetry.io/proto/slim/otlp/trace/v1"
	"google.golang.org/protobuf/proto"

	"gancho/delivery/dispatch"
	"gancho/delivery/webhook"
	"gancho/internal/bridge"
	"gancho/internal/tracing"
)

// TestAttemptSpans: the last attempt ends the delivery, which began with the first that failed; of a list, one event's span is what
// traceparent names, and the others' link to it; what somebody asked for again belongs to the event itself.
func TestAttemptSpans(t *testing.T) {
	t.Parallel()
	spans := make(chan *otlp.Span, 100)
	collector := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		body, err := io.ReadAll(r.Body)
		request := &v1.ExportTraceServiceRequest{}
		if err != nil || proto.Unmarshal(body, request) != nil {
			t.Error("the request is not OTLP")
			return
		}
		for _, s := range request.ResourceSpans[0].ScopeSpans[0].Spans {
			spans <- s
		}
	}))
	defer collector.Close()
	traces := bridge.NewTraces(t.Context(), collector.URL)
	now := time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)
	one, two, again := &webhook.Message{ID: "one", Type: "a"}, &webhook.Message{ID: "two", Type: "a"}, &webhook.Message{ID: "again", Type: "a", Replay: true}
	header := traces.Traceparent(one, two)
	for _, m := range []*webhook.Message{one, two} {
		traces.Attempt(dispatch.Attempt{
			Endpoint: "crm", Message: m, Number: 3, Ended: now, First: now.Add(-time.Hour), Dead: true, List: 2,
			Outcome: webhook.Outcome{Kind: webhook.Retry, Class: webhook.ClassTimeout, Err: errors.New("no answer"), Duration: time.Second, Traceparent: header},
		})
	}
	traces.Attempt(dispatch.Attempt{Endpoint: "crm", Message: again, Number: 1, Ended: now, List: 1, Outcome: webhook.Outcome{Kind: webhook.Delivered, Status: 200, Duration: time.Second}})
	traces.Flush()
	close(spans)
	names := map[string]string{}
	for _, id := range []string{"one", "two", "again"} {
		trace := tracing.TraceOf(id)
		names[hex.EncodeToString(trace[:])] = id
		for _, about := range []string{"event", "deliver\x00crm"} {
			span := tracing.SpanOf(id, about)
			names[hex.EncodeToString(span[:])] = about[:5]
		}
	}
	_, sent, _ := tracing.ParseTraceparent(header)
	names[hex.EncodeToString(sent[:])] = "sent"
	var got []string
	for s := range spans {
		line := fmt.Sprintf("%s %s below %s for %s", names[hex.EncodeToString(s.TraceId)], s.Name, names[hex.EncodeToString(s.ParentSpanId)], time.Duration(s.EndTimeUnixNano-s.StartTimeUnixNano))
		if id := names[hex.EncodeToString(s.SpanId)]; id != "" {
			line += " id " + id
		}
		for _, l := range s.Links {
			line += " link " + names[hex.EncodeToString(l.TraceId)] + " " + names[hex.EncodeToString(l.SpanId)]
		}
		if s.Status != nil {
			line += " " + s.Status.Message
		}
		got = append(got, line)
	}
	slices.Sort(got)
	want := []string{
		"again POST below event for 1s",
		"one POST below deliv for 1s id sent no answer", "one deliver below event for 1h0m0s id deliv no answer",
		"two POST below deliv for 1s link one sent no answer", "two deliver below event for 1h0m0s id deliv no answer",
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
}
