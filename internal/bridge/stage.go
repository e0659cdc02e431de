package bridge

import (
	"context"
	"errors"
	"sync"
	"sync/atomic"
	"time"

	"github.com/rs/zerolog"

	"gancho/cdc"
	"gancho/delivery/queue"
	"gancho/internal/control"
	"gancho/internal/retry"
	"gancho/internal/state"
	"gancho/internal/tracing"
	"gancho/mapping"
)

const (
	// appendAt is the batch size, in bytes, at which an append is worth while
	// although the stream has more to read.
	appendAt = 64 << 10
	// batchLimit is the batch size, in bytes, at which capture waits for Redis.
	batchLimit = 256 << 10
	// complainEvery is how often a lasting failure is logged.
	complainEvery = 30 * time.Second
	// maxParkedBytes is how much of Redis's memory parked changes may take before their rows
	// are no longer kept: without room for events, capture stands still.
	maxParkedBytes = 1 << 30
	unkeptTotal    = "parked changes have 1 GiB of redis's memory: changes were not kept whole any more until some were redriven or dropped"
)

// appendBackoff is the wait between two attempts to append.
var appendBackoff = retry.Backoff{Min: 50 * time.Millisecond, Max: 5 * time.Second}

// stage is where capture and append meet: capture fills the open batch while
// the one before it travels to Redis, so that batches grow under load and a
// lone event leaves immediately.
type stage struct {
	queue   *queue.Queue
	keys    *state.Keyring // encrypts parked changes; nil: they are not kept whole
	metrics *metrics
	log     zerolog.Logger

	mu      sync.Mutex
	open    *queue.Batch
	spare   *queue.Batch
	traced  []tracedEvent // of open
	end     cdc.LSN       // the newest position of which all events are in open or before it
	marked  bool          // end has not been handed on
	newest  cdc.LSN       // the newest end since the last reset
	due     bool          // open is to be appended now
	discard bool          // capture has to rewind: what it still maps is dropped until reset
	taken   uint64        // batches that take has handed out
	cleared uint64        // how often open was dropped

	wake   chan struct{} // capacity 1: there is something to append
	back   chan struct{} // closed and replaced when a batch comes back
	room   chan struct{} // capacity 1: the open batch was taken
	closed chan struct{} // capture is to wait no longer
	once   sync.Once     // closes it

	waiting atomic.Pointer[error] // why appending fails, nil while it does not

	// handled is the position before which every change was mapped as far as timers go, 0 while that is not known; timers,
	// of capacity 1, says that something was appended for them.
	handled cdc.LSN // guarded by mu
	timers  chan struct{}

	memory memory

	parkedRoom atomic.Int64 // how many more bytes of parked rows are kept

	traces  traces
	leaving []tracedEvent // of the batch that take has handed out; of run's goroutine

	// Who measures backlogs learns of what was appended, and that it could not be.
	appended func(events, bytes int)
	refused  func(error)
}

func newStage(q *queue.Queue, keys *state.Keyring, m *metrics, log zerolog.Logger) *stage {
	s := &stage{
		queue: q, keys: keys, metrics: m, log: log, traces: traces{tracing.New(tracing.Options{})},
		open: q.NewBatch(), spare: q.NewBatch(),
		wake: make(chan struct{}, 1), back: make(chan struct{}), room: make(chan struct{}, 1), closed: make(chan struct{}), timers: make(chan struct{}, 1),
	}
	s.open.CountIn(q.Tally())
	s.spare.CountIn(q.Tally())
	s.parkedRoom.Store(maxParkedBytes)
	s.appended, s.refused = func(int, int) {}, func(error) {}
	return s
}

// measureParked measures what parked changes take.
func (s *stage) measureParked(ctx context.Context) error {
	taken, err := s.queue.ParkedBytes(ctx)
	if err == nil {
		s.parkedRoom.Store(maxParkedBytes - taken)
	}
	return err
}

// close makes capture wait no longer. It may be called more than once.
func (s *stage) close() { s.once.Do(func() { close(s.closed) }) }

func signal(c chan struct{}) {
	select {
	case c <- struct{}{}:
	default:
	}
}

// mapChange maps one change into the open batch. It waits while the batch is
// full; closing the stage ends that with context.Canceled.
func (s *stage) mapChange(m *mapping.Mapper, c *cdc.Change) error {
	return s.within(func() error { return m.Map(c, sink{s}) })
}

