package webhook

import (
	"net"
	"os"
	"sync/atomic"
	"syscall"
)

// wire is a TCP connection, under TLS if there is any. It counts what was written, and
// can be read without waiting.
type wire struct {
	net.Conn
	raw syscall.RawConn // nil: not of the system's

	written atomic.Int64 // bytes, since it was made
	// glimpse has Read return what has arrived and never wait. Set by who reads.
	glimpse bool
	from    func(fd uintptr) bool // a read of into, made once: a closure for each would be memory for each
	into    []byte
	n       int
	err     error
}

func newWire(c net.Conn) *wire {
	w := &wire{Conn: c}
	if system, ok := c.(syscall.Conn); ok {
		w.raw, _ = system.SyscallConn() // nil: there is none
	}
	w.from = w.readDescriptor
	return w
}

// errNothingYet is a timeout, which crypto/tls survives.
var errNothingYet = &net.OpError{Op: "read", Net: "tcp", Err: os.ErrDeadlineExceeded}

// Read is of one goroutine at a time.
func (w *wire) Read(p []byte) (int, error) {
	if !w.glimpse {
		return w.Conn.Read(p)
	}
	if w.raw == nil {
		return 0, errNothingYet
	}
	w.into = p
	err := w.raw.Read(w.from)
	w.into = nil
	if err != nil {
		return 0, err
	}
	return w.n, w.err
}

// Write is of one goroutine at a time.
func (w *wire) Write(p []byte) (int, error) {
	n, err := w.Conn.Write(p)
	w.written.Add(int64(n))
	return n, err
}
