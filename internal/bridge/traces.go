package bridge

import (
	"context"
	"os"
	"sync"
	"time"

	"gancho/delivery/dispatch"
	"gancho/delivery/webhook"
	"gancho/internal/tracing"
	"gancho/mapping"
)

// traces makes the spans of events. Of an event's trace, the first span, which has the event's name, is from the commit to when the
// event was queued, with one for each half: until its rule was applied, and until Redis had it. Each endpoint has a span from the first
// attempt to the last, and below it one for each attempt. Who captures makes the former, who delivers the latter; none knows of the
// others, because the ids follow from the webhook-id and the endpoint.
type traces struct{ *tracing.Exporter }

// Names of spans, and of what ids are made of.
const (
	spanCapture = "capture"
	spanQueue   = "queue"
	spanDeliver = "deliver"
	spanAttempt = "POST"
)

func newTraces(o *Options, m *metrics) traces {
	resource := []tracing.Attribute{
		tracing.Text("service.name", "gancho"), tracing.Text("service.version", o.Version), tracing.Text("gancho.slot", o.Source.Slot),
		tracing.Int("process.pid", int64(os.Getpid())),
	}
	if host, err := os.Hostname(); err == nil {
		resource = append(resource, tracing.Text("host.name", host))
	}
	return traces{tracing.New(tracing.Options{Resource: resource, Version: o.Version, Count: m.traced, Logger: o.Log})}
}

// begin sends spans until end is called, which is when nobody makes any more.
func (t traces) begin(ctx context.Context) (end func()) {
	ctx, cancel := context.WithCancel(context.WithoutCancel(ctx))
	var running sync.WaitGroup
	running.Go(func() { t.Run(ctx) })
	return func() {
		cancel()
		running.Wait()
	}
}

// tracedEvent is an event that is traced, on its way into Redis.
type tracedEvent struct {
	trace               tracing.TraceID
	id, typ, tenant, op string
	commit, captured    time.Time
}

// mapped returns the event's part of its trace, or false if it is not traced.
func (t traces) mapped(id string, e *mapping.Event) (tracedEvent, bool) {
	trace, traced := t.Trace(id)
	if !traced {
		return tracedEvent{}, false
	}
	return tracedEvent{trace: trace, id: id, typ: e.Type, tenant: string(e.Tenant), op: e.Op.String(), commit: e.Time, captured: time.Now()}, true
}

// queued adds the spans of events that Redis has now.
func (t traces) queued(events []tracedEvent) {
	now := time.Now()
	for i := range events {
		e := &events[i]
		first := e.first(now)
		t.Add(first,
			tracing.Span{Trace: e.trace, ID: tracing.SpanOf(e.id, spanCapture), Parent: first.ID, Name: spanCapture, Kind: tracing.Internal, Start: e.commit, End: e.captured},
			tracing.Span{Trace: e.trace, ID: tracing.SpanOf(e.id, spanQueue), Parent: first.ID, Name: spanQueue, Kind: tracing.Internal, Start: e.captured, End: now})
	}
}

// made adds the first span of an event that time has made, and that Redis has now.
func (t traces) made(m *webhook.Message) {
	if trace, traced := t.Trace(m.ID); traced {
		e := tracedEvent{trace: trace, id: m.ID, typ: m.Type, tenant: m.Tenant, op: m.Op, commit: m.Time}
		t.Add(e.first(time.Now()))
	}
}

// first is the first span of the trace.
func (e *tracedEvent) first(queued time.Time) tracing.Span {
	s := tracing.Span{
		Trace: e.trace, ID: firstSpan(e.id), Name: e.typ, Kind: tracing.Producer, Start: e.commit, End: queued,
		Attributes: eventAttributes(e.id, e.typ, e.tenant),
	}
	if e.op != "" {
		s.Attributes = append(s.Attributes, tracing.Text("gancho.op", e.op))
	}
	return s
}

func firstSpan(webhookID string) tracing.SpanID { return tracing.SpanOf(webhookID, "event") }

// eventAttributes name the event. Its key and its data are row data, and go nowhere but to the receiver.
func eventAttributes(id, typ, tenant string) []tracing.Attribute {
	out := []tracing.Attribute{tracing.Text("gancho.webhook_id", id), tracing.Text("gancho.event", typ)}
	if tenant != "" {
		out = append(out, tracing.Text("gancho.tenant", tenant))
	}
	return out
}

// traceparent is the header of a request: it names the span of the attempt, in the trace of the first of the messages that is traced.
func (t traces) traceparent(ms []*webhook.Message) string {
	for _, m := range ms {
		if trace, traced := t.Trace(m.ID); traced {
			return tracing.Traceparent(trace, tracing.NewSpan())
		}
	}
	return ""
}

// attempt adds the span of an attempt, and after the last one that of the delivery. The dispatcher calls it from many goroutines.
func (t traces) attempt(a dispatch.Attempt) {
	trace, traced := t.Trace(a.Message.ID)
	if !traced {
		return
	}
	id, o := a.Message.ID, &a.Outcome
	delivery := tracing.Span{
		Trace: trace, ID: tracing.SpanOf(id, spanDeliver, a.Endpoint), Parent: firstSpan(id), Name: spanDeliver, Kind: tracing.Internal,
		Start: a.Ended.Add(-o.Duration), End: a.Ended,
	}
	delivery.Attributes = append(eventAttributes(id, a.Message.Type, a.Message.Tenant), tracing.Text("gancho.endpoint", a.Endpoint))
	one := delivery
	one.ID, one.Parent, one.Name, one.Kind = tracing.NewSpan(), delivery.ID, spanAttempt, tracing.Client
	// A request with several events is in the trace of one of them, and the others' spans link to it.
	if sent, span, ok := tracing.ParseTraceparent(o.Traceparent); ok && sent == trace {
		one.ID = span
	} else if ok {
		one.LinkTrace, one.Link = sent, span
	}
	one.Attributes = append(one.Attributes[:len(one.Attributes):len(one.Attributes)],
		tracing.Text("gancho.outcome", o.Kind.String()), tracing.Int("gancho.attempt", int64(a.Number)), tracing.Text("http.request.method", "POST"))
	if o.Status != 0 {
		one.Attributes = append(one.Attributes, tracing.Int("http.response.status_code", int64(o.Status)))
	}
	if a.List > 1 {
		one.Attributes = append(one.Attributes, tracing.Int("gancho.list_events", int64(a.List)))
	}
	if o.Kind != webhook.Delivered {
		one.Attributes = append(one.Attributes, tracing.Text("error.type", o.Class))
		one.Failed = failedText(o)
	}
	if a.Message.Replay { // somebody has asked for it, and it may happen many times
		one.Parent = firstSpan(id)
		one.Attributes = append(one.Attributes, tracing.Text("gancho.replay", "true"))
		t.Add(one)
		return
	}
	if o.Kind != webhook.Delivered && !a.Dead {
		t.Add(one)
		return
	}
	if !a.First.IsZero() && a.First.Before(delivery.Start) {
		delivery.Start = a.First
	}
	outcome := o.Kind.String()
	if a.Dead {
		outcome, delivery.Failed = "dead", failedText(o)
	}
	delivery.Attributes = append(delivery.Attributes, tracing.Text("gancho.outcome", outcome), tracing.Int("gancho.attempts", int64(a.Number)))
	t.Add(one, delivery)
}

// failedText is why an attempt has failed: an outcome's error holds an origin, and of what was answered only the number that a group of Telegram has moved to.
func failedText(o *webhook.Outcome) string {
	if o.Err != nil {
		return o.Err.Error()
	}
	return o.Class
}
