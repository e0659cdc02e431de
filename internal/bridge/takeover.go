package bridge

import (
	"context"
	"errors"
	"time"

	"github.com/rs/zerolog"

	"gancho/cdc"
	"gancho/delivery/queue"
	"gancho/internal/retry"
)

// elsewhere reports whether capture has ended because the source, or its slot, is not what was read: a
// position that was confirmed there would step over changes here.
func elsewhere(err error) bool {
	_, changed := errors.AsType[*queue.SourceChangedError](err)
	return changed || outrun(err)
}

// outrun reports whether capture has ended because what it knew of the source, or of the queue, is out of
// date: another server answers, as after a promotion, or another process has claimed the queue. One that
// begins anew compares the two, and goes on, stands by, or is refused.
func outrun(err error) bool {
	_, identity := errors.AsType[*cdc.IdentityChangedError](err)
	return identity || errors.Is(err, queue.ErrClaimLost)
}

// drainTimeout bounds the wait for what was appended to become durable: two
// seconds under everysec, and some.
const drainTimeout = 4 * time.Second

// drain lets the end of what was read become durable and confirms it, so that
// the next start does not read it again: it may come with rules that do not
// fit the tables as they were. Where the slot is another one than was read, or may be, nothing is drained:
// the slot is not to be moved, and what the source does not have any more not to be appended.
func (c *capture) drain(ctx context.Context) {
	ctx, cancel := context.WithTimeout(ctx, min(drainTimeout, c.Shutdown))
	defer cancel()
	c.stage.flush()
	for c.reader.Confirmed() < c.stage.last() {
		select {
		case <-ctx.Done():
			if !c.ends() {
				return // the source is shown with it, and the next visit reads that again
			}
			c.Log.Warn().Stringer("confirmed", c.reader.Confirmed()).Stringer("read", c.stage.last()).
				Msg("stopping before all that was read is durable; the next start reads it again")
			return
		case <-c.confirmed:
		}
	}
	if !c.ends() {
		return // the next stream confirms it, which begins there
	}
	switch err := cdc.Advance(ctx, c.Source, c.reader.Confirmed()); {
	case cdc.FaultOf(err) == cdc.FaultTransient:
		c.Log.Info().Msg("another process reads the slot already")
	case err != nil:
		c.Log.Warn().Err(err).Msg("confirm the last position failed; the next start reads a little again")
	}
}

// ends reports whether nobody in this process reads the source soon: not so when a visit ends.
func (c *capture) ends() bool { return c.advances == nil || c.advances() }

// standBy gives up what was read of the slot, which the source has given to another process:
// it reads that again, and appends it. The reader then waits for the slot.
func (c *capture) standBy() {
	c.stage.rewind()
	signal(c.confirmed) // nothing is left to wait for
	c.Log.Warn().Msg("another process captures now; what this one had read and not appended, the other one reads again")
	c.reader.Rewind()
}

// rewind goes back to the confirmed position because Redis is not the process
// that was appended to, or has lost something: its newest entries may be gone, and nothing
// newer may be appended before them. A Redis that is set to lose events is waited
// for, which the queue logs: deliveries go on.
func (c *capture) rewind(ctx context.Context, why error) error {
	c.stage.rewind()
	c.metrics.rewinds.Inc()
	level := zerolog.WarnLevel
	if lost := new(queue.LostError); errors.As(why, &lost) {
		level = zerolog.ErrorLevel
	}
	c.Log.WithLevel(level).Err(why).Stringer("confirmed", c.reader.Confirmed()).
		Msg("redis restarted or changed; appending again from the confirmed position")
	_, err := retry.Do(ctx, appendBackoff, func() (struct{}, error) { return struct{}{}, c.acceptRestart(ctx) },
		func(err error) bool {
			setting := new(queue.SettingError)
			return unreachable(err) || errors.Is(err, queue.ErrRestarted) || errors.As(err, &setting)
		})
	switch {
	case ctx.Err() != nil:
		return nil //nolint:nilerr // the end that was asked for
	case err != nil:
		return err
	}
	c.reader.Rewind()
	return nil
}

// acceptRestart goes on with Redis as it is now. Events that moved to the state database go before what is appended from now on: where Redis has lost the marks of
// them, they are restored first, which waits for that database.
func (c *capture) acceptRestart(ctx context.Context) error {
	err := c.queue.AcceptRestart(ctx)
	if err == nil && c.State != nil {
		err = c.queue.RestoreOverflow(ctx)
	}
	if err == nil && c.member != nil {
		c.member.restored = c.queue.History()
	}
	return err
}
