package queue_test

import (
	"errors"
	"testing"

	"gancho/delivery/endpoint"
	"gancho/delivery/queue"
	"gancho/delivery/queue/queuetest"
)

// turns are two processes that capture for one queue in turn.
type turns struct {
	*testing.T
	queues  [2]*queue.Queue
	batches [2]*queue.Batch
}

func (s *turns) take(i int) {
	s.Helper()
	if err := s.queues[i].Take(s.Context()); err != nil {
		s.Fatal(err)
	}
	s.batches[i] = s.queues[i].NewBatch()
}

// append adds an event to what the process has and appends that.
func (s *turns) append(i, event int, want error) {
	s.Helper()
	if _, err := s.batches[i].Add(queuetest.Event(event, "k")); err != nil {
		s.Fatal(err)
	}
	if err := s.queues[i].Append(s.Context(), s.batches[i]); !errors.Is(err, want) || want == nil && err != nil {
		s.Fatalf("process %d appends event %d: %v, want %v", i, event, err, want)
	}
	s.batches[i].Reset()
}

// TestFence: one that was stopped appends nothing beside the process that took its turn, neither
// what it had in memory nor after it took the slot again.
func TestFence(t *testing.T) {
	t.Parallel()
	r := queuetest.StartRedis(t)
	s := &turns{T: t}
	for i := range s.queues {
		s.queues[i] = queuetest.Open(t, r, endpoint.Endpoint{Name: "a"})
	}
	client := queuetest.Client(t, r)
	length := func(want int64) {
		t.Helper()
		if n := client.XLen(t.Context(), "gancho:{a}:q").Val(); n != want {
			t.Fatalf("%d events are queued, want %d", n, want)
		}
	}
	s.take(0)
	s.append(0, 1, nil)
	s.append(0, 2, nil)
	s.take(1)
	s.append(0, 3, queue.ErrFenced) // over a connection that was in use
	s.append(0, 4, queue.ErrFenced) // over a new one
	length(2)
	s.append(1, 3, nil)
	s.append(1, 4, nil)
	old, empty := s.batches[0], s.queues[0].NewBatch()
	if _, err := old.Add(queuetest.Event(5, "k")); err != nil {
		t.Fatal(err)
	}
	s.take(0)
	if err := s.queues[0].Append(t.Context(), old); !errors.Is(err, queue.ErrStaleBatch) {
		t.Errorf("a batch of an earlier turn: %v", err)
	}
	length(4)
	s.batches[0] = empty // one that was there before, and was filled in this turn
	s.append(0, 5, nil)
	s.append(1, 6, queue.ErrFenced)
	length(5)

	// Redis loses the newest token with the end of its file: it is put back.
	if err := client.Set(t.Context(), "gancho:capture", 2, 0).Err(); err != nil {
		t.Fatal(err)
	}
	s.append(0, 6, queue.ErrRestarted)
	if err := s.queues[0].AcceptRestart(t.Context()); err != nil {
		t.Fatal(err)
	}
	s.append(1, 6, queue.ErrFenced)
	s.append(0, 6, nil)
	length(6)
	if s.queues[0].Token() <= s.queues[1].Token() {
		t.Errorf("tokens %d and %d do not rise", s.queues[1].Token(), s.queues[0].Token())
	}
}
