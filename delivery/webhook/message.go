package webhook

import "time"

// Message is one event on its way to one endpoint.
type Message struct {
	// ID is the webhook-id: the same over every attempt, restart and resend.
	ID string `json:"webhook_id"`
	// Type is the event's name.
	Type string `json:"event"`
	// Title is what people call such events, for messages to them; empty: Type. It is not
	// queued: the rules have it.
	Title string `json:"-"`
	// Tenant is empty when the rule has none.
	Tenant string `json:"tenant,omitempty"`
	// Key is the ordering key within the tenant. It is not sent.
	Key string `json:"key,omitempty"`
	// Time is the commit's, or when a timer was due.
	Time time.Time `json:"committed"`
	// Sequence rises with commit order; a receiver compares it as text.
	Sequence string `json:"sequence,omitempty"`
	// Op is that of [cdc.Op]: insert, update, delete or truncate, read for a row that was there already, timer or
	// schedule for one that was read at a time; empty for events that are of no row.
	Op string `json:"op,omitempty"`
	// Late is how many whole seconds after Time, when it was due, an event of a timer was queued.
	Late int64 `json:"late,omitempty"`
	// Data is a JSON value, Previous an object or nil, Unchanged an array or nil.
	Data      []byte `json:"-"`
	Previous  []byte `json:"-"`
	Unchanged []byte `json:"-"`
	// Errors is an array or nil.
	Errors []byte `json:"-"`
	// Change is what the event was made of, encrypted; nil: it is not kept. It is not sent.
	Change []byte `json:"-"`
	// Tags are what the event is found by, each name=value. They are not sent.
	Tags []string `json:"tags,omitempty"`
	// Version identifies the rule's text. It is not sent.
	Version string `json:"rule_version,omitempty"`
	// Replay: it is sent again on demand, with webhook-replay: true.
	Replay bool `json:"-"`
}

// SourceDigits is how many hexadecimal digits, at its beginning, name the source
// in the webhook-id of an event of the WAL.
const SourceDigits = 8

// The Ops of events that time has made. That of a timer says when it was due.
const (
	OpTimer    = "timer"
	OpSchedule = "schedule"
)

// OfTime reports whether time has made the event, and no change. It came through the side stream when it was sent first.
func (m *Message) OfTime() bool { return m.Op == OpTimer || m.Op == OpSchedule }

// OutcomeKind is what an attempt means for its message.
type OutcomeKind uint8

// The kinds of outcomes.
const (
	Delivered OutcomeKind = iota + 1 // done
	Retry                            // to be retried
	Gone                             // 410: the receiver wants nothing more
	Refused                          // to be retried a few times: the answer says that the request itself is wrong, or that of its login
)

// String returns the kind in lower case, for logs.
func (k OutcomeKind) String() string {
	return [...]string{"unknown", "delivered", "retry", "gone", "refused"}[k]
}

// The classes of outcomes: a fixed set, fit for a metric's label.
const (
	ClassOK         = "ok"              // what counts as delivered, and the whole answer was read
	ClassStatus     = "status"          // any other status; Outcome.Status says which
	ClassBody       = "body"            // a status of success, and a body that is not
	ClassTimeout    = "timeout"         // the endpoint's timeout
	ClassDNS        = "dns"             // the name did not resolve
	ClassRefused    = "refused_address" // the guard refused the resolved address
	ClassConnection = "connection"      // refused, reset, cut
	ClassTLS        = "tls"             // handshake or certificate
	ClassProxy      = "proxy"           // the endpoint's proxy: not reached, or it refused
	ClassProtocol   = "protocol"        // what came back is not HTTP
	ClassLogin      = "login"           // no access token; nothing was sent
	ClassConfig     = "config"          // the endpoint cannot be used as it is set; nothing was sent
	ClassCanceled   = "canceled"        // the caller's context ended; says nothing about the endpoint
)

// Outcome is how one attempt ended.
type Outcome struct {
	Kind OutcomeKind
	// Status is the HTTP status, 0 when none arrived.
	Status int
	// Err is nil when delivered. Its text holds neither the URL's path, query
	// and user nor anything of a body, so it may be logged and stored.
	Err error
	// Class is one of the Class constants.
	Class string
	// RetryAfter is what a 429 or 503 asked for, at most 24 hours; 0: nothing.
	RetryAfter time.Duration
	// Wish is what the answer's header webhook-delivery asked for.
	Wish Wish
	// Answer is the start of the answer's body, at most 16 KiB. It may hold
	// what the receiver echoed: show it to people who may see row data only.
	Answer []byte
	// Duration is from the call to the end of the answer.
	Duration time.Duration
	// Detail is a Detail as JSON; nil: Options.Keep says that there is none.
	Detail []byte
	// Traceparent is the header that was sent, empty if none was.
	Traceparent string
}

// Wish is what a receiver asks for beside its status, in the header
// webhook-delivery.
type Wish uint8

// The wishes.
const (
	WishNone  Wish = iota
	WishPause      // pause: send nothing more until somebody resumes the endpoint
	WishAbort      // abort: do not retry this event, if it failed
)
