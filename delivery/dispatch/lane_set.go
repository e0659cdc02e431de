package dispatch

import (
	"container/heap"
	"hash/maphash"
	"slices"
	"time"

	"gancho/delivery/endpoint"
	"gancho/delivery/queue"
	"gancho/delivery/webhook"
)

// laneSet is the lanes of one endpoint. A lane is in one of the queues when it
// is ready, in delayed when it waits for a retry, and in none when it is busy or
// blocked. The tallies count what the lanes hold. Guarded by its courier's mutex.
type laneSet struct {
	order   endpoint.Order
	seed    maphash.Seed
	classes *classes // nil: no event is superseded
	memory  *memory  // what the bodies take is a part of
	lanes   map[uint64]*lane
	delayed laneHeap
	free    []*lane

	main, side laneStream
	sideBusy   int  // busy lanes of the side stream
	sideTurn   bool // the side stream is next when both have lanes ready
}

// laneStream is the lanes of one stream that are ready, and what all of them hold.
type laneStream struct {
	ready laneQueue
	tally
}

type tally struct{ lanes, events, bodies, bodyBytes int }

func (s *laneSet) of(side bool) *laneStream {
	if side {
		return &s.side
	}
	return &s.main
}

func newLaneSet(ep *endpoint.Endpoint, of *classes, m *memory) laneSet {
	if !ep.Compact {
		of = nil
	}
	return laneSet{order: ep.Order, seed: maphash.MakeSeed(), classes: of, memory: m, lanes: map[uint64]*lane{}}
}

// fits reports whether the lanes are those that the endpoint needs.
func (s *laneSet) fits(ep *endpoint.Endpoint) bool {
	return s.order == ep.Order && (s.classes != nil) == ep.Compact
}

// sideLane is the bit that the lanes of the side stream have in their keys.
const sideLane = 1 << 63

// keyOf returns the lane of an event. Two ordering keys with the same 63-bit
// hash share a lane: their events are sent one after the other, in order still.
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

func (s *laneSet) add(id queue.ID, m *webhook.Message) {
	key := s.keyOf(id, m)
	l, known := s.lanes[key]
	if !known {
		l = s.newLane(key)
	}
	delayed := l.state == laneWaiting || l.state == laneBlocked
	t := s.of(l.side)
	if !delayed && len(l.bodies) == l.waiting() {
		l.bodies = append(l.bodies, m)
		s.hold(t, 1, sizeOf(m))
	}
	l.ids = append(l.ids, id)
	if s.classes != nil && !l.side {
		l.classes = append(l.classes, s.classes.of(id, m))
	}
	t.events++
	if !known {
		s.push(l)
	}
}

// hold notes that so many bodies more, of so many bytes, are in memory.
func (s *laneSet) hold(t *laneStream, bodies, bytes int) {
	t.bodies += bodies
	t.bodyBytes += bytes
	s.memory.hold(bodies, bytes)
}

func (s *laneSet) push(l *lane) {
	l.state = laneReady
	s.of(l.side).ready.push(l)
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
	s.of(l.side).lanes++
	return l
}

// sendable is how many lanes can become busy now.
func (s *laneSet) sendable(sideShare int) int {
	return s.main.ready.len() + max(0, min(s.side.ready.len(), sideShare-s.sideBusy))
}

// next makes the next ready lane busy and returns it, or nil. At most sideShare
// lanes of the side stream are busy at a time: however much is sent again, there
// is room for new events. When both streams have lanes ready, they take turns.
func (s *laneSet) next(sideShare int) *lane {
	from := &s.main.ready
	if s.side.ready.len() > 0 && s.sideBusy < sideShare && (s.sideTurn || from.len() == 0) {
		from = &s.side.ready
	}
	return s.markBusy(from.pop())
}

// nextOldest is next for the lane whose first event is the oldest, the side stream's last.
func (s *laneSet) nextOldest(sideShare int) *lane {
	if s.main.ready.len() > 0 {
		return s.markBusy(s.main.ready.popOldest())
	}
	if s.sideBusy < sideShare {
		return s.markBusy(s.side.ready.popOldest())
	}
	return nil
}

// filterReady removes the ready lanes that the function has moved elsewhere.
func (s *laneSet) filterReady(moved func(*lane) bool) {
	for _, q := range [...]*laneQueue{&s.main.ready, &s.side.ready} {
		q.lanes, q.head = slices.DeleteFunc(slices.Delete(q.lanes, 0, q.head), moved), 0
	}
}

func (s *laneSet) markBusy(l *lane) *lane {
	if l == nil {
		return nil
	}
	s.sideTurn = !l.side
	l.state = laneBusy
	if l.side {
		s.sideBusy++
	}
	return l
}

// unmarkBusy precedes any other state of a lane that may be busy.
func (s *laneSet) unmarkBusy(l *lane) {
	if l.side && l.state == laneBusy {
		s.sideBusy--
	}
}

