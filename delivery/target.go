package delivery

import (
	"context"
	"encoding/base64"
	"fmt"
	"net/http"
	"net/url"
	"sync/atomic"
	"time"
)

// target is what a sender keeps of an endpoint: all of a request that is the
// same each time.
type target struct {
	base      *http.Request // never sent itself; its header's values are shared
	origin    string        // scheme and host, fit for errors
	format    Format
	signers   []*signer
	timeout   time.Duration
	guard     string
	transport *http.Transport
	err       error        // why nothing can be sent
	used      atomic.Int64 // Unix seconds
}

func newTarget(ep *Endpoint, version string) *target {
	t := &target{format: ep.Format, timeout: ep.timeout(), guard: newGuard(ep.AllowPrivate).key()}
	if t.err = ep.Check(); t.err != nil {
		return t
	}
	for i, s := range ep.Secrets {
		if len(s.key) == 0 {
			t.err = fmt.Errorf("endpoint %q: secret %d is empty; read it with ParseSecret", ep.Name, i+1)
			return t
		}
		t.signers = append(t.signers, newSigner(s))
	}
	u, err := ep.target()
	if err != nil {
		t.err = err
		return t
	}
	user := u.User
	u.User, u.Fragment, u.RawFragment = nil, "", ""
	t.origin = u.Scheme + "://" + u.Host
	t.base = (&http.Request{Method: http.MethodPost, URL: u, Header: staticHeader(ep, version, user), Host: u.Host}).WithContext(context.Background())
	return t
}

func staticHeader(ep *Endpoint, version string, user *url.Userinfo) http.Header {
	h := http.Header{}
	if user != nil {
		h.Set("Authorization", "Basic "+basicCredentials(user))
	}
	for name, value := range ep.Headers {
		h.Set(name, value)
	}
	h.Set("User-Agent", "Gancho/"+version)
	h.Set("Content-Type", contentType)
	// An empty list tells net/http that the request may be sent again when a
	// kept connection turns out to be closed, and puts nothing on the wire.
	// The receiver knows a repeat by its webhook-id.
	if _, ok := h["Idempotency-Key"]; !ok {
		h["Idempotency-Key"] = []string{}
	}
	return h
}

func basicCredentials(user *url.Userinfo) string {
	password, _ := user.Password()
	return base64.StdEncoding.EncodeToString([]byte(user.Username() + ":" + password))
}
