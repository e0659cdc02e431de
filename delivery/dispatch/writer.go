package dispatch

import (
	"context"
	"time"

	"gancho/delivery/queue"
)

// startWrite writes results, unless that is under way. Call it with mu held.
func (c *courier) startWrite() {
	if c.writing || c.lost || c.results.Empty() && c.health == c.healthKept {
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
		owned, err := c.owner.Write(ctx, &c.outgoing)
		for err != nil {
			failures++
			if !c.writeFailed(ctx, failures, err) {
				return
			}
			owned, err = c.owner.Write(ctx, &c.outgoing)
		}
		if failures > 0 {
			c.log.Info().Str("endpoint", c.name).Msg("deliveries are acknowledged again")
		}
		failures = 0
		if c.written(owned) {
			queue.Pause(ctx, gatherFor)
		}
	}
}

// takeResults makes what has gathered the next to be written. Without any,
// the writer ends.
func (c *courier) takeResults() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.keepHealth()
	c.writing = !c.lost && !c.results.Empty()
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
	if queue.Pause(ctx, queue.Backoff(failures)) {
		c.mu.Lock()
		defer c.mu.Unlock()
		return !c.lost
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.log.Warn().Str("endpoint", c.name).Int("events", c.outgoing.Len()+c.results.Len()).
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
	for i := range c.outgoing.Dead { // one that was lost with the tail comes again
		id := c.outgoing.Dead[i].ID
		delete(c.skip, id)
		if n, ok := c.notices.burials[id]; ok {
			delete(c.notices.burials, id)
			c.tell(n)
		}
	}
	c.outgoing.Reset()
	c.checkGeneration()
	return !c.closing && c.results.Len() < gatherMany && !c.results.ChangesState()
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

// redisFailed counts failures of reading, tells of the first, and returns how
// long to wait. Call it with mu held.
func (c *courier) redisFailed(what string, err error) time.Duration {
	c.readFailures++
	if c.readFailures == 1 && !c.closing {
		c.log.Warn().Err(err).Str("endpoint", c.name).Msg(what + ": trying again")
	}
	return queue.Backoff(c.readFailures)
}
