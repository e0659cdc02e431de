package tracing

import "time"

// Kind is a span's, with OTLP's numbers.
type Kind int

// The kinds that events have.
const (
	Internal Kind = 1
	Client   Kind = 3
	Producer Kind = 4
)

// Span is one step of an event's way. It is not changed once it was added.
type Span struct {
	Trace  TraceID
	ID     SpanID
	Parent SpanID // zero: it is the first of its trace
	// Link is a span of another trace that this one has to do with; zero: there is none.
	LinkTrace  TraceID
	Link       SpanID
	Name       string
	Kind       Kind
	Start, End time.Time
	Attributes []Attribute
	// Failed is what went wrong, for people; empty: nothing.
	Failed string
}

// Attribute is a text, or, where that is empty, a number.
type Attribute struct {
	Name string
	Text string
	Int  int64
}

// Text returns an attribute with a text.
func Text(name, value string) Attribute { return Attribute{Name: name, Text: value} }

// Int returns an attribute with a number.
func Int(name string, value int64) Attribute { return Attribute{Name: name, Int: value} }
