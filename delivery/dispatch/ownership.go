package dispatch

import (
	"cmp"
	"context"
	"maps"
	"slices"
	"time"

	"gancho/delivery/endpoint"
	"gancho/delivery/queue"
)

// leaveTimeout bounds what an owner still writes when it gives an endpoint up.
const leaveTimeout = 5 * time.Second

// leaseMargin is the part of a lease in which its owner starts nothing more,
// should it not get it renewed: clocks run at different speeds.
const leaseMargin = 10

// relookAfter is the wait when a courier could not take over what a look has
// told: somebody may have let its endpoint go on just now.
const relookAfter = 250 * time.Millisecond

// own acquires, renews and gives back leases until the context ends.
func (d *Dispatcher) own(ctx, background context.Context) {
	joined, failures := false, 0
	for ctx.Err() == nil {
		next := d.o.Lease / 3
		if err := d.lookAtAll(ctx, background); err != nil && ctx.Err() == nil {
			failures++
			if failures == 1 {
				d.log.Warn().Err(err).Msg("leases cannot be renewed now: trying again")
			}
			next = min(next, queue.Backoff(failures))
		} else if err == nil {
			if failures > 0 {
				d.log.Info().Msg("leases are renewed again")
			}
			failures = 0
			if !joined {
				joined = d.worker.WakeAll(ctx) == nil // they give some endpoints up
			}
			if d.unlearned {
				next = min(next, relookAfter)
			}
		}
		t := time.NewTimer(next)
		select {
		case <-ctx.Done():
		case <-t.C:
		case <-d.kick:
		}
		t.Stop()
	}
}

// lookAtAll renews what this process has before anything else, and whatever
// else fails: of several servers one may be away.
func (d *Dispatcher) lookAtAll(ctx, background context.Context) error {
	renewing, renewed := d.worker.Briefly(ctx, d.o.Lease/3)
	failure := d.renew(renewing)
	renewed()
	looking, looked := d.worker.Briefly(ctx, d.o.Lease/6)
	defer looked()
	processes, err := d.worker.Heartbeat(looking, d.o.Lease)
	if err != nil {
		return cmp.Or(failure, err)
	}
	return cmp.Or(failure, d.balance(looking, background, processes))
}

// owned lists the couriers that are not finishing, by name.
func (d *Dispatcher) owned() []*courier {
	d.mu.RLock()
	defer d.mu.RUnlock()
	var out []*courier
	for _, name := range slices.Sorted(maps.Keys(d.couriers)) {
		if !d.retiring[name] {
			out = append(out, d.couriers[name])
		}
	}
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
	inspect := d.unlearned
	d.unlearned = false
	until := d.leaseUntil()
	standings, err := d.worker.Renew(ctx, d.o.Lease, renewals, inspect)
	for i, c := range couriers {
		if standings[i].Err == nil {
			d.unlearned = !c.learn(standings[i], changes[i], until) || d.unlearned
		}
	}
	return err
}

// leaseUntil is when a lease that is asked for now is to be taken for expired.
func (d *Dispatcher) leaseUntil() time.Time {
	return time.Now().Add(d.o.Lease - d.o.Lease/leaseMargin)
}

// balance gives up what this process should not have, and takes what it
// should: its share, and what nobody wants.
func (d *Dispatcher) balance(ctx, background context.Context, processes int) error {
	wanted := d.wanted()
	share := (len(wanted) + processes - 1) / processes
	have := 0
	if processes != d.processes {
		d.processes = processes
		for _, c := range d.owned() {
			c.setAdopted(false) // a newcomer may know it
		}
	}
	for _, c := range d.owned() {
		switch ep, lost, adopted := d.standing(c); {
		case lost:
			d.retire(background, c, false)
		case ep == nil || ep.Order != c.lanes.order: // another order needs other lanes
			d.retire(background, c, true)
		case adopted:
		case have == share:
			d.log.Info().Str("endpoint", c.name).Int("processes", processes).Msg("endpoint given to another process")
			d.retire(background, c, true)
		default:
			have++
		}
	}
	return d.takeFree(ctx, background, wanted, share-have)
}

