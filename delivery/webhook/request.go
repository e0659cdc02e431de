package webhook

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"errors"
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

// draft is the request of one attempt, and the memory that it and its answer take, which
// is used again.
type draft struct {
	ms   []*Message
	list bool
	id   string
	with credentials

	traceparent string // empty: it has none

	signed     []byte // "id.timestamp.body"
	stamp      []byte // a part of it
	body       []byte // its tail
	signatures []byte // empty: there are none

	head []byte // of HTTP/1.1, and after it the body if that is small

	first  [512]byte // of the answer over HTTP/1.1: mostly all of it
	answer *answer   // nil until it begins
}

// headerTraceparent is that of https://www.w3.org/TR/trace-context/, as net/http keeps it.
const headerTraceparent = "Traceparent"

// drafts is a cache, not state: what is read from it was written since.
var drafts = sync.Pool{New: func() any { return &draft{} }}

// maxDraft bounds what a draft keeps of a large request, in bytes.
const maxDraft = 64 << 10

// draft makes the signed request for an attempt that has begun at start. The caller frees it.
func (t *preparedEndpoint) draft(ms []*Message, list bool, start time.Time) *draft {
	d, _ := drafts.Get().(*draft)
	d.ms, d.list, d.id = ms, list, ms[0].ID
	if len(ms) > 1 {
		d.id = listID(ms)
	}
	size := len(d.id) + len(".0123456789.")
	for _, m := range ms {
		size += t.shape.size(m)
	}
	signed := append(slices.Grow(d.signed[:0], size), d.id...)
	signed = append(signed, '.')
	at := len(signed)
	signed = strconv.AppendInt(signed, start.Unix(), 10)
	end := len(signed)
	signed = append(signed, '.')
	signed = t.shape.append(signed, ms, list)
	d.signed, d.stamp, d.body = signed, signed[at:end], signed[end+1:]
	d.signatures = appendSignatures(d.signatures[:0], t.signers, signed)
	return d
}

// free gives the draft's memory back.
func (d *draft) free() {
	d.ms, d.stamp, d.body, d.with, d.traceparent = nil, nil, nil, credentials{}, ""
	if cap(d.signed) > maxDraft {
		d.signed = nil
	}
	if cap(d.head) > maxDraft {
		d.head = nil
	}
	if d.answer != nil {
		d.answer.Reset(nil)
		answers.Put(d.answer)
		d.answer = nil
	}
	drafts.Put(d)
}

// header returns the request's header but for what HTTP itself needs. It has memory of its own.
func (t *preparedEndpoint) header(d *draft) http.Header {
	h := make(http.Header, len(t.base.Header)+4)
	maps.Copy(h, t.base.Header)
	h["Content-Type"] = t.contentType(d.list)
	t.setHeaders(h, d)
	if t.standard {
		h[endpoint.HeaderID] = []string{d.id}
		h[endpoint.HeaderTimestamp] = []string{string(d.stamp)}
	}
	if len(d.signatures) > 0 {
		h[endpoint.HeaderSignature] = []string{string(d.signatures)}
	}
	if d.traceparent != "" {
		h[headerTraceparent] = []string{d.traceparent}
	}
	return h
}

func (t *preparedEndpoint) contentType(list bool) []string {
	if list {
		return t.list
	}
	return t.single
}

// setHeaders sets those that only some requests have.
func (t *preparedEndpoint) setHeaders(h http.Header, d *draft) {
	if d.replay() {
		h[endpoint.HeaderReplay] = []string{"true"}
	}
	if t.shape.format == endpoint.FormatCloudEventsBinary {
		t.shape.setCloudHeaders(h, d.ms[0])
	}
	t.setVariable(h, d)
}

func (d *draft) replay() bool {
	return slices.ContainsFunc(d.ms, func(m *Message) bool { return m.Replay })
}

