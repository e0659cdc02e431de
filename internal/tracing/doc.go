// Package tracing sends spans to a collector of OpenTelemetry, over OTLP/HTTP with protobuf.
//
// A trace belongs to one event: its id is made of the webhook-id, so that every process, retry and resend
// adds to the same trace without knowing of the others. Whether an event is traced follows from that id,
// too. The ids of spans that may be made twice, after a restart or a rewind, are made of what they are about.
//
// Tracing may lose spans and never holds anything up: [Exporter.Add] puts a span into a bounded queue, or
// drops and counts it when that is full. The exporter owns the goroutine of its Run and the connections to
// the collector. Values of the headers appear in no error and no log.
//
// The official SDK (go.opentelemetry.io/otel) was measured and left out: its spans are those of the code that
// runs, not of an event that processes share, and its exporter links gRPC.
package tracing
