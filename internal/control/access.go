package control

import (
	"cmp"
	"context"
	"errors"
	"slices"
	"strings"
	"time"

	"gancho/delivery/endpoint"
	"gancho/delivery/webhook"
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

// shown returns what takes out of an error and an answer what the actor may not read. A
// tenant reads of endpoints that are not its own only how its events ended; and of
// none what the operator's name servers, networks and proxies have answered.
func (s *Service) shown(ctx context.Context, a Actor) (func(endpoint, class string, text, answer *string), error) {
	if a.Tenant == "" {
		return func(string, string, *string, *string) {}, nil
	}
	known, err := s.known(ctx, a)
	if err != nil {
		return nil, err
	}
	own := namesOf(known)
	return func(endpoint, class string, text, answer *string) {
		if !slices.Contains(own, endpoint) {
			*text, *answer = "", ""
		}
		*text = webhook.ToldTenants(class, *text)
	}, nil
}

func namesOf(endpoints []found) []string {
	names := make([]string, len(endpoints))
	for i := range endpoints {
		names[i] = endpoints[i].Name
	}
	return names
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
		return ofFile(f), nil
	}
	if s.Store == nil {
		return found{}, state.ErrNotFound
	}
	e, err := s.Store.Endpoint(ctx, name)
	if (err == nil || isSealed(err)) && !a.sees(e.Tenants) {
		err = state.ErrNotFound
	}
	if err != nil {
		return found{}, err
	}
	return found{Endpoint: e}, nil
}

// findFor is find when the actor's role covers what is needed.
func (s *Service) findFor(ctx context.Context, a Actor, needs state.Role, name string) (found, error) {
	if err := a.may(needs); err != nil {
		return found{}, err
	}
	return s.find(ctx, a, name)
}

// findStored is findFor for a change: a file's endpoint is a *ReadOnlyError.
func (s *Service) findStored(ctx context.Context, a Actor, needs state.Role, name string) (state.Endpoint, error) {
	e, err := s.findFor(ctx, a, needs, name)
	if err == nil && e.file != nil {
		err = &ReadOnlyError{Endpoint: name}
	}
	return e.Endpoint, err
}

// isSealed: state.key cannot decrypt the endpoint's settings.
func isSealed(err error) bool {
	_, ok := errors.AsType[*state.KeyError](err)
	return ok
}

func (s *Service) files() []*endpoint.Endpoint {
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

const (
	// maxTokenName bounds a token's name, in bytes.
	maxTokenName = 63
	// maxTokens is how many tokens a tenant may have by its own hand, the expired included.
	maxTokens = 100
)

// DefaultExpiry is how long a token is valid unless its creator says otherwise.
const DefaultExpiry = 90 * 24 * time.Hour

// NewToken is a token to be created, of its Name, Role, Tenant and Expires.
type NewToken struct {
	state.Token
	// Forever: it does not expire. Without it and Expires it does after DefaultExpiry.
	Forever bool
}

// CreatedToken is a token with its text, which is shown this once.
type CreatedToken struct {
	state.Token
	Text string `json:"token"`
}

// CreateToken creates a token. Its text is in the answer, this once. A tenant's token creates tokens of its tenant only,
// which is also the tenant when none is named. Needs Admin.
func (s *Service) CreateToken(ctx context.Context, a Actor, n NewToken) (CreatedToken, error) {
	store, err := s.stored(a, state.Admin)
	if err != nil {
		return CreatedToken{}, err
	}
	n.Tenant = cmp.Or(n.Tenant, a.Tenant)
	if n.Expires.IsZero() && !n.Forever {
		n.Expires = time.Now().Add(DefaultExpiry).UTC().Truncate(time.Second)
	}
	var wrong problems
	// A name of dots could be in no URL: clients and servers take it for a step in the path.
	if strings.Trim(n.Name, ".") == "" || len(n.Name) > maxTokenName || strings.Trim(n.Name, "abcdefghijklmnopqrstuvwxyz0123456789-_.") != "" {
		wrong.add("name", "use up to 63 lower-case letters, digits, - _ and ., and not dots alone", "this cannot be the name of a token")
	}
	if !n.Role.Valid() {
		wrong.add("role", "write viewer, operator or admin", "this role does not exist")
	}
	if a.Tenant != "" && n.Tenant != a.Tenant {
		wrong.add("tenant", "leave it out", "a tenant's token creates tokens of its own tenant")
	}
	if !n.Expires.IsZero() && !n.Expires.After(time.Now()) {
		wrong.add("expires", "write a time in the future", "the token would have expired already")
	}
	if !expressible(n.Expires) {
		wrong.add("expires", "leave it out, or write never for a token that does not expire", "the year of this time, in UTC, is not from 0 to 9999")
	}
	if err := wrong.err(); err != nil {
		return CreatedToken{}, err
	}
	var limits state.Limits
	if a.Tenant != "" {
		limits.Tokens = maxTokens
	}
	t, text, err := store.Within(limits).CreateToken(ctx, a.Name, n.Token)
	if err != nil {
		return CreatedToken{}, quotaError(err, a.Tenant, overTokens, maxTokens)
	}
	return CreatedToken{t, text}, nil
}

// Tokens lists the tokens, by name. Needs Admin.
func (s *Service) Tokens(ctx context.Context, a Actor) ([]state.Token, error) {
	store, err := s.stored(a, state.Admin)
	if err != nil {
		return nil, err
	}
	tokens, err := store.Tokens(ctx, a.Tenant)
	slices.SortFunc(tokens, func(a, b state.Token) int { return strings.Compare(a.Name, b.Name) })
	return tokens, err
}

// RevokeToken revokes a token: its next request is refused. Needs Admin.
func (s *Service) RevokeToken(ctx context.Context, a Actor, name string) error {
	store, err := s.stored(a, state.Admin)
	if err != nil {
		return err
	}
	return store.RevokeToken(ctx, a.Name, name, a.Tenant)
}
