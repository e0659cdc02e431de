package dispatch

import "time"

// alarm calls a function at the earliest of the times that it was set for since
// it rang last. Stopped, it never rings again, and keeps nothing in memory.
// Guarded by its courier's mutex.
type alarm struct {
	timer   *time.Timer
	at      time.Time // zero: it is not set
	stopped bool
}

func newAlarm(ring func()) alarm {
	a := alarm{timer: time.AfterFunc(time.Hour, ring)}
	a.timer.Stop()
	return a
}

func (a *alarm) set(at time.Time) {
	if !a.stopped && (a.at.IsZero() || at.Before(a.at)) {
		a.at = at
		a.timer.Reset(time.Until(at))
	}
}

// rang has to be called when the alarm has rung.
func (a *alarm) rang() { a.at = time.Time{} }

func (a *alarm) stop() {
	a.stopped = true
	a.timer.Stop()
}
