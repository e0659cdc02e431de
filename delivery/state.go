package delivery

import (
	"context"
	"fmt"
	"strconv"
	"time"

	"github.com/redis/go-redis/v9"
)

// Suspension says why an endpoint that is configured as active gets nothing.
type Suspension struct {
	// Reason is empty when the endpoint is not suspended.
	Reason string
	Since  time.Time
	// Until: the receiver has asked for a pause up to then.
	Until time.Time
}

// Suspended returns whether the endpoint was paused because of an answer 410
// or an exhausted event, or has asked for a pause.
func (q *Queue) Suspended(ctx context.Context, endpoint string) (Suspension, error) {
	v, err := q.client.HMGet(ctx, q.keys.state(endpoint), "paused", "since", "hold").Result()
	if err != nil {
		return Suspension{}, fmt.Errorf("read state of endpoint %q: %w", endpoint, unreachable(err))
	}
	text := func(i int) string { s, _ := v[i].(string); return s }
	s := Suspension{Reason: text(0)}
	if s.Reason != "" {
		s.Since = parseHold(text(1))
	}
	if until := parseHold(text(2)); until.After(time.Now()) {
		s.Until = until
	}
	return s, nil
}

// Unpause lets an endpoint that was paused by itself go on, at once in every
// process. Its events were kept.
func (q *Queue) Unpause(ctx context.Context, endpoint string) error {
	pipe := q.client.TxPipeline()
	pipe.HDel(ctx, q.keys.state(endpoint), "paused", "since", "hold")
	pipe.Publish(ctx, q.keys.wake(), wakeAll)
	if _, err := pipe.Exec(ctx); err != nil {
		return fmt.Errorf("unpause endpoint %q: %w", endpoint, unreachable(err))
	}
	return nil
}

// unblockScript makes blocked events due, for the next owner, and tells the
// present one.
var unblockScript = redis.NewScript(`
local ids = redis.call('ZRANGEBYSCORE', KEYS[1], '+inf', '+inf')
for i = 1, #ids do redis.call('ZADD', KEYS[1], 0, ids[i]) end
redis.call('HINCRBY', KEYS[2], 'unblock', 1)
return #ids`)

// Unblock gives every event that blocks its key (on_exhausted: block) one more
// attempt now, and returns how many there were.
func (q *Queue) Unblock(ctx context.Context, endpoint string) (int, error) {
	n, err := unblockScript.Run(ctx, q.client, []string{q.keys.due(endpoint), q.keys.state(endpoint)}).Int()
	if err == nil {
		err = q.client.Publish(ctx, q.keys.wake(), wakeAll).Err()
	}
	if err != nil {
		return n, fmt.Errorf("unblock endpoint %q: %w", endpoint, unreachable(err))
	}
	return n, nil
}

// loadState reads the endpoint's state, as renewScript tells it later.
func (q *Queue) loadState(ctx context.Context, endpoint string) (standing, error) {
	v, err := q.client.HMGet(ctx, q.keys.state(endpoint), "paused", "hold", "unblock").Result()
	if err != nil {
		return standing{}, fmt.Errorf("read state of endpoint %q: %w", endpoint, unreachable(err))
	}
	text := func(i int) string { s, _ := v[i].(string); return s }
	return standing{owned: true, more: true, paused: text(0), hold: parseHold(text(1)), unblock: text(2)}, nil
}

func pausedState(reason string, now time.Time) []any {
	return []any{"paused", reason, "since", strconv.FormatInt(now.UnixMilli(), 10)}
}

func heldState(until time.Time) []any {
	return []any{"hold", strconv.FormatInt(until.UnixMilli(), 10)}
}
