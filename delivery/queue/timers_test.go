package queue_test

import (
	"fmt"
	"slices"
	"testing"
	"time"

	"gancho/cdc"
	"gancho/delivery/queue"
	"gancho/delivery/queue/queuetest"
	"gancho/delivery/webhook"
	"gancho/mapping"
)

// TestTimers: timers are set, moved and canceled in the order of their changes, however often these are appended, and
// each is fired once.
func TestTimers(t *testing.T) {
	t.Parallel()
	q := queuetest.Open(t, queuetest.StartRedis(t))
	at := time.UnixMicro(1772366400000001).UTC()
	change := func(lsn cdc.LSN, key string, in time.Duration) mapping.TimerChange {
		c := mapping.TimerChange{Position: cdc.Position{Commit: 0x1000 + lsn}, N: 7, Key: []byte(key)}
		if in > 0 {
			c.Due = at.Add(in)
		}
		return c
	}
	appendAll := func(changes ...mapping.TimerChange) {
		t.Helper()
		b := q.NewBatch()
		for i := range changes {
			if err := b.Timer(&changes[i]); err != nil {
				t.Fatal(err)
			}
		}
		if err := q.Append(t.Context(), b); err != nil {
			t.Fatal(err)
		}
		if err := q.ApplyTimers(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
	due := func(in time.Duration) (timers []queue.PendingTimer, texts []string) {
		t.Helper()
		timers, next, err := q.DueTimers(t.Context(), at.Add(in))
		if err != nil {
			t.Fatal(err)
		}
		for _, d := range timers {
			texts = append(texts, fmt.Sprintf("%s %s %x", d.Key, d.Due.Sub(at), uint64(d.ID.Position().Commit)))
		}
		if !next.IsZero() {
			texts = append(texts, "next "+next.Sub(at).String())
		}
		return timers, texts
	}
	is := func(what string, got []string, want ...string) {
		t.Helper()
		if !slices.Equal(got, want) {
			t.Errorf("%s: %q, want %q", what, got, want)
		}
	}
	pending := change(6, "d", 3*time.Second)
	pending.Pending = true
	former := change(7, "b2", 4*time.Second)
	former.Former = []byte("b")
	first := []mapping.TimerChange{
		change(1, "a", 5*time.Second), change(2, "b", time.Second), change(3, "c", 2*time.Second),
		change(4, "a", 6*time.Second), change(5, "c", 0), pending, former,
	}
	appendAll(first...)
	_, texts := due(0)
	is("before", texts, "next 4s")
	appendAll(first...) // again: Redis has refused them all
	timers, texts := due(10 * time.Second)
	is("all", texts, "b2 4s 1007", "a 6s 1004")
	appendAll(change(9, "a", 20*time.Second)) // moved since
	var fired []queue.FiredTimer
	for _, d := range timers {
		fired = append(fired, queue.FiredTimer{PendingTimer: d, Endpoints: []string{"crm", "erp"}, Message: webhook.Message{
			ID: d.ID.WebhookID("0123abcd"), Type: "e", Op: webhook.OpTimer, Time: d.Due, Late: 3, Data: []byte("{}"),
		}})
	}
	for range 2 {
		if err := q.FireTimers(t.Context(), fired); err != nil {
			t.Fatal(err)
		}
	}
	for _, e := range []string{"crm", "erp"} {
		if n, err := q.ReplayBacklog(t.Context(), e); n != 1 || err != nil {
			t.Errorf("%s has %d, %v", e, n, err)
		}
	}
	_, texts = due(time.Hour)
	is("after", texts, "a 20s 1009")
	if n, err := q.CountTimers(t.Context()); n != 1 || err != nil {
		t.Errorf("%d are pending, %v", n, err)
	}
}
