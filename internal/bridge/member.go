package bridge

import (
	"context"
	"sync"
	"sync/atomic"
	"time"

	"github.com/rs/zerolog"

	"gancho/cdc"
	"gancho/delivery/queue"
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
	looks    chan struct{} // capacity 1: perhaps there is
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
	gone     bool               // it is a source no more
	end      context.CancelFunc // ends the session; nil: there is none
	closing  bool               // the session takes no place any more
	place    *grant             // nil: it has none
	visiting bool               // its visit has not ended, which says when the next one is due; the place may be another source's already
	written  int64              // as the server counted last; -1: not known
	moved    time.Time          // since when something was written that was not read; zero: nothing was
	lively   time.Time          // when something was written last
	began    time.Time          // since when that was so without a pause
	visited  time.Time          // when it was read up to its end last
	due      time.Time          // when a timer or a schedule of it is due; zero: none is
	retry    time.Time          // it is not to be read before
	broken   time.Time          // when its jobs were interrupted, because others needed its place; zero: they were not
	problem  error              // why it is not read; nil: it is
	backlog  int64
	stats    []queue.Stats // of its queue, as they were read last
	parked   int64
	queued   time.Time // when an event of it was queued last
	moving   time.Time // when events of it were to be moved to the state database last
	warnAt   time.Time // when was logged that much WAL is held
	// woken: its queue is to be looked at, which its session has not done since: there may be something that is of no visit.
	woken bool
	// closes: the closing of a day waits until the server has confirmed all of it, which a visit has it do.
	closes bool
	// unconfirmed is why what was read was not confirmed when the last visit ended; nil: it was.
	unconfirmed error

	// What the last visit has left for the next one.
	told      told
	known     *knownSource // nil: everything is to be prepared
	compared  compared
	recalled  *recollection
	restored  string // the history of Redis (queue.Queue.History) that has the marks of what is of its backlogs in the state database; it belongs to the session
	hasJobs   bool
	accept    atomic.Bool // Options.AcceptSource, for the first of those that there are at the start
	epoch     uint16
	confirmed cdc.LSN // durable, in that epoch
}

// compared is what was compared with the source. It belongs to the session.
type compared struct {
	tables time.Time // when, with those of the stream
	server string    // that has the WAL which was read, by when it was started
}

// grant is the right to read a source. Its fields are guarded by the fleet's mu but for the first ones.
type grant struct {
	ctx      context.Context //nolint:containedctx // of the right: its end is that of the reading
	end      context.CancelFunc
	since    time.Time
	look     bool         // it is not to be read, but its queue looked at
	target   cdc.LSN      // up to where it is to be read at least; 0: it is not known
	moved    bool         // something was written that is to be read
	idle     bool         // nothing is known that is to be done: it is read because time has passed
	ended    func() error // not nil: the process ends
	reached  bool
	ending   bool
	working  bool // jobs were at work when it was taken
	outdated bool // the rules have changed: it is to be read again immediately
}

func newMember(f *fleet, s Source, database string, of *server) *member {
	m := &member{
		Source: s, fleet: f, database: database, server: of, Log: f.Log.With().Str("source", s.Name).Logger(),
		grants: make(chan *grant, 1), needs: make(chan struct{}, 1), looks: make(chan struct{}, 1), warned: warned{backlogs: map[string]bool{}},
		written: -1, forget: func() {}, woken: true,
	}
	m.accept.Store(f.AcceptSource && !f.listed)
	return m
}

func (m *member) takeUpMetrics() {
	m.metrics, m.forget = m.fleet.metrics.of(m.Name)
	m.metrics.walBudget.Set(float64(m.fleet.WALBudget)) // of one that cannot be read, too
}

// noteWrittenLocked notes how much was written, and reports whether it is to be read because of that.
func (m *member) noteWrittenLocked(written map[string]int64, now time.Time) bool {
	n, there := written[m.database]
	if !there {
		return false
	}
	moved := n != m.written
	if m.written < 0 { // of what was written before the first count nothing is known: what is read from now on has it, what was read before may not
		moved = m.place != nil || !m.visited.IsZero()
	}
	m.written = n
	if !moved {
		return false
	}
	m.noteLivelyLocked(now)
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

// noteLivelyLocked notes that something was written.
func (m *member) noteLivelyLocked(now time.Time) {
	if now.Sub(m.lively) > livelyAlike {
		m.began = now
	}
	m.lively = now
}

// busyLocked is for how long it has been written to without a pause.
func (m *member) busyLocked() time.Duration { return m.lively.Sub(m.began) }

// turnLocked is how long it keeps its place at least while others wait for one, and whether that is because of a job; jobTurns is how many of
// these longer turns there are.
func (m *member) turnLocked(jobTurns *int) (turn time.Duration, job bool) {
	if m.jobs.Load() > 0 && *jobTurns > 0 {
		*jobTurns--
		return leastJobTurn, true
	}
	return leastTurn, false
}

// dueLocked reports whether it is to be read.
func (m *member) dueLocked(now time.Time) bool {
	switch {
	case m.gone || m.closing || m.visiting:
		return false
	case now.Before(m.retry):
		return false
	case m.closes || !m.moved.IsZero() || m.visited.IsZero() || !m.broken.IsZero() || !m.due.IsZero() && !now.Before(m.due):
		return true
	case now.Sub(m.visited) < m.fleet.o.VisitEvery:
		return false
	case m.problem == nil && m.fleet.captures && m.server.current > 0 && now.Sub(m.server.read) < 2*activityTimeout && m.confirmed >= m.server.current:
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
	if !m.broken.IsZero() {
		visit = earlier(visit, m.broken)
	}
	if m.moved.IsZero() {
		return visit
	}
	return earlier(visit, m.moved.Add(-m.fleet.o.VisitEvery))
}

// looksLocked reports whether its queue is to be looked at by a session that does not read it.
func (m *member) looksLocked() bool { return m.woken && m.end == nil && m.place == nil && !m.gone }

// grantLocked gives a source a place, or, with look, one of those that need no walsender.
func (f *fleet) grantLocked(ctx context.Context, m *member, now time.Time, look bool) {
	p := &grant{since: now, target: m.server.current, moved: !m.moved.IsZero(), ended: ctx.Err, look: look}
	p.idle = !p.moved && (m.due.IsZero() || now.Before(m.due)) && m.broken.IsZero() && !m.hasJobs
	p.ctx, p.end = context.WithCancel(ctx)
	if m.place = p; look {
		f.looking++
	} else {
		f.placed++
		m.moved, m.due, m.broken, m.closes = time.Time{}, time.Time{}, time.Time{}, false
	}
	m.grants <- p // it has one at a time
	if m.end == nil {
		m.woken = false // the session looks when it begins
		var session context.Context
		session, m.end = context.WithCancel(ctx)
		m.server.sessions++
		f.sessions.Go(func() { m.session(session) })
	}
}

// releaseLocked takes the place of a source from it, which ends as soon as what was read is appended.
func (m *member) releaseLocked() {
	m.place.ending, m.place.working = true, m.jobs.Load() > 0
	m.place.end()
}

// release takes a place from a source that has no more need of it.
func (f *fleet) release(m *member, p *grant) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if m.place == p && !p.ending {
		m.releaseLocked()
	}
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
	if p.look {
		f.looking--
	} else {
		f.placed--
	}
	if p.working {
		m.broken = time.Now()
	}
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

// othersWait reports whether sources wait for a place.
func (f *fleet) othersWait() bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.crowded
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
