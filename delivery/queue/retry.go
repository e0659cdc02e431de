package queue

import (
	"context"
	"encoding/json"
	"fmt"
	"strconv"
	"time"

	"gancho/delivery/webhook"

	"github.com/redis/go-redis/v9"
)

// Attempts is what is kept of an event that has failed, in the hash `at`.
type Attempts struct {
	// N counts all of them, the failures of a list that the event was in
	// included. Of these, Refused are on the schedule RetryRefused, and Apart, of
	// lists that were cut since, are on none; the others are on Retry.
	N       int  `json:"n"`
	Refused int  `json:"refused,omitempty"`
	Apart   int  `json:"apart,omitempty"`
	Wrong   bool `json:"wrong,omitempty"` // the last was a refusal

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

// After returns the attempts with one more failure, at a time when the endpoint
// had stood still for idle milliseconds.
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

// marshal returns the hash's form.
func (a Attempts) marshal() string {
	b, err := json.Marshal(a)
	if err != nil { // a year beyond 9999, of a clock that is wrong
		return `{"n":` + strconv.Itoa(a.N) + `}`
	}
	return string(b)
}

// loadPage is how many retries are loaded with one command.
const loadPage = 1000

// loadRetries reads what the endpoint's failed events wait for.
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
