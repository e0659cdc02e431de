package webhook

import (
	"cmp"
	"context"
	"crypto/sha256"
	"crypto/tls"
	"encoding/hex"
	"fmt"
	"net"
	"net/http"
	"net/netip"
	"strings"
	"syscall"
	"time"

	"gancho/delivery/endpoint"
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
	config.RootCAs = cmp.Or(config.RootCAs, s.options.RootCAs)
	dial, err := s.dialer(ep)
	if err != nil {
		return nil, err
	}
	p := &pool{}
	config.VerifyConnection = func(state tls.ConnectionState) error {
		if state.NegotiatedProtocol == "h2" {
			p.http2.Store(true)
		}
		return nil
	}
	p.fresh = func() *http.Transport {
		t := &http.Transport{
			DialContext:         dial,
			TLSClientConfig:     config.Clone(),
			TLSHandshakeTimeout: handshakeTimeout,
			DisableCompression:  true,
			// The dispatcher bounds the requests in flight, and so the connections;
			// each is kept for the next request.
			MaxIdleConnsPerHost:    1 << 16,
			IdleConnTimeout:        connectionLife,
			MaxResponseHeaderBytes: maxAnswerHeader,
			Protocols:              &http.Protocols{},
			HTTP2:                  &http.HTTP2Config{SendPingTimeout: pingAfter, PingTimeout: pingTimeout},
		}
		t.Protocols.SetHTTP1(true)
		t.Protocols.SetHTTP2(!http1)
		return t
	}
	return p, nil
}

// dialer makes the endpoint's connections: guarded, and through its proxy.
func (s *Sender) dialer(ep *endpoint.Endpoint) (func(ctx context.Context, network, address string) (net.Conn, error), error) {
	g := guardOf(ep)
	connect := (&net.Dialer{Timeout: dialTimeout, Resolver: s.options.Resolver, ControlContext: g.control}).DialContext
	switch proxy, err := ep.ProxyURL(); {
	case err != nil:
		return nil, fmt.Errorf("endpoint %q: %w", ep.Name, err)
	case proxy != nil:
		connect = newTunnel(&s.options, g, proxy).connect
	}
	return func(ctx context.Context, network, address string) (net.Conn, error) {
		start := time.Now()
		ctx, cancel := s.untilClosed(ctx)
		defer cancel()
		conn, err := connect(ctx, network, address)
		if err == nil {
			s.options.Logger.Debug().Str("host", address).Stringer("address", conn.RemoteAddr()).Dur("took", time.Since(start)).Msg("receiver connected")
		}
		return conn, err
	}, nil
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
