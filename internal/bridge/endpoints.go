package bridge

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
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
	parsed  map[int64]parsedRow // by the row's id
	clashes []string
}

// parsedRow is what a row's document means: as it is now, or, when it cannot be
// read, as it was when it could.
type parsedRow struct {
	version  int64
	endpoint endpoint.Endpoint
	usable   bool
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

// setStored replaces the endpoints of the store. One whose document cannot be
// read keeps the last form that could, and is reported once; the error is for
// those that have none.
func (r *roster) setStored(rows []state.Endpoint) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.rows = rows
	parsed := make(map[int64]parsedRow, len(rows))
	var unusable []string
	for i := range rows {
		p := r.read(&rows[i])
		parsed[rows[i].ID] = p
		if !p.usable {
			unusable = append(unusable, rows[i].Name)
		}
	}
	r.parsed = parsed
	if len(unusable) > 0 {
		return fmt.Errorf("stored endpoints that cannot be read: %s; fix them with gancho endpoints edit, or remove them", strings.Join(unusable, ", "))
	}
	return nil
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
	ep, err := endpoint.Endpoint{}, errSealed
	if row.Document != nil {
		ep, err = endpoint.Parse(row.Name, row.Document)
	}
	if err != nil {
		r.log.Error().Err(err).Str("endpoint", row.Name).Bool("last_good_form_is_used", known.usable).
			Msg("stored endpoint cannot be read; fix it with gancho endpoints edit")
		return known
	}
	ep.Secrets = known.endpoint.Secrets
	return parsedRow{version: row.Version, endpoint: ep, usable: true}
}

var errSealed = errors.New("it cannot be decrypted: see state.key")

// all are the endpoints as they are to be treated now.
func (r *roster) all() []endpoint.Endpoint {
	r.mu.Lock()
	defer r.mu.Unlock()
	out := make([]endpoint.Endpoint, 0, len(r.file)+len(r.rows))
	names := make(map[string]bool, len(r.file))
	for i := range r.file {
		out = append(out, r.file[i])
		names[r.file[i].Name] = true
	}
	var clashes []string
	for i := range r.rows {
		row := &r.rows[i]
		p := r.parsed[row.ID]
		switch {
		case names[row.Name]:
			clashes = append(clashes, row.Name)
			continue
		case !p.usable:
			continue
		}
		e := p.endpoint
		e.Name, e.State = row.Name, row.State
		out = append(out, e)
	}
	if !slices.Equal(clashes, r.clashes) {
		for _, name := range clashes {
			r.log.Error().Str("endpoint", name).Msg("an endpoint in gancho.yaml and a stored one have the same name; the one in gancho.yaml is used; rename one of them")
		}
		r.clashes = clashes
	}
	return out
}

// applyEndpoints hands the roster to everybody who treats endpoints.
func (b *bridge) applyEndpoints() {
	b.applying.Lock()
	defer b.applying.Unlock()
	all := b.roster.all()
	before := *b.endpoints.Swap(&all)
	b.queue.Update(all)
	if b.dispatcher != nil {
		b.dispatcher.Update(all)
	}
	for i := range before {
		if !named(all, before[i].Name) {
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
			if err := b.store.Watch(ctx, func(t state.Topic) { signal(topics[t]) }); err != nil {
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
		rows, err := b.store.Endpoints(ctx)
		// Those that cannot be decrypted are reported one by one.
		if sealed := new(state.KeyError); errors.As(err, &sealed) {
			err = nil
		}
		return rows, err
	}, func(err error) bool {
		b.stateComplaint.about(err)
		return true
	})
	if err != nil {
		return // the context's end
	}
	b.stateComplaint.over()
	// Those that cannot be read have been reported.
	_ = b.roster.setStored(rows)
	b.applyEndpoints()
	b.metrics.refreshes.Inc()
	b.Log.Info().Int("stored", len(rows)).Msg("endpoints applied")
	signal(b.dropsChanged)
}
