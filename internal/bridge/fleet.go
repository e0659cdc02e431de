package bridge

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"golang.org/x/sync/errgroup"

	"gancho/delivery/dispatch"
	"gancho/delivery/endpoint"
)

const (
	// listEvery is how often it is looked which sources there are.
	listEvery = time.Minute
	// listTimeout bounds one look, activityTimeout one at what was written.
	listTimeout     = 30 * time.Second
	activityTimeout = 5 * time.Second
	// activityEvery is how often it is looked what was written, heldEvery how much WAL is held.
	activityEvery = time.Second
	heldEvery     = 20 * time.Second
	// quietAfter is how long nothing was written to a source that is read no longer until it is visited again.
	quietAfter = 30 * time.Second
	// leastTurn is how long a source that is written to all the time is read at least before another one gets its place.
	leastTurn = 2 * time.Second
	// leastJobTurn is that of one with a job, which begins where it was with each turn: half of the places that stay may have it.
	leastJobTurn = 20 * time.Second
	// livelyAlike is for how long a source counts as one that is written to now: sessions report what they write once a second. One that is for
	// busyFrom without a pause is written to all the time.
	livelyAlike, busyFrom = 3 * time.Second, 5 * time.Second
	// visitParts: one in so many places is left to visits.
	visitParts = 4
)

// fleet is the sources of a process that has several. Each idle walsender costs the server some CPU with each
// commit of any database, so that only those that are written to are read all the time. The others are visited: when
// the counters of their server say that something was written, and from time to time whatever they say.
type fleet struct {
	*bridge  // the house's
	o        Sources
	captures bool          // this process reads its sources
	wake     chan struct{} // capacity 1: somebody's place, or need of one, has changed
	relist   chan struct{} // capacity 1: the sources are to be listed now
	relisted chan struct{} // capacity 1: they are others
	sessions sync.WaitGroup
	unlisted complaint
	governor *dispatch.Governor // of the endpoints, over all sources
	jobs     chan struct{}      // capacity 1: some were added
	active   map[string]bool    // endpoints that are delivered to; guarded likewise

	mu      sync.Mutex
	stopped bool               // guarded by mu, as what follows
	listed  bool               // the sources were, once
	members map[string]*member // by their names
	queues  map[string]*member // by the prefixes of their queues
	servers map[string]*server // by their addresses
	placed  int                // places that are taken
	looking int                // sources whose session is opened without a place: as many at once as there are places
	crowded bool               // some sources wait for a place
	version int                // of the rules
}

func newFleet(b *bridge, captures bool) *fleet {
	o := *b.Sources
	o.Streams = cmp.Or(o.Streams, DefaultStreams)
	o.VisitEvery = cmp.Or(o.VisitEvery, DefaultVisitEvery)
	return &fleet{
		bridge: b, o: o, captures: captures, wake: make(chan struct{}, 1), relist: make(chan struct{}, 1), relisted: make(chan struct{}, 1),
		members: map[string]*member{}, servers: map[string]*server{},
		governor: dispatch.NewGovernor(), jobs: make(chan struct{}, 1),
		unlisted: complaint{log: b.Log, failed: "the sources cannot be listed; they stay as they were", again: "the sources are listed again"},
	}
}

// run reads and delivers the sources until the context ends.
func (f *fleet) run(ctx context.Context) error {
	defer f.close()
	// What of the house's is a source's, too, has no source there.
	house := prometheus.WrapRegistererWith(prometheus.Labels{"source": ""}, f.metrics.registry)
	if err := errors.Join(f.metrics.registry.Register(f), house.Register(f.metrics.recordsWaiting)); err != nil {
		return fmt.Errorf("register the metrics of the sources: %w", err)
	}
	defer f.metrics.registry.Unregister(f)
	defer house.Unregister(f.metrics.recordsWaiting)
	if _, err := waitFor(ctx, f.Log, "source", func() (struct{}, error) { return struct{}{}, f.list(ctx) }); err != nil {
		if ctx.Err() != nil {
			return nil // the end that was asked for
		}
		return err
	}
	f.applying.Lock()
	f.activatedLocked(f.endpointsNow())
	f.applying.Unlock()
	group, ctx := errgroup.WithContext(ctx)
	group.Go(func() error { return f.watchList(ctx) })
	group.Go(func() error { return f.watchActivity(ctx) })
	if f.Deliver {
		group.Go(func() error {
			f.bridge.queue.ListenTo(ctx, f.prefixes, f.relisted, f.woken)
			return nil
		})
	}
	if f.State != nil && f.captures {
		group.Go(func() error { return f.watchJobs(ctx) })
		group.Go(func() error { return f.sendClosings(ctx) })
	}
	group.Go(func() error {
		tick := time.NewTicker(activityEvery)
		defer tick.Stop()
		for {
			f.assign(ctx, time.Now())
			select {
			case <-ctx.Done():
				f.mu.Lock()
				f.stopped = true
				f.mu.Unlock()
				f.sessions.Wait()
				return nil
			case <-f.wake:
			case <-tick.C:
			}
		}
	})
	return group.Wait()
}

