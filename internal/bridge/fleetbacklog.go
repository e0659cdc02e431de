package bridge

import (
	"context"
	"maps"
	"slices"
	"strings"
	"time"

	"gancho/delivery/endpoint"
	"gancho/delivery/queue"
)

// movingFor is how long a source's session is kept after it was asked to move events to the state database. Whoever measures the
// backlogs asks each second.
const movingFor = 10 * time.Second

// memberStats is what the queue of a source holds.
type memberStats struct {
	of    *member
	stats []queue.Stats
}

// stats returns what the queues of the sources hold of endpoints; of those that are not open, or do not answer, what they held when they were read
// last: without them a backlog would seem to be within its quota.
func (f *fleet) stats(ctx context.Context, names []string) []memberStats {
	open := f.open()
	var all []memberStats
	f.mu.Lock()
	for _, m := range f.members {
		if !slices.ContainsFunc(open, func(b *bridge) bool { return b.member == m }) {
			all = append(all, memberStats{m, m.stats})
		}
	}
	f.mu.Unlock()
	for _, b := range open {
		b.member.using.RLock()
		stats, err := b.queue.Stats(ctx, names)
		b.member.using.RUnlock()
		if err != nil { // it is being closed, or Redis is unreachable, which others say
			f.mu.Lock()
			all = append(all, memberStats{b.member, b.member.stats})
			f.mu.Unlock()
			continue
		}
		all = append(all, memberStats{b.member, stats})
		var backlog int64
		for i := range stats {
			backlog += stats[i].Backlog
		}
		f.mu.Lock()
		b.member.backlog = backlog
		f.mu.Unlock()
	}
	return all
}

// addTo adds what the queues of the sources hold to that of the house's.
func addTo(all []queue.Stats, sources []memberStats) {
	at := make(map[string]int, len(all))
	for i := range all {
		at[all[i].Endpoint] = i
	}
	for _, of := range sources {
		for i := range of.stats {
			s := of.stats[i]
			n, there := at[s.Endpoint]
			if !there {
				continue
			}
			if s.Closing != nil {
				closing := *s.Closing
				closing.Source = of.of.Name
				s.Closing = &closing
			}
			all[n].Add(&s)
		}
	}
}

// addStats adds what the queues of the sources hold to that of the house's.
func (f *fleet) addStats(ctx context.Context, all []queue.Stats) {
	names := make([]string, len(all))
	for i := range all {
		names[i] = all[i].Endpoint
	}
	addTo(all, f.stats(ctx, names))
}

// ofSource stands between a source and an endpoint of which it has a queue.
const ofSource = "/"

// apart are the queues of the sources that hold something, each as that of an endpoint of its own.
func apart(endpoints []*endpoint.Endpoint, sources []memberStats) (each []*endpoint.Endpoint, stats []queue.Stats) {
	at := make(map[string]int, len(endpoints))
	for i := range endpoints {
		at[endpoints[i].Name] = i
	}
	for _, of := range sources {
		for i := range of.stats {
			s := of.stats[i]
			n, there := at[s.Endpoint]
			if !there || s.Backlog == 0 {
				continue
			}
			s.Endpoint = of.of.Name + ofSource + s.Endpoint
			each, stats = append(each, endpoints[n]), append(stats, s)
		}
	}
	return each, stats
}

// overflow has the oldest events of the sources' queues be moved to the state database, until so many of each are left.
func (f *fleet) overflow(ctx context.Context, keep map[string]int64) {
	of := map[string]map[string]int64{}
	for name, n := range keep {
		source, endpoint, _ := strings.Cut(name, ofSource)
		if of[source] == nil {
			of[source] = map[string]int64{}
		}
		of[source][endpoint] = n
	}
	now := time.Now()
	f.mu.Lock()
	var asked []*member
	for source := range of {
		if m := f.members[source]; m != nil {
			asked = append(asked, m)
			m.moving = now
			m.wakeLocked() // its session moves them, or asks others to
		}
	}
	f.mu.Unlock()
	for _, m := range asked {
		m.overflow(ctx, of[m.Name])
	}
}

// overflow is that of the fleet for a source; while the session is not open yet, the next measurement asks again.
func (m *member) overflow(ctx context.Context, keep map[string]int64) {
	f := m.fleet
	f.applying.Lock()
	open := m.active != nil
	if open && m.active.dispatcher != nil {
		d := m.active.dispatcher
		d.Overflow(keep)
		maps.DeleteFunc(keep, func(name string, _ int64) bool { return d.Owns(name) })
	}
	f.applying.Unlock()
	if f.captures && open && len(keep) > 0 {
		// Others say that Redis is unreachable, and the next measurement asks again.
		_ = m.withQueue(ctx, func(_ *member, q *queue.Queue) error { return q.AskOverflow(ctx, keep) })
	}
}

// prefixes are those of the sources' queues.
func (f *fleet) prefixes() []string {
	f.mu.Lock()
	defer f.mu.Unlock()
	return slices.Collect(maps.Keys(f.queues))
}

// woken has the queue of a source be looked at: something was appended to it to which this process does not deliver, by another one, such as that
// which reads the source, or by a timer or a schedule of this one; or who has leases has changed, which each dispatcher that begins or ends
// says, those of this process too, so that it is no reason to begin one.
func (f *fleet) woken(prefix string, why queue.Wake) {
	f.mu.Lock()
	defer f.mu.Unlock()
	m := f.queues[prefix]
	if m == nil {
		return
	}
	moves := why.Overflow && f.State != nil
	if moves {
		m.moving = time.Now()
	}
	if m.end != nil && (why.Events || moves) {
		signal(m.needs)
	}
	m.wakeLocked()
}

// wakeLocked has its queue be looked at: there may be something to deliver, to store or to move.
func (m *member) wakeLocked() {
	switch {
	case m.end != nil: // the session may read for long before it looks
		signal(m.looks)
	case !m.woken:
		signal(m.fleet.wake)
	}
	m.woken = true
}
