package console_test

import (
	"cmp"
	"context"
	"fmt"
	"io"
	"net/http"
	"net/http/cookiejar"
	"net/http/httptest"
	"net/url"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/rs/zerolog"
	"golang.org/x/net/html"

	"gancho/cdc"
	"gancho/delivery/endpoint"
	"gancho/delivery/queue"
	"gancho/delivery/webhook"
	"gancho/internal/console"
	"gancho/internal/control"
	"gancho/internal/language"
	"gancho/internal/state"
	"gancho/internal/testservers"
	"gancho/mapping"
	"gancho/migrations"
)

const testKey = "k1:MDEyMzQ1Njc4OTAxMjM0NTY3ODkwMTIzNDU2Nzg5MDE="

// world is a console over real servers, with a receiver that endpoints may post to.
type world struct {
	t        testing.TB
	dsn      string
	control  *control.Service
	store    *state.Store
	queue    *queue.Queue
	receiver *httptest.Server
	server   *httptest.Server
	url      string
	tokens   atomic.Int64
}

// root may do everything.
var root = control.Actor{Name: "cli:teste", Role: state.Admin}

// newConsole starts a console; each of more changes its options.
func newConsole(t testing.TB, more ...func(*console.Options)) *world {
	t.Helper()
	ctx := context.Background()
	dsn := pg.Database(t, pg.Template(t, "state", migrations.Apply))
	keys, err := state.ParseKeys(testKey)
	if err != nil {
		t.Fatal(err)
	}
	store, err := state.Open(ctx, state.Options{DSN: dsn, Keyring: keys, Logger: zerolog.Nop()})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(store.Close)
	redis, err := testservers.StartRedis(testservers.RedisOptions{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(redis.Close)
	queue, err := queue.Open(ctx, queue.Options{URL: redis.URL(), Logger: zerolog.Nop()})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = queue.Close() })
	sender := webhook.NewSender(webhook.Options{Logger: zerolog.Nop()})
	t.Cleanup(sender.Close)
	w := &world{t: t, dsn: dsn, store: store, queue: queue}
	w.receiver = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusNoContent) }))
	t.Cleanup(w.receiver.Close)
	w.server = httptest.NewUnstartedServer(nil)
	w.url = "http://" + w.server.Listener.Addr().String()
	w.control = control.New(control.Options{
		Store: store, Queue: queue, Sender: sender, Version: "test", Console: w.url,
		File:      func() []*endpoint.Endpoint { return nil },
		Catalogue: func() []mapping.EventType { return []mapping.EventType{{Name: "cobranca.paga"}} },
		Slot: func(context.Context) (cdc.Slot, error) {
			return cdc.Slot{Name: "gancho", Active: true, HeldBytes: 3 << 20}, nil
		},
	})
	o := console.Options{
		Control: w.control, Sessions: store, PublicURL: w.url, Language: language.Portuguese, Brand: console.Brand{Name: "Academia"}, Logger: zerolog.Nop(), Version: "test",
		Admit: func(ctx context.Context, _, text string) (state.Token, error) { return store.Authenticate(ctx, text) },
	}
	for _, f := range more {
		f(&o)
	}
	if w.server.Config.Handler, err = console.New(o); err != nil {
		t.Fatal(err)
	}
	w.server.Start()
	t.Cleanup(w.server.Close)
	return w
}

// endpoint adds an endpoint of the tenant ("": of all) that posts to the receiver.
func (w *world) endpoint(name, tenant string) {
	w.t.Helper()
	document := fmt.Sprintf("url: %s\nallow_http: true\nallow_private: [127.0.0.0/8]\n", w.receiver.URL)
	if tenant != "" {
		document += "tenants: ['" + tenant + "']\n"
	}
	if _, err := w.control.AddEndpoint(context.Background(), root, control.NewEndpoint{Name: name, Document: []byte(document)}); err != nil {
		w.t.Fatal(err)
	}
}

