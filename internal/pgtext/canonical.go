package pgtext

import (
	"bytes"
	"cmp"
	"slices"
	"unsafe"

	"gancho/internal/jsontext"
)

// The limits of numeric: digits before and after the point (numeric.h).
const (
	maxNumericDigits = 131_072
	maxNumericScale  = 16_383
)

// CheckJSON returns an error for text that is no JSON, as the input of the type
// json does, which keeps the text.
func CheckJSON(text []byte) error {
	_, err := checkJSON(text)
	return err
}

// MeasureJSONB bounds what CanonicalJSONB appends for a text and what memory it
// needs besides, both in bytes: a number such as 1e99999 becomes much longer. Text
// that is not JSON, and numbers out of numeric's range, are errors.
func MeasureJSONB(text []byte) (size, memory int, err error) {
	if _, err := checkJSON(text); err != nil {
		return 0, 0, err
	}
	nodes := 0
	w := jsonWalker{s: text}
	for token := w.token(); len(token) > 0; token = w.token() {
		switch {
		case numberStart(token[0]):
			_, places, scale, err := canonicalNumber(token)
			if err != nil {
				return 0, 0, err
			}
			size += int(places+scale) + len("-0.")
			nodes++
		case token[0] == ',' || token[0] == ':':
			size += len(", ")
		default:
			size += len(token)
			nodes++ // and one too many for each container
		}
	}
	return size, nodes * int(unsafe.Sizeof(jsonNode{})+unsafe.Sizeof(jsonMember{})), nil
}

// CanonicalJSONB appends JSON text as PostgreSQL prints it after a cast to
// jsonb: keys ordered by length and then bytes, the last of several values of
// a key, ", " and ": " as separators, numbers with the digits that numeric
// prints (1e2 is 100, 1.50 stays), strings without needless escapes. What
// jsonb refuses is an error: malformed text, \u0000, halves of surrogate
// pairs, numbers out of numeric's range.
func CanonicalJSONB(dst, text []byte) ([]byte, error) {
	if _, err := checkJSON(text); err != nil {
		return dst, err
	}
	c := canonical{text: text}
	if err := c.read(&jsonWalker{s: text}); err != nil {
		return dst, err
	}
	return c.append(dst, 0), nil
}

// canonical is checked JSON as a tree, in the order of the text: the members of
// an object are put in order without looking at what is in them again.
type canonical struct {
	text    []byte
	nodes   []jsonNode
	scratch []byte
}

// jsonNode is a scalar or key as its token, or a container as its bracket. What
// is in the container follows it up to next.
type jsonNode struct{ start, end, next int }

// jsonMember is a field of an object.
type jsonMember struct {
	key   []byte
	value int // the node
}

// read adds the value at the walker's position.
func (c *canonical) read(w *jsonWalker) error {
	token := w.token()
	i := len(c.nodes)
	c.nodes = append(c.nodes, jsonNode{start: w.i - len(token), end: w.i})
	var err error
	switch first := token[0]; {
	case first == '{' || first == '[':
		w.begun = false
		for err == nil && w.more(first+2) { // the closing one in ASCII
			err = c.read(w)
			if err == nil && first == '{' {
				w.colon()
				err = c.read(w)
			}
			w.begun = true // what is inside shared the walker
		}
	case first == '"':
		c.scratch, err = appendUnescaped(c.scratch[:0], token[1:len(token)-1])
	case numberStart(first):
		_, _, _, err = canonicalNumber(token)
	}
	c.nodes[i].next = len(c.nodes)
	return err
}

// append appends the value of a node.
func (c *canonical) append(dst []byte, i int) []byte {
	n := &c.nodes[i]
	token := c.text[n.start:n.end]
	switch {
	case token[0] == '{':
		return c.appendObject(dst, i)
	case token[0] == '[':
		return c.appendArray(dst, i)
	case token[0] == '"' && bytes.IndexByte(token, '\\') >= 0:
		c.scratch, _ = appendUnescaped(c.scratch[:0], token[1:len(token)-1]) // read has done it before
		dst = jsontext.AppendEscaped(append(dst, '"'), c.scratch, false)
		return append(dst, '"')
	case numberStart(token[0]):
		return appendCanonicalNumber(dst, token)
	}
	return append(dst, token...)
}

