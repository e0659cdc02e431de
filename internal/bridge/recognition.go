package bridge

import (
	"context"
	"errors"

	"gancho/cdc"
	"gancho/delivery/queue"
)

// lookedBack is what is known of the source before anything is prepared; both are zero where
// nothing is.
type lookedBack struct {
	reached *queue.Reached
	history string
}

// lookBack compares the slot with what the queue knows, before one is created: that a slot is
// gone, or can no longer be read, is not to be mended in silence.
func (c *capture) lookBack(ctx context.Context) (lookedBack, error) {
	reached, err := waitFor(ctx, c.Log, "redis", func() (*queue.Reached, error) { return c.queue.Reached(ctx) })
	if err != nil || reached == nil {
		return lookedBack{}, err
	}
	i, err := waitFor(ctx, c.Log, "source", func() (*cdc.Inspection, error) { return cdc.Inspect(ctx, c.Source) })
	if err != nil {
		if ctx.Err() == nil {
			c.Log.Debug().Err(err).Msg("the source cannot be looked at before it is prepared")
		}
		return lookedBack{reached: reached}, ctx.Err() // what is in the way, the preparation says better
	}
	same := reached.Source.Slot == i.Identity.Slot && reached.Source.Database == i.Identity.Database
	if i.Lost != nil && same && !c.AcceptSource {
		return lookedBack{}, i.Lost
	}
	return lookedBack{reached, i.History}, nil
}

// diverged reports whether the server's WAL has something else where a transaction was read. A
// source of another identity, or one that ends before, is recognised by that. Where the server does
// not show its WAL, that is logged, and the answer is no.
func (c *capture) diverged(ctx context.Context, is cdc.Identity, current uint64, reached *queue.Reached) (bool, error) {
	if reached == nil || reached.Footprint.End == 0 || current < uint64(reached.Footprint.End) {
		return false, nil
	}
	if was := reached.Source; was.SystemID != is.SystemID || was.Timeline != is.Timeline {
		return false, nil
	}
	found, err := cdc.FindFootprint(ctx, c.Source, reached.Footprint)
	if errors.Is(err, cdc.ErrUnverified) {
		c.Log.Warn().Err(err).Msg("the source could not be compared with what was read of it; if it was restored to an earlier state and has written as much WAL again, run gancho recover")
		return false, nil
	}
	return err == nil && !found, err
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
	if s.Diverged, err = c.diverged(ctx, is, s.Current, reached); err != nil {
		return passing(err)
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
