package bridge

import (
	"context"
	"errors"
	"slices"
	"sync"
	"time"

	"golang.org/x/sync/errgroup"

	"gancho/cdc"
	"gancho/delivery/queue"
	"gancho/internal/retry"
)

// A rule with after makes its event when time has passed. Its timers are in Redis (delivery/queue/timers.go), set and canceled by
// what is appended. A timer that is due at a time is fired when the source's clock is past it, and everything that was
// committed until then has been mapped, appended and applied: a change that cancels it may be on its way.
//
// The timers of all rules are fired in the order of their times, in one lane. A rule whose timers cannot be fired, such as one whose table is
// locked or may not be read any more, leaves it for another lane, where only such rules wait.

const (
	// timerMargin is how long after it is due, by the source's clock, a timer is fired: a commit has its time a moment
	// before it is in the WAL.
	timerMargin = 250 * time.Millisecond
	// timersIdle is the most time between two questions to the source for its clock, which may be set, while there are timers;
	// timersNone between two looks for timers while there are none, and timersSoon the least after a failure.
	timersIdle = 30 * time.Second
	timersNone = 10 * time.Minute
	timersSoon = 100 * time.Millisecond
	// timersAway is the time between two looks whether this process captures.
	timersAway = time.Second
	// askFirst and askMost are the time between two questions to the source how far the stream is, and nudgeAfter after how long it is made to move: what
	// it has written last may be nothing that the stream ends at.
	askFirst   = 25 * time.Millisecond
	askMost    = time.Second
	nudgeAfter = 2 * time.Second
	// timersPage is how many timers are fired at once at most: while they are, events of changes are on their way, too.
	timersPage = 64
)

// timers fires timers.
type timers struct {
	*capture
	complaint complaint
	// clock, shown, the events in the metric of pending timers, and gone, the rules of timers that were warned of, are of the lane of
	// all rules.
	clock sourceClock
	shown map[string]int64
	gone  map[string]bool

	mu       sync.Mutex
	stuck    map[string]*stuckRule // the rules of the other lane; guarded by mu
	sequence uint64                // of the newest event, without its position; guarded by mu
	sticks   chan struct{}         // capacity 1: a rule was added to stuck
}

// stuckRule is one whose timers cannot be fired.
type stuckRule struct {
	complaint
	place string
	err   error // why, when that was last found
}

// sourceClock estimates the source's clock by the time that has passed since it was read: that does not jump when this machine's clock is set.
type sourceClock struct{ at, asked time.Time }

// now returns what the clock shows; false: it has to be read again.
func (c *sourceClock) now() (time.Time, bool) {
	passed := time.Since(c.asked)
	return c.at.Add(passed), !c.asked.IsZero() && passed < timersIdle
}

// runTimers fires timers while this process captures, until the context ends.
func (c *capture) runTimers(ctx context.Context) error {
	t := &timers{capture: c, stuck: map[string]*stuckRule{}, sticks: make(chan struct{}, 1), complaint: complaint{
		log: c.Log, failed: "timers cannot be fired; those that are due are late, and none is lost", again: "timers are fired again",
	}}
	group, ctx := errgroup.WithContext(ctx)
	group.Go(func() error { return t.runDue(ctx) })
	group.Go(func() error { return t.runStuck(ctx) })
	return group.Wait()
}

// runDue is the lane of all rules that are not stuck.
func (t *timers) runDue(ctx context.Context) error {
	lane := newTimerLane(t, duePatience)
	defer lane.close(ctx)
	backoff := retry.Backoff{Min: timersSoon, Max: appendBackoff.Max}
	for tries, wait := 0, timersSoon; ; {
		timer := time.NewTimer(wait)
		select {
		case <-ctx.Done():
			timer.Stop()
			return nil
		case <-t.stage.timers:
		case <-timer.C:
		}
		timer.Stop()
		if !t.firing() {
			if !t.capturing() { // who does shows them
				t.count(nil)
			}
			wait = timersAway
			continue
		}
		next, err := t.turn(ctx, lane)
		switch {
		case err == nil:
			tries, wait = 0, next
			t.complaint.over()
			continue
		case ctx.Err() == nil && !passesOver(err):
			t.complaint.about(err)
		}
		tries++
		wait = backoff.Delay(tries)
	}
}

