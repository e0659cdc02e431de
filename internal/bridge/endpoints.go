package bridge

import (
	"context"
	"encoding/json"
	"slices"
	"sync"

	"github.com/rs/zerolog"
	"golang.org/x/sync/errgroup"

	"gancho/delivery/endpoint"
	"gancho/internal/retry"
	"gancho/internal/state"
)

// roster is who gets events: the endpoints of the file and those of the store.
// A name that both have is the file's.
type roster struct {
	log zerolog.Logger

	mu      sync.Mutex
	file    []endpoint.Endpoint
	rows    []state.Endpoint
	parsed  map[int64]parsedRow                   // by the row's id; setStored alone writes it
	fields  map[string]map[string]endpoint.Hidden // of every request of a tenant; nil: they cannot be read
	clashes []string
	shared  [][]string // the endpoints that have a secret in common
}

// parsedRow is what a row's document means: as it is now; or, when it cannot be read, as
// it was when it could; or, when it never could, what of it is not encrypted.
type parsedRow struct {
	version  int64
	endpoint endpoint.Endpoint
	usable   bool // else its events are queued, and not sent
}

func newRoster(log zerolog.Logger) *roster {
	return &roster{log: log, parsed: map[int64]parsedRow{}}
}

// setFile replaces the endpoints of the file.
func (r *roster) setFile(endpoints []endpoint.Endpoint) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.file = endpoints
}

// fromFile are the endpoints of the file.
func (r *roster) fromFile() []endpoint.Endpoint {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.file
}

// setFields replaces the fields of tenants. What cannot be read keeps its last form; when there is none, the endpoints of the
// tenant are held: their receivers would take requests without for somebody else's.
func (r *roster) setFields(all []state.TenantFields) {
	r.mu.Lock()
	defer r.mu.Unlock()
	fields := make(map[string]map[string]endpoint.Hidden, len(all))
	for _, f := range all {
		known := r.fields[f.Tenant]
		if f.Sealed == nil {
			known = f.Fields
		} else {
			r.log.Error().Err(f.Sealed).Str("tenant", f.Tenant).Msg("the fields of a tenant's requests cannot be read; its endpoints keep those before, or are held when there are none")
		}
		fields[f.Tenant] = known
	}
	r.fields = fields
}

// withFields gives an endpoint the fields of its tenant. It needs the lock.
func (r *roster) withFields(e endpoint.Endpoint) endpoint.Endpoint {
	if len(e.Tenants) != 1 {
		return e
	}
	fields, has := r.fields[e.Tenants[0]]
	switch {
	case !has:
		return e
	case fields == nil && e.State == endpoint.Active:
		e.State = endpoint.Paused
	}
	return e.WithFields(fields)
}

