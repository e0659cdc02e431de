package webhook_test

import (
	"context"
	"encoding/binary"
	"io"
	"log"
	"net"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"gancho/delivery/endpoint"
	"gancho/delivery/webhook"
)

// TestNotationsAndNames sends to a receiver that is there, by every way of
// writing its address, and none arrives unless it is allowed.
func TestNotationsAndNames(t *testing.T) {
	t.Parallel()
	var arrived atomic.Int64
	url := serve(t, http.HandlerFunc(func(http.ResponseWriter, *http.Request) { arrived.Add(1) }))
	_, port, _ := strings.Cut(strings.TrimPrefix(url, "http://"), ":")
	private := netip.MustParseAddr("127.0.0.1")
	names := resolver(t, func(string) []netip.Addr { return []netip.Addr{private} })
	sender := newSender(t, webhook.Options{Resolver: names})
	for _, host := range []string{
		"127.0.0.1", "127.1.2.3", "localhost", "[::ffff:127.0.0.1]", "[::ffff:7f00:1]", "[0:0:0:0:0:ffff:7f00:0001]", "[::1]", "[::]", "0.0.0.0", "0",
		// what some resolvers take for numbers: this one answers 127.0.0.1 to each
		"2130706433", "0x7f000001", "0x7f.0.0.1", "0177.0.0.1", "127.1", "127.0.1", "017700000001", "127.0.0.1.", "localhost.",
		"intranet.example.com", "127.0.0.1.nip.io", "①②⑦.0.0.1",
	} {
		ep := local("http://" + host + ":" + port)
		ep.AllowPrivate = nil
		o := sender.Send(t.Context(), ep, message())
		// A host that is no name at all does not get as far as the guard.
		if o.Kind != webhook.Retry || o.Class != webhook.ClassRefused && (o.Class != webhook.ClassDNS || strings.HasPrefix(host, "[")) {
			t.Errorf("%s: %v %s: %v; want it refused", host, o.Kind, o.Class, o.Err)
		}
	}
	if n := arrived.Load(); n != 0 {
		t.Fatalf("%d requests arrived at a private address", n)
	}
	mustDeliver(t, sender.Send(t.Context(), local("http://intranet.example.com:"+port), message()))
}

// TestRebinding: the name leads to an allowed address at first, then elsewhere.
func TestRebinding(t *testing.T) {
	t.Parallel()
	var moved atomic.Bool
	closing := http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { w.Header().Set("Connection", "close") })
	_, port, _ := strings.Cut(strings.TrimPrefix(serve(t, closing), "http://"), ":")
	names := resolver(t, func(string) []netip.Addr {
		if !moved.Load() {
			return []netip.Addr{netip.MustParseAddr("127.0.0.1")}
		}
		return []netip.Addr{netip.MustParseAddr("169.254.169.254"), netip.MustParseAddr("::ffff:10.0.0.1"), netip.MustParseAddr("fd00:ec2::254")}
	})
	sender := newSender(t, webhook.Options{Resolver: names})
	ep := local("http://rebinding.example.com:" + port)
	mustDeliver(t, sender.Send(t.Context(), ep, message()))
	moved.Store(true)
	check(t, sender.Send(t.Context(), ep, message()), want{webhook.Retry, 0, webhook.ClassRefused, "allow_private"})
}

// TestEmbeddedAddresses: IPv6 addresses that a gateway would turn into private
// IPv4 ones, and others that lead nowhere good, whatever the notation.
func TestEmbeddedAddresses(t *testing.T) {
	t.Parallel()
	sender := newSender(t, webhook.Options{})
	for _, host := range []string{
		"64:ff9b::7f00:1", "64:ff9b::127.0.0.1", "64:ff9b:1::a00:1", "64:ff9b:1:ffff:ffff:ffff:10.0.0.1", // NAT64
		"2002:7f00:1::", "2002:a9fe:a9fe::1", "2002:c0a8:0101::", // 6to4
		"2001:0:7f00:1::", "2001:0000:4136:e378:8000:63bf:80ff:fffe", // Teredo
		"::7f00:1", "::127.0.0.1", "::10.0.0.1", // IPv4-compatible
		"::ffff:127.0.0.1", "::FFFF:7F00:0001", "0:0:0:0:0:ffff:192.168.0.1", // IPv4-mapped
		"::ffff:0:127.0.0.1", "0:0:0:0:ffff:0:a00:1", // IPv4-translated (SIIT)
		"fe80::5efe:10.0.0.1", "fe80::1%25lo", "fd00::1", "fec0::1",
		"100::1", "5f00::1", "ff02::1", "0:0::1", "::0001", "4000::1", "e000::1",
	} {
		for _, proxy := range []string{"", "http://127.0.0.1:1"} {
			ep := local("https://[" + host + "]:8443")
			ep.AllowPrivate, ep.Proxy = nil, endpoint.Hidden(proxy)
			check(t, sender.Send(t.Context(), ep, message()), want{webhook.Retry, 0, webhook.ClassRefused, "allow_private: ["})
		}
	}
}

