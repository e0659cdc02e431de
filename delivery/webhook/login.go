package webhook

import (
	"context"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"gancho/delivery/endpoint"
)

const (
	// tokenMargin is how long before its end a token is no longer used: a request that has
	// it takes time, too. Of a short life it is a tenth.
	tokenMargin = time.Minute
	// loginWait and maxLoginWait are how long nothing is asked of a token URL after a failure:
	// twice as long after each in a row, and as long as it says.
	loginWait    = time.Second
	maxLoginWait = 5 * time.Minute
	// renewAge is how old a token has to be to be renewed because a receiver has refused it;
	// twice as old after each time, up to maxRenewAge, until the receiver takes something: one
	// that refuses every token would have one fetched for each event, and where the server ends
	// a token with the next, take it from all endpoints that have the same login.
	renewAge     = 30 * time.Second
	maxRenewAge  = time.Hour
	maxTokenBody = 64 << 10
	maxToken     = 16 << 10 // bytes; more than receivers take in a header
)

// login gets the access tokens of an OAuth 2.0 client, for all endpoints that have the
// same one. Safe for concurrent use.
type login struct {
	settings *endpoint.OAuth2
	origin   string // of the token URL, fit for errors
	agent    string // the User-Agent
	fetcher  http.RoundTripper
	turn     chan struct{} // whoever has put one in fetches

	mu       sync.Mutex
	current  *accessToken
	failure  *loginError // of the last fetch; nil: it has not failed
	failures int         // in a row
	failedAt time.Time   // when it ended
	until    time.Time   // nothing is fetched before
}

// accessToken is a token, and what hides it in answers.
type accessToken struct {
	authorization []string // the header's value
	fetched       time.Time
	expires       time.Time
	mask          answerMask
}

// loginError says why there is no token. Its text holds nothing of the answer but the
// codes of RFC 6749, and no address.
type loginError struct {
	origin, reason string
	// refused: the server has answered that it does not take this client, so that trying
	// again is of no use.
	refused bool
	wait    time.Duration // asked for by the server
	within  time.Duration // the time that it had, if that was over; 0: it failed before
}

func (e *loginError) Error() string { return "login failed at token_url " + e.origin + ": " + e.reason }

// loginKey is equal for endpoints that share a login: the same client, asked for at the same
// place through the same network.
func loginKey(ep *endpoint.Endpoint) string {
	o, hash := ep.Auth.OAuth2, sha256.New()
	parts := []string{o.TokenURL, o.ClientID, o.ClientSecret.Reveal(), o.Method.String(), strings.Join(o.Scopes, " "), poolKeyOf(ep, "", false).access}
	for _, name := range slices.Sorted(maps.Keys(o.Params)) {
		parts = append(parts, name, o.Params[name].Reveal())
	}
	for _, part := range parts {
		_, _ = fmt.Fprintf(hash, "%d:%s", len(part), part) // never fails
	}
	return hex.EncodeToString(hash.Sum(nil))
}

// newLogin returns the login of an endpoint that has passed Check.
func (s *Sender) newLogin(ep *endpoint.Endpoint) (*login, error) {
	config, err := s.loginTLS(ep)
	if err != nil {
		return nil, err
	}
	connect, err := s.connector(ep)
	if err != nil {
		return nil, err
	}
	u, err := url.Parse(ep.Auth.OAuth2.TokenURL)
	if err != nil {
		return nil, errors.New("the token_url is no address")
	}
	return &login{
		settings: ep.Auth.OAuth2, agent: "Gancho/" + s.options.Version, origin: u.Scheme + "://" + u.Host, turn: make(chan struct{}, 1),
		fetcher: &http.Transport{ // a token is fetched so rarely that no connection is kept
			DialContext: connect, TLSClientConfig: config, TLSHandshakeTimeout: handshakeTimeout, DisableCompression: true,
			DisableKeepAlives: true, MaxResponseHeaderBytes: maxAnswerHeader, ForceAttemptHTTP2: true,
		},
	}, nil
}

