package endpoint

import (
	"maps"
	"mime"
	"net/textproto"
	"slices"
	"strings"
	"unicode"
)

// The headers of Standard Webhooks, as net/http keeps them, and Gancho's own.
// https://github.com/standard-webhooks/standard-webhooks/blob/main/spec/standard-webhooks.md
const (
	HeaderID        = "Webhook-Id"
	HeaderTimestamp = "Webhook-Timestamp"
	HeaderSignature = "Webhook-Signature"
	HeaderReplay    = "Webhook-Replay"   // of a request: sent again on demand
	HeaderDelivery  = "Webhook-Delivery" // of an answer: what the receiver wishes
)

// reservedHeaders are those that Gancho or the HTTP connection itself sets.
var reservedHeaders = []string{
	"Connection", "Content-Length", "Content-Type", "Expect", "Host", "Keep-Alive", "Proxy-Authorization", "Proxy-Connection", "Te", "Trailer",
	"Transfer-Encoding", "Upgrade", "User-Agent", HeaderID, HeaderTimestamp, HeaderSignature, HeaderReplay,
}

// isReserved reports whether Gancho or the HTTP connection sets the header.
func (e *Endpoint) isReserved(name string) bool {
	if e.NoStandard && slices.Contains([]string{HeaderID, HeaderTimestamp, HeaderSignature}, name) {
		return false
	}
	return slices.Contains(reservedHeaders, name)
}

// Header is a header of each request. Its value is a template.
type Header struct {
	Name  string
	Value Hidden
}

// Headers are headers by name: a list, because a map of one takes ten times as much, for each of thousands of endpoints.
type Headers []Header

// HeadersOf returns the headers of a map by name.
func HeadersOf(values map[string]Hidden) Headers {
	out := make(Headers, 0, len(values))
	for _, name := range slices.Sorted(maps.Keys(values)) {
		out = append(out, Header{name, values[name]})
	}
	return out
}

func (h Headers) texts(show func(Hidden) string) map[string]string {
	out := make(map[string]string, len(h))
	for _, e := range h {
		out[e.Name] = show(e.Value)
	}
	return out
}

// decodeHeaders reads the headers of each request. Format and lists are known.
func (e *Endpoint) decodeHeaders(v value) {
	headers := map[string]Hidden{}
	for _, entry := range v.Entries() {
		text := entry.Value.Text()
		name := textproto.CanonicalMIMEHeaderKey(entry.Name)
		if _, twice := headers[name]; !e.checkHeaderName(entry.Name).at(entry.Key) && twice {
			entry.Key.Errorf("remove one", "the header %s is given twice", name)
		}
		e.checkHeader(name, text).at(entry.Value)
		refuseMask(entry.Value, text)
		headers[name] = Hidden(text)
	}
	e.Headers = HeadersOf(headers)
}

func (e *Endpoint) checkHeaderName(given string) *SettingError {
	name := textproto.CanonicalMIMEHeaderKey(given)
	switch {
	case !isToken(given) || len(given) > maxHeaderName:
		return mistakef("write such as X-Api-Key", "%q cannot be the name of a header", given)
	case name == "Content-Type":
		return mistakef("write content_type beside headers", "the header Content-Type has a setting of its own")
	case e.isReserved(name):
		return mistakef("remove it", "the header %s is set by Gancho", name)
	case e.Format == FormatCloudEventsBinary && strings.HasPrefix(name, "Ce-"):
		return mistakef("write it in extra, without ce-", "the header %s is an attribute of the event in the format %s", name, e.Format)
	}
	return nil
}

// checkHeader returns what is wrong with the value of a header, which is a template.
func (e *Endpoint) checkHeader(name, text string) *SettingError {
	if m := checkHeaderValue(name, text); m != nil {
		return m
	}
	return ParseTemplate(text).checkEvent("the value of the header "+name, e.Batch.Max > 1)
}

// checkContentType returns what is wrong with the content type.
func (e *Endpoint) checkContentType() *SettingError {
	if e.ContentType == "" {
		return nil
	}
	media, _, err := mime.ParseMediaType(e.ContentType)
	switch {
	case err != nil || !strings.Contains(media, "/") || len(e.ContentType) > maxContentType:
		return mistakef("write such as application/vnd.example+json", "the content_type is not a media type")
	case e.Format.isCloudEvents():
		return mistakef("remove it, or use the format standard or bare", "the format %s says what its content type is", e.Format)
	}
	return checkHeaderValue("Content-Type", e.ContentType)
}

