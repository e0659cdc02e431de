package bridge_test

import (
	"testing"

	"gancho/internal/bridge"
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