// within calls add, which adds to the open batch, with the stage locked and
// room in the batch.
func (s *stage) within(add func() error) error {
	s.mu.Lock()
	for s.open.Bytes() >= batchLimit && !s.discard {
		s.mu.Unlock()
		signal(s.wake)
		select {
		case <-s.closed:
			return context.Canceled
		case <-s.room:
		}
		s.mu.Lock()
	}
	defer s.mu.Unlock()
	if s.discard {
		return nil
	}
	if err := add(); err != nil {
		return err
	}
	if !s.due && s.open.Bytes() >= appendAt {
		s.due = true
		signal(s.wake)
	}
	return nil
}

// waitingSink takes the results of what may last, one at a time: the stage is
// not locked between them, and batches leave meanwhile.
type waitingSink struct{ *stage }

func (s waitingSink) Event(e *mapping.Event) error {
	return s.within(func() error { return sink(s).Event(e) })
}

func (s waitingSink) Park(p *mapping.Parked) error {
	return s.within(func() error { return sink(s).Park(p) })
}

// sink takes the mapper's results into the open batch; the stage is locked.
type sink struct{ *stage }

func (s sink) Event(e *mapping.Event) error {
	s.metrics.event(e.Type, e.Rule)
	if err := s.sealChange(e); err != nil {
		return err
	}
	n, err := s.open.Add(e)
	return s.trace(e, n, err)
}

// trace notes an event that was added to the open batch for n endpoints, if it is traced. It returns why it was not added.
func (s *stage) trace(e *mapping.Event, n int, added error) error {
	if added != nil || n == 0 || !s.traces.On() {
		return added
	}
	id, err := s.queue.WebhookID(e.Position, e.N)
	if err != nil {
		return err
	}
	if t, traced := s.traces.mapped(id, e); traced {
		s.traced = append(s.traced, t)
	}
	return nil
}

// sealChange encrypts the change that an event has with it.
func (s *stage) sealChange(e *mapping.Event) (err error) {
	if e.Change != nil {
		e.Change, err = s.keys.SealChange(e.Position, e.N, e.Change)
	}
	return err
}

// Timer implements mapping.TimerSink.
func (s sink) Timer(t *mapping.TimerChange) error { return s.open.Timer(t) }

func (s sink) Park(p *mapping.Parked) error {
	s.metrics.parked.WithLabelValues(p.Type).Inc()
	kept, err := s.seal(p)
	if err != nil {
		return err
	}
	line := s.log.Error().Str("rule", p.Rule).Str("event", p.Type).Str("table", p.Table).Stringer("lsn", p.Commit).
		Uint64("ordinal", p.Ordinal).Str("reason", p.Reason)
	if kept.Unkept != "" {
		line.Str("cannot_be_redriven", kept.Unkept)
	}
	line.Msg("change parked")
	return s.open.Park(&kept)
}

// seal returns the parked change with what is stored of its row: all of it encrypted, or,
// without a key, only what the rule shows.
func (s *stage) seal(p *mapping.Parked) (mapping.Parked, error) {
	kept := *p
	if s.keys == nil {
		kept.Change, kept.Unkept = nil, control.UnkeptKey
		return kept, nil
	}
	row := state.ParkedRow{Row: p.Row, Change: p.Change, Known: p.Known}
	if p.Known {
		row.Tenant, row.Key = string(p.Tenant), string(p.Key)
		kept.Subject = s.keys.Subjects(row.Tenant, row.Key)[0]
	}
	var err error
	kept.Change, err = s.keys.SealParked(p.Position, p.N, &row)
	kept.Row = nil
	if err == nil && s.parkedRoom.Add(-int64(len(kept.Change))) < 0 {
		kept.Unkept = unkeptTotal
		row.Change = nil // the rest is to be looked at
		kept.Change, err = s.keys.SealParked(p.Position, p.N, &row)
	}
	return kept, err
}

// reached says that everything before the position has been mapped.
func (s *stage) reached(end cdc.LSN) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.discard {
		return
	}
	s.queue.Tally().Reached()
	s.end, s.marked, s.newest = end, true, end
}

// last is the newest position of which everything has been mapped.
func (s *stage) last() cdc.LSN {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.newest
}

// handledTo says that every change before a position was mapped, although its events may wait for lookups.
func (s *stage) handledTo(lsn cdc.LSN) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if !s.discard {
		s.handled = lsn
	}
}

// handles reports whether every change before a position was mapped, and nothing was dropped since.
func (s *stage) handles(lsn cdc.LSN) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.handled >= lsn
}

// flush has the open batch appended as soon as the one before it is.
func (s *stage) flush() {
	s.mu.Lock()
	defer s.mu.Unlock()
	if !s.due && !s.discard && (s.marked || s.open.Len() > 0) {
		s.due = true
		signal(s.wake)
	}
}

