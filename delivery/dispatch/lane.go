package dispatch

import (
	"container/heap"
	"hash/maphash"
	"time"

	"gancho/delivery/endpoint"
	"gancho/delivery/queue"
	"gancho/delivery/webhook"
)

// lane is the events of one ordering key that wait, in order. At most one of
// them is in flight, or waiting for its retry; the others wait behind it.
// A lane exists while it has events.
//
// Bodies are kept for the first len(bodies) ids only. A lane that is held back
// keeps none: each event behind a failing one costs 16 bytes.
//
// What comes from the side stream has lanes of its own, also for keys that the
// main stream has lanes for: neither holds the other back.
type lane struct {
	key    uint64
	side   bool
	ids    []queue.ID         // ids[head:] wait, the first of them being next or in flight
	bodies []*webhook.Message // of ids[head:], as far as they go
	head   int
	state  laneState
	due    time.Time // when waiting
	index  int       // in the heap, when waiting

	listing *listing // nil unless the endpoint takes lists
}

type laneState uint8

const (
	laneReady   laneState = iota // its first event may be sent
	laneBusy                     // its first event is in flight
	laneWaiting                  // its first event waits for its retry
	laneBlocked                  // its first event waits for somebody to act
)

func (l *lane) first() queue.ID { return l.ids[l.head] }
func (l *lane) waiting() int    { return len(l.ids) - l.head }

// body returns the first event's, or nil when it has to be read again.
func (l *lane) body() *webhook.Message {
	if len(l.bodies) == 0 {
		return nil
	}
	return l.bodies[0]
}

// laneSet is the lanes of one endpoint. It is guarded by its owner's mutex.
type laneSet struct {
	order endpoint.Order
	seed  maphash.Seed
	lanes map[uint64]*lane
	ready laneQueue // of the main stream
	aside laneQueue // those of the side stream that are ready
	held  laneHeap  // waiting for their retries
	free  []*lane

	main, side tally
	inFlight   int  // lanes of the side stream that are busy
	turn       bool // the side stream's, when both have lanes ready
}

// tally is how much there is of one of the streams.
type tally struct {
	lanes     int
	events    int // ids in all lanes
	bodies    int // events with a body
	bodyBytes int
}

func (s *laneSet) tally(side bool) *tally {
	if side {
		return &s.side
	}
	return &s.main
}

func newLaneSet(order endpoint.Order) laneSet {
	return laneSet{order: order, seed: maphash.MakeSeed(), lanes: map[uint64]*lane{}}
}

// sideLane is the bit that the lanes of the side stream have in their keys.
const sideLane = 1 << 63

// keyOf is the lane of an event. Two keys with the same 63-bit hash would
// share a lane, and be sent one after the other: in order still.
func (s *laneSet) keyOf(id queue.ID, m *webhook.Message) uint64 {
	key := s.hash(id, m) &^ sideLane
	if id.FromSide() {
		key |= sideLane
	}
	return key
}

func (s *laneSet) hash(id queue.ID, m *webhook.Message) uint64 {
	switch s.order {
	case endpoint.OrderEndpoint:
		return 0
	case endpoint.OrderNone:
		return id.Scatter()
	}
	var h maphash.Hash
	h.SetSeed(s.seed)
	_, _ = h.WriteString(m.Tenant)
	_ = h.WriteByte(0)
	_, _ = h.WriteString(m.Key)
	return h.Sum64()
}

// add puts the event behind its lane's others.
func (s *laneSet) add(id queue.ID, m *webhook.Message) {
	key := s.keyOf(id, m)
	l, known := s.lanes[key]
	if !known {
		l = s.newLane(key)
	}
	held := l.state == laneWaiting || l.state == laneBlocked
	t := s.tally(l.side)
	if !held && len(l.bodies) == l.waiting() {
		l.bodies = append(l.bodies, m)
		t.bodies++
		t.bodyBytes += sizeOf(m)
	}
	l.ids = append(l.ids, id)
	t.events++
	if !known {
		s.push(l)
	}
}

// push adds a lane to those that are ready.
func (s *laneSet) push(l *lane) {
	l.state = laneReady
	s.queue(l).push(l)
}

func (s *laneSet) queue(l *lane) *laneQueue {
	if l.side {
		return &s.aside
	}
	return &s.ready
}

func (s *laneSet) newLane(key uint64) *lane {
	var l *lane
	if n := len(s.free); n > 0 {
		l, s.free = s.free[n-1], s.free[:n-1]
	} else {
		l = &lane{}
	}
	l.key, l.side = key, key&sideLane != 0
	s.lanes[key] = l
	s.tally(l.side).lanes++
	return l
}

// sendable is how many lanes could be taken now.
func (s *laneSet) sendable(sideShare int) int {
	return s.ready.len() + max(0, min(s.aside.len(), sideShare-s.inFlight))
}

// take returns the next lane to send from, now busy, or nil. At most sideShare
// of the side stream's are busy at a time: what is sent again, however much,
// leaves room for what is new. When both streams wait, they take turns.
func (s *laneSet) take(sideShare int) *lane {
	from := &s.ready
	if s.aside.len() > 0 && s.inFlight < sideShare && (s.turn || from.len() == 0) {
		from = &s.aside
	}
	return s.begin(from.pop())
}

// sift takes the lanes from those that are ready that the function has taken
// somewhere else.
func (s *laneSet) sift(taken func(*lane) bool) {
	for _, q := range [...]*laneQueue{&s.ready, &s.aside} {
		kept := q.lanes[:0]
		for _, l := range q.lanes[q.head:] {
			if !taken(l) {
				kept = append(kept, l)
			}
		}
		clear(q.lanes[len(kept):])
		q.lanes, q.head = kept, 0
	}
}

