package api_test

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"runtime"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/rs/zerolog"

	"gancho/internal/api"
	"gancho/internal/control"
	"gancho/internal/state"
	"gancho/mapping"
)

func handler(authenticate func(context.Context, string) (state.Token, error)) http.Handler {
	return api.New(api.Options{Control: control.New(control.Options{}), Authenticate: authenticate, Logger: zerolog.Nop()})
}

// ask makes a request from an address.
func ask(h http.Handler, from, path string, headers ...header) *httptest.ResponseRecorder {
	r := httptest.NewRequest(http.MethodGet, path, nil)
	r.RemoteAddr = from
	for _, h := range headers {
		r.Header.Add(h.name, h.value)
	}
	w := httptest.NewRecorder()
	h.ServeHTTP(w, r)
	return w
}

func bearer(text string) header { return header{"Authorization", "Bearer " + text} }

func TestTokenIsNeeded(t *testing.T) {
	t.Parallel()
	tokens := fixed(map[string]state.Token{"gancho_good": {Name: "good", Role: state.Viewer}})
	for _, c := range []struct {
		name      string
		headers   []header
		challenge string
	}{
		{"none", nil, `Bearer realm="gancho"`},
		{"empty", []header{bearer("")}, `Bearer realm="gancho", error="invalid_token"`},
		{"unknown", []header{bearer("gancho_bad")}, `Bearer realm="gancho", error="invalid_token"`},
		{"another scheme", []header{{"Authorization", "Basic Z2FuY2hvOmdvb2Q="}}, `Bearer realm="gancho", error="invalid_token"`},
		{"two", []header{bearer("gancho_good"), bearer("gancho_good")}, `Bearer realm="gancho", error="invalid_token"`},
		{"huge", []header{bearer(strings.Repeat("x", 10_000))}, `Bearer realm="gancho", error="invalid_token"`},
		{"in the query", []header{}, `Bearer realm="gancho"`},
	} {
		for _, path := range []string{"/api/v1/event-types?access_token=gancho_good", "/api/v1/nowhere", "/api/v1/tokens/x"} {
			a := ask(handler(tokens), "192.0.2.1:4711", path, c.headers...)
			if a.Code != http.StatusUnauthorized || a.Header().Get("WWW-Authenticate") != c.challenge {
				t.Errorf("%s, %s: %d, %q", c.name, path, a.Code, a.Header().Get("WWW-Authenticate"))
			}
		}
	}
	h := handler(tokens)
	if a := ask(h, "192.0.2.1:4711", "/api/v1/event-types", header{"Authorization", "bearer gancho_good"}); a.Code != http.StatusOK {
		t.Errorf("a valid token: %d: %s", a.Code, a.Body)
	}
	if a := ask(h, "192.0.2.1:4711", "/api/v1/openapi.json"); a.Code != http.StatusOK {
		t.Errorf("the description without a token: %d: %s", a.Code, a.Body)
	}
}

func TestFailedTokensSlowDown(t *testing.T) {
	t.Parallel()
	asked := 0
	known := fixed(map[string]state.Token{"gancho_good": {Name: "good", Role: state.Viewer}, "gancho_late": {Name: "late", Role: state.Viewer}})
	h := handler(func(ctx context.Context, text string) (state.Token, error) {
		asked++
		return known(ctx, text)
	})
	api.StopClock(h)
	const from, elsewhere = "192.0.2.1:4711", "192.0.2.2:4711"
	if a := ask(h, from, "/api/v1/event-types", bearer("gancho_good")); a.Code != http.StatusOK {
		t.Fatalf("a valid token: %d", a.Code)
	}
	codes := map[int]int{}
	for i := range 500 {
		a := ask(h, from, "/api/v1/event-types", bearer(fmt.Sprint("gancho_bad", i)))
		codes[a.Code]++
		if a.Code == http.StatusTooManyRequests && a.Header().Get("Retry-After") == "" {
			t.Fatal("a 429 does not say when to come again")
		}
	}
	if codes[http.StatusUnauthorized] != api.FailureBurst || codes[http.StatusTooManyRequests] != 500-api.FailureBurst || asked != 1+api.FailureBurst {
		t.Errorf("500 wrong tokens: %v, and the database was asked %d times", codes, asked)
	}
	// Behind a proxy the one who knows the token has the same address.
	if a := ask(h, from, "/api/v1/event-types", bearer("gancho_good")); a.Code != http.StatusOK {
		t.Errorf("a token that was valid before, from the same address: %d", a.Code)
	}
	if a := ask(h, from, "/api/v1/event-types", bearer("gancho_late")); a.Code != http.StatusTooManyRequests {
		t.Errorf("a token that nobody knows to be valid, from the same address: %d", a.Code)
	}
	if a := ask(h, elsewhere, "/api/v1/event-types", bearer("gancho_late")); a.Code != http.StatusOK {
		t.Errorf("a valid token from another address: %d", a.Code)
	}
}

