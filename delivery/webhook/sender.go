package webhook

import (
	"context"
	"crypto/x509"
	"fmt"
	"net"
	"net/http"
	"net/url"
	"regexp"
	"strings"
	"sync"
	"sync/atomic"
	"time"
	"unicode"

	"github.com/rs/zerolog"

	"gancho/delivery/endpoint"
)

// preparedIdle is how long the sender remembers an endpoint that it was not
// given again, as after a reload.
const preparedIdle = time.Hour

// Options are what a Sender needs to know. All fields may be zero.
type Options struct {
	// Version is Gancho's, for the User-Agent.
	Version string
	Logger  zerolog.Logger
	// Resolver looks up endpoints' names; nil: the system's.
	Resolver *net.Resolver
	// Keep says of which attempts there is a Detail, KeepRequests whether it has the
	// request's headers.
	Keep         Keeps
	KeepRequests bool
	// Title is what people call events of a type, "" if they have no name for them; nil: they have none.
	Title func(event string) string
	// Traceparent returns the value of the header of this name for a request with these messages, "" for none; nil: no request has
	// one. An endpoint that sets the header itself keeps its own.
	Traceparent func(ms []*Message) string
	// RootCAs are trusted to sign receivers' certificates; nil: the system's.
	RootCAs *x509.CertPool
}

// Sender posts messages to endpoints. Safe for concurrent use.
//
// It goes straight to the receiver, or through the proxy that the endpoint
// names: proxies named in the environment are not used, because behind one the
// guard would judge the proxy's address instead of the receiver's. Redirects
// are not followed, for the same reason and because a POST does not survive
// most of them. Answers are not decompressed.
type Sender struct {
	options     Options
	stopDialing func()                                                      // ends the connections that are being made
	dials       sync.WaitGroup                                              // those of HTTP/1.1
	untilClosed func(context.Context) (context.Context, context.CancelFunc) // a context that stopDialing ends, too
	prepared    sync.Map                                                    // *endpoint.Endpoint → *preparedEndpoint

	mu     sync.Mutex
	pools  map[poolKey]*pool
	logins map[string]*login // by loginKey
}

// NewSender returns a Sender. The caller closes it.
func NewSender(o Options) *Sender {
	s := &Sender{options: o, pools: map[poolKey]*pool{}, logins: map[string]*login{}}
	closed, cancel := context.WithCancel(context.Background())
	s.stopDialing = cancel
	s.untilClosed = func(ctx context.Context) (context.Context, context.CancelFunc) {
		ctx, cancel := context.WithCancel(ctx)
		stop := context.AfterFunc(closed, cancel)
		return ctx, func() {
			stop()
			cancel()
		}
	}
	return s
}

// Close closes idle connections and stops making others. It is called
// after the last Send has returned.
func (s *Sender) Close() {
	s.stopDialing()
	s.dials.Wait()
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, p := range s.pools {
		p.giveUp()
	}
}

// Redial has the next attempt at the endpoint make a new connection, and log in: somebody has
// changed something. Those in flight end over theirs.
func (s *Sender) Redial(ep *endpoint.Endpoint) {
	if t := s.preparedFor(ep, time.Now()); t.err == nil {
		t.pool.Load().giveUp()
		if t.login != nil {
			t.login.forget()
		}
	}
}

// Send makes one attempt and says how it ended. The message's bytes are free
// again when it returns. The endpoint's timeout covers everything from the
// dial to the end of the answer's body, and a login before it as long again; when ctx ends first, the outcome's
// class is ClassCanceled, and the receiver may or may not have the message.
//
// What counts as delivered is what Endpoint.Success says, of an answer that
// arrived within the limits. Of a body over 64 KiB the rest is not waited for:
// the connection is closed.
func (s *Sender) Send(ctx context.Context, ep *endpoint.Endpoint, m *Message) Outcome {
	return s.attempt(ctx, ep, []*Message{m}, false)
}

// SendList is Send for a list of at least one message, which arrive as one
// JSON array, or not at all. Its webhook-id is the message's when there is
// one, and is derived from all of theirs otherwise, so that the same list has the
// same.
// Formats without lists are refused (ClassConfig).
func (s *Sender) SendList(ctx context.Context, ep *endpoint.Endpoint, ms []*Message) Outcome {
	return s.attempt(ctx, ep, ms, true)
}

