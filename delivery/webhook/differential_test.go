package webhook_test

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"io"
	"net"
	"net/http"
	"strings"
	"testing"
	"time"

	"gancho/delivery/webhook"
)

// seeds are answers of receivers, good and bad.
var seeds = []string{
	ok, refused, "", "H", "\r\n", "HTTP/1.1 200 OK\r\n\r\n", "HTTP/1.1 200\r\n\r\n", "HTTP/1.1 2000 OK\r\n\r\n", "HTTP/1.1 20 OK\r\n\r\n", "HTTP/1.1 -20 OK\r\n\r\n",
	"HTTP/1.1 099 OK\r\nContent-Length: 0\r\n\r\n", "HTTP/1.1 000 OK\r\nContent-Length: 0\r\n\r\n", "HTTP/0.0 000 \nContent-Length:002\n\n0", "HTTP/2.0 200 OK\r\nContent-Length: 0\r\n\r\n", "HTTP/9.9 200 OK\r\n\r\n",
	"http/1.1 200 OK\r\n\r\n", "HTTP/1.0 200 OK\r\n\r\nrest", "HTTP/1.1 200 OK\nContent-Length: 1\n\nx", "ICY 200 OK\r\n\r\n",
	"HTTP/1.1 204 No\r\nContent-Length: 5\r\n\r\nxxxxx", "HTTP/1.1 200 OK\r\nContent-Length: 5\r\nContent-Length: 6\r\n\r\nxxxxxx",
	"HTTP/1.1 200 OK\r\nContent-Length: 5\r\nContent-Length: 5\r\n\r\nxxxxx", "HTTP/1.1 200 OK\r\nContent-Length: +5\r\n\r\nxxxxx", "HTTP/1.1 200 OK\r\nContent-Length: -5\r\n\r\n",
	"HTTP/1.1 200 OK\r\nContent-Length: 99999999999999999999\r\n\r\n", "HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nxx",
	"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nContent-Length: 3\r\n\r\n2\r\nok\r\n0\r\n\r\n", "HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip\r\n\r\nx",
	"HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip, chunked\r\n\r\n0\r\n\r\n", "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2;x=y\r\nok\r\n0\r\nX: y\r\n\r\n",
	"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nffffffffffffffff\r\nok", "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nokk\r\n0\r\n\r\n",
	"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n0\r\nX", "HTTP/1.1 200 \nTrAnsfer-EnCoding:Chunked\n\n0\r\n00", "HTTP/1.0 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n0\r\n\r\n",
	"HTTP/1.1 200 OK\r\nX A: b\r\n\r\n", "HTTP/1.1 200 OK\r\n X: b\r\n\r\n", "HTTP/1.1 200 OK\r\nX: a\r\n b\r\nContent-Length: 0\r\n\r\n", "HTTP/1.1 200 OK\r\n: b\r\n\r\n",
	"HTTP/1.1 200 OK\r\nX: \x00\r\nContent-Length: 0\r\n\r\n", "HTTP/1.1 100 Continue\r\n\r\n", "HTTP/1.1 100 Continue\r\nContent-Length: 3\r\n\r\n" + ok,
	"HTTP/1.1 103 Early\r\n\r\nHTTP/1.1 100 C\r\n\r\n" + refused, "HTTP/1.1 199 X\r\n\r\n" + ok, "HTTP/1.1 101 Switching Protocols\r\nConnection: upgrade\r\nUpgrade: x\r\n\r\nx",
	"HTTP/1.1 410 Gone\r\nContent-Length: 5\r\n\r\nab", "HTTP/1.1 503 Later\r\nRetry-After: 7\r\nWebhook-Delivery: pause\r\nContent-Length: 0\r\n\r\n",
	"HTTP/1.1 200 OK\r\nX: " + strings.Repeat("a", 64<<10) + "\r\n\r\n", "HTTP/1.1 200 OK\r\nX: " + strings.Repeat("a", 60<<10) + "\r\nContent-Length: 2\r\n\r\nok",
	strings.Repeat("HTTP/1.1 103 E\r\nX: "+strings.Repeat("a", 900)+"\r\n\r\n", 80) + ok, "HTTP/1.1 200 OK\r\n\r\n" + strings.Repeat("b", 70<<10),
	"HTTP/1.1 200 OK\r\nConnection: close, keep-alive\r\nContent-Length: 2\r\n\r\nok", ok + ok, "\x16\x03\x01\x00\x00", "HTTP/1.1 302 F\r\nLocation: /x\r\nContent-Length: 0\r\n\r\n",
}

