package dispatch

import (
	"context"
	"errors"
	"time"

	"gancho/delivery/queue"
)

// reading is how far the endpoint's streams have been read. Every event up to a
// feed's cursor is in a lane or done. After a restart of Redis the cursors start
// again, and until they are where they were, skip names the events that are in
// memory or done. Guarded by its courier's mutex.
type reading struct {
	main, side feed
	page       *feed // whose page is being read; nil: none
	generation uint64
	skip       map[queue.ID]bool  // true: delivered; nil: there was no restart, or it is over
	newest     map[class]queue.ID // while skip is not nil: the newest in flight or just delivered of each class
	recent     *recentIDs         // so that an event whose acknowledgement Redis has lost is not sent again; nil: there are none
	rewinds    int                // a page that was read before the last one is not admitted
	forgotten  string             // how often somebody has removed events
	retries                       // of Redis

	active    bool // a goroutine reads
	loaded    bool // what Redis keeps of the endpoint is known
	restarted bool // the generation has risen since the lease was acquired
	prune     bool // failures may be of removed events
}

// feed is one of the endpoint's streams, as far as it has been read.
type feed struct {
	cursor queue.ID // of the last event that was read
	target queue.ID // where the cursor was when Redis was restarted
	side   bool
	end    bool // no event is known to follow
	again  bool // an event was appended while a page was being read
}

// part says that its share of the window is one part in so many.
func (f *feed) part() int {
	if f.side {
		return sidePart
	}
	return 1
}

// sidePart is the part of the main stream's window that the side stream has
// besides: what is sent again is in no hurry.
const sidePart = 4

func newReading() reading {
	return reading{side: feed{side: true}}
}

func (r *reading) feed(side bool) *feed {
	if side {
		return &r.side
	}
	return &r.main
}

// markUnread notes that an event may follow the cursor.
func (r *reading) markUnread(f *feed) { f.end, f.again = false, r.page == f }

// beginPage returns where the next page starts, and the generation before it.
func (r *reading) beginPage(f *feed) (after queue.ID, generation uint64) {
	r.page, f.again = f, false
	return f.cursor, r.generation
}

// follows reports whether what was appended comes right after what was read.
func (r *reading) follows(f *feed, a *queue.Appended) bool {
	return f.end && r.page != f && r.skip == nil && a.Follows(f.cursor)
}

// pass moves the cursor to an event. It reports whether the event is to be
// delivered; lost: it was delivered, and Redis has lost the acknowledgement.
func (r *reading) pass(f *feed, id queue.ID) (deliver, lost bool) {
	f.cursor = id
	delivered, known := r.skip[id]
	return !known, delivered
}

// endPage notes that a page has been passed; end: no event followed it.
func (r *reading) endPage(f *feed, end bool) {
	if end && !f.again {
		f.end = true
	}
	if end && f.side {
		f.target = queue.ID{} // nothing is appended to it again at an older place
	}
	if r.skip != nil && r.main.cursor.Compare(r.main.target) >= 0 && r.side.cursor.Compare(r.side.target) >= 0 {
		r.skip, r.newest = nil, nil // from here on events are new
	}
}

func (r *reading) rewind() {
	r.rewinds++
	for _, f := range [...]*feed{&r.main, &r.side} {
		if f.cursor.Compare(f.target) > 0 {
			f.target = f.cursor
		}
		f.cursor = queue.ID{}
		r.markUnread(f)
	}
	r.skip, r.newest = map[queue.ID]bool{}, nil
	if r.recent == nil {
		return
	}
	for i, id := range r.recent.ids {
		r.skip[id] = true
		if r.recent.classes != nil {
			r.noteNewest(id, r.recent.classes[i])
		}
	}
}

func (r *reading) delivered(id queue.ID, of class) {
	if r.recent == nil {
		r.recent = &recentIDs{}
	}
	r.recent.add(id, of)
	if r.skip != nil {
		r.skip[id] = true
		r.noteNewest(id, of)
	}
}

// noteNewest notes that an event need not be followed by older ones of its class.
func (r *reading) noteNewest(id queue.ID, of class) {
	if of == (class{}) || of == passedOver || r.newest[of].Compare(id) >= 0 {
		return
	}
	if r.newest == nil {
		r.newest = map[class]queue.ID{}
	}
	r.newest[of] = id
}

// outdated reports whether an event that Redis has restored was superseded.
func (r *reading) outdated(id queue.ID, of class) bool {
	return r.newest != nil && of != (class{}) && r.newest[of].Compare(id) > 0
}

type recentIDs struct {
	ids     []queue.ID
	classes []class // of ids; nil: none has one
	next    int
}

// recentLimit bounds them: 64 KiB for each busy endpoint.
const recentLimit = 4096

