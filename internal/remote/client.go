package remote

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"net"
	"net/http"
	"net/url"
	"strings"
	"time"

	"gancho/internal/api"
	"gancho/internal/machine"
	"gancho/internal/servercert"
)

const (
	// maxAnswer bounds an answer, in bytes: a page of the longest list has less.
	maxAnswer = 64 << 20
	// answerTimeout is longer than the bridge works on any request.
	answerTimeout = 11 * time.Minute
	root          = "/api/v1"
)

// Options are what New needs.
type Options struct {
	// Address is the bridge's, such as https://webhooks.example.com:8622.
	Address string
	Token   string
	// Source is the one of several that is asked about, where a request may name it; "": all, or there is one.
	Source string
	// Version is the command's, for the bridge's log.
	Version string
	// Certificate is the bridge's, in PEM, where it has to be this one under whatever name it is asked: that of http.tls of the
	// configuration that both have. Empty: the authorities of the machine say whether it is right.
	Certificate []byte
	// Transport makes the requests; nil: one of its own, through the proxy that the environment names.
	Transport http.RoundTripper
}

// Client asks one bridge. It is safe for concurrent use.
type Client struct {
	address, token, version string
	source                  string
	http                    http.Client
}

// AddressError is an address that is none, or one that a token may not be sent to.
type AddressError struct{ Address, Why string }

// Error says what to write.
func (e *AddressError) Error() string { return fmt.Sprintf("%q %s", e.Address, e.Why) }

// ErrToken reports a token that is none: such as one that was pasted with more around it.
var ErrToken = errors.New("the token has characters that no token has; copy it alone, gancho_ and what follows")

// New returns a client; the error is an *AddressError or ErrToken. The caller closes it.
func New(o Options) (*Client, error) {
	address, err := CheckAddress(o.Address)
	if err != nil {
		return nil, err
	}
	if strings.ContainsFunc(o.Token, func(r rune) bool { return r <= ' ' || r >= 0x7f }) {
		return nil, ErrToken
	}
	transport := o.Transport
	if transport == nil {
		if transport, err = newTransport(address, o.Certificate); err != nil {
			return nil, err
		}
	}
	c := &Client{address: address, token: o.Token, version: o.Version, source: o.Source}
	c.http = http.Client{Transport: transport, CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }}
	return c, nil
}

// Address is the bridge's, without a path.
func (c *Client) Address() string { return c.address }

// newTransport returns one for an address that CheckAddress has returned.
func newTransport(address string, certificate []byte) (*http.Transport, error) {
	t := &http.Transport{Proxy: http.ProxyFromEnvironment, ForceAttemptHTTP2: true, ResponseHeaderTimeout: answerTimeout, TLSHandshakeTimeout: 10 * time.Second}
	t.DialContext = (&net.Dialer{Timeout: 10 * time.Second}).DialContext
	if strings.HasPrefix(address, "http://") {
		t.Proxy = nil // it would read the token, which is for this machine
	}
	if len(certificate) == 0 {
		return t, nil
	}
	pinned, err := servercert.Pin(certificate)
	if err != nil {
		return nil, err
	}
	t.Proxy, t.TLSClientConfig = nil, pinned
	return t, nil
}

// Close closes the connections.
func (c *Client) Close() { c.http.CloseIdleConnections() }

// CheckAddress returns a bridge's address as scheme and host. The error is an *AddressError: it is none, or it would carry a token
// over a network without TLS.
func CheckAddress(text string) (string, error) {
	u, err := url.Parse(text)
	switch {
	case err != nil || u.Host == "" || u.Scheme != "https" && u.Scheme != "http":
		return "", &AddressError{alone(text), "is not the address of a gancho run; write such as https://webhooks.example.com:8622"}
	case u.Hostname() == "":
		return "", &AddressError{alone(text), "has no host; write such as https://webhooks.example.com:8622"}
	case u.User != nil || u.RawQuery != "" || u.Fragment != "" || strings.Trim(u.Path, "/") != "":
		return "", &AddressError{u.Scheme + "://" + u.Host, "has to stand alone, without a path, a user or a query"}
	case u.Scheme == "http" && !machine.Own(u.Hostname()):
		return "", &AddressError{text, "has no TLS, and a token would cross the network readable by others; write https:// (http.tls there, or a reverse proxy before http.listen, has the certificate), or go through a tunnel to 127.0.0.1"}
	}
	return u.Scheme + "://" + strings.ToLower(u.Host), nil
}

// alone is what was given for an address, without the user and the password that may be before its host.
func alone(text string) string {
	return text[strings.LastIndexByte(text, '@')+1:] // a password may have one, too
}

// request is one of the API's.
type request struct {
	method string
	// path is as in openapi.yaml; args are put in the place of its {members}, in their order.
	path  string
	args  []string
	query url.Values
	body  any // JSON; nil: none
	// version of an endpoint that it is for; 0: any.
	version int64
}

// target is the request's path with its args.
func (r *request) target() string {
	path := r.path
	for _, arg := range r.args {
		before, rest, _ := strings.Cut(path, "{")
		_, after, _ := strings.Cut(rest, "}")
		path = before + url.PathEscape(arg) + after
	}
	if len(r.query) > 0 {
		path += "?" + r.query.Encode()
	}
	return root + path
}

// ask sends a request and reads its answer into a value; nil: there is none.
func (c *Client) ask(ctx context.Context, r request, into any) error {
	answer, err := c.send(ctx, &r)
	if err != nil {
		return err
	}
	defer func() { _ = answer.Body.Close() }() // it is read only
	body, err := io.ReadAll(io.LimitReader(answer.Body, maxAnswer+1))
	switch {
	case err != nil:
		return &UnreachableError{c.address, err}
	case len(body) > maxAnswer:
		return fmt.Errorf("ask gancho run at %s: its answer has more than %d MiB; ask for less", c.address, maxAnswer>>20)
	case answer.StatusCode >= http.StatusMultipleChoices:
		return c.refused(ctx, &r, answer, body)
	case into == nil:
		return nil
	}
	if err := json.Unmarshal(body, into); err != nil {
		return c.unreadable(err)
	}
	return nil
}

func (c *Client) unreadable(err error) error {
	return fmt.Errorf("ask gancho run at %s: its answer cannot be read, it may be of another version: %w", c.address, err)
}

// send sends a request with the token.
func (c *Client) send(ctx context.Context, r *request) (*http.Response, error) {
	var body io.Reader
	if r.body != nil {
		text, err := json.Marshal(r.body)
		if err != nil {
			return nil, err
		}
		body = bytes.NewReader(text)
	}
	if c.source != "" && api.TakesSource(r.method, r.path) {
		r.query = maps.Clone(r.query)
		if r.query == nil {
			r.query = url.Values{}
		}
		r.query.Set("source", c.source)
	}
	out, err := http.NewRequestWithContext(ctx, r.method, c.address+r.target(), body)
	if err != nil {
		return nil, &AddressError{c.address, "cannot be asked"}
	}
	out.Header.Set("Authorization", "Bearer "+c.token)
	out.Header.Set("User-Agent", "gancho/"+c.version)
	if body != nil {
		out.Header.Set("Content-Type", "application/json")
	}
	if r.version > 0 {
		out.Header.Set("If-Match", fmt.Sprintf(`"%d"`, r.version))
	}
	answer, err := c.http.Do(out)
	if err != nil {
		if wrapped := new(url.Error); errors.As(err, &wrapped) {
			err = wrapped.Err // without the address, whose query may have keys
		}
		return nil, &UnreachableError{c.address, err}
	}
	return answer, nil
}
