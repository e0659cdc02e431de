package endpoint

import (
	"fmt"
	"net/netip"
	"net/url"
	"time"
)

// Defaults of an endpoint, used where its field is zero.
const (
	DefaultConcurrency = 16
	DefaultTimeout     = 15 * time.Second
	DefaultMaxAge      = 72 * time.Hour
	DefaultPauseAfter  = 24 * time.Hour
)

// DefaultRetryRefused is the waiting time before each repeat of a request that
// the receiver has refused as wrong. The caller owns the slice.
func DefaultRetryRefused() []time.Duration {
	return []time.Duration{10 * time.Second, time.Minute, 10 * time.Minute}
}

// DefaultRetry is the waiting time before each repeat after the first failed
// attempt: about two days in ten steps. The caller owns the slice.
func DefaultRetry() []time.Duration {
	return []time.Duration{
		5 * time.Second, 30 * time.Second, 2 * time.Minute, 10 * time.Minute, 30 * time.Minute,
		time.Hour, 3 * time.Hour, 6 * time.Hour, 12 * time.Hour, 24 * time.Hour,
	}
}

// Format is the shape of a request's body.
type Format uint8

// The formats.
const (
	// FormatStandard is the envelope of the Standard Webhooks specification,
	// with the event's own data under "data".
	FormatStandard Format = iota
	// FormatBare is the event's data alone.
	FormatBare
	// FormatCloudEvents is a CloudEvent 1.0 in structured JSON.
	FormatCloudEvents
	// FormatCloudEventsBinary is a CloudEvent 1.0 whose attributes are headers.
	FormatCloudEventsBinary
	// FormatForm is application/x-www-form-urlencoded, nested as PHP reads it: data[a][b]=.
	FormatForm
)

// String returns the format as the configuration spells it.
func (f Format) String() string {
	switch f {
	case FormatBare:
		return "bare"
	case FormatCloudEvents:
		return "cloudevents"
	case FormatCloudEventsBinary:
		return "cloudevents-binary"
	case FormatForm:
		return "form"
	}
	return "standard"
}

// Order says which events of an endpoint wait for which.
type Order uint8

// The orders.
const (
	OrderKey      Order = iota // per ordering key
	OrderEndpoint              // one after the other
	OrderNone                  // no event waits for another
)

// String returns the order as the configuration spells it.
func (o Order) String() string {
	switch o {
	case OrderEndpoint:
		return "endpoint"
	case OrderNone:
		return "none"
	}
	return "key"
}

// State says whether an endpoint gets events.
type State uint8

// The states.
const (
	Active   State = iota // queued and sent
	Paused                // queued, not sent
	Inactive              // nothing queued
)

// String returns the state as the configuration spells it.
func (s State) String() string {
	switch s {
	case Paused:
		return "paused"
	case Inactive:
		return "inactive"
	}
	return "active"
}

// Exhausted says what happens to an event whose last attempt has failed.
type Exhausted uint8

// What may happen to it.
const (
	DeadLetter Exhausted = iota // to the dead letters, and its key goes on
	Block                       // its key waits until somebody acts
	Pause                       // the endpoint is paused
)

// String returns the choice as the configuration spells it.
func (e Exhausted) String() string {
	switch e {
	case Block:
		return "block"
	case Pause:
		return "pause"
	}
	return "dead_letter"
}

