package dispatch

import (
	"context"
	"math"
	"sync"
	"time"

	"gancho/delivery/endpoint"
	"gancho/delivery/queue"
	"gancho/delivery/webhook"

	"github.com/rs/zerolog"
	"golang.org/x/time/rate"
)

// courier delivers one endpoint's events while this process has its lease.
//
// It has no goroutine of its own: whatever makes work for it (an append, an
// answer, a timer) starts the goroutines that the work takes, which end with
// it. There are up to `concurrency` workers, one reader and one writer.
//
// Everything below mu is guarded by it; no call to Redis or to an endpoint is
// made while it is held.
type courier struct {
	name   string
	owner  *queue.Owner
	sender sender
	o      *Options
	log    zerolog.Logger

	// spawn starts a goroutine that is waited for, with the context that ends
	// requests; spawnWriter one with the context that ends acknowledgements.
	spawn, spawnWriter func(func(context.Context))
	abort, abandon     context.CancelFunc // end requests, and acknowledgements
	running            sync.WaitGroup

	mu      sync.Mutex
	ep      *endpoint.Endpoint
	limiter *rate.Limiter // nil: no limit
	lanes   laneSet
	breaker breaker
	retries map[queue.ID]queue.Attempts // of the events that have failed
	notices notices

	// Reading.
	main, side feed
	reading    bool
	page       *feed // whose page is on its way; nil: none is
	loaded     bool
	generation uint64
	restarts   int // of Redis, that this courier has seen
	// After a restart of Redis, until the cursor is where it was: the events
	// that are in memory, or (true) delivered.
	skip         map[queue.ID]bool
	recent       recentIDs
	readFailures int

	// Sending.
	workers, starting int
	leaseUntil        time.Time
	closing, lost     bool
	adopted           bool // beyond this process's share
	paused            string
	pausedAt          time.Time
	hold              time.Time // asked for by the receiver
	health            queue.Health
	stall             time.Time // Redis does not answer
	unblock           string    // the state's count when it was read last

	// Writing.
	results, outgoing queue.Results // gathered, and on their way
	healthKept        queue.Health  // as it was written last
	writing           bool
	// stateChanges counts the changes made here of what Redis keeps of the
	// endpoint's state, so that an older answer undoes none.
	stateChanges int

	timer   *time.Timer
	timerAt time.Time
}

// feed is one of the endpoint's streams, as far as it has been read.
type feed struct {
	side   bool
	cursor queue.ID // everything up to it has been seen
	tail   bool     // nothing is known to come after it
	again  bool     // something came while a page was on its way
	seen   queue.ID // where cursor was when Redis was restarted
}

// job is one event on its way through a worker.
type job struct {
	lane  *lane
	id    queue.ID
	msg   *webhook.Message // nil: to be read again; of a list, its first
	list  *list            // nil: the endpoint takes single events
	ep    *endpoint.Endpoint
	probe bool
	prior queue.Attempts
	again bool  // it was read again
	err   error // of that
}

// sideShare is the most requests in flight for events of the side stream.
func (c *courier) sideShare() int { return max(1, c.ep.Concurrency/2) }

// configure sets what comes from the configuration. Call it with mu held.
func (c *courier) configure(ep *endpoint.Endpoint) {
	c.ep = ep
	c.limiter = nil
	if ep.Rate > 0 {
		const window = 100 // burst: what a hundredth of a second allows
		c.limiter = rate.NewLimiter(rate.Limit(ep.Rate), max(1, int(math.Ceil(ep.Rate/window))))
	}
}

// start begins with loading what Redis keeps of the endpoint.
func (c *courier) start() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.startRead(time.Now())
}

// update takes a changed configuration over.
func (c *courier) update(ep *endpoint.Endpoint) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if ep == c.ep {
		return
	}
	now := time.Now()
	activated := c.ep.State != endpoint.Active && ep.State == endpoint.Active
	c.configure(ep)
	if c.loaded {
		if activated {
			c.goOn(now)
		}
		c.idle(now)
		c.refit(now)
		c.startWrite()
	}
	c.resume(now)
}

// resume starts whatever can go on. Call it with mu held.
func (c *courier) resume(now time.Time) {
	if c.closing {
		return
	}
	if due := c.lanes.release(now); !due.IsZero() {
		c.arm(due)
	}
	c.startRead(now)
	c.startWorkers()
	c.startTelling(now)
}

// arm makes sure that resume is called at a time. Call it with mu held.
func (c *courier) arm(at time.Time) {
	if c.closing { // the timer would keep the courier in memory
		return
	}
	if c.timerAt.IsZero() || at.Before(c.timerAt) {
		c.timerAt = at
		c.timer.Reset(time.Until(at))
	}
}

// tick is the timer's function.
func (c *courier) tick() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.timerAt = time.Time{}
	c.resume(time.Now())
}

// stopped reports whether nothing may be sent or read now for a reason that
// an event from outside ends. Call it with mu held.
func (c *courier) stopped() bool {
	return c.closing || c.lost || !c.loaded || c.paused != "" || c.ep.State != endpoint.Active
}

// startWorkers starts a worker for each lane that is ready, as far as
// concurrency allows. Call it with mu held.
func (c *courier) startWorkers() {
	if c.stopped() {
		return
	}
	n := min(c.lanes.sendable(c.sideShare())-c.starting, c.ep.Concurrency-c.workers)
	if c.breaker.open {
		n = min(n, 1)
	}
	for range n {
		c.workers++
		c.starting++
		c.spawn(c.work)
	}
}

