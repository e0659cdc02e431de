package dispatch

import (
	"net/http"
	"time"

	"gancho/delivery/endpoint"
	"gancho/delivery/queue"
	"gancho/delivery/webhook"
)

// settle notes how an attempt ended, and returns its number, from 1; 0: there
// was none worth telling of. Call it with mu held.
func (c *courier) settle(j *job, o *webhook.Outcome, now time.Time) int {
	if j.again && j.err == nil {
		c.readFailures = 0
	}
	switch {
	case j.msg == nil && j.err != nil:
		c.stall = now.Add(c.redisFailed("events cannot be read", j.err))
		c.unsent(j)
		return 0
	case j.msg == nil:
		c.vanished(j)
		return 0
	case o.Class == webhook.ClassCanceled:
		c.unsent(j) // we are stopping: no attempt was used up
		return 0
	}
	n, dead := j.prior.N+1, len(c.results.Dead)
	c.judge(j, o, now)
	if c.o.Log {
		c.record(j, o, n, len(c.results.Dead) > dead, now)
	}
	c.startWrite()
	return n
}

// The reasons of pauses that a receiver has asked for.
const (
	pausedGone  = "the receiver answered 410 Gone"
	pausedAsked = "the receiver asked for it (webhook-delivery: pause)"
)

// judge does what an answer, or the lack of one, asks for: first for the event,
// then for the endpoint.
func (c *courier) judge(j *job, o *webhook.Outcome, now time.Time) {
	if o.Kind == webhook.Delivered {
		c.answered(j, now)
		c.finish(j)
		c.succeeded()
	} else {
		if c.health.Failing == 0 {
			c.health.Failing = now.UnixMilli()
		}
		c.failed(j, o, now)
	}
	switch {
	case o.Kind == webhook.Gone:
		c.pause(pausedGone, now)
	case o.Wish == webhook.WishPause:
		c.pause(pausedAsked, now)
	case c.failsForGood(now):
		c.pause("every attempt has failed since "+time.UnixMilli(c.health.Failing).UTC().Format(time.RFC3339), now)
	}
}

// record adds the attempt to the log: a record for each event.
func (c *courier) record(j *job, o *webhook.Outcome, n int, dead bool, now time.Time) {
	if j.list == nil {
		c.results.Record(j.id, j.msg, o, n, dead, c.o.KeepEvents, now)
		return
	}
	for i, m := range j.list.msgs {
		if m != nil {
			c.results.Record(j.list.ids[i], m, o, n, dead, c.o.KeepEvents, now)
		}
	}
}

// unsent puts an event back that was not sent.
func (c *courier) unsent(j *job) {
	if j.probe {
		c.breaker.probeLost()
	}
	c.lanes.again(j.lane)
}

// vanished removes an event that is in its stream no more: somebody deleted
// it, or Redis has lost it. Then it is appended again, at a place that may
// have been read already; so it must not be deleted.
func (c *courier) vanished(j *job) {
	if j.probe {
		c.breaker.probeLost()
	}
	ids := []queue.ID{j.id}
	if j.list != nil {
		ids = j.list.ids
	}
	for _, id := range ids {
		_, failed := c.retries[id]
		c.forgetEvent(id, failed)
	}
	c.lanes.advanceBy(j.lane, len(ids))
	c.startWrite()
	if !c.checkGeneration() && c.restarts > 0 {
		c.reload()
	}
}

func (c *courier) forgetEvent(id queue.ID, failed bool) {
	if failed {
		delete(c.retries, id)
		c.results.Forgotten = append(c.results.Forgotten, id)
	}
	delete(c.skip, id)
}

// finish removes an event that was delivered from its lane.
func (c *courier) finish(j *job) {
	if j.list != nil {
		c.finishList(j)
		return
	}
	c.recent.add(j.id)
	if c.skip != nil {
		c.skip[j.id] = true
	}
	if j.prior.N > 0 {
		delete(c.retries, j.id)
		c.results.Clean = append(c.results.Clean, j.id)
	} else {
		c.results.Done = append(c.results.Done, j.id)
	}
	c.lanes.advance(j.lane)
}

// answered notes that there is somebody who answers.
func (c *courier) answered(j *job, now time.Time) {
	if j.probe {
		c.breaker.probeLost()
	}
	if !c.breaker.answered() {
		return
	}
	if down := now.Sub(time.UnixMilli(c.health.Open)); down >= outage && c.health.Trouble == 0 && c.o.Notify != nil {
		c.health.Trouble = c.health.Open
	}
	c.health.Open = 0
	c.idle(now)
	c.log.Info().Str("endpoint", c.name).Msg("endpoint answers again")
	c.startWorkers()
}

