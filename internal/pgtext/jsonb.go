package pgtext

import (
	"bytes"
	"strings"
	"unicode"
	"unicode/utf8"
)

// JSONTypeof returns jsonb_typeof(text): object, array, string, number,
// boolean or null.
func JSONTypeof(text []byte) string {
	text = trimSpace(text)
	if len(text) == 0 {
		return ""
	}
	switch text[0] {
	case '{':
		return "object"
	case '[':
		return "array"
	case '"':
		return "string"
	case 't', 'f':
		return "boolean"
	case 'n':
		return "null"
	}
	return "number"
}

// JSONGet returns text -> key of a json or jsonb value: the text of the
// object's field, unchanged. Of several fields of one name, which json may
// have, it is the last. ok is false (SQL's null) when there is no such field
// or text is no object. The value is part of text.
func JSONGet(text []byte, key []byte) (value []byte, ok bool) {
	w := jsonWalker{s: text}
	if !w.open('{') {
		return nil, false
	}
	for w.more('}') {
		name, v := w.member()
		if w.failed {
			return nil, false
		}
		if keyIs(name, key) {
			value, ok = v, true
		}
	}
	return value, ok && !w.failed
}

// JSONExists returns text ? key of a jsonb value: an object has the key, an
// array has the string, or the value is the string.
func JSONExists(text, key []byte) bool {
	w := jsonWalker{s: text}
	switch {
	case w.open('{'):
		_, ok := JSONGet(text, key)
		return ok
	case w.open('['):
		for w.more(']') {
			if keyIs(w.skipValue(), key) {
				return true
			}
		}
		return false
	}
	return keyIs(trimSpace(text), key)
}

// JSONIndex returns text -> i of a json or jsonb value: the text of the
// array's element, counted from 0, or from the end when i is negative. ok is
// false (SQL's null) when there is no such element or text is no array. The
// value is part of text.
func JSONIndex(text []byte, i int) ([]byte, bool) {
	if i < 0 {
		if i += JSONLength(text); i < 0 {
			return nil, false
		}
	}
	w := jsonWalker{s: text}
	if !w.open('[') {
		return nil, false
	}
	for w.more(']') {
		v := w.skipValue()
		if w.failed {
			return nil, false
		}
		if i == 0 {
			return v, true
		}
		i--
	}
	return nil, false
}

// JSONLength returns the number of an array's elements, 0 for any other value.
func JSONLength(text []byte) int {
	n := 0
	w := jsonWalker{s: text}
	if w.open('[') {
		for w.more(']') {
			w.skipValue()
			n++
		}
	}
	return n
}

// AppendJSONText appends what ->> returns of a json or jsonb value: null for
// JSON's null, the characters of a string, the text of all others. Escapes that
// have no text (\u0000, half a surrogate pair) are errors.
func AppendJSONText(dst, value []byte) (text []byte, null bool, err error) {
	value = trimSpace(value)
	if string(value) == "null" {
		return dst, true, nil
	}
	if len(value) < 2 || value[0] != '"' {
		return append(dst, value...), false, nil
	}
	text, err = appendUnescaped(dst, value[1:len(value)-1])
	return text, false, err
}

var (
	errJSONZero      = &Error{Code: "22P05", Message: `JSON string has \u0000, which text cannot hold`}
	errJSONSurrogate = &Error{Code: codeTextSyntax, Message: "JSON string has half a surrogate pair"}
)

// CheckJSONEscapes returns an error for valid JSON with an escape that has no text,
// anywhere: the type json keeps such strings, and its operators -> and ->> refuse
// the whole value. Characters above last have no text in the server's encoding.
func CheckJSONEscapes(text []byte, last rune) error {
	for i := bytes.IndexByte(text, '\\'); i >= 0; i = bytes.IndexByte(text, '\\') {
		text = text[i:]
		n := escapeLength(text)
		if n == len(`\u0000`) {
			r, length, err := unicodeEscape(text)
			switch {
			case err != nil:
				return err
			case r > last && last == unicode.MaxLatin1:
				return &Error{Code: "22P05", Message: "JSON string has a character that encoding LATIN1 does not have"}
			case r > last:
				return &Error{Code: codeUnsupported, Message: "JSON string has a character beyond ASCII as \\u, in a database of another encoding than UTF8"}
			}
			n = length
		}
		text = text[max(n, 1):]
	}
	return nil
}

// appendUnescaped appends the characters of a string's inside.
func appendUnescaped(dst, s []byte) ([]byte, error) {
	for len(s) > 0 {
		i := bytes.IndexByte(s, '\\')
		if i < 0 {
			break
		}
		dst = append(dst, s[:i]...)
		s = s[i:]
		n := escapeLength(s)
		if n == 0 {
			return dst, errJSONSyntax
		}
		if n == 2 {
			c := s[1]
			if i := strings.IndexByte("bfnrt", c); i >= 0 {
				c = "\b\f\n\r\t"[i]
			}
			dst = append(dst, c)
			s = s[2:]
			continue
		}
		r, n, err := unicodeEscape(s)
		if err != nil {
			return dst, err
		}
		dst = utf8.AppendRune(dst, r)
		s = s[n:]
	}
	return append(dst, s...), nil
}