// TestNameServers: what they may answer, or not, and what is said of it.
func TestNameServers(t *testing.T) {
	t.Parallel()
	addresses := map[string][]string{
		"private.example.com":  {"10.0.0.1", "169.254.169.254"},
		"mapped.example.com":   {"::ffff:10.0.0.1"},
		"nat64.example.com":    {"64:ff9b::a00:1"},
		"loopback.example.com": {"127.0.0.1", "::1"},
		"zero.example.com":     {"0.0.0.0"},
	}
	names := resolver(t, func(name string) (list []netip.Addr) {
		for _, text := range addresses[name] {
			list = append(list, netip.MustParseAddr(text))
		}
		return list
	})
	silent := &net.Resolver{PreferGo: true, Dial: func(ctx context.Context, _, _ string) (net.Conn, error) {
		<-ctx.Done()
		return nil, ctx.Err()
	}}
	down := &net.Resolver{PreferGo: true, Dial: func(context.Context, string, string) (net.Conn, error) {
		return nil, syscall.ECONNREFUSED
	}}
	dns := func(text string) want { return want{webhook.Retry, 0, webhook.ClassDNS, text} }
	refused := func(text string) want { return want{webhook.Retry, 0, webhook.ClassRefused, text} }
	for name, c := range map[string]struct {
		resolver *net.Resolver
		host     string
		want     want
	}{
		"no such name":    {names, "nowhere.example.com", dns("no such host")},
		"no name at all":  {names, "a..b", dns("lookup a..b")},
		"private":         {names, "private.example.com", refused("refuse to connect to")},
		"mapped":          {names, "mapped.example.com", refused("10.0.0.0/8 (private)")},
		"NAT64":           {names, "nat64.example.com", refused("NAT64")},
		"loopback":        {names, "loopback.example.com", refused("loopback")},
		"zero":            {names, "zero.example.com", refused("this network")},
		"silent server":   {silent, "crm.example.com", want{webhook.Retry, 0, webhook.ClassTimeout, "no whole answer within 500ms"}},
		"server is down":  {down, "crm.example.com", dns("lookup crm.example.com")},
		"localhost":       {names, "localhost", refused("loopback")},
		"short":           {names, "127.1", dns("no such host")},
		"decimal":         {names, "2130706433", dns("no such host")},
		"octal":           {names, "0177.0.0.1", dns("no such host")},
		"hexadecimal":     {names, "0x7f.0.0.1", dns("no such host")},
		"one hexadecimal": {names, "0x7f000001", dns("no such host")},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			for _, proxy := range []string{"", "http://127.0.0.1:1"} {
				ep := local("https://" + c.host + "/s3cr3t")
				ep.AllowPrivate, ep.Proxy = nil, endpoint.Hidden(proxy)
				if c.want.class == webhook.ClassTimeout {
					ep.Timeout = 500 * time.Millisecond
				}
				check(t, newSender(t, webhook.Options{Resolver: c.resolver}).Send(t.Context(), ep, message()), c.want)
			}
		})
	}
}

func TestUnknownName(t *testing.T) {
	t.Parallel()
	names := resolver(t, func(string) []netip.Addr { return nil })
	sender := newSender(t, webhook.Options{Resolver: names})
	check(t, sender.Send(t.Context(), local("https://nowhere.example.com/s3cr3t"), message()),
		want{webhook.Retry, 0, webhook.ClassDNS, "lookup nowhere.example.com"})
}

// TestConnectionsAreNotLent: an endpoint must not send over a connection that
// only another one was allowed to make.
func TestConnectionsAreNotLent(t *testing.T) {
	t.Parallel()
	for _, http2 := range []bool{false, true} {
		var arrived atomic.Int64
		server := httptest.NewUnstartedServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { arrived.Add(1) }))
		server.EnableHTTP2 = http2
		server.Config.ErrorLog = log.New(io.Discard, "", 0) // connections that were begun and not needed
		server.StartTLS()
		t.Cleanup(server.Close)
		sender := newSender(t, webhook.Options{RootCAs: roots(server)})
		allowed, refused, elsewhere := local(server.URL), local(server.URL), local(server.URL)
		refused.AllowPrivate = nil
		elsewhere.AllowPrivate = []netip.Prefix{netip.MustParsePrefix("10.0.0.0/8")}
		same := local(server.URL)
		same.AllowPrivate = []netip.Prefix{loopback[1], loopback[0], loopback[1]}
		for range 2 {
			mustDeliver(t, sender.Send(t.Context(), allowed, message()))
			mustDeliver(t, sender.Send(t.Context(), same, message()))
			for _, ep := range []*endpoint.Endpoint{refused, elsewhere} {
				check(t, sender.Send(t.Context(), ep, message()), want{webhook.Retry, 0, webhook.ClassRefused, "127.0.0.0/8 (loopback)"})
			}
		}
		if n := arrived.Load(); n != 4 {
			t.Errorf("%d requests arrived, want those of the allowed endpoints", n)
		}
		if n := sender.Pools(); n != 3 {
			t.Errorf("%d pools of connections for three sets of allowed networks", n)
		}
	}
}

