package webhook

import (
	"context"
	"crypto/tls"
	"maps"
	"net/http"
	"net/http/httptrace"
	"strconv"
	"sync"
	"time"

	"gancho/delivery/endpoint"
)

// Exchange is a request as it was sent, its answer, and how long it took, for
// people to look at. It holds the message's data, and no secret of the endpoint.
type Exchange struct {
	Method string
	// URL is without user and with *** for each value of its query.
	URL string
	// Header are the request's, signature included; the values of those that
	// the endpoint's settings add are ***.
	Header http.Header
	// Body is the request's; the values of Endpoint.Extra in it are ***.
	Body []byte
	// Outcome is that of a delivery. Outcome.Answer is the start of the answer's
	// body.
	Outcome Outcome
	// AnswerHeader is nil when no answer came.
	AnswerHeader http.Header
	Remote       string // the address connected to: the proxy's, if there is one; empty: none was
	Proxy        string // the proxy's host and port; empty: none
	HTTP         string // the answer's version of HTTP, such as HTTP/2.0
	TLS          string // the connection's version of TLS, such as TLS 1.3; empty: none
	Timing       Timing
}

// Timing is how long the steps of an exchange took; 0: it did not get there.
type Timing struct {
	DNS       time.Duration
	Connect   time.Duration // TCP, and the proxy's CONNECT
	TLS       time.Duration
	FirstByte time.Duration // from when the connection was there to the answer's first byte
	Total     time.Duration // of everything, the answer's body included
}

// Probe is Send over a connection of its own, so that every step is seen, with
// all that can be shown of it. An endpoint with batches gets a list of one.
func (s *Sender) Probe(ctx context.Context, ep *endpoint.Endpoint, m *Message) Exchange {
	start := time.Now()
	t, ms, list := s.preparedFor(ep), []*Message{m}, ep.Batch.Max > 1
	if err := t.usable(ep, ms, list); err != nil {
		return Exchange{Outcome: Outcome{Kind: Retry, Class: ClassConfig, Err: err, Duration: time.Since(start)}}
	}
	limited, cancel := context.WithTimeout(ctx, t.timeout)
	defer cancel()
	steps := &trace{}
	req, body := t.request(httptrace.WithClientTrace(limited, steps.hooks()), ms, list)
	shown := t.shown(ep, req, body, ms, list)

	transport := t.transport.Clone()
	defer transport.CloseIdleConnections()
	o, header, version := t.exchange(ctx, transport, req)
	o.Duration = time.Since(start)
	shown.Outcome, shown.HTTP = o, version
	if header != nil {
		shown.AnswerHeader = t.mask.header(header)
	}
	steps.report(&shown, o.Duration)
	return shown
}

// shown is the request without what is secret.
func (t *preparedEndpoint) shown(ep *endpoint.Endpoint, req *http.Request, body []byte, ms []*Message, list bool) Exchange {
	e := Exchange{Method: req.Method, URL: endpoint.MaskQuery(req.URL.String()), Header: maps.Clone(req.Header), Body: body}
	e.Header["Host"] = []string{req.Host}
	e.Header["Content-Length"] = []string{strconv.Itoa(len(body))}
	if len(e.Header["Idempotency-Key"]) == 0 {
		delete(e.Header, "Idempotency-Key") // a mark for net/http
	}
	for name := range ep.Headers {
		e.Header.Set(name, endpoint.Masked)
	}
	if e.Header.Get("Authorization") != "" {
		e.Header.Set("Authorization", endpoint.Masked)
	}
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
		if ep.Format == endpoint.FormatCloudEventsBinary {
			e.Header.Set("Ce-"+name, endpoint.Masked)
		}
	}
	shape := newBodyShape(&hidden)
	if list {
		e.Body = shape.appendList(nil, ms)
	} else {
		e.Body = shape.appendBody(nil, ms[0])
	}
	return e
}

// trace notes when the steps happen. net/http may go on with a connection when
// the request that asked for it has ended, hence the lock.
type trace struct {
	mu                                        sync.Mutex
	dnsStart, dnsDone, connectStart, tlsStart time.Time
	tlsDone, connected, firstByte             time.Time
	remote, tls                               string
}

func (t *trace) hooks() *httptrace.ClientTrace {
	first := func(at *time.Time) {
		t.mu.Lock()
		defer t.mu.Unlock()
		if at.IsZero() {
			*at = time.Now()
		}
	}
	return &httptrace.ClientTrace{
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
	}
}

// report writes what was noted.
func (t *trace) report(e *Exchange, total time.Duration) {
	t.mu.Lock()
	defer t.mu.Unlock()
	between := func(from, to time.Time) time.Duration {
		if from.IsZero() || to.IsZero() {
			return 0
		}
		return max(to.Sub(from), 0)
	}
	connected := t.tlsStart
	if connected.IsZero() {
		connected = t.connected
	}
	e.Remote, e.TLS = t.remote, t.tls
	e.Timing = Timing{
		DNS:       between(t.dnsStart, t.dnsDone),
		Connect:   between(t.connectStart, connected),
		TLS:       between(t.tlsStart, t.tlsDone),
		FirstByte: between(t.connected, t.firstByte),
		Total:     total,
	}
}
