package webhook_test

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"io"
	"log"
	"math/big"
	"net"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"strings"
	"sync/atomic"
	"testing"
	"time"
	"unicode"

	"gancho/delivery/endpoint"
	"gancho/delivery/webhook"
)

// authority is a certificate authority of a test.
type authority struct {
	certificate *x509.Certificate
	key         *ecdsa.PrivateKey
	pem         string
}

type certificateOptions struct {
	client  bool
	names   []string
	expired bool
}

func newAuthority(t testing.TB, name string) *authority {
	t.Helper()
	a := &authority{key: newKey(t)}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: name}, NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
		IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign,
	}
	raw, err := x509.CreateCertificate(rand.Reader, template, template, &a.key.PublicKey, a.key)
	if err != nil {
		t.Fatal(err)
	}
	if a.certificate, err = x509.ParseCertificate(raw); err != nil {
		t.Fatal(err)
	}
	a.pem = inPEM("CERTIFICATE", raw)
	return a
}

func newKey(t testing.TB) *ecdsa.PrivateKey {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	return key
}

// issue makes a certificate and its key in PEM.
func (a *authority) issue(t testing.TB, o certificateOptions) (certificate string, key endpoint.Hidden) {
	t.Helper()
	private := newKey(t)
	template := &x509.Certificate{
		SerialNumber: big.NewInt(2), NotBefore: time.Now().Add(-2 * time.Hour), NotAfter: time.Now().Add(time.Hour), DNSNames: o.names,
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth},
	}
	if o.client {
		template.ExtKeyUsage = []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth}
	}
	if o.expired {
		template.NotAfter = time.Now().Add(-time.Hour)
	}
	raw, err := x509.CreateCertificate(rand.Reader, template, a.certificate, &private.PublicKey, a.key)
	if err != nil {
		t.Fatal(err)
	}
	encoded, err := x509.MarshalPKCS8PrivateKey(private)
	if err != nil {
		t.Fatal(err)
	}
	return inPEM("CERTIFICATE", raw), endpoint.Hidden(inPEM("PRIVATE KEY", encoded))
}

func inPEM(kind string, raw []byte) string {
	return string(pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: raw}))
}

func (a *authority) pool() *x509.CertPool {
	pool := x509.NewCertPool()
	pool.AddCert(a.certificate)
	return pool
}

// tlsServer serves with a certificate of the authority and returns its port.
func tlsServer(t testing.TB, a *authority, o certificateOptions, h http.Handler, change func(*tls.Config)) (port string) {
	t.Helper()
	certificate, key := a.issue(t, o)
	pair, err := tls.X509KeyPair([]byte(certificate), []byte(key))
	if err != nil {
		t.Fatal(err)
	}
	server := httptest.NewUnstartedServer(h)
	server.TLS = &tls.Config{Certificates: []tls.Certificate{pair}, MinVersion: tls.VersionTLS10}
	server.EnableHTTP2 = true
	server.Config.ErrorLog = log.New(io.Discard, "", 0) // of handshakes that are meant to fail
	if change != nil {
		change(server.TLS)
	}
	server.StartTLS()
	t.Cleanup(server.Close)
	_, port, err = net.SplitHostPort(server.Listener.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	return port
}

// here resolves every name to this machine.
func here(t *testing.T) *net.Resolver {
	return resolver(t, func(string) []netip.Addr { return []netip.Addr{netip.MustParseAddr("127.0.0.1")} })
}

// TestTLSIdentities: whom the sender trusts, and whom it shows itself as.
func TestTLSIdentities(t *testing.T) {
	t.Parallel()
	own, other := newAuthority(t, "own"), newAuthority(t, "other")
	ok := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if len(r.TLS.PeerCertificates) > 0 {
			w.Header().Set("X-Client", "known")
		}
		w.WriteHeader(http.StatusNoContent)
	})
	crm := certificateOptions{names: []string{"crm.example.com"}}
	plain := tlsServer(t, own, crm, ok, nil)
	demanding := func(c *tls.Config) { c.ClientAuth, c.ClientCAs = tls.RequireAndVerifyClientCert, own.pool() }
	mutual := tlsServer(t, own, crm, ok, demanding)
	mutual12 := tlsServer(t, own, crm, ok, func(c *tls.Config) { demanding(c); c.MaxVersion = tls.VersionTLS12 })
	expired := tlsServer(t, own, certificateOptions{names: crm.names, expired: true}, ok, nil)
	old := tlsServer(t, own, crm, ok, func(c *tls.Config) { c.MaxVersion = tls.VersionTLS11 })
	certificate, key := own.issue(t, certificateOptions{client: true})
	stranger, strangerKey := other.issue(t, certificateOptions{client: true})
	sender := newSender(t, webhook.Options{Resolver: here(t), RootCAs: other.pool()})
	done := want{webhook.Delivered, 204, webhook.ClassOK, ""}
	fails := func(text string) want { return want{webhook.Retry, 0, webhook.ClassTLS, text} }
	for name, c := range map[string]struct {
		host, port string
		tls        endpoint.TLS
		want       want
	}{
		"own CA":                       {"crm.example.com", plain, endpoint.TLS{CA: own.pem}, done},
		"both CAs":                     {"crm.example.com", plain, endpoint.TLS{CA: other.pem + own.pem}, done},
		"no CA":                        {"crm.example.com", plain, endpoint.TLS{}, fails("unknown authority")},
		"another CA":                   {"crm.example.com", plain, endpoint.TLS{CA: other.pem}, fails("unknown authority")},
		"another name":                 {"erp.example.com", plain, endpoint.TLS{CA: own.pem}, fails("certificate is valid for crm.example.com")},
		"expired":                      {"crm.example.com", expired, endpoint.TLS{CA: own.pem}, fails("expired")},
		"TLS 1.1":                      {"crm.example.com", old, endpoint.TLS{CA: own.pem}, fails("protocol version")},
		"client certificate":           {"crm.example.com", mutual, endpoint.TLS{CA: own.pem, Certificate: certificate, Key: key}, done},
		"client certificate not asked": {"crm.example.com", plain, endpoint.TLS{CA: own.pem, Certificate: certificate, Key: key}, done},
		"client certificate, TLS 1.2":  {"crm.example.com", mutual12, endpoint.TLS{CA: own.pem, Certificate: certificate, Key: key}, done},
		"no client certificate":        {"crm.example.com", mutual12, endpoint.TLS{CA: own.pem}, fails("")},
		"stranger's certificate":       {"crm.example.com", mutual12, endpoint.TLS{CA: own.pem, Certificate: stranger, Key: strangerKey}, fails("")},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			ep := local("https://" + c.host + ":" + c.port + "/s3cr3t")
			ep.AllowHTTP, ep.TLS = false, c.tls
			check(t, sender.Send(t.Context(), ep, message()), c.want)
		})
	}
	// In TLS 1.3 the receiver refuses when the handshake is over for the sender,
	// which may learn of it from the alert, or only that the connection is cut.
	for _, identity := range []endpoint.TLS{{CA: own.pem}, {CA: own.pem, Certificate: stranger, Key: strangerKey}} {
		ep := local("https://crm.example.com:" + mutual)
		ep.TLS = identity
		if o := sender.Send(t.Context(), ep, message()); o.Kind != webhook.Retry || o.Status != 0 || o.Class != webhook.ClassTLS && o.Class != webhook.ClassConnection {
			t.Errorf("TLS 1.3 without a certificate that is accepted: %v, status %d, class %s, %v", o.Kind, o.Status, o.Class, o.Err)
		}
	}
}

