package webhook

import (
	"maps"
	"net/http"
	"net/url"

	"gancho/delivery/endpoint"
)

// templates are the parts of an endpoint's requests that name what each has.
type templates struct {
	headers map[string]endpoint.Template // by the keys of http.Header
	query   endpoint.Template
	queried bool // the query differs from request to request
}

// newTemplates returns the endpoint's templates. Those that are the same each time are set
// here, in the header and the URL. others are headers that stand where the endpoint has
// none of its own.
func newTemplates(ep *endpoint.Endpoint, others map[string]string, h http.Header, u *url.URL) templates {
	t := templates{headers: map[string]endpoint.Template{}, query: ep.QueryTemplate()}
	texts := maps.Clone(others)
	for _, own := range ep.Headers {
		delete(texts, http.CanonicalHeaderKey(own.Name))
		texts[headerKey(own.Name)] = own.Value.Reveal()
	}
	for name, text := range texts {
		template := endpoint.ParseTemplate(text)
		if template.Fixed() {
			h[name] = []string{string(template.Append(nil, nil))}
			continue
		}
		t.headers[name] = template
	}
	if t.queried = !t.query.Fixed(); !t.queried {
		u.RawQuery = string(t.query.Append(nil, nil))
	}
	return t
}

// setHeaders sets what the templates make of the headers of a request of these messages,
// whose id and timestamp are those of s.
func (t *templates) setHeaders(h http.Header, ms []*Message, s *signedParts) {
	for name, template := range t.headers {
		h[name] = []string{string(template.Append(nil, func(dst []byte, name string) []byte {
			return append(dst, percentEncoded(templateValue(ms, s, name))...)
		}))}
	}
}

// queryOf returns the query of the URL of such a request.
func (t *templates) queryOf(ms []*Message, s *signedParts) string {
	return string(t.query.Append(nil, func(dst []byte, name string) []byte {
		return append(dst, url.QueryEscape(templateValue(ms, s, name))...)
	}))
}

// templateValue is what a name of endpoint.TemplateNames stands for. Check allows a list
// those that it has: its id and timestamp.
func templateValue(ms []*Message, s *signedParts, name string) string {
	m := ms[0]
	switch name {
	case "id":
		return s.id
	case "timestamp":
		return s.stamp
	case "type":
		return m.Type
	case "tenant":
		return m.Tenant
	case "key":
		return m.Key
	case "op":
		return m.Op
	case "sequence":
		return m.Sequence
	}
	return ""
}
