package doctor

import (
	"context"

	"gancho/cdc"
)

// collector asks the collector whether it takes spans. That it does not is no problem: it costs no event and holds up no delivery.
func (x *examination) collector(ctx context.Context) {
	if !x.Collector.On() {
		return
	}
	if err := x.Collector.Probe(ctx, x.Version); err != nil {
		x.add(cdc.Finding{
			ID: "tracing.collector", Severity: cdc.SeverityWarning, Where: "tracing", Title: "the collector takes no spans: " + oneLine(err),
			Why: "traces are lost; deliveries do not depend on it", Remedy: "check tracing.otlp and tracing.headers, and that the collector has a receiver for OTLP over HTTP (port 4318)",
		})
		return
	}
	x.say(cdc.SeverityOK, "tracing.collector", "tracing", "the collector takes spans")
}
