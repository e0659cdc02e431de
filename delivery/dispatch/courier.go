package dispatch

import (
	"context"
	"sync"
	"time"

	"gancho/delivery/endpoint"
	"gancho/delivery/queue"

	"github.com/rs/zerolog"
)

// courier delivers one endpoint's events while this process has its lease.
//
// It has no goroutine of its own: whatever makes work for it (an append, an answer, a
// timer) starts those that the work takes, which end with it: up to `concurrency`
// workers, and one that reads, one that writes and one that sends notices.
//
// Its parts do not know each other; each keeps the invariant that its type
// states, and the courier joins them. Everything from mu on is guarded by mu,
// which the caller of a method named xxxLocked holds. No call to Redis or to an
// endpoint is made while it is held.
type courier struct {
	name   string
	owner  *queue.Owner
	sender sender
	o      *Options
	log    zerolog.Logger
	share  *share // of the endpoint's requests; nil: all are this one's

	// spawn starts a goroutine that is waited for, with the context that ends
	// requests; spawnWriter one with the context that ends acknowledgements.
	spawn, spawnWriter func(func(context.Context))
	abort, abandon     context.CancelFunc // end requests, and acknowledgements
	running            sync.WaitGroup

	mu         sync.Mutex
	ep         *endpoint.Endpoint
	lease      lease
	alarm      alarm
	reading    reading
	lanes      laneSet
	sending    sending
	failures   failures
	breaker    breaker
	suspension suspension
	health     health
	notices    noticeQueue
	failing    failing
	writing    writing
}

// lease is how long this process may deliver the endpoint: nothing is started
// after until, nor once it is closing. A lease that is lost is closing, too.
type lease struct {
	until         time.Time
	closing, lost bool
	adopted       bool // beyond this process's share
	elsewhere     bool // another process has to deliver it: see queue.ErrNoOverflow
}

func newCourier(background context.Context, d *Dispatcher, ep *endpoint.Endpoint, owner *queue.Owner, l lease) *courier {
	requests, abort := context.WithCancel(background)
	writes, abandon := context.WithCancel(background)
	c := &courier{
		name: ep.Name, owner: owner, sender: d.sender, o: &d.o, log: d.log, abort: abort, abandon: abandon, ep: ep, lease: l,
		reading: newReading(), lanes: newLaneSet(ep), failures: failures{}, notices: newNoticeQueue(d.o.Notify != nil),
	}
	c.spawn = func(f func(context.Context)) { c.running.Go(func() { f(requests) }) }
	c.spawnWriter = func(f func(context.Context)) { c.running.Go(func() { f(writes) }) }
	c.alarm = newAlarm(c.ring)
	c.share = d.o.Governor.of(ep.Name)
	c.sending.limiter = c.share.limiterOf(ep.Rate)
	return c
}

func (c *courier) update(ep *endpoint.Endpoint) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if ep == c.ep {
		return
	}
	now := time.Now()
	activated := c.ep.State != endpoint.Active && ep.State == endpoint.Active
	c.ep = ep
	c.sending.limiter = c.share.limiterOf(ep.Rate)
	c.sender.Redial(ep)
	if c.reading.loaded {
		if activated {
			c.startAfreshLocked(now)
		}
		c.trackStandstillLocked(now)
		c.refitFailuresLocked(now)
		c.startWritingLocked()
	}
	c.resumeLocked(now)
}

func (c *courier) ring() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.alarm.rang()
	c.resumeLocked(time.Now())
}

func (c *courier) resumeLocked(now time.Time) {
	if c.lease.closing {
		return
	}
	if due := c.lanes.releaseDue(now); !due.IsZero() {
		c.alarm.set(due)
	}
	c.startReadingLocked(now)
	c.startWorkersLocked()
	c.warnLocked(now)
	c.startNotifyingLocked(now)
}

// haltedLocked reports whether nothing may be sent or read until an event from outside.
func (c *courier) haltedLocked() bool {
	return c.lease.closing || !c.reading.loaded || c.suspension.reason != "" || c.ep.State != endpoint.Active || c.unwrittenFullLocked()
}

// renewal returns this courier's part of a renewal, and how many changes of the endpoint's
// state the answer will include; -1: it may be older than what is being written.
func (c *courier) renewal() (queue.Renewal, int) {
	c.mu.Lock()
	defer c.mu.Unlock()
	changes := c.suspension.changes
	if c.writing.active || !c.writing.results.Empty() {
		changes = -1
	}
	return queue.Renewal{Owner: c.owner, Main: c.reading.main.cursor, Side: c.reading.side.cursor}, changes
}

// applyStanding adopts what a renewal of the lease has returned, or reports false: what is
// being loaded or written meanwhile may be older or newer, so ask again.
func (c *courier) applyStanding(s queue.Standing, changes int, until time.Time) (applied bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if !s.Owned {
		c.loseLeaseLocked("it has expired, and another process has acquired the endpoint")
		return true
	}
	now := time.Now()
	c.lease.until = until
	c.lease.elsewhere = c.lease.elsewhere || s.Elsewhere
	switch {
	case c.lease.closing: // the next owner acts on what is new
		return true
	case !c.reading.loaded:
		c.resumeLocked(now)
		return false
	}
	c.reloadAfterRestartLocked()
	c.health.attemptable(now, c.o.Lease)
	c.health.saveSeen(len(c.failures) > 0)
	c.startWritingLocked()
	if !s.Inspected { // nothing has changed that somebody would have been woken for
		c.resumeLocked(now)
		return true
	}
	if changes == c.suspension.changes && c.suspension.adopt(&s) {
		c.log.Info().Str("endpoint", c.name).Msg("endpoint resumed")
		c.startAfreshLocked(now)
		c.trackStandstillLocked(now)
		c.startWritingLocked()
	}
	if s.Unblock != c.suspension.unblock { // no courier writes it, so it is never too old for one that writes
		c.suspension.unblock = s.Unblock
		c.sender.Redial(c.ep)
		c.failures.hasten(now)
		c.lanes.reschedule(func(queue.ID) (due time.Time, blocked bool) { return now, false })
	}
	if s.Forgotten != c.reading.forgotten { // what is in memory may have been removed
		c.reading.forgotten, c.reading.prune = s.Forgotten, true
		c.owner.EventsRemoved()
		c.log.Info().Str("endpoint", c.name).Msg("events were removed from the queue: the others are read again")
		c.reloadLocked()
	}
	if s.More {
		c.reading.markUnread(&c.reading.main)
	}
	if s.MoreAside {
		c.reading.markUnread(&c.reading.side)
	}
	applied = c.suspension.equals(&s)
	c.resumeLocked(now)
	return applied
}

// loseLeaseLocked stops everything: the endpoint is another process's.
func (c *courier) loseLeaseLocked(why string) {
	if c.lease.lost {
		return
	}
	if !c.lease.closing {
		c.log.Warn().Str("endpoint", c.name).Str("why", why).Msg("lease lost: this process delivers to the endpoint no more")
	}
	c.lease.lost, c.lease.closing = true, true
	c.alarm.stop()
	c.share.leave(c, time.Now())
	c.abort()
}

// close lets the requests in flight finish, and starts no more.
func (c *courier) close() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.lease.closing = true
	c.alarm.stop()
	c.share.leave(c, time.Now())
}

// owns reports whether the lease is held and not being given back.
func (c *courier) owns() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return !c.lease.closing
}

// alarm calls a function at the earliest of the times that it was set for since
// it rang last. Stopped, it never rings again, and keeps nothing in memory.
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
