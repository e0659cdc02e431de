package bridge

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"sync/atomic"

	"gancho/cdc"
	"gancho/mapping"
)

// A backfill puts the rows that it reads into the WAL, as messages, and capture finds them in the
// stream, in their place among the changes: so their events have positions, and webhook-ids, of
// their own, which a replay of the WAL repeats, and one writer keeps the order of each key. A
// transaction that commits before the message, and that the query did not see, has changed rows of it
// meanwhile: capture keeps what it says of the table (mapping.Overlay) and puts it over the rows. As
// long as a backfill is open, no position is confirmed behind which a restart would lack that.

// reads is capture's part of a backfill. Its fields are capture's goroutine's, unless they say otherwise.
type reads struct {
	*capture
	// used are the tables whose changes are kept; nil: no backfill is open.
	used    *[]uint32
	overlay *mapping.Overlay
	// recent are the ids of the last transactions, the next one's place is count; before are those from
	// before the tables were used, which the first snapshot has to see.
	recent []uint32
	count  int
	before []uint32
	// holding: nothing behind hold is reported as reached. told is what was.
	holding    bool
	hold, told cdc.LSN
	accepted   *readHeader // the message of ours in the open transaction
	handled    cdc.LSN     // everything that commits before it has been handed over
	// refused are the messages that follow one with a fault: rows before theirs were not put into the stream.
	refused refusedRounds
	foreign complaint // about messages that are not ours

	// want are the tables of an open backfill, of any goroutine's. owner: a job sees to it.
	want  atomic.Pointer[[]uint32]
	owner atomic.Bool

	mu       sync.Mutex
	progress readProgress  // guarded by mu
	changed  chan struct{} // closed and replaced when it has changed; guarded by mu
}

// readProgress is what capture has seen of a backfill.
type readProgress struct {
	claim, seq int64       // of its newest message
	took       bool        // it was accepted
	chunk      *readHeader // the newest message with rows that was accepted; nil: none was
	handled    cdc.LSN     // as in reads
	fault      error       // why rows could not be put into the stream
	faulty     *readHeader // the message with the fault
}

// recentTransactions is how many are remembered, to wait for those that queries do not see yet. They
// are as many as there are connections, at most.
const recentTransactions = 4096

func newReads(c *capture) *reads {
	return &reads{
		capture: c, overlay: mapping.NewOverlay(), recent: make([]uint32, recentTransactions), changed: make(chan struct{}),
		foreign: complaint{log: c.Log, failed: "a message in the stream has the prefix of a backfill and is not one of ours; it was passed over"},
	}
}

// report changes the progress and wakes those who wait for it.
func (r *reads) report(change func(*readProgress)) {
	r.mu.Lock()
	defer r.mu.Unlock()
	change(&r.progress)
	close(r.changed)
	r.changed = make(chan struct{})
}

// await waits until the progress is as asked; its error is the context's.
func (r *reads) await(ctx context.Context, until func(*readProgress) bool) (readProgress, error) {
	for {
		r.mu.Lock()
		p, changed := r.progress, r.changed
		r.mu.Unlock()
		if until(&p) {
			return p, nil
		}
		select {
		case <-ctx.Done():
			return p, ctx.Err()
		case <-changed:
		}
	}
}

// follow uses the tables that are wanted now.
func (r *reads) follow() {
	want := r.want.Load()
	if want == r.used {
		return
	}
	same := want != nil && r.used != nil && slices.Equal(*want, *r.used)
	r.used = want
	if !same {
		r.overlay.Clear()
		r.holding, r.hold, r.before = false, 0, nil
		if want != nil {
			r.before = slices.Clone(r.recent[:min(r.count, len(r.recent))])
		}
	}
}

// reset is the Handler's Reset: record is what the queue knows of an open backfill.
func (r *reads) reset(record []uint32) {
	confirmed := r.reader.Confirmed()
	r.report(func(p *readProgress) { // as one: see release
		r.follow() // from what was streamed until now
		if record != nil && r.want.Load() == nil {
			r.want.Store(&record)
			r.used, r.before = &record, nil
		}
		p.handled = confirmed
	})
	r.overlay.Reset(confirmed)
	r.accepted, r.told, r.handled = nil, confirmed, confirmed
	// Until the first snapshot is accepted, it still has to see the transactions that are not streamed again.
	r.holding, r.hold = r.used != nil && r.before == nil, confirmed
	r.refused = refusedRounds{}
}

