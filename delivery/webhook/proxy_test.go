package webhook_test

import (
	"bufio"
	"errors"
	"io"
	"net"
	"net/http"
	"net/netip"
	"strings"
	"sync"
	"testing"
	"time"

	"gancho/delivery/endpoint"
	"gancho/delivery/webhook"

	"github.com/google/go-cmp/cmp"
)

// proxy is an HTTP proxy that opens tunnels, or answers what it is told to.
type proxy struct {
	url, address string
	answer       string        // raw, instead of a tunnel
	login        string        // demanded
	ended        chan struct{} // told of each tunnel; nil: nobody

	mu     sync.Mutex
	asked  []string // what CONNECT was for
	logins []string
}

func newProxy(t testing.TB) *proxy {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	p := &proxy{address: listener.Addr().String()}
	p.url = "http://" + p.address
	var group sync.WaitGroup
	group.Go(func() {
		for {
			c, err := listener.Accept()
			if err != nil {
				return
			}
			defer func() { _ = c.Close() }() // a client may keep its own for the next request
			group.Go(func() { p.serve(c) })
		}
	})
	t.Cleanup(func() {
		_ = listener.Close()
		group.Wait()
	})
	return p
}

func (p *proxy) serve(c net.Conn) {
	defer func() { _ = c.Close() }()
	reader := bufio.NewReader(c)
	r, err := http.ReadRequest(reader)
	if err != nil {
		return
	}
	p.mu.Lock()
	p.asked = append(p.asked, r.Method+" "+r.RequestURI)
	p.logins = append(p.logins, r.Header.Get("Proxy-Authorization"))
	p.mu.Unlock()
	switch {
	case p.answer != "":
		_, _ = io.WriteString(c, p.answer)
		if strings.HasSuffix(p.answer, "...") {
			_, _ = io.Copy(io.Discard, c) // and says nothing more
		}
		return
	case p.login != "" && r.Header.Get("Proxy-Authorization") != p.login:
		_, _ = io.WriteString(c, "HTTP/1.1 407 Proxy Authentication Required\r\nProxy-Authenticate: Basic realm=s3cr3t\r\nContent-Length: 999999\r\n\r\ns3cr3t")
		return
	}
	there, err := net.Dial("tcp", r.RequestURI)
	if err != nil {
		_, _ = io.WriteString(c, "HTTP/1.1 502 Bad Gateway\r\n\r\n")
		return
	}
	defer func() { _ = there.Close() }()
	_, _ = io.WriteString(c, "HTTP/1.1 200 Connection established\r\nVia: test\r\n\r\n")
	done := make(chan struct{}, 2)
	go func() { _, _ = io.Copy(there, reader); done <- struct{}{} }()
	go func() { _, _ = io.Copy(c, there); done <- struct{}{} }()
	<-done
	_ = c.Close()
	_ = there.Close()
	if p.ended != nil {
		p.ended <- struct{}{}
	}
	<-done
}

func (p *proxy) seen() []string {
	p.mu.Lock()
	defer p.mu.Unlock()
	return append([]string{}, p.asked...)
}

func TestProxy(t *testing.T) {
	t.Parallel()
	own := newAuthority(t, "own")
	got := make(chan received, 8)
	port := tlsServer(t, own, certificateOptions{names: []string{"crm.example.com"}}, collect(got), nil)
	p := newProxy(t)
	p.login = "Basic YW5hOnMzY3IzdEA=" // ana:s3cr3t@
	// The first address is refused, the next not there; the third is the receiver's.
	names := resolver(t, func(string) []netip.Addr {
		return []netip.Addr{netip.MustParseAddr("10.9.9.9"), netip.MustParseAddr("127.0.0.2"), netip.MustParseAddr("127.0.0.1")}
	})
	_, plainPort, err := net.SplitHostPort(strings.TrimPrefix(serve(t, collect(got)), "http://"))
	if err != nil {
		t.Fatal(err)
	}
	sender := newSender(t, webhook.Options{Resolver: names})
	ep := local("https://crm.example.com:" + port + "/hook")
	ep.TLS.CA, ep.Proxy = own.pem, endpoint.Hidden(strings.Replace(p.url, "http://", "http://ana:s3cr3t%40@", 1))
	for range 3 {
		mustDeliver(t, sender.Send(t.Context(), ep, message()))
		if r := <-got; r.proto != "HTTP/2.0" || r.header.Get("Proxy-Authorization") != "" {
			t.Errorf("arrived over %s, with the proxy's login %q", r.proto, r.header.Get("Proxy-Authorization"))
		}
	}
	plain := local("http://crm.example.com:" + plainPort)
	plain.Proxy = ep.Proxy
	mustDeliver(t, sender.Send(t.Context(), plain, message()))
	if r := <-got; r.proto != "HTTP/1.1" {
		t.Errorf("plain HTTP arrived over %s", r.proto)
	}
	wanted := []string{"CONNECT 127.0.0.2:" + port, "CONNECT 127.0.0.1:" + port, "CONNECT 127.0.0.2:" + plainPort, "CONNECT 127.0.0.1:" + plainPort}
	if diff := cmp.Diff(wanted, p.seen()); diff != "" {
		t.Errorf("the proxy is asked for addresses that have passed the guard, once per connection (want -, got +):\n%s", diff)
	}
	if n := sender.Pools(); n != 2 { // one trusts the test's CA
		t.Errorf("%d pools", n)
	}
}

