package bridge

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"gancho/cdc"
	"gancho/delivery/dispatch"
	"gancho/delivery/endpoint"
	"gancho/delivery/webhook"
)

// monitorEvery is how often the gauges are taken.
const monitorEvery = 2 * time.Second

// monitor takes the gauges until the context ends. Nothing that it fails at
// stops the bridge.
func (b *bridge) monitor(ctx context.Context) error {
	b.reportOrphans(ctx)
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
	endpoints := b.endpointsNow()
	names := make([]string, len(endpoints))
	for i := range endpoints {
		names[i] = endpoints[i].Name
	}
	all, err := b.queue.Stats(ctx, names)
	if err != nil {
		return // Redis is away, which the next Ping says
	}
	b.metrics.queues.set(endpoints, all, time.Now())
}

// measureSlot returns a warning when the source is about to suffer: a disk that
// fills stops the legacy application.
func (b *bridge) measureSlot(ctx context.Context) (warning string) {
	b.metrics.slotLagSeconds.Set(b.capture.lagAge().Seconds())
	lag, err := b.slotStats(ctx)
	// A process that waits for the slot has never started to stream.
	b.health.streaming.Store(err == nil && lag.Active && b.capture.started.Load())
	if err != nil {
		return "" // the reader says that the source is away
	}
	b.metrics.slotLagBytes.Set(float64(lag.UnconfirmedBytes))
	b.metrics.walHeld.Set(float64(lag.HeldBytes))
	b.announceLag(ctx, lag)
	switch {
	case lag.WALStatus == "unreserved" || lag.WALStatus == "lost":
		return fmt.Sprintf("the source is about to drop the slot's WAL (wal_status %s, %d MB held): events will be lost; raise max_slot_wal_keep_size", lag.WALStatus, lag.HeldBytes>>20)
	case lag.HeldBytes > b.LagWarning:
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
		rules, source, err := b.capture.prepare(ctx, d.Rules)
		if err != nil {
			return err
		}
		if !slices.Equal(source.Publications, b.capture.publications) {
			return fmt.Errorf("the rules need the publications %s, and the stream has %s: restart the bridge to read them",
				strings.Join(source.Publications, ", "), strings.Join(b.capture.publications, ", "))
		}
		b.capture.next.Store(rules)
	}
	b.mu.Lock()
	b.definitions = d
	b.mu.Unlock()
	b.roster.setFile(d.Endpoints)
	b.applyEndpoints()
	b.Log.Info().Int("endpoints", len(b.endpointsNow())).Msg("configuration reloaded")
	b.reportOrphans(ctx)
	return b.resume(ctx)
}

// resume lets the file's active endpoints go on that were paused by themselves
// (410, on_exhausted): whoever reloads says that they are mended. Stored ones are
// activated one by one.
func (b *bridge) resume(ctx context.Context) error {
	var errs []error
	for _, e := range b.roster.fromFile() {
		if e.State != endpoint.Active {
			continue
		}
		resumed, err := b.queue.Resume(ctx, e.Name)
		if resumed {
			b.Log.Info().Str("endpoint", e.Name).Msg("endpoint resumed")
		}
		errs = append(errs, err)
	}
	return errors.Join(errs...)
}

// reportOrphans tells of queued events whose endpoint is not configured.
func (b *bridge) reportOrphans(ctx context.Context) {
	orphans, err := b.queue.Orphans(ctx, b.endpointsNow())
	if err != nil {
		return // Redis is away, which others say
	}
	for name, n := range orphans {
		b.Log.Warn().Str("endpoint", name).Int64("events", n).
			Msg("events are queued for an endpoint that is not configured; configure it again to deliver them, or drop them with gancho endpoints remove --drop-queue, which needs state.key")
	}
}

func (b *bridge) definitionsNow() *Definitions {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.definitions
}

// attempt counts an attempt; the dispatcher calls it from many goroutines.
func (m *metrics) attempt(a dispatch.Attempt) {
	m.attempts.WithLabelValues(a.Endpoint, a.Outcome.Class).Inc()
	if a.Outcome.Kind == webhook.Delivered {
		m.latency.WithLabelValues(a.Endpoint).Observe(a.CommitToDelivered.Seconds())
	}
}

func (b *bridge) slotStats(ctx context.Context) (cdc.SlotStats, error) {
	conn, err := cdc.Connect(ctx, b.Source.DSN)
	if err != nil {
		return cdc.SlotStats{}, err
	}
	defer func() { _ = conn.Close(context.WithoutCancel(ctx)) }()
	return cdc.Lag(ctx, conn, b.Source.Slot)
}
