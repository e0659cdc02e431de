package pgtext

import (
	"bytes"
	"strconv"
)

// JSONContains returns a @> b of two jsonb values, each as PostgreSQL or
// CanonicalJSONB prints it: objects contain objects whose every field they
// contain, arrays contain arrays whose every element they contain, at the top
// an array contains a scalar that is one of its elements, and scalars contain
// their equals. Arrays take the product of their lengths: steps is reduced by about
// one for each byte that is looked at, and the result is of no use once it is negative.
func JSONContains(a, b []byte, steps *int64) (bool, error) {
	for _, text := range [][]byte{a, b} {
		if _, err := checkJSON(text); err != nil {
			return false, err
		}
	}
	a, b = trimSpace(a), trimSpace(b)
	c := containment{a: jsonWalker{s: a}, b: jsonWalker{s: b}, steps: steps}
	if a[0] == '[' && jsonScalar(b) {
		return c.arrayHas(0), nil
	}
	return c.value(), nil
}

// containment walks over both values at the same time, so that what is nested is
// looked at once.
type containment struct {
	a, b  jsonWalker
	steps *int64
}

// value compares the values at the two positions. Both are behind them if it
// returns true, and anywhere in them otherwise.
func (c *containment) value() bool {
	c.a.space()
	c.b.space()
	switch own, other := c.a.s[c.a.i], c.b.s[c.b.i]; {
	case own != other && (own == '{' || own == '[' || other == '{' || other == '['):
		return false
	case own == '{':
		return c.object()
	case own == '[':
		return c.array()
	}
	x, y := c.a.token(), c.b.token()
	*c.steps -= int64(16 + len(x))
	return equalScalars(x, y)
}

// object merges the fields, which are in the same order on both sides. A key has
// one way to be written by PostgreSQL.
func (c *containment) object() bool {
	c.a.open('{')
	c.b.open('{')
	for c.b.more('}') {
		name := c.b.token()
		c.b.colon()
		if !c.find(name) || !c.value() {
			return false
		}
		c.a.begun, c.b.begun = true, true // what is inside shared the walkers
	}
	for c.a.more('}') {
		c.a.member()
	}
	return true
}

// find moves to the value of the next field with the name.
func (c *containment) find(name []byte) bool {
	for c.a.more('}') {
		own := c.a.token()
		c.a.colon()
		if bytes.Equal(own, name) {
			return true
		}
		*c.steps -= int64(len(own) + len(c.a.skipValue()))
	}
	return false
}

// array asks for each element of b whether a has it.
func (c *containment) array() bool {
	start, depth := c.a.i, c.a.depth
	c.b.open('[')
	more := c.b.more(']')
	if !more {
		c.a.skipValue()
		return true
	}
	for more {
		c.a.i, c.a.depth = start, depth
		if !c.arrayHas(c.b.i) {
			return false
		}
		c.b.begun = true
		more = c.b.more(']')
	}
	for c.a.begun = true; c.a.more(']'); {
		c.a.skipValue()
	}
	return true
}

// arrayHas reports whether an element of the array of a contains the value of b at
// a position, and leaves both behind those.
func (c *containment) arrayHas(at int) bool {
	depth := c.b.depth
	c.a.open('[')
	inside := c.a.depth
	for c.a.more(']') {
		c.b.i, c.b.depth = at, depth
		begin := c.a.i
		if c.value() {
			return true
		}
		stopped := c.a.i
		if stopped == begin {
			c.a.skipValue()
		}
		c.a.leave(inside)
		c.a.begun = true
		if *c.steps -= 4 + int64(c.a.i-stopped); *c.steps < 0 {
			return false
		}
	}
	return false
}

func jsonScalar(v []byte) bool { return v[0] != '{' && v[0] != '[' }

// JSONEqual returns a = b of two jsonb values, each as PostgreSQL or
// CanonicalJSONB prints it. Numbers are equal by value: 1 and 1.00.
func JSONEqual(a, b []byte) bool {
	if bytes.Equal(a, b) {
		return true
	}
	v, w := jsonWalker{s: a}, jsonWalker{s: b}
	for {
		x, y := v.token(), w.token()
		switch {
		case len(x) == 0 || len(y) == 0:
			return len(x) == len(y) && v.i == len(a) && w.i == len(b)
		case !equalScalars(x, y):
			return false
		}
	}
}

// equalScalars compares two tokens.
func equalScalars(x, y []byte) bool {
	switch {
	case bytes.Equal(x, y):
		return true
	case !numberStart(x[0]) || !numberStart(y[0]):
		return false
	}
	return equalNumbers(x, y)
}

// token returns the next string, word or punctuation mark, nothing at the end.
func (w *jsonWalker) token() []byte {
	w.space()
	start := w.i
	if w.i >= len(w.s) {
		return nil
	}
	switch w.s[w.i] {
	case '"':
		w.skipString()
	case '{', '[', '}', ']', ',', ':':
		w.i++
	default:
		w.skipWord()
	}
	w.i = min(w.i, len(w.s))
	return w.s[start:w.i]
}

func numberStart(c byte) bool { return c == '-' || isDigit(c) }

// decimal is a number's significant digits (with at most a point among them)
// and the power of ten of the first.
type decimal struct {
	negative bool
	digits   []byte
	exponent int64
}

// equalNumbers compares two JSON numbers by value.
func equalNumbers(a, b []byte) bool {
	if allDigits(a) && allDigits(b) && a[0] != '0' && b[0] != '0' {
		return bytes.Equal(a, b)
	}
	x, ok := decimalOf(a)
	y, ok2 := decimalOf(b)
	if !ok || !ok2 {
		return false
	}
	if len(x.digits) == 0 || len(y.digits) == 0 { // zero has no sign
		return len(x.digits) == len(y.digits)
	}
	if x.negative != y.negative || x.exponent != y.exponent {
		return false
	}
	for {
		c, more := x.next()
		d, more2 := y.next()
		if more != more2 || c != d {
			return false
		}
		if !more {
			return true
		}
	}
}

func allDigits(s []byte) bool { return skipDigits(s, 0) == len(s) }

func (d *decimal) next() (byte, bool) {
	if len(d.digits) > 0 && d.digits[0] == '.' {
		d.digits = d.digits[1:]
	}
	if len(d.digits) == 0 {
		return 0, false
	}
	c := d.digits[0]
	d.digits = d.digits[1:]
	return c, true
}

func decimalOf(s []byte) (decimal, bool) {
	var d decimal
	if numberLength(s) != len(s) {
		return d, false
	}
	if s[0] == '-' {
		d.negative, s = true, s[1:]
	}
	whole := skipDigits(s, 0)
	end := whole
	if end < len(s) && s[end] == '.' {
		end = skipDigits(s, end+1)
	}
	if end < len(s) {
		var ok bool
		if d.exponent, ok = jsonExponent(s[end+1:]); !ok {
			return d, false
		}
	}
	d.digits = s[:end]
	d.exponent += int64(whole) - 1
	for len(d.digits) > 0 && (d.digits[0] == '0' || d.digits[0] == '.') {
		if d.digits[0] == '0' {
			d.exponent--
		}
		d.digits = d.digits[1:]
	}
	for n := len(d.digits); n > 0 && (d.digits[n-1] == '0' || d.digits[n-1] == '.'); n-- {
		d.digits = d.digits[:n-1]
	}
	return d, true
}

// jsonExponent reads what follows the e. An exponent that no numeric has is not ok.
func jsonExponent(s []byte) (int64, bool) {
	v, err := strconv.ParseInt(string(s), 10, 64)
	return v, err == nil && v >= -1<<30 && v <= 1<<30
}
