package main

import (
	"fmt"
	"net"
	"net/http"
	"net/netip"
	"os"

	"github.com/rs/zerolog"

	"gancho/config"
	"gancho/internal/servercert"
)

// here is the bridge of this machine's configuration, as commands beside it reach it.
type here struct {
	address string // such as https://127.0.0.1:8620
	// certificate is the listener's, in PEM; empty: it speaks plain HTTP.
	certificate []byte
}

// bridgeHere is the one at http.listen.
func bridgeHere(c *config.HTTP) (here, error) {
	h := here{address: scheme(&c.TLS) + "://" + reachable(c.Listen)}
	var err error
	if c.TLS.On() {
		if h.certificate, err = os.ReadFile(c.TLS.Certificate); err != nil {
			err = fmt.Errorf("read http.tls.certificate: %w", err)
		}
	}
	return h, err
}

// transport asks it by no proxy. The caller closes its connections.
func (h *here) transport() (*http.Transport, error) {
	t := &http.Transport{DisableKeepAlives: true}
	if len(h.certificate) == 0 {
		return t, nil
	}
	var err error
	t.TLSClientConfig, err = servercert.Pin(h.certificate)
	return t, err
}

// scheme is that of a listener's addresses.
func scheme(t *config.TLS) string {
	if t.On() {
		return "https"
	}
	return "http"
}

// openCertificate reads a listener's certificate; nil: it has none.
func openCertificate(t *config.TLS, log zerolog.Logger) (*servercert.Certificate, error) {
	if !t.On() {
		return nil, nil // the listener speaks plain HTTP, which is no mistake
	}
	return servercert.Open(servercert.Files(*t), log)
}

// reachable is an address to listen on as one to connect to from this machine.
func reachable(listen string) string {
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
	}
	return net.JoinHostPort(host, port)
}
