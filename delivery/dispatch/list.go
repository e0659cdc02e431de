package dispatch

import (
	"context"
	"slices"
	"strings"
	"time"

	"gancho/delivery/endpoint"
	"gancho/delivery/queue"
	"gancho/delivery/webhook"
)

// An endpoint that takes lists (Endpoint.Batch) has one lane, in stream order,
// and one request in flight. A list is taken from the lane's head: what is
// there, up to Max events. It waits for more, up to Wait after its first event
// could have been sent, unless it is full: when the next event is of another
// transaction (PerTransaction), when its payload has reached half of
// DispatcherOptions.WindowBytes, or when there is no room for more in memory.
// What is sent again (Queue.Replay) makes lists of its own, which wait for
// nothing.
//
// One answer holds for all of a list's events. A list that has failed is sent
// again as it is, on the schedule; its first event carries its attempts. After
// a restart it may have become longer.
//
// A list that is to be given up, that the receiver refuses as wrong, or whose
// repeat it does not want, is cut in halves instead, and these again, until the
// event at fault is alone; it alone is refused (and has RetryRefused from the
// beginning) or given up. The halves of an exhausted list have one attempt
// each, with the first wait of Retry before it; those of the others are sent
// at once.

// list is the events of one request to an endpoint that takes lists.
type list struct {
	ids  []queue.ID
	msgs []*webhook.Message // nil: to be read; nil elements: they are gone from their stream
}

// listing is what a lane knows of the lists that are made of it.
type listing struct {
	since  time.Time // when its first event could have been sent; zero: not yet, or there was a list since
	flight int       // events in flight
	parts  []part    // what comes first, to be sent as it is
}

// part is a list, or a piece of one, that is to be sent again.
type part struct {
	n     int
	prior queue.Attempts // of the list that it was cut from
}

func takesLists(ep *endpoint.Endpoint) bool { return ep.Batch.Max > 1 }

// listOverhead is what the window has for lists besides: twice a list, of
// messages without payload, so that the next one is read meanwhile.
func (c *courier) listOverhead() (events, bytes int) {
	if !takesLists(c.ep) {
		return 0, 0
	}
	return 2 * c.ep.Batch.Max, 2 * c.ep.Batch.Max * messageOverhead
}

// gathers reports whether a list that the lane's events would make waits for
// more. Whatever ends that starts workers. Call it with mu held.
func (c *courier) gathers(l *lane, now time.Time) bool {
	b := &c.ep.Batch
	if !takesLists(c.ep) || l.side || l.waiting() >= b.Max || l.listing != nil && len(l.listing.parts) > 0 {
		return false
	}
	if _, failed := c.retries[l.first()]; failed {
		return false
	}
	if b.PerTransaction && !l.ids[len(l.ids)-1].SameTransaction(l.first()) {
		return false
	}
	if room := c.room(&c.main); !room || !c.main.tail && !c.breaker.open {
		return room // the reader brings more
	}
	if l.listing == nil {
		l.listing = &listing{}
	}
	if l.listing.since.IsZero() {
		l.listing.since = now
	}
	until := l.listing.since.Add(b.Wait)
	if !now.Before(until) {
		return false
	}
	c.arm(until)
	return true
}

// form makes the job one of the lane's next list. Call it with mu held.
func (c *courier) form(j *job) {
	l := j.lane
	if l.listing == nil {
		l.listing = &listing{}
	}
	n := min(l.waiting(), c.ep.Batch.Max)
	if len(l.listing.parts) > 0 {
		n = min(n, l.listing.parts[0].n)
	}
	j.list = &list{}
	if len(l.bodies) > 0 {
		n = min(n, len(l.bodies))
		j.list.msgs = slices.Clone(l.bodies[:n])
	}
	j.list.ids = slices.Clone(l.ids[l.head : l.head+n]) // the lane clears its own with the answer
	l.listing.flight = n
}

// sendList makes the job's attempt. What it leaves out of the list comes next.
func (c *courier) sendList(ctx context.Context, j *job) webhook.Outcome {
	l := j.list
	if l.msgs == nil {
		j.again = true
		if j.err = c.readList(ctx, l); j.err != nil {
			return webhook.Outcome{}
		}
	}
	l.trim(j.ep.Batch.PerTransaction, c.o.WindowBytes/2)
	there := j.messages()
	if len(there) == 0 {
		return webhook.Outcome{}
	}
	j.msg = there[0]
	return c.sender.SendList(ctx, j.ep, there)
}

