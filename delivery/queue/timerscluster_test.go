package queue_test

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"gancho/cdc"
	"gancho/delivery/queue"
	"gancho/delivery/queue/queuetest"
	"gancho/delivery/webhook"
	"gancho/internal/testservers"
	"gancho/mapping"
)

// TestTimersInCluster: endpoints on all servers get each event once, also where the process dies between their events and the
// timers; no mark of it stays.
func TestTimersInCluster(t *testing.T) {
	t.Parallel()
	// What is queued is waited for in each slot until it is on the disk: with everysec that is a second each time.
	cluster, err := testservers.StartCluster(testservers.ClusterOptions{Settings: map[string]string{"appendfsync": "always"}})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(cluster.Close)
	at := time.UnixMicro(1772366400000001).UTC()
	o := queue.Options{Cluster: &queue.ClusterOptions{Addresses: cluster.Addresses()}, Logger: queuetest.Logger(t)}
	open := func() *queue.Queue {
		q, err := queue.Open(t.Context(), o)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = q.Close() })
		if _, err := q.Claim(t.Context(), queuetest.Source(), false); err != nil {
			t.Fatal(err)
		}
		if err := q.Take(t.Context()); err != nil {
			t.Fatal(err)
		}
		return q
	}
	q := open()
	b := q.NewBatch()
	const timers = 40
	for i := range timers {
		c := mapping.TimerChange{Position: cdc.Position{Commit: 0x1000 + cdc.LSN(i)}, Rule: fmt.Sprint("r", i%3), Key: fmt.Appendf(nil, "key %d %s", i, strings.Repeat("x", i%2*40)), Due: at.Add(time.Duration(i))}
		if err := b.Timer(&c); err != nil {
			t.Fatal(err)
		}
	}
	if err := q.Append(t.Context(), b); err != nil {
		t.Fatal(err)
	}
	if err := q.ApplyTimers(t.Context()); err != nil {
		t.Fatal(err)
	}
	var endpoints []string
	for i := range 9 {
		endpoints = append(endpoints, fmt.Sprint("e", i))
	}
	due := func(q *queue.Queue) (fired []queue.FiredTimer) {
		t.Helper()
		pending, err := q.DueTimers(t.Context(), at.Add(time.Second), queue.WhichTimers{}, 500)
		if err != nil {
			t.Fatal(err)
		}
		for _, d := range pending {
			fired = append(fired, queue.FiredTimer{PendingTimer: d, Endpoints: endpoints, Message: webhook.Message{
				ID: d.ID.WebhookID("0123abcd"), Type: "e", Op: webhook.OpTimer, Time: d.Due, Data: []byte("{}"),
			}})
		}
		return fired
	}
	first := due(q)
	if len(first) != timers {
		t.Fatalf("%d are due", len(first))
	}
	if err := q.FireInSlots(t.Context(), endpoints[:5], first[:30]); err != nil { // and dies
		t.Fatal(err)
	}
	next := open() // takes over
	if err := q.FireInSlots(t.Context(), endpoints[:5], first[30:]); !errors.Is(err, queue.ErrFenced) {
		t.Errorf("the former process queues events: %v", err)
	}
	if err := q.FireTimers(t.Context(), first[30:]); !errors.Is(err, queue.ErrFenced) {
		t.Errorf("the former process fires timers: %v", err)
	}
	if err := next.FireTimers(t.Context(), due(next)); err != nil {
		t.Fatal(err)
	}
	if err := q.ApplyTimers(t.Context()); err == nil || !strings.Contains(err.Error(), queue.ErrFenced.Error()) {
		t.Errorf("the former process was not refused: %v", err)
	}
	for _, e := range endpoints {
		if n, err := next.ReplayBacklog(t.Context(), e); n != timers || err != nil {
			t.Errorf("%s has %d, %v", e, n, err)
		}
	}
	if left := due(next); len(left) != 0 {
		t.Errorf("%d are left", len(left))
	}
	c := redis.NewClusterClient(&redis.ClusterOptions{Addrs: cluster.Addresses()})
	defer func() { _ = c.Close() }()
	err = c.ForEachMaster(t.Context(), func(ctx context.Context, m *redis.Client) error {
		keys, err := m.Keys(ctx, "*:jobs").Result()
		if len(keys) > 0 {
			t.Errorf("marks are left: %q", keys)
		}
		return err
	})
	if err != nil {
		t.Error(err)
	}
}
