package webhook_test

import (
	"bufio"
	"context"
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"runtime"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"gancho/delivery/webhook"
)

// scripted is a receiver that does what a script says with each connection, which has the number
// of connections before it. The script reads requests with its reader.
func scripted(t testing.TB, secure *tls.Config, script func(n int64, c net.Conn, r *bufio.Reader)) (url string, opened *atomic.Int64) {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	url = "http://" + listener.Addr().String()
	if secure != nil {
		listener, url = tls.NewListener(listener, secure), strings.Replace(url, "http", "https", 1)
	}
	opened = &atomic.Int64{}
	ended := make(chan struct{})
	connections := make(chan struct{}, 1<<10)
	go func() {
		defer close(ended)
		for {
			c, err := listener.Accept()
			if err != nil {
				return
			}
			n := opened.Add(1) - 1
			connections <- struct{}{}
			go func() {
				defer func() { <-connections }()
				script(n, c, bufio.NewReader(c))
				_ = c.Close()
			}()
		}
	}()
	t.Cleanup(func() {
		_ = listener.Close()
		<-ended
		for range cap(connections) {
			connections <- struct{}{} // full when none is open
		}
	})
	return url, opened
}

// request reads one, and reports false at the end of the connection.
func request(r *bufio.Reader) bool {
	req, err := http.ReadRequest(r)
	if err != nil {
		return false
	}
	_, err = io.Copy(io.Discard, req.Body)
	return err == nil
}

// answers writes the texts one by one, each when a request has come, and the last of them for all
// that follow.
func answers(texts ...string) func(int64, net.Conn, *bufio.Reader) {
	return func(_ int64, c net.Conn, r *bufio.Reader) {
		for i := 0; request(r); i++ {
			if _, err := io.WriteString(c, texts[min(i, len(texts)-1)]); err != nil {
				return
			}
		}
	}
}

const (
	ok      = "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"
	refused = "HTTP/1.1 422 No\r\nContent-Length: 0\r\n\r\n"
)

// TestConnectionsAreKeptOrNot: after which answers a second request goes over the same connection.
func TestConnectionsAreKeptOrNot(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		answer string
		closes bool // the receiver does, after it
		status int
		opened int64 // by three requests
	}{
		"length":                      {ok, false, 200, 1},
		"no body":                     {"HTTP/1.1 204 No Content\r\n\r\n", false, 204, 1},
		"chunks":                      {"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n0\r\n\r\n", false, 200, 1},
		"chunks and a trailer":        {"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nTrailer: X-A\r\n\r\n2\r\nok\r\n0\r\nX-A: b\r\n\r\n", false, 200, 1},
		"a failure":                   {refused, false, 422, 1},
		"not modified":                {"HTTP/1.1 304 Not Modified\r\nContent-Length: 700\r\n\r\n", false, 304, 1},
		"after 100":                   {"HTTP/1.1 100 Continue\r\n\r\n" + ok, false, 200, 1},
		"after 102 and 103 and 103":   {"HTTP/1.1 102 Processing\r\n\r\n" + strings.Repeat("HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\n", 2) + ok, false, 200, 1},
		"that closes":                 {"HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 2\r\n\r\nok", true, 200, 3},
		"that says it closes":         {"HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 2\r\n\r\nok", false, 200, 3},
		"up to the end":               {"HTTP/1.1 200 OK\r\n\r\nok", true, 200, 3},
		"HTTP/1.0":                    {"HTTP/1.0 200 OK\r\nContent-Length: 2\r\n\r\nok", true, 200, 3},
		"HTTP/1.0 that keeps":         {"HTTP/1.0 200 OK\r\nConnection: keep-alive\r\nContent-Length: 2\r\n\r\nok", false, 200, 1},
		"HTTP/1.0 up to the end":      {"HTTP/1.0 200 OK\r\n\r\nok", true, 200, 3},
		"more than was announced":     {ok + "!", false, 200, 3},
		"two at once":                 {ok + refused, false, 200, 3},
		"another protocol":            {"HTTP/1.1 101 Switching Protocols\r\nUpgrade: x\r\nConnection: Upgrade\r\n\r\n", false, 101, 3},
		"a body that is not all read": {"HTTP/1.1 200 OK\r\nContent-Length: 70000\r\n\r\n" + strings.Repeat("x", 70000), false, 200, 3},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			url, opened := scripted(t, nil, func(_ int64, con net.Conn, r *bufio.Reader) {
				for request(r) {
					if _, err := io.WriteString(con, c.answer); err != nil || c.closes {
						return
					}
				}
			})
			sender, ep := newSender(t, webhook.Options{}), local(url)
			for range 3 {
				if o := sender.Send(t.Context(), ep, message()); o.Status != c.status || o.Class != webhook.ClassOK && o.Class != webhook.ClassStatus {
					t.Fatalf("%v, status %d, class %s: %v", o.Kind, o.Status, o.Class, o.Err)
				}
			}
			if n := opened.Load(); n != c.opened {
				t.Errorf("%d connections, want %d", n, c.opened)
			}
		})
	}
}

