package delivery

import (
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"io"
	"maps"
	"net"
	"net/http"
	"strconv"
	"sync"
	"time"

	"github.com/rs/zerolog"
)

const (
	// envelopeSize is what a body has beside its variable parts, generously.
	envelopeSize = 256
	// maxAnswerHeader bounds what a receiver's headers may take in memory.
	maxAnswerHeader = 64 << 10
	// dialTimeout and handshakeTimeout bound a connection's making, which goes
	// on for the next request when the one that asked for it has given up.
	dialTimeout      = 10 * time.Second
	handshakeTimeout = 10 * time.Second
	idleTimeout      = 90 * time.Second
	// A quiet HTTP/2 connection is pinged, and closed when nothing comes back:
	// a peer that has vanished would otherwise cost each request its time limit.
	pingAfter   = 15 * time.Second
	pingTimeout = 5 * time.Second
	// targetIdle is how long the sender remembers an endpoint that it was not
	// given again, as after a reload.
	targetIdle = time.Hour
)

// SenderOptions are what a Sender needs to know. All fields may be zero.
type SenderOptions struct {
	// Version is Gancho's, for the User-Agent.
	Version string
	Logger  zerolog.Logger
	// Resolver looks up endpoints' names; nil: the system's.
	Resolver *net.Resolver
	// RootCAs are trusted to sign receivers' certificates; nil: the system's.
	RootCAs *x509.CertPool
}

// dialFunc connects through the dialer.
type dialFunc func(ctx context.Context, d *net.Dialer, network, address string) (net.Conn, error)

// Sender posts messages to endpoints. Safe for concurrent use.
//
// It goes straight to the receiver: proxies named in the environment are not
// used, because behind one the guard would judge the proxy's address instead
// of the receiver's. Redirects are not followed, for the same reason and
// because a POST does not survive most of them. Answers are not decompressed.
type Sender struct {
	options SenderOptions
	close   func()   // ends dials still under way
	dial    dialFunc // until close
	targets sync.Map // *Endpoint → *target

	mu         sync.Mutex
	transports map[string]*http.Transport // by the guard's key
}

// NewSender returns a Sender. The caller closes it.
func NewSender(o SenderOptions) *Sender {
	s := &Sender{options: o, transports: map[string]*http.Transport{}}
	closed, cancel := context.WithCancel(context.Background())
	s.close = cancel
	s.dial = func(ctx context.Context, d *net.Dialer, network, address string) (net.Conn, error) {
		ctx, cancel := context.WithCancel(ctx)
		defer cancel()
		defer context.AfterFunc(closed, cancel)()
		return d.DialContext(ctx, network, address)
	}
	return s
}

// Close closes idle connections and gives up those being made. It is called
// after the last Send has returned.
func (s *Sender) Close() {
	s.close()
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, t := range s.transports {
		t.CloseIdleConnections()
	}
}

// Send makes one attempt and says how it ended. The message's bytes are free
// again when it returns. The endpoint's time limit covers everything from the
// dial to the end of the answer's body; when ctx ends first, the outcome's
// class is ClassCanceled, and the receiver may or may not have the message.
//
// Only a 2xx whose body arrived within the limits counts as delivered. Of a
// body over 64 KiB the rest is not waited for: the connection is closed.
func (s *Sender) Send(ctx context.Context, ep *Endpoint, m *Message) Outcome {
	start := time.Now()
	o := s.attempt(ctx, ep, m)
	o.Duration = time.Since(start)
	return o
}

func (s *Sender) attempt(ctx context.Context, ep *Endpoint, m *Message) Outcome {
	t := s.target(ep)
	if t.err != nil {
		return Outcome{Kind: Retry, Class: ClassConfig, Err: t.err}
	}
	limited, cancel := context.WithTimeout(ctx, t.timeout)
	defer cancel()

	answer, err := t.transport.RoundTrip(t.request(limited, m)) //nolint:bodyclose // readAnswer closes it
	if err != nil {
		return t.failed(ctx, limited, 0, err)
	}
	kept, err := readAnswer(answer.Body)
	if err != nil {
		o := t.failed(ctx, limited, answer.StatusCode, err)
		o.Answer = kept
		return o
	}
	o := t.judge(answer)
	o.Answer = kept
	return o
}

