package delivery

import (
	"encoding/json"
	"maps"
	"net/http"
	"net/url"
	"slices"
	"strings"
)

// minEcho is the shortest value that is looked for in answers, in bytes: shorter
// ones stand in any answer by chance, and keep nobody out.
const minEcho = 6

// echo hides in a receiver's answer what the endpoint's settings keep secret,
// for receivers that send back what they got: answers are stored with dead
// letters, and shown to people who may not see those settings.
type echo struct {
	secrets *strings.Replacer // nil: there are none
}

// newEcho looks for the values of headers, extra fields and the URL's query,
// and for its user and password, as they are and as JSON and URLs escape them.
func newEcho(ep *Endpoint) echo {
	values := slices.Concat(slices.Collect(maps.Values(ep.Headers)), slices.Collect(maps.Values(ep.Extra)))
	if u, err := url.Parse(ep.URL); err == nil {
		for name, given := range u.Query() {
			values = append(values, given...)
			if slices.Equal(given, []string{""}) {
				values = append(values, name) // the whole of it may be a token
			}
		}
		for _, part := range strings.Split(u.RawQuery, "&") {
			_, value, _ := strings.Cut(part, "=")
			values = append(values, value)
		}
		if password, ok := u.User.Password(); ok {
			values = append(values, password, basicCredentials(u.User))
		}
	}
	var forms []string
	for _, v := range values {
		forms = append(forms, v, url.QueryEscape(v), url.PathEscape(v))
		if quoted, err := json.Marshal(v); err == nil {
			forms = append(forms, string(quoted[1:len(quoted)-1]))
		}
		if _, credentials, ok := strings.Cut(v, " "); ok {
			forms = append(forms, credentials) // Bearer ..., Basic ...
		}
	}
	forms = slices.DeleteFunc(forms, func(s string) bool { return len(s) < minEcho })
	if len(forms) == 0 {
		return echo{}
	}
	// The longest first: one may be a part of another.
	slices.SortFunc(forms, func(a, b string) int { return len(b) - len(a) })
	var pairs []string
	for _, s := range slices.Compact(forms) {
		pairs = append(pairs, s, masked)
	}
	return echo{strings.NewReplacer(pairs...)}
}

// body returns the answer's body without what is secret in it.
func (e echo) body(kept []byte) []byte {
	if e.secrets == nil || len(kept) == 0 {
		return kept
	}
	return []byte(e.secrets.Replace(string(kept)))
}

// header returns the answer's header without what is secret in it.
func (e echo) header(h http.Header) http.Header {
	if e.secrets == nil {
		return h
	}
	out := make(http.Header, len(h))
	for name, values := range h {
		for _, v := range values {
			out[name] = append(out[name], e.secrets.Replace(v))
		}
	}
	return out
}
