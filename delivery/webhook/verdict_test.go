package webhook_test

import (
	"bytes"
	"compress/gzip"
	"context"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"log"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"strconv"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"gancho/delivery/webhook"
)

// rawServer accepts connections and hands each to serve, which need not close it.
func rawServer(t testing.TB, serve func(net.Conn)) (url string) {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		for {
			c, err := listener.Accept()
			if err != nil {
				return
			}
			serve(c)
			_ = c.Close()
		}
	}()
	t.Cleanup(func() {
		_ = listener.Close()
		<-ended
	})
	return "http://" + listener.Addr().String()
}

// readRequest reads a request with its body.
func readRequest(c net.Conn) string {
	var text strings.Builder
	buffer := make([]byte, 4096)
	for !strings.Contains(text.String(), "129.90}}") {
		n, err := c.Read(buffer)
		text.Write(buffer[:n])
		if err != nil {
			break
		}
	}
	return text.String()
}

func roots(s *httptest.Server) *x509.CertPool {
	pool := x509.NewCertPool()
	pool.AddCert(s.Certificate())
	return pool
}

// want is what matters of an outcome.
type want struct {
	kind   webhook.OutcomeKind
	status int
	class  string
	text   string // part of the error
}

func check(t *testing.T, o webhook.Outcome, w want) {
	t.Helper()
	if o.Kind != w.kind || o.Status != w.status || o.Class != w.class || o.Duration <= 0 {
		t.Errorf("%v, status %d, class %s, took %s (%v); want %v, %d, %s", o.Kind, o.Status, o.Class, o.Duration, o.Err, w.kind, w.status, w.class)
	}
	if (o.Err == nil) != (w.kind == webhook.Delivered) {
		t.Errorf("error %v with %v", o.Err, o.Kind)
		return
	}
	if o.Err == nil {
		return
	}
	if text := o.Err.Error(); !strings.Contains(text, w.text) || strings.Contains(text, "s3cr3t") {
		t.Errorf("error %q; want it to say %q, and nothing that is secret or came from the receiver", text, w.text)
	}
}

func TestStatusDecides(t *testing.T) {
	t.Parallel()
	url := serve(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		status, _ := strconv.Atoi(r.URL.Query().Get("status"))
		w.Header().Set("Location", "/elsewhere?s3cr3t")
		w.Header().Set("Retry-After", "77")
		w.WriteHeader(status)
		_, _ = io.WriteString(w, "s3cr3t answer") // refused for 204, which has no body
	}))
	sender := newSender(t, webhook.Options{})
	for status, w := range map[int]want{
		200: {webhook.Delivered, 200, "ok", ""},
		201: {webhook.Delivered, 201, "ok", ""},
		204: {webhook.Delivered, 204, "ok", ""},
		299: {webhook.Delivered, 299, "ok", ""},
		301: {webhook.Retry, 301, "status", "redirects are not followed"},
		302: {webhook.Retry, 302, "status", "answered 302 Found"},
		307: {webhook.Retry, 307, "status", "final address"},
		308: {webhook.Retry, 308, "status", "final address"},
		304: {webhook.Retry, 304, "status", "304"},
		400: {webhook.Refused, 400, "status", "answered 400 Bad Request"},
		401: {webhook.Refused, 401, "status", "401"},
		404: {webhook.Refused, 404, "status", "404"},
		408: {webhook.Retry, 408, "status", "408"},
		410: {webhook.Gone, 410, "status", "410"},
		425: {webhook.Retry, 425, "status", "425"},
		429: {webhook.Retry, 429, "status", "429"},
		500: {webhook.Retry, 500, "status", "500"},
		503: {webhook.Retry, 503, "status", "503"},
		599: {webhook.Retry, 599, "status", "answered 599"},
	} {
		o := sender.Send(t.Context(), local(url+"/s3cr3t?status="+strconv.Itoa(status)), message())
		check(t, o, w)
		var retryAfter time.Duration
		if status == 429 || status == 503 {
			retryAfter = 77 * time.Second
		}
		if o.RetryAfter != retryAfter {
			t.Errorf("status %d: to be repeated after %s, want %s", status, o.RetryAfter, retryAfter)
		}
		if answer := string(o.Answer); answer != "s3cr3t answer" && status != 204 && status != 304 {
			t.Errorf("status %d: answer %q is not kept", status, answer)
		}
	}
}

