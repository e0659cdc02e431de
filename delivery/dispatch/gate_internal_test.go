package dispatch

import (
	"math/rand/v2"
	"slices"
	"testing"
	"time"

	"gancho/delivery/endpoint"
	"gancho/delivery/queue/queuetest"
)

// stillGate is a gate with a limit, for which no time passes but by pass.
func stillGate(limit int) *gate {
	g := newGate(func() delays { return delays{} })
	g.limit, g.running = limit, true
	return g
}

// pass has periods pass.
func (g *gate) pass(periods int) {
	for range periods {
		g.mu.Lock()
		g.passLocked()
		g.mu.Unlock()
		g.admit()
	}
}

// queuer is somebody at a gate who always has more to send than it lets him.
type queuer struct {
	gate  *gate
	turn  turn
	most  int // requests at a time
	slots []slot
	sent  int
}

func newQueuer(g *gate, most int) *queuer {
	q := &queuer{gate: g, most: most}
	q.turn.admit = q.begin
	return q
}

func (q *queuer) begin() {
	n, s := q.gate.take(&q.turn, q.most-len(q.slots))
	q.slots = append(q.slots, slices.Repeat([]slot{s}, n)...)
}

// answer ends the oldest request, and begins another if it may.
func (q *queuer) answer() {
	s := q.slots[0]
	q.slots = q.slots[1:]
	q.sent++
	next, room := q.gate.renew(&q.turn, s, time.Millisecond, 0)
	if next != 0 {
		q.slots = append(q.slots, next)
	}
	if room {
		q.gate.admit()
	}
}

// The limit falls while goroutines wait for a processor and requests take longer than they need, and rises while somebody waits and that is not so.
func TestGateLimit(t *testing.T) {
	t.Parallel()
	const floor = 64
	for name, c := range map[string]struct {
		limit  int
		delay  time.Duration
		late   float64
		missed bool
		want   int
	}{
		"short of processor time":             {400, 2 * gateLong, 0.9, true, 300},
		"not below the floor":                 {70, 2 * gateLong, 0.9, true, floor},
		"receivers take their time":           {400, 2 * gateLong, 0.1, true, 500},
		"receivers are slow, processors idle": {400, gateShort / 2, 0.9, true, 500},
		"between the two":                     {400, (gateLong + gateShort) / 2, 0.9, true, 400},
		"nobody waits":                        {400, 0, 0, false, 400},
		"at the most":                         {gateMost, 0, 0, true, gateMost},
	} {
		if got := adjusted(c.limit, floor, c.delay, c.late, c.missed); got != c.want {
			t.Errorf("%s: %d becomes %d, want %d", name, c.limit, got, c.want)
		}
	}
}

// What the gate has measured is what it adjusts its limit by, once in so many periods.
func TestGateAdjusts(t *testing.T) {
	t.Parallel()
	floor := gateFloor()
	g := stillGate(8 * floor)
	g.measure = func() delays { // one in eight waits long
		return delays{[]uint64{7, 0, 1, 0}, []float64{0, 1e-6, 5e-3, 1}}
	}
	q := newQueuer(g, 1)
	q.begin()
	g.late, g.answered = 9, 10
	g.pass(gateAdjust - 2)
	if g.limit != 8*floor {
		t.Errorf("the limit is %d before it is time", g.limit)
	}
	if g.pass(1); g.limit != 6*floor {
		t.Errorf("the limit is %d, want %d", g.limit, 6*floor)
	}
	if g.pass(gateAdjust); g.limit != 6*floor {
		t.Errorf("the limit is %d after nobody waited and nothing was sent, want %d", g.limit, 6*floor)
	}
}

// Who has waited longest is next, everybody gets about as much, and what is in flight exceeds the limit by no more than a turn begins with.
func TestGateTurns(t *testing.T) {
	t.Parallel()
	const limit, most, couriers, answers = 10, 4, 20, 10_000
	g := stillGate(limit)
	all := make([]*queuer, couriers)
	for i := range all {
		all[i] = newQueuer(g, most)
		all[i].begin()
	}
	random, peak := rand.New(rand.NewPCG(1, 1)), 0
	for range answers {
		next := random.IntN(couriers)
		for tried := 0; len(all[next].slots) == 0; tried++ {
			if next = (next + 1) % couriers; tried == couriers {
				t.Fatal("nobody sends, and everybody waits")
			}
		}
		all[next].answer()
		peak = max(peak, g.inFlight)
	}
	if peak < limit || peak >= limit+most {
		t.Errorf("%d requests at once; the limit is %d, and a turn begins with %d", peak, limit, most)
	}
	least, greatest := answers, 0
	for _, q := range all {
		least, greatest = min(least, q.sent), max(greatest, q.sent)
	}
	if least < answers/couriers-2*gateTurn || greatest > answers/couriers+2*gateTurn {
		t.Errorf("of %d requests each, one has sent %d and another %d", answers/couriers, least, greatest)
	}
}

