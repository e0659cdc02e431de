package bridge_test

import (
	"context"
	"errors"
	"fmt"
	"testing"
	"testing/synctest"
	"time"

	"gancho/internal/bridge"
	"gancho/internal/state"
)

// TestReleaseAfterReset: the stream begins anew while a backfill is being closed. The tables that are on record are used
// and positions held once more, until what is to be closed has come again.
func TestReleaseAfterReset(t *testing.T) {
	t.Parallel()
	r, record := bridge.NewReads(), []uint32{42}
	for round := range 2 {
		r.Reset(record)
		r.Reached(50)
		if r.Release(100) || r.UpTo(50) != 0 {
			t.Fatalf("round %d: closed before the stream has all of the backfill", round)
		}
		r.Reached(100)
		if r.UpTo(100) != 0 {
			t.Fatalf("round %d: a position is confirmed while the backfill is open", round)
		}
		if !r.Release(100) {
			t.Fatalf("round %d: not closed although the stream has all of the backfill", round)
		}
		if r.Release(100) {
			t.Fatalf("round %d: closed twice", round)
		}
		r.Reached(101)
		if got := r.UpTo(101); got != 101 {
			t.Fatalf("round %d: the position that may be confirmed is %v, want 0/65", round, got)
		}
	}
}

// TestStateAwayFromBackfill: an open backfill does not wait for the state database for ever, as nobody confirms
// positions meanwhile.
func TestStateAwayFromBackfill(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		began, tries := time.Now(), 0
		left, err := bridge.Stored(t.Context(), func(context.Context) error {
			tries++
			return fmt.Errorf("store: %w", state.ErrUnreachable)
		})
		if !left || time.Since(began) != time.Minute || tries < 5 {
			t.Errorf("after %v and %d tries: left %v, %v", time.Since(began), tries, left, err)
		}
		left, err = bridge.Stored(t.Context(), func(context.Context) error { return state.ErrConflict })
		if left || !errors.Is(err, state.ErrConflict) {
			t.Errorf("of a job that was taken: left %v, %v", left, err)
		}
		ending, stop := context.WithCancel(t.Context())
		stop()
		left, err = bridge.Stored(ending, func(context.Context) error { return state.ErrUnreachable })
		if left || !errors.Is(err, context.Canceled) {
			t.Errorf("at the end: left %v, %v", left, err)
		}
	})
}
