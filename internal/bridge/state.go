package bridge

import (
	"context"
	"errors"
	"fmt"
	"time"

	"golang.org/x/sync/errgroup"

	"gancho/cdc"
	"gancho/internal/api"
	"gancho/internal/contract"
	"gancho/internal/control"
	"gancho/internal/doctor"
	"gancho/internal/state"
	"gancho/mapping"
	"gancho/migrations"
)

const (
	// apiConnections is how many statements of the API the state database works on at
	// once, apiTimeout how long on each: what people ask must not hold up the log, nor, for
	// longer than a request may wait, each other.
	apiConnections = api.HeavyStatements + 4
	apiTimeout     = 20 * time.Second
)

// openState waits for the state database, because without it events of stored
// endpoints would not be queued; brings its schema up to date when that was
// asked for; and reads the endpoints.
func (b *bridge) openState(ctx context.Context) error {
	if b.State == nil {
		return nil
	}
	var err error
	b.store, err = waitFor(ctx, b.Log, "state database", func() (*state.Store, error) {
		if b.Source.Create {
			applied, err := migrations.Apply(ctx, b.State.DSN)
			if err != nil {
				return nil, err
			}
			for _, name := range applied {
				b.Log.Info().Str("migration", name).Msg("state schema migrated")
			}
		}
		store, err := state.Open(ctx, state.Options{DSN: b.State.DSN, Keyring: b.State.Keyring, Logger: b.Log})
		if err != nil {
			return nil, err
		}
		return store.Of(b.Source.Slot), nil
	})
	switch {
	case errors.Is(err, state.ErrSchema):
		return fmt.Errorf("open the state database: %w, or run: gancho run --create", err)
	case err != nil:
		return fmt.Errorf("open the state database: %w", err)
	}
	for _, text := range b.State.Keyring.Weak() {
		b.Log.Warn().Msg(text)
	}
	for _, apart := range []struct {
		store **state.Store
		pool  state.Pool
	}{
		// Leases are renewed, and jobs claimed, while every page waits for its statement.
		{&b.jobStore, state.Pool{Name: "jobs", Connections: pagesAtOnce + 2, Timeout: time.Minute}},
		{&b.apiStore, state.Pool{Name: "api", Connections: apiConnections, Timeout: apiTimeout}},
		{&b.overflowStore, state.Pool{Name: "overflow", Connections: 4, Timeout: time.Minute}},
		{&b.tokenStore, state.Pool{Name: "tokens", Connections: 2, Timeout: apiTimeout}},
		{&b.consoleStore, state.Pool{Name: "console", Connections: 2, Timeout: apiTimeout}},
	} {
		if *apart.store, err = b.store.Apart(apart.pool); err != nil {
			return fmt.Errorf("open the state database: %w", err)
		}
	}
	b.directory = b.store.Directory()
	rows, err := waitFor(ctx, b.Log, "state database", func() ([]*state.Known, error) { return b.directory.Endpoints(ctx) })
	if err != nil {
		return fmt.Errorf("read the stored endpoints: %w", err)
	}
	b.roster.setStored(rows)
	fields, err := waitFor(ctx, b.Log, "state database", func() ([]state.TenantFields, error) { return b.store.Fields(ctx, "") })
	if err != nil {
		return fmt.Errorf("read the fields of tenants: %w", err)
	}
	b.roster.setFields(fields)
	return nil
}

// runState runs everything that needs the state database. Closing drained says
// that nothing is delivered any more.
func (b *bridge) runState(ctx context.Context, group *errgroup.Group, drained <-chan struct{}) {
	if b.State == nil {
		return
	}
	group.Go(func() error { return b.watchState(ctx) })
	group.Go(func() error { return b.recorder.run(ctx, drained) })
	group.Go(func() error { return newJobs(b).run(ctx) })
	group.Go(func() error { return b.maintain(ctx) })
	if b.Capture || b.fleet != nil && b.fleet.captures {
		group.Go(func() error { return b.dropQueues(ctx) })
	}
	if b.Capture {
		group.Go(func() error { return b.sendClosings(ctx) })
		group.Go(func() error { return b.capture.newSchedules().run(ctx) })
	}
}

// service is what people do with the bridge, for one with a state that has started.
func (b *bridge) service() *control.Service {
	store := b.apiStore
	if b.member != nil {
		store = store.Of(b.member.Slot)
	}
	o := control.Options{
		Directory: b.directory,
		Console:   b.consoleAt, Screens: b.screens(),
		Unlogged: b.State.KeepLog == 0, Zone: b.Location, ConfigFile: b.ConfigFile, KeepEvents: b.State.KeepEvents,
		Store: store, Queue: b.queue, QueueDown: b.queueDown, Sender: b.sender, File: b.roster.fromFile,
		Catalogue: func() []mapping.EventType { return b.definitionsNow().Rules.EventTypes() },
		Contract:  b.contract, RulesInUse: b.rulesInUse,
		Tag:      func(name, value string) (string, bool) { return b.definitionsNow().Rules.Tag(name, value) },
		TagNames: func() []string { return b.definitionsNow().Rules.TagNames() },
		Slot:     b.gauge.Measure, SourceSlot: b.Source.Slot, WALBudget: b.WALBudget, Version: b.Version, Quotas: b.Quotas,
		Hazards:  func(ctx context.Context) ([]cdc.Hazard, error) { return b.catalog.Hazards(ctx) },
		Verdicts: b.why, Recent: b.recentChanges, RowTimers: b.rowTimers, JudgeRow: b.judgeRow, DraftTestOf: b.draftTest, Backfill: b.planBackfill,
		Capture: func(context.Context) error {
			switch {
			case b.refused != nil:
				return b.refused
			case b.capture == nil:
				return nil
			}
			return b.capture.trouble()
		},
	}
	if b.Doctor != nil {
		o.Examine = func(ctx context.Context) (doctor.Report, error) { return b.Doctor(ctx, o.SourceName) }
	}
	switch f := b.fleet; {
	case f == nil:
	case b.member != nil:
		o.SourceName, o.Sources = b.sourceName(), f.sources
		o.Capture = func(context.Context) error { return b.member.trouble() }
	default: // what is one source's is asked of the sources
		o.Slot, o.Hazards, o.Capture = nil, nil, func(context.Context) error { return f.ready() }
		o.Sources, o.AddStats, o.ResumeSources, o.EachSource, o.OfSource = f.sources, f.addStats, f.resume, f.eachSource, f.ofSource
	}
	return control.New(o)
}

// contract describes the events of the rules that capture has; none when this process does not capture.
func (b *bridge) contract() []contract.Event {
	u := b.inUse()
	if u == nil {
		return nil
	}
	return contract.Events(b.definitionsNow().Rules.EventTypes(), u.rules.Payloads())
}

// api is the handler of /api/v1.
func (b *bridge) api(service *control.Service) *api.Handler {
	return api.New(api.Options{
		Control: service, Authenticate: b.tokenStore.Authenticate, ValidTokens: b.tokenStore.ValidTokens, Logger: b.Log, Version: b.Version,
		Failed: func(reason string) { b.metrics.loginFailures.WithLabelValues(reason).Inc() }, Busy: b.metrics.busy.Inc,
		Requests: b.Requests, TotalRequests: b.TotalRequests, Hold: holdConnection,
	})
}
