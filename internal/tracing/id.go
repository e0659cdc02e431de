package tracing

import (
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"math"
	"math/rand/v2"
	"strings"
)

// TraceID names a trace.
type TraceID [16]byte

// SpanID names a span within a trace; zero: there is none.
type SpanID [8]byte

// TraceOf returns the id of an event's trace: the first 16 bytes of the SHA-256 of its webhook-id.
func TraceOf(webhookID string) TraceID {
	sum := sha256.Sum256([]byte(webhookID))
	return TraceID(sum[:16])
}

// SpanOf returns the id of the span that these texts are about, the same each time.
func SpanOf(about ...string) SpanID {
	sum := sha256.Sum256([]byte(strings.Join(about, "\x00")))
	return SpanID(sum[:8])
}

// NewSpan returns an id that no other span has.
func NewSpan() (id SpanID) {
	for id == (SpanID{}) {
		binary.BigEndian.PutUint64(id[:], rand.Uint64())
	}
	return id
}

// sampled reports whether a trace is among the share of all, from 0 to 1. It is the rule of OpenTelemetry's
// TraceIdRatioBased as its SDKs have it, so that a receiver with the same share keeps the same traces.
func (t TraceID) sampled(share float64) bool {
	if share >= 1 {
		return true
	}
	return binary.BigEndian.Uint64(t[8:])>>1 < uint64(share*math.MaxInt64)
}

// Traceparent returns the value of the header of this name: https://www.w3.org/TR/trace-context/#traceparent-header
func Traceparent(t TraceID, s SpanID) string {
	b := make([]byte, 0, len("00-")+2*len(t)+1+2*len(s)+len("-01"))
	b = hex.AppendEncode(append(b, "00-"...), t[:])
	b = hex.AppendEncode(append(b, '-'), s[:])
	return string(append(b, "-01"...))
}

// ParseTraceparent reads what Traceparent has written.
func ParseTraceparent(text string) (t TraceID, s SpanID, ok bool) {
	parts := strings.Split(text, "-")
	if len(parts) != 4 || len(parts[1]) != 2*len(t) || len(parts[2]) != 2*len(s) {
		return TraceID{}, SpanID{}, false
	}
	_, err := hex.Decode(t[:], []byte(parts[1]))
	_, wrong := hex.Decode(s[:], []byte(parts[2]))
	return t, s, err == nil && wrong == nil
}
