package cdc

import (
	"encoding/binary"
	"fmt"
	"time"
)

const (
	chunkSize = 256 << 10
	// chunks is how many chunks a session has in all: being filled, waiting and being handled.
	chunks = 4
	// maxSpans is how many hand-overs may wait.
	maxSpans = 256
	// minRoom is the least room in a chunk worth a read.
	minRoom = 16 << 10
	// maxFrame is the largest message PostgreSQL can send, with room to spare.
	maxFrame = 1<<30 + 1<<20

	frameHeader = 5  // type and length
	dataHeader  = 25 // XLogData: 'w', start, end, clock
	keepalive   = 18 // 'k', end, clock, reply requested
)

// A server that shuts down asks for replies in a loop until all is confirmed.
const (
	stoppingRequests = 10
	stoppingTime     = time.Second
	stoppingGap      = 250 * time.Millisecond
)

// intake carries what was read from the receiver to the handler without
// copying: spans of whole frames within chunks that are read into further on.
type intake struct {
	spans  chan span
	free   chan []byte // chunks to read into; nil stands for one not allocated yet
	failed error       // why the receiver ended, set before spans is closed
}

// span is a run of whole frames within a chunk.
type span struct {
	frames []byte
	chunk  []byte
	last   bool // the chunk has no more
}

func newIntake() intake {
	in := intake{spans: make(chan span, maxSpans), free: make(chan []byte, chunks)}
	for range chunks {
		in.free <- nil
	}
	return in
}

// recycle returns a chunk to the receiver. One that was enlarged for a large row
// is dropped.
func (in *intake) recycle(chunk []byte) {
	if len(chunk) != chunkSize {
		chunk = nil
	}
	in.free <- chunk
}

// receive reads the socket until it fails or the session ends.
func (s *session) receive() {
	s.failed = s.fill()
	close(s.spans)
}

func (s *session) fill() error {
	chunk, ok := s.chunk(0)
	if !ok {
		return s.cause
	}
	burst := burst{}
	begin, end := 0, 0 // what is in chunk and was not handed over
	for {
		n, readErr := s.conn.Read(chunk[end:])
		s.reads.Add(1)
		end += n
		whole, need, err := s.scan(chunk[begin:end], &burst)
		if whole > 0 && !s.handOver(span{frames: chunk[begin : begin+whole], chunk: chunk}) {
			return s.cause
		}
		begin += whole
		switch {
		case err != nil:
			return err
		case readErr != nil:
			select {
			case <-s.stop:
				return s.cause // which is why the read failed
			default:
				return fmt.Errorf("read from the source: %w", readErr)
			}
		}
		if begin+need <= len(chunk) && (end > begin || len(chunk)-end >= minRoom) {
			continue
		}
		next, ok := s.chunk(need)
		if !ok {
			return s.cause
		}
		end = copy(next, chunk[begin:end])
		if !s.handOver(span{chunk: chunk, last: true}) {
			return s.cause
		}
		chunk, begin = next, 0
	}
}

// chunk returns a free chunk, of at least need bytes. It waits while the handler
// has all of them, and reports false when the session ended.
func (s *session) chunk(need int) ([]byte, bool) {
	var chunk []byte
	select {
	case chunk = <-s.free:
	default:
		s.blocked.Store(true)
		defer s.blocked.Store(false)
		select {
		case chunk = <-s.free:
		case <-s.stop:
			return nil, false
		}
	}
	switch {
	case need > chunkSize:
		chunk = make([]byte, need)
	case chunk == nil:
		chunk = make([]byte, chunkSize)
	}
	return chunk, true
}

// handOver passes a span to the handler. It waits while too many are pending, and
// reports false when the session ended.
func (s *session) handOver(next span) bool {
	select {
	case s.spans <- next:
		return true
	default:
	}
	s.blocked.Store(true)
	defer s.blocked.Store(false)
	select {
	case s.spans <- next:
		return true
	case <-s.stop:
		return false
	}
}

// scan inspects the frames that data begins with. It returns the length of the
// whole CopyData frames, and how many bytes the frame after them needs.
func (s *session) scan(data []byte, burst *burst) (whole, need int, err error) {
	received := LSN(s.received.Load())
	defer func() { s.received.Store(uint64(received)) }()
	for {
		rest := data[whole:]
		if len(rest) < frameHeader {
			return whole, frameHeader, nil
		}
		size := int(binary.BigEndian.Uint32(rest[1:]))
		if size < 4 || size > maxFrame {
			return whole, 0, &DecodeError{Message: rest[0], Reason: fmt.Sprintf("its frame has %d bytes", size)}
		}
		size += frameHeader - 4
		if size > len(rest) {
			return whole, size, nil
		}
		body := rest[frameHeader:size]
		switch {
		case rest[0] != 'd':
			// The handler passes over what does not end the stream.
			if err := s.ending(rest[0], body); err != nil {
				return whole, 0, err
			}
		case len(body) >= dataHeader && body[0] == 'w':
			received = max(received, LSN(binary.BigEndian.Uint64(body[9:])))
			burst.reset()
		case len(body) == keepalive && body[0] == 'k':
			received = max(received, LSN(binary.BigEndian.Uint64(body[1:])))
			if body[17] != 0 {
				if err := s.requested(burst); err != nil {
					return whole, 0, err
				}
			}
		default:
			return whole, 0, &DecodeError{Message: 'd', Reason: "it is neither data nor a keepalive"}
		}
		whole += size
	}
}

// ending returns why a frame that is no CopyData ends the stream, or nil.
func (s *session) ending(kind byte, body []byte) error {
	switch kind {
	case 'E':
		return fmt.Errorf("%w: %w", errEnded, serverError(body))
	case 'N':
		// From PostgreSQL 18 on this warning is the only sign of a missing
		// publication, whose changes are then left out.
		if warning := serverError(body); s.r.missingPublication(warning) == s.r.options.Publication {
			return warning
		}
		return nil
	case 'S', 'A': // a parameter's value, a notification
		return nil
	}
	return errEnded // CopyDone and what follows it
}

// burst counts requests for a reply that follow each other closely, without
// data between them.
type burst struct {
	requests      int
	first, newest time.Time
}

func (b *burst) reset() { b.requests = 0 }

// requested passes on a request for a reply. A walsender that shuts down repeats
// it until all that it sent is confirmed, and the server waits for the
// walsender. While the queue is unreachable that would be forever: then the
// session hangs up. What is unconfirmed is replayed after the server's start.
func (s *session) requested(b *burst) error {
	select {
	case s.reply <- struct{}{}:
	default: // one is pending
	}
	now := time.Now()
	if b.requests == 0 || now.Sub(b.newest) > stoppingGap {
		b.requests, b.first = 0, now
	}
	b.requests++
	b.newest = now
	if b.requests > stoppingRequests && now.Sub(b.first) >= stoppingTime {
		s.drop(errStopping) // immediately, because the handler may be blocked
		return errStopping
	}
	return nil
}