// TestAnswerBeforeTheBody: a receiver that answers before it has read the event gets its answer
// read, whether it closes the connection or leaves the rest unread.
func TestAnswerBeforeTheBody(t *testing.T) {
	t.Parallel()
	config, trusted := certified(t)
	for name, after := range map[string]func(t *testing.T, body io.Reader) (next bool){
		"closes":        func(*testing.T, io.Reader) bool { return false },
		"reads no more": func(t *testing.T, _ io.Reader) bool { <-t.Context().Done(); return false },
		"reads on": func(_ *testing.T, body io.Reader) bool {
			_, err := io.Copy(io.Discard, body)
			return err == nil
		},
	} {
		for _, size := range []int{100, 12 << 10, 8 << 20} {
			for _, config := range []*tls.Config{nil, config} {
				t.Run(fmt.Sprintf("%s, %d bytes, TLS %v", name, size, config != nil), func(t *testing.T) {
					t.Parallel()
					url, _ := scripted(t, config, func(_ int64, c net.Conn, r *bufio.Reader) {
						for {
							req, err := http.ReadRequest(r)
							if err != nil {
								return
							}
							if _, err := io.WriteString(c, "HTTP/1.1 413 Too Large\r\nContent-Length: 4\r\n\r\nmuch"); err != nil || !after(t, req.Body) {
								return
							}
						}
					})
					sender := newSender(t, webhook.Options{RootCAs: trusted})
					m := message()
					m.Data = []byte(`"` + strings.Repeat("x", size) + `"`)
					for range 3 {
						ep := local(url)
						if name != "reads on" {
							sender.Redial(ep)
						}
						o := sender.Send(t.Context(), ep, m)
						check(t, o, want{webhook.Refused, http.StatusRequestEntityTooLarge, webhook.ClassStatus, "413"})
						if string(o.Answer) != "much" {
							t.Errorf("answer %q", o.Answer)
						}
					}
				})
			}
		}
	}
}

// certified is a receiver's configuration of TLS for 127.0.0.1, and who trusts it.
func certified(t *testing.T) (*tls.Config, *x509.CertPool) {
	t.Helper()
	server := httptest.NewTLSServer(http.NotFoundHandler())
	t.Cleanup(server.Close)
	return &tls.Config{Certificates: server.TLS.Certificates, MinVersion: tls.VersionTLS12}, roots(server)
}

// TestUnaskedAnswers: what a receiver says when nobody has asked does not pass for the answer to
// the next event.
func TestUnaskedAnswers(t *testing.T) {
	t.Parallel()
	config, trusted := certified(t)
	for _, config := range []*tls.Config{nil, config} {
		for _, unasked := range []string{ok, "HTTP/1.1 408 Request Timeout\r\nContent-Length: 0\r\nConnection: close\r\n\r\n", "x"} {
			said := make(chan struct{}, 1)
			url, opened := scripted(t, config, func(n int64, c net.Conn, r *bufio.Reader) {
				if n > 0 {
					answers(refused)(n, c, r)
					return
				}
				request(r)
				_, _ = io.WriteString(c, refused)
				_, _ = io.WriteString(c, unasked) // in a packet, and a record of TLS, of its own
				said <- struct{}{}
				_, _ = io.Copy(io.Discard, r)
			})
			sender, ep := newSender(t, webhook.Options{RootCAs: trusted}), local(url)
			for i := range 3 {
				if o := sender.Send(t.Context(), ep, message()); o.Status != http.StatusUnprocessableEntity {
					t.Errorf("attempt %d: status %d, %v, after %q unasked", i, o.Status, o.Err, unasked)
				}
				if i == 0 {
					<-said // it is in this machine's memory by now: loopback has no wire
				}
			}
			if n := opened.Load(); n != 2 {
				t.Errorf("%d connections, want 2", n)
			}
		}
	}
}

