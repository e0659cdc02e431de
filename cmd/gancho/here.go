package main

import (
	"context"
	"crypto/tls"
	"fmt"
	"net"
	"net/http"
	"net/netip"
	"os"
	"slices"

	"github.com/rs/zerolog"

	"gancho/config"
	"gancho/internal/machine"
	"gancho/internal/servercert"
)

// bridgeHere is the address of the bridge at http.listen of this machine's configuration, as commands beside it reach it, such as
// https://127.0.0.1:8620.
func bridgeHere(ctx context.Context, c *config.HTTP) string {
	return scheme(c.TLS) + "://" + reachable(ctx, c.Listen)
}

// certificateHere is the one of http.tls, in PEM, which a bridge has to show that a token is sent to; empty: it speaks plain HTTP.
func certificateHere(c *config.HTTP) (text []byte, err error) {
	if c.TLS.On() {
		if text, err = os.ReadFile(c.TLS.Certificate); err != nil {
			err = fmt.Errorf("read http.tls.certificate: %w", err)
		}
	}
	return text, err
}

// healthTransport asks the bridge here for its health, by no proxy. The caller closes its connections.
func healthTransport() *http.Transport {
	// Nothing secret is sent. The files may be another user's, or just being renewed, while the bridge is well.
	return &http.Transport{DisableKeepAlives: true, TLSClientConfig: &tls.Config{MinVersion: tls.VersionTLS12, InsecureSkipVerify: true}} //nolint:gosec // as above
}

// scheme is that of a listener's addresses.
func scheme(t servercert.Files) string {
	if t.On() {
		return "https"
	}
	return "http"
}

// openCertificate reads a listener's certificate; nil: it has none.
func openCertificate(t servercert.Files, log zerolog.Logger) (*servercert.Certificate, error) {
	if !t.On() {
		return nil, nil // the listener speaks plain HTTP, which is no mistake
	}
	return servercert.Open(t, log)
}

// reachable is an address to listen on as one to connect to from this machine. A name is looked up, because a token is sent without TLS
// only to an address that is known to be this machine's.
func reachable(ctx context.Context, listen string) string {
	host, port, err := net.SplitHostPort(listen)
	if err != nil {
		return listen
	}
	ip, err := netip.ParseAddr(host)
	switch {
	case host == "" || err == nil && ip.IsUnspecified() && ip.Is4():
		host = "127.0.0.1"
	case err == nil && ip.IsUnspecified():
		host = "::1"
	case err != nil && !machine.Loopback(host):
		host = ownAddress(ctx, host)
	}
	return net.JoinHostPort(host, port)
}

// ownAddress is the address of a name that is this machine's, preferably one of IPv4, as for a listener; the name: there is none.
func ownAddress(ctx context.Context, name string) string {
	all, _ := net.DefaultResolver.LookupNetIP(ctx, "ip", name) // whoever connects by the name says what is wrong with it
	slices.SortStableFunc(all, func(a, b netip.Addr) int { return a.Unmap().BitLen() - b.Unmap().BitLen() })
	for _, address := range all {
		if text := address.Unmap().String(); machine.Own(text) {
			return text
		}
	}
	return name
}
