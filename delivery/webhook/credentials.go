package webhook

import (
	"context"
	"errors"
	"net/http"
	"time"

	"gancho/delivery/endpoint"
)

// credentials are what a request is authorized and signed with, where there is a choice.
type credentials struct {
	token *accessToken // nil: the endpoint has no login
	key   int          // the number of the HMAC secret of single signatures
	tried int          // how many other secrets the receiver has refused
}

// credentials returns those of the next request, after a login if there has to be one; or
// how the attempt ended without them.
func (t *preparedEndpoint) credentials(ctx context.Context) (credentials, *Outcome) {
	c := credentials{key: int(t.keyInUse.Load())}
	if t.login == nil {
		return c, nil
	}
	var err error
	if c.token, err = t.login.token(ctx, t.timeout, nil); err != nil {
		return c, loginOutcome(err)
	}
	return c, nil
}

// loginOutcome is how an attempt ended that has no token.
func loginOutcome(err error) *Outcome {
	failed, ok := errors.AsType[*loginError](err)
	if !ok {
		return &Outcome{Kind: Retry, Class: ClassCanceled, Err: err}
	}
	if failed.refused {
		return &Outcome{Kind: Refused, Class: ClassLogin, Err: failed}
	}
	return &Outcome{Kind: Retry, Class: ClassLogin, Err: failed}
}

// retriesWith reports whether an attempt that began at start, a login included, has another
// request, because the receiver may take it with other credentials: with a new token if it has
// refused one that is old enough to have ended, once; and where a header has one signature, with
// each of the secrets that sign, while one is being rotated out.
func (a *attempt) retriesWith(ctx context.Context, start time.Time, o *Outcome) bool {
	t, c := a.prepared, &a.draft.with
	if ctx.Err() != nil || !time.Now().Before(a.deadline) {
		return false
	}
	if t.login != nil && o.Status == http.StatusUnauthorized && o.Class == ClassStatus && t.renews(c.token, start.Sub(c.token.fetched)) {
		limited, cancel := context.WithDeadline(ctx, a.deadline)
		defer cancel()
		renewed, err := t.login.token(limited, t.timeout, c.token)
		if err != nil {
			if failed := loginOutcome(err); failed.Class == ClassLogin {
				*o = *failed
			}
			return false
		}
		c.token = renewed
		return true
	}
	if keys := t.singleKeys(); c.tried < keys-1 && (refusesSignature(o) || mayRefuseSignature(o) && (c.tried > 0 || t.doubtsKey(time.Now()))) {
		c.key, c.tried = (c.key+1)%keys, c.tried+1
		return true
	}
	return false
}

// singleKeys is how many secrets can make the one signature of a header.
func (t *preparedEndpoint) singleKeys() int {
	for _, v := range t.vendors {
		if v.separator == "" {
			return len(v.hashes)
		}
	}
	return 1
}

// renews reports whether a token that was refused at this age is to be renewed, and has the next
// one grow twice as old first unless a delivery comes between. Requests that were refused together
// share the new one.
func (t *preparedEndpoint) renews(refused *accessToken, age time.Duration) bool {
	if t.refused.Load() == refused {
		return true
	}
	least := max(renewAge, time.Duration(t.renewAge.Load()))
	if age < least {
		return false
	}
	if t.refused.Swap(refused) != refused {
		t.renewAge.Store(int64(min(2*least, maxRenewAge)))
	}
	return true
}

// refusesSignature reports whether an answer is one of those that mean that a signature is not
// believed.
func refusesSignature(o *Outcome) bool {
	return o.Class == ClassStatus && (o.Status == http.StatusBadRequest || o.Status == http.StatusUnauthorized || o.Status == http.StatusForbidden)
}

// mayRefuseSignature reports whether an answer may mean that, but mostly means something else:
// there are receivers that say so in the body of a 200, and adnanh/webhook 2.8 answers 500.
func mayRefuseSignature(o *Outcome) bool {
	return o.Class == ClassBody || o.Class == ClassStatus && (o.Status == http.StatusUnprocessableEntity || o.Status == http.StatusInternalServerError)
}

// keyDoubt is how often another secret is tried after an answer that may mean a refusal, when the
// one in use was taken before.
const keyDoubt = time.Minute

// doubtsKey reports whether another secret is to be tried after such an answer: always before the
// first delivery, then now and then. A receiver that fails would get each event several times, but
// one that says it so and changes its secret has to be found.
func (t *preparedEndpoint) doubtsKey(now time.Time) bool {
	before := t.keyDoubted.Load()
	return !t.keyTaken.Load() || now.UnixMilli()-before >= keyDoubt.Milliseconds() && t.keyDoubted.CompareAndSwap(before, now.UnixMilli())
}

// remember notes that the receiver takes the credentials, and has later requests begin with the
// secret that it took.
func (t *preparedEndpoint) remember(c credentials, o *Outcome) {
	if o.Kind != Delivered {
		return
	}
	t.renewAge.Store(0)
	t.keyTaken.Store(true)
	if c.tried > 0 {
		t.keyInUse.Store(int32(c.key))
		t.keyDoubted.Store(0)
	}
}

// hide takes the token out of what the receiver has answered; answer is nil if nothing came.
func (c credentials) hide(o *Outcome, answer *http.Response) {
	if c.token == nil || answer == nil {
		return
	}
	o.Answer = c.token.mask.body(o.Answer)
	answer.Header = c.token.mask.header(answer.Header)
}

// variable reports whether requests have headers that setVariable sets.
func (t *preparedEndpoint) variable() bool {
	return t.login != nil || len(t.vendors)+len(t.templates.headers) > 0
}

// setVariable sets the headers that differ from request to request beside the standard ones:
// what templates, the vendors' signatures and the login make of them.
func (t *preparedEndpoint) setVariable(h http.Header, d *draft) {
	if !t.variable() {
		return
	}
	s := d.parts()
	t.templates.setHeaders(h, d.ms, s)
	for _, v := range t.vendors {
		h[v.header] = []string{v.headerValue(s, d.with.key)}
	}
	if d.with.token != nil {
		h["Authorization"] = d.with.token.authorization
	}
}

// loginOf returns the login of an endpoint that is not kept: that of others if they have it.
func (s *Sender) loginOf(ep *endpoint.Endpoint) (*login, error) {
	s.mu.Lock()
	l, ok := s.logins[loginKey(ep)]
	s.mu.Unlock()
	if ok {
		return l, nil
	}
	return s.newLogin(ep)
}

// loginLocked returns the login of an endpoint, which all share that have it.
func (s *Sender) loginLocked(ep *endpoint.Endpoint) (*login, error) {
	key := loginKey(ep)
	if l, ok := s.logins[key]; ok {
		return l, nil
	}
	l, err := s.newLogin(ep)
	if err == nil {
		s.logins[key] = l
	}
	return l, err
}

// forgetLoginsLocked forgets those of endpoints that are forgotten: there are no more than
// endpoints.
func (s *Sender) forgetLoginsLocked() {
	inUse := map[*login]bool{}
	s.prepared.Range(func(_, v any) bool {
		if t, _ := v.(*preparedEndpoint); t.login != nil {
			inUse[t.login] = true
		}
		return true
	})
	for key, l := range s.logins {
		if !inUse[l] {
			delete(s.logins, key)
		}
	}
}
