package console_test

import (
	"context"
	"fmt"
	"maps"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/net/html"

	"gancho/internal/console"
	"gancho/internal/control"
	"gancho/internal/state"
	"gancho/internal/testservers"
)

// site is what somebody finds from the first page on, by every link and form.
type site struct {
	pages map[string]map[string]string // by route (method and pattern): addresses of it, with the text of the page
	files map[string]bool              // the routes that answer with what is no page
	forms map[string]foundForm         // by method, address and content
}

// foundForm is a form, with what it would send as it is.
type foundForm struct {
	method, path string
	values       url.Values
}

// routes are those of every screen, and routeMux has them.
var (
	routes   = sync.OnceValue(console.Routes)
	routeMux = sync.OnceValue(func() *http.ServeMux {
		mux := http.NewServeMux()
		for _, r := range routes() {
			mux.Handle(r.Method+" "+r.Path, http.NotFoundHandler())
		}
		return mux
	})
)

// routeOf is the route that an address belongs to; "": it is no screen's.
func routeOf(method, path string) string {
	request, err := http.NewRequestWithContext(context.Background(), method, path, http.NoBody)
	if err != nil {
		return ""
	}
	_, pattern := routeMux().Handler(request)
	return pattern
}

// perRoute is how many addresses of a route are opened: enough for every object of the content, and not for every combination of filters.
const perRoute = 12

// crawl opens whatever can be found. Each page must be one: no link leads to an error.
func (b *visitor) crawl() site {
	b.t.Helper()
	s := site{pages: map[string]map[string]string{}, files: map[string]bool{}, forms: map[string]foundForm{}}
	todo, seen := []string{"/console/"}, map[string]bool{}
	for len(todo) > 0 {
		at := todo[0]
		todo = todo[1:]
		route := routeOf(http.MethodGet, at)
		if seen[at] || route == "" || len(s.pages[route]) >= perRoute {
			continue
		}
		seen[at] = true
		if b.open(at); b.status == http.StatusUnprocessableEntity && route == "GET /console/deliveries/resend" {
			continue // of very many deliveries not all can be sent again at once
		}
		if b.status != http.StatusOK {
			b.t.Errorf("%s of tenant %q finds %s, which answers %d: %.300s", b.role, b.tenant, at, b.status, b.text())
			continue
		}
		if !strings.HasPrefix(b.header.Get("Content-Type"), "text/html") {
			s.files[route] = true
			continue
		}
		if s.pages[route] == nil {
			s.pages[route] = map[string]string{}
		}
		s.pages[route][at] = b.body
		for n := range b.page.Descendants() {
			if n.Type != html.ElementNode {
				continue
			}
			if n.Data == "a" && attribute(n, "href") != "" {
				if u := b.own(attribute(n, "href")); u != "" {
					todo = append(todo, u)
				}
			}
			if n.Data == "form" && attribute(n, "method") != "dialog" {
				todo = append(todo, s.add(b, n)...)
			}
		}
	}
	for _, r := range routes() { // what the modules ask for, and no link leads to
		route := "GET " + r.Path
		if r.Method == http.MethodGet && s.pages[route] == nil && !strings.Contains(r.Path, "{") && !(r.Operators && b.tenant != "") && b.role.Covers(r.Role) {
			b.open(r.Path)
			s.files[route] = s.files[route] || b.status == http.StatusOK && !strings.HasPrefix(b.header.Get("Content-Type"), "text/html")
		}
	}
	return s
}

// own is the address of a link of the console, without its fragment; "": it is somebody else's.
func (b *visitor) own(href string) string {
	u, err := b.at.Parse(href)
	if err != nil || u.Host != b.at.Host || !strings.HasPrefix(u.Path, "/console/") {
		return ""
	}
	return u.RequestURI()
}