// rewind drops what was mapped and not appended, and what is still being
// mapped until reset.
func (s *stage) rewind() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.discard = true
	s.clear()
	signal(s.room)
}

// reset starts over at the confirmed position.
func (s *stage) reset() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.discard = false
	s.clear()
}

func (s *stage) clear() {
	s.open.Reset()
	s.traced = s.traced[:0]
	s.end, s.marked, s.due, s.newest, s.handled = 0, false, false, 0, 0
	s.cleared++
	s.cameBackLocked()
}

// take hands out the open batch and the position that it completes, 0 when it
// completes none; ok is false when nothing is due.
func (s *stage) take() (b *queue.Batch, end cdc.LSN, ok bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if !s.due {
		return nil, 0, false
	}
	b = s.open
	if s.marked {
		end = s.end
	}
	s.open, s.spare = s.spare, nil
	s.traced, s.leaving = s.leaving[:0], s.traced
	s.taken++
	s.end, s.marked, s.due = 0, false, false
	signal(s.room)
	return b, end, true
}

// giveBack returns a batch that take handed out.
func (s *stage) giveBack(b *queue.Batch) {
	b.Reset()
	s.mu.Lock()
	defer s.mu.Unlock()
	s.spare = b
	s.cameBackLocked()
}

// cameBackLocked wakes those who wait in drained.
func (s *stage) cameBackLocked() {
	close(s.back)
	s.back = make(chan struct{})
}

// drained returns once every event that is staged now has been appended, or
// was dropped because capture rewinds; the error is the context's.
func (s *stage) drained(ctx context.Context) error {
	s.flush()
	s.mu.Lock()
	defer s.mu.Unlock()
	// The batch that holds the newest event is the open one, or the one before.
	last, cleared := s.taken, s.cleared
	if s.open.Len() > 0 {
		last++
	}
	for {
		inFlight := s.spare == nil
		if s.cleared != cleared {
			last = min(last, s.taken)
		}
		if s.taken > last || s.taken == last && !inFlight {
			return nil
		}
		back := s.back
		s.mu.Unlock()
		select {
		case <-ctx.Done():
			s.mu.Lock()
			return ctx.Err()
		case <-back:
		}
		s.mu.Lock()
	}
}

// run appends batches until the context ends, which returns nil, or with
// queue.ErrRestarted when Redis has restarted since the last append, or with
// queue.ErrFenced when another process has taken over.
func (s *stage) run(ctx context.Context) error {
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-s.wake:
		}
		for {
			b, end, ok := s.take()
			if !ok {
				break
			}
			err := s.append(ctx, b)
			if err == nil {
				s.traces.queued(s.leaving)
			}
			s.giveBack(b)
			switch {
			case errors.Is(err, context.Canceled):
				return nil // what was not confirmed is read again
			case errors.Is(err, queue.ErrStaleBatch): // as well
			case err != nil:
				return err
			case end != 0:
				s.queue.Appended(uint64(end))
			}
		}
	}
}

// waits returns why appending fails at the moment, nil while it does not.
func (s *stage) waits() error {
	if err := s.waiting.Load(); err != nil {
		return *err
	}
	return nil
}

// append appends the batch, and tries again until Redis accepts it, the context
// ends, or Redis turns out to have restarted.
func (s *stage) append(ctx context.Context, b *queue.Batch) error {
	if b.Len() == 0 {
		return nil
	}
	var complained time.Time
	defer s.waiting.Store(nil)
	try := func() (struct{}, error) {
		err := s.memory.check(ctx, s)
		if err == nil {
			err = s.queue.Append(ctx, b)
		}
		return struct{}{}, err
	}
	_, err := retry.Do(ctx, appendBackoff, try, func(err error) bool {
		if errors.Is(err, queue.ErrRestarted) || errors.Is(err, queue.ErrFenced) || errors.Is(err, queue.ErrStaleBatch) {
			return false
		}
		s.waiting.Store(&err)
		s.refused(err)
		what := "redis is filling up"
		if _, filling := errors.AsType[*queue.MemoryError](err); !filling {
			s.metrics.appendErrors.Inc()
			what = "append to redis failed"
		}
		if time.Since(complained) >= complainEvery {
			complained = time.Now()
			s.log.Error().Err(err).Msg(what + "; capture waits, and the source keeps its WAL")
		}
		return true
	})
	if err == nil {
		s.appended(b.Len(), b.Bytes())
		if b.HasTimers() {
			signal(s.timers)
		}
	}
	if err == nil && !complained.IsZero() {
		s.log.Info().Msg("redis accepts events again")
	}
	return err
}
