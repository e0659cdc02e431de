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

// With endpoint.Compact an event is superseded when a newer one of its class, a key's events of one name, waits
// behind it in memory: it is not sent, and is acknowledged and logged as superseded. The side stream's are not:
// somebody has asked for each of them, or it is the only one that time makes.
//
// Nothing newest is ever lost. The newer event was read from Redis, so it was appended there before the older one is
// deleted, and whatever Redis loses of its end, it loses both or the deletion alone. An event in flight is not
// superseded before its answer. After a restart of Redis an older event may come back whose successor was
// delivered meanwhile, or is in flight: reading.newest knows that.
//
// An event whose body is in memory leaves its lane immediately. The others, which are on retry or behind one, or in
// a list that is sent again as it is, stay where they are and are marked: when it is their turn they are read
// again, for the log, and passed over.

// class is what a newer event has to share with one that it supersedes: 128 bits of a hash with seeds of this
// process, so that nobody can make two classes equal. The zero one is that of events without a key.
type class [2]uint64

// passedOver takes the place of the class of an event that is superseded, and still in its lane.
var passedOver = class{^uint64(0), ^uint64(0)}

// classes makes classes. A dispatcher has one for all of its endpoints, because a courier that rests remembers classes.
type classes struct{ seeds [2]maphash.Seed }

func newClasses() *classes {
	return &classes{[2]maphash.Seed{maphash.MakeSeed(), maphash.MakeSeed()}}
}

// of returns the class of an event; nil classes have none.
func (c *classes) of(id queue.ID, m *webhook.Message) (out class) {
	if c == nil || id.FromSide() || m.Key == "" {
		return out
	}
	for i, seed := range c.seeds {
		var h maphash.Hash
		h.SetSeed(seed)
		for _, part := range [...]string{m.Tenant, m.Key, m.Type} {
			_, _ = h.WriteString(part)
			_ = h.WriteByte(0)
		}
		out[i] = h.Sum64()
	}
	return out
}

// inFlight is how many of the lane's first events are on their way.
func (l *lane) inFlight() int {
	switch {
	case l.state != laneBusy:
		return 0
	case l.plan != nil:
		return max(1, l.plan.inFlight)
	}
	return 1
}

// passed reports whether the n-th of the lane's events is superseded.
func (l *lane) passed(n int) bool {
	return l.head+n < len(l.classes) && l.classes[l.head+n] == passedOver
}

// older returns the lane, and the number in it, of the event that waits and that the new one supersedes; nil: none.
func (s *laneSet) older(id queue.ID, m *webhook.Message) (l *lane, n int) {
	of := s.classes.of(id, m)
	if l = s.lanes[s.keyOf(id, m)]; l == nil || of == (class{}) {
		return nil, 0
	}
	for n = l.waiting() - 1; n >= l.inFlight(); n-- {
		if l.classes[l.head+n] == of && l.ids[l.head+n].Compare(id) < 0 {
			return l, n
		}
	}
	return nil, 0
}

// takeOut removes an event that waits from a lane, which may be empty then, and returns it. Without a body in
// memory, or when it is in a list that is sent again as it is, it stays and is marked: nil.
func (s *laneSet) takeOut(l *lane, n int) (queue.ID, *webhook.Message) {
	at := l.head + n
	if n >= len(l.bodies) || n < l.plan.divided() {
		l.classes[at] = passedOver
		return queue.ID{}, nil
	}
	id, m, t := l.ids[at], l.bodies[n], s.of(l.side)
	l.ids, l.classes = slices.Delete(l.ids, at, at+1), slices.Delete(l.classes, at, at+1)
	l.bodies = slices.Delete(l.bodies, n, n+1)
	t.events--
	s.hold(t, -1, -sizeOf(m))
	return id, m
}

// divided is how many of the lane's next events are in lists already.
func (p *listPlan) divided() (n int) {
	if p == nil {
		return 0
	}
	for _, part := range p.parts {
		n += part.n
	}
	return max(n, p.inFlight)
}

