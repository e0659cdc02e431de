package webhook

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"time"

	"gancho/delivery/endpoint"
)

// Reach is what a connection to a receiver shows before anything is sent over it.
type Reach struct {
	// Address is what was connected to: the proxy's, if there is one (Proxy, host and port).
	Address, Proxy string
	// TLS is the version, such as TLS 1.3; "": plain HTTP.
	TLS string
	// Chain are the certificates that the receiver was believed for, its own first; Pair is
	// the endpoint's own client certificate, nil without one.
	Chain []*x509.Certificate
	Pair  *x509.Certificate
	Took  time.Duration
}

// Expires returns when the first certificate of the chain expires, and its subject; zero
// without a chain.
func (r *Reach) Expires() (at time.Time, subject string) {
	for _, c := range r.Chain {
		if at.IsZero() || c.NotAfter.Before(at) {
			at, subject = c.NotAfter, c.Subject.String()
		}
	}
	return at, subject
}

// Reach connects to the endpoint's receiver as a delivery would, through the same guard
// and proxy, shakes hands and hangs up: no request is sent. The error is why a delivery
// would fail; it holds no secret. The endpoint's timeout bounds it, as does the context.
func (s *Sender) Reach(ctx context.Context, ep *endpoint.Endpoint) (r Reach, err error) {
	start := time.Now()
	defer func() { r.Took = time.Since(start) }()
	t := prepare(ep, s.options.Version)
	if t.err != nil {
		return r, t.err
	}
	p, err := s.newPool(ep, ep.HTTP1)
	if err != nil {
		return r, err
	}
	ctx, cancel := context.WithTimeout(ctx, t.timeout)
	defer cancel()
	if proxy, err := ep.ProxyURL(); err == nil && proxy != nil {
		r.Proxy = proxy.Host
	}
	if r.Pair, err = pairOf(p.tls); err != nil {
		return r, err
	}
	ctx, hangUp := s.untilClosed(ctx)
	defer hangUp()
	conn, err := p.dial(ctx)
	if err != nil {
		return r, err
	}
	defer func() { _ = conn.Close() }() // nothing was sent over it
	r.Address = conn.RemoteAddr().String()
	if p.tls == nil {
		return r, nil
	}
	secure := tls.Client(conn, p.tls)
	if err := secure.HandshakeContext(ctx); err != nil {
		return r, fmt.Errorf("TLS handshake: %w", err)
	}
	state := secure.ConnectionState()
	r.TLS, r.Chain = tls.VersionName(state.Version), state.PeerCertificates
	if len(state.VerifiedChains) > 0 {
		r.Chain = state.VerifiedChains[0]
	}
	return r, nil
}

// pairOf is the client certificate of a configuration.
func pairOf(config *tls.Config) (*x509.Certificate, error) {
	if config == nil || len(config.Certificates) == 0 || len(config.Certificates[0].Certificate) == 0 {
		return nil, nil
	}
	c, err := x509.ParseCertificate(config.Certificates[0].Certificate[0])
	if err != nil {
		return nil, errors.New("read the endpoint's client certificate: it is malformed")
	}
	return c, nil
}
