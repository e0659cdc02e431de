package queue_test

import (
	"context"
	"errors"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/redis/go-redis/v9"

	"gancho/delivery/endpoint"
	"gancho/delivery/queue"
	"gancho/delivery/queue/queuetest"
	"gancho/delivery/webhook"
	"gancho/internal/testservers"
)

// write is one of the queue's, which who gets no answer to it repeats.
type write struct {
	text  string // that is sent with it
	write func(ctx context.Context) error
}

// keptIn are what a Redis has of endpoint "a": the ids of the streams that matter, and the counts.
func keptIn(t *testing.T, c *redis.Client) map[string]any {
	t.Helper()
	kept := map[string]any{}
	for _, stream := range []string{"gancho:{a}:q", "gancho:{a}:x", "gancho:{a}:dead"} {
		entries, err := c.XRange(t.Context(), stream, "-", "+").Result()
		if err != nil {
			t.Fatal(err)
		}
		var ids []string
		for _, e := range entries {
			id := e.ID
			if of, dead := e.Values["id"].(string); dead {
				id = of
			}
			if of, side := e.Values["w"].(string); side {
				id = of
			}
			ids = append(ids, id)
		}
		kept[stream] = ids
	}
	kept["due"] = c.ZRange(t.Context(), "gancho:{a}:rt", 0, -1).Val()
	for _, tally := range c.Keys(t.Context(), "gancho:{a}:tally:*").Val() {
		kept[tally] = c.HGetAll(t.Context(), tally).Val()
	}
	// How many transactions there were, and how many there should be: they are more if one is repeated.
	chain := c.BitField(t.Context(), "gancho:{}:chain", "GET", "i64", "#0", "GET", "i64", "#1").Val()
	kept["missing"] = chain[1] - chain[0]
	return kept
}

// lostAnswerWrites are the writes of a capture, a job and a courier, in this order.
func lostAnswerWrites(t *testing.T, q *queue.Queue) []write {
	t.Helper()
	batch := func(from, to int) write {
		b := q.NewBatch()
		for i := from; i < to; i++ {
			if _, err := b.Add(queuetest.Event(i, "k")); err != nil {
				t.Fatal(err)
			}
		}
		return write{"EXEC", func(ctx context.Context) error { return q.Append(ctx, b) }}
	}
	part := queue.Part{Job: "1-1", Position: "2 x", Messages: []webhook.Message{
		{ID: "old-1", Type: "e", Time: time.Unix(1, 0), Data: []byte("1")}, {ID: "old-2", Type: "e", Time: time.Unix(2, 0), Data: []byte("2")},
	}}
	var owner *queue.Owner
	var page []queue.Entry
	acknowledge := func(fill func(*queue.Results)) write {
		return write{"gancho:{a}:log", func(ctx context.Context) error {
			if owner == nil {
				owners, err := q.Worker().Acquire(ctx, time.Hour, []string{"a"})
				if err != nil {
					return err
				}
				owner = owners[0]
			}
			var err error
			if page == nil {
				if page, _, err = owner.Read(ctx, false, queue.ID{}, 100, 1<<20); err != nil {
					return err
				}
			}
			var r queue.Results
			fill(&r)
			owned, err := owner.Write(ctx, &r)
			if err == nil && !owned {
				return errors.New("the endpoint is not owned")
			}
			return err
		}}
	}
	return []write{
		batch(0, 4),
		batch(4, 6),
		{"1-1", func(ctx context.Context) error {
			at, err := q.ReplayPart(ctx, "a", &part)
			if err == nil && at != part.Position {
				t.Errorf("the job is at %q", at)
			}
			return err
		}},
		acknowledge(func(r *queue.Results) {
			r.Done = []queue.ID{page[0].ID}
			r.Committed(page[0].ID, page[0].Msg.Time)
		}),
		acknowledge(func(r *queue.Results) { // the next two have failed
			r.Retries = []queue.RetryResult{{ID: page[1].ID, Attempts: queue.Attempts{N: 1}}}
			r.Dead = []queue.DeadResult{{ID: page[2].ID, Reason: "410", Attempts: queue.Attempts{N: 1}}}
		}),
		batch(6, 7),
	}
}

// TestLostAnswers: what Redis has executed without the answer arriving is repeated, and leaves what it
// leaves when each answer arrives: nothing is lost, twice there or in another order.
func TestLostAnswers(t *testing.T) {
	t.Parallel()
	var all []map[string]any
	for _, lose := range []bool{false, true} {
		r := queuetest.StartRedis(t)
		proxy := testservers.StartProxy(t, r.Addr())
		q := queuetest.Open(t, proxy, endpoint.Endpoint{Name: "a"})
		for i, w := range lostAnswerWrites(t, q) {
			if lose {
				lost := proxy.LoseAnswer(w.text)
				if err := w.write(t.Context()); !errors.Is(err, queue.ErrUnreachable) {
					t.Errorf("write %d, whose answer is lost: %v", i, err)
				}
				<-lost
			}
			if err := w.write(t.Context()); err != nil {
				t.Fatalf("write %d: %v", i, err)
			}
		}
		kept := keptIn(t, queuetest.Client(t, r))
		if s, err := queuetest.Stats(t.Context(), q, "a"); err != nil || s.Backlog != 5 || s.Dead != 1 {
			t.Errorf("%+v, %v", s, err)
		}
		all = append(all, kept)
	}
	if diff := cmp.Diff(all[0], all[1]); diff != "" {
		t.Errorf("-each answer arrived +lost once\n%s", diff)
	}
}
