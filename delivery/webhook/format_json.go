package webhook

import (
	"bytes"
	"encoding/json"
)

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
