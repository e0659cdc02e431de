package webhook

import (
	"context"
	"crypto/tls"
	"errors"
	"net"
	"net/http"
	"slices"
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
// of HTTP if http1 was asked for. They are replaced together. Requests in flight keep theirs
// until they end.
type pool struct {
	sender  *Sender
	address string // of the receiver, host and port
	connect func(ctx context.Context, network, address string) (net.Conn, error)
	tls     *tls.Config // nil: plain HTTP
	http2   atomic.Bool // the receiver has agreed to HTTP/2 the last time

	mu        sync.Mutex
	current   *connections // nil: the next request makes it
	keepAfter time.Time    // until then no connection is kept for a second request
}

// connections are those of a pool from one time on. Guarded by the pool's mutex.
//
// Those of HTTP/1.1 are each used by one request at a time. Those of HTTP/2 are net/http's.
type connections struct {
	pool     *pool
	since    time.Time
	expiry   *time.Timer
	users    int // requests in flight
	answered int64
	dialed   int64
	unkept   bool // no connection is kept for a second request
	givenUp  bool

	idle    []*connection // the last one is used first
	waiting []*want       // the oldest first
	http2   *http.Transport
	opened  []net.Conn // for http2
}

// want is a request without a connection: one is being made for it, but another may be free before.
type want struct {
	served chan served // has room for one
	own    bool        // it takes no connection but the one that is made for it
	// dialing: a connection is being made for it. Guarded by the pool's mutex.
	dialing bool
}

type served struct {
	connection *connection
	err        error
}

// Errors of a request that was sent over the wrong version of HTTP; nothing was written.
var (
	errHTTP2 = errors.New("the receiver has chosen HTTP/2")
	errHTTP1 = errors.New("the receiver has chosen HTTP/1.1")
)

// newConnectionsLocked makes connections from now on. Those that nobody uses end with their time,
// too: a receiver that has closed its end would otherwise be left with half of a connection.
func (p *pool) newConnectionsLocked(now time.Time) *connections {
	c := &connections{pool: p, since: now, unkept: !glimpses || now.Before(p.keepAfter)}
	c.expiry = time.AfterFunc(connectionLife, func() {
		p.mu.Lock()
		defer p.mu.Unlock()
		if p.current == c {
			p.giveUpLocked()
		}
	})
	return c
}

// acquire returns the connections for a request, which releases them, and an idle one if there is one.
func (p *pool) acquire(now time.Time) (*connections, *connection) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.current != nil && now.Sub(p.current.since) >= connectionLife {
		p.giveUpLocked()
	}
	if p.current == nil {
		p.current = p.newConnectionsLocked(now)
	}
	p.current.users++
	return p.current, p.current.popLocked()
}