// TestProxyFailures: what is said when the proxy is the problem, and that it
// never gets to see what the guard refuses.
func TestProxyFailures(t *testing.T) {
	t.Parallel()
	refusing := func(answer string) *proxy { p := newProxy(t); p.answer = answer; return p }
	authentic := newProxy(t)
	authentic.login = "Basic YW5hOm90aGVy"
	closed, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	gone := &proxy{url: "http://" + closed.Addr().String(), address: closed.Addr().String()}
	if err := closed.Close(); err != nil {
		t.Fatal(err)
	}
	names := resolver(t, func(name string) []netip.Addr {
		switch name {
		case "internal.example.com":
			return []netip.Addr{netip.MustParseAddr("169.254.169.254"), netip.MustParseAddr("10.0.0.1")}
		case "nowhere.example.com":
			return nil
		}
		return []netip.Addr{netip.MustParseAddr("127.0.0.1")}
	})
	for name, c := range map[string]struct {
		proxy   *proxy
		url     string
		limit   time.Duration
		class   string
		text    string
		reached int // times that the proxy was asked
	}{
		"not there":           {gone, "https://crm.example.com", 0, webhook.ClassProxy, "connect through proxy " + gone.address + ": dial tcp", 0},
		"wants a login":       {authentic, "https://crm.example.com", 0, webhook.ClassProxy, "407 Proxy Authentication Required; put user and password", 1},
		"forbids":             {refusing("HTTP/1.1 403 s3cr3t\r\n\r\n"), "http://crm.example.com", 0, webhook.ClassProxy, "403 Forbidden; it has to allow CONNECT", 1},
		"cannot":              {refusing("HTTP/1.0 502 s3cr3t\r\n\r\n"), "https://crm.example.com", 0, webhook.ClassProxy, "answered 502 Bad Gateway", 1},
		"redirects":           {refusing("HTTP/1.1 302 s3cr3t\r\nLocation: http://s3cr3t\r\n\r\n"), "https://crm.example.com", 0, webhook.ClassProxy, "answered 302", 1},
		"is no proxy":         {refusing("220 s3cr3t ESMTP\r\n"), "https://crm.example.com", 0, webhook.ClassProxy, "not valid HTTP", 1},
		"hangs up":            {refusing("HTTP/1.1 200 OK\r\nX:"), "https://crm.example.com", 0, webhook.ClassProxy, "closed the connection", 1},
		"says too much":       {refusing("HTTP/1.1 200 OK\r\nX: " + strings.Repeat("s3cr3t", 4000)), "https://crm.example.com", 0, webhook.ClassProxy, "said too much", 1},
		"speaks first":        {refusing("HTTP/1.1 200 OK\r\n\r\ns3cr3t"), "https://crm.example.com", 0, webhook.ClassProxy, "more than its answer", 1},
		"never answers":       {refusing("HTTP/1.1 200 OK\r\n..."), "https://crm.example.com", 300 * time.Millisecond, webhook.ClassTimeout, "no whole answer within 300ms", 1},
		"a private name":      {newProxy(t), "https://internal.example.com", 0, webhook.ClassRefused, "allow_private", 0},
		"a private address":   {newProxy(t), "https://10.0.0.1", 0, webhook.ClassRefused, "10.0.0.0/8 (private)", 0},
		"a mapped address":    {newProxy(t), "https://[::ffff:10.0.0.1]", 0, webhook.ClassRefused, "10.0.0.0/8 (private)", 0},
		"a NAT64 address":     {newProxy(t), "https://[64:ff9b::a9fe:a9fe]", 0, webhook.ClassRefused, "64:ff9b::/96 (NAT64)", 0},
		"a name that is none": {newProxy(t), "https://nowhere.example.com", 0, webhook.ClassDNS, "lookup nowhere.example.com", 0},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			ep := local(c.url + "/s3cr3t")
			ep.Proxy = endpoint.Hidden(strings.Replace(c.proxy.url, "http://", "http://ana:s3cr3t@", 1))
			if c.limit > 0 {
				ep.Timeout = c.limit
			}
			o := newSender(t, webhook.Options{Resolver: names}).Send(t.Context(), ep, message())
			check(t, o, want{webhook.Retry, 0, c.class, c.text})
			for err := o.Err; err != nil; err = errors.Unwrap(err) {
				if strings.Contains(err.Error(), "s3cr3t") || strings.Contains(err.Error(), "YW5h") {
					t.Errorf("error %q shows a secret", err)
				}
			}
			if n := len(c.proxy.seen()); n != c.reached {
				t.Errorf("the proxy was asked %d times, want %d: %v", n, c.reached, c.proxy.seen())
			}
		})
	}
}

// TestProxyIsNotGuarded: the operator has named it, and its network is not the
// receiver's.
func TestProxyIsNotGuarded(t *testing.T) {
	t.Parallel()
	p := newProxy(t)
	p.answer = "HTTP/1.1 418 No\r\n\r\n"
	ep := local("https://93.184.216.34")
	ep.AllowPrivate, ep.Proxy = nil, endpoint.Hidden(p.url)
	check(t, newSender(t, webhook.Options{}).Send(t.Context(), ep, message()), want{webhook.Retry, 0, webhook.ClassProxy, "answered 418"})
	if diff := cmp.Diff([]string{"CONNECT 93.184.216.34:443"}, p.seen()); diff != "" {
		t.Error(diff)
	}
}