// A valid token is admitted whatever others behind its address do, and the database is
// not asked for each of their tokens.
func TestValidTokensAreNotThrottled(t *testing.T) {
	t.Parallel()
	const from = "192.0.2.1:4711"
	valid := map[string]state.Token{"gancho_late": {Name: "late", Role: state.Viewer}}
	known := fixed(valid)
	var mu sync.Mutex
	asked, read := 0, 0
	h := api.New(api.Options{
		Control: control.New(control.Options{}), Logger: zerolog.Nop(),
		Authenticate: func(ctx context.Context, text string) (state.Token, error) {
			mu.Lock()
			defer mu.Unlock()
			asked++
			return known(ctx, text)
		},
		ValidTokens: func(_ context.Context, asked [][sha256.Size]byte) (map[[sha256.Size]byte]bool, error) {
			mu.Lock()
			defer mu.Unlock()
			read++
			hashes := map[[sha256.Size]byte]bool{}
			for text := range valid {
				if hash := sha256.Sum256([]byte(text)); slices.Contains(asked, hash) {
					hashes[hash] = true
				}
			}
			return hashes, nil
		},
	})
	api.StopClock(h)
	began := time.Now()
	for i := range api.FailureBurst + 5 {
		ask(h, from, "/api/v1/event-types", bearer(fmt.Sprint("gancho_bad", i)))
	}
	var flood sync.WaitGroup
	for i := range 200 {
		flood.Go(func() { ask(h, from, "/api/v1/event-types", bearer(fmt.Sprint("gancho_worse", i))) })
	}
	if a := ask(h, from, "/api/v1/event-types", bearer("gancho_bad")); a.Code != http.StatusTooManyRequests {
		t.Errorf("an address that fails is not slowed down: %d", a.Code)
	}
	if a := ask(h, from, "/api/v1/event-types", bearer("gancho_late")); a.Code != http.StatusOK {
		t.Errorf("a valid token is answered %d, because others fail", a.Code)
	}
	flood.Wait()
	mu.Lock()
	defer mu.Unlock()
	tenths := 2 + int(time.Since(began)/(100*time.Millisecond))
	if asked != api.FailureBurst+1 || read > tenths {
		t.Errorf("in %d tenths of a second the database was asked for %d tokens, want %d, and %d times for all", tenths, asked, api.FailureBurst+1, read)
	}
	// A token is admitted from the moment on at which it exists.
	valid["gancho_new"] = state.Token{Name: "new", Role: state.Viewer}
	mu.Unlock()
	a := ask(h, from, "/api/v1/event-types", bearer("gancho_new"))
	mu.Lock()
	if a.Code != http.StatusOK {
		t.Errorf("a token that was just made is answered %d", a.Code)
	}
}

