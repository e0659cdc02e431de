package endpoint

import (
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"maps"
	"net"
	"net/http"
	"net/url"
	"regexp"
	"slices"
	"strings"
	"time"
)

// Bounds of what an endpoint can be told.
const (
	maxBatch     = 10_000
	minStatus    = 200 // those below are interim answers
	maxStatus    = 599
	maxAttribute = 20 // characters in the name of a CloudEvents extension
)

// Check reports everything that would make each request to the endpoint fail
// before it is sent, or never count as delivered. The errors are joined, name
// the endpoint, say what to do, and hold no secret. They do not cover
// addresses: see webhook.CheckAddress.
func (e *Endpoint) Check() error {
	u, err := e.Target()
	var errs []error
	if err != nil {
		errs = append(errs, err)
	}
	note := func(err error) {
		if err != nil {
			errs = append(errs, fmt.Errorf("endpoint %q: %w", e.Name, err))
		}
	}
	for _, name := range slices.Sorted(maps.Keys(e.Headers)) {
		note(checkHeader(e.Format, name, e.Headers[name]))
	}
	for _, name := range slices.Sorted(maps.Keys(e.Extra)) {
		note(checkExtra(e.Format, name, e.Extra[name]))
	}
	for i, s := range e.Secrets {
		if !s.signs() {
			note(fmt.Errorf("secret %d is empty or a public key, with which nothing can be signed; give whsec_ or whsk_", i+1))
		}
	}
	note(e.Batch.Check(e.Format))
	note(e.Success.check())
	note(e.checkTimes())
	_, err = e.TLS.Config()
	note(err)
	if u != nil && u.Scheme == "http" && !e.TLS.isZero() {
		note(errors.New("its url is http, where tls has no effect; write https://, or remove tls"))
	}
	_, err = e.ProxyURL()
	note(err)
	return errors.Join(errs...)
}

// The headers of Standard Webhooks, as net/http keeps them, and Gancho's own.
// https://github.com/standard-webhooks/standard-webhooks/blob/main/spec/standard-webhooks.md
const (
	HeaderID        = "Webhook-Id"
	HeaderTimestamp = "Webhook-Timestamp"
	HeaderSignature = "Webhook-Signature"
	HeaderReplay    = "Webhook-Replay"   // of a request: sent again on demand
	HeaderDelivery  = "Webhook-Delivery" // of an answer: what the receiver wishes
)

// Reserved are the headers that Gancho or the HTTP connection itself sets.
var Reserved = []string{
	"Connection", "Content-Length", "Content-Type", "Expect", "Host", "Keep-Alive", "Proxy-Authorization", "Proxy-Connection", "Te", "Trailer",
	"Transfer-Encoding", "Upgrade", "User-Agent", HeaderID, HeaderTimestamp, HeaderSignature, HeaderReplay,
}

func checkHeader(f Format, name, value string) error {
	canonical := http.CanonicalHeaderKey(name)
	switch {
	case !headerName(name):
		return fmt.Errorf("header %q: the name is not valid in HTTP; use letters, digits and hyphens", name)
	case slices.Contains(Reserved, canonical):
		return fmt.Errorf("header %q: Gancho sets it itself; remove it", name)
	case f == FormatCloudEventsBinary && strings.HasPrefix(canonical, "Ce-"):
		return fmt.Errorf("header %q: in the format %s it is an attribute of the event; write it in extra, without ce-", name, f)
	case strings.ContainsFunc(value, func(r rune) bool { return r < ' ' && r != '\t' || r == 0x7f }):
		return fmt.Errorf("header %q: its value holds a control character (a line break?); remove it", name)
	}
	return nil
}

// headerName reports whether s is a token of RFC 9110, section 5.6.2.
func headerName(s string) bool {
	return s != "" && !strings.ContainsFunc(s, func(r rune) bool {
		return (r < '0' || r > '9') && (r < 'A' || r > 'Z') && (r < 'a' || r > 'z') && !strings.ContainsRune("!#$%&'*+-.^_`|~", r)
	})
}

// fields are what a body has of its own; attributes what a CloudEvent has.
var (
	fields     = []string{"type", "timestamp", "id", "tenant", "sequence", "data", "previous", "unchanged"}
	attributes = []string{
		"specversion", "id", "source", "type", "time", "subject", "datacontenttype", "dataschema", "data",
		"tenant", "sequence", "previous", "unchanged",
	}
)

func checkExtra(f Format, name, value string) error {
	own := fields
	switch f {
	case FormatBare:
		return fmt.Errorf("extra %q: the format bare is data alone and has no place for it; use headers, or the format standard", name)
	case FormatCloudEvents, FormatCloudEventsBinary:
		if name == "" || len(name) > maxAttribute || strings.Trim(name, "abcdefghijklmnopqrstuvwxyz0123456789") != "" {
			return fmt.Errorf("extra %q: CloudEvents allows names of up to %d lower-case letters and digits only; use another name, or headers", name, maxAttribute)
		}
		if strings.ContainsFunc(value, NotInAttribute) {
			return fmt.Errorf("extra %q: its value holds a control character, which CloudEvents does not allow; remove it", name)
		}
		own = attributes
	}
	base := name
	if f == FormatForm { // PHP files a[b] under a, and drops leading blanks
		base, _, _ = strings.Cut(strings.TrimLeft(name, " "), "[")
	}
	switch {
	case base == "" || strings.ContainsFunc(name, func(r rune) bool { return r < ' ' || r == 0x7f }):
		return fmt.Errorf("extra %q: it has no name, or one with control characters; write such as validationtoken", name)
	case slices.Contains(own, base):
		return fmt.Errorf("extra %q: the format %s has a field of this name; use another", name, f)
	}
	return nil
}

