package webhook_test

import (
	"bufio"
	"context"
	"crypto/tls"
	"encoding/binary"
	"fmt"
	"io"
	"log"
	"net"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"gancho/delivery/endpoint"
	"gancho/delivery/webhook"
)

// connectionKey is the context key of a request's connection, which is numbered from 1.
type connectionKey struct{}

// numbered serves with and without HTTP/2, and numbers its connections.
func numbered(t *testing.T, http2 bool, h http.HandlerFunc) *httptest.Server {
	t.Helper()
	server := httptest.NewUnstartedServer(h)
	var connections atomic.Int64
	server.Config.ConnContext = func(ctx context.Context, _ net.Conn) context.Context {
		return context.WithValue(ctx, connectionKey{}, connections.Add(1))
	}
	server.Config.ErrorLog = log.New(io.Discard, "", 0) // connections that were begun and not needed
	server.EnableHTTP2 = http2
	server.StartTLS()
	t.Cleanup(server.Close)
	return server
}

func connectionOf(r *http.Request) int64 {
	n, _ := r.Context().Value(connectionKey{}).(int64)
	return n
}

func forBothVersions(t *testing.T, test func(t *testing.T, http2 bool)) {
	for _, http2 := range []bool{false, true} {
		t.Run(map[bool]string{false: "HTTP 1.1", true: "HTTP 2"}[http2], func(t *testing.T) {
			t.Parallel()
			test(t, http2)
		})
	}
}

// TestAnAttemptIsOneRequest: a receiver that hangs up without an answer gets the
// request once, however many idle connections there are, and whatever header says
// that it may be repeated.
func TestAnAttemptIsOneRequest(t *testing.T) {
	t.Parallel()
	forBothVersions(t, func(t *testing.T, http2 bool) {
		const idle = 8
		var hangUp atomic.Bool
		var requests, inside atomic.Int64
		all := make(chan struct{})
		server := numbered(t, http2, func(_ http.ResponseWriter, r *http.Request) {
			_, _ = io.Copy(io.Discard, r.Body)
			requests.Add(1)
			if hangUp.Load() {
				panic(http.ErrAbortHandler)
			}
			if inside.Add(1) == idle {
				close(all) // every connection is in use
			}
			<-all
		})
		sender := newSender(t, webhook.Options{RootCAs: roots(server)})
		ep, neighbour := local(server.URL), local(server.URL)
		var group sync.WaitGroup
		for i := range idle {
			group.Go(func() {
				mustDeliverAsync(t, sender.Send(t.Context(), []*endpoint.Endpoint{ep, neighbour}[i%2], message()))
			})
		}
		group.Wait()
		hangUp.Store(true)
		marked := local(server.URL)
		marked.Headers = endpoint.HeadersOf(map[string]endpoint.Hidden{"idempotency-key": "k", "X-Idempotency-Key": "k"})
		for i, ep := range []*endpoint.Endpoint{ep, marked} {
			requests.Store(0)
			o := sender.Send(t.Context(), ep, message())
			if o.Kind != webhook.Retry || o.Class != webhook.ClassConnection && o.Class != webhook.ClassProtocol {
				t.Errorf("endpoint %d: %v, class %s, %v; want a failed attempt", i, o.Kind, o.Class, o.Err)
			}
			if n := requests.Load(); n != 1 {
				t.Errorf("endpoint %d: the receiver got %d requests for one attempt", i, n)
			}
		}
		hangUp.Store(false)
		mustDeliver(t, sender.Send(t.Context(), marked, message()))
	})
}

// TestClosedBeforeWriting: a kept connection that the receiver has closed costs no failed
// attempt if nothing was written over it. What was written may have arrived, and is
// not sent again in the same attempt.
func TestClosedBeforeWriting(t *testing.T) {
	t.Parallel()
	var requests atomic.Int64
	url := rawServer(t, func(c net.Conn) { // which closes it
		if strings.Contains(readRequest(c), "129.90}}") {
			requests.Add(1)
		}
		_, _ = io.WriteString(c, "HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")
	})
	ep, sender := local(url), newSender(t, webhook.Options{})
	const attempts = 500
	for range attempts {
		if o := sender.Send(t.Context(), ep, message()); o.Err != nil && strings.Contains(o.Err.Error(), "closed idle connection") {
			t.Fatalf("nothing was written, and the attempt has failed: %v", o.Err)
		}
	}
	if n := requests.Load(); n > attempts {
		t.Errorf("%d requests for %d attempts", n, attempts)
	}
}

