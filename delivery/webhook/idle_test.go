package webhook_test

import (
	"bufio"
	"crypto/tls"
	"io"
	"net"
	"net/http"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"gancho/delivery/endpoint"
	"gancho/delivery/webhook"
)

// TestUnusedConnections: one that was made for a request that gave up, and has never been used,
// may be closed by the receiver, or be told something over: neither is an answer to the next event.
func TestUnusedConnections(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		says   string
		closes bool
		blind  bool // the sender has not heard of it when it writes
	}{
		"closed":                    {closes: true},
		"closed, not noticed":       {closes: true, blind: true},
		"408 and closed":            {says: "HTTP/1.1 408 Request Timeout\r\nContent-Length: 0\r\nConnection: close\r\n\r\n", closes: true},
		"a success, nobody's event": {says: ok},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			config, trusted := certified(t)
			release, said := make(chan struct{}), make(chan struct{})
			config.GetConfigForClient = func(*tls.ClientHelloInfo) (*tls.Config, error) {
				<-release
				return nil, nil
			}
			url, opened := scripted(t, config, func(n int64, con net.Conn, r *bufio.Reader) {
				if n > 0 {
					answers(refused)(n, con, r)
					return
				}
				if secure, is := con.(*tls.Conn); is {
					_ = secure.HandshakeContext(t.Context())
				}
				_, _ = io.WriteString(con, c.says)
				if c.closes {
					_ = con.Close()
				}
				close(said)
				_, _ = io.Copy(io.Discard, r)
			})
			sender, ep := newSender(t, webhook.Options{RootCAs: trusted}), local(url)
			ep.Timeout = 100 * time.Millisecond
			check(t, sender.Send(t.Context(), ep, message()), want{webhook.Retry, 0, webhook.ClassTimeout, "no whole answer within 100ms"})
			close(release)
			<-said
			for sender.Idle() == 0 {
				if !runtimeYields(t) {
					t.Fatal("the connection was not kept")
				}
			}
			if c.blind {
				sender.Blind()
			}
			next := local(url)
			next.TLS, next.Timeout = ep.TLS, 20*time.Second
			if o := sender.Send(t.Context(), next, message()); o.Status != http.StatusUnprocessableEntity {
				t.Errorf("%v, status %d, %v; want the answer to the request, 422", o.Kind, o.Status, o.Err)
			}
			if n := opened.Load(); n != 2 {
				t.Errorf("%d connections, want 2", n)
			}
		})
	}
}

// TestReceiverGivesUpHTTP2: the connection that shows it carries the request.
func TestReceiverGivesUpHTTP2(t *testing.T) {
	t.Parallel()
	var old atomic.Bool
	over := make(chan string, 2)
	server := numbered(t, true, func(_ http.ResponseWriter, r *http.Request) { over <- r.Proto })
	opened := &atomic.Int64{}
	server.TLS.GetConfigForClient = func(*tls.ClientHelloInfo) (*tls.Config, error) {
		opened.Add(1)
		config := server.TLS.Clone()
		if config.GetConfigForClient = nil; old.Load() {
			config.NextProtos = []string{"http/1.1"}
		}
		return config, nil
	}
	sender, ep := newSender(t, webhook.Options{RootCAs: roots(server)}), local(server.URL)
	mustDeliver(t, sender.Send(t.Context(), ep, message()))
	old.Store(true)
	before := opened.Load()
	sender.Redial(ep)
	mustDeliver(t, sender.Send(t.Context(), ep, message()))
	if first, second := <-over, <-over; first != "HTTP/2.0" || second != "HTTP/1.1" {
		t.Errorf("over %s, then %s", first, second)
	}
	if n := opened.Load() - before; n != 1 {
		t.Errorf("%d connections for a request, want 1", n)
	}
}