// unicodeEscape reads \uXXXX, or two of them that are a surrogate pair.
func unicodeEscape(s []byte) (r rune, n int, err error) {
	r, _ = hex4(s[2:])
	switch {
	case r == 0:
		return 0, 0, errJSONZero
	case r < 0xD800 || r > 0xDFFF:
		return r, 6, nil
	case r < 0xDC00 && len(s) >= 12 && s[6] == '\\' && s[7] == 'u':
		if low, isHex := hex4(s[8:]); isHex && low >= 0xDC00 && low <= 0xDFFF {
			return 0x10000 + (r-0xD800)<<10 + (low - 0xDC00), 12, nil
		}
	}
	return 0, 0, errJSONSurrogate
}

// keyIs reports whether a JSON value is a string that equals the key.
func keyIs(name, key []byte) bool {
	if len(name) < 2 || name[0] != '"' {
		return false
	}
	name = name[1 : len(name)-1]
	i := bytes.IndexByte(name, '\\')
	if i < 0 {
		return bytes.Equal(name, key)
	}
	if len(key) < i || !bytes.Equal(name[:i], key[:i]) {
		return false
	}
	var scratch [128]byte
	plain, err := appendUnescaped(scratch[:0], name)
	return err == nil && bytes.Equal(plain, key)
}

// jsonWalker iterates over JSON that PostgreSQL has checked. It checks only what it
// needs to find the next value, and fails on what is not JSON at all.
type jsonWalker struct {
	s      []byte
	i      int
	begun  bool
	failed bool
	depth  int // containers that were opened and not left
}

// open enters an array or object; false when the value is something else.
func (w *jsonWalker) open(bracket byte) bool {
	w.space()
	if w.i >= len(w.s) || w.s[w.i] != bracket {
		return false
	}
	w.i++
	w.begun = false
	w.depth++
	return true
}

// leave moves behind the containers that are deeper than depth.
func (w *jsonWalker) leave(depth int) {
	for w.depth > depth {
		switch token := w.token(); {
		case len(token) == 0:
			w.failed = true
			return
		case token[0] == '{' || token[0] == '[':
			w.depth++
		case token[0] == '}' || token[0] == ']':
			w.depth--
		}
	}
}

// more reports whether another element follows, and moves to it.
func (w *jsonWalker) more(bracket byte) bool {
	w.space()
	if w.failed || w.i >= len(w.s) {
		w.failed = true
		return false
	}
	if w.s[w.i] == bracket {
		w.i++
		w.depth--
		return false
	}
	if w.begun {
		if w.s[w.i] != ',' {
			w.failed = true
			return false
		}
		w.i++
		w.space()
	}
	w.begun = true
	return true
}

// member returns the name and the value of an object's next field.
func (w *jsonWalker) member() (name, value []byte) {
	name = w.skipValue()
	w.colon()
	return name, w.skipValue()
}

func (w *jsonWalker) colon() {
	w.space()
	if w.i >= len(w.s) || w.s[w.i] != ':' {
		w.failed = true
		return
	}
	w.i++
	w.space()
}

// skipValue returns the value at the position and moves past it.
func (w *jsonWalker) skipValue() []byte {
	w.space()
	start, depth := w.i, 0
	for w.i < len(w.s) {
		switch w.s[w.i] {
		case '"':
			w.skipString()
		case '{', '[':
			depth++
			w.i++
		case '}', ']':
			depth--
			w.i++
		case ',', ':', ' ', '\t', '\n', '\r':
			w.i++
			continue // part of a container: outside of one, a value has ended before
		default:
			w.skipWord()
		}
		if depth <= 0 {
			break
		}
	}
	if depth != 0 || w.i == start || w.i > len(w.s) {
		w.failed = true
		return nil
	}
	return w.s[start:w.i]
}

func (w *jsonWalker) skipString() {
	w.i++
	for w.i < len(w.s) {
		switch w.s[w.i] {
		case '"':
			w.i++
			return
		case '\\':
			w.i++
		}
		w.i++
	}
	w.failed = true
}

// skipWord moves past a number, true, false or null.
func (w *jsonWalker) skipWord() {
	for w.i < len(w.s) {
		switch w.s[w.i] {
		case ',', ':', ']', '}', '{', '[', '"', ' ', '\t', '\n', '\r':
			return
		}
		w.i++
	}
}

func (w *jsonWalker) space() {
	for w.i < len(w.s) && isSpace(w.s[w.i]) {
		w.i++
	}
}
