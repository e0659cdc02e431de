package bridge

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"gancho/delivery/endpoint"
	"gancho/delivery/queue"
	"gancho/internal/control"
)

const (
	// quotasEvery is the time between two looks at the backlogs, overQuotaEvery between two
	// while a quota is passed, overflowEvery while events move, quotaAgain between two
	// reports of one that stays passed.
	quotasEvery    = 2 * time.Minute
	overQuotaEvery = 10 * time.Second
	overflowEvery  = time.Second
	quotaAgain     = time.Hour
	// quotaPart: backlogs are measured again when so large a part of the smallest quota was appended.
	quotaPart = 8
)

// excesses are the quotas of backlogs that are passed. Events of the endpoints are queued
// and delivered as ever, the oldest of them by way of the state database: what waits is what people
// ask for on top, resends and redrives.
type excesses struct {
	wake     chan struct{} // capacity 1: somebody has measured them
	due      chan struct{} // capacity 1: they are to be measured now
	stuck    stuckMoves
	full     atomic.Bool  // Redis has refused events since
	moving   atomic.Bool  // some are to move to the state database
	appended atomic.Int64 // events and bytes, as parts of the quotas, since
	mu       sync.Mutex
	now      []control.Excess        // guarded by mu
	reported map[excessKey]time.Time // the goroutine's of watchQuotas
}

type excessKey struct{ tenant, what string }

// over are the passed quotas that an endpoint with these tenants falls under.
func (e *excesses) over(tenants []string) []control.Excess {
	e.mu.Lock()
	defer e.mu.Unlock()
	return slices.DeleteFunc(slices.Clone(e.now), func(x control.Excess) bool {
		return x.Tenant != "" && !slices.Equal(tenants, []string{x.Tenant})
	})
}

// any reports whether any is passed.
func (e *excesses) any() bool {
	e.mu.Lock()
	defer e.mu.Unlock()
	return len(e.now) > 0
}

// set sets which are passed now.
func (e *excesses) set(now []control.Excess) {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.now = now
}

// watchQuotas measures the backlogs until the context ends, for the process's own jobs.
// The process that captures reports those that are over their quota.
func (b *bridge) watchQuotas(ctx context.Context) error {
	b.measureQuotas(ctx)
	for {
		if b.capturing() || b.fleet != nil && b.fleet.captures {
			b.reportExcesses(ctx)
		}
		next := quotasEvery
		switch {
		case b.excesses.moving.Load():
			next = overflowEvery
		case b.excesses.any():
			next = overQuotaEvery
		}
		tick := time.NewTimer(next)
		select {
		case <-ctx.Done():
			tick.Stop()
			return nil
		case <-b.excesses.wake:
		case <-b.excesses.due:
			b.measureQuotas(ctx)
		case <-tick.C:
			b.measureQuotas(ctx)
		}
		tick.Stop()
	}
}

// appendedTo notes what was appended, and has the backlogs be measured when it is much.
func (b *bridge) appendedTo(events int, bytes int) {
	const whole = 1 << 20
	part := func(n int, quotas ...int64) (most int64) {
		for _, q := range quotas {
			if q > 0 {
				most = max(most, min(int64(n), q)*whole/q)
			}
		}
		return most
	}
	q := &b.Quotas
	n := max(part(events, q.Tenant.Backlog, q.Total.Backlog), part(bytes, q.Tenant.BacklogBytes, q.Total.BacklogBytes))
	if b.excesses.appended.Add(n) >= whole/quotaPart {
		b.excesses.appended.Store(0)
		signal(b.excesses.due)
	}
}

// refusedBy notes that Redis has refused events, and has room made if it is full.
func (b *bridge) refusedBy(err error) {
	if errors.Is(err, queue.ErrFull) {
		b.excesses.full.Store(true)
		signal(b.excesses.due)
	}
}

// measureQuotas measures the backlogs unasked; that Redis is unreachable, others say.
func (b *bridge) measureQuotas(ctx context.Context) {
	ctx, cancel := context.WithTimeout(ctx, measureTimeout)
	defer cancel()
	_ = b.measureQueues(ctx)
}