// standing returns what decides whether a courier goes on: its endpoint (nil:
// none is wanted), whether its lease is lost, and whether it is beyond the share.
func (d *Dispatcher) standing(c *courier) (ep *endpoint.Endpoint, lost, adopted bool) {
	d.mu.RLock()
	ep = d.endpoints[c.name]
	d.mu.RUnlock()
	if ep != nil && ep.State == endpoint.Inactive {
		ep = nil
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	return ep, c.lost, c.adopted
}

// wanted lists the endpoints that somebody has to deliver to.
func (d *Dispatcher) wanted() []string {
	d.mu.RLock()
	defer d.mu.RUnlock()
	var out []string
	for _, name := range slices.Sorted(maps.Keys(d.endpoints)) {
		if d.endpoints[name].State != endpoint.Inactive {
			out = append(out, name)
		}
	}
	return out
}

func (d *Dispatcher) takeFree(ctx, background context.Context, wanted []string, room int) error {
	var missing []string
	for _, name := range wanted {
		if d.courier(name) == nil {
			missing = append(missing, name)
		}
	}
	if len(missing) == 0 {
		return nil
	}
	free, failure := d.worker.Free(ctx, missing)
	var open []string
	for i, name := range missing {
		if free[i] {
			open = append(open, name)
		} else {
			delete(d.unowned, name)
		}
	}
	for len(open) > 0 {
		var chosen []candidate
		chosen, open = d.choose(open, room)
		taken, err := d.takeOver(ctx, background, chosen)
		failure = cmp.Or(failure, err) // the others may be on another server
		room -= taken
	}
	return failure
}

// acquireMany is how many leases are acquired at once: between two calls,
// nobody waits long for Redis.
const acquireMany = 256

// candidate is an endpoint to acquire.
type candidate struct {
	endpoint string
	adopted  bool // beyond this process's share
}

// choose returns which of the endpoints that nobody has are to be acquired now,
// and the rest of the list, which is looked at when it is known how many of
// them this process has got.
func (d *Dispatcher) choose(open []string, room int) (chosen []candidate, rest []string) {
	for i, name := range open {
		if len(chosen) == acquireMany || room > 0 && len(chosen) == room {
			return chosen, open[i:]
		}
		since, known := d.unowned[name]
		if !known {
			since = time.Now()
			d.unowned[name] = since
		}
		// The others may not know the endpoint: nobody's is taken by a process
		// that has its share, too, but after they have had time.
		adopted := room <= 0
		if adopted && time.Since(since) < d.o.Lease {
			continue
		}
		chosen = append(chosen, candidate{name, adopted})
	}
	return chosen, nil
}

// takeOver acquires endpoints, starts their couriers, and returns how many it
// has got.
func (d *Dispatcher) takeOver(ctx, background context.Context, chosen []candidate) (taken int, err error) {
	if len(chosen) == 0 {
		return 0, nil
	}
	until := d.leaseUntil()
	names := make([]string, len(chosen))
	for i, a := range chosen {
		names[i] = a.endpoint
	}
	owners, err := d.worker.Acquire(ctx, d.o.Lease, names)
	d.mu.Lock()
	defer d.mu.Unlock()
	for i, a := range chosen {
		ep := d.endpoints[a.endpoint]
		if owners[i] == nil || ep == nil { // Update has just removed it; the lease expires
			continue
		}
		d.log.Debug().Str("endpoint", a.endpoint).Msg("endpoint acquired")
		c := d.newCourier(background, ep, owners[i], until)
		c.adopted = a.adopted
		d.couriers[a.endpoint] = c
		c.start()
		delete(d.unowned, a.endpoint)
		taken++
	}
	return taken, err // what was acquired nevertheless expires
}

func (d *Dispatcher) newCourier(background context.Context, ep *endpoint.Endpoint, owner *queue.Owner, until time.Time) *courier {
	requests, abort := context.WithCancel(background)
	writes, abandon := context.WithCancel(background)
	c := &courier{
		name: ep.Name, owner: owner, sender: d.sender, o: &d.o, log: d.log,
		abort: abort, abandon: abandon, lanes: newLaneSet(ep.Order), retries: map[queue.ID]queue.Attempts{}, leaseUntil: until,
		side: feed{side: true}, notices: notices{burials: map[queue.ID]Notice{}},
	}
	c.spawn = func(f func(context.Context)) { c.running.Go(func() { f(requests) }) }
	c.spawnWriter = func(f func(context.Context)) { c.running.Go(func() { f(writes) }) }
	c.timer = time.AfterFunc(time.Hour, c.tick)
	c.timer.Stop()
	c.configure(ep)
	return c
}

// retire lets a courier finish, and gives its lease back unless it is lost.
func (d *Dispatcher) retire(background context.Context, c *courier, release bool) {
	d.mu.Lock()
	d.retiring[c.name] = true
	d.mu.Unlock()
	c.close()
	d.running.Go(func() {
		defer time.AfterFunc(d.o.DrainTimeout, c.abort).Stop()
		defer time.AfterFunc(d.o.DrainTimeout+leaveTimeout, c.abandon).Stop()
		c.running.Wait()
		c.abort()
		c.abandon()
		d.mu.Lock()
		delete(d.couriers, c.name)
		delete(d.retiring, c.name)
		d.mu.Unlock()
		if release {
			d.giveBack(background, c)
		}
	})
}

func (d *Dispatcher) giveBack(background context.Context, c *courier) {
	ctx, cancel := context.WithTimeout(background, leaveTimeout)
	defer cancel()
	if err := c.owner.Release(ctx); err != nil {
		d.log.Warn().Err(err).Str("endpoint", c.name).Msg("another process gets the endpoint only when its lease expires")
	}
}
