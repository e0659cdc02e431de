package bridge

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"time"

	"golang.org/x/sync/errgroup"

	"gancho/cdc"
	"gancho/delivery/queue"
	"gancho/internal/retry"
	"gancho/internal/state"
	"gancho/mapping"
)

// visit reads the source for as long as it has the place.
func (m *member) visit(b *bridge, p *grant) {
	f := m.fleet
	f.mu.Lock()
	m.visiting = true
	f.mu.Unlock()
	defer func() {
		f.vacate(m, p)
		f.mu.Lock()
		m.visiting = false
		f.mu.Unlock()
		signal(f.wake)
	}()
	if !f.captures {
		f.reach(m, p)
		return
	}
	if p.look {
		return
	}
	err := m.read(p.ctx, b, p)
	if over, ok := errors.AsType[*overBudgetError](err); ok && p.ended() == nil {
		err = b.giveUp(context.WithoutCancel(p.ctx), over)
	}
	switch {
	case err == nil || p.ended() != nil:
	case cdc.SQLState(err) == codeObjectInUse:
		f.leaveToOthers(m)
	case outrun(err) || errors.Is(err, errSourceMoved):
		f.again(m)
	default:
		f.refuse(m, err)
		m.judgeUnread(context.WithoutCancel(p.ctx), b)
	}
}

// judgeUnread gives up the slot of a source that cannot be read when it holds more WAL than its server can bear. While it is read, that is
// judged with the rest.
func (m *member) judgeUnread(ctx context.Context, b *bridge) {
	f := m.fleet
	half := m.half()
	half.queue = b.queue
	f.mu.Lock()
	half.Source.DSN = m.server.dsn // any database of the server can drop it, and its own may not let anybody in
	f.mu.Unlock()
	defer half.catalog.Close(ctx)
	measuring, cancel := context.WithTimeout(ctx, measureTimeout)
	lag, err := half.gauge.Measure(measuring)
	cancel()
	if err != nil {
		return // there is none, or the look at the counters fails, too
	}
	m.told.to(half)
	err = half.judgeBudget(ctx, &lag)
	m.told.from(half)
	if over, ok := errors.AsType[*overBudgetError](err); ok {
		if err := half.giveUp(ctx, over); !errors.Is(err, errSourceMoved) { // else the slot is still there, the log says why, and the cause stays the one to show
			f.refuse(m, err)
		}
	}
}

// codeObjectInUse is PostgreSQL's for a slot that another process reads.
const codeObjectInUse = "55006"

// leaveToOthers has a source be tried later that another process reads.
func (f *fleet) leaveToOthers(m *member) {
	f.mu.Lock()
	defer f.mu.Unlock()
	m.problem, m.visited = nil, time.Now()
	m.retry = m.visited.Add(f.o.VisitEvery)
}

// again has a source be read again soon: it is another than it was, as after a promotion.
func (f *fleet) again(m *member) {
	f.mu.Lock()
	defer f.mu.Unlock()
	m.visited, m.confirmed, m.known, m.retry = time.Time{}, 0, nil, time.Now().Add(patience.Max)
}

// read reads the source until the context ends or it fails.
func (m *member) read(ctx context.Context, b *bridge, p *grant) error {
	f := m.fleet
	half := m.half()
	half.queue, half.recorder = b.queue, b.recorder
	defer m.useOwnGauge(half)()
	defer half.catalog.Close(context.Background())
	c, err := m.openCapture(ctx, half)
	if err != nil {
		f.mu.Lock()
		m.known = nil
		f.mu.Unlock()
		if ctx.Err() != nil {
			return nil // the end that was asked for
		}
		return err
	}
	half.capture = c
	m.told.to(half)
	c.left, c.advances = func() { f.vacate(m, p) }, func() bool { return p.ended() != nil }
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
	compare := !known || p.moved || time.Since(m.compared.tables) > comparedFor
	working := m.hasJobs
	if known && p.idle && !m.known.blind {
		c.reader.Glance()
	}
	f.mu.Unlock()
	group, ctx := errgroup.WithContext(ctx)
	group.Go(func() error { return c.run(ctx) })
	group.Go(func() error { return later(ctx, compare, c.watchTables) })
	group.Go(func() error { return c.runTimers(ctx) })
	group.Go(func() error { return c.reads.tend(ctx) })
	group.Go(func() error { return half.watchSlot(ctx) })
	group.Go(func() error { return half.watchTrouble(ctx, &m.warned) })
	group.Go(func() error { return m.retain(ctx, half) })
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
	ending, cancel := context.WithTimeout(context.WithoutCancel(ctx), activityTimeout)
	m.noteTimers(ending, c, runs)
	cancel()
	m.told.from(half)
	parked, failed := half.queue.ParkedCount(context.WithoutCancel(ctx))
	f.mu.Lock()
	if failed == nil {
		m.parked = parked
	}
	m.confirmed = max(m.confirmed, c.reader.Confirmed())
	if p.reached {
		m.unconfirmed = nil
		if c.reader.Confirmed() < c.stage.last() {
			m.unconfirmed = cmp.Or(half.queue.Unconfirmed(), errUnconfirmed)
		}
	}
	if compare && c.tables.compared.Load() {
		m.compared.tables = time.Now()
	}
	switch {
	case err != nil || version != f.version || !p.reached:
		m.known = nil
	case !known:
		m.known = &knownSource{source: c.prepared, rules: c.bound.Load(), checked: c.checked, claimed: half.queue.Claimed(), at: time.Now()}
	default:
		m.known.rules, m.known.checked, m.known.claimed = c.bound.Load(), c.checked, half.queue.Claimed()
		m.known.blind = m.known.blind || c.reader.Blind()
	}
	f.mu.Unlock()
	return err
}

