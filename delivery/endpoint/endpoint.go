package endpoint

import (
	"cmp"
	"net/netip"
	"reflect"
	"slices"
	"time"
)

// Defaults of an endpoint. WithDefaults puts them where a field is zero.
const (
	DefaultConcurrency = 16
	DefaultTimeout     = 15 * time.Second
	DefaultMaxAge      = 72 * time.Hour
	DefaultPauseAfter  = 24 * time.Hour
)

// The schedules that endpoints without their own share: thousands have the same. They are not changed.
var (
	defaultRetry = []time.Duration{
		5 * time.Second, 30 * time.Second, 2 * time.Minute, 10 * time.Minute, 30 * time.Minute,
		time.Hour, 3 * time.Hour, 6 * time.Hour, 12 * time.Hour, 24 * time.Hour,
	}
	defaultRetryRefused = []time.Duration{10 * time.Second, time.Minute, 10 * time.Minute}
)

// DefaultRetry is the wait before each retry: about two days in ten steps. The
// caller owns the slice.
func DefaultRetry() []time.Duration { return slices.Clone(defaultRetry) }

// DefaultRetryRefused is the wait before each retry of a request that the
// receiver has refused as wrong. The caller owns the slice.
func DefaultRetryRefused() []time.Duration { return slices.Clone(defaultRetryRefused) }

// Bounds of a document's settings. Endpoints built in code keep to maxBatch
// only: tests want shorter waits.
const (
	maxName        = 63
	maxHeaderName  = 200 // bytes
	maxExtraName   = 200 // bytes
	maxAttribute   = 20  // characters in the name of a CloudEvents attribute
	maxBatch       = 1000
	maxBatchWait   = 5 * time.Minute
	minStatus      = 100
	maxStatus      = 599
	maxConcurrency = 1000
	minTimeout     = 100 * time.Millisecond
	maxTimeout     = 5 * time.Minute
	minRetryWait   = 10 * time.Millisecond
	maxRetryWait   = 30 * 24 * time.Hour
	maxRetries     = 50
	minAge         = time.Second
	maxAge         = 365 * 24 * time.Hour
	minKey         = 24      // bytes; the Standard Webhooks specification's
	maxPEM         = 1 << 20 // bytes in a file with certificates or a key
	maxPattern     = 1000    // bytes
	maxPatternSize = 1000    // steps of the compiled pattern: each byte of an answer may take them all
	maxReach       = 16 << 10
	maxContentType = 200 // bytes
	// maxPatternWork bounds what an answer costs, in steps: some ten milliseconds.
	maxPatternWork = 100 * maxReach
)

// MaxKeys is how many keys may sign for an endpoint: with each, a request is signed
// and its header grows.
const MaxKeys = 5

// Format is the shape of a request's body.
type Format uint8

// The formats.
const (
	// FormatStandard is the envelope of the Standard Webhooks specification,
	// with the event's own data under "data".
	FormatStandard Format = iota
	// FormatCloudEvents is a CloudEvent 1.0 in structured JSON.
	FormatCloudEvents
	// FormatCloudEventsBinary is a CloudEvent 1.0 whose attributes are headers.
	FormatCloudEventsBinary
	// FormatBare is the event's data alone.
	FormatBare
	// FormatForm is application/x-www-form-urlencoded, nested as PHP reads it: data[a][b]=.
	FormatForm
	// FormatChat is a message for people, as the service of the endpoint's style takes it. It
	// comes with the style, not with format.
	FormatChat
)

var formatNames = []string{"standard", "cloudevents", "cloudevents-binary", "bare", "form", "chat"}

// String returns the format as the configuration spells it.
func (f Format) String() string { return formatNames[f] }

// HasLists reports whether a request of the format can hold several events.
func (f Format) HasLists() bool {
	return f != FormatForm && f != FormatCloudEventsBinary && f != FormatChat
}

func (f Format) isCloudEvents() bool { return f == FormatCloudEvents || f == FormatCloudEventsBinary }

// Order says which events of an endpoint wait for which.
type Order uint8

// The orders.
const (
	OrderKey      Order = iota // per ordering key
	OrderEndpoint              // one after the other
	OrderNone                  // no event waits for another
)

var orderNames = []string{"key", "endpoint", "none"}

