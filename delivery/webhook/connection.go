package webhook

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"math"
	"net"
	"net/http"
	"strings"
	"sync"
	"time"
)

// writtenAlone is the size of a request that the goroutine that reads its answer writes first: the
// system takes as much into its memory, whether or not the receiver reads it. Of a larger one the
// receiver may want to answer before it has read it, and read no more.
const writtenAlone = 16 << 10

// lateWrite is how long the rest of a request may take whose answer is there, for its connection
// to be kept.
const lateWrite = 50 * time.Millisecond

// connection is one of HTTP/1.1. One goroutine at a time owns it, which writes its request
// and reads the answer: net/http has two goroutines for each connection, and hands request
// and answer over between three, which takes more of the processor than the request itself.
type connection struct {
	wire    *wire
	over    net.Conn // the wire, or TLS over it
	address string   // of the peer
	used    bool     // it has answered a request
	waited  bool     // it has been idle
	unasked bool     // it has had more to say

	left   int64  // bytes that the receiver may send before it has said too much
	early  []byte // of the answer, which were read and are read again
	failed error  // why nothing more can be read

	// What closes it when the context ends for which it is in use.
	ended <-chan struct{}
	leave func() bool
	abort func()
}

func newConnection(w *wire, over net.Conn) *connection {
	c := &connection{wire: w, over: over, address: over.RemoteAddr().String(), leave: func() bool { return true }}
	c.abort = func() { _ = w.Close() } // its owner sees the error of what it does
	return c
}

// errAnswerHeader: the receiver has sent headers without an end.
var errAnswerHeader = fmt.Errorf("server response headers exceeded %d bytes", maxAnswerHeader)

// Read is from under TLS, within the bounds of an answer's header.
func (c *connection) Read(p []byte) (int, error) {
	if len(c.early) > 0 {
		n := copy(p, c.early)
		c.early = c.early[n:]
		return n, nil
	}
	if c.left <= 0 {
		return 0, errAnswerHeader
	}
	n, err := c.over.Read(p[:min(int64(len(p)), c.left)])
	c.left -= int64(n)
	c.failed = err
	return n, err
}

// claim gives the connection to a request until it is released, and reports false if the
// receiver has closed it or said something that nobody has asked for (unasked): the answer to
// another request must not pass for this one's. A connection that was made a moment ago is not
// looked at: a receiver that greets would be connected to for ever.
func (c *connection) claim(ctx context.Context, deadline time.Time) bool {
	if ended := ctx.Done(); ended != c.ended {
		// The context is mostly that of the request before, for which it is already watched.
		if !c.leave() {
			return false
		}
		c.ended, c.leave = ended, context.AfterFunc(ctx, c.abort)
	}
	if c.wire.SetDeadline(deadline) != nil {
		return false
	}
	if !c.kept() {
		return true
	}
	c.wire.glimpse, c.left = true, 1
	var unasked [1]byte
	n, err := c.Read(unasked[:])
	c.wire.glimpse = false
	c.unasked = n > 0
	return errors.Is(err, errNothingYet)
}

// kept reports whether the receiver had time to close it, or to say something.
func (c *connection) kept() bool { return c.used || c.waited }

// close closes it, with TLS's farewell.
func (c *connection) close() {
	c.leave()
	_ = c.over.Close() // all that matters was said
}

// reply is what came of a request.
type reply struct {
	answer *http.Response // nil: not even its header came whole; its body is read
	kept   []byte         // the start of that
	whole  bool           // that was read to its end
	err    error          // nil: it came whole, or as much of it as is read
	// untaken: the connection was one that had been kept, and ended before the receiver's machine
	// had the request.
	untaken bool
	keep    *connection // for another request; nil: there is none, or it is closed
}

