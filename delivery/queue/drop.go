package queue

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/redis/go-redis/v9"
)

// ErrBusy says that a process still has the endpoint's lease. Try again: it
// gives it back when it learns that the endpoint is gone, or the lease expires.
var ErrBusy = errors.New("a process still delivers to the endpoint; try again in some seconds")

// dropScript leaves a fence behind, for a while, that keeps an owner out that
// was stopped and does not know.
var dropScript = redis.NewScript(`
if redis.call('EXISTS', KEYS[1]) == 1 then return 0 end
redis.call('UNLINK', unpack(KEYS))
redis.call('SET', KEYS[2], 'dropped', 'PX', ARGV[1])
return 1`)

// dropFence is how long an owner is kept out of an endpoint that was dropped.
const dropFence = 24 * time.Hour

// Drop deletes everything that Redis holds of the endpoint: what is queued,
// its dead letters and its log, as far as they have not been stored elsewhere.
// It returns ErrBusy while the endpoint's lease is held. Call it when no
// batch is routed to the endpoint any more. Dropping twice is harmless.
func (q *Queue) Drop(ctx context.Context, endpoint string) error {
	k := q.keys
	keys := []string{
		k.lease(endpoint), k.fence(endpoint), k.events(endpoint), k.side(endpoint), k.due(endpoint), k.attempts(endpoint),
		k.dead(endpoint), k.state(endpoint), k.log(endpoint),
	}
	dropped, err := dropScript.Run(ctx, q.client, keys, dropFence.Milliseconds()).Int()
	switch {
	case err != nil:
		return fmt.Errorf("drop the queue of endpoint %q: %w", endpoint, unreachable(err))
	case dropped == 0:
		return fmt.Errorf("drop the queue of endpoint %q: %w", endpoint, ErrBusy)
	}
	return nil
}
