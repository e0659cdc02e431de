//go:build !unix

package webhook

// readDescriptor does not know what has arrived: that a connection was closed
// shows when it is used.
func (w *wire) readDescriptor(uintptr) (done bool) {
	w.n, w.err = 0, errNothingYet
	return true
}
