package dispatch

import (
	"context"
	"time"

	"gancho/delivery/queue"
	"gancho/internal/retry"
)

// writing is the results that Redis does not have. While a goroutine writes the
// outgoing ones, which are its own, and however long Redis is unreachable, new
// ones gather in results. The rest is guarded by the courier's mutex.
type writing struct {
	results, outgoing queue.Results
	active            bool
	// overflowing: the oldest events are to be moved out of Redis until keep are left
	// there. It ends with that, or an error; whoever measures backlogs asks again.
	overflowing bool
	keep        int64
}

// Under load, but not after a quiet time, results gather for a moment, unless there are
// many: a call of Redis for each event would cost more than its way into the queue.
const (
	gatherFor  = time.Millisecond
	gatherMany = 64
)

// unwrittenWindows is how many windows of results may wait to be written. Beyond that
// nothing more is read or sent: while results cannot be written, events can still be read
// where the state database alone is unreachable, or Redis refuses to write to a full disk.
const unwrittenWindows = 8

// unwrittenFullLocked reports whether no more results have room. applyWritten goes on.
func (c *courier) unwrittenFullLocked() bool {
	if c.activity == nil {
		return false
	}
	events, bytes := c.fullWindowLocked()
	w := &c.writing
	return w.results.Len()+w.outgoing.Len() >= unwrittenWindows*events || w.results.LogBytes()+w.outgoing.LogBytes() >= unwrittenWindows*bytes
}

func (c *courier) startWritingLocked() {
	if c.writing.active || c.lease.lost || c.writing.results.Empty() && c.health.Health == c.saved && !c.writing.overflowing {
		return
	}
	c.writing.active = true
	c.spawnWriter(c.write)
}

// write writes results until there are none, however long Redis is unreachable:
// what was delivered is not sent again while this process lives.
func (c *courier) write(ctx context.Context) {
	for failures := 0; failures > 0 || c.nextResults(); {
		owned, err := true, error(nil)
		if !c.writing.outgoing.Empty() {
			owned, err = c.owner.Write(ctx, &c.writing.outgoing)
		}
		if err != nil {
			if failures++; !c.retryWrite(ctx, failures, err) {
				return
			}
			continue
		}
		if failures > 0 {
			c.log.Info().Str("endpoint", c.name).Msg("deliveries are acknowledged again")
		}
		failures = 0
		if gather := c.applyWritten(owned); c.overflows() {
			c.moveOldest(ctx)
		} else if gather {
			_ = retry.Wait(ctx, gatherFor) // the next write sees the context's end
		}
	}
}

// nextResults returns whether there is anything to write. Health is written with the
// results: an endpoint that fails every second time changes it with each answer.
func (c *courier) nextResults() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.health.Health != c.saved {
		c.writing.results.SetHealth(&c.health.Health)
		c.saved = c.health.Health
	}
	w := &c.writing
	w.overflowing = w.overflowing && !c.lease.closing
	if w.active = !c.lease.lost && (!w.results.Empty() || w.overflowing); w.active {
		w.outgoing, w.results = w.results, w.outgoing
		return true
	}
	c.restLocked()
	return false
}

func (c *courier) retryWrite(ctx context.Context, failures int, err error) bool {
	if failures == 1 {
		c.log.Warn().Err(err).Str("endpoint", c.name).Msg("deliveries not acknowledged: trying again")
	}
	waited := retry.Wait(ctx, queue.Backoff(failures)) == nil
	c.mu.Lock()
	defer c.mu.Unlock()
	if waited {
		return !c.lease.lost
	}
	c.log.Warn().Err(err).Str("endpoint", c.name).Int("events", c.writing.outgoing.Len()+c.writing.results.Len()).
		Msg("results of these deliveries were not saved at shutdown: they will be sent again")
	c.writing.active = false
	return false
}

// applyWritten applies Redis's answer to a write; true: let more results gather.
func (c *courier) applyWritten(owned bool) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	if !owned {
		c.loseLeaseLocked("another process has it")
		return false
	}
	out, full := &c.writing.outgoing, c.unwrittenFullLocked()
	for i := range out.Dead { // one that Redis loses comes again
		id := out.Dead[i].ID
		delete(c.reading.skip, id)
		if n, ok := c.notices.confirmDead(id); ok {
			c.notifyLocked(n)
		}
	}
	if out.Len() > 0 {
		c.touched = time.Now() // Redis may lose what it has written just now, however long ago it was sent
	}
	out.Reset()
	c.reloadAfterRestartLocked()
	if full {
		c.resumeLocked(time.Now())
	}
	return !c.lease.closing && c.writing.results.Len() < gatherMany && !c.writing.results.ChangesState()
}