func (c *canonical) appendArray(dst []byte, i int) []byte {
	dst = append(dst, '[')
	for j := i + 1; j < c.nodes[i].next; j = c.nodes[j].next {
		if j > i+1 {
			dst = append(dst, ", "...)
		}
		dst = c.append(dst, j)
	}
	return append(dst, ']')
}

func (c *canonical) appendObject(dst []byte, i int) []byte {
	dst = append(dst, '{')
	for n, m := range c.members(i) {
		if n > 0 {
			dst = append(dst, ", "...)
		}
		dst = jsontext.AppendEscaped(append(dst, '"'), m.key, false)
		dst = append(dst, `": `...)
		dst = c.append(dst, m.value)
	}
	return append(dst, '}')
}

// members are the fields of an object in their order, of several with one key the last.
func (c *canonical) members(i int) []jsonMember {
	var members []jsonMember
	for j := i + 1; j < c.nodes[i].next; j = c.nodes[j+1].next {
		key := c.text[c.nodes[j].start+1 : c.nodes[j].end-1]
		if bytes.IndexByte(key, '\\') >= 0 {
			key, _ = appendUnescaped(nil, key) // read has done it before
		}
		members = append(members, jsonMember{key, j + 1})
	}
	slices.SortStableFunc(members, func(a, b jsonMember) int {
		return cmp.Or(cmp.Compare(len(a.key), len(b.key)), bytes.Compare(a.key, b.key))
	})
	slices.Reverse(members)
	members = slices.CompactFunc(members, func(a, b jsonMember) bool { return bytes.Equal(a.key, b.key) })
	slices.Reverse(members)
	return members
}

var errNumericRange = &Error{Code: codeNumberRange, Message: "number in JSON is out of numeric's range"}

// canonicalNumber reads a number, with the digits before the point, at least one,
// and those behind it that numeric keeps.
func canonicalNumber(s []byte) (d decimal, places, scale int64, err error) {
	d, ok := decimalOf(s)
	if !ok {
		return d, 0, 0, errNumericRange
	}
	digits := s
	exponent := int64(0)
	if i := bytes.IndexAny(s, "eE"); i >= 0 {
		digits = s[:i]
		exponent, _ = jsonExponent(s[i+1:]) // decimalOf has read it
	}
	scale = -exponent
	if i := bytes.IndexByte(digits, '.'); i >= 0 {
		scale += int64(len(digits) - i - 1)
	}
	scale = max(scale, 0)
	if scale > maxNumericScale || len(d.digits) > 0 && d.exponent >= maxNumericDigits {
		return d, 0, 0, errNumericRange
	}
	if len(d.digits) == 0 {
		d.exponent = -1
	}
	return d, max(d.exponent, 0) + 1, scale, nil
}

// appendCanonicalNumber writes a number without exponent, with as many decimals
// as it was written with.
func appendCanonicalNumber(dst, s []byte) []byte {
	d, _, scale, _ := canonicalNumber(s) // canonical.read has done it before
	if d.negative && len(d.digits) > 0 { // there is no -0
		dst = append(dst, '-')
	}
	return appendPlaces(dst, &d, scale)
}

// appendPlaces writes the digits from the first, but at least from the ones,
// to scale decimals.
func appendPlaces(dst []byte, d *decimal, scale int64) []byte {
	for place := max(d.exponent, 0); place >= -scale; place-- {
		if place == -1 {
			dst = append(dst, '.')
		}
		c := byte('0')
		if place <= d.exponent {
			if digit, more := d.next(); more {
				c = digit
			}
		}
		dst = append(dst, c)
	}
	return dst
}
