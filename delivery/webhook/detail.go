package webhook

import (
	"cmp"
	"encoding/json"
	"maps"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"time"

	"gancho/delivery/endpoint"
)

// Keeps says of which attempts an Outcome has a Detail.
type Keeps uint8

// The attempts of which there is one.
const (
	KeepNone   Keeps = iota
	KeepFailed       // all but the delivered
	KeepAll
)

// Detail is what people want to see of an attempt beside its outcome: what the receiver has
// answered, and where the time went. It has no secret of the endpoint; the answer is the
// receiver's, which may have put row data there.
type Detail struct {
	// Request has the headers as they were sent; nil: they are not kept.
	Request http.Header `json:"request_headers,omitempty"`
	// Headers are the answer's, as far as they have less than 4 KiB; nil: none came.
	Headers http.Header `json:"answer_headers,omitempty"`
	// Answer is the start of its body, at most 4 KiB, of an attempt at one message; Cut: there was more.
	Answer string `json:"answer,omitempty"`
	Cut    bool   `json:"answer_cut,omitempty"`
	Timing Timing `json:"timing"`
}

// detailKept bounds each of an answer's body, its headers and the request's headers in a
// Detail, in bytes.
const detailKept = 4 << 10

// encode returns the detail as JSON: what is kept of each attempt passes through Redis.
func (d *Detail) encode() []byte {
	text, _ := json.Marshal(d) // of texts and numbers
	return text
}

// detail is nil unless it is to be kept of such an outcome. The answer to several messages is left out: it
// may repeat each of them, and would be kept with one.
func (s *Sender) detail(a *attempt, ep *endpoint.Endpoint, o *Outcome) []byte {
	if a.steps == nil || o.Class == ClassCanceled || o.Kind == Delivered && s.options.Keep != KeepAll {
		return nil
	}
	d := Detail{Timing: a.steps.timing()}
	if a.answer != nil {
		d.Headers = clipHeader(a.prepared.mask.header(a.answer.Header))
	}
	d.Timing.Total = Milliseconds(o.Duration)
	if s.options.KeepRequests {
		d.Request = clipHeader(a.shownHeader(ep))
	}
	if len(a.draft.ms) == 1 {
		kept := o.Answer[:min(len(o.Answer), detailKept)]
		d.Answer, d.Cut = strings.ToValidUTF8(string(kept), "\uFFFD"), len(kept) < len(o.Answer)
	}
	return d.encode()
}

// shownHeader is the request's header without what is secret in it, and with what HTTP adds.
func (a *attempt) shownHeader(ep *endpoint.Endpoint) http.Header {
	header := a.prepared.header(a.draft)
	header["Host"] = []string{a.prepared.base.Host}
	header["Content-Length"] = []string{strconv.Itoa(len(a.draft.body))}
	for _, h := range ep.Headers {
		header[headerKey(h.Name)] = []string{endpoint.Masked}
	}
	if header.Get("Authorization") != "" {
		header.Set("Authorization", endpoint.Masked)
	}
	if ep.Format == endpoint.FormatCloudEventsBinary {
		for name := range ep.Extra {
			header.Set("Ce-"+name, endpoint.Masked)
		}
	}
	return header
}

// clipHeader returns the first headers, by name, that have no more than detailKept bytes together.
func clipHeader(h http.Header) http.Header {
	var out http.Header
	left := detailKept
	for _, name := range slices.Sorted(maps.Keys(h)) {
		for _, value := range h[name] {
			if left -= len(name) + len(value); left < 0 {
				return out
			}
			if out == nil {
				out = http.Header{}
			}
			out[name] = append(out[name], strings.ToValidUTF8(value, "\uFFFD"))
		}
	}
	return out
}

// timing is how long the steps took, without the total.
func (t *trace) timing() Timing {
	t.mu.Lock()
	defer t.mu.Unlock()
	between := func(from, to time.Time) Milliseconds {
		if from.IsZero() || to.IsZero() {
			return 0
		}
		return Milliseconds(max(to.Sub(from), 0))
	}
	return Timing{
		DNS:       between(t.dnsStart, t.dnsDone),
		Connect:   between(t.connectStart, cmp.Or(t.tlsStart, t.connected)),
		TLS:       between(t.tlsStart, t.tlsDone),
		FirstByte: between(t.connected, t.firstByte),
	}
}
