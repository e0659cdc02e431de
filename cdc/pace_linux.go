package cdc

import (
	"errors"
	"io"
	"net"
	"syscall"
	"time"
)

const (
	// crowdedWait is the longest wait for data that counts as none.
	crowdedWait = 300 * time.Microsecond
	// quietWait is the shortest wait that ends a crowd.
	quietWait = 2 * time.Millisecond
	// crowdedReads is how many reads without a wait make a crowd.
	crowdedReads = 64
	// gatherTime is how long data may gather. The runtime makes a millisecond of it.
	gatherTime = 500 * time.Microsecond
	// gatherSize is how much the kernel lets gather before it wakes us.
	// The receive buffer grows with it, so that the walsender can run ahead.
	gatherSize = 1 << 20
	// sparse is a read that shows, after gatherTime, that the crowd is over.
	sparse = 512
	// sparseReads is how many such reads in a row end it.
	sparseReads = 4
)

// pacedConn lets data gather in the socket while messages come one by one
// without end. A walsender writes every message on its own. Reading each as it
// comes costs both sides a wake-up per message, on the reader's side also where
// nobody reads: the runtime's poller wakes for every segment. It halves the
// speed of both. A change that comes alone is not delayed.
type pacedConn struct {
	net.Conn
	raw   syscall.RawConn // nil: no pacing
	reads int             // without a wait, less those with one
	thin  int             // sparse reads in a row
	more  bool            // the last read of a crowd did not take all
	crowd bool
	timer *time.Timer
}

// newPacedConn wraps a connection whose reads come from one goroutine.
func newPacedConn(conn net.Conn) net.Conn {
	socket, ok := conn.(syscall.Conn)
	if !ok {
		return conn
	}
	raw, err := socket.SyscallConn()
	if err != nil {
		return conn
	}
	timer := time.NewTimer(gatherTime)
	timer.Stop()
	return &pacedConn{Conn: conn, raw: raw, timer: timer}
}

// Read implements net.Conn.
func (c *pacedConn) Read(b []byte) (int, error) {
	if c.crowd {
		if !c.more {
			c.timer.Reset(gatherTime)
			<-c.timer.C
		}
		n, err := c.available(b)
		c.more = n == len(b)
		if n >= sparse || c.more {
			c.thin = 0
		} else {
			c.thin++
		}
		if c.thin >= sparseReads {
			c.leave()
		}
		if n > 0 || !errors.Is(err, syscall.EAGAIN) {
			return n, err
		}
	}
	return c.wait(b)
}

// wait reads what is there, or waits for the first byte.
func (c *pacedConn) wait(b []byte) (int, error) {
	if c.crowd {
		if err := c.wakeAt(1); err != nil {
			return 0, err
		}
	}
	asked := time.Now()
	n, err := c.Conn.Read(b)
	switch waited := time.Since(asked); {
	case err != nil || waited > quietWait:
		c.leave()
	case c.crowd || c.reads >= crowdedReads:
		// Where the socket refuses the option there is no crowd.
		c.crowd = c.wakeAt(gatherSize) == nil
	case waited > crowdedWait:
		c.reads = max(0, c.reads-crowdedReads/8)
	default:
		c.reads++
	}
	return n, err
}

// leave ends a crowd. An error of the socket shows in the read that follows.
func (c *pacedConn) leave() {
	if c.crowd {
		_ = c.wakeAt(1)
	}
	c.crowd, c.reads, c.thin, c.more = false, 0, 0, false
}

// available reads what is there: EAGAIN when there is nothing.
func (c *pacedConn) available(b []byte) (n int, err error) {
	failed := c.raw.Read(func(fd uintptr) bool {
		for {
			n, err = syscall.Read(int(fd), b)
			if !errors.Is(err, syscall.EINTR) {
				return true
			}
		}
	})
	switch {
	case failed != nil:
		return 0, failed
	case err != nil:
		return 0, err
	case n == 0 && len(b) > 0:
		return 0, io.EOF
	}
	return n, nil
}

// wakeAt sets how many bytes must be there before a waiting read wakes.
func (c *pacedConn) wakeAt(bytes int) error {
	var err error
	failed := c.raw.Control(func(fd uintptr) {
		err = syscall.SetsockoptInt(int(fd), syscall.SOL_SOCKET, syscall.SO_RCVLOWAT, bytes)
	})
	return errors.Join(failed, err)
}
