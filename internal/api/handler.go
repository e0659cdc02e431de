package api

import (
	"cmp"
	"context"
	"crypto/sha256"
	_ "embed"
	"encoding/json"
	"fmt"
	"net/http"
	"path"
	"runtime/debug"
	"slices"
	"strings"
	"sync"
	"time"
	"unicode/utf8"

	"github.com/rs/zerolog"
	"go.yaml.in/yaml/v4"

	"gancho/internal/control"
	"gancho/internal/state"
)

const (
	// root begins every path; elsewhere is the pattern of what no route is for.
	root      = "/api/v1"
	elsewhere = "/"
	// requestTime is how long an answer may take; slowRequestTime that of a test,
	// which waits for a receiver, and of what may touch very many rows.
	requestTime     = time.Minute
	slowRequestTime = 10 * time.Minute
	// answerTime is how long a client may take to read an answer.
	answerTime = 30 * time.Second
)

// The defaults of Options.Requests and TotalRequests.
const (
	DefaultRequests      = 4
	DefaultTotalRequests = 32
	// testRequests is how many tests of endpoints are carried out at once.
	testRequests = 32
)

// Options are what New needs.
type Options struct {
	Control *control.Service
	// Authenticate returns the token with this text; state.ErrNotFound when there
	// is none that is valid.
	Authenticate func(ctx context.Context, text string) (state.Token, error)
	// ValidTokens returns which of these are the SHA-256 of a valid token. It is asked
	// while addresses that fail are slowed down, at most ten times a second.
	ValidTokens func(ctx context.Context, hashes [][sha256.Size]byte) (map[[sha256.Size]byte]bool, error)
	// Requests is how many requests of a tenant, or of a token without one, are in flight
	// at once, from their bodies to the end of their answers, TotalRequests how many of all
	// are carried out; 0: DefaultRequests and
	// DefaultTotalRequests.
	Requests, TotalRequests int
	// Failed is called for each request without a valid token, with FailedMissing,
	// FailedInvalid or FailedThrottled, and Busy for each that was refused because too
	// many are in flight. Nil: nobody counts them.
	Failed func(reason string)
	Busy   func()
	// Hold is called for each request while it is carried out: when it was admitted and
	// has its body, until its answer is written. Nil: nobody needs to know.
	Hold   func(*http.Request) (release func())
	Logger zerolog.Logger
	// Version is Gancho's, for the OpenAPI document.
	Version string
}

// New returns the handler of everything under /api/v1. Its paths begin with
// that: mount it without http.StripPrefix. It is safe for concurrent use. It
// bounds how long a body and an answer may take; how long a header may is the
// server's to say.
func New(o Options) *Handler {
	h := &Handler{
		control: o.Control, log: o.Logger, gate: newGate(o), mux: http.NewServeMux(), busy: o.Busy, hold: o.Hold,
		flights: newFlights("requests", cmp.Or(o.Requests, DefaultRequests), cmp.Or(o.TotalRequests, DefaultTotalRequests)),
		turns:   newTurns(time.Now),
		tests:   newFlights("tests", cmp.Or(o.Requests, DefaultRequests), testRequests),
		erasing: newFlights("forgets", 1, 1),
	}
	h.document = sync.OnceValues(func() ([]byte, error) { return describe(o.Version) })
	for _, r := range routes() {
		h.mux.Handle(r.method+" "+root+r.path, h.serve(&r))
	}
	h.mux.Handle(elsewhere, h.serve(&route{handle: (*call).elsewhere}))
	return h
}

// Handler is the edge: what holds for every request.
type Handler struct {
	control  *control.Service
	log      zerolog.Logger
	gate     *gate
	flights  *flights
	turns    *turns   // of statements that may read very many rows
	tests    *flights // of those that wait for a receiver, which no other has to wait for
	erasing  *flights // of those that read all queues, which begin while they do
	busy     func()
	hold     func(*http.Request) (release func())
	mux      *http.ServeMux
	document func() ([]byte, error) // the OpenAPI document, made once
}