// TestKeptConnectionThatEnds: what a receiver has not acknowledged is sent again over a new
// connection in the same attempt, under the same id; what it has is not.
func TestKeptConnectionThatEnds(t *testing.T) {
	t.Parallel()
	config, trusted := certified(t)
	for name, c := range map[string]struct {
		end  func(net.Conn)
		read bool // the second request, before the end
		want want
	}{
		"closed before the request came": {func(net.Conn) {}, false, want{webhook.Delivered, 200, webhook.ClassOK, ""}},
		"reset before the request came":  {resets, false, want{webhook.Delivered, 200, webhook.ClassOK, ""}},
		"closed after it":                {func(net.Conn) {}, true, want{webhook.Retry, 0, webhook.ClassConnection, "closed the connection before"}},
	} {
		for _, config := range []*tls.Config{nil, config} {
			for _, blind := range []bool{false, true} {
				t.Run(fmt.Sprintf("%s, TLS %v, noticed %v", name, config != nil, !blind), func(t *testing.T) {
					t.Parallel()
					ended := make(chan struct{}, 1)
					url, opened := scripted(t, config, func(n int64, con net.Conn, r *bufio.Reader) {
						if n > 0 {
							answers(ok)(n, con, r)
							return
						}
						request(r)
						_, _ = io.WriteString(con, ok)
						if c.read {
							request(r)
						}
						c.end(con)
						_ = con.Close()
						ended <- struct{}{}
					})
					sender, ep := newSender(t, webhook.Options{RootCAs: trusted}), local(url)
					mustDeliver(t, sender.Send(t.Context(), ep, message()))
					if !c.read {
						<-ended
					}
					if blind {
						sender.Blind() // it has not heard of the end when it writes
					}
					check(t, sender.Send(t.Context(), ep, message()), c.want)
					wanted := int64(2)
					if c.read {
						wanted = 1
					}
					if n := opened.Load(); n != wanted {
						t.Errorf("%d connections, want %d", n, wanted)
					}
				})
			}
		}
	}
}

func resets(c net.Conn) {
	if secure, is := c.(*tls.Conn); is {
		c = secure.NetConn()
	}
	if tcp, is := c.(*net.TCPConn); is {
		_ = tcp.SetLinger(0)
	}
	_ = c.Close()
}

// TestReplacedConnectionEndsToo: the second connection of an attempt is its last.
func TestReplacedConnectionEndsToo(t *testing.T) {
	t.Parallel()
	ended := make(chan struct{}, 1)
	url, opened := scripted(t, nil, func(n int64, c net.Conn, r *bufio.Reader) {
		request(r)
		if n == 0 {
			_, _ = io.WriteString(c, ok)
			_ = c.Close()
			ended <- struct{}{}
		}
	})
	sender, ep := newSender(t, webhook.Options{}), local(url)
	mustDeliver(t, sender.Send(t.Context(), ep, message()))
	<-ended
	sender.Blind()
	check(t, sender.Send(t.Context(), ep, message()), want{webhook.Retry, 0, webhook.ClassConnection, "closed the connection before"})
	if n := opened.Load(); n != 2 {
		t.Errorf("%d connections for an attempt that was not taken, then hung up on", n-1)
	}
}

