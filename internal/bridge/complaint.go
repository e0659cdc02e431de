package bridge

import (
	"sync"
	"time"

	"github.com/rs/zerolog"
)

// complaint says a lasting failure once in a while, and its end once.
type complaint struct {
	log           zerolog.Logger
	failed, again string // the lines

	mu    sync.Mutex
	since time.Time // when it began; zero: there is none
	last  time.Time
}

func (c *complaint) about(err error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	now := time.Now()
	if c.since.IsZero() {
		c.since = now
	}
	if now.Sub(c.last) >= complainEvery {
		c.last = now
		c.log.Error().Err(err).Msg(c.failed)
	}
}

func (c *complaint) over() {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.since.IsZero() {
		return
	}
	c.log.Info().Dur("after_ms", time.Since(c.since)).Msg(c.again)
	c.since, c.last = time.Time{}, time.Time{}
}
