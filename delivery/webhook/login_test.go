package webhook_test

import (
	"bufio"
	"context"
	"encoding/json"
	"io"
	"net/http"
	"net/http/httputil"
	"net/url"
	"os"
	"os/exec"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"gancho/delivery/endpoint"
	"gancho/delivery/webhook"

	"github.com/rs/zerolog"
)

const (
	clientID     = "academia:centro 1"
	clientSecret = "s3cr3t+/=: & 100%"
)

// provider is an OAuth 2.0 server, oidc-provider, behind a proxy that counts its requests for
// tokens and can stand in for it.
type provider struct {
	url     string // of the proxy
	server  string // of the server itself
	fetches atomic.Int32
	// instead answers requests for tokens; nil: the server does.
	instead atomic.Pointer[http.HandlerFunc]
}

func newProvider(t *testing.T) *provider {
	t.Helper()
	node, err := exec.LookPath("node")
	if err != nil {
		t.Fatal("node is not installed; run make deps")
	}
	run := exec.CommandContext(context.WithoutCancel(t.Context()), node, "testdata/provider.mjs")
	run.Env = append(os.Environ(), "NODE_MODULES="+npmPackages(t))
	var complaints strings.Builder
	run.Stderr = &complaints
	in, err := run.StdinPipe() // the process ends with it, whatever becomes of this one
	if err != nil {
		t.Fatal(err)
	}
	out, err := run.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := run.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = in.Close()
		_ = run.Wait()
	})
	line, err := bufio.NewReader(out).ReadString('\n')
	if err != nil {
		t.Fatalf("oidc-provider has not started: %v\n%s", err, complaints.String())
	}
	p := &provider{server: strings.TrimSpace(line)}
	target, err := url.Parse(p.server)
	if err != nil {
		t.Fatal(err)
	}
	forward := httputil.NewSingleHostReverseProxy(target)
	p.url = serve(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/token" {
			p.fetches.Add(1)
			if h := p.instead.Load(); h != nil {
				(*h)(w, r)
				return
			}
		}
		forward.ServeHTTP(w, r)
	}))
	return p
}

// answer has the proxy answer requests for tokens by itself; nil: the server does.
func (p *provider) answer(h http.HandlerFunc) {
	if h == nil {
		p.instead.Store(nil)
		return
	}
	p.instead.Store(&h)
}

func (p *provider) auth() endpoint.Auth {
	return endpoint.Auth{OAuth2: &endpoint.OAuth2{TokenURL: p.url + "/token", ClientID: clientID, ClientSecret: clientSecret, Scopes: []string{"eventos:escrever"}}}
}

// knows asks the server about a token; with revoke, it forgets it.
func (p *provider) knows(t *testing.T, token string, revoke bool) (scope string, active bool) {
	t.Helper()
	path := "/token/introspection"
	if revoke {
		path = "/token/revocation"
	}
	form := url.Values{"token": {token}, "client_id": {"academia-post"}, "client_secret": {clientSecret}}
	req, err := http.NewRequestWithContext(t.Context(), http.MethodPost, p.server+path, strings.NewReader(form.Encode()))
	if err != nil {
		t.Error(err)
		return "", false
	}
	req.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	answer, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Error(err)
		return "", false
	}
	defer func() { _ = answer.Body.Close() }()
	var found struct {
		Active bool   `json:"active"`
		Scope  string `json:"scope"`
	}
	text, err := io.ReadAll(answer.Body)
	if err != nil || answer.StatusCode != http.StatusOK || !revoke && json.Unmarshal(text, &found) != nil {
		t.Errorf("%s: %d %s %v", path, answer.StatusCode, text, err)
	}
	return found.Scope, found.Active
}

// protected is a receiver that takes what has a token that the server knows, and echoes it.
type protected struct {
	url      string
	requests atomic.Int32
	mu       sync.Mutex
	token    string // the last
}

func (p *provider) protects(t *testing.T) *protected {
	t.Helper()
	r := &protected{}
	r.url = serve(t, http.HandlerFunc(func(w http.ResponseWriter, req *http.Request) {
		r.requests.Add(1)
		token, _ := strings.CutPrefix(req.Header.Get("Authorization"), "Bearer ")
		r.mu.Lock()
		r.token = token
		r.mu.Unlock()
		w.Header().Set("X-Echo", token)
		if _, active := p.knows(t, token, false); !active {
			w.WriteHeader(http.StatusUnauthorized)
		}
		_, _ = io.WriteString(w, `{"authorization": "Bearer `+token+`"}`)
	}))
	return r
}

