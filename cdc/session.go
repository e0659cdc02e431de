package cdc

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/jackc/pglogrepl"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgproto3"
)

const (
	// startTimeout bounds the server's answer to START_REPLICATION.
	startTimeout = 30 * time.Second
	// goodbyeTimeout bounds the orderly end of a connection.
	goodbyeTimeout = time.Second
	// maxStatusInterval is the longest time between two statuses.
	maxStatusInterval = 10 * time.Second
	// noSenderTimeout stands in for wal_sender_timeout = 0, which means never.
	noSenderTimeout = 150 * time.Second
)

// session is one replication connection that streams.
type session struct {
	r             *Reader
	conn          net.Conn
	senderTimeout time.Duration // the server's wal_sender_timeout
	patience      time.Duration // that of this session

	intake                      // receiver to handler
	reply    chan struct{}      // holds one signal: the server wants a status
	received atomic.Uint64      // newest position seen
	reads    atomic.Uint64      // reads of the socket, to notice silence
	blocked  atomic.Bool        // the receiver waits for the handler
	turns    atomic.Uint64      // odd while the handler is at work
	stop     chan struct{}      // closed by end
	cancel   context.CancelFunc // called by end
	once     sync.Once
	cause    error // why it ended; set before stop is closed
	routines sync.WaitGroup
}

// stream opens a connection, streams until it ends, and reports why, and
// whether it got as far as streaming.
func (r *Reader) stream(ctx context.Context, h Handler) (streamed bool, err error) {
	s, err := r.connect(ctx)
	if quiet, ok := errors.AsType[*quietError](err); ok {
		return true, r.rest(ctx, h, quiet.end)
	}
	if err != nil {
		return false, err
	}
	defer func() { _ = s.conn.Close() }()
	own, cancel := context.WithCancel(ctx)
	defer cancel()
	s.cancel = cancel

	r.waiting.Store(nil)
	r.current.Store(s)
	defer r.current.Store(nil)
	ended := context.AfterFunc(ctx, func() { s.end(ctx.Err()) })
	defer ended()

	r.options.Log.Info().Str("slot", r.options.Slot).Strs("publications", r.subscribed()).Stringer("lsn", r.Confirmed()).Msg("streaming")
	r.decoder.reset()
	if err := handled(h.Reset()); err != nil {
		return true, err
	}
	s.routines.Go(s.receive)
	s.routines.Go(s.report)
	s.routines.Go(func() { s.watch(own) })
	s.end(s.handle(own, h))
	s.routines.Wait()
	if orderly(s.cause) {
		s.goodbye()
	}
	return true, s.cause
}

// end stops the session's goroutines. The first cause counts.
func (s *session) end(cause error) {
	s.once.Do(func() {
		s.cause = cause
		if !orderly(cause) {
			s.r.waiting.Store(&cause) // now: the handler may be blocked for long
		}
		close(s.stop)
		s.cancel()
		_ = s.conn.SetReadDeadline(time.Unix(1, 0)) // wakes the receiver
	})
}

// drop ends the session and hangs up immediately: the handler may be blocked.
func (s *session) drop(cause error) {
	s.end(cause)
	_ = s.conn.Close()
}

// orderly reports whether the connection itself is in order.
func orderly(cause error) bool {
	_, handler := errors.AsType[*handlerError](cause)
	return handler || errors.Is(cause, errRewind) || errors.Is(cause, errGrown) || errors.Is(cause, errRedescribe) || errors.Is(cause, errSkipped) ||
		errors.Is(cause, context.Canceled) || errors.Is(cause, context.DeadlineExceeded)
}

// connect opens a session: it checks who answers, and starts the stream.
func (r *Reader) connect(ctx context.Context) (*session, error) {
	if r.lazily {
		r.lazily = false // what is known from then on may be altered before the next stream
	} else if err := r.ReloadTypes(ctx); err != nil {
		return nil, err
	}
	pg, err := connectReplication(ctx, r.options.DSN, r.options.Encoding, true)
	if err != nil {
		return nil, fmt.Errorf("open a replication connection to the source: %w", err)
	}
	s, err := r.start(ctx, pg)
	if err != nil {
		_ = pg.Close(context.WithoutCancel(ctx))
	}
	return s, err
}

