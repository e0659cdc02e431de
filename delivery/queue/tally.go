package queue

import (
	"maps"
	"sync"
	"time"

	"gancho/cdc"
	"gancho/mapping"
)

// Count says what is counted.
type Count uint8

// The counts of a rule. Of each change it is Seen, and Seen + Repeated = Matched + Filtered +
// Collapsed + Parked. Matched is what the rules said, and Made how many events came to the
// queue of it; so are Parked and Kept. Each pair is counted in two places.
const (
	Seen      Count = iota // changes of the rule's table, and operation
	Matched                // events that the rule has made of them
	Filtered               // watch, when or root_only have left them out
	Collapsed              // they went into another one's event, or the transaction came to nothing
	Repeated               // a change that had several events: a child that moved to another parent
	Parked                 // the rule could not be applied to them
	Made                   // events that were given to the queue
	Read                   // events of a backfill that were given to the queue
	Kept                   // parked changes that were given to the queue
	ruleCounts
)

// countNames are the fields of counts in Redis, behind <epoch>:<rule>: .
var countNames = [ruleCounts]string{"seen", "matched", "filtered", "collapsed", "repeated", "parked", "made", "read", "kept"}

// TallyInterval is what counts are kept for: nearly all offsets of time zones are multiples of it (see control.CountedUntil), and an
// endpoint's counts of a day take about 25 bytes for each interval and rule.
const TallyInterval = time.Hour

// intervalsPerDay is how many intervals of an endpoint's counts are under one key.
const intervalsPerDay = int64(24 * time.Hour / TallyInterval)

// intervalOf is the number of the interval of a commit.
func intervalOf(committed time.Time) int64 {
	return committed.Unix() / int64(TallyInterval/time.Second)
}

// tallyKey is what is counted apart.
type tallyKey struct {
	interval int64
	rule     uint16
}

// tallyCell is what is counted of a rule in an interval. What is complete is guarded by the
// tally's mu; what is open, of transactions that have not ended, belongs to the goroutine that captures.
type tallyCell struct {
	n           [ruleCounts]int64
	first, last cdc.LSN // commits of which something is in n
	to          []tallyTo

	open [ruleCounts]int64
	// Of changes whose outcome was to be known later: how many there were, and how many outcomes.
	deferred, decided   int64
	openFirst, openLast cdc.LSN
	openTo              []int32 // indices of to of which something is open
	index               map[*stream]int32
	used                bool // something is open
}

// tallyTo is how many events were given to an endpoint.
type tallyTo struct {
	stream  *stream
	n, open int64
}

// complete adds what is open to what is complete.
func (c *tallyCell) complete() {
	// Several changes of a row had one outcome; or a change had several.
	if more := c.deferred - c.decided; more > 0 {
		c.open[Collapsed] += more
	} else {
		c.open[Repeated] -= more
	}
	for i, n := range c.open {
		c.n[i] += n
	}
	for _, i := range c.openTo {
		c.to[i].n += c.to[i].open
	}
	if c.first == 0 {
		c.first = c.openFirst
	}
	c.last = c.openLast
	c.drop()
}

// drop forgets what is open.
func (c *tallyCell) drop() {
	for _, i := range c.openTo {
		c.to[i].open = 0
	}
	c.open, c.deferred, c.decided, c.openTo, c.used = [ruleCounts]int64{}, 0, 0, c.openTo[:0], false
}

// empty reports whether nothing is counted that was not collected.
func (c *tallyCell) empty() bool { return c.first == 0 && !c.used }

// Tally counts what becomes of the changes that are captured. What is counted of the open
// transactions belongs to the goroutine that captures; with Reached it is complete, and
// RunDurable writes it before it records a position beyond it.
//
// Each transaction is counted once, however often it is read: Redis has the position up to which
// was counted, with the counts, and BeginTally has this process skip what is not beyond it.
type Tally struct {
	q *Queue
	// Of the goroutine that captures:
	touched []*tallyCell // of which something is open
	recent  []*tallyCell // by rule, of one interval
	at      int64        // that
	floor   cdc.LSN      // what is not beyond it was counted before
	end     cdc.LSN      // the newest commit of which something was counted

	mu         sync.Mutex // guards what follows, for moments: the capture waits for it
	cells      map[tallyKey]*tallyCell
	completeTo cdc.LSN // the newest commit of which something is complete; 0: nothing is

	writing sync.Mutex // guards what follows, and is held while Redis is written
	turn    int64      // of BeginTally, by which Redis refuses those before; 0: nothing is counted
	epoch   uint16
	command *tallyCommand // what is written, unchanged until Redis has answered
	written string        // how far Redis has counted without it
}

