package delivery

import (
	"context"
	"errors"
	"fmt"
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

// pending is a position that was recorded and waits for its age.
type pending struct {
	lsn      uint64
	recorded time.Time
}

// Pauses of RunDurable.
const (
	recordEvery  = 250 * time.Millisecond // between two records that age
	retryDurable = 500 * time.Millisecond // after an error
	waitDurable  = 10 * time.Second       // the longest WAITAOF
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
// positions up to which everything that was Appended is on Redis's disk. Each
// is written to the source's record first, and that record is on the disk too:
// so the slot never stands beyond the record, and a slot that was made anew
// is recognised by it.
//
// It returns nil when the context ends, and ErrRestarted when what had been
// appended may be gone; after AcceptRestart it may be run again. Other errors
// of Redis are logged and the work is repeated.
func (q *Queue) RunDurable(ctx context.Context, confirm func(lsn uint64)) error {
	var aging []pending
	var confirmed uint64
	for failing := false; ; {
		wait, err := q.advance(ctx, &aging, &confirmed, confirm)
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

// advance does what can be done now, and says how long to wait before the
// next time; negative: until a position is appended.
func (q *Queue) advance(ctx context.Context, aging *[]pending, confirmed *uint64, confirm func(uint64)) (time.Duration, error) {
	if q.mode == durableByAge {
		if err := q.confirmAged(ctx, aging, confirmed, confirm); err != nil {
			return 0, err
		}
	}
	lsn, newest := q.positions.appended.Load(), *confirmed
	if n := len(*aging); n > 0 {
		newest = (*aging)[n-1].lsn
	}
	if lsn > newest {
		if err := q.recordPosition(ctx, lsn); err != nil {
			return 0, err
		}
		if q.mode == durableByAge {
			*aging = append(*aging, pending{lsn, time.Now()})
			return recordEvery, nil
		}
		*confirmed = lsn
		q.positions.confirmed.Store(lsn)
		confirm(lsn)
	}
	if len(*aging) > 0 {
		return recordEvery, nil
	}
	return -1, nil
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
	conn := q.record.Conn() // one connection: WAITAOF is about its own writes
	defer func() { _ = conn.Close() }()
	written, err := recordScript.Run(ctx, conn, []string{q.keys.source()}, int(c.epoch), strconv.FormatUint(lsn, 10)).Int()
	switch {
	case err != nil:
		return fmt.Errorf("record position: %w", unreachable(err))
	case written == 0:
		return errClaimLost
	case q.mode != durableByWait:
		return nil
	}
	reply, err := conn.Do(ctx, "WAITAOF", 1, 0, waitDurable.Milliseconds()).Slice()
	if err != nil {
		return fmt.Errorf("wait for the AOF: %w", unreachable(err))
	}
	if synced, _ := reply[0].(int64); synced < 1 {
		return fmt.Errorf("wait for the AOF: not synced within %s; see Redis's log and its disk", waitDurable)
	}
	return nil
}

// confirmAged confirms the newest position whose record is old enough, if the
// server is still the one that answered then and has no write outstanding.
func (q *Queue) confirmAged(ctx context.Context, aging *[]pending, confirmed *uint64, confirm func(uint64)) error {
	n := 0
	for n < len(*aging) && time.Since((*aging)[n].recorded) > durableAge {
		n++
	}
	if n == 0 {
		return nil
	}
	got, err := serverInfo(ctx, q.record, "server", "persistence")
	if err != nil {
		return fmt.Errorf("check durability: %w", unreachable(err))
	}
	if want := q.accepted.Load(); *want != got["run_id"] {
		return ErrRestarted
	}
	if got["aof_enabled"] != "1" {
		return &SettingError{"appendonly", "no", "run CONFIG SET appendonly yes: until then nothing is confirmed to the source"}
	}
	if got["aof_last_write_status"] != "ok" {
		return fmt.Errorf("check durability: redis cannot write its AOF; see its log and its disk")
	}
	rewriting := got["aof_rewrite_in_progress"] == "1" || got["rdb_bgsave_in_progress"] == "1"
	if got["aof_pending_bio_fsync"] != "0" || q.strictAOF && rewriting {
		return nil // the next look, a moment later, finds it done
	}
	lsn := (*aging)[n-1].lsn
	*aging = append((*aging)[:0], (*aging)[n:]...)
	*confirmed = lsn
	q.positions.confirmed.Store(lsn)
	confirm(lsn)
	return nil
}

// AcceptRestart goes on with the server as it is now. Call it after
// ErrRestarted, while neither Append nor RunDurable runs, with the capture
// rewound to the confirmed position: everything after that is appended again,
// and what had survived is refused as already there.
func (q *Queue) AcceptRestart(ctx context.Context) error {
	q.appendMu.Lock()
	defer q.appendMu.Unlock()
	if err := q.restoreSource(ctx); err != nil {
		return err
	}
	// It may have come back with other settings, too.
	if err := q.check(ctx, q.volatile); err != nil {
		return fmt.Errorf("accept restarted redis: %w", err)
	}
	q.positions.appended.Store(0)
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
