package control

import (
	"context"
	"errors"

	"gancho/delivery/endpoint"
	"gancho/internal/state"
)

// may reports whether the actor's role allows what needs the given one.
func (a Actor) may(needs state.Role) error {
	if !a.Role.Covers(needs) {
		return &ForbiddenError{Needs: needs}
	}
	return nil
}

// sees reports whether an endpoint with these tenants is the actor's.
func (a Actor) sees(tenants []string) bool {
	return a.Tenant == "" || len(tenants) == 1 && tenants[0] == a.Tenant
}

// scope limits a filter to the actor's rows. A filter for another tenant's is
// an answer without rows, which is what it would be if there were none.
func (a Actor) scope(f state.Filter) (state.Filter, error) {
	if a.Tenant == "" {
		return f, nil
	}
	if f.Tenant != nil && *f.Tenant != a.Tenant {
		return f, state.ErrNotFound
	}
	f.Tenant = &a.Tenant
	return f, nil
}

// stored returns the store, if there is one.
func (s *Service) stored(a Actor, needs state.Role) (*state.Store, error) {
	if err := a.may(needs); err != nil {
		return nil, err
	}
	if s.Store == nil {
		return nil, ErrNoState
	}
	return s.Store, nil
}

// found is an endpoint that the actor may know of, of the file or the store.
type found struct {
	file   *endpoint.Endpoint
	stored *state.Endpoint
}

func (f found) name() string {
	if f.file != nil {
		return f.file.Name
	}
	return f.stored.Name
}

// tenants are those whose events it may have; none: all.
func (f found) tenants() []string {
	if f.file != nil {
		return f.file.Tenants
	}
	return f.stored.Tenants
}

// find looks an endpoint up, the file's first, because that is the one in use.
func (s *Service) find(ctx context.Context, a Actor, name string) (found, error) {
	for _, f := range s.files() {
		if f.Name != name {
			continue
		}
		if !a.sees(f.Tenants) {
			return found{}, state.ErrNotFound
		}
		return found{file: &f}, nil
	}
	if s.Store == nil {
		return found{}, state.ErrNotFound
	}
	e, err := s.Store.Endpoint(ctx, name)
	var sealed *state.KeyError
	switch {
	case err != nil && !errors.As(err, &sealed):
		return found{}, err
	case !a.sees(e.Tenants):
		return found{}, state.ErrNotFound
	case err != nil:
		return found{}, err
	}
	return found{stored: &e}, nil
}

// findStored is find for a change, which a file's endpoint does not take.
func (s *Service) findStored(ctx context.Context, a Actor, name string) (*state.Endpoint, error) {
	e, err := s.find(ctx, a, name)
	switch {
	case err != nil:
		return nil, err
	case e.file != nil:
		return nil, &ReadOnlyError{Endpoint: name}
	}
	return e.stored, nil
}

func (s *Service) files() []endpoint.Endpoint {
	if s.File == nil {
		return nil
	}
	return s.File()
}

// delivered is the endpoint as delivery takes it.
func (s *Service) delivered(e found) (endpoint.Endpoint, error) {
	if e.file != nil {
		return *e.file, nil
	}
	d, err := endpoint.Parse("endpoint "+e.stored.Name, e.stored.Document)
	if err != nil {
		return endpoint.Endpoint{}, err
	}
	d.Name, d.State = e.stored.Name, e.stored.State
	d.Secrets = nil
	for _, k := range e.stored.Secrets {
		d.Secrets = append(d.Secrets, k.Secret)
	}
	return d, nil
}
