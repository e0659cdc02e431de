package control

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"slices"
	"strings"
	"time"

	"gancho/delivery/endpoint"
	"gancho/internal/state"
)

// Where an endpoint is declared.
const (
	FromFile  = "file"
	FromStore = "store"
)

// Endpoints lists the endpoints by name, those of the file and the store, from
// the one after the cursor on, with what the queue holds of them. Needs Viewer.
func (s *Service) Endpoints(ctx context.Context, a Actor, cursor string, limit int) (Page[EndpointView], error) {
	if err := a.may(state.Viewer); err != nil {
		return Page[EndpointView]{}, err
	}
	n, err := pageSize(limit)
	if err != nil {
		return Page[EndpointView]{}, err
	}
	known, err := s.knownAfter(ctx, a, cursor)
	if err != nil {
		return Page[EndpointView]{}, err
	}
	page := cut(viewsOf(known[:min(len(known), n+1)]), n, func(e *EndpointView) string { return e.Name })
	if err := s.addLive(ctx, a, page.Items); err != nil {
		return page, err
	}
	if err := s.addTested(ctx, page.Items); err != nil {
		return page, err
	}
	return page, s.addLately(ctx, a, page.Items)
}

// Endpoint returns one endpoint with what the queue holds of it. Needs Viewer.
func (s *Service) Endpoint(ctx context.Context, a Actor, name string) (EndpointView, error) {
	e, err := s.findFor(ctx, a, state.Viewer, name)
	if err != nil {
		return EndpointView{}, err
	}
	view := []EndpointView{e.view()}
	if err := s.addLive(ctx, a, view); err != nil {
		return view[0], err
	}
	if err := s.addTested(ctx, view); err != nil {
		return view[0], err
	}
	return view[0], s.addLately(ctx, a, view)
}

// Settings is Endpoint without what the queue holds of it, which takes longest to read:
// there may be very many dead letters. Needs Viewer.
func (s *Service) Settings(ctx context.Context, a Actor, name string) (EndpointView, error) {
	e, err := s.findFor(ctx, a, state.Viewer, name)
	if err != nil {
		return EndpointView{}, err
	}
	return e.view(), nil
}

func viewsOf(known []found) []EndpointView {
	views := make([]EndpointView, len(known))
	for i, e := range known {
		views[i] = e.view()
	}
	return views
}

// known are the endpoints that the actor may see, by name.
func (s *Service) known(ctx context.Context, a Actor) ([]found, error) {
	return s.knownAfter(ctx, a, "")
}

// knownAfter are those of them that come after a name. Stored ones have no Document.
func (s *Service) knownAfter(ctx context.Context, a Actor, after string) ([]found, error) {
	var known []found
	inFile := map[string]bool{}
	for _, f := range s.files() {
		inFile[f.Name] = true
		if f.Name > after && a.sees(f.Tenants) {
			known = append(known, ofFile(f))
		}
	}
	if s.Store != nil {
		stored, err := s.Directory.Endpoints(ctx)
		if err != nil {
			return nil, err
		}
		for _, e := range stored {
			if e.Name > after && !inFile[e.Name] && a.sees(e.Tenants) {
				known = append(known, found{Endpoint: e.Endpoint})
			}
		}
	}
	slices.SortFunc(known, func(a, b found) int { return strings.Compare(a.Name, b.Name) })
	return known, nil
}

// view is the endpoint without its secrets.
func (f found) view() EndpointView {
	v := EndpointView{
		Name: f.Name, From: FromStore, State: f.State.String(), Settings: f.Public, Keys: []KeyView{},
		Version: f.Version, Created: f.Created, Updated: f.Updated,
	}
	switch {
	case f.file != nil:
		v.From = FromFile
	case f.Sealed != nil:
		v.Problem = f.Sealed.Error()
	}
	for _, k := range f.Secrets {
		kind := "hmac"
		if k.PublicKey != "" {
			kind = "ed25519"
		}
		v.Keys = append(v.Keys, KeyView{ID: k.ID, Kind: kind, Public: k.PublicKey, Created: k.Created, Expires: k.Expires})
	}
	return v
}

// viewOf is the view of an endpoint that the store has returned.
func viewOf(e state.Endpoint, err error) (EndpointView, error) {
	if err != nil {
		return EndpointView{}, err
	}
	return found{Endpoint: e}.view(), nil
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
	// key is generated, if anything is signed: an ed25519 one when Ed25519 is set.
	Secrets []endpoint.Secret
	Ed25519 bool
}

// Check refuses a document that AddEndpoint refuses whatever there is, as that does.
func (n *NewEndpoint) Check() error {
	ep, err := parse(n.Origin, n.Document, true)
	if err != nil {
		return err
	}
	return named(*n, &ep)
}

