package webhook

import (
	"cmp"
	"context"
	"crypto/tls"
	"encoding/json"
	"math"
	"net/http"
	"net/http/httptrace"
	"sync"
	"time"

	"gancho/delivery/endpoint"
)

// Exchange is a request as it was sent, its answer, and how long it took, for
// people to read; its JSON is what the API and the commands print. It holds the
// message's data, and no secret of the endpoint.
type Exchange struct {
	Request ExchangeRequest `json:"request"`
	// Answer is nil when none came.
	Answer *ExchangeAnswer `json:"answer,omitempty"`
	// Outcome, Class and Error are those that a delivery would have had.
	Outcome  string `json:"outcome"` // delivered, retry, refused, gone
	Class    string `json:"class"`
	Error    string `json:"error,omitempty"`
	Address  string `json:"address,omitempty"`  // connected to: the proxy's, if there is one; empty: none was
	Proxy    string `json:"proxy,omitempty"`    // the proxy's host and port; empty: none
	Protocol string `json:"protocol,omitempty"` // the answer's version of HTTP, such as HTTP/2.0
	TLS      string `json:"tls,omitempty"`      // the connection's version of TLS, such as TLS 1.3; empty: none
	Timing   Timing `json:"timing"`
	// Wrong is what the receiver said to wrong requests, of a test that was delivered.
	Wrong []WrongProbe `json:"wrong,omitempty"`
}

// ExchangeRequest is a request without what is secret in it.
type ExchangeRequest struct {
	Method string `json:"method"`
	// URL is without user and with *** for each value of its query.
	URL string `json:"url"`
	// Header has the signature; the values that the endpoint's settings add are ***.
	Header http.Header `json:"headers"`
	// Body has *** for the values of Endpoint.Extra.
	Body string `json:"body"`
}

// ExchangeAnswer is an answer; Body is its start, at most 16 KiB.
type ExchangeAnswer struct {
	Status int         `json:"status"`
	Header http.Header `json:"headers"`
	Body   string      `json:"body,omitempty"`
}

// Timing is how long the steps of an exchange took; 0: it did not get there.
type Timing struct {
	DNS       Milliseconds `json:"dns_ms,omitempty"`
	Connect   Milliseconds `json:"connect_ms,omitempty"` // TCP, and the proxy's CONNECT
	TLS       Milliseconds `json:"tls_ms,omitempty"`
	FirstByte Milliseconds `json:"first_byte_ms,omitempty"` // from when the connection was established to the answer's first byte
	Total     Milliseconds `json:"total_ms"`                // of everything, the answer's body included
}

// Milliseconds is a duration that is a number of milliseconds in JSON.
type Milliseconds time.Duration

// Float returns the number of milliseconds.
func (m Milliseconds) Float() float64 { return float64(m) / float64(time.Millisecond) }

// MarshalJSON writes the number.
func (m Milliseconds) MarshalJSON() ([]byte, error) { return json.Marshal(m.Float()) }

// UnmarshalJSON reads what MarshalJSON wrote.
func (m *Milliseconds) UnmarshalJSON(text []byte) error {
	var n float64
	err := json.Unmarshal(text, &n)
	*m = Milliseconds(math.Round(n * float64(time.Millisecond))) // 4.185 is less than that as a float
	return err
}

// Probe is Send over a connection of its own, so that every step is seen, with
// all that can be shown of it. An endpoint with batches gets a list of one.
func (s *Sender) Probe(ctx context.Context, ep *endpoint.Endpoint, m *Message) Exchange {
	start := time.Now()
	// Nothing of it is kept: an endpoint that is probed is often a copy.
	t, ms, list := prepare(ep, s.options.Version), []*Message{m}, ep.Batch.Max > 1
	var p *pool
	if t.err == nil {
		p, t.err = s.newPool(ep, ep.HTTP1)
	}
	if t.err == nil && ep.Auth.OAuth2 != nil {
		t.login, t.err = s.loginOf(ep)
	}
	if err := t.usable(ep, ms, list); err != nil {
		nothing := Exchange{Request: ExchangeRequest{Header: http.Header{}}}
		nothing.end(Outcome{Kind: Retry, Class: ClassConfig, Err: err}, time.Since(start))
		return nothing
	}
	if t.login != nil {
		t.login.retry()
	}
	ms = s.titled(t, ms)
	with, failed := t.credentials(ctx)
	if failed != nil {
		nothing := Exchange{Request: ExchangeRequest{Header: http.Header{}}}
		nothing.end(*failed, time.Since(start))
		return nothing
	}
	a := t.begin(with, ms, list)
	defer a.draft.free()
	shown, o := a.probe(ctx, ep, p)
	if requiresHTTP1(o.Err) && !ep.HTTP1 {
		if p1, err := s.newPool(ep, true); err == nil {
			p = p1
			shown, o = a.probe(ctx, ep, p)
		}
	}
	for a.retriesWith(ctx, start, &o) {
		shown, o = a.probe(ctx, ep, p)
	}
	shown.end(o, time.Since(start))
	return shown
}