// firing reports whether this process captures, and knows how far.
func (t *timers) firing() bool {
	switch {
	case !t.capturing():
	case t.stage.handles(1):
		return true
	default:
		t.reader.Ask() // how far the stream is
	}
	return false
}

// passesOver: the stage sees to it.
func passesOver(err error) bool {
	return errors.Is(err, queue.ErrRestarted) || errors.Is(err, queue.ErrFenced)
}

// turn applies what was appended, fires what is due, and returns how long to wait for the next one.
func (t *timers) turn(ctx context.Context, lane *timerLane) (time.Duration, error) {
	if err := t.queue.ApplyTimers(ctx); err != nil {
		return 0, err
	}
	pending, err := t.queue.Timers(ctx)
	if err != nil {
		return 0, err
	}
	stuck := t.stuckRules()
	t.count(pending)
	var next time.Time
	for rule, of := range pending {
		if !of.Next.IsZero() && !slices.Contains(stuck, rule) && (next.IsZero() || of.Next.Before(next)) {
			next = of.Next
		}
	}
	if next.IsZero() {
		return timersNone, nil
	}
	if now, known := t.clock.now(); known {
		if wait := next.Add(timerMargin).Sub(now); wait > 0 {
			return min(wait, timersIdle), nil
		}
	}
	mark, err := t.mark(ctx)
	if err != nil {
		return 0, err
	}
	t.clock = sourceClock{mark.At, time.Now()}
	if wait := next.Add(timerMargin).Sub(mark.At); wait > 0 {
		return min(wait, timersIdle), nil
	}
	return 0, lane.fireUpTo(ctx, mark, queue.WhichTimers{But: stuck})
}

// count shows how many timers are pending, and warns of those whose rule is gone while it can still be put back.
func (t *timers) count(pending map[string]queue.TimerCount) {
	rules, counts, gone := t.bound.Load(), map[string]int64{}, map[string]bool{}
	for event := range t.shown {
		counts[event] = 0
	}
	for rule, of := range pending {
		known, is := rules.TimerRule(rule)
		counts[known.Event] += of.Pending
		if is || of.Pending == 0 {
			continue
		}
		if gone[rule] = true; !t.gone[rule] {
			t.Log.Warn().Str("of", rule).Int64("timers", of.Pending).Time("next", of.Next).
				Msg("timers wait whose rule is gone, or has no after any more; they are dropped when they are due, unless it is put back")
		}
	}
	t.gone = gone
	for event, n := range counts {
		t.metrics.timersPending.WithLabelValues(event).Set(float64(n))
	}
	t.shown = counts
}

// mark reads the source's clock and the end of its WAL.
func (t *timers) mark(ctx context.Context) (cdc.Mark, error) {
	mark, err := t.gauge.Mark(ctx)
	if err == nil && mark.At.IsZero() {
		err = errors.New("the source does not know the time: it is a standby that has heard nothing of its primary")
	}
	return mark, err
}

// await waits until every change before a position has been mapped.
func (t *timers) await(ctx context.Context, lsn cdc.LSN) error {
	nudge := time.Now().Add(nudgeAfter)
	asks := retry.Backoff{Min: askFirst, Max: askMost}
	for tries := 1; !t.stage.handles(lsn); tries++ {
		if !t.stage.handles(1) {
			return queue.ErrRestarted // capture goes back
		}
		if err := t.waiting(); err != nil {
			return err
		}
		t.reader.Ask()
		if time.Now().After(nudge) {
			t.reads.nudge(ctx)
			nudge = time.Now().Add(nudgeAfter)
		}
		if err := retry.Wait(ctx, asks.Delay(tries)); err != nil {
			return err
		}
	}
	return nil
}

// room returns a *queue.MemoryError where capture would wait for memory of Redis: events of timers take it as well. What cannot be measured
// is no reason to wait.
func (t *timers) room(ctx context.Context) error {
	limit := t.stage.memory.limit
	if limit <= 0 || limit >= 100 {
		return nil
	}
	if used, err := t.queue.MemoryPercent(ctx); err == nil && used >= limit {
		return &queue.MemoryError{Percent: used, Resume: limit - memoryReserve}
	}
	return nil
}

