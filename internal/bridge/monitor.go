package bridge

import (
	"context"
	"sync"
	"time"

	"gancho/cdc"
	"gancho/delivery/endpoint"
	"gancho/internal/retry"
)

const (
	// measureEvery is the least time between two measurements of the same thing.
	measureEvery = 2 * time.Second
	// measureIdle is the most time between two measurements of the slot, of a
	// source that writes hardly any WAL.
	measureIdle = 20 * time.Second
	// measureTimeout bounds a measurement, for which somebody waits.
	measureTimeout = 2 * time.Second
	// busyWAL is how much WAL, in bytes, a source has written between two
	// measurements if it is to be measured again soon.
	busyWAL = 1 << 20
)

// monitor measures the slot until the context ends, because WAL that is held
// has to be reported unasked. Everything else is measured when somebody asks
// for it: see measure.
func (b *bridge) monitor(ctx context.Context) error {
	b.reportOrphans(ctx)
	if !b.Capture && b.refused == nil {
		return nil
	}
	return b.watchSlot(ctx)
}

// watchSlot measures the slot until the context ends.
func (b *bridge) watchSlot(ctx context.Context) error {
	b.metrics.walBudget.Set(float64(b.WALBudget))
	var complained time.Time
	var last cdc.LSN
	for wait := measureEvery; ; {
		lag, err := b.measureSlot(ctx)
		if warning := b.lagWarning(&lag); err == nil && warning != "" && time.Since(complained) >= complainEvery {
			complained = time.Now()
			b.Log.Error().Str("slot", b.Source.Slot).Msg(warning)
		}
		if err == nil {
			if err := b.judgeBudget(ctx, &lag); err != nil {
				return err
			}
		}
		if err != nil || lag.Current >= last+busyWAL {
			wait = measureEvery
		} else {
			wait = min(2*wait, measureIdle)
		}
		last = lag.Current
		if err := retry.Wait(ctx, wait); err != nil {
			return nil //nolint:nilerr // the end that was asked for
		}
	}
}

// measure brings up to date what /metrics and /readyz show, unless that was
// done a moment ago. Nobody who does not ask costs the servers anything.
func (b *bridge) measure(ctx context.Context) {
	if b.health.starting() != nil {
		return
	}
	b.measuring.Lock()
	defer b.measuring.Unlock()
	if time.Since(b.measured) < measureEvery {
		return
	}
	// Who asked may hang up, and one server may hang: neither says anything of the
	// other server.
	var both sync.WaitGroup
	both.Go(func() {
		ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), measureTimeout)
		defer cancel()
		_ = b.measureQueues(ctx) // Redis is unreachable, which readiness says
		signal(b.excesses.wake)
	})
	if b.Capture || b.refused != nil {
		both.Go(func() {
			ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), measureTimeout)
			defer cancel()
			_, _ = b.measureSlot(ctx) // it says itself that there is none
		})
	}
	both.Wait()
	b.measured = time.Now()
}

// measureQueues measures what the queues hold, for the metrics, readiness and quotas.
func (b *bridge) measureQueues(ctx context.Context) error {
	b.measuringQueues.Lock() // what was read first is not to be noted last: a backlog would seem to be within its quota for a moment
	defer b.measuringQueues.Unlock()
	b.health.queue.Store(b.queue.Ping(ctx) == nil)
	b.measureConfirming(b.queue.Unconfirmed())
	endpoints := b.endpointsNow()
	names := make([]string, len(endpoints))
	for i := range endpoints {
		names[i] = endpoints[i].Name
	}
	all, err := b.queue.Stats(ctx, names)
	if err != nil {
		return err
	}
	var sources []memberStats
	if b.fleet != nil {
		sources = b.fleet.stats(ctx, names)
		addTo(all, sources)
	}
	if b.capture != nil {
		_ = b.capture.stage.measureParked(ctx) // a Redis that cannot tell: the rows of this process alone count
	}
	b.measureExcesses(ctx, endpoints, all, sources)
	b.metrics.queues.set(endpoints, all, time.Now(), func(e *endpoint.Endpoint) bool { return len(b.excesses.over(e.Tenants)) > 0 })
	return nil
}

func (b *bridge) measureConfirming(problem error) {
	if problem == nil {
		b.health.unconfirmed.Store(nil)
		b.metrics.unconfirmed.Set(0)
		return
	}
	b.health.unconfirmed.Store(&problem)
	b.metrics.unconfirmed.Set(1)
}

// measureSlot measures the slot, and announces a lag to whoever subscribes to
// it. An error is not logged: the reader says that the source is unreachable.
func (b *bridge) measureSlot(ctx context.Context) (cdc.Slot, error) {
	if b.capture != nil {
		b.metrics.slotLagSeconds.Set(b.capture.lagAge().Seconds())
	}
	lag, err := b.gauge.Measure(ctx)
	b.health.streaming.Store(err == nil && lag.Active && b.capturing())
	if err != nil {
		return lag, err
	}
	if b.capture != nil {
		b.capture.reader.Observe(lag)
	}
	b.metrics.slotLagBytes.Set(float64(lag.UnconfirmedBytes))
	b.metrics.walHeld.Set(float64(lag.HeldBytes))
	b.announceLag(ctx, lag)
	return lag, nil
}

// lagWarning returns what to say when the source is about to suffer: a disk
// that fills stops the legacy application.
func (b *bridge) lagWarning(lag *cdc.Slot) string {
	return lag.Strain(b.LagWarning, "events will be lost; raise max_slot_wal_keep_size", "see why events are not confirmed (Redis? a long transaction?)")
}
