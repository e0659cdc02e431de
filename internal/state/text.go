package state

import (
	"fmt"
	"strconv"
	"strings"
	"unicode/utf16"
	"unicode/utf8"
)

// encoding says which characters the database can store. Every text that
// comes from rows or receivers goes through it, so that a write never fails for
// its text, and is read as it was: the keys and tenants of a UTF8 source may be
// stored in a LATIN1 database.
//
// A character that cannot be stored is written as \u{20ac}, a byte that is not
// UTF-8 as \x{e9}, and the backslash of such a sequence in the text itself as
// \u{5c}. Equal texts are stored equal, so filters work on what is stored.
type encoding struct {
	all   bool // UTF8, and SQL_ASCII, which accepts any byte
	latin bool // 0xA0 to 0xFF too
}

// encodingOf knows the encodings that are in use; in any other, all but ASCII is
// escaped.
func encodingOf(server string) encoding {
	switch server {
	case "UTF8", "SQL_ASCII":
		return encoding{all: true}
	case "LATIN1", "WIN1252":
		return encoding{latin: true}
	}
	return encoding{}
}

func (e encoding) holds(r rune) bool {
	switch {
	case r == 0:
		return false
	case r < utf8.RuneSelf || e.all:
		return true
	}
	return e.latin && r >= 0xA0 && r <= 0xFF
}

// encode returns the text as it is stored.
func (e encoding) encode(s string) string {
	if e.plain(s) {
		return s
	}
	var b strings.Builder
	for len(s) > 0 {
		r, n := utf8.DecodeRuneInString(s)
		switch {
		case r == utf8.RuneError && n == 1:
			fmt.Fprintf(&b, `\x{%x}`, s[0])
		case r == '\\' && escapes(s), !e.holds(r):
			fmt.Fprintf(&b, `\u{%x}`, r)
		default:
			b.WriteString(s[:n])
		}
		s = s[n:]
	}
	return b.String()
}

// plain reports whether the text is stored as it is.
func (e encoding) plain(s string) bool {
	for i, r := range s {
		if !e.holds(r) || r == utf8.RuneError || r == '\\' && escapes(s[i:]) {
			return false
		}
	}
	return true
}

// escapes reports whether the text begins like a sequence of encode's.
func escapes(s string) bool { return strings.HasPrefix(s, `\u{`) || strings.HasPrefix(s, `\x{`) }

// decode undoes encode. What encode would not have written stays.
func decode(s string) string {
	if !strings.Contains(s, `\u{`) && !strings.Contains(s, `\x{`) {
		return s
	}
	var b strings.Builder
	for {
		i := strings.IndexByte(s, '\\')
		if i < 0 {
			b.WriteString(s)
			return b.String()
		}
		b.WriteString(s[:i])
		s = s[i:]
		end := strings.IndexByte(s, '}')
		v, err := uint64(0), error(nil)
		if escapes(s) && end > 0 {
			v, err = strconv.ParseUint(s[3:end], 16, 21)
		}
		switch {
		case !escapes(s) || end < 0 || err != nil || s[1] == 'x' && v > 0xff:
			b.WriteByte('\\')
			s = s[1:]
			continue
		case s[1] == 'x':
			b.WriteByte(byte(v))
		default:
			b.WriteRune(rune(v))
		}
		s = s[end+1:]
	}
}

// decodeIn decodes texts in place.
func decodeIn(texts ...*string) {
	for _, text := range texts {
		*text = decode(*text)
	}
}

func (e encoding) encodeAll(texts []string) []string {
	out := make([]string, len(texts))
	for i, s := range texts {
		out[i] = e.encode(s)
	}
	return out
}

func decodeAll(texts []string) []string {
	var out []string
	for _, s := range texts {
		out = append(out, decode(s))
	}
	return out
}

// asciiJSON writes every character of a JSON text that is not ASCII as \uXXXX,
// which any database holds in a column of type json.
func asciiJSON(text []byte) []byte {
	if len(text) == 0 {
		return nil
	}
	out := make([]byte, 0, len(text))
	for _, r := range string(text) {
		switch {
		case r < utf8.RuneSelf:
			out = append(out, byte(r))
		case r > 0xFFFF:
			high, low := utf16.EncodeRune(r)
			out = fmt.Appendf(out, `\u%04x\u%04x`, high, low)
		default:
			out = fmt.Appendf(out, `\u%04x`, r)
		}
	}
	return out
}
