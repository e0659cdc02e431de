package endpoint

import (
	"errors"
	"fmt"
	"maps"
	"slices"
	"time"

	"gancho/internal/strictyaml"
)

type value = strictyaml.Value

// SettingError is what is wrong with one setting, and what to write instead. It
// holds no secret.
type SettingError struct {
	// Pointer is the setting, as a JSON pointer (RFC 6901); only Merge sets it.
	Pointer       string
	Message, Hint string
	// Fault is the kind of a mistake in a URL; only CheckURL sets it.
	Fault URLFault
}

// Error returns message; hint.
func (m *SettingError) Error() string { return m.Message + "; " + m.Hint }

func mistakef(hint, format string, args ...any) *SettingError {
	return &SettingError{Message: fmt.Sprintf(format, args...), Hint: hint}
}

// at records the mistake, if it is one, at the value's place, and reports
// whether it is.
func (m *SettingError) at(v value) bool {
	if m != nil {
		v.Errorf(m.Hint, "%s", m.Message)
	}
	return m != nil
}

// Check reports everything that would make each request to the endpoint fail
// before it is sent, or never count as delivered. It is for endpoints built in
// code: those of documents have passed these checks, and the documents' bounds.
// The errors are joined SettingErrors that name the endpoint. They do not cover
// addresses, which are checked at each connection.
func (e *Endpoint) Check() error {
	var errs []error
	note := func(m *SettingError) {
		if m != nil {
			errs = append(errs, fmt.Errorf("endpoint %q: %w", e.Name, m))
		}
	}
	u, m := parseURL(e.URL, e.AllowHTTP)
	note(m)
	for _, h := range e.Headers {
		note(e.checkHeaderName(h.Name))
		note(e.checkHeader(h.Name, h.Value.Reveal()))
	}
	note(e.checkContentType())
	note(e.checkURLTemplate())
	for _, m := range append(e.checkSignatures(), e.checkAuth()...) {
		note(m)
	}
	note(e.CheckSecrets(e.Secrets))
	for _, name := range slices.Sorted(maps.Keys(e.Extra)) {
		note(checkExtraName(e.Format, name))
		note(checkExtraValue(e.Format, name, e.Extra[name].Reveal()))
	}
	note(checkExtra(e.Format, len(e.Extra)))
	for i, s := range e.Secrets {
		if !s.signs() {
			note(mistakef("give whsec_ or whsk_", "secret %d is empty or a public key, which cannot sign", i+1))
		}
	}
	note(e.checkChat())
	note(e.Batch.check(e.Format))
	for _, r := range e.Success.Status {
		note(checkStatus(r[0], r[1]))
	}
	note(checkPattern(e.Success.Body))
	note(e.checkTimes())
	if _, err := e.TLS.Config(); err != nil {
		errors.As(err, &m)
		note(m)
	}
	if u != nil {
		note(e.TLS.checkScheme(u.Scheme))
	}
	_, m = parseProxy(e.Proxy.Reveal())
	note(m)
	return errors.Join(errs...)
}

func (e *Endpoint) checkTimes() *SettingError {
	negative := func(d time.Duration) bool { return d < 0 }
	switch {
	case e.Timeout < 0 || e.MaxAge < 0:
		return mistakef("remove it for the default", "timeout or max_age is negative")
	case slices.ContainsFunc(e.Retry, negative) || slices.ContainsFunc(e.RetryRefused, negative):
		return mistakef("write such as 30s", "retry or retry_refused has a negative wait")
	case e.Concurrency < 0 || !(e.Rate >= 0): // NaN is neither
		return mistakef("remove it for the default", "concurrency or rate is negative")
	}
	return nil
}