func TestRedirectsLeadNowhere(t *testing.T) {
	t.Parallel()
	var followed atomic.Int64
	url := serve(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/target" {
			followed.Add(1)
		}
		http.Redirect(w, r, "/target", http.StatusTemporaryRedirect)
	}))
	o := newSender(t, webhook.Options{}).Send(t.Context(), local(url), message())
	check(t, o, want{webhook.Retry, 307, webhook.ClassStatus, "307"})
	if followed.Load() != 0 {
		t.Error("the redirect was followed")
	}
}

func TestRetryAfter(t *testing.T) {
	t.Parallel()
	var header atomic.Value
	url := serve(t, http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		text, _ := header.Load().(string)
		w.Header().Set("Retry-After", text)
		w.WriteHeader(http.StatusServiceUnavailable)
	}))
	ep, sender := local(url), newSender(t, webhook.Options{})
	date := func(d time.Duration) string { return time.Now().Add(d).UTC().Format(http.TimeFormat) }
	for text, w := range map[string][2]time.Duration{ // least and most
		"0":                              {0, 0},
		"1":                              {time.Second, time.Second},
		" 120 ":                          {2 * time.Minute, 2 * time.Minute},
		"86400":                          {24 * time.Hour, 24 * time.Hour},
		"86401":                          {24 * time.Hour, 24 * time.Hour},
		"9999999999999999999999999":      {24 * time.Hour, 24 * time.Hour},
		"-5":                             {0, 0},
		"1.5":                            {0, 0},
		"soon":                           {0, 0},
		"":                               {0, 0},
		date(time.Hour):                  {59 * time.Minute, time.Hour},
		date(48 * time.Hour):             {24 * time.Hour, 24 * time.Hour},
		date(-time.Hour):                 {0, 0},
		"Sunday, 06-Nov-94 08:49:37 GMT": {0, 0},                           // RFC 850's form, long past
		"Sun Nov  6 08:49:37 2061":       {24 * time.Hour, 24 * time.Hour}, // asctime's form
	} {
		header.Store(text)
		if o := sender.Send(t.Context(), ep, message()); o.RetryAfter < w[0] || o.RetryAfter > w[1] {
			t.Errorf("Retry-After %q: %s, want %s to %s", text, o.RetryAfter, w[0], w[1])
		}
	}
}

