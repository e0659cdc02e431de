package dispatch

import (
	"testing"
	"time"

	"gancho/delivery/queue"
)

func TestHealthClockNeverGoesBack(t *testing.T) {
	t.Parallel()
	var h health
	now := time.UnixMilli(1_000_000)
	after := func(d time.Duration) time.Time { return now.Add(d) }
	h.trackStandstill(true, now)
	h.trackStandstill(true, after(time.Second))
	if idle := h.IdledFor(after(2 * time.Second)); idle != 2000 {
		t.Errorf("stood still for %d ms, want 2000", idle)
	}
	h.trackStandstill(false, after(3*time.Second))
	h.trackStandstill(false, after(4*time.Second))
	h.trackStandstill(true, after(10*time.Second))
	if idle := h.IdledFor(after(11 * time.Second)); idle != 4000 {
		t.Errorf("stood still for %d ms, want 4000", idle)
	}
	if idle := h.IdledFor(after(5 * time.Second)); idle < 3000 { // the wall clock was set back
		t.Errorf("stood still for %d ms, want 3000 or more", idle)
	}
}

func TestHealthFailing(t *testing.T) {
	t.Parallel()
	var h health
	start := time.UnixMilli(1_000_000)
	if _, forGood := h.failingSince(start, time.Hour); forGood {
		t.Error("an endpoint that has not failed fails for good")
	}
	h.failed(start)
	h.failed(start.Add(time.Minute))
	for _, c := range []struct {
		after, limit time.Duration
		want         bool
	}{{time.Hour - 1, time.Hour, false}, {time.Hour, time.Hour, true}, {time.Hour, -1, false}} {
		since, forGood := h.failingSince(start.Add(c.after), c.limit)
		if forGood != c.want || !since.Equal(start) {
			t.Errorf("after %s of %s: %t, since %s", c.after, c.limit, forGood, since)
		}
	}
}

// Time in which no attempt was possible is nobody's failure.
func TestHealthAttemptable(t *testing.T) {
	t.Parallel()
	const lease = 10 * time.Second
	start := time.UnixMilli(1_000_000)
	h := health{}
	h.attemptable(start, lease)
	h.failed(start)
	now := start
	for _, step := range []time.Duration{lease, 4 * time.Hour, lease / 3, -time.Hour, lease} { // a renewal that was late, a sleep, a clock set back
		now = now.Add(step)
		h.attemptable(now, lease)
	}
	if h.Away != (4*time.Hour).Milliseconds() || h.Idle != h.Away {
		t.Errorf("away for %d ms, idle for %d", h.Away, h.Idle)
	}
	now = start.Add(5 * time.Hour)
	if _, forGood := h.failingSince(now, time.Hour+time.Millisecond); forGood {
		t.Error("the time away counts for PauseAfter")
	}
	if since, forGood := h.failingSince(now, time.Hour); !forGood || !since.Equal(start) {
		t.Errorf("failing since %s, for good %t; want since %s", since, forGood, start)
	}
	h.trackStandstill(true, now)
	h.attemptable(now.Add(4*time.Hour), lease)
	if idle := h.IdledFor(now.Add(4 * time.Hour)); idle != (8 * time.Hour).Milliseconds() {
		t.Errorf("idle for %d ms: the time away counts twice while the endpoint stands still", idle)
	}
	h.Failing = 0
	h.failed(now)
	if h.Away != 0 {
		t.Errorf("away for %d ms since it fails again", h.Away)
	}
	h.saveSeen(false)
	seen := h.Seen
	h.Failing = 0
	if h.saveSeen(false); seen == 0 || h.Seen != 0 {
		t.Errorf("seen %d while it fails, %d when nothing does", seen, h.Seen)
	}
}

// Only the recovery from an outage is worth a notice.
func TestHealthReached(t *testing.T) {
	t.Parallel()
	open := time.UnixMilli(1_000_000)
	for _, c := range []struct {
		down   time.Duration
		notice bool
		want   int64
	}{{outage - time.Millisecond, true, 0}, {outage, true, open.UnixMilli()}, {outage, false, 0}} {
		h := health{Health: queue.Health{Open: open.UnixMilli()}}
		if h.reached(open.Add(c.down), c.notice); h.Trouble != c.want || h.Open != 0 {
			t.Errorf("down for %s, notice %t: trouble since %d, open since %d; want %d and 0", c.down, c.notice, h.Trouble, h.Open, c.want)
		}
	}
}

func TestSuspension(t *testing.T) {
	t.Parallel()
	var s suspension
	now := time.UnixMilli(1_000_000)
	if !s.suspend("one", now) || s.suspend("two", now) || s.reason != "one" || s.changes != 1 {
		t.Errorf("suspended because of %q, %d changes; want the first reason", s.reason, s.changes)
	}
	if !s.hold(now, now.Add(48*time.Hour)) || !s.until.Equal(now.Add(maxHold)) {
		t.Errorf("holds until %s, want a day at most", s.until)
	}
	if s.hold(now, now.Add(time.Minute)) || s.changes != 2 {
		t.Errorf("a shorter pause counts, %d changes", s.changes)
	}
	if s.adopt(&queue.Standing{Paused: "three"}) {
		t.Error("another reason resumes the endpoint")
	}
	if !s.adopt(&queue.Standing{}) || !s.equals(&queue.Standing{}) || s.changes != 2 {
		t.Errorf("after a resume: %+v", s)
	}
}

// Of a courier that rests Redis has its health as it is: what a renewal makes of it, time in which there was no owner, is written.
func TestHealthIsWrittenAfterRest(t *testing.T) {
	t.Parallel()
	c := quietCourier(t)
	if c.restLocked(); c.activity != nil {
		t.Fatal("it does not rest")
	}
	standing := queue.Standing{Owned: true}
	c.applyStanding(standing, 0, time.Now(), c.lease.until)
	if c.activity != nil {
		t.Fatal("it does not rest, and nothing has changed")
	}
	const away = 1000
	c.health.seen -= away // the machine was asleep
	c.applyStanding(standing, 0, time.Now(), c.lease.until)
	c.running.Wait()
	kept, _, err := c.owner.Load(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if c.health.Idle < away || kept.Idle != c.health.Idle {
		t.Errorf("redis has %d ms of standing still, and the courier %d, want at least %d", kept.Idle, c.health.Idle, away)
	}
}
