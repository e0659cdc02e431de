package cdc

import (
	"context"
	"encoding/binary"
	"fmt"
	"time"

	"gancho/internal/retry"
)

const (
	// statusGap is the least time between two statuses, so that confirming
	// every transaction costs neither side a message per transaction.
	statusGap = 20 * time.Millisecond
	// probeTimeout bounds one probe, with its connection.
	probeTimeout = connectTimeout
)

// probes is the time between two probes of a server while the handler is blocked,
// which may last for hours: each takes a session of the server, and a shutdown of
// the server waits for the next one.
func probes() retry.Backoff { return retry.Backoff{Min: 2 * time.Second, Max: 10 * time.Second} }

// report sends statuses until the session ends: regularly, soon after
// something was confirmed, and when the server asks.
func (s *session) report() {
	tick := time.NewTicker(min(s.patience/3, maxStatusInterval)) // a third of the time the server waits for a sign of life
	defer tick.Stop()
	due := time.NewTimer(0) // runs while a status is wanted: the first one immediately
	defer due.Stop()
	wanted, sent := true, time.Time{}
	silence := silence{s: s, limit: 2 * s.senderTimeout, since: time.Now()}
	for {
		select {
		case <-s.stop:
			return
		case <-s.reply:
		case <-s.r.wake:
		case <-s.r.ask:
			sent = time.Now()
			if !s.sendStatus(true) {
				return
			}
			continue
		case <-due.C:
			wanted = false
			sent = time.Now()
			if !s.sendStatus(false) {
				return
			}
			continue
		case <-tick.C:
			if silence.tooLong() {
				s.drop(fmt.Errorf("%w (%s)", errSilent, silence.limit))
				return
			}
			sent = time.Now()
			if !s.sendStatus(true) {
				return
			}
			continue
		}
		if !wanted {
			wanted = true
			due.Reset(max(0, statusGap-time.Since(sent)))
		}
	}
}

// sendStatus writes a status. It ends the session and reports false when it cannot.
func (s *session) sendStatus(wantReply bool) bool {
	err := s.conn.SetWriteDeadline(time.Now().Add(s.senderTimeout))
	if err == nil {
		_, err = s.conn.Write(status(s.received.Load(), s.r.Confirmed(), wantReply))
	}
	if err != nil {
		s.drop(fmt.Errorf("send status to the source: %w", err))
		return false
	}
	return true
}

// status is a standby status update: what was received as written, what
// was confirmed as flushed and applied; all 0: nothing is said of positions.
// https://www.postgresql.org/docs/current/protocol-replication.html#PROTOCOL-REPLICATION-STANDBY-STATUS-UPDATE
func status(received uint64, confirmed LSN, wantReply bool) []byte {
	const size = 4 + 1 + 4*8 + 1
	b := append(make([]byte, 0, 1+size), 'd')
	b = binary.BigEndian.AppendUint32(b, size)
	b = append(b, 'r')
	b = binary.BigEndian.AppendUint64(b, max(received, uint64(confirmed)))
	b = binary.BigEndian.AppendUint64(b, uint64(confirmed))
	b = binary.BigEndian.AppendUint64(b, uint64(confirmed))
	b = binary.BigEndian.AppendUint64(b, uint64(time.Since(timestamp(0)).Microseconds()))
	if wantReply {
		return append(b, 1)
	}
	return append(b, 0)
}

// silence notices a server that does not answer: every regular status asks for
// a reply, so that a connection in order is never still for long. A server that
// decodes a large transaction answers late, hence the generous limit.
type silence struct {
	s     *session
	limit time.Duration
	reads uint64
	since time.Time
}

func (q *silence) tooLong() bool {
	reads := q.s.reads.Load()
	if reads != q.reads || q.s.blocked.Load() {
		q.reads, q.since = reads, time.Now()
		return false
	}
	return time.Since(q.since) > q.limit
}

// watch checks, while the handler does not return, whether the server wants to
// shut down, which it cannot say over the connection that it waits for, but it
// refuses new ones; and whether commits wait for us, perhaps the very one that
// the handler waits for.
func (s *session) watch(ctx context.Context) {
	backoff, probed := probes(), 0
	reads, turns := uint64(0), uint64(0)
	for retry.Wait(ctx, backoff.Delay(probed+1)) == nil {
		readsBefore, turnsBefore := reads, turns
		reads, turns = s.reads.Load(), s.turns.Load()
		behind := s.blocked.Load() && reads == readsBefore
		stuck := turns == turnsBefore && turns%2 == 1
		if !behind && !stuck {
			probed = 0
			continue
		}
		probed++
		slot, err := s.r.slot(ctx)
		if SQLState(err) == codeCannotConnectNow {
			s.drop(errStopping)
			return
		}
		if err == nil {
			s.r.Observe(slot)
		}
	}
}

// Observe tells the reader what was measured of its slot. A stream that has become
// a synchronous standby is closed immediately; the handler may be waiting for a commit
// that waits for it, so that the reason is logged here. Safe from any goroutine.
func (r *Reader) Observe(slot Slot) {
	s := r.current.Load()
	if s == nil || slot.Synchronous == "" {
		return
	}
	synchronous := &SynchronousError{Names: slot.Synchronous}
	s.drop(synchronous)
	if s.cause == synchronous { //nolint:errorlint // this one, not another of its kind
		r.options.Log.Error().Str("slot", r.options.Slot).Err(synchronous).Msg("commits of the source wait for gancho; its stream is closed")
	}
}

func (r *Reader) slot(ctx context.Context) (Slot, error) {
	ctx, cancel := context.WithTimeout(ctx, probeTimeout)
	defer cancel()
	conn, err := Connect(ctx, r.options.DSN)
	if err != nil {
		return Slot{}, err
	}
	defer func() { _ = conn.Close(context.WithoutCancel(ctx)) }()
	return ReadSlot(ctx, conn, r.options.Slot)
}
