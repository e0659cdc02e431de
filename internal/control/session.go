package control

import (
	"cmp"
	"context"
	"net/url"
	"time"

	"gancho/internal/language"
	"gancho/internal/state"
)

// errNoConsole is the error of operations that need the console, without one.
func errNoConsole() error {
	return invalid("", "add console: {listen: 127.0.0.1:8630} to gancho.yaml, and restart the bridge", "the configuration has no console")
}

// How long a link into the console may be opened, unless its creator says otherwise, and the most.
const (
	DefaultLinkLife = 15 * time.Minute
	MaxLinkLife     = 24 * time.Hour
)

// maxSessions is how many sessions are listed.
const maxSessions = 500

// NewLink is a link into the console to be created.
type NewLink struct {
	// Role and Tenant are those of the session that it begins.
	Role   state.Role
	Tenant string
	// For is how long it may be opened; 0: DefaultLinkLife.
	For time.Duration
	// ReturnURL is where the console leads back to; Language and Theme are those that it begins with. Empty: nowhere, the browser's.
	ReturnURL, Language, Theme string
}

// CreatedLink is a link with its URL, which is a secret.
type CreatedLink struct {
	URL     string     `json:"url"`
	Role    state.Role `json:"role"`
	Tenant  string     `json:"tenant,omitempty"`
	Expires time.Time  `json:"expires"`
}

// CreateLink creates a link that begins one session of the console. It has at most the rights of its creator, and ends
// with the creator's token. Needs Admin.
func (s *Service) CreateLink(ctx context.Context, a Actor, n NewLink) (CreatedLink, error) {
	store, err := s.stored(a, state.Admin)
	if err != nil {
		return CreatedLink{}, err
	}
	if s.Console == "" {
		return CreatedLink{}, errNoConsole()
	}
	n.Tenant, n.For = cmp.Or(n.Tenant, a.Tenant), cmp.Or(n.For, DefaultLinkLife)
	if err := n.check(a); err != nil {
		return CreatedLink{}, err
	}
	l := state.ConsoleLink{Language: n.Language, Theme: n.Theme, Session: state.Session{
		TokenID: a.Token, Actor: a.Name, Role: n.Role, Tenant: n.Tenant, ReturnURL: n.ReturnURL, Expires: time.Now().Add(n.For).UTC().Truncate(time.Second),
	}}
	secret, err := store.CreateLink(ctx, l)
	if err != nil {
		return CreatedLink{}, err
	}
	return CreatedLink{URL: s.Console + "/console/enter/" + secret, Role: l.Role, Tenant: l.Tenant, Expires: l.Expires}, nil
}

func (n *NewLink) check(a Actor) error {
	var wrong problems
	if !n.Role.Valid() {
		wrong.add("role", "write viewer, operator or admin", "this role does not exist")
	}
	if a.Tenant != "" && n.Tenant != a.Tenant {
		wrong.add("tenant", "leave it out", "a tenant's token creates links of its own tenant")
	}
	if n.For < time.Second || n.For > MaxLinkLife {
		wrong.add("for", "write a duration from 1s to 24h", "a link may not be valid for so long or so short")
	}
	if u, err := url.Parse(n.ReturnURL); n.ReturnURL != "" && (err != nil || u.Scheme != "https" && u.Scheme != "http" || u.Host == "" || u.User != nil) {
		wrong.add("return_url", "write such as https://erp.example.com/webhooks", "this is no address of a page")
	}
	if n.Language != "" && !language.Known(n.Language) {
		wrong.add("language", "write pt-BR or en", "the console does not speak this language")
	}
	if n.Theme != "" && n.Theme != "light" && n.Theme != "dark" {
		wrong.add("theme", "write light or dark", "this theme does not exist")
	}
	return wrong.err()
}

// Sessions lists the sessions of the console that have not ended, those used last first, at most 500. Needs Admin.
func (s *Service) Sessions(ctx context.Context, a Actor) ([]state.Session, error) {
	store, err := s.stored(a, state.Admin)
	if err != nil {
		return nil, err
	}
	return store.Sessions(ctx, a.Tenant, maxSessions)
}

// EndSession ends a session: its next request is refused. Needs Admin.
func (s *Service) EndSession(ctx context.Context, a Actor, id int64) error {
	store, err := s.stored(a, state.Admin)
	if err != nil {
		return err
	}
	return store.EndSession(ctx, a.Name, id, a.Tenant)
}
