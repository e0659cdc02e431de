package bridge

import (
	"context"
	"slices"
	"sync"
	"time"

	"github.com/rs/zerolog"
	"golang.org/x/sync/errgroup"

	"gancho/delivery/dispatch"
	"gancho/delivery/endpoint"
	"gancho/delivery/queue"
)

const (
	// openTimeout bounds how long a source may take to be opened, and streamTimeout how long its stream may take to
	// begin, before others get its place.
	openTimeout   = time.Minute
	streamTimeout = 15 * time.Second
	// crowdedTimeout is how long a source that waits for its server is read before others get its place that wait for one.
	crowdedTimeout = 30 * time.Second
	// lookEvery is the time between two looks whether the queue of a source that is not read has something to deliver.
	lookEvery = time.Second
)

// session reads and delivers the source until there is nothing to do.
func (m *member) session(ctx context.Context) {
	f := m.fleet
	defer func() {
		f.mu.Lock()
		m.end()
		m.end, m.closing = nil, false
		m.server.sessions--
		p := m.place
		f.mu.Unlock()
		if p != nil { // it was granted while the session ended
			<-m.grants
			f.vacate(m, p)
		}
		signal(f.wake)
	}()
	b, err := m.open(ctx)
	if err != nil {
		if ctx.Err() == nil {
			f.refuse(m, err)
		}
		return
	}
	delivering, stop := context.WithCancel(ctx)
	var delivery sync.WaitGroup
	if b.Deliver {
		delivery.Go(func() { m.deliver(delivering, b) })
	}
	for m.turn(ctx, b) {
	}
	stop()
	delivery.Wait()
	select {
	case <-m.needs: // the next session looks itself when it begins
	default:
	}
	f.applying.Lock()
	m.active = nil
	f.applying.Unlock()
	m.using.Lock() // until nobody does
	defer m.using.Unlock()
	b.closeSource()
}

// open opens the source's queue.
func (m *member) open(ctx context.Context) (*bridge, error) {
	f := m.fleet
	ctx, cancel := context.WithTimeout(ctx, openTimeout)
	defer cancel()
	b := m.half()
	var err error
	if b.queue, err = b.openQueue(ctx); err != nil {
		return nil, err
	}
	waits, err := m.waits(ctx, b)
	if err != nil {
		b.closeSource()
		return nil, err
	}
	if waits {
		signal(m.needs)
	}
	f.applying.Lock()
	m.active = b
	f.applying.Unlock()
	m.updateWith(f.endpointsNow)
	return b, nil
}

// half is a bridge of the source without a queue.
func (m *member) half() *bridge {
	f := m.fleet
	o := f.Options
	o.Source.DSN, o.Source.Slot, o.LookupDSN, o.Queue.Prefix = m.DSN, m.Slot, m.LookupDSN, m.QueuePrefix
	o.Capture, o.AcceptSource, o.Log = f.captures, m.accept.Load(), m.Log.Level(max(zerolog.WarnLevel, m.Log.GetLevel())) // a line per visit would be thousands
	o.Source.Log = o.Log
	b := newHalf(o, f.house)
	b.member, b.metrics, b.gauge = m, m.metrics, m.server.watch.Gauge(m.Slot)
	if f.store != nil {
		b.store = f.store.Of(m.Slot)
	}
	return b
}

// update has the open source use changed endpoints; the house's applying is held.
func (m *member) update(all []*endpoint.Endpoint) {
	b := m.active
	if b == nil {
		return
	}
	own := m.endpointsLocked(all)
	b.queue.Update(own)
	if b.dispatcher != nil {
		b.dispatcher.Update(own)
	}
	if c := m.capture.Load(); c != nil {
		c.verdicts.offer(own)
	}
}

func (m *member) updateWith(all func() []*endpoint.Endpoint) {
	m.fleet.applying.Lock()
	defer m.fleet.applying.Unlock()
	m.update(all())
}

