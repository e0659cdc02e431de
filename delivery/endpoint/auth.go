package endpoint

import (
	"encoding/base64"
	"maps"
	"net/url"
	"slices"
	"strings"

	"gancho/internal/strictyaml"
)

// Bounds of a login.
const (
	maxScopes = 50
	maxParams = 20
)

// Auth is how requests are authorized beside their signatures, in the header
// Authorization. At most one of its fields is set.
type Auth struct {
	Basic  BasicAuth
	Bearer Hidden
	OAuth2 *OAuth2 // nil: there is no such login; few have one
}

// BasicAuth is a user and password. https://www.rfc-editor.org/rfc/rfc7617
type BasicAuth struct {
	User     string
	Password Hidden
}

// OAuth2 gets access tokens with a client's own credentials.
// https://www.rfc-editor.org/rfc/rfc6749#section-4.4
type OAuth2 struct {
	// TokenURL is where tokens are fetched. Its address is
	// guarded as the endpoint's, and reached through the same proxy.
	TokenURL     string
	ClientID     string
	ClientSecret Hidden
	Scopes       []string
	// Params are further fields of the request for a token, such as audience.
	Params map[string]Hidden
	Method LoginMethod
}

// LoginMethod is where the client's credentials are in the request for a token.
// https://www.rfc-editor.org/rfc/rfc6749#section-2.3.1
type LoginMethod uint8

// The methods.
const (
	LoginBasic LoginMethod = iota // in the header Authorization
	LoginPost                     // in the body
)

var loginMethodNames = []string{"basic", "post"}

// String returns the method as the configuration spells it.
func (m LoginMethod) String() string { return loginMethodNames[m] }

// IsZero reports whether there is no login.
func (a Auth) IsZero() bool { return len(a.kinds()) == 0 }

// Fixed returns the value of the header Authorization, empty if there is none or it is
// not the same each time.
func (a Auth) Fixed() string {
	switch {
	case a.Basic != BasicAuth{}:
		return "Basic " + base64.StdEncoding.EncodeToString([]byte(a.Basic.User+":"+a.Basic.Password.Reveal()))
	case a.Bearer != "":
		return "Bearer " + a.Bearer.Reveal()
	}
	return ""
}

// TokenURL is where access tokens are fetched; empty: there are none.
func (a Auth) TokenURL() string {
	if a.OAuth2 == nil {
		return ""
	}
	return a.OAuth2.TokenURL
}

// Secrets returns what the login keeps secret.
func (a Auth) Secrets() []string {
	all := []string{a.Basic.Password.Reveal(), a.Bearer.Reveal()}
	if a.OAuth2 != nil {
		all = append(all, a.OAuth2.ClientSecret.Reveal())
		for _, v := range a.OAuth2.Params {
			all = append(all, v.Reveal())
		}
	}
	if _, credentials, ok := strings.Cut(a.Fixed(), " "); ok {
		all = append(all, credentials)
	}
	return slices.DeleteFunc(all, func(s string) bool { return s == "" })
}

func (a Auth) kinds() []string {
	var out []string
	if a.Basic != (BasicAuth{}) {
		out = append(out, "basic")
	}
	if a.Bearer != "" {
		out = append(out, "bearer")
	}
	if a.OAuth2 != nil {
		out = append(out, "oauth2")
	}
	return out
}

func (o *OAuth2) isZero() bool {
	return o.TokenURL == "" && o.ClientID == "" && o.ClientSecret == "" && len(o.Scopes)+len(o.Params) == 0
}

// decode reads auth: {basic}, {bearer} or {oauth2}.
func (a *Auth) decode(v value) {
	v.Map(
		strictyaml.Optional("basic", func(v value) {
			v.Map(
				strictyaml.Required("user", func(v value) { a.Basic.User = v.Text() }),
				strictyaml.Required("password", func(v value) { a.Basic.Password = decodeHidden(v) }),
			)
		}),
		strictyaml.Optional("bearer", func(v value) { a.Bearer = decodeHidden(v) }),
		strictyaml.Optional("oauth2", func(v value) {
			var o OAuth2
			if o.decode(v); !o.isZero() {
				a.OAuth2 = &o
			}
		}),
	)
	if v.IsMap() && len(v.Entries()) == 0 {
		v.Errorf("write basic, bearer or oauth2, or remove the key", "auth says nothing")
	}
}