// useOwnGauge has a half of the source measure its slot over a connection of the source's own while its server's counters cannot be read: the source itself may
// well answer. Call end when it is not used for now.
func (m *member) useOwnGauge(half *bridge) (end func()) {
	m.fleet.mu.Lock()
	failing := m.server.failing
	m.fleet.mu.Unlock()
	if !failing {
		return func() {}
	}
	shared := half.gauge
	half.gauge = cdc.NewSlotGauge(m.DSN, m.Slot)
	return func() {
		half.gauge.Close(context.Background())
		half.gauge = shared
	}
}

// knownSource is what preparing a source has led to, so that the next visits are cheap: they are as another stream of the same
// capture, which begins after the connection was lost.
type knownSource struct {
	source  *cdc.Source
	rules   *mapping.Ruleset
	checked *mapping.Source
	claimed *queue.Claimed // as the state database has it
	blind   bool           // its server refuses glances
	at      time.Time
}

// knownFor is for how long that is known: what only the preparation sees is seen again then. It needs the state database: while that is unreachable
// it is put off by preparedLater.
const (
	knownFor      = time.Hour
	preparedLater = 10 * time.Minute
)

// knownBefore is what is known from visits before; nil: nothing, or it is no member.
func (m *member) knownBefore(ctx context.Context, store *state.Store) *knownSource {
	if m == nil {
		return nil
	}
	m.fleet.mu.Lock()
	known := m.known
	old := known != nil && time.Since(known.at) > knownFor
	m.fleet.mu.Unlock()
	if !old {
		return known
	}
	var err error
	if store != nil {
		asking, cancel := context.WithTimeout(ctx, activityTimeout)
		_, err = store.Source(asking, m.Slot)
		cancel()
	}
	m.fleet.mu.Lock()
	defer m.fleet.mu.Unlock()
	switch {
	case m.known != known: // the rules have changed meanwhile
	case unreachable(err) || errors.Is(err, context.DeadlineExceeded):
		known.at = time.Now().Add(preparedLater - knownFor)
	default:
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
	passed      int64
	hazards     map[string]bool
	looked      time.Time // when was looked at the hazards
	retained    time.Time // when was looked for parked changes that are kept for too long
}

func (t *told) to(b *bridge) {
	b.lagAnnounced, b.budgetLogged, b.budgetPassed, b.hazards.logged = t.lag, t.budget, t.passed, t.hazards
}

func (t *told) from(b *bridge) {
	t.lag, t.budget, t.passed, t.hazards = b.lagAnnounced, b.budgetLogged, b.budgetPassed, b.hazards.logged
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

// retain deletes parked changes that were kept for long enough, as the house does with what is its own.
func (m *member) retain(ctx context.Context, half *bridge) error {
	if now := time.Now(); now.Sub(m.told.retained) >= retainEvery {
		m.told.retained = now
		r := half.parkedRetention()
		if err := half.apply(ctx, &r, now); err != nil && ctx.Err() == nil {
			half.Log.Warn().Err(err).Str("kind", r.kind).Msg("what is kept for too long could not be looked for or deleted; trying again in an hour")
		}
	}
	return nil
}

// openCapture opens what reads the source.
func (m *member) openCapture(ctx context.Context, half *bridge) (*capture, error) {
	opening, cancel := context.WithTimeout(ctx, openTimeout)
	defer cancel()
	err := m.compareConfirmed(opening, half)
	var c *capture
	if err == nil {
		c, err = half.openCapture(opening)
	}
	if err != nil {
		if opening.Err() != nil && ctx.Err() == nil {
			err = fmt.Errorf("the source, or what is needed to read it, did not answer within %s: %w", openTimeout, err)
		}
		return nil, err
	}
	m.accept.Store(false)
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

// compareConfirmed forgets what is known of the visits before when Redis does not have it any more: the record of a position is
// as durable as what was queued up to it. Unless Redis has it, or any record when none is known, what moved to the state database is marked there again,
// which waits for that: who begins after another process cannot tell whether Redis was emptied meanwhile.
func (m *member) compareConfirmed(ctx context.Context, half *bridge) error {
	f := m.fleet
	f.mu.Lock()
	confirmed, epoch := m.confirmed, m.epoch
	f.mu.Unlock()
	reached, err := waitFor(ctx, half.Log, "redis", func() (*queue.Reached, error) { return half.queue.Reached(ctx) })
	if err != nil {
		return err
	}
	if reached != nil && reached.Confirmed >= confirmed { // it is not known of a source that was never confirmed by this process
		return nil
	}
	if confirmed > 0 && (reached == nil || reached.Epoch == epoch) {
		m.Log.Error().Stringer("confirmed", confirmed).Str("slot", m.Slot).
			Msg("redis has lost what it had on its disk: events that were queued and confirmed to the source may be lost; the source is read from where its slot stands; restore redis's data, or send those changes by hand")
	}
	if half.State != nil { // what moved goes before what is queued from now on
		if _, err := waitFor(ctx, half.Log, "redis or the state database", func() (struct{}, error) { return struct{}{}, half.queue.RestoreOverflow(ctx) }); err != nil {
			return err
		}
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	m.confirmed, m.known = 0, nil
	return nil
}

// noteQueued notes that events were queued, and has them delivered.
func (m *member) noteQueued() {
	signal(m.needs)
	m.fleet.mu.Lock()
	defer m.fleet.mu.Unlock()
	m.queued = time.Now()
	m.noteLivelyLocked(m.queued)
}

// errUnconfirmed is why a source's positions are not confirmed of which Redis does not say why.
var errUnconfirmed = errors.New("redis did not have it on its disk before the visit ended")

// errNoStream ends a visit of a source whose stream does not begin.
var errNoStream = errors.New("its stream did not begin")

// follow says when everything was read that was written when the place was given, and what is due then was done.
func (m *member) follow(ctx context.Context, c *capture, p *grant, runs *schedules) error {
	began, asks := time.Now(), retry.Backoff{Min: askFirst, Max: 4 * askFirst}
	target := max(p.target, c.target)
	// Of what the last visit has confirmed the stream says nothing, if no WAL was written since.
	read := func() cdc.LSN { return max(c.stage.last(), c.reader.Confirmed()) }
	for tries := 1; ; tries++ {
		working := m.working(ctx, c, runs)
		if read() >= target && !working && (c.tables.compared.Load() || time.Since(began) >= streamTimeout) {
			break
		}
		if !c.reader.Streaming() && time.Since(began) > streamTimeout {
			if err := c.waiting(); err != nil {
				return fmt.Errorf("%w: %w", errNoStream, err)
			}
			return errNoStream
		}
		if time.Since(began) > crowdedTimeout && m.fleet.othersWait() {
			if err := cmp.Or(c.reader.Waiting(), c.lookup.Waiting()); err != nil {
				return fmt.Errorf("other sources get its place: %w", err)
			}
		}
		if read() < target || working && c.reader.Resting() {
			c.reader.Ask()
		}
		if err := retry.Wait(ctx, asks.Delay(tries)); err != nil {
			return nil //nolint:nilerr // the end that was asked for
		}
	}
	m.fleet.reach(m, p)
	if c.reader.Resting() { // what is written from now on has it read again
		m.fleet.release(m, p)
	}
	return nil
}

// noteTimers notes when the next timer is due, at the end of a visit: what was read since its end was reached may have set some, which were not
// applied before the place was lost.
func (m *member) noteTimers(ctx context.Context, c *capture, runs *schedules) {
	err := c.queue.ApplyTimers(ctx)
	m.working(ctx, c, runs)
	if err == nil || errors.Is(err, queue.ErrFenced) { // who has taken it over fires them
		return
	}
	m.fleet.mu.Lock()
	defer m.fleet.mu.Unlock()
	if next := time.Now().Add(m.fleet.o.VisitEvery); m.due.IsZero() || next.Before(m.due) {
		m.due = next
	}
}

// working reports whether timers are due that were not fired, or a schedule runs; and notes when the next one is due.
func (m *member) working(ctx context.Context, c *capture, runs *schedules) bool {
	now := time.Now()
	next := runs.next(now)
	pending, err := c.queue.Timers(ctx)
	if err != nil {
		m.fleet.mu.Lock()
		defer m.fleet.mu.Unlock()
		if m.due.IsZero() {
			m.due = now.Add(m.fleet.o.VisitEvery) // perhaps nothing else has it read
		}
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
	if c.timersTrouble.Load() != nil && next.Before(now) {
		next = now.Add(m.fleet.o.VisitEvery) // they would have it read all the time
	}
	m.due = next
	return working
}