// TestProxiesAreNotUsed: behind a proxy the guard would judge the wrong address.
func TestProxiesAreNotUsed(t *testing.T) {
	var proxied atomic.Int64
	proxy := serve(t, http.HandlerFunc(func(http.ResponseWriter, *http.Request) { proxied.Add(1) }))
	for _, name := range []string{"HTTP_PROXY", "http_proxy", "HTTPS_PROXY", "https_proxy", "ALL_PROXY"} {
		t.Setenv(name, proxy)
	}
	names := resolver(t, func(string) []netip.Addr { return []netip.Addr{netip.MustParseAddr("10.0.0.1")} })
	sender := newSender(t, webhook.Options{Resolver: names})
	check(t, sender.Send(t.Context(), local("http://crm.example.com"), message()), want{webhook.Retry, 0, webhook.ClassRefused, "10.0.0.0/8"})
	if proxied.Load() != 0 {
		t.Error("the proxy was used")
	}
}

func TestCloseEndsDials(t *testing.T) {
	t.Parallel()
	asked := make(chan struct{}, 64) // a name is asked for several times
	names := &net.Resolver{PreferGo: true, Dial: func(ctx context.Context, _, _ string) (net.Conn, error) {
		asked <- struct{}{}
		<-ctx.Done()
		return nil, ctx.Err()
	}}
	sender := webhook.NewSender(webhook.Options{Resolver: names})
	ended := make(chan webhook.Outcome, 1)
	go func() { ended <- sender.Send(t.Context(), local("http://crm.example.com"), message()) }()
	select {
	case <-asked:
	case o := <-ended:
		t.Fatalf("no name was looked up: %v", o.Err)
	}
	sender.Close()
	if o := <-ended; o.Kind != webhook.Retry || o.Duration > 5*time.Second { // its own limit is 20 s, a dial's 10 s
		t.Errorf("outcome %v after %s", o.Kind, o.Duration)
	}
}

// resolver asks a name server of this test, in this process, that answers what
// addresses says, and nothing is asked of the network.
func resolver(t *testing.T, addresses func(name string) []netip.Addr) *net.Resolver {
	t.Helper()
	return &net.Resolver{PreferGo: true, Dial: func(context.Context, string, string) (net.Conn, error) {
		here, there := net.Pipe()
		go func() {
			var err error
			for err == nil {
				err = answerQuestion(there, addresses)
			}
			_ = there.Close()
		}()
		return here, nil
	}}
}

// answerQuestion reads one DNS question over a stream and answers it (RFC 1035).
func answerQuestion(c io.ReadWriter, addresses func(name string) []netip.Addr) error {
	var size [2]byte
	if _, err := io.ReadFull(c, size[:]); err != nil {
		return err
	}
	question := make([]byte, binary.BigEndian.Uint16(size[:]))
	if _, err := io.ReadFull(c, question); err != nil {
		return err
	}
	const header = 12
	end := header
	var labels []string
	for question[end] != 0 {
		n := int(question[end])
		labels = append(labels, string(question[end+1:end+1+n]))
		end += n + 1
	}
	end++
	wanted := binary.BigEndian.Uint16(question[end:])
	end += 4
	list := addresses(strings.Join(labels, "."))
	answer := append([]byte{question[0], question[1], 0x81, 0x80, 0, 1, 0, 0, 0, 0, 0, 0}, question[header:end]...)
	if len(list) == 0 {
		answer[3] |= 3 // no such name
	}
	for _, a := range list {
		kind := uint16(28)
		if a.Is4() {
			kind = 1
		}
		if kind != wanted {
			continue
		}
		answer[7]++
		answer = append(answer, 0xc0, header) // the question's name
		answer = binary.BigEndian.AppendUint16(answer, kind)
		answer = append(answer, 0, 1, 0, 0, 0, 0) // class IN, not to be kept
		answer = binary.BigEndian.AppendUint16(answer, uint16(len(a.AsSlice())))
		answer = append(answer, a.AsSlice()...)
	}
	_, err := c.Write(append(binary.BigEndian.AppendUint16(nil, uint16(len(answer))), answer...))
	return err
}
