package tracing

import (
	"strings"
	"unicode/utf8"

	"google.golang.org/protobuf/encoding/protowire"
)

// The numbers of the fields that are written:
// https://github.com/open-telemetry/opentelemetry-proto/blob/v1.7.0/opentelemetry/proto/trace/v1/trace.proto
const (
	requestResourceSpans = 1

	resourceSpansResource = 1
	resourceSpansScope    = 2
	resourceAttributes    = 1
	scopeSpansScope       = 1
	scopeSpansSpans       = 2
	scopeName             = 1
	scopeVersion          = 2

	spanTrace      = 1
	spanID         = 2
	spanParent     = 4
	spanName       = 5
	spanKind       = 6
	spanStart      = 7
	spanEnd        = 8
	spanAttributes = 9
	spanLinks      = 13
	spanStatus     = 15
	spanFlags      = 16

	linkTrace = 1
	linkSpan  = 2

	statusMessage = 2
	statusCode    = 3
	statusError   = 2

	keyValueKey   = 1
	keyValueValue = 2
	anyString     = 1
	anyInt        = 3

	responsePartial = 1
	partialRejected = 1
	partialMessage  = 2

	// flagSampled is that of W3C, which the low byte of a span's flags has.
	flagSampled = 1
)

// appendRequest appends an ExportTraceServiceRequest of these spans, which one resource has made.
func appendRequest(dst []byte, resource []Attribute, version string, spans []Span) []byte {
	var described []byte
	for _, a := range resource {
		described = appendBytes(described, resourceAttributes, a.appendTo(nil))
	}
	scope := appendText(nil, scopeName, "gancho")
	scope = appendText(scope, scopeVersion, version)
	scoped := appendBytes(nil, scopeSpansScope, scope)
	var span []byte
	for i := range spans {
		span = spans[i].appendTo(span[:0])
		scoped = appendBytes(scoped, scopeSpansSpans, span)
	}
	all := appendBytes(nil, resourceSpansResource, described)
	all = appendBytes(all, resourceSpansScope, scoped)
	return appendBytes(dst, requestResourceSpans, all)
}

func (s *Span) appendTo(b []byte) []byte {
	b = appendBytes(b, spanTrace, s.Trace[:])
	b = appendBytes(b, spanID, s.ID[:])
	if s.Parent != (SpanID{}) {
		b = appendBytes(b, spanParent, s.Parent[:])
	}
	b = appendText(b, spanName, s.Name)
	b = appendVarint(b, spanKind, uint64(s.Kind))
	// A clock that differs from the database's is no reason to have a span end before it begins.
	end := s.End
	if end.Before(s.Start) {
		end = s.Start
	}
	b = appendFixed64(b, spanStart, uint64(s.Start.UnixNano()))
	b = appendFixed64(b, spanEnd, uint64(end.UnixNano()))
	for _, a := range s.Attributes {
		b = appendBytes(b, spanAttributes, a.appendTo(nil))
	}
	if s.Link != (SpanID{}) {
		link := appendBytes(nil, linkTrace, s.LinkTrace[:])
		b = appendBytes(b, spanLinks, appendBytes(link, linkSpan, s.Link[:]))
	}
	if s.Failed != "" {
		status := appendText(nil, statusMessage, s.Failed)
		b = appendBytes(b, spanStatus, appendVarint(status, statusCode, statusError))
	}
	return protowire.AppendFixed32(protowire.AppendTag(b, spanFlags, protowire.Fixed32Type), flagSampled)
}

func (a Attribute) appendTo(b []byte) []byte {
	b = appendText(b, keyValueKey, a.Name)
	if a.Text == "" {
		return appendBytes(b, keyValueValue, appendVarint(nil, anyInt, uint64(a.Int)))
	}
	return appendBytes(b, keyValueValue, appendText(nil, anyString, a.Text))
}

func appendBytes(b []byte, field protowire.Number, v []byte) []byte {
	return protowire.AppendBytes(protowire.AppendTag(b, field, protowire.BytesType), v)
}

// appendText writes valid UTF-8: a collector refuses the whole request otherwise.
func appendText(b []byte, field protowire.Number, v string) []byte {
	if !utf8.ValidString(v) {
		v = strings.ToValidUTF8(v, "\uFFFD")
	}
	return protowire.AppendString(protowire.AppendTag(b, field, protowire.BytesType), v)
}

func appendVarint(b []byte, field protowire.Number, v uint64) []byte {
	return protowire.AppendVarint(protowire.AppendTag(b, field, protowire.VarintType), v)
}

func appendFixed64(b []byte, field protowire.Number, v uint64) []byte {
	return protowire.AppendFixed64(protowire.AppendTag(b, field, protowire.Fixed64Type), v)
}

// rejected reads how many spans a collector that answered 200 has refused, and why. What cannot be read says nothing.
func rejected(response []byte) (n int64, why string) {
	partial, _ := field(response, responsePartial)
	message, _ := field(partial, partialMessage)
	_, n = field(partial, partialRejected)
	return n, string(message)
}

// field returns the last value of a field of a message, as bytes or as a number.
func field(message []byte, wanted protowire.Number) (text []byte, number int64) {
	for len(message) > 0 {
		at, kind, n := protowire.ConsumeTag(message)
		if n < 0 {
			return nil, 0
		}
		message = message[n:]
		if n = protowire.ConsumeFieldValue(at, kind, message); n < 0 {
			return nil, 0
		}
		if at == wanted {
			switch kind {
			case protowire.BytesType:
				text, _ = protowire.ConsumeBytes(message)
			case protowire.VarintType:
				v, _ := protowire.ConsumeVarint(message)
				number = int64(v)
			}
		}
		message = message[n:]
	}
	return text, number
}