// advance removes the first n events, which are done, of a busy lane.
func (s *laneSet) advance(l *lane, n int) {
	s.unmarkBusy(l)
	s.dropBodies(l, n)
	clear(l.ids[l.head : l.head+n])
	l.head += n
	s.of(l.side).events -= n
	if l.plan != nil {
		l.plan.advance(n)
	}
	if l.head == len(l.ids) {
		s.remove(l)
		return
	}
	if l.head >= 32 && l.head > len(l.ids)/2 {
		l.ids = l.ids[:copy(l.ids, l.ids[l.head:])]
		if len(l.classes) > 0 {
			l.classes = l.classes[:copy(l.classes, l.classes[l.head:])]
		}
		l.head = 0
	}
	s.push(l)
}

func (s *laneSet) remove(l *lane) {
	s.unlink(l)
	const keep = 256
	if len(s.free) < keep && cap(l.ids) <= keep {
		clear(l.bodies[:cap(l.bodies)])
		*l = lane{ids: l.ids[:0], bodies: l.bodies[:0], classes: l.classes[:0]}
		s.free = append(s.free, l)
	}
}

func (s *laneSet) unlink(l *lane) {
	delete(s.lanes, l.key)
	s.of(l.side).lanes--
}

func (s *laneSet) dropBodies(l *lane, n int) {
	n = min(n, len(l.bodies))
	t := s.of(l.side)
	for _, m := range l.bodies[:n] {
		s.hold(t, -1, -sizeOf(m))
	}
	// What lies before a slice's start is lost to append; lanes with a long
	// tail of bodies are few, and move a window's worth at the most.
	rest := copy(l.bodies, l.bodies[n:])
	clear(l.bodies[rest:])
	l.bodies = l.bodies[:rest]
}

// dropAllBodies releases the bodies of a lane that is not sent from soon.
func (s *laneSet) dropAllBodies(l *lane) {
	s.dropBodies(l, len(l.bodies))
	l.bodies = nil
}

// dropEveryBody releases the bodies of all lanes; each is fetched again when it is sent.
func (s *laneSet) dropEveryBody() {
	if s.main.bodies+s.side.bodies == 0 {
		return
	}
	for _, l := range s.lanes {
		s.dropAllBodies(l)
	}
}

// requeue makes a busy or blocked lane ready, behind the others, to be sent from again.
func (s *laneSet) requeue(l *lane) {
	s.unmarkBusy(l)
	s.push(l)
}

func (s *laneSet) putBack(l *lane) {
	s.unmarkBusy(l)
	l.state = laneReady
	s.of(l.side).ready.putBack(l)
	s.sideTurn = l.side
}

// delay makes a lane that is in no queue wait until due.
func (s *laneSet) delay(l *lane, due time.Time) {
	s.unmarkBusy(l)
	l.state, l.due = laneWaiting, due
	s.dropAllBodies(l)
	heap.Push(&s.delayed, l)
}

// block makes a lane that is in no queue wait for a person to act.
func (s *laneSet) block(l *lane) {
	s.unmarkBusy(l)
	l.state = laneBlocked
	s.dropAllBodies(l)
}

// releaseDue makes due lanes ready, and returns when the next is due (zero: none waits).
func (s *laneSet) releaseDue(now time.Time) time.Time {
	for len(s.delayed) > 0 {
		if l := s.delayed[0]; l.due.After(now) {
			return l.due
		}
		l, _ := heap.Pop(&s.delayed).(*lane)
		s.push(l)
	}
	return time.Time{}
}

// reschedule sets when waiting lanes are due, and makes blocked ones ready, as
// the function says of their first events.
func (s *laneSet) reschedule(of func(first queue.ID) (due time.Time, blocked bool)) {
	for _, l := range s.lanes {
		switch due, blocked := of(l.first()); {
		case l.state == laneWaiting && l.passed(0) && l.due.Before(due): // it was hastened
		case l.state == laneWaiting:
			l.due = due
		case l.state == laneBlocked && !blocked:
			s.requeue(l)
		}
	}
	heap.Init(&s.delayed)
}

// keepInFlight drops everything but the events in flight.
func (s *laneSet) keepInFlight() {
	s.main.ready, s.side.ready, s.delayed = laneQueue{}, laneQueue{}, nil
	for _, l := range s.lanes {
		s.dropAllBodies(l)
		if l.state != laneBusy {
			s.of(l.side).events -= l.waiting()
			s.unlink(l)
			continue
		}
		inFlight := 1
		if l.plan != nil {
			inFlight = max(1, l.plan.inFlight)
			l.plan.parts = nil // they count events that Redis may have lost
		}
		s.of(l.side).events -= l.waiting() - inFlight
		l.ids = l.ids[:l.head+inFlight]
		l.classes = l.classes[:min(len(l.classes), len(l.ids))]
	}
}

// messageOverhead is about what a message without payload takes in memory.
const messageOverhead = 512

// sizeOf is what a body counts against the window, in bytes.
func sizeOf(m *webhook.Message) int {
	return messageOverhead + len(m.Data) + len(m.Previous) + len(m.Unchanged) + len(m.Errors) + len(m.Key) + len(m.Tenant)
}
