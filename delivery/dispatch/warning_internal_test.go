package dispatch

import (
	"testing"
	"time"

	"gancho/delivery/queue"
)

// Time in which nobody could make attempts is none in which the endpoint has failed.
func TestWarningsDue(t *testing.T) {
	t.Parallel()
	const day = 24 * time.Hour
	since := time.UnixMilli(1_000_000)
	for _, c := range []struct {
		failing, away, limit time.Duration
		attempts             int
		due                  int64
		next                 time.Duration // after since; 0: never
	}{
		{time.Minute, 0, day, 1, 0, 5 * time.Minute},
		{time.Minute, 0, day, 10, WarnFailing, time.Hour},
		{5 * time.Minute, 0, day, 1, WarnFailing, time.Hour},
		{time.Hour, 0, day, 3, WarnFailing | WarnHour, 22 * time.Hour},
		{time.Hour, 30 * time.Minute, day, 3, WarnFailing, 90 * time.Minute},
		{22 * time.Hour, 0, day, 3, WarnFailing | WarnHour | WarnPause, 0},
		{30 * time.Minute, 0, time.Hour, 3, WarnFailing | WarnPause, time.Hour},
		{30 * day, 0, -1, 3, WarnFailing | WarnHour, 0},
	} {
		h := health{Health: queue.Health{Failing: since.UnixMilli(), Away: c.away.Milliseconds()}}
		due, next := h.warnings(since.Add(c.failing), c.attempts, c.limit)
		want := since.Add(c.next)
		if c.next == 0 {
			want = time.Time{}
		}
		if due != c.due || !next.Equal(want) {
			t.Errorf("failing for %s, %s of it away, %d attempts, paused after %s: warnings %b, the next at %s; want %b and %s", c.failing, c.away, c.attempts, c.limit, due, next, c.due, want)
		}
	}
}
