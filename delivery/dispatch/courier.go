package dispatch

import (
	"context"
	"sync"
	"time"

	"gancho/delivery/endpoint"
	"gancho/delivery/queue"

	"github.com/rs/zerolog"
)

// means is what the couriers of a dispatcher have in common.
type means struct {
	sender sender
	o      Options
	log    zerolog.Logger
	memory *memory
	gate   *gate
	// classes are of the events of endpoints with Compact.
	classes *classes
	// restAfter is how long after its last event a courier lets its activity go.
	restAfter time.Duration
	// cancelable returns a context that ends when it is canceled, and not before.
	cancelable func() (context.Context, context.CancelFunc)
}

// restAfter is long enough for Redis to have written the last acknowledgements, counted from its answer, to its disk, and to
// its replicas, if it has lived on for so long: which events those were is forgotten then.
const restAfter = time.Minute

// courier delivers one endpoint's events while this process has its lease.
//
// It has no goroutine of its own: whatever makes work for it (an append, an answer, a
// timer) starts those that the work takes, which end with it: up to `concurrency`
// workers, and one that reads, one that writes and one that sends notices.
//
// Of thousands of endpoints most have nothing to be delivered, so that what only events need is an
// activity: it is made when something is to be done, and let go when nothing was for a while.
//
// Its parts do not know each other; each keeps the invariant that its type
// states, and the courier joins them. Everything from mu on is guarded by mu,
// which the caller of a method named xxxLocked holds. No call to Redis or to an
// endpoint is made while it is held.
type courier struct {
	*means
	name    string
	owner   *queue.Owner
	share   *share // of the endpoint's requests; nil: all are this one's
	running sync.WaitGroup

	mu         sync.Mutex
	ep         *endpoint.Endpoint
	lease      lease
	reading    reading
	sending    sending
	moves      moveRetries
	suspension suspension
	health     health
	*activity  // nil while it rests; methods that use it say so, or are called while it is there
}

// activity is what a courier needs while there is something to do: events in lanes, failures, notices or results. It is
// guarded by its courier's mutex.
type activity struct {
	// spawn starts a goroutine that is waited for, with the context that ends
	// requests; spawnWriter one with the context that ends acknowledgements.
	spawn, spawnWriter func(func(context.Context))
	abort, abandon     context.CancelFunc // end requests, and acknowledgements

	alarm    alarm
	lanes    laneSet
	failures failures
	breaker  breaker
	notices  noticeQueue
	failing  failing
	writing  writing
	saved    queue.Health // the courier's health as Redis has it, which a courier that rests has not changed since
	touched  time.Time    // when an event last came, was sent, or was acknowledged; zero: none was
}

// lease is how long this process may deliver the endpoint: nothing is started
// after until, nor once it is closing. A lease that is lost is closing, too.
type lease struct {
	until         time.Time
	asked         time.Time // when the last renewal began that Redis has answered: it lived then
	closing, lost bool
	adopted       bool // beyond this process's share
	elsewhere     bool // another process has to deliver it: see queue.ErrNoOverflow
}

func newCourier(m *means, ep *endpoint.Endpoint, owner *queue.Owner, l lease) *courier {
	c := &courier{means: m, name: ep.Name, owner: owner, share: m.o.Governor.of(ep.Name), ep: ep, lease: l, reading: newReading()}
	c.sending.limiter = c.share.limiterOf(ep.Rate)
	c.sending.turn.admit = c.rouse
	return c
}

// activateLocked makes the activity, unless it is there. A courier that is closing starts nothing: it is not to be called then.
func (c *courier) activateLocked() {
	if c.activity != nil {
		return
	}
	requests, abort := c.cancelable()
	writes, abandon := c.cancelable()
	a := &activity{
		saved: c.health.Health, abort: abort, abandon: abandon, lanes: newLaneSet(c.ep, c.classes, c.memory), failures: failures{}, notices: newNoticeQueue(c.o.Notify != nil),
		spawn:       func(f func(context.Context)) { c.running.Go(func() { f(requests) }) },
		spawnWriter: func(f func(context.Context)) { c.running.Go(func() { f(writes) }) },
	}
	a.alarm = alarm{ring: func() { c.ring(a) }}
	c.activity = a
}

// restLocked lets the activity go if there is nothing that it is needed for, and was not for a while: a courier that has
// delivered remembers what Redis might forget until that has answered so much later. The clock alone does not do: Redis may
// have died a moment after its last answer, and lose at its restart what it had not written.
func (c *courier) restLocked() {
	a := c.activity
	if a == nil || c.lease.closing || !a.touched.IsZero() && c.lease.asked.Sub(a.touched) < c.restAfter {
		return
	}
	if !c.idleLocked() {
		return
	}
	a.alarm.stop()
	a.abort()
	a.abandon()
	c.activity = nil
	if c.reading.skip == nil { // otherwise a restart of Redis is not over, and it may be restarted again
		c.reading.recent = nil
	}
}