// TestBadReceivers: everything that may go wrong on the way.
func TestBadReceivers(t *testing.T) {
	t.Parallel()
	const limit = time.Second // long enough for what comes before, on a busy machine
	reset := func(c net.Conn) {
		if tcp, ok := c.(*net.TCPConn); ok {
			_ = tcp.SetLinger(0)
		}
	}
	answer := func(text string) func(net.Conn) {
		return func(c net.Conn) {
			readRequest(c)
			_, _ = io.WriteString(c, text)
		}
	}
	hang := func(c net.Conn) { _, _ = io.Copy(io.Discard, c) } // until the sender hangs up
	for name, c := range map[string]struct {
		serve func(net.Conn)
		limit time.Duration
		want  want
	}{
		"never answers": {hang, limit, want{webhook.Retry, 0, "timeout", "no whole answer within 1s"}},
		"headers stop": {func(c net.Conn) { answer("HTTP/1.1 200 OK\r\nX-A: s3cr3t")(c); hang(c) }, limit,
			want{webhook.Retry, 0, "timeout", "no whole answer"}},
		"body stops": {func(c net.Conn) { answer("HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nab")(c); hang(c) }, limit,
			want{webhook.Retry, 200, "timeout", "no whole answer"}},
		// A failure is one without its body, too.
		"gone, and the body stops": {func(c net.Conn) { answer("HTTP/1.1 410 Gone\r\nContent-Length: 5\r\n\r\nab")(c); hang(c) }, limit,
			want{webhook.Gone, 410, "status", "410 Gone"}},
		"refused, and the body is cut": {answer("HTTP/1.1 422 s3cr3t\r\nContent-Length: 5\r\n\r\nab"), 0,
			want{webhook.Refused, 422, "status", "422 Unprocessable"}},
		"body drips": {func(c net.Conn) {
			answer("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n")(c)
			tick := time.NewTicker(limit / 10)
			defer tick.Stop()
			for range tick.C {
				if _, err := io.WriteString(c, "1\r\na\r\n"); err != nil {
					return
				}
			}
		}, limit, want{webhook.Retry, 200, "timeout", "no whole answer"}},
		"body without end": {func(c net.Conn) {
			answer("HTTP/1.1 200 OK\r\n\r\n")(c)
			for err := error(nil); err == nil; {
				_, err = io.WriteString(c, strings.Repeat("s3cr3t", 1000))
			}
		}, 0, want{webhook.Delivered, 200, "ok", ""}},
		"continues without end": {func(c net.Conn) {
			readRequest(c)
			for err := error(nil); err == nil; {
				_, err = io.WriteString(c, "HTTP/1.1 103 Early Hints\r\nLink: </s3cr3t>\r\n\r\n")
			}
		}, 0, want{webhook.Retry, 0, "protocol", "not valid HTTP"}},
		"headers without end": {func(c net.Conn) {
			answer("HTTP/1.1 200 OK\r\n")(c)
			for err := error(nil); err == nil; {
				_, err = io.WriteString(c, "X-A: "+strings.Repeat("s3cr3t", 1000)+"\r\n")
			}
		}, 0, want{webhook.Retry, 0, "protocol", "not valid HTTP"}},
		"resets at once": {reset, 0, want{webhook.Retry, 0, "connection", ""}},
		"resets after the request": {func(c net.Conn) { readRequest(c); reset(c) }, 0,
			want{webhook.Retry, 0, "connection", "connection reset"}},
		"resets in the header": {func(c net.Conn) { answer("HTTP/1.1 200 OK\r\nX-A: s3cr3t")(c); reset(c) }, 0,
			want{webhook.Retry, 0, "connection", ""}},
		"resets in the body": {func(c net.Conn) { answer("HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nab")(c); reset(c) }, 0,
			want{webhook.Retry, 200, "connection", ""}},
		"closes in the header": {answer("HTTP/1.1 200 OK\r\nX-A: s3cr3t"), 0,
			want{webhook.Retry, 0, "connection", "closed the connection before"}},
		"closes after the request": {func(c net.Conn) { readRequest(c) }, 0,
			want{webhook.Retry, 0, "connection", "closed the connection before"}},
		"closes in the body": {answer("HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nab"), 0,
			want{webhook.Retry, 200, "connection", "closed the connection before"}},
		"is no HTTP":        {answer("220 s3cr3t ESMTP\r\n"), 0, want{webhook.Retry, 0, "protocol", "not valid HTTP"}},
		"has a bad status":  {answer("HTTP/1.1 s3cr3t OK\r\n\r\n"), 0, want{webhook.Retry, 0, "protocol", "not valid HTTP"}},
		"has a bad header":  {answer("HTTP/1.1 200 OK\r\ns3cr3t\r\n\r\n"), 0, want{webhook.Retry, 0, "protocol", "not valid HTTP"}},
		"has a bad length":  {answer("HTTP/1.1 200 OK\r\nContent-Length: s3cr3t\r\n\r\n"), 0, want{webhook.Retry, 0, "protocol", "not valid HTTP"}},
		"has bad chunks":    {answer("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\ns3cr3t\r\n"), 0, want{webhook.Retry, 200, "protocol", "not valid HTTP"}},
		"switches protocol": {answer("HTTP/1.1 101 Switching Protocols\r\nUpgrade: s3cr3t\r\nConnection: Upgrade\r\n\r\n"), limit, want{webhook.Retry, 101, "status", "101"}},
		"switches protocol and hangs": {func(c net.Conn) {
			answer("HTTP/1.1 101 Switching Protocols\r\nUpgrade: s3cr3t\r\nConnection: Upgrade\r\n\r\n")(c)
			hang(c)
		}, limit, want{webhook.Retry, 101, "status", "101"}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			ep := local(rawServer(t, c.serve) + "/s3cr3t?s3cr3t")
			if c.limit > 0 {
				ep.Timeout = c.limit
			}
			check(t, newSender(t, webhook.Options{}).Send(t.Context(), ep, message()), c.want)
		})
	}
}

