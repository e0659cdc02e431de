package webhook

import (
	"context"
	"encoding/base64"
	"net/http"
	"net/url"
	"regexp"
	"sync/atomic"
	"time"

	"gancho/delivery/endpoint"
)

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
	u, _ := ep.Target() // Check has parsed it
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
