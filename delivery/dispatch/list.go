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
// and one request in flight. A list is the first events of the lane, up to Max.
// It waits for more, up to Wait after its first event could have been sent,
// unless it is full: when the next event is of another transaction
// (PerTransaction), when its payload has reached half of Options.WindowBytes, or
// when there is no room for more in memory. What is sent again (Queue.Replay)
// makes lists of its own, which wait for nothing.
//
// One answer holds for all of a list's events. A list that has failed, maybe longer
// after a restart, is sent again on the schedule; its first event carries its attempts.
//
// A list that is exhausted, that the receiver refuses as wrong, or that it wants
// no repeat of, is cut in halves instead, and these again, until the event at
// fault is alone; it alone is refused (and has RetryRefused from the beginning)
// or becomes a dead letter. An exhausted list's halves have one attempt each,
// after the first backoff of Retry; others are sent immediately.

type list struct {
	ids  []queue.ID
	msgs []*webhook.Message // nil: to be read; nil elements: not found in their stream, or superseded

	passes []bool             // which ids are of superseded events; nil: none
	left   []*webhook.Message // those of superseded events, once they are read
}

// listPlan is how a lane's next events are divided into lists. The parts come first,
// each a list that is sent as it is; what follows them is not divided yet.
type listPlan struct {
	since    time.Time // when its first event could have been sent; zero: not yet, or there was a list since
	inFlight int       // events
	parts    []part
}

// part is a list, or a piece of one, that is to be sent again.
type part struct {
	n     int
	prior queue.Attempts // of the list that it was cut from
}

func (p *listPlan) fixed() bool { return p != nil && len(p.parts) > 0 }

// fix makes the first part one of exactly n events.
func (p *listPlan) fix(n int) {
	switch {
	case len(p.parts) == 0:
		p.parts = append(p.parts, part{n: n})
	case p.parts[0].n > n:
		rest := p.parts[0]
		rest.n -= n
		p.parts[0].n = n
		p.parts = slices.Insert(p.parts, 1, rest)
	}
}

func (p *listPlan) split(n int, prior queue.Attempts) {
	p.fix(n)
	p.parts[0] = part{n - n/2, prior}
	p.parts = slices.Insert(p.parts, 1, part{n / 2, prior})
}

func (p *listPlan) advance(n int) {
	p.since, p.inFlight = time.Time{}, 0
	for n > 0 && len(p.parts) > 0 {
		removed := min(n, p.parts[0].n)
		n -= removed
		if p.parts[0].n -= removed; p.parts[0].n == 0 {
			p.parts = slices.Delete(p.parts, 0, 1)
		}
	}
	if len(p.parts) == 0 {
		p.parts = nil
	}
}

func (l *lane) planned() *listPlan {
	if l.plan == nil {
		l.plan = &listPlan{}
	}
	return l.plan
}

func (l *lane) nextList(n int) *list {
	p := l.planned()
	n = min(n, l.waiting())
	if p.fixed() {
		n = min(n, p.parts[0].n)
	}
	next := &list{}
	if len(l.bodies) > 0 {
		n = min(n, len(l.bodies))
		next.msgs = slices.Clone(l.bodies[:n])
	}
	next.ids = slices.Clone(l.ids[l.head : l.head+n]) // the lane clears its own with the answer
	next.passes = l.passes(n)
	p.inFlight = n
	return next
}

// trim ends the list before an event that may not be in it.
func (l *list) trim(perTransaction bool, most int) {
	bytes := 0
	var last *webhook.Message
	for i, m := range l.msgs {
		if m == nil {
			continue
		}
		bytes += len(m.Data) + len(m.Previous) + len(m.Unchanged) + len(m.Errors)
		if last != nil && (bytes > most || m.Replay != last.Replay || perTransaction && transactionOf(m) != transactionOf(last)) {
			l.ids, l.msgs = l.ids[:i], l.msgs[:i]
			return
		}
		last = m
	}
}

// transactionOf returns what the webhook-ids of one transaction's events share.
func transactionOf(m *webhook.Message) string {
	id := m.ID
	for range 2 { // the event, and the change
		if i := strings.LastIndexByte(id, '-'); i >= 0 {
			id = id[:i]
		}
	}
	return id
}

func takesLists(ep *endpoint.Endpoint) bool { return ep.Batch.Max > 1 }

// waitsForMoreLocked reports whether the list that the lane's events would make
// waits for more. Whatever ends that starts workers.
func (c *courier) waitsForMoreLocked(l *lane, now time.Time) bool {
	b := &c.ep.Batch
	if !takesLists(c.ep) || l.side || l.waiting() >= b.Max || l.plan.fixed() {
		return false
	}
	if _, failed := c.failures[l.first()]; failed {
		return false
	}
	if b.PerTransaction && !l.ids[len(l.ids)-1].SameTransaction(l.first()) {
		return false
	}
	if room := c.budgetLocked(&c.reading.main).page; !room || !c.reading.main.end && !c.breaker.open {
		return room // the reader brings more
	}
	p := l.planned()
	if p.since.IsZero() {
		p.since = now
	}
	until := p.since.Add(b.Wait)
	if !now.Before(until) {
		return false
	}
	c.alarm.set(until)
	return true
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
	l.leaveOut()
	l.trim(j.ep.Batch.PerTransaction, c.o.WindowBytes/2)
	found := slices.DeleteFunc(slices.Clone(l.msgs), func(m *webhook.Message) bool { return m == nil })
	if len(found) == 0 {
		return webhook.Outcome{}
	}
	j.msg = found[0]
	return c.sender.SendList(ctx, j.ep, found)
}

// readList reads the list's messages again; if they are large, only the first of
// them, and the list ends there.
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
	if end { // what was not found before it does not exist
		at = len(l.ids)
	}
	l.ids, l.msgs = l.ids[:at], msgs[:at]
	return nil
}

// splitListLocked has a list sent in halves, after a wait, with its attempts.
func (c *courier) splitListLocked(j *job, a queue.Attempts, wait time.Duration, why string, now time.Time) {
	a.Due = now.Add(wait)
	c.keepAttemptsLocked(j, a)
	a.Answer, a.Error = "", ""
	j.lane.plan.split(j.size(), a)
	c.log.Warn().Str("endpoint", c.name).Int("events", j.size()).Int("attempts", a.N).Str("why", why).
		Msg("list cut in halves, to find the event at fault")
	c.delayLaneLocked(j.lane, a.Due)
}
