package main

// waits says of rules with after which timers the changes would set.
func (w *simulateWriter) waits() {
	titled := false
	for i := range w.report.Rules {
		r := &w.report.Rules[i]
		if r.Waits == nil {
			continue
		}
		if !titled {
			w.chapter("Events that would wait for their time:")
			titled = true
		}
		w.line(1, "%s (%s):", r.Event, r.Rule)
		w.line(2, "timers set: %d, canceled: %d, pending at the end: %d", r.Waits.Set, r.Waits.Canceled, r.Waits.Pending)
		if r.Waits.Pending > 0 {
			w.line(2, "the first of them is due at %s, the last at %s", clock(r.Waits.First), clock(r.Waits.Last))
		}
		if r.Waits.Many {
			w.line(2, "there were more than are remembered")
		}
	}
}