// token creates a token and returns its text.
func (w *world) token(role state.Role, tenant string) (name, text string) {
	w.t.Helper()
	name = fmt.Sprintf("%s-%d", role, w.tokens.Add(1))
	made, err := w.control.CreateToken(context.Background(), root, control.NewToken{Token: state.Token{Name: name, Role: role, Tenant: tenant}})
	if err != nil {
		w.t.Fatal(err)
	}
	return name, made.Text
}

// visitor is somebody's, with cookies, and shows one page.
type visitor struct {
	t      testing.TB
	world  *world
	client *http.Client
	token  string // name of the one that it has signed in with
	role   state.Role
	tenant string
	// what it shows
	status int
	header http.Header
	at     *url.URL
	body   string
	page   *html.Node
}

// visitor returns one of nobody.
func (w *world) visitor() *visitor {
	w.t.Helper()
	jar, err := cookiejar.New(nil)
	if err != nil {
		w.t.Fatal(err)
	}
	return &visitor{t: w.t, world: w, client: &http.Client{Jar: jar, Timeout: time.Minute}}
}

// as returns the visitor of somebody who has signed in with a new token of the role and the tenant ("": all).
func (w *world) as(role state.Role, tenant string) *visitor {
	w.t.Helper()
	b := w.visitor()
	b.role, b.tenant = role, tenant
	name, text := w.token(role, tenant)
	b.open("/console/sign-in").submit("Entrar", "Token da API", text)
	if b.token = name; b.at.Path == "/console/sign-in" {
		w.t.Fatalf("signing in led to %s: %s", b.at, b.text())
	}
	return b
}

// open opens a path of the console, or a URL. It follows redirects.
func (b *visitor) open(path string) *visitor {
	b.t.Helper()
	if strings.HasPrefix(path, "/") {
		path = b.world.url + path
	}
	request, err := http.NewRequestWithContext(context.Background(), http.MethodGet, path, nil)
	if err != nil {
		b.t.Fatal(err)
	}
	return b.do(request)
}

// post sends a form from the console's own origin, as a browser would.
func (b *visitor) post(path string, values url.Values) *visitor {
	b.t.Helper()
	request, err := http.NewRequestWithContext(context.Background(), http.MethodPost, b.world.url+path, strings.NewReader(values.Encode()))
	if err != nil {
		b.t.Fatal(err)
	}
	request.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	request.Header.Set("Sec-Fetch-Site", "same-origin")
	return b.do(request)
}

func (b *visitor) do(request *http.Request) *visitor {
	b.t.Helper()
	answer, err := b.client.Do(request)
	if err != nil {
		b.t.Fatal(err)
	}
	defer func() { _ = answer.Body.Close() }()
	var body []byte
	if !strings.HasPrefix(answer.Header.Get("Content-Type"), "text/event-stream") { // which has no end
		if body, err = io.ReadAll(answer.Body); err != nil {
			b.t.Fatal(err)
		}
	}
	b.status, b.header, b.at, b.body = answer.StatusCode, answer.Header, answer.Request.URL, string(body)
	if b.page, err = html.Parse(strings.NewReader(b.body)); err != nil {
		b.t.Fatal(err)
	}
	return b
}

// submit presses the button of this text (or label), after it has filled fields in by their labels: label, value, in turn.
func (b *visitor) submit(button string, fields ...string) *visitor {
	b.t.Helper()
	var pressed, form *html.Node
	for n := range b.page.Descendants() {
		if n.Data == "button" && (textOf(n) == button || attribute(n, "aria-label") == button) {
			for f := n; f != nil; f = f.Parent {
				if f.Data == "form" {
					pressed, form = n, f
				}
			}
		}
	}
	if form == nil {
		b.t.Fatalf("the page %s has no button %q: %s", b.at, button, b.text())
	}
	values := formValues(form)
	if name := attribute(pressed, "name"); name != "" {
		values.Set(name, attribute(pressed, "value"))
	}
	for i := 0; i+1 < len(fields); i += 2 {
		values.Set(b.fieldName(form, fields[i]), fields[i+1])
	}
	action := b.at
	if a := cmp.Or(attribute(pressed, "formaction"), attribute(form, "action")); a != "" {
		action = b.at.ResolveReference(&url.URL{Path: a})
	}
	method := attribute(form, "method")
	if m := attribute(pressed, "formmethod"); m != "" {
		method = m
	}
	if method != "post" {
		return b.open(action.Path + "?" + values.Encode())
	}
	return b.post(action.Path, values)
}