// endpointsLocked are those that may get events of the source, or have some of it.
func (m *member) endpointsLocked(all []*endpoint.Endpoint) []*endpoint.Endpoint {
	return slices.DeleteFunc(slices.Clone(all), func(e *endpoint.Endpoint) bool {
		return !queue.TakesSource(e, m.Name) && !slices.Contains(m.holding, e.Name)
	})
}

// turn does what there is to do, and reports whether there may be more.
func (m *member) turn(ctx context.Context, b *bridge) bool {
	select {
	case p := <-m.grants:
		m.visit(b, p)
		return ctx.Err() == nil
	default:
	}
	m.fleet.mu.Lock()
	m.woken = false
	m.fleet.mu.Unlock()
	waits, err := m.waits(ctx, b)
	switch {
	case ctx.Err() != nil:
		return false
	case err == nil && !waits && m.leave():
		return false
	case waits:
		signal(m.needs)
	}
	timer := time.NewTimer(lookEvery)
	defer timer.Stop()
	select {
	case <-ctx.Done():
		return false
	case p := <-m.grants:
		m.visit(b, p)
	case <-timer.C:
	}
	return true
}

// leave reports whether the session may end: it was not given a place, nor something to deliver, meanwhile.
func (m *member) leave() bool {
	m.fleet.mu.Lock()
	defer m.fleet.mu.Unlock()
	m.closing = m.place == nil && !m.woken
	return m.closing
}

// waits reports whether the queue has something to deliver, or to store, now or later, which other processes may do: until then it is known
// what it holds. What waits for a person to act does not count: who acts has all sources looked at.
func (m *member) waits(ctx context.Context, b *bridge) (bool, error) {
	names, err := b.queue.Registered(ctx)
	if err != nil || len(names) == 0 {
		return false, err
	}
	m.fleet.applying.Lock()
	m.holding = names
	m.fleet.applying.Unlock()
	stats, err := m.readStats(ctx, b.queue, names)
	if err != nil {
		return false, err
	}
	sent := map[string]bool{}
	for _, e := range b.endpointsNow() {
		sent[e.Name] = e.State == endpoint.Active
	}
	m.fleet.mu.Lock()
	waits := time.Since(m.moving) < movingFor
	m.fleet.mu.Unlock()
	for i := range stats {
		s := &stats[i]
		if s.Backlog+s.Replays > s.Blocked && sent[s.Endpoint] && s.Reason == "" || b.Deliver && b.State != nil && s.LogEntries+s.Dead > 0 {
			waits = true
		}
	}
	return waits, nil
}

// readStats reads what the queue holds, which is shown while it is not open, too.
func (m *member) readStats(ctx context.Context, q *queue.Queue, names []string) ([]queue.Stats, error) {
	stats, err := q.Stats(ctx, names)
	if err != nil {
		return nil, err
	}
	kept := slices.Clone(stats)
	var backlog int64
	for i := range kept {
		kept[i].Owned = false // nor will it be when the queue is closed
		backlog += kept[i].Backlog
	}
	m.fleet.mu.Lock()
	defer m.fleet.mu.Unlock()
	m.backlog, m.stats = backlog, kept
	return stats, nil
}

// deliver delivers what the queue has, once it has something, until the context ends.
func (m *member) deliver(ctx context.Context, b *bridge) {
	for needed := false; !needed; {
		select {
		case <-ctx.Done():
			return
		case <-m.needs:
			needed = true
		case <-m.looks:
			needed, _ = m.waits(ctx, b) // who listens to Redis hears when it answers again
		}
	}
	f := m.fleet
	f.applying.Lock()
	b.dispatcher = dispatch.New(b.queue, f.sender, m.endpointsLocked(f.endpointsNow()), b.dispatcherOptions())
	f.applying.Unlock()
	group, ctx := errgroup.WithContext(ctx)
	drained := make(chan struct{})
	group.Go(func() error {
		defer close(drained)
		return b.dispatcher.Run(ctx)
	})
	if b.recorder != nil {
		group.Go(func() error { return b.recorder.run(ctx, drained) })
	}
	_ = group.Wait() // neither fails
}
