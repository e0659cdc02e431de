package dispatch

import (
	"fmt"
	"net/http"
	"time"

	"gancho/delivery/endpoint"
	"gancho/delivery/queue"
	"gancho/delivery/webhook"
)

// applyOutcomeLocked does what the job's answer, or its lack, means for events and endpoint.
// It returns the attempt's number, from 1; 0: there was no attempt.
func (c *courier) applyOutcomeLocked(j *job, o *webhook.Outcome, now time.Time) int {
	if j.again && j.err == nil {
		c.reading.failures = 0
	}
	if j.probe {
		c.breaker.probing = false
	}
	switch {
	case j.msg == nil && j.err != nil:
		c.readFailedLocked(j.err, now)
		c.lanes.requeue(j.lane)
		return 0
	case j.msg == nil:
		c.dropMissingLocked(j, now)
		return 0
	case j.passed:
		c.supersedeLocked(j.id, j.msg, now)
		c.lanes.advance(j.lane, 1)
		return 0
	case o.Class == webhook.ClassCanceled: // this process stops
		c.lanes.requeue(j.lane)
		return 0
	}
	c.touched = now
	c.health.attemptable(now, c.o.Lease)
	number, dead := j.prior.N+1, len(c.writing.results.Dead)
	if o.Kind == webhook.Delivered {
		c.endpointAnsweredLocked(now)
		c.acknowledgeLocked(j, now)
		c.health.Undelivered, c.health.ShutOut = 0, 0
		c.applySuccessLocked()
	} else {
		c.health.failed(now)
		c.failing.note(j, o)
		c.applyFailureLocked(j, o, now)
	}
	j.dead = len(c.writing.results.Dead) > dead
	c.suspendAfterLocked(o, now)
	c.warnLocked(now)
	if c.o.Log {
		recorded := *o
		for id, m := range j.events {
			if m != nil {
				c.writing.results.Record(id, m, &recorded, number, j.dead, c.o.KeepEvents, now)
				recorded.Detail = nil // a list's is kept once
			}
		}
	}
	c.startWritingLocked()
	return number
}

// suspendAfterLocked suspends the endpoint if this outcome, or all for too long, demand it.
func (c *courier) suspendAfterLocked(o *webhook.Outcome, now time.Time) {
	switch since, forGood := c.health.failingSince(now, c.ep.PauseAfter); {
	case o.Kind == webhook.Gone:
		c.suspendLocked(goneReason(o), now)
	case o.Wish == webhook.WishPause:
		c.suspendLocked("the receiver asked for it (webhook-delivery: pause)", now)
	case forGood:
		c.suspendLocked("every attempt has failed since "+since.Format(time.RFC3339), now)
	}
}

// goneReason says which answer means that the receiver wants nothing more: 410, or that of a
// chat whose address leads nowhere any more.
func goneReason(o *webhook.Outcome) string {
	switch o.Status {
	case http.StatusGone:
		return "the receiver answered 410 Gone"
	case http.StatusBadRequest:
		return o.Err.Error() // it says where the chat is now
	}
	return fmt.Sprintf("the receiver answered %d: what the url leads to was deleted; give the endpoint a new url", o.Status)
}

// dropMissingLocked removes events from memory that are no longer in their
// stream: somebody deleted them, or Redis has lost them. Lost ones are appended
// again, at a place that may have been read already; so they must not be deleted.
func (c *courier) dropMissingLocked(j *job, now time.Time) {
	missing := c.supersedeListedLocked(j, now) < j.size()
	for id := range j.events {
		c.forgetLocked(id)
	}
	c.lanes.advance(j.lane, j.size())
	c.startWritingLocked()
	if !c.reloadAfterRestartLocked() && c.reading.restarted && missing {
		c.reloadLocked()
	}
}

func (c *courier) forgetLocked(id queue.ID) {
	if _, failed := c.failures[id]; failed {
		delete(c.failures, id)
		c.writing.results.Forgotten = append(c.writing.results.Forgotten, id)
	}
	delete(c.reading.skip, id)
}