// release ends a request and takes its connection back (nil: there is none). Two kinds of requests
// without an answer give the connections up.
//
// Over HTTP/2 any: net/http keeps such a connection as long as its peer answers pings,
// as a proxy does that has lost its receiver, and sends the retry over it.
//
// Over HTTP/1.1 one that was hung up on, if none of the connections has carried a
// second request yet: there are receivers that close them after an answer without
// saying so. Then none is kept until they would be replaced anyway.
func (p *pool) release(c *connections, kept *connection, o *Outcome, now time.Time) {
	p.mu.Lock()
	defer p.mu.Unlock()
	switch o.Class {
	case ClassOK, ClassStatus, ClassBody:
		c.answered++
		if p.http2.Load() {
			c.answeredHTTP2Locked()
		}
	case ClassTimeout, ClassConnection, ClassProtocol:
		closes := o.Class == ClassConnection && !undialed(o.Err) && c.answered > 0 && c.answered <= c.dialed
		switch {
		case c != p.current:
		case p.http2.Load():
			p.giveUpLocked()
		case closes:
			p.keepAfter = now.Add(connectionLife)
			p.giveUpLocked()
		}
	}
	if kept != nil {
		c.keepLocked(kept)
	}
	if c.users--; c.users == 0 && c.givenUp {
		c.closeIdleLocked()
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
	p.current.expiry.Stop()
	p.current.closeIdleLocked() // and those in use when their requests end
	p.current = nil
}

func (c *connections) closeIdleLocked() {
	for _, idle := range c.idle {
		idle.close()
	}
	for _, conn := range c.opened {
		_ = conn.Close() // nothing was sent over it
	}
	c.idle, c.opened = nil, nil
	if c.http2 != nil {
		c.http2.CloseIdleConnections()
	}
}

func (c *connections) popLocked() *connection {
	n := len(c.idle)
	if n == 0 {
		return nil
	}
	idle := c.idle[n-1]
	c.idle[n-1], c.idle = nil, c.idle[:n-1]
	return idle
}

// keepLocked gives a connection to the request that waits the longest, or keeps it.
func (c *connections) keepLocked(kept *connection) {
	first := slices.IndexFunc(c.waiting, func(w *want) bool { return !w.own })
	switch {
	case first >= 0:
		c.waiting[first].served <- served{connection: kept}
		c.waiting = slices.Delete(c.waiting, first, first+1)
	case c.givenUp || c.unkept && kept.used || !glimpses:
		kept.close()
	default:
		kept.waited = true
		c.idle = append(c.idle, kept)
	}
}

// roundTrip sends the draft over HTTP/1.1, or HTTP/2 if the receiver prefers that.
func (c *connections) roundTrip(ctx context.Context, a *attempt, idle *connection) reply {
	for turn := 0; ; turn++ {
		var r reply
		if c.pool.http2.Load() && idle == nil {
			r = c.overHTTP2(ctx, a)
		} else {
			r = c.overHTTP1(ctx, a, idle)
		}
		if turn == 2 || !errors.Is(r.err, errHTTP1) && !errors.Is(r.err, errHTTP2) {
			return r
		}
		c.pool.mu.Lock()
		idle = c.popLocked() // one that turned out to be of HTTP/1.1
		c.pool.mu.Unlock()
	}
}

// overHTTP1 sends the draft over the idle connection, or another. One that had been kept may
// have been closed by the receiver in that moment. If the receiver's machine has acknowledged
// nothing of the request, it is sent over a connection that is made for it; anything else
// may have been taken.
func (c *connections) overHTTP1(ctx context.Context, a *attempt, idle *connection) reply {
	for idle != nil && !idle.claim(ctx, a.deadline) {
		c.pool.complain(idle)
		idle.close()
		c.pool.mu.Lock()
		idle = c.popLocked()
		c.pool.mu.Unlock()
	}
	for again := false; ; again = true {
		if idle == nil {
			var err error
			if idle, err = c.make(ctx, a, again); err != nil {
				return reply{err: err}
			}
		}
		r := idle.exchange(a, c.unkept)
		c.pool.complain(idle)
		if !r.untaken || ctx.Err() != nil || !time.Now().Before(a.deadline) {
			return r // as is that of a connection made for it
		}
		idle = nil
	}
}

// complain says that a receiver is broken whose answers might be mistaken for others.
func (p *pool) complain(c *connection) {
	if c.unasked {
		p.sender.options.Logger.Warn().Str("host", p.address).
			Msg("unsolicited response: the receiver has sent more than the answer to its request; it was not read, and the connection was closed")
	}
}

// make returns a connection that is made for the request, or, unless it must be its own, one that
// has become free while it was. The making goes on when the request's time is over: the next one
// finds it.
func (c *connections) make(ctx context.Context, a *attempt, own bool) (*connection, error) {
	limited, cancel := context.WithDeadline(ctx, a.deadline)
	defer cancel()
	w := &want{served: make(chan served, 1), own: own}
	dialing := a.steps.follow(context.WithoutCancel(ctx))
	for again := false; limited.Err() == nil; again = true {
		c.enqueue(dialing, w, again)
		var s served
		select {
		case s = <-w.served:
		case <-limited.Done():
			return nil, c.withdraw(limited, w)
		}
		if s.err != nil {
			return nil, s.err
		}
		if s.connection.claim(ctx, a.deadline) {
			return s.connection, nil
		}
		c.pool.complain(s.connection)
		s.connection.close()
	}
	return nil, context.Cause(limited)
}

// enqueue has a request wait for a connection, and one be made for it unless that is under way;
// again: it had one that was of no use, and is before those that have come later.
func (c *connections) enqueue(dialing context.Context, w *want, again bool) {
	c.pool.mu.Lock()
	defer c.pool.mu.Unlock()
	if !w.own {
		if idle := c.popLocked(); idle != nil {
			w.served <- served{connection: idle}
			return
		}
	}
	place := len(c.waiting)
	if again {
		place = 0
	}
	c.waiting = slices.Insert(c.waiting, place, w)
	if !w.dialing {
		w.dialing = true
		c.pool.sender.dials.Go(func() { c.open(dialing, w) })
	}
}

// withdraw ends the waiting of a request whose time is over.
func (c *connections) withdraw(limited context.Context, w *want) error {
	c.pool.mu.Lock()
	defer c.pool.mu.Unlock()
	if i := slices.Index(c.waiting, w); i >= 0 {
		c.waiting = slices.Delete(c.waiting, i, i+1)
	} else if s := <-w.served; s.connection != nil {
		c.keepLocked(s.connection)
	}
	return context.Cause(limited)
}

// open makes a connection for a request, which may be served by then.
func (c *connections) open(ctx context.Context, w *want) {
	wire, over, http2, err := c.pool.open(ctx)
	c.pool.mu.Lock()
	defer c.pool.mu.Unlock()
	w.dialing = false
	mine := slices.Index(c.waiting, w)
	serve := func(s served) {
		c.waiting = slices.Delete(c.waiting, mine, mine+1)
		w.served <- s
	}
	switch {
	case err != nil:
		if mine >= 0 {
			serve(served{err: err})
		}
	case !http2:
		c.dialed++
		c.pool.http2.Store(false)
		made := newConnection(wire, over)
		if mine >= 0 {
			serve(served{connection: made})
		} else {
			c.keepLocked(made)
		}
	case mine < 0:
		_ = over.Close() // nothing was sent over it
	default:
		c.dialed++
		c.pool.http2.Store(true)
		c.opened = append(c.opened, over)
		serve(served{err: errHTTP2})
	}
}

// undialed reports whether there was no connection that could have been hung up.
func undialed(err error) bool {
	e, ok := errors.AsType[*net.OpError](err)
	return ok && e.Op == "dial"
}
