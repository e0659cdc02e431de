package pgtext

import (
	"bytes"
	"strconv"
)

// JSONContains returns a @> b of two jsonb values, each as PostgreSQL or
// CanonicalJSONB prints it: objects contain objects whose every field they
// contain, arrays contain arrays whose every element they contain, at the top
// an array contains a scalar that is one of its elements, and scalars contain
// their equals.
func JSONContains(a, b []byte) (bool, error) {
	for _, text := range [][]byte{a, b} {
		if _, err := checkJSON(text); err != nil {
			return false, err
		}
	}
	a, b = trimSpace(a), trimSpace(b)
	if a[0] == '[' && jsonScalar(b) {
		return arrayHas(a, b), nil
	}
	return jsonContains(a, b), nil
}

// jsonContains compares two valid values below the top.
func jsonContains(a, b []byte) bool {
	if jsonScalar(b) || jsonScalar(a) {
		return jsonScalar(a) && jsonScalar(b) && JSONEqual(a, b)
	}
	if a[0] != b[0] {
		return false
	}
	w := jsonWalker{s: b}
	if w.open('{') {
		for w.more('}') {
			name, value := w.member()
			own, ok := jsonField(a, name)
			if !ok || !jsonContains(own, value) {
				return false
			}
		}
		return true
	}
	w.open('[')
	for w.more(']') {
		if !arrayHas(a, w.skipValue()) {
			return false
		}
	}
	return true
}

// arrayHas reports whether an element of a contains v.
func arrayHas(a, v []byte) bool {
	w := jsonWalker{s: a}
	w.open('[')
	for w.more(']') {
		if jsonContains(w.skipValue(), v) {
			return true
		}
	}
	return false
}

// jsonField finds an object's field by its name as it is written: a string has
// one way to be written by PostgreSQL.
func jsonField(object, name []byte) ([]byte, bool) {
	w := jsonWalker{s: object}
	w.open('{')
	for w.more('}') {
		own, value := w.member()
		if bytes.Equal(own, name) {
			return value, true
		}
	}
	return nil, false
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
		case bytes.Equal(x, y):
		case !numberStart(x[0]) || !numberStart(y[0]) || !equalNumbers(x, y):
			return false
		}
	}
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