func (r *Reader) start(ctx context.Context, pg *pgconn.PgConn) (*session, error) {
	system, err := pglogrepl.IdentifySystem(ctx, pg)
	if err != nil {
		return nil, fmt.Errorf("identify the source: %w", err)
	}
	is := identityOf(system, r.options.Slot)
	if is != r.source.Identity || system.XLogPos < r.Confirmed() {
		return nil, &IdentityChangedError{Was: r.source.Identity, Is: is, Confirmed: r.Confirmed(), Current: system.XLogPos}
	}
	if err := standAside(ctx, pg); err != nil {
		return nil, err
	}
	g := greetingOf(pg)
	timeout, patience := g.timeouts()
	r.started.Store(nil)
	if g.started != "" {
		r.started.Store(&g.started)
	}
	if r.options.Temporary {
		if err := r.createTemporary(ctx, pg); err != nil {
			return nil, err
		}
	}
	if r.glance {
		r.glance = false
		if err := r.lookAhead(ctx, pg, is, system.XLogPos); err != nil {
			return nil, err
		}
	}
	// pgconn's own way to receive takes a context, a lock and an allocation
	// per message, so that from here on the connection is ours. Nothing may be
	// left in its buffer then.
	if err := pg.SyncConn(ctx); err != nil {
		return nil, fmt.Errorf("sync the replication connection: %w", err)
	}
	hijacked, err := pg.Hijack()
	if err != nil {
		return nil, fmt.Errorf("take over the replication connection: %w", err)
	}
	s := &session{r: r, conn: hijacked.Conn, senderTimeout: timeout, patience: patience, intake: newIntake(), reply: make(chan struct{}, 1), stop: make(chan struct{})}
	if err = s.startReplication(ctx); err == nil && r.admit != nil {
		err = s.alive(func() error { return r.admit(ctx, is) })
	}
	if err != nil {
		_ = hijacked.Conn.Close()
		return nil, err
	}
	return s, nil
}

// startReplication sends START_REPLICATION and reads the answer, not a byte more.
func (s *session) startReplication(ctx context.Context) error {
	stop := context.AfterFunc(ctx, func() { _ = s.conn.SetDeadline(time.Unix(1, 0)) })
	defer stop()
	if err := s.conn.SetDeadline(time.Now().Add(startTimeout)); err != nil {
		return fmt.Errorf("start replication: %w", err)
	}
	query, err := (&pgproto3.Query{String: s.r.startCommand()}).Encode(nil)
	if err == nil {
		_, err = s.conn.Write(query)
	}
	if err != nil {
		return fmt.Errorf("start replication: %w", err)
	}
	for {
		var header [frameHeader]byte
		if _, err := io.ReadFull(s.conn, header[:]); err != nil {
			return fmt.Errorf("start replication: %w", err)
		}
		size := int(binary.BigEndian.Uint32(header[1:])) - 4
		if size < 0 || size > chunkSize {
			return fmt.Errorf("start replication: the server's answer has %d bytes", size)
		}
		body := make([]byte, size)
		if _, err := io.ReadFull(s.conn, body); err != nil {
			return fmt.Errorf("start replication: %w", err)
		}
		switch header[0] {
		case 'W': // CopyBothResponse
			return s.conn.SetDeadline(time.Time{})
		case 'E':
			return fmt.Errorf("start replication: %w", serverError(body))
		case 'N', 'S': // a notice or a parameter's value
		default:
			return fmt.Errorf("start replication: unexpected message %q", header[0])
		}
	}
}

func (r *Reader) startCommand() string {
	return fmt.Sprintf(`START_REPLICATION SLOT "%s" LOGICAL %s (%s)`, r.options.Slot, r.Confirmed(), strings.Join(r.pluginArguments(), ", "))
}

// pluginArguments are pgoutput's.
func (r *Reader) pluginArguments() []string {
	var written []string
	for _, o := range r.pluginOptions() {
		written = append(written, o[0]+" "+quoteLiteral(o[1]))
	}
	return written
}

