package api

import (
	"context"
	"crypto/sha256"
	"errors"
	"net/http"
	"net/netip"
	"strings"
	"sync"
	"time"

	"github.com/rs/zerolog"
	"golang.org/x/time/rate"

	"gancho/internal/control"
	"gancho/internal/state"
)

const (
	// failureRate and failureBurst are how many requests without a valid token
	// an address may make. A token cannot be guessed at any rate; the limit
	// protects the state database, which every lookup queries.
	failureRate  = rate.Limit(2)
	failureBurst = 20
	// rememberedAddresses and rememberedTokens bound what the gate keeps in memory.
	rememberedAddresses = 4096
	rememberedTokens    = 1024
	// hashesEvery is the time between two lookups of the tokens of addresses that are
	// slowed down.
	hashesEvery = 100 * time.Millisecond
	// loginTime is how long the database may take to say whose a token is.
	loginTime = 10 * time.Second
	// loginLineEvery is the time between two lines of the log about one address;
	// loginLineRate and loginLineBurst limit those about all.
	loginLineEvery = time.Minute
	loginLineRate  = rate.Limit(1)
	loginLineBurst = 20
	// maxToken is far more than a token has.
	maxToken = 256
)

// Why a request was not admitted.
const (
	FailedMissing   = "missing"   // it has no token
	FailedInvalid   = "invalid"   // its token is not valid
	FailedThrottled = "throttled" // too many before it have failed
)

// gate admits requests with a token, and slows down addresses that keep trying
// without one.
//
// An address is often not a person: behind a reverse proxy all share one. So a valid
// token is admitted although its address is slowed down: it was valid lately, or is found
// to be in a lookup of the tokens of all requests that wait together.
type gate struct {
	authenticate func(context.Context, string) (state.Token, error)
	validTokens  func(context.Context, [][sha256.Size]byte) (map[[sha256.Size]byte]bool, error)
	report       func(reason string)
	log          zerolog.Logger
	now          func() time.Time // for failures and lines
	// lines limits the lines of the log about all addresses together.
	lines *rate.Limiter

	mu       sync.Mutex
	failures *recent[netip.Prefix, *failing]
	valid    *recent[[sha256.Size]byte, struct{}]

	next      *lookup       // that requests may still join; nil: none waits. Guarded by mu
	asking    chan struct{} // capacity 1: one lookup is asked at a time
	questions *rate.Limiter // limits how often
}

// failing is an address that has failed, or may.
type failing struct {
	limiter *rate.Limiter
	trying  int       // requests whose tokens are being looked up
	logged  time.Time // last
	since   int       // failures since then
}

func newGate(o Options) *gate {
	return &gate{
		authenticate: o.Authenticate, validTokens: o.ValidTokens, report: o.Failed, log: o.Logger, lines: rate.NewLimiter(loginLineRate, loginLineBurst),
		now:       time.Now,
		asking:    make(chan struct{}, 1),
		questions: rate.NewLimiter(rate.Every(hashesEvery), 1),
		failures:  newRecent[netip.Prefix, *failing](rememberedAddresses),
		valid:     newRecent[[sha256.Size]byte, struct{}](rememberedTokens),
	}
}

// Admit returns the token with this text, which somebody at the address shows elsewhere than to the API: state.ErrNotFound when there is
// none that is valid, control.ErrThrottled. Failures here and there count together.
func (h *Handler) Admit(ctx context.Context, remote, text string) (state.Token, error) {
	token, err := h.gate.admit(ctx, &http.Request{RemoteAddr: remote, Header: http.Header{"Authorization": {"Bearer " + text}}})
	var refused *problem
	switch {
	case !errors.As(err, &refused):
		return token, err
	case refused.kind == kindThrottled:
		return token, control.ErrThrottled
	}
	return token, state.ErrNotFound
}

