// Package jsontext writes JSON strings: those of the events' data, and of the
// envelopes around it.
package jsontext

import "unicode/utf8"

const hexDigits = "0123456789abcdef"

// AppendString appends s as a JSON string (RFC 8259): control characters, quotes
// and backslashes escaped, the rest as it is, as JSON.stringify does, except bytes
// that are not UTF-8, which become U+FFFD: JSON has no place for them.
func AppendString[T string | []byte](dst []byte, s T) []byte {
	dst = append(dst, '"')
	dst = AppendEscaped(dst, s, true)
	return append(dst, '"')
}

// AppendEscaped appends what stands between the quotes. Without strict it leaves
// invalid bytes alone, as PostgreSQL does.
func AppendEscaped[T string | []byte](dst []byte, s T, strict bool) []byte {
	start, i := 0, PlainPrefix(s)
	for i < len(s) {
		c := s[i]
		switch {
		case c >= ' ' && c < utf8.RuneSelf && c != '"' && c != '\\':
			i++
			continue
		case c >= 0xC2 && c <= 0xDF && i+1 < len(s) && s[i+1]&0xC0 == 0x80: // two bytes, as accented letters have
			i += 2
			continue
		case c >= utf8.RuneSelf && !strict:
			i++
			continue
		}
		r, n := rune(c), 1
		if c >= utf8.RuneSelf {
			r, n = utf8.DecodeRuneInString(string(s[i:min(i+utf8.UTFMax, len(s))]))
			if r != utf8.RuneError || n > 1 {
				i += n
				continue
			}
		}
		dst = append(dst, s[start:i]...)
		dst = appendEscape(dst, r)
		i += n
		start = i
	}
	return append(dst, s[start:]...)
}

// PlainPrefix returns the length of a prefix of s, in whole words of eight
// bytes, that needs no escape and is ASCII.
func PlainPrefix[T string | []byte](s T) int {
	const ones, highs = 0x0101010101010101, 0x8080808080808080
	i := 0
	for ; i+8 <= len(s); i += 8 {
		// The compiler makes one load of this, as it does of binary.LittleEndian.Uint64.
		w := uint64(s[i]) | uint64(s[i+1])<<8 | uint64(s[i+2])<<16 | uint64(s[i+3])<<24 |
			uint64(s[i+4])<<32 | uint64(s[i+5])<<40 | uint64(s[i+6])<<48 | uint64(s[i+7])<<56
		quote := w ^ '"'*ones
		slash := w ^ '\\'*ones
		// A byte's high bit is set where it is not ASCII, below a blank, or
		// equal to quote or backslash (false alarms are only looked at again).
		if (w|(w-' '*ones)|(quote-ones)|(slash-ones))&highs != 0 {
			break
		}
	}
	return i
}

func appendEscape(dst []byte, r rune) []byte {
	switch r {
	case '"', '\\':
		return append(dst, '\\', byte(r))
	case '\b':
		return append(dst, '\\', 'b')
	case '\f':
		return append(dst, '\\', 'f')
	case '\n':
		return append(dst, '\\', 'n')
	case '\r':
		return append(dst, '\\', 'r')
	case '\t':
		return append(dst, '\\', 't')
	}
	return append(dst, '\\', 'u', hexDigits[r>>12&15], hexDigits[r>>8&15], hexDigits[r>>4&15], hexDigits[r&15])
}

// AppendStrings appends a JSON array of texts.
func AppendStrings(dst []byte, texts []string) []byte {
	dst = append(dst, '[')
	for i, s := range texts {
		if i > 0 {
			dst = append(dst, ',')
		}
		dst = AppendString(dst, s)
	}
	return append(dst, ']')
}
