package queue

import (
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

// TallyInterval is what counts are kept for: all offsets of time zones are multiples of it.
const TallyInterval = 15 * time.Minute

// intervalOf is the number of the interval of a commit.
func intervalOf(committed time.Time) int64 {
	return committed.Unix() / int64(TallyInterval/time.Second)
}

// tallyKey is what is counted apart.
type tallyKey struct {
	interval int64
	rule     uint16
}

type tallyCell struct {
	n [ruleCounts]int64
	// Of changes whose outcome was to be known later: how many there were, and how many outcomes.
	deferred, decided int64
	first, last       uint64 // LSNs of commits
	to                map[string]int64
	used              bool
}

// take adds the counts of another cell, and empties that.
func (c *tallyCell) take(from *tallyCell) {
	for i, n := range from.n {
		c.n[i] += n
	}
	c.span(from)
	for name, n := range from.to {
		if n > 0 {
			if c.to == nil {
				c.to = map[string]int64{}
			}
			c.to[name] += n
		}
	}
	from.empty()
}

// span has the cell span the positions of another one, too.
func (c *tallyCell) span(other *tallyCell) {
	if c.first == 0 || other.first < c.first {
		c.first = other.first
	}
	c.last = max(c.last, other.last)
}

// empty keeps the map's memory.
func (c *tallyCell) empty() {
	for name := range c.to {
		c.to[name] = 0
	}
	*c = tallyCell{to: c.to}
}

// Tally counts what becomes of the changes that are captured. What is counted of the open
// transactions belongs to the goroutine that captures; with Reached it is ready to be written,
// which RunDurable does before it records a position beyond it.
//
// Each transaction is counted once, however often it is read: Redis has the position up to which
// was counted, with the counts, and BeginTally has this process skip what is not beyond it.
type Tally struct {
	q *Queue
	// Of the goroutine that captures:
	cells   map[tallyKey]*tallyCell
	touched []*tallyCell // of which something is in the open transactions
	keys    []tallyKey   // theirs
	recent  []*tallyCell // by rule, of one interval
	at      int64        // that
	floor   cdc.LSN      // what is not beyond it was counted before
	end     cdc.LSN      // the newest commit of which something was counted

	mu      sync.Mutex // guards what follows, and is held while Redis is written
	turn    int64      // of BeginTally, by which Redis refuses those before; 0: nothing is counted
	epoch   uint16
	ready   map[tallyKey]*tallyCell // complete transactions, and up to which
	readyTo cdc.LSN
	writing map[tallyKey]*tallyCell // what is written, unchanged until Redis has answered
	writeTo string                  // how far Redis has counted with it
	written string                  // and without it
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
		key := tallyKey{interval, rule}
		if c = t.cells[key]; c == nil {
			if t.cells == nil || len(t.cells) >= maxTallyCells && len(t.touched) == 0 {
				t.cells = map[tallyKey]*tallyCell{}
				clear(t.recent)
			}
			c = &tallyCell{}
			t.cells[key] = c
		}
		t.recent[rule] = c
	}
	if !c.used {
		c.used, c.first = true, uint64(commit)
		t.touched, t.keys = append(t.touched, c), append(t.keys, tallyKey{interval, rule})
	}
	c.last, t.end = uint64(commit), commit
	return c
}

// Observe implements mapping.Observer.
func (t *Tally) Observe(o *mapping.Observation) {
	if o.Again || o.Op == cdc.Read {
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
			c.n[Seen]++
			if open {
				c.deferred++
			}
		} else if !open {
			c.decided++
		}
		switch v.Outcome {
		case mapping.Awaits, mapping.Commit, mapping.Child, mapping.Grouped: // one outcome follows
		case mapping.Fired:
			c.n[Matched]++
		case mapping.WasParked:
			c.n[Parked]++
		case mapping.Nothing:
			c.n[Collapsed]++
		default:
			c.n[Filtered]++
		}
	}
}

// event counts an event that is routed to endpoints.
func (t *Tally) event(ev *mapping.Event, r *routes, matched []int) {
	c := t.cell(ev.Commit, ev.Time, uint16(ev.N))
	if c == nil {
		return
	}
	if ev.Op == cdc.Read {
		c.n[Read]++
	} else {
		c.n[Made]++
	}
	if c.to == nil {
		c.to = map[string]int64{}
	}
	for _, i := range matched {
		c.to[r.streams[i].endpoint]++
	}
}

// park counts a parked change that is given to the queue.
func (t *Tally) park(p *mapping.Parked) {
	if c := t.cell(p.Commit, p.Time, uint16(p.N)); c != nil {
		c.n[Kept]++
	}
}

// Reached says that all transactions that were begun are counted to their end.
func (t *Tally) Reached() {
	if len(t.touched) == 0 {
		return
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.ready == nil {
		t.ready = map[tallyKey]*tallyCell{}
	}
	for i, c := range t.touched {
		// Several changes of a row had one outcome; or a change had several.
		if more := c.deferred - c.decided; more > 0 {
			c.n[Collapsed] += more
		} else {
			c.n[Repeated] -= more
		}
		into := t.ready[t.keys[i]]
		if into == nil {
			into = &tallyCell{}
			t.ready[t.keys[i]] = into
		}
		into.take(c)
	}
	t.touched, t.keys, t.readyTo = t.touched[:0], t.keys[:0], t.end
}

// drop forgets what was counted of open transactions.
func (t *Tally) drop() {
	for _, c := range t.touched {
		c.empty()
	}
	t.touched, t.keys, t.end = t.touched[:0], t.keys[:0], 0
}
