package api

import (
	"context"
	"errors"
	"maps"
	"net/http"
	"slices"
	"sync"
	"time"

	"gancho/internal/control"
	"gancho/internal/state"
)

// HeavyStatements is how many statements that may read very many rows are carried out at
// once: the database's connections for the API have to be more. One is kept for the
// operator, and one for those who are not greedy.
const HeavyStatements = 4

const (
	// tenantStatements are those of all tenants together, greedyStatements those of
	// tenants that are greedy, greedyOperators those of greedy tokens without a tenant.
	tenantStatements = HeavyStatements - 1
	greedyStatements = HeavyStatements - 2
	greedyOperators  = 1
	// Who uses more than greedyTime, beyond one in usedShare of the time that passes, is
	// greedy, for greedyFor at most after the last statement.
	greedyTime = 2 * time.Second
	usedShare  = 10
	greedyFor  = 10 * time.Minute
	// turnTime is how long a request waits for its first turn: longer than the statement
	// before it may take (state.Pool), and with that shorter than requestTime.
	turnTime = 30 * time.Second
)

// turns decide which statement that may read very many rows is carried out next: one of
// the owner that has used the least time lately, each with one at a time, however many it
// asks for. So owners that ask for the same take turns; and who has used much waits for
// others like it, and keeps nobody else waiting.
// It has no goroutine: whoever ends a turn grants the next ones.
type turns struct {
	now func() time.Time

	mu      sync.Mutex
	owners  map[string]*turnOwner // those that wait, run or have used time lately; guarded by mu
	waiting []*turnOwner          // those with statements that wait, by when they came; guarded by mu
	running []*turn               // guarded by mu
}

// turnOwner is whose statements take turns together.
type turnOwner struct {
	tenant  bool
	waiting []*turn
	used    time.Duration // at the time at; it shrinks as time passes
	at      time.Time
}

// turn is that of one statement.
type turn struct {
	owner   *turnOwner
	granted chan struct{} // closed when the statement may run
	greedy  bool
	began   time.Time // when it was granted, and then when the statement began
}

// greedyAt reports whether the turn is to be counted with those of the greedy.
func (t *turn) greedyAt(now time.Time) bool { return t.greedy || now.Sub(t.began) > greedyTime }

func newTurns(now func() time.Time) *turns { return &turns{now: now, owners: map[string]*turnOwner{}} }

// lately is the time that the owner has used, without the share that it may use.
func (o *turnOwner) lately(now time.Time) time.Duration {
	return max(0, o.used-now.Sub(o.at)/usedShare)
}

func (o *turnOwner) greedy(now time.Time) bool { return o.lately(now) > greedyTime }

// use adds what a statement took. Whoever comes meanwhile waits for its end: the longer it
// takes, the more do, and the longer. So its time counts squared, too, in seconds.
func (o *turnOwner) use(took time.Duration, now time.Time) {
	counted := took + time.Duration(took.Seconds()*float64(took))
	o.used, o.at = min(o.lately(now)+counted, greedyTime+greedyFor/usedShare), now
}

// ask queues a statement of the owner.
func (t *turns) ask(whose string, tenant bool) *turn {
	t.mu.Lock()
	defer t.mu.Unlock()
	o, ok := t.owners[whose]
	if !ok {
		o = &turnOwner{tenant: tenant}
		t.owners[whose] = o
	}
	if len(o.waiting) == 0 {
		t.waiting = append(t.waiting, o)
	}
	asked := &turn{owner: o, granted: make(chan struct{})}
	o.waiting = append(o.waiting, asked)
	t.grantLocked()
	return asked
}

// begin counts what a granted turn takes from now on: until now, what it was granted for has
// waited for something else.
func (t *turns) begin(granted *turn) {
	t.mu.Lock()
	defer t.mu.Unlock()
	granted.began = t.now()
}

// end ends a turn, also one that was not granted.
func (t *turns) end(ended *turn) {
	t.mu.Lock()
	defer t.mu.Unlock()
	o, now := ended.owner, t.now()
	if i := slices.Index(o.waiting, ended); i >= 0 {
		if o.waiting = slices.Delete(o.waiting, i, i+1); len(o.waiting) == 0 {
			t.waiting = slices.DeleteFunc(t.waiting, func(w *turnOwner) bool { return w == o })
		}
	}
	if i := slices.Index(t.running, ended); i >= 0 {
		t.running = slices.Delete(t.running, i, i+1)
		o.use(now.Sub(ended.began), now)
	}
	t.grantLocked()
	maps.DeleteFunc(t.owners, func(_ string, o *turnOwner) bool {
		return len(o.waiting) == 0 && o.lately(now) == 0 && !slices.ContainsFunc(t.running, func(r *turn) bool { return r.owner == o })
	})
}

