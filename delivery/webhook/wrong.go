package webhook

import (
	"context"
	"crypto/rand"
	"fmt"
	"net/url"
	"path"
	"regexp"
	"slices"
	"strings"
	"sync"
	"unicode"

	"gancho/delivery/endpoint"
)

// WrongProbe is what a receiver said to a request that it should not take. One that takes
// it loses events without anybody noticing: those that it does not believe, or that are
// sent to a path it does not know.
type WrongProbe struct {
	// Kind is what was wrong: signature, or path, beside the endpoint's own.
	Kind string `json:"kind"`
	// Status is 0 when no answer came.
	Status int `json:"status,omitempty"`
	// Accepted: it would have counted as delivered.
	Accepted bool `json:"accepted"`
	// Success is the endpoint's setting, in YAML, that tells the answer from the one to the
	// right request; empty: nothing in them does, or it was not accepted.
	Success string `json:"success,omitempty"`
}

// longestSuccess bounds what of an answer is proposed as a pattern, in bytes.
const longestSuccess = 100

// ProbeWrong sends the message of a Probe that was delivered, right, twice more: signed with
// other secrets, and to a path beside the endpoint's that nobody has chosen. Before it proposes
// to look at the body it sends a right one, too.
func (s *Sender) ProbeWrong(ctx context.Context, ep *endpoint.Endpoint, m *Message, right *Exchange) []WrongProbe {
	var kinds []string
	var wrong []*endpoint.Endpoint
	if len(ep.Secrets) > 0 && ep.SignsAnything() {
		kinds, wrong = append(kinds, "signature"), append(wrong, withOtherSecrets(ep))
	}
	if u, err := url.Parse(ep.URL); err == nil {
		other := *ep
		u.Path, u.RawPath = path.Join("/", path.Dir(u.Path), "gancho-"+strings.ToLower(rand.Text()[:12])), ""
		other.URL = u.String()
		kinds, wrong = append(kinds, "path"), append(wrong, &other)
	}
	out := make([]WrongProbe, len(wrong))
	var group sync.WaitGroup
	for i := range wrong {
		group.Go(func() {
			x := s.Probe(ctx, wrong[i], m)
			out[i] = WrongProbe{Kind: kinds[i], Accepted: x.Outcome == Delivered.String()}
			if x.Answer != nil {
				out[i].Status = x.Answer.Status
			}
			if out[i].Accepted {
				out[i].Success = distinction(right, &x)
			}
		})
	}
	group.Wait()
	if slices.ContainsFunc(out, func(p WrongProbe) bool { return strings.HasPrefix(p.Success, successBody) }) && s.answersOtherwise(ctx, ep, m, right) {
		for i := range out {
			out[i].Success = ""
		}
	}
	return out
}

// answersOtherwise reports whether a receiver has another body for each event, such as one with an
// id: what it has said once tells nothing of what it will say, and would have no event delivered.
func (s *Sender) answersOtherwise(ctx context.Context, ep *endpoint.Endpoint, m *Message, right *Exchange) bool {
	next := *m
	next.ID += "-again"
	x := s.Probe(ctx, ep, &next)
	return x.Answer == nil || strings.TrimSpace(x.Answer.Body) != strings.TrimSpace(right.Answer.Body)
}

// withOtherSecrets returns the endpoint with secrets of the same kinds that nobody has.
func withOtherSecrets(ep *endpoint.Endpoint) *endpoint.Endpoint {
	other := *ep
	other.Secrets = make([]endpoint.Secret, len(ep.Secrets))
	for i, s := range ep.Secrets {
		if other.Secrets[i] = endpoint.GenerateSecret(); s.SigningKey() != nil {
			other.Secrets[i] = endpoint.GenerateSigningKey()
		}
	}
	return &other
}

// successBody begins a distinction by the body.
const successBody = "success: {body: '"

// distinction is a success: setting under which the one answer is delivered and the other
// is not.
func distinction(right, wrong *Exchange) string {
	good, bad := right.Answer, wrong.Answer
	switch body := strings.TrimSpace(good.Body); {
	case good.Status != bad.Status:
		return fmt.Sprintf("success: {status: %d}", good.Status)
	case body == "" || len(body) > longestSuccess || strings.ContainsFunc(body, func(r rune) bool { return r == '\'' || !unicode.IsPrint(r) }) || strings.Contains(bad.Body, body) || strings.Contains(body, endpoint.Masked):
		return ""
	default:
		return successBody + regexp.QuoteMeta(body) + "'}"
	}
}