// NotInAttribute reports whether CloudEvents does not allow the character in the
// text of an attribute.
func NotInAttribute(r rune) bool {
	return r < ' ' || r >= 0x7f && r <= 0x9f || r >= 0xfdd0 && r <= 0xfdef || r&0xfffe == 0xfffe
}

func (b Batching) Check(f Format) error {
	switch {
	case b.Max < 0 || b.Max > maxBatch:
		return fmt.Errorf("batch: max is %d; use 1 to %d", b.Max, maxBatch)
	case b.Wait < 0:
		return errors.New("batch: wait is negative; use 0 for what is there, or such as 500ms")
	case b.Max > 1 && (f == FormatForm || f == FormatCloudEventsBinary):
		return fmt.Errorf("batch: the format %s has no lists; remove batch, or use standard, bare or cloudevents", f)
	}
	return nil
}

func (s Success) check() error {
	for _, r := range s.Status {
		if r[0] < minStatus || r[1] > maxStatus || r[0] > r[1] {
			return fmt.Errorf("success: %d-%d is not a range of statuses; write such as 200 or 200-299, within %d-%d", r[0], r[1], minStatus, maxStatus)
		}
	}
	if _, err := regexp.Compile(s.Body); err != nil {
		return fmt.Errorf("success: body is no regular expression of RE2: %w; see https://github.com/google/re2/wiki/Syntax", err)
	}
	return nil
}

func (e *Endpoint) checkTimes() error {
	negative := func(d time.Duration) bool { return d < 0 }
	switch {
	case e.Timeout < 0 || e.MaxAge < 0:
		return errors.New("timeout or max_age is negative; remove it for the default")
	case slices.ContainsFunc(e.Retry, negative) || slices.ContainsFunc(e.RetryRefused, negative):
		return errors.New("retry or retry_refused has a negative wait; write such as 30s")
	case e.Concurrency < 0 || !(e.Rate >= 0): // NaN is neither
		return errors.New("concurrency or rate is negative; remove it for the default")
	}
	return nil
}

func (t TLS) isZero() bool { return len(t.CA) == 0 && len(t.Certificate) == 0 && len(t.Key) == 0 }

// Config returns what the fields say, or nil when they say nothing. Its errors
// show nothing of them.
func (t TLS) Config() (*tls.Config, error) {
	if t.isZero() {
		return nil, nil
	}
	c := &tls.Config{MinVersion: tls.VersionTLS12}
	if len(t.CA) > 0 {
		pool, err := certificates(t.CA)
		if err != nil {
			return nil, err
		}
		c.RootCAs = pool
	}
	if len(t.Certificate) == 0 && len(t.Key) == 0 {
		return c, nil
	}
	pair, err := tls.X509KeyPair(t.Certificate, t.Key)
	if err != nil {
		return nil, fmt.Errorf("tls: read certificate and key: %w; give both in PEM, the key without a password", err)
	}
	c.Certificates = []tls.Certificate{pair}
	return c, nil
}

// certificates reads every certificate. One that cannot be read is an error: a
// CA left out by mistake is found when it is too late.
func certificates(text []byte) (*x509.CertPool, error) {
	pool, n := x509.NewCertPool(), 0
	for rest := text; ; n++ {
		var block *pem.Block
		if block, rest = pem.Decode(rest); block == nil {
			break
		}
		certificate, err := x509.ParseCertificate(block.Bytes)
		if err != nil || block.Type != "CERTIFICATE" {
			return nil, fmt.Errorf("tls: ca: block %d (%.40q) is not a certificate; give the CA's certificates in PEM", n+1, block.Type)
		}
		pool.AddCert(certificate)
	}
	if n == 0 {
		return nil, errors.New("tls: ca: there is no certificate in it; give the CA's certificates in PEM: -----BEGIN CERTIFICATE-----")
	}
	return pool, nil
}

// proxy parses the proxy's URL, nil for none. Its errors show nothing of it
// but scheme and host: there may be a password.
func (e *Endpoint) ProxyURL() (*url.URL, error) {
	if e.Proxy == "" {
		return nil, nil
	}
	const hint = "write http://host:port or http://user:password@host:port"
	u, err := url.Parse(e.Proxy)
	switch {
	case err != nil || u.Opaque != "" || u.Hostname() == "":
		return nil, errors.New("proxy: its url is malformed; " + hint)
	case u.Scheme != "http":
		return nil, fmt.Errorf("proxy: its url has scheme %q, and only HTTP proxies are spoken to; %s", u.Scheme, hint)
	case u.Port() == "":
		return nil, fmt.Errorf("proxy: its url has no port; %s", hint)
	case u.Path != "" && u.Path != "/" || u.RawQuery != "" || u.Fragment != "":
		return nil, errors.New("proxy: its url has more than host and port; " + hint)
	}
	return u, nil
}

// ProxyAddress is the proxy's host and port.
func ProxyAddress(u *url.URL) string { return net.JoinHostPort(u.Hostname(), u.Port()) }