func (s *Sender) attempt(ctx context.Context, ep *endpoint.Endpoint, ms []*Message, list bool) Outcome {
	start := time.Now()
	t := s.preparedFor(ep, start)
	if err := t.usable(ep, ms, list); err != nil {
		return Outcome{Kind: Retry, Class: ClassConfig, Err: err, Duration: time.Since(start)}
	}
	ms = s.titled(t, ms)
	with, failed := t.credentials(ctx)
	if failed != nil {
		failed.Duration = time.Since(start)
		return *failed
	}
	a := t.begin(with, ms, list)
	defer a.draft.free()
	if s.options.Traceparent != nil && !t.traced {
		a.draft.traceparent = s.options.Traceparent(ms)
	}
	if s.options.Keep != KeepNone {
		a.steps = &trace{}
	}
	p := t.pool.Load()
	o := a.post(ctx, p)
	if requiresHTTP1(o.Err) && s.useHTTP1(ep, t, p) {
		o = a.post(ctx, t.pool.Load())
	}
	for a.retriesWith(ctx, start, &o) {
		o = a.post(ctx, t.pool.Load())
	}
	t.remember(a.draft.with, &o)
	o.Duration, o.Traceparent = time.Since(start), a.draft.traceparent
	o.Detail = s.detail(&a, ep, &o)
	return o
}

// titled are the messages with their titles, if the endpoint shows them.
func (s *Sender) titled(t *preparedEndpoint, ms []*Message) []*Message {
	if t.chat == endpoint.NoChat || s.options.Title == nil {
		return ms
	}
	m := *ms[0] // a chat gets no lists, and others have the message, too
	m.Title = s.options.Title(m.Type)
	return []*Message{&m}
}

// attempt is what post needs to know, and what it has seen.
type attempt struct {
	prepared *preparedEndpoint
	draft    *draft
	deadline time.Time
	steps    *trace // nil: nothing is kept

	answer *http.Response // nil: none came
}

// begin begins an attempt, whose timeout runs from now on. The caller frees its draft.
func (t *preparedEndpoint) begin(with credentials, ms []*Message, list bool) attempt {
	now := time.Now()
	a := attempt{prepared: t, draft: t.draft(ms, list, now), deadline: now.Add(t.timeout)}
	a.draft.with = with
	return a
}

// post makes a request over one of the pool's connections and judges what comes back.
func (a *attempt) post(ctx context.Context, p *pool) Outcome {
	if ctx.Err() != nil {
		return a.prepared.failed(ctx, a.deadline, nil, ctx.Err())
	}
	c, idle := p.acquire(time.Now())
	r := c.roundTrip(ctx, a, idle)
	a.answer = r.answer
	o := a.prepared.outcome(ctx, a.deadline, &r)
	a.draft.with.hide(&o, r.answer)
	p.release(c, r.keep, &o, time.Now())
	return o
}

// useHTTP1 has the endpoint's requests be HTTP/1.1 from now on, because the
// receiver has refused HTTP/2 over the pool, and reports false if they were already.
func (s *Sender) useHTTP1(ep *endpoint.Endpoint, t *preparedEndpoint, refused *pool) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if t.key.http1 {
		return t.pool.Load() != refused // another attempt was faster
	}
	key := t.key
	key.http1 = true
	p, err := s.poolLocked(ep, key)
	if err != nil {
		return false
	}
	t.key = key
	t.pool.Store(p)
	s.options.Logger.Info().Str("endpoint", ep.Name).Msg("receiver requires HTTP/1.1: its requests are sent over that from now on; http: 1.1 spares the first")
	return true
}

// usable says why nothing can be sent.
func (t *preparedEndpoint) usable(ep *endpoint.Endpoint, ms []*Message, list bool) error {
	switch {
	case t.err != nil:
		return t.err
	case len(ms) == 0:
		return fmt.Errorf("endpoint %q: the list to be sent is empty", ep.Name)
	case list && !ep.Format.HasLists():
		return fmt.Errorf("endpoint %q: the format %s has no lists; send the events one by one", ep.Name, ep.Format)
	case len(ms) == 1 && strings.ContainsFunc(ms[0].ID, unicode.IsControl):
		return fmt.Errorf("endpoint %q: the event's webhook-id has control characters, and cannot be a header", ep.Name)
	}
	return nil
}

// preparedFor returns what the sender keeps of the endpoint.
func (s *Sender) preparedFor(ep *endpoint.Endpoint, now time.Time) *preparedEndpoint {
	if v, ok := s.prepared.Load(ep); ok {
		t, _ := v.(*preparedEndpoint)
		t.used.Store(now.Unix())
		return t
	}
	return s.addPrepared(ep)
}

