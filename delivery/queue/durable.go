package queue

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"sync/atomic"
	"time"

	"github.com/redis/go-redis/v9"

	"gancho/cdc"
)

// positions are how far the capture has appended.
type positions struct {
	confirmed atomic.Uint64 // to the source, in this process
	appended  atomic.Uint64
	changed   chan struct{} // holds one signal
}

// Pauses of RunDurable.
const (
	recordEvery  = 250 * time.Millisecond // between two records that wait
	retryDurable = 500 * time.Millisecond // after an error
	waitDurable  = 10 * time.Second       // the longest WAITAOF
	// standbyEvery is between two looks for replicas where there were none: one
	// that has come since is not in step yet, and cannot be promoted.
	standbyEvery = time.Second
)

// Appended says that every event of every transaction up to lsn, an LSN in
// bytes, has been appended: Append has returned nil for them, or no endpoint
// wanted them. Positions do not go back, except after AcceptRestart.
func (q *Queue) Appended(lsn uint64) {
	if lsn <= q.positions.appended.Load() {
		return
	}
	q.positions.appended.Store(lsn)
	select {
	case q.positions.changed <- struct{}{}:
	default:
	}
}

// RunDurable calls confirm, in rising order and from this goroutine, with
// positions up to which everything that was Appended is on the disk of each
// master that has any of it, and with the replicas that may be promoted in its
// place. Each is written to the source's record first, and that record is as
// safe: so the slot never stands beyond the record, and a slot that was made
// anew is recognised by it.
//
// It returns nil when the context ends, and ErrRestarted when what had been
// appended may be gone; after AcceptRestart it may be run again. Other errors
// of Redis are logged and the work is repeated.
func (q *Queue) RunDurable(ctx context.Context, confirm func(lsn uint64)) error {
	w := durableWork{q: q, confirm: confirm}
	for failing := false; ; {
		wait, err := w.advance(ctx)
		if ctx.Err() != nil {
			return nil //nolint:nilerr // the end that was asked for
		}
		switch {
		case errors.Is(err, ErrRestarted):
			return fmt.Errorf("confirm positions: %w", ErrRestarted)
		case errors.Is(err, errClaimLost):
			return fmt.Errorf("confirm positions: %w", err)
		case err != nil && !failing:
			q.log.Warn().Err(err).Msg("positions cannot be confirmed now: the slot holds its WAL until redis answers")
		case err == nil && failing:
			q.log.Info().Msg("positions are confirmed again")
		}
		if failing = err != nil; failing {
			wait = retryDurable
		}
		if !q.await(ctx, wait) {
			return nil
		}
	}
}

// await waits for a new position, or for the time when it is not negative.
func (q *Queue) await(ctx context.Context, d time.Duration) bool {
	var timer <-chan time.Time
	changed := q.positions.changed
	if d >= 0 {
		t := time.NewTimer(d)
		defer t.Stop()
		timer, changed = t.C, nil
	}
	select {
	case <-changed:
	case <-timer:
	case <-ctx.Done():
		return false
	}
	return true
}

// durableWork is the state of one RunDurable.
type durableWork struct {
	q         *Queue
	confirm   func(lsn uint64)
	aging     []pending
	confirmed uint64
	looked    time.Time // when a single server had no replicas
}

// advance does what can be done now, and says how long to wait before the
// next time; negative: until a position is appended.
func (w *durableWork) advance(ctx context.Context) (time.Duration, error) {
	q := w.q
	if err := w.settle(ctx); err != nil {
		return 0, err
	}
	lsn, newest := q.positions.appended.Load(), w.confirmed
	if n := len(w.aging); n > 0 {
		newest = w.aging[n-1].lsn
	}
	if lsn > newest {
		if err := q.recordPosition(ctx, lsn); err != nil {
			return 0, err
		}
		simple, err := w.simple(ctx)
		if err != nil {
			return 0, err
		}
		if simple {
			w.confirmUpTo(lsn)
			return -1, nil
		}
		marks, err := q.marks(ctx)
		if err != nil {
			return 0, err
		}
		w.aging = append(w.aging, pending{lsn, time.Now(), marks})
		if err := w.settle(ctx); err != nil {
			return 0, err
		}
	}
	if len(w.aging) > 0 {
		return recordEvery, nil
	}
	return -1, nil
}

func (w *durableWork) confirmUpTo(lsn uint64) {
	w.confirmed = lsn
	w.q.positions.confirmed.Store(lsn)
	w.confirm(lsn)
}

// simple reports whether a record that was written is durable: on a single
// server without replicas, whose answer says so.
func (w *durableWork) simple(ctx context.Context) (bool, error) {
	q := w.q
	if q.mode == durableByAge || q.ring != nil || len(w.aging) > 0 {
		return false, nil
	}
	if time.Since(w.looked) < standbyEvery {
		return true, nil
	}
	got, err := q.look(ctx, "")
	if err != nil {
		return false, err
	}
	if !q.standbys[""].alone(got) {
		return false, nil
	}
	w.looked = time.Now()
	return true, nil
}

