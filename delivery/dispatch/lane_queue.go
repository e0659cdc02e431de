package dispatch

// laneQueue is a first-in-first-out list of lanes.
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

// popOldest returns the lane whose first event is the oldest.
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

// putBack puts a lane in front that pop has just returned.
func (q *laneQueue) putBack(l *lane) {
	if q.head > 0 {
		q.head--
		q.lanes[q.head] = l
		return
	}
	q.lanes = append([]*lane{l}, q.lanes...)
}

// laneHeap has the lane that is due first at the front.
type laneHeap []*lane

// Len implements heap.Interface.
func (h laneHeap) Len() int { return len(h) }

// Less implements heap.Interface.
func (h laneHeap) Less(i, j int) bool { return h[i].due.Before(h[j].due) }

// Swap implements heap.Interface.
func (h laneHeap) Swap(i, j int) {
	h[i], h[j] = h[j], h[i]
	h[i].index, h[j].index = i, j
}

// Push implements heap.Interface.
func (h *laneHeap) Push(x any) {
	l, _ := x.(*lane)
	l.index = len(*h)
	*h = append(*h, l)
}

// Pop implements heap.Interface.
func (h *laneHeap) Pop() any {
	old := *h
	n := len(old) - 1
	l := old[n]
	old[n] = nil
	*h = old[:n]
	return l
}
