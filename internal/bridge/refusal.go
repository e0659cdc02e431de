package bridge

import (
	"context"
	"errors"
	"fmt"
	"time"

	"gancho/cdc"
	"gancho/delivery/queue"
	"gancho/internal/retry"
)

// refusal is why capture may not go on until a person has acted: to go on by itself could lose or
// repeat changes in silence. What is queued is delivered meanwhile, and once the person has acted, capture
// begins again.
type refusal struct {
	err error
	// situation is what the source and the queue looked like then; "": it is not known.
	situation string
}

// Error says why, what is missing, and what to type.
func (r *refusal) Error() string { return "capture is refused: " + r.err.Error() }

// Unwrap returns the cause.
func (r *refusal) Unwrap() error { return r.err }

// errSourceMoved ends a bridge that was refused capture: somebody has acted.
var errSourceMoved = errors.New("the source or its slot is another than when capture was refused")

const (
	// remedyEvery is the time between two looks whether somebody has acted.
	remedyEvery = 5 * time.Second
	// refusalTimeout bounds what is asked and recorded when capture is refused.
	refusalTimeout = 15 * time.Second
	// refusedAgain is how often a refusal is logged again.
	refusedAgain = 10 * time.Minute
)

// refuse makes a bridge one that delivers and does not capture; nil: it stays as it is.
func (b *bridge) refuse(r *refusal) {
	b.metrics.captureRefused.Set(flag(r != nil))
	if r == nil {
		return
	}
	b.refused, b.Capture, b.health.captures = r, false, false
}

// refusalOf makes a refusal of an error that somebody has to act on at the source; others stay as
// they are.
func (b *bridge) refusalOf(ctx context.Context, err error) error {
	var lost *cdc.LostSlotError
	var changed *queue.SourceChangedError
	var synced *cdc.SyncedSlotError
	var unprintable *cdc.UnprintableError
	ctx, cancel := context.WithTimeout(ctx, refusalTimeout)
	defer cancel()
	switch {
	case errors.As(err, &changed):
		if changed.Another { // the queue is another bridge's
			return err
		}
	case errors.As(err, &lost):
		if reached, failed := b.queue.Reached(ctx); failed == nil && reached != nil {
			err = fmt.Errorf("%w; changes that committed %s are missing until then", err, reached.Missing())
		}
	case errors.As(err, &synced):
	case errors.As(err, &unprintable):
		stuck := queue.Stuck{Commit: unprintable.Commit.String(), Where: unprintable.Where, Why: unprintable.Cause.Error()}
		if failed := b.queue.NoteStuck(ctx, stuck); failed != nil {
			b.Log.Warn().Err(failed).Msg("where the stream ends could not be recorded; gancho recover --skip works after the next start has")
		}
	default:
		return err
	}
	return &refusal{err: err, situation: b.situation(ctx)}
}

// situation is what a refusal depends on; "": it cannot be read now.
func (b *bridge) situation(ctx context.Context) string {
	reached, err := b.queue.Reached(ctx)
	if err != nil {
		return ""
	}
	i, err := cdc.Inspect(ctx, b.Source)
	if err != nil {
		return ""
	}
	var epoch uint16
	var skip cdc.LSN
	if reached != nil {
		epoch, skip = reached.Epoch, reached.Skip
	}
	lost := ""
	if i.Lost != nil {
		lost = i.Lost.Reason
	}
	return fmt.Sprint(epoch, skip, i.Identity, i.History, lost, i.Confirmed)
}

// awaitRemedy waits until somebody has acted, which ends the bridge with errSourceMoved, or the
// context ends.
func (b *bridge) awaitRemedy(ctx context.Context) error {
	var complained time.Time
	for {
		if time.Since(complained) >= refusedAgain {
			complained = time.Now()
			b.Log.Error().Err(b.refused.err).Msg("capture is refused, and what is queued is delivered; capture begins again when somebody has acted")
		}
		if retry.Wait(ctx, remedyEvery) != nil { // the end of the process is no error
			return nil //nolint:nilerr // as the comment says
		}
		looking, cancel := context.WithTimeout(ctx, refusalTimeout)
		now := b.situation(looking)
		cancel()
		switch {
		case now == "" || now == b.refused.situation:
		case b.refused.situation == "":
			b.refused.situation = now
		default:
			b.Log.Info().Msg("the source or its slot has changed; capture begins again")
			return errSourceMoved
		}
	}
}
