package delivery

import (
	"time"
	"unicode/utf8"
)

// contentType is of every format there is so far.
const contentType = "application/json"

// timeLayout is RFC 3339 with the microseconds that PostgreSQL keeps.
const timeLayout = "2006-01-02T15:04:05.000000Z07:00"

// appendBody appends the request's body. Every format is JSON.
func appendBody(dst []byte, f Format, m *Message) []byte {
	if f == FormatBare {
		return appendJSON(dst, m.Data)
	}
	dst = appendString(append(dst, `{"type":`...), m.Type)
	dst = append(dst, `,"timestamp":"`...)
	dst = m.Time.In(time.UTC).AppendFormat(dst, timeLayout)
	dst = appendString(append(dst, `","id":`...), m.ID)
	dst = append(dst, `,"tenant":`...)
	if m.Tenant == "" {
		dst = append(dst, "null"...)
	} else {
		dst = appendString(dst, m.Tenant)
	}
	// A string: it may have more digits than a receiver's float64 holds.
	dst = appendString(append(dst, `,"sequence":`...), m.Sequence)
	dst = appendJSON(append(dst, `,"data":`...), m.Data)
	if m.Previous != nil {
		dst = append(append(dst, `,"previous":`...), m.Previous...)
	}
	if m.Unchanged != nil {
		dst = append(append(dst, `,"unchanged":`...), m.Unchanged...)
	}
	return append(dst, '}')
}

func appendJSON(dst, value []byte) []byte {
	if len(value) == 0 {
		return append(dst, "null"...)
	}
	return append(dst, value...)
}

// appendString appends s as a JSON string. Bytes that are not UTF-8 become
// U+FFFD: JSON has no place for them.
func appendString(dst []byte, s string) []byte {
	const hex = "0123456789abcdef"
	dst = append(dst, '"')
	for i := 0; i < len(s); {
		c := s[i]
		switch {
		case c == '"' || c == '\\':
			dst = append(dst, '\\', c)
		case c < ' ':
			dst = append(dst, '\\', 'u', '0', '0', hex[c>>4], hex[c&15])
		case c < utf8.RuneSelf:
			dst = append(dst, c)
		default:
			r, size := utf8.DecodeRuneInString(s[i:])
			dst = utf8.AppendRune(dst, r)
			i += size
			continue
		}
		i++
	}
	return append(dst, '"')
}