// admit returns the request's token. Its errors are a *problem, or the
// error of the lookup in the state database.
func (g *gate) admit(ctx context.Context, r *http.Request) (state.Token, error) {
	ctx, cancel := context.WithTimeout(ctx, loginTime)
	defer cancel()
	from := Network(r.RemoteAddr)
	text, ok := bearer(r)
	hash := sha256.Sum256([]byte(text))
	may, release := g.reserve(from, hash)
	defer release()
	if !may && ok && g.validTokens != nil {
		var err error
		if may, err = g.isValid(ctx, hash); err != nil {
			return state.Token{}, err
		}
	}
	if !may {
		g.failed(from, hash, FailedThrottled)
		return state.Token{}, throttled()
	}
	if !ok {
		given := r.Header.Get("Authorization") != ""
		reason := FailedMissing
		if given {
			reason = FailedInvalid
		}
		g.failed(from, hash, reason)
		return state.Token{}, unauthorized(given)
	}
	token, err := g.authenticate(ctx, text)
	switch {
	case errors.Is(err, state.ErrNotFound):
		g.failed(from, hash, FailedInvalid)
		return state.Token{}, unauthorized(true)
	case err != nil:
		return state.Token{}, err
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	g.valid.put(hash, struct{}{})
	return token, nil
}

// reserve reports whether the token may be looked up: it was valid lately, or its address
// may fail once more than with those that are being looked up. release is called when the
// outcome is known.
func (g *gate) reserve(from netip.Prefix, hash [sha256.Size]byte) (may bool, release func()) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if _, ok := g.valid.get(hash); ok {
		return true, func() {}
	}
	f := g.failingLocked(from)
	if f.limiter.TokensAt(g.now()) < float64(f.trying+1) {
		return false, func() {}
	}
	f.trying++
	return true, func() {
		g.mu.Lock()
		defer g.mu.Unlock()
		f.trying--
	}
}

func (g *gate) failingLocked(from netip.Prefix) *failing {
	f, ok := g.failures.get(from)
	if !ok {
		f = &failing{limiter: rate.NewLimiter(failureRate, failureBurst)}
		g.failures.put(from, f)
	}
	return f
}

// lookup is the question which of some tokens are valid, of all requests that wait together.
type lookup struct {
	hashes [][sha256.Size]byte // guarded by the gate's mu, until it is asked
	done   chan struct{}       // closed when valid and err are there
	valid  map[[sha256.Size]byte]bool
	err    error
}

// isValid reports whether the token is valid now. The first request that waits asks for all.
func (g *gate) isValid(ctx context.Context, hash [sha256.Size]byte) (bool, error) {
	g.mu.Lock()
	l := g.next
	first := l == nil
	if first {
		l = &lookup{done: make(chan struct{})}
		g.next = l
	}
	l.hashes = append(l.hashes, hash)
	g.mu.Unlock()
	if first {
		g.ask(context.WithoutCancel(ctx), l) // also for the others
	}
	select {
	case <-l.done:
		return l.valid[hash], l.err
	case <-ctx.Done():
		return false, ctx.Err()
	}
}

// ask answers the next lookup, hashesEvery after the one before it.
func (g *gate) ask(ctx context.Context, l *lookup) {
	defer close(l.done)
	ctx, cancel := context.WithTimeout(ctx, loginTime)
	defer cancel()
	select {
	case g.asking <- struct{}{}:
		defer func() { <-g.asking }()
		l.err = g.questions.Wait(ctx)
	case <-ctx.Done():
		l.err = ctx.Err()
	}
	g.mu.Lock()
	g.next = nil // who comes from now on waits for the lookup after this one
	g.mu.Unlock()
	if l.err == nil {
		l.valid, l.err = g.validTokens(ctx, l.hashes)
	}
}

// failed notes a request that was not admitted, and logs it unless its address, or all
// together, have been logged a moment ago.
func (g *gate) failed(from netip.Prefix, hash [sha256.Size]byte, reason string) {
	if g.report != nil {
		g.report(reason)
	}
	g.mu.Lock()
	g.valid.remove(hash)
	f := g.failingLocked(from)
	if reason != FailedThrottled {
		f.limiter.AllowN(g.now(), 1)
	}
	f.since++
	since := f.since
	now := g.now()
	line := now.Sub(f.logged) >= loginLineEvery && g.lines.AllowN(now, 1)
	if line {
		f.logged, f.since = now, 0
	}
	g.mu.Unlock()
	if line {
		g.log.Warn().Str("address", address(from)).Str("reason", reason).Int("failures", since).Msg("api login failed")
	}
}

