package queue

import (
	"context"
	"fmt"

	"github.com/redis/go-redis/v9"

	"gancho/delivery/webhook"
)

// Queued is an event that waits for an endpoint.
type Queued struct {
	Endpoint string
	Message  *webhook.Message
}

// Names reports whether a webhook-id is of the queue's source, in one of the epochs that Redis knows of. One that was not made of a position is not.
func (q *Queue) Names(ctx context.Context, webhookID string) (bool, error) {
	source, id, err := ParseWebhookID(webhookID)
	if err != nil {
		return false, nil // another kind of id, and no mistake
	}
	s := &q.sources
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.names[id.Epoch()] == "" {
		if _, err := s.readLocked(ctx); err != nil {
			return false, annotate(err, "read %s", s.key)
		}
	}
	return s.names[id.Epoch()] == source, nil
}

// Find returns the event with an id as it waits, for each endpoint that it waits for: in Redis, or in the Overflow. What is sent again is not
// among it.
func (q *Queue) Find(ctx context.Context, id ID) (found []Queued, err error) {
	names, err := q.Registered(ctx)
	if err != nil || len(names) == 0 {
		return nil, err
	}
	pipe := q.client.Pipeline()
	replies := make([]*redis.Cmd, len(names))
	for i, name := range names {
		replies[i] = pipe.Do(ctx, "XRANGE", q.keys.events(name), id.String(), id.String())
	}
	if _, err := pipe.Exec(ctx); err != nil {
		return nil, annotate(err, "look for an event in the queues")
	}
	heads := map[string]Head{}
	if q.overflow != nil {
		if heads, err = q.overflow.Heads(ctx); err != nil {
			return nil, err
		}
	}
	for i, name := range names {
		entries, err := replies[i].Slice()
		if err != nil {
			return nil, fmt.Errorf("read the queue of endpoint %q: %w", name, err)
		}
		for _, raw := range entries {
			e, _, err := q.decode(ctx, raw)
			if err != nil {
				return nil, fmt.Errorf("read the queue of endpoint %q: %w", name, err)
			}
			found = append(found, Queued{name, e.Msg})
		}
		if _, moved := heads[name]; !moved || len(entries) > 0 {
			continue
		}
		page, err := q.overflow.Page(ctx, name, id.previous(), id, 1, 1)
		if err != nil {
			return nil, err
		}
		for _, e := range page {
			found = append(found, Queued{name, e.Msg})
		}
	}
	return found, nil
}
