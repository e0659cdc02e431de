package bridge_test

import (
	"errors"
	"testing"
	"testing/synctest"
	"time"

	"gancho/internal/bridge"
)

// TestSourceClock: between two questions the source's clock goes on with the time that has passed, and it is asked again before a clock
// that was set goes unnoticed for long.
func TestSourceClock(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		at := time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC) // years apart from this machine's
		var unasked bridge.SourceClock
		if _, known := unasked.Now(); known {
			t.Error("a clock is known that nobody has asked")
		}
		c := bridge.NewSourceClock(at)
		<-time.After(29 * time.Second) // of the bubble
		if now, known := c.Now(); !known || !now.Equal(at.Add(29*time.Second)) {
			t.Errorf("%s, %t", now, known)
		}
		<-time.After(time.Second)
		if _, known := c.Now(); known {
			t.Error("the clock was not asked for half a minute")
		}
	})
}

// TestTimerSequences: the sequences of two turns rise, also with the same clock, or one that was set back, and in the next process.
func TestTimerSequences(t *testing.T) {
	t.Parallel()
	at := time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)
	one := bridge.NewTimers()
	first := one.Sequences(at, 500)
	second := one.Sequences(at, 500)
	third := one.Sequences(at.Add(-time.Hour), 500)
	fourth := bridge.NewTimers().Sequences(at.Add(time.Second), 1) // in another process
	if second < first+500 || third < second+500 || fourth < third+500 || fourth >= 1<<48 {
		t.Errorf("%d, %d, %d, %d", first, second, third, fourth)
	}
}

// TestStuckTimersTrouble: readiness names a rule that is stuck, and none that was.
func TestStuckTimersTrouble(t *testing.T) {
	t.Parallel()
	first, second := errors.New("first"), errors.New("second")
	timers := bridge.NewStuckTimers()
	expect := func(want error) {
		t.Helper()
		if got := timers.Trouble(); !errors.Is(got, want) || want == nil && got != nil {
			t.Errorf("readiness says %v, want %v", got, want)
		}
	}
	timers.Stick("a", first)
	timers.Stick("b", second)
	timers.Unstick("b")
	expect(first)
	timers.Stick("b", second)
	timers.Unstick("a")
	expect(second)
	timers.Unstick("b")
	expect(nil)
	timers.Stick("a", first)
	timers.Release()
	expect(nil)
}