// TestReceiverThatClosesSilently: a receiver that closes its connections after an answer,
// without saying so, costs one failed attempt, and then gets a connection for each.
func TestReceiverThatClosesSilently(t *testing.T) {
	t.Parallel()
	server := httptest.NewUnstartedServer(nil)
	var requests sync.Map // by connection
	server.Config.ConnContext = func(ctx context.Context, c net.Conn) context.Context {
		return context.WithValue(ctx, connectionKey{}, c)
	}
	server.Config.Handler = http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		if _, again := requests.LoadOrStore(r.Context().Value(connectionKey{}), true); again {
			panic(http.ErrAbortHandler) // what a close looks like that the sender has not noticed
		}
	})
	server.Config.ErrorLog = log.New(io.Discard, "", 0)
	server.Start()
	t.Cleanup(server.Close)
	sender, ep := newSender(t, webhook.Options{}), local(server.URL)
	mustDeliver(t, sender.Send(t.Context(), ep, message()))
	check(t, sender.Send(t.Context(), ep, message()), want{webhook.Retry, 0, webhook.ClassConnection, "the receiver closed the connection before its answer was complete"})
	for range 5 {
		mustDeliver(t, sender.Send(t.Context(), ep, message()))
	}
}

// TestRepeatableHeadersArrive: what net/http must not see, the receiver does, and
// nobody else.
func TestRepeatableHeadersArrive(t *testing.T) {
	t.Parallel()
	got := make(chan received, 2)
	sender, ep := newSender(t, webhook.Options{}), local(serve(t, collect(got)))
	ep.Headers = endpoint.HeadersOf(map[string]endpoint.Hidden{"Idempotency-Key": "s3cr3t"})
	mustDeliver(t, sender.Send(t.Context(), ep, message()))
	if r := <-got; r.header.Get("Idempotency-Key") != "s3cr3t" {
		t.Errorf("headers %v", r.header)
	}
	if shown := sender.Probe(t.Context(), ep, message()); strings.Contains(fmt.Sprint(shown.Request), "s3cr3t") {
		t.Errorf("a probe shows the header: %v", shown.Request)
	}
}

// TestRefusedStreams: an HTTP/2 receiver that says that it has not looked at the
// request gets it once more, not seven times.
func TestRefusedStreams(t *testing.T) {
	t.Parallel()
	sender, ep, streams := refusingReceiver(t, refusedStream, nil)
	check(t, sender.Send(t.Context(), ep, message()), want{webhook.Retry, 0, webhook.ClassConnection, "twice before it took the request"})
	if n := streams.Load(); n != 2 {
		t.Errorf("%d streams for one attempt", n)
	}
}

// TestDeadHTTP2ConnectionIsGivenUp: after a timeout over HTTP/2 the next attempt
// makes a new connection, also of another endpoint; a request in flight over the old
// one ends over it.
func TestDeadHTTP2ConnectionIsGivenUp(t *testing.T) {
	t.Parallel()
	arrived, release := make(chan struct{}), make(chan struct{})
	var mu sync.Mutex
	over := map[string][]int64{} // the connections by webhook-id
	server := numbered(t, true, func(_ http.ResponseWriter, r *http.Request) {
		_, _ = io.Copy(io.Discard, r.Body)
		id, connection := r.Header.Get("webhook-id"), connectionOf(r)
		mu.Lock()
		over[id] = append(over[id], connection)
		mu.Unlock()
		switch {
		case id == "slow":
			close(arrived)
			<-release
		case connection == 1:
			<-r.Context().Done() // what a proxy does whose receiver hangs: pings are answered
		}
	})
	sender := newSender(t, webhook.Options{RootCAs: roots(server)})
	ep, impatient := local(server.URL), local(server.URL)
	impatient.Timeout = 100 * time.Millisecond
	send := func(ep *endpoint.Endpoint, id string) webhook.Outcome {
		m := message()
		m.ID = id
		return sender.Send(t.Context(), ep, m)
	}
	var slow sync.WaitGroup
	slow.Go(func() { mustDeliverAsync(t, send(ep, "slow")) })
	<-arrived
	for o := send(impatient, "hangs"); ; o = send(impatient, "hangs") {
		check(t, o, want{webhook.Retry, 0, webhook.ClassTimeout, "no whole answer within 100ms"})
		mu.Lock()
		n := len(over["hangs"])
		mu.Unlock()
		if n > 0 { // else this machine was slower than the timeout
			break
		}
	}
	mustDeliver(t, send(ep, "next"))
	close(release)
	slow.Wait()
	if over["slow"][0] != 1 || len(over["slow"]) != 1 || len(over["next"]) != 1 || over["next"][0] == 1 {
		t.Errorf("requests over connections %v", over)
	}
}

