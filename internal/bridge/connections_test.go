package bridge_test

import (
	"bufio"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"gancho/internal/bridge"
)

// visitors is a server that keeps so many connections, and what connects to it.
type visitors struct {
	t          *testing.T
	address    string
	turnedAway atomic.Int64
}

func newVisitors(t *testing.T, limit int, handler http.Handler, change func(*http.Server)) *visitors {
	t.Helper()
	l, err := new(net.ListenConfig).Listen(t.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	v := &visitors{t: t, address: l.Addr().String()}
	server := bridge.NewServer(handler)
	if change != nil {
		change(server)
	}
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		_ = server.Serve(bridge.LimitListener(l, limit, func() { v.turnedAway.Add(1) }))
	}()
	t.Cleanup(func() {
		_ = server.Close()
		<-ended
	})
	return v
}

// connect sends the beginning of a request.
func (v *visitors) connect(beginning string) net.Conn {
	v.t.Helper()
	conn, err := new(net.Dialer).DialContext(v.t.Context(), "tcp", v.address)
	if err != nil {
		v.t.Fatal(err)
	}
	v.t.Cleanup(func() { _ = conn.Close() })
	if _, err := io.WriteString(conn, beginning); err != nil {
		v.t.Fatal(err)
	}
	return conn
}

const request = "GET / HTTP/1.1\r\nHost: x\r\n\r\n"

// answered reports whether a request of the connection gets the status.
func answered(t *testing.T, conn net.Conn, status int) bool {
	t.Helper()
	if err := conn.SetReadDeadline(time.Now().Add(20 * time.Second)); err != nil {
		t.Fatal(err)
	}
	r, err := http.ReadResponse(bufio.NewReader(conn), nil)
	if err != nil {
		return false
	}
	_, _ = io.Copy(io.Discard, r.Body)
	_ = r.Body.Close()
	return r.StatusCode == status
}

// Strangers who connect and say nothing, or half of something, or do not read what they
// are answered, keep nobody out, and take no more descriptors than the listener's share.
func TestStrangersKeepNobodyOut(t *testing.T) {
	t.Parallel()
	const limit = 8
	large := make([]byte, 32<<20) // more than the sockets take
	hello := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Method == http.MethodGet && r.URL.Path == "/large" {
			_, _ = w.Write(large)
		}
	})
	v := newVisitors(t, limit, hello, nil)

	known := v.connect(request) // the control: with room, a connection stays
	for range 3 {
		if !answered(t, known, http.StatusOK) {
			t.Fatal("a request is not answered")
		}
		_, _ = io.WriteString(known, request)
	}
	if n := v.turnedAway.Load(); n != 0 {
		t.Errorf("%d connections were turned away while there was room", n)
	}
	for i := range 10 * limit {
		v.connect([]string{"", "GET / HT", "POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 1000\r\n\r\nhalf", "GET /large HTTP/1.1\r\nHost: x\r\n\r\n"}[i%4])
		if i%limit == 0 && !answered(t, v.connect(request), http.StatusOK) {
			t.Fatalf("after %d strangers a request is not answered", i+1)
		}
	}
	if n := v.turnedAway.Load(); n < 9*limit {
		t.Errorf("%d connections were turned away", n)
	}
}

// Requests that are held are not ended for a new connection, which is closed.
func TestRequestsKeepTheirConnections(t *testing.T) {
	t.Parallel()
	const limit = 4
	arrived, release := make(chan struct{}, limit), make(chan struct{})
	v := newVisitors(t, limit, http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		defer bridge.HoldConnection(r)()
		arrived <- struct{}{}
		<-release
	}), nil)
	var working []net.Conn
	for range limit {
		working = append(working, v.connect(request))
		<-arrived
	}
	if answered(t, v.connect(""), http.StatusOK) {
		t.Error("a connection too many is answered")
	}
	close(release)
	for _, conn := range working {
		if !answered(t, conn, http.StatusOK) {
			t.Error("a request that was carried out lost its connection")
		}
	}
}

// visits is a listener of connections from addresses.
type visits struct {
	net.Listener
	come chan net.Conn
}

// Accept is the next visitor.
func (v visits) Accept() (net.Conn, error) { return <-v.come, nil }

