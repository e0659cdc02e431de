package doctor_test

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"fmt"
	"math/big"
	"net"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"gancho/cdc"
	"gancho/delivery/endpoint"
	"gancho/delivery/queue"
	"gancho/delivery/webhook"
	"gancho/internal/doctor"
	"gancho/internal/testservers"
)

// Redis: each setting that would lose events is a problem of its own, one that is
// accepted a warning, and what is in order is said, too.
func TestRedis(t *testing.T) {
	t.Parallel()
	server, err := testservers.StartRedis(testservers.RedisOptions{Settings: map[string]string{"appendonly": "no", "maxmemory-policy": "allkeys-lru"}})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(server.Close)
	o := doctor.Options{Queue: &queue.Options{URL: server.URL()}}
	r := doctor.Run(t.Context(), o)
	want(t, &r, "redis.persistence", cdc.SeverityProblem, "appendonly", "CONFIG SET appendonly yes")
	want(t, &r, "redis.eviction", cdc.SeverityProblem, "allkeys-lru", "CONFIG SET maxmemory-policy noeviction")
	want(t, &r, "redis.replicas", cdc.SeverityNote, "lost with its disk")
	for _, id := range []string{"redis.reachable", "redis.clock", "redis.disk"} {
		want(t, &r, id, cdc.SeverityOK)
	}
	client := redis.NewClient(&redis.Options{Addr: server.Addr()})
	defer func() { _ = client.Close() }()
	for name, value := range map[string]string{"maxmemory-policy": "noeviction", "appendonly": "yes"} {
		if err := client.ConfigSet(t.Context(), name, value).Err(); err != nil {
			t.Fatal(err)
		}
	}
	// Nearly full: it uses some 80 % of what it may.
	var used int64
	if _, err := fmt.Sscanf(client.InfoMap(t.Context(), "memory").Item("Memory", "used_memory"), "%d", &used); err != nil {
		t.Fatal(err)
	}
	if err := client.ConfigSet(t.Context(), "maxmemory", strconv.FormatInt(used*5/4, 10)).Err(); err != nil {
		t.Fatal(err)
	}
	r = doctor.Run(t.Context(), o)
	for _, id := range []string{"redis.persistence", "redis.eviction"} {
		want(t, &r, id, cdc.SeverityOK)
	}
	if f := found(&r, "redis.memory"); len(f) != 1 || f[0].Severity == cdc.SeverityOK || f[0].Severity == cdc.SeverityNote || !strings.Contains(f[0].Why, "appends are refused") {
		t.Errorf("a Redis that is nearly full: %v", titles(&r))
	}
	if err := client.ConfigSet(t.Context(), "appendonly", "no").Err(); err != nil {
		t.Fatal(err)
	}
	o.Queue.AllowVolatile = true
	r = doctor.Run(t.Context(), o)
	want(t, &r, "redis.persistence", cdc.SeverityWarning, "allow_volatile accepts")

	o.Queue.URL = "redis://:hunter2@127.0.0.1:1/0"
	r = doctor.Run(t.Context(), o)
	if f := want(t, &r, "redis.reachable", cdc.SeverityProblem, "connection refused"); strings.Contains(f.Title, "hunter2") {
		t.Error(f.Title)
	}
	want(t, &r, "redis.memory", cdc.SeveritySkipped)
}

// certificate is one that a receiver shows, valid for so long.
func certificate(t *testing.T, life time.Duration) (tls.Certificate, *x509.Certificate) {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "receiver"}, NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(life),
		IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)}, IsCA: true, BasicConstraintsValid: true,
	}
	raw, err := x509.CreateCertificate(rand.Reader, template, template, &key.PublicKey, key)
	if err != nil {
		t.Fatal(err)
	}
	parsed, err := x509.ParseCertificate(raw)
	if err != nil {
		t.Fatal(err)
	}
	return tls.Certificate{Certificate: [][]byte{raw}, PrivateKey: key}, parsed
}