func (r *protected) last() string {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.token
}

// TestLogin against a real server: one token for all endpoints with the same login, renewed
// when it ends and when it is refused, once.
func TestLogin(t *testing.T) {
	t.Parallel()
	p := newProvider(t)
	receiver := p.protects(t)
	sender := newSender(t, webhook.Options{Keep: webhook.KeepAll, KeepRequests: true})
	endpoints := make([]*endpoint.Endpoint, 10)
	var group sync.WaitGroup
	for i := range endpoints {
		endpoints[i] = local(receiver.url)
		endpoints[i].Auth = p.auth()
		group.Go(func() { mustDeliver(t, sender.Send(t.Context(), endpoints[i], message())) })
	}
	group.Wait()
	if n := p.fetches.Load(); n != 1 {
		t.Errorf("%d tokens were fetched for ten endpoints with one login, want 1", n)
	}
	first := receiver.last()
	if scope, active := p.knows(t, first, false); scope != "eventos:escrever" || !active {
		t.Errorf("the server knows the token with the scope %q: %t", scope, active)
	}

	sender.AgeTokens(9 * time.Minute) // of the ten that it has, less a minute
	mustDeliver(t, sender.Send(t.Context(), endpoints[0], message()))
	second := receiver.last()
	if p.fetches.Load() != 2 || second == first {
		t.Errorf("%d fetches after the end of the first token, and another one: %t", p.fetches.Load(), second != first)
	}

	p.knows(t, second, true) // which revokes it
	sender.AgeTokens(time.Minute)
	before := receiver.requests.Load()
	o := sender.Send(t.Context(), endpoints[0], message())
	mustDeliver(t, o)
	if n := receiver.requests.Load() - before; n != 2 || p.fetches.Load() != 3 {
		t.Errorf("%d requests and %d fetches after a token was revoked, want 2 and 3", n, p.fetches.Load())
	}
	third := receiver.last()
	shown := sender.Probe(t.Context(), endpoints[1], message())
	if shown.Outcome != "delivered" || p.fetches.Load() != 3 {
		t.Errorf("a test is %s with %d fetches", shown.Outcome, p.fetches.Load())
	}
	text, err := json.Marshal(shown)
	if err != nil {
		t.Fatal(err)
	}
	for what, text := range map[string]string{"detail": string(o.Detail), "answer": string(o.Answer), "exchange": string(text)} {
		if strings.Contains(text, third) || !strings.Contains(text, "***") {
			t.Errorf("the %s has the token, or does not hide it: %s", what, text)
		}
	}

	post := local(receiver.url)
	post.Auth = p.auth()
	post.Auth.OAuth2.ClientID, post.Auth.OAuth2.Method = "academia-post", endpoint.LoginPost
	mustDeliver(t, sender.Send(t.Context(), post, message()))

	// A receiver that refuses each token has one fetched only when it is old, and older each time.
	refuses := local(serve(t, http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		receiver.requests.Add(1)
		w.WriteHeader(http.StatusUnauthorized)
	})))
	refuses.Auth = p.auth()
	for i, c := range []struct {
		age               time.Duration
		requests, fetches int32
	}{{0, 1, 0}, {31 * time.Second, 2, 1}, {0, 1, 0}, {31 * time.Second, 1, 0}, {30 * time.Second, 2, 1}, {61 * time.Second, 1, 0}, {60 * time.Second, 2, 1}} {
		sender.AgeTokens(c.age)
		before, fetched := receiver.requests.Load(), p.fetches.Load()
		o = sender.Send(t.Context(), refuses, message())
		if o.Kind != webhook.Refused || o.Status != http.StatusUnauthorized || receiver.requests.Load()-before != c.requests || p.fetches.Load()-fetched != c.fetches {
			t.Errorf("attempt %d: outcome %s %d after %d requests and %d fetches", i, o.Kind, o.Status, receiver.requests.Load()-before, p.fetches.Load()-fetched)
		}
	}

	// A failure to renew the token takes it from nobody.
	sender.AgeTokens(5 * time.Minute)
	p.answer(func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusServiceUnavailable) })
	if o := sender.Send(t.Context(), refuses, message()); o.Class != webhook.ClassLogin {
		t.Errorf("outcome %s of class %s, want a failed login", o.Kind, o.Class)
	}
	mustDeliver(t, sender.Send(t.Context(), endpoints[0], message()))
}

