package bridge

import (
	"context"
	"slices"
	"sync"
)

// pageSlots let some jobs send a page at once, which is in memory meanwhile. Next is the job
// of the tenant that has the fewest slots, and of those the one that has waited longest; one
// slot is left to other tenants. So a tenant's many jobs do not hold up another's few.
type pageSlots struct {
	slots int

	mu      sync.Mutex
	taken   map[string]int // by tenant; guarded by mu
	total   int            // guarded by mu
	waiting []*pageWaiter  // those that have waited longest first; guarded by mu
}

// pageWaiter is a job that waits for a slot.
type pageWaiter struct {
	tenant  string
	granted chan struct{} // closed when it has one
}

func newPageSlots(slots int) *pageSlots { return &pageSlots{slots: slots, taken: map[string]int{}} }

// take waits for a slot for a job of the tenant ("": the operator), which gives it back.
func (p *pageSlots) take(ctx context.Context, tenant string) error {
	w := &pageWaiter{tenant, make(chan struct{})}
	p.mu.Lock()
	p.waiting = append(p.waiting, w)
	p.grantLocked()
	p.mu.Unlock()
	select {
	case <-w.granted:
		return nil
	case <-ctx.Done():
	}
	p.mu.Lock()
	i := slices.Index(p.waiting, w)
	if i >= 0 {
		p.waiting = slices.Delete(p.waiting, i, i+1)
	}
	p.mu.Unlock()
	if i < 0 { // it was granted meanwhile
		p.give(tenant)
	}
	return ctx.Err()
}

// give gives the slot of a job of the tenant to another one.
func (p *pageSlots) give(tenant string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.total--
	if p.taken[tenant]--; p.taken[tenant] == 0 {
		delete(p.taken, tenant)
	}
	p.grantLocked()
}

func (p *pageSlots) grantLocked() {
	for p.total < p.slots && len(p.waiting) > 0 {
		next := 0
		for i, w := range p.waiting {
			if p.taken[w.tenant] < p.taken[p.waiting[next].tenant] {
				next = i
			}
		}
		w := p.waiting[next]
		if p.taken[w.tenant] >= p.slots-1 {
			return
		}
		p.waiting = slices.Delete(p.waiting, next, next+1)
		p.taken[w.tenant]++
		p.total++
		close(w.granted)
	}
}