// readList reads the list's messages again, or those of its beginning, when
// they are large.
func (c *courier) readList(ctx context.Context, l *list) error {
	first := l.ids[0]
	page, end, err := c.owner.Read(ctx, first.FromSide(), first.Before(), len(l.ids), c.o.WindowBytes/2)
	if err != nil {
		return err
	}
	msgs := make([]*webhook.Message, len(l.ids))
	at := 0
	for _, e := range page {
		for at < len(l.ids) && l.ids[at].Compare(e.ID) < 0 {
			at++
		}
		if at < len(l.ids) && l.ids[at] == e.ID {
			msgs[at] = e.Msg
			at++
		}
	}
	if end { // what was not found before it is gone
		at = len(l.ids)
	}
	l.ids, l.msgs = l.ids[:at], msgs[:at]
	return nil
}

// trim ends the list before an event that may not be in it.
func (l *list) trim(perTransaction bool, most int) {
	bytes := 0
	var last *webhook.Message
	for i, m := range l.msgs {
		if m == nil {
			continue
		}
		bytes += len(m.Data) + len(m.Previous) + len(m.Unchanged)
		if last != nil && (bytes > most || m.Replay != last.Replay || perTransaction && transactionOf(m) != transactionOf(last)) {
			l.ids, l.msgs = l.ids[:i], l.msgs[:i]
			return
		}
		last = m
	}
}

// transactionOf is what the webhook-ids of one transaction's events have in common.
func transactionOf(m *webhook.Message) string {
	id := m.ID
	for range 2 { // the event, and the change
		if i := strings.LastIndexByte(id, '-'); i >= 0 {
			id = id[:i]
		}
	}
	return id
}

// finishList removes the events of a list that was delivered from its lane.
func (c *courier) finishList(j *job) {
	for i, id := range j.list.ids {
		_, failed := c.retries[id]
		delete(c.retries, id)
		switch {
		case j.list.msgs[i] == nil:
			c.forgetEvent(id, failed)
			continue
		case failed:
			c.results.Clean = append(c.results.Clean, id)
		default:
			c.results.Done = append(c.results.Done, id)
		}
		c.recent.add(id)
		if c.skip != nil {
			c.skip[id] = true
		}
	}
	c.lanes.advanceBy(j.lane, len(j.list.ids))
}

// messages returns those of its list that are there.
func (j *job) messages() []*webhook.Message {
	return slices.DeleteFunc(slices.Clone(j.list.msgs), func(m *webhook.Message) bool { return m == nil })
}

// many reports whether the job's failure may be the fault of one among others.
func (j *job) many() bool { return j.list != nil && len(j.list.ids) > 1 }

// cut has a list sent in halves, after a wait, with the attempts that it has had.
func (c *courier) cut(j *job, a queue.Attempts, wait time.Duration, why string, now time.Time) {
	a.Due = now.Add(wait)
	c.keep(j, a)
	a.Answer, a.Error = "", ""
	n := len(j.list.ids)
	j.lane.listing.cut(n, a)
	c.log.Warn().Str("endpoint", c.name).Int("events", n).Int("attempts", a.N).Str("why", why).
		Msg("list cut in halves, to find the event at fault")
	c.lanes.hold(j.lane, a.Due)
	c.arm(a.Due)
}

// firstWait is what an exhausted list's halves are apart.
func firstWait(ep *endpoint.Endpoint) time.Duration {
	d, _ := nextWait(ep, &queue.Attempts{N: 1})
	return d
}

// fix makes the first part one of exactly n events.
func (s *listing) fix(n int) {
	switch {
	case len(s.parts) == 0:
		s.parts = append(s.parts, part{n: n})
	case s.parts[0].n > n:
		rest := s.parts[0]
		rest.n -= n
		s.parts[0].n = n
		s.parts = slices.Insert(s.parts, 1, rest)
	}
}

// cut makes the first n events two parts.
func (s *listing) cut(n int, prior queue.Attempts) {
	s.fix(n)
	s.parts[0] = part{n - n/2, prior}
	s.parts = slices.Insert(s.parts, 1, part{n / 2, prior})
}

// advance takes the first n events off.
func (s *listing) advance(n int) {
	s.since, s.flight = time.Time{}, 0
	for n > 0 && len(s.parts) > 0 {
		took := min(n, s.parts[0].n)
		n -= took
		if s.parts[0].n -= took; s.parts[0].n == 0 {
			s.parts = slices.Delete(s.parts, 0, 1)
		}
	}
	if len(s.parts) == 0 {
		s.parts = nil
	}
}