// AddEndpoint stores a new endpoint. The answer has its signing key when it was
// generated or given as a text, this once. One that signs nothing gets none. Needs Admin.
func (s *Service) AddEndpoint(ctx context.Context, a Actor, n NewEndpoint) (CreatedView, error) {
	store, err := s.stored(a, state.Admin)
	if err != nil {
		return CreatedView{}, err
	}
	ep, err := parse(n.Origin, n.Document, true)
	if err != nil {
		return CreatedView{}, err
	}
	if err := named(n, &ep); err != nil {
		return CreatedView{}, err
	}
	if err := a.owned(&ep, nil); err != nil {
		return CreatedView{}, err
	}
	if err := s.Quotas.checkSize(&ep, nil); err != nil {
		return CreatedView{}, err
	}
	if err := cmp.Or(s.checkClosing(&ep), s.checkSources(&ep)); err != nil {
		return CreatedView{}, err
	}
	name := ep.Name
	if slices.ContainsFunc(s.files(), func(f *endpoint.Endpoint) bool { return f.Name == name }) {
		return CreatedView{}, &TakenError{Name: name}
	}
	if err := s.vacant(ctx, a, name); err != nil {
		return CreatedView{}, err
	}
	used, err := s.used(ctx)
	if err != nil {
		return CreatedView{}, err
	}
	if err := s.Quotas.checkRoom(used, ep.Tenants, true); err != nil {
		return CreatedView{}, err
	}
	secrets := n.Secrets
	if len(secrets) == 0 {
		secrets = ep.Secrets
	}
	if m := ep.CheckSecrets(secrets); m != nil {
		return CreatedView{}, invalid("/secret", m.Hint, "%s", m.Message)
	}
	var view CreatedView
	if len(secrets) == 0 && n.Ed25519 && len(ep.Signatures) > 0 {
		return CreatedView{}, invalid("/signatures", "leave out ed25519", "signatures are made with an HMAC secret, and an ed25519 key was asked for")
	}
	switch {
	case len(secrets) > 0 && secrets[0].IsText():
		view.show(secrets[0])
	case len(secrets) == 0 && ep.SignsAnything():
		secrets = []endpoint.Secret{view.generate(n.Ed25519)}
	case len(secrets) == 0 && n.Ed25519:
		return CreatedView{}, invalid("/standard", "leave out ed25519", "nothing is signed, and an ed25519 key was asked for")
	}
	added, err := store.Within(state.Limits{Room: s.roomFor(ep.Tenants)}).AddEndpoint(ctx, a.Name, state.Endpoint{
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
	view.Endpoint = found{Endpoint: added}.view()
	return view, nil
}

// vacant refuses a tenant the name of an endpoint that was removed and whose
// queue was kept: its events may be another tenant's, and would be sent. And that of
// another's endpoint that was removed and got events of the tenant: what was answered
// there would be shown as its own endpoint's, and its dead letters be sent there.
func (s *Service) vacant(ctx context.Context, a Actor, name string) error {
	if a.Tenant == "" {
		return nil // an actor that sees everything may want to continue with that queue
	}
	stats, err := s.queueStats(ctx, []string{name})
	if err != nil {
		return err
	}
	if q := stats[0]; q.Backlog+q.Replays > 0 || q.Owned {
		return &TakenError{Name: name}
	}
	last, err := s.Store.LastSent(ctx, name, a.Tenant)
	if err != nil || last.IsZero() {
		return err
	}
	removed, err := s.Store.Audit(ctx, state.AuditFilter{Tenant: &a.Tenant, Object: "endpoint/" + name, Action: "endpoint.remove"}, 0, 1)
	if err != nil {
		return err
	}
	if len(removed) == 0 || last.After(removed[0].Time.Add(removalTime)) {
		return &TakenError{Name: name}
	}
	return nil
}

// removalTime is how long after its removal an endpoint may still be sent something: until
// all bridges have read that it is gone. What is sent later is sent by another endpoint of the
// name, which need not be in the audit log: it was in the file.
const removalTime = time.Minute

// named adds NewEndpoint.Name to a document without a name, and refuses two names.
func named(n NewEndpoint, ep *endpoint.Endpoint) error {
	switch {
	case ep.Name == "" && n.Name == "":
		return invalid("/name", "write one such as crm-centro", "the endpoint has no name")
	case n.Name == "" || n.Name == ep.Name:
		return nil
	case ep.Name != "":
		return invalid("/name", "leave one out", "the endpoint has two names, %q and %q", n.Name, ep.Name)
	}
	if m := endpoint.CheckName(n.Name); m != nil {
		return invalid("/name", m.Hint, "%s", m.Message)
	}
	ep.Name = n.Name
	return nil
}

// owned limits an endpoint of a tenant's actor to its tenant, and to the settings
// that a tenant may choose: before is the endpoint as it was, nil when it is new.
func (a Actor) owned(ep, before *endpoint.Endpoint) error {
	if a.Tenant == "" {
		return nil
	}
	if len(ep.Tenants) == 0 {
		ep.Tenants = []string{a.Tenant}
	}
	if !a.sees(ep.Tenants) {
		return invalid("/tenants", "leave tenants out", "this token is for the tenant %q, whose events its endpoints get", a.Tenant)
	}
	return reserved(ep, before)
}

// reserved refuses settings that open the operator's own network, or show
// events to others on the network path. Where an operator has set one of these
// for the tenant, it holds for that URL only.
func reserved(e, before *endpoint.Endpoint) error {
	before = cmp.Or(before, &endpoint.Endpoint{URL: e.URL})
	const hint = "ask the operator of Gancho to set it"
	var wrong problems
	refuse := func(key string, differs bool) {
		if differs {
			wrong.add(key, hint, "a tenant's token cannot set "+key)
		}
	}
	refuse("allow_private", !slices.Equal(e.AllowPrivate, before.AllowPrivate))
	refuse("allow_http", e.AllowHTTP != before.AllowHTTP)
	refuse("proxy", e.Proxy != before.Proxy)
	opened := len(before.AllowPrivate) > 0 || before.AllowHTTP || before.Proxy != ""
	refuse("url", e.URL != before.URL && opened)
	refuse("auth", e.Auth.TokenURL() != before.Auth.TokenURL() && opened)
	return wrong.err()
}

// pinned are the settings that a tenant's actor cannot change and keep the secrets that
// may be the operator's: the path may be another customer's of the same service, a rule
// of success asks a question about an answer that holds them, and a CA says who may
// pass for the receiver.
func (a Actor) pinned() []string {
	if a.Tenant == "" {
		return nil
	}
	return []string{"/url", "/success", "/style", "/tls/ca", "/auth/oauth2/token_url"}
}

// Edit is a change of an endpoint's settings.
type Edit struct {
	// Origin is what mistakes in the patch are reported under.
	Origin string
	// Patch is a JSON merge patch (RFC 7396) on the endpoint's document; a value
	// *** in it keeps the present one, unless the change may send it elsewhere.
	Patch json.RawMessage
	// Version is the version that the patch is for; 0: any.
	Version int64
}

// checkSources refuses a choice of sources where there is one, which has no name: such an endpoint would get nothing.
func (s *Service) checkSources(e *endpoint.Endpoint) error {
	if s.Sources != nil || len(e.Sources) == 0 {
		return nil
	}
	return invalid("/sources", "remove it", "the endpoint chooses sources, and the bridge reads one only")
}

// EditEndpoint changes an endpoint's settings. The error is state.ErrConflict
// when the endpoint no longer has the version that the patch is for. Needs Admin.
func (s *Service) EditEndpoint(ctx context.Context, a Actor, name string, edit Edit) (EndpointView, error) {
	store, err := s.stored(a, state.Admin)
	if err != nil {
		return EndpointView{}, err
	}
	e, err := s.findStored(ctx, a, state.Admin, name)
	if err != nil {
		return EndpointView{}, err
	}
	if edit.Version != 0 && edit.Version != e.Version {
		return EndpointView{}, state.ErrConflict
	}
	before, err := s.delivered(found{Endpoint: e})
	if err != nil {
		return EndpointView{}, err
	}
	merged, err := patched(&e, edit.Patch, a.pinned())
	if err != nil {
		return EndpointView{}, err
	}
	ep, err := parse("", merged, false)
	if err != nil {
		return EndpointView{}, err
	}
	if err := a.owned(&ep, &before); err != nil {
		return EndpointView{}, err
	}
	if err := cmp.Or(s.checkClosing(&ep), s.checkSources(&ep)); err != nil {
		return EndpointView{}, err
	}
	if err := s.Quotas.checkSize(&ep, &before); err != nil {
		return EndpointView{}, err
	}
	if m := ep.CheckSecrets(before.Secrets); m != nil {
		return EndpointView{}, invalid("/signatures", m.Hint, "%s", m.Message)
	}
	if len(before.Secrets) == 0 && ep.SignsAnything() && !before.SignsAnything() {
		return EndpointView{}, invalid("/standard", "rotate its key first, which makes one, or write standard: false", "the endpoint has no key to sign with")
	}
	e.Tenants, e.Document, e.Public = ep.Tenants, ep.Document(), ep.Public()
	return viewOf(store.UpdateEndpoint(ctx, a.Name, e))
}