func (c *courier) acknowledgeLocked(j *job, now time.Time) {
	c.supersedeListedLocked(j, now)
	for id, m := range j.events {
		_, failed := c.failures[id]
		switch {
		case m == nil:
			c.forgetLocked(id)
			continue
		case failed:
			delete(c.failures, id)
			c.writing.results.Clean = append(c.writing.results.Clean, id)
		default:
			c.writing.results.Done = append(c.writing.results.Done, id)
		}
		c.writing.results.Committed(id, m.Time)
		c.reading.delivered(id, c.lanes.classes.of(id, m))
	}
	c.lanes.advance(j.lane, j.size())
}

// applySuccessLocked ends what is known of the endpoint's failures.
func (c *courier) applySuccessLocked() {
	c.forgetFailingLocked()
	if c.health.Trouble != 0 && c.suspension.reason == "" {
		c.notifyLocked(Notice{Kind: NoticeRecovered, Endpoint: c.name, Since: time.UnixMilli(c.health.Trouble).UTC()})
	}
}

func (c *courier) endpointAnsweredLocked(now time.Time) {
	if !c.breaker.answered() {
		return
	}
	c.health.reached(now, c.notices.wanted)
	c.trackStandstillLocked(now)
	c.log.Info().Str("endpoint", c.name).Msg("endpoint answers again")
	c.startWorkersLocked()
}

// endpointFailedLocked counts a failure of the endpoint; probe: it was that of a probe.
func (c *courier) endpointFailedLocked(j *job, now time.Time) (probe bool) {
	switch {
	case j.probe && c.breaker.open:
		c.breaker.probeFailed(now)
		c.alarm.set(c.breaker.next)
		return true
	case c.breaker.failed(now, j.lane.key):
		c.health.Open = now.UnixMilli()
		c.trackStandstillLocked(now)
		c.log.Warn().Str("endpoint", c.name).Dur("probe_in_ms", c.breaker.wait).
			Msg("endpoint fails for all of its events: only probes are sent until it answers")
		c.lanes.dropEveryBody()
		c.alarm.set(c.breaker.next)
	}
	return false
}

// aborted is the reason of a dead letter.
const aborted = "the receiver asked not to repeat it (webhook-delivery: abort)"

func (c *courier) applyFailureLocked(j *job, o *webhook.Outcome, now time.Time) {
	if o.RetryAfter > 0 && (o.Status == http.StatusTooManyRequests || o.Status == http.StatusServiceUnavailable) {
		c.holdLocked(now, now.Add(o.RetryAfter))
	}
	probe := false
	if endpointFailure(o) {
		probe = c.endpointFailedLocked(j, now)
	} else {
		c.endpointAnsweredLocked(now)
	}
	a := j.prior.After(o, now, c.health.IdledFor(now))
	passed := c.markSupersededLocked(j)
	switch several := j.size() > 1; {
	case o.Wish == webhook.WishAbort && several:
		c.splitListLocked(j, a.OffSchedule(j.prior), 0, aborted, now)
	case o.Wish == webhook.WishAbort:
		c.deadLetterLocked(j, a, aborted, now)
	case o.Kind == webhook.Gone || probe:
		c.lanes.requeue(j.lane) // that is no attempt of the event
	case o.Kind == webhook.Refused && several && o.Class != webhook.ClassLogin: // that says nothing about events
		c.splitListLocked(j, a.OffSchedule(j.prior), 0, "the receiver has refused it", now)
	default:
		c.retryLocked(j, a, passed, now)
	}
}

// retryLocked has the job's events sent again, or ends them. passed: they are superseded, and only keep the next
// ones waiting for a moment.
func (c *courier) retryLocked(j *job, a queue.Attempts, passed bool, now time.Time) {
	why := c.scheduleLocked(&a, now)
	if passed {
		wait, _ := nextWait(c.ep, &queue.Attempts{N: 1})
		if due := now.Add(wait); why != "" || due.Before(a.Due) {
			a.Due = due
		}
		why = ""
	}
	_, suspends := c.health.failingSince(now, c.ep.PauseAfter)
	if why != "" && !suspends && c.misconfigured(j.id, &a) {
		suspends, a.Suspended = true, shutOut(&a)
		c.suspendLocked(misconfiguredReason(&a), now)
	}
	if why != "" && !suspends {
		if j.size() > 1 {
			first, _ := nextWait(c.ep, &queue.Attempts{N: 1})
			c.splitListLocked(j, a, first, why, now)
		} else {
			c.exhaustLocked(j, a, why, now)
		}
		return
	}
	if why != "" { // the endpoint is suspended: one more attempt when it resumes
		a.Due = now
	}
	if j.list != nil {
		j.lane.plan.fix(j.size())
	}
	c.keepAttemptsLocked(j, a)
	c.delayLaneLocked(j.lane, a.Due)
}

