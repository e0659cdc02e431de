package bridge

import (
	"fmt"
	"maps"
	"slices"
	"strings"
	"sync"
	"time"

	"gancho/delivery/queue"
)

// stuckMoves are endpoints of which no event has moved out of Redis since somebody was asked to
// move them: no process has the endpoint, or the one that has it has no state database, or fails.
// What they hold counts, and others move in their place, until they are asked again.
type stuckMoves struct {
	mu    sync.Mutex
	moves map[string]*pendingMove // guarded by mu
}

// pendingMove is an endpoint whose events are to move.
type pendingMove struct {
	here, overflowed int64     // of its events, when something moved last
	since            time.Time // when that was, or it was asked first
	seen             time.Time // when it was asked last
	until            time.Time // when it is asked again, after it was stuck; zero: it is not
}

const (
	// stuckAfter is how long an endpoint is asked in vain: longer than a lease and a
	// statement that waits for a lock. stuckAgain is how long it is left alone then.
	stuckAfter = 30 * time.Second
	stuckAgain = 2 * time.Minute
)

// among returns the endpoints that are stuck.
func (m *stuckMoves) among(stats []queue.Stats, now time.Time) map[string]bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	stuck := map[string]bool{}
	for i := range stats {
		s := &stats[i]
		p := m.moves[s.Endpoint]
		if p == nil {
			continue
		}
		here := s.Backlog - s.Overflowed
		switch {
		case here < p.here || s.Overflowed != p.overflowed:
			p.here, p.overflowed, p.since, p.until = here, s.Overflowed, now, time.Time{}
		case p.until.IsZero() && now.Sub(p.since) >= stuckAfter:
			p.until = now.Add(stuckAgain)
		case !p.until.IsZero() && !now.Before(p.until):
			p.since, p.until = now, time.Time{}
		}
		if stuck[s.Endpoint] = !p.until.IsZero(); stuck[s.Endpoint] {
			p.seen = now
		}
	}
	maps.DeleteFunc(m.moves, func(_ string, p *pendingMove) bool { return now.Sub(p.seen) > stuckAfter })
	return stuck
}

// asked notes which endpoints' events are to move.
func (m *stuckMoves) asked(stats []queue.Stats, keep map[string]int64, now time.Time) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.moves == nil {
		m.moves = map[string]*pendingMove{}
	}
	for i := range stats {
		s := &stats[i]
		if _, ok := keep[s.Endpoint]; !ok {
			continue
		}
		if m.moves[s.Endpoint] == nil {
			m.moves[s.Endpoint] = &pendingMove{here: s.Backlog - s.Overflowed, overflowed: s.Overflowed, since: now}
		}
		m.moves[s.Endpoint].seen = now
	}
}

// err says which endpoints are stuck; nil: none.
func (m *stuckMoves) err() error {
	m.mu.Lock()
	defer m.mu.Unlock()
	var names []string
	otherwise := "; or delete what nobody needs (gancho endpoints remove NAME --drop-queue)"
	for _, name := range slices.Sorted(maps.Keys(m.moves)) {
		if m.moves[name].until.IsZero() {
			continue
		}
		if source, endpoint, several := strings.Cut(name, ofSource); several {
			name, otherwise = endpoint+" of source "+source, "" // the endpoint may be needed for other sources
		}
		names = append(names, name)
	}
	if len(names) == 0 {
		return nil
	}
	return fmt.Errorf("backlogs that are over their quota stay in redis: nobody moves those of %s to the state database; "+
		"see that a process delivers them that has state.dsn and state.key, and its log%s", strings.Join(names, ", "), otherwise)
}