func (r *recentIDs) add(id queue.ID, of class) {
	at := r.next
	if len(r.ids) < recentLimit {
		at, r.ids = len(r.ids), append(r.ids, id)
	} else {
		r.ids[at], r.next = id, (at+1)%recentLimit
	}
	if r.classes == nil && of != (class{}) {
		r.classes = make([]class, recentLimit)
	}
	if r.classes != nil {
		r.classes[at] = of
	}
}

// What an endpoint keeps in memory of events that wait behind failing ones: so
// many, 16 bytes each, under so many keys, some hundred bytes each. Beyond that
// nothing of the endpoint is read, whatever its key, until some are done.
const (
	maxWaiting = 1 << 20
	maxLanes   = 1 << 16
)

// pageEntries is the most entries read at once, of the side stream a part: Redis, which holds up the events of changes meanwhile, takes 10 microseconds
// for each.
const pageEntries = 256

// budget is how much may be read of a stream now. It is measured once for each decision: other couriers
// use the same memory meanwhile.
type budget struct {
	events, bytes int
	page          bool // a page is worth a call of Redis; then neither is 0 or less
}

func (c *courier) budgetLocked(f *feed) budget {
	events, bytes := c.windowLocked(f)
	t := c.lanes.of(f.side)
	return budget{
		events: events - t.bodies, bytes: bytes - t.bodyBytes,
		page: t.bodies < events/2 && t.bodyBytes < bytes/2 && t.events < c.maxWaitingLocked()/f.part() && t.lanes < maxLanes/f.part(),
	}
}

// readableLocked returns the stream of which a page should be read, with its budget, or nil. An
// endpoint that gets nothing now needs nothing in memory, except its next probe.
func (c *courier) readableLocked() (*feed, budget) {
	if c.haltedLocked() || c.breaker.open && c.lanes.main.ready.len()+c.lanes.side.ready.len() > 0 {
		return nil, budget{}
	}
	for _, f := range [...]*feed{&c.reading.main, &c.reading.side} {
		if f.end {
			continue
		}
		if b := c.budgetLocked(f); b.page {
			return f, b
		}
	}
	return nil, budget{}
}

// readsNothingLocked reports whether there is nothing to be read, or no room for it.
func (c *courier) readsNothingLocked() bool {
	f, _ := c.readableLocked()
	return f == nil
}

// wake notes that there may be new events in one of the streams.
func (c *courier) wake(side bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.expectMoreLocked(c.reading.feed(side), time.Now())
}

// expectMoreLocked has a stream read. What gets nothing now is not made active for it: whatever ends that does so.
func (c *courier) expectMoreLocked(f *feed, now time.Time) {
	c.reading.markUnread(f)
	if c.lease.closing || c.activity == nil && c.reading.loaded && c.haltedLocked() {
		return
	}
	c.activateLocked()
	c.startReadingLocked(now)
}

// startReadingLocked starts the reader if there is something to read, and room.
func (c *courier) startReadingLocked(now time.Time) {
	if c.reading.active || c.lease.closing || c.reading.loaded && c.readsNothingLocked() {
		return
	}
	if c.readsLaterLocked(now) {
		return
	}
	c.reading.active = true
	c.spawn(c.read)
}

// readsLaterLocked reports whether nothing may be read for some time, and has the courier resume then.
func (c *courier) readsLaterLocked(now time.Time) bool {
	for _, until := range [...]time.Time{c.suspension.readFrom(), c.reading.retryAt} {
		if now.Before(until) {
			c.alarm.set(until)
			return true
		}
	}
	return false
}

// read reads pages until there is nothing to read, no room, or an error.
func (c *courier) read(ctx context.Context) {
	generation := c.owner.Generation() // before anything is read
	c.mu.Lock()
	defer func() {
		c.reading.active = false
		c.restLocked()
		c.mu.Unlock()
	}()
	if !c.reading.loaded {
		c.mu.Unlock()
		condition, failures, err := c.owner.Load(ctx)
		c.mu.Lock()
		if err != nil {
			c.readFailedLocked(err, time.Now())
			return
		}
		c.reading.loaded, c.reading.generation, c.failures = true, generation, failures
		c.restoreLocked(&condition, time.Now())
		c.startWritingLocked()
	}
	for {
		c.reloadAfterRestartLocked()
		f, room := c.readableLocked()
		if f == nil || c.readsLaterLocked(time.Now()) {
			return
		}
		after, generation := c.reading.beginPage(f)
		rewinds := c.reading.rewinds
		events, bytes := min(pageEntries/f.part(), room.events), room.bytes
		c.memory.hold(events, bytes) // what is read now is not in memory yet: many may read at the same time
		c.mu.Unlock()
		page, end, err := c.owner.Read(ctx, f.side, after, events, bytes)
		c.mu.Lock()
		c.memory.hold(-events, -bytes)
		c.reading.page = nil
		if err != nil {
			c.readFailedLocked(err, time.Now())
			return
		}
		c.reading.failures = 0
		if !c.reloadAfterRestartLocked() && c.reading.generation == generation && c.reading.rewinds == rewinds && f.cursor == after {
			c.admitPageLocked(f, page, end)
		}
	}
}