// request builds the signed request.
//
// The body has memory of its own, which the collector takes back: the transport
// may still write it when the attempt is over, and a reader that would say when
// it is done costs a system call, because net/http sends only the readers it
// knows together with the headers.
func (t *target) request(ctx context.Context, m *Message) *http.Request {
	stamp := strconv.FormatInt(time.Now().Unix(), 10)
	// The signed text is "id.timestamp.body": the body is its tail.
	signed := make([]byte, 0, envelopeSize+2*len(m.ID)+len(m.Type)+len(m.Data)+len(m.Previous)+len(m.Unchanged))
	signed = append(append(signed, m.ID...), '.')
	signed = append(append(signed, stamp...), '.')
	start := len(signed)
	signed = appendBody(signed, t.format, m)
	body := signed[start:]

	req := t.base.WithContext(ctx)
	req.Header = make(http.Header, len(t.base.Header)+3)
	maps.Copy(req.Header, t.base.Header)
	list := []string{m.ID, stamp, ""}
	req.Header[headerID] = list[0:1:1]
	req.Header[headerTimestamp] = list[1:2:2]
	if len(t.signers) > 0 {
		list[2] = signatures(t.signers, signed)
		req.Header[headerSignature] = list[2:3:3]
	}
	req.ContentLength = int64(len(body))
	req.Body = io.NopCloser(bytes.NewReader(body))
	req.GetBody = func() (io.ReadCloser, error) { return io.NopCloser(bytes.NewReader(body)), nil }
	return req
}

// target returns what the sender keeps of the endpoint.
func (s *Sender) target(ep *Endpoint) *target {
	if v, ok := s.targets.Load(ep); ok {
		t, _ := v.(*target)
		t.used.Store(time.Now().Unix())
		return t
	}
	return s.addTarget(ep)
}

// addTarget also forgets the endpoints that are no longer used, and their
// transports: endpoints are added so rarely that looking at all costs nothing.
func (s *Sender) addTarget(ep *Endpoint) *target {
	s.mu.Lock()
	defer s.mu.Unlock()
	oldest := time.Now().Add(-targetIdle).Unix()
	inUse := map[string]bool{}
	s.targets.Range(func(key, v any) bool {
		if t, _ := v.(*target); t.used.Load() < oldest {
			s.targets.Delete(key)
		} else {
			inUse[t.guard] = true
		}
		return true
	})
	for key, transport := range s.transports {
		if !inUse[key] {
			transport.CloseIdleConnections()
			delete(s.transports, key)
		}
	}
	t := newTarget(ep, s.options.Version)
	if t.err == nil {
		t.transport = s.transport(newGuard(ep.AllowPrivate))
	}
	t.used.Store(time.Now().Unix())
	v, _ := s.targets.LoadOrStore(ep, t)
	t, _ = v.(*target)
	return t
}

// transport returns the transport of all endpoints with an equal guard. One
// for all would let an endpoint send over a connection that only another was
// allowed to make.
func (s *Sender) transport(g guard) *http.Transport {
	if t, ok := s.transports[g.key()]; ok {
		return t
	}
	dialer := &net.Dialer{Timeout: dialTimeout, Resolver: s.options.Resolver, ControlContext: g.control}
	t := &http.Transport{
		DialContext: func(ctx context.Context, network, address string) (net.Conn, error) {
			start := time.Now()
			conn, err := s.dial(ctx, dialer, network, address)
			if err == nil {
				s.options.Logger.Debug().Str("host", address).Stringer("address", conn.RemoteAddr()).Dur("took", time.Since(start)).Msg("receiver connected")
			}
			return conn, err
		},
		TLSClientConfig:     &tls.Config{MinVersion: tls.VersionTLS12, RootCAs: s.options.RootCAs},
		TLSHandshakeTimeout: handshakeTimeout,
		DisableCompression:  true,
		// Connections are bounded by the requests in flight, which is the
		// dispatcher's business; each that is made is kept for the next.
		MaxIdleConnsPerHost:    1 << 16,
		IdleConnTimeout:        idleTimeout,
		MaxResponseHeaderBytes: maxAnswerHeader,
		ForceAttemptHTTP2:      true,
		HTTP2:                  &http.HTTP2Config{SendPingTimeout: pingAfter, PingTimeout: pingTimeout},
	}
	s.transports[g.key()] = t
	return t
}
