package webhook

import (
	"bytes"
	"context"
	"crypto/sha256"
	"crypto/x509"
	"encoding/base64"
	"encoding/hex"
	"fmt"
	"io"
	"maps"
	"net"
	"net/http"
	"net/url"
	"regexp"
	"slices"
	"strconv"
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

	mu         sync.Mutex
	transports map[string]*http.Transport // by preparedEndpoint.pool
}

// NewSender returns a Sender. The caller closes it.
func NewSender(o Options) *Sender {
	s := &Sender{options: o, transports: map[string]*http.Transport{}}
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
	for _, t := range s.transports {
		t.CloseIdleConnections()
	}
}

// Send makes one attempt and says how it ended. The message's bytes are free
// again when it returns. The endpoint's timeout covers everything from the
// dial to the end of the answer's body; when ctx ends first, the outcome's
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
	defer func() { o.Duration = time.Since(start) }()
	t := s.preparedFor(ep)
	if err := t.usable(ep, ms, list); err != nil {
		return Outcome{Kind: Retry, Class: ClassConfig, Err: err}
	}
	limited, cancel := context.WithTimeout(ctx, t.timeout)
	defer cancel()
	req, _ := t.request(limited, ms, list)
	o, _, _ = t.exchange(ctx, t.transport, req)
	return o
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
func (t *preparedEndpoint) request(ctx context.Context, ms []*Message, list bool) (*http.Request, []byte) {
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
	values := []string{id, stamp, ""}
	req.Header[endpoint.HeaderID] = values[0:1:1]
	req.Header[endpoint.HeaderTimestamp] = values[1:2:2]
	if len(t.signers) > 0 {
		values[2] = signatures(t.signers, signed)
		req.Header[endpoint.HeaderSignature] = values[2:3:3]
	}
	req.ContentLength = int64(len(body))
	req.Body = io.NopCloser(bytes.NewReader(body))
	req.GetBody = func() (io.ReadCloser, error) { return io.NopCloser(bytes.NewReader(body)), nil }
	return req, body
}

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
// transports: endpoints are added so rarely that looking at all costs nothing.
func (s *Sender) addPrepared(ep *endpoint.Endpoint) *preparedEndpoint {
	s.mu.Lock()
	defer s.mu.Unlock()
	oldest := time.Now().Add(-preparedIdle).Unix()
	inUse := map[string]bool{}
	s.prepared.Range(func(key, v any) bool {
		if t, _ := v.(*preparedEndpoint); t.used.Load() < oldest {
			s.prepared.Delete(key)
		} else {
			inUse[t.pool] = true
		}
		return true
	})
	for key, transport := range s.transports {
		if !inUse[key] {
			transport.CloseIdleConnections()
			delete(s.transports, key)
		}
	}
	t := prepare(ep, s.options.Version)
	if t.err == nil {
		t.transport, t.err = s.transport(ep, t.pool)
	}
	t.used.Store(time.Now().Unix())
	v, _ := s.prepared.LoadOrStore(ep, t)
	t, _ = v.(*preparedEndpoint)
	return t
}

// preparedEndpoint is what a sender keeps of an endpoint: the parts of a request
// that are the same each time, and how its answers are judged.
type preparedEndpoint struct {
	base      *http.Request // never sent itself; its header's values are shared
	origin    string        // scheme and host, fit for errors
	shape     bodyShape
	single    []string // the content types, as header values
	list      []string
	signers   []*signer
	timeout   time.Duration
	success   [][2]int
	body      *regexp.Regexp // nil: any
	mask      answerMask
	pool      string // whose connections it shares
	transport *http.Transport
	err       error        // why nothing can be sent
	used      atomic.Int64 // Unix seconds
}

func prepare(ep *endpoint.Endpoint, version string) *preparedEndpoint {
	t := &preparedEndpoint{
		shape: newBodyShape(ep), timeout: ep.WithDefaults().Timeout, success: ep.Success.Status, mask: newAnswerMask(ep), pool: poolOf(ep),
	}
	if t.err = ep.Check(); t.err != nil {
		return t
	}
	u, _ := url.Parse(ep.URL) // Check has parsed it
	for _, s := range ep.Secrets {
		t.signers = append(t.signers, newSigner(s))
	}
	if ep.Success.Body != "" {
		t.body, t.err = regexp.Compile(ep.Success.Body)
	}
	t.single, t.list = []string{t.shape.contentType(false)}, []string{t.shape.contentType(true)}
	user := u.User
	u.User, u.Fragment, u.RawFragment = nil, "", ""
	t.origin = u.Scheme + "://" + u.Host
	t.base = (&http.Request{Method: http.MethodPost, URL: u, Header: staticHeader(ep, version, user), Host: u.Host}).WithContext(context.Background())
	return t
}

func staticHeader(ep *endpoint.Endpoint, version string, user *url.Userinfo) http.Header {
	h := http.Header{}
	if user != nil {
		h.Set("Authorization", "Basic "+basicCredentials(user))
	}
	for name, value := range ep.Headers {
		h.Set(name, value.Reveal())
	}
	if ep.Format == endpoint.FormatCloudEventsBinary {
		setStaticCloudHeaders(h, ep)
	}
	h.Set("User-Agent", "Gancho/"+version)
	// An empty list tells net/http that the request may be sent again when a
	// kept connection turns out to be closed, and puts nothing on the wire.
	// The receiver recognises a repeated request by its webhook-id.
	if _, ok := h["Idempotency-Key"]; !ok {
		h["Idempotency-Key"] = []string{}
	}
	return h
}

func basicCredentials(user *url.Userinfo) string {
	password, _ := user.Password()
	return base64.StdEncoding.EncodeToString([]byte(user.Username() + ":" + password))
}