// Whoever reads why no answer came reads no address: it may be in the operator's network.
func TestReasonsHaveNoAddresses(t *testing.T) {
	t.Parallel()
	here, there := &net.TCPAddr{IP: net.IPv4(10, 7, 7, 7), Port: 1}, &net.TCPAddr{IP: net.IPv4(10, 7, 7, 8), Port: 443}
	for _, c := range []struct {
		operation string
		err       error
		want      string
	}{
		{"dial", os.ErrDeadlineExceeded, "dial: i/o timeout"},
		{"read", os.ErrDeadlineExceeded, "read: i/o timeout"},
		{"write", net.ErrClosed, "write: use of closed network connection"},
		{"dial", os.NewSyscallError("connect", syscall.EHOSTUNREACH), "no route to host"},
		{"remote error", errors.New("tls: bad certificate"), "remote error: tls: bad certificate"},
	} {
		err := fmt.Errorf("wrapped: %w", &net.OpError{Op: c.operation, Net: "tcp", Source: here, Addr: there, Err: c.err})
		if got := webhook.Reason(err); got != c.want {
			t.Errorf("%v is told as %q, not %q", err, got, c.want)
		}
	}
}

func TestNobodyListens(t *testing.T) {
	t.Parallel()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	url := "http://" + listener.Addr().String()
	if err := listener.Close(); err != nil {
		t.Fatal(err)
	}
	o := newSender(t, webhook.Options{}).Send(t.Context(), local(url), message())
	check(t, o, want{webhook.Retry, 0, webhook.ClassConnection, "connection refused"})
}

func TestTLS(t *testing.T) {
	t.Parallel()
	server := httptest.NewUnstartedServer(http.NotFoundHandler())
	server.Config.ErrorLog = log.New(io.Discard, "", 0)
	server.StartTLS()
	t.Cleanup(server.Close)
	plain := serve(t, http.NotFoundHandler())
	nobody := newSender(t, webhook.Options{RootCAs: x509.NewCertPool()})
	trusting := newSender(t, webhook.Options{RootCAs: roots(server)})
	_, port, _ := strings.Cut(strings.TrimPrefix(server.URL, "https://"), ":")
	handshake := func(end func(net.Conn)) string { // reads the sender's hello, and ends
		return strings.Replace(rawServer(t, func(c net.Conn) { _, _ = c.Read(make([]byte, 4096)); end(c) }), "http:", "https:", 1)
	}
	closes := handshake(func(net.Conn) {})
	resets := handshake(func(c net.Conn) {
		if tcp, ok := c.(*net.TCPConn); ok {
			_ = tcp.SetLinger(0)
		}
	})
	for url, text := range map[string]string{closes: "closed the connection", resets: "connection reset"} {
		check(t, trusting.Send(t.Context(), local(url), message()), want{webhook.Retry, 0, webhook.ClassConnection, text})
	}
	hangUp := rawServer(t, func(c net.Conn) { _, _ = io.WriteString(c, "\x15\x03\x03\x00\x02\x02\x28") }) // handshake_failure
	for name, c := range map[string]struct {
		sender *webhook.Sender
		url    string
		text   string
	}{
		"unknown authority": {nobody, server.URL, "unknown authority"},
		"another host":      {trusting, "https://localhost:" + port, "certificate is valid for"},
		"plain port":        {trusting, strings.Replace(plain, "http:", "https:", 1), "plain HTTP"},
		"alert":             {trusting, strings.Replace(hangUp, "http:", "https:", 1), "handshake failure"},
	} {
		t.Run(name, func(t *testing.T) {
			check(t, c.sender.Send(t.Context(), local(c.url), message()), want{webhook.Retry, 0, webhook.ClassTLS, c.text})
		})
	}
}

