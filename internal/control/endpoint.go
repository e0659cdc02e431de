package control

import (
	"context"
	"encoding/json"
	"errors"
	"slices"
	"strings"

	"gancho/delivery/endpoint"
	"gancho/internal/state"
)

// Where an endpoint is declared.
const (
	FromFile  = "file"
	FromStore = "store"
)

// Endpoints lists the endpoints by name, those of the file and the store, from
// the one after the cursor on, with how they stand in the queue.
func (s *Service) Endpoints(ctx context.Context, a Actor, cursor string, limit int) (Page[EndpointView], error) {
	if err := a.may(state.Viewer); err != nil {
		return Page[EndpointView]{}, err
	}
	n, err := pageSize(limit)
	if err != nil {
		return Page[EndpointView]{}, err
	}
	all, err := s.all(ctx, a)
	if err != nil {
		return Page[EndpointView]{}, err
	}
	first, _ := slices.BinarySearchFunc(all, cursor, func(e EndpointView, name string) int {
		if e.Name == name {
			return -1 // the one after it
		}
		return strings.Compare(e.Name, name)
	})
	page := Page[EndpointView]{Items: all[first:]}
	if len(page.Items) > n {
		page.Items = page.Items[:n:n]
		page.Next = page.Items[n-1].Name
	}
	return page, s.live(ctx, page.Items)
}

// Endpoint returns one endpoint with how it stands in the queue.
func (s *Service) Endpoint(ctx context.Context, a Actor, name string) (EndpointView, error) {
	if err := a.may(state.Viewer); err != nil {
		return EndpointView{}, err
	}
	e, err := s.find(ctx, a, name)
	if err != nil {
		return EndpointView{}, err
	}
	view := []EndpointView{e.view()}
	return view[0], s.live(ctx, view)
}

// all are the endpoints that the actor may know of, by name, without how they stand.
func (s *Service) all(ctx context.Context, a Actor) ([]EndpointView, error) {
	known, err := s.known(ctx, a)
	if err != nil {
		return nil, err
	}
	views := make([]EndpointView, len(known))
	for i, e := range known {
		views[i] = e.view()
	}
	return views, nil
}

// known are the endpoints that the actor may know of, by name.
func (s *Service) known(ctx context.Context, a Actor) ([]found, error) {
	var known []found
	inFile := map[string]bool{}
	for _, f := range s.files() {
		inFile[f.Name] = true
		if a.sees(f.Tenants) {
			known = append(known, found{file: &f})
		}
	}
	if s.Store != nil {
		stored, err := s.Store.Endpoints(ctx)
		var sealed *state.KeyError
		if err != nil && !errors.As(err, &sealed) {
			return nil, err
		}
		for _, e := range stored {
			if !inFile[e.Name] && a.sees(e.Tenants) {
				known = append(known, found{stored: &e})
			}
		}
	}
	slices.SortFunc(known, func(a, b found) int { return strings.Compare(a.name(), b.name()) })
	return known, nil
}

func (f found) view() EndpointView {
	if f.file != nil {
		e := f.file
		v := EndpointView{Name: e.Name, From: FromFile, State: e.State.String(), Settings: e.Public(), Keys: []KeyView{}}
		for _, k := range e.Secrets {
			v.Keys = append(v.Keys, KeyView{Kind: kindOf(k.Public()), Public: k.Public()})
		}
		return v
	}
	return storedView(*f.stored)
}

func storedView(e state.Endpoint) EndpointView {
	v := EndpointView{
		Name: e.Name, From: FromStore, State: e.State.String(), Settings: e.Public, Keys: []KeyView{},
		Version: e.Version, Created: e.Created, Updated: e.Updated,
	}
	if e.Document == nil {
		v.Problem = "its settings cannot be decrypted with the keys of state.key"
	}
	for _, k := range e.Secrets {
		v.Keys = append(v.Keys, KeyView{ID: k.ID, Kind: kindOf(k.PublicKey), Public: k.PublicKey, Created: k.Created, Expires: k.Expires})
	}
	return v
}

func kindOf(public string) string {
	if public != "" {
		return "ed25519"
	}
	return "hmac"
}

// NewEndpoint is an endpoint to be added.
type NewEndpoint struct {
	// Origin is what mistakes in the document are reported under: a file's name.
	Origin string
	// Name is the endpoint's name when the document has none.
	Name string
	// Document is JSON or YAML; see endpoint.Parse. It may hold secret or secrets.
	Document []byte
	// Secrets sign instead of the document's, the newest first. With neither a
	// key is made.
	Secrets []endpoint.Secret
	// Ed25519 makes the key that is made an ed25519 one.
	Ed25519 bool
}

// AddEndpoint stores a new endpoint. The answer holds its signing key when one
// was made, this once. Needs Admin.
func (s *Service) AddEndpoint(ctx context.Context, a Actor, n NewEndpoint) (CreatedView, error) {
	store, err := s.stored(a, state.Admin)
	if err != nil {
		return CreatedView{}, err
	}
	ep, err := parse(n.Origin, n.Document, true)
	if err != nil {
		return CreatedView{}, err
	}
	if ep, err = named(n, ep); err != nil {
		return CreatedView{}, err
	}
	if ep, err = a.owned(ep, nil); err != nil {
		return CreatedView{}, err
	}
	name := ep.Name
	if slices.ContainsFunc(s.files(), func(f endpoint.Endpoint) bool { return f.Name == name }) {
		return CreatedView{}, &TakenError{Name: name}
	}
	if err := s.vacant(ctx, a, name); err != nil {
		return CreatedView{}, err
	}
	secrets := n.Secrets
	if len(secrets) == 0 {
		secrets = ep.Secrets
	}
	var view CreatedView
	if len(secrets) == 0 {
		made := makeSecret(n.Ed25519)
		secrets, view.Secret, view.Public = []endpoint.Secret{made}, made.Reveal(), made.Public()
	}
	added, err := store.AddEndpoint(ctx, a.Name, state.Endpoint{
		Name: name, Tenants: ep.Tenants, State: ep.State, Document: ep.Document(), Public: ep.Public(),
	}, secrets)
	if errors.Is(err, state.ErrConflict) {
		if _, there := store.Endpoint(ctx, name); !errors.Is(there, state.ErrNotFound) {
			err = &TakenError{Name: name}
		}
	}
	if err != nil {
		return CreatedView{}, err
	}
	view.Endpoint = storedView(added)
	return view, nil
}