// TestLoginOfTheImpatient: that a token did not come within an endpoint's timeout says nothing to
// one that has more time.
func TestLoginOfTheImpatient(t *testing.T) {
	t.Parallel()
	var fetches atomic.Int32
	tokens := serve(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		_, _ = io.Copy(io.Discard, r.Body) // only then is a hangup noticed
		if fetches.Add(1) == 1 {
			<-r.Context().Done()
			return
		}
		_, _ = io.WriteString(w, `{"access_token":"t","expires_in":""}`)
	}))
	sender := newSender(t, webhook.Options{})
	with := func(timeout time.Duration) *endpoint.Endpoint {
		ep := local(serve(t, http.HandlerFunc(func(http.ResponseWriter, *http.Request) {})))
		ep.Timeout, ep.Auth.OAuth2 = timeout, &endpoint.OAuth2{TokenURL: tokens, ClientID: clientID, ClientSecret: clientSecret}
		return ep
	}
	impatient := with(100 * time.Millisecond)
	for range 2 {
		if o := sender.Send(t.Context(), impatient, message()); o.Class != webhook.ClassLogin {
			t.Errorf("class %s, want login: %v", o.Class, o.Err)
		}
	}
	if n := fetches.Load(); n != 1 {
		t.Errorf("%d fetches of one that has failed a moment ago", n)
	}
	mustDeliver(t, sender.Send(t.Context(), with(20*time.Second), message()))
}

