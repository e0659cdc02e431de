package dispatch

import (
	"context"
	"math"
	"time"

	"gancho/delivery/endpoint"
	"gancho/delivery/queue"
	"gancho/delivery/webhook"

	"github.com/rs/zerolog"
	"golang.org/x/time/rate"
)

// sending is the endpoint's workers, and its rate. Each worker that is starting
// will ask for one of the ready lanes, so that no two are started for the same.
type sending struct {
	workers, starting int           // those that are starting are workers, too
	limiter           *rate.Limiter // nil: no limit
	turn              turn          // at the gate
	behind            bool          // as of behindLocked's last answer
	fastest           fastest       // of the endpoint's requests
}

// newLimiter returns the limiter of a rate; nil: there is no limit.
func newLimiter(perSecond float64) *rate.Limiter {
	if perSecond <= 0 {
		return nil
	}
	const window = 100 // burst: what a hundredth of a second allows
	return rate.NewLimiter(rate.Limit(perSecond), max(1, int(math.Ceil(perSecond/window))))
}

// reserve takes a request off the rate, or returns how long there is none.
func (s *sending) reserve(now time.Time) (wait time.Duration) {
	if s.limiter == nil {
		return 0
	}
	r := s.limiter.ReserveN(now, 1)
	if wait = r.DelayFrom(now); wait > 0 {
		r.CancelAt(now)
	}
	return wait
}

// job is one request on its way through a worker: for one event, or a list.
type job struct {
	lane  *lane
	id    queue.ID
	msg   *webhook.Message // nil: to be read again; of a list, its first
	list  *list            // nil: the endpoint takes single events
	ep    *endpoint.Endpoint
	probe bool
	// passed: the event is superseded; it is read and not sent. A list's are left out of it.
	passed bool
	prior  queue.Attempts
	again  bool  // it was read again
	dead   bool  // its event is a dead letter now
	err    error // of that
}

// events yields the job's events; the message is nil of one not found in its stream.
func (j *job) events(yield func(queue.ID, *webhook.Message) bool) {
	if j.list == nil {
		yield(j.id, j.msg)
		return
	}
	for i, id := range j.list.ids {
		if !yield(id, j.list.msgs[i]) {
			return
		}
	}
}

func (j *job) size() int {
	if j.list == nil {
		return 1
	}
	return len(j.list.ids)
}

// sideShareLocked is the most requests in flight for events of the side stream.
func (c *courier) sideShareLocked() int { return max(1, c.ep.InFlight()/2) }

// startWorkersLocked starts a worker per ready lane, as far as concurrency and, of a backlog, the gate allow.
func (c *courier) startWorkersLocked() {
	if c.haltedLocked() {
		return
	}
	n := min(c.lanes.sendable(c.sideShareLocked())-c.sending.starting, c.ep.InFlight()-c.sending.workers)
	if c.breaker.open {
		n = min(n, 1)
	}
	if n <= 0 {
		return
	}
	var s slot
	if c.behindLocked() {
		if n, s = c.gate.take(&c.sending.turn, n); n == 0 {
			c.share.leave(c, time.Now()) // others of the endpoint may send meanwhile
		}
	}
	for range n {
		c.sending.workers++
		c.sending.starting++
		c.spawn(func(ctx context.Context) { c.work(ctx, s) })
	}
}

// behindLocked reports whether the endpoint has a backlog, whose requests pass the gate. It begins with more events than a turn and two rounds of
// requests take, or than there is room for in memory, and ends when all of it is read and one round is left. Probes pass by, and so does who has a rate: it is few
// requests, which would be fewer still in turns.
func (c *courier) behindLocked() bool {
	s, l := &c.sending, &c.lanes
	round := c.ep.InFlight() * max(1, c.ep.Batch.Max)
	ready := max(l.main.ready.len()+l.side.ready.len(), l.main.bodies+l.side.bodies)
	unread := !(c.reading.main.end && c.reading.side.end)
	if s.behind {
		s.behind = unread || ready > round
	} else {
		s.behind = ready > max(gateTurn, 2*round) || unread && ready > c.ep.InFlight()
	}
	return s.behind && !c.breaker.open && s.limiter == nil
}

// continueLocked reports whether a worker goes on with a next request after an outcome, and with which slot; room: as the gate's give
// returns it.
func (c *courier) continueLocked(s slot, o *webhook.Outcome) (next slot, ok, room bool) {
	took, late := time.Duration(0), time.Duration(0)
	if o.Kind == webhook.Delivered && o.Duration > 0 { // a failure may be faster than any success
		took, late = o.Duration, c.sending.fastest.late(o.Duration)
	}
	switch {
	case c.haltedLocked() || !c.behindLocked():
		return 0, true, c.gate.give(s)
	case s == 0: // it has fallen behind meanwhile
		n, next := c.gate.take(&c.sending.turn, 1)
		return next, n > 0, false
	}
	next, room = c.gate.renew(&c.sending.turn, s, took, late)
	return next, next != 0, room
}

func (c *courier) work(ctx context.Context, s slot) {
	c.mu.Lock()
	c.sending.starting--
	j, ok := c.nextJobLocked(time.Now())
	c.mu.Unlock()
	for ok {
		o := c.attempt(ctx, &j)
		now := time.Now()
		c.share.give(now)
		c.mu.Lock()
		number := c.applyOutcomeLocked(&j, &o, now)
		done := j
		var room bool
		if s, ok, room = c.continueLocked(s, &o); ok {
			j, ok = c.nextJobLocked(now)
		} else {
			c.sending.workers--
			c.startReadingLocked(now) // there may be room now
		}
		c.mu.Unlock()
		if room {
			c.gate.admit()
		}
		if number > 0 {
			c.observe(&done, &o, number, now)
		}
	}
	if c.gate.give(s) {
		c.gate.admit()
	}
}

