package console

import (
	"bytes"
	"context"
	"errors"
	"mime"
	"net/http"
	"net/url"
	"path"
	"strings"

	"gancho/internal/control"
	"gancho/internal/language"
	"gancho/internal/state"
)

// visit is one request, with who makes it and how the console looks for them.
type visit struct {
	*console
	// Control is the console's, or that of the source that the visitor has chosen, by its name; "": of all, or there is one.
	Control  *control.Service
	source   string
	w        http.ResponseWriter
	http     *http.Request
	screen   *screen // nil: of none
	session  state.Session
	actor    control.Actor // zero: nobody has signed in
	language *language.Language
	theme    string // light, dark, or "": the browser's
	keys     bool   // a single key is a command
	// whole is the context of the request without the time that a page may take.
	whole context.Context //nolint:containedctx // a visit is one request and lives as long
	// release ends Hold; more than once is harmless.
	release func()
}

// The names of the cookies. Over https the session's has a name with which browsers take it from this host alone, over https, and
// for all paths, so that no other host of the domain can plant one; sessionCookie is then one of before that.
const (
	sessionCookie  = "gancho_session"
	hostPrefix     = "__Host-"
	languageCookie = "gancho_language"
	themeCookie    = "gancho_theme"
	keysCookie     = "gancho_keys"
)

// wholeKey is the key of visit.whole in a request's context.
type wholeKey struct{}

func (c *console) visit(w http.ResponseWriter, r *http.Request) *visit {
	v := &visit{console: c, Control: c.Control, w: w, http: r, whole: r.Context(), release: func() {}}
	if whole, ok := r.Context().Value(wholeKey{}).(context.Context); ok {
		v.whole = whole
	}
	code := language.Choose(r.Header.Get("Accept-Language"), c.Language)
	if chosen := v.cookie(languageCookie); language.Known(chosen) {
		code = language.Code(chosen)
	}
	v.language = language.Of(code)
	if theme := v.cookie(themeCookie); theme == "light" || theme == "dark" {
		v.theme = theme
	}
	v.keys = v.cookie(keysCookie) != "off"
	return v
}

// ctx is the request's.
func (v *visit) ctx() context.Context { return v.http.Context() }

// text is a text of the visitor's language.
func (v *visit) text(key string, values ...any) string { return v.language.Text(key, values...) }

// identify finds who makes the request: state.ErrNotFound when nobody has signed in.
func (v *visit) identify() error {
	secret := v.cookie(v.sessionCookie())
	if secret == "" {
		return state.ErrNotFound
	}
	s, err := v.Sessions.Session(v.ctx(), secret)
	if err != nil {
		return err
	}
	v.session = s
	v.actor = control.Actor{Name: s.Actor, Role: s.Role, Tenant: s.Tenant, Token: s.TokenID}
	return nil
}

func (v *visit) cookie(name string) string {
	if c, err := v.http.Cookie(name); err == nil {
		return c.Value
	}
	return ""
}

// sessionCookie is the name of the session's cookie.
func (v *visit) sessionCookie() string {
	if v.public.Scheme == "https" {
		return hostPrefix + sessionCookie
	}
	return sessionCookie
}

// setCookie sets a cookie, until the browser is closed when age is 0; "" removes it. In a frame of another site's page it is one of
// that page's.
func (v *visit) setCookie(name, value string, age int) {
	c := &http.Cookie{Name: name, Value: value, Path: root, MaxAge: age, HttpOnly: true, SameSite: http.SameSiteLaxMode, Secure: v.public.Scheme == "https"} //nolint:gosec // over http a browser drops a Secure cookie
	if strings.HasPrefix(name, hostPrefix) {
		c.Path = "/" // which the prefix asks for
	}
	if len(v.Embed) > 0 && v.http.Header.Get("Sec-Fetch-Dest") == "iframe" {
		c.SameSite, c.Partitioned = http.SameSiteNoneMode, true
	}
	if value == "" {
		c.MaxAge = -1
	}
	http.SetCookie(v.w, c)
}

// answer writes what a route returned.
func (v *visit) answer(r reply, err error) {
	var forbidden *control.ForbiddenError
	var elsewhere *control.ElsewhereError
	switch {
	case err == nil && r.written:
	case err == nil && r.location != "":
		v.redirect(r.location)
	case err == nil && r.file != nil:
		v.send(r.file)
	case err == nil:
		v.render(max(r.status, http.StatusOK), r.template, r.data)
	case errors.Is(err, state.ErrNotFound):
		v.fail(http.StatusNotFound, "error.missing")
	case errors.Is(err, state.ErrConflict):
		v.fail(http.StatusConflict, "error.conflict")
	case errors.As(err, &elsewhere):
		v.fail(http.StatusMisdirectedRequest, "error.elsewhere")
	case errors.As(err, &forbidden):
		v.fail(http.StatusForbidden, "error.role", "role", v.language.Word("role", forbidden.Needs))
	case v.refusal(err) != "":
		v.render(http.StatusUnprocessableEntity, "error", v.refusal(err))
	case errors.Is(err, state.ErrUnreachable):
		v.log(err)
		v.fail(http.StatusServiceUnavailable, "error.unreachable")
	default:
		v.log(err)
		v.fail(http.StatusInternalServerError, "error.failed")
	}
}

