package bridge

import (
	"context"
	"fmt"
	"time"

	"gancho/cdc"
	"gancho/delivery"
)

const (
	// monitorEvery is how often the gauges are taken.
	monitorEvery = 2 * time.Second
	// walWarning is the WAL held for the slot, in bytes, from which on it is
	// said loudly: a source's disk that fills stops the legacy application.
	walWarning = 1 << 30
)

// monitor takes the gauges until the context ends. Nothing that it fails at
// stops the bridge.
func (b *bridge) monitor(ctx context.Context) error {
	tick := time.NewTicker(monitorEvery)
	defer tick.Stop()
	var complained time.Time
	for {
		b.measureQueue(ctx)
		if b.Capture {
			if warning := b.measureSlot(ctx); warning != "" && time.Since(complained) >= complainEvery {
				complained = time.Now()
				b.Log.Error().Str("slot", b.Source.Slot).Msg(warning)
			}
		}
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
		}
	}
}

func (b *bridge) measureQueue(ctx context.Context) {
	b.health.queue.Store(b.queue.Ping(ctx) == nil)
	for _, e := range b.definitionsNow().Endpoints {
		n, oldest, err := b.queue.Backlog(ctx, e.Name)
		if err != nil {
			return // Redis is away, which the next Ping says
		}
		b.metrics.backlog.WithLabelValues(e.Name).Set(float64(n))
		age := 0.0
		if n > 0 {
			age = max(0, time.Since(oldest).Seconds())
		}
		b.metrics.oldest.WithLabelValues(e.Name).Set(age)
		dead, err := b.queue.DeadCount(ctx, e.Name)
		if err != nil {
			return
		}
		b.metrics.dead.WithLabelValues(e.Name).Set(float64(dead))
	}
}

// measureSlot returns a warning when the source is about to suffer.
func (b *bridge) measureSlot(ctx context.Context) (warning string) {
	b.metrics.slotLagSeconds.Set(b.capture.lagAge().Seconds())
	conn, err := cdc.Connect(ctx, b.Source.DSN)
	if err != nil {
		return "" // the reader says that the source is away
	}
	defer func() { _ = conn.Close(context.WithoutCancel(ctx)) }()
	lag, err := cdc.Lag(ctx, conn, b.Source.Slot)
	if err != nil {
		return ""
	}
	b.metrics.slotLagBytes.Set(float64(lag.UnconfirmedBytes))
	b.metrics.walHeld.Set(float64(lag.HeldBytes))
	switch {
	case lag.WALStatus == "unreserved" || lag.WALStatus == "lost":
		return fmt.Sprintf("the source is about to drop the slot's WAL (wal_status %s, %d MB held): events will be lost; raise max_slot_wal_keep_size", lag.WALStatus, lag.HeldBytes>>20)
	case lag.HeldBytes > walWarning:
		return fmt.Sprintf("the source holds %d MB of WAL for the slot: its disk may fill; see why events are not confirmed (Redis? a long transaction?)", lag.HeldBytes>>20)
	}
	return ""
}

// reload reads the definitions again at every signal, all or nothing.
func (b *bridge) reload(ctx context.Context) error {
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-b.Reload:
			if err := b.reloadOnce(ctx); err != nil {
				b.Log.Error().Err(err).Msg("reload refused; everything stays as it was")
			}
		}
	}
}

func (b *bridge) reloadOnce(ctx context.Context) error {
	d, err := b.Load()
	if err != nil {
		return err
	}
	if b.Capture {
		rules, _, err := b.capture.prepare(ctx, d.Rules)
		if err != nil {
			return err
		}
		b.capture.next.Store(rules)
	}
	b.mu.Lock()
	b.definitions = d
	b.mu.Unlock()
	b.queue.Update(d.Endpoints)
	if b.Deliver {
		b.dispatcher.Update(d.Endpoints)
	}
	b.Log.Info().Int("endpoints", len(d.Endpoints)).Msg("configuration reloaded")
	return nil
}

func (b *bridge) definitionsNow() *Definitions {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.definitions
}

// attempt counts an attempt; the dispatcher calls it from many goroutines.
func (m *metrics) attempt(a delivery.Attempt) {
	m.attempts.WithLabelValues(a.Endpoint, a.Outcome.Class).Inc()
	if a.Outcome.Kind == delivery.Delivered {
		m.latency.WithLabelValues(a.Endpoint).Observe(a.CommitToDelivered.Seconds())
	}
}
