package dispatch

import (
	"math/rand/v2"
	"strconv"
	"time"

	"gancho/delivery/endpoint"
	"gancho/delivery/queue"
)

// An event has two budgets: attempts, counted on two schedules, and age.
//
// An attempt that the receiver has refused as wrong counts on RetryRefused, any
// other failure on Retry, and the kind of the last one says which of the two
// goes on: an event that was refused twice while a deployment was under way
// still has all of Retry for a failure of the network. The event is given up
// when the schedule that is to go on has no step left.
//
// Age runs from the first failure, and stands still with the endpoint: while
// it is paused or its breaker is open, no event grows older (see health). The
// last attempt is at the age of MaxAge, should the schedule go beyond it; one
// that fails then or later is the last.

// jitter is how much longer than the schedule a wait may be: events that
// failed together do not come back together.
const jitter = 0.2

// scheduleOf returns the waits that the event's next attempt is taken from, and
// which of them it is, from 1; 0: none has been used yet.
func scheduleOf(ep *endpoint.Endpoint, a *queue.Attempts) ([]time.Duration, int) {
	if a.Wrong {
		return ep.RetryRefused, a.Refused
	}
	return ep.Retry, a.N - a.Refused - a.Apart
}

// nextWait returns how long to wait before the next attempt, and false when there
// is none left.
func nextWait(ep *endpoint.Endpoint, a *queue.Attempts) (time.Duration, bool) {
	schedule, n := scheduleOf(ep, a)
	if n > len(schedule) {
		return 0, false
	}
	if n < 1 {
		return 0, true
	}
	d := schedule[n-1]
	return d + time.Duration(rand.Float64()*jitter*float64(d)), true
}

// longestWait is the longest that nextWait returns; of a schedule that has run out, its
// last step, which an event that waits has been promised.
func longestWait(ep *endpoint.Endpoint, a *queue.Attempts) time.Duration {
	schedule, n := scheduleOf(ep, a)
	if n = min(n, len(schedule)); n < 1 {
		return 0
	}
	return time.Duration((1 + jitter) * float64(schedule[n-1]))
}

// deadline is when the event has the age of MaxAge. Call it with mu held.
func (c *courier) deadline(a *queue.Attempts, now time.Time) time.Time {
	idle := time.Duration(max(0, c.health.IdledFor(now)-a.Idle)) * time.Millisecond
	return a.First.Add(c.ep.MaxAge + idle)
}

// schedule sets when the event is due again; or it says why it is given up.
// Call it with mu held.
func (c *courier) schedule(a *queue.Attempts, now time.Time) (why string) {
	wait, more := nextWait(c.ep, a)
	deadline := c.deadline(a, now)
	n := strconv.Itoa(a.N) + " attempts"
	if a.N == 1 {
		n = "1 attempt"
	}
	switch {
	case !now.Before(deadline):
		return "no success in " + n + " within " + c.ep.MaxAge.String() + " (max_age)"
	case !more && a.Wrong:
		return "the receiver has refused it: no success in " + n
	case !more:
		return "no success in " + n
	}
	a.Due = now.Add(wait)
	if a.Due.Before(c.hold) {
		a.Due = c.hold
	}
	if a.Due.After(deadline) {
		a.Due = deadline
	}
	return ""
}

// refit brings what waits in line with changed settings: an event that a
// shorter schedule would have sent earlier is due earlier, and one that blocks
// its key at an endpoint that does not want that any more has another attempt.
// A longer schedule holds from the next failure on. Call it with mu held.
func (c *courier) refit(now time.Time) {
	for id, a := range c.retries {
		switch {
		case a.Blocked && c.ep.OnExhausted == endpoint.Block || a.Last.IsZero():
			continue
		case a.Blocked:
			a.Blocked, a.Due = false, now
		default:
			for _, t := range [...]time.Time{a.Last.Add(longestWait(c.ep, &a)), c.deadline(&a, now)} {
				if t.Before(a.Due) {
					a.Due = t
				}
			}
		}
		c.retries[id] = a
	}
	c.lanes.reschedule(func(first queue.ID) (due time.Time, blocked bool) {
		a := c.retries[first]
		return a.Due, a.Blocked
	})
}

// hastenAll gives each event that has failed one more attempt now. Call it with
// mu held.
func (c *courier) hastenAll(now time.Time) {
	for id, a := range c.retries {
		if a.Blocked || a.Due.After(now) {
			a.Blocked, a.Due = false, now
			c.retries[id] = a
		}
	}
	c.lanes.reschedule(func(queue.ID) (due time.Time, blocked bool) { return now, false })
}
