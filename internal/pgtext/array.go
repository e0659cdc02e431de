package pgtext

import (
	"bytes"
	"strconv"
)

// maxDimensions is PostgreSQL's limit (MAXDIM).
const maxDimensions = 6

var errArraySyntax = &Error{Code: codeTextSyntax, Message: "malformed array literal"}

// ArrayItem is what ArrayReader.Next has read.
type ArrayItem uint8

// The items of an array's text form.
const (
	ArrayEnd     ArrayItem = iota // the end of the text, or an error
	ArrayOpen                     // an opening brace
	ArrayClose                    // a closing brace
	ArrayElement                  // an element that is not null
	ArrayNull                     // a null element
)

// ArrayReader reads an array's text form item by item, row by row when there are
// several dimensions. It accepts what PostgreSQL prints and, with blanks and
// backslashes, what all of its versions accept. Create one with ReadArray.
type ArrayReader struct {
	s       []byte
	i       int
	delim   byte
	state   arrayState
	level   int // open braces
	dims    int // the level that has the elements, once one was read
	scratch []byte

	declared             int // dimensions in the bounds before the braces
	lower, upper         [maxDimensions]int32
	length, itemsInBrace [maxDimensions]int32
}

// arrayState is what may come next.
type arrayState uint8

const (
	arrayStart arrayState = iota // the first brace
	arrayFirst                   // after an opening brace: anything
	arrayNext                    // after a delimiter: an element or an opening brace
	arrayAfter                   // after an element or closing brace: a delimiter or a closing brace
)

// ReadArray returns a reader of an array's text form whose elements are
// separated by delim (',' for all types but box; 0 is ',').
func ReadArray(text []byte, delim byte) ArrayReader {
	if delim == 0 {
		delim = ','
	}
	return ArrayReader{s: trimSpace(text), delim: delim}
}

// Next returns the next item, and the text of an element, which is valid until
// the next call. Text that is no array is an *Error.
func (r *ArrayReader) Next() (ArrayItem, []byte, error) {
	if r.state == arrayStart && !r.bounds() {
		return ArrayEnd, nil, errArraySyntax
	}
	c := r.peek()
	if r.state == arrayAfter {
		switch {
		case r.level == 0:
			return ArrayEnd, nil, r.end()
		case c == r.delim:
			r.i++
			r.state = arrayNext
			c = r.peek()
		case c != '}':
			return ArrayEnd, nil, errArraySyntax
		}
	}
	item, text, ok := ArrayEnd, []byte(nil), false
	switch c {
	case 0:
	case '{':
		item, ok = ArrayOpen, r.open()
	case '}':
		item, ok = ArrayClose, r.close()
	default:
		item, text, ok = r.element(c)
	}
	if !ok {
		return ArrayEnd, nil, errArraySyntax
	}
	return item, text, nil
}

// Shape returns the lengths and lower bounds of the dimensions, none for an
// empty array, once Next has returned ArrayEnd.
func (r *ArrayReader) Shape() (length, lower []int) {
	for i := range r.dims {
		length, lower = append(length, int(r.length[i])), append(lower, int(r.lower[i]))
	}
	return length, lower
}

// peek skips blanks and returns the next byte, 0 at the end.
func (r *ArrayReader) peek() byte {
	for ; r.i < len(r.s); r.i++ {
		if c := r.s[r.i]; c > ' ' || !isSpace(c) {
			return c
		}
	}
	return 0
}

func (r *ArrayReader) accept(c byte) bool {
	if r.i < len(r.s) && r.s[r.i] == c {
		r.i++
		return true
	}
	return false
}

// bounds reads [0:1][5:6]= before the braces.
func (r *ArrayReader) bounds() bool {
	for ; r.accept('['); r.declared++ {
		if r.declared == maxDimensions {
			return false
		}
		lower, ok1 := r.integer(':')
		upper, ok2 := r.integer(']')
		if !ok1 || !ok2 || upper < lower {
			return false
		}
		r.lower[r.declared], r.upper[r.declared] = lower, upper
	}
	return r.declared == 0 || r.accept('=')
}