// grantLocked grants the turns that there is room for.
func (t *turns) grantLocked() {
	now := t.now()
	for {
		var o *turnOwner
		for _, w := range t.waiting {
			if (o == nil || w.lately(now) < o.lately(now)) && t.roomLocked(w, now) {
				o = w
			}
		}
		if o == nil {
			return
		}
		next := o.waiting[0]
		o.waiting = o.waiting[1:]
		t.waiting = slices.DeleteFunc(t.waiting, func(w *turnOwner) bool { return w == o })
		if len(o.waiting) > 0 {
			t.waiting = append(t.waiting, o)
		}
		next.greedy, next.began = o.greedy(now), now
		t.running = append(t.running, next)
		close(next.granted)
	}
}

// roomLocked reports whether a statement of the owner may run now.
func (t *turns) roomLocked(o *turnOwner, now time.Time) bool {
	greedy, tenants, alike := o.greedy(now), 0, 0
	for _, r := range t.running {
		if r.owner == o {
			return false
		}
		if r.owner.tenant {
			tenants++
		}
		if r.greedyAt(now) && r.owner.tenant == o.tenant {
			alike++
		}
	}
	switch {
	case len(t.running) >= HeavyStatements, o.tenant && tenants >= tenantStatements:
		return false
	case greedy && o.tenant:
		return alike < greedyStatements
	}
	return !greedy || alike < greedyOperators
}

// errNoTurn: the time is up.
var errNoTurn = errors.New("no turn in time")

// wait waits for a turn, which is to be ended, until the context ends, or, with a limit, so
// long: then the error is errNoTurn.
func (t *turns) wait(ctx context.Context, a control.Actor, limit time.Duration) (granted *turn, err error) {
	asked := t.ask(owner(a), a.Tenant != "")
	var late <-chan time.Time
	if limit > 0 {
		timer := time.NewTimer(limit)
		defer timer.Stop()
		late = timer.C
	}
	select {
	case <-asked.granted:
		return asked, nil
	case <-late:
		err = errNoTurn
	case <-ctx.Done():
		err = ctx.Err()
	}
	t.end(asked)
	return nil, err
}

var (
	_ state.Turn = (*call)(nil).turn
	_ state.Turn = (*call)(nil).scan
)

// turn waits until a statement of the request that may read very many rows may be carried
// out. Meanwhile the request is none that is carried out. Only the first turn of a request
// may be refused: behind it, what was done of it is to be completed. A request to several sources, which asks many at once, has its statements one
// after the other.
func (c *call) turn(ctx context.Context) (end func(), err error) {
	c.turning.Lock()
	defer func() {
		if err != nil {
			c.turning.Unlock()
		}
	}()
	c.pause()
	limit := turnTime
	if c.turned {
		limit = 0
	}
	granted, err := c.turns.wait(ctx, c.actor, limit)
	switch {
	case errors.Is(err, errNoTurn):
		return nil, &problem{
			kind: kindBusy, header: http.Header{"Retry-After": {"10"}},
			Detail: "Others ask for very many rows, too, and this request had no turn in time. Try again later, or ask for less: name an endpoint, a key or a shorter time.",
		}
	case err != nil:
		return nil, err
	}
	err = until(c.turned, func() error { return c.resume(ctx) })
	c.turns.begin(granted)
	if err != nil {
		c.turns.end(granted)
		return nil, err
	}
	c.turned = true
	return func() {
		c.turns.end(granted)
		c.turning.Unlock()
	}, nil
}

// scan waits, as turn does, until the request may read all queues. It has no turn then, nor
// does it read while it waits for one: nobody's erasure waits for a greedy one's statements.
func (c *call) scan(ctx context.Context) (end func(), err error) {
	c.pause()
	err = until(c.scanned, func() error {
		end, err = c.erasing.begin(ctx)
		return err
	})
	if err != nil {
		return nil, err
	}
	if err := until(c.scanned, func() error { return c.resume(ctx) }); err != nil {
		end()
		return nil, err
	}
	c.scanned = true
	return end, nil
}

// until calls wait, and again as long as too many wait, if the request has begun: it is not
// refused half-way.
func until(begun bool, wait func() error) error {
	err := wait()
	for begun && isBusy(err) {
		err = wait()
	}
	return err
}
