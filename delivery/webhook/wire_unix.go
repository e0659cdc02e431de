//go:build unix

package webhook

import (
	"io"
	"syscall"
)

// glimpses: what has arrived over a connection can be seen without waiting.
const glimpses = true

// readDescriptor reads what has arrived. Go's descriptors do not block.
func (w *wire) readDescriptor(fd uintptr) (done bool) {
	for {
		n, err := syscall.Read(int(fd), w.into)
		switch {
		case err == syscall.EINTR:
			continue
		case err == syscall.EAGAIN:
			w.n, w.err = 0, errNothingYet
		case err != nil:
			w.n, w.err = 0, err
		case n == 0:
			w.n, w.err = 0, io.EOF
		default:
			w.n, w.err = n, nil
		}
		return true
	}
}
