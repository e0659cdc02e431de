package webhook

import (
	"bytes"
	"encoding/json"
	"strconv"
	"time"
	"unicode/utf8"
)

// formNesting is the most brackets behind a name that PHP reads unless told
// otherwise (max_input_nesting_level). What is nested deeper is written as
// JSON text.
const formNesting = 64

// appendForm appends the event as PHP reads forms. The fixed fields go first:
// PHP drops what comes behind the first 1,000 (max_input_vars).
//
// Forms have neither null nor empty arrays: null is an empty text, an empty
// object or array is left out; data itself is always there. Numbers keep their digits, true and false are these words.
func (f *bodyShape) appendForm(dst []byte, m *Message) []byte {
	dst = appendFormText(append(dst, "type="...), []byte(m.Type))
	dst = append(dst, "&timestamp="...)
	dst = appendFormText(dst, m.Time.In(time.UTC).AppendFormat(nil, timeLayout))
	dst = appendFormField(dst, "id", m.ID)
	dst = appendFormField(dst, "tenant", m.Tenant)
	dst = appendFormField(dst, "sequence", m.Sequence)
	if m.Op != "" {
		dst = appendFormField(dst, "op", m.Op)
	}
	if m.timed() {
		dst = appendFormField(dst, "due", m.Time.In(time.UTC).Format(timeLayout))
		dst = appendFormField(dst, "late", strconv.FormatInt(m.Late, 10))
	}
	dst = append(dst, f.extra...)
	dst = appendFormValue(dst, "data", m.Data)
	if len(m.Previous) > 0 {
		dst = appendFormValue(dst, "previous", m.Previous)
	}
	if len(m.Unchanged) > 0 {
		dst = appendFormValue(dst, "unchanged", m.Unchanged)
	}
	if len(m.Errors) > 0 {
		dst = appendFormValue(dst, "errors", m.Errors)
	}
	return dst
}

func appendFormField(dst []byte, name, value string) []byte {
	dst = appendFormText(append(dst, '&'), []byte(name))
	return appendFormText(append(dst, '='), []byte(value))
}

// appendFormText appends text percent-encoded. Bytes that are not UTF-8 become
// U+FFFD, as they do in JSON.
func appendFormText(dst, text []byte) []byte {
	const upper = "0123456789ABCDEF"
	if !utf8.Valid(text) {
		text = bytes.ToValidUTF8(text, []byte(string(utf8.RuneError)))
	}
	for _, c := range text {
		switch {
		case c >= 'a' && c <= 'z', c >= 'A' && c <= 'Z', c >= '0' && c <= '9', c == '-', c == '.', c == '_', c == '~':
			dst = append(dst, c)
		case c == ' ':
			dst = append(dst, '+')
		default:
			dst = append(dst, '%', upper[c>>4], upper[c&15])
		}
	}
	return dst
}

// appendFormValue appends the JSON value as fields that begin with name. What is
// no JSON is appended as it is.
func appendFormValue(dst []byte, name string, value []byte) []byte {
	if !json.Valid(value) { // the writer takes more than JSON
		return appendFormField(dst, name, string(value))
	}
	w := formWriter{dst: dst, path: append(make([]byte, 0, 128), name...), src: value}
	switch {
	case !w.value(0) || w.peek() != 0 || w.at != len(value):
		return appendFormField(w.dst[:len(dst)], name, string(value))
	case len(w.dst) == len(dst):
		return appendFormField(dst, name, "")
	}
	return w.dst
}

// formWriter goes through JSON text once and appends a field for each leaf.
type formWriter struct {
	dst  []byte
	path []byte // the name of the field that is being written, encoded
	src  []byte
	at   int
	text []byte // scratch
}

// peek skips blanks and returns the next byte, 0 at the end.
func (w *formWriter) peek() byte {
	for ; w.at < len(w.src); w.at++ {
		if c := w.src[w.at]; c != ' ' && c != '\t' && c != '\n' && c != '\r' {
			return c
		}
	}
	return 0
}

// value writes the value that begins here; depth is how many brackets the path
// has.
func (w *formWriter) value(depth int) bool {
	switch c := w.peek(); c {
	case '{', '[':
		if depth < formNesting {
			return w.container(depth, c)
		}
		start := w.at
		return w.skip() && w.field(w.src[start:w.at])
	case '"':
		return w.unquote() && w.field(w.text)
	case 0:
		return false
	}
	return w.word()
}

// word writes a number, true, false or null.
func (w *formWriter) word() bool {
	start := w.at
	for w.at < len(w.src) && bytes.IndexByte([]byte(" \t\r\n,]}"), w.src[w.at]) < 0 {
		w.at++
	}
	text := w.src[start:w.at]
	switch string(text) {
	case "null":
		text = nil
	case "true", "false":
	default:
		if len(text) == 0 || numberEnd(text, 0) != len(text) {
			return false
		}
	}
	return w.field(text)
}

func (w *formWriter) field(value []byte) bool {
	w.dst = append(append(append(w.dst, '&'), w.path...), '=')
	w.dst = appendFormText(w.dst, value)
	return true
}

// container writes the members of the object or array that opens here.
func (w *formWriter) container(depth int, opening byte) bool {
	closing := opening + 2 // in ASCII
	path := len(w.path)
	defer func() { w.path = w.path[:path] }()
	w.at++
	if w.peek() == closing {
		w.at++
		return true
	}
	for i := 0; ; i++ {
		w.path = append(w.path[:path], "%5B"...)
		if opening == '[' {
			w.path = strconv.AppendInt(w.path, int64(i), 10)
		} else if !w.member() {
			return false
		}
		w.path = append(w.path, "%5D"...)
		if !w.value(depth + 1) {
			return false
		}
		switch w.peek() {
		case closing:
			w.at++
			return true
		case ',':
			w.at++
		default:
			return false
		}
	}
}

// member appends an object's next key to the path and goes behind its colon.
// What PHP would not take for one key becomes an underscore, as PHP itself
// does with names: a closing bracket, which would end the key; NUL, which would
// end the name; and keys that are empty or one blank, which would be numbered.
func (w *formWriter) member() bool {
	if w.peek() != '"' || !w.unquote() || w.peek() != ':' {
		return false
	}
	w.at++
	for i, c := range w.text {
		if c == ']' || c == 0 || len(w.text) == 1 && bytes.IndexByte([]byte(" \t\n\v\f\r"), c) >= 0 {
			w.text[i] = '_'
		}
	}
	if len(w.text) == 0 {
		w.text = append(w.text, '_')
	}
	w.path = appendFormText(w.path, w.text)
	return true
}

// unquote reads the string that begins here into w.text.
func (w *formWriter) unquote() (ok bool) {
	end := stringEnd(w.src, w.at)
	w.text, ok = appendUnquoted(w.text[:0], w.src[w.at:end])
	w.at = end
	return ok
}

// skip goes behind the object or array that opens here.
func (w *formWriter) skip() bool {
	for open := 0; w.at < len(w.src); {
		switch w.src[w.at] {
		case '"':
			w.at = stringEnd(w.src, w.at)
			continue
		case '{', '[':
			open++
		case '}', ']':
			open--
		}
		w.at++
		if open == 0 {
			return true
		}
	}
	return false
}
