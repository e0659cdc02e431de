package api

import (
	"context"
	"crypto/sha256"
	"errors"
	"net/http"
	"net/netip"
	"strings"
	"sync"

	"golang.org/x/time/rate"

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
	// maxToken is far more than a token has.
	maxToken = 256
)

// gate admits requests with a token, and slows down addresses that keep trying
// without one.
//
// An address is often not a person: behind a reverse proxy all share one. So a
// token that was valid recently is looked up even while its address is slowed down.
type gate struct {
	authenticate func(context.Context, string) (state.Token, error)

	mu       sync.Mutex
	failures *recent[netip.Prefix, *rate.Limiter]
	valid    *recent[[sha256.Size]byte, struct{}]
}

func newGate(authenticate func(context.Context, string) (state.Token, error)) *gate {
	return &gate{
		authenticate: authenticate,
		failures:     newRecent[netip.Prefix, *rate.Limiter](rememberedAddresses),
		valid:        newRecent[[sha256.Size]byte, struct{}](rememberedTokens),
	}
}

// admit returns the request's token. Its errors are a *problem, or the
// error of the lookup in the state database.
func (g *gate) admit(ctx context.Context, r *http.Request) (state.Token, error) {
	from := network(r.RemoteAddr)
	text, ok := bearer(r)
	hash := sha256.Sum256([]byte(text))
	if !g.mayTry(from, hash) {
		return state.Token{}, throttled()
	}
	if !ok {
		g.failed(from, hash)
		return state.Token{}, unauthorized(r.Header.Get("Authorization") != "")
	}
	token, err := g.authenticate(ctx, text)
	switch {
	case errors.Is(err, state.ErrNotFound):
		g.failed(from, hash)
		return state.Token{}, unauthorized(true)
	case err != nil:
		return state.Token{}, err
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	g.valid.put(hash, struct{}{})
	return token, nil
}

func (g *gate) mayTry(from netip.Prefix, hash [sha256.Size]byte) bool {
	g.mu.Lock()
	defer g.mu.Unlock()
	if _, ok := g.valid.get(hash); ok {
		return true
	}
	limiter, ok := g.failures.get(from)
	return !ok || limiter.Tokens() >= 1
}

func (g *gate) failed(from netip.Prefix, hash [sha256.Size]byte) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.valid.remove(hash)
	limiter, ok := g.failures.get(from)
	if !ok {
		limiter = rate.NewLimiter(failureRate, failureBurst)
		g.failures.put(from, limiter)
	}
	limiter.Allow()
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

// network is what counts as one address: an IPv4 address, or the /64 that a
// host of IPv6 usually has for itself. Addresses that cannot be read share one.
func network(remote string) netip.Prefix {
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

func (c *call) createToken() (answer, error) {
	var n state.Token
	err := c.decode(
		member{name: "name", into: &n.Name, expects: "a text", required: true},
		member{name: "role", into: &n.Role, expects: "viewer, operator or admin", required: true},
		member{name: "tenant", into: &n.Tenant, expects: "a text"},
		member{name: "expires", into: &n.Expires, expects: `a time such as "2027-01-01T00:00:00Z"`})
	if err != nil {
		return answer{}, err
	}
	view, err := c.control.CreateToken(c.ctx, c.actor, n)
	return answer{status: http.StatusCreated, body: view, location: root + "/tokens/" + view.Name}, err
}

func (c *call) revokeToken() (answer, error) {
	return answer{}, c.control.RevokeToken(c.ctx, c.actor, c.name())
}
