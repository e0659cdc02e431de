package dispatch

import "time"

// Loaded is how many endpoints this process has and has read to their ends.
func (d *Dispatcher) Loaded() (n int) {
	for _, c := range d.owned() {
		c.mu.Lock()
		if c.reading.loaded && c.reading.main.end && c.reading.side.end {
			n++
		}
		c.mu.Unlock()
	}
	return n
}

// Skipping is how many events the process remembers since a restart of Redis.
func (d *Dispatcher) Skipping() (n int) {
	for _, c := range d.owned() {
		c.mu.Lock()
		n += len(c.reading.skip)
		c.mu.Unlock()
	}
	return n
}

// Expired reports whether the process's leases have expired.
func (d *Dispatcher) Expired() bool {
	for _, c := range d.owned() {
		c.mu.Lock()
		until := c.lease.until
		c.mu.Unlock()
		if time.Now().Before(until) {
			return false
		}
	}
	return true
}

// RestAfter sets after which time without events endpoints rest. It is called before Run.
func (d *Dispatcher) RestAfter(t time.Duration) { d.restAfter = t }

// count is of how many endpoints that this process has something holds.
func (d *Dispatcher) count(holds func(*courier) bool) (n int) {
	for _, c := range d.owned() {
		c.mu.Lock()
		if holds(c) {
			n++
		}
		c.mu.Unlock()
	}
	return n
}

// Awake is how many endpoints that this process has do not rest.
func (d *Dispatcher) Awake() int {
	return d.count(func(c *courier) bool { return c.activity != nil })
}

// Restarted is how many of them know that Redis was restarted.
func (d *Dispatcher) Restarted() int {
	return d.count(func(c *courier) bool { return c.reading.restarted })
}

// Halted is how many of them have unread events and get none.
func (d *Dispatcher) Halted() int {
	return d.count(func(c *courier) bool { return c.reading.loaded && !c.reading.main.end && c.haltedLocked() })
}

// Full is how many of them have no room for more events.
func (d *Dispatcher) Full() int {
	return d.count(func(c *courier) bool {
		return c.activity != nil && !c.reading.active && !c.budgetLocked(&c.reading.main).page
	})
}

// Held is what counts as the events in memory, and their bytes.
func (d *Dispatcher) Held() (events, bytes int64) {
	return d.memory.events.Load(), d.memory.bytes.Load()
}

// NarrowGate lets only so many requests out of backlogs count, and has no time pass at the gate. It is called before Run.
func (d *Dispatcher) NarrowGate(limit int) { d.gate.limit, d.gate.running = limit, true }

// AtGate is how many requests count at the gate, and how many couriers wait there.
func (d *Dispatcher) AtGate() (requests, waiting int) {
	d.gate.mu.Lock()
	defer d.gate.mu.Unlock()
	return d.gate.inFlight, len(d.gate.waiting)
}