func (o *OAuth2) decode(v value) {
	v.Map(
		strictyaml.Required("token_url", func(v value) {
			o.TokenURL = v.Text()
			if u, err := url.Parse(o.TokenURL); err == nil {
				refuseMaskedURL(v, u)
			}
		}),
		strictyaml.Required("client_id", func(v value) { o.ClientID = v.Text() }),
		strictyaml.Required("client_secret", func(v value) { o.ClientSecret = decodeHidden(v) }),
		strictyaml.Optional("scopes", func(v value) { o.Scopes = v.Texts() }),
		strictyaml.Optional("params", func(v value) {
			o.Params = map[string]Hidden{}
			for _, entry := range v.Entries() {
				o.Params[entry.Name] = decodeHidden(entry.Value)
			}
		}),
		strictyaml.Optional("method", func(v value) { o.Method = choice[LoginMethod](v, loginMethodNames) }),
	)
}

func decodeHidden(v value) Hidden {
	text := v.Text()
	refuseMask(v, text)
	return Hidden(text)
}

// checkAuth returns what is wrong with the login.
func (e *Endpoint) checkAuth() []*SettingError {
	var all []*SettingError
	add := func(m *SettingError) {
		if m != nil {
			all = append(all, m)
		}
	}
	a := e.Auth
	kinds := a.kinds()
	if len(kinds) == 0 {
		return nil
	}
	if len(kinds) > 1 {
		add(mistakef("leave one", "the login is both %s", strings.Join(kinds, " and ")))
	}
	if e.hasHeader("Authorization") {
		add(mistakef("remove one", "the header Authorization is in headers, and made by auth"))
	}
	if u, err := url.Parse(e.URL); err == nil && u.User != nil {
		add(mistakef("remove one", "the url holds a user, and there is auth"))
	}
	if strings.Contains(a.Basic.User, ":") {
		add(mistakef("it is what stands before the colon", "the user of basic has a colon, which ends it"))
	}
	for _, text := range []string{a.Basic.User, a.Basic.Password.Reveal(), a.Bearer.Reveal()} {
		if strings.ContainsFunc(text, func(r rune) bool { return r < ' ' || r == 0x7f }) {
			add(mistakef("write it in one line", "a value of auth has control characters"))
		}
	}
	if a.OAuth2 != nil {
		add(e.checkOAuth2())
	}
	return all
}

func (e *Endpoint) checkOAuth2() *SettingError {
	o := e.Auth.OAuth2
	// https://www.rfc-editor.org/rfc/rfc6749#appendix-A.4
	notInScope := func(r rune) bool { return r <= ' ' || r > '~' || r == '"' || r == '\\' }
	own := []string{"grant_type", "scope", "client_id", "client_secret"}
	if o.TokenURL == "" || o.ClientID == "" || o.ClientSecret == "" {
		return mistakef("write token_url, client_id and client_secret", "the login with oauth2 is not complete")
	}
	if mistakes := e.urlMistakes(o.TokenURL); len(mistakes) > 0 {
		if mistakes[0].Fault == URLPassword {
			return mistakef("write client_id and client_secret", "the token_url holds a user or password")
		}
		return mistakef(mistakes[0].Hint, "token_url: %s", mistakes[0].Message)
	}
	switch {
	case len(o.Scopes) > maxScopes:
		return mistakef("leave some out", "%d scopes are too many: at most %d", len(o.Scopes), maxScopes)
	case slices.ContainsFunc(o.Scopes, func(s string) bool { return s == "" || strings.ContainsFunc(s, notInScope) }):
		return mistakef("write a list of them: scopes: [read, write]", "a scope has characters that none can have")
	case len(o.Params) > maxParams:
		return mistakef("leave some out", "%d params are too many: at most %d", len(o.Params), maxParams)
	}
	for _, name := range slices.Sorted(maps.Keys(o.Params)) {
		if name == "" || slices.Contains(own, name) {
			return mistakef("remove it", "the field %q of the request for a token is set by Gancho", name)
		}
	}
	return nil
}

// document returns the login as a document has it. show shows a secret, where an address.
func (a Auth) document(show func(Hidden) string, where func(string) string) document {
	d := document{}
	if a.Basic != (BasicAuth{}) {
		d["basic"] = document{"user": a.Basic.User, "password": show(a.Basic.Password)}
	}
	d.add("bearer", show(a.Bearer), a.Bearer != "")
	if o := a.OAuth2; o != nil {
		oauth2 := document{"token_url": where(o.TokenURL), "client_id": o.ClientID, "client_secret": show(o.ClientSecret)}
		oauth2.add("scopes", o.Scopes, len(o.Scopes) > 0)
		oauth2.add("params", texts(o.Params, show), len(o.Params) > 0)
		oauth2.add("method", o.Method.String(), o.Method != LoginBasic)
		d["oauth2"] = oauth2
	}
	return d
}
