package webhook

import (
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

	mu      sync.Mutex
	current *connections // nil: the next request makes it
}

// connections are those of a pool from one time on. Guarded by the pool's mutex.
type connections struct {
	*http.Transport
	since   time.Time
	users   int // requests in flight
	givenUp bool
}

// acquire returns the connections for a request, which releases them.
func (p *pool) acquire(now time.Time) *connections {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.current != nil && now.Sub(p.current.since) >= connectionLife {
		p.giveUpLocked()
	}
	if p.current == nil {
		p.current = &connections{Transport: p.fresh(), since: now}
	}
	p.current.users++
	return p.current
}

// release ends a request. One that got no whole answer over HTTP/2 gives the
// connections up: net/http keeps such a connection as long as its peer answers
// pings, as a proxy does that has lost its receiver, and sends the retry over it.
func (p *pool) release(c *connections, class string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	unanswered := class == ClassTimeout || class == ClassConnection || class == ClassProtocol
	if c == p.current && unanswered && p.http2.Load() {
		p.giveUpLocked()
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
