package dispatch

import (
	"time"

	"gancho/delivery/webhook"
)

// The breaker's measures.
const (
	breakerFailures = 10 // in a row, with no answer of the endpoint between them,
	breakerKeys     = 3  // under at least so many keys: a few failing keys open nothing
	probeFirst      = time.Second
	probeLast       = 60 * time.Second
	outage          = time.Minute // the recovery of an endpoint that was down for so long is worth a notice
)

// breaker keeps an endpoint that is down from getting a request for each of its
// events. It opens after failures of the endpoint as a whole, and then lets one
// probe through at a time, first after a second, then after twice as long each
// time.
//
// The first probe is the oldest event that is due, and so is every second one
// after it; those between are the others in turn, so that one event that breaks
// the receiver cannot keep the breaker open. A failed probe is no attempt of its
// event, and the time that the breaker is open is no event's age.
//
// Any answer but a 5xx closes it. Guarded by its courier's mutex.
type breaker struct {
	failures int
	keys     [breakerKeys]uint64
	seen     int // keys in use
	open     bool
	probing  bool
	probes   int       // that have failed
	next     time.Time // of the next probe, when open
	wait     time.Duration
}

// endpointFailure reports whether the attempt failed because of the endpoint
// rather than of the event.
func endpointFailure(o *webhook.Outcome) bool {
	switch o.Class {
	case webhook.ClassOK, webhook.ClassBody, webhook.ClassCanceled:
		return false
	case webhook.ClassStatus:
		return o.Status >= 500
	}
	return true
}

// failed counts a failure and reports whether it opened the breaker.
func (b *breaker) failed(now time.Time, key uint64) bool {
	if b.open {
		return false
	}
	b.failures++
	known := false
	for _, k := range b.keys[:b.seen] {
		known = known || k == key
	}
	if !known && b.seen < breakerKeys {
		b.keys[b.seen] = key
		b.seen++
	}
	if b.failures < breakerFailures || b.seen < breakerKeys {
		return false
	}
	b.open, b.wait = true, probeFirst
	b.next = now.Add(b.wait)
	return true
}

// answered notes that the endpoint works, and reports whether that closed the breaker.
func (b *breaker) answered() bool {
	closed := b.open
	*b = breaker{}
	return closed
}

// due reports whether an open breaker lets an event through now.
func (b *breaker) due(now time.Time) bool { return !b.probing && !now.Before(b.next) }

// restore opens the breaker, as the last owner has left it, with a probe due
// immediately.
func (b *breaker) restore(now time.Time) {
	*b = breaker{open: true, probing: b.probing, next: now, wait: probeFirst / 2}
}

// oldest reports whether the next probe is the oldest event.
func (b *breaker) oldest() bool { return b.probes%2 == 0 }

// probeFailed puts the next probe off.
func (b *breaker) probeFailed(now time.Time) {
	b.probes++
	b.wait = min(2*b.wait, probeLast)
	b.next = now.Add(b.wait)
}

// probeEnded lets another probe through.
func (b *breaker) probeEnded() { b.probing = false }
