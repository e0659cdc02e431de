package bridge

import (
	"container/list"
	"context"
	"crypto/tls"
	"net"
	"net/http"
	"net/netip"
	"sync"

	"gancho/internal/api"
)

const (
	// maxConnections is how many connections the listener keeps, metricsConnections how
	// many that of the metrics does.
	maxConnections, metricsConnections = 256, 32
	// listenerShare of the descriptors that the process may have is the most that a
	// listener takes: deliveries need theirs, whoever connects here.
	listenerShare = 4
)

// connectionLimit is how many connections a listener may keep: no more than most, nor
// than its share of the descriptors.
func connectionLimit(most int) int {
	if n := descriptors(); n > 0 {
		most = min(most, max(1, n/listenerShare))
	}
	return most
}

// limitedListener keeps at most limit connections open. A new one takes the place of one
// that is not held: see victimLocked. If there is no such connection, the new one is closed:
// waiting to accept it, as netutil.LimitListener does, would let 256 silent strangers keep
// everybody out.
type limitedListener struct {
	net.Listener
	limit int
	// turnedAway is called for each connection that is closed for want of room.
	turnedAway func()

	mu      sync.Mutex
	open    int                  // guarded by mu
	from    map[netip.Prefix]int // how many of them each network has; guarded by mu
	waiting list.List            // of *limitedConn, those that have waited longest first; guarded by mu
}

func limitListener(l net.Listener, limit int, turnedAway func()) *limitedListener {
	return &limitedListener{Listener: l, limit: limit, turnedAway: turnedAway, from: map[netip.Prefix]int{}}
}

// limitedConn is a connection that counts until it is closed.
type limitedConn struct {
	net.Conn
	listener *limitedListener
	from     netip.Prefix
	place    *list.Element // among those that wait; nil: it is held, or closed. Guarded by listener.mu
	busy     bool          // in the middle of a request: its header has come, its answer has not gone. Guarded by listener.mu
	closed   bool          // guarded by listener.mu
}

// Accept accepts the next connection that there is room for.
func (l *limitedListener) Accept() (net.Conn, error) {
	for {
		conn, err := l.Listener.Accept()
		if err != nil {
			return nil, err
		}
		l.mu.Lock()
		full := l.open >= l.limit
		var victim *limitedConn
		if full {
			victim = l.victimLocked()
		}
		if victim != nil {
			victim.leaveLocked()
		}
		l.mu.Unlock()
		if full {
			l.turnedAway()
		}
		switch {
		case victim != nil:
			_ = victim.Close() // a request that arrives there now is lost, as when an idle connection times out
		case full:
			_ = conn.Close() // it had nothing yet
			continue
		}
		c := &limitedConn{Conn: conn, listener: l, from: api.Network(conn.RemoteAddr().String())}
		l.mu.Lock()
		l.open++
		l.from[c.from]++
		c.place = l.waiting.PushBack(c)
		l.mu.Unlock()
		return c, nil
	}
}

// victimLocked is the connection that makes room for a new one, nil if all are held: one of
// a network that has more than half of all, if there is one; then one that waits for a
// request, before those in the middle of one; then one of the network that has the most; then
// the one that has waited longest.
func (l *limitedListener) victimLocked() *limitedConn {
	var victim *limitedConn
	for e := l.waiting.Front(); e != nil; e = e.Next() {
		if c, ok := e.Value.(*limitedConn); ok && (victim == nil || l.beforeLocked(c, victim)) {
			victim = c
		}
	}
	return victim
}

// beforeLocked reports whether c is to be closed rather than other, which has waited longer.
func (l *limitedListener) beforeLocked(c, other *limitedConn) bool {
	mine, theirs := l.from[c.from], l.from[other.from]
	if much, others := 2*mine > l.limit, 2*theirs > l.limit; much != others {
		return much
	}
	if c.busy != other.busy {
		return other.busy
	}
	return mine > theirs
}

// Close closes the connection and gives its place up.
func (c *limitedConn) Close() error {
	l := c.listener
	l.mu.Lock()
	if !c.closed {
		c.closed = true
		l.open--
		if l.from[c.from]--; l.from[c.from] == 0 {
			delete(l.from, c.from)
		}
	}
	c.leaveLocked()
	l.mu.Unlock()
	return c.Conn.Close()
}

// CloseWrite lets net/http end an answer before it closes, as it does with TCP itself.
func (c *limitedConn) CloseWrite() error {
	if tcp, ok := c.Conn.(interface{ CloseWrite() error }); ok {
		return tcp.CloseWrite()
	}
	return nil
}

func (c *limitedConn) leaveLocked() {
	if c.place != nil {
		c.listener.waiting.Remove(c.place)
		c.place = nil
	}
}

// held says that the connection is kept for a request, or no longer is.
func (c *limitedConn) held(now bool) {
	l := c.listener
	l.mu.Lock()
	defer l.mu.Unlock()
	c.leaveLocked()
	if !now && !c.closed {
		c.place = l.waiting.PushBack(c)
	}
}

// limitedOf is the connection that counts, below TLS where there is that.
func limitedOf(conn net.Conn) (*limitedConn, bool) {
	if secure, ok := conn.(*tls.Conn); ok {
		conn = secure.NetConn()
	}
	c, ok := conn.(*limitedConn)
	return c, ok
}

// connState is a server's ConnState: it tells a connection when a request begins and ends.
func connState(conn net.Conn, state http.ConnState) {
	c, ok := limitedOf(conn)
	if !ok || state != http.StateActive && state != http.StateIdle {
		return
	}
	l := c.listener
	l.mu.Lock()
	defer l.mu.Unlock()
	c.busy = state == http.StateActive
	if c.place != nil {
		l.waiting.MoveToBack(c.place)
	}
}

// connKey is the key of the connection in a request's context.
type connKey struct{}

// withConn is a server's ConnContext.
func withConn(ctx context.Context, conn net.Conn) context.Context {
	if c, ok := limitedOf(conn); ok {
		return context.WithValue(ctx, connKey{}, c)
	}
	return ctx
}

// holdConnection keeps the connection of a request until it is released. Only what is
// limited otherwise may hold one: neither what strangers ask, nor the transfer of a body
// or an answer, which they can make last as long as they like.
func holdConnection(r *http.Request) (release func()) {
	c, ok := r.Context().Value(connKey{}).(*limitedConn)
	if !ok {
		return func() {}
	}
	c.held(true)
	return func() { c.held(false) }
}