// hasten makes a lane that waits due at a time, if that is earlier.
func (s *laneSet) hasten(l *lane, due time.Time) (hastened bool) {
	if l.state != laneWaiting || !due.Before(l.due) {
		return false
	}
	l.due = due
	heap.Fix(&s.delayed, l.place)
	return true
}

// admitLocked puts an event that was read into its lane, in which it may supersede one.
func (c *courier) admitLocked(id queue.ID, m *webhook.Message, now time.Time) {
	if c.lanes.classes != nil {
		if l, n := c.lanes.older(id, m); l != nil {
			if old, body := c.lanes.takeOut(l, n); body != nil {
				c.supersedeLocked(old, body, now)
			} else if n == 0 {
				c.hastenLocked(l, now)
			}
		}
	}
	c.touched = now
	c.lanes.add(id, m)
}

// hastenLocked has a lane whose first event is superseded wait no longer than after a first failure: its next event
// has not failed yet. It waits a little, because the receiver has just failed.
func (c *courier) hastenLocked(l *lane, now time.Time) {
	wait, _ := nextWait(c.ep, &queue.Attempts{N: 1})
	if c.lanes.hasten(l, now.Add(wait)) {
		c.alarm.set(l.due)
	}
}

// markSupersededLocked marks those of the job's events, which have failed, behind which newer ones of their class
// wait, and reports whether all are.
func (c *courier) markSupersededLocked(j *job) (all bool) {
	l := j.lane
	if len(l.classes) == 0 {
		return false
	}
	all = true
	behind := l.classes[l.head+j.size():]
	for i := range j.size() {
		of := &l.classes[l.head+i]
		if *of != (class{}) && slices.Contains(behind, *of) {
			*of = passedOver
		}
		all = all && *of == passedOver
	}
	return all
}

// supersedeLocked acknowledges an event that is not sent. The caller removes it from its lane.
func (c *courier) supersedeLocked(id queue.ID, m *webhook.Message, now time.Time) {
	a := c.failures[id]
	c.forgetLocked(id)
	if c.reading.skip != nil {
		c.reading.skip[id] = false // as long as Redis may still have it
	}
	r := &c.writing.results
	r.Superseded = append(r.Superseded, id)
	r.Committed(id, m.Time)
	if c.o.Log {
		r.RecordSuperseded(id, m, a.N, c.o.KeepEvents, now)
	}
	if c.o.Superseded != nil {
		c.o.Superseded(c.name)
	}
	if e := c.log.Debug(); e.Enabled() {
		e.Str("endpoint", c.name).Str("event", m.Type).Str("webhook_id", m.ID).Int("attempts", a.N).Msg("event superseded by a newer one of its key")
	}
	c.startWritingLocked()
}

// supersedeListedLocked acknowledges those of a list's events that were left out of it, and returns how many.
func (c *courier) supersedeListedLocked(j *job, now time.Time) (n int) {
	if j.list == nil {
		return 0
	}
	for i, m := range j.list.left {
		if m != nil && i < len(j.list.ids) {
			c.supersedeLocked(j.list.ids[i], m, now)
			n++
		}
	}
	return n
}

// leaveOut takes those of the list's messages out of it that are superseded.
func (l *list) leaveOut() {
	if l.passes == nil {
		return
	}
	l.left = make([]*webhook.Message, len(l.ids))
	for i := range l.ids {
		if l.passes[i] {
			l.left[i], l.msgs[i] = l.msgs[i], nil
		}
	}
}

// passes says which of the lane's first n events are superseded; nil: none is.
func (l *lane) passes(n int) (out []bool) {
	for i := range n {
		if l.passed(i) {
			if out == nil {
				out = make([]bool, n)
			}
			out[i] = true
		}
	}
	return out
}

// maxCompacted takes the place of maxWaiting where one lane has all of an endpoint's classes: each event that is
// read is compared with those that wait.
const maxCompacted = 1 << 14

// maxWaitingLocked is how many events may wait in memory.
func (c *courier) maxWaitingLocked() int {
	if c.lanes.classes != nil && c.lanes.order == endpoint.OrderEndpoint {
		return maxCompacted
	}
	return maxWaiting
}