// TestLoginFailures are told as such, not as the endpoint's, and ask the server only now and
// then; what is secret is in none.
func TestLoginFailures(t *testing.T) {
	t.Parallel()
	p := newProvider(t)
	receiver := p.protects(t)
	var log strings.Builder
	sender := newSender(t, webhook.Options{Logger: zerolog.New(&log)})
	with := func(change func(*endpoint.OAuth2)) *endpoint.Endpoint {
		ep := local(receiver.url)
		ep.Auth = p.auth()
		change(ep.Auth.OAuth2)
		return ep
	}
	same := func(*endpoint.OAuth2) {}
	origin := "login failed at token_url " + p.url + ": "
	says := func(status int, text string) http.HandlerFunc {
		return func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Type", "application/json")
			w.WriteHeader(status)
			_, _ = io.WriteString(w, text)
		}
	}
	for name, c := range map[string]struct {
		ep      *endpoint.Endpoint
		instead http.HandlerFunc
		want    string
	}{
		"wrong secret":     {with(func(o *endpoint.OAuth2) { o.ClientSecret = "outro-segredo" }), nil, origin + "answered 401 Unauthorized (invalid_client)"},
		"wrong scope":      {with(func(o *endpoint.OAuth2) { o.Scopes = []string{"admin"} }), nil, origin + "answered 400 Bad Request (invalid_scope)"},
		"wrong path":       {with(func(o *endpoint.OAuth2) { o.TokenURL = p.url + "/nowhere" }), nil, origin + "answered 404 Not Found"},
		"guarded":          {with(func(o *endpoint.OAuth2) { o.TokenURL = "http://169.254.169.254/token" }), nil, ""},
		"guarded by name":  {with(func(o *endpoint.OAuth2) { o.TokenURL = "http://metadata.test/token" }), nil, "login failed at token_url http://metadata.test: its host cannot be resolved"},
		"error page":       {with(same), says(500, "<html>"), origin + "answered 500 Internal Server Error"},
		"echo":             {with(same), says(400, `{"error":"`+clientSecret+`"}`), origin + "answered 400 Bad Request"},
		"redirect":         {with(same), says(302, ``), origin + "answered 302 Found; redirects are not followed: put the final address into token_url"},
		"no token":         {with(same), says(200, `{}`), origin + "answered 200 without an access_token in JSON"},
		"refused with 200": {with(same), says(200, `{"error":"invalid_client","error_description":"x"}`), origin + "answered 200 OK (invalid_client)"},
		"no JSON":          {with(same), says(200, `ok`), origin + "answered 200 without an access_token in JSON"},
		"too long":         {with(same), says(200, `{"access_token":"`+strings.Repeat("x", 70000)+`"}`), origin + "answered 200 without an access_token in JSON"},
		"header split":     {with(same), says(200, `{"access_token":"a\r\nX-Evil: 1","token_type":"bearer"}`), origin + "answered with a token that cannot stand in a header"},
		"another type":     {with(same), says(200, `{"access_token":"a","token_type":"DPoP"}`), origin + "answered with a token that is not of the type Bearer"},
		"slow": {with(same), func(_ http.ResponseWriter, r *http.Request) {
			_, _ = io.Copy(io.Discard, r.Body) // only then is a hangup noticed
			<-r.Context().Done()
		}, origin + "no whole answer within 300ms"},
		"unreachable": {with(func(o *endpoint.OAuth2) { o.TokenURL = "http://127.0.0.1:1/token" }), nil, "login failed at token_url http://127.0.0.1:1: connection refused"},
	} {
		if name == "slow" {
			c.ep.Timeout = 300 * time.Millisecond
		}
		c.ep.Auth.OAuth2.Params = map[string]endpoint.Hidden{"resource_hint": endpoint.Hidden(name)} // a login of its own
		p.answer(c.instead)
		o := sender.Send(t.Context(), c.ep, message())
		if c.want == "" {
			if o.Class != webhook.ClassConfig || !strings.Contains(o.Err.Error(), "token_url: the url leads to the private address 169.254.169.254") {
				t.Errorf("%s: class %s, error %v", name, o.Class, o.Err)
			}
			continue
		}
		kind := webhook.Retry
		if strings.Contains(c.want, "answered 40") || strings.Contains(c.want, "200 OK (") { // the client is not taken
			kind = webhook.Refused
		}
		if o.Class != webhook.ClassLogin || o.Kind != kind || o.Status != 0 || o.Err.Error() != c.want {
			t.Errorf("%s: %s of class %s, status %d:\n%v, want\n%s", name, o.Kind, o.Class, o.Status, o.Err, c.want)
		}
		// The next attempt is answered from what is known.
		before := p.fetches.Load()
		if again := sender.Send(t.Context(), c.ep, message()); again.Class != webhook.ClassLogin || p.fetches.Load() != before {
			t.Errorf("%s: class %s and %d fetches right after a failure", name, again.Class, p.fetches.Load()-before)
		}
	}
	if n := receiver.requests.Load(); n != 0 {
		t.Errorf("the receiver got %d requests without a login", n)
	}
	if strings.Contains(log.String(), "s3cr3t") || strings.Contains(log.String(), "outro-segredo") {
		t.Errorf("the log has a secret:\n%s", log.String())
	}

	// Somebody has changed something: it is tried immediately, and everything works again.
	p.answer(says(503, ``))
	ep := with(same)
	if o := sender.Send(t.Context(), ep, message()); o.Class != webhook.ClassLogin {
		t.Errorf("class %s, want login", o.Class)
	}
	p.answer(nil)
	sender.Redial(ep)
	mustDeliver(t, sender.Send(t.Context(), ep, message()))

	// So is it for whoever tests an endpoint, and then for its events.
	p.answer(says(503, ``))
	ep = with(func(o *endpoint.OAuth2) { o.Params = map[string]endpoint.Hidden{"resource_hint": "test"} })
	if o := sender.Send(t.Context(), ep, message()); o.Class != webhook.ClassLogin {
		t.Errorf("class %s, want login", o.Class)
	}
	p.answer(nil)
	if x := sender.Probe(t.Context(), ep, message()); x.Outcome != webhook.Delivered.String() {
		t.Errorf("a test after a failed login: %s %s", x.Outcome, x.Error)
	}
	mustDeliver(t, sender.Send(t.Context(), ep, message()))
}