func (v *visit) log(err error) {
	if v.ctx().Err() == nil { // else the browser has gone
		v.Logger.Error().Err(err).Str("actor", v.actor.Name).Str("route", v.http.Pattern).Msg("console request failed")
	}
}

// send writes a file.
func (v *visit) send(f *file) {
	v.w.Header().Set("Content-Type", f.mediaType)
	v.w.Header().Set("Content-Disposition", mime.FormatMediaType("attachment", map[string]string{"filename": f.name}))
	_, _ = v.w.Write(f.text) // an error means that the browser has gone
}

// redirect leads to a path; what follows is a GET.
func (v *visit) redirect(location string) {
	http.Redirect(v.w, v.http, location, http.StatusSeeOther) //nolint:gosec // each is a path of the console (of a form: ownPath), or where the session comes from, which its maker has said
}

// fail shows what is wrong in the text of a key.
func (v *visit) fail(status int, key string, values ...any) {
	v.render(status, "error", v.text(key, values...))
}

// render writes a page.
func (v *visit) render(status int, template string, data any) {
	var out bytes.Buffer
	if err := v.pages[v.language.Code][template].ExecuteTemplate(&out, "layout", v.frame(template, data)); err != nil {
		v.log(err)
		http.Error(v.w, v.text("error.failed"), http.StatusInternalServerError)
		return
	}
	v.w.Header().Set("Content-Type", "text/html; charset=utf-8")
	v.w.WriteHeader(status)
	_, _ = v.w.Write(out.Bytes()) // an error means that the browser has gone
}

// frame is what the layout shows around a page.
type frame struct {
	Page     any
	Template string
	Language language.Code
	Theme    string
	Keys     bool
	Brand    Brand
	Nav      []navItem
	SignedIn bool
	Who      string // actor and tenant
	Return   string
	Done     string // notice of what was done
	Here     string // path and query
	Version  string
	// Languages and Themes are what the visitor may change to.
	Languages []language.Code
	Themes    []string
	// Sources are the choice among several, and Kept what the address has beside it; nil: there is none.
	Sources []option
	Kept    []fact
}

type navItem struct {
	Name, Path string
	Current    bool
}

func (v *visit) frame(template string, data any) frame {
	f := frame{
		Page: data, Template: template, Language: v.language.Code, Theme: v.theme, Keys: v.keys, Brand: v.Brand, Version: v.Version, Here: v.here(),
		SignedIn: v.actor.Name != "", Return: v.session.ReturnURL,
		Languages: language.Codes(), Themes: []string{"light", "dark", "auto"},
	}
	if done := "done." + v.http.URL.Query().Get("done"); v.language.Has(done) {
		f.Done = v.text(done)
	}
	if !f.SignedIn {
		return f
	}
	f.Sources, f.Kept = v.choice()
	f.Who = v.actor.Name
	if v.actor.Tenant != "" {
		f.Who = v.tenantName(v.actor.Tenant) + " · " + f.Who
	}
	for _, s := range v.ordered() {
		if s.hidden || s.operators && v.actor.Tenant != "" || !v.actor.Role.Covers(s.role) {
			continue
		}
		name := s.label.In(v.language.Code)
		if name == "" {
			name = v.text("nav." + s.name)
		}
		f.Nav = append(f.Nav, navItem{Name: name, Path: root + s.path, Current: s == v.screen})
	}
	return f
}

// ordered are the screens as the navigation has them: a unit's own first for a tenant, last for an operator of all.
func (v *visit) ordered() []*screen {
	var ours, vendors []*screen
	for i := range v.screens {
		if s := &v.screens[i]; s.label == nil {
			ours = append(ours, s)
		} else {
			vendors = append(vendors, s)
		}
	}
	if v.actor.Tenant == "" {
		return append(ours, vendors...)
	}
	return append(vendors, ours...)
}

// here is the page of the request, to come back to: of a form the one that has it.
func (v *visit) here() string {
	if v.http.Method != http.MethodGet {
		if v.screen != nil {
			return root + v.screen.path
		}
		return root
	}
	return v.http.URL.RequestURI()
}

// ownPath returns the path when it is below /console/, /console/ otherwise: what a form says must lead nowhere else.
func ownPath(address string) string {
	u, err := url.Parse(address)
	if err != nil || u.Scheme != "" || u.Host != "" || !strings.HasPrefix(u.Path, root) || !strings.HasPrefix(path.Clean(u.Path)+"/", root) || strings.Contains(address, `\`) {
		return root
	}
	return u.RequestURI()
}
