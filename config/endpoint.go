package config

import (
	"net/netip"
	"path/filepath"
	"strings"
	"time"

	"gancho/internal/strictyaml"
)

// Bounds of an endpoint's settings.
const (
	maxConcurrency = 1000
	minTimeout     = 100 * time.Millisecond
	maxTimeout     = 5 * time.Minute
	minWait        = 10 * time.Millisecond
	maxWait        = 30 * 24 * time.Hour
	maxRetries     = 50
	minAge         = time.Second
	maxAge         = 365 * 24 * time.Hour
	maxBatch       = 1000
	maxBatchWait   = 5 * time.Minute
	// minSecret is the least that the Standard Webhooks specification allows.
	minSecret = 24
)

// Endpoint is one receiver of events.
type Endpoint struct {
	// Line is where the file begins it.
	Line int
	// Name identifies the endpoint's queue: another name is another queue.
	Name string
	URL  string
	// Tenants are the tenants whose events it receives; empty: all.
	Tenants []string
	// Events are patterns of event names, in which * stands for any text; empty: all.
	Events []string
	// Secrets sign each request, the newest first.
	Secrets []Secret
	// Headers are added to each request.
	Headers map[string]Secret
	// Style is the name of a kind of receivers whose settings are the defaults:
	// superlogica, or empty.
	Style   string
	Format  string            // standard, cloudevents, cloudevents-binary, bare or form
	Extra   map[string]Secret // fixed fields of each body
	Numbers string            // exact or string
	Batch   Batch
	Success Success
	Order   string // key, endpoint or none
	State   string // active, paused or inactive
	// OnExhausted is what becomes of an event that was given up: dead_letter,
	// block or pause.
	OnExhausted string
	// Concurrency is the number of requests in flight at once.
	Concurrency int
	// Timeout covers a whole request, from the connection to the end of the answer.
	Timeout time.Duration
	// Retry are the waits before each further attempt, RetryRefused those after
	// an answer that says that the request itself is wrong.
	Retry, RetryRefused []time.Duration
	// MaxAge is how long after its first failure an event is tried again.
	MaxAge time.Duration
	// PauseAfter is how long every attempt has to have failed for the endpoint to
	// be paused; negative: never.
	PauseAfter time.Duration
	// Rate is the highest number of requests per second, 0 for no limit.
	Rate float64
	// AllowPrivate are the address ranges, otherwise refused, that the URL may
	// resolve to.
	AllowPrivate []netip.Prefix
	AllowHTTP    bool
	TLS          TLS
	// Proxy is the URL of an HTTP proxy, with its password; empty: none.
	Proxy Secret
}

// Batch makes one request of several events.
type Batch struct {
	Max            int           // events in one request; 0: no lists
	Wait           time.Duration // for others; 0: only what is there
	PerTransaction bool          // a list ends with its transaction
}

// Success says which answers count as delivered.
type Success struct {
	Status [][2]int // from and to inclusive; none: 200 to 299
	Body   string   // a regular expression (RE2); empty: any body
}

// TLS is what an endpoint wants beside the system's trust, as PEM texts.
type TLS struct {
	CA, Certificate string
	Key             Secret
}

// defaultEndpoint: the retries are those of DESIGN section 7, the time limit is Svix's.
func defaultEndpoint() Endpoint {
	return Endpoint{
		Format: "standard", Numbers: "exact", Order: "key", State: "active", OnExhausted: "dead_letter", Concurrency: 16, Timeout: 15 * time.Second,
		Retry: []time.Duration{
			5 * time.Second, 30 * time.Second, 2 * time.Minute, 10 * time.Minute, 30 * time.Minute,
			time.Hour, 3 * time.Hour, 6 * time.Hour, 12 * time.Hour, 24 * time.Hour,
		},
		RetryRefused: []time.Duration{10 * time.Second, time.Minute, 10 * time.Minute},
		MaxAge:       72 * time.Hour, PauseAfter: 24 * time.Hour,
	}
}

func decodeEndpoints(v value) []Endpoint {
	var all []Endpoint
	lines := map[string]int{}
	for _, item := range v.List() {
		e := defaultEndpoint()
		e.Line = item.Line()
		e.decode(item, filepath.Dir(item.File()))
		if first, ok := lines[e.Name]; ok && e.Name != "" {
			item.Errorf("give one of them another name", "there are two endpoints with the name %q, the other on line %d", e.Name, first)
		}
		lines[e.Name] = item.Line()
		all = append(all, e)
	}
	return all
}

