package dispatch

import (
	"time"

	"gancho/delivery/endpoint"
	"gancho/delivery/queue"
)

// takeOver goes on where the endpoint's last owner stopped. Call it with mu held.
func (c *courier) takeOver(s *queue.Condition, now time.Time) {
	c.paused, c.hold, c.unblock, c.pausedAt = s.Paused, s.Hold, s.Unblock, s.Since.UTC()
	c.health, c.healthKept = s.Health, s.Health
	if c.health.Open != 0 && c.lanes.order != endpoint.OrderEndpoint {
		c.breaker.restore(now)
	} else {
		c.health.Open = 0
	}
	if c.health.Idling != 0 && !c.standsStill() {
		c.goOn(now) // somebody has let it go on while nobody had it
	}
	c.idle(now)
	c.refit(now)
	if c.paused != "" {
		c.log.Warn().Str("endpoint", c.name).Str("reason", c.paused).Msg("endpoint is paused")
		if c.health.Noticed != c.pausedAt.UnixMilli() {
			c.tell(Notice{Kind: NoticePaused, Endpoint: c.name, Reason: c.paused, Since: c.pausedAt})
		}
	}
}

// standsStill reports whether events of the endpoint do not grow older now.
func (c *courier) standsStill() bool {
	return c.paused != "" || c.ep.State != endpoint.Active || c.breaker.open
}

// idle starts or stops the clock of the time that is no event's age. It is
// called whenever standsStill may have changed, with mu held.
func (c *courier) idle(now time.Time) {
	switch still := c.standsStill(); {
	case still && c.health.Idling == 0:
		c.health.Idling = now.UnixMilli()
	case !still && c.health.Idling != 0:
		c.health.Idle, c.health.Idling = c.health.IdledFor(now), 0
	}
}

// goOn gives an endpoint that somebody has let go on a new start: it is called
// at once, and has the whole of PauseAfter again. Call it with mu held.
func (c *courier) goOn(now time.Time) {
	c.health.Failing = 0
	if c.breaker.open {
		c.breaker.restore(now)
	}
}

// keepHealth adds what has changed of the endpoint's health to what is written
// next: in batches, because an endpoint that fails every second time changes
// it with each answer. Call it with mu held.
func (c *courier) keepHealth() {
	if c.health != c.healthKept {
		c.results.SetHealth(&c.health)
		c.healthKept = c.health
	}
}

// pause lets the endpoint have nothing until somebody lets it go on. Its events
// are kept. Call it with mu held.
func (c *courier) pause(reason string, now time.Time) {
	if c.paused != "" {
		return
	}
	c.paused, c.pausedAt = reason, time.UnixMilli(now.UnixMilli()).UTC()
	c.stateChanges++
	c.results.Pause(reason, now)
	if c.health.Trouble == 0 && c.o.Notify != nil {
		c.health.Trouble = now.UnixMilli()
	}
	c.idle(now)
	c.log.Error().Str("endpoint", c.name).Str("reason", reason).Msg("endpoint paused: its events are kept until it is unpaused")
	c.tell(Notice{Kind: NoticePaused, Endpoint: c.name, Reason: reason, Since: c.pausedAt})
	for _, l := range c.lanes.lanes {
		c.lanes.dropBodies(l)
	}
}

// succeeded notes that the endpoint has taken an event. Call it with mu held.
func (c *courier) succeeded() {
	c.health.Failing = 0
	if c.health.Trouble != 0 && c.paused == "" {
		c.tell(Notice{Kind: NoticeRecovered, Endpoint: c.name, Since: time.UnixMilli(c.health.Trouble).UTC()})
	}
}

// failedFor is how long every attempt has failed. Call it with mu held.
func (c *courier) failedFor(now time.Time) time.Duration {
	if c.health.Failing == 0 {
		return 0
	}
	return now.Sub(time.UnixMilli(c.health.Failing))
}

// failsForGood reports whether every attempt has failed for as long as it may
// take. Then the endpoint is paused, and no event is given up. Call it with mu held.
func (c *courier) failsForGood(now time.Time) bool {
	limit := c.ep.PauseAfter
	return limit > 0 && c.failedFor(now) >= limit
}
