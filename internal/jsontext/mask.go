package jsontext

import "bytes"

// Mask returns JSON of the same shape in which each letter of a text is x, and each digit of a text or
// number is 9. Names of members, true, false and null stay.
func Mask(src []byte) []byte {
	dst := bytes.Clone(src)
	for i := 0; i < len(dst); i++ {
		switch {
		case dst[i] == '"':
			end := i + 1
			for end < len(dst) && dst[end] != '"' {
				if dst[end] == '\\' {
					end++
				}
				end++
			}
			if rest := bytes.TrimLeft(dst[min(end+1, len(dst)):], " \t\r\n"); len(rest) == 0 || rest[0] != ':' {
				maskText(dst[i+1 : min(end, len(dst))])
			}
			i = end
		case '0' <= dst[i] && dst[i] <= '9':
			dst[i] = '9'
		}
	}
	return dst
}

// maskText masks the inside of a string; an escape becomes as many letters.
func maskText(text []byte) {
	for i := 0; i < len(text); i++ {
		switch c := text[i]; {
		case '0' <= c && c <= '9':
			text[i] = '9'
		case c >= 0x80, 'a' <= c && c <= 'z', 'A' <= c && c <= 'Z':
			text[i] = 'x'
		case c == '\\':
			text[i], text[min(i+1, len(text)-1)] = 'x', 'x'
			i++
		}
	}
}