// add notes a form, once for each of its buttons, and returns the addresses that they lead to.
func (s *site) add(b *visitor, form *html.Node) (to []string) {
	method := strings.ToUpper(attribute(form, "method"))
	buttons := []*html.Node{}
	for n := range form.Descendants() {
		if n.Data == "button" {
			buttons = append(buttons, n)
		}
	}
	for _, button := range buttons {
		f := foundForm{method, b.own(attribute(form, "action")), formValues(form)}
		if name := attribute(button, "name"); name != "" {
			f.values.Set(name, attribute(button, "value"))
		}
		if at := attribute(button, "formaction"); at != "" {
			f.path = b.own(at)
		}
		s.forms[f.method+" "+f.path+" "+f.values.Encode()] = f
		if f.method == http.MethodGet {
			path, _, _ := strings.Cut(f.path, "?")
			to = append(to, path+"?"+f.values.Encode())
		}
	}
	return to
}

// addresses are those of the routes for one object.
func (s *site) addresses() map[string]bool {
	all := map[string]bool{}
	for route, pages := range s.pages {
		if strings.Contains(strings.TrimSuffix(route, "{$}"), "{") {
			for at := range pages {
				path, _, _ := strings.Cut(at, "?")
				all["GET "+path] = true
			}
		}
	}
	for _, f := range s.forms {
		if route := routeOf(f.method, f.path); strings.Contains(strings.TrimSuffix(route, "{$}"), "{") {
			all[f.method+" "+f.path] = true
		}
	}
	return all
}

// Every link leads somewhere, for each role and tenant. Nothing of another tenant's is among what is found, and nothing that others find
// exists for who must not: neither in the address nor in a form's fields.
func TestCrawl(t *testing.T) {
	testservers.Whole(t)
	t.Parallel()
	w := newBusiness(t)
	operators, theirs := w.as(state.Admin, "").crawl(), w.as(state.Admin, foreign.id).crawl()
	for _, r := range routes() {
		route := "GET " + r.Path
		reached := operators.pages[route] != nil || theirs.pages[route] != nil || operators.files[route] || theirs.files[route]
		if r.Method == http.MethodGet && !reached {
			t.Errorf("no link leads to %s of the screen %s: a page that is not reached is in no test", route, r.Screen)
		}
	}
	for _, role := range []state.Role{state.Viewer, state.Operator} {
		w.as(role, "").crawl()
	}
	before := w.standing(foreign)
	for _, role := range []state.Role{state.Viewer, state.Operator, state.Admin} {
		b := w.as(role, centro.id)
		own := b.crawl()
		for _, pages := range own.pages {
			for at, body := range pages {
				if strings.Contains(body, foreign.mark) {
					t.Errorf("%s of %s sees what is %s's at %s", role, centro.name, foreign.name, at)
				}
			}
		}
		if role == state.Admin { // who may do least what others may not is refused for that already: TestEveryRoute
			w.try(b, &operators, &own)
			w.try(b, &theirs, &own)
		}
	}
	if after := w.standing(foreign); before != after {
		t.Errorf("somebody of %s has changed what is %s's: %s", centro.name, foreign.name, cmp.Diff(before, after))
	}
}

// try asks for what others have found.
func (w *world) try(b *visitor, found, own *site) {
	mine := own.addresses()
	for _, at := range slices.Sorted(maps.Keys(found.addresses())) {
		method, path, _ := strings.Cut(at, " ")
		if mine[at] || method != http.MethodGet {
			continue
		}
		if b.open(path); b.status != http.StatusNotFound && b.status != http.StatusForbidden {
			w.t.Errorf("%s of tenant %s gets %d for %s, which is not theirs", b.role, b.tenant, b.status, path)
		}
	}
	for _, key := range slices.Sorted(maps.Keys(found.forms)) {
		f := found.forms[key]
		route := routeOf(f.method, f.path)
		switch _, has := own.forms[key]; {
		case has || route == "" && strings.HasPrefix(f.path, "/console/s"): // settings, sign-out
			continue
		case f.method == http.MethodPost:
			b.post(f.path, f.values)
		default:
			b.open(f.path + "?" + f.values.Encode())
		}
		if strings.Contains(b.body, foreign.mark) && !strings.Contains(f.values.Encode(), foreign.mark) {
			w.t.Errorf("%s of tenant %s sees what is another's after %s", b.role, b.tenant, key)
		}
		object := strings.Contains(strings.TrimSuffix(route, "{$}"), "{") && !mine[f.method+" "+f.path]
		if object && b.status != http.StatusNotFound && b.status != http.StatusForbidden || b.status >= http.StatusInternalServerError {
			w.t.Errorf("%s of tenant %s gets %d for %s", b.role, b.tenant, b.status, key)
		}
	}
}

