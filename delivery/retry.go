package delivery

import (
	"context"
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"strconv"
	"time"

	"github.com/redis/go-redis/v9"
)

// attempts is what is kept of an event that has failed, in the hash `at`.
type attempts struct {
	N      int       `json:"n"`
	First  time.Time `json:"first"` // the first failure
	Last   time.Time `json:"last"`
	Status int       `json:"status,omitempty"`
	Class  string    `json:"class"`
	Error  string    `json:"error,omitempty"`
	Answer string    `json:"answer,omitempty"` // its start

	due     time.Time // in the sorted set `rt`
	blocked bool      // due never
}

// keptAnswer is how much of a failed attempt's answer is kept, in bytes.
const keptAnswer = 1 << 10

// jitter is how much longer than the schedule a wait may be: events that
// failed together do not come back together.
const jitter = 0.2

// after returns the attempts with one more failure.
func (a attempts) after(o *Outcome, now time.Time) attempts {
	a.N++
	if a.N == 1 {
		a.First = now.UTC()
	}
	a.Last, a.Status, a.Class, a.Error = now.UTC(), o.Status, o.Class, ""
	if o.Err != nil {
		a.Error = o.Err.Error()
	}
	a.Answer = string(o.Answer[:min(len(o.Answer), keptAnswer)])
	return a
}

// wait returns how long to wait after the n-th failure (from 1), and false
// when there are no more attempts.
func (e *Endpoint) wait(n int) (time.Duration, bool) {
	schedule := e.Retry
	if schedule == nil {
		schedule = DefaultRetry()
	}
	if n > len(schedule) {
		return 0, false
	}
	d := schedule[n-1]
	return d + time.Duration(rand.Float64()*jitter*float64(d)), true
}

// never is the score of an event that waits for somebody to act.
const never = "+inf"

func (a attempts) score() string {
	if a.blocked {
		return never
	}
	return strconv.FormatInt(a.due.UnixMilli(), 10)
}

// marshal returns the hash's form.
func (a attempts) marshal() string {
	b, err := json.Marshal(a)
	if err != nil { // a year beyond 9999 in a clock gone mad
		return `{"n":` + strconv.Itoa(a.N) + `}`
	}
	return string(b)
}

// loadPage is how many retries are loaded at once.
const loadPage = 1000

// loadRetries reads what the endpoint's failed events wait for.
func (q *Queue) loadRetries(ctx context.Context, endpoint string) (map[ID]attempts, error) {
	out := map[ID]attempts{}
	for from := int64(0); ; from += loadPage {
		page, err := q.client.ZRangeWithScores(ctx, q.keys.due(endpoint), from, from+loadPage-1).Result()
		if err == nil && len(page) > 0 {
			err = q.loadAttempts(ctx, endpoint, page, out)
		}
		if err != nil {
			return nil, fmt.Errorf("load retries of endpoint %q: %w", endpoint, unreachable(err))
		}
		if len(page) < loadPage {
			return out, nil
		}
	}
}

func (q *Queue) loadAttempts(ctx context.Context, endpoint string, page []redis.Z, out map[ID]attempts) error {
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
		var a attempts
		if text, ok := states[i].(string); ok {
			if err := json.Unmarshal([]byte(text), &a); err != nil {
				return fmt.Errorf("parse attempts of event %s: %w", names[i], err)
			}
		}
		if a.blocked = z.Score > float64(1<<62); !a.blocked {
			a.due = time.UnixMilli(int64(z.Score))
		}
		out[id] = a
	}
	return nil
}