// fieldName finds a field by its label.
func (b *visitor) fieldName(form *html.Node, label string) string {
	b.t.Helper()
	for n := range form.Descendants() {
		if n.Data != "label" || textOf(n) != label {
			continue
		}
		for m := range form.Descendants() {
			if attribute(m, "id") == attribute(n, "for") {
				return attribute(m, "name")
			}
		}
	}
	b.t.Fatalf("the form has no field %q: %s", label, textOf(form))
	return ""
}

// formValues are what the form would send as it is.
func formValues(form *html.Node) url.Values {
	values := url.Values{}
	for n := range form.Descendants() {
		switch name := attribute(n, "name"); {
		case name == "" || n.Type != html.ElementNode:
		case attribute(n, "type") == "checkbox" && !hasAttribute(n, "checked"):
		case n.Data == "textarea":
			if values.Set(name, ""); n.FirstChild != nil {
				values.Set(name, n.FirstChild.Data)
			}
		case n.Data == "input":
			values.Set(name, attribute(n, "value"))
		case n.Data == "select":
			for o := range n.Descendants() {
				if o.Data == "option" && (!values.Has(name) || hasAttribute(o, "selected")) {
					values.Set(name, attribute(o, "value"))
				}
			}
		}
	}
	return values
}

// text is what people read on the page.
func (b *visitor) text() string { return textOf(b.page) }

// buttons are the texts of the page's buttons.
func (b *visitor) buttons() []string {
	var out []string
	for n := range b.page.Descendants() {
		if n.Data == "button" {
			out = append(out, textOf(n))
		}
	}
	return out
}

// shows fails unless the page has the status and the texts.
func (b *visitor) shows(status int, texts ...string) *visitor {
	b.t.Helper()
	if b.status != status {
		b.t.Errorf("%s: status %d, want %d: %s", b.at, b.status, status, b.text())
	}
	for _, text := range texts {
		if !strings.Contains(b.text(), text) {
			b.t.Errorf("%s does not show %q: %s", b.at, text, b.text())
		}
	}
	return b
}

func textOf(n *html.Node) string {
	var words []string
	for d := range n.Descendants() {
		if d.Type == html.TextNode && d.Parent.Data != "style" && d.Parent.Data != "script" {
			words = append(words, strings.Fields(d.Data)...)
		}
	}
	return strings.Join(words, " ")
}

func attribute(n *html.Node, name string) string {
	for _, a := range n.Attr {
		if a.Key == name {
			return a.Val
		}
	}
	return ""
}

func hasAttribute(n *html.Node, name string) bool {
	for _, a := range n.Attr {
		if a.Key == name {
			return true
		}
	}
	return false
}

// link returns a one-time link that signs in with the role and the tenant ("": all): for a Chromium, or for a visitor.
func (w *world) link(role state.Role, tenant string) string {
	w.t.Helper()
	l, err := w.control.CreateLink(context.Background(), root, control.NewLink{Role: role, Tenant: tenant})
	if err != nil {
		w.t.Fatal(err)
	}
	return l.URL
}

// href is where the link of this text leads; "": there is none.
func (b *visitor) href(text string) string {
	for n := range b.page.Descendants() {
		if n.Data == "a" && textOf(n) == text {
			return attribute(n, "href")
		}
	}
	return ""
}
