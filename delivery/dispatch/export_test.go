package dispatch

// Loaded is how many endpoints this process has and has read to their ends.
func (d *Dispatcher) Loaded() (n int) {
	for _, c := range d.owned() {
		c.mu.Lock()
		if c.loaded && c.main.tail && c.side.tail {
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
		n += len(c.skip)
		c.mu.Unlock()
	}
	return n
}
