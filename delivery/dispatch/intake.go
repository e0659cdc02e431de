package dispatch

import (
	"context"
	"time"

	"gancho/delivery/queue"
)

// What an endpoint keeps in memory of events that wait behind failing ones:
// so many of them, 16 bytes each, under so many keys, some hundred bytes each.
// Beyond that no further events of the endpoint are read, those of other keys
// included, until some are done.
const (
	maxHeldBack = 1 << 20
	maxLanes    = 1 << 16
)

// pageEntries is the most entries read at once.
const pageEntries = 256

// wake says that there may be new events in one of the streams.
func (c *courier) wake(side bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.expect(c.feed(side), time.Now())
}

func (c *courier) feed(side bool) *feed {
	if side {
		return &c.side
	}
	return &c.main
}

// expect notes that there may be something to read. Call it with mu held.
func (c *courier) expect(f *feed, now time.Time) {
	c.rewake(f)
	c.startRead(now)
}

func (c *courier) rewake(f *feed) { f.tail, f.again = false, c.page == f }

// startRead starts the reader when there is something to read and room for
// it. Call it with mu held.
func (c *courier) startRead(now time.Time) {
	if c.reading || c.closing || c.lost {
		return
	}
	if c.loaded && c.readable() == nil {
		return
	}
	if now.Before(c.stall) {
		c.arm(c.stall)
		return
	}
	c.reading = true
	c.spawn(c.readAll)
}

// readable returns the stream that a page should be read of, or nil. An
// endpoint that gets nothing now needs nothing in memory, but for its next
// probe. Call it with mu held.
func (c *courier) readable() *feed {
	if c.stopped() || c.breaker.open && c.lanes.ready.len()+c.lanes.aside.len() > 0 {
		return nil
	}
	for _, f := range [...]*feed{&c.main, &c.side} {
		if !f.tail && c.room(f) {
			return f
		}
	}
	return nil
}

func (c *courier) room(f *feed) bool {
	t, part := c.lanes.tally(f.side), f.part()
	return t.bodies < c.windowEvents()/part/2 && t.bodyBytes < c.windowBytes()/part/2 &&
		t.events < maxHeldBack/part && t.lanes < maxLanes/part
}

// sidePart is the part of what the main stream may have in memory that the
// side stream may have besides: what is sent again is in no hurry.
const sidePart = 4

func (f *feed) part() int {
	if f.side {
		return sidePart
	}
	return 1
}

// windowEvents is never so small that concurrency could not be reached.
func (c *courier) windowEvents() int {
	list, _ := c.listOverhead()
	return max(c.o.WindowEvents, windowPerRequest*c.ep.Concurrency, list)
}

func (c *courier) windowBytes() int {
	_, list := c.listOverhead()
	return c.o.WindowBytes + list
}

// budget is how many events, and bytes, may be read now.
func (c *courier) budget(f *feed) (count, bytes int) {
	t, part := c.lanes.tally(f.side), f.part()
	return c.windowEvents()/part - t.bodies, c.windowBytes()/part - t.bodyBytes
}

const windowPerRequest = 4

// readAll reads pages while there are some and there is room.
func (c *courier) readAll(ctx context.Context) {
	if !c.load(ctx) {
		return
	}
	for {
		c.mu.Lock()
		c.checkGeneration()
		f := c.readable()
		if f == nil {
			c.reading = false
			c.mu.Unlock()
			return
		}
		c.page, f.again = f, false
		after, generation := f.cursor, c.generation
		count, bytes := c.budget(f)
		c.mu.Unlock()

		page, end, err := c.owner.Read(ctx, f.side, after, min(pageEntries, count), bytes)

		c.mu.Lock()
		c.page = nil
		if err != nil {
			c.readFailed(err)
			c.mu.Unlock()
			return
		}
		c.readFailures = 0
		if !c.checkGeneration() && c.generation == generation && f.cursor == after {
			c.take(f, page, end)
		}
		c.mu.Unlock()
	}
}

// readFailed ends the reader for a while. Call it with mu held.
func (c *courier) readFailed(err error) {
	c.reading = false
	if c.closing {
		return
	}
	now := time.Now()
	c.stall = now.Add(c.redisFailed("events cannot be read", err))
	c.arm(c.stall)
}

// take puts a page's events into their lanes. Call it with mu held.
func (c *courier) take(f *feed, page []queue.Entry, end bool) {
	for _, e := range page {
		f.cursor = e.ID
		delivered, known := c.skip[e.ID]
		switch {
		case !known:
			c.lanes.add(e.ID, e.Msg)
		case delivered: // and Redis has lost that
			c.results.Done = append(c.results.Done, e.ID)
		}
	}
	if end && !f.again {
		f.tail = true
	}
	if end && f.side {
		f.seen = queue.ID{} // nothing is appended to it again at an older place
	}
	if c.skip != nil && c.main.cursor.Compare(c.main.seen) >= 0 && c.side.cursor.Compare(c.side.seen) >= 0 {
		c.skip = nil // from here on events are new
	}
	c.startWrite()
	c.resume(time.Now())
}