// FuzzAnswers: whatever a receiver sends, an attempt ends as one by net/http's client would.
func FuzzAnswers(f *testing.F) {
	for _, seed := range seeds {
		f.Add([]byte(seed))
	}
	f.Fuzz(func(t *testing.T, answer []byte) {
		url, _ := scripted(t, nil, func(_ int64, c net.Conn, r *bufio.Reader) {
			if request(r) {
				_, _ = c.Write(answer)
				half, ok := c.(*net.TCPConn)
				if !ok {
					t.Errorf("accepted a %T", c)
					return
				}
				_ = half.CloseWrite() // what the client has not read is not lost by a reset
				_, _ = io.Copy(io.Discard, r)
				_ = half.SetLinger(0) // or thousands of runs leave no port in a minute
			}
		})
		wanted := byNetHTTP(t, url)
		o := newSender(t, webhook.Options{}).Send(t.Context(), local(url), message())
		if o.Status != wanted.status {
			t.Fatalf("status %d (%v), by net/http %d (%v), of %q", o.Status, o.Err, wanted.status, wanted.err, answer)
		}
		if wanted.err != nil && (wanted.status == 0 || wanted.status/100 == 2) {
			why := "the answer is not valid HTTP"
			closed := "the receiver closed the connection before its answer was complete"
			if errors.Is(wanted.err, io.EOF) || errors.Is(wanted.err, io.ErrUnexpectedEOF) || wanted.err.Error() == "http: unexpected EOF reading trailer" {
				why = closed
			}
			// One that ends, or is too long for a buffer.
			trailer := wanted.err.Error() == "http: suspiciously long trailer after chunked body"
			text := "post to " + url + ": "
			if o.Err == nil || o.Err.Error() != text+why && (!trailer || o.Err.Error() != text+closed) {
				t.Errorf("%v, by net/http %s%s, of %q", o.Err, text, why, answer)
			}
			return
		}
		if (o.Class == webhook.ClassOK) != (wanted.status/100 == 2) || !bytes.Equal(o.Answer, wanted.kept) {
			t.Errorf("class %s (%v) with %d bytes, by net/http %d with %d, of %q", o.Class, o.Err, len(o.Answer), wanted.status, len(wanted.kept), answer)
		}
	})
}

type reference struct {
	status int
	kept   []byte
	err    error
}

// byNetHTTP posts the message's body as the sender did before it had connections of its own.
func byNetHTTP(t *testing.T, url string) (r reference) {
	t.Helper()
	transport := &http.Transport{DisableCompression: true, MaxResponseHeaderBytes: 64 << 10, DisableKeepAlives: true}
	defer transport.CloseIdleConnections()
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, url, bytes.NewReader(message().Data))
	if err != nil {
		t.Fatal(err)
	}
	answer, err := transport.RoundTrip(req)
	if err != nil {
		return reference{err: err}
	}
	defer func() { _ = answer.Body.Close() }()
	r.status = answer.StatusCode
	if r.status < http.StatusContinue { // which net/http takes
		return reference{err: errors.New("the status is below 100")}
	}
	if r.status != http.StatusSwitchingProtocols { // whose body is the connection
		const kept, read = 16 << 10, 64 << 10
		body, err := io.ReadAll(io.LimitReader(answer.Body, read))
		r.kept, r.err = body[:min(len(body), kept)], err
	}
	return r
}
