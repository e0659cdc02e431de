package bridge

import (
	"context"
	"errors"
	"slices"

	"gancho/delivery/endpoint"
)

// reload reads the definitions again at every signal, all or nothing.
func (b *bridge) reload(ctx context.Context) error {
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-b.Reload:
			if err := b.supervised.reloading(func() error { return b.reloadOnce(ctx) }); err != nil {
				b.Log.Error().Err(err).Msg("reload refused; everything stays as it was")
			}
		}
	}
}

func (b *bridge) reloadOnce(ctx context.Context) error {
	if err := b.reloadCertificates(); err != nil {
		return err
	}
	d, err := b.Load()
	if err != nil {
		return err
	}
	if err := b.define(ctx, d); err != nil {
		return err
	}
	b.traces.Use(d.Tracing)
	b.roster.setFile(d.Endpoints)
	b.applyEndpoints()
	b.Log.Info().Int("endpoints", len(b.endpointsNow())).Msg("configuration reloaded")
	b.reportOrphans(ctx)
	return b.resume(ctx)
}

// reloadCertificates reads the listeners' certificates now, which are looked at between reloads, too.
func (b *bridge) reloadCertificates() error {
	if b.Certificate != nil {
		if err := b.Certificate.Reload(); err != nil {
			return err
		}
	}
	if b.Console != nil && b.Console.Certificate != nil {
		return b.Console.Certificate.Reload()
	}
	return nil
}

// define replaces the definitions, once the capture has adopted their rules.
func (b *bridge) define(ctx context.Context, d *Definitions) error {
	b.adopting.Lock()
	defer b.adopting.Unlock()
	if b.Capture {
		if err := b.capture.adopt(ctx, d.Rules); err != nil {
			return err
		}
	}
	b.mu.Lock()
	b.definitions = d
	b.mu.Unlock()
	if b.fleet != nil {
		b.fleet.redefine()
	}
	return nil
}

// resume resumes the active endpoints of the file that were suspended
// automatically (410, on_exhausted): whoever reloads says that they are fixed.
// Stored ones are activated one by one.
func (b *bridge) resume(ctx context.Context) error {
	var names []string
	file := b.roster.fromFile()
	for i := range file {
		if file[i].State == endpoint.Active {
			names = append(names, file[i].Name)
		}
	}
	resumed, err := b.queue.ResumeAll(ctx, names)
	if b.fleet != nil {
		also, failed := b.fleet.resumeAll(ctx, names)
		resumed, err = append(resumed, also...), errors.Join(err, failed)
	}
	slices.Sort(resumed)
	for _, name := range slices.Compact(resumed) {
		b.Log.Info().Str("endpoint", name).Msg("endpoint resumed")
	}
	return err
}

// reportOrphans logs queued events whose endpoint is not configured.
func (b *bridge) reportOrphans(ctx context.Context) {
	orphans, err := b.queue.Orphans(ctx, b.endpointsNow())
	if err != nil {
		return // Redis is unreachable, which others log
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