// standing is what a unit has, as text.
func (w *world) standing(of unit) string {
	w.t.Helper()
	ctx, actor := context.Background(), control.Actor{Name: "cli:teste", Role: state.Admin, Tenant: of.id}
	endpoints, err := w.control.Endpoints(ctx, actor, "", 500)
	dead, deadErr := w.control.CountDead(ctx, actor, state.Filter{})
	jobs, jobsErr := w.control.Jobs(ctx, actor, "", 100)
	tokens, tokensErr := w.control.Tokens(ctx, actor)
	for _, err := range []error{err, deadErr, jobsErr, tokensErr} {
		if err != nil {
			w.t.Fatal(err)
		}
	}
	var text strings.Builder
	for i := range endpoints.Items {
		e := &endpoints.Items[i]
		fmt.Fprintln(&text, e.Name, e.State, e.Version, string(e.Settings), len(e.Keys), e.Live.Backlog)
	}
	fmt.Fprintln(&text, dead, "dead letters")
	for i := range jobs.Items {
		fmt.Fprintln(&text, jobs.Items[i].ID, jobs.Items[i].State)
	}
	for i := range tokens {
		fmt.Fprintln(&text, tokens[i].Name, tokens[i].Expires)
	}
	return text.String()
}

// No route of any screen is for a role that it is not for, for another site's pages, or under a foreign name.
func TestEveryRoute(t *testing.T) {
	t.Parallel()
	w := newBusiness(t)
	tenant := w.as(state.Admin, centro.id)
	stranger := w.visitor()
	byRole := map[state.Role]*visitor{}
	for _, role := range []state.Role{state.Viewer, state.Operator, state.Admin} {
		byRole[role] = w.as(role, "")
	}
	for _, r := range routes() {
		path := strings.TrimSuffix(r.Path, "{$}")
		for strings.Contains(path, "{") {
			before, rest, _ := strings.Cut(path, "{")
			_, after, _ := strings.Cut(rest, "}")
			path = before + "1" + after
		}
		if r.Operators {
			if w.ask(tenant, r.Method, path); tenant.status != http.StatusNotFound {
				t.Errorf("%s %s, which is for operators, answers a tenant with %d", r.Method, path, tenant.status)
			}
		}
		for role, b := range byRole {
			if !role.Covers(r.Role) {
				if w.ask(b, r.Method, path); b.status != http.StatusForbidden {
					t.Errorf("%s %s, which needs %s, answers a %s with %d", r.Method, path, r.Role, role, b.status)
				}
			}
		}
		if w.ask(stranger, r.Method, path); stranger.at.Path != "/console/sign-in" {
			t.Errorf("%s %s answers a stranger with %d", r.Method, path, stranger.status)
		}
		admin := byRole[state.Admin]
		if w.ask(admin, r.Method, path, "Host", "evil.example"); admin.status != http.StatusMisdirectedRequest {
			t.Errorf("%s %s answers under a foreign name with %d", r.Method, path, admin.status)
		}
		if r.Method != http.MethodGet {
			if w.ask(admin, r.Method, path, "Sec-Fetch-Site", "cross-site"); admin.status != http.StatusForbidden {
				t.Errorf("%s %s answers another site's form with %d", r.Method, path, admin.status)
			}
			if w.ask(admin, r.Method, path, "Origin", "https://evil.example"); admin.status != http.StatusForbidden {
				t.Errorf("%s %s answers another origin's form with %d", r.Method, path, admin.status)
			}
		}
	}
}

// ask makes a request with a header, for tests of what is refused.
func (w *world) ask(b *visitor, method, path string, header ...string) {
	w.t.Helper()
	request, err := http.NewRequestWithContext(context.Background(), method, w.url+path, http.NoBody)
	if err != nil {
		w.t.Fatal(err)
	}
	if len(header) == 0 {
		header = []string{"Sec-Fetch-Site", "same-origin"}
	}
	if request.Header.Set(header[0], header[1]); header[0] == "Host" {
		request.Host = header[1]
	}
	b.do(request)
}