// Tally is what counts the changes that this process captures.
func (q *Queue) Tally() *Tally { return &q.tally }

// maxTallyCells bounds the memory of intervals that have passed.
const maxTallyCells = 4096

// cell returns the cell for a rule's change of a commit; nil: it was counted before.
func (t *Tally) cell(commit cdc.LSN, committed time.Time, rule uint16) *tallyCell {
	if commit <= t.floor {
		return nil
	}
	interval := intervalOf(committed)
	if interval != t.at {
		t.at = interval
		clear(t.recent)
	}
	if int(rule) >= len(t.recent) {
		t.recent = append(t.recent, make([]*tallyCell, int(rule)+1-len(t.recent))...)
	}
	c := t.recent[rule]
	if c == nil {
		c = t.find(tallyKey{interval, rule})
		t.recent[rule] = c
	}
	if !c.used {
		c.used, c.openFirst = true, commit
		t.touched = append(t.touched, c)
	}
	c.openLast, t.end = commit, commit
	return c
}

// find returns a cell that is not among the recent ones.
func (t *Tally) find(key tallyKey) *tallyCell {
	t.mu.Lock()
	defer t.mu.Unlock()
	c := t.cells[key]
	if c == nil {
		if len(t.cells) >= maxTallyCells {
			clear(t.recent)
			maps.DeleteFunc(t.cells, func(_ tallyKey, c *tallyCell) bool { return c.empty() })
		}
		if t.cells == nil {
			t.cells = map[tallyKey]*tallyCell{}
		}
		c = &tallyCell{}
		t.cells[key] = c
	}
	return c
}

// Observe implements mapping.Observer.
func (t *Tally) Observe(o *mapping.Observation) {
	if o.Again || !o.Op.Streamed() {
		return
	}
	for _, v := range o.Verdicts {
		c := t.cell(o.Commit, o.Time, v.Rule)
		if c == nil {
			return
		}
		later := o.Later || o.Net
		open := v.Outcome == mapping.Awaits || v.Outcome == mapping.Commit || v.Outcome == mapping.Child || v.Outcome == mapping.Grouped
		if !later {
			c.open[Seen]++
			if open {
				c.deferred++
			}
		} else if !open {
			c.decided++
		}
		switch v.Outcome {
		case mapping.Awaits, mapping.Commit, mapping.Child, mapping.Grouped: // one outcome follows
		case mapping.Fired:
			c.open[Matched]++
		case mapping.WasParked:
			c.open[Parked]++
		case mapping.Nothing:
			c.open[Collapsed]++
		default:
			c.open[Filtered]++
		}
	}
}

// give counts an event for an endpoint, probably the i-th of those that the rule's events are given to.
func (t *Tally) give(c *tallyCell, i int, s *stream) {
	at := int32(i)
	if i >= len(c.to) || c.to[i].stream != s {
		at = t.place(c, s)
	}
	if c.to[at].open == 0 {
		c.openTo = append(c.openTo, at)
	}
	c.to[at].open++
}

// place returns the index in c.to of an endpoint, which it adds when nothing was given to it.
func (t *Tally) place(c *tallyCell, s *stream) int32 {
	if at, known := c.index[s]; known {
		return at
	}
	if c.index == nil {
		c.index = map[*stream]int32{}
	}
	at := int32(len(c.to))
	c.index[s] = at
	t.mu.Lock()
	c.to = append(c.to, tallyTo{stream: s})
	t.mu.Unlock()
	return at
}

// event counts an event that is routed to endpoints.
func (t *Tally) event(ev *mapping.Event, r *routes, matched []int) {
	c := t.cell(ev.Commit, ev.Time, uint16(ev.N))
	if c == nil {
		return
	}
	if !ev.Op.Streamed() {
		c.open[Read]++
	} else {
		c.open[Made]++
	}
	for i, at := range matched {
		t.give(c, i, r.streams[at])
	}
}

// park counts a parked change that is given to the queue.
func (t *Tally) park(p *mapping.Parked) {
	if c := t.cell(p.Commit, p.Time, uint16(p.N)); c != nil {
		c.open[Kept]++
	}
}

// Reached says that all transactions that were begun are counted to their end.
func (t *Tally) Reached() {
	if len(t.touched) == 0 {
		return
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	for _, c := range t.touched {
		c.complete()
	}
	t.touched, t.completeTo = t.touched[:0], t.end
}

// drop forgets what is open.
func (t *Tally) drop() {
	for _, c := range t.touched {
		c.drop()
	}
	t.touched, t.end = t.touched[:0], 0
}