// route is a method of a path.
type route struct {
	method, path string
	// role is the one that the token needs; "" of elsewhere: any. The control
	// decides; checking it here, too, saves reading the body.
	role state.Role
	// query are the parameters it takes, with [] those that may be repeated.
	query []string
	// media are the types that its body may have; none: it takes no body.
	media []string
	// open needs no token; slow may take long; test waits for a receiver; erases reads
	// all queues.
	open, slow, test, erases bool
	handle                   handle
}

// call is a request on its way through its route.
type call struct {
	*Handler
	control *control.Service // the Handler's, or that of the source that the request names
	ctx     context.Context  //nolint:containedctx // a call is one request and lives as long
	http    *http.Request
	w       http.ResponseWriter
	actor   control.Actor
	query   *query
	body    []byte
	// drained: the whole body was read.
	drained bool
	leave   func() // called when the answer is written
	// resume begins to carry the request out, when it may; pause stops that. turned: it
	// had a turn; scanned: it has read all queues.
	resume          func(context.Context) error
	pause           func()
	turned, scanned bool
	turning         sync.Mutex // held from when a turn is asked for until it has ended
}

// answer is what a route returns.
type answer struct {
	// status: 0 is 200, or 204 without a body.
	status int
	// body is marshalled as JSON; a []byte is JSON already.
	body     any
	version  int64  // of an endpoint, for its entity tag; 0: none
	location string // of what was created
	written  bool   // the route has written all of it
}

// ServeHTTP answers a request; whatever goes wrong is answered as a problem.
func (h *Handler) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	header := w.Header()
	header.Set("Cache-Control", "no-store")
	header.Set("X-Content-Type-Options", "nosniff")
	header.Set("Content-Security-Policy", "default-src 'none'; frame-ancestors 'none'")
	header.Set("Referrer-Policy", "no-referrer")
	if p := r.URL.Path; path.Clean(p) != p || !isText(p) {
		// The mux would answer some of these with a redirect; no route has any.
		h.serve(&route{handle: func(*call) (answer, error) { return answer{}, notFound() }}).ServeHTTP(w, r)
		return
	}
	h.mux.ServeHTTP(w, r)
}

// isText: a database can be asked for it.
func isText(s string) bool { return utf8.ValidString(s) && !strings.ContainsRune(s, 0) }

// serve is the handler of a route.
func (h *Handler) serve(rt *route) http.Handler {
	limit := requestTime
	if rt.slow {
		limit = slowRequestTime
	}
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		started := time.Now()
		ctx, cancel := context.WithTimeout(r.Context(), limit)
		defer cancel()
		c := &call{Handler: h, control: h.control, ctx: ctx, http: r, w: w, leave: func() {}}
		defer func() { c.leave() }()
		a, err := c.run(w, rt)
		// What has no connection (a test's recorder) has no deadline.
		_ = http.NewResponseController(w).SetWriteDeadline(time.Now().Add(answerTime))
		status := c.reply(w, a, err)
		// Neither path nor query: they may have names and keys that were searched for.
		h.log.Debug().Str("method", r.Method).Str("route", root+rt.path).Int("status", status).
			Str("actor", c.actor.Name).Dur("took", time.Since(started)).Msg("api request answered")
	})
}

