package queue

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"

	"gancho/delivery/webhook"

	"github.com/redis/go-redis/v9"
)

// DeadEvent is a dead letter: an event of which no further attempt is made.
type DeadEvent struct {
	// Handle identifies the dead letter within its endpoint; handles rise with time.
	Handle string `json:"-"`
	webhook.Message
	Reason   string `json:"reason"`
	Attempts int    `json:"attempts"` // that failed
	Failures
}

// Dead returns up to n dead letters of the endpoint, the oldest first, that
// come after the handle; an empty handle: from the beginning.
func (q *Queue) Dead(ctx context.Context, endpoint, after string, n int64) ([]DeadEvent, error) {
	entries, err := q.page(ctx, q.keys.dead(endpoint), "("+cmp.Or(after, ID{}.String()), n)
	if err != nil {
		return nil, fmt.Errorf("read dead letters of endpoint %q: %w", endpoint, err)
	}
	out := make([]DeadEvent, 0, len(entries))
	for _, e := range entries {
		d, err := q.deadLetter(ctx, e)
		if err != nil {
			return nil, fmt.Errorf("read dead letter %s of endpoint %q: %w", e.ID, endpoint, err)
		}
		out = append(out, d)
	}
	return out, nil
}

// TrimDead removes dead letters that are stored elsewhere. Removing one again is harmless.
func (q *Queue) TrimDead(ctx context.Context, endpoint string, handles ...string) error {
	if len(handles) == 0 {
		return nil
	}
	return annotate(q.client.XDel(ctx, q.keys.dead(endpoint), handles...).Err(), "trim dead letters of endpoint %q", endpoint)
}

func (q *Queue) page(ctx context.Context, key, from string, n int64) ([]redis.XMessage, error) {
	entries, err := q.client.XRangeN(ctx, key, from, "+", n).Result()
	return entries, unreachable(err)
}

func (q *Queue) deadLetter(ctx context.Context, e redis.XMessage) (DeadEvent, error) {
	text, _ := e.Values["id"].(string)
	id, err := ParseID(text)
	if err != nil {
		return DeadEvent{}, err
	}
	var a Attempts
	state, _ := e.Values["attempts"].(string)
	if err := json.Unmarshal([]byte(state), &a); err != nil {
		return DeadEvent{}, fmt.Errorf("parse attempts: %w", err)
	}
	d := DeadEvent{Handle: e.ID, Attempts: a.N, Failures: a.Failures}
	d.Reason, _ = e.Values["reason"].(string)
	for name, value := range e.Values {
		if err := fill(&d.Message, name, value); err != nil {
			return DeadEvent{}, err
		}
	}
	return d, q.identify(ctx, id, &d.Message)
}

// ParkedCount returns how many changes and timers are parked.
func (q *Queue) ParkedCount(ctx context.Context) (int64, error) {
	n, err := q.client.XLen(ctx, q.keys.parked()).Result()
	if err != nil {
		return 0, annotate(err, "count parked changes")
	}
	ids, _ := q.keys.failedKeys()
	timers, err := q.client.ZCard(ctx, ids).Result()
	return n + timers, annotate(err, "count parked timers")
}

// ParkedBytes returns about how much memory of Redis the parked changes take.
func (q *Queue) ParkedBytes(ctx context.Context) (int64, error) {
	n, err := q.client.MemoryUsage(ctx, q.keys.parked()).Result()
	switch {
	case errors.Is(err, redis.Nil):
		return 0, nil
	case err != nil && isReply(err) && !isWayError(err): // some services refuse the command
		n, err = parkedBytesScript.Run(ctx, q.client, []string{q.keys.parked()}).Int64()
	}
	return n, annotate(err, "measure parked changes")
}

// parkedBytesScript estimates the size of the parked changes by that of the oldest and the
// newest ones.
var parkedBytesScript = redis.NewScript(`
local n, bytes, count = redis.call('XLEN', KEYS[1]), 0, 0
if n == 0 then return 0 end
for _, some in ipairs({redis.call('XRANGE', KEYS[1], '-', '+', 'COUNT', 16), redis.call('XREVRANGE', KEYS[1], '+', '-', 'COUNT', 16)}) do
  for _, entry in ipairs(some) do
    count = count + 1
    for _, text in ipairs(entry[2]) do bytes = bytes + #text end
  end
end
return math.ceil(bytes / count * n)`)
