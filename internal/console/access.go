package console

import (
	"net/http"
	"net/url"
	"strconv"
	"time"

	"gancho/internal/control"
	"gancho/internal/state"
)

func accessScreen() screen {
	return screen{name: "access", path: "access", role: state.Admin, routes: []route{
		{pattern: "GET /access", handle: (*visit).showAccess},
		{pattern: "POST /access/tokens", handle: (*visit).createToken},
		{pattern: "POST /access/tokens/{name}/revoke", handle: (*visit).revokeToken},
		{pattern: "POST /access/sessions/{id}/end", handle: (*visit).endSession},
	}}
}

// accessPage is who may, and who has signed in.
type accessPage struct {
	Tokens   []state.Token
	Sessions []state.Session
	Own      int64  // the visitor's own session
	Tenant   string // of the visitor; its tokens are of the same
	Form     form
	Created  *control.CreatedToken // just now; its text is shown once
}

// forever is the value of the field days for a token that does not expire.
const forever = "never"

func (v *visit) access(f form) (p accessPage, err error) {
	if f.Values == nil {
		f.Values = url.Values{"days": {"90"}}
	}
	p = accessPage{Own: v.session.ID, Tenant: v.actor.Tenant, Form: f}
	if p.Tokens, err = v.Control.Tokens(v.ctx(), v.actor); err != nil {
		return p, err
	}
	p.Sessions, err = v.Control.Sessions(v.ctx(), v.actor)
	return p, err
}

func (v *visit) showAccess() (reply, error) {
	p, err := v.access(form{})
	if err != nil {
		return reply{}, err
	}
	return page("access", p)
}

// createToken answers with the page itself: the token is in no address, and is gone with the page.
func (v *visit) createToken() (reply, error) {
	values := v.http.PostForm
	n := control.NewToken{Token: state.Token{Name: values.Get("name"), Role: state.Role(values.Get("role")), Tenant: values.Get("tenant")}}
	days, err := strconv.Atoi(values.Get("days"))
	switch n.Forever = values.Get("days") == forever; {
	case n.Forever:
	case err == nil && days > 0 && days <= 3650:
		n.Expires = time.Now().Add(time.Duration(days) * 24 * time.Hour).UTC().Truncate(time.Second)
	default:
		return reply{}, v.mistake("/days", v.text("access.days_unknown"))
	}
	created, err := v.Control.CreateToken(v.ctx(), v.actor, n)
	f, mistaken := v.form(values, err, "name", "role", "tenant", "expires")
	if err != nil && !mistaken {
		return reply{}, err
	}
	p, readErr := v.access(f)
	if readErr != nil {
		return reply{}, readErr
	}
	if mistaken {
		return refused("access", p)
	}
	p.Created = &created
	return reply{status: http.StatusCreated, template: "access", data: p}, nil
}

func (v *visit) revokeToken() (reply, error) {
	if err := v.Control.RevokeToken(v.ctx(), v.actor, v.http.PathValue("name")); err != nil {
		return reply{}, err
	}
	return goTo("access", "token_revoked")
}

func (v *visit) endSession() (reply, error) {
	id, err := strconv.ParseInt(v.http.PathValue("id"), 10, 64)
	if err != nil {
		return reply{}, state.ErrNotFound
	}
	if err := v.Control.EndSession(v.ctx(), v.actor, id); err != nil {
		return reply{}, err
	}
	return goTo("access", "session_ended")
}
