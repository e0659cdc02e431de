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
// other failure on Retry, and the last failure selects the schedule: an event
// refused twice during a deployment still has all of Retry for a failure of the
// network. The event is exhausted when the selected schedule has no step left.
//
// Age runs from the first failure, and stands still with the endpoint (see
// health). If the schedule goes beyond MaxAge, the last attempt is at that age;
// one that fails then or later is the last.

// jitter is by how much waits are spread: what failed together does not come back together.
const jitter = 0.2

// scheduleOf returns the waits from which the event's next one is taken, and
// its number, from 1; 0: none has been used yet.
func scheduleOf(ep *endpoint.Endpoint, a *queue.Attempts) ([]time.Duration, int) {
	if a.Wrong {
		return ep.RetryRefused, a.Refused
	}
	return ep.Retry, a.N - a.Refused - a.Apart
}

// nextWait returns the backoff before the next attempt; false: none is left.
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

// longestWait is the longest that nextWait returns; of a schedule that is used
// up, its last step, which an event that waits has been promised.
func longestWait(ep *endpoint.Endpoint, a *queue.Attempts) time.Duration {
	schedule, n := scheduleOf(ep, a)
	if n = min(n, len(schedule)); n < 1 {
		return 0
	}
	return time.Duration((1 + jitter) * float64(schedule[n-1]))
}

// deadline is when the event has the age of MaxAge; idled: for how many ms the endpoint stood still.
func deadline(ep *endpoint.Endpoint, a *queue.Attempts, idled int64) time.Time {
	return a.First.Add(ep.MaxAge + time.Duration(max(0, idled-a.Idle))*time.Millisecond)
}

// failures are the attempts of the events that have failed and are not done, without
// what the receiver answered: here it is of no use, and there may be a million of them.
type failures map[queue.ID]queue.Attempts

func (f failures) keep(id queue.ID, a queue.Attempts) {
	a.Answer, a.Error = "", ""
	f[id] = a
}

func (f failures) hasten(now time.Time) {
	for id, a := range f {
		if a.Blocked || a.Due.After(now) {
			a.Blocked, a.Due = false, now
			f[id] = a
		}
	}
}

// refit adopts changed settings: a shorter schedule makes events due earlier,
// and one that blocks its key, which the endpoint no longer wants, has another
// attempt. A longer schedule holds from the next failure on.
func (f failures) refit(ep *endpoint.Endpoint, idled int64, now time.Time) {
	for id, a := range f {
		switch {
		case a.Blocked && ep.OnExhausted == endpoint.Block || a.Last.IsZero():
			continue
		case a.Blocked:
			a.Blocked, a.Due = false, now
		default:
			for _, t := range [...]time.Time{a.Last.Add(longestWait(ep, &a)), deadline(ep, &a, idled)} {
				if t.Before(a.Due) {
					a.Due = t
				}
			}
		}
		f[id] = a
	}
}

func (c *courier) refitFailuresLocked(now time.Time) {
	c.failures.refit(c.ep, c.health.IdledFor(now), now)
	c.lanes.reschedule(func(first queue.ID) (due time.Time, blocked bool) {
		a := c.failures[first]
		return a.Due, a.Blocked
	})
}

// scheduleLocked sets when the event is due again, or returns why it never is.
func (c *courier) scheduleLocked(a *queue.Attempts, now time.Time) (why string) {
	wait, more := nextWait(c.ep, a)
	last := deadline(c.ep, a, c.health.IdledFor(now))
	n := strconv.Itoa(a.N) + " attempts"
	if a.N == 1 {
		n = "1 attempt"
	}
	switch {
	case !now.Before(last):
		return "no success in " + n + " within " + c.ep.MaxAge.String() + " (max_age)"
	case !more && a.Wrong:
		return "the receiver has refused it: no success in " + n
	case !more:
		return "no success in " + n
	}
	a.Due = now.Add(wait)
	if a.Due.Before(c.suspension.until) {
		a.Due = c.suspension.until
	}
	if a.Due.After(last) {
		a.Due = last
	}
	return ""
}

// retries are of what Redis, or the receiver of notices, has not done yet.
type retries struct {
	failures int       // in a row
	retryAt  time.Time // nothing is tried before
}

// failed puts the next try off; first: this is the first failure in a row.
func (r *retries) failed(now time.Time) (first bool) {
	r.failures++
	r.retryAt = now.Add(queue.Backoff(r.failures))
	return r.failures == 1
}