// TestConnectionsFollowDNS: a receiver that moves is found at its new address, while
// the old one still answers.
func TestConnectionsFollowDNS(t *testing.T) {
	t.Parallel()
	forBothVersions(t, func(t *testing.T, http2 bool) {
		places := make(chan string, 1)
		authority := newAuthority(t, "own")
		certificate, key := authority.issue(t, certificateOptions{names: []string{"crm.example.com"}})
		pair, err := tls.X509KeyPair([]byte(certificate), []byte(key))
		if err != nil {
			t.Fatal(err)
		}
		port := "0"
		for _, host := range []string{"127.0.0.1", "127.0.0.2"} {
			listener, err := net.Listen("tcp", net.JoinHostPort(host, port))
			if err != nil {
				t.Fatal(err)
			}
			_, port, _ = net.SplitHostPort(listener.Addr().String())
			server := httptest.NewUnstartedServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { places <- host }))
			_ = server.Listener.Close()
			server.Listener, server.EnableHTTP2 = listener, http2
			server.TLS = &tls.Config{Certificates: []tls.Certificate{pair}}
			server.StartTLS()
			t.Cleanup(server.Close)
		}
		var moved atomic.Bool
		names := resolver(t, func(string) []netip.Addr {
			if moved.Load() {
				return []netip.Addr{netip.MustParseAddr("127.0.0.2")}
			}
			return []netip.Addr{netip.MustParseAddr("127.0.0.1")}
		})
		sender := newSender(t, webhook.Options{Resolver: names, RootCAs: authority.pool()})
		ep := local("https://crm.example.com:" + port)
		arrives := func(at string) {
			t.Helper()
			mustDeliver(t, sender.Send(t.Context(), ep, message()))
			if place := <-places; place != at {
				t.Errorf("arrived at %s, want %s", place, at)
			}
		}
		arrives("127.0.0.1")
		moved.Store(true)
		arrives("127.0.0.1")
		sender.Age(time.Minute)
		arrives("127.0.0.2")
	})
}

// TestRedial: after somebody has changed something the next attempt makes a new connection.
func TestRedial(t *testing.T) {
	t.Parallel()
	forBothVersions(t, func(t *testing.T, http2 bool) {
		over := make(chan int64, 1)
		server := numbered(t, http2, func(_ http.ResponseWriter, r *http.Request) { over <- connectionOf(r) })
		sender, ep := newSender(t, webhook.Options{RootCAs: roots(server)}), local(server.URL)
		for i, connection := range []int64{1, 1, 2, 2} {
			if i == 2 {
				sender.Redial(ep)
			}
			mustDeliver(t, sender.Send(t.Context(), ep, message()))
			if n := <-over; n != connection {
				t.Errorf("over connection %d, want %d", n, connection)
			}
		}
	})
}