// Receivers: reached without a request, their certificates counted down, and each reason
// for which a delivery would fail told.
func TestReceivers(t *testing.T) {
	t.Parallel()
	var requests atomic.Int64
	handler := http.HandlerFunc(func(http.ResponseWriter, *http.Request) { requests.Add(1) })
	pool := x509.NewCertPool()
	start := func(life time.Duration) string {
		s := httptest.NewUnstartedServer(handler)
		pair, trusted := certificate(t, life)
		s.TLS = &tls.Config{Certificates: []tls.Certificate{pair}, MinVersion: tls.VersionTLS12}
		s.StartTLS()
		t.Cleanup(s.Close)
		pool.AddCert(trusted)
		return s.URL
	}
	plain := httptest.NewServer(handler)
	t.Cleanup(plain.Close)
	untrusted := httptest.NewTLSServer(handler)
	t.Cleanup(untrusted.Close)
	endpoints := []struct {
		url         string
		reachable   cdc.Severity
		certificate cdc.Severity // "": none is seen
		words       string
	}{
		{start(90 * 24 * time.Hour), cdc.SeverityOK, cdc.SeverityOK, "TLS 1.3"},
		{start(10 * 24 * time.Hour), cdc.SeverityOK, cdc.SeverityWarning, "TLS 1.3"},
		{start(24 * time.Hour), cdc.SeverityOK, cdc.SeverityProblem, "TLS 1.3"},
		{start(-time.Minute), cdc.SeverityProblem, "", "expired"},
		{plain.URL, cdc.SeverityOK, "", "without TLS"},
		{untrusted.URL, cdc.SeverityProblem, "", "unknown authority"},
		{"http://127.0.0.1:1", cdc.SeverityProblem, "", "connection refused"},
		{"http://10.0.0.1", cdc.SeverityProblem, "", "allow_private"},
	}
	sender := webhook.NewSender(webhook.Options{RootCAs: pool})
	t.Cleanup(sender.Close)
	o := doctor.Options{Sender: sender}
	for i, e := range endpoints {
		each := endpoint.Endpoint{
			Name: string(rune('a' + i)), URL: e.url, AllowHTTP: true, AllowPrivate: []netip.Prefix{netip.MustParsePrefix("127.0.0.0/8")},
			Events: []string{"*"}, Secrets: []endpoint.Secret{endpoint.GenerateSecret()},
		}.WithDefaults()
		o.Endpoints = append(o.Endpoints, &each)
	}
	o.Endpoints = append(o.Endpoints, &endpoint.Endpoint{Name: "off", State: endpoint.Inactive})
	r := doctor.Run(t.Context(), o)
	of := func(id, name string) *doctor.Finding {
		for _, f := range found(&r, id) {
			if f.Where == "endpoint "+name {
				return &f
			}
		}
		return nil
	}
	for i, e := range endpoints {
		name := string(rune('a' + i))
		f := of("endpoint.reachable", name)
		if f == nil || f.Severity != e.reachable || !strings.Contains(f.Title, e.words) {
			t.Errorf("%s %s: want %s %q, have %+v", name, e.url, e.reachable, e.words, f)
		}
		switch c := of("endpoint.certificate", name); {
		case e.certificate == "" && c != nil, e.certificate != "" && (c == nil || c.Severity != e.certificate):
			t.Errorf("%s: the certificate is %+v, not %q", name, c, e.certificate)
		}
	}
	if f := of("endpoint.reachable", "off"); f == nil || f.Severity != cdc.SeveritySkipped {
		t.Errorf("an inactive endpoint: %+v", f)
	}
	if n := requests.Load(); n > 0 {
		t.Errorf("%d requests were sent", n)
	}
}

// A receiver that accepts connections and says nothing costs its own time only.
func TestSilentReceiver(t *testing.T) {
	t.Parallel()
	l, err := net.Listen("tcp", "127.0.0.1:0") //nolint:noctx // it ends with the test
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = l.Close() })
	sender := webhook.NewSender(webhook.Options{})
	t.Cleanup(sender.Close)
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	defer cancel()
	mute := endpoint.Endpoint{
		Name: "mudo", URL: "https://" + l.Addr().String(), AllowPrivate: []netip.Prefix{netip.MustParsePrefix("127.0.0.0/8")}, Timeout: time.Second,
		Events: []string{"*"}, Secrets: []endpoint.Secret{endpoint.GenerateSecret()},
	}.WithDefaults()
	r := doctor.Run(ctx, doctor.Options{Sender: sender, Endpoints: []*endpoint.Endpoint{&mute}})
	want(t, &r, "endpoint.reachable", cdc.SeverityProblem, "deadline exceeded")
}
