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
