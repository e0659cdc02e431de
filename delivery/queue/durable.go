package queue

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"sync/atomic"
	"time"

	"github.com/redis/go-redis/v9"

	"gancho/cdc"
	"gancho/internal/retry"
)

// confirmer knows how far the capture has appended, and what makes that durable.
type confirmer struct {
	// conns has one connection to each master; they refuse to talk to a server of
	// another identity than the one that was accepted.
	conns *connections

	kept atomic.Pointer[persistence] // what Open and AcceptRestart have found
	// RunDurable's own, and of Open and AcceptRestart:
	rewriting map[string]bool      // the master's AOF may have no base yet
	replicas  map[string]*replicas // each master's

	appended  atomic.Uint64 // an LSN
	confirmed atomic.Uint64 // to the source, in this process
	changed   chan struct{} // holds one signal
	trail     trail

	problem atomic.Pointer[error] // why nothing is confirmed; nil: it is
}

// Unconfirmed returns why appended positions cannot be confirmed to the source now,
// which then holds its WAL; nil: they are, or will be in a moment.
func (q *Queue) Unconfirmed() error {
	if err := q.confirmer.problem.Load(); err != nil {
		return *err
	}
	return nil
}

// noteUnconfirmed keeps the reason, and logs it when it is another one.
func (q *Queue) noteUnconfirmed(err error) {
	before := q.Unconfirmed()
	problem := &err
	if err == nil {
		problem = nil
	}
	q.confirmer.problem.Store(problem)
	var setting *SettingError
	switch {
	case err == nil && before != nil:
		q.log.Info().Msg("positions are confirmed again")
	case err == nil:
	case errors.As(err, &setting) && (before == nil || before.Error() != err.Error()):
		q.log.Error().Err(err).Msg("positions cannot be confirmed: the slot holds its WAL until this is fixed")
	case before == nil:
		q.log.Warn().Err(err).Msg("positions cannot be confirmed now: the slot holds its WAL until that has passed")
	}
}

// Pauses of RunDurable.
const (
	recordEvery  = 250 * time.Millisecond // between two records that wait
	retryDurable = 500 * time.Millisecond // after an error
	waitDurable  = 10 * time.Second       // the longest WAITAOF
)

// Appended says that every event of every transaction up to lsn, an LSN in
// bytes, has been appended: Append has returned nil for them, or no endpoint
// wanted them. Positions do not go back, except after AcceptRestart.
func (q *Queue) Appended(lsn uint64) {
	c := &q.confirmer
	if lsn <= c.appended.Load() {
		return
	}
	c.appended.Store(lsn)
	select {
	case c.changed <- struct{}{}:
	default:
	}
}

// RunDurable calls confirm, in rising order and from this goroutine, with
// positions up to which everything that was Appended is on the disk of each
// master that has any of it, and with the replicas that may be promoted in its
// place. Each is written to the source's record first, and that record is as
// safe: so the slot never stands beyond the record, and a slot that was
// recreated is recognised by it. What was counted (Tally) is written before the record. Without new positions it sends nothing.
//
// It returns nil when the context ends, ErrFenced when another process captures, and ErrRestarted
// when what was appended may be lost; AcceptRestart lets it be run again. Other errors of Redis are
// logged and retried.
func (q *Queue) RunDurable(ctx context.Context, confirm func(lsn uint64)) error {
	w := durableWork{q: q, confirm: confirm}
	for {
		wait, err := w.advance(ctx)
		if ctx.Err() != nil {
			return nil //nolint:nilerr // the end that was asked for
		}
		if errors.Is(err, ErrFenced) { // the other process confirms it; a position of its own is next
			q.confirmer.appended.Store(0)
		}
		if errors.Is(err, ErrRestarted) || errors.Is(err, ErrClaimLost) || errors.Is(err, ErrFenced) {
			return fmt.Errorf("confirm positions: %w", err)
		}
		q.noteUnconfirmed(err)
		if err != nil {
			wait = retryDurable
		}
		if !q.confirmer.await(ctx, wait, w.idle) {
			return nil
		}
	}
}

