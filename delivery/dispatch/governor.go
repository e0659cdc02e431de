package dispatch

import (
	"slices"
	"sync"
	"time"

	"golang.org/x/time/rate"
)

// Governor keeps what endpoints allow, their concurrency and rate, over several dispatchers of a process, each
// of which delivers from another queue to the same endpoints. Those that wait for a request of an endpoint get it in turn. The
// dispatchers also share the process's memory and gate through it. It is safe for concurrent use.
type Governor struct {
	memory memory
	gate   *gate
	mu     sync.Mutex
	shares map[string]*share
}

// NewGovernor returns a Governor.
func NewGovernor() *Governor {
	return &Governor{gate: newGate(schedulerDelays()), shares: map[string]*share{}}
}

// shared returns the memory and the gate that the dispatchers share; without a Governor, those of a dispatcher alone.
func (g *Governor) shared() (*memory, *gate) {
	if g == nil {
		return &memory{}, newGate(schedulerDelays())
	}
	return &g.memory, g.gate
}

// of returns the endpoint's share; nil without a Governor.
func (g *Governor) of(endpoint string) *share {
	if g == nil {
		return nil
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	s := g.shares[endpoint]
	if s == nil {
		s = &share{}
		g.shares[endpoint] = s
	}
	return s
}

const (
	// shareGrace is how long a turn is kept for who was woken for it: there may be nothing to send any more.
	shareGrace = 10 * time.Millisecond
	// shareAgain is when who waits asks again, should nobody wake it.
	shareAgain = 50 * time.Millisecond
)

// share is the requests of one endpoint, over all dispatchers. A nil share is one dispatcher's, without limits of its own.
type share struct {
	mu       sync.Mutex
	inFlight int
	limit    int           // as it was given last
	waiting  []*shareTurn  // those that have waited longest first
	per      float64       // second, of limiter
	limiter  *rate.Limiter // nil: no limit
}

// shareTurn is who waits for a request.
type shareTurn struct {
	wake  func() // to be called without locks
	of    any    // whose it is
	woken time.Time
}

// take takes a request, of limit at once, for somebody, or notes that it waits and reports false: wake is called in a
// goroutine of its own when it is its turn.
func (s *share) take(of any, limit int, now time.Time, wake func()) bool {
	if s == nil {
		return true
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.limit = limit
	s.waiting = slices.DeleteFunc(s.waiting, func(t *shareTurn) bool { return !t.woken.IsZero() && now.Sub(t.woken) > shareGrace && t.of != of })
	s.wakeLocked(of, now) // whose turn it is now may be one that nobody has woken, and nobody else will
	place := slices.IndexFunc(s.waiting, func(t *shareTurn) bool { return t.of == of })
	ahead := place
	if place < 0 {
		ahead = len(s.waiting)
	}
	if s.inFlight+ahead >= limit {
		if place < 0 {
			s.waiting = append(s.waiting, &shareTurn{wake: wake, of: of})
		} else {
			s.waiting[place].woken = time.Time{}
		}
		return false
	}
	if place >= 0 {
		s.waiting = slices.Delete(s.waiting, place, place+1)
	}
	s.inFlight++
	return true
}

// give gives a request back.
func (s *share) give(now time.Time) {
	if s == nil {
		return
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.inFlight--
	s.wakeLocked(nil, now)
}

// leave gives up the turn of somebody who takes no request any more.
func (s *share) leave(of any, now time.Time) {
	if s == nil {
		return
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.waiting = slices.DeleteFunc(s.waiting, func(t *shareTurn) bool { return t.of == of })
	s.wakeLocked(nil, now)
}

// wakeLocked wakes those for whom there are requests, but for the one that asks.
func (s *share) wakeLocked(asks any, now time.Time) {
	for i := range min(len(s.waiting), s.limit-s.inFlight) {
		if t := s.waiting[i]; t.woken.IsZero() && t.of != asks {
			t.woken = now
			time.AfterFunc(0, t.wake) // the caller has locks of its own
		}
	}
}

// limiterOf returns the limiter of a rate per second, which all have together; nil: there is no limit.
func (s *share) limiterOf(perSecond float64) *rate.Limiter {
	if s == nil {
		return newLimiter(perSecond)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.per != perSecond {
		s.per, s.limiter = perSecond, newLimiter(perSecond)
	}
	return s.limiter
}