// unreached notes that an endpoint has failed as a whole, and reports whether
// the attempt was a probe of one that is known to be down.
func (c *courier) unreached(j *job, now time.Time) (probe bool) {
	switch {
	case j.probe && c.breaker.open:
		c.breaker.probeFailed(now)
		c.arm(c.breaker.next)
		return true
	case c.breaker.failed(now, j.lane.key):
		c.health.Open = now.UnixMilli()
		c.idle(now)
		c.log.Warn().Str("endpoint", c.name).Dur("probe_in_ms", c.breaker.wait).
			Msg("endpoint fails for all of its events: only probes are sent until it answers")
		for _, l := range c.lanes.lanes {
			c.lanes.dropBodies(l)
		}
		c.arm(c.breaker.next)
	}
	return false
}

// failed schedules the repeat of an event, or gives it up.
func (c *courier) failed(j *job, o *webhook.Outcome, now time.Time) {
	if o.RetryAfter > 0 && (o.Status == http.StatusTooManyRequests || o.Status == http.StatusServiceUnavailable) {
		c.askedToHold(now.Add(o.RetryAfter))
	}
	probe := false
	if endpointFailure(o) {
		probe = c.unreached(j, now)
	} else {
		c.answered(j, now)
	}
	a := j.prior.After(o, now, c.health.IdledFor(now))
	switch {
	case o.Wish == webhook.WishAbort && j.many():
		c.cut(j, a.OffSchedule(j.prior), 0, aborted, now)
	case o.Wish == webhook.WishAbort:
		c.bury(j, a, aborted, now)
	case o.Kind == webhook.Gone || probe:
		c.lanes.again(j.lane) // that is no attempt of the event
	case o.Kind == webhook.Refused && j.many():
		c.cut(j, a.OffSchedule(j.prior), 0, "the receiver has refused it", now)
	default:
		c.repeat(j, a, now)
	}
}

// aborted is why an event was given up, in the dead letter.
const aborted = "the receiver asked not to repeat it (webhook-delivery: abort)"

// repeat has an event, or a list, sent again when its schedule says so.
func (c *courier) repeat(j *job, a queue.Attempts, now time.Time) {
	why := c.schedule(&a, now)
	if why != "" && !c.failsForGood(now) {
		if j.many() {
			c.cut(j, a, firstWait(c.ep), why, now)
		} else {
			c.exhausted(j, a, why, now)
		}
		return
	}
	if why != "" { // the endpoint is paused: one more attempt when it goes on
		a.Due = now
	}
	if j.list != nil {
		j.lane.listing.fix(len(j.list.ids))
	}
	c.keep(j, a)
	c.lanes.hold(j.lane, a.Due)
	c.arm(a.Due)
}

// maxHold is the longest pause that a receiver may ask for.
const maxHold = 24 * time.Hour

func (c *courier) askedToHold(until time.Time) {
	if latest := time.Now().Add(maxHold); until.After(latest) {
		until = latest
	}
	if until.After(c.hold) {
		c.hold = until
		c.stateChanges++
		c.results.Hold(until)
		c.log.Info().Str("endpoint", c.name).Time("until", until).Msg("endpoint asked for a pause")
	}
}

// keep remembers a failed event's attempts, here and in Redis.
func (c *courier) keep(j *job, a queue.Attempts) {
	// Here the answer is of no use, and a million of them would be.
	short := a
	short.Answer, short.Error = "", ""
	c.retries[j.id] = short
	c.results.Retries = append(c.results.Retries, queue.RetryResult{ID: j.id, Attempts: a})
}

// exhausted does what the endpoint wants done with an event whose last attempt
// has failed.
func (c *courier) exhausted(j *job, a queue.Attempts, why string, now time.Time) {
	switch c.ep.OnExhausted {
	case endpoint.Block:
		a.Blocked = true
		c.keep(j, a)
		c.lanes.block(j.lane)
		c.gaveUp(j, &a, why, "attempts exhausted: the event's key is blocked")
	case endpoint.Pause:
		a.Due = now // one more attempt when the endpoint goes on
		c.keep(j, a)
		c.lanes.again(j.lane)
		c.gaveUp(j, &a, why, "attempts exhausted: the endpoint is paused")
		c.pause("an event's attempts were exhausted: "+j.msg.ID, now)
	default:
		c.bury(j, a, why, now)
	}
}

func (c *courier) gaveUp(j *job, a *queue.Attempts, why, what string) {
	c.log.Error().Str("endpoint", c.name).Str("event", j.msg.Type).Str("webhook_id", j.msg.ID).Int("attempts", a.N).Str("why", why).Msg(what)
}

// bury gives an event up: it goes to the dead letters, and its lane goes on.
func (c *courier) bury(j *job, a queue.Attempts, why string, now time.Time) {
	delete(c.retries, j.id)
	if c.o.Notify != nil {
		c.notices.burials[j.id] = Notice{
			Kind: NoticeDeadLetter, Endpoint: c.name, Reason: why, Since: now.UTC(),
			Event: j.msg.Type, WebhookID: j.msg.ID, Tenant: j.msg.Tenant, Attempts: a.N,
		}
	}
	c.results.Dead = append(c.results.Dead, queue.DeadResult{ID: j.id, Reason: why, Attempts: a})
	c.lanes.advance(j.lane)
	c.gaveUp(j, &a, why, "given up: the event went to the dead letters")
}