// load reads what is known of the endpoint when the lease is new. It returns
// false when Redis does not answer; then it is tried again.
func (c *courier) load(ctx context.Context) bool {
	c.mu.Lock()
	loaded := c.loaded
	c.mu.Unlock()
	generation := c.owner.Generation() // before anything is read
	if loaded {
		return true
	}
	s, retries, err := c.owner.Load(ctx)
	c.mu.Lock()
	defer c.mu.Unlock()
	if err != nil {
		c.readFailed(err)
		return false
	}
	c.loaded, c.retries, c.generation = true, retries, generation
	c.takeOver(&s, time.Now())
	c.startWrite()
	return true
}

// checkGeneration reloads when Redis was restarted, and reports whether it
// was. Call it with mu held, with an answer of Redis in hand: one that came
// after the restart came over a new connection, which has noted it.
func (c *courier) checkGeneration() bool {
	g := c.owner.Generation()
	if !c.loaded || g == c.generation {
		return false
	}
	c.generation = g
	c.restarts++
	c.log.Info().Str("endpoint", c.name).Msg("redis was restarted: the endpoint's events are read again")
	c.reload()
	return true
}

// reload forgets the events in memory and reads the stream again from its
// start: Redis may have lost entries, which will be appended again, and
// deletions. Events in flight, and those that were delivered a moment ago,
// are not sent again, even when they are appended again much later. Order is
// kept, because whatever is sent again was sent before. Call it with mu held.
func (c *courier) reload() {
	c.lanes.forget()
	c.healthKept = queue.Health{Failing: -1} // Redis may have lost it
	for _, f := range [...]*feed{&c.main, &c.side} {
		if f.cursor.Compare(f.seen) > 0 {
			f.seen = f.cursor
		}
		f.cursor = queue.ID{}
		c.rewake(f)
	}
	c.skip = map[queue.ID]bool{}
	for _, id := range c.recent.ids {
		c.skip[id] = true
	}
	c.results.Mark(c.skip)
	c.outgoing.Mark(c.skip)
	for _, l := range c.lanes.lanes {
		for _, id := range l.ids[l.head:] { // in flight
			c.skip[id] = false
		}
	}
	c.resume(time.Now())
}

// offer hands over what was appended for this endpoint without a detour through
// Redis, if the courier has read everything before it. Otherwise it is read.
func (c *courier) offer(a *queue.Appended) {
	c.mu.Lock()
	defer c.mu.Unlock()
	now := time.Now()
	f := c.feed(a.Side)
	direct := c.loaded && f.tail && c.page != f && c.skip == nil && !c.stopped() && !c.breaker.open &&
		a.Follows(f.cursor) && c.room(f) && c.owner.Generation() == c.generation
	if !direct {
		c.expect(f, now)
		return
	}
	for id, m := range a.Events() {
		if count, bytes := c.budget(f); count <= 0 || bytes <= 0 {
			c.expect(f, now)
			break
		}
		f.cursor = id
		c.lanes.add(id, m)
	}
	c.startWorkers()
}

// learn takes over what a renewal of the lease has told, and reports whether it
// has: what is being loaded or written meanwhile may be older or newer. Call it
// without mu.
func (c *courier) learn(s queue.Standing, changes int, until time.Time) (learned bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if !s.Owned {
		c.lose("it has expired, and another process has taken the endpoint")
		return true
	}
	now := time.Now()
	c.leaseUntil = until
	switch {
	case c.closing: // what there is to learn is the next owner's to act on
		return true
	case !c.loaded:
		c.resume(now)
		return false
	}
	c.checkGeneration()
	if !s.Inspected { // nothing has changed that somebody would have been told of
		c.resume(now)
		return true
	}
	if changes == c.stateChanges {
		c.learnState(s)
	}
	if s.Unblock != c.unblock { // no courier writes it, so it is never too old for one that writes
		c.unblock = s.Unblock
		c.hastenAll(now)
	}
	learned = c.paused == s.Paused && c.hold.Equal(s.Hold) && c.unblock == s.Unblock
	c.main.tail = c.main.tail && !s.More
	c.side.tail = c.side.tail && !s.MoreAside
	c.resume(now)
	return learned
}

func (c *courier) learnState(s queue.Standing) {
	now := time.Now()
	goesOn := c.paused != "" && s.Paused == ""
	c.paused, c.hold = s.Paused, s.Hold
	if goesOn {
		c.log.Info().Str("endpoint", c.name).Msg("endpoint goes on")
		c.goOn(now)
		c.idle(now)
		c.startWrite()
	}
}

// renewal is this courier's part of a renewal, and the number of state
// changes that its answer will know of; -1: the answer may be too old.
func (c *courier) renewal() (queue.Renewal, int) {
	c.mu.Lock()
	defer c.mu.Unlock()
	changes := c.stateChanges
	if c.writing || !c.results.Empty() {
		changes = -1
	}
	return queue.Renewal{Owner: c.owner, Main: c.main.cursor, Side: c.side.cursor}, changes
}

// holds reports whether the lease is not known to be lost.
func (c *courier) holds() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return !c.closing
}

// setAdopted says whether the endpoint is beyond this process's share.
func (c *courier) setAdopted(adopted bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.adopted = adopted
}

// close lets the requests in flight finish, and starts no more.
func (c *courier) close() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.closing = true
	c.timer.Stop()
}
