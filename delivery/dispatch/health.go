package dispatch

import (
	"slices"
	"time"

	"gancho/delivery/endpoint"
	"gancho/delivery/queue"
	"gancho/delivery/webhook"
)

// health is how the endpoint fares.
// Times are in ms since 1970; 0: none. The clock of the time that is no event's
// age (Idle, Idling) never goes back. Guarded by its courier's mutex.
type health struct {
	queue.Health
	seen int64 // when attempts were last possible; Seen is that as of the last renewal
}

// unsaved differs from any health: it has to be written.
var unsaved = queue.Health{Failing: -1}

func (h *health) failed(now time.Time) {
	if h.Failing == 0 {
		h.Failing, h.Away = now.UnixMilli(), 0
	}
	if h.Undelivered == 0 {
		h.Undelivered = h.Failing
	}
	if h.Seen == 0 {
		h.Seen = now.UnixMilli()
	}
}

// undeliveredSince reports whether nothing was delivered since then, or before it. What is not
// known, as after an update, counts as a delivery.
func (h *health) undeliveredSince(t time.Time) bool {
	return h.Undelivered != 0 && h.Undelivered <= t.UnixMilli()
}

// attemptable notes that attempts are possible now. If that was noted last before the
// lease's length or longer, the time between is nobody's failure: the process or Redis was
// down, the machine asleep, or its clock wrong. It makes no event older, and does not
// count for PauseAfter.
func (h *health) attemptable(now time.Time, lease time.Duration) {
	last := h.seen
	h.seen = now.UnixMilli()
	away := h.seen - last
	if last == 0 || away <= lease.Milliseconds() {
		return
	}
	if h.Failing != 0 {
		h.Away += away
	}
	if h.Idling == 0 {
		h.Idle += away
	}
}

// saveSeen has the next owner know how long there was none; failing: it needs to.
func (h *health) saveSeen(failing bool) {
	h.Seen = 0
	if failing || h.Failing != 0 {
		h.Seen = h.seen
	}
}

// failingSince returns since when every attempt has failed, and whether that is
// for limit or longer, without the time in which none was possible: then the
// endpoint is suspended, and no event is exhausted.
func (h *health) failingSince(now time.Time, limit time.Duration) (time.Time, bool) {
	since := time.UnixMilli(h.Failing).UTC()
	return since, h.Failing != 0 && limit > 0 && now.Sub(since)-time.Duration(h.Away)*time.Millisecond >= limit
}

// reached notes that the endpoint answers, after its breaker was open; notice:
// its recovery from an outage is worth a notice.
func (h *health) reached(now time.Time, notice bool) {
	if notice && h.Trouble == 0 && now.Sub(time.UnixMilli(h.Open)) >= outage {
		h.Trouble = h.Open
	}
	h.Open = 0
}

func (h *health) trackStandstill(still bool, now time.Time) {
	switch {
	case still && h.Idling == 0:
		h.Idling = now.UnixMilli()
	case !still && h.Idling != 0:
		h.Idle, h.Idling = h.IdledFor(now), 0
	}
}

// suspension is the part of the endpoint's state in Redis that the owner and
// others write: why nothing is sent. changes counts the owner's own changes, so
// that an older answer of Redis undoes none. Guarded by its courier's mutex.
type suspension struct {
	reason  string // empty: the endpoint is not suspended
	since   time.Time
	until   time.Time // the receiver has asked for a pause up to then
	unblock string    // how often failed events were hastened
	changes int
}

// adopt takes the state that Redis has, and reports whether it ends a suspension.
func (s *suspension) adopt(r *queue.Standing) (resumed bool) {
	resumed = s.reason != "" && r.Paused == ""
	s.reason, s.until = r.Paused, r.Hold
	return resumed
}

func (s *suspension) equals(r *queue.Standing) bool {
	return s.reason == r.Paused && s.until.Equal(r.Hold) && s.unblock == r.Unblock
}

// suspend keeps a reason, and reports false if there is one already.
func (s *suspension) suspend(reason string, now time.Time) bool {
	if s.reason != "" {
		return false
	}
	s.reason, s.since = reason, time.UnixMilli(now.UnixMilli()).UTC()
	s.changes++
	return true
}

const (
	// maxHold is the longest pause that a receiver may ask for.
	maxHold = 24 * time.Hour
	// shortHold is a pause in which events stay in memory: limits of rate are over soon, and each event that is not in
	// memory takes a call of Redis of its own.
	shortHold = time.Minute
)

// readFrom is when reading goes on in a pause that the receiver asked for.
func (s *suspension) readFrom() time.Time { return s.until.Add(-shortHold) }

// hold keeps a pause that the receiver asked for; false: a longer one is kept already.
func (s *suspension) hold(now, until time.Time) bool {
	if latest := now.Add(maxHold); until.After(latest) {
		until = latest
	}
	if !until.After(s.until) {
		return false
	}
	s.until = until
	s.changes++
	return true
}

