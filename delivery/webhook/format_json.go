package webhook

import (
	"bytes"
	"unicode/utf16"
	"unicode/utf8"
)

const hexDigits = "0123456789abcdef"

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
	text := quoted[1 : len(quoted)-1]
	for i := 0; i < len(text); i++ {
		if text[i] != '\\' {
			dst = append(dst, text[i])
			continue
		}
		if i++; i == len(text) {
			return dst, false
		}
		switch c := text[i]; c {
		case '"', '\\', '/':
			dst = append(dst, c)
		case 'b', 'f', 'n', 'r', 't':
			dst = append(dst, "\b\f\n\r\t"[bytes.IndexByte([]byte("bfnrt"), c)])
		case 'u':
			r, ok := hex4(text[i+1:])
			if !ok {
				return dst, false
			}
			i += 4
			if utf16.IsSurrogate(r) {
				if low, ok := lowSurrogate(text[i+1:]); ok && utf16.DecodeRune(r, low) != utf8.RuneError {
					r, i = utf16.DecodeRune(r, low), i+6
				}
			}
			dst = utf8.AppendRune(dst, r) // a surrogate becomes U+FFFD
		default:
			return dst, false
		}
	}
	return dst, true
}

func lowSurrogate(text []byte) (rune, bool) {
	if !bytes.HasPrefix(text, []byte(`\u`)) {
		return 0, false
	}
	return hex4(text[2:])
}

func hex4(text []byte) (r rune, ok bool) {
	if len(text) < 4 {
		return 0, false
	}
	for _, c := range text[:4] {
		i := bytes.IndexByte([]byte(hexDigits), c|0x20)
		if i < 0 || c < '0' {
			return 0, false
		}
		r = r<<4 | rune(i)
	}
	return r, true
}