// idleLocked reports whether nothing of the activity is needed. What has been read of the streams is known without it, and
// so is what is to be skipped after a restart of Redis: a quiet endpoint may not reach the place where it was for days.
func (c *courier) idleLocked() bool {
	r := &c.reading
	switch {
	case !r.loaded || r.active || r.prune || c.sending.workers > 0 || !c.readsNothingLocked():
		return false
	case len(c.lanes.lanes) > 0 || len(c.failures) > 0 || c.breaker != breaker{} || c.failing.attempts > 0:
		return false
	case c.notices.active || len(c.notices.waiting)+len(c.notices.unwritten) > 0:
		return false
	}
	return !c.writing.active && !c.writing.overflowing && c.writing.results.Empty() && c.health.Health == c.saved
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
	if c.lease.closing {
		return
	}
	c.activateLocked()
	if c.reading.loaded {
		if activated {
			c.startAfreshLocked(now)
		}
		c.trackStandstillLocked(now)
		c.refitFailuresLocked(now)
		c.startWritingLocked()
	}
	c.resumeLocked(now)
	c.restLocked()
}

// ring is called when the alarm of an activity has rung, which may have been let go meanwhile.
func (c *courier) ring(of *activity) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.activity == of {
		c.alarm.rang()
		c.resumeLocked(time.Now())
	}
}

// resumeLocked starts whatever can be started. A courier that rests has nothing to start.
func (c *courier) resumeLocked(now time.Time) {
	if c.lease.closing || c.activity == nil {
		return
	}
	if c.withholdsLocked(now) {
		c.lanes.dropEveryBody()
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
	if c.activity != nil && (c.writing.active || !c.writing.results.Empty()) {
		changes = -1
	}
	return queue.Renewal{Owner: c.owner, Main: c.reading.main.cursor, Side: c.reading.side.cursor}, changes
}

// applyStanding adopts what a renewal of the lease, which was asked for after a time, has returned, or
// reports false: what is being loaded or written meanwhile may be older or newer, so ask again.
func (c *courier) applyStanding(s queue.Standing, changes int, asked, until time.Time) (applied bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if !s.Owned {
		c.loseLeaseLocked("it has expired, and another process has acquired the endpoint")
		return true
	}
	now := time.Now()
	c.lease.asked, c.lease.until = asked, until
	c.lease.elsewhere = c.lease.elsewhere || s.Elsewhere
	switch {
	case c.lease.closing: // the next owner acts on what is new
		return true
	case !c.reading.loaded:
		c.resumeLocked(now)
		return false
	}
	if s.More {
		c.reading.markUnread(&c.reading.main)
	}
	if s.MoreAside {
		c.reading.markUnread(&c.reading.side)
	}
	saved := c.health.Health // of a courier that rests
	c.health.attemptable(now, c.o.Lease)
	c.health.saveSeen(c.activity != nil && len(c.failures) > 0)
	if c.activity == nil {
		if c.health.Health == saved && c.undisturbedLocked(&s) {
			return true
		}
		c.activateLocked()
		c.saved = saved
	}
	defer c.restLocked()
	c.reloadAfterRestartLocked()
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
	applied = c.suspension.equals(&s)
	c.resumeLocked(now)
	return applied
}

// undisturbedLocked reports whether a renewal has returned nothing that a courier that rests has to act on.
func (c *courier) undisturbedLocked(s *queue.Standing) bool {
	if c.owner.Generation() != c.reading.generation {
		return false
	}
	changed := s.Inspected && !(c.suspension.equals(s) && s.Forgotten == c.reading.forgotten)
	return !changed && (c.haltedLocked() || c.reading.main.end && c.reading.side.end)
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
	c.share.leave(c, time.Now())
	if c.activity != nil {
		c.alarm.stop()
		c.abort()
	}
}

// close lets the requests in flight finish, and starts no more. It returns the activity, if there is one: there will
// be no other.
func (c *courier) close() *activity {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.lease.closing = true
	c.share.leave(c, time.Now())
	if c.activity != nil {
		c.alarm.stop()
	}
	return c.activity
}

// finish waits until nothing is done any more, and ends requests, and then acknowledgements, that take too long.
func (c *courier) finish(a *activity) {
	if a == nil {
		c.running.Wait()
		return
	}
	defer time.AfterFunc(c.o.DrainTimeout, a.abort).Stop()
	defer time.AfterFunc(c.o.DrainTimeout+leaveTimeout, a.abandon).Stop()
	c.running.Wait()
	a.abort()
	a.abandon()
	c.mu.Lock()
	defer c.mu.Unlock()
	c.lanes.dropEveryBody() // others may use their part of the memory
}

// fits reports whether the endpoint's lanes, if it has any now, are those that it needs.
func (c *courier) fits(ep *endpoint.Endpoint) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.activity == nil || c.lanes.fits(ep)
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
	ring    func()
	timer   *time.Timer // nil: it was never set
	at      time.Time   // zero: it is not set
	stopped bool
}

func (a *alarm) set(at time.Time) {
	if a.stopped || !a.at.IsZero() && !at.Before(a.at) {
		return
	}
	a.at = at
	if a.timer == nil {
		a.timer = time.AfterFunc(time.Until(at), a.ring)
	} else {
		a.timer.Reset(time.Until(at))
	}
}

// rang has to be called when the alarm has rung.
func (a *alarm) rang() { a.at = time.Time{} }

func (a *alarm) stop() {
	a.stopped = true
	if a.timer != nil {
		a.timer.Stop()
	}
}