// vacant refuses a tenant the name of an endpoint that is gone and has left its
// queue behind: what waits there may be another tenant's, and would be sent.
func (s *Service) vacant(ctx context.Context, a Actor, name string) error {
	if a.Tenant == "" {
		return nil // who sees everything may mean to go on with it
	}
	stats, err := s.Queue.Stats(ctx, []string{name})
	if err != nil {
		return err
	}
	if q := stats[0]; q.Backlog+q.Replays > 0 || q.Owned {
		return &TakenError{Name: name}
	}
	return nil
}

// named gives the document the name from beside it, and refuses two.
func named(n NewEndpoint, ep endpoint.Endpoint) (endpoint.Endpoint, error) {
	switch {
	case ep.Name == "" && n.Name == "":
		return endpoint.Endpoint{}, invalid("/name", "write such as crm-centro", "the endpoint has no name")
	case n.Name == "" || n.Name == ep.Name:
		return ep, nil
	case ep.Name != "":
		return endpoint.Endpoint{}, invalid("/name", "leave one out", "the endpoint has two names, %q and %q", n.Name, ep.Name)
	}
	if m := endpoint.CheckName(n.Name); m != nil {
		return endpoint.Endpoint{}, invalid("/name", m.Hint, "%s", m.Message)
	}
	ep.Name = n.Name
	return ep, nil
}

// owned holds a tenant's endpoint to its tenant, and to what the tenant may
// set: before is the endpoint as it was, nil when it is new.
func (a Actor) owned(ep endpoint.Endpoint, before *endpoint.Endpoint) (endpoint.Endpoint, error) {
	if a.Tenant == "" {
		return ep, nil
	}
	if t := ep.Tenants; len(t) > 0 && !a.sees(t) {
		return endpoint.Endpoint{}, invalid("/tenants", "leave tenants out", "this token is for the tenant %q, whose events its endpoints get", a.Tenant)
	}
	if len(ep.Tenants) == 0 {
		ep.Tenants = []string{a.Tenant}
	}
	return ep, reserved(&ep, before)
}

// reserved refuses what opens the operator's own network or shows events to
// those on the way. Where an operator has set one of these for the tenant, it
// holds for that URL only.
func reserved(e, before *endpoint.Endpoint) error {
	if before == nil {
		before = &endpoint.Endpoint{URL: e.URL}
	}
	const hint = "ask the operator of Gancho to set it"
	var problems []Problem
	refuse := func(key string, differs bool) {
		if differs {
			problems = append(problems, Problem{Pointer: "/" + key, Message: "a tenant's token cannot set " + key, Hint: hint})
		}
	}
	refuse("allow_private", !slices.Equal(e.AllowPrivate, before.AllowPrivate))
	refuse("allow_http", e.AllowHTTP != before.AllowHTTP)
	refuse("proxy", e.Proxy != before.Proxy)
	refuse("url", e.URL != before.URL && (len(before.AllowPrivate) > 0 || before.AllowHTTP || before.Proxy != ""))
	if problems != nil {
		return &InvalidError{Problems: problems}
	}
	return nil
}

// Edit is a change of an endpoint's settings.
type Edit struct {
	// Origin is what mistakes in the patch are reported under.
	Origin string
	// Patch is a JSON merge patch (RFC 7396) on the endpoint's document; a value
	// *** in it keeps what is there.
	Patch json.RawMessage
	// Version is the version that the patch was made for; 0: whatever it is.
	Version int64
}

// EditEndpoint changes an endpoint's settings. The error is state.ErrConflict
// when its version is not the patch's any more. Needs Admin.
func (s *Service) EditEndpoint(ctx context.Context, a Actor, name string, edit Edit) (EndpointView, error) {
	store, err := s.stored(a, state.Admin)
	if err != nil {
		return EndpointView{}, err
	}
	e, err := s.findStored(ctx, a, name)
	if err != nil {
		return EndpointView{}, err
	}
	if edit.Version != 0 && edit.Version != e.Version {
		return EndpointView{}, state.ErrConflict
	}
	before, err := s.delivered(found{stored: e})
	if err != nil {
		return EndpointView{}, err
	}
	merged, err := patched(e, edit.Patch)
	if err != nil {
		return EndpointView{}, err
	}
	ep, err := parse("", merged, false)
	if err != nil {
		return EndpointView{}, err
	}
	if ep, err = a.owned(ep, &before); err != nil {
		return EndpointView{}, err
	}
	e.Tenants, e.Document, e.Public = ep.Tenants, ep.Document(), ep.Public()
	updated, err := store.UpdateEndpoint(ctx, a.Name, *e)
	if err != nil {
		return EndpointView{}, err
	}
	return storedView(updated), nil
}
