package webhook

import (
	"cmp"
	"encoding/json"
	"html"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"

	"gancho/delivery/endpoint"
	"gancho/internal/jsontext"
)

// minEcho is the shortest value that is looked for in answers, in bytes: shorter
// ones stand in any answer by chance, and keep nobody out.
const minEcho = 6

// answerMask hides in a receiver's answer what the endpoint's settings keep secret,
// for receivers that send back what they got: answers are stored with dead
// letters, and shown to people who may not see those settings.
type answerMask struct {
	secrets *strings.Replacer // nil: there are none
}

// newAnswerMask looks for the values of headers, extra fields, auth and the URL's query, for
// the part of its path that is hidden and the segments of that, and for its user and
// password.
func newAnswerMask(ep *endpoint.Endpoint) answerMask {
	var values []string
	template := func(text string) { values = append(values, endpoint.ParseTemplate(text).Texts()...) }
	for _, h := range ep.Headers {
		template(h.Value.Reveal())
	}
	for _, v := range ep.Extra {
		values = append(values, v.Reveal())
	}
	values = append(values, ep.Auth.Secrets()...)
	path := endpoint.HiddenPath(ep.URL)
	values = append(append(values, path), strings.Split(path, "/")...)
	if decoded, err := url.PathUnescape(path); err == nil && decoded != path {
		values = append(append(values, decoded), strings.Split(decoded, "/")...)
	}
	if u, err := url.Parse(ep.URL); err == nil {
		for name, given := range u.Query() {
			for _, v := range given {
				template(v)
			}
			if strings.Trim(strings.Join(given, ""), "=") == "" {
				values = append(values, name) // the whole of it may be a token
			}
		}
		for _, part := range strings.Split(u.RawQuery, "&") {
			_, value, _ := strings.Cut(part, "=")
			if strings.Trim(value, "=") == "" {
				value = part // a = at the end is the padding of base64
			}
			template(value)
		}
		if password, ok := u.User.Password(); ok {
			values = append(values, password, basicCredentials(u.User))
		}
	}
	return maskOf(values)
}

// maskOf hides these values.
func maskOf(values []string) answerMask {
	var forms []string
	for _, v := range values {
		forms = append(forms, escapes(v)...)
		if _, credentials, ok := strings.Cut(v, " "); ok {
			forms = append(forms, escapes(credentials)...) // Bearer ..., Basic ...
		}
	}
	forms = slices.DeleteFunc(forms, func(s string) bool { return len(s) < minEcho })
	if len(forms) == 0 {
		return answerMask{}
	}
	// The longest first: one may be a part of another.
	slices.SortFunc(forms, func(a, b string) int { return cmp.Or(len(b)-len(a), strings.Compare(a, b)) })
	var pairs []string
	for _, s := range slices.Compact(forms) {
		pairs = append(pairs, s, endpoint.Masked)
	}
	return answerMask{strings.NewReplacer(pairs...)}
}

// escapes returns s as it is, as URLs and forms have it, as the JSON of various
// languages does (PHP's has \/ for /), and as HTML does.
func escapes(s string) []string {
	quoted := string(jsontext.AppendString(nil, s))
	plain, ascii, web := quoted[1:len(quoted)-1], strconv.QuoteToASCII(s), html.EscapeString(s)
	ascii = ascii[1 : len(ascii)-1]
	form := url.QueryEscape(s)
	forms := []string{
		s, form, strings.ReplaceAll(form, "+", "%20"), url.PathEscape(s), percentEncoded(s),
		plain, strings.ReplaceAll(plain, "/", `\/`), ascii, strings.ReplaceAll(ascii, "/", `\/`),
		web, strings.ReplaceAll(web, "&#34;", "&quot;"),
	}
	if marshalled, err := json.Marshal(s); err == nil {
		forms = append(forms, string(marshalled[1:len(marshalled)-1]))
	}
	return forms
}

// body returns the answer's body without what is secret in it.
func (a answerMask) body(kept []byte) []byte {
	if a.secrets == nil || len(kept) == 0 {
		return kept
	}
	return []byte(a.secrets.Replace(string(kept)))
}

// header returns the answer's header without what is secret in it, of the endpoint's
// settings and of the receiver: its cookies sign in there.
func (a answerMask) header(h http.Header) http.Header {
	const cookie = "Set-Cookie"
	if a.secrets == nil && h[cookie] == nil {
		return h
	}
	out := make(http.Header, len(h))
	for name, values := range h {
		for _, v := range values {
			switch {
			case name == cookie:
				v = endpoint.Masked
			case a.secrets != nil:
				v = a.secrets.Replace(v)
			}
			out[name] = append(out[name], v)
		}
	}
	return out
}