// String returns the order as the configuration spells it.
func (o Order) String() string { return orderNames[o] }

// State says whether an endpoint gets events.
type State uint8

// The states.
const (
	Active   State = iota // queued and sent
	Paused                // queued, not sent
	Inactive              // nothing queued
)

var stateNames = []string{"active", "paused", "inactive"}

// String returns the state as the configuration spells it.
func (s State) String() string { return stateNames[s] }

// Exhausted says what happens to an event whose last attempt has failed.
type Exhausted uint8

// What may happen to it.
const (
	DeadLetter Exhausted = iota // it becomes a dead letter, and its key continues
	Block                       // its key waits until somebody acts
	Pause                       // the endpoint is paused
)

var exhaustedNames = []string{"dead_letter", "block", "pause"}

// String returns the choice as the configuration spells it.
func (e Exhausted) String() string { return exhaustedNames[e] }

// Endpoint is a receiver and how it is treated. It does not change once it is
// in use: a changed endpoint is a new value, so that all parts of a process share one.
type Endpoint struct {
	// Name identifies the endpoint's queue: another name is another queue.
	Name string
	// URL is where events are posted. A user and password in it, which documents
	// may not have, are sent as Basic authorization.
	URL string
	// Tenants are the tenants whose events it receives, compared as text; none: all.
	Tenants []string
	// Sources are names of the databases whose events it receives, where one bridge reads several; * stands for any run of characters; none: all.
	Sources []string
	// Events are names of events, in which * stands for any run of characters;
	// none: all.
	Events []string
	// Style is the name of a kind of receivers whose settings were the
	// defaults of Format, Success, Rate and NoStandard: one of Styles, or empty.
	Style string
	// Fields are the paths in data, with points between their keys, that a message for a chat
	// shows; none: the first ten texts, numbers and truth values of data.
	Fields []string
	// Extra are fixed fields added to each body (a validationtoken): beside type
	// in standard and form, as extension attributes in the CloudEvents formats,
	// which allow names of lower-case letters and digits. bare has no place for
	// them.
	Extra map[string]Hidden
	// Batch, when Max is above 1, posts lists of events instead of single ones.
	Batch Batching
	// Success says which answers count as delivered; the zero value: any 2xx.
	Success Success
	// Secrets sign each request, the newest first; several, of either kind,
	// while one is being rotated out. None: requests are not signed.
	Secrets []Secret
	// Signatures are made with the HMAC secrets beside the standard one.
	Signatures []Signature
	// Headers are added to each request. Their values, and the URL's query, are templates:
	// TemplateNames are what they can name.
	Headers Headers
	// ContentType takes the place of the format's; empty: that.
	ContentType string
	// Auth authorizes requests in the header Authorization.
	Auth Auth
	// Concurrency is the most requests in flight; 0: DefaultConcurrency.
	// OrderEndpoint has one in flight, whatever it says.
	Concurrency int
	// Timeout covers an attempt from the dial to the end of the answer's body;
	// 0: DefaultTimeout.
	Timeout time.Duration
	// Retry is the wait before each retry; nil: DefaultRetry. Empty but not
	// nil: no retries.
	Retry []time.Duration
	// RetryRefused is Retry for answers that say the request itself is wrong:
	// 4xx other than 408, 410, 425 and 429; nil: DefaultRetryRefused.
	RetryRefused []time.Duration
	// MaxAge is how long after its first failed attempt an event is retried,
	// however many attempts Retry still has; 0: DefaultMaxAge. Time in which the
	// endpoint is paused, only probed, or delivered by no process, does not count.
	MaxAge time.Duration
	// PauseAfter is how long every attempt has to have failed, probes included,
	// for the endpoint to be paused, its events kept; 0: DefaultPauseAfter,
	// negative: never. Time in which no process delivers does not count.
	PauseAfter time.Duration
	// Rate is the most requests per second; 0: no limit.
	Rate float64
	// Closing is when it is sent what belongs to the day before.
	Closing Closing
	// AllowPrivate are the special-purpose networks that this endpoint may be
	// in. All others are refused when the connection is made.
	AllowPrivate []netip.Prefix
	// TLS is what the endpoint wants beside the system's trust.
	TLS TLS
	// Proxy is the URL of an HTTP proxy (http://[user:password@]host:port) that
	// connections are made through; empty: none. The guard judges the
	// receiver's address, not the proxy's, which the operator has named.
	Proxy Hidden

	// What takes a byte, together, because there may be ten thousand endpoints.

	Format      Format
	Order       Order
	State       State
	OnExhausted Exhausted
	// Compact leaves out what is not news any more: of a key's events of one name that wait, only the newest is
	// sent, and the others are superseded. It is for receivers of states, not of histories; what CheckCompact
	// refuses contradicts it.
	Compact bool
	// NoStandard leaves out the standard signature and the headers of Standard Webhooks.
	NoStandard bool
	// StringNumbers makes every JSON number in data, previous and unchanged a
	// string, for receivers that would read it into a float.
	StringNumbers bool
	// AllowHTTP accepts a URL without TLS.
	AllowHTTP bool
	// HTTP1 sends requests over HTTP/1.1 only, for receivers that offer HTTP/2 and
	// cannot take them over it.
	HTTP1 bool
}

