package tracing

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"reflect"
	"slices"
	"strconv"
	"strings"
	"time"
)

// requestTimeout bounds one request to the collector, maxAnswer what is read of its answer, in bytes.
const (
	requestTimeout = 10 * time.Second
	maxAnswer      = 64 << 10
)

// Collector is where spans go. Its zero value is no collector.
type Collector struct {
	// URL is the collector's address, such as https://collector.example.com:4318; spans go to /v1/traces below it.
	URL string
	// Headers are sent with each request; their values are secrets.
	Headers map[string]string
	// Sample is the share of all events that are traced, from 0 to 1.
	Sample float64
}

// On reports whether there is a collector.
func (c *Collector) On() bool { return c.URL != "" }

func (c *Collector) equals(other *Collector) bool { return reflect.DeepEqual(*c, *other) }

// ParseURL returns a collector's address. Its errors do not repeat it.
func ParseURL(text string) (*url.URL, error) {
	u, err := url.Parse(text)
	switch {
	case err != nil || u.Scheme != "http" && u.Scheme != "https" || u.Hostname() == "":
		return nil, errors.New("this is not the URL of a collector")
	case u.User != nil:
		return nil, errors.New("a user and a password go into headers, as Authorization")
	case u.RawQuery != "" || u.Fragment != "":
		return nil, errors.New("the URL of a collector has no query")
	case strings.HasSuffix(strings.TrimRight(u.Path, "/"), "/v1/traces"):
		return nil, errors.New("/v1/traces is added to the URL")
	case u.Port() == "4317":
		return nil, errors.New("the port 4317 is that of OTLP over gRPC, which is not spoken")
	}
	return u, nil
}

// client posts to collectors. Like every exporter of OpenTelemetry it goes through the proxy that the environment names.
type client struct{ http http.Client }

func newClient() *client {
	transport, _ := http.DefaultTransport.(*http.Transport) // the library says that it is one
	transport = transport.Clone()
	transport.MaxIdleConnsPerHost = 1
	transport.Proxy = func(r *http.Request) (*url.URL, error) {
		proxy, err := http.ProxyFromEnvironment(r)
		if err != nil { // it repeats the address, with its password
			return nil, errors.New("the proxy that the environment names is not a URL; correct HTTPS_PROXY or HTTP_PROXY")
		}
		return proxy, nil
	}
	return &client{http.Client{
		Transport: transport, Timeout: requestTimeout,
		// A redirect would take the headers, and their secrets, elsewhere.
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}}
}

func (c *client) close() { c.http.CloseIdleConnections() }

// refusedError is an answer that is not 200.
type refusedError struct {
	status int
	after  time.Duration // how long it asks to wait; 0: it does not say
	said   string
}

func (e *refusedError) Error() string {
	text := fmt.Sprintf("the collector answered %d %s", e.status, http.StatusText(e.status))
	if e.said != "" {
		text += ": " + e.said
	}
	switch {
	case e.status == http.StatusUnauthorized || e.status == http.StatusForbidden:
		text += "; correct tracing.headers"
	case e.status >= 300 && e.status < 400:
		text += "; redirects are not followed, write the address that it leads to"
	case e.status == http.StatusNotFound:
		text += "; tracing.otlp is the address without /v1/traces, of a receiver for OTLP over HTTP"
	}
	return text
}

// again reports whether the same request may be accepted later:
// https://opentelemetry.io/docs/specs/otlp/#retryable-response-codes
func again(err error) bool {
	refused, ok := errors.AsType[*refusedError](err)
	return !ok || slices.Contains([]int{http.StatusTooManyRequests, http.StatusBadGateway, http.StatusServiceUnavailable, http.StatusGatewayTimeout}, refused.status)
}

// post sends a request and returns the body of the answer 200.
func (c *client) post(ctx context.Context, to *Collector, body []byte, version string) ([]byte, error) {
	u, err := ParseURL(to.URL)
	if err != nil {
		return nil, err
	}
	request, err := http.NewRequestWithContext(ctx, http.MethodPost, u.JoinPath("v1", "traces").String(), bytes.NewReader(body))
	if err != nil {
		return nil, errors.New("this is not the URL of a collector") // the error repeats it
	}
	for name, value := range to.Headers {
		request.Header.Set(name, value)
	}
	request.Header.Set("Content-Type", "application/x-protobuf")
	request.Header.Set("User-Agent", "Gancho/"+version)
	response, err := c.http.Do(request)
	if err != nil {
		return nil, hideURL(err)
	}
	defer func() { _ = response.Body.Close() }() // what matters was read
	answer, err := io.ReadAll(io.LimitReader(response.Body, maxAnswer))
	if response.StatusCode == http.StatusOK {
		return answer, hideURL(err)
	}
	refused := &refusedError{status: response.StatusCode, after: retryAfter(response.Header.Get("Retry-After"))}
	if message, _ := field(answer, statusMessage); strings.HasPrefix(response.Header.Get("Content-Type"), "application/x-protobuf") {
		refused.said = excerpt(string(message)) // a google.rpc.Status
	}
	return nil, refused
}

// Probe says whether the collector takes spans, by sending it none.
func (c *Collector) Probe(ctx context.Context, version string) error {
	client := newClient()
	defer client.close()
	_, err := client.post(ctx, c, nil, version)
	return err
}

// hideURL removes the address from an error of net/http: it may have been filled in from a secret.
func hideURL(err error) error {
	if e, ok := errors.AsType[*url.Error](err); ok {
		return fmt.Errorf("post to the collector: %w", e.Err)
	}
	return err
}

func retryAfter(header string) time.Duration {
	if seconds, err := strconv.ParseUint(header, 10, 16); err == nil {
		return time.Duration(seconds) * time.Second
	}
	at, err := http.ParseTime(header)
	if err != nil {
		return 0
	}
	return max(0, time.Until(at))
}

// excerpt is the beginning of what a collector says, in one line.
func excerpt(text string) string {
	const most = 200
	text = strings.ToValidUTF8(strings.Join(strings.Fields(text), " "), "?")
	if runes := []rune(text); len(runes) > most {
		return string(runes[:most]) + "..."
	}
	return text
}
