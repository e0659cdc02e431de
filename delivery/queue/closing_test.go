package queue_test

import (
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"gancho/delivery/endpoint"
	"gancho/delivery/queue"
	"gancho/delivery/queue/queuetest"
	"gancho/delivery/webhook"
)

// TestClosingIsQueuedOnce has several processes queue the same closings, in a Redis that is full at times.
func TestClosingIsQueuedOnce(t *testing.T) {
	t.Parallel()
	r := queuetest.StartRedis(t)
	c := queuetest.Client(t, r)
	qs := []*queue.Queue{queuetest.Open(t, r, endpoint.Endpoint{Name: "a"}), queuetest.Open(t, r, endpoint.Endpoint{Name: "a"})}
	for i, first := range []string{"2026-11-19", "2026-11-25"} { // the second finds what the first has begun
		if closed, err := qs[i].BeginClosings(t.Context(), "a", first); err != nil || closed != "2026-11-19" {
			t.Fatal(closed, err)
		}
	}
	m := webhook.Message{ID: "gancho-1", Type: "gancho.closing", Key: "a", Time: time.Now(), Data: []byte("{}")}
	if err := c.ConfigSet(t.Context(), "maxmemory", "1").Err(); err != nil {
		t.Fatal(err)
	}
	if queued, err := qs[0].QueueClosing(t.Context(), "a", "2026-11-19", "2026-11-20", nil, m); queued || err == nil {
		t.Error("a full Redis has taken a closing")
	}
	if err := c.ConfigSet(t.Context(), "maxmemory", "0").Err(); err != nil {
		t.Fatal(err)
	}
	var queued atomic.Int32
	var all sync.WaitGroup
	for i := range 8 {
		all.Go(func() {
			if done, err := qs[i%2].QueueClosing(t.Context(), "a", "2026-11-19", "2026-11-20", nil, m); err != nil {
				t.Error(err)
			} else if done {
				queued.Add(1)
			}
		})
	}
	all.Wait()
	if done, err := qs[0].QueueClosing(t.Context(), "a", "2026-11-18", "2026-11-19", nil, m); done || err != nil {
		t.Error("a day before was closed again", err)
	}
	if n, err := qs[0].ReplayBacklog(t.Context(), "a"); queued.Load() != 1 || n != 1 || err != nil {
		t.Errorf("queued %d times, %d in the stream: %v", queued.Load(), n, err)
	}
	if closed, err := qs[1].BeginClosings(t.Context(), "a", "2026-11-25"); err != nil || closed != "2026-11-20" {
		t.Error(closed, err)
	}
}

// TestWaits looks for events of a span among those that wait.
func TestWaits(t *testing.T) {
	t.Parallel()
	q := queuetest.Open(t, queuetest.StartRedis(t), endpoint.Endpoint{Name: "a"})
	queuetest.AppendEvents(t, q, 0, 3, 6, queuetest.KeyModulo(2))
	at := queuetest.Event(0, "k").Time
	for _, test := range []struct {
		from, to time.Time
		waits    bool
	}{
		{at.Add(-time.Hour), at.Add(time.Hour), true},
		{at, at.Add(time.Microsecond), true},
		{at.Add(-24 * time.Hour), at, false},
		{at.Add(24 * time.Hour), at.Add(48 * time.Hour), false},
	} {
		if waits, err := q.Waits(t.Context(), "a", test.from, test.to); err != nil || waits != test.waits {
			t.Errorf("from %s to %s: %t, %v", test.from, test.to, waits, err)
		}
	}
}

// TestStatsAddClosings: of the incomplete closings of several sources the newest is shown, and how many others there are; what is added stays as it was.
func TestStatsAddClosings(t *testing.T) {
	t.Parallel()
	of := func(source, day string) *queue.Stats {
		return &queue.Stats{Closing: &queue.IncompleteClosing{Source: source, Day: day, Missing: 1}}
	}
	all := []*queue.Stats{of("c", "2026-11-28"), {}, of("b", "2026-11-29"), of("a", "2026-11-29"), of("d", "2026-11-27")}
	var sum queue.Stats
	for _, s := range all {
		sum.Add(s)
	}
	if diff := cmp.Diff(&queue.IncompleteClosing{Source: "a", Day: "2026-11-29", Missing: 1, Others: 3}, sum.Closing); diff != "" {
		t.Errorf("-want +got\n%s", diff)
	}
	for _, s := range all {
		if s.Closing != nil && s.Closing.Others != 0 {
			t.Errorf("what was added has changed: %+v", s.Closing)
		}
	}
	if text := sum.Closing.Text(); !strings.Contains(text, "missing in the delivery log: 1), nor are those of other sources: 3; gancho prove --source a") {
		t.Error(text)
	}
}