// probe is post over a pool of its own, with all that can be shown of it but
// how it ended.
func (a *attempt) probe(ctx context.Context, ep *endpoint.Endpoint, p *pool) (Exchange, Outcome) {
	a.steps = &trace{}
	defer p.giveUp()
	o := a.post(ctx, p)
	shown := a.shown(ep)
	if a.answer != nil {
		shown.Answer = &ExchangeAnswer{Status: o.Status, Header: a.prepared.mask.header(a.answer.Header), Body: string(o.Answer)}
		shown.Protocol = a.answer.Proto
	}
	a.steps.report(&shown)
	return shown, o
}

// end adds how the attempt ended.
func (e *Exchange) end(o Outcome, total time.Duration) {
	e.Outcome, e.Class, e.Timing.Total = o.Kind.String(), o.Class, Milliseconds(total)
	if o.Err != nil {
		e.Error = o.Err.Error()
	}
}

// shown is the request without what is secret.
func (a *attempt) shown(ep *endpoint.Endpoint) Exchange {
	base := a.prepared.base
	e := Exchange{Request: ExchangeRequest{
		Method: base.Method, URL: endpoint.MaskURL(base.URL.String()), Header: a.shownHeader(ep), Body: string(a.draft.body),
	}}
	if u, err := ep.ProxyURL(); err == nil && u != nil {
		e.Proxy = u.Host
	}
	if len(ep.Extra) == 0 {
		return e
	}
	hidden := *ep
	hidden.Extra = make(map[string]endpoint.Hidden, len(ep.Extra))
	for name := range ep.Extra {
		hidden.Extra[name] = endpoint.Masked
	}
	shape := newBodyShape(&hidden)
	e.Request.Body = string(shape.append(nil, a.draft.ms, a.draft.list))
	return e
}

// trace notes when the steps happen. A connection goes on being made when
// the request that asked for it has ended, hence the lock. A nil trace notes nothing.
type trace struct {
	mu                                        sync.Mutex
	dnsStart, dnsDone, connectStart, tlsStart time.Time
	tlsDone, connected, firstByte             time.Time
	remote, tls                               string
}

// note sets the time unless it is set.
func (t *trace) note(at *time.Time) {
	t.mu.Lock()
	defer t.mu.Unlock()
	*at = cmp.Or(*at, time.Now())
}

// connect: the request has a connection to the address, over HTTP/1.1.
func (t *trace) connect(address string) {
	if t == nil {
		return
	}
	t.note(&t.connected)
	t.mu.Lock()
	defer t.mu.Unlock()
	t.remote = address
}

// answered: the first byte of an answer is there, over HTTP/1.1.
func (t *trace) answered() {
	if t != nil {
		t.note(&t.firstByte)
	}
}

// follow has the trace note what net, crypto/tls and net/http do with the context.
func (t *trace) follow(ctx context.Context) context.Context {
	if t == nil {
		return ctx
	}
	first := t.note
	return httptrace.WithClientTrace(ctx, &httptrace.ClientTrace{
		DNSStart:     func(httptrace.DNSStartInfo) { first(&t.dnsStart) },
		DNSDone:      func(httptrace.DNSDoneInfo) { first(&t.dnsDone) },
		ConnectStart: func(string, string) { first(&t.connectStart) },
		ConnectDone: func(_, address string, err error) {
			t.mu.Lock()
			defer t.mu.Unlock()
			if err == nil && t.remote == "" {
				t.remote = address
			}
		},
		TLSHandshakeStart: func() { first(&t.tlsStart) },
		TLSHandshakeDone: func(state tls.ConnectionState, err error) {
			first(&t.tlsDone)
			t.mu.Lock()
			defer t.mu.Unlock()
			if err == nil {
				t.tls = tls.VersionName(state.Version)
			}
		},
		GotConn: func(info httptrace.GotConnInfo) {
			first(&t.connected)
			t.mu.Lock()
			defer t.mu.Unlock()
			t.remote = info.Conn.RemoteAddr().String()
		},
		GotFirstResponseByte: func() { first(&t.firstByte) },
	})
}

// report writes what was noted.
func (t *trace) report(e *Exchange) {
	e.Timing = t.timing()
	t.mu.Lock()
	defer t.mu.Unlock()
	e.Address, e.TLS = t.remote, t.tls
}
