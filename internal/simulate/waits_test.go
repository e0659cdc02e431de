package simulate_test

import (
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"gancho/internal/simulate"
	"gancho/mapping"
)

// TestWaits: what waits at the end, and until when.
func TestWaits(t *testing.T) {
	t.Parallel()
	at := time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)
	set := func(key string, in time.Duration) mapping.TimerChange {
		return mapping.TimerChange{Key: []byte(key), Due: at.Add(in)}
	}
	moved, pending, absent := set("c2", 3*time.Hour), set("a", time.Hour), set("z", time.Hour)
	moved.Former = []byte("c")
	pending.Pending, absent.Pending = true, true
	for name, c := range map[string]struct {
		changes []mapping.TimerChange
		want    simulate.WaitReport
	}{
		"set":       {[]mapping.TimerChange{set("a", time.Hour), set("b", 2*time.Hour)}, simulate.WaitReport{Set: 2, Pending: 2, First: at.Add(time.Hour), Last: at.Add(2 * time.Hour)}},
		"canceled":  {[]mapping.TimerChange{set("a", time.Hour), {Key: []byte("a")}, {Key: []byte("b")}}, simulate.WaitReport{Set: 1, Canceled: 1}},
		"moved":     {[]mapping.TimerChange{set("c", time.Hour), moved, set("a", 9*time.Hour), pending, absent}, simulate.WaitReport{Set: 4, Pending: 2, First: at.Add(time.Hour), Last: at.Add(3 * time.Hour)}},
		"truncated": {[]mapping.TimerChange{set("a", time.Hour), set("b", time.Hour), {All: true}, set("b", time.Hour)}, simulate.WaitReport{Set: 3, Canceled: 2, Pending: 1, First: at.Add(time.Hour), Last: at.Add(time.Hour)}},
	} {
		if diff := cmp.Diff(c.want, simulate.WaitsOf(c.changes...)); diff != "" {
			t.Errorf("%s: -want +got\n%s", name, diff)
		}
	}
}
