package delivery

import (
	"crypto/sha256"
	"io"
	"sync"
	"sync/atomic"
)

// maxPooled is the largest buffer worth keeping, in bytes.
const maxPooled = 1 << 20

// contents and answers are caches, not state: nothing is ever read from them
// that was not written since.
var (
	contents = sync.Pool{New: func() any { return new(content) }}
	answers  = sync.Pool{New: func() any { return new([answerKept]byte) }}
)

// content is a request's signed text in a pooled buffer. The transport may
// still be writing the body when the answer is there, or after a time limit:
// the buffer goes back when the sender and every reader have let go of it.
type content struct {
	buf        []byte // id.timestamp.body
	start      int    // of the body
	signatures []byte
	sum        [sha256.Size]byte
	holders    atomic.Int32
}

// newContent returns an empty content, held once.
func newContent() *content {
	c, _ := contents.Get().(*content) // the pool holds nothing else
	c.buf, c.start = c.buf[:0], 0
	c.holders.Store(1)
	return c
}

func (c *content) release() {
	if c.holders.Add(-1) == 0 && cap(c.buf) <= maxPooled {
		contents.Put(c)
	}
}

// reader returns a reader of the body, which holds the content until closed.
func (c *content) reader() io.ReadCloser {
	c.holders.Add(1)
	return &contentReader{content: c, at: c.start}
}

// contentReader guards against a Close beside a Read, which HTTP/2 does when
// an answer comes before the body is sent.
type contentReader struct {
	mu      sync.Mutex
	content *content // nil once closed
	at      int
}

func (r *contentReader) Read(p []byte) (int, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.content == nil {
		return 0, io.ErrClosedPipe
	}
	if r.at == len(r.content.buf) {
		return 0, io.EOF
	}
	n := copy(p, r.content.buf[r.at:])
	r.at += n
	return n, nil
}

func (r *contentReader) Close() error {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.content != nil {
		r.content.release()
		r.content = nil
	}
	return nil
}

// readAnswer reads the body to its end, or answerRead bytes of it, closes it,
// and returns a copy of its first answerKept bytes. A body read to its end
// leaves the connection to the next request.
func readAnswer(body io.ReadCloser) (kept []byte, err error) {
	defer func() { _ = body.Close() }() // nothing is written through it
	scratch, _ := answers.Get().(*[answerKept]byte)
	defer answers.Put(scratch)
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
