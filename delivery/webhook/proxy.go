package webhook

import (
	"bufio"
	"bytes"
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	"net/url"
	"strings"
	"time"
)

// maxProxyAnswer bounds what a proxy may say before the tunnel opens.
const maxProxyAnswer = 16 << 10

// proxyError says that an endpoint's proxy could not be used or did not connect
// to the receiver.
type proxyError struct {
	proxy  string // host and port
	status int    // of its answer; 0: none came
	err    error  // what went wrong when no answer came; it holds no password
}

// Error names the proxy and the way out.
func (e *proxyError) Error() string {
	if e.status == 0 {
		return fmt.Sprintf("connect through proxy %s: %v", e.proxy, e.err)
	}
	text := fmt.Sprintf("connect through proxy %s: it answered %s", e.proxy, strings.TrimSpace(fmt.Sprintf("%d %s", e.status, http.StatusText(e.status))))
	switch e.status {
	case http.StatusProxyAuthRequired:
		text += "; put user and password into the endpoint's proxy url"
	case http.StatusForbidden, http.StatusMethodNotAllowed:
		text += "; it has to allow CONNECT to the receiver's address and port"
	}
	return text
}

// Unwrap returns what went wrong when no answer came.
func (e *proxyError) Unwrap() error { return e.err }

// tunnel connects to receivers through an HTTP proxy. It looks up the
// receiver's name itself and asks the proxy for an address that has passed the
// guard: were the proxy given the name, its own look-up might lead elsewhere.
// For the same reason plain HTTP goes through a tunnel, too. The proxy's own
// address is not judged.
type tunnel struct {
	guard    guard
	address  string // of the proxy
	login    string // Proxy-Authorization, empty for none
	version  string // Gancho's
	resolver *net.Resolver
	dialer   *net.Dialer
}

func newTunnel(o *Options, g guard, u *url.URL) *tunnel {
	t := &tunnel{guard: g, address: u.Host, version: o.Version, resolver: cmp.Or(o.Resolver, net.DefaultResolver)}
	t.dialer = &net.Dialer{Timeout: dialTimeout, Resolver: o.Resolver}
	if u.User != nil {
		t.login = "Basic " + basicCredentials(u.User)
	}
	return t
}

// connect tries the receiver's addresses one after the other, as a direct
// connection would. The errors of those that were tried come before those of
// addresses that the guard refused.
func (t *tunnel) connect(ctx context.Context, _, address string) (net.Conn, error) {
	ctx, cancel := context.WithTimeout(ctx, dialTimeout)
	defer cancel()
	receivers, err := t.resolve(ctx, address)
	if err != nil {
		return nil, err
	}
	var refused, failed error
	for _, receiver := range receivers {
		if err := t.guard.check(receiver.Addr()); err != nil {
			refused = err
			continue
		}
		conn, err := t.dial(ctx, receiver)
		if err == nil {
			return conn, nil
		}
		failed = err
		answer, ok := errors.AsType[*proxyError](err)
		if ctx.Err() != nil || ok && answer.status < http.StatusInternalServerError {
			break // another address would meet the same
		}
	}
	return nil, cmp.Or(failed, refused)
}

// resolve returns the receiver's addresses, at least one.
func (t *tunnel) resolve(ctx context.Context, address string) ([]netip.AddrPort, error) {
	host, service, err := net.SplitHostPort(address)
	if err != nil {
		return nil, fmt.Errorf("read the receiver's address: %w", err)
	}
	port, err := t.resolver.LookupPort(ctx, "tcp", service)
	if err != nil {
		return nil, err
	}
	addresses, err := t.resolver.LookupNetIP(ctx, "ip", host)
	if err != nil {
		return nil, err
	}
	list := make([]netip.AddrPort, len(addresses))
	for i, a := range addresses {
		list[i] = netip.AddrPortFrom(a.Unmap().WithZone(""), uint16(port))
	}
	return list, nil
}

// dial makes a connection to the proxy and has it connected to the receiver.
func (t *tunnel) dial(ctx context.Context, receiver netip.AddrPort) (net.Conn, error) {
	conn, err := t.dialer.DialContext(ctx, "tcp", t.address)
	if err != nil {
		return nil, &proxyError{proxy: t.address, err: err}
	}
	w := newWire(conn) // which counts CONNECT, too: the proxy acknowledges it
	release := context.AfterFunc(ctx, func() { _ = conn.SetDeadline(time.Unix(1, 0)) })
	status, err := t.requestTunnel(w, receiver)
	if !release() && err == nil {
		status, err = 0, context.Cause(ctx)
	}
	if err == nil && status/100 == 2 {
		return w, nil
	}
	_ = conn.Close() // nothing was sent over it that matters
	return nil, &proxyError{proxy: t.address, status: status, err: err}
}

// requestTunnel sends CONNECT and returns the answer's status.
// https://www.rfc-editor.org/rfc/rfc9110#name-connect
func (t *tunnel) requestTunnel(conn net.Conn, receiver netip.AddrPort) (status int, err error) {
	var request bytes.Buffer
	fmt.Fprintf(&request, "CONNECT %s HTTP/1.1\r\nHost: %s\r\nUser-Agent: Gancho/%s\r\n", receiver, receiver, t.version)
	if t.login != "" {
		fmt.Fprintf(&request, "Proxy-Authorization: %s\r\n", t.login)
	}
	request.WriteString("\r\n")
	if _, err := conn.Write(request.Bytes()); err != nil {
		return 0, err
	}
	reader := bufio.NewReader(io.LimitReader(conn, maxProxyAnswer))
	answer, err := http.ReadResponse(reader, &http.Request{Method: http.MethodConnect}) //nolint:bodyclose // it ends with the connection, unread
	switch {
	case errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF):
		return 0, errors.New("it closed the connection, or said too much")
	case err != nil && isProtocol(err):
		return 0, errors.New("its answer is not valid HTTP")
	case err != nil:
		return 0, err
	}
	// The receiver speaks after the sender, so nothing may have come from it.
	if answer.StatusCode/100 == 2 && reader.Buffered() > 0 {
		return 0, errors.New("it sent more than its answer")
	}
	return answer.StatusCode, nil
}