// settle confirms the newest position that is durable everywhere.
func (w *durableWork) settle(ctx context.Context) error {
	n := 0
	for n < len(w.aging) && (w.q.mode != durableByAge || time.Since(w.aging[n].recorded) > durableAge) {
		n++
	}
	if n == 0 {
		return nil
	}
	told, err := w.q.lookAtAll(ctx)
	if err != nil {
		return err
	}
	for ; n > 0; n-- {
		durable, err := w.q.durable(&w.aging[n-1], told)
		if err != nil {
			return err
		}
		if durable {
			lsn := w.aging[n-1].lsn
			w.aging = append(w.aging[:0], w.aging[n:]...)
			w.confirmUpTo(lsn)
			return nil
		}
	}
	return nil
}

var errClaimLost = errors.New("another process has claimed the queue with a newer epoch; this one has to stop")

// recordScript keeps the position from going back. It always writes, because
// WAITAOF waits for the last write of its own connection. Lua's numbers hold
// every LSN below 2^52 exactly.
var recordScript = redis.NewScript(`
if redis.call('HGET', KEYS[1], 'epoch') ~= ARGV[1] then return 0 end
local old = redis.call('HGET', KEYS[1], 'confirmed')
if tonumber(old) > tonumber(ARGV[2]) then redis.call('HSET', KEYS[1], 'confirmed', old)
else redis.call('HSET', KEYS[1], 'confirmed', ARGV[2]) end
return 1`)

// recordPosition writes the position into the source's record, on a server
// with the accepted run id. Under WAITAOF it returns when the record, and
// with it everything that was appended before, is on the disk.
func (q *Queue) recordPosition(ctx context.Context, lsn uint64) error {
	c := q.source.Load()
	if c == nil {
		return errNotClaimed
	}
	addr, err := q.masterOf(ctx, q.keys.source())
	if err != nil {
		return fmt.Errorf("record position: %w", err)
	}
	conn := q.record.at(addr).Conn() // one connection: WAITAOF is about its own writes
	defer func() { _ = conn.Close() }()
	written, err := recordScript.Run(ctx, conn, []string{q.keys.source()}, int(c.epoch), strconv.FormatUint(lsn, 10)).Int()
	switch {
	case err != nil:
		if q.ring != nil && isWayError(err) {
			q.ring.suspect(ctx)
		}
		return fmt.Errorf("record position: %w", unreachable(err))
	case written == 0:
		return errClaimLost
	case q.mode != durableByWait:
		return nil
	}
	return awaitAOF(ctx, conn)
}

// awaitAOF returns when what the connection has written is on the server's disk.
func awaitAOF(ctx context.Context, conn *redis.Conn) error {
	reply, err := conn.Do(ctx, "WAITAOF", 1, 0, waitDurable.Milliseconds()).Slice()
	if err != nil {
		return fmt.Errorf("wait for the AOF: %w", unreachable(err))
	}
	if synced, _ := reply[0].(int64); synced < 1 {
		return fmt.Errorf("wait for the AOF: not synced within %s; see Redis's log and its disk", waitDurable)
	}
	return nil
}

// AcceptRestart goes on with the server as it is now. Call it after
// ErrRestarted, while neither Append nor RunDurable runs, with the capture
// rewound to the confirmed position: everything after that is appended again,
// and what had survived is refused as already there.
func (q *Queue) AcceptRestart(ctx context.Context) error {
	q.appendMu.Lock()
	defer q.appendMu.Unlock()
	// It may have come back with other settings, too. What is accepted first is
	// what the source's record is looked for on: should that change, too, the
	// next append tells.
	if err := q.check(ctx, q.volatile); err != nil {
		return fmt.Errorf("accept restarted redis: %w", err)
	}
	if err := q.restoreSource(ctx); err != nil {
		return err
	}
	q.positions.appended.Store(0)
	masters := slices.Collect(maps.Keys(*q.accepted.Load()))
	q.writer.keep(masters)
	q.record.keep(masters)
	clear(q.checked)
	q.streamMu.Lock()
	defer q.streamMu.Unlock()
	for _, s := range q.streams {
		s.last = ID{}
	}
	return nil
}

// restoreSource writes the source's record again, if it was lost with the tail.
func (q *Queue) restoreSource(ctx context.Context) error {
	q.sourceMu.Lock()
	defer q.sourceMu.Unlock()
	if q.claimed == nil {
		return nil
	}
	found, err := q.readSource(ctx)
	if err == nil {
		if confirmed := q.positions.confirmed.Load(); confirmed > 0 && (found == nil || found.confirmed < confirmed) {
			q.log.Error().Stringer("confirmed", cdc.LSN(confirmed)).
				Msg("redis came back without what it had written to its disk: events that were queued and confirmed to the source are lost; " +
					"restore redis's data, or send those changes by hand")
		}
		switch {
		case found != nil && found.epoch > q.claimed.epoch:
			return fmt.Errorf("accept restarted redis: %w", errClaimLost)
		case found == nil || found.epoch < q.claimed.epoch:
			err = q.writeSource(ctx, found, q.claimed)
		}
	}
	if err != nil {
		return fmt.Errorf("accept restarted redis: %w", unreachable(err))
	}
	return nil
}
