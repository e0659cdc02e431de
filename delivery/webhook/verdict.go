package webhook

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"
	"unicode"
	"unicode/utf8"

	"gancho/delivery/endpoint"
)

// maxRetryAfter bounds what a receiver can ask for.
const maxRetryAfter = 24 * time.Hour

// statusError says that a status does not count as delivered; the receiver's own
// reason phrase is left out.
func statusError(origin string, status int) error {
	text := fmt.Sprintf("post to %s: answered %s", origin, strings.TrimSpace(fmt.Sprintf("%d %s", status, http.StatusText(status))))
	switch status / 100 {
	case 2:
		text += ", which the endpoint's success rule does not count as delivered"
	case 3:
		text += "; redirects are not followed: put the final address into the endpoint's url"
	}
	return errors.New(text)
}

// bodyError says that the body of an answer does not count as delivered.
func (t *preparedEndpoint) bodyError(status, size int) error {
	text := fmt.Sprintf("post to %s: answered %d with a body that does not match the endpoint's success rule", t.origin, status)
	if size >= t.reach { // what is not kept counts, too
		text += fmt.Sprintf(" in its first %d bytes, as far as it looks; a shorter pattern looks further", t.reach)
	}
	return errors.New(text)
}

// judge returns the outcome of an answer; kept is the start of its body. The
// whole body of one that may count as delivered has arrived.
func (t *preparedEndpoint) judge(answer *http.Response, kept []byte) Outcome {
	o := Outcome{Status: answer.StatusCode, Wish: wish(answer.Header)}
	switch {
	case !t.succeeds(o.Status):
		o.Kind, o.Class = kindOf(o.Status), ClassStatus
		o.Err = statusError(t.origin, o.Status)
		o.RetryAfter = retryAfter(answer, time.Now())
	case t.body != nil && !t.body.Match(kept[:min(len(kept), t.reach)]):
		o.Kind, o.Class = Retry, ClassBody
		o.Err = t.bodyError(o.Status, len(kept))
	default:
		o.Kind, o.Class = Delivered, ClassOK
	}
	t.judgeChat(&o, answer, kept)
	return o
}

// succeeds reports whether the status counts as delivered.
func (t *preparedEndpoint) succeeds(status int) bool {
	if len(t.success) == 0 {
		return status/100 == 2
	}
	return slices.ContainsFunc(t.success, func(r [2]int) bool { return status >= r[0] && status <= r[1] })
}

// kindOf is what a status means that does not count as delivered. The 4xx of
// Retry say nothing about the request itself: it took too long, came too early
// (RFC 8470) or too often.
func kindOf(status int) OutcomeKind {
	switch {
	case status == http.StatusGone:
		return Gone
	case status == http.StatusRequestTimeout, status == http.StatusTooEarly, status == http.StatusTooManyRequests:
		return Retry
	case status/100 == 4:
		return Refused
	}
	return Retry
}

// wish reads the header webhook-delivery. Whoever says both gets the one that
// stops more.
func wish(h http.Header) Wish {
	found := WishNone
	for _, line := range h[endpoint.HeaderDelivery] {
		for word := range strings.SplitSeq(line, ",") {
			switch word = strings.TrimSpace(word); {
			case strings.EqualFold(word, "pause"):
				return WishPause
			case strings.EqualFold(word, "abort"):
				found = WishAbort
			}
		}
	}
	return found
}

// retryAfter is what a 429 or 503 asks for, in seconds or as a date (RFC 9110,
// section 10.2.3). What is neither, or in the past, is 0.
func retryAfter(answer *http.Response, now time.Time) time.Duration {
	value := strings.TrimSpace(answer.Header.Get("Retry-After"))
	if value == "" || answer.StatusCode != http.StatusTooManyRequests && answer.StatusCode != http.StatusServiceUnavailable {
		return 0
	}
	if strings.Trim(value, "0123456789") == "" {
		seconds, err := strconv.ParseInt(value, 10, 64)
		if err != nil || seconds > int64(maxRetryAfter/time.Second) {
			return maxRetryAfter
		}
		return time.Duration(seconds) * time.Second
	}
	date, err := http.ParseTime(value)
	if err != nil {
		return 0
	}
	return min(max(date.Sub(now), 0), maxRetryAfter)
}

// outcome judges what came back of an attempt.
func (t *preparedEndpoint) outcome(ctx context.Context, deadline time.Time, r *reply) (o Outcome) {
	// Only success needs a whole answer: a 410 or 404 is one without its body, too.
	if r.err != nil && (r.answer == nil || ctx.Err() != nil || t.succeeds(r.answer.StatusCode)) {
		o = t.failed(ctx, deadline, r.answer, r.err)
	} else {
		o = t.judge(r.answer, r.kept)
	}
	o.Answer = t.mask.body(r.kept)
	return o
}

// failed makes an outcome of an attempt without a whole answer; answer is nil when not even
// its header came. What that asks for counts even so.
func (t *preparedEndpoint) failed(ctx context.Context, deadline time.Time, answer *http.Response, err error) Outcome {
	o := Outcome{Kind: Retry}
	if answer != nil {
		o.Status, o.Wish, o.RetryAfter = answer.StatusCode, wish(answer.Header), retryAfter(answer, time.Now())
	}
	switch {
	case ctx.Err() != nil:
		o.Class, o.Err = ClassCanceled, fmt.Errorf("post to %s: %w", t.origin, context.Cause(ctx))
	case !time.Now().Before(deadline):
		o.Class = ClassTimeout
		o.Err = &transportError{t.origin, "no whole answer within " + t.timeout.String(), context.DeadlineExceeded}
	default:
		o.Class = classOf(err)
		o.Err = &transportError{t.origin, reason(o.Class, err), err}
	}
	return o
}