// Guesses that come together are as few as those one after the other.
func TestParallelGuesses(t *testing.T) {
	t.Parallel()
	var asked atomic.Int64
	release := make(chan struct{})
	h := handler(func(context.Context, string) (state.Token, error) {
		asked.Add(1)
		<-release
		return state.Token{}, state.ErrNotFound
	})
	api.StopClock(h)
	const guesses = 5 * api.FailureBurst
	answers := make(chan int, guesses)
	for i := range guesses {
		go func() {
			answers <- ask(h, "192.0.2.1:1", "/api/v1/event-types", bearer(fmt.Sprint("gancho_bad", i))).Code
		}()
	}
	for range guesses - api.FailureBurst {
		if code := <-answers; code != http.StatusTooManyRequests {
			t.Errorf("a guess too many is answered %d", code)
		}
	}
	close(release)
	for range api.FailureBurst {
		<-answers
	}
	if n := asked.Load(); n != api.FailureBurst {
		t.Errorf("the database was asked for %d of %d guesses", n, guesses)
	}
}

// Failed logins are logged with their address, and counted; a flood of them is one line.
func TestFailedLoginsAreReported(t *testing.T) {
	t.Parallel()
	var log strings.Builder
	counts := map[string]int{}
	h := api.New(api.Options{
		Control: control.New(control.Options{}), Logger: zerolog.New(&log).Level(zerolog.InfoLevel),
		Authenticate: fixed(map[string]state.Token{"gancho_good": {Name: "good", Role: state.Viewer}}),
		Failed:       func(reason string) { counts[reason]++ },
	})
	api.StopClock(h)
	if a := ask(h, "192.0.2.9:1", "/api/v1/event-types", bearer("gancho_good")); a.Code != http.StatusOK || log.Len() > 0 {
		t.Errorf("a valid token is answered %d and logged: %s", a.Code, log.String())
	}
	ask(h, "192.0.2.8:1", "/api/v1/event-types")
	for i := range 500 {
		ask(h, "192.0.2.7:1", "/api/v1/event-types", bearer(fmt.Sprint("gancho_secret", i)))
	}
	if counts[api.FailedMissing] != 1 || counts[api.FailedInvalid] != api.FailureBurst || counts[api.FailedThrottled] != 500-api.FailureBurst {
		t.Errorf("the failures are counted as %v", counts)
	}
	lines := strings.Count(log.String(), "\n")
	if lines != 2 || !strings.Contains(log.String(), `"address":"192.0.2.7","reason":"invalid"`) || !strings.Contains(log.String(), `"address":"192.0.2.8","reason":"missing"`) {
		t.Errorf("two addresses that failed are logged as:\n%s", log.String())
	}
	if strings.Contains(log.String(), "secret") {
		t.Errorf("the log has a token:\n%s", log.String())
	}
	for i := range 2000 {
		ask(h, fmt.Sprintf("10.0.%d.%d:1", i>>8, i&255), "/api/v1/event-types", bearer("gancho_bad"))
	}
	if lines := strings.Count(log.String(), "\n"); lines > 200 {
		t.Errorf("2,000 addresses that failed are %d lines", lines)
	}
}

// One tenant's requests do not keep another's waiting, however many tokens it has.
func TestRequestsInFlightAreLimited(t *testing.T) {
	t.Parallel()
	const each = 2
	tokens := map[string]state.Token{"gancho_other": {Name: "other", Role: state.Viewer, Tenant: "2"}, "gancho_root": {Name: "root", Role: state.Viewer}}
	for i := range 20 {
		tokens[fmt.Sprint("gancho_", i)] = state.Token{Name: fmt.Sprint(i), Role: state.Viewer, Tenant: "1"}
	}
	var started, busy atomic.Int64
	release := make(chan struct{})
	h := api.New(api.Options{
		Control: control.New(control.Options{Catalogue: func() []mapping.EventType {
			if started.Add(1) <= each {
				<-release
			}
			return nil
		}}),
		Logger: zerolog.Nop(), Authenticate: fixed(tokens), Requests: each, Busy: func() { busy.Add(1) },
	})
	answers := make(chan *httptest.ResponseRecorder, 20)
	for i := range 20 {
		go func() {
			answers <- ask(h, "192.0.2.1:1", "/api/v1/event-types", bearer(fmt.Sprint("gancho_", i)))
		}()
	}
	// 2 are carried out, 8 wait, 10 are refused.
	for range 10 {
		if a := <-answers; a.Code != http.StatusTooManyRequests || a.Header().Get("Retry-After") == "" || !strings.Contains(a.Body.String(), "tenant 1") {
			t.Errorf("a request too many is answered %d: %s", a.Code, a.Body)
		}
	}
	for _, name := range []string{"gancho_other", "gancho_root"} { // the controls
		if a := ask(h, "192.0.2.1:1", "/api/v1/event-types", bearer(name)); a.Code != http.StatusOK {
			t.Errorf("%s is answered %d: %s", name, a.Code, a.Body)
		}
	}
	close(release)
	for range 10 {
		if a := <-answers; a.Code != http.StatusOK {
			t.Errorf("a request that waited is answered %d: %s", a.Code, a.Body)
		}
	}
	if busy.Load() != 10 {
		t.Errorf("10 requests were refused, and %d are counted", busy.Load())
	}
}