// pluginOptions are the names and values of pgoutput's options.
func (r *Reader) pluginOptions() [][2]string {
	names := r.subscribed()
	for i, name := range names {
		names[i] = `"` + strings.ReplaceAll(name, `"`, `""`) + `"`
	}
	return [][2]string{{"proto_version", "1"}, {"publication_names", strings.Join(names, ",")}, {"messages", "true"}}
}

// serverError decodes an ErrorResponse.
func serverError(body []byte) error {
	var response pgproto3.ErrorResponse
	if err := response.Decode(body); err != nil {
		return fmt.Errorf("read the server's error: %w", err)
	}
	return pgconn.ErrorResponseToPgError(&response)
}

// handle decodes what the receiver hands over and calls the handler, until the
// session ends. It returns the cause.
func (s *session) handle(ctx context.Context, h Handler) error {
	handed := false // something was handed over since the last Flush
	for {
		var next span
		var open bool
		select {
		case <-s.stop:
			return s.cause
		default:
		}
		select {
		case next, open = <-s.spans:
		default:
			if handed && !s.r.decoder.inTx {
				s.turns.Add(1)
				err := handled(h.Flush())
				s.turns.Add(1)
				if err != nil {
					return err
				}
				handed = false
				continue
			}
			select {
			case next, open = <-s.spans:
			case <-s.stop:
				return s.cause
			}
		}
		if !open {
			return s.shrink(h)
		}
		handed = handed || len(next.frames) > 0
		s.turns.Add(1)
		err := s.frames(ctx, next.frames, h)
		s.turns.Add(1)
		if err != nil {
			return err
		}
		if next.last {
			s.recycle(next.chunk)
		}
	}
}

// frames handles whole frames, which the receiver has checked.
func (s *session) frames(ctx context.Context, frames []byte, h Handler) error {
	for len(frames) > 0 {
		size := frameHeader - 4 + int(binary.BigEndian.Uint32(frames[1:]))
		kind, body := frames[0], frames[frameHeader:size]
		frames = frames[size:]
		if kind != 'd' {
			continue
		}
		switch body[0] {
		case 'w':
			message := body[dataHeader:]
			if s.grown(message) {
				return s.grow(h)
			}
			if s.skips(message) {
				return s.stepOver(h)
			}
			err := s.r.decoder.message(ctx, message, h)
			if errors.Is(err, errRedescribe) || err == nil && s.redescribed(message) {
				return s.redescribe(h)
			}
			if err != nil {
				return err
			}
		case 'k':
			if s.r.decoder.inTx {
				continue
			}
			lsn := LSN(binary.BigEndian.Uint64(body[1:]))
			if s.r.young != nil && lsn >= s.r.young.known {
				return s.grow(h)
			}
			if err := handled(h.Keepalive(lsn)); err != nil {
				return err
			}
		}
	}
	return nil
}

// redescribed reports whether a Begin message opens the transaction from which on
// the partitions are to be described again.
func (s *session) redescribed(message []byte) bool {
	from := s.r.redescribe.Load()
	if from == 0 || !s.r.decoder.inTx || message[0] != 'B' || s.r.decoder.tx.Commit < LSN(from) {
		return false
	}
	s.r.redescribe.CompareAndSwap(from, 0)
	return s.r.decoder.weakened()
}

// redescribe ends the stream once everything before the open transaction is
// confirmed: the next one starts with that, and with no description.
func (s *session) redescribe(h Handler) error {
	if err := s.awaitConfirmed(h, 0); err != nil {
		return err
	}
	return errRedescribe
}

// goodbye confirms what is durable and ends the stream in order, so that the
// slot is free and at its newest position when this returns.
func (s *session) goodbye() {
	if err := s.conn.SetDeadline(time.Now().Add(goodbyeTimeout)); err != nil {
		return // it is closed
	}
	last := status(s.received.Load(), s.r.Confirmed(), false)
	last = append(last, 'c', 0, 0, 0, 4) // CopyDone
	last = append(last, 'X', 0, 0, 0, 4) // Terminate
	if _, err := s.conn.Write(last); err != nil {
		return
	}
	// Closing with unread data resets the connection, which could overtake
	// the status: read until the server hangs up.
	_, _ = io.Copy(io.Discard, s.conn)
}