// visitor is a connection that remembers that it was closed.
type visitor struct {
	net.Conn
	address string
	gone    bool
}

// RemoteAddr is where it comes from.
func (v *visitor) RemoteAddr() net.Addr {
	return net.TCPAddrFromAddrPort(netip.MustParseAddrPort(v.address))
}

// Close ends it.
func (v *visitor) Close() error {
	v.gone = true
	return nil
}

// Room is made by those who have the most connections; by idle ones before those in the
// middle of a request.
func TestWhoMakesRoom(t *testing.T) {
	t.Parallel()
	type conn struct {
		address string
		busy    bool
	}
	idle := func(address string) conn { return conn{address, false} }
	busy := func(address string) conn { return conn{address, true} }
	const a, b, c, d = "192.0.2.1:1", "192.0.2.2:1", "[2001:db8::1]:1", "[2001:db8::2]:1" // c and d are of one network
	for name, test := range map[string]struct {
		open []conn
		want int // which makes room
	}{
		"the oldest of equals":                      {[]conn{idle(a), idle(a), idle(a), idle(a)}, 0},
		"an idle one of the same network":           {[]conn{busy(a), busy(a), idle(a), idle(a)}, 2},
		"the oldest of those with requests":         {[]conn{busy(a), busy(a), busy(a), busy(a)}, 0},
		"whoever has most":                          {[]conn{idle(a), idle(b), idle(b), idle(c)}, 1},
		"an idle one, also of who has fewer":        {[]conn{busy(a), busy(a), idle(b), busy(c)}, 2},
		"whoever has most, if all have requests":    {[]conn{busy(a), busy(b), busy(c), busy(c)}, 2},
		"whoever has more than half, with requests": {[]conn{idle(b), busy(a), busy(a), busy(a)}, 1},
		"a network, not an address":                 {[]conn{idle(a), idle(c), idle(d), idle(b)}, 1},
	} {
		v := visits{come: make(chan net.Conn, 1)}
		l := bridge.LimitListener(v, len(test.open), func() {})
		come := func(address string) (*visitor, net.Conn) {
			t.Helper()
			visitor := &visitor{address: address}
			v.come <- visitor
			accepted, err := l.Accept()
			if err != nil {
				t.Fatal(err)
			}
			return visitor, accepted
		}
		var all []*visitor
		for _, o := range test.open {
			visitor, accepted := come(o.address)
			bridge.ConnState(accepted, http.StateActive)
			if !o.busy {
				bridge.ConnState(accepted, http.StateIdle)
			}
			all = append(all, visitor)
		}
		come("198.51.100.1:1")
		for i, visitor := range all {
			if visitor.gone != (i == test.want) {
				t.Errorf("%s: connection %d is closed: %t", name, i, visitor.gone)
			}
		}
	}
}

// A connection is in the middle of a request while its body is read, and idle behind its
// answer.
func TestRequestsAreBusy(t *testing.T) {
	t.Parallel()
	reads, idle := make(chan struct{}), make(chan struct{}, 8)
	v := newVisitors(t, 2, http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		if r.Method == http.MethodPost {
			reads <- struct{}{}
			_, _ = io.ReadAll(r.Body)
		}
	}), func(s *http.Server) {
		tell := s.ConnState
		s.ConnState = func(conn net.Conn, state http.ConnState) {
			if tell(conn, state); state == http.StateIdle {
				idle <- struct{}{}
			}
		}
	})
	upload := v.connect("POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 8\r\n\r\nhalf")
	<-reads
	for range 4 { // each takes the place of the one before, which is idle
		if !answered(t, v.connect(request), http.StatusOK) {
			t.Fatal("a request is not answered")
		}
		<-idle
	}
	if _, err := io.WriteString(upload, "half"); err != nil || !answered(t, upload, http.StatusOK) {
		t.Errorf("a request whose body was read lost its connection to idle ones: %v", err)
	}
}