// run checks a request from the outside in, and then calls its route.
func (c *call) run(w http.ResponseWriter, rt *route) (a answer, err error) {
	defer func() {
		if p := recover(); p != nil {
			a, err = answer{}, &panicError{value: p, stack: debug.Stack()}
		}
	}()
	if !rt.open {
		if err := c.authenticate(rt.role); err != nil {
			return answer{}, err
		}
		leave, err := c.flights.enter(c.ctx, owner(c.actor))
		if err != nil {
			return answer{}, err
		}
		c.leave = leave
	}
	if rt.method == "" {
		return rt.handle(c)
	}
	c.query = parseQuery(c.http.URL.RawQuery, rt.query)
	if err := c.query.err(); err != nil {
		return answer{}, err
	}
	if c.body, c.drained, err = readBody(w, c.http, rt.media); err != nil {
		return answer{}, err
	}
	if rt.erases { // before it is carried out: who waits here keeps no other from that
		leave, err := c.erasing.enter(c.ctx, owner(c.actor))
		if err != nil {
			return answer{}, err
		}
		defer leave()
		c.ctx = control.WithScans(c.ctx, c.scan)
	}
	if !rt.open {
		c.carry(rt)
		if err := c.resume(c.ctx); err != nil {
			return answer{}, err
		}
		defer func() { c.pause() }()
		c.ctx = state.WithTurns(c.ctx, c.turn)
	}
	return c.atSource(rt)
}

// sourceParameter chooses one of several sources.
const sourceParameter = "source"

// atSource calls the route, at the source that the request names.
func (c *call) atSource(rt *route) (a answer, err error) {
	name := c.query.text(sourceParameter)
	if name == "" {
		return rt.handle(c)
	}
	err = c.control.Of(c.ctx, c.actor, name, func(of *control.Service) (err error) {
		c.control = of
		a, err = rt.handle(c)
		return err
	})
	return a, err
}

// TakesSource reports whether a request of a method and a path, as in openapi.yaml, may name one of several sources.
func TakesSource(method, path string) bool {
	return slices.ContainsFunc(routes(), func(r route) bool {
		return r.method == method && r.path == path && slices.Contains(r.query, sourceParameter)
	})
}

// carry sets resume and pause: while the request is carried out, it has one of the slots of
// all, and holds its connection.
func (c *call) carry(rt *route) {
	all := c.flights
	if rt.test {
		all = c.tests
	}
	paused := func() {}
	c.pause = paused
	c.resume = func(ctx context.Context) error {
		end, err := all.begin(ctx)
		if err != nil {
			return err
		}
		release := paused
		if c.hold != nil {
			release = c.hold(c.http)
		}
		c.pause = func() {
			release()
			end()
			c.pause = paused
		}
		return nil
	}
}

func (c *call) authenticate(needs state.Role) error {
	token, err := c.gate.admit(c.ctx, c.http)
	if err != nil {
		return err
	}
	c.actor = control.Actor{Name: "token:" + token.Name, Role: token.Role, Tenant: token.Tenant, Token: token.ID}
	if needs != "" && !token.Role.Covers(needs) {
		return &control.ForbiddenError{Needs: needs}
	}
	return nil
}

// elsewhere answers what no route is for: the path may have other methods.
func (c *call) elsewhere() (answer, error) {
	var allowed []string
	for _, method := range []string{http.MethodGet, http.MethodHead, http.MethodPost, http.MethodPatch, http.MethodDelete} {
		r := c.http.Clone(c.ctx)
		r.Method = method
		if _, pattern := c.mux.Handler(r); pattern != elsewhere {
			allowed = append(allowed, method)
		}
	}
	if len(allowed) == 0 {
		return answer{}, notFound()
	}
	list := strings.Join(allowed, ", ")
	return answer{}, &problem{
		kind: kindMethod, Detail: fmt.Sprintf("This path has no %s; it has %s.", cmp.Or(c.http.Method, http.MethodGet), list),
		header: http.Header{"Allow": {list}},
	}
}

//go:embed openapi.yaml
var openAPISource []byte

// describe returns openapi.yaml as JSON, with Gancho's version.
func describe(version string) ([]byte, error) {
	var document map[string]any
	if err := yaml.Unmarshal(openAPISource, &document); err != nil {
		return nil, fmt.Errorf("read openapi.yaml: %w", err)
	}
	if info, ok := document["info"].(map[string]any); ok && version != "" {
		info["version"] = version
	}
	return json.Marshal(document)
}

func (c *call) openAPI() (answer, error) {
	body, err := c.document()
	return answer{body: body}, err
}
