package webhook

import (
	"cmp"
	"context"
	"crypto/sha256"
	"crypto/tls"
	"encoding/hex"
	"fmt"
	"net"
	"net/http/httptrace"
	"net/netip"
	"net/url"
	"os"
	"strings"
	"syscall"
	"time"
	"unicode"

	"gancho/delivery/endpoint"

	"golang.org/x/net/idna"
)

const (
	// maxAnswerHeader bounds what a receiver's headers may take in memory.
	maxAnswerHeader = 64 << 10
	// dialTimeout and handshakeTimeout bound how long a connection is being made,
	// which goes on for the next request when the one that asked for it has ended.
	dialTimeout      = 10 * time.Second
	handshakeTimeout = 10 * time.Second
	// A quiet HTTP/2 connection is pinged, and closed when nothing comes back:
	// a peer that has vanished would otherwise cost each request its timeout.
	pingAfter   = 15 * time.Second
	pingTimeout = 5 * time.Second
)

// newPool returns a pool of connections for the endpoint; http1: with HTTP/1.1 only.
func (s *Sender) newPool(ep *endpoint.Endpoint, http1 bool) (*pool, error) {
	config, err := ep.TLS.Config()
	if err != nil {
		return nil, fmt.Errorf("endpoint %q: %w", ep.Name, err)
	}
	u, err := url.Parse(ep.URL)
	if err != nil {
		return nil, fmt.Errorf("endpoint %q: its url is malformed", ep.Name) // err would show it
	}
	connect, err := s.connector(ep)
	if err != nil {
		return nil, err
	}
	host := hostName(u)
	p := &pool{sender: s, address: net.JoinHostPort(host, portOf(u)), connect: connect}
	if u.Scheme == "https" {
		config.RootCAs = cmp.Or(config.RootCAs, s.options.RootCAs)
		config.ServerName = cmp.Or(config.ServerName, host)
		if !http1 {
			config.NextProtos = []string{"h2", "http/1.1"}
		}
		p.tls = config
	}
	return p, nil
}

// connector makes the endpoint's connections: guarded, and through its proxy.
func (s *Sender) connector(ep *endpoint.Endpoint) (func(ctx context.Context, network, address string) (net.Conn, error), error) {
	g := guardOf(ep)
	switch proxy, err := ep.ProxyURL(); {
	case err != nil:
		return nil, fmt.Errorf("endpoint %q: %w", ep.Name, err)
	case proxy != nil:
		return newTunnel(&s.options, g, proxy).connect, nil
	}
	return (&net.Dialer{Timeout: dialTimeout, Resolver: s.options.Resolver, ControlContext: g.control}).DialContext, nil
}

// hostName is the URL's host as it is looked up, which net/http does alike.
func hostName(u *url.URL) string {
	name := u.Hostname()
	if !strings.ContainsFunc(name, func(r rune) bool { return r > unicode.MaxASCII }) {
		return name
	}
	if ascii, err := idna.Lookup.ToASCII(name); err == nil {
		return ascii
	}
	return name
}

func portOf(u *url.URL) string {
	return cmp.Or(u.Port(), map[string]string{"http": "80", "https": "443"}[u.Scheme])
}

// dial connects to the receiver, through the guard and the proxy.
func (p *pool) dial(ctx context.Context) (net.Conn, error) {
	start := time.Now()
	conn, err := p.connect(ctx, "tcp", p.address)
	if err == nil {
		p.sender.options.Logger.Debug().Str("host", p.address).Stringer("address", conn.RemoteAddr()).Dur("took", time.Since(start)).Msg("receiver connected")
	}
	return conn, err
}

// open is dial with the TLS handshake; http2 reports whether that has settled on HTTP/2.
func (p *pool) open(ctx context.Context) (w *wire, over net.Conn, http2 bool, err error) {
	ctx, cancel := p.sender.untilClosed(ctx)
	defer cancel()
	conn, err := p.dial(ctx)
	if err != nil {
		return nil, nil, false, err
	}
	w, counted := conn.(*wire)
	if !counted {
		w = newWire(conn)
	}
	if p.tls == nil {
		return w, w, false, nil
	}
	secure := tls.Client(w, p.tls)
	if err := handshake(ctx, secure); err != nil {
		_ = w.Close() // nothing was said over it
		return nil, nil, false, err
	}
	return w, secure, secure.ConnectionState().NegotiatedProtocol == "h2", nil
}

// handshake tells the context's trace of itself, as net/http does.
func handshake(ctx context.Context, c *tls.Conn) error {
	limited, cancel := context.WithTimeout(ctx, handshakeTimeout)
	defer cancel()
	steps := httptrace.ContextClientTrace(ctx)
	if steps != nil && steps.TLSHandshakeStart != nil {
		steps.TLSHandshakeStart()
	}
	err := c.HandshakeContext(limited)
	if steps != nil && steps.TLSHandshakeDone != nil {
		steps.TLSHandshakeDone(c.ConnectionState(), err)
	}
	if err != nil && ctx.Err() == nil && limited.Err() != nil {
		return &net.OpError{Op: "TLS handshake", Net: "tcp", Err: os.ErrDeadlineExceeded}
	}
	return err
}

// poolKey is equal for endpoints that may send over each other's connections:
// those of one origin, let into the same networks, with one TLS identity and one
// proxy. One pool for all would let an endpoint send over a connection that only
// another was allowed to make, or with another's certificate.
type poolKey struct {
	origin, access string
	http1          bool
}

func poolKeyOf(ep *endpoint.Endpoint, origin string, http1 bool) poolKey {
	hash := sha256.New()
	for _, part := range []string{ep.TLS.CA, ep.TLS.Certificate, ep.TLS.Key.Reveal(), ep.Proxy.Reveal()} {
		sum := sha256.Sum256([]byte(strings.TrimSpace(part)))
		hash.Write(sum[:])
	}
	return poolKey{origin, fmt.Sprint(guardOf(ep)) + hex.EncodeToString(hash.Sum(nil)), http1}
}

// guard refuses connections to special-purpose networks, but for those that it
// lists, as endpoint.SimplifyNetworks returns them. It sees the address that is
// about to be connected to, after any resolution, so that no notation of an
// address and no answer of a name server gets around it, not even one that
// changes between a check and its use.
type guard []netip.Prefix

func guardOf(ep *endpoint.Endpoint) guard { return endpoint.SimplifyNetworks(ep.AllowPrivate) }

// control is a net.Dialer's ControlContext: it runs after the socket is created
// and before it connects, once for each address tried.
func (g guard) control(_ context.Context, network, address string, _ syscall.RawConn) error {
	at, err := netip.ParseAddrPort(address)
	if err != nil || !strings.HasPrefix(network, "tcp") {
		return fmt.Errorf("refuse to connect over %s: it is not a TCP address", network)
	}
	return g.check(at.Addr())
}

// check returns a *endpoint.RefusedAddressError, or nil.
func (g guard) check(addr netip.Addr) error {
	if refused := endpoint.CheckAddress(addr, g); refused != nil {
		return refused
	}
	return nil
}
