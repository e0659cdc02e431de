package dispatch

import (
	"context"
	"time"

	"gancho/delivery/endpoint"
)

// moveInactiveFor is how long this process has an inactive endpoint after it was asked to move
// its events. Whoever measures the backlogs asks each second.
const moveInactiveFor = 10 * time.Second

// Overflow has the oldest events of endpoints be moved out of Redis, until so many of each are left
// there, as far as this process delivers to them: see queue.Overflow. Nobody delivers to an
// inactive one: it is acquired for that.
func (d *Dispatcher) Overflow(keep map[string]int64) {
	for name, n := range keep {
		if c := d.courier(name); c != nil {
			c.overflow(n)
		}
	}
	if d.moveInactive(keep) {
		d.rescanLeases()
	}
}

// moveInactive notes which inactive endpoints are to be acquired, and reports whether any was not
// before.
func (d *Dispatcher) moveInactive(keep map[string]int64) (more bool) {
	if !d.worker.Overflows() {
		return false
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	now := time.Now()
	for name := range keep {
		if ep := d.endpoints[name]; ep != nil && ep.State == endpoint.Inactive {
			more = more || now.After(d.inactive[name])
			d.inactive[name] = now.Add(moveInactiveFor)
		}
	}
	return more
}

// wantedLocked reports whether a process has to have the endpoint: it delivers to it, or moves
// its events.
func (d *Dispatcher) wantedLocked(ep *endpoint.Endpoint) bool {
	return ep.State != endpoint.Inactive || time.Now().Before(d.inactive[ep.Name])
}

func (c *courier) overflow(keep int64) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.lease.closing || !c.reading.loaded || time.Now().Before(c.moves.retryAt) {
		return // the next measurement asks again
	}
	c.activateLocked()
	c.writing.overflowing, c.writing.keep = true, keep
	c.startWritingLocked()
}

// moveRetries puts off moves that fail: while one waits for a state database that does not answer,
// nothing is written. It is the courier's own, because an endpoint may rest between two moves.
type moveRetries struct {
	failing bool
	retryAt time.Time // nothing is moved before
}

// moveShare is the part of the time that moves may take that fail.
const moveShare = 10

// failed notes how long a failure took, and reports whether it is the first in a row.
func (m *moveRetries) failed(now time.Time, took time.Duration) (first bool) {
	first = !m.failing
	m.failing, m.retryAt = true, now.Add(moveShare*took)
	return first
}

// succeeded reports whether that ends failures.
func (m *moveRetries) succeeded() (again bool) {
	again = m.failing
	m.failing = false
	return again
}

func (c *courier) overflows() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.writing.overflowing && !c.lease.closing
}

// moveOldest moves some events. The goroutine that writes calls it, so that none is
// acknowledged in one place and moved to another meanwhile.
func (c *courier) moveOldest(ctx context.Context) {
	c.mu.Lock()
	keep, begun := c.writing.keep, time.Now()
	c.mu.Unlock()
	owned, more, err := c.owner.MoveOldest(ctx, keep)
	ended := time.Now()
	c.mu.Lock()
	defer c.mu.Unlock()
	if !owned {
		c.loseLeaseLocked("another process has it")
		return
	}
	c.writing.overflowing = more && err == nil
	switch m := &c.moves; {
	case err != nil && m.failed(ended, ended.Sub(begun)):
		c.log.Warn().Err(err).Str("endpoint", c.name).Msg("a backlog that is over its quota cannot be moved to the state database now; it stays in redis")
	case err == nil && m.succeeded():
		c.log.Info().Str("endpoint", c.name).Msg("backlogs over their quota are moved to the state database again")
	}
	c.reading.markUnread(&c.reading.main) // what was unread in the stream may be unread elsewhere
}
