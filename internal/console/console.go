package console

import (
	"context"
	"errors"
	"net"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/rs/zerolog"

	"gancho/internal/control"
	"gancho/internal/language"
	"gancho/internal/machine"
	"gancho/internal/presets"
	"gancho/internal/state"
)

// root begins every path.
const root = "/console/"

// requestTime is how long a page may take.
const requestTime = 30 * time.Second

// Options are what New needs.
type Options struct {
	Control *control.Service
	// Sessions is where sessions are looked up: a pool of their own, so that strangers with wrong cookies keep nobody else
	// waiting.
	Sessions *state.Store
	// Admit returns the token with this text, and slows down addresses that guess: state.ErrNotFound, control.ErrThrottled.
	Admit func(ctx context.Context, remote, text string) (state.Token, error)
	// PublicURL is the origin under which browsers reach the listener.
	PublicURL string
	// Language is that of browsers that ask for none of ours.
	Language language.Code
	// Embed are the origins whose pages may have the console in a frame.
	Embed []string
	Brand Brand
	// Zone is that of the times that are shown; nil: UTC.
	Zone *time.Location
	// Tenants returns the names of tenants; nil: they have none.
	Tenants func(context.Context) ([]Tenant, error)
	// TenantsFor is how long they are kept.
	TenantsFor time.Duration
	// Vendors are the vendors' screens for tenants. A tenant lands on the first.
	Vendors []presets.Screen
	// Hold is called for each request of somebody who has signed in: when it is carried out, until its answer is written. Nil: nobody
	// needs to know.
	Hold    func(*http.Request) (release func())
	Logger  zerolog.Logger
	Version string
}

// Brand is how the console looks.
type Brand struct {
	Name string
	// Logo is an image, LogoType its media type; nil: there is none.
	Logo     []byte
	LogoType string
	Color    string // #rrggbb of the line below the head; empty: ours
}

// console is the handler of everything under /console/.
type console struct {
	Options
	public  *url.URL
	pages   pages
	assets  assets
	tenants *tenants
	screens []screen
	mux     *http.ServeMux
	policy  string
	origins *http.CrossOriginProtection
	reason  Reason // "" unless it is unavailable
	// examined is what was found when everything was looked at last.
	examined examinations
}

// Reason is why there are no pages.
type Reason string

// The reasons.
const (
	NoState  Reason = "without-state" // gancho.yaml has no state.key
	Starting Reason = "starting"      // the bridge waits for a server
)

// Unavailable returns a handler like New's whose every page says why there is none. Of the options it needs neither Control, Sessions nor Admit.
func Unavailable(o Options, reason Reason) (http.Handler, error) { return newConsole(o, reason) }

// New returns the handler of /console/, and of / that leads there. It is safe for concurrent use.
func New(o Options) (http.Handler, error) { return newConsole(o, "") }

func newConsole(o Options, reason Reason) (*console, error) {
	public, err := url.Parse(o.PublicURL)
	if err != nil {
		return nil, err
	}
	if o.Zone == nil {
		o.Zone = time.UTC
	}
	c := &console{Options: o, reason: reason, public: public, mux: http.NewServeMux(), tenants: newTenants(o.Tenants, o.TenantsFor), screens: slices.Concat(unitScreens(o.Vendors), screens()), origins: http.NewCrossOriginProtection()}
	if err := c.origins.AddTrustedOrigin(o.PublicURL); err != nil {
		return nil, err
	}
	c.policy = policy(o.Embed)
	c.assets = newAssets(&o.Brand)
	if c.pages, err = parsePages(c); err != nil {
		return nil, err
	}
	c.routes()
	return c, nil
}

// policy is the Content-Security-Policy of every answer.
func policy(embed []string) string {
	ancestors := "'none'"
	if len(embed) > 0 {
		ancestors = strings.Join(embed, " ")
	}
	return "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; connect-src 'self'; form-action 'self'; base-uri 'none'; " +
		"frame-ancestors " + ancestors + "; require-trusted-types-for 'script'; trusted-types 'none'"
}