// work sends events until there is none to send.
func (c *courier) work(ctx context.Context) {
	c.mu.Lock()
	c.starting--
	j, ok := c.next(time.Now())
	c.mu.Unlock()
	for ok {
		o := c.attempt(ctx, &j)
		now := time.Now()
		c.mu.Lock()
		attempt := c.settle(&j, &o, now)
		done := j
		j, ok = c.next(now)
		c.mu.Unlock()
		if attempt > 0 {
			c.observe(&done, &o, attempt, now)
		}
	}
}

// attempt sends what the job is about, which may have to be read again first.
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
	return c.sender.Send(ctx, j.ep, j.msg)
}

// next takes the next event to send; false: the worker ends. Call it with mu held.
func (c *courier) next(now time.Time) (job, bool) {
	c.startRead(now) // there may be room now
	l := c.nextLane(now)
	if l == nil {
		c.workers--
		return job{}, false
	}
	j := job{lane: l, id: l.first(), ep: c.ep, probe: c.breaker.open}
	if j.probe {
		c.breaker.probing = true
	}
	known := false
	if len(c.retries) > 0 {
		j.prior, known = c.retries[j.id]
	}
	if !known && l.listing != nil && len(l.listing.parts) > 0 {
		j.prior = l.listing.parts[0].prior
	}
	if takesLists(c.ep) {
		c.form(&j)
	} else {
		j.msg = l.body()
	}
	return j, true
}

// nextLane takes the next lane that may be sent from, or returns nil. What
// only time changes is looked at again when its time has come. Call it with mu
// held.
func (c *courier) nextLane(now time.Time) *lane {
	if c.stopped() || c.workers > c.ep.Concurrency || !now.Before(c.leaseUntil) {
		return nil // what ends this starts workers
	}
	for _, until := range [...]time.Time{c.hold, c.stall} {
		if now.Before(until) {
			c.arm(until)
			return nil
		}
	}
	if c.breaker.open && !c.breaker.due(now) {
		if !c.breaker.probing {
			c.arm(c.breaker.next)
		}
		return nil
	}
	l := c.pick(now)
	if l != nil && c.gathers(l, now) {
		waits := l
		l = c.pick(now) // the side stream's
		c.lanes.putBack(waits)
	}
	if l == nil || c.limiter == nil {
		return l
	}
	r := c.limiter.ReserveN(now, 1)
	if d := r.DelayFrom(now); d > 0 {
		r.CancelAt(now)
		c.arm(now.Add(d))
		c.lanes.putBack(l)
		return nil
	}
	return l
}

// pick takes the lane whose turn it is, of those that do not wait for a retry.
// Call it with mu held.
func (c *courier) pick(now time.Time) *lane {
	if c.breaker.open && c.breaker.oldest() {
		c.lanes.sift(func(l *lane) bool { return c.heldBack(l, now) })
		return c.lanes.takeOldest(c.sideShare())
	}
	l := c.lanes.take(c.sideShare())
	for l != nil && c.heldBack(l, now) {
		l = c.lanes.take(c.sideShare())
	}
	return l
}

// heldBack makes a lane wait whose first event has failed before and is not
// due. Call it with mu held.
func (c *courier) heldBack(l *lane, now time.Time) bool {
	if len(c.retries) == 0 {
		return false
	}
	a, failed := c.retries[l.first()]
	switch {
	case !failed || !a.Blocked && !now.Before(a.Due):
		return false
	case a.Blocked:
		c.lanes.block(l)
	default:
		c.lanes.hold(l, a.Due)
		c.arm(a.Due)
	}
	return true
}

// observe tells of an attempt. It is called without mu.
func (c *courier) observe(j *job, o *webhook.Outcome, attempt int, now time.Time) {
	level := zerolog.DebugLevel
	if o.Kind != webhook.Delivered {
		level = zerolog.WarnLevel
	}
	e := c.log.WithLevel(level).Err(o.Err).Str("endpoint", c.name).Str("event", j.msg.Type).Str("webhook_id", j.msg.ID).Int("attempt", attempt).
		Stringer("outcome", o.Kind).Int("status", o.Status).Str("class", o.Class).Dur("duration_ms", o.Duration).Bool("probe", j.probe)
	if j.list != nil {
		e.Int("events", len(j.list.ids)) // the first of which was named
	}
	e.Msg("delivery attempted")
	if c.o.Observe == nil {
		return
	}
	messages := []*webhook.Message{j.msg}
	if j.list != nil {
		messages = j.messages()
	}
	for _, m := range messages {
		c.o.Observe(Attempt{Endpoint: c.name, Type: m.Type, ID: m.ID, Outcome: *o, Attempt: attempt, CommitToDelivered: now.Sub(m.Time)})
	}
}

// recentIDs are the events that were delivered last, so that one whose
// acknowledgement Redis has lost is not sent again.
type recentIDs struct {
	ids  []queue.ID
	next int
}

// recentLimit bounds them: 64 KiB for each busy endpoint.
const recentLimit = 4096

func (r *recentIDs) add(id queue.ID) {
	if len(r.ids) < recentLimit {
		r.ids = append(r.ids, id)
		return
	}
	r.ids[r.next] = id
	r.next = (r.next + 1) % recentLimit
}