// await waits for the time when it is not negative, and for a new position if it is, or if it is idle. It
// reports false when the context ended first.
func (c *confirmer) await(ctx context.Context, d time.Duration, idle bool) bool {
	if d >= 0 && !idle {
		return retry.Wait(ctx, d) == nil
	}
	var late <-chan time.Time
	if d >= 0 {
		timer := time.NewTimer(d)
		defer timer.Stop()
		late = timer.C
	}
	select {
	case <-c.changed:
		return true
	case <-late:
		return true
	case <-ctx.Done():
		return false
	}
}

// recordedPosition was recorded and is not known to be durable.
type recordedPosition struct {
	lsn uint64
	// By the masters' addresses: how far their replication was then, which everything
	// that had been appended is before; and whether that is on their disks, under durableByLooks.
	offsets map[string]int64
	fsyncs  map[string]*fsyncProof
}

type durableWork struct {
	q         *Queue
	confirm   func(lsn uint64)
	recorded  []recordedPosition
	confirmed uint64
	inspected time.Time // when the masters were last asked
	idle      bool      // all that was appended is recorded: what comes is recorded soon, whatever is waited for
}

// advance does what can be done now, and returns how long to wait before the
// next time; negative: until a position is appended.
func (w *durableWork) advance(ctx context.Context) (time.Duration, error) {
	w.idle = false
	lsn, newest := w.q.confirmer.appended.Load(), w.confirmed
	if n := len(w.recorded); n > 0 {
		newest = w.recorded[n-1].lsn
	}
	if lsn <= newest && len(w.recorded) == 0 {
		return -1, nil
	}
	if early := recordEvery - time.Since(w.inspected); early > 0 {
		return early, nil // inspecting costs more than a position that comes a moment later
	}
	var failed error
	if lsn > newest {
		// What is read again after a kill is counted then: first the counts, then the position.
		if failed = w.q.writeTally(ctx); failed == nil {
			failed = w.q.recordPosition(ctx, lsn)
		}
	}
	asked := time.Now()
	// Also when that failed: a setting may be why, which says more.
	masters, err := w.inspectMasters(ctx)
	if failed != nil && (err == nil || isWayError(err)) {
		err = failed
	}
	if err != nil {
		return 0, err
	}
	if lsn > newest {
		p := recordedPosition{lsn, map[string]int64{}, map[string]*fsyncProof{}}
		for addr, got := range masters {
			p.fsyncs[addr] = new(fsyncProof)
			if p.offsets[addr], err = got.replicationOffset(); err != nil {
				return 0, fmt.Errorf("check durability: %w", err)
			}
		}
		w.remember(p)
	}
	if err := w.confirmDurable(masters, asked); err != nil {
		return 0, err
	}
	if len(w.recorded) == 0 {
		return -1, nil
	}
	wait := recordEvery
	if w.idle = w.q.confirmer.appended.Load() == w.recorded[0].lsn; w.idle { // no other is waited for
		for _, proof := range w.recorded[0].fsyncs {
			wait = max(wait, proof.next())
		}
	}
	return wait, nil
}

// maxRecorded is more than are recorded while an fsync is awaited.
const maxRecorded = 32

// remember adds a position. Of more than maxRecorded, which wait for long, it takes the
// newest one's place.
func (w *durableWork) remember(p recordedPosition) {
	w.recorded = append(w.recorded[:min(len(w.recorded), maxRecorded-1)], p)
}

// confirmDurable confirms the newest position that is durable everywhere, by what the
// masters have just answered.
func (w *durableWork) confirmDurable(masters map[string]info, asked time.Time) error {
	done := 0
	for i := range w.recorded {
		durable, err := w.durable(&w.recorded[i], masters, asked)
		if err != nil {
			return err
		}
		if durable {
			done = i + 1
		}
	}
	if done == 0 {
		return nil
	}
	lsn := w.recorded[done-1].lsn
	w.recorded = append(w.recorded[:0], w.recorded[done:]...)
	w.confirmed = lsn
	w.q.confirmer.confirmed.Store(lsn)
	w.confirm(lsn)
	return nil
}