// integer reads a number and the byte after it.
func (r *ArrayReader) integer(after byte) (int32, bool) {
	n := max(bytes.IndexByte(r.s[r.i:], after), 0)
	v, err := strconv.ParseInt(string(r.s[r.i:r.i+n]), 10, 32)
	plus := r.i < len(r.s) && r.s[r.i] == '+'
	r.i += n
	return int32(v), err == nil && !plus && r.accept(after)
}

// open enters a brace. Only the innermost braces have elements.
func (r *ArrayReader) open() bool {
	if r.level == maxDimensions || r.dims != 0 && r.level >= r.dims {
		return false
	}
	if r.level > 0 {
		r.itemsInBrace[r.level-1]++
	}
	r.itemsInBrace[r.level] = 0
	r.i++
	r.level++
	r.state = arrayFirst
	return true
}

// close leaves a brace. All braces of a level have the same number of items, and
// none but the outermost is empty: {{}} differs between versions.
func (r *ArrayReader) close() bool {
	if r.state == arrayNext || r.state == arrayStart {
		return false
	}
	r.i++
	r.level--
	r.state = arrayAfter
	n, length := r.itemsInBrace[r.level], &r.length[r.level]
	if n == 0 && r.level > 0 || *length != 0 && *length != n {
		return false
	}
	*length = n
	return true
}

// end compares the dimensions with those declared before the braces.
func (r *ArrayReader) end() error {
	if r.i != len(r.s) || r.declared != 0 && r.declared != r.dims {
		return errArraySyntax
	}
	for i := range r.dims {
		if r.declared == 0 {
			r.lower[i] = 1
		} else if int64(r.upper[i])-int64(r.lower[i])+1 != int64(r.length[i]) {
			return errArraySyntax
		}
	}
	return nil
}

// element reads an element that begins with c, in quotes or bare. A backslash
// escapes the next byte.
func (r *ArrayReader) element(c byte) (item ArrayItem, text []byte, ok bool) {
	if r.dims == 0 {
		r.dims = r.level
	}
	if r.level == 0 || r.level != r.dims {
		return ArrayEnd, nil, false
	}
	r.itemsInBrace[r.level-1]++
	r.state = arrayAfter
	if c == '"' {
		text, r.i, ok = unquote(r.s, r.i, false, &r.scratch)
		return ArrayElement, text, ok
	}
	rest, delim := r.s[r.i:], r.delim
	for i, c := range rest {
		if c == delim || c == '}' {
			r.i += i
			if i == len("null") && bytes.EqualFold(rest[:i], []byte("null")) {
				return ArrayNull, nil, true
			}
			return ArrayElement, rest[:i], i > 0
		}
		if c <= ' ' || c == '\\' || c == '{' || c == '"' {
			return r.spaced()
		}
	}
	return ArrayEnd, nil, false
}

// spaced reads a bare element with blanks or backslashes in it. Blanks at its end
// do not count unless they are escaped.
func (r *ArrayReader) spaced() (item ArrayItem, text []byte, ok bool) {
	escaped, end := false, 0
	r.scratch = r.scratch[:0]
	for ; r.i < len(r.s) && r.s[r.i] != r.delim && r.s[r.i] != '}'; r.i++ {
		c := r.s[r.i]
		if c == '\\' {
			escaped = true
			if r.i++; r.i == len(r.s) {
				return ArrayEnd, nil, false
			}
		} else if c == '{' || c == '"' {
			return ArrayEnd, nil, false
		}
		r.scratch = append(r.scratch, r.s[r.i])
		if c == '\\' || !isSpace(c) {
			end = len(r.scratch)
		}
	}
	text = r.scratch[:end]
	if !escaped && bytes.EqualFold(text, []byte("null")) {
		return ArrayNull, nil, true
	}
	return ArrayElement, text, len(text) > 0
}

// AppendArrayElement appends an element as array_out prints it, in quotes where
// it needs them.
func AppendArrayElement(dst, text []byte, delim byte) []byte {
	special := len(text) == 0 || bytes.IndexByte(text, delim) >= 0 || bytes.ContainsAny(text, "{}\"\\ \t\n\r\v\f")
	if !special && !bytes.EqualFold(text, []byte("null")) {
		return append(dst, text...)
	}
	dst = append(dst, '"')
	for _, c := range text {
		if c == '"' || c == '\\' {
			dst = append(dst, '\\')
		}
		dst = append(dst, c)
	}
	return append(dst, '"')
}