// begin is the Handler's Begin.
func (r *reads) begin(tx *cdc.Transaction) {
	r.follow()
	r.recent[r.count%len(r.recent)] = tx.XID
	r.count++
	r.accepted = nil
	if r.used != nil {
		r.overlay.Begin(tx, r.handled)
	}
}

// change is the Handler's Change.
func (r *reads) change(c *cdc.Change) {
	if r.used != nil && slices.Contains(*r.used, c.Relation.OID) {
		r.overlay.Add(c)
	}
}

// commit is the Handler's Commit.
func (r *reads) commit(tx *cdc.Transaction) {
	before := r.handled
	r.handled = tx.End
	if r.used != nil {
		r.overlay.Commit(tx.End)
	}
	if r.accepted == nil {
		if r.used != nil {
			r.report(func(p *readProgress) { p.handled = tx.End })
		}
		return
	}
	h := r.accepted
	r.accepted = nil
	r.holding, r.hold = true, tx.End
	if h.XID != "" { // the stream repeats it until its job has stored that it was taken: before the next message
		r.hold = before
	}
	if floor := r.overlay.Floor(); floor != 0 {
		r.hold = min(r.hold, floor)
	}
	r.report(func(p *readProgress) {
		p.claim, p.seq, p.took, p.handled = h.Claim, h.Seq, true, tx.End
		if h.XID != "" {
			p.chunk = h
		}
	})
}

// keepalive is the Handler's Keepalive.
func (r *reads) keepalive(lsn cdc.LSN) {
	r.follow()
	r.handled = max(r.handled, lsn)
	if r.used != nil {
		r.report(func(p *readProgress) { p.handled = lsn })
	}
}

// upTo returns how much of what is mapped up to a position may be reported as reached; 0: nothing
// more than was.
func (r *reads) upTo(mapped cdc.LSN) cdc.LSN {
	if r.holding {
		mapped = min(mapped, r.hold)
	}
	if mapped <= r.told {
		return 0
	}
	r.told = mapped
	return mapped
}

// message takes what a backfill has written into the stream.
func (r *reads) message(ctx context.Context, tx *cdc.Transaction, m cdc.Message) error {
	if m.Prefix != r.prefix() {
		return nil
	}
	h, rows, err := r.unseal(m.Content)
	if err == nil && h.XID != "" && !isXID(h.XID, tx.XID) {
		err = errCopied
	}
	if errors.Is(err, errForeign) || errors.Is(err, errCopied) {
		r.foreign.about(err)
		return nil
	}
	if err != nil {
		r.fault(tx, &h, fmt.Errorf("rows of a backfill in the stream cannot be read, and were not sent: %w", err))
		return nil
	}
	if r.refused.has(&h) {
		return nil
	}
	if h.XID != "" {
		err = r.put(ctx, tx, &h, rows)
	} else {
		err = r.mark(&h)
	}
	if fault := new(faultError); errors.As(err, &fault) {
		r.fault(tx, &h, fault.error)
		return nil
	}
	return err
}

// faultError is why rows cannot be put into the stream: it ends the backfill, not capture.
type faultError struct {
	error
	of *readHeader // the message; nil: whoever returns it does not say
}

// fault reports why the rows of a message were not sent. No position behind it is confirmed
// until its job has ended.
func (r *reads) fault(tx *cdc.Transaction, h *readHeader, err error) {
	r.Log.Error().Err(err).Int64("job", h.Job).Stringer("lsn", tx.Commit).Msg("rows of a backfill were not put into the stream")
	r.refused = refusedRounds{h.Job, h.Claim, h.Round + 1}
	r.report(func(p *readProgress) {
		if was := p.faulty; was == nil || was.Job != h.Job || was.Round < h.Round {
			p.fault, p.faulty = err, h
		}
	})
}

// forget drops the fault of a message from the progress, unless another one has taken its place.
func (r *reads) forget(h *readHeader) {
	r.report(func(p *readProgress) {
		if p.faulty == h {
			p.fault, p.faulty = nil, nil
		}
	})
}