// Requests of receivers that do not answer keep others from sending for some periods only, and end no other's request when they end.
func TestGateForgetsSlowRequests(t *testing.T) {
	t.Parallel()
	g := stillGate(2)
	mute, other := newQueuer(g, 2), newQueuer(g, 2)
	mute.begin()
	if other.begin(); len(other.slots) > 0 {
		t.Fatal("the gate has no limit")
	}
	if g.pass(gateCounts - 1); len(other.slots) > 0 {
		t.Error("a request is forgotten early")
	}
	if g.pass(1); len(other.slots) != 2 {
		t.Fatalf("the other sends %d requests, want 2", len(other.slots))
	}
	for len(mute.slots) > 0 {
		mute.answer()
	}
	if g.inFlight != 2 {
		t.Errorf("%d requests count, want the two of the other", g.inFlight)
	}
	// A turn ends with time, too, if its requests take long.
	third := newQueuer(g, 1)
	third.begin()
	g.pass(gateLasts)
	if third.sent+len(third.slots) == 0 {
		t.Error("a turn lasts as long as its requests do")
	}
}

// Who is alone sends as much as the limit allows, whether it wants more or not, and gets more when the limit rises.
func TestGateAlone(t *testing.T) {
	t.Parallel()
	g := stillGate(8)
	q := newQueuer(g, 20)
	q.begin()
	for range 10 * gateTurn {
		if q.answer(); len(q.slots) != 8 {
			t.Fatalf("%d requests in flight, want 8", len(q.slots))
		}
	}
	g.limit = 30
	g.pass(1)
	if len(q.slots) != 20 {
		t.Errorf("%d requests in flight, want all 20", len(q.slots))
	}
}

// Who has ended, or sends nothing when it is its turn, holds up nobody.
func TestGateForgetsTheEnded(t *testing.T) {
	t.Parallel()
	g := stillGate(1)
	first, ended, last := newQueuer(g, 1), newQueuer(g, 1), newQueuer(g, 1)
	for _, q := range []*queuer{first, ended, last} {
		q.begin()
	}
	ended.turn.admit = func() {}
	if g.give(first.slots[0]) {
		g.admit()
	}
	if len(last.slots) != 1 || len(g.waiting) != 0 {
		t.Errorf("%d requests of the last one, %d wait; want 1 and none", len(last.slots), len(g.waiting))
	}
	if g.give(0) || g.inFlight != 1 {
		t.Errorf("%d requests count after a worker without a slot has ended, want 1", g.inFlight)
	}
}

// Who comes while others wait waits behind them, although there is room.
func TestGateNewcomers(t *testing.T) {
	t.Parallel()
	g := stillGate(1)
	first, second, newcomer := newQueuer(g, 1), newQueuer(g, 1), newQueuer(g, 1)
	first.begin()
	second.begin()
	if room := g.give(first.slots[0]); !room {
		t.Fatal("there is no room after the only request")
	}
	if newcomer.begin(); len(newcomer.slots) > 0 {
		t.Error("a newcomer goes before who waits")
	}
	g.admit()
	if len(second.slots) != 1 || len(newcomer.slots) != 0 {
		t.Errorf("%d requests of who has waited, %d of the newcomer; want 1 and none", len(second.slots), len(newcomer.slots))
	}
}

// Periods pass while requests count or somebody waits, and no longer.
func TestGateRests(t *testing.T) {
	t.Parallel()
	g := newGate(func() delays { return delays{} })
	admitted := make(chan struct{}, 1)
	first, second := turn{}, turn{admit: func() { admitted <- struct{}{} }}
	if n, _ := g.take(&first, gateFloor()); n != gateFloor() {
		t.Fatalf("%d requests are let in, and the limit begins with %d", n, gateFloor())
	}
	if n, _ := g.take(&second, 1); n != 0 {
		t.Fatal("the gate has no limit")
	}
	<-admitted // although the first one's request does not end
	queuetest.Eventually(t, "the timer to stop", func() bool {
		g.mu.Lock()
		defer g.mu.Unlock()
		return !g.running && g.inFlight == 0
	})
}

// Receivers that take longer than a request counts let the gate rest; their answers have periods pass again, or nobody would let others in.
func TestGateWakesWithAnswers(t *testing.T) {
	t.Parallel()
	g := newGate(func() delays { return delays{} })
	slow := newQueuer(g, gateFloor())
	slow.begin()
	queuetest.Eventually(t, "the gate to rest", func() bool {
		g.mu.Lock()
		defer g.mu.Unlock()
		return !g.running
	})
	for range slow.most {
		slow.answer()
	}
	if len(slow.slots) != slow.most {
		t.Fatalf("%d requests go on, want %d", len(slow.slots), slow.most)
	}
	admitted := make(chan struct{}, 1)
	other := turn{admit: func() { admitted <- struct{}{} }}
	g.take(&other, 1)
	<-admitted // although nobody answers any more
}