// TestLoginHoldsUpNobody: endpoints with another login, or none, are sent to while a token is
// being fetched; those that wait for it end with their context, and it is fetched once.
func TestLoginHoldsUpNobody(t *testing.T) {
	t.Parallel()
	p := newProvider(t)
	receiver := p.protects(t)
	sender := newSender(t, webhook.Options{})
	asked, release := make(chan struct{}, 1), make(chan struct{})
	p.answer(func(w http.ResponseWriter, r *http.Request) {
		_, _ = io.Copy(io.Discard, r.Body)
		select {
		case asked <- struct{}{}:
		default:
		}
		select {
		case <-release:
			_, _ = io.WriteString(w, `{"access_token":"t","token_type":"Bearer"}`)
		case <-r.Context().Done():
		}
	})
	waits := local(receiver.url)
	waits.Auth = p.auth()
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan webhook.Outcome, 8)
	for range 7 {
		go func() { ended <- sender.Send(ctx, waits, message()) }()
	}
	<-asked
	other := local(serve(t, http.HandlerFunc(func(http.ResponseWriter, *http.Request) {})))
	mustDeliver(t, sender.Send(t.Context(), other, message()))
	cancel()
	for range 7 {
		if o := <-ended; o.Class != webhook.ClassCanceled {
			t.Errorf("class %s, want canceled: %v", o.Class, o.Err)
		}
	}
	close(release)
	o := sender.Send(t.Context(), waits, message())
	if o.Kind != webhook.Refused || o.Status != http.StatusUnauthorized { // the server does not know this one
		t.Errorf("outcome %s %d %v", o.Kind, o.Status, o.Err)
	}
}

// TestLoginsAreForgotten with the endpoints that have them.
func TestLoginsAreForgotten(t *testing.T) {
	t.Parallel()
	sender := newSender(t, webhook.Options{})
	for i := range 3 {
		ep := local("https://127.0.0.1:1/")
		ep.Auth = endpoint.Auth{OAuth2: &endpoint.OAuth2{TokenURL: "https://127.0.0.1:1/token", ClientID: string(rune('a' + i)), ClientSecret: "s3cr3t"}}
		sender.Send(t.Context(), ep, message())
		sender.ForgetPrepared()
	}
	sender.Send(t.Context(), local("https://127.0.0.1:1/"), message())
	if n := sender.Logins(); n != 0 {
		t.Errorf("%d logins are remembered of endpoints that are not", n)
	}
}

// TestFixedLogins are Basic and Bearer, which no answer and no test shows.
func TestFixedLogins(t *testing.T) {
	t.Parallel()
	for want, auth := range map[string]endpoint.Auth{
		"Basic YW5hOnNlZ3JlZG86Y29tIGRvaXM=": {Basic: endpoint.BasicAuth{User: "ana", Password: "segredo:com dois"}},
		"Bearer abc.DEF-123":                 {Bearer: "abc.DEF-123"},
	} {
		got := make(chan string, 2)
		ep := local(serve(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			got <- r.Header.Get("Authorization")
			_, _ = io.WriteString(w, "you sent "+r.Header.Get("Authorization")+" segredo:com dois")
		})))
		ep.Auth = auth
		sender := newSender(t, webhook.Options{Keep: webhook.KeepAll, KeepRequests: true})
		o := sender.Send(t.Context(), ep, message())
		mustDeliver(t, o)
		shown := sender.Probe(t.Context(), ep, message())
		if sent := <-got; sent != want {
			t.Errorf("authorization %q, want %q", sent, want)
		}
		_, credentials, _ := strings.Cut(want, " ")
		for _, text := range []string{string(o.Answer), string(o.Detail), shown.Answer.Body, shown.Request.Header.Get("Authorization")} {
			if strings.Contains(text, credentials) || auth.Basic.User != "" && strings.Contains(text, "com dois") {
				t.Errorf("shown: %s", text)
			}
		}
	}
}

// TestTokenTypes: what servers call a bearer token.
func TestTokenTypes(t *testing.T) {
	t.Parallel()
	for _, kind := range []string{"Bearer", "bearer", "BearerToken", ""} {
		agents, authorizations := make(chan string, 1), make(chan string, 1)
		tokens := serve(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			agents <- r.UserAgent()
			_, _ = io.WriteString(w, `{"access_token":"o-token","token_type":"`+kind+`","expires_in":"1799"}`)
		}))
		ep := local(serve(t, http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) { authorizations <- r.Header.Get("Authorization") })))
		ep.Auth.OAuth2 = &endpoint.OAuth2{TokenURL: tokens, ClientID: clientID, ClientSecret: clientSecret}
		mustDeliver(t, newSender(t, webhook.Options{Version: "1.2.3"}).Send(t.Context(), ep, message()))
		if agent, got := <-agents, <-authorizations; agent != "Gancho/1.2.3" || got != "Bearer o-token" {
			t.Errorf("%q: a token was fetched by %s, and sent as %s", kind, agent, got)
		}
	}
}
