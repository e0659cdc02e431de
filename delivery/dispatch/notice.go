package dispatch

import (
	"context"
	"slices"
	"time"

	"gancho/delivery/queue"
)

// NoticeKind says what has happened to an endpoint.
type NoticeKind string

// The kinds of notices.
const (
	// NoticePaused: the endpoint was paused by itself; its events are kept.
	NoticePaused NoticeKind = "paused"
	// NoticeRecovered: the first success after the endpoint was paused by
	// itself, or after the breaker had been open for more than a minute.
	NoticeRecovered NoticeKind = "recovered"
	// NoticeDeadLetter: an event was given up.
	NoticeDeadLetter NoticeKind = "dead_letter"
)

// Notice is something that somebody should know of an endpoint.
//
// Paused and recovered are told at least once: what Redis keeps of the endpoint
// says whether they have been, and whoever owns it next tells them otherwise.
// Dead letters are told once they are among the dead letters, and not again
// when the process ends before; of a flood, not all are (the dead letters
// themselves are all there).
type Notice struct {
	Kind     NoticeKind
	Endpoint string
	// Reason says why the endpoint is paused, or why the event was given up.
	Reason string
	// Since is when the endpoint was paused, or since when it had not answered.
	// Of a dead letter: when the event was given up.
	Since time.Time
	// Event, WebhookID and Tenant are the dead letter's, and Attempts how often
	// it was sent.
	Event, WebhookID, Tenant string
	Attempts                 int
}

// maxOwed bounds the notices of one endpoint that wait for being told.
const maxOwed = 256

// notices are those of one courier that have not been told yet, the oldest
// first. They are guarded by its mutex.
type notices struct {
	owed     []Notice
	burials  map[queue.ID]Notice // to be told once Redis has the dead letters
	telling  bool
	failures int
	next     time.Time // after a failure
	dropped  int       // dead letters, since the last that was told
}

// tell has a notice told, in its turn. Call it with mu held.
func (c *courier) tell(n Notice) {
	owed := &c.notices
	switch {
	case c.o.Notify == nil:
		return
	case n.Kind == NoticeDeadLetter && len(owed.owed) >= maxOwed:
		owed.dropped++
		return
	case n.Kind == NoticeRecovered && slices.ContainsFunc(owed.owed, func(o Notice) bool { return o.Kind == NoticeRecovered }):
		return
	}
	owed.owed = append(owed.owed, n)
	c.startTelling(time.Now())
}

// startTelling starts telling what is to be told, unless that is under way.
// Call it with mu held.
func (c *courier) startTelling(now time.Time) {
	owed := &c.notices
	if owed.telling || c.lost || len(owed.owed) == 0 {
		return
	}
	if now.Before(owed.next) {
		c.arm(owed.next)
		return
	}
	owed.telling = true
	c.spawn(c.tellAll)
}

// tellAll tells notices until there are none, or one could not be told.
func (c *courier) tellAll(ctx context.Context) {
	for {
		c.mu.Lock()
		owed := &c.notices
		if c.lost || len(owed.owed) == 0 {
			owed.telling = false
			c.mu.Unlock()
			return
		}
		n := owed.owed[0]
		c.mu.Unlock()
		err := c.o.Notify(ctx, n)
		c.mu.Lock()
		if err != nil {
			c.tellingFailed(err)
			c.mu.Unlock()
			return
		}
		c.told(n)
		c.mu.Unlock()
	}
}

// tellingFailed ends telling for a while. An owner that is closing leaves what
// is left to the next, who finds in Redis what was not told.
func (c *courier) tellingFailed(err error) {
	owed := &c.notices
	owed.telling = false
	owed.failures++
	if owed.failures == 1 && !c.closing {
		c.log.Warn().Err(err).Str("endpoint", c.name).Msg("a notice about the endpoint cannot be passed on now: trying again")
	}
	owed.next = time.Now().Add(queue.Backoff(owed.failures))
	if c.closing {
		owed.owed = nil
		return
	}
	c.arm(owed.next)
}

// told notes that the first notice has been told.
func (c *courier) told(n Notice) {
	owed := &c.notices
	owed.owed = owed.owed[1:]
	owed.failures = 0
	switch n.Kind {
	case NoticePaused:
		c.health.Noticed = n.Since.UnixMilli()
	case NoticeRecovered:
		if c.health.Trouble = 0; c.paused != "" { // in the meantime
			c.health.Trouble = c.pausedAt.UnixMilli()
		}
	}
	if owed.dropped > 0 {
		c.log.Warn().Str("endpoint", c.name).Int("dead_letters", owed.dropped).Msg("too many dead letters at once: not all were announced")
		owed.dropped = 0
	}
	c.startWrite()
}
