package webhook

import (
	"bytes"
	"context"
	"crypto/sha256"
	"crypto/x509"
	"encoding/base64"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"maps"
	"net"
	"net/http"
	"net/http/httptrace"
	"net/url"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"

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
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, p := range s.pools {
		p.giveUp()
	}
}

// Redial has the next attempt at the endpoint make a new connection, and log in: somebody has
// changed something. Those in flight end over theirs.
func (s *Sender) Redial(ep *endpoint.Endpoint) {
	if t := s.preparedFor(ep); t.err == nil {
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

func (s *Sender) attempt(ctx context.Context, ep *endpoint.Endpoint, ms []*Message, list bool) (o Outcome) {
	start := time.Now()
	t := s.preparedFor(ep)
	var last sent
	defer func() {
		o.Duration = time.Since(start)
		o.Detail = s.detail(t, ep, len(ms), &o, &last)
	}()
	if err := t.usable(ep, ms, list); err != nil {
		return Outcome{Kind: Retry, Class: ClassConfig, Err: err}
	}
	with, failed := t.credentials(ctx)
	if failed != nil {
		return *failed
	}
	limited, cancel := context.WithTimeout(ctx, t.timeout)
	defer cancel()
	p := t.pool.Load()
	o, last = s.post(ctx, limited, t, p, with, ms, list)
	if unwritten(o.Err) || requiresHTTP1(o.Err) && s.useHTTP1(ep, t, p) {
		o, last = s.post(ctx, limited, t, t.pool.Load(), with, ms, list)
	}
	for t.retriesWith(limited, start, &with, &o) {
		o, last = s.post(ctx, limited, t, t.pool.Load(), with, ms, list)
	}
	t.remember(with, &o)
	return o
}

// post is a request over one of the pool's connections. limited is ctx with the
// endpoint's timeout.
func (s *Sender) post(ctx, limited context.Context, t *preparedEndpoint, p *pool, with credentials, ms []*Message, list bool) (o Outcome, seen sent) {
	if s.options.Keep != KeepNone {
		seen.steps = &trace{}
		limited = httptrace.WithClientTrace(limited, seen.steps.hooks())
	}
	connections := p.acquire(time.Now())
	req, body := t.request(limited, with, ms, list)
	o, seen.answer, _ = t.exchange(ctx, connections, req)
	with.hide(&o, seen.answer)
	p.release(connections, o, time.Now())
	seen.request, seen.size = req.Header, len(body)
	return o, seen
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

// exchange sends the request and judges what comes back, of which it returns
// the header and the version of HTTP, too. ctx is the request's without the
// endpoint's timeout.
func (t *preparedEndpoint) exchange(ctx context.Context, transport http.RoundTripper, req *http.Request) (o Outcome, h http.Header, version string) {
	answer, err := transport.RoundTrip(req)
	if err != nil {
		return t.failed(ctx, req.Context(), nil, err), nil, ""
	}
	if answer.StatusCode == http.StatusSwitchingProtocols {
		// Its body is the bare connection, which net/http has given away: no
		// timeout would end a read.
		_ = answer.Body.Close() // nothing is written through it
		answer.Body = http.NoBody
	}
	kept, err := readAnswer(answer.Body)
	// Only success needs a whole answer: a 410 or 404 is one without its body, too.
	if err != nil && (ctx.Err() != nil || t.succeeds(answer.StatusCode)) {
		o = t.failed(ctx, req.Context(), answer, err)
	} else {
		o = t.judge(answer, kept)
	}
	o.Answer = t.mask.body(kept)
	return o, answer.Header, answer.Proto
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
	}
	return nil
}

// request builds the signed request, and returns its body, too.
//
// The body has memory of its own, which the collector takes back: the transport
// may still write it when the attempt is over, and a reader that would say when
// it is done costs a system call, because net/http sends only the readers it
// knows together with the headers.
func (t *preparedEndpoint) request(ctx context.Context, with credentials, ms []*Message, list bool) (*http.Request, []byte) {
	id, size := ms[0].ID, 0
	if len(ms) > 1 {
		id = listID(ms)
	}
	for _, m := range ms {
		size += t.shape.size(m)
	}
	stamp := strconv.FormatInt(time.Now().Unix(), 10)
	// The signed text is "id.timestamp.body": the body is its tail.
	signed := make([]byte, 0, size+len(id)+len(stamp))
	signed = append(append(signed, id...), '.')
	signed = append(append(signed, stamp...), '.')
	start := len(signed)
	signed = t.shape.append(signed, ms, list)
	body := signed[start:] // assigned once, so that the closure below needs no place on the heap for it

	req := t.base.WithContext(ctx)
	req.Header = make(http.Header, len(t.base.Header)+4)
	maps.Copy(req.Header, t.base.Header)
	t.setHeaders(req.Header, ms, list)
	if t.standard {
		values := []string{id, stamp, ""}
		req.Header[endpoint.HeaderID] = values[0:1:1]
		req.Header[endpoint.HeaderTimestamp] = values[1:2:2]
		if len(t.signers) > 0 {
			values[2] = signatures(t.signers, signed)
			req.Header[endpoint.HeaderSignature] = values[2:3:3]
		}
	}
	t.setVariable(req, with, &signedParts{id, stamp, body}, ms)
	req.ContentLength = int64(len(body))
	req.Body = io.NopCloser(bytes.NewReader(body))
	// net/http asks for the body again when a connection that it had kept turned out
	// to be closed before anything was written, or an HTTP/2 receiver says that it has
	// not looked at the request (REFUSED_STREAM, GOAWAY; it counts PROTOCOL_ERROR among
	// these: https://go.dev/issue/47635). It would go on up to seven times; an attempt is
	// one request, or one more.
	again := false
	req.GetBody = func() (io.ReadCloser, error) {
		if again {
			return nil, errNotTaken
		}
		again = true
		return io.NopCloser(bytes.NewReader(body)), nil
	}
	return req, body
}

// errNotTaken: the second request of an attempt failed like the first.
var errNotTaken = errors.New("the receiver closed the connection, or refused the stream, twice before it took the request")

// setHeaders sets those that depend on the messages, but for the signature's.
func (t *preparedEndpoint) setHeaders(h http.Header, ms []*Message, list bool) {
	h["Content-Type"] = t.single
	if list {
		h["Content-Type"] = t.list
	}
	if slices.ContainsFunc(ms, func(m *Message) bool { return m.Replay }) {
		h[endpoint.HeaderReplay] = []string{"true"}
	}
	if t.shape.format == endpoint.FormatCloudEventsBinary {
		t.shape.setCloudHeaders(h, ms[0])
	}
}

// listID names a list by what is in it.
func listID(ms []*Message) string {
	hash := sha256.New()
	for _, m := range ms {
		_, _ = io.WriteString(hash, m.ID+"\n") // never fails
	}
	return "list-" + hex.EncodeToString(hash.Sum(nil)[:16])
}

// preparedFor returns what the sender keeps of the endpoint.
func (s *Sender) preparedFor(ep *endpoint.Endpoint) *preparedEndpoint {
	if v, ok := s.prepared.Load(ep); ok {
		t, _ := v.(*preparedEndpoint)
		t.used.Store(time.Now().Unix())
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
	if t.err == nil && ep.Auth.OAuth2.TokenURL != "" {
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
	origin  string        // scheme and host, fit for errors
	shape   bodyShape
	single  []string // the content types, as header values
	list    []string
	signers []*signer
	vendors []*vendorSigner
	// standard: the headers of Standard Webhooks are sent.
	standard  bool
	templates templates
	login     *login       // nil: requests have no access token
	keyInUse  atomic.Int32 // the number of the HMAC secret that makes single signatures
	timeout   time.Duration
	success   [][2]int
	body      *regexp.Regexp // nil: any
	reach     int            // how many bytes of an answer body is matched against
	mask      answerMask
	key       poolKey // of pool; both change when the receiver requires HTTP/1.1, under the sender's mutex
	pool      atomic.Pointer[pool]
	err       error        // why nothing can be sent
	used      atomic.Int64 // Unix seconds
}

func prepare(ep *endpoint.Endpoint, version string) *preparedEndpoint {
	t := &preparedEndpoint{
		shape: newBodyShape(ep), timeout: ep.WithDefaults().Timeout, success: ep.Success.Status, mask: newAnswerMask(ep),
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
	t.base = (&http.Request{Method: http.MethodPost, URL: u, Header: header, Host: u.Host}).WithContext(context.Background())
	return t
}

func staticHeader(ep *endpoint.Endpoint, version string, user *url.Userinfo) http.Header {
	h := http.Header{}
	if user != nil {
		h.Set("Authorization", "Basic "+basicCredentials(user))
	}
	if fixed := ep.Auth.Fixed(); fixed != "" {
		h.Set("Authorization", fixed)
	}
	if ep.Format == endpoint.FormatCloudEventsBinary {
		setStaticCloudHeaders(h, ep)
	}
	h.Set("User-Agent", "Gancho/"+version)
	return h
}

// headerKey is the key of an endpoint's header in http.Header. net/http would send a
// request again, over each connection that it has kept, that has one of these two
// under its usual spelling; to the receiver all spellings are the same.
func headerKey(name string) string {
	name = http.CanonicalHeaderKey(name)
	if name == "Idempotency-Key" || name == "X-Idempotency-Key" {
		return strings.ToLower(name)
	}
	return name
}

func basicCredentials(user *url.Userinfo) string {
	password, _ := user.Password()
	return base64.StdEncoding.EncodeToString([]byte(user.Username() + ":" + password))
}
