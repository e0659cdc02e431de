package webhook

import (
	"context"
	"net"
	"net/http"
)

// overHTTP2 sends the draft over net/http's connections.
func (c *connections) overHTTP2(ctx context.Context, a *attempt) (r reply) {
	c.pool.mu.Lock()
	if c.http2 == nil {
		c.http2 = newTransport(c.openHTTP2)
	}
	transport := c.http2
	c.pool.mu.Unlock()
	limited, cancel := context.WithDeadline(ctx, a.deadline)
	defer cancel()
	answer, err := transport.RoundTrip(a.prepared.request(a.steps.follow(limited), a.draft))
	if err != nil {
		return reply{err: err}
	}
	defer func() { _ = answer.Body.Close() }() // nothing is written through it
	r.answer = answer
	r.kept, _, r.err = a.draft.beginAnswer().readBody(answer.Body)
	return r
}

// openHTTP2 is the transport's way to a connection.
func (c *connections) openHTTP2(ctx context.Context, _, _ string) (net.Conn, error) {
	c.pool.mu.Lock()
	if n := len(c.opened); n > 0 {
		conn := c.opened[n-1]
		c.opened = c.opened[:n-1]
		c.pool.mu.Unlock()
		return conn, nil
	}
	c.pool.mu.Unlock()
	wire, over, http2, err := c.pool.open(ctx)
	if err != nil {
		return nil, err
	}
	c.pool.http2.Store(http2)
	c.pool.mu.Lock()
	defer c.pool.mu.Unlock()
	c.dialed++
	if http2 {
		return over, nil
	}
	c.keepLocked(newConnection(wire, over))
	return nil, errHTTP1
}

// newTransport returns one for HTTP/2 alone.
func newTransport(open func(ctx context.Context, network, address string) (net.Conn, error)) *http.Transport {
	t := &http.Transport{
		DialTLSContext:         open,
		DisableCompression:     true,
		IdleConnTimeout:        connectionLife,
		MaxResponseHeaderBytes: maxAnswerHeader,
		Protocols:              &http.Protocols{},
		HTTP2:                  &http.HTTP2Config{SendPingTimeout: pingAfter, PingTimeout: pingTimeout},
	}
	t.Protocols.SetHTTP2(true)
	return t
}

// answeredHTTP2Locked: there is a connection for all requests.
func (c *connections) answeredHTTP2Locked() {
	for _, conn := range c.opened {
		_ = conn.Close() // nothing was sent over it
	}
	for _, w := range c.waiting {
		w.served <- served{err: errHTTP2}
	}
	c.opened, c.waiting = nil, nil
}
