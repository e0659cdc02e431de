package delivery

// Dispatcher sends the queue's events to their endpoints.
type Dispatcher struct{}

func (d *Dispatcher) offer(*stream, *Batch) {}
func (d *Dispatcher) owns(string) bool      { return false }