// sequences is where the sequences of n events begin behind a position, in units of 10 microseconds of the source's clock: two turns may have the same
// position, and what comes later has to be higher, in another process too.
func (t *timers) sequences(at time.Time, n int) uint64 {
	t.mu.Lock()
	defer t.mu.Unlock()
	first := max(t.sequence+1, uint64(max(0, at.Sub(sequenceEpoch)/(10*time.Microsecond))))
	t.sequence = first + uint64(n)
	return first
}

// sequenceEpoch is before all clocks; an ordinal has room for 89 years of them.
var sequenceEpoch = time.Date(2020, 1, 1, 0, 0, 0, 0, time.UTC)

// stuckRules are the rules of the other lane.
func (t *timers) stuckRules() []string {
	t.mu.Lock()
	defer t.mu.Unlock()
	return sortedKeys(t.stuck)
}

// stick moves a rule to the other lane.
func (t *timers) stick(rule string, err error) {
	of, _ := t.bound.Load().TimerRule(rule)
	r := &stuckRule{place: of.Place, err: err, complaint: complaint{
		log:    t.Log.With().Str("rule", of.Place).Str("event", of.Event).Logger(),
		failed: "the timers of a rule cannot be fired; they are late, none is lost, and those of other rules are fired",
		again:  "the timers of the rule are fired again",
	}}
	t.mu.Lock()
	t.stuck[rule] = r
	t.showStuckLocked()
	t.mu.Unlock()
	r.about(err)
	signal(t.sticks)
}

// showStuckLocked has readiness name one of the rules that are stuck, always the same one.
func (t *timers) showStuckLocked() {
	rules := sortedKeys(t.stuck)
	if len(rules) == 0 {
		t.timersTrouble.Store(nil)
		return
	}
	first := t.stuck[rules[0]]
	t.timersTrouble.Store(&stuckTimersError{rule: first.place, err: first.err})
}

// complain says again that the timers of a rule cannot be fired.
func (t *timers) complain(rule string, err error) {
	t.mu.Lock()
	r := t.stuck[rule]
	if r != nil {
		r.err = err
		t.showStuckLocked()
	}
	t.mu.Unlock()
	if r != nil {
		r.about(err)
	}
}

// unstick moves a rule back.
func (t *timers) unstick(rule string) {
	t.mu.Lock()
	r := t.stuck[rule]
	delete(t.stuck, rule)
	t.showStuckLocked()
	t.mu.Unlock()
	if r != nil {
		r.over()
	}
	signal(t.stage.timers)
}

// release moves all rules back: another process fires their timers now, and this one would say for ever that it cannot.
func (t *timers) release() {
	t.mu.Lock()
	clear(t.stuck)
	t.showStuckLocked()
	t.mu.Unlock()
}

// runStuck is the lane of the rules whose timers could not be fired.
func (t *timers) runStuck(ctx context.Context) error {
	lanes := map[string]*timerLane{}
	closeLanes := func() {
		for _, lane := range lanes {
			lane.close(ctx)
		}
		clear(lanes)
	}
	defer closeLanes()
	backoff := retry.Backoff{Min: stuckSoon, Max: complainEvery}
	for tries := 0; ; {
		if len(t.stuckRules()) == 0 {
			tries = 0
			select {
			case <-ctx.Done():
				return nil
			case <-t.sticks:
			}
		}
		tries++
		if err := retry.Wait(ctx, backoff.Delay(tries)); err != nil {
			return nil
		}
		if !t.firing() {
			if !t.capturing() {
				t.release()
				closeLanes()
			}
			continue
		}
		for _, rule := range t.stuckRules() {
			lane := lanes[rule]
			if lane == nil {
				lane = newTimerLane(t, stuckPatience)
				lane.alone, lanes[rule] = rule, lane
			}
			mark, err := t.mark(ctx)
			if err == nil {
				err = lane.fireUpTo(ctx, mark, queue.WhichTimers{Only: []string{rule}})
			}
			switch {
			case err == nil:
				t.unstick(rule)
				lane.close(ctx)
				delete(lanes, rule)
			case ctx.Err() == nil && !passesOver(err):
				t.complain(rule, err)
			}
		}
	}
}
