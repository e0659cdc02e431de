package queue

import (
	"cmp"
	"context"
	"encoding/json"
	"fmt"
	"slices"
	"strconv"
	"time"

	"gancho/delivery/webhook"

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

// hastenScript makes failed events (at most one per lane) due for the next owner, and has
// the present one do so; with 0 only when one of them blocks its key, or when it has
// resumed the endpoint. What the receiver has asked for, a pause up to a time, ends with that. What it writes first, a
// full Redis allows, for the reason that ackScript gives. It returns how many events it made due, and whether it ended a
// suspension, or, without 0, a pause.
var hastenScript = redis.NewScript(`
local resumed = redis.call('HEXISTS', KEYS[2], 'paused')
if ARGV[1] == '0' and resumed == 0 and redis.call('ZCOUNT', KEYS[1], '+inf', '+inf') == 0 then return {0, 0} end
redis.call('HDEL', KEYS[2], '')
local held = redis.call('HDEL', KEYS[2], 'hold')
if ARGV[1] == '0' then redis.call('HDEL', KEYS[2], 'paused', 'since', 'failing') else resumed = held end
local ids = redis.call('ZRANGE', KEYS[1], 0, -1)
for i = 1, #ids do redis.call('ZADD', KEYS[1], 0, ids[i]) end
redis.call('HINCRBY', KEYS[2], 'unblock', 1)
return {#ids, resumed}`)

// Hasten gives every event that has failed one more attempt now, those that
// block their key (on_exhausted: block) too, and returns how many there were. It
// ends a pause that the receiver has asked for.
func (q *Queue) Hasten(ctx context.Context, endpoint string) (int, error) {
	reply, err := hastenScript.Run(ctx, q.client, []string{q.keys.due(endpoint), q.keys.state(endpoint)}, 1).Int64Slice()
	if err == nil && reply[0]+reply[1] > 0 {
		err = q.client.Publish(ctx, q.keys.wake(), WakeAll).Err()
	}
	if err != nil {
		return 0, annotate(err, "hasten events of endpoint %q", endpoint)
	}
	return int(reply[0]), nil
}

// Resume resumes an endpoint that was paused automatically or has events that
// block their keys, immediately in every process, gives its failed events one
// more attempt, and the endpoint the whole of PauseAfter. It reports whether
// there was anything to resume.
func (q *Queue) Resume(ctx context.Context, endpoint string) (bool, error) {
	resumed, err := q.ResumeAll(ctx, []string{endpoint})
	return len(resumed) > 0, err
}

// ResumeAll is Resume for many endpoints, in a round trip for some hundred of them. It returns those of which there was
// anything to resume, also beside an error, which is the first: the others are resumed all the same.
func (q *Queue) ResumeAll(ctx context.Context, endpoints []string) (resumed []string, err error) {
	for some := range slices.Chunk(endpoints, leaseGroupMost) {
		calls := make([]scriptCall, len(some))
		for i, name := range some {
			calls[i] = scriptCall{hastenScript, []string{q.keys.due(name), q.keys.state(name)}, []any{0}}
		}
		for i, reply := range q.runScripts(ctx, calls) {
			did, failed := reply.Int64Slice()
			err = cmp.Or(err, annotate(failed, "resume endpoint %q", some[i]))
			if failed == nil && did[0]+did[1] > 0 {
				resumed = append(resumed, some[i])
			}
		}
	}
	if len(resumed) > 0 {
		err = cmp.Or(err, annotate(q.client.Publish(ctx, q.keys.wake(), WakeAll).Err(), "wake the other processes"))
	}
	return resumed, err
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
	Seen    int64 // when its owner could last make attempts, while some of them fail
	Away    int64 // how long, in ms, nobody could since Failing: no owner, or no Redis
	Warned  int64 // which warnings were sent since Failing
	// Undelivered is since when nothing was delivered, from the first failure on. Unlike
	// Failing, it does not end when somebody resumes the endpoint.
	Undelivered int64
	ShutOut     int64 // when an event ended with a 401 or 403, since Undelivered
}

// healthFields are the names of health's fields, in their order.
var healthFields = [...]string{"failing", "open", "trouble", "noticed", "idle", "idling", "seen", "away", "warned", "undelivered", "shut_out"}

func (h *Health) values() [len(healthFields)]*int64 {
	return [...]*int64{&h.Failing, &h.Open, &h.Trouble, &h.Noticed, &h.Idle, &h.Idling, &h.Seen, &h.Away, &h.Warned, &h.Undelivered, &h.ShutOut}
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
	overflows bool // a part of the backlog is in the Overflow
}

// loadCondition reads the endpoint's state, of which inspectScript returns a part later.
func (q *Queue) loadCondition(ctx context.Context, endpoint string) (Condition, error) {
	fields := append([]string{"paused", "hold", "unblock", "since", "forgotten", "overflow"}, healthFields[:]...)
	v, err := q.client.HMGet(ctx, q.keys.state(endpoint), fields...).Result()
	if err != nil {
		return Condition{}, annotate(err, "read state of endpoint %q", endpoint)
	}
	text := func(i int) string { s, _ := v[i].(string); return s }
	c := Condition{
		Standing:  Standing{Owned: true, Inspected: true, More: true, MoreAside: true, Paused: text(0), Hold: parseMillis(text(1)), Unblock: text(2), Forgotten: text(4)},
		Since:     parseMillis(text(3)),
		overflows: text(5) != "",
	}
	for i, value := range c.Health.values() {
		if n, err := strconv.ParseInt(text(6+i), 10, 64); err == nil {
			*value = n
		}
	}
	return c, nil
}

// Attempts is what is kept of an event that has failed, in the hash `at`.
type Attempts struct {
	// N counts all of them, the failures of a list that the event was in
	// included. Of these, Refused are on the schedule RetryRefused, and Apart, of
	// lists that were cut since, are on none; the others are on Retry.
	N       int  `json:"n"`
	Refused int  `json:"refused,omitempty"`
	Apart   int  `json:"apart,omitempty"`
	Wrong   bool `json:"wrong,omitempty"` // the last was a refusal
	// Suspended: its last attempt has suspended the endpoint as misconfigured.
	Suspended bool `json:"suspended,omitempty"`

	Failures
	// Idle is how long, in ms, the endpoint had stood still at the first failure.
	Idle int64 `json:"idle,omitempty"`

	Due     time.Time // in the sorted set `rt`
	Blocked bool      // due never
}

// Failures are when attempts have failed, and how the last did.
type Failures struct {
	First  time.Time `json:"first"`
	Last   time.Time `json:"last"`
	Status int       `json:"status,omitempty"` // 0: there was no answer
	Class  string    `json:"class,omitempty"`
	Error  string    `json:"error,omitempty"`
	Answer string    `json:"answer,omitempty"` // its start; it may hold what the receiver echoed
}

// keptAnswer is how much of a failed attempt's answer is kept, in bytes.
const keptAnswer = 1 << 10

// After returns the attempts with one more failure, of an endpoint that stood still for idle ms.
func (a Attempts) After(o *webhook.Outcome, now time.Time, idle int64) Attempts {
	a.N++
	if a.N == 1 {
		a.First, a.Idle = now.UTC(), idle
	}
	if a.Wrong = o.Kind == webhook.Refused; a.Wrong {
		a.Refused++
	}
	a.Last, a.Status, a.Class, a.Error = now.UTC(), o.Status, o.Class, ""
	if o.Err != nil {
		a.Error = o.Err.Error()
	}
	a.Answer = string(o.Answer[:min(len(o.Answer), keptAnswer)])
	return a
}

// OffSchedule returns the attempts with the last one, of a list that is cut now, on
// no schedule. prior are those before it.
func (a Attempts) OffSchedule(prior Attempts) Attempts {
	a.Apart++
	a.Refused = prior.Refused
	return a
}

// never is the score of an event that waits for somebody to act.
const never = "+inf"

func (a Attempts) score() string {
	if a.Blocked {
		return never
	}
	return strconv.FormatInt(a.Due.UnixMilli(), 10)
}

func (a Attempts) marshal() string {
	b, err := json.Marshal(a)
	if err != nil { // a year beyond 9999, of a clock that is wrong
		return `{"n":` + strconv.Itoa(a.N) + `}`
	}
	return string(b)
}

// loadPage is how many retries are loaded with one command.
const loadPage = 1000

func (q *Queue) loadRetries(ctx context.Context, endpoint string) (map[ID]Attempts, error) {
	out := map[ID]Attempts{}
	for from := int64(0); ; from += loadPage {
		page, err := q.client.ZRangeWithScores(ctx, q.keys.due(endpoint), from, from+loadPage-1).Result()
		if err == nil && len(page) > 0 {
			err = q.loadAttempts(ctx, endpoint, page, out)
		}
		if err != nil {
			return nil, annotate(err, "load retries of endpoint %q", endpoint)
		}
		if len(page) < loadPage {
			return out, nil
		}
	}
}

func (q *Queue) loadAttempts(ctx context.Context, endpoint string, page []redis.Z, out map[ID]Attempts) error {
	names := make([]string, len(page))
	for i, z := range page {
		names[i], _ = z.Member.(string)
	}
	states, err := q.client.HMGet(ctx, q.keys.attempts(endpoint), names...).Result()
	if err != nil {
		return err
	}
	for i, z := range page {
		id, err := ParseID(names[i])
		if err != nil {
			return err
		}
		var a Attempts
		if text, ok := states[i].(string); ok {
			if err := json.Unmarshal([]byte(text), &a); err != nil {
				return fmt.Errorf("parse attempts of event %s: %w", names[i], err)
			}
		}
		if a.Blocked = z.Score > float64(1<<62); !a.Blocked {
			a.Due = time.UnixMilli(int64(z.Score))
		}
		out[id] = a
	}
	return nil
}
