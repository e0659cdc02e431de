package queue

import (
	"context"
	"encoding/json"
	"fmt"
	"time"

	"gancho/delivery/webhook"

	"github.com/redis/go-redis/v9"
)

// DeadEvent is an event that was given up.
type DeadEvent struct {
	// Handle identifies the dead letter within its endpoint; handles rise with time.
	Handle string `json:"-"`
	webhook.Message
	Reason string `json:"reason"`
	// Attempts failed, from First to Last.
	Attempts int       `json:"attempts"`
	First    time.Time `json:"first"`
	Last     time.Time `json:"last"`
	// Status, Class, Error and Answer (its start) are the last attempt's.
	// Answer may hold what the receiver echoed.
	Status int    `json:"status,omitempty"`
	Class  string `json:"class,omitempty"`
	Error  string `json:"error,omitempty"`
	Answer string `json:"answer,omitempty"`
}

// DeadCount returns how many dead letters the endpoint has.
func (q *Queue) DeadCount(ctx context.Context, endpoint string) (int64, error) {
	n, err := q.client.XLen(ctx, q.keys.dead(endpoint)).Result()
	if err != nil {
		return 0, fmt.Errorf("count dead letters of endpoint %q: %w", endpoint, unreachable(err))
	}
	return n, nil
}

// Dead returns up to n dead letters of the endpoint, the oldest first, that
// come after the handle; an empty handle: from the beginning.
func (q *Queue) Dead(ctx context.Context, endpoint, after string, n int64) ([]DeadEvent, error) {
	entries, err := q.page(ctx, q.keys.dead(endpoint), after, n)
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

// TrimDead removes dead letters that have been stored elsewhere, by their
// handles. Removing one again is harmless.
func (q *Queue) TrimDead(ctx context.Context, endpoint string, handles ...string) error {
	if len(handles) == 0 {
		return nil
	}
	if err := q.client.XDel(ctx, q.keys.dead(endpoint), handles...).Err(); err != nil {
		return fmt.Errorf("trim dead letters of endpoint %q: %w", endpoint, unreachable(err))
	}
	return nil
}

func (q *Queue) page(ctx context.Context, key, after string, n int64) ([]redis.XMessage, error) {
	from := "-"
	if after != "" {
		from = "(" + after
	}
	entries, err := q.client.XRangeN(ctx, key, from, "+", n).Result()
	if err != nil {
		return nil, unreachable(err)
	}
	return entries, nil
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
	d := DeadEvent{
		Handle: e.ID, Attempts: a.N, First: a.First, Last: a.Last,
		Status: a.Status, Class: a.Class, Error: a.Error, Answer: a.Answer,
	}
	d.Reason, _ = e.Values["reason"].(string)
	fields := make([]any, 0, 2*len(e.Values))
	for k, v := range e.Values {
		fields = append(fields, k, v)
	}
	if err := fill(&d.Message, fields); err != nil {
		return DeadEvent{}, err
	}
	return d, q.identify(ctx, id, &d.Message)
}

// ParkedChange is a change that no event could be made of.
type ParkedChange struct {
	ID        ID        `json:"id"`
	Type      string    `json:"event,omitempty"`
	Rule      string    `json:"rule"`
	Table     string    `json:"table"`
	Operation string    `json:"operation"`
	Reason    string    `json:"reason"`
	Time      time.Time `json:"time"` // the commit's
	// Row has the columns that the rule names.
	Row json.RawMessage `json:"row,omitempty"`
}

// ParkedCount returns how many changes are parked.
func (q *Queue) ParkedCount(ctx context.Context) (int64, error) {
	n, err := q.client.XLen(ctx, q.keys.parked()).Result()
	if err != nil {
		return 0, fmt.Errorf("count parked changes: %w", unreachable(err))
	}
	return n, nil
}

// Parked returns up to n parked changes in commit order that come after an id;
// the zero ID: from the beginning.
func (q *Queue) Parked(ctx context.Context, after ID, n int64) ([]ParkedChange, error) {
	from := ""
	if !after.IsZero() {
		from = after.String()
	}
	entries, err := q.page(ctx, q.keys.parked(), from, n)
	if err != nil {
		return nil, fmt.Errorf("read parked changes: %w", err)
	}
	out := make([]ParkedChange, 0, len(entries))
	for _, e := range entries {
		p := ParkedChange{}
		if p.ID, err = ParseID(e.ID); err != nil {
			return nil, fmt.Errorf("read parked changes: %w", err)
		}
		field := func(name string) string { s, _ := e.Values[name].(string); return s }
		p.Type, p.Rule, p.Table, p.Operation, p.Reason = field("t"), field("r"), field("table"), field("op"), field("reason")
		p.Row = []byte(field("row"))
		if p.Time, err = parseMicros(field("c")); err != nil {
			return nil, fmt.Errorf("read parked change %s: %w", e.ID, err)
		}
		out = append(out, p)
	}
	return out, nil
}
