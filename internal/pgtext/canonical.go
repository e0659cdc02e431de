package pgtext

import (
	"bytes"
	"slices"

	"gancho/internal/jsontext"
)

// The limits of numeric: digits before and after the point (numeric.h).
const (
	maxNumericDigits = 131_072
	maxNumericScale  = 16_383
)

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
	n := len(dst)
	w := jsonWalker{s: text}
	out, err := appendCanonical(dst, &w)
	if err != nil {
		return dst[:n], err
	}
	return out, nil
}

// appendCanonical appends the value at the position of checked text.
func appendCanonical(dst []byte, w *jsonWalker) ([]byte, error) {
	w.space()
	switch c := w.s[w.i]; {
	case c == '{':
		return appendCanonicalObject(dst, w)
	case c == '[':
		return appendCanonicalArray(dst, w)
	case c == '"':
		return appendCanonicalString(dst, w.token())
	case numberStart(c):
		return appendCanonicalNumber(dst, w.token())
	}
	return append(dst, w.token()...), nil
}

func appendCanonicalArray(dst []byte, w *jsonWalker) ([]byte, error) {
	dst = append(dst, '[')
	w.open('[')
	for first := true; w.more(']'); first = false {
		if !first {
			dst = append(dst, ", "...)
		}
		var err error
		if dst, err = appendCanonical(dst, w); err != nil {
			return dst, err
		}
		w.begun = true // the elements shared the walker
	}
	return append(dst, ']'), nil
}

// member is a field of an object that is being put in order.
type member struct{ key, value []byte }

func appendCanonicalObject(dst []byte, w *jsonWalker) ([]byte, error) {
	var members []member
	w.open('{')
	for w.more('}') {
		name := w.token()
		key, err := appendUnescaped(nil, name[1:len(name)-1])
		if err != nil {
			return dst, err
		}
		w.colon()
		value, err := appendCanonical(nil, w)
		if err != nil {
			return dst, err
		}
		w.begun = true // the values shared the walker
		members = append(members, member{key, value})
	}
	slices.SortStableFunc(members, func(a, b member) int {
		if len(a.key) != len(b.key) {
			return len(a.key) - len(b.key)
		}
		return bytes.Compare(a.key, b.key)
	})
	dst = append(dst, '{')
	first := true
	for i, m := range members {
		if i+1 < len(members) && bytes.Equal(m.key, members[i+1].key) {
			continue // the last wins
		}
		if !first {
			dst = append(dst, ", "...)
		}
		first = false
		dst = append(dst, '"')
		dst = jsontext.AppendEscaped(dst, m.key, false)
		dst = append(dst, '"', ':', ' ')
		dst = append(dst, m.value...)
	}
	return append(dst, '}'), nil
}

func appendCanonicalString(dst, quoted []byte) ([]byte, error) {
	inside := quoted[1 : len(quoted)-1]
	dst = append(dst, '"')
	if bytes.IndexByte(inside, '\\') < 0 {
		dst = append(dst, inside...)
		return append(dst, '"'), nil
	}
	plain, err := appendUnescaped(nil, inside)
	if err != nil {
		return dst, err
	}
	dst = jsontext.AppendEscaped(dst, plain, false)
	return append(dst, '"'), nil
}

var errNumericRange = &Error{Code: codeNumberRange, Message: "number in JSON is out of numeric's range"}

// appendCanonicalNumber writes a number without exponent, with as many decimals
// as it was written with.
func appendCanonicalNumber(dst, s []byte) ([]byte, error) {
	d, ok := decimalOf(s)
	if !ok {
		return dst, errNumericRange
	}
	digits := s
	exponent := int64(0)
	if i := bytes.IndexAny(s, "eE"); i >= 0 {
		digits = s[:i]
		exponent, _ = jsonExponent(s[i+1:]) // decimalOf has read it
	}
	scale := -exponent
	if i := bytes.IndexByte(digits, '.'); i >= 0 {
		scale += int64(len(digits) - i - 1)
	}
	scale = max(scale, 0)
	if scale > maxNumericScale || len(d.digits) > 0 && d.exponent >= maxNumericDigits {
		return dst, errNumericRange
	}
	if d.negative && len(d.digits) > 0 { // there is no -0
		dst = append(dst, '-')
	}
	if len(d.digits) == 0 {
		d.exponent = -1
	}
	return appendPlaces(dst, &d, scale), nil
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
