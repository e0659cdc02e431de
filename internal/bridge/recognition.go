package bridge

import (
	"context"
	"errors"

	"gancho/cdc"
	"gancho/delivery/queue"
)

// lookBack compares the slot with what the queue knows, before one is created: that a slot is
// gone, or can no longer be read, is not to be fixed in silence, and the queue of another bridge is no reason
// to create one. It returns what the queue knows; nil: nothing.
func (c *capture) lookBack(ctx context.Context) (*queue.Reached, error) {
	reached, err := waitFor(ctx, c.Log, "redis", func() (*queue.Reached, error) { return c.queue.Reached(ctx) })
	if err != nil || reached == nil {
		return nil, err
	}
	i, err := waitFor(ctx, c.Log, "source", func() (*cdc.Inspection, error) { return cdc.Inspect(ctx, c.Source) })
	if err != nil {
		if ctx.Err() == nil {
			c.Log.Debug().Err(err).Msg("the source cannot be looked at before it is prepared")
		}
		return reached, ctx.Err() // what is in the way, the preparation says better
	}
	another := reached.OfAnother(i.Identity.Slot, i.Identity.Database)
	same := another == nil
	switch {
	case another != nil && !c.AcceptSource:
		return nil, another
	case i.Lost != nil && same && !c.AcceptSource:
		return nil, i.Lost
	case i.Synced && same: // a failover is under way, or source.dsn leads to the wrong server
		return nil, &cdc.SyncedSlotError{Slot: i.Identity.Slot}
	}
	return reached, nil
}

// claim claims the queue for the source, which begins an epoch or continues one. What is known from the visit before needs no state database; nil: nothing is.
func (c *capture) claim(ctx context.Context, source *cdc.Source, reached *queue.Reached, known *knownSource) (uint16, error) {
	i := source.Identity
	claimed := queue.Source{
		SystemID: i.SystemID, Database: i.Database, Slot: i.Slot, Timeline: i.Timeline, History: source.History,
		SlotCreated: source.SlotCreated, ConfirmedFlush: uint64(source.ConfirmedFlush), Current: uint64(source.Current),
	}
	_, err := waitFor(ctx, c.Log, "source", func() (struct{}, error) { return struct{}{}, compareWAL(ctx, c.Source, reached, &claimed) })
	if err != nil {
		return 0, err
	}
	switch {
	case known != nil:
		claimed.Last = known.claimed
	case c.store != nil:
		if claimed.Last, err = waitFor(ctx, c.Log, "state database", func() (*queue.Claimed, error) { return c.store.Source(ctx, i.Slot) }); err != nil {
			return 0, err
		}
	}
	claim := func() (uint16, error) {
		return waitFor(ctx, c.Log, "redis", func() (uint16, error) { return c.queue.Claim(ctx, claimed, c.AcceptSource) })
	}
	epoch, err := claim()
	changed, isChanged := errors.AsType[*queue.SourceChangedError](err)
	if isChanged && changed.Recorded > 0 {
		// The process that captures now may have recorded more since the end of the
		// WAL was read: the end as it is now decides.
		if slot, failed := c.gauge.Measure(ctx); failed == nil && uint64(slot.Current) >= changed.Recorded {
			claimed.Current = 0
			epoch, err = claim()
			changed, isChanged = errors.AsType[*queue.SourceChangedError](err)
		}
	}
	switch {
	case err == nil:
		return epoch, nil
	case isChanged && changed.Another && source.SlotCreated:
		// Two bridges that were started on an empty queue at once: the slot of this one would hold WAL for ever.
		return 0, errors.Join(err, cdc.DropSlot(ctx, c.Source))
	}
	refused := c.refusalOf(ctx, err)
	// Whoever begins an epoch after the attempt and before the look at what it depends on is not seen by comparing looks.
	if now, failed := c.queue.Reached(ctx); failed == nil && now != nil && reached != nil && now.Epoch != reached.Epoch {
		return 0, errSourceMoved
	}
	return 0, refused
}

// compareWAL finds out whether the server's WAL has the newest transaction that was confirmed where it was read. Another
// system, or one whose WAL ends before, is recognised by that. Where the server does not show its WAL, that is logged, and
// neither Diverged nor Verified is set.
func compareWAL(ctx context.Context, o cdc.Options, reached *queue.Reached, s *queue.Source) error {
	if reached == nil || reached.Footprint.End == 0 || cdc.LSN(s.Current) < reached.Footprint.End || reached.Source.SystemID != s.SystemID {
		return nil
	}
	found, err := cdc.FindFootprint(ctx, o, reached.Footprint)
	if errors.Is(err, cdc.ErrUnverified) {
		o.Log.Warn().Err(err).Msg("the source could not be compared with what was read of it; if it was restored to an earlier state and has written as much WAL again, run gancho recover")
		return nil
	}
	s.Verified, s.Diverged = found && err == nil, !found && err == nil
	return err
}

// admit decides whether the slot is still the one that was read: see [cdc.Reader.Admit].
func (c *capture) admit(ctx context.Context, is cdc.Identity) error {
	reached, err := c.queue.Reached(ctx)
	if err != nil || reached == nil { // nothing is known when Redis has lost it, which others report
		return passing(err)
	}
	slot, err := c.gauge.Measure(ctx)
	if err != nil {
		return passing(err)
	}
	s := queue.Source{
		SystemID: is.SystemID, Database: is.Database, Slot: is.Slot, Timeline: is.Timeline,
		ConfirmedFlush: uint64(slot.ConfirmedFlush), Current: uint64(slot.Current),
	}
	if started := c.reader.ServerStarted(); c.member == nil || started == "" || started != c.member.compared.server {
		if err := compareWAL(ctx, c.Source, reached, &s); err != nil {
			return passing(err)
		}
		if c.member != nil && s.Verified {
			c.member.compared.server = started // who has not been started again since has the same WAL
		}
	}
	c.reader.Skip(reached.Skip)
	return passing(c.queue.Recognise(ctx, s))
}

// passing marks an error of admit that does not pass.
func passing(err error) error {
	if err == nil || unreachable(err) {
		return err
	}
	return cdc.Permanent(err)
}