// exchange sends the attempt's draft and reads the answer; last: it is the connection's last.
func (c *connection) exchange(a *attempt, last bool) (r reply) {
	d, before := a.draft, c.wire.written.Load()
	a.steps.connect(c.address)
	a.prepared.writeHead(d, last)
	c.left = maxAnswerHeader
	var wrote bool
	if len(d.head)+len(d.body) <= writtenAlone {
		d.head = append(d.head, d.body...)
		_, err := c.over.Write(d.head)
		// One that cannot take the request may have answered even so.
		wrote = err == nil
		r = d.readAnswer(c, a)
	} else {
		written := make(chan error, 1)
		go func() { written <- c.writeLarge(d) }()
		r = d.readAnswer(c, a)
		late := time.Now()
		if r.err == nil {
			late = late.Add(lateWrite)
		}
		_ = c.wire.SetWriteDeadline(late) // fails when it is closed, as does the write
		wrote = <-written == nil
	}
	complete := r.err == nil && r.whole && r.answer.StatusCode >= http.StatusOK
	if complete && wrote && !last && !r.answer.Close && d.answer.Buffered() == 0 {
		c.used, r.keep = true, c
		return r
	}
	c.unasked = complete && d.answer.Buffered() > 0
	defer c.close()
	if !wrote { // there may be no room for TLS's farewell, which would wait for some
		defer c.abort()
	}
	r.untaken = c.kept() && c.left == maxAnswerHeader && c.wire.untakenSince(before)
	return r
}

func (c *connection) writeLarge(d *draft) error {
	if _, err := c.over.Write(d.head); err != nil {
		return err
	}
	_, err := c.over.Write(d.body)
	return err
}

// readAnswer reads the answer that counts, after any number of provisional ones, and of its body
// what readBody reads.
func (d *draft) readAnswer(c *connection, a *attempt) (r reply) {
	n, err := c.Read(d.first[:])
	if n == 0 {
		if errors.Is(err, io.EOF) {
			err = io.ErrUnexpectedEOF
		}
		return reply{err: err}
	}
	a.steps.answered()
	c.early = d.first[:n]
	d.beginAnswer().Reset(c)
	for r.answer == nil || provisional(r.answer.StatusCode) {
		// The body is not closed: that would read all of it.
		next, err := http.ReadResponse(d.answer.Reader, a.prepared.base) //nolint:bodyclose // see above
		if err != nil {
			return reply{err: c.judge(err)}
		}
		if next.StatusCode < http.StatusContinue {
			return reply{err: &malformedError{errLowStatus}}
		}
		r.answer = next
	}
	c.left = math.MaxInt64
	r.kept, r.whole, r.err = d.answer.readBody(r.answer.Body)
	r.err = c.judge(r.err)
	return r
}

// malformedError is of an answer that is not valid HTTP. Its text may quote it.
type malformedError struct{ error }

func (e *malformedError) Unwrap() error { return e.error }

// errLowStatus is of an answer that net/http takes although no status is that low; 0 would be an attempt
// without an answer in the log. https://www.rfc-editor.org/rfc/rfc9110#section-15
var errLowStatus = errors.New("the status is below 100")

// judge tells what is wrong with an answer from what is wrong with the connection: net/http has no
// types for the former, and words of its own where the latter ended within a trailer.
func (c *connection) judge(err error) error {
	switch {
	case err == nil:
		return nil
	case c.failed == nil:
		return &malformedError{err}
	case !strings.Contains(err.Error(), " trailer"):
		return err
	case errors.Is(c.failed, io.EOF):
		return io.ErrUnexpectedEOF
	}
	return c.failed
}

// provisional: another answer follows.
// https://www.rfc-editor.org/rfc/rfc9110#name-informational-1xx
func provisional(status int) bool {
	return status >= 100 && status < http.StatusOK && status != http.StatusSwitchingProtocols
}

// answerRead is how much of a body is read at all, answerKept how much is kept.
const (
	answerKept = 16 << 10
	answerRead = 64 << 10
)

// answer is the memory for reading one. A request that waits for its answer has none of it: thousands may wait at once.
type answer struct {
	*bufio.Reader
	part [4 << 10]byte // of the body
}

// answers is a cache, not state: what is read from it was written since.
var answers = sync.Pool{New: func() any { return &answer{Reader: bufio.NewReader(nil)} }}

// beginAnswer gives the draft the memory for reading its answer, until it is freed.
func (d *draft) beginAnswer() *answer {
	d.answer, _ = answers.Get().(*answer)
	return d.answer
}

// readBody reads the body to its end, or answerRead bytes of it, and returns a copy of its first
// answerKept bytes. A body read to its end (whole) leaves the connection to the next request.
func (a *answer) readBody(body io.Reader) (kept []byte, whole bool, err error) {
	if body == http.NoBody {
		return nil, true, nil
	}
	for n := 0; n < answerRead && err == nil; {
		var m int
		m, err = body.Read(a.part[:])
		n += m
		kept = append(kept, a.part[:min(m, answerKept-len(kept))]...)
	}
	if err == io.EOF {
		return kept, true, nil
	}
	return kept, false, err
}