// classOf sorts an error of the transport.
func classOf(err error) string {
	network, timed := errors.AsType[net.Error](err)
	switch {
	case is[*proxyError](err):
		return ClassProxy
	case is[*endpoint.RefusedAddressError](err):
		return ClassRefused
	case is[*net.DNSError](err):
		return ClassDNS
	case timed && network.Timeout():
		return ClassTimeout
	case isTLS(err):
		return ClassTLS
	case isProtocol(err):
		return ClassProtocol
	}
	return ClassConnection
}

// ToldTenants returns what tenants are told of an attempt's error: the errors of some classes have
// addresses of the operator's network.
func ToldTenants(class, text string) string {
	told := map[string]string{
		ClassDNS:     "the host of the url cannot be resolved",
		ClassRefused: "the host of the url leads to an address that endpoints may not have",
		ClassProxy:   "the proxy has not connected to the receiver",
	}[class]
	if text == "" || told == "" {
		return text
	}
	return told
}

// is reports whether the error, or one that it wraps, is an E.
func is[E error](err error) bool {
	_, ok := errors.AsType[E](err)
	return ok
}

func isTLS(err error) bool {
	operation, ok := errors.AsType[*net.OpError](err)
	switch {
	case is[*tls.CertificateVerificationError](err), is[tls.RecordHeaderError](err), is[tls.AlertError](err),
		is[x509.UnknownAuthorityError](err), is[x509.HostnameError](err), is[x509.CertificateInvalidError](err):
		return true
	case ok && (operation.Op == "remote error" || operation.Op == "local error"):
		return true // a TLS alert, whose type crypto/tls does not export
	}
	return strings.HasPrefix(err.Error(), "tls: ") || isHTTP2Start(err)
}

// isHTTP2Start: the receiver hung up between the TLS handshake and HTTP/2's
// first frame, which is how TLS 1.3 refuses a client certificate, or the lack
// of one. net/http loses the alert.
func isHTTP2Start(err error) bool {
	return strings.Contains(err.Error(), "http2: client conn could not be established")
}

// requiresHTTP1: the receiver wants the request over HTTP/1.1, as IIS and Apache do
// where a client certificate depends on the path. net/http has no type for it.
// https://www.rfc-editor.org/rfc/rfc9113.html#name-error-codes
func requiresHTTP1(err error) bool {
	failed, ok := errors.AsType[*transportError](err)
	return ok && strings.Contains(failed.err.Error(), "HTTP_1_1_REQUIRED")
}

// isProtocol looks at texts, too, because net/http has no types for what it finds
// wrong with an answer.
func isProtocol(err error) bool {
	if is[*malformedError](err) {
		return true
	}
	signs := []string{
		"malformed", "bad Content-Length", "invalid Content-Length", "unsupported transfer encoding",
		"too many transfer encodings", "response headers exceeded", "server response headers", "HTTP/2 frame", "PROTOCOL_ERROR",
		"invalid byte in chunk length", "chunk length too large", "too many 1xx",
	}
	return slices.ContainsFunc(signs, func(sign string) bool { return strings.Contains(err.Error(), sign) })
}

// transportError says why no whole answer came. Unwrap gives the original,
// whose text may quote what the receiver sent and is therefore not shown.
type transportError struct {
	origin, reason string
	err            error
}

func (e *transportError) Error() string { return "post to " + e.origin + ": " + e.reason }

func (e *transportError) Unwrap() error { return e.err }

// maxReason bounds what an error says, in bytes: it is kept with each event that
// waits, and with each attempt.
const maxReason = 300

// reason is the error's text without anything that the receiver sent, but for
// the names in its certificate.
func reason(class string, err error) string {
	if proxy, ok := errors.AsType[*proxyError](err); ok {
		return proxy.Error()
	}
	if refused, ok := errors.AsType[*endpoint.RefusedAddressError](err); ok {
		return refused.Error()
	}
	errno, hasErrno := errors.AsType[syscall.Errno](err)
	record, isRecord := errors.AsType[tls.RecordHeaderError](err)
	switch {
	case class == ClassProtocol:
		return "the answer is not valid HTTP"
	case errors.Is(err, io.ErrUnexpectedEOF) || errors.Is(err, io.EOF):
		return "the receiver closed the connection before its answer was complete"
	case class == ClassConnection && hasErrno:
		return errno.Error()
	case isRecord && string(record.RecordHeader[:]) == "HTTP/":
		return "the receiver speaks plain HTTP on this port; correct the port, or write http:// and set allow_http: true"
	}
	if isHTTP2Start(err) {
		return "the receiver closed the connection right after the TLS handshake; it may want a client certificate, tls: {certificate, key}, or HTTP/1.1, http: 1.1"
	}
	if operation, ok := errors.AsType[*net.OpError](err); ok {
		// Its own text has addresses, which may be of the operator's network.
		err = fmt.Errorf("%s: %w", operation.Op, operation.Err)
	}
	text, _, _ := strings.Cut(err.Error(), `"`) // quotations are of what came over the wire
	return strings.TrimRight(printable(text, maxReason), " :(=")
}

// printable returns the first n bytes of text with its control characters
// replaced: the names in a certificate are of its maker's choice, and may be long.
func printable(text string, n int) string {
	clipped := text[:min(n, len(text))]
	out := strings.Map(func(r rune) rune {
		if unicode.IsControl(r) {
			return utf8.RuneError
		}
		return r
	}, strings.ToValidUTF8(clipped, "")) // a character may have been cut
	if len(clipped) < len(text) {
		out += "…"
	}
	return out
}
