package webhook

import (
	"maps"
	"net/http"

	"gancho/delivery/endpoint"
)

// Preview shows the requests of an endpoint without sending or signing them. It belongs to
// one goroutine.
type Preview struct {
	shape, hidden bodyShape
	static        http.Header
	scratch       []byte
}

// NewPreview returns a Preview for the endpoint; nil: for one with nothing set.
func NewPreview(ep *endpoint.Endpoint) *Preview {
	if ep == nil {
		ep = &endpoint.Endpoint{}
	}
	masked := *ep
	masked.Extra = make(map[string]endpoint.Hidden, len(ep.Extra))
	for name := range ep.Extra {
		masked.Extra[name] = endpoint.Masked
	}
	p := &Preview{shape: newBodyShape(ep), hidden: newBodyShape(&masked), static: http.Header{}}
	if ep.Format == endpoint.FormatCloudEventsBinary {
		setStaticCloudHeaders(p.static, &masked)
	}
	return p
}

// Size returns the size of the body of a request with this one event, in bytes.
func (p *Preview) Size(m *Message) int {
	p.scratch = p.shape.appendBody(p.scratch[:0], m)
	return len(p.scratch)
}

// Request returns the headers that say what the body is, and the body, of a request with
// this one event. Values of extra fields are masked.
func (p *Preview) Request(m *Message) (header http.Header, body []byte) {
	header = maps.Clone(p.static)
	header.Set("Content-Type", p.hidden.contentType(false))
	if p.hidden.format == endpoint.FormatCloudEventsBinary {
		p.hidden.setCloudHeaders(header, m)
	}
	return header, p.hidden.appendBody(nil, m)
}