// Batching makes one request of several events, in commit order: a JSON array
// of what each would be alone. form and cloudevents-binary have no lists. It
// implies OrderEndpoint.
//
// One answer holds for the whole list, which is sent again as it is. A list
// that would become a dead letter, and one that is refused or not to be
// retried, is cut in halves instead until the event at fault is alone, so that
// it takes no other with it.
type Batching struct {
	// Max is the most events in one request; 0 and 1: no lists. Large events make
	// shorter lists: of half of the dispatcher's Options.WindowBytes.
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
	// Body is a regular expression (RE2) that the beginning of the answer, see Reach, has
	// to match besides; empty: any body.
	Body string
}

// TLS is what an endpoint wants beside the system's trust, as PEM texts. Empty
// ones: the system's CAs, no client certificate.
type TLS struct {
	CA          string // trusted instead of the system's
	Certificate string // shown to the receiver
	Key         Hidden // of the certificate
}

// WithDefaults returns the endpoint with its defaults in place of zero values,
// and the order that lists leave no choice of. Documents are decoded by it, and
// endpoints that were built in code get their defaults from it when they are
// used.
func (e Endpoint) WithDefaults() Endpoint {
	e.Concurrency = cmp.Or(max(e.Concurrency, 0), DefaultConcurrency)
	e.Timeout = cmp.Or(max(e.Timeout, 0), DefaultTimeout)
	e.MaxAge = cmp.Or(max(e.MaxAge, 0), DefaultMaxAge)
	e.PauseAfter = cmp.Or(e.PauseAfter, DefaultPauseAfter)
	if e.Retry == nil {
		e.Retry = defaultRetry
	}
	if e.RetryRefused == nil {
		e.RetryRefused = defaultRetryRefused
	}
	if e.Batch.Max > 1 {
		e.Order = OrderEndpoint
	}
	return e
}

// Completed is WithDefaults of an endpoint that is in use: it returns the endpoint itself when it has its defaults.
func (e *Endpoint) Completed() *Endpoint {
	full := e.WithDefaults()
	missing := e.Retry == nil || e.RetryRefused == nil || e.Concurrency != full.Concurrency || e.Timeout != full.Timeout ||
		e.MaxAge != full.MaxAge || e.PauseAfter != full.PauseAfter || e.Order != full.Order
	if !missing {
		return e
	}
	completed := full // only what is returned is to be on the heap
	return &completed
}

// InFlight is the most requests in flight of an endpoint that has its defaults: Concurrency, or one with OrderEndpoint.
func (e *Endpoint) InFlight() int {
	if e.Order == OrderEndpoint {
		return 1
	}
	return e.Concurrency
}

// Equal reports whether both have the same settings, name and state included.
func (e *Endpoint) Equal(o *Endpoint) bool { return e == o || reflect.DeepEqual(e, o) }

// Reuse puts endpoints of a former list in the place of those that are equal to them, so that whoever knows an endpoint by its
// address knows it still, and what thousands of endpoints take is there once.
func Reuse(now, former []*Endpoint) {
	known := make(map[string]*Endpoint, len(former))
	for _, e := range former {
		known[e.Name] = e
	}
	for i, e := range now {
		if k := known[e.Name]; k != nil && k.Equal(e) {
			now[i] = k
		}
	}
}