// misconfigured reports whether an event's last attempt has failed because the endpoint
// is let in nowhere: its token server does not take the client; or its receiver, or what stands
// in front of it, answers 401 or 403, and not to this event alone; and nothing has been
// delivered since the event failed first. One event alone may be refused for what is in it, and
// keep all others from being tried; so may one that has suspended the endpoint before.
func (c *courier) misconfigured(id queue.ID, a *queue.Attempts) bool {
	door := a.Class == webhook.ClassLogin && a.Wrong || shutOut(a) && !a.Suspended && c.othersShutOut(id)
	return door && c.ep.OnExhausted == endpoint.DeadLetter && c.ep.PauseAfter > 0 && c.health.undeliveredSince(a.First)
}

// shutOut reports whether an event's last attempt was answered 401 or 403.
func shutOut(a *queue.Attempts) bool {
	return (a.Status == http.StatusUnauthorized || a.Status == http.StatusForbidden) && a.Class == webhook.ClassStatus && a.Wrong
}

// othersShutOut reports whether another event was, since one was delivered.
func (c *courier) othersShutOut(id queue.ID) bool {
	if c.health.ShutOut != 0 {
		return true
	}
	for other, a := range c.failures {
		if other != id && shutOut(&a) && c.health.undeliveredSince(a.Last) {
			return true
		}
	}
	return false
}

// misconfiguredReason is why such an endpoint is suspended.
func misconfiguredReason(a *queue.Attempts) string {
	if a.Class == webhook.ClassLogin {
		return "misconfigured: " + a.Error + "; correct the endpoint's auth, or what refuses it"
	}
	return fmt.Sprintf("misconfigured: the receiver, or a firewall in front of it, answers %d %s to everything; correct the endpoint's secret, auth or url, or what refuses it",
		a.Status, http.StatusText(a.Status))
}

func (c *courier) keepAttemptsLocked(j *job, a queue.Attempts) {
	c.failures.keep(j.id, a)
	c.writing.results.Retries = append(c.writing.results.Retries, queue.RetryResult{ID: j.id, Attempts: a})
}

// exhaustLocked ends, as OnExhausted says, an event whose last attempt has failed.
func (c *courier) exhaustLocked(j *job, a queue.Attempts, why string, now time.Time) {
	switch c.ep.OnExhausted {
	case endpoint.Block:
		a.Blocked = true
		c.keepAttemptsLocked(j, a)
		c.lanes.block(j.lane)
		c.logEnd(j, &a, why, "attempts exhausted: the event's key is blocked")
	case endpoint.Pause:
		a.Due = now // one more attempt when the endpoint resumes
		c.keepAttemptsLocked(j, a)
		c.lanes.requeue(j.lane)
		c.logEnd(j, &a, why, "attempts exhausted: the endpoint is suspended")
		c.suspendLocked("an event's attempts were exhausted: "+j.msg.ID, now)
	default:
		if shutOut(&a) {
			c.health.ShutOut = now.UnixMilli()
		}
		c.deadLetterLocked(j, a, why, now)
	}
}

// deadLetterLocked makes the event a dead letter, and its lane goes on.
func (c *courier) deadLetterLocked(j *job, a queue.Attempts, why string, now time.Time) {
	delete(c.failures, j.id)
	c.notices.expectDead(j.id, Notice{
		Kind: NoticeDeadLetter, Endpoint: c.name, Reason: why, Since: now.UTC(),
		Event: j.msg.Type, WebhookID: j.msg.ID, Tenant: j.msg.Tenant, Attempts: a.N,
	})
	c.writing.results.Committed(j.id, j.msg.Time)
	c.writing.results.Dead = append(c.writing.results.Dead, queue.DeadResult{ID: j.id, Reason: why, Attempts: a})
	c.lanes.advance(j.lane, 1)
	c.logEnd(j, &a, why, "event moved to the dead letters")
}

func (c *courier) logEnd(j *job, a *queue.Attempts, why, what string) {
	c.log.Error().Str("endpoint", c.name).Str("event", j.msg.Type).Str("webhook_id", j.msg.ID).Int("attempts", a.N).Str("why", why).Msg(what)
}