// ServeHTTP answers a request.
func (c *console) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	header := w.Header()
	header.Set("Content-Security-Policy", c.policy)
	header.Set("X-Content-Type-Options", "nosniff")
	// Not no-referrer, which takes the origin from a form's request as well: browsers before 2023 send nothing else to go by.
	header.Set("Referrer-Policy", "same-origin")
	header.Set("Cache-Control", "no-store")
	ctx, cancel := context.WithTimeout(context.WithValue(r.Context(), wholeKey{}, r.Context()), requestTime)
	defer cancel()
	r = r.WithContext(ctx)
	v := c.visit(w, r)
	if !c.isOurs(r.Host) {
		v.fail(http.StatusMisdirectedRequest, "error.host", "host", c.public.Host)
		return
	}
	if err := c.origins.Check(r); err != nil {
		v.fail(http.StatusForbidden, "error.origin")
		return
	}
	if c.reason != "" && !strings.HasPrefix(r.URL.Path, root+"assets/") && r.URL.Path != root+"settings" {
		w.Header().Set("Retry-After", "5")
		v.render(http.StatusServiceUnavailable, string(c.reason), nil)
		return
	}
	if r.URL.Path == "/" {
		http.Redirect(w, r, root, http.StatusSeeOther)
		return
	}
	c.mux.ServeHTTP(w, r)
}

// isOurs reports whether browsers reach the console under this host: a page of somebody else's whose name leads
// here would otherwise be one of ours. Without a public name, all names of this machine are one.
func (c *console) isOurs(host string) bool {
	if strings.EqualFold(host, c.public.Host) {
		return true
	}
	return machine.Loopback(c.public.Hostname()) && machine.Loopback(hostname(host))
}

func hostname(host string) string {
	if name, _, err := net.SplitHostPort(host); err == nil {
		return name
	}
	return strings.Trim(host, "[]")
}

// routes are the screens' and those of the frame around them.
func (c *console) routes() {
	c.mux.Handle("GET "+root+"assets/{name}", c.assets)
	open := func(pattern string, handle func(*visit) (reply, error)) {
		c.mux.HandleFunc(pattern, func(w http.ResponseWriter, r *http.Request) {
			v := c.visit(w, r)
			v.answer(handle(v))
		})
	}
	open("GET "+root+"sign-in", (*visit).showSignIn)
	open("POST "+root+"sign-in", (*visit).signIn)
	open("GET "+root+"enter/{secret}", (*visit).openLink)
	open("POST "+root+"enter/{secret}", (*visit).enter)
	open("POST "+root+"settings", (*visit).changeSettings)
	open(root, func(*visit) (reply, error) { return reply{}, state.ErrNotFound })
	for i := range c.screens {
		s := &c.screens[i]
		for _, rt := range s.routes {
			method, path := splitPattern(rt.pattern)
			c.mux.HandleFunc(method+" "+path, func(w http.ResponseWriter, r *http.Request) { c.serve(w, r, s, &rt) })
		}
	}
	c.mux.HandleFunc("POST "+root+"sign-out", func(w http.ResponseWriter, r *http.Request) {
		c.serve(w, r, &screen{}, &route{role: state.Viewer, handle: (*visit).signOut})
	})
}

// serve answers a request for a screen by who has signed in.
func (c *console) serve(w http.ResponseWriter, r *http.Request, s *screen, rt *route) {
	v := c.visit(w, r)
	v.screen = s
	switch err := v.identify(); {
	case errors.Is(err, state.ErrNotFound):
		v.redirect(signInURL(r))
		return
	case err != nil:
		v.answer(reply{}, err)
		return
	}
	if c.Hold != nil {
		v.release = sync.OnceFunc(c.Hold(r))
		defer v.release()
	}
	if s.operators && v.actor.Tenant != "" {
		v.answer(reply{}, state.ErrNotFound)
		return
	}
	if needs := rt.needs(s); !v.actor.Role.Covers(needs) {
		v.answer(reply{}, &control.ForbiddenError{Needs: needs})
		return
	}
	if r.Method == http.MethodPost {
		if err := r.ParseForm(); err != nil {
			v.fail(http.StatusBadRequest, "error.form")
			return
		}
	}
	v.answer(v.atSource(s, rt))
}