// close releases what the fleet has of its servers; the sessions have ended.
func (f *fleet) close() {
	f.mu.Lock()
	defer f.mu.Unlock()
	for _, s := range f.servers {
		s.watch.Close(context.Background())
	}
	for _, m := range f.members {
		m.forget()
	}
}

// watchList keeps the sources those that there are.
func (f *fleet) watchList(ctx context.Context) error {
	tick := time.NewTicker(listEvery)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-f.relist:
		case <-tick.C:
		}
		if err := f.list(ctx); err == nil {
			f.unlisted.over()
		} else if ctx.Err() == nil {
			f.unlisted.about(err)
		}
	}
}

// list takes up the sources that are new, and lets those go that are no more.
func (f *fleet) list(ctx context.Context) error {
	limited, cancel := context.WithTimeout(ctx, listTimeout)
	defer cancel()
	sources, err := f.o.List(limited)
	if err != nil {
		return fmt.Errorf("list the sources: %w", err)
	}
	now := make(map[string]*member, len(sources))
	var added []*member
	f.mu.Lock()
	defer f.mu.Unlock()
	for _, s := range sources {
		if now[s.Name] != nil {
			return fmt.Errorf("list the sources: two have the name %q", s.Name)
		}
		if known := f.members[s.Name]; known != nil && known.Source == s {
			now[s.Name] = known
			continue
		}
		m, err := f.newMemberLocked(s)
		if err != nil {
			return err
		}
		now[s.Name] = m
		added = append(added, m)
	}
	for name, m := range f.members {
		if now[name] != m {
			f.letGoLocked(m, now[name] == nil)
		}
	}
	for _, m := range added {
		m.takeUpMetrics()
		if f.listed {
			m.Log.Info().Str("slot", m.Slot).Msg("source taken up")
		}
	}
	if !f.listed {
		f.Log.Info().Int("sources", len(now)).Int("walsenders", f.o.Streams).Msg("sources taken up")
	}
	f.members, f.listed, f.queues = now, true, make(map[string]*member, len(now))
	for _, m := range now {
		f.queues[m.QueuePrefix] = m
	}
	signal(f.wake)
	signal(f.relisted)
	return nil
}

// letGoLocked ends what is done for a source; gone: it is not listed under its name any more.
func (f *fleet) letGoLocked(m *member, gone bool) {
	m.gone = true
	m.forget()
	if m.place != nil {
		m.releaseLocked()
	}
	if m.end != nil {
		m.end()
	}
	if !gone {
		return
	}
	fate := "its slot has gone with its database"
	if held, there := m.server.held[m.Slot]; there && m.server.has(m.database) {
		fate = fmt.Sprintf("its slot is still there and holds %s of WAL; where it is not needed any more, run SELECT pg_drop_replication_slot('%s')", size(held), m.Slot)
	}
	m.Log.Warn().Str("slot", m.Slot).Str("fate", fate).
		Msg("source is not among the sources any more: it is read no longer; what is queued of it stays in redis and, over a quota, in the state database (gancho.overflow), where no command reaches it, and is delivered when it is one again")
}