// TestConnectionsAreKeptPerIdentity: an endpoint sends over no connection that
// another's certificate has opened, and keeps its own.
func TestConnectionsAreKeptPerIdentity(t *testing.T) {
	t.Parallel()
	own := newAuthority(t, "own")
	var opened, known atomic.Int64
	h := http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) { known.Add(int64(len(r.TLS.PeerCertificates))) })
	port := tlsServer(t, own, certificateOptions{names: []string{"crm.example.com"}}, h, func(c *tls.Config) {
		c.ClientAuth = tls.RequestClientCert
		c.GetConfigForClient = func(*tls.ClientHelloInfo) (*tls.Config, error) { opened.Add(1); return nil, nil }
	})
	certificate, key := own.issue(t, certificateOptions{client: true})
	sender := newSender(t, webhook.Options{Resolver: here(t)})
	to := func(identity endpoint.TLS) *endpoint.Endpoint {
		ep := local("https://crm.example.com:" + port)
		ep.TLS = identity
		return ep
	}
	shown, hidden := endpoint.TLS{CA: own.pem, Certificate: certificate, Key: key}, endpoint.TLS{CA: own.pem}
	endpoints := []*endpoint.Endpoint{to(shown), to(hidden), to(shown), to(hidden)}
	for range 3 {
		for _, ep := range endpoints {
			mustDeliver(t, sender.Send(t.Context(), ep, message()))
		}
	}
	if opened.Load() != 2 || known.Load() != 6 || sender.Pools() != 2 {
		t.Errorf("%d connections, %d pools, %d requests with a certificate; want 2, 2, 6", opened.Load(), sender.Pools(), known.Load())
	}
}

// TestCertificateOfManyNames: what a certificate says is in the error, in short
// and printable, whoever has made it.
func TestCertificateOfManyNames(t *testing.T) {
	t.Parallel()
	names := []string{"crm.example.net", "\x1b[2J\x00\n"}
	for range 90 {
		names = append(names, strings.Repeat("a", 500))
	}
	a := newAuthority(t, "anybody")
	port := tlsServer(t, a, certificateOptions{names: names}, http.NotFoundHandler(), nil)
	sender := newSender(t, webhook.Options{Resolver: here(t)})
	o := sender.Send(t.Context(), local("https://crm.example.test:"+port), message())
	check(t, o, want{webhook.Retry, 0, webhook.ClassTLS, "certificate is valid for crm.example.net"})
	if text := o.Err.Error(); len(text) > 500 || strings.ContainsFunc(text, unicode.IsControl) {
		t.Errorf("%d bytes: %.100q", len(text), text)
	}
}

func TestHTTP2WithOwnCA(t *testing.T) {
	t.Parallel()
	own := newAuthority(t, "own")
	got := make(chan received, 1)
	port := tlsServer(t, own, certificateOptions{names: []string{"crm.example.com"}}, collect(got), nil)
	ep := local("https://crm.example.com:" + port)
	ep.TLS.CA = own.pem
	mustDeliver(t, newSender(t, webhook.Options{Resolver: here(t)}).Send(t.Context(), ep, message()))
	if r := <-got; r.proto != "HTTP/2.0" || !strings.Contains(r.body, "129.90") {
		t.Errorf("arrived over %s", r.proto)
	}
}