func (c *courier) readFailedLocked(err error, now time.Time) {
	c.lease.elsewhere = c.lease.elsewhere || errors.Is(err, queue.ErrNoOverflow)
	if c.reading.failed(now) && !c.lease.closing {
		c.log.Warn().Err(err).Str("endpoint", c.name).Msg("events not read: trying again")
	}
	c.alarm.set(c.reading.retryAt)
}

func (c *courier) admitPageLocked(f *feed, page []queue.Entry, end bool) {
	now := time.Now()
	for _, e := range page {
		switch deliver, lost := c.reading.pass(f, e.ID); {
		case deliver && c.reading.outdated(e.ID, c.lanes.classes.of(e.ID, e.Msg)):
			c.supersedeLocked(e.ID, e.Msg, now)
		case deliver:
			c.admitLocked(e.ID, e.Msg, now)
		case lost:
			c.writing.results.Done = append(c.writing.results.Done, e.ID)
			c.writing.results.Committed(e.ID, e.Msg.Time)
		}
	}
	c.reading.endPage(f, end)
	if c.reading.prune && c.reading.main.end && c.reading.side.end {
		c.reading.prune = false
		c.pruneFailuresLocked()
	}
	c.startWritingLocked()
	c.resumeLocked(now)
}

// pruneFailuresLocked forgets the failures of events that somebody has removed: everything
// was read, so the others are in lanes. What Redis has lost is appended again, and keeps
// them.
func (c *courier) pruneFailuresLocked() {
	if len(c.failures) == 0 || c.reading.restarted {
		return
	}
	there := map[queue.ID]bool{}
	for _, l := range c.lanes.lanes {
		for _, id := range l.ids[l.head:] {
			there[id] = true
		}
	}
	for id := range c.failures {
		if !there[id] {
			c.forgetLocked(id)
		}
	}
}

// reloadAfterRestartLocked reloads if Redis was restarted, and reports whether
// it was. Call it with an answer of Redis at hand: one that came after the
// restart came over a new connection, which has noted it.
func (c *courier) reloadAfterRestartLocked() bool {
	g := c.owner.Generation()
	if !c.reading.loaded || g == c.reading.generation {
		return false
	}
	c.reading.generation, c.reading.restarted = g, true
	c.log.Info().Str("endpoint", c.name).Msg("redis was restarted: the endpoint's events are read again")
	c.reloadLocked()
	return true
}

// reloadLocked drops the events in memory and reads the streams again from their start:
// Redis may have lost entries, which will be appended again, and deletions. Events in
// flight, or just delivered, are not sent again, even if they are appended again much
// later. Order is kept, because whatever is sent again was sent before.
func (c *courier) reloadLocked() {
	c.lanes.keepInFlight()
	c.saved = unsaved // Redis may have lost it
	c.reading.rewind()
	c.writing.results.Mark(c.reading.skip)
	c.writing.outgoing.Mark(c.reading.skip)
	for _, l := range c.lanes.lanes {
		for i, id := range l.ids[l.head:] { // in flight
			c.reading.skip[id] = false
			if l.head+i < len(l.classes) {
				c.reading.noteNewest(id, l.classes[l.head+i])
			}
		}
	}
	c.resumeLocked(time.Now())
}

// offer admits what was appended for this endpoint without a detour through
// Redis, if the courier has read everything before it. Otherwise it is read.
func (c *courier) offer(a *queue.Appended) {
	c.mu.Lock()
	defer c.mu.Unlock()
	now := time.Now()
	f := c.reading.feed(a.Side)
	if c.haltedLocked() {
		c.expectMoreLocked(f, now)
		return
	}
	c.activateLocked()
	direct := !c.withholdsLocked(now) && c.reading.follows(f, a) && c.budgetLocked(f).page && c.owner.Generation() == c.reading.generation
	if !direct {
		c.expectMoreLocked(f, now)
		return
	}
	for id, m := range a.Events() {
		if room := c.budgetLocked(f); room.events <= 0 || room.bytes <= 0 || !c.owner.InStream(id) {
			c.expectMoreLocked(f, now)
			break
		}
		f.cursor = id
		c.admitLocked(id, m, now)
	}
	c.startWorkersLocked()
}