// addPrepared also forgets the endpoints that are no longer used, and their
// connections: endpoints are added so rarely that looking at all costs nothing.
func (s *Sender) addPrepared(ep *endpoint.Endpoint) *preparedEndpoint {
	t := prepare(ep, s.options.Version) // outside the lock: a pattern takes time
	s.mu.Lock()
	defer s.mu.Unlock()
	oldest := time.Now().Add(-preparedIdle).Unix()
	inUse := map[poolKey]bool{}
	s.prepared.Range(func(key, v any) bool {
		if t, _ := v.(*preparedEndpoint); t.used.Load() < oldest {
			s.prepared.Delete(key)
		} else {
			inUse[t.key] = true
		}
		return true
	})
	for key, p := range s.pools {
		if !inUse[key] {
			p.giveUp()
			delete(s.pools, key)
		}
	}
	s.forgetLoginsLocked()
	if t.err == nil {
		var p *pool
		p, t.err = s.poolLocked(ep, t.key)
		t.pool.Store(p)
	}
	if t.err == nil && ep.Auth.OAuth2 != nil {
		t.login, t.err = s.loginLocked(ep)
	}
	t.used.Store(time.Now().Unix())
	v, _ := s.prepared.LoadOrStore(ep, t)
	t, _ = v.(*preparedEndpoint)
	return t
}

func (s *Sender) poolLocked(ep *endpoint.Endpoint, key poolKey) (*pool, error) {
	if p, ok := s.pools[key]; ok {
		return p, nil
	}
	p, err := s.newPool(ep, key.http1)
	if err == nil {
		s.pools[key] = p
	}
	return p, err
}

// preparedEndpoint is what a sender keeps of an endpoint: the parts of a request
// that are the same each time, and how its answers are judged.
type preparedEndpoint struct {
	base    *http.Request // never sent itself; its header's values are shared
	head    []byte        // of it, as HTTP/1.1 has it
	origin  string        // scheme and host, fit for errors
	shape   bodyShape
	single  []string // the content types, as header values
	list    []string
	signers []*signer
	vendors []*vendorSigner
	// standard: the headers of Standard Webhooks are sent.
	standard  bool
	templates templates
	traced    bool                        // the endpoint sets traceparent itself
	login     *login                      // nil: requests have no access token
	refused   atomic.Pointer[accessToken] // the token that was refused last, and renewed
	renewAge  atomic.Int64                // how old the next has to be for that, in ns; 0: renewAge
	keyInUse  atomic.Int32                // the number of the HMAC secret that makes single signatures
	keyTaken  atomic.Bool                 // a request with its credentials was delivered
	// keyDoubted is when others were tried last for doubtsKey, in vain, in ms since 1970.
	keyDoubted atomic.Int64
	timeout    time.Duration
	success    [][2]int
	body       *regexp.Regexp // nil: any
	reach      int            // how many bytes of an answer body is matched against
	mask       answerMask
	chat       endpoint.Chat
	key        poolKey // of pool; both change when the receiver requires HTTP/1.1, under the sender's mutex
	pool       atomic.Pointer[pool]
	err        error        // why nothing can be sent
	used       atomic.Int64 // Unix seconds
}

func prepare(ep *endpoint.Endpoint, version string) *preparedEndpoint {
	t := &preparedEndpoint{
		shape: newBodyShape(ep), timeout: ep.WithDefaults().Timeout, success: ep.Success.Status, mask: newAnswerMask(ep), chat: ep.Chat(),
	}
	if t.err = ep.Check(); t.err != nil {
		return t
	}
	u, _ := url.Parse(ep.URL) // Check has parsed it
	if t.standard = !ep.NoStandard; t.standard {
		for _, s := range ep.Secrets {
			t.signers = append(t.signers, newSigner(s))
		}
	}
	if ep.Success.Body != "" {
		t.body, t.err = regexp.Compile(ep.Success.Body)
		t.reach = ep.Success.Reach()
	}
	t.single, t.list = []string{t.shape.contentType(false)}, []string{t.shape.contentType(true)}
	user := u.User
	u.User, u.Fragment, u.RawFragment = nil, "", ""
	t.origin = u.Scheme + "://" + u.Host
	t.key = poolKeyOf(ep, t.origin, ep.HTTP1)
	header := staticHeader(ep, version, user)
	var others map[string]string
	t.vendors, others = newVendorSigners(ep)
	t.templates = newTemplates(ep, others, header, u)
	_, fixed := header[headerTraceparent]
	_, made := t.templates.headers[headerTraceparent]
	t.traced = fixed || made
	t.base = (&http.Request{Method: http.MethodPost, URL: u, Header: header, Host: u.Host}).WithContext(context.Background())
	if t.err == nil {
		t.head, t.err = staticHead(t.base)
	}
	return t
}
