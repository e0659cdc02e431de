package bridge

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"sync"

	"gancho/delivery/endpoint"
	"gancho/delivery/queue"
)

// sendClosings sends the closings of all sources that are due until the context ends: one of each day to each endpoint for each source that it takes. Each is
// counted, and remembered, in the queue of its source. Which commits are counted is known of each by the position that its slot is confirmed to, whoever reads it.
func (f *fleet) sendClosings(ctx context.Context) error {
	of := map[*member]*closings{}
	return f.sendAllClosings(ctx, func() bool { return f.captures }, func(ctx context.Context) (bool, error) { return f.sendDue(ctx, of) })
}

// sendDue sends what is due of all sources and can be sent, of several at once; pending: some cannot yet.
func (f *fleet) sendDue(ctx context.Context, of map[*member]*closings) (bool, error) {
	if !slices.ContainsFunc(f.endpointsNow(), func(e *endpoint.Endpoint) bool { return e.Closing != 0 }) {
		return false, nil
	}
	f.mu.Lock()
	members, listed := slices.Collect(maps.Values(f.members)), f.listed
	f.mu.Unlock()
	maps.DeleteFunc(of, func(m *member, _ *closings) bool { return !slices.Contains(members, m) })
	for _, m := range members {
		if of[m] == nil {
			half := m.half()
			half.Log = m.Log
			of[m] = newClosings(half)
		}
	}
	var turn sync.Mutex
	var failed []error
	pending, down := !listed, false // Redis is that of all: when one has waited for it in vain, the others do not
	err := f.each(func(m *member) error {
		c := of[m]
		turn.Lock()
		skip := down
		turn.Unlock()
		if c == nil || skip || !slices.ContainsFunc(c.endpointsNow(), c.due) {
			return nil
		}
		waits, err := m.close(ctx, c)
		turn.Lock()
		defer turn.Unlock()
		pending, down = pending || waits, down || errors.Is(err, queue.ErrUnreachable)
		if err != nil {
			failed = append(failed, err)
		}
		return nil
	})
	return pending, errors.Join(err, shortened(failed))
}

// shortened is what sources have failed with, in one line: the first of the errors, in the order of their texts, and how many others there are.
func shortened(failed []error) error {
	if len(failed) == 0 {
		return nil
	}
	first := slices.MinFunc(failed, func(a, b error) int { return strings.Compare(a.Error(), b.Error()) })
	if n := len(failed) - 1; n > 0 {
		return fmt.Errorf("%w (and %d other sources)", first, n)
	}
	return first
}

// close sends the source's closings that are due, over a queue of its own; pending: some have to wait. One that is not read has none until it is.
func (m *member) close(ctx context.Context, c *closings) (pending bool, err error) {
	f := m.fleet
	f.mu.Lock()
	unread := m.problem != nil || m.gone
	f.mu.Unlock()
	if unread {
		return true, nil
	}
	err = m.withOwnQueue(ctx, func(q *queue.Queue) error {
		c.queue, c.uncounted = q, false
		defer func() { c.queue = nil }()
		defer m.useOwnGauge(c.bridge)()
		pending, err = c.sendDue(ctx)
		return err
	})
	if errors.Is(err, queue.ErrNotClaimed) {
		return true, nil // nothing was read of it yet
	}
	if err != nil {
		return true, fmt.Errorf("source %s: %w", m.Name, err)
	}
	if c.uncounted {
		f.mu.Lock()
		m.closes = true
		f.mu.Unlock()
		signal(f.wake)
	}
	return pending, nil
}