// Endpoint is a receiver and how it is to be treated. It does not change once
// it has been handed to a Sender, Router or Dispatcher: a changed endpoint is
// a new value.
type Endpoint struct {
	Name string
	// URL is where events are posted. A user and password in it are sent as
	// Basic authorization.
	URL string
	// Tenants are the tenants whose events it gets, compared as text; none: all.
	Tenants []string
	// Events are names of events, in which * stands for any run of characters;
	// none: all.
	Events []string
	Format Format
	// Extra are fixed fields added to each body (a validationtoken): beside type
	// in standard and form, as extension attributes in the CloudEvents formats,
	// which allow names of lower-case letters and digits. bare has no place for
	// them.
	Extra map[string]string
	// StringNumbers makes every JSON number in data, previous and unchanged a
	// string, for receivers that would read it into a float.
	StringNumbers bool
	// Batch, when Max is above 1, posts lists of events instead of single ones.
	Batch Batching
	// Success says which answers count as delivered; the zero value: any 2xx.
	Success Success
	// Secrets sign each request, the newest first; several, of either kind,
	// while one is being rotated out. None: requests are not signed.
	Secrets []Secret
	// Headers are added to each request.
	Headers map[string]string
	// Concurrency is the most requests in flight; 0: DefaultConcurrency.
	Concurrency int
	Order       Order
	// Timeout covers an attempt from the dial to the end of the answer's body;
	// 0: DefaultTimeout.
	Timeout time.Duration
	// Retry is the wait before each repeat; nil: DefaultRetry. Empty but not
	// nil: no repeats.
	Retry []time.Duration
	// RetryRefused is Retry for answers that say the request itself is wrong:
	// 4xx other than 408, 410, 425 and 429; nil: DefaultRetryRefused.
	RetryRefused []time.Duration
	// MaxAge is how long after its first failed attempt an event is tried again,
	// however many attempts Retry still has; 0: DefaultMaxAge. Time in which the
	// endpoint is paused, or only probed, does not count.
	MaxAge time.Duration
	// PauseAfter is how long every attempt has to have failed, probes included,
	// for the endpoint to be paused, its events kept; 0: DefaultPauseAfter,
	// negative: never.
	PauseAfter time.Duration
	// Rate is the most requests per second; 0: no limit.
	Rate        float64
	State       State
	OnExhausted Exhausted
	// AllowPrivate are the special-purpose networks that this endpoint may be
	// in. All others are refused when the connection is made.
	AllowPrivate []netip.Prefix
	// AllowHTTP accepts a URL without TLS.
	AllowHTTP bool
	// TLS is what the endpoint wants beside the system's trust.
	TLS TLS
	// Proxy is the URL of an HTTP proxy (http://[user:password@]host:port) that
	// connections are made through; empty: none. The guard judges the
	// receiver's address, not the proxy's, which the operator has named.
	Proxy string
}

// Batching makes one request of several events, in commit order: a JSON array
// of what each would be alone. form and cloudevents-binary have no lists. It
// implies OrderEndpoint.
//
// One answer holds for the whole list, which is sent again as it is. A list
// that would be given up, and one that is refused or not to be repeated, is cut
// in halves instead until the event at fault is alone, so that it takes no other
// with it.
type Batching struct {
	// Max is the most events in one request. Large ones make shorter lists: of
	// half of DispatcherOptions.WindowBytes.
	Max int
	// Wait is how long an event that could be sent may wait for others; 0: only
	// what is there.
	Wait time.Duration
	// PerTransaction ends a list with its transaction, as soon as the next one is
	// there. A transaction may still be more than one list.
	PerTransaction bool
}

// Success says which answers count as delivered.
type Success struct {
	// Status are the statuses that do, each from and to inclusive; none: 200 to 299.
	Status [][2]int
	// Body is a regular expression (RE2) that the answer's first 16 KiB have to
	// match besides; empty: any body.
	Body string
}

// TLS is a TLS identity. All fields are PEM; empty ones: the system's CAs, no
// client certificate.
type TLS struct {
	CA               []byte // trusted instead of the system's
	Certificate, Key []byte // shown to the receiver
}

// WithDefaults returns the endpoint with the defaults in place of zero values,
// and the order that its lists leave no choice of.
func (e Endpoint) WithDefaults() Endpoint {
	if e.Concurrency <= 0 {
		e.Concurrency = DefaultConcurrency
	}
	if e.Timeout <= 0 {
		e.Timeout = DefaultTimeout
	}
	if e.Retry == nil {
		e.Retry = DefaultRetry()
	}
	if e.RetryRefused == nil {
		e.RetryRefused = DefaultRetryRefused()
	}
	if e.MaxAge <= 0 {
		e.MaxAge = DefaultMaxAge
	}
	if e.PauseAfter == 0 {
		e.PauseAfter = DefaultPauseAfter
	}
	if e.Batch.Max > 1 {
		e.Order = OrderEndpoint
	}
	if e.Order == OrderEndpoint {
		e.Concurrency = 1
	}
	return e
}

// Target parses the URL. Its error never shows more of it than the scheme,
// because the rest may hold a password or a token.
func (e *Endpoint) Target() (*url.URL, error) {
	u, err := url.Parse(e.URL)
	switch {
	case err != nil:
		return nil, fmt.Errorf("endpoint %q: parse url: it is malformed; write https://host/path", e.Name)
	case u.Scheme == "http" && !e.AllowHTTP:
		return nil, fmt.Errorf("endpoint %q: its url is http, which anybody on the way can read; write https://, or set allow_http: true", e.Name)
	case u.Scheme != "https" && u.Scheme != "http":
		return nil, fmt.Errorf("endpoint %q: its url has scheme %q; write https://host/path", e.Name, u.Scheme)
	case u.Hostname() == "":
		return nil, fmt.Errorf("endpoint %q: its url has no host; write https://host/path", e.Name)
	}
	return u, nil
}
