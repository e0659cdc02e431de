package queue

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

// Suspended returns whether the endpoint was paused by itself: because of an
// answer 410, of a receiver that asked for it, of an exhausted event, or of
// having failed for too long. It also returns until when the receiver has asked
// for nothing to be sent.
func (q *Queue) Suspended(ctx context.Context, endpoint string) (Suspension, error) {
	v, err := q.client.HMGet(ctx, q.keys.state(endpoint), "paused", "since", "hold").Result()
	if err != nil {
		return Suspension{}, fmt.Errorf("read state of endpoint %q: %w", endpoint, unreachable(err))
	}
	text := func(i int) string { s, _ := v[i].(string); return s }
	return suspensionOf(text(0), text(1), text(2)), nil
}

func suspensionOf(paused, since, hold string) Suspension {
	s := Suspension{Reason: paused}
	if s.Reason != "" {
		s.Since = parseMillis(since)
	}
	if until := parseMillis(hold); until.After(time.Now()) {
		s.Until = until
	}
	return s
}

// Unpause lets an endpoint that was paused by itself go on, at once in every
// process. Its events were kept, and it has the whole of PauseAfter again.
func (q *Queue) Unpause(ctx context.Context, endpoint string) error {
	pipe := q.client.TxPipeline()
	pipe.HDel(ctx, q.keys.state(endpoint), "paused", "since", "hold", "failing")
	pipe.Publish(ctx, q.keys.wake(), WakeAll)
	if _, err := pipe.Exec(ctx); err != nil {
		return fmt.Errorf("unpause endpoint %q: %w", endpoint, unreachable(err))
	}
	return nil
}

// hastenScript makes failed events due, for the next owner, and tells the
// present one; with 0 only when one of them blocks its key. There are no more
// of them than an endpoint has lanes.
var hastenScript = redis.NewScript(`
if ARGV[1] == '0' and redis.call('ZCOUNT', KEYS[1], '+inf', '+inf') == 0 then return 0 end
local ids = redis.call('ZRANGE', KEYS[1], 0, -1)
for i = 1, #ids do redis.call('ZADD', KEYS[1], 0, ids[i]) end
redis.call('HINCRBY', KEYS[2], 'unblock', 1)
return #ids`)

// Hasten gives every event that has failed one more attempt now, those that
// block their key (on_exhausted: block) too, and returns how many there were.
func (q *Queue) Hasten(ctx context.Context, endpoint string) (int, error) {
	return q.hasten(ctx, endpoint, true)
}

func (q *Queue) hasten(ctx context.Context, endpoint string, always bool) (int, error) {
	when := 0
	if always {
		when = 1
	}
	n, err := hastenScript.Run(ctx, q.client, []string{q.keys.due(endpoint), q.keys.state(endpoint)}, when).Int()
	if err == nil && n > 0 {
		err = q.client.Publish(ctx, q.keys.wake(), WakeAll).Err()
	}
	if err != nil {
		return n, fmt.Errorf("hasten events of endpoint %q: %w", endpoint, unreachable(err))
	}
	return n, nil
}

// Resume lets an endpoint go on that was paused by itself or has events that
// block their keys, and gives its failed events one more attempt. It reports
// whether there was anything to resume.
func (q *Queue) Resume(ctx context.Context, endpoint string) (bool, error) {
	s, err := q.Suspended(ctx, endpoint)
	if err != nil {
		return false, err
	}
	if s.Reason != "" {
		if err := q.Unpause(ctx, endpoint); err != nil {
			return false, err
		}
	}
	n, err := q.hasten(ctx, endpoint, s.Reason != "")
	return s.Reason != "" || n > 0, err
}

// Health is what Redis keeps of how an endpoint fares, beside why it is paused:
// its next owner goes on where this one stopped. Times are in ms since 1970;
// 0: none.
type Health struct {
	Failing int64 // since when every attempt has failed
	Open    int64 // since when the breaker is open
	Trouble int64 // since when it had not answered, while its recovery is to be told
	Noticed int64 // the beginning of the pause that was told of last
	Idle    int64 // how long, in ms, it has stood still before idling
	Idling  int64 // since when it stands still: paused, or its breaker open
}

// healthFields are the names of health's fields, in their order.
var healthFields = [...]string{"failing", "open", "trouble", "noticed", "idle", "idling"}

func (h *Health) values() [len(healthFields)]*int64 {
	return [...]*int64{&h.Failing, &h.Open, &h.Trouble, &h.Noticed, &h.Idle, &h.Idling}
}

// IdledFor is how long, in ms, the endpoint has stood still up to now. It never
// falls, so the difference of two is the time that is no event's age.
func (h *Health) IdledFor(now time.Time) int64 {
	if h.Idling == 0 {
		return h.Idle
	}
	return h.Idle + max(0, now.UnixMilli()-h.Idling)
}

// Condition is all that Redis keeps of an endpoint's state.
type Condition struct {
	Standing
	Since time.Time // of the pause
	Health
}

// loadCondition reads the endpoint's state, of which inspectScript returns a part later.
func (q *Queue) loadCondition(ctx context.Context, endpoint string) (Condition, error) {
	fields := append([]string{"paused", "hold", "unblock", "since"}, healthFields[:]...)
	v, err := q.client.HMGet(ctx, q.keys.state(endpoint), fields...).Result()
	if err != nil {
		return Condition{}, fmt.Errorf("read state of endpoint %q: %w", endpoint, unreachable(err))
	}
	text := func(i int) string { s, _ := v[i].(string); return s }
	c := Condition{
		Standing: Standing{Owned: true, Inspected: true, More: true, MoreAside: true, Paused: text(0), Hold: parseMillis(text(1)), Unblock: text(2)},
		Since:    parseMillis(text(3)),
	}
	for i, value := range c.Health.values() {
		if n, err := strconv.ParseInt(text(4+i), 10, 64); err == nil {
			*value = n
		}
	}
	return c, nil
}
