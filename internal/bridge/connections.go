package bridge

import (
	"container/list"
	"context"
	"net"
	"net/http"
	"sync"
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

// limitedListener keeps at most limit connections open. A new one takes the place of the
// one that has waited longest without being held, as idle ones, and those of clients that
// send nothing or read nothing, do. If there is no such connection, the new one is closed:
// waiting to accept it, as netutil.LimitListener does, would let 256 silent strangers keep
// everybody out.
type limitedListener struct {
	net.Listener
	limit int
	// turnedAway is called for each connection that is closed for want of room.
	turnedAway func()

	mu      sync.Mutex
	open    int       // guarded by mu
	waiting list.List // of *limitedConn, those that have waited longest first; guarded by mu
}

func limitListener(l net.Listener, limit int, turnedAway func()) *limitedListener {
	return &limitedListener{Listener: l, limit: limit, turnedAway: turnedAway}
}

// limitedConn is a connection that counts until it is closed.
type limitedConn struct {
	net.Conn
	listener *limitedListener
	place    *list.Element // among those that wait; nil: it is held, or closed. Guarded by listener.mu
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
		var oldest *limitedConn
		if front := l.waiting.Front(); full && front != nil {
			oldest, _ = front.Value.(*limitedConn)
			oldest.leaveLocked()
		}
		l.mu.Unlock()
		if full {
			l.turnedAway()
		}
		switch {
		case oldest != nil:
			_ = oldest.Close() // a request that arrives there now is lost, as when an idle connection times out
		case full:
			_ = conn.Close() // it had nothing yet
			continue
		}
		c := &limitedConn{Conn: conn, listener: l}
		l.mu.Lock()
		l.open++
		c.place = l.waiting.PushBack(c)
		l.mu.Unlock()
		return c, nil
	}
}

// Close closes the connection and gives its place up.
func (c *limitedConn) Close() error {
	l := c.listener
	l.mu.Lock()
	if !c.closed {
		c.closed = true
		l.open--
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

// connKey is the key of the connection in a request's context.
type connKey struct{}

// withConn is a server's ConnContext.
func withConn(ctx context.Context, conn net.Conn) context.Context {
	return context.WithValue(ctx, connKey{}, conn)
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