// Bodies that do not arrive, and answers that are not read, hold up nobody but their tenant.
func TestTransfersHoldUpTheirTenantOnly(t *testing.T) {
	t.Parallel()
	const each, total = 2, 3
	var holds, held atomic.Int64
	tokens := map[string]state.Token{"gancho_other": {Name: "other", Role: state.Viewer, Tenant: "other"}}
	h := api.New(api.Options{
		Control: control.New(control.Options{}), Logger: zerolog.Nop(),
		Authenticate: func(ctx context.Context, text string) (state.Token, error) { return fixed(tokens)(ctx, text) },
		Requests:     each, TotalRequests: total,
		Hold: func(*http.Request) func() {
			holds.Add(1)
			held.Add(1)
			return func() { held.Add(-1) }
		},
	})
	var stuck sync.WaitGroup
	release := make(chan struct{})
	for tenant := range 4 {
		text := fmt.Sprint("gancho_", tenant)
		tokens[text] = state.Token{Name: text, Role: state.Admin, Tenant: text}
	}
	for i := range 8 {
		at := &stuckTransfer{ResponseRecorder: httptest.NewRecorder(), reached: make(chan struct{}), release: release}
		method, path, body := http.MethodPost, "/api/v1/tokens", io.NopCloser(at)
		if i%2 == 1 {
			method, path, body = http.MethodGet, "/api/v1/event-types", http.NoBody
		}
		r := httptest.NewRequest(method, path, body)
		r.Header.Set("Authorization", fmt.Sprint("Bearer gancho_", i/2))
		stuck.Go(func() { h.ServeHTTP(at, r) })
		<-at.reached
	}
	if a := ask(h, "192.0.2.1:1", "/api/v1/event-types", bearer("gancho_other")); a.Code != http.StatusOK {
		t.Errorf("while 4 others' requests are transferred, a tenant is answered %d: %s", a.Code, a.Body)
	}
	if holds.Load() != 5 || held.Load() != 0 {
		t.Errorf("5 requests were carried out, and no longer are: %d connections were held, and %d still are", holds.Load(), held.Load())
	}
	close(release)
	stuck.Wait()
}

// stuckTransfer is a request whose body and answer are stuck until it is released.
type stuckTransfer struct {
	*httptest.ResponseRecorder
	once             sync.Once
	reached, release chan struct{}
}

func (s *stuckTransfer) wait() {
	s.once.Do(func() { close(s.reached) })
	<-s.release
}

// Read is the body.
func (s *stuckTransfer) Read([]byte) (int, error) {
	s.wait()
	return 0, io.EOF
}

// Write is the answer.
func (s *stuckTransfer) Write(b []byte) (int, error) {
	s.wait()
	return s.ResponseRecorder.Write(b)
}