// takeOldest is take, for the lane whose first event was committed first. Those
// of the side stream come after all others.
func (s *laneSet) takeOldest(sideShare int) *lane {
	if s.ready.len() > 0 {
		return s.begin(s.ready.popOldest())
	}
	if s.inFlight < sideShare {
		return s.begin(s.aside.popOldest())
	}
	return nil
}

// begin makes a lane busy that was ready.
func (s *laneSet) begin(l *lane) *lane {
	if l == nil {
		return nil
	}
	s.turn = !l.side
	l.state = laneBusy
	if l.side {
		s.inFlight++
	}
	return l
}

// leave ends a lane's being busy, if it was.
func (s *laneSet) leave(l *lane) {
	if l.side && l.state == laneBusy {
		s.inFlight--
	}
}

// advance removes the first event, which is done, from a lane that was busy.
func (s *laneSet) advance(l *lane) { s.advanceBy(l, 1) }

// advanceBy removes the first n events.
func (s *laneSet) advanceBy(l *lane, n int) {
	s.leave(l)
	s.dropFirstBodies(l, n)
	clear(l.ids[l.head : l.head+n])
	l.head += n
	s.tally(l.side).events -= n
	if l.listing != nil {
		l.listing.advance(n)
	}
	if l.head == len(l.ids) {
		s.remove(l)
		return
	}
	if l.head >= 32 && l.head > len(l.ids)/2 {
		l.ids = l.ids[:copy(l.ids, l.ids[l.head:])]
		l.head = 0
	}
	s.push(l)
}

func (s *laneSet) remove(l *lane) {
	s.unlink(l)
	const keep = 256
	if len(s.free) < keep && cap(l.ids) <= keep {
		clear(l.bodies[:cap(l.bodies)])
		*l = lane{ids: l.ids[:0], bodies: l.bodies[:0]}
		s.free = append(s.free, l)
	}
}

func (s *laneSet) unlink(l *lane) {
	delete(s.lanes, l.key)
	s.tally(l.side).lanes--
}

func (s *laneSet) dropFirstBodies(l *lane, n int) {
	n = min(n, len(l.bodies))
	t := s.tally(l.side)
	for _, m := range l.bodies[:n] {
		t.bodies--
		t.bodyBytes -= sizeOf(m)
	}
	// What lies before a slice's start is lost to append; lanes with a long
	// tail of bodies are few, and move a window's worth at the most.
	rest := copy(l.bodies, l.bodies[n:])
	clear(l.bodies[rest:])
	l.bodies = l.bodies[:rest]
}

// dropBodies releases the bodies of a lane that will not be sent soon.
func (s *laneSet) dropBodies(l *lane) {
	t := s.tally(l.side)
	for _, m := range l.bodies {
		t.bodies--
		t.bodyBytes -= sizeOf(m)
	}
	clear(l.bodies)
	l.bodies = nil
}

// again makes a busy lane ready, behind the others: its event was not sent.
func (s *laneSet) again(l *lane) {
	s.leave(l)
	s.push(l)
}

// putBack undoes take.
func (s *laneSet) putBack(l *lane) {
	s.leave(l)
	l.state = laneReady
	s.queue(l).putBack(l)
	s.turn = l.side
}

// hold makes a lane that is in no list wait until due.
func (s *laneSet) hold(l *lane, due time.Time) {
	s.leave(l)
	l.state, l.due = laneWaiting, due
	s.dropBodies(l)
	heap.Push(&s.held, l)
}

// block makes a lane that is in no list wait for somebody to act.
func (s *laneSet) block(l *lane) {
	s.leave(l)
	l.state = laneBlocked
	s.dropBodies(l)
}

// release makes the lanes ready whose retry is due, and returns when the next
// one is (zero: none).
func (s *laneSet) release(now time.Time) time.Time {
	for len(s.held) > 0 {
		if l := s.held[0]; l.due.After(now) {
			return l.due
		}
		l, _ := heap.Pop(&s.held).(*lane)
		s.push(l)
	}
	return time.Time{}
}

// reschedule sets when the first events of the lanes that are held back are
// due, as the function says.
func (s *laneSet) reschedule(of func(first queue.ID) (due time.Time, blocked bool)) {
	for _, l := range s.lanes {
		switch due, blocked := of(l.first()); {
		case l.state == laneWaiting:
			l.due = due
		case l.state == laneBlocked && !blocked:
			s.again(l)
		}
	}
	heap.Init(&s.held)
}

// forget drops everything but the events in flight.
func (s *laneSet) forget() {
	s.ready, s.aside, s.held = laneQueue{}, laneQueue{}, nil
	for _, l := range s.lanes {
		s.dropBodies(l)
		if l.state != laneBusy {
			s.tally(l.side).events -= l.waiting()
			s.unlink(l)
			continue
		}
		inFlight := 1
		if l.listing != nil {
			inFlight = max(1, l.listing.flight)
			l.listing.parts = nil // they count events that may be gone
		}
		s.tally(l.side).events -= l.waiting() - inFlight
		l.ids = l.ids[:l.head+inFlight]
	}
}

// messageOverhead is what a message without payload takes in memory, roughly.
const messageOverhead = 512

// sizeOf is what a body is counted with.
func sizeOf(m *webhook.Message) int {
	return messageOverhead + len(m.Data) + len(m.Previous) + len(m.Unchanged) + len(m.Key) + len(m.Tenant)
}
