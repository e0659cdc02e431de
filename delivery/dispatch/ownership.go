package dispatch

import (
	"cmp"
	"context"
	"maps"
	"slices"
	"strings"
	"time"

	"gancho/delivery/endpoint"
	"gancho/delivery/queue"
)

// leaveTimeout bounds what an owner still writes when it gives an endpoint back.
const leaveTimeout = 5 * time.Second

// leaseMargin is the part of a lease in which its owner starts nothing more if
// it was not renewed: clocks run at different speeds.
const leaseMargin = 10

// rescanAfter is the wait when a courier could not adopt what a renewal has
// returned: somebody may have resumed its endpoint just now.
const rescanAfter = 250 * time.Millisecond

// acquireMany bounds the leases of one call, so that nobody waits long for Redis.
const acquireMany = 256

func (d *Dispatcher) own(ctx, background context.Context) {
	joined, failures := false, 0
	for ctx.Err() == nil {
		next := d.o.Lease / 3
		if err := d.renewAndBalance(ctx, background); err != nil && ctx.Err() == nil {
			failures++
			if failures == 1 {
				d.log.Warn().Err(err).Msg("leases not renewed: trying again")
			}
			next = min(next, d.o.Lease/6, queue.Backoff(failures))
		} else if err == nil {
			if failures > 0 {
				d.log.Info().Msg("leases are renewed again")
			}
			failures = 0
			if !joined {
				joined = d.worker.WakeAll(ctx) == nil // they give some endpoints back
			}
			if d.outdated {
				next = min(next, rescanAfter)
			}
		}
		select {
		case <-ctx.Done():
		case <-time.After(next):
		case <-d.rescan:
		}
	}
}

// renewAndBalance renews what this process has before anything else, and
// whatever else fails: of several servers one may be unreachable.
func (d *Dispatcher) renewAndBalance(ctx, background context.Context) error {
	renewing, renewed := d.worker.Briefly(ctx, d.o.Lease/3)
	failure := d.renew(renewing)
	renewed()
	balancing, balanced := d.worker.Briefly(ctx, d.o.Lease/6)
	defer balanced()
	processes, err := d.worker.Heartbeat(balancing, d.o.Lease)
	if err != nil {
		return cmp.Or(failure, err)
	}
	return cmp.Or(failure, d.balance(balancing, background, processes))
}

// owned lists the couriers that are not finishing, by name.
func (d *Dispatcher) owned() []*courier {
	d.mu.RLock()
	defer d.mu.RUnlock()
	out := make([]*courier, 0, len(d.couriers)) // thousands, twice a second
	for name, c := range d.couriers {
		if !d.retiring[name] {
			out = append(out, c)
		}
	}
	slices.SortFunc(out, func(a, b *courier) int { return strings.Compare(a.name, b.name) })
	return out
}

func (d *Dispatcher) renew(ctx context.Context) error {
	d.mu.RLock()
	couriers := slices.Collect(maps.Values(d.couriers)) // one that is finishing needs its lease still
	d.mu.RUnlock()
	if len(couriers) == 0 {
		return nil
	}
	renewals, changes := make([]queue.Renewal, len(couriers)), make([]int, len(couriers))
	for i, c := range couriers {
		renewals[i], changes[i] = c.renewal()
	}
	inspect := d.outdated
	d.outdated = false
	asked, until := time.Now(), d.leaseUntil()
	standings, err := d.worker.Renew(ctx, d.o.Lease, renewals, inspect)
	for i, c := range couriers {
		if standings[i].Err == nil {
			d.outdated = !c.applyStanding(standings[i], changes[i], asked, until) || d.outdated
		}
	}
	return err
}

// leaseUntil is when a lease that is asked for now counts as expired.
func (d *Dispatcher) leaseUntil() time.Time {
	return time.Now().Add(d.o.Lease - d.o.Lease/leaseMargin)
}

// balance gives back what this process should not have, and acquires what it
// should: its share, and what no process wants.
func (d *Dispatcher) balance(ctx, background context.Context, processes int) error {
	wanted := d.wanted()
	share := (len(wanted) + processes - 1) / processes
	have := 0
	newcomers := processes != d.processes
	d.processes = processes
	for _, c := range d.owned() {
		switch ep, l := d.holding(c, newcomers); {
		case l.lost:
			d.retire(background, c, false)
		case ep == nil || !c.fits(ep): // another order needs other lanes
			d.retire(background, c, true)
		case l.elsewhere:
			d.log.Warn().Str("endpoint", c.name).Msg("endpoint not delivered by this process any more: " + queue.ErrNoOverflow.Error())
			d.retire(background, c, true)
		case l.adopted:
		case have == share:
			d.log.Info().Str("endpoint", c.name).Int("processes", processes).Msg("endpoint given to another process")
			d.retire(background, c, true)
		default:
			have++
		}
	}
	return d.acquireFree(ctx, wanted, share-have)
}

