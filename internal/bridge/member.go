package bridge

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/rs/zerolog"
	"golang.org/x/sync/errgroup"

	"gancho/cdc"
	"gancho/delivery/dispatch"
	"gancho/delivery/endpoint"
	"gancho/delivery/queue"
	"gancho/internal/retry"
	"gancho/mapping"
)

const (
	// openTimeout bounds how long a source may take to be opened, and streamTimeout how long its stream may take to
	// begin, before others get its place.
	openTimeout   = time.Minute
	streamTimeout = 15 * time.Second
	// lookEvery is the time between two looks whether the queue of a source that is not read has something to deliver.
	lookEvery = time.Second
)

// member is one of several sources. It is closed but for what is said here while it is neither read nor has
// anything to deliver: then it has a session.
type member struct {
	Source
	fleet    *fleet
	database string
	server   *server
	Log      zerolog.Logger
	metrics  *metrics
	forget   func()        // removes the metrics
	grants   chan *grant   // capacity 1: it is to be read
	needs    chan struct{} // capacity 1: there is something to deliver
	warned   warned
	capture  atomic.Pointer[capture] // that reads it; nil: it is not read
	reading  atomic.Pointer[bridge]  // of the capture
	jobs     atomic.Int32            // of it, that are worked on

	// using is held while the queue is used from outside of the session.
	using sync.RWMutex
	// Guarded by the house's applying: the bridge of the session, nil: there is none; and the endpoints that its queue has
	// something of, or had.
	active  *bridge
	holding []string

	// What follows is guarded by the fleet's mu.
	gone    bool               // it is a source no more
	end     context.CancelFunc // ends the session; nil: there is none
	closing bool               // the session takes no place any more
	place   *grant             // nil: it has none
	written int64              // as the server counted last; -1: not known
	moved   time.Time          // since when something was written that was not read; zero: nothing was
	lively  time.Time          // when something was written last
	visited time.Time          // when it was read up to its end last
	due     time.Time          // when a timer or a schedule of it is due; zero: none is
	retry   time.Time          // it is not to be read before
	problem error              // why it is not read; nil: it is
	backlog int64
	parked  int64
	queued  time.Time // when an event of it was queued last
	warnAt  time.Time // when was logged that much WAL is held

	// What the last visit has left for the next one.
	told      told
	known     *knownSource // nil: everything is to be prepared
	compared  time.Time    // when the tables were compared with the stream's
	hasJobs   bool
	accept    bool // Options.AcceptSource, for the first
	epoch     uint16
	confirmed cdc.LSN // durable, in that epoch
}

// grant is the right to read a source. Its fields are guarded by the fleet's mu but for the first ones.
type grant struct {
	ctx      context.Context //nolint:containedctx // of the right: its end is that of the reading
	end      context.CancelFunc
	since    time.Time
	target   cdc.LSN // up to where it is to be read at least; 0: it is not known
	moved    bool    // something was written that is to be read
	reached  bool
	ending   bool
	outdated bool // the rules have changed: it is to be read again immediately
}

func newMember(f *fleet, s Source, database string, of *server) *member {
	m := &member{
		Source: s, fleet: f, database: database, server: of, Log: f.Log.With().Str("source", s.Name).Logger(),
		grants: make(chan *grant, 1), needs: make(chan struct{}, 1), warned: warned{backlogs: map[string]bool{}},
		written: -1, accept: f.AcceptSource, forget: func() {},
	}
	return m
}

func (m *member) takeUpMetrics() { m.metrics, m.forget = m.fleet.metrics.of(m.Name) }

// noteWrittenLocked notes how much was written, and reports whether it is to be read because of that.
func (m *member) noteWrittenLocked(written map[string]int64, now time.Time) bool {
	n, there := written[m.database]
	if !there {
		return false
	}
	moved := m.written >= 0 && n != m.written
	m.written = n
	if !moved {
		return false
	}
	m.lively = now
	if m.moved.IsZero() {
		m.moved = now
	}
	return m.place == nil
}

