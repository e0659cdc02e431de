package dispatch

import (
	"time"

	"gancho/delivery/queue"
	"gancho/delivery/webhook"
)

// lane is the events of one ordering key, in order, and exists while it has any. The first
// is in flight, waits for its retry or can be sent; the others wait behind it.
//
// Bodies are kept for the first len(bodies) ids only. A lane that waits for a
// retry keeps none: each event behind a failing one costs 16 bytes.
//
// The side stream has lanes of its own, also for keys that have a lane of the
// main stream: neither delays the other.
type lane struct {
	key    uint64
	side   bool
	ids    []queue.ID         // ids[head:] are not done; the first of them is next or in flight
	bodies []*webhook.Message // of the first of ids[head:]
	head   int
	state  laneState
	due    time.Time // when waiting
	place  int       // in the heap of those that wait

	classes []class // of ids, where events are superseded; else empty

	plan *listPlan // nil unless the endpoint takes lists
}

type laneState uint8

const (
	laneReady   laneState = iota // its first event may be sent
	laneBusy                     // its first event is in flight
	laneWaiting                  // its first event waits for its retry
	laneBlocked                  // its first event waits for a person to act
)

func (l *lane) first() queue.ID { return l.ids[l.head] }
func (l *lane) waiting() int    { return len(l.ids) - l.head }

// body returns the first event's body, or nil when it has to be read again.
func (l *lane) body() *webhook.Message {
	if len(l.bodies) == 0 {
		return nil
	}
	return l.bodies[0]
}

// laneQueue is lanes in the order in which they became ready.
type laneQueue struct {
	lanes []*lane
	head  int
}

func (q *laneQueue) len() int { return len(q.lanes) - q.head }

func (q *laneQueue) push(l *lane) {
	if q.head > 64 && q.head > len(q.lanes)/2 {
		n := copy(q.lanes, q.lanes[q.head:])
		clear(q.lanes[n:])
		q.lanes, q.head = q.lanes[:n], 0
	}
	q.lanes = append(q.lanes, l)
}

func (q *laneQueue) pop() *lane {
	if q.len() == 0 {
		return nil
	}
	l := q.lanes[q.head]
	q.lanes[q.head] = nil
	if q.head++; q.head == len(q.lanes) {
		q.lanes, q.head = q.lanes[:0], 0
	}
	return l
}

// popOldest removes and returns the lane whose first event was committed first.
func (q *laneQueue) popOldest() *lane {
	if q.len() == 0 {
		return nil
	}
	oldest := q.head
	for i := q.head + 1; i < len(q.lanes); i++ {
		if q.lanes[i].first().Compare(q.lanes[oldest].first()) < 0 {
			oldest = i
		}
	}
	l := q.lanes[oldest]
	copy(q.lanes[q.head+1:oldest+1], q.lanes[q.head:oldest])
	q.lanes[q.head] = l
	return q.pop()
}

func (q *laneQueue) putBack(l *lane) {
	if q.head > 0 {
		q.head--
		q.lanes[q.head] = l
		return
	}
	q.lanes = append([]*lane{l}, q.lanes...)
}

type laneHeap []*lane

// Len implements heap.Interface, as do the other methods.
func (h laneHeap) Len() int           { return len(h) }
func (h laneHeap) Less(i, j int) bool { return h[i].due.Before(h[j].due) }

// Swap keeps each lane's place, by which Fix finds it.
func (h laneHeap) Swap(i, j int) {
	h[i], h[j] = h[j], h[i]
	h[i].place, h[j].place = i, j
}

func (h *laneHeap) Push(x any) {
	l, _ := x.(*lane)
	l.place = len(*h)
	*h = append(*h, l)
}

func (h *laneHeap) Pop() any {
	old := *h
	n := len(old) - 1
	l := old[n]
	old[n] = nil
	*h = old[:n]
	return l
}