// inspectMaster asks one master how it stands. One not appended to is ErrRestarted, one
// that keeps what it is given in another way than when it was accepted a *SettingError
// or, when it is as good, ErrRestarted.
func (w *durableWork) inspectMaster(ctx context.Context, addr string) (info, error) {
	q := w.q
	got, err := q.servers.recognise(ctx, addr, q.confirmer.conns.to(addr))
	if err == nil {
		err = q.recheckSettings(ctx, addr, got)
	}
	if err != nil {
		q.suspectCluster(ctx, err)
		return nil, annotate(err, "check durability")
	}
	return got, nil
}

// inspectMasters asks all masters. Others than were accepted, one more or one less, are
// ErrRestarted: what was appended may have moved with its slots.
func (w *durableWork) inspectMasters(ctx context.Context) (map[string]info, error) {
	q := w.q
	if q.sentinel != nil {
		if err := q.sentinel.refresh(ctx); err != nil {
			return nil, fmt.Errorf("check durability: %w", err)
		}
	}
	masters, err := q.masters(ctx)
	if err != nil {
		return nil, annotate(err, "check durability")
	}
	if len(masters) != len(*q.servers.accepted.Load()) {
		return nil, ErrRestarted
	}
	all := make(map[string]info, len(masters))
	for _, addr := range masters {
		if all[addr], err = w.inspectMaster(ctx, addr); err != nil {
			return nil, err
		}
	}
	w.inspected = time.Now()
	return all, nil
}

// durable reports whether a position is on the disk of every master, by what
// they have just answered, and with their replicas.
func (w *durableWork) durable(p *recordedPosition, masters map[string]info, asked time.Time) (bool, error) {
	q, now, all := w.q, time.Now(), true
	kept := q.confirmer.kept.Load()
	for addr, got := range masters {
		if kept.mode == durableByLooks {
			synced, err := p.fsyncs[addr].look(got, asked, kept.fsync[addr].pauses)
			if err != nil {
				return false, err
			}
			all = all && synced
		}
		if kept.mode != durableByWait { // which knows whether there is an AOF
			waits, err := awaitsRewrite(got)
			if err != nil {
				return false, err
			}
			all = all && !waits
		}
		s := q.confirmer.replicas[addr]
		before, caughtUp := s.most, s.caughtUp(got, p.offsets[addr], now)
		s.report(&q.log, q.nameOf(addr), got, before, caughtUp, now)
		all = all && caughtUp
	}
	return all, nil
}

// ErrClaimLost says that this process no longer captures for the queue.
var ErrClaimLost = errors.New("another process has claimed the queue since, with a newer epoch or for a promoted server; this one has to claim it again")

// recordScript keeps the position from going back, and refuses one of another epoch or timeline. It always writes: WAITAOF waits for its own
// connection's last write. Lua's numbers hold every LSN below 2^52 exactly. What it writes
// first, a full Redis allows, for the reason that ackScript gives.
var recordScript = redis.NewScript(`
redis.call('HDEL', KEYS[1], '')
local record = redis.call('HMGET', KEYS[1], 'epoch', 'confirmed', 'timeline')
if not record[1] then return -1 end
if record[1] ~= ARGV[1] or record[3] ~= ARGV[4] then return 0 end
local newest = ARGV[2]
if tonumber(record[2]) > tonumber(newest) then newest = record[2] end
if ARGV[3] ~= '' and newest == ARGV[2] then redis.call('HSET', KEYS[1], 'confirmed', newest, 'footprint', ARGV[3])
else redis.call('HSET', KEYS[1], 'confirmed', newest) end
return 1`)

