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

const (
	// budgetWarns and budgetAlerts are the parts of the WAL budget, in percent, from which on it is
	// logged, and from which on the bridge is not ready.
	budgetWarns, budgetAlerts = 50, 80
	// budgetAgain is how often a budget of which much is spent is logged again.
	budgetAgain = 5 * time.Minute
	// giveUpTimeout bounds how long the slot's reader may take to let go of it.
	giveUpTimeout = 30 * time.Second
)

// overBudgetError ends the bridge because the slot is to be given up.
type overBudgetError struct{ held, budget int64 }

// Error implements error.
func (e *overBudgetError) Error() string {
	return fmt.Sprintf("the source holds %s of WAL for the slot, and source.wal_budget is %s", size(e.held), size(e.budget))
}

// size is a number of bytes in MB, or, of many, in GB.
func size(bytes int64) string {
	if bytes >= 10e9 {
		return fmt.Sprintf("%.1f GB", float64(bytes)/1e9)
	}
	return fmt.Sprintf("%.1f MB", float64(bytes)/1e6)
}

// spentBudget is how much of the WAL budget is spent, in percent; 0 without a budget.
func (b *bridge) spentBudget(lag *cdc.Slot) int64 {
	if b.WALBudget == 0 {
		return 0
	}
	return lag.HeldBytes / max(1, b.WALBudget/100)
}

// budgetText says how much is spent, what comes next, and what to do; "": less than half is.
func (b *bridge) budgetText(lag *cdc.Slot) string {
	spent := b.spentBudget(lag)
	if spent < budgetWarns {
		return ""
	}
	then := "beyond it the slot is kept (source.on_budget: alert), and the source's disk may fill"
	if b.DropOverBudget {
		then = "beyond it the slot is dropped (source.on_budget: drop_slot), and what commits from then on makes no events"
	}
	return fmt.Sprintf("the source holds %s of WAL for the slot, %d %% of source.wal_budget; %s; see why events are not confirmed (Redis? a long transaction?), or raise the budget",
		size(lag.HeldBytes), spent, then)
}

// judgeBudget keeps what readiness says of the budget, and logs it once in a while. Its error says
// that the slot is to be given up.
func (b *bridge) judgeBudget(ctx context.Context, lag *cdc.Slot) error {
	text, spent := b.budgetText(lag), b.spentBudget(lag)
	if spent < budgetAlerts {
		b.health.budget.Store(nil)
	} else {
		b.health.budget.Store(&text)
	}
	if text == "" {
		if !b.budgetLogged.IsZero() {
			b.Log.Info().Msg("less than half of source.wal_budget is spent again")
		}
		b.budgetLogged, b.budgetPassed = time.Time{}, 0
		return nil
	}
	passed := int64(budgetWarns)
	for _, threshold := range []int64{budgetAlerts, 100} {
		if spent >= threshold {
			passed = threshold
		}
	}
	due := time.Since(b.budgetLogged) >= budgetAgain || passed > b.budgetPassed
	if due {
		b.budgetLogged, b.budgetPassed = time.Now(), passed
		event := b.Log.Warn()
		if passed >= budgetAlerts {
			event = b.Log.Error()
		}
		event.Str("slot", b.Source.Slot).Int64("held_bytes", lag.HeldBytes).Int64("budget_bytes", b.WALBudget).Msg(text)
	}
	// Whoever reads the slot decides. While nobody does, that is who was refused: a source of several that is not read is judged after its visit has failed.
	refused := b.refused != nil || b.member != nil && b.capture == nil
	if mine := b.capturing() || refused && !lag.Active; spent < 100 || !b.DropOverBudget || !mine {
		return nil
	}
	over := &overBudgetError{lag.HeldBytes, b.WALBudget}
	ctx, cancel := context.WithTimeout(ctx, refusalTimeout)
	defer cancel()
	err := b.queue.OpenGap(ctx, queue.GapBudget, over.Error()+": the slot was dropped")
	if err == nil {
		return over
	}
	if due && ctx.Err() == nil || errors.Is(ctx.Err(), context.DeadlineExceeded) {
		b.Log.Error().Err(err).Msgf("the gap cannot be recorded, so that the slot is kept, and the source's disk may fill; to drop it without a record, run SELECT pg_drop_replication_slot('%s')", b.Source.Slot)
	}
	return nil
}

// giveUp drops the slot, once its reader has ended and the gap is recorded: without the slot and the
// record, nobody would know of the gap. It returns why capture is refused from now on.
func (b *bridge) giveUp(ctx context.Context, over *overBudgetError) error {
	b.Log.Error().Err(over).Str("slot", b.Source.Slot).Msg("the slot is given up, so that the source's disk does not fill")
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), giveUpTimeout)
	defer cancel()
	_, err := retry.Do(ctx, patience, func() (struct{}, error) { return struct{}{}, cdc.DropSlot(ctx, b.Source) }, unreachable)
	if err != nil {
		b.Log.Error().Err(err).Msg("the slot could not be dropped; trying again")
		return errSourceMoved
	}
	lost := &cdc.LostSlotError{Slot: b.Source.Slot, Reason: cdc.SlotMissing, Cause: errors.New(over.Error() + ", so that gancho has dropped it: source.on_budget")}
	return b.refusalOf(ctx, lost)
}
