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

// scope limits a filter to the actor's rows. A filter for another tenant's rows
// is state.ErrNotFound, as if there were no such tenant.
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

// stored returns the store when the actor's role covers what is needed.
func (s *Service) stored(a Actor, needs state.Role) (*state.Store, error) {
	if err := a.may(needs); err != nil {
		return nil, err
	}
	if s.Store == nil {
		return nil, ErrNoState
	}
	return s.Store, nil
}

// found is an endpoint that the actor may see.
type found struct {
	state.Endpoint
	// file is the endpoint when gancho.yaml declares it; nil: the store does.
	file *endpoint.Endpoint
}

func ofFile(e *endpoint.Endpoint) found {
	out := found{file: e, Endpoint: state.Endpoint{Name: e.Name, Tenants: e.Tenants, State: e.State, Document: e.Document(), Public: e.Public()}}
	for _, k := range e.Secrets {
		out.Secrets = append(out.Secrets, state.Secret{Secret: k, PublicKey: k.Public()})
	}
	return out
}

// find returns an endpoint by name, the file's first, because that is the one
// in use.
func (s *Service) find(ctx context.Context, a Actor, name string) (found, error) {
	for _, f := range s.files() {
		if f.Name != name {
			continue
		}
		if !a.sees(f.Tenants) {
			return found{}, state.ErrNotFound
		}
		return ofFile(&f), nil
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
	return found{Endpoint: e}, nil
}

// findStored is find for a change: a file's endpoint is a *ReadOnlyError.
func (s *Service) findStored(ctx context.Context, a Actor, name string) (state.Endpoint, error) {
	e, err := s.find(ctx, a, name)
	if err == nil && e.file != nil {
		err = &ReadOnlyError{Endpoint: name}
	}
	return e.Endpoint, err
}

func (s *Service) files() []endpoint.Endpoint {
	if s.File == nil {
		return nil
	}
	return s.File()
}

// delivered is the endpoint as delivery needs it.
func (s *Service) delivered(e found) (endpoint.Endpoint, error) {
	if e.file != nil {
		return *e.file, nil
	}
	d, err := endpoint.Parse("endpoint "+e.Name, e.Endpoint.Document)
	if err != nil {
		return endpoint.Endpoint{}, err
	}
	d.Name, d.State = e.Name, e.State
	d.Secrets = nil
	for _, k := range e.Secrets {
		d.Secrets = append(d.Secrets, k.Secret)
	}
	return d, nil
}