// mark takes a message without rows: the snapshot that it has sees what comes before it. The first one
// of a backfill is refused as long as transactions from before it are not seen.
func (r *reads) mark(h *readHeader) error {
	if r.used == nil {
		return nil
	}
	seen, err := mapping.SnapshotSees(h.Snapshot, r.before)
	if err != nil {
		return &faultError{error: err}
	}
	if !r.holding && !seen {
		r.report(func(p *readProgress) { p.claim, p.seq, p.took = h.Claim, h.Seq, false })
		return nil
	}
	if err := r.overlay.Seen(h.Snapshot); err != nil {
		return &faultError{error: err}
	}
	r.before, r.accepted = nil, h
	return nil
}

// put makes events of the rows of a message.
func (r *reads) put(ctx context.Context, tx *cdc.Transaction, h *readHeader, rows []byte) error {
	if err := r.resolveAll(); err != nil {
		return err
	}
	if !r.holding {
		r.Log.Warn().Int64("job", h.Job).Stringer("lsn", tx.Commit).Msg("rows of a backfill come without what was changed meanwhile, because its record in redis is lost; a later event may come before them")
	}
	if err := r.overlay.Seen(h.Snapshot); err != nil {
		return &faultError{error: err}
	}
	sink := readSink{r.stage, h}
	r.verdicts.read(h)
	var view *mapping.View
	over := func(c *cdc.Change) (there bool, err error) {
		if view == nil {
			view, err = r.view(c.Relation, h)
		}
		if err == nil {
			there, err = view.Over(c)
		}
		if err != nil {
			return false, &faultError{error: err}
		}
		return there, nil
	}
	// The whole chunk is checked before its first event: after a fault it is read again, and its
	// rows would have events under different webhook-ids.
	err := r.reader.DecodeRows(ctx, tx, rows, func(c *cdc.Change) error {
		_, err := over(c)
		return err
	})
	if err == nil {
		err = r.reader.DecodeRows(ctx, tx, rows, func(c *cdc.Change) error {
			there, err := over(c)
			if err != nil || !there {
				return err
			}
			return r.row(ctx, c, sink)
		})
	}
	if err == nil {
		err = r.mapper.Resolve(ctx, sink)
	}
	if wrong := new(cdc.DecodeError); errors.As(err, &wrong) {
		return &faultError{error: err}
	}
	if err == nil {
		r.accepted = h
	}
	return err
}

// view is what was changed meanwhile in the table of a message.
func (r *reads) view(rel *cdc.Relation, h *readHeader) (*mapping.View, error) {
	if r.used != nil && !slices.Contains(*r.used, rel.OID) {
		return nil, fmt.Errorf("the rules or table %s have changed since the backfill was opened, so that the changes of the table were not kept", rel.TableName())
	}
	return r.overlay.View(r.mapper, rel.OID, h.Key)
}

// row makes events of a row.
func (r *reads) row(ctx context.Context, c *cdc.Change, sink readSink) error {
	err := r.mapper.Read(c, sink.h.chosen, sink)
	if drift := new(mapping.SchemaError); errors.As(err, &drift) {
		return &faultError{error: err}
	}
	if err != nil {
		return err
	}
	r.metrics.change(c)
	if r.mapper.Full() {
		return r.mapper.Resolve(ctx, sink)
	}
	return nil
}

// readSink takes what rows of a backfill lead to.
type readSink struct {
	*stage
	h *readHeader
}

func (s readSink) Event(e *mapping.Event) error {
	if s.h.Tenant != nil && *s.h.Tenant != string(e.Tenant) {
		return nil
	}
	return s.within(func() error {
		s.metrics.event(e.Type, e.Rule)
		if err := s.sealChange(e); err != nil {
			return err
		}
		n, err := s.open.AddFor(e, s.h.Endpoint)
		return s.trace(e, n, err)
	})
}

// Timer implements mapping.TimerSink. An event of time goes to all endpoints and tenants, so that a backfill for one of them sets no timer.
func (s readSink) Timer(t *mapping.TimerChange) error {
	if s.h.Endpoint != "" || s.h.Tenant != nil { // as setsTimers has it
		return nil
	}
	return s.within(func() error { return s.open.Timer(t) })
}

func (s readSink) Park(p *mapping.Parked) error { return waitingSink{s.stage}.Park(p) }

var (
	_ cdc.MessageHandler = (*capture)(nil)
	_ cdc.Holder         = (*capture)(nil)
)