// writeHead writes the request's head as HTTP/1.1 has it; last: nothing will be asked over
// the connection after it.
func (t *preparedEndpoint) writeHead(d *draft, last bool) {
	head := d.head[:0]
	head = t.appendStaticHead(head, d)
	field := func(name string) {
		head = append(append(head, name...), ':', ' ')
	}
	line := func() { head = append(head, '\r', '\n') }
	if last {
		head = append(head, "Connection: close\r\n"...)
	}
	field("Content-Length")
	head = strconv.AppendInt(head, int64(len(d.body)), 10)
	line()
	field("Content-Type")
	head = append(head, t.contentType(d.list)[0]...)
	line()
	if t.standard {
		field(endpoint.HeaderID)
		head = append(head, d.id...)
		line()
		field(endpoint.HeaderTimestamp)
		head = append(head, d.stamp...)
		line()
	}
	if len(d.signatures) > 0 {
		field(endpoint.HeaderSignature)
		head = append(head, d.signatures...)
		line()
	}
	if d.traceparent != "" {
		field(headerTraceparent)
		head = append(head, d.traceparent...)
		line()
	}
	if t.shape.format == endpoint.FormatCloudEventsBinary || t.variable() || d.replay() {
		rare := http.Header{}
		t.setHeaders(rare, d)
		var text bytes.Buffer
		_ = rare.Write(&text) // into memory
		head = append(head, text.Bytes()...)
	}
	line()
	d.head = head
}

// appendStaticHead appends what is the same each time, with the query of this request if
// that is not.
func (t *preparedEndpoint) appendStaticHead(head []byte, d *draft) []byte {
	if !t.templates.queried {
		return append(head, t.head...)
	}
	_, fields, _ := bytes.Cut(t.head, []byte("\r\n"))
	head = append(append(head, "POST "...), t.url(d).RequestURI()...)
	return append(append(head, " HTTP/1.1\r\n"...), fields...)
}

// url returns the URL of this request.
func (t *preparedEndpoint) url(d *draft) *url.URL {
	if !t.templates.queried {
		return t.base.URL
	}
	u := *t.base.URL
	u.RawQuery = t.templates.queryOf(d.ms, d.parts())
	return &u
}

// parts are what signatures and templates can name.
func (d *draft) parts() *signedParts { return &signedParts{d.id, string(d.stamp), d.body} }

// request is the draft for net/http, which may still write the body when the attempt is over:
// it has a copy.
func (t *preparedEndpoint) request(ctx context.Context, d *draft) *http.Request {
	body := bytes.Clone(d.body)
	req := t.base.WithContext(ctx)
	req.Header, req.URL = t.header(d), t.url(d)
	req.ContentLength = int64(len(body))
	req.Body = io.NopCloser(bytes.NewReader(body))
	// net/http asks for the body again when an HTTP/2 receiver says that it has not
	// looked at the request (REFUSED_STREAM, GOAWAY; it counts PROTOCOL_ERROR among
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
	return req
}

// errNotTaken: the second request of an attempt failed like the first.
var errNotTaken = errors.New("the receiver closed the connection, or refused the stream, twice before it took the request")

// listID names a list by what is in it.
func listID(ms []*Message) string {
	hash := sha256.New()
	for _, m := range ms {
		_, _ = io.WriteString(hash, m.ID+"\n") // never fails
	}
	return "list-" + hex.EncodeToString(hash.Sum(nil)[:16])
}

// staticHead is what net/http writes before the body of each of an endpoint's requests, without
// what differs between them.
func staticHead(base *http.Request) ([]byte, error) {
	var text bytes.Buffer
	if err := base.Write(&text); err != nil {
		return nil, err
	}
	head, _, _ := bytes.Cut(text.Bytes(), []byte("\r\n\r\n"))
	head = bytes.Replace(head, []byte("\r\nContent-Length: 0"), nil, 1)
	return append(head, '\r', '\n'), nil
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
