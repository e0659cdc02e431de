package dispatch

import (
	"math"
	"runtime"
	"runtime/metrics"
	"slices"
	"sync"
	"time"
)

// gate limits the requests that are made out of backlogs, over all endpoints of a process, while the process is short of processor time: who
// is behind sends in turns then. Otherwise thousands of requests and answers are ahead of each new event, on its way from
// PostgreSQL, to Redis and to its receiver, and none of them is done sooner for it. It is safe for concurrent use.
//
// A request counts for no longer than gateCounts periods: one whose receiver takes its time does not need the processor, and must not keep
// other endpoints from sending.
type gate struct {
	measure func() delays // since it was called last

	mu       sync.Mutex
	limit    int             // of inFlight; a turn may exceed it by what it begins with
	inFlight int             // requests that count
	counted  [gateCounts]int // of them, by the period in which they began
	period   uint64          // from 1
	waiting  []*turn         // those that have waited longest first
	missed   bool            // somebody has waited since the limit was adjusted
	answered int             // requests since then
	late     float64         // of them together, which part of its time each took longer than necessary
	timer    *time.Timer
	running  bool      // the timer is
	passed   time.Time // up to when periods have passed
}

// turn is a courier at the gate; guarded by the gate's mutex. In its turn, it may send although others wait.
type turn struct {
	admit func() // it is its turn; called without locks, in a goroutine of others
	waits bool
	left  int    // requests
	began uint64 // the period
}

// slot is the period in which a request, or a worker that will make one, began to count; 0: it does not.
type slot uint64

const (
	gatePeriod = 2 * time.Millisecond
	gateCounts = 6  // periods, at the most
	gateLasts  = 20 // periods of a turn, at the most
	gateAdjust = 50 // periods between two adjustments of the limit
	// gateForgets is after how long without requests the limit begins anew: it was right for other receivers.
	gateForgets = time.Second
	// gateTurn is the least requests of a turn, and gateRounds how often each of its workers sends. Acknowledgements, and reading,
	// are dearer the fewer events they are of.
	gateTurn, gateRounds = 64, 4
	// gateLeast is the least limit, for each processor, and where it begins: what keeps receivers without any delay busy.
	gateLeast = 32
	gateMost  = 1 << 20

	// A goroutine that can run waits for a processor as long as those ahead of it run, a few dozens of µs each. The process is short of
	// processor time when one in ten waits for longer than gateLong, and not when nine in ten do not wait for gateShort.
	gateLong, gateShort = time.Millisecond, time.Millisecond / 2
)

func newGate(measure func() delays) *gate {
	return &gate{measure: measure, period: 1}
}

func gateFloor() int { return gateLeast * runtime.GOMAXPROCS(0) }

func (g *gate) inTurnLocked(t *turn) bool { return t.left > 0 && g.period-t.began < gateLasts }

// mayLocked reports whether somebody may send now as far as others are concerned.
func (g *gate) mayLocked(t *turn) bool { return g.aloneLocked(t) || g.inTurnLocked(t) }

// aloneLocked reports whether nobody else waits.
func (g *gate) aloneLocked(t *turn) bool {
	return len(g.waiting) == 0 || len(g.waiting) == 1 && t.waits
}

// take lets a courier begin up to n requests. If it gets fewer, it waits for its turn.
func (g *gate) take(t *turn, n int) (taken int, s slot) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.runLocked()
	if g.mayLocked(t) && g.inFlight < g.limit {
		taken = min(n, g.limit)
		if g.aloneLocked(t) {
			g.beginLocked(t)
		}
		if t.left == gateTurn { // it begins
			t.left = max(gateTurn, gateRounds*taken)
		}
		t.left = max(t.left-taken, 0)
		s = g.countLocked(taken)
	}
	if taken < n {
		g.waitLocked(t)
	}
	return taken, s
}

// countLocked has n requests begin.
func (g *gate) countLocked(n int) slot {
	g.inFlight += n
	g.counted[g.period%gateCounts] += n
	return slot(g.period)
}

func (g *gate) beginLocked(t *turn) { t.left, t.began = gateTurn, g.period }

func (g *gate) waitLocked(t *turn) {
	g.missed = true
	switch {
	case t.waits:
		return
	case t.left == gateTurn && g.inTurnLocked(t): // others have used the room that its turn began with
		g.waiting = slices.Insert(g.waiting, 0, t)
	default:
		g.waiting = append(g.waiting, t)
	}
	t.waits = true
}

