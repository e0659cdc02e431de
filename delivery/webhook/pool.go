package webhook

import (
	"context"
	"errors"
	"net"
	"net/http"
	"sync"
	"sync/atomic"
	"time"
)

// connectionLife is how long connections serve: a receiver that moves is found
// under its new address that long after its name says so, and one that a proxy has
// lost is left. Too short for a setting: a new connection a minute costs nobody
// anything.
const connectionLife = time.Minute

// pool is the connections that endpoints share: to one origin, over one version
// of HTTP. They are replaced together, as one http.Transport, which offers no
// way to give up one of them. Requests in flight keep theirs until they end.
type pool struct {
	fresh func() *http.Transport // that a request can be sent with
	http2 atomic.Bool            // a receiver has agreed to HTTP/2

	mu        sync.Mutex
	current   *connections // nil: the next request makes it
	keepAfter time.Time    // until then no connection is kept for a second request
}

// connections are those of a pool from one time on. Guarded by the pool's mutex.
type connections struct {
	*http.Transport
	since    time.Time
	users    int // requests in flight
	answered int64
	dialed   atomic.Int64
	givenUp  bool
}

// newConnectionsLocked makes connections from now on.
func (p *pool) newConnectionsLocked(now time.Time) *connections {
	c := &connections{Transport: p.fresh(), since: now}
	dial := c.DialContext
	c.DialContext = func(ctx context.Context, network, address string) (net.Conn, error) {
		conn, err := dial(ctx, network, address)
		if err == nil {
			c.dialed.Add(1)
		}
		return conn, err
	}
	c.DisableKeepAlives = now.Before(p.keepAfter)
	return c
}

// acquire returns the connections for a request, which releases them.
func (p *pool) acquire(now time.Time) *connections {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.current != nil && now.Sub(p.current.since) >= connectionLife {
		p.giveUpLocked()
	}
	if p.current == nil {
		p.current = p.newConnectionsLocked(now)
	}
	p.current.users++
	return p.current
}

// release ends a request. Two kinds of those without an answer give the connections up.
//
// Over HTTP/2 any: net/http keeps such a connection as long as its peer answers pings,
// as a proxy does that has lost its receiver, and sends the retry over it.
//
// Over HTTP/1.1 one that was hung up on, if none of the connections has carried a
// second request yet: there are receivers that close them after an answer without
// saying so. Then none is kept until they would be replaced anyway.
func (p *pool) release(c *connections, o Outcome, now time.Time) {
	p.mu.Lock()
	defer p.mu.Unlock()
	switch o.Class {
	case ClassOK, ClassStatus, ClassBody:
		c.answered++
	case ClassTimeout, ClassConnection, ClassProtocol:
		closes := o.Class == ClassConnection && !undialed(o.Err) && c.answered > 0 && c.answered <= c.dialed.Load()
		switch {
		case c != p.current:
		case p.http2.Load():
			p.giveUpLocked()
		case closes:
			p.keepAfter = now.Add(connectionLife)
			p.giveUpLocked()
		}
	}
	if c.users--; c.users == 0 && c.givenUp {
		c.CloseIdleConnections()
	}
}

// giveUp has the next request make a new connection.
func (p *pool) giveUp() {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.current != nil {
		p.giveUpLocked()
	}
}

func (p *pool) giveUpLocked() {
	p.current.givenUp = true
	p.current.CloseIdleConnections() // and those in use when their requests end
	p.current = nil
}

// undialed reports whether there was no connection that could have been hung up.
func undialed(err error) bool {
	e, ok := errors.AsType[*net.OpError](err)
	return ok && e.Op == "dial"
}
