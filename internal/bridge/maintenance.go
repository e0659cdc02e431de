package bridge

import (
	"context"
	"errors"
	"time"

	"gancho/delivery/queue"
	"gancho/internal/retry"
)

// maintainEvery is how often partitions are made and dropped, and what could not be stored
// when it arose is stored.
const maintainEvery = time.Hour

// maintain keeps the store's partitions until the context ends. Several
// processes may do so at once.
func (b *bridge) maintain(ctx context.Context) error {
	for {
		wait := maintainEvery
		err := b.store.Maintain(ctx, b.State.KeepEvents, b.State.KeepLog)
		err = errors.Join(err, b.store.ExpireTallies(ctx, time.Now().Add(-queue.TallyAge)))
		if b.capturing() {
			err = errors.Join(err, b.rememberSource(ctx))
		}
		if err != nil && ctx.Err() == nil {
			wait = time.Minute
			b.Log.Warn().Err(err).Msg("maintenance of the state database failed; trying again in a minute")
		}
		if err := retry.Wait(ctx, wait); err != nil {
			return nil //nolint:nilerr // the end that was asked for
		}
	}
}
