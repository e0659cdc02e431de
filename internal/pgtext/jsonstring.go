package pgtext

import (
	"encoding/binary"
	"unicode/utf8"
)

const hexDigits = "0123456789abcdef"

// AppendJSONString appends s as a JSON string (RFC 8259): control characters,
// quotes and backslashes escaped, the rest as it is, except U+2028 and U+2029,
// which old JavaScript treats as line ends, and bytes that are not UTF-8, which
// become U+FFFD.
func AppendJSONString(dst, s []byte) []byte {
	dst = append(dst, '"')
	dst = appendEscaped(dst, s, true)
	return append(dst, '"')
}

// appendEscaped appends what is between the quotes. Without strict it
// leaves U+2028, U+2029 and invalid bytes alone, as PostgreSQL does.
func appendEscaped(dst, s []byte, strict bool) []byte {
	start, i := 0, plainPrefix(s)
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
			r, n = utf8.DecodeRune(s[i:])
			if r != '\u2028' && r != '\u2029' && (r != utf8.RuneError || n > 1) {
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

// plainPrefix returns the length of a prefix of s, in whole words of eight
// bytes, that needs no escape and is ASCII.
func plainPrefix(s []byte) int {
	const ones, highs = 0x0101010101010101, 0x8080808080808080
	i := 0
	for ; i+8 <= len(s); i += 8 {
		w := binary.LittleEndian.Uint64(s[i:])
		quote := w ^ '"'*ones
		slash := w ^ '\\'*ones
		// A byte's high bit is set where it is not ASCII, below a blank, or
		// equal to quote or backslash (false alarms are checked again).
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
