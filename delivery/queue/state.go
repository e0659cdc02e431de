package queue

import (
	"context"
	"strconv"
	"time"

	"github.com/redis/go-redis/v9"
)

// Suspension says why an endpoint that is configured as active gets nothing.
type Suspension struct {
	// Reason is empty when the endpoint is not suspended.
	Reason string    `json:"paused,omitempty"`
	Since  time.Time `json:"since,omitzero"`
	// Until: the receiver has asked for a pause up to then.
	Until time.Time `json:"held_until,omitzero"`
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

// hastenScript makes failed events due, for the next owner, and has the present
// one do so; with 0 only when one of them blocks its key. There are no more of
// them than an endpoint has lanes.
var hastenScript = redis.NewScript(`
if ARGV[1] == '0' and redis.call('ZCOUNT', KEYS[1], '+inf', '+inf') == 0 then return 0 end
local ids = redis.call('ZRANGE', KEYS[1], 0, -1)
for i = 1, #ids do redis.call('ZADD', KEYS[1], 0, ids[i]) end
redis.call('HINCRBY', KEYS[2], 'unblock', 1)
return #ids`)

// Hasten gives every event that has failed one more attempt now, those that
// block their key (on_exhausted: block) too, and returns how many there were.
func (q *Queue) Hasten(ctx context.Context, endpoint string) (int, error) {
	return q.hasten(ctx, endpoint, 1)
}

func (q *Queue) hasten(ctx context.Context, endpoint string, always int) (int, error) {
	n, err := hastenScript.Run(ctx, q.client, []string{q.keys.due(endpoint), q.keys.state(endpoint)}, always).Int()
	if err == nil && n > 0 {
		err = q.client.Publish(ctx, q.keys.wake(), WakeAll).Err()
	}
	return n, annotate(err, "hasten events of endpoint %q", endpoint)
}

// Resume resumes an endpoint that was paused automatically or has events that
// block their keys, immediately in every process, and gives its failed events
// one more attempt. Its events were kept, and it has the whole of PauseAfter
// again. It reports whether there was anything to resume.
func (q *Queue) Resume(ctx context.Context, endpoint string) (bool, error) {
	paused, err := q.client.HExists(ctx, q.keys.state(endpoint), "paused").Result()
	always := 0
	if err == nil && paused {
		always = 1
		pipe := q.client.TxPipeline()
		pipe.HDel(ctx, q.keys.state(endpoint), "paused", "since", "hold", "failing")
		pipe.Publish(ctx, q.keys.wake(), WakeAll)
		_, err = pipe.Exec(ctx)
	}
	if err != nil {
		return false, annotate(err, "resume endpoint %q", endpoint)
	}
	n, err := q.hasten(ctx, endpoint, always)
	return paused || n > 0, err
}

// Health is what Redis keeps of how an endpoint fares, beside why it is paused:
// its next owner goes on where this one stopped. Times are in ms since 1970;
// 0: none.
type Health struct {
	Failing int64 // since when every attempt has failed
	Open    int64 // since when the breaker is open
	Trouble int64 // since when it has not answered, until its recovery is reported
	Noticed int64 // the beginning of the pause that was reported last
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
		return Condition{}, annotate(err, "read state of endpoint %q", endpoint)
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