// recordPosition writes the source's record, on a server that was accepted.
// Under WAITAOF it returns when the record, and with it everything appended
// before, is on the disk.
func (q *Queue) recordPosition(ctx context.Context, lsn uint64) error {
	c := q.sources.current.Load()
	if c == nil {
		return ErrNotClaimed
	}
	addr, err := q.masterOf(ctx, q.keys.source())
	if err != nil {
		return fmt.Errorf("record position: %w", err)
	}
	conn := q.confirmer.conns.to(addr).Conn() // one connection: WAITAOF is about its own writes
	defer func() { _ = conn.Close() }()
	written, err := recordScript.Run(ctx, conn, []string{q.keys.source()}, int(c.epoch), strconv.FormatUint(lsn, 10), q.confirmer.trail.upTo(lsn), int(c.timeline)).Int()
	switch {
	case err != nil:
		q.suspectCluster(ctx, err)
		return annotate(err, "record position")
	case written < 0:
		q.servers.generations.Add(1)
		return &LostError{"the record of the source"}
	case written == 0:
		return ErrClaimLost
	case q.confirmer.kept.Load().mode != durableByWait:
		return nil
	}
	return awaitAOF(ctx, conn)
}

// AcceptRestart goes on with the servers as they are now. Call it after
// ErrRestarted, while neither Append nor RunDurable runs, with the capture
// rewound to the confirmed position: everything after that is appended again,
// and what had survived is refused as already there. Errors are those of Open.
func (q *Queue) AcceptRestart(ctx context.Context) error {
	q.appender.mu.Lock()
	defer q.appender.mu.Unlock()
	// Settings may have changed, too. The servers are accepted before the
	// source's record is read from them: should they change in between, the next
	// append returns ErrRestarted.
	if err := q.checkServers(ctx); err != nil {
		q.noteUnconfirmed(err)
		return fmt.Errorf("accept restarted redis: %w", err)
	}
	if err := q.restoreSource(ctx); err != nil {
		return annotate(err, "accept restarted redis")
	}
	if err := q.restoreToken(ctx); err != nil {
		return annotate(err, "accept restarted redis")
	}
	q.confirmer.conns.keep(q.servers.masters())
	if err := q.sealServers(ctx); err != nil {
		return fmt.Errorf("accept restarted redis: %w", err)
	}
	q.scanned.Store(false) // the names of endpoints may be lost where their streams are not
	if c := q.sources.current.Load(); c != nil {
		if err := q.fillHolesLocked(ctx, c.epoch, max(c.confirmed, q.confirmer.confirmed.Load())); err != nil {
			return annotate(err, "accept restarted redis")
		}
	}
	q.confirmer.appended.Store(0)
	q.appender.restartLocked(q.servers.masters())
	// Other processes may not have noticed: what they have read may be lost, too.
	if err := q.client.Publish(ctx, q.keys.wake(), WakeAll).Err(); err != nil {
		q.log.Debug().Err(err).Msg("other processes were not woken: they inspect the servers from time to time")
	}
	return nil
}

// restoreSource rewrites what of the source's record was lost with the AOF's end.
func (q *Queue) restoreSource(ctx context.Context) error {
	s := &q.sources
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.claimed == nil {
		return nil
	}
	found, err := s.readLocked(ctx)
	if err != nil {
		return err
	}
	next := *s.claimed
	if confirmed := q.confirmer.confirmed.Load(); confirmed > 0 && (found == nil || found.confirmed < confirmed) {
		q.log.Error().Stringer("confirmed", cdc.LSN(confirmed)).
			Msg("redis has lost what it had on its disk: events that were queued and confirmed to the source are lost, as are failed events' attempts " +
				"and dead letters that were not stored elsewhere; restore redis's data, or send those changes by hand")
	}
	if c := q.sources.current.Load(); found != nil && c != nil && c.superseded(found) {
		return ErrClaimLost
	}
	if found != nil && found.epoch == next.epoch && found.Timeline < next.Timeline { // that the source was promoted is lost, too
		next.follows = found.Timeline
	}
	// The slot stands at what was confirmed: a record before that would be taken for another's.
	next.confirmed = max(next.confirmed, q.confirmer.confirmed.Load())
	if err := s.writeLocked(ctx, found, &next); err != nil {
		return err
	}
	_, err = s.numberLocked(ctx, nil)
	return err
}
