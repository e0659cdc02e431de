package console

import (
	"errors"
	"net/http"
	"net/url"
	"strings"

	"gancho/internal/control"
	"gancho/internal/language"
	"gancho/internal/state"
)

// signInPage asks for a token.
type signInPage struct {
	Form form
	Next string
}

// signInURL is the page to sign in on, which leads back to a page that was asked for.
func signInURL(r *http.Request) string {
	if r.Method == http.MethodGet && r.URL.Path != root {
		return root + "sign-in?next=" + url.QueryEscape(r.URL.RequestURI())
	}
	return root + "sign-in"
}

func (v *visit) showSignIn() (reply, error) {
	v.endFormer()
	return page("sign-in", signInPage{Next: ownPath(v.http.URL.Query().Get("next"))})
}

// signIn begins a session with an API token.
func (v *visit) signIn() (reply, error) {
	if err := v.http.ParseForm(); err != nil {
		return v.refuseSignIn("", http.StatusBadRequest, "sign_in.token_missing")
	}
	next, text := ownPath(v.http.PostForm.Get("next")), strings.TrimSpace(v.http.PostForm.Get("token"))
	if text == "" {
		return v.refuseSignIn(next, http.StatusUnprocessableEntity, "sign_in.token_missing")
	}
	token, err := v.Admit(v.ctx(), v.http.RemoteAddr, text)
	switch {
	case errors.Is(err, control.ErrThrottled):
		return v.refuseSignIn(next, http.StatusTooManyRequests, "sign_in.throttled")
	case errors.Is(err, state.ErrNotFound):
		return v.refuseSignIn(next, http.StatusUnprocessableEntity, "sign_in.token_wrong")
	case err != nil:
		return reply{}, err
	}
	begun, secret, err := v.Sessions.BeginSession(v.ctx(), token)
	if err != nil {
		return reply{}, err
	}
	v.begin(begun, secret)
	if next == root {
		next += v.landing(begun.Tenant)
	}
	return reply{location: next}, nil
}

// refuseSignIn shows the page again, without the token.
func (v *visit) refuseSignIn(next string, status int, key string) (reply, error) {
	return reply{status: status, template: "sign-in", data: signInPage{Next: next, Form: form{Problems: map[string]string{"token": v.text(key)}}}}, nil
}

// begin gives the browser a session, in place of the one that it may have.
func (v *visit) begin(s state.Session, secret string) {
	v.endOwn()
	v.endFormer()
	v.setCookie(v.sessionCookie(), secret, int(state.SessionLife.Seconds()))
	v.Logger.Info().Str("actor", s.Actor).Str("role", string(s.Role)).Int64("session", s.ID).Msg("console session begun")
}

// endOwn ends the session of the browser's cookie.
func (v *visit) endOwn() {
	if v.identify() == nil {
		v.end(&v.session)
	}
}

// endFormer ends the session of a cookie that browsers keep from before its name said that it is this host's, or that another host
// has planted: it signs nobody in.
func (v *visit) endFormer() {
	secret := v.cookie(sessionCookie)
	if secret == "" || v.sessionCookie() == sessionCookie {
		return
	}
	if s, err := v.Sessions.Session(v.ctx(), secret); err == nil {
		v.end(&s)
	}
	v.setCookie(sessionCookie, "", 0)
}

// end ends a session; one that has ended is as good.
func (v *visit) end(s *state.Session) {
	if err := v.Sessions.EndSession(v.ctx(), s.Actor, s.ID, s.Tenant); err != nil && !errors.Is(err, state.ErrNotFound) {
		v.log(err)
	}
}

func (v *visit) signOut() (reply, error) {
	if err := v.Sessions.EndSession(v.ctx(), v.actor.Name, v.session.ID, v.actor.Tenant); err != nil && !errors.Is(err, state.ErrNotFound) {
		return reply{}, err // the cookie stays, so that it can be tried again
	}
	v.setCookie(v.sessionCookie(), "", 0)
	return goTo("sign-in", "signed_out")
}

// openLink shows the button that uses a one-time link: programs that look at links do not press it.
func (v *visit) openLink() (reply, error) {
	l, err := v.Sessions.OpenLink(v.ctx(), v.http.PathValue("secret"))
	if errors.Is(err, state.ErrNotFound) {
		return reply{status: http.StatusGone, template: "error", data: v.text("enter.gone")}, nil
	}
	if err != nil {
		return reply{}, err
	}
	v.prefer(&l)
	return page("enter", l.Role)
}

// prefer shows what follows as the link says.
func (v *visit) prefer(l *state.ConsoleLink) {
	if l.Language != "" {
		v.language = language.Of(language.Code(l.Language))
	}
	if l.Theme != "" {
		v.theme = l.Theme
	}
}

// enter begins the session of a one-time link.
func (v *visit) enter() (reply, error) {
	l, secret, err := v.Sessions.UseLink(v.ctx(), v.http.PathValue("secret"))
	if errors.Is(err, state.ErrNotFound) {
		return reply{status: http.StatusGone, template: "error", data: v.text("enter.gone")}, nil
	}
	if err != nil {
		return reply{}, err
	}
	v.begin(l.Session, secret)
	if l.Language != "" {
		v.setCookie(languageCookie, l.Language, settingsLife)
	}
	if l.Theme != "" {
		v.setCookie(themeCookie, l.Theme, settingsLife)
	}
	return goTo(v.landing(l.Tenant), "")
}

// settingsLife is how long a browser keeps language and theme, in seconds.
const settingsLife = 365 * 24 * 3600

// changeSettings changes language or theme, for this browser.
func (v *visit) changeSettings() (reply, error) {
	if code := v.http.PostFormValue("language"); language.Known(code) {
		v.setCookie(languageCookie, code, settingsLife)
	}
	switch theme := v.http.PostFormValue("theme"); theme {
	case "light", "dark":
		v.setCookie(themeCookie, theme, settingsLife)
	case "auto":
		v.setCookie(themeCookie, "", 0)
	}
	switch v.http.PostFormValue("keys") {
	case "off":
		v.setCookie(keysCookie, "off", settingsLife)
	case "on":
		v.setCookie(keysCookie, "", 0)
	}
	return reply{location: ownPath(v.http.PostFormValue("back"))}, nil
}
