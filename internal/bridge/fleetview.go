package bridge

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"golang.org/x/sync/errgroup"

	"gancho/delivery/queue"
	"gancho/internal/control"
)

// sources are the sources as people see them.
func (f *fleet) sources(context.Context) ([]control.Source, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	var all []control.Source
	for _, m := range f.members {
		all = append(all, m.viewLocked())
	}
	return all, nil
}

func (m *member) viewLocked() control.Source {
	v := control.Source{Name: m.Name, Slot: m.Slot, State: m.stateLocked(), Backlog: m.backlog, Parked: m.parked, LastEvent: timeOrNil(m.queued)}
	if m.problem == nil {
		v.LastVisit = timeOrNil(m.visited)
	} else {
		v.Problem = m.problem.Error()
	}
	unconfirmed := m.unconfirmed
	if c := m.capture.Load(); c != nil {
		unconfirmed = c.queue.Unconfirmed()
	}
	if m.problem == nil && unconfirmed != nil {
		v.Problem = fmt.Sprintf("what is read is not confirmed, so that the server holds its WAL: %v", unconfirmed)
	}
	if held, there := m.server.held[m.Slot]; there {
		v.HeldBytes = &held
	}
	return v
}

func (m *member) stateLocked() string {
	c := m.capture.Load()
	switch {
	case c != nil && c.reader.Streaming():
		return control.SourceStreaming
	case !m.server.has(m.database):
		return control.SourceMissing
	case m.problem != nil:
		return control.SourceRefused
	}
	return control.SourceVisited
}

// everywhere calls a function with the queue of each source, several at once; one that is not open is opened for it. Sessions cannot end
// meanwhile, so that it is to be short. The error has all of theirs.
func (f *fleet) everywhere(ctx context.Context, do func(m *member, q *queue.Queue) error) error {
	return f.each(func(m *member) error { return m.withQueue(ctx, do) })
}

// each calls a function with each source, several at once. The error has all of theirs.
func (f *fleet) each(do func(m *member) error) error {
	f.mu.Lock()
	members := slices.Collect(maps.Values(f.members))
	f.mu.Unlock()
	var group errgroup.Group
	group.SetLimit(everywhereAtOnce)
	errs := make([]error, len(members))
	for i, m := range members {
		group.Go(func() error {
			errs[i] = do(m)
			return nil
		})
	}
	return errors.Join(group.Wait(), errors.Join(errs...))
}

// errUnlisted is why nothing is done with all sources yet.
var errUnlisted = errors.New("starting: waiting for the list of the sources")

// everywhereAtOnce is of how many sources the queues are opened at once.
const everywhereAtOnce = 8

// withQueue calls a function with the source's queue, which is that of the session when there is one.
func (m *member) withQueue(ctx context.Context, do func(m *member, q *queue.Queue) error) error {
	m.using.RLock()
	defer m.using.RUnlock()
	m.fleet.applying.Lock()
	b := m.active
	m.fleet.applying.Unlock()
	if b != nil {
		return do(m, b.queue)
	}
	return m.withOwnQueue(ctx, func(q *queue.Queue) error { return do(m, q) })
}

// withOwnQueue calls a function with a queue of its own, which does not keep that of the session open.
func (m *member) withOwnQueue(ctx context.Context, do func(q *queue.Queue) error) error {
	q, err := m.openQueue(ctx)
	if err != nil {
		return err
	}
	defer func() {
		if err := q.Close(); err != nil { // everything that matters has been acknowledged by Redis
			m.Log.Debug().Err(err).Msg("a queue was not closed in order")
		}
	}()
	err = do(q)
	if names, failed := q.Registered(ctx); failed == nil {
		_, _ = m.readStats(ctx, q, names) // they are shown, and were changed perhaps
	}
	return err
}

// openQueue opens a queue beside that of the session.
func (m *member) openQueue(ctx context.Context) (*queue.Queue, error) {
	o := m.fleet.Queue
	o.Prefix, o.Logger = m.QueuePrefix, m.Log
	if m.fleet.State != nil {
		o.Overflow = m.fleet.overflowStore.OverflowOf(m.Slot)
	}
	q, err := queue.Open(ctx, o)
	if err != nil {
		return nil, fmt.Errorf("open the queue of source %s: %w", m.Name, err)
	}
	return q, nil
}