// TestHTTP11Required: a receiver that refuses HTTP/2 gets the request over HTTP/1.1
// in the same attempt, and later ones over that only. So does a probe, from which nothing is kept.
func TestHTTP11Required(t *testing.T) {
	t.Parallel()
	for name, refuse := range map[string]func(io.Writer, uint32){"the stream": requireHTTP1, "the connection": goAwayForHTTP1} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			for _, probe := range []bool{false, true} {
				got := make(chan received, 4)
				want := int64(1)
				sender, ep, streams := refusingReceiver(t, refuse, collect(got))
				if probe {
					want++
					if e := sender.Probe(t.Context(), ep, message()); e.Outcome != "delivered" || e.Protocol != "HTTP/1.1" {
						t.Errorf("probe: %s over %s: %s", e.Outcome, e.Protocol, e.Error)
					}
				}
				mustDeliver(t, sender.Send(t.Context(), ep, message()))
				mustDeliver(t, sender.Send(t.Context(), ep, message()))
				if n := streams.Load(); n != want {
					t.Errorf("%d requests over HTTP/2, want %d", n, want)
				}
			}
		})
	}
}

// TestHTTP1Only: with http: 1.1 nothing else is offered.
func TestHTTP1Only(t *testing.T) {
	t.Parallel()
	got := make(chan received, 1)
	sender, ep, streams := refusingReceiver(t, requireHTTP1, collect(got))
	ep.HTTP1 = true
	mustDeliver(t, sender.Send(t.Context(), ep, message()))
	if r := <-got; r.proto != "HTTP/1.1" || streams.Load() != 0 {
		t.Errorf("arrived over %s, after %d requests over HTTP/2", r.proto, streams.Load())
	}
}

// refusingReceiver offers HTTP/2, over which it refuses every request, and HTTP/1.1,
// over which it serves. It counts the streams.
func refusingReceiver(t *testing.T, refuse func(w io.Writer, stream uint32), http1 http.Handler) (*webhook.Sender, *endpoint.Endpoint, *atomic.Int64) {
	t.Helper()
	var streams atomic.Int64
	server := httptest.NewUnstartedServer(http1)
	server.TLS = &tls.Config{NextProtos: []string{"h2", "http/1.1"}}
	server.Config.TLSNextProto = map[string]func(*http.Server, *tls.Conn, http.Handler){"h2": func(_ *http.Server, c *tls.Conn, _ http.Handler) {
		refuseStreams(c, func(stream uint32) { streams.Add(1); refuse(c, stream) })
	}}
	server.StartTLS()
	t.Cleanup(server.Close)
	return newSender(t, webhook.Options{RootCAs: roots(server)}), local(server.URL), &streams
}

// The frames of HTTP/2 that a refusal takes: https://www.rfc-editor.org/rfc/rfc9113.html#section-6
const (
	frameData         = 0
	frameHeaders      = 1
	frameRSTStream    = 3
	frameSettings     = 4
	frameGoAway       = 7
	codeRefusedStream = 7
	codeHTTP11        = 13
	flagEndStream     = 1
)

// refuseStreams calls refuse with each stream whose request has arrived.
func refuseStreams(c io.ReadWriter, refuse func(stream uint32)) {
	r := bufio.NewReader(c)
	if _, err := r.Discard(len("PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n")); err != nil {
		return
	}
	writeFrame(c, frameSettings, 0)
	for {
		var header [9]byte
		if _, err := io.ReadFull(r, header[:]); err != nil {
			return
		}
		if _, err := r.Discard(int(header[0])<<16 | int(header[1])<<8 | int(header[2])); err != nil {
			return
		}
		if kind := header[3]; (kind == frameData || kind == frameHeaders) && header[4]&flagEndStream != 0 {
			refuse(binary.BigEndian.Uint32(header[5:]))
		}
	}
}

// writeFrame writes a frame whose payload is of 32-bit numbers.
func writeFrame(w io.Writer, kind byte, stream uint32, payload ...uint32) {
	frame := []byte{0, 0, byte(4 * len(payload)), kind, 0}
	for _, n := range append([]uint32{stream}, payload...) {
		frame = binary.BigEndian.AppendUint32(frame, n)
	}
	_, _ = w.Write(frame) // the client's outcome shows a failure
}

func refusedStream(w io.Writer, stream uint32) {
	writeFrame(w, frameRSTStream, stream, codeRefusedStream)
}

func requireHTTP1(w io.Writer, stream uint32) { writeFrame(w, frameRSTStream, stream, codeHTTP11) }

func goAwayForHTTP1(w io.Writer, _ uint32) { writeFrame(w, frameGoAway, 0, 0, codeHTTP11) }