// setStored replaces the endpoints of the store. One whose document cannot be read keeps
// the last form that could, or is held when there is none, and is reported once.
// One call at a time: the documents are read outside the lock, which the API's requests need.
func (r *roster) setStored(rows []state.Endpoint) {
	parsed := make(map[int64]parsedRow, len(rows))
	for i := range rows {
		parsed[rows[i].ID] = r.read(&rows[i])
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	r.rows, r.parsed = rows, parsed
}

func (r *roster) read(row *state.Endpoint) parsedRow {
	known := r.parsed[row.ID]
	if len(row.Secrets) > 0 || row.Document != nil {
		known.endpoint.Secrets = make([]endpoint.Secret, len(row.Secrets))
		for i := range row.Secrets {
			known.endpoint.Secrets[i] = row.Secrets[i].Secret
		}
	}
	if known.version == row.Version {
		return known
	}
	known.version = row.Version
	var ep endpoint.Endpoint
	var err error
	if row.Sealed != nil {
		err = row.Sealed
	} else {
		ep, err = endpoint.Parse(row.Name, row.Document)
	}
	if err != nil && known.usable {
		r.log.Error().Err(err).Str("endpoint", row.Name).Msg("stored endpoint cannot be read; as long as this process runs, the settings before are used")
		return known
	}
	if err != nil {
		r.log.Error().Err(err).Str("endpoint", row.Name).Msg("stored endpoint cannot be read; its events are queued, and not sent until it can")
		return parsedRow{version: row.Version, endpoint: heldEndpoint(row)}
	}
	ep.Secrets = known.endpoint.Secrets
	return parsedRow{version: row.Version, endpoint: ep, usable: true}
}

// heldEndpoint is what of an endpoint is not encrypted: which events it gets, of which sources. Of what
// cannot be read it gets all, so that none is lost to it.
func heldEndpoint(row *state.Endpoint) endpoint.Endpoint {
	var public struct {
		Events  []string `json:"events"`
		Sources []string `json:"sources"`
	}
	_ = json.Unmarshal(row.Public, &public)
	return endpoint.Endpoint{Events: public.Events, Tenants: row.Tenants, Sources: public.Sources}.WithDefaults()
}

// all are the endpoints as they are to be treated now. They are not to be changed: those of the file are shared.
func (r *roster) all() []endpoint.Endpoint {
	r.mu.Lock()
	defer r.mu.Unlock()
	out := r.file
	if len(r.rows) > 0 || len(r.fields) > 0 {
		out = make([]endpoint.Endpoint, 0, len(r.file)+len(r.rows))
		for i := range r.file {
			out = append(out, r.withFields(r.file[i]))
		}
	}
	names := make(map[string]bool, len(r.file))
	for i := range r.file {
		names[r.file[i].Name] = true
	}
	var clashes []string
	for i := range r.rows {
		row := &r.rows[i]
		if names[row.Name] {
			clashes = append(clashes, row.Name)
			continue
		}
		p := r.parsed[row.ID]
		e := p.endpoint
		e.Name, e.State = row.Name, row.State
		if !p.usable && e.State == endpoint.Active {
			e.State = endpoint.Paused
		}
		out = append(out, r.withFields(e))
	}
	if !slices.Equal(clashes, r.clashes) {
		for _, name := range clashes {
			r.log.Error().Str("endpoint", name).Msg("an endpoint in gancho.yaml and a stored one have the same name; the one in gancho.yaml is used; rename one of them")
		}
		r.clashes = clashes
	}
	shared := endpoint.SharedSecrets(out)
	for _, names := range shared {
		if !slices.ContainsFunc(r.shared, func(known []string) bool { return slices.Equal(known, names) }) {
			r.log.Warn().Strs("endpoints", names).Msg("endpoints have a signing secret in common: each receiver can sign as gancho to the others; give each its own")
		}
	}
	r.shared = shared
	return out
}

// applyEndpoints hands the roster to everybody who treats endpoints.
func (b *bridge) applyEndpoints() {
	b.applying.Lock()
	defer b.applying.Unlock()
	all := b.roster.all()
	before := *b.endpoints.Swap(&all)
	b.queue.Update(all)
	if b.fleet != nil {
		b.fleet.updateLocked(all)
	}
	if b.capture != nil {
		b.capture.verdicts.offer(all)
	}
	if b.dispatcher != nil {
		b.dispatcher.Update(all)
	}
	names := make(map[string]bool, len(all))
	for i := range all {
		names[all[i].Name] = true
		if all[i].Compact {
			b.metrics.superseded.WithLabelValues(all[i].Name)
		}
	}
	for i := range before {
		if !names[before[i].Name] {
			b.metrics.forget(before[i].Name)
		}
	}
}

func named(endpoints []endpoint.Endpoint, name string) bool {
	return slices.ContainsFunc(endpoints, func(e endpoint.Endpoint) bool { return e.Name == name })
}

// endpointsNow are the endpoints that are applied. They are not to be changed.
func (b *bridge) endpointsNow() []endpoint.Endpoint { return *b.endpoints.Load() }

// watchState passes on, until the context ends, what may have changed in the
// state, and applies every change of the stored endpoints. While the database is
// unreachable, everything stays as it was.
func (b *bridge) watchState(ctx context.Context) error {
	topics := map[state.Topic]chan struct{}{
		state.TopicEndpoints: b.endpointsChanged, state.TopicDrops: b.dropsChanged, state.TopicJobs: b.jobsChanged,
	}
	group, ctx := errgroup.WithContext(ctx)
	group.Go(func() error {
		for ctx.Err() == nil {
			if err := b.store.Watch(ctx, func(t state.Topic) {
				signal(topics[t])
				if b.fleet != nil && t == state.TopicJobs {
					signal(b.fleet.jobs)
				}
			}); err != nil {
				b.stateComplaint.about(err)
			}
			_ = retry.Wait(ctx, patience.Max) // its error is the context's
		}
		return nil
	})
	group.Go(func() error {
		for {
			select {
			case <-ctx.Done():
				return nil
			case <-b.endpointsChanged:
				b.refresh(ctx)
			}
		}
	})
	return group.Wait()
}

// refresh reads the stored endpoints until it succeeds, and applies them.
func (b *bridge) refresh(ctx context.Context) {
	rows, err := retry.Do(ctx, patience, func() ([]state.Endpoint, error) {
		fields, err := b.store.Fields(ctx, "")
		if err != nil {
			return nil, err
		}
		b.roster.setFields(fields)
		return b.directory.Endpoints(ctx)
	}, func(err error) bool {
		b.stateComplaint.about(err)
		return true
	})
	if err != nil {
		return // the context's end
	}
	b.stateComplaint.over()
	b.roster.setStored(rows)
	b.applyEndpoints()
	b.metrics.refreshes.Inc()
	b.Log.Info().Int("stored", len(rows)).Msg("endpoints applied")
	signal(b.dropsChanged)
}