// decode reads an endpoint of a file in dir; or, when dir is empty, a document,
// which may lack name and secrets and must not name files.
func (e *Endpoint) decode(v value, dir string) {
	var secret, secrets bool
	var address, extra, batch, order value
	name := strictyaml.Required
	if dir == "" {
		name = strictyaml.Optional
	}
	e.decodeStyle(v)
	v.Map(
		name("name", func(v value) { e.Name = endpointName(v) }),
		strictyaml.Required("url", func(v value) { address = v }),
		strictyaml.Optional("tenants", func(v value) { e.Tenants = nonEmpty(v, "tenants") }),
		strictyaml.Optional("events", func(v value) { e.Events = decodeEvents(v) }),
		strictyaml.Optional("secret", func(v value) { secret, e.Secrets = true, append(e.Secrets, decodeSecret(v)) }),
		strictyaml.Optional("secrets", func(v value) {
			secrets = true
			for _, item := range v.List() {
				e.Secrets = append(e.Secrets, decodeSecret(item))
			}
		}),
		strictyaml.Optional("headers", func(v value) { e.Headers = decodeHeaders(v) }),
		strictyaml.Optional("style", func(value) {}), // decodeStyle has read it
		strictyaml.Optional("format", func(v value) { e.Format = v.Choice(formats...) }),
		strictyaml.Optional("extra", func(v value) { extra = v }),
		strictyaml.Optional("numbers", func(v value) { e.Numbers = v.Choice("exact", "string") }),
		strictyaml.Optional("batch", func(v value) { batch = v; e.Batch.decode(v) }),
		strictyaml.Optional("success", func(v value) { e.Success = decodeSuccess(v) }),
		strictyaml.Optional("order", func(v value) { order = v; e.Order = v.Choice("key", "endpoint", "none") }),
		strictyaml.Optional("state", func(v value) { e.State = v.Choice("active", "paused", "inactive") }),
		strictyaml.Optional("on_exhausted", func(v value) { e.OnExhausted = v.Choice("dead_letter", "block", "pause") }),
		strictyaml.Optional("concurrency", func(v value) { e.Concurrency = v.Int(1, maxConcurrency) }),
		strictyaml.Optional("timeout", func(v value) { e.Timeout = v.Duration(minTimeout, maxTimeout) }),
		strictyaml.Optional("retry", func(v value) { e.Retry = decodeRetry(v) }),
		strictyaml.Optional("retry_refused", func(v value) { e.RetryRefused = decodeRetry(v) }),
		strictyaml.Optional("max_age", func(v value) { e.MaxAge = v.Duration(minAge, maxAge) }),
		strictyaml.Optional("pause_after", func(v value) { e.PauseAfter = decodePauseAfter(v) }),
		strictyaml.Optional("rate", func(v value) { e.Rate = v.Rate() }),
		strictyaml.Optional("allow_private", func(v value) {
			for _, item := range v.ListOrOne() {
				e.AllowPrivate = append(e.AllowPrivate, item.Prefix())
			}
		}),
		strictyaml.Optional("allow_http", func(v value) { e.AllowHTTP = v.Bool() }),
		strictyaml.Optional("tls", func(v value) { e.TLS.decode(v, dir) }),
		strictyaml.Optional("proxy", func(v value) { e.Proxy = decodeProxy(v) }),
	)
	switch {
	case secret && secrets:
		v.Errorf("write all of them in secrets, the newest first", `"secret" and "secrets" are both given`)
	case v.IsMap() && len(e.Secrets) == 0 && dir != "":
		v.Errorf("write such as secret: ${CRM_SECRET}; make one with: echo whsec_$(openssl rand -base64 32)", `the key "secret" is missing`)
	}
	e.join(v, address, extra, batch, order)
}

// join reads what depends on other keys.
func (e *Endpoint) join(v, address, extra, batch, order value) {
	if address.Valid() {
		e.URL = e.decodeURL(address)
	}
	if extra.Valid() {
		e.Extra = e.decodeExtra(extra)
	}
	e.checkStyle(v)
	if !batch.Valid() {
		return
	}
	switch {
	case !order.Valid():
		e.Order = "endpoint"
	case e.Order != "endpoint" && e.Order != "":
		order.Errorf("remove it, or remove batch", "lists are sent one after the other: with batch the order is endpoint, not %s", e.Order)
	}
	if e.Format == "form" || e.Format == "cloudevents-binary" {
		batch.Errorf("use the format standard, bare or cloudevents", "a request of the format %s holds one event, so there is no batch", e.Format)
	}
}

func nonEmpty(v value, name string) []string {
	texts := v.Texts()
	if len(texts) == 0 {
		v.Errorf("remove the key to receive all", "%q is an empty list, with which the endpoint would receive nothing", name)
	}
	return texts
}

// endpointName: the name is part of Redis keys, logs and metrics.
func endpointName(v value) string {
	s := v.Text()
	if s == "" {
		return ""
	}
	ok := len(s) <= 63
	for i, r := range s {
		alnum := r >= 'a' && r <= 'z' || r >= '0' && r <= '9'
		ok = ok && (alnum || i > 0 && (r == '-' || r == '_'))
	}
	if !ok {
		v.Errorf("use lower-case letters, digits, - and _, such as crm-centro", "%q cannot be the name of an endpoint", s)
	}
	return s
}

func decodeEvents(v value) []string {
	patterns := nonEmpty(v, "events")
	for i, item := range v.ListOrOne() {
		if strings.ContainsAny(patterns[i], " \t\n?[]{}") {
			item.Errorf("write such as cobranca.* or cliente.novo", "%q is not a pattern of event names", patterns[i])
		}
	}
	return patterns
}

func decodeRetry(v value) []time.Duration {
	items := v.List()
	if len(items) > maxRetries {
		v.Errorf("", "%d retries are too many: at most %d", len(items), maxRetries)
	}
	waits := make([]time.Duration, 0, len(items))
	for _, item := range items {
		waits = append(waits, item.Duration(minWait, maxWait))
	}
	return waits
}
