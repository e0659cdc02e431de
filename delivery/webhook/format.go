package webhook

import (
	"bytes"
	"encoding/json"
	"maps"
	"slices"
	"strconv"
	"time"

	"gancho/delivery/endpoint"
	"gancho/internal/jsontext"
)

// timeLayout is RFC 3339 with the microseconds that PostgreSQL keeps.
const timeLayout = "2006-01-02T15:04:05.000000Z07:00"

// envelopeSize is what a body has beside its variable parts, generously.
const envelopeSize = 256

// bodyShape is how an endpoint's bodies are written.
type bodyShape struct {
	format  endpoint.Format
	strings bool       // numbers become JSON strings
	extra   []byte     // written behind the sequence, separator first
	chat    *chatShape // nil: the format is another
	media   string     // takes the place of the content type; empty: nothing does
}

func newBodyShape(ep *endpoint.Endpoint) bodyShape {
	f := bodyShape{format: ep.Format, strings: ep.StringNumbers, media: ep.ContentType}
	for _, name := range slices.Sorted(maps.Keys(ep.Extra)) {
		if f.format == endpoint.FormatForm {
			f.extra = appendFormField(f.extra, name, ep.Extra[name].Reveal())
			continue
		}
		f.extra = jsontext.AppendString(append(f.extra, ','), name)
		f.extra = jsontext.AppendString(append(f.extra, ':'), ep.Extra[name].Reveal())
	}
	if f.format == endpoint.FormatChat {
		f.chat = newChatShape(ep)
	}
	return f
}

// contentType is that of one event, or of a list of them.
func (f *bodyShape) contentType(list bool) string {
	switch {
	case f.media != "":
		return f.media
	case f.format == endpoint.FormatForm:
		return "application/x-www-form-urlencoded"
	case f.format == endpoint.FormatCloudEvents && list:
		return "application/cloudevents-batch+json"
	case f.format == endpoint.FormatCloudEvents:
		return "application/cloudevents+json"
	}
	return "application/json"
}

// size is about what the message's body takes. A form percent-encodes, and
// numbers get quotes, so theirs may be longer and be moved once.
func (f *bodyShape) size(m *Message) int {
	return envelopeSize + len(f.extra) + len(m.ID) + len(m.Type) + len(m.Tenant) + len(m.Data) + len(m.Previous) + len(m.Unchanged) + len(m.Errors)
}

// append appends the body of a request: of one event, or a JSON array of the
// bodies of all.
func (f *bodyShape) append(dst []byte, ms []*Message, list bool) []byte {
	if !list {
		return f.appendBody(dst, ms[0])
	}
	dst = append(dst, '[')
	for i, m := range ms {
		if i > 0 {
			dst = append(dst, ',')
		}
		dst = f.appendBody(dst, m)
	}
	return append(dst, ']')
}

// appendBody appends the body of a request with this one event.
func (f *bodyShape) appendBody(dst []byte, m *Message) []byte {
	switch f.format {
	case endpoint.FormatBare, endpoint.FormatCloudEventsBinary:
		return f.appendValue(dst, m.Data)
	case endpoint.FormatCloudEvents:
		return f.appendCloudEvent(dst, m)
	case endpoint.FormatForm:
		return f.appendForm(dst, m)
	case endpoint.FormatChat:
		return append(append(f.chat.append(dst, m), f.extra...), '}')
	}
	return f.appendStandard(dst, m)
}

func (f *bodyShape) appendStandard(dst []byte, m *Message) []byte {
	dst = jsontext.AppendString(append(dst, `{"type":`...), m.Type)
	dst = append(dst, `,"timestamp":"`...)
	dst = m.Time.In(time.UTC).AppendFormat(dst, timeLayout)
	dst = jsontext.AppendString(append(dst, `","id":`...), m.ID)
	dst = append(dst, `,"tenant":`...)
	if m.Tenant == "" {
		dst = append(dst, "null"...)
	} else {
		dst = jsontext.AppendString(dst, m.Tenant)
	}
	// A string: it may have more digits than a receiver's float64 holds.
	dst = jsontext.AppendString(append(dst, `,"sequence":`...), m.Sequence)
	if m.Op != "" {
		dst = jsontext.AppendString(append(dst, `,"op":`...), m.Op)
	}
	dst = m.appendTimer(dst)
	dst = append(dst, f.extra...)
	dst = f.appendValue(append(dst, `,"data":`...), m.Data)
	if len(m.Previous) > 0 {
		dst = f.appendValue(append(dst, `,"previous":`...), m.Previous)
	}
	if len(m.Unchanged) > 0 {
		dst = append(append(dst, `,"unchanged":`...), m.Unchanged...)
	}
	if len(m.Errors) > 0 {
		dst = append(append(dst, `,"errors":`...), m.Errors...)
	}
	return append(dst, '}')
}

// timed reports whether time has made the event.
func (m *Message) timed() bool { return m.Op == OpTimer }

// appendTimer appends, of an event of a timer, when it was due, and how many seconds after that it was queued.
func (m *Message) appendTimer(dst []byte) []byte {
	if !m.timed() {
		return dst
	}
	dst = m.Time.In(time.UTC).AppendFormat(append(dst, `,"due":"`...), timeLayout)
	return strconv.AppendInt(append(dst, `","late":`...), m.Late, 10)
}

// appendValue appends a JSON value, or null where there is none.
func (f *bodyShape) appendValue(dst, value []byte) []byte {
	switch {
	case len(value) == 0:
		return append(dst, "null"...)
	case f.strings:
		return appendStringNumbers(dst, value)
	}
	return append(dst, value...)
}

// appendStringNumbers appends JSON text with its numbers as strings of the
// same digits. No number is ever parsed, so none is changed.
func appendStringNumbers(dst, text []byte) []byte {
	for i := 0; i < len(text); {
		end := i + 1
		switch c := text[i]; {
		case c == '"':
			end = stringEnd(text, i)
			dst = append(dst, text[i:end]...)
		case c == '-' || c >= '0' && c <= '9':
			end = numberEnd(text, i)
			dst = append(append(append(dst, '"'), text[i:end]...), '"')
		default:
			dst = append(dst, c)
		}
		i = end
	}
	return dst
}

// stringEnd returns where the string that begins at i ends, behind its quote.
func stringEnd(text []byte, i int) int {
	for i++; i < len(text); i++ {
		switch text[i] {
		case '\\':
			i++
		case '"':
			return i + 1
		}
	}
	return len(text)
}

// numberEnd returns where the number that begins at i ends.
func numberEnd(text []byte, i int) int {
	for i < len(text) && bytes.IndexByte([]byte("+-.0123456789Ee"), text[i]) >= 0 {
		i++
	}
	return i
}

// appendUnquoted appends what the JSON string stands for. Half a surrogate
// pair, which UTF-8 has no place for, becomes U+FFFD.
func appendUnquoted(dst, quoted []byte) (_ []byte, ok bool) {
	if len(quoted) < 2 || quoted[0] != '"' || quoted[len(quoted)-1] != '"' {
		return dst, false
	}
	if bytes.IndexByte(quoted, '\\') < 0 {
		return append(dst, quoted[1:len(quoted)-1]...), true
	}
	var text string
	if json.Unmarshal(quoted, &text) != nil {
		return dst, false
	}
	return append(dst, text...), true
}
