package webhook

import (
	"fmt"
	"net/http"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"

	"gancho/delivery/endpoint"
	"gancho/internal/jsontext"
)

// CloudEvents 1.0: https://github.com/cloudevents/spec/blob/v1.0.2/cloudevents/spec.md
//
// subject is left out: what would stand there is the ordering key, which may
// be personal data and is not sent in any format.

// operationalPrefix begins the names of events about Gancho itself.
const operationalPrefix = "gancho."

// appendCloudEvent appends the event in structured form.
// https://github.com/cloudevents/spec/blob/v1.0.2/cloudevents/formats/json-format.md
func (f *bodyShape) appendCloudEvent(dst []byte, m *Message) []byte {
	dst = jsontext.AppendString(append(dst, `{"specversion":"1.0","id":`...), m.ID)
	dst = jsontext.AppendString(append(dst, `,"source":`...), cloudSource(m))
	dst = jsontext.AppendString(append(dst, `,"type":`...), attribute(m.Type))
	dst = append(dst, `,"time":"`...)
	dst = m.Time.In(time.UTC).AppendFormat(dst, timeLayout)
	dst = append(dst, `","datacontenttype":"application/json"`...)
	if m.Sequence != "" {
		dst = jsontext.AppendString(append(dst, `,"sequence":`...), m.Sequence)
	}
	if m.Tenant != "" {
		dst = jsontext.AppendString(append(dst, `,"tenant":`...), attribute(m.Tenant))
	}
	if m.Op != "" {
		dst = jsontext.AppendString(append(dst, `,"op":`...), m.Op)
	}
	dst = m.appendTimer(dst)
	if len(m.Previous) > 0 {
		dst = jsontext.AppendString(append(dst, `,"previous":`...), f.jsonAttribute(m.Previous))
	}
	if len(m.Unchanged) > 0 {
		dst = jsontext.AppendString(append(dst, `,"unchanged":`...), f.jsonAttribute(m.Unchanged))
	}
	if len(m.Errors) > 0 {
		dst = jsontext.AppendString(append(dst, `,"errors":`...), f.jsonAttribute(m.Errors))
	}
	dst = append(dst, f.extra...)
	dst = f.appendValue(append(dst, `,"data":`...), m.Data)
	return append(dst, '}')
}

// setCloudHeaders sets the attributes that differ from event to event.
// https://github.com/cloudevents/spec/blob/v1.0.2/cloudevents/bindings/http-protocol-binding.md
func (f *bodyShape) setCloudHeaders(h http.Header, m *Message) {
	set := func(name, value string) {
		if value != "" {
			h[name] = []string{percentEncoded(value)}
		}
	}
	set("Ce-Id", m.ID)
	set("Ce-Source", cloudSource(m))
	set("Ce-Type", attribute(m.Type))
	set("Ce-Time", m.Time.In(time.UTC).Format(timeLayout))
	set("Ce-Sequence", m.Sequence)
	set("Ce-Tenant", attribute(m.Tenant))
	set("Ce-Op", m.Op)
	if m.timed() {
		set("Ce-Due", m.Time.In(time.UTC).Format(timeLayout))
		set("Ce-Late", strconv.FormatInt(m.Late, 10))
	}
	set("Ce-Previous", f.jsonAttribute(m.Previous))
	set("Ce-Unchanged", f.jsonAttribute(m.Unchanged))
	set("Ce-Errors", f.jsonAttribute(m.Errors))
}

// setStaticCloudHeaders sets those that do not.
func setStaticCloudHeaders(h http.Header, ep *endpoint.Endpoint) {
	h.Set("Ce-Specversion", "1.0")
	for name, value := range ep.Extra {
		h.Set("Ce-"+name, percentEncoded(value.Reveal()))
	}
}

// cloudSource is the database's part of the id, by which two sources' events
// are told apart. Events about Gancho itself have none.
func cloudSource(m *Message) string {
	const root = "/gancho"
	if strings.HasPrefix(m.Type, operationalPrefix) {
		return root
	}
	source, _, ok := strings.Cut(m.ID, "-")
	if !ok || len(source) != SourceDigits || strings.Trim(source, "0123456789abcdef") != "" {
		return root
	}
	return root + "/" + source
}

// attribute returns s as CloudEvents lets the text of an attribute be: without
// control characters and noncharacters.
func attribute(s string) string {
	if !strings.ContainsFunc(s, endpoint.NotInAttribute) {
		return s
	}
	return strings.Map(func(r rune) rune {
		if endpoint.NotInAttribute(r) {
			return utf8.RuneError
		}
		return r
	}, s)
}

// jsonAttribute returns the JSON value as such a text, without changing what
// it means: escapes stand for what may not.
func (f *bodyShape) jsonAttribute(value []byte) string {
	if len(value) == 0 {
		return ""
	}
	text := string(f.appendValue(nil, value))
	if !strings.ContainsFunc(text, endpoint.NotInAttribute) {
		return text
	}
	var b strings.Builder
	for _, r := range text {
		switch {
		case !endpoint.NotInAttribute(r):
			b.WriteRune(r)
		case r < ' ':
			b.WriteByte(' ') // between tokens: in a string JSON has it escaped
		case r > 0xffff:
			r -= 0x10000
			fmt.Fprintf(&b, `\u%04x\u%04x`, 0xd800+r>>10, 0xdc00+r&0x3ff)
		default:
			fmt.Fprintf(&b, `\u%04x`, r)
		}
	}
	return b.String()
}

// percentEncoded returns s as the value of a header: everything but printable
// ASCII, and with it blank, quote and percent sign, as %XX of its UTF-8.
func percentEncoded(s string) string {
	plain := func(c byte) bool { return c > ' ' && c < 0x7f && c != '"' && c != '%' }
	var b strings.Builder
	for i := range len(s) {
		if plain(s[i]) {
			b.WriteByte(s[i])
		} else {
			fmt.Fprintf(&b, "%%%02X", s[i])
		}
	}
	return b.String()
}
