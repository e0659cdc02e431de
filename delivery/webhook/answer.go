package webhook

import (
	"io"
	"sync"
)

const (
	answerKept = 16 << 10
	answerRead = 64 << 10
)

// answerBuffers is a cache, not state: what is read from it was written since.
var answerBuffers = sync.Pool{New: func() any { return new([answerKept]byte) }}

// readAnswer reads the body to its end, or answerRead bytes of it, closes it,
// and returns a copy of its first answerKept bytes. A body read to its end
// leaves the connection to the next request.
func readAnswer(body io.ReadCloser) (kept []byte, err error) {
	defer func() { _ = body.Close() }() // nothing is written through it
	scratch, _ := answerBuffers.Get().(*[answerKept]byte)
	defer answerBuffers.Put(scratch)
	n, at := 0, 0
	for n < answerRead && err == nil {
		var m int
		m, err = body.Read(scratch[at:])
		n, at = n+m, at+m
		if at == answerKept && err == nil {
			if kept == nil {
				kept = append(kept, scratch[:]...)
			}
			at = 0
		}
	}
	if kept == nil && n > 0 {
		kept = append(kept, scratch[:at]...)
	}
	if err == io.EOF {
		err = nil
	}
	return kept, err
}
