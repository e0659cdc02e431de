package control

import (
	"cmp"
	"context"
	"slices"
	"sync"
	"time"

	"gancho/delivery/queue"
	"gancho/internal/state"
)

// What is known of very many endpoints at a glance.
const (
	// fewEndpoints are read each time.
	fewEndpoints = 200
	// glanceAge is how old what is known of an idle one among more of them may be: Redis works for a fraction of a second on ten thousand.
	glanceAge = 5 * time.Second
)

// glance is what was read of all endpoints lately, for those who ask about very many.
type glance struct {
	mu     sync.Mutex // held while it is read: the others wait for the same
	stats  map[string]queue.Stats
	read   time.Time
	recent map[string]state.Recent
	asked  time.Time // when recent was read
}

// stats returns what the queue holds of each endpoint, in their order. Of more than a few, those that were idle may be as they were
// glanceAge ago; those with the most queued, and those that somebody has to look at, are as they are now.
func (s *Service) stats(ctx context.Context, names []string) ([]queue.Stats, error) {
	if len(names) <= fewEndpoints {
		return s.queueStats(ctx, names)
	}
	g := &s.glance
	g.mu.Lock()
	defer g.mu.Unlock()
	out := make([]queue.Stats, len(names))
	var again []int // those of names that are read now
	for i, name := range names {
		known, ok := g.stats[name]
		out[i] = known
		if !ok {
			again = append(again, i)
		}
	}
	now := time.Now()
	whole := now.Sub(g.read) > glanceAge || len(again) > fewEndpoints
	if whole {
		again = again[:0]
		for i := range names {
			again = append(again, i)
		}
	} else {
		again = append(again, busiest(out, fewEndpoints)...)
	}
	asked := make([]string, len(again))
	for i, at := range again {
		asked[i] = names[at]
	}
	fresh, err := s.queueStats(ctx, asked)
	if err != nil {
		return nil, err
	}
	if whole {
		g.stats, g.read = make(map[string]queue.Stats, len(names)), now
	}
	for i, at := range again {
		out[at], g.stats[names[at]] = fresh[i], fresh[i]
	}
	return out, nil
}

// busiest are the places of up to n of those that are not idle: those that somebody has to look at first, then by how much is queued.
func busiest(stats []queue.Stats, n int) []int {
	var places []int
	for i := range stats {
		if s := &stats[i]; urgent(s) || s.Backlog+s.Replays+s.Dead > 0 {
			places = append(places, i)
		}
	}
	slices.SortFunc(places, func(a, b int) int {
		x, y := &stats[a], &stats[b]
		return cmp.Or(-compareBool(urgent(x), urgent(y)), cmp.Compare(y.Backlog, x.Backlog))
	})
	return places[:min(n, len(places))]
}

// urgent reports whether something is not in order with the endpoint, whatever is queued.
func urgent(s *queue.Stats) bool { return s.Reason != "" || s.Blocked > 0 || !s.Failing.IsZero() }

func compareBool(a, b bool) int {
	switch {
	case a == b:
		return 0
	case a:
		return 1
	}
	return -1
}

// recent returns what was sent of the actor's events in the minute before now, by endpoint: beside very many endpoints of all, as it was
// glanceAge ago.
func (s *Service) recent(ctx context.Context, a Actor, now time.Time, endpoints int) (map[string]state.Recent, error) {
	since := now.Add(-time.Minute)
	if a.Tenant != "" || s.SourceName != "" || endpoints <= fewEndpoints {
		return s.Store.Recent(ctx, since, a.Tenant, s.ownSource())
	}
	g := &s.glance
	g.mu.Lock()
	defer g.mu.Unlock()
	if now.Sub(g.asked) <= glanceAge {
		return g.recent, nil
	}
	found, err := s.Store.Recent(ctx, since, "", nil)
	if err == nil {
		g.recent, g.asked = found, now
	}
	return found, err
}