// A host of IPv6 has 2^64 addresses: they count as one.
func TestFailuresCountPerNetwork(t *testing.T) {
	t.Parallel()
	h := handler(fixed(nil))
	api.StopClock(h)
	limited := 0
	for i := range 200 {
		if ask(h, fmt.Sprintf("[2001:db8:1:1::%x]:80", i), "/api/v1/status", bearer("x")).Code == http.StatusTooManyRequests {
			limited++
		}
	}
	if limited != 200-api.FailureBurst {
		t.Errorf("%d of 200 were slowed down", limited)
	}
	if a := ask(h, "[2001:db8:1:2::1]:80", "/api/v1/status", bearer("x")); a.Code != http.StatusUnauthorized {
		t.Errorf("another network: %d", a.Code)
	}
}

// What the gate remembers is bounded, however many addresses and tokens come.
// It runs alone, because it measures the whole heap.
func TestGateIsBounded(t *testing.T) {
	h := handler(func(context.Context, string) (state.Token, error) { return state.Token{}, state.ErrNotFound })
	fill := func(from, n int) uint64 {
		for i := range n {
			i += from
			ask(h, fmt.Sprintf("10.%d.%d.%d:1", i>>16&255, i>>8&255, i&255), "/api/v1/status", bearer(fmt.Sprint(i)))
		}
		runtime.GC()
		var m runtime.MemStats
		runtime.ReadMemStats(&m)
		return m.HeapAlloc
	}
	before := fill(0, 2*api.RememberedAddresses)
	after := fill(2*api.RememberedAddresses, 5*api.RememberedAddresses)
	// So many more addresses would be some 3 MB.
	if after > before+1<<20 {
		t.Errorf("the heap grew from %d to %d bytes", before, after)
	}
}

func TestDatabaseAway(t *testing.T) {
	t.Parallel()
	for _, err := range []error{fmt.Errorf("read token: %w", state.ErrUnreachable), fmt.Errorf("read token: %w", state.ErrSchema), context.DeadlineExceeded} {
		h := handler(func(context.Context, string) (state.Token, error) { return state.Token{}, err })
		a := ask(h, "192.0.2.1:1", "/api/v1/status", bearer("gancho_good"))
		if a.Code != http.StatusServiceUnavailable || a.Header().Get("Retry-After") == "" {
			t.Errorf("%v: %d: %s", err, a.Code, a.Body)
		}
	}
	slow := handler(func(context.Context, string) (state.Token, error) {
		return state.Token{}, fmt.Errorf("read: %w", state.ErrSlow)
	})
	if a := ask(slow, "192.0.2.1:1", "/api/v1/status", bearer("gancho_good")); a.Code != http.StatusServiceUnavailable || !strings.Contains(a.Body.String(), "urn:gancho:problem:slow") {
		t.Errorf("a statement that takes too long: %d: %s", a.Code, a.Body)
	}
	h := handler(func(context.Context, string) (state.Token, error) {
		return state.Token{}, errors.New("password=hunter2")
	})
	if a := ask(h, "192.0.2.1:1", "/api/v1/status", bearer("gancho_good")); a.Code != http.StatusInternalServerError || strings.Contains(a.Body.String(), "hunter2") {
		t.Errorf("an unknown error: %d: %s", a.Code, a.Body)
	}
}

func TestPanicIsAProblem(t *testing.T) {
	t.Parallel()
	var log strings.Builder
	h := api.New(api.Options{
		Control: control.New(control.Options{}), Logger: zerolog.New(&log),
		Authenticate: func(context.Context, string) (state.Token, error) { panic("hunter2") },
	})
	a := ask(h, "192.0.2.1:1", "/api/v1/status", bearer("gancho_good"))
	if a.Code != http.StatusInternalServerError || a.Header().Get("Content-Type") != "application/problem+json" || strings.Contains(a.Body.String(), "hunter2") {
		t.Errorf("the answer is %d %s: %s", a.Code, a.Header(), a.Body)
	}
	if got := log.String(); !strings.Contains(got, "auth_test.go") || strings.Contains(got, "hunter2") {
		t.Errorf("the log does not say where it was, or says too much: %s", got)
	}
}
