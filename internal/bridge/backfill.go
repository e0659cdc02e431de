package bridge

import (
	"context"
	"fmt"
	"slices"
	"time"

	"gancho/cdc"
	"gancho/internal/retry"
	"gancho/internal/state"
	"gancho/mapping"
)

const (
	// The rows of a chunk are one message of about chunkBytes, and at most chunkRows; the first
	// has firstChunk. Of those that a filter leaves out, scanRows are read at once.
	chunkBytes, chunkRows, firstChunk, scanRows = 512 << 10, 5000, 200, 20_000
	// chunksAhead is how many chunks may be on their way to capture.
	chunksAhead = 3
	// markEvery is the longest time between two messages of an open backfill: positions between
	// them are not confirmed.
	markEvery = time.Second
	// stateWait is how long an open backfill waits for the state database.
	stateWait = time.Minute
	// sourceWait is how long one waits for rows while the stream goes on: WAL that nobody can confirm is not to
	// pile up behind a table that is locked for the night.
	sourceWait = 5 * time.Minute
)

// backfill is a job that reads rows which are there already and puts them into the stream; see reads.
type backfill struct {
	*jobs
	reads  *reads
	job    *state.Job
	rules  *mapping.Ruleset // that the tables are of
	tables []mapping.ReadTable
	rows   *cdc.RowReader // nil: not connected
	later  readAhead
	cursor state.BackfillCursor
	// unsaved: a chunk of the cursor is stored as its next one still.
	unsaved bool
	// Of the messages: seq is that of the last one, marked when it was written. Those with rows that capture
	// has not taken yet are ahead; of the others, the events of those in flight may not be in Redis yet.
	seq             int64
	marked          time.Time
	ahead, inFlight []sentChunk
	pace            *pace
}

// backfill carries out a job of rows. One does so at a time, in the process that captures.
func (j *jobs) backfill(ctx context.Context, job *state.Job) error {
	if err := job.Unsealed(); err != nil {
		return err
	}
	b := &backfill{jobs: j, reads: j.capture.reads, job: job, pace: newPace(j, job)}
	for !b.reads.owner.CompareAndSwap(false, true) {
		if err := retry.Wait(ctx, jobPause); err != nil {
			return err
		}
		if !j.capturing() {
			return errCapturesNot
		}
	}
	defer b.reads.owner.Store(false)
	defer func() {
		b.later.close(ctx)
		b.disconnect(ctx)
	}()
	var err error
	if b.cursor, err = job.BackfillCursor(); err != nil {
		return err
	}
	if err := b.settle(ctx); err != nil {
		return err
	}
	if err := b.open(ctx); err != nil {
		return err
	}
	if err := b.recall(ctx); err != nil {
		return err
	}
	for {
		table, err := b.next(ctx)
		if err != nil {
			return err
		}
		switch {
		case table != nil:
			err = b.chunk(ctx, table)
		case len(b.ahead) > 0:
			err = b.taken(ctx, 0)
		default:
			return b.end(ctx)
		}
		if err != nil {
			return err
		}
	}
}

// end closes the backfill. What the stream has lost until then is read again by the next claim.
func (b *backfill) end(ctx context.Context) error {
	if err := b.reads.closed(ctx); err != nil {
		return err
	}
	if !b.sameStream() {
		return errCapturesNot
	}
	return nil
}

// sameStream reports whether the stream is still that which has the rows up to the cursor's place. It is not in
// another epoch of the source, and on another timeline a promoted server may lack the last chunks: where no event of them is in
// Redis, nothing else says so.
func (b *backfill) sameStream() bool {
	c := b.queue.Claimed()
	return c != nil && c.Epoch == b.cursor.Epoch && c.Timeline == b.cursor.Timeline
}

// settle goes back to what is known to be in Redis when the stream that had the last chunks may have lost them.
func (b *backfill) settle(ctx context.Context) error {
	claimed := b.queue.Claimed()
	if claimed == nil {
		return errCapturesNot
	}
	if was := b.cursor; was.Epoch != claimed.Epoch || was.Timeline != claimed.Timeline {
		b.cursor.Epoch, b.cursor.Timeline = claimed.Epoch, claimed.Timeline
		if was.Epoch != 0 {
			b.cursor.BackfillPlace, b.cursor.Next = state.BackfillPlace{}, nil
			if was.Durable != nil {
				b.cursor.BackfillPlace = *was.Durable
			}
			b.Log.Warn().Int64("job", b.job.ID).Uint16("epoch", claimed.Epoch).Int32("timeline", claimed.Timeline).Int64("rows", was.Rows).Int64("from", b.cursor.Rows).
				Msg("the source has another epoch or timeline than when rows of a backfill were read last; those of which it is not known that redis has their events are read again")
			return b.advance(ctx)
		}
	}
	return nil
}