// judgeHeldLocked shows and logs how much WAL is held for the source, which nothing else does while it is not read.
func (m *member) judgeHeldLocked(now time.Time) {
	held, there := m.server.held[m.Slot]
	if !there {
		return
	}
	m.metrics.walHeld.Set(float64(held))
	if held <= m.fleet.LagWarning || now.Sub(m.warnAt) < complainEvery {
		return
	}
	m.warnAt = now
	line := m.Log.Error().Str("slot", m.Slot).Int64("held_bytes", held)
	if m.problem != nil {
		line.AnErr("not_read", m.problem)
	}
	line.Msgf("the source holds %s of WAL for the slot: its disk may fill; see why events are not confirmed", size(held))
}

// livelyLocked reports whether it is worth while to go on reading.
func (m *member) livelyLocked(now time.Time) bool {
	return now.Sub(m.lively) < quietAfter || m.jobs.Load() > 0
}

// dueLocked reports whether it is to be read.
func (m *member) dueLocked(now time.Time) bool {
	switch {
	case m.gone || m.closing || now.Before(m.retry):
		return false
	case !m.moved.IsZero() || m.visited.IsZero() || !m.due.IsZero() && !now.Before(m.due):
		return true
	case now.Sub(m.visited) < m.fleet.o.VisitEvery:
		return false
	case m.problem == nil && m.fleet.captures && m.confirmed > 0 && m.confirmed >= m.server.current:
		m.visited = now // nothing was written since, to any database
		return false
	}
	return true
}

// needLocked is a time: who has an earlier one is to be read before. What was written goes before what is due, unless
// that is due for long.
func (m *member) needLocked(now time.Time) time.Time {
	visit := m.visited.Add(m.fleet.o.VisitEvery)
	if !m.due.IsZero() && m.due.Before(now) {
		visit = earlier(visit, m.due)
	}
	if m.moved.IsZero() {
		return visit
	}
	return earlier(visit, m.moved.Add(-m.fleet.o.VisitEvery))
}

// grantLocked gives a source a place.
func (f *fleet) grantLocked(ctx context.Context, m *member, now time.Time) {
	p := &grant{since: now, target: m.server.current, moved: !m.moved.IsZero()}
	p.ctx, p.end = context.WithCancel(ctx)
	m.place, m.moved, m.due = p, time.Time{}, time.Time{}
	f.placed++
	m.grants <- p // it has one at a time
	if m.end == nil {
		var session context.Context
		session, m.end = context.WithCancel(ctx)
		f.sessions.Go(func() { m.session(session) })
	}
}

// releaseLocked takes the place of a source from it, which ends as soon as what was read is appended.
func (m *member) releaseLocked() {
	m.place.ending = true
	m.place.end()
}

// vacate gives a place to others: nothing is read any more.
func (f *fleet) vacate(m *member, p *grant) {
	p.end()
	f.mu.Lock()
	defer f.mu.Unlock()
	if m.place != p {
		return
	}
	m.place = nil
	f.placed--
	switch {
	case p.outdated:
		m.visited = time.Time{}
	case p.reached:
		m.visited = time.Now()
	}
	signal(f.wake)
}

// reach notes that a source was read up to its end.
func (f *fleet) reach(m *member, p *grant) {
	f.mu.Lock()
	defer f.mu.Unlock()
	p.reached = true
	m.visited = time.Now()
	if m.problem != nil {
		m.problem = nil
		m.Log.Info().Str("slot", m.Slot).Msg("source is read again")
	}
	signal(f.wake)
}

// refuse notes why a source is not read. The others are.
func (f *fleet) refuse(m *member, err error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	now := time.Now()
	m.retry, m.visited = now.Add(f.o.VisitEvery), now
	if m.problem == nil || m.problem.Error() != err.Error() {
		m.Log.Error().Err(err).Str("slot", m.Slot).Msg("source is not read, and is tried again; the others are read")
	}
	m.problem = err
}

