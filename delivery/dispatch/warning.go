package dispatch

import (
	"time"

	"gancho/delivery/webhook"
)

// The warnings of an endpoint of which every attempt fails. Each is sent once until it answers.
const (
	WarnFailing int64 = 1 << iota // for five minutes, or ten attempts
	WarnHour                      // for an hour
	WarnPause                     // it is paused in two hours, or has half of PauseAfter left
)

const (
	warnAfter    = 5 * time.Minute
	warnFailures = 10
	warnAgain    = time.Hour
	warnBefore   = 2 * time.Hour
	// warnedAnswer is how much of an answer a warning has, in bytes.
	warnedAnswer = 500
)

// failing is what is known of the failures in a row, for warnings. Guarded by its courier's mutex.
type failing struct {
	attempts int
	last     Notice // as the last one has left it
	queued   int64  // the warnings that were queued, or sent
}

func (f *failing) note(j *job, o *webhook.Outcome) {
	f.attempts++
	f.last = Notice{
		Kind: NoticeFailing, Status: o.Status, Class: o.Class, Answer: string(o.Answer[:min(len(o.Answer), warnedAnswer)]),
		Event: j.msg.Type, WebhookID: j.msg.ID, Tenant: j.msg.Tenant,
	}
	if o.Err != nil {
		f.last.Reason = o.Err.Error()
	}
}

// warnings returns which are due of an endpoint that has failed so often, and when another
// will be; zero: none. limit is its PauseAfter; negative: it is never paused for that.
func (h *health) warnings(now time.Time, attempts int, limit time.Duration) (due int64, next time.Time) {
	if h.Failing == 0 {
		return 0, time.Time{}
	}
	since := time.UnixMilli(h.Failing + h.Away)
	if attempts >= warnFailures {
		due = WarnFailing
	}
	for _, w := range []struct {
		stage int64
		after time.Duration
	}{{WarnFailing, warnAfter}, {WarnHour, warnAgain}, {WarnPause, limit - min(warnBefore, limit/2)}} {
		at := since.Add(w.after)
		switch {
		case w.stage == WarnPause && limit <= 0 || due&w.stage != 0:
		case !now.Before(at):
			due |= w.stage
		case next.IsZero() || at.Before(next):
			next = at
		}
	}
	return due, next
}

// warnLocked queues the warning that is due, or rings when one will be. It has something to
// say once this owner has seen a failure.
func (c *courier) warnLocked(now time.Time) {
	f := &c.failing
	if !c.notices.wanted || f.attempts == 0 || c.health.Failing == 0 || c.suspension.reason != "" || c.lease.closing {
		return
	}
	due, next := c.health.warnings(now, f.attempts, c.ep.PauseAfter)
	if !next.IsZero() {
		c.alarm.set(next)
	}
	due &^= f.queued | c.health.Warned
	if due == 0 {
		return
	}
	f.queued |= due
	if c.health.Trouble == 0 {
		c.health.Trouble = c.health.Failing // so that its recovery is worth a notice
	}
	n := f.last
	n.Endpoint, n.Attempts, n.Stage = c.name, f.attempts, due
	n.Since = time.UnixMilli(c.health.Failing).UTC()
	if c.ep.PauseAfter > 0 {
		n.Pauses = time.UnixMilli(c.health.Failing + c.health.Away).Add(c.ep.PauseAfter).UTC()
	}
	c.log.Warn().Str("endpoint", c.name).Time("since", n.Since).Int("attempts", n.Attempts).Time("pauses", n.Pauses).
		Msg("every attempt at the endpoint fails; its events are kept")
	c.notifyLocked(n)
}