// give ends a request; true: admit has to be called then, without locks.
func (g *gate) give(s slot) (room bool) {
	if s == 0 {
		return false
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	g.giveLocked(s)
	return g.roomLocked()
}

func (g *gate) giveLocked(s slot) {
	if g.period-uint64(s) < gateCounts {
		g.inFlight--
		g.counted[s%gateCounts]--
	}
}

// roomLocked reports whether somebody who waits may begin a turn.
func (g *gate) roomLocked() bool { return len(g.waiting) > 0 && g.inFlight < g.limit }

// renew ends a request, which took so long, and that much longer than necessary, and lets the courier begin its next one; 0: it waits for
// its turn. room: as give returns it.
func (g *gate) renew(t *turn, s slot, took, late time.Duration) (next slot, room bool) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.runLocked() // it rests when all requests are older than those that count
	if took > 0 {
		g.answered++
		g.late += float64(late) / float64(took)
	}
	g.giveLocked(s)
	if g.inTurnLocked(t) || g.aloneLocked(t) && g.inFlight < g.limit {
		t.left--
		next = g.countLocked(1)
	} else {
		g.waitLocked(t)
	}
	return next, g.roomLocked()
}

// admit begins turns as long as there is room. It is called without locks of couriers.
func (g *gate) admit() {
	for t := g.next(); t != nil; t = g.next() {
		t.admit()
	}
}

// next begins the turn of who has waited longest, or returns nil. Who sends nothing any more lets its turn pass, and is gone.
func (g *gate) next() *turn {
	g.mu.Lock()
	defer g.mu.Unlock()
	if !g.roomLocked() {
		return nil
	}
	t := g.waiting[0]
	g.waiting[0] = nil
	g.waiting = g.waiting[1:]
	t.waits = false
	g.beginLocked(t)
	return t
}

// runLocked has periods pass while requests count or somebody waits.
func (g *gate) runLocked() {
	if g.running {
		return
	}
	now := time.Now()
	if g.timer == nil {
		g.timer = time.AfterFunc(gatePeriod, g.tick)
	} else {
		g.timer.Reset(gatePeriod)
	}
	if now.Sub(g.passed) > gateForgets {
		g.limit = gateFloor()
	}
	g.running, g.passed = true, now
	g.measure()
}

// tick has the periods pass whose time has come: while the process is short of processor time, so is the timer.
func (g *gate) tick() {
	g.mu.Lock()
	now := time.Now()
	periods := int(now.Sub(g.passed) / gatePeriod)
	g.passed = g.passed.Add(time.Duration(periods) * gatePeriod)
	for range min(periods, gateLasts) {
		g.passLocked()
	}
	if g.running = g.inFlight+len(g.waiting) > 0; g.running {
		g.timer.Reset(gatePeriod)
	}
	g.mu.Unlock()
	g.admit()
}

// passLocked begins the next period, and adjusts the limit if it is time.
func (g *gate) passLocked() {
	g.period++
	expired := &g.counted[g.period%gateCounts]
	g.inFlight -= *expired
	*expired = 0
	if g.period%gateAdjust == 0 {
		d := g.measure()
		g.limit = adjusted(g.limit, gateFloor(), d.quantile(0.9), g.late/float64(max(g.answered, 1)), g.missed)
		g.missed, g.answered, g.late = len(g.waiting) > 0, 0, 0
	}
}

// adjusted returns the limit that follows a limit. late is which part of its time a request took longer than necessary, in the mean: where that
// is more than half, fewer in flight would do, if it was this process that they waited for. missed: somebody had to wait.
func adjusted(limit, floor int, delay time.Duration, late float64, missed bool) int {
	switch {
	case delay > gateLong && late > 0.5:
		return max(limit*3/4, floor)
	case missed && (delay < gateShort || late <= 0.5):
		return min(limit*5/4, gateMost)
	}
	return limit
}

// fastest is about the least time that a receiver takes for a request.
type fastest time.Duration

// late notes how long a request took, and returns how much longer that is than necessary.
func (f *fastest) late(took time.Duration) time.Duration {
	const forget = 1024 // it rises by one part in so many with each request, because receivers change
	if *f += *f / forget; *f == 0 || took < time.Duration(*f) {
		*f = fastest(took)
	}
	return took - time.Duration(*f)
}

// delays is how long goroutines have waited for a processor: how many for about at[i] seconds.
type delays struct {
	counts []uint64
	at     []float64
}

// quantile returns what part of the delays are at most; 0: there was none.
func (d *delays) quantile(part float64) time.Duration {
	all, seen := uint64(0), uint64(0)
	for _, n := range d.counts {
		all += n
	}
	want := uint64(math.Ceil(part * float64(all)))
	for i, n := range d.counts {
		if seen += n; seen >= want && n > 0 {
			return time.Duration(max(0, d.at[i]) * float64(time.Second))
		}
	}
	return 0
}

// schedulerDelays returns a function that returns the delays of this process since its last call.
func schedulerDelays() func() delays {
	sample := []metrics.Sample{{Name: "/sched/latencies:seconds"}}
	var last, counts []uint64
	return func() delays {
		metrics.Read(sample)
		h := sample[0].Value.Float64Histogram()
		if last == nil {
			last, counts = make([]uint64, len(h.Counts)), make([]uint64, len(h.Counts))
		}
		for i, n := range h.Counts {
			counts[i], last[i] = n-last[i], n
		}
		return delays{counts, h.Buckets}
	}
}