func (c *courier) restoreLocked(s *queue.Condition, now time.Time) {
	c.suspension = suspension{reason: s.Paused, since: s.Since.UTC(), until: s.Hold, unblock: s.Unblock, changes: c.suspension.changes}
	c.reading.forgotten, c.reading.prune = s.Forgotten, s.Forgotten != ""
	c.health, c.saved = health{Health: s.Health, seen: s.Seen}, s.Health
	c.health.attemptable(now, c.o.Lease)
	if c.health.Open != 0 && c.lanes.order != endpoint.OrderEndpoint {
		c.breaker.restore(now)
	} else {
		c.health.Open = 0
	}
	if c.health.Idling != 0 && !c.standsStillLocked() {
		c.startAfreshLocked(now) // somebody has resumed it while nobody had it
	}
	c.trackStandstillLocked(now)
	c.refitFailuresLocked(now)
	if c.suspension.reason == "" {
		return
	}
	c.log.Warn().Str("endpoint", c.name).Str("reason", c.suspension.reason).Msg("endpoint is suspended: its events are kept until somebody resumes it")
	if c.health.Noticed != c.suspension.since.UnixMilli() {
		c.notifyLocked(Notice{Kind: NoticePaused, Endpoint: c.name, Reason: c.suspension.reason, Since: c.suspension.since})
	}
}

// standsStillLocked reports whether events of the endpoint do not grow older now.
func (c *courier) standsStillLocked() bool {
	return c.suspension.reason != "" || c.ep.State != endpoint.Active || c.breaker.open
}

// withholdsLocked reports whether the endpoint gets nothing now, and not soon, but for probes: then it keeps no bodies in
// memory, which others need. They are fetched again when they are sent.
func (c *courier) withholdsLocked(now time.Time) bool {
	return c.standsStillLocked() || now.Before(c.suspension.readFrom())
}

// trackStandstillLocked is called whenever standsStillLocked may have changed.
func (c *courier) trackStandstillLocked(now time.Time) {
	c.health.trackStandstill(c.standsStillLocked(), now)
}

// startAfreshLocked forgets how an endpoint fared before somebody resumed it: it
// gets a request immediately, and has the whole of PauseAfter again.
func (c *courier) startAfreshLocked(now time.Time) {
	c.forgetFailingLocked()
	if c.breaker.open {
		c.breaker.restore(now)
	}
}

// forgetFailingLocked: not every attempt fails any more.
func (c *courier) forgetFailingLocked() {
	c.health.Failing, c.health.Warned, c.failing = 0, 0, failing{}
}

// suspendLocked sends nothing, and keeps all events, until somebody resumes the endpoint.
func (c *courier) suspendLocked(reason string, now time.Time) {
	if !c.suspension.suspend(reason, now) {
		return
	}
	c.writing.results.Pause(reason, now)
	if c.health.Trouble == 0 && c.notices.wanted {
		c.health.Trouble = now.UnixMilli()
	}
	c.trackStandstillLocked(now)
	c.log.Error().Str("endpoint", c.name).Str("reason", reason).Msg("endpoint suspended: its events are kept until somebody resumes it")
	c.notifyLocked(Notice{Kind: NoticePaused, Endpoint: c.name, Reason: reason, Since: c.suspension.since})
	c.lanes.dropEveryBody()
}

// holdLocked has nothing be sent for a while, because the receiver asked for it.
func (c *courier) holdLocked(now, until time.Time) {
	if !c.suspension.hold(now, until) {
		return
	}
	c.writing.results.Hold(c.suspension.until)
	c.log.Info().Str("endpoint", c.name).Time("until", c.suspension.until).Msg("endpoint asked for a pause: nothing is sent until then")
	if c.withholdsLocked(now) {
		c.lanes.dropEveryBody()
	}
}

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

func endpointFailure(o *webhook.Outcome) bool {
	switch o.Class {
	case webhook.ClassOK, webhook.ClassBody, webhook.ClassCanceled:
		return false
	case webhook.ClassStatus:
		return o.Status >= 500
	case webhook.ClassLogin: // a client that is refused is as one whose requests are answered 401
		return o.Kind != webhook.Refused
	}
	return true
}

// failed counts a failure and reports whether it opened the breaker.
func (b *breaker) failed(now time.Time, key uint64) bool {
	if b.open {
		return false
	}
	b.failures++
	if b.seen < breakerKeys && !slices.Contains(b.keys[:b.seen], key) {
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

func (b *breaker) due(now time.Time) bool { return !b.probing && !now.Before(b.next) }

// restore opens the breaker as the last owner has left it; a probe is due immediately.
func (b *breaker) restore(now time.Time) {
	*b = breaker{open: true, probing: b.probing, next: now, wait: probeFirst / 2}
}

func (b *breaker) oldest() bool { return b.probes%2 == 0 }

func (b *breaker) probeFailed(now time.Time) {
	b.probes++
	b.wait = min(2*b.wait, probeLast)
	b.next = now.Add(b.wait)
}
