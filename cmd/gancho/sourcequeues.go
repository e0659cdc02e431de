package main

import (
	"context"
	"errors"
	"fmt"
	"sync"

	"gancho/config"
	"gancho/delivery/queue"
	"gancho/internal/control"
	"gancho/internal/state"
)

// eachQueue calls a function with the queue of each source of a configuration with several, several at once; what has moved from
// there is in the store, which may be nil. The error has all of theirs.
func eachQueue(ctx context.Context, c *config.Config, store *state.Store, do func(d config.Database, q *queue.Queue) error) error {
	all, err := listSources(ctx, c)
	if err != nil {
		return err
	}
	var errs []error
	at := func(d config.Database) error {
		s := &session{config: c.For(d)}
		defer s.close()
		q, err := s.connectQueue(ctx, store)
		if err == nil {
			err = do(d, q)
		}
		return err
	}
	_ = eachSource(all, at, func(d config.Database, err error) error {
		if err != nil {
			errs = append(errs, fmt.Errorf("source %s: %w", d.Name, err))
		}
		return nil
	})
	return errors.Join(errs...)
}

// overSources lets operations on an endpoint count, and change, what the queues of all sources have of it.
func (s *session) overSources(o *control.Options) {
	house := *o
	o.EachSource = func(ctx context.Context, do func(*control.Service) error) error {
		return eachQueue(ctx, s.config, o.Store, func(d config.Database, q *queue.Queue) error {
			one := house
			one.Queue, one.SourceName, one.SourceSlot = q, d.Name, d.Slot
			if one.Store != nil {
				one.Store = one.Store.Of(one.SourceSlot)
			}
			return do(control.New(one))
		})
	}
	var mu sync.Mutex
	o.AddStats = func(ctx context.Context, to []queue.Stats) {
		names := make([]string, len(to))
		for i := range to {
			names[i] = to[i].Endpoint
		}
		s.unread = eachQueue(ctx, s.config, o.Store, func(_ config.Database, q *queue.Queue) error {
			stats, err := q.Stats(ctx, names)
			mu.Lock()
			defer mu.Unlock()
			for i := range stats {
				to[i].Add(&stats[i])
			}
			return err
		})
	}
	o.ResumeSources = func(ctx context.Context, endpoint string) (resumed bool, hastened int, err error) {
		err = eachQueue(ctx, s.config, o.Store, func(_ config.Database, q *queue.Queue) error {
			did, err := q.Resume(ctx, endpoint)
			if err != nil {
				return err
			}
			n, err := q.Hasten(ctx, endpoint)
			mu.Lock()
			defer mu.Unlock()
			resumed, hastened = resumed || did, hastened+n
			return err
		})
		return resumed, hastened, err
	}
}

// parkedOfSources are the parked changes of all sources.
type parkedOfSources struct{ config *config.Config }

func (p parkedOfSources) RekeyParked(ctx context.Context, reseal func(*queue.ParkedChange) (bool, error)) (total int64, err error) {
	var mu sync.Mutex // reseal is for one at a time
	err = eachQueue(ctx, p.config, nil, func(_ config.Database, q *queue.Queue) error {
		mu.Lock()
		defer mu.Unlock()
		n, err := q.RekeyParked(ctx, reseal)
		total += n
		return err
	})
	return total, err
}