// holding returns a courier's endpoint (nil: it is not wanted) and lease. No lease
// stays beyond the process's share when there are newcomers: one may know the endpoint.
func (d *Dispatcher) holding(c *courier, newcomers bool) (*endpoint.Endpoint, lease) {
	d.mu.RLock()
	ep := d.endpoints[c.name]
	if ep != nil && !d.wantedLocked(ep) {
		ep = nil
	}
	d.mu.RUnlock()
	c.mu.Lock()
	defer c.mu.Unlock()
	c.lease.adopted = c.lease.adopted && !newcomers
	return ep, c.lease
}

// wanted lists the endpoints that some process has to have.
func (d *Dispatcher) wanted() []string {
	d.mu.RLock()
	defer d.mu.RUnlock()
	out := make([]string, 0, len(d.endpoints))
	for name, ep := range d.endpoints {
		if d.wantedLocked(ep) {
			out = append(out, name)
		}
	}
	slices.Sort(out)
	return out
}

func (d *Dispatcher) acquireFree(ctx context.Context, wanted []string, room int) error {
	missing := slices.DeleteFunc(wanted, func(name string) bool { return d.courier(name) != nil })
	defer d.noteLeft(missing)
	if len(missing) == 0 {
		d.unowned = map[string]time.Time{} // one that had thousands keeps their room
		return nil
	}
	free, failure := d.worker.Free(ctx, missing)
	now := time.Now()
	var unowned []string
	for i, name := range missing {
		if !free[i] {
			delete(d.unowned, name)
			continue
		}
		if _, known := d.unowned[name]; !known {
			d.unowned[name] = now
		}
		unowned = append(unowned, name)
	}
	for len(unowned) > 0 {
		n, adopted := min(len(unowned), acquireMany), room <= 0
		if !adopted {
			n = min(n, room)
		}
		chosen := unowned[:n]
		unowned = unowned[n:]
		if adopted {
			// The others may not know the endpoint: what no process wants is acquired
			// by one that has its share, too, but after the others have had time.
			chosen = slices.DeleteFunc(chosen, func(name string) bool { return time.Since(d.unowned[name]) < d.o.Lease })
		}
		acquired, err := d.acquire(ctx, chosen, adopted)
		failure = cmp.Or(failure, err) // the others may be on another server
		room -= acquired
	}
	return failure
}

// leftLeases is after how many leases nobody is expected to acquire an endpoint that this process
// has left to others.
const leftLeases = 3

// noteLeft notes which of the missing endpoints Left returns.
func (d *Dispatcher) noteLeft(missing []string) {
	left := slices.DeleteFunc(slices.Clone(missing), func(name string) bool {
		since, unowned := d.unowned[name]
		return !unowned || time.Since(since) < leftLeases*d.o.Lease || !d.worker.Elsewhere(name)
	})
	d.mu.Lock()
	defer d.mu.Unlock()
	d.left = left
}

// Left returns the endpoints, sorted, that no process has, and this one may not, since it has no
// Overflow: see queue.ErrNoOverflow.
func (d *Dispatcher) Left() []string {
	d.mu.RLock()
	defer d.mu.RUnlock()
	return slices.Clone(d.left)
}

// acquire acquires endpoints, starts their couriers, and returns how many.
func (d *Dispatcher) acquire(ctx context.Context, names []string, adopted bool) (acquired int, err error) {
	if len(names) == 0 {
		return 0, nil
	}
	until := d.leaseUntil()
	owners, err := d.worker.Acquire(ctx, d.o.Lease, names)
	d.mu.Lock()
	defer d.mu.Unlock()
	for i, name := range names {
		ep := d.endpoints[name]
		if owners[i] == nil || ep == nil { // Update has just removed it; the lease expires
			continue
		}
		d.log.Debug().Str("endpoint", name).Msg("endpoint acquired")
		c := newCourier(&d.means, ep, owners[i], lease{until: until, adopted: adopted})
		d.couriers[name] = c
		c.wake(false)
		delete(d.unowned, name)
		acquired++
	}
	return acquired, err // what was acquired nevertheless expires
}

// retire lets a courier finish, and gives its lease back unless it is lost.
func (d *Dispatcher) retire(background context.Context, c *courier, release bool) {
	d.mu.Lock()
	d.retiring[c.name] = true
	d.mu.Unlock()
	activity := c.close()
	atOnce := release && activity == nil // with all others that have nothing to finish
	if atOnce {
		d.releasing.Add(1)
	}
	d.running.Go(func() {
		c.finish(activity)
		d.mu.Lock()
		delete(d.couriers, c.name)
		delete(d.retiring, c.name)
		d.mu.Unlock()
		if !release {
			return
		}
		ctx, cancel := context.WithTimeout(background, leaveTimeout)
		defer cancel()
		if !atOnce {
			d.releasing.Add(1)
		}
		if err := c.owner.Release(ctx); err != nil {
			d.log.Warn().Err(err).Str("endpoint", c.name).Msg("lease not given back: another process gets the endpoint when it expires")
		}
		if d.releasing.Add(-1) == 0 { // else who is the last wakes the others for all: each wake has them inspect everything
			waking, done := context.WithTimeout(background, leaveTimeout)
			defer done()
			_ = d.worker.WakeAll(waking) // without it they look within a third of a lease
		}
	})
}