// loginTLS is how the token URL is connected to: the endpoint's CA is trusted beside the
// system's, not in its place, because the login is often that of a public service.
func (s *Sender) loginTLS(ep *endpoint.Endpoint) (*tls.Config, error) {
	config, err := ep.TLS.Config()
	if err != nil {
		return nil, fmt.Errorf("endpoint %q: %w", ep.Name, err)
	}
	config.RootCAs = s.options.RootCAs
	if ep.TLS.CA == "" {
		return config, nil
	}
	var pool *x509.CertPool
	if s.options.RootCAs != nil {
		pool = s.options.RootCAs.Clone()
	} else if pool, err = x509.SystemCertPool(); err != nil {
		pool = x509.NewCertPool()
	}
	pool.AppendCertsFromPEM([]byte(ep.TLS.CA)) // Config has read it
	config.RootCAs = pool
	return config, nil
}

// token returns the token to send with, other than refused, which a receiver has refused,
// fetched since if need be. One fetches for all who wait; timeout bounds each fetch.
// The error is a *loginError, or the context's.
func (l *login) token(ctx context.Context, timeout time.Duration, refused *accessToken) (*accessToken, error) {
	began := time.Now()
	if t, err := l.known(refused, began, timeout); t != nil || err != nil {
		return t, err
	}
	select {
	case l.turn <- struct{}{}:
		defer func() { <-l.turn }()
	case <-ctx.Done():
		return nil, context.Cause(ctx)
	}
	if t, err := l.known(refused, began, timeout); t != nil || err != nil {
		return t, err
	}
	limited, cancel := context.WithTimeout(ctx, timeout)
	defer cancel()
	t, failed := l.fetch(limited, timeout)
	if failed != nil && limited.Err() != nil {
		failed.within = timeout
	}
	if ctx.Err() != nil && t == nil {
		return nil, context.Cause(ctx) // whoever waits fetches
	}
	return l.keep(t, failed)
}

// known returns what is known without a fetch: a token that is still good, or the failure of
// a fetch that ended since began or is too young to try again, unless timeout is more than
// that had. Else neither.
func (l *login) known(refused *accessToken, began time.Time, timeout time.Duration) (*accessToken, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	now := time.Now()
	switch {
	case l.current != nil && l.current != refused && now.Before(l.current.expires):
		return l.current, nil
	case l.failure != nil && (l.failure.within == 0 || timeout <= l.failure.within) && (now.Before(l.until) || l.failedAt.After(began)):
		return nil, l.failure
	}
	return nil, nil
}

// keep remembers how a fetch ended. A token outlives a failure to renew it: another receiver may
// take it.
func (l *login) keep(t *accessToken, failed *loginError) (*accessToken, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.failure = failed; failed == nil {
		l.current, l.failures = t, 0
		return t, nil
	}
	wait := loginWait << min(l.failures, 10)
	l.failures++
	l.failedAt = time.Now()
	l.until = l.failedAt.Add(min(max(wait, failed.wait), maxLoginWait))
	return nil, failed
}

// forget has the next attempt fetch a token: somebody has changed something.
func (l *login) forget() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.current, l.failure, l.failures = nil, nil, 0
}

// retry has the next attempt fetch a token if there is none: somebody wants to know whether one can be had now.
func (l *login) retry() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.failure, l.failures = nil, 0
}

// fetch asks for a token: https://www.rfc-editor.org/rfc/rfc6749#section-4.4.2
func (l *login) fetch(ctx context.Context, timeout time.Duration) (*accessToken, *loginError) {
	req, err := l.request(ctx)
	if err != nil {
		return nil, l.failed("the request cannot be made")
	}
	answer, err := l.fetcher.RoundTrip(req)
	var body []byte
	if err == nil {
		body, err = io.ReadAll(io.LimitReader(answer.Body, maxTokenBody+1))
		_ = answer.Body.Close() // nothing is written through it
	}
	if err != nil {
		return nil, l.failed("%s", loginReason(ctx, timeout, err))
	}
	if answer.StatusCode != http.StatusOK {
		return nil, l.refusal(answer, body)
	}
	return l.read(body)
}

func (l *login) request(ctx context.Context) (*http.Request, error) {
	o := l.settings
	form := url.Values{"grant_type": {"client_credentials"}}
	if len(o.Scopes) > 0 {
		form.Set("scope", strings.Join(o.Scopes, " "))
	}
	for name, v := range o.Params {
		form.Set(name, v.Reveal())
	}
	if o.Method == endpoint.LoginPost {
		form.Set("client_id", o.ClientID)
		form.Set("client_secret", o.ClientSecret.Reveal())
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, o.TokenURL, strings.NewReader(form.Encode()))
	if err != nil {
		return nil, err
	}
	req.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	req.Header.Set("Accept", "application/json")
	req.Header.Set("User-Agent", l.agent)
	if o.Method == endpoint.LoginBasic {
		// Both are encoded as in a form first: https://www.rfc-editor.org/rfc/rfc6749#section-2.3.1
		pair := url.QueryEscape(o.ClientID) + ":" + url.QueryEscape(o.ClientSecret.Reveal())
		req.Header.Set("Authorization", "Basic "+base64.StdEncoding.EncodeToString([]byte(pair)))
	}
	return req, nil
}