// session reads and delivers the source until there is nothing to do.
func (m *member) session(ctx context.Context) {
	f := m.fleet
	defer func() {
		f.mu.Lock()
		m.end()
		m.end, m.closing = nil, false
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
	o.Capture, o.AcceptSource, o.Log = f.captures, m.accept, m.Log.Level(max(zerolog.WarnLevel, m.Log.GetLevel())) // a line per visit would be thousands
	o.Source.Log = o.Log
	b := newHalf(o, f.house)
	b.member, b.metrics, b.gauge = m, m.metrics, m.server.watch.Gauge(m.Slot)
	if f.store != nil {
		b.store = f.store.Of(m.Slot)
	}
	return b
}

// update has the open source use changed endpoints; the house's applying is held.
func (m *member) update(all []endpoint.Endpoint) {
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

func (m *member) updateWith(all func() []endpoint.Endpoint) {
	m.fleet.applying.Lock()
	defer m.fleet.applying.Unlock()
	m.update(all())
}

// endpointsLocked are those that may get events of the source, or have some of it.
func (m *member) endpointsLocked(all []endpoint.Endpoint) []endpoint.Endpoint {
	return slices.DeleteFunc(slices.Clone(all), func(e endpoint.Endpoint) bool {
		return !queue.TakesSource(e.Tenants, m.Name) && !slices.Contains(m.holding, e.Name)
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

// leave reports whether the session may end: it was not given a place meanwhile.
func (m *member) leave() bool {
	m.fleet.mu.Lock()
	defer m.fleet.mu.Unlock()
	m.closing = m.place == nil
	if m.closing {
		m.backlog = 0
	}
	return m.closing
}

// waits reports whether the queue has something to deliver, or to store, now or later. What waits for a person to act
// does not count: who acts has all sources looked at.
func (m *member) waits(ctx context.Context, b *bridge) (bool, error) {
	if !b.Deliver {
		return false, nil
	}
	names, err := b.queue.Registered(ctx)
	if err != nil || len(names) == 0 {
		return false, err
	}
	m.fleet.applying.Lock()
	m.holding = names
	m.fleet.applying.Unlock()
	stats, err := b.queue.Stats(ctx, names)
	if err != nil {
		return false, err
	}
	sent := map[string]bool{}
	for _, e := range b.endpointsNow() {
		sent[e.Name] = e.State == endpoint.Active
	}
	var backlog int64
	waits := false
	for i := range stats {
		s := &stats[i]
		backlog += s.Backlog
		if s.Backlog+s.Replays > s.Blocked && sent[s.Endpoint] && s.Reason == "" || b.State != nil && s.LogEntries+s.Dead > 0 {
			waits = true
		}
	}
	m.fleet.mu.Lock()
	m.backlog = backlog
	m.fleet.mu.Unlock()
	return waits, nil
}

// deliver delivers what the queue has, once it has something, until the context ends.
func (m *member) deliver(ctx context.Context, b *bridge) {
	select {
	case <-ctx.Done():
		return
	case <-m.needs:
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

// visit reads the source for as long as it has the place.
func (m *member) visit(b *bridge, p *grant) {
	f := m.fleet
	defer f.vacate(m, p)
	if !f.captures {
		f.reach(m, p)
		return
	}
	err := m.read(p.ctx, b, p)
	if over, ok := errors.AsType[*overBudgetError](err); ok && !f.ending() {
		err = b.giveUp(context.WithoutCancel(p.ctx), over)
	}
	switch {
	case err == nil || f.ending():
	case outrun(err) || errors.Is(err, errSourceMoved):
		f.again(m)
	default:
		f.refuse(m, err)
	}
}

// again has a source be read again soon: it is another than it was, as after a promotion.
func (f *fleet) again(m *member) {
	f.mu.Lock()
	defer f.mu.Unlock()
	m.visited, m.confirmed, m.retry = time.Time{}, 0, time.Now().Add(patience.Max)
}

// read reads the source until the context ends or it fails.
func (m *member) read(ctx context.Context, b *bridge, p *grant) error {
	f := m.fleet
	half := m.half()
	half.queue, half.dispatcher, half.recorder = b.queue, b.dispatcher, b.recorder
	defer half.catalog.Close(context.Background())
	c, err := m.openCapture(ctx, half)
	if err != nil {
		f.mu.Lock()
		m.known = nil
		f.mu.Unlock()
		if ctx.Err() != nil {
			return nil //nolint:nilerr // the end that was asked for
		}
		return err
	}
	half.capture = c
	m.told.to(half)
	c.left = func() { f.vacate(m, p) }
	c.stage.appended = func(events, bytes int) {
		half.appendedTo(events, bytes)
		m.noteQueued()
	}
	m.capture.Store(c)
	m.reading.Store(half)
	defer m.capture.Store(nil)
	defer m.reading.Store(nil)
	f.mu.Lock()
	known, version := m.known != nil, f.version
	compare := !known || p.moved || time.Since(m.compared) > comparedFor
	working := m.hasJobs
	f.mu.Unlock()
	group, ctx := errgroup.WithContext(ctx)
	group.Go(func() error { return c.run(ctx) })
	group.Go(func() error { return later(ctx, compare, c.watchTables) })
	group.Go(func() error { return c.runTimers(ctx) })
	group.Go(func() error { return c.reads.tend(ctx) })
	group.Go(func() error { return half.watchSlot(ctx) })
	group.Go(func() error { return half.watchTrouble(ctx, &m.warned) })
	group.Go(func() error { return m.watchHazards(ctx, half) })
	runs := c.newSchedules()
	if b.State != nil {
		group.Go(func() error { return runs.run(ctx) })
		group.Go(func() error { return later(ctx, working, newJobs(half).run) })
	}
	if !compare {
		c.tables.compared.Store(true)
	}
	group.Go(func() error { return m.follow(ctx, c, p, runs) })
	err = group.Wait()
	m.told.from(half)
	parked, failed := half.queue.ParkedCount(context.WithoutCancel(ctx))
	f.mu.Lock()
	if failed == nil {
		m.parked = parked
	}
	m.confirmed = max(m.confirmed, c.reader.Confirmed())
	if compare && c.tables.compared.Load() {
		m.compared = time.Now()
	}
	switch {
	case err != nil || version != f.version || !p.reached:
		m.known = nil
	case !known:
		m.known = &knownSource{source: c.prepared, rules: c.bound.Load(), checked: c.checked, at: time.Now()}
	default:
		m.known.rules, m.known.checked = c.bound.Load(), c.checked
	}
	f.mu.Unlock()
	return err
}

// knownSource is what preparing a source has led to, so that the next visits are cheap: they are as another stream of the same
// capture, which begins after the connection was lost.
type knownSource struct {
	source  *cdc.Source
	rules   *mapping.Ruleset
	checked *mapping.Source
	at      time.Time
}

// knownFor is for how long that is known: what only the preparation sees is seen again then.
const knownFor = time.Hour

// knownBefore is what is known from visits before; nil: nothing, or it is no member.
func (m *member) knownBefore() *knownSource {
	if m == nil {
		return nil
	}
	m.fleet.mu.Lock()
	defer m.fleet.mu.Unlock()
	if m.known != nil && time.Since(m.known.at) > knownFor {
		m.known = nil
	}
	return m.known
}

const (
	// comparedFor is how long it is believed of a source to which nothing is written that the stream still carries its tables.
	comparedFor = 10 * time.Minute
	// laterAfter is how long a source is read before that is done of which a visit has no need.
	laterAfter = 5 * time.Second
)

// later runs something now, when there is need, or once the source was read for a while.
func later(ctx context.Context, need bool, run func(context.Context) error) error {
	if !need && retry.Wait(ctx, laterAfter) != nil {
		return nil //nolint:nilerr // the end that was asked for
	}
	return run(ctx)
}

// told is what was logged or announced of a source, which is not to be said again with each visit.
type told struct {
	lag, budget time.Time
	alerted     bool
	hazards     map[string]bool
	looked      time.Time // when was looked at the hazards
}

func (t *told) to(b *bridge) {
	b.lagAnnounced, b.budgetLogged, b.budgetAlerted, b.hazards.logged = t.lag, t.budget, t.alerted, t.hazards
}

func (t *told) from(b *bridge) {
	t.lag, t.budget, t.alerted, t.hazards = b.lagAnnounced, b.budgetLogged, b.budgetAlerted, b.hazards.logged
}

// hazardsApart is the time between two looks at the hazards of a source that is not read for long: each reads much of
// the catalogue.
const hazardsApart = 10 * time.Minute

// watchHazards looks at the hazards while the source is read.
func (m *member) watchHazards(ctx context.Context, half *bridge) error {
	if time.Since(m.told.looked) < hazardsApart && retry.Wait(ctx, hazardsEvery) != nil {
		return nil //nolint:nilerr // the end that was asked for
	}
	m.told.looked = time.Now()
	return half.watchHazards(ctx)
}

// openCapture opens what reads the source.
func (m *member) openCapture(ctx context.Context, half *bridge) (*capture, error) {
	opening, cancel := context.WithTimeout(ctx, openTimeout)
	defer cancel()
	c, err := half.openCapture(opening)
	if err != nil {
		if opening.Err() != nil && ctx.Err() == nil {
			err = fmt.Errorf("the source, or what is needed to read it, did not answer within %s: %w", openTimeout, err)
		}
		return nil, err
	}
	m.accept = false
	m.fleet.mu.Lock()
	defer m.fleet.mu.Unlock()
	if epoch := half.queue.Claimed().Epoch; epoch != m.epoch {
		m.epoch, m.confirmed = epoch, 0
	}
	if m.confirmed > 0 {
		c.reader.Confirm(m.confirmed) // the stream begins there
	}
	return c, nil
}

// noteQueued notes that events were queued, and has them delivered.
func (m *member) noteQueued() {
	signal(m.needs)
	m.fleet.mu.Lock()
	defer m.fleet.mu.Unlock()
	m.queued = time.Now()
	m.lively = m.queued
}

// errNoStream ends a visit of a source whose stream does not begin.
var errNoStream = errors.New("its stream did not begin")

// follow says when everything was read that was written when the place was given, and what is due then was done.
func (m *member) follow(ctx context.Context, c *capture, p *grant, runs *schedules) error {
	began, asks := time.Now(), retry.Backoff{Min: askFirst, Max: 4 * askFirst}
	target := max(p.target, c.target)
	for tries := 1; c.stage.last() < target || !c.tables.compared.Load() && time.Since(began) < streamTimeout || m.working(ctx, c, runs); tries++ {
		if !c.reader.Streaming() && time.Since(began) > streamTimeout {
			if err := c.waiting(); err != nil {
				return fmt.Errorf("%w: %w", errNoStream, err)
			}
			return errNoStream
		}
		if c.stage.last() < target {
			c.reader.Ask()
		}
		if err := retry.Wait(ctx, asks.Delay(tries)); err != nil {
			return nil //nolint:nilerr // the end that was asked for
		}
	}
	m.fleet.reach(m, p)
	return nil
}

// working reports whether timers are due that were not fired, or a schedule runs; and notes when the next one is due.
func (m *member) working(ctx context.Context, c *capture, runs *schedules) bool {
	now := time.Now()
	next := runs.next(now)
	pending, err := c.queue.Timers(ctx)
	if err != nil {
		return false // Redis is unreachable, which others say
	}
	working := runs.running()
	for _, t := range pending {
		due := t.Next.Add(timerMargin)
		working = working || !due.After(now) && c.timersTrouble.Load() == nil
		if next.IsZero() || due.Before(next) {
			next = due
		}
	}
	m.fleet.mu.Lock()
	defer m.fleet.mu.Unlock()
	m.due = next
	return working
}
