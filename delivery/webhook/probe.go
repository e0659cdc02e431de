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

// Exchange is a request as it was sent, what came back, and how long it took,
// for people to look at. It holds no secret of the endpoint, and the message's
// data.
type Exchange struct {
	Method string
	// URL is without user and with *** for each value of its query.
	URL string
	// Header are the request's, signature included; the values of those that
	// the endpoint's settings add are ***.
	Header http.Header
	// Body is the request's; the values of Endpoint.Extra in it are ***.
	Body []byte
	// Outcome is what a delivery would have made of it. Outcome.Answer is the
	// start of the answer's body.
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
	t, ms, list := s.target(ep), []*Message{m}, ep.Batch.Max > 1
	if err := t.usable(ep, ms, list); err != nil {
		return Exchange{Outcome: Outcome{Kind: Retry, Class: ClassConfig, Err: err, Duration: time.Since(start)}}
	}
	limited, cancel := context.WithTimeout(ctx, t.timeout)
	defer cancel()
	trace := &probe{}
	req, body := t.request(httptrace.WithClientTrace(limited, trace.hooks()), ms, list)
	shown := t.shown(ep, req, body, ms, list)

	transport := t.transport.Clone()
	defer transport.CloseIdleConnections()
	o, header, version := t.exchange(ctx, transport, req)
	o.Duration = time.Since(start)
	shown.Outcome, shown.HTTP = o, version
	if header != nil {
		shown.AnswerHeader = t.echo.header(header)
	}
	trace.report(&shown, o.Duration)
	return shown
}

// shown is the request without what is secret.
func (t *target) shown(ep *endpoint.Endpoint, req *http.Request, body []byte, ms []*Message, list bool) Exchange {
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
		e.Proxy = endpoint.ProxyAddress(u)
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
	shape := newShape(&hidden)
	if list {
		e.Body = shape.appendList(nil, ms)
	} else {
		e.Body = shape.appendBody(nil, ms[0])
	}
	return e
}

// probe notes when the steps happen. net/http may go on with a connection when
// the request that asked for it has ended, hence the lock.
type probe struct {
	mu                                        sync.Mutex
	dnsStart, dnsDone, connectStart, tlsStart time.Time
	tlsDone, connected, firstByte             time.Time
	remote, tls                               string
}

func (p *probe) hooks() *httptrace.ClientTrace {
	first := func(at *time.Time) {
		p.mu.Lock()
		defer p.mu.Unlock()
		if at.IsZero() {
			*at = time.Now()
		}
	}
	return &httptrace.ClientTrace{
		DNSStart:     func(httptrace.DNSStartInfo) { first(&p.dnsStart) },
		DNSDone:      func(httptrace.DNSDoneInfo) { first(&p.dnsDone) },
		ConnectStart: func(string, string) { first(&p.connectStart) },
		ConnectDone: func(_, address string, err error) {
			p.mu.Lock()
			defer p.mu.Unlock()
			if err == nil && p.remote == "" {
				p.remote = address
			}
		},
		TLSHandshakeStart: func() { first(&p.tlsStart) },
		TLSHandshakeDone: func(state tls.ConnectionState, err error) {
			first(&p.tlsDone)
			p.mu.Lock()
			defer p.mu.Unlock()
			if err == nil {
				p.tls = tls.VersionName(state.Version)
			}
		},
		GotConn: func(info httptrace.GotConnInfo) {
			first(&p.connected)
			p.mu.Lock()
			defer p.mu.Unlock()
			p.remote = info.Conn.RemoteAddr().String()
		},
		GotFirstResponseByte: func() { first(&p.firstByte) },
	}
}

// report writes what was noted.
func (p *probe) report(e *Exchange, total time.Duration) {
	p.mu.Lock()
	defer p.mu.Unlock()
	between := func(from, to time.Time) time.Duration {
		if from.IsZero() || to.IsZero() {
			return 0
		}
		return max(to.Sub(from), 0)
	}
	connected := p.tlsStart
	if connected.IsZero() {
		connected = p.connected
	}
	e.Remote, e.TLS = p.remote, p.tls
	e.Timing = Timing{
		DNS:       between(p.dnsStart, p.dnsDone),
		Connect:   between(p.connectStart, connected),
		TLS:       between(p.tlsStart, p.tlsDone),
		FirstByte: between(p.connected, p.firstByte),
		Total:     total,
	}
}