// A body that does not arrive ends with the time of the request, whether it is read or not.
func TestBodiesEnd(t *testing.T) {
	t.Parallel()
	ended := make(chan error, 1)
	reads := http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		_, err := io.ReadAll(r.Body)
		ended <- err
	})
	v := newVisitors(t, 8, reads, func(s *http.Server) {
		if s.ReadTimeout == 0 || s.WriteTimeout == 0 || s.ReadHeaderTimeout == 0 || s.IdleTimeout == 0 || s.MaxHeaderBytes == 0 {
			t.Errorf("a request or an answer has no limit: %+v", s)
		}
		s.ReadTimeout = 100 * time.Millisecond
	})
	v.connect("POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 1000\r\n\r\nhalf")
	if err := <-ended; err == nil {
		t.Error("half a body was read as a whole one")
	}
	large := newVisitors(t, 8, reads, nil).connect(fmt.Sprintf("POST / HTTP/1.1\r\nHost: x\r\nContent-Length: %d\r\n\r\n", 2<<20))
	go func() { _, _ = io.WriteString(large, strings.Repeat("x", 2<<20)) }()
	if err := <-ended; err == nil || !strings.Contains(err.Error(), "too large") {
		t.Errorf("a body of 2 MiB: %v", err)
	}
}

func TestListenersShare(t *testing.T) {
	t.Parallel()
	if n, all := bridge.ConnectionLimit(), bridge.Descriptors(); all > 0 && n > all/4 || n < 1 {
		t.Errorf("the listener keeps %d connections of %d descriptors", n, all)
	}
}

// Clients that do not read the metrics keep nobody from them.
func TestUnreadMetrics(t *testing.T) {
	t.Parallel()
	metrics := bridge.MetricsHandler("")
	get := func() *http.Request { return httptest.NewRequest(http.MethodGet, "/metrics", nil) }
	release := make(chan struct{})
	var unread sync.WaitGroup
	for range 2 * bridge.MetricsAtOnce {
		w := &unreadAnswer{ResponseRecorder: httptest.NewRecorder(), written: make(chan struct{}), release: release}
		unread.Go(func() { metrics.ServeHTTP(w, get()) })
		<-w.written
		if w.Code != http.StatusOK {
			t.Errorf("the metrics are answered %d", w.Code)
		}
	}
	close(release)
	unread.Wait()
}

// Whoever asks for the metrics while many do waits, and is not refused.
func TestMetricsOfMany(t *testing.T) {
	t.Parallel()
	metrics := bridge.MetricsHandler("")
	start := make(chan struct{})
	var many sync.WaitGroup
	for range 32 * bridge.MetricsAtOnce {
		many.Go(func() {
			<-start
			w := httptest.NewRecorder()
			if metrics.ServeHTTP(w, httptest.NewRequest(http.MethodGet, "/metrics", nil)); w.Code != http.StatusOK {
				t.Errorf("the metrics are answered %d: %s", w.Code, w.Body)
			}
		})
	}
	close(start)
	many.Wait()
}

// unreadAnswer takes nothing until it is released.
type unreadAnswer struct {
	*httptest.ResponseRecorder
	once             sync.Once
	written, release chan struct{}
}

// Write is the answer.
func (u *unreadAnswer) Write(b []byte) (int, error) {
	u.once.Do(func() { close(u.written) })
	<-u.release
	return len(b), nil
}

func TestMetricsToken(t *testing.T) {
	t.Parallel()
	ask := func(token, authorization string) int {
		r := httptest.NewRequest(http.MethodGet, "/metrics", nil)
		if authorization != "" {
			r.Header.Set("Authorization", authorization)
		}
		w := httptest.NewRecorder()
		bridge.MetricsHandler(token).ServeHTTP(w, r)
		return w.Code
	}
	for _, c := range []struct {
		token, authorization string
		status               int
	}{
		{"", "", http.StatusOK},
		{"a token for metrics", "Bearer a token for metrics", http.StatusOK},
		{"a token for metrics", "", http.StatusUnauthorized},
		{"a token for metrics", "Bearer another", http.StatusUnauthorized},
		{"a token for metrics", "a token for metrics", http.StatusUnauthorized},
		{"a token for metrics", "Bearer ", http.StatusUnauthorized},
	} {
		if got := ask(c.token, c.authorization); got != c.status {
			t.Errorf("with the token %q and %q: %d, not %d", c.token, c.authorization, got, c.status)
		}
	}
}
