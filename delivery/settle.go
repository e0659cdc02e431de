package delivery

import (
	"context"
	"net/http"
	"strconv"
	"time"
)

// settle notes how an attempt ended, and returns its number, from 1; 0: there
// was none worth telling of. Call it with mu held.
func (c *courier) settle(j *job, o *Outcome, now time.Time) int {
	if j.again && j.err == nil {
		c.readFailures = 0
	}
	switch {
	case j.msg == nil && j.err != nil:
		c.stall = now.Add(c.redisFailed("events cannot be read", j.err))
		c.unsent(j)
		return 0
	case j.msg == nil:
		c.vanished(j)
		return 0
	case o.Class == ClassCanceled:
		c.unsent(j) // we are stopping: no attempt was used up
		return 0
	}
	n, dead := j.prior.N+1, len(c.results.dead)
	switch o.Kind {
	case Delivered:
		c.answered(j)
		c.finish(j)
	case Gone:
		c.answered(j)
		c.lanes.again(j.lane)
		c.pause("the receiver answered 410 Gone", now)
	default:
		c.failed(j, o, now)
	}
	if c.o.Log {
		c.results.log.add(j, o, n, len(c.results.dead) > dead, c.o.KeepEvents, now)
	}
	c.startWrite()
	return n
}

// unsent puts an event back that was not sent.
func (c *courier) unsent(j *job) {
	if j.probe {
		c.breaker.probeLost()
	}
	c.lanes.again(j.lane)
}

// vanished removes an event that is in its stream no more: somebody deleted
// it, or Redis has lost it. Then it is appended again, at a place that may
// have been read already; so it must not be deleted.
func (c *courier) vanished(j *job) {
	if j.probe {
		c.breaker.probeLost()
	}
	if j.prior.N > 0 {
		delete(c.retries, j.id)
		c.results.forgotten = append(c.results.forgotten, j.id)
	}
	delete(c.skip, j.id)
	c.lanes.advance(j.lane)
	c.startWrite()
	if !c.checkGeneration() && c.restarts > 0 {
		c.reload()
	}
}

// finish removes an event that was delivered from its lane.
func (c *courier) finish(j *job) {
	c.recent.add(j.id)
	if c.skip != nil {
		c.skip[j.id] = true
	}
	if j.prior.N > 0 {
		delete(c.retries, j.id)
		c.results.clean = append(c.results.clean, j.id)
	} else {
		c.results.done = append(c.results.done, j.id)
	}
	c.lanes.advance(j.lane)
}

func (c *courier) answered(j *job) {
	if j.probe {
		c.breaker.probeLost()
	}
	if c.breaker.answered() {
		c.log.Info().Str("endpoint", c.name).Msg("endpoint answers again")
		c.startWorkers()
	}
}

// failed schedules the repeat of an event, or gives it up.
func (c *courier) failed(j *job, o *Outcome, now time.Time) {
	switch {
	case !endpointFailure(o):
		c.answered(j)
	case j.probe && c.breaker.open:
		// Time in which the endpoint is down uses no attempts up. The next
		// probe is with another event, in case it is this one's fault.
		c.breaker.probeFailed(now)
		c.lanes.again(j.lane)
		c.arm(c.breaker.next)
		return
	case c.breaker.failed(now, j.lane.key):
		c.log.Warn().Str("endpoint", c.name).Dur("probe_in_ms", c.breaker.wait).
			Msg("endpoint fails for all of its events: only probes are sent until it answers")
		for _, l := range c.lanes.lanes {
			c.lanes.dropBodies(l)
		}
		c.arm(c.breaker.next)
	}
	a := j.prior.after(o, now)
	wait, more := j.ep.wait(a.N)
	if !more {
		c.exhausted(j, a, now)
		return
	}
	a.due = now.Add(wait)
	if o.RetryAfter > 0 && (o.Status == http.StatusTooManyRequests || o.Status == http.StatusServiceUnavailable) {
		c.askedToHold(now.Add(o.RetryAfter))
		if a.due.Before(c.hold) {
			a.due = c.hold
		}
	}
	c.keep(j, a)
	c.lanes.hold(j.lane, a.due)
	c.arm(a.due)
}

// maxHold is the longest pause that a receiver may ask for.
const maxHold = 24 * time.Hour

func (c *courier) askedToHold(until time.Time) {
	if latest := time.Now().Add(maxHold); until.After(latest) {
		until = latest
	}
	if until.After(c.hold) {
		c.hold = until
		c.stateChanges++
		c.results.state = append(c.results.state, heldState(until)...)
		c.log.Info().Str("endpoint", c.name).Time("until", until).Msg("endpoint asked for a pause")
	}
}

// keep remembers a failed event's attempts, here and in Redis.
func (c *courier) keep(j *job, a attempts) {
	// Here the answer is of no use, and a million of them would be.
	short := a
	short.Answer, short.Error = "", ""
	c.retries[j.id] = short
	c.results.retries = append(c.results.retries, retryResult{j.id, a})
}