// TestShutdownClosesConnections: an attempt whose context ends is over, and the receiver
// sees that; a connection that another context has used before serves on.
func TestShutdownClosesConnections(t *testing.T) {
	t.Parallel()
	config, trusted := certified(t)
	for _, config := range []*tls.Config{nil, config} {
		arrived, closed := make(chan struct{}), make(chan struct{})
		url, opened := scripted(t, config, func(n int64, c net.Conn, r *bufio.Reader) {
			if n > 0 {
				answers(ok)(n, c, r)
				return
			}
			request(r)
			_, _ = io.WriteString(c, ok)
			request(r)
			close(arrived)
			_, _ = io.Copy(io.Discard, r) // until the sender hangs up
			close(closed)
		})
		sender, ep := newSender(t, webhook.Options{RootCAs: trusted}), local(url)
		first, endFirst := context.WithCancel(t.Context())
		mustDeliver(t, sender.Send(first, ep, message()))
		second, endSecond := context.WithCancel(t.Context())
		go func() {
			<-arrived
			endFirst() // which the connection serves no more
			endSecond()
		}()
		o := sender.Send(second, ep, message())
		check(t, o, want{webhook.Retry, 0, webhook.ClassCanceled, "context canceled"})
		<-closed
		third, endThird := context.WithCancel(t.Context())
		mustDeliver(t, sender.Send(third, ep, message()))
		endThird() // closes the idle connection
		mustDeliver(t, sender.Send(t.Context(), ep, message()))
		if n := opened.Load(); n > 3 {
			t.Errorf("%d connections", n)
		}
		endThird()
	}
}

// TestSlowHandshakeServesTheNext: a connection that takes longer to make than an attempt has is there
// for the next one.
func TestSlowHandshakeServesTheNext(t *testing.T) {
	t.Parallel()
	config, trusted := certified(t)
	release := make(chan struct{})
	config.GetConfigForClient = func(*tls.ClientHelloInfo) (*tls.Config, error) {
		<-release
		return nil, nil
	}
	url, opened := scripted(t, config, answers(ok))
	sender, ep := newSender(t, webhook.Options{RootCAs: trusted}), local(url)
	ep.Timeout = 100 * time.Millisecond
	check(t, sender.Send(t.Context(), ep, message()), want{webhook.Retry, 0, webhook.ClassTimeout, "no whole answer within 100ms"})
	close(release)
	for sender.Idle() == 0 {
		if !runtimeYields(t) {
			t.Fatal("the connection was not kept")
		}
	}
	ep.Timeout = 20 * time.Second
	mustDeliver(t, sender.Send(t.Context(), ep, message()))
	if n := opened.Load(); n != 1 {
		t.Errorf("%d connections", n)
	}
}

// runtimeYields lets others run, and reports false when the test's time is nearly over.
func runtimeYields(t *testing.T) bool {
	runtime.Gosched()
	return t.Context().Err() == nil
}

// TestWaitingRequestTakesAFreeConnection: a request whose connection is still being made goes over one
// that becomes free.
func TestWaitingRequestTakesAFreeConnection(t *testing.T) {
	t.Parallel()
	config, trusted := certified(t)
	var hellos atomic.Int64
	release, second := make(chan struct{}), make(chan struct{})
	config.GetConfigForClient = func(*tls.ClientHelloInfo) (*tls.Config, error) {
		if hellos.Add(1) == 2 {
			close(second)
			<-release
		}
		return nil, nil
	}
	url, _ := scripted(t, config, func(n int64, c net.Conn, r *bufio.Reader) {
		for i := 0; request(r); i++ {
			if i == 0 {
				<-second // the other request is waiting
			}
			if _, err := io.WriteString(c, ok); err != nil {
				return
			}
		}
	})
	sender, ep := newSender(t, webhook.Options{RootCAs: trusted}), local(url)
	outcomes := make(chan webhook.Outcome, 2)
	for range 2 {
		go func() { outcomes <- sender.Send(t.Context(), ep, message()) }()
	}
	for range 2 {
		mustDeliver(t, <-outcomes)
	}
	close(release)
}

// TestExpiredConnectionsAreClosed, whether or not there is another request: the receiver may have
// closed its end long ago.
func TestExpiredConnectionsAreClosed(t *testing.T) {
	t.Parallel()
	closed := make(chan struct{})
	url, _ := scripted(t, nil, func(_ int64, c net.Conn, r *bufio.Reader) {
		answers(ok)(0, c, r)
		close(closed)
	})
	sender := newSender(t, webhook.Options{})
	mustDeliver(t, sender.Send(t.Context(), local(url), message()))
	sender.Expire()
	<-closed
}