func (b *backfill) advance(ctx context.Context) error {
	b.confirm()
	b.unsaved = false
	return b.stored(ctx, func(ctx context.Context) error { return b.store.AdvanceBackfill(ctx, b.job, b.cursor) })
}

// save stores that the last chunk is in the stream, if that is not stored yet.
func (b *backfill) save(ctx context.Context) error {
	if !b.unsaved {
		return nil
	}
	return b.advance(ctx)
}

// announce stores the next chunk before it is committed. Where the state is in the database of the source, the commit
// brings this one to the disk, too: one wait for it less for each chunk.
func (b *backfill) announce(ctx context.Context) error {
	b.confirm()
	b.unsaved = false
	return b.stored(ctx, func(ctx context.Context) error {
		if b.State.DSN == b.Source.DSN {
			return b.store.AdvanceBackfillSoon(ctx, b.job, b.cursor)
		}
		return b.store.AdvanceBackfill(ctx, b.job, b.cursor)
	})
}

// confirm notes in the cursor up to where all events are durable. Positions of another timeline say nothing of the
// chunks; the claim comes before the first of them.
func (b *backfill) confirm() {
	confirmed := b.capture.reader.Confirmed()
	if !b.sameStream() {
		return
	}
	for len(b.inFlight) > 0 && b.inFlight[0].upTo <= confirmed {
		to := b.inFlight[0].to
		b.cursor.Durable, b.inFlight = &to, b.inFlight[1:]
	}
}

// stored writes to the state database. When that is unreachable for stateWait, it is a *turnOverError: the
// backfill is closed, so that positions are confirmed, and whoever claims the job later goes on.
func (b *bridge) stored(ctx context.Context, write func(context.Context) error) error {
	waiting, cancel := context.WithTimeout(ctx, stateWait)
	defer cancel()
	_, err := tryState(waiting, b, func() (struct{}, error) { return struct{}{}, write(waiting) })
	if err != nil && waiting.Err() != nil && ctx.Err() == nil {
		return &turnOverError{time.Now()}
	}
	return err
}

// connected calls f with a session, again with another one as long as the source is unreachable, for
// sourceWait at most.
func (b *backfill) connected(ctx context.Context, f func() error) error {
	began := time.Now()
	_, err := waitFor(ctx, b.Log, "source", func() (struct{}, error) {
		if !b.capturing() {
			return struct{}{}, errCapturesNot
		}
		var err error
		if b.rows == nil || b.rows.Closed() {
			b.rows, err = cdc.OpenRows(ctx, b.Source, b.capture.bound.Load().Path())
		}
		if err == nil {
			err = f()
		}
		if unreachable(err) {
			b.disconnect(ctx)
			if time.Since(began) > sourceWait { // not %w: it has not passed
				err = fmt.Errorf("the source did not let it read for %v, and it holds WAL meanwhile: %v; nothing is lost: correct that, then run gancho backfill resume %d, which goes on where it was", sourceWait, err, b.job.ID) //nolint:errorlint // see above
			}
		}
		return struct{}{}, err
	})
	return err
}

func (b *backfill) disconnect(ctx context.Context) {
	if b.rows != nil {
		b.rows.Close(ctx)
		b.rows = nil
	}
}

// open has capture keep the changes of the tables, from a place in the stream before which everything
// is seen by queries.
func (b *backfill) open(ctx context.Context) error {
	if err := b.load(); err != nil {
		return err
	}
	if err := b.save(ctx); err != nil { // closing what was open before confirms it
		return err
	}
	oids := []uint32{}
	for i := range b.tables {
		oids = append(oids, b.tables[i].Table.Relation.OID)
	}
	slices.Sort(oids)
	if err := b.reads.opened(ctx, oids); err != nil {
		return err
	}
	for {
		if err := b.mark(ctx); err != nil {
			return err
		}
		p, err := b.seen(ctx, b.seq)
		if err != nil { // rows from before this process took the job
			err = b.again(ctx, err)
		}
		if err != nil || p.took && p.fault == nil {
			return err
		}
	}
}

