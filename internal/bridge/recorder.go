package bridge

import (
	"context"
	"errors"
	"maps"
	"slices"
	"sync"
	"time"

	"gancho/cdc"
	"gancho/delivery/queue"
	"gancho/delivery/webhook"
	"gancho/internal/retry"
	"gancho/internal/state"
)

const (
	// recordEvery is how often what was attempted meanwhile goes to the store.
	recordEvery = 250 * time.Millisecond
	// commitEvery is how long less than recordRows gather after the last commit: each is an
	// fsync, in the legacy database if the state is there. What comes after a quiet time
	// does not wait.
	commitEvery = time.Second
	// quietRounds, longer than the courier waits between two attempts to
	// acknowledge, is after how many rounds with nothing to record an endpoint is
	// read only by the sweep: acknowledgements follow attempts after a while.
	quietRounds = 24
	// sweepEvery is how often everything is read although no endpoint has changed
	// hands, in case of what a process that died has left of one that nobody
	// delivers to any more.
	sweepEvery = 2 * time.Minute
	// recordRows and recordBytes are from how many rows, and bytes of events and answers, on
	// they are written, logPage and deadPage how many entries are read at a time.
	recordRows  = 4000
	recordBytes = 8 << 20
	logPage     = 64
	deadPage    = 100
	// lastRecord bounds the recording of the outcomes of the last deliveries.
	lastRecord = 3 * time.Second
)

// recorder moves the log of attempts, kept events and dead letters from Redis
// to the store. What it has written it removes from Redis afterwards; dying in
// between it writes the same rows again, which the store takes as known. Each
// process records the endpoints that it delivers to; the one that captures
// those that nobody does. While the database is unreachable, everything stays in
// Redis, where the log is bounded and the rest is not.
type recorder struct {
	*bridge

	// What was swept last, and when; they belong to run.
	owned    []string
	captures bool
	swept    time.Time
	recorded time.Time // when something was; it belongs to run, too

	mu    sync.Mutex
	quiet map[string]int // endpoints to read, and in how many rounds they had nothing
}

func newRecorder(b *bridge) *recorder { return &recorder{bridge: b, quiet: map[string]int{}} }

// mark says that there will be something to record of the endpoint.
func (r *recorder) mark(endpoints ...string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, name := range endpoints {
		r.quiet[name] = 0
	}
}

// marked are the endpoints to read.
func (r *recorder) marked() []string {
	r.mu.Lock()
	defer r.mu.Unlock()
	return slices.Sorted(maps.Keys(r.quiet))
}

// noteRound notes whether there was something.
func (r *recorder) noteRound(endpoint string, something bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	n, ok := r.quiet[endpoint]
	switch {
	case something:
		r.quiet[endpoint] = 0
	case ok && n+1 >= quietRounds:
		delete(r.quiet, endpoint)
	case ok:
		r.quiet[endpoint] = n + 1
	}
}

// run records until the context ends and deliveries have, which closing
// drained says; then once more.
func (r *recorder) run(ctx context.Context, drained <-chan struct{}) error {
	tick := time.NewTicker(recordEvery)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			<-drained
			end, cancel := context.WithTimeout(context.WithoutCancel(ctx), lastRecord)
			defer cancel()
			r.recorded = time.Time{}
			r.round(end)
			return nil
		case <-tick.C:
		}
		r.sweep(ctx)
		r.round(ctx)
	}
}

// sweep marks the endpoints that have something to record from before: those
// that this process has just acquired, and, in the one that captures, those that
// nobody delivers to.
func (r *recorder) sweep(ctx context.Context) {
	var owned []string
	if r.dispatcher != nil {
		owned = r.dispatcher.Owned()
	}
	captures := r.capturing()
	if captures == r.captures && slices.Equal(owned, r.owned) && time.Since(r.swept) < sweepEvery {
		return
	}
	names := owned
	if captures {
		all, err := r.queue.EndpointNames(ctx)
		if err != nil {
			return // Redis is unreachable, which others log
		}
		names = all // those that are owned are among them, if they have something
	}
	stats, err := r.queue.Stats(ctx, names)
	if err != nil {
		return
	}
	for i := range stats {
		s := &stats[i]
		if s.LogEntries+s.Dead > 0 && (!s.Owned || slices.Contains(owned, s.Endpoint)) {
			r.mark(s.Endpoint)
		}
	}
	r.owned, r.captures, r.swept = owned, captures, time.Now()
}

// round records what there is of the marked endpoints.
func (r *recorder) round(ctx context.Context) {
	names := r.marked()
	stats, err := r.queue.Stats(ctx, names)
	if err != nil {
		return // Redis is unreachable, which others log
	}
	var waiting int64
	something := false
	for i := range stats {
		waiting += stats[i].LogRecords + stats[i].Dead
		found := stats[i].LogEntries > 0 || stats[i].Dead > 0
		r.noteRound(stats[i].Endpoint, found)
		something = something || found
	}
	r.metrics.recordsWaiting.Set(float64(waiting))
	if !something || waiting < recordRows && time.Since(r.recorded) < commitEvery {
		return
	}
	r.recorded = time.Now()
	if err := r.record(ctx, stats); err != nil {
		if errors.Is(err, state.ErrForgotten) {
			return // Redis has it no more, and the next round reads the rest again
		}
		if ctx.Err() == nil {
			r.recordComplaint.about(err)
			_ = retry.Wait(ctx, patience.Min) // its error is the context's, which run sees
		}
		return
	}
	r.recordComplaint.over()
}

