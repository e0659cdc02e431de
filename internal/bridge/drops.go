package bridge

import (
	"context"
	"errors"
	"time"

	"gancho/delivery/queue"
)

// retryDrop is the wait while somebody still delivers to an endpoint that is
// removed.
const retryDrop = time.Second

// dropQueues deletes the queues that somebody asked to have deleted, until the
// context ends. Only the process that captures does so: it alone knows when
// nothing more comes.
func (b *bridge) dropQueues(ctx context.Context) error {
	again := time.NewTimer(retryDrop)
	defer again.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-b.dropsChanged:
		case <-again.C:
		}
		if !b.dropAll(ctx) {
			again.Reset(retryDrop)
		}
	}
}

// dropAll reports whether no queue is left to be dropped.
func (b *bridge) dropAll(ctx context.Context) bool {
	if !b.capturing() && b.fleet == nil {
		return false // another process captures
	}
	names, err := b.store.Drops(ctx)
	if err != nil {
		return false // whoever reads the endpoints logs that the database is unreachable
	}
	for _, name := range names {
		if err := b.dropQueue(ctx, name); err != nil && ctx.Err() == nil {
			b.Log.Warn().Err(err).Str("endpoint", name).Msg("queue not dropped yet; trying again")
		}
	}
	return len(names) == 0
}

// dropQueue deletes the queue of an endpoint that is no more. That a process
// still delivers is no error: it is a matter of moments.
func (b *bridge) dropQueue(ctx context.Context, name string) error {
	switch {
	case named(b.roster.fromFile(), name):
		// The events of the old one and those of the file's cannot be told apart.
		b.Log.Warn().Str("endpoint", name).Msg("queue is kept: the configuration file has an endpoint of this name")
		return b.store.Dropped(ctx, name)
	case named(b.endpointsNow(), name):
		return nil // that it is gone has not been applied yet; the store keeps the name free until then
	}
	if b.fleet != nil {
		if done, err := b.fleet.drop(ctx, name); !done || err != nil {
			return err
		}
	} else if err := b.capture.stage.drained(ctx); err != nil {
		return err
	}
	stats, err := b.queue.Stats(ctx, []string{name})
	if err != nil {
		return err
	}
	if stats[0].Owned {
		return nil // its last attempts are not in its log yet
	}
	// The log and the dead letters are kept: only waiting events are dropped.
	if err := b.recorder.record(ctx, stats); err != nil {
		return err
	}
	switch err := b.queue.Drop(ctx, name); {
	case errors.Is(err, queue.ErrBusy):
		return nil
	case err != nil:
		return err
	}
	b.Log.Info().Str("endpoint", name).Msg("queue dropped")
	return b.store.Dropped(ctx, name)
}