// drop deletes the queues of an endpoint that is no more, of all sources; false: some of it is still to be stored, or delivered.
func (f *fleet) drop(ctx context.Context, name string) (bool, error) {
	var left atomic.Bool
	err := f.everywhere(ctx, func(m *member, q *queue.Queue) error {
		if c := m.capture.Load(); c != nil {
			if err := c.stage.drained(ctx); err != nil {
				return err
			}
		}
		stats, err := q.Stats(ctx, []string{name})
		if err != nil {
			return err
		}
		if stats[0].Owned || f.State != nil && stats[0].LogEntries+stats[0].Dead > 0 {
			left.Store(true)
			f.mu.Lock()
			m.wakeLocked() // its session stores it
			f.mu.Unlock()
			return nil
		}
		if err = q.Drop(ctx, name); errors.Is(err, queue.ErrBusy) {
			left.Store(true)
			err = nil
		}
		return err
	})
	return err == nil && !left.Load(), err
}

// resume has the sources deliver to an endpoint again that was suspended automatically, and what has failed be sent
// immediately.
func (f *fleet) resume(ctx context.Context, name string) (resumed bool, hastened int, err error) {
	var mu sync.Mutex
	err = f.everywhere(ctx, func(m *member, q *queue.Queue) error {
		did, err := q.Resume(ctx, name)
		if err != nil {
			return err
		}
		n, err := q.Hasten(ctx, name)
		mu.Lock()
		defer mu.Unlock()
		resumed, hastened = resumed || did, hastened+n
		if did || n > 0 {
			f.mu.Lock()
			m.wakeLocked() // there is something to deliver
			f.mu.Unlock()
		}
		return err
	})
	return resumed, hastened, err
}

// resumeAll is resume for many endpoints, without the hastening of what failed in those that go on.
func (f *fleet) resumeAll(ctx context.Context, names []string) (resumed []string, err error) {
	var mu sync.Mutex
	err = f.everywhere(ctx, func(m *member, q *queue.Queue) error {
		some, err := q.ResumeAll(ctx, names)
		mu.Lock()
		defer mu.Unlock()
		resumed = append(resumed, some...)
		if len(some) > 0 {
			f.mu.Lock()
			m.wakeLocked() // there is something to deliver
			f.mu.Unlock()
		}
		return err
	})
	return resumed, err
}

// timeOrNil is nil for the zero time.
func timeOrNil(t time.Time) *time.Time {
	if t.IsZero() {
		return nil
	}
	t = t.UTC()
	return &t
}

// ready returns why the sources are not read; nil when at least one is, or nothing is known yet: the others have their state in
// the metrics, the log and the API, and do not make the process useless.
func (f *fleet) ready() error {
	if !f.captures {
		return nil
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	if !f.listed {
		return errUnlisted
	}
	var first *member
	for _, m := range f.members {
		if m.problem == nil {
			return nil
		}
		if first == nil || m.Name < first.Name {
			first = m
		}
	}
	if first == nil {
		return nil
	}
	return fmt.Errorf("none of the %d sources is read; %s: %w", len(f.members), first.Name, first.problem)
}

// sourceStates is the metric of how many sources there are, by their state.
var sourceStates = prometheus.NewDesc("gancho_sources", "Databases that this process reads, of several, by state: streaming, visited, refused or missing.", []string{"state"}, nil)

// sourceRefused is the metric of which of them are not read.
var sourceRefused = prometheus.NewDesc("gancho_source_refused", "1 while a database, of several, is not read: refused or missing.", []string{"source"}, nil)

// Describe implements prometheus.Collector.
func (f *fleet) Describe(out chan<- *prometheus.Desc) {
	out <- sourceStates
	out <- sourceRefused
}

// Collect implements prometheus.Collector.
func (f *fleet) Collect(out chan<- prometheus.Metric) {
	counts := map[string]int{control.SourceStreaming: 0, control.SourceVisited: 0, control.SourceRefused: 0, control.SourceMissing: 0}
	refused := map[string]bool{}
	f.mu.Lock()
	for _, m := range f.members {
		state := m.stateLocked()
		counts[state]++
		refused[m.Name] = state == control.SourceRefused || state == control.SourceMissing
	}
	f.mu.Unlock()
	for name, is := range refused {
		out <- prometheus.MustNewConstMetric(sourceRefused, prometheus.GaugeValue, flag(is), name)
	}
	for state, n := range counts {
		out <- prometheus.MustNewConstMetric(sourceStates, prometheus.GaugeValue, float64(n), state)
	}
}