// TestRequestSentAgainIsDialedFor: what was not taken does not go over another connection that had
// been kept, which may have been closed just so.
func TestRequestSentAgainIsDialedFor(t *testing.T) {
	t.Parallel()
	const kept = 3
	both, restart, closed := make(chan struct{}), make(chan struct{}), make(chan struct{}, kept)
	var inside atomic.Int64
	url, opened := scripted(t, nil, func(n int64, c net.Conn, r *bufio.Reader) {
		if n >= kept {
			answers(ok)(n, c, r)
			return
		}
		request(r)
		if inside.Add(1) == kept {
			close(both)
		}
		<-both
		_, _ = io.WriteString(c, ok)
		<-restart
		_ = c.Close()
		closed <- struct{}{}
	})
	sender, ep := newSender(t, webhook.Options{}), local(url)
	ended := make(chan webhook.Outcome, kept)
	for range kept {
		go func() { ended <- sender.Send(t.Context(), ep, message()) }()
	}
	for range kept {
		mustDeliver(t, <-ended)
	}
	close(restart)
	for range kept {
		<-closed
	}
	sender.Blind()
	mustDeliver(t, sender.Send(t.Context(), ep, message()))
	if n := opened.Load(); n != kept+1 {
		t.Errorf("%d connections, want %d", n, kept+1)
	}
}

// TestKeptTunnelThatEnds: a request that the proxy's machine has not taken is sent again, over a new
// tunnel.
func TestKeptTunnelThatEnds(t *testing.T) {
	t.Parallel()
	p := newProxy(t)
	p.ended = make(chan struct{}, 8)
	url, _ := scripted(t, nil, func(n int64, c net.Conn, r *bufio.Reader) {
		if request(r); n > 0 {
			_, _ = io.WriteString(c, refused)
			return
		}
		_, _ = io.WriteString(c, ok)
	})
	sender, ep := newSender(t, webhook.Options{}), local(url)
	ep.Proxy = endpoint.Hidden(p.url)
	mustDeliver(t, sender.Send(t.Context(), ep, message()))
	<-p.ended
	sender.Blind()
	if o := sender.Send(t.Context(), ep, message()); o.Status != http.StatusUnprocessableEntity {
		t.Errorf("%v, status %d, %v; want the second tunnel's answer, 422", o.Kind, o.Status, o.Err)
	}
	if n := len(p.seen()); n != 2 {
		t.Errorf("%d tunnels, want 2", n)
	}
}

// corked keeps what is written while it is corked.
type corked struct {
	net.Conn
	on   bool
	text []byte
}

func (c *corked) Write(p []byte) (int, error) {
	if !c.on {
		return c.Conn.Write(p)
	}
	c.text = append(c.text, p...)
	return len(p), nil
}

// TestUselessConnectionsCostNoDials: a request that is handed connections that are of no use has
// one made for it, not one for each.
func TestUselessConnectionsCostNoDials(t *testing.T) {
	t.Parallel()
	config, trusted := certified(t)
	const useless = 4
	var inside atomic.Int64
	all, last, release := make(chan struct{}), make(chan struct{}), make(chan struct{})
	url, opened := scripted(t, nil, func(n int64, c net.Conn, _ *bufio.Reader) {
		if n == useless {
			close(last)
			<-release
		}
		cork := &corked{Conn: c}
		secure := tls.Server(cork, config)
		r := bufio.NewReader(secure)
		if n >= useless {
			answers(ok)(n, secure, r)
			return
		}
		request(r)
		if inside.Add(1) == useless {
			close(all)
		}
		<-last // another request waits
		cork.on = true
		_, _ = io.WriteString(secure, ok)
		_, _ = io.WriteString(secure, "x") // in a record of its own, which arrives with the answer
		_, _ = c.Write(cork.text)
		_, _ = io.Copy(io.Discard, c)
	})
	sender, ep := newSender(t, webhook.Options{RootCAs: trusted}), local(strings.Replace(url, "http", "https", 1))
	ended := make(chan webhook.Outcome, useless+1)
	for range useless {
		go func() { ended <- sender.Send(t.Context(), ep, message()) }()
	}
	<-all
	go func() { ended <- sender.Send(t.Context(), ep, message()) }()
	for range useless {
		mustDeliver(t, <-ended)
	}
	close(release)
	mustDeliver(t, <-ended)
	if n := opened.Load(); n != useless+1 {
		t.Errorf("%d connections, want %d", n, useless+1)
	}
}