// A period is as long as it is although the timer rings late, as it does while the process is short of processor time.
func TestGateKeepsTime(t *testing.T) {
	t.Parallel()
	g := stillGate(2)
	g.timer = time.AfterFunc(time.Hour, func() {})
	defer g.timer.Stop()
	mute, other := newQueuer(g, 2), newQueuer(g, 2)
	mute.begin()
	other.begin()
	g.passed = time.Now().Add(-gateCounts * gatePeriod)
	if g.tick(); len(other.slots) != 2 {
		t.Errorf("the other sends %d requests after all periods that a request counts for have passed, want 2", len(other.slots))
	}
}

// Who has more than a turn, or more than its memory has room for, is behind until all is read and little is left; who has a rate never is.
func TestWhoIsBehind(t *testing.T) {
	t.Parallel()
	type have struct {
		bodies int
		unread bool
	}
	for name, c := range map[string]struct {
		ep   endpoint.Endpoint
		seen []have
		want []bool
	}{
		"few events":          {endpoint.Endpoint{Concurrency: 16}, []have{{32, false}, {64, false}}, []bool{false, false}},
		"a backlog":           {endpoint.Endpoint{Concurrency: 16}, []have{{65, false}, {64, false}, {17, false}, {16, false}, {64, false}}, []bool{true, true, true, false, false}},
		"two rounds are more": {endpoint.Endpoint{Concurrency: 50}, []have{{100, false}, {101, false}, {51, false}, {50, false}}, []bool{false, true, true, false}},
		"large events":        {endpoint.Endpoint{Concurrency: 16}, []have{{16, true}, {17, true}, {1, true}, {16, false}}, []bool{false, true, true, false}},
		"one at a time":       {endpoint.Endpoint{Concurrency: 16, Order: endpoint.OrderEndpoint}, []have{{64, false}, {65, false}, {2, false}, {1, false}}, []bool{false, true, true, false}},
		"a rate":              {endpoint.Endpoint{Concurrency: 16, Rate: 50}, []have{{1000, true}}, []bool{false}},
	} {
		k := &courier{ep: &c.ep, activity: &activity{lanes: newLaneSet(&c.ep, newClasses(), &memory{})}}
		k.sending.limiter = newLimiter(c.ep.Rate)
		k.reading.side.end = true
		for i, h := range c.seen {
			k.lanes.main.bodies, k.reading.main.end = h.bodies, !h.unread
			if got := k.behindLocked(); got != c.want[i] {
				t.Errorf("%s: with %d events, unread %t: %t, want %t", name, h.bodies, h.unread, got, c.want[i])
			}
		}
	}
}

func TestDelaysQuantile(t *testing.T) {
	t.Parallel()
	d := delays{[]uint64{5, 0, 4, 1}, []float64{-1, 1e-6, 1e-3, 2}}
	for part, want := range map[float64]time.Duration{0.5: 0, 0.6: time.Millisecond, 0.9: time.Millisecond, 0.91: 2 * time.Second, 1: 2 * time.Second} {
		if got := d.quantile(part); got != want {
			t.Errorf("quantile %g is %s, want %s", part, got, want)
		}
	}
	if got := (&delays{}).quantile(0.9); got != 0 {
		t.Errorf("the quantile of nothing is %s", got)
	}
}

// Only what came since the last call counts.
func TestSchedulerDelays(t *testing.T) {
	measure := schedulerDelays()
	count := func() (n uint64) {
		for _, c := range measure().counts {
			n += c
		}
		return n
	}
	count()
	const goroutines = 5000 // the runtime measures some of them
	done := make(chan struct{})
	for range goroutines {
		go func() { done <- struct{}{} }()
	}
	for range goroutines {
		<-done
	}
	busy := count()
	if idle := count(); busy == 0 || idle >= busy {
		t.Errorf("%d delays with %d goroutines, and %d without", busy, goroutines, idle)
	}
}

// The least time that a receiver takes is learned immediately, and forgotten slowly.
func TestFastest(t *testing.T) {
	t.Parallel()
	var f fastest
	if late := f.late(20 * time.Millisecond); late != 0 {
		t.Errorf("the first request is late by %s", late)
	}
	if late := f.late(30 * time.Millisecond); late < 9*time.Millisecond || late > 10*time.Millisecond {
		t.Errorf("a request of 30 ms is late by %s where 20 are enough", late)
	}
	if late := f.late(time.Millisecond); late != 0 {
		t.Errorf("the fastest request is late by %s", late)
	}
	for range 1000 {
		f.late(time.Second)
	}
	if f < fastest(2*time.Millisecond) || f > fastest(4*time.Millisecond) {
		t.Errorf("after 1000 requests of a receiver that has become slow, 1 ms has become %s", time.Duration(f))
	}
}
