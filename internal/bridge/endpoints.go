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
	file    []*endpoint.Endpoint
	stored  []storedEndpoint                      // setStored alone writes it
	fields  map[string]map[string]endpoint.Hidden // of every request of a tenant; nil: they cannot be read
	applied []*endpoint.Endpoint                  // what all has returned last
	clashes []string
	shared  [][]string // the endpoints that have a secret in common
}

// storedEndpoint is a row and what it means: as it is now; or, when its document cannot be read, as
// it was when it could; or, when it never could, what of it is not encrypted.
type storedEndpoint struct {
	row      *state.Known
	endpoint *endpoint.Endpoint
	usable   bool // else its events are queued, and not sent
	unread   bool // the row as it is now cannot be read, which was reported
}

func newRoster(log zerolog.Logger) *roster { return &roster{log: log} }

// setFile replaces the endpoints of the file. The slice is the roster's from now on: of those that did not change it has the former ones.
func (r *roster) setFile(endpoints []*endpoint.Endpoint) {
	endpoint.Reuse(endpoints, r.fromFile())
	r.mu.Lock()
	defer r.mu.Unlock()
	r.file = endpoints
}

// fromFile are the endpoints of the file.
func (r *roster) fromFile() []*endpoint.Endpoint {
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
func (r *roster) withFields(e *endpoint.Endpoint) *endpoint.Endpoint {
	if len(e.Tenants) != 1 {
		return e
	}
	fields, has := r.fields[e.Tenants[0]]
	held := fields == nil && e.State == endpoint.Active
	if !has || len(fields) == 0 && !held {
		return e
	}
	with := e.WithFields(fields)
	if held {
		with.State = endpoint.Paused
	}
	return &with
}

// setStored replaces the endpoints of the store. One whose document cannot be read keeps
// the last form that could, or is held when there is none, and is reported once.
// One call at a time: the documents are read outside the lock, which the API's requests need.
func (r *roster) setStored(rows []*state.Known) {
	former := make(map[int64]storedEndpoint, len(r.stored))
	for _, s := range r.stored {
		former[s.row.ID] = s
	}
	stored := make([]storedEndpoint, len(rows))
	for i, row := range rows {
		stored[i] = r.read(row, former[row.ID])
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	r.stored = stored
}

// read reads a row, of which former is what was read before.
func (r *roster) read(row *state.Known, former storedEndpoint) storedEndpoint {
	if former.row == row {
		return former
	}
	settings, err := row.Settings(former.endpoint)
	if err == nil {
		return storedEndpoint{row: row, endpoint: settings, usable: true}
	}
	if !former.unread || former.row.Version != row.Version { // else it was reported
		text := "stored endpoint cannot be read; its events are queued, and not sent until it can"
		if former.usable {
			text = "stored endpoint cannot be read; as long as this process runs, the settings before are used"
		}
		r.log.Error().Err(err).Str("endpoint", row.Name).Msg(text)
	}
	e := heldEndpoint(row)
	if former.usable {
		e = *former.endpoint
	}
	e.Name, e.State = row.Name, row.State
	if !former.usable && e.State == endpoint.Active {
		e.State = endpoint.Paused
	}
	if row.Sealed == nil {
		e.Secrets = make([]endpoint.Secret, len(row.Secrets))
		for i := range row.Secrets {
			e.Secrets[i] = row.Secrets[i].Secret
		}
	}
	return storedEndpoint{row: row, endpoint: &e, usable: former.usable, unread: true}
}

// heldEndpoint is what of an endpoint is not encrypted: which events it gets, of which sources. Of what
// cannot be read it gets all, so that none is lost to it.
func heldEndpoint(row *state.Known) endpoint.Endpoint {
	var public struct {
		Events  []string `json:"events"`
		Sources []string `json:"sources"`
	}
	_ = json.Unmarshal(row.Public, &public)
	return endpoint.Endpoint{Events: public.Events, Tenants: row.Tenants, Sources: public.Sources}.WithDefaults()
}

// all are the endpoints as they are to be treated now. They are not to be changed: everybody shares them.
func (r *roster) all() []*endpoint.Endpoint {
	r.mu.Lock()
	defer r.mu.Unlock()
	out := r.file
	if len(r.stored) > 0 || len(r.fields) > 0 {
		out = make([]*endpoint.Endpoint, 0, len(r.file)+len(r.stored))
		for _, e := range r.file {
			out = append(out, r.withFields(e))
		}
	}
	names := make(map[string]bool, len(r.file))
	for _, e := range r.file {
		names[e.Name] = true
	}
	var clashes []string
	for i := range r.stored {
		e := r.stored[i].endpoint
		if names[e.Name] {
			clashes = append(clashes, e.Name)
			continue
		}
		out = append(out, r.withFields(e))
	}
	if len(r.fields) > 0 {
		endpoint.Reuse(out, r.applied)
	}
	r.applied = out
	r.warnLocked(clashes, endpoint.SharedSecrets(out))
	return out
}

// warnLocked logs, once each, which names are twice, and which endpoints have a secret in common.
func (r *roster) warnLocked(clashes []string, shared [][]string) {
	if !slices.Equal(clashes, r.clashes) {
		for _, name := range clashes {
			r.log.Error().Str("endpoint", name).Msg("an endpoint in gancho.yaml and a stored one have the same name; the one in gancho.yaml is used; rename one of them")
		}
		r.clashes = clashes
	}
	for _, names := range shared {
		if !slices.ContainsFunc(r.shared, func(known []string) bool { return slices.Equal(known, names) }) {
			r.log.Warn().Strs("endpoints", names).Msg("endpoints have a signing secret in common: each receiver can sign as gancho to the others; give each its own")
		}
	}
	r.shared = shared
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
	for _, e := range all {
		names[e.Name] = true
		if e.Compact {
			b.metrics.superseded.WithLabelValues(e.Name)
		}
	}
	for _, e := range before {
		if !names[e.Name] {
			b.metrics.forget(e.Name)
		}
	}
}

func named(endpoints []*endpoint.Endpoint, name string) bool {
	return slices.ContainsFunc(endpoints, func(e *endpoint.Endpoint) bool { return e.Name == name })
}

// endpointsNow are the endpoints that are applied. They are not to be changed.
func (b *bridge) endpointsNow() []*endpoint.Endpoint { return *b.endpoints.Load() }

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
	rows, err := retry.Do(ctx, patience, func() ([]*state.Known, error) {
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