// address is the network as people write it.
func address(from netip.Prefix) string {
	switch {
	case !from.IsValid():
		return "unknown"
	case from.IsSingleIP():
		return from.Addr().String()
	}
	return from.String()
}

// bearer returns the token of the Authorization header (RFC 6750, section 2.1).
func bearer(r *http.Request) (string, bool) {
	values := r.Header.Values("Authorization")
	if len(values) != 1 {
		return "", false
	}
	scheme, text, _ := strings.Cut(values[0], " ")
	text = strings.TrimSpace(text)
	return text, strings.EqualFold(scheme, "Bearer") && text != "" && len(text) <= maxToken
}

// Network is what counts as one address: an IPv4 address, or the /64 that a
// host of IPv6 usually has for itself. Addresses that cannot be read share one.
func Network(remote string) netip.Prefix {
	address, err := netip.ParseAddrPort(remote)
	if err != nil {
		return netip.Prefix{}
	}
	ip := address.Addr().Unmap().WithZone("")
	bits := 32
	if ip.Is6() {
		bits = 64
	}
	p, err := ip.Prefix(bits)
	if err != nil {
		return netip.Prefix{}
	}
	return p
}

func unauthorized(given bool) *problem {
	p := &problem{
		kind: kindUnauthorized, Detail: "The request has no token. Send the header Authorization: Bearer gancho_...; create a token with: gancho tokens create.",
		header: http.Header{"Www-Authenticate": {`Bearer realm="gancho"`}},
	}
	if given {
		p.Detail = "The token is not valid: it is misspelt, has expired, or was revoked. Create another with: gancho tokens create."
		p.header = http.Header{"Www-Authenticate": {`Bearer realm="gancho", error="invalid_token"`}}
	}
	return p
}

func throttled() *problem {
	return &problem{
		kind: kindThrottled, Detail: "Too many requests without a valid token came from this address. Wait, and send a valid token.",
		header: http.Header{"Retry-After": {"1"}},
	}
}

// recent is a map that remembers at least the last n keys put, and at most
// twice as many: when one generation is full, the one before it is dropped.
type recent[K comparable, V any] struct {
	n             int
	young, former map[K]V
}

func newRecent[K comparable, V any](n int) *recent[K, V] {
	return &recent[K, V]{n: n, young: map[K]V{}}
}

// get counts as a put of a key that is found.
func (r *recent[K, V]) get(key K) (V, bool) {
	if v, ok := r.young[key]; ok {
		return v, true
	}
	v, ok := r.former[key]
	if ok {
		r.put(key, v)
	}
	return v, ok
}

func (r *recent[K, V]) put(key K, v V) {
	if _, ok := r.young[key]; !ok && len(r.young) >= r.n {
		r.former, r.young = r.young, make(map[K]V, r.n)
	}
	r.young[key] = v
}

func (r *recent[K, V]) remove(key K) {
	delete(r.young, key)
	delete(r.former, key)
}

// expiry is a time or never.
type expiry struct {
	time.Time
	never bool
}

// UnmarshalJSON implements json.Unmarshaler.
func (e *expiry) UnmarshalJSON(src []byte) error {
	if e.never = string(src) == `"never"`; e.never {
		return nil
	}
	return e.Time.UnmarshalJSON(src)
}

func (c *call) createToken() (answer, error) {
	var n control.NewToken
	var expires expiry
	err := c.decode(
		member{name: "name", into: &n.Name, expects: "a text", required: true},
		member{name: "role", into: &n.Role, expects: "viewer, operator or admin", required: true},
		member{name: "tenant", into: &n.Tenant, expects: "a text"},
		member{name: "expires", into: &expires, expects: `a time such as "2027-01-01T00:00:00Z", or "never"`})
	if err != nil {
		return answer{}, err
	}
	n.Expires, n.Forever = expires.Time, expires.never
	view, err := c.control.CreateToken(c.ctx, c.actor, n)
	return answer{status: http.StatusCreated, body: view, location: root + "/tokens/" + view.Name}, err
}

func (c *call) revokeToken() (answer, error) {
	return answer{}, c.control.RevokeToken(c.ctx, c.actor, c.name())
}