// record stores what there is of the endpoints and removes it from Redis.
// What one endpoint fails at does not hold up the others.
func (r *recorder) record(ctx context.Context, stats []queue.Stats) error {
	intake, err := r.store.Intake(ctx) // before anything is read
	if err != nil {
		return err
	}
	batch := &recordBatch{recorder: r, to: intake}
	var errs []error
	for i := range stats {
		if stats[i].LogEntries > 0 && batch.failed == nil {
			errs = append(errs, r.recordLog(ctx, batch, stats[i].Endpoint))
		}
	}
	if batch.failed == nil {
		errs = append(errs, batch.flush(ctx))
	}
	for i := range stats {
		if stats[i].Dead > 0 && !unreachable(batch.failed) {
			errs = append(errs, r.recordDead(ctx, intake, stats[i].Endpoint))
		}
	}
	return errors.Join(errs...)
}

// recordLog adds the endpoint's log to the batch, which is flushed when it is full.
func (r *recorder) recordLog(ctx context.Context, batch *recordBatch, endpoint string) error {
	for {
		entries, err := r.queue.Log(ctx, endpoint, logPage)
		if err != nil {
			return err
		}
		batch.add(endpoint, entries)
		if !batch.full() && len(entries) < logPage {
			return nil
		}
		// The next page begins behind what has been trimmed.
		if err := batch.flush(ctx); err != nil {
			return err
		}
		if len(entries) < logPage {
			return nil
		}
	}
}

// recordDead moves the endpoint's dead letters to the store.
func (r *recorder) recordDead(ctx context.Context, to *state.Store, endpoint string) error {
	for {
		page, err := r.queue.Dead(ctx, endpoint, "", deadPage)
		if err != nil || len(page) == 0 {
			return err
		}
		rows := make([]state.DeadLetter, len(page))
		handles := make([]string, len(page))
		for i := range page {
			rows[i] = state.DeadLetter{Endpoint: endpoint, DeadEvent: page[i]}
			handles[i] = page[i].Handle
		}
		if err := to.WriteDead(ctx, rows); err != nil {
			return err
		}
		if err := r.queue.TrimDead(ctx, endpoint, handles...); err != nil {
			return err
		}
		r.metrics.records.WithLabelValues("dead_letter").Add(float64(len(rows)))
		if len(page) < deadPage {
			return nil
		}
	}
}

// recordBatch is what is written together, of one endpoint or several.
type recordBatch struct {
	*recorder
	to       *state.Store
	attempts []state.Attempt
	events   []webhook.Message
	bytes    int                 // of the events' bodies and changes, and of what attempts say
	trim     map[string][]string // ids of entries by endpoint
	failed   error               // what flush has failed with: the batch is of no more use
}

func (b *recordBatch) full() bool {
	return len(b.attempts)+len(b.events) >= recordRows || b.bytes >= recordBytes
}

func (b *recordBatch) add(endpoint string, entries []queue.LogEntry) {
	if b.trim == nil {
		b.trim = map[string][]string{}
	}
	for i := range entries {
		b.trim[endpoint] = append(b.trim[endpoint], entries[i].ID)
		for _, l := range entries[i].Records {
			if b.State.KeepLog > 0 {
				row := l
				row.Kept = nil // its body is let go of with the events
				b.attempts = append(b.attempts, row)
				b.bytes += len(l.Detail) + len(l.Error)
			}
			if l.Kept != nil && b.State.KeepEvents > 0 {
				b.events = append(b.events, *l.Kept)
				b.bytes += len(l.Kept.Data) + len(l.Kept.Previous) + len(l.Kept.Unchanged) + len(l.Kept.Errors) + len(l.Kept.Change)
			}
		}
	}
}

// flush writes the rows, and then removes them from Redis.
func (b *recordBatch) flush(ctx context.Context) error {
	b.failed = b.writeAll(ctx)
	return b.failed
}

func (b *recordBatch) writeAll(ctx context.Context) error {
	if err := write(ctx, b.recorder, b.events, b.to.WriteEvents); err != nil {
		return err
	}
	if err := write(ctx, b.recorder, b.attempts, b.to.WriteAttempts); err != nil {
		return err
	}
	for endpoint, ids := range b.trim {
		if err := b.queue.TrimLog(ctx, endpoint, ids...); err != nil {
			return err
		}
	}
	b.metrics.records.WithLabelValues("attempt").Add(float64(len(b.attempts)))
	b.metrics.records.WithLabelValues("event").Add(float64(len(b.events)))
	clear(b.events) // their bodies
	b.attempts, b.events, b.bytes, b.trim = b.attempts[:0], b.events[:0], 0, nil
	return nil
}

// write writes rows. A row that the database refuses for what is in it is left
// out, and said: the others must not wait for it for ever.
func write[T any](ctx context.Context, r *recorder, rows []T, to func(context.Context, []T) error) error {
	if len(rows) == 0 {
		return nil
	}
	err := to(ctx, rows)
	switch {
	case err == nil || cdc.FaultOf(err) != cdc.FaultValue:
		return err
	case len(rows) == 1:
		r.metrics.recordsRefused.Inc()
		r.Log.Error().Err(err).Msg("the state database refuses a row; the row is dropped from the log, everything else is stored")
		return nil
	}
	half := len(rows) / 2
	if err := write(ctx, r, rows[:half], to); err != nil {
		return err
	}
	return write(ctx, r, rows[half:], to)
}