// assign gives places to those that need them, and takes them from those that do not.
func (f *fleet) assign(ctx context.Context, now time.Time) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.stopped || ctx.Err() != nil {
		return
	}
	holding, lingering, trying := f.placed, 0, 0
	var waiting, staying []*member
	for _, m := range f.members {
		switch {
		case m.place != nil:
			if m.problem != nil && !m.place.look {
				trying++
			}
			if m.place.reached && !m.place.ending {
				if m.livelyLocked(now) {
					lingering++
					staying = append(staying, m)
				} else {
					m.releaseLocked()
				}
			}
		case m.dueLocked(now):
			waiting = append(waiting, m)
		}
	}
	slices.SortFunc(waiting, func(a, b *member) int {
		return cmp.Or(a.needLocked(now).Compare(b.needLocked(now)), cmp.Compare(a.Name, b.Name))
	})
	// Those that could not be read last leave most places to the others: each may keep one for a minute, for nothing.
	visits := max(1, f.o.Streams/visitParts)
	var left []*member
	for _, m := range waiting {
		switch {
		case m.problem != nil && trying >= visits:
		case holding >= f.o.Streams:
			left = append(left, m)
		default:
			f.grantLocked(ctx, m, now, false)
			holding++
			if m.problem != nil {
				trying++
			}
		}
	}
	waiting, f.crowded = left, len(left) > 0
	for _, m := range f.members { // those that wait for a place, too: all places may wait for Redis, which is full of their backlogs
		if f.looking < f.o.Streams && m.looksLocked() {
			f.grantLocked(ctx, m, now, true)
		}
	}
	// Those that stay leave some places to visits.
	quiet := func(m *member) time.Duration { return max(0, now.Sub(m.lively)-livelyAlike) }
	slices.SortFunc(staying, func(a, b *member) int { // those that are quiet for longest go first, then those that were just written to once, and of others those that have stayed longest
		return cmp.Or(cmp.Compare(quiet(b), quiet(a)), cmp.Compare(min(a.busyLocked(), busyFrom), min(b.busyLocked(), busyFrom)), a.place.since.Compare(b.place.since))
	})
	stay := f.o.Streams - visits
	jobTurns := max(1, stay/2)
	if len(waiting) == 0 {
		return
	}
	for _, m := range staying {
		if lingering <= stay {
			return
		}
		turn, job := m.turnLocked(&jobTurns)
		over := now.Sub(m.place.since) >= turn
		if over {
			m.releaseLocked()
		}
		if over || !job { // one whose turn will be over in a moment is waited for, rather than a busier one released
			lingering--
		}
	}
}

// redefine has the sources read with the rules as they are now.
func (f *fleet) redefine() {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.version++
	for _, m := range f.members {
		m.retry, m.visited, m.known = time.Time{}, time.Time{}, nil
		if m.place != nil {
			m.place.outdated = true
			m.releaseLocked()
		}
	}
	signal(f.relist)
	signal(f.wake)
}

// watchJobs has the sources read that have jobs, until the context ends.
func (f *fleet) watchJobs(ctx context.Context) error {
	tick := time.NewTicker(listEvery)
	defer tick.Stop()
	for {
		slots, err := f.store.JobSources(ctx)
		if err != nil && ctx.Err() == nil {
			f.stateComplaint.about(err)
		}
		f.mu.Lock()
		for _, m := range f.members {
			if m.hasJobs = slices.Contains(slots, m.Slot); m.hasJobs {
				m.due = time.Now()
				if b := m.reading.Load(); b != nil {
					signal(b.jobsChanged)
				}
			}
		}
		f.mu.Unlock()
		signal(f.wake)
		select {
		case <-ctx.Done():
			return nil
		case <-f.jobs:
		case <-tick.C:
		}
	}
}

// updateLocked hands changed endpoints to the sources that are open; the house's applying is held.
func (f *fleet) updateLocked(all []*endpoint.Endpoint) {
	activated := f.activatedLocked(all)
	f.mu.Lock()
	members := slices.Collect(maps.Values(f.members))
	if activated {
		for _, m := range members {
			m.wakeLocked() // there may be something to deliver
		}
	}
	f.mu.Unlock()
	for _, m := range members {
		m.update(all)
	}
}

// activatedLocked notes which endpoints are delivered to, and reports whether one was not before; the house's applying is held.
func (f *fleet) activatedLocked(all []*endpoint.Endpoint) (activated bool) {
	now := map[string]bool{}
	for _, e := range all {
		if e.State == endpoint.Active {
			now[e.Name] = true
			activated = activated || !f.active[e.Name]
		}
	}
	f.active = now
	return activated
}

// open are the bridges of the sources that are open.
func (f *fleet) open() []*bridge {
	f.applying.Lock()
	defer f.applying.Unlock()
	f.mu.Lock()
	defer f.mu.Unlock()
	var all []*bridge
	for _, m := range f.members {
		if m.active != nil {
			all = append(all, m.active)
		}
	}
	return all
}