// attempt makes the job's request, whose events may have to be read again first.
func (c *courier) attempt(ctx context.Context, j *job) webhook.Outcome {
	if j.list != nil {
		return c.sendList(ctx, j)
	}
	if j.msg == nil {
		j.again = true
		if j.msg, j.err = c.owner.Fetch(ctx, j.id); j.msg == nil {
			return webhook.Outcome{}
		}
	}
	if j.passed {
		return webhook.Outcome{}
	}
	return c.sender.Send(ctx, j.ep, j.msg)
}

func (c *courier) nextJobLocked(now time.Time) (job, bool) {
	c.startReadingLocked(now) // there may be room now
	l := c.nextLaneLocked(now)
	if l == nil {
		c.sending.workers--
		return job{}, false
	}
	j := job{lane: l, id: l.first(), ep: c.ep, passed: c.passesLocked(l)}
	if j.probe = c.breaker.open && !j.passed; j.probe {
		c.breaker.probing = true
	}
	known := false
	if len(c.failures) > 0 {
		j.prior, known = c.failures[j.id]
	}
	if !known && l.plan.fixed() {
		j.prior = l.plan.parts[0].prior
	}
	if takesLists(c.ep) {
		j.list = l.nextList(c.ep.Batch.Max)
	} else {
		j.msg = l.body()
	}
	return j, true
}

// nextLaneLocked returns the next lane that may be sent from, now busy, or nil.
// If only time has to pass, the alarm is set.
func (c *courier) nextLaneLocked(now time.Time) *lane {
	if c.haltedLocked() || c.sending.workers > c.ep.InFlight() || !now.Before(c.lease.until) {
		return nil // what ends this starts workers
	}
	for _, until := range [...]time.Time{c.suspension.until, c.reading.retryAt} {
		if now.Before(until) {
			c.alarm.set(until)
			return nil
		}
	}
	if c.breaker.open && !c.breaker.due(now) {
		if !c.breaker.probing {
			c.alarm.set(c.breaker.next)
		}
		return nil
	}
	l := c.pickLaneLocked(now)
	if l != nil && c.waitsForMoreLocked(l, now) {
		waiting := l
		l = c.pickLaneLocked(now) // the side stream's
		c.lanes.putBack(waiting)
	}
	if l == nil {
		return nil
	}
	if !c.share.take(c, c.ep.InFlight(), now, c.rouse) {
		c.alarm.set(now.Add(shareAgain))
		c.lanes.putBack(l)
		return nil
	}
	if c.passesLocked(l) { // that is no request
		return l
	}
	if wait := c.sending.reserve(now); wait > 0 {
		c.share.give(now)
		c.alarm.set(now.Add(wait))
		c.lanes.putBack(l)
		return nil
	}
	return l
}

// passesLocked reports whether the lane's first event is superseded, and there is none to be sent with it.
func (c *courier) passesLocked(l *lane) bool { return l.passed(0) && !takesLists(c.ep) }

// rouse resumes: it is the endpoint's turn to send.
func (c *courier) rouse() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.resumeLocked(time.Now())
}

// pickLaneLocked makes busy whose turn it is of the lanes that wait for no retry.
func (c *courier) pickLaneLocked(now time.Time) *lane {
	if c.breaker.open && c.breaker.oldest() {
		c.lanes.filterReady(func(l *lane) bool { return c.delayLocked(l, now) })
		return c.lanes.nextOldest(c.sideShareLocked())
	}
	l := c.lanes.next(c.sideShareLocked())
	for l != nil && c.delayLocked(l, now) {
		l = c.lanes.next(c.sideShareLocked())
	}
	return l
}

// delayLocked makes a lane wait, and says so, whose first event has failed and is not due.
func (c *courier) delayLocked(l *lane, now time.Time) bool {
	if len(c.failures) == 0 {
		return false
	}
	a, failed := c.failures[l.first()]
	switch {
	case !failed || l.passed(0) || !a.Blocked && !now.Before(a.Due):
		return false
	case a.Blocked:
		c.lanes.block(l)
	default:
		c.delayLaneLocked(l, a.Due)
	}
	return true
}

func (c *courier) delayLaneLocked(l *lane, due time.Time) {
	c.lanes.delay(l, due)
	c.alarm.set(due)
}

// observe logs an attempt and reports it. It is called without mu.
func (c *courier) observe(j *job, o *webhook.Outcome, number int, now time.Time) {
	level := zerolog.DebugLevel
	if o.Kind != webhook.Delivered {
		level = zerolog.WarnLevel
	}
	e := c.log.WithLevel(level).Err(o.Err).Str("endpoint", c.name).Str("event", j.msg.Type).Str("webhook_id", j.msg.ID).Int("attempt", number).
		Stringer("outcome", o.Kind).Int("status", o.Status).Str("class", o.Class).Dur("duration_ms", o.Duration).Bool("probe", j.probe)
	if j.list != nil {
		e.Int("events", j.size()) // the first of which was named
	}
	e.Msg("delivery attempted")
	if c.o.Observe == nil {
		return
	}
	for _, m := range j.events {
		if m != nil {
			c.o.Observe(Attempt{Endpoint: c.name, Message: m, Outcome: *o, Number: number, Ended: now, First: j.prior.First, Dead: j.dead, List: j.size()})
		}
	}
}