// exhausted does what the endpoint wants done with an event whose last attempt
// has failed.
func (c *courier) exhausted(j *job, a attempts, now time.Time) {
	e := c.log.Error().Str("endpoint", c.name).Str("event", j.msg.Type).Str("webhook_id", j.msg.ID).Int("attempts", a.N)
	switch j.ep.OnExhausted {
	case Block:
		a.blocked = true
		c.keep(j, a)
		c.lanes.block(j.lane)
		e.Msg("attempts exhausted: the event's key is blocked")
	case Pause:
		a.due = now // one more attempt when the endpoint goes on
		c.keep(j, a)
		c.lanes.again(j.lane)
		c.pause("an event's attempts were exhausted: "+j.msg.ID, now)
		e.Msg("attempts exhausted: the endpoint is paused")
	default:
		delete(c.retries, j.id)
		c.results.dead = append(c.results.dead, deadResult{j.id, deadReason(&a), a})
		c.lanes.advance(j.lane)
		e.Msg("attempts exhausted: the event went to the dead letters")
	}
}

func deadReason(a *attempts) string {
	return "no success in " + strconv.Itoa(a.N) + " attempts"
}

func (c *courier) pause(reason string, now time.Time) {
	if c.paused != "" {
		return
	}
	c.paused = reason
	c.stateChanges++
	c.results.state = append(c.results.state, pausedState(reason, now)...)
	c.log.Error().Str("endpoint", c.name).Str("reason", reason).Msg("endpoint paused: its events are kept until it is unpaused")
	for _, l := range c.lanes.lanes {
		c.lanes.dropBodies(l)
	}
}

// startWrite writes results, unless that is under way. Call it with mu held.
func (c *courier) startWrite() {
	if c.writing || c.lost || c.results.empty() {
		return
	}
	c.writing = true
	c.spawnWriter(c.writeAll)
}

// Under load, results are gathered for a moment, unless there are many
// already: a call of Redis for each event would cost more than the event's way
// into the queue. The first after a quiet time is written at once.
const (
	gatherFor  = time.Millisecond
	gatherMany = 64
)

// writeAll writes results until there are none, however long Redis is away:
// what was delivered is not sent again while this process lives.
func (c *courier) writeAll(ctx context.Context) {
	for failures := 0; c.takeResults(); {
		owned, err := c.q.write(ctx, c.name, c.claim, &c.outgoing)
		for err != nil {
			failures++
			if !c.writeFailed(ctx, failures, err) {
				return
			}
			owned, err = c.q.write(ctx, c.name, c.claim, &c.outgoing)
		}
		if failures > 0 {
			c.log.Info().Str("endpoint", c.name).Msg("deliveries are acknowledged again")
		}
		failures = 0
		if c.written(owned) {
			pause(ctx, gatherFor)
		}
	}
}

// takeResults makes what has gathered the next to be written. Without any,
// the writer ends.
func (c *courier) takeResults() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.writing = !c.lost && !c.results.empty()
	if c.writing {
		c.outgoing, c.results = c.results, c.outgoing
	}
	return c.writing
}

// writeFailed waits, and reports whether to try again.
func (c *courier) writeFailed(ctx context.Context, failures int, err error) bool {
	if failures == 1 {
		c.log.Warn().Err(err).Str("endpoint", c.name).Msg("deliveries cannot be acknowledged now: trying again")
	}
	if pause(ctx, backoff(failures)) {
		c.mu.Lock()
		defer c.mu.Unlock()
		return !c.lost
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.log.Warn().Str("endpoint", c.name).Int("events", c.outgoing.len()+c.results.len()).
		Msg("stopped without redis: what these deliveries came to is not known to it, so they will be repeated")
	c.writing = false
	return false
}

// written looks at the answer of a write, and reports whether to gather.
func (c *courier) written(owned bool) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	if !owned {
		c.lose("another process has it")
		return false
	}
	for i := range c.outgoing.dead { // one that was lost with the tail comes again
		delete(c.skip, c.outgoing.dead[i].id)
	}
	c.outgoing.reset()
	c.checkGeneration()
	return !c.closing && c.results.len() < gatherMany && len(c.results.state) == 0
}

// lose stops everything: the endpoint is somebody else's. Call it with mu held.
func (c *courier) lose(why string) {
	if c.lost {
		return
	}
	if !c.closing {
		c.log.Warn().Str("endpoint", c.name).Str("why", why).Msg("lease lost: deliveries to the endpoint stop here")
	}
	c.lost, c.closing = true, true
	c.timer.Stop()
	c.abort()
}

// backoff is the wait after the n-th failure of Redis in a row.
func backoff(n int) time.Duration {
	const first, last = 50 * time.Millisecond, 2 * time.Second
	return min(first<<min(n-1, 6), last)
}

// redisFailed counts failures of reading, tells of the first, and returns how
// long to wait. Call it with mu held.
func (c *courier) redisFailed(what string, err error) time.Duration {
	c.readFailures++
	if c.readFailures == 1 && !c.closing {
		c.log.Warn().Err(err).Str("endpoint", c.name).Msg(what + ": trying again")
	}
	return backoff(c.readFailures)
}