// TestCompressedAnswer: nothing is unpacked, so that a bomb is 64 KiB at most.
func TestCompressedAnswer(t *testing.T) {
	t.Parallel()
	var member bytes.Buffer
	w := gzip.NewWriter(&member)
	if _, err := w.Write(make([]byte, 1<<20)); err != nil {
		t.Fatal(err)
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	bomb := bytes.Repeat(member.Bytes(), 40) // gzip files may be joined
	var accepts atomic.Value
	url := serve(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		accepts.Store(r.Header.Get("Accept-Encoding"))
		w.Header().Set("Content-Encoding", "gzip")
		_, _ = w.Write(bomb)
	}))
	o := newSender(t, webhook.Options{}).Send(t.Context(), local(url), message())
	mustDeliver(t, o)
	if !bytes.Equal(o.Answer, bomb[:len(o.Answer)]) || len(o.Answer) != 16<<10 || accepts.Load() != "" {
		t.Errorf("%d bytes kept, or unpacked, or compression was asked for (%v)", len(o.Answer), accepts.Load())
	}
}

func TestCanceledIsNotTimeout(t *testing.T) {
	t.Parallel()
	arrived := make(chan struct{}, 2)
	url := serve(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		_, _ = io.ReadAll(r.Body)
		if r.URL.Path == "/body" {
			_ = http.NewResponseController(w).Flush()
		}
		arrived <- struct{}{}
		<-r.Context().Done()
	}))
	sender := newSender(t, webhook.Options{})
	for path, status := range map[string]int{"/header": 0, "/body": 200} {
		ctx, cancel := context.WithCancel(t.Context())
		go func() {
			<-arrived
			cancel()
		}()
		o := sender.Send(ctx, local(url+path), message())
		check(t, o, want{webhook.Retry, o.Status, webhook.ClassCanceled, "context canceled"})
		if o.Status > status { // the answer's header may or may not have arrived by then
			t.Errorf("%s: status %d", path, o.Status)
		}
		if !errors.Is(o.Err, context.Canceled) {
			t.Errorf("%s: error %v does not say so", path, o.Err)
		}
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	check(t, sender.Send(ctx, local(url), message()), want{webhook.Retry, 0, webhook.ClassCanceled, "context canceled"})
	ep := local(url + "/header")
	ep.Timeout = 100 * time.Millisecond
	o := sender.Send(t.Context(), ep, message())
	check(t, o, want{webhook.Retry, 0, webhook.ClassTimeout, "within 100ms"})
	if !errors.Is(o.Err, context.DeadlineExceeded) {
		t.Errorf("error %v is no deadline", o.Err)
	}
}

// TestPatternReach: a pattern looks as far into an answer as its size allows, and the error
// says when that was not all of it.
func TestPatternReach(t *testing.T) {
	t.Parallel()
	large := `ok|` + strings.Repeat("(z|y)", 190) // almost a thousand steps
	sender := newSender(t, webhook.Options{})
	for _, c := range []struct {
		at   int
		body string
		want string // part of the error; none: delivered
	}{
		{15 << 10, `ok`, ""},
		{17 << 10, `ok`, "in its first 16384 bytes, as far as it looks"},
		{100, large, ""},
		{15 << 10, large, "as far as it looks; a shorter pattern looks further"},
		{15 << 10, `"status"\s*:\s*"?200"?\b|ok`, ""},
	} {
		ep := local(serve(t, http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
			_, _ = io.WriteString(w, strings.Repeat("x", c.at)+"ok"+strings.Repeat("x", 20<<10-c.at))
		})))
		ep.Success.Body = c.body
		o := sender.Send(t.Context(), ep, message())
		if c.want == "" {
			mustDeliver(t, o)
			continue
		}
		check(t, o, want{webhook.Retry, http.StatusOK, webhook.ClassBody, c.want})
	}
	ep := local(serve(t, http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(w, "no") })))
	ep.Success.Body = large
	if o := sender.Send(t.Context(), ep, message()); o.Class != webhook.ClassBody || strings.Contains(o.Err.Error(), "looks") {
		t.Errorf("of a short answer all is looked at: %v", o.Err)
	}
}