func (l *login) failed(format string, args ...any) *loginError {
	return &loginError{origin: l.origin, reason: fmt.Sprintf(format, args...)}
}

// loginReason is reason without addresses, which may be of the operator's network.
func loginReason(ctx context.Context, timeout time.Duration, err error) string {
	switch class := classOf(err); {
	case ctx.Err() != nil || class == ClassTimeout:
		return "no whole answer within " + timeout.String()
	case class == ClassDNS:
		return "its host cannot be resolved"
	case class == ClassRefused:
		return "its host leads to an address that endpoints may not have (allow_private)"
	case class == ClassProxy:
		return "the proxy has not connected to it"
	default:
		return reason(class, err)
	}
}

// loginErrors are the codes that a server may answer with; what else stands there is not
// repeated. https://www.rfc-editor.org/rfc/rfc6749#section-5.2, https://www.rfc-editor.org/rfc/rfc8707#section-2
var loginErrors = []string{
	"invalid_request", "invalid_client", "invalid_grant", "unauthorized_client", "unsupported_grant_type", "invalid_scope", "invalid_target",
}

// refusal is the error of an answer that has no token.
func (l *login) refusal(answer *http.Response, body []byte) *loginError {
	text := "answered " + strings.TrimSpace(strconv.Itoa(answer.StatusCode)+" "+http.StatusText(answer.StatusCode))
	var told struct {
		Error string `json:"error"`
	}
	_ = json.Unmarshal(body, &told) // many answer with a page
	if slices.Contains(loginErrors, told.Error) {
		text += " (" + told.Error + ")"
	}
	if answer.StatusCode/100 == 3 {
		text += "; redirects are not followed: put the final address into token_url"
	}
	e := l.failed("%s", text)
	e.refused, e.wait = kindOf(answer.StatusCode) != Retry, retryAfter(answer, time.Now())
	return e
}

// bearerTypes are what servers call a token that goes into the header Authorization behind Bearer; BearerToken is Apigee's.
var bearerTypes = []string{"", "Bearer", "BearerToken"}

// read takes the token out of an answer: https://www.rfc-editor.org/rfc/rfc6749#section-5.1
func (l *login) read(body []byte) (*accessToken, *loginError) {
	var told struct {
		Token   string          `json:"access_token"`
		Type    string          `json:"token_type"`
		Expires json.RawMessage `json:"expires_in"` // some send a text, with or without a number
		Error   string          `json:"error"`
	}
	err := json.Unmarshal(body, &told)
	unprintable := func(r rune) bool { return r <= ' ' || r > '~' }
	switch {
	case told.Token == "" && slices.Contains(loginErrors, told.Error): // some have one status for everything
		e := l.failed("answered 200 OK (%s)", told.Error)
		e.refused = true
		return nil, e
	case len(body) > maxTokenBody || err != nil || told.Token == "":
		return nil, l.failed("answered 200 without an access_token in JSON")
	case !slices.ContainsFunc(bearerTypes, func(name string) bool { return strings.EqualFold(told.Type, name) }):
		return nil, l.failed("answered with a token that is not of the type Bearer")
	case len(told.Token) > maxToken || strings.ContainsFunc(told.Token, unprintable):
		return nil, l.failed("answered with a token that cannot stand in a header")
	}
	t := &accessToken{authorization: []string{"Bearer " + told.Token}, mask: maskOf([]string{told.Token}), fetched: time.Now()}
	t.expires = t.fetched.AddDate(1, 0, 0) // until it is refused
	if seconds, err := strconv.ParseFloat(strings.Trim(string(told.Expires), `"`), 64); err == nil && seconds > 0 && seconds < (365*24*time.Hour).Seconds() {
		life := time.Duration(seconds * float64(time.Second))
		t.expires = t.fetched.Add(life - min(tokenMargin, life/10))
	}
	return t, nil
}
