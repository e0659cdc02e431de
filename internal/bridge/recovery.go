package bridge

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"gancho/cdc"
	"gancho/delivery/queue"
	"gancho/internal/retry"
	"gancho/internal/state"
	"gancho/mapping"
)

// Recovery is what stands in the way of capture, and what closes the gap that it leaves.
type Recovery struct {
	// Gap is what is missing. Its To is empty until Carry has made or accepted a slot.
	Gap queue.Gap `json:"gap"`
	// NewSlot: the slot is dropped, where there is one, and made anew; else it is read on where it stands.
	NewSlot bool `json:"new_slot"`
	// Tables are what the gap may be closed with.
	Tables []mapping.GapTable `json:"tables"`

	lost    *cdc.LostSlotError
	active  bool
	needs   []cdc.TableNeed
	options RecoveryOptions
}

// RecoveryOptions are what Recover needs.
type RecoveryOptions struct {
	Source cdc.Options
	Queue  *queue.Queue
	Rules  *mapping.Rules
	// Store remembers as whose the queue was claimed; nil: there is none.
	Store *state.Store
}

// ErrNothingToRecover says that the slot is the one that was read, and can be read on.
var ErrNothingToRecover = errors.New("the slot is the one that was read, and nothing is missing: there is nothing to recover")

// ErrNeverRead says that nobody has read the source for this queue.
var ErrNeverRead = errors.New("nothing was read for this queue yet, so that nothing of it is missing; start gancho run --create, and if a slot of an older queue is in the way, drop it before: SELECT pg_drop_replication_slot('<source.slot>')")

// Recover finds out what stands in the way, and changes nothing. It returns ErrNothingToRecover when
// nothing does.
func Recover(ctx context.Context, o RecoveryOptions) (*Recovery, error) {
	reached, err := o.Queue.Reached(ctx)
	switch {
	case err != nil:
		return nil, err
	case reached == nil:
		return nil, ErrNeverRead
	}
	i, err := cdc.Inspect(ctx, o.Source)
	if err != nil {
		return nil, err
	}
	r := &Recovery{lost: i.Lost, active: i.Active, NewSlot: i.Lost != nil, options: o}
	if err := r.compare(ctx, reached, i); err != nil {
		return nil, err
	}
	conn, err := cdc.Connect(ctx, o.Source.DSN)
	if err != nil {
		return nil, fmt.Errorf("connect to the source: %w", err)
	}
	defer func() { _ = conn.Close(context.WithoutCancel(ctx)) }()
	bound, err := o.Rules.Bind(ctx, conn)
	if err != nil {
		return nil, err
	}
	r.needs, r.Tables = bound.Tables(), bound.GapTables(r.Gap.FromTime)
	return r, nil
}

// compare fills in the gap.
func (r *Recovery) compare(ctx context.Context, reached *queue.Reached, i *cdc.Inspection) error {
	s := queue.Source{
		SystemID: i.Identity.SystemID, Database: i.Identity.Database, Slot: i.Identity.Slot, Timeline: i.Identity.Timeline, History: i.History,
		ConfirmedFlush: uint64(i.Confirmed), Current: uint64(i.Current),
	}
	if err := compareWAL(ctx, r.options.Source, reached, &s); err != nil {
		return err
	}
	err := r.options.Queue.Recognise(ctx, s)
	changed, isChanged := errors.AsType[*queue.SourceChangedError](err)
	if isChanged && changed.Recorded > 0 {
		// The process that captures may have recorded more since the end of the WAL was read: the end as it is now decides.
		if now, failed := cdc.Inspect(ctx, r.options.Source); failed == nil && uint64(now.Current) >= changed.Recorded {
			s.Current = 0
			err = r.options.Queue.Recognise(ctx, s)
			changed, isChanged = errors.AsType[*queue.SourceChangedError](err)
		}
	}
	switch {
	case err != nil && !isChanged:
		return err
	case isChanged && changed.Another:
		return fmt.Errorf("%w; the queue is another source's: correct source.slot or queue in the configuration", err)
	case isChanged:
		r.Gap = changed.Gap
		if r.NewSlot {
			r.Gap.To = ""
		}
	case r.lost == nil:
		return ErrNothingToRecover
	default:
		r.Gap = reached.GapBy(r.lost.Reason, r.lost.Why())
	}
	if r.lost != nil && reached.Open == nil && !isChanged {
		r.Gap.Reason, r.Gap.Detail = r.lost.Reason, r.lost.Why()
	}
	return nil
}

// slotFreed is how long a slot that is in use is waited for.
const slotFreed = 2 * time.Second

// awaitFree waits until nobody has the slot, for a while: a bridge that is refused takes it for a moment each time that it tries again.
func (r *Recovery) awaitFree(ctx context.Context) error {
	for until := time.Now().Add(slotFreed); r.active && time.Now().Before(until); {
		if err := retry.Wait(ctx, slotFreed/10); err != nil {
			return err
		}
		i, err := cdc.Inspect(ctx, r.options.Source)
		if err != nil {
			return err
		}
		r.active = i.Active
	}
	return nil
}

// Carry records the gap, makes a new slot where one is needed, and begins a new epoch behind it. Killed in
// between, it goes on when it is run again: what is missing stays known until the epoch has begun, with
// which it is recorded in one command.
func (r *Recovery) Carry(ctx context.Context) error {
	o := r.options
	if err := r.awaitFree(ctx); err != nil {
		return err
	}
	if r.active {
		return fmt.Errorf("a process reads slot %q now; stop it first (see pg_stat_replication)", o.Source.Slot)
	}
	if err := o.Queue.OpenGap(ctx, r.Gap.Reason, r.Gap.Detail); err != nil {
		return err
	}
	if r.lost != nil && r.lost.Reason != cdc.SlotMissing {
		if err := cdc.DropSlot(ctx, o.Source); err != nil {
			return err
		}
	}
	source := o.Source
	source.Create = true
	prepared, err := cdc.Prepare(ctx, source, r.needs)
	if err != nil {
		return err
	}
	i, err := cdc.Inspect(ctx, source)
	if err != nil {
		return err
	}
	claimed := queue.Source{
		SystemID: i.Identity.SystemID, Database: i.Identity.Database, Slot: i.Identity.Slot, Timeline: i.Identity.Timeline, History: i.History,
		SlotCreated: prepared.SlotCreated, ConfirmedFlush: uint64(prepared.ConfirmedFlush), Current: uint64(i.Current),
		Diverged: r.Gap.Reason == queue.GapRestored,
	}
	if o.Store != nil {
		if claimed.Last, err = o.Store.Source(ctx, o.Source.Slot); err != nil {
			return err
		}
	}
	epoch, err := o.Queue.Claim(ctx, claimed, true)
	if err != nil {
		return err
	}
	gaps, err := o.Queue.Gaps(ctx)
	if err != nil {
		return err
	}
	n := slices.IndexFunc(gaps, func(g queue.Gap) bool { return g.Epoch == epoch })
	if n < 0 {
		return fmt.Errorf("the epoch is still %d: nothing had to be accepted; run it again, and it shows what stands in the way", epoch)
	}
	r.Gap = gaps[n]
	if o.Store == nil {
		return nil
	}
	return o.Store.RememberSource(ctx, *o.Queue.Claimed())
}