// reportExcesses logs and announces the quotas that are passed, each once in a while, and
// logs those that no longer are.
func (b *bridge) reportExcesses(ctx context.Context) {
	e := &b.excesses
	e.mu.Lock()
	passed := slices.Clone(e.now)
	e.mu.Unlock()
	if e.reported == nil {
		e.reported = map[excessKey]time.Time{}
	}
	now := make(map[excessKey]bool, len(passed))
	for _, x := range passed {
		key := excessKey{x.Tenant, x.What}
		now[key] = true
		if time.Since(e.reported[key]) < quotaAgain {
			continue
		}
		b.Log.Warn().Str("tenant", x.Tenant).Str("quota", x.What).Int64("used", x.Used).Int64("limit", x.Limit).Strs("endpoints", x.Endpoints).
			Msg("a backlog is over its quota; events are kept and delivered, the oldest " + b.kept() + "; resends and redrives to it wait, and no endpoint can be added to it")
		if err := b.announceExcess(ctx, x); err != nil {
			b.Log.Warn().Err(err).Msg("event about a quota could not be queued; trying again")
			continue
		}
		e.reported[key] = time.Now()
	}
	for key := range e.reported {
		if !now[key] {
			delete(e.reported, key)
			b.Log.Info().Str("tenant", key.tenant).Str("quota", key.what).Msg("the backlog is within its quota again")
		}
	}
}

// announceExcess queues an event for whoever subscribes to it: of the tenant that it is
// about, or the operator.
func (b *bridge) announceExcess(ctx context.Context, x control.Excess) error {
	var tenants []string
	if x.Tenant != "" {
		tenants = []string{x.Tenant}
	}
	return b.announce(ctx, eventQuota, cmp.Or(x.Tenant, "*"), tenants, x.What+time.Now().Format(time.RFC3339Nano), struct {
		Tenant    string   `json:"tenant,omitempty"`
		Quota     string   `json:"quota"`
		Used      int64    `json:"used"`
		Limit     int64    `json:"limit"`
		Endpoints []string `json:"endpoints"`
	}{x.Tenant, x.What, x.Used, x.Limit, x.Endpoints})
}

// whoBlocks adds, to the error of a queue that is full, which endpoints' events fill it.
func (b *bridge) whoBlocks(err error) error {
	if !errors.Is(err, queue.ErrFull) {
		return err
	}
	largest := b.metrics.queues.largest(3)
	if len(largest) == 0 {
		return err
	}
	names := make([]string, len(largest))
	for i, q := range largest {
		text := fmt.Sprintf("%s (%d events, %d MB", q.endpoint, q.Backlog-q.Overflowed+q.Replays, (q.Bytes-q.OverflowedBytes)>>20)
		if q.overQuota {
			text += ", over its quota"
		}
		names[i] = text + ")"
	}
	return fmt.Errorf("%w; the longest backlogs are %s", err, strings.Join(names, ", "))
}

// kept says where the oldest events of such a backlog are.
func (b *bridge) kept() string {
	if b.State == nil {
		return "in redis, because there is no state database"
	}
	return "in the state database"
}

// measureExcesses compares what the queues hold with the quotas, and has what Redis is not to
// hold be moved: by the couriers of this process, and, if it captures, of the others, which
// do not know that Redis is full, nor how much was just appended. What the statistics have of several sources is apart.
func (b *bridge) measureExcesses(ctx context.Context, endpoints []*endpoint.Endpoint, stats []queue.Stats, sources []memberStats) {
	b.excesses.set(b.Quotas.Exceeded(endpoints, stats))
	full := b.excesses.full.Swap(false)
	if b.State == nil {
		return
	}
	if b.fleet != nil { // the queue of the house has what is asked for on top alone, which stays
		endpoints, stats = apart(endpoints, sources)
	}
	stuck := b.excesses.stuck.among(stats, time.Now())
	keep := b.Quotas.Overflowing(endpoints, stats, full, func(name string) bool { return stuck[name] })
	b.excesses.stuck.asked(stats, keep, time.Now())
	b.excesses.moving.Store(len(keep) > 0)
	if b.fleet != nil {
		b.fleet.overflow(ctx, keep)
		return
	}
	if b.dispatcher != nil {
		b.dispatcher.Overflow(keep)
		maps.DeleteFunc(keep, func(name string, _ int64) bool { return b.dispatcher.Owns(name) })
	}
	if b.capturing() {
		_ = b.queue.AskOverflow(ctx, keep) // others say that Redis is unreachable, and the next measurement asks again
	}
}