// load finds the tables of the job by the rules as they are now.
func (b *backfill) load() (err error) {
	b.rules = b.capture.bound.Load()
	b.tables, err = readTables(b.rules, &b.job.Filter, setsTimers(b.job.Endpoint, &b.job.Filter))
	b.pace.events = nil
	for i := range b.tables {
		b.pace.events = append(b.pace.events, b.tables[i].Events...)
	}
	return err
}

// next returns the table that is to be read, nil when all are. Other rules may be of other tables: it is opened with
// them, so that their changes are kept before their rows are read.
func (b *backfill) next(ctx context.Context) (*mapping.ReadTable, error) {
	if !b.sameStream() {
		return nil, errCapturesNot
	}
	for b.rules != b.capture.bound.Load() {
		if err := b.open(ctx); err != nil {
			return nil, err
		}
	}
	for i := range b.tables {
		t := &b.tables[i]
		if name := t.Table.Relation.TableName().String(); !slices.Contains(b.cursor.Done, name) {
			if b.cursor.Table != name {
				b.cursor.Table, b.cursor.After = name, nil
			}
			return t, nil
		}
	}
	return nil, nil //nolint:nilnil // there is none
}

// header begins the next message.
func (b *backfill) header(snapshot string) *readHeader {
	b.seq++
	f := &b.job.Filter
	return &readHeader{
		Job: b.job.ID, Claim: b.job.Claim(), Seq: b.seq, Round: b.cursor.Round, Snapshot: snapshot,
		Endpoint: b.job.Endpoint, Tenant: f.Tenant, Events: f.Events,
	}
}

// mark writes a message without rows.
func (b *backfill) mark(ctx context.Context) error {
	return b.connected(ctx, func() error { return b.markOnce(ctx) })
}

// markOnce stores how far the backfill is before its message lets the last chunk be confirmed: until then the stream repeats
// that to a process that has to learn what became of it.
func (b *backfill) markOnce(ctx context.Context) error {
	b.later.drop(ctx)
	if err := b.save(ctx); err != nil {
		return err
	}
	err := b.rows.Mark(ctx, func(snapshot string) (cdc.Message, error) { return b.reads.seal(b.header(snapshot), nil) })
	b.marked = time.Now()
	return err
}

// delayed marks the stream after an attempt at a chunk that failed and is made again, which needs no table: what is
// behind is confirmed. The job's record says what it waits for.
func (b *backfill) delayed(ctx context.Context, err error) error {
	if b.rows.Closed() {
		return err
	}
	if err := b.markOnce(ctx); err != nil && !unreachable(err) {
		return err
	}
	if err := b.pace.note(ctx, err.Error()); err != nil {
		return err
	}
	return err
}

// seen waits until capture has seen a message; its error may be a *faultError.
func (b *backfill) seen(ctx context.Context, seq int64) (readProgress, error) {
	for {
		look, cancel := context.WithTimeout(ctx, markEvery)
		p, err := b.reads.await(look, func(p *readProgress) bool {
			return p.fault != nil || p.claim == b.job.Claim() && p.seq >= seq
		})
		cancel()
		switch {
		case ctx.Err() != nil:
			return p, ctx.Err()
		case err == nil && p.fault != nil && b.past(p.faulty):
			b.reads.forget(p.faulty)
		case err == nil && p.fault != nil:
			return p, &faultError{p.fault, p.faulty}
		case err == nil:
			for len(b.ahead) > 0 && b.ahead[0].seq <= p.seq {
				b.ahead[0].upTo = p.handled
				b.inFlight, b.ahead = append(b.inFlight, b.ahead[0]), b.ahead[1:]
			}
			return p, nil
		case !b.capturing():
			return p, errCapturesNot
		}
	}
}

// past reports whether a message with a fault is another job's, or one behind which this job has gone back
// already: the stream repeats those when it starts again.
func (b *backfill) past(h *readHeader) bool {
	return h.Job != 0 && (h.Job != b.job.ID || h.Round < b.cursor.Round) // 0: ours, and it cannot be read
}