func checkHeaderValue(name, text string) *SettingError {
	if strings.ContainsFunc(text, func(r rune) bool { return r < ' ' && r != '\t' || r == 0x7f }) {
		return mistakef("write it in one line", "the value of the header %s has control characters", name)
	}
	return nil
}

// isToken: https://www.rfc-editor.org/rfc/rfc9110#name-tokens
func isToken(s string) bool {
	return s != "" && !strings.ContainsFunc(s, func(r rune) bool {
		alnum := r < unicode.MaxASCII && (unicode.IsLetter(r) || unicode.IsDigit(r))
		return !alnum && !strings.ContainsRune("!#$%&'*+-.^_`|~", r)
	})
}

// bodyFields are those that Gancho itself writes into a body, attributes those
// that it gives a CloudEvent, and those that the specification has.
var (
	bodyFields = []string{"type", "timestamp", "id", "tenant", "sequence", "op", "data", "previous", "unchanged", "errors"}
	attributes = []string{
		"specversion", "id", "source", "type", "time", "subject", "datacontenttype", "dataschema", "data",
		"tenant", "sequence", "op", "previous", "unchanged", "errors",
	}
)

// decodeExtra reads the fixed fields of each body. The format is known.
func decodeExtra(v value, f Format) map[string]Hidden {
	entries := v.Entries()
	checkExtra(f, len(entries)).at(v)
	extra := make(map[string]Hidden, len(entries))
	for _, entry := range entries {
		text := entry.Value.Text()
		checkExtraName(f, entry.Name).at(entry.Key)
		checkExtraValue(f, entry.Name, text).at(entry.Value)
		refuseMask(entry.Value, text)
		extra[entry.Name] = Hidden(text)
	}
	return extra
}

func checkExtra(f Format, n int) *SettingError {
	if n > 0 && f == FormatBare {
		return mistakef("write them as headers, or use the format standard", "the format bare has no place for extra fields")
	}
	return nil
}

func checkExtraName(f Format, name string) *SettingError {
	own, base := bodyFields, name
	switch {
	case f.isCloudEvents():
		own = attributes
	case f == FormatChat:
		own = chatFields
	case f == FormatForm: // PHP files a[b] under a, and drops leading blanks
		base, _, _ = strings.Cut(strings.TrimLeft(name, " "), "[")
	}
	switch {
	case base == "" && name != "":
		return mistakef("write such as auth[token]", "the extra field %q has no name before its bracket", name)
	case name == "" || len(name) > maxExtraName || strings.ContainsFunc(name, unicode.IsControl):
		return mistakef("write such as validationtoken", "the name of an extra field must have 1 to %d bytes and no control characters", maxExtraName)
	case slices.Contains(own, base):
		return mistakef("give it another name", "the field %s is set by Gancho", base)
	// https://github.com/cloudevents/spec/blob/v1.0.2/cloudevents/spec.md#naming-conventions
	case f.isCloudEvents() && (len(name) > maxAttribute || strings.Trim(name, "abcdefghijklmnopqrstuvwxyz0123456789") != ""):
		return mistakef("use up to 20 lower-case letters and digits", "%q cannot be the name of a CloudEvents attribute", name)
	}
	return nil
}

func checkExtraValue(f Format, name, text string) *SettingError {
	if f.isCloudEvents() && strings.ContainsFunc(text, NotInAttribute) {
		return mistakef("remove it", "the value of the extra field %s has a control character, which CloudEvents does not allow", name)
	}
	return nil
}

// WithFields returns the endpoint with fixed fields beside its own in each body: those that its format has a place for, and that it has
// none of the same name of.
func (e Endpoint) WithFields(fields map[string]Hidden) Endpoint {
	if len(fields) == 0 {
		return e
	}
	extra := maps.Clone(e.Extra)
	if extra == nil {
		extra = map[string]Hidden{}
	}
	for name, v := range fields {
		_, own := e.Extra[name]
		if !own && e.Format != FormatBare && e.Format != FormatChat && checkExtraName(e.Format, name) == nil && checkExtraValue(e.Format, name, v.Reveal()) == nil {
			extra[name] = v
		}
	}
	e.Extra = extra
	return e
}

// NotInAttribute reports whether CloudEvents does not allow the character in the
// text of an attribute.
func NotInAttribute(r rune) bool {
	return r < ' ' || r >= 0x7f && r <= 0x9f || r >= 0xfdd0 && r <= 0xfdef || r&0xfffe == 0xfffe
}
