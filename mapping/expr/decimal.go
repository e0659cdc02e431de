package expr

import (
	"bytes"
	"math/big"
	"slices"
	"strconv"
	"sync"
)

// wide is an unscaled value of many digits: the digits, as they were read, or a
// number, as it was computed. What PostgreSQL does in linear time (to compare, print,
// round, add) is done with the digits; the number is only made for what is not linear
// in PostgreSQL either. It never changes, and is safe for concurrent use.
type wide struct {
	digits []byte // without sign and zeros at the start; nil: only the number is known
	neg    bool   // of digits
	once   sync.Once
	number *big.Int
}

// shortDecimal is the length up to which numbers are made at once.
const shortDecimal = 40

// numericDigits is the numeric of digits, which it takes over.
func numericDigits(digits []byte, neg bool, scale int32) value {
	digits = bytes.TrimLeft(digits, "0")
	if len(digits) > shortDecimal {
		return value{state: stateKnown, big: &wide{digits: digits, neg: neg}, scale: scale}
	}
	b := parseDecimal(digits)
	if neg {
		b.Neg(b)
	}
	return numericBig(b, scale)
}

// int returns the number, not to be changed.
func (w *wide) int() *big.Int {
	w.once.Do(func() {
		if w.number == nil {
			w.number = parseDecimal(w.digits)
			if w.neg {
				w.number.Neg(w.number)
			}
		}
	})
	return w.number
}

// int64 is the number, if it fits.
func (w *wide) int64() (int64, bool) {
	if w.length() > shortDecimal || !w.int().IsInt64() {
		return 0, false
	}
	return w.int().Int64(), true
}

func (w *wide) sign() int {
	switch {
	case w.digits == nil:
		return w.number.Sign()
	case w.neg:
		return -1
	}
	return 1
}

// length bounds the number of digits; it is exact when there are digits.
func (w *wide) length() int {
	if w.digits != nil {
		return len(w.digits)
	}
	return int(float64(w.number.BitLen())*log2) + 1
}

// log2 is the decimal logarithm of 2.
const log2 = 0.30102999566398120

// parseDecimal is the number of some digits. It halves them, because big.Int reads
// them in quadratic time.
func parseDecimal(digits []byte) *big.Int {
	if len(digits) < 2000 {
		b, _ := new(big.Int).SetString("0"+string(digits), 10) // no digits are 0
		return b
	}
	half := len(digits) / 2
	high, low := parseDecimal(digits[:len(digits)-half]), parseDecimal(digits[len(digits)-half:])
	return high.Add(high.Mul(high, bigPow10(int32(half))), low)
}

// hasDigits reports a wide value whose digits are known, and isShort one by which its
// digits can be multiplied or divided one by one.
func hasDigits(v value) bool { return v.big != nil && v.big.digits != nil }

func isShort(v value) bool { return v.big == nil && magnitude(v.i) < 1e18 }

// isMedium reports a value by which digits can be multiplied in a few pieces.
func isMedium(v value) bool { return v.big == nil || v.big.length() <= shortDecimal }

// isDecimal reports whether a finite value's digits are known.
func isDecimal(v value) bool { return v.big == nil || v.big.digits != nil }

// inDigits makes digits of a number that is shorter than the other value's digits, so that
// no number is made of those.
func inDigits(a, b value) (value, value) {
	convert := func(v, other value) value {
		if isDecimal(v) || !hasDigits(other) || v.big.length() > other.big.length() {
			return v
		}
		v.big = &wide{digits: appendDigits(nil, v), neg: v.big.sign() < 0}
		return v
	}
	return convert(a, b), convert(b, a)
}

// decimal returns the digits of an isDecimal value, not to be changed, in buf if they
// are not kept.
func decimal(buf []byte, v value) []byte {
	if v.big != nil {
		return v.big.digits
	}
	return strconv.AppendUint(buf, magnitude(v.i), 10)
}

// appendZeros returns a copy with n zeros at the end.
func appendZeros(digits []byte, n int) []byte {
	return append(append(make([]byte, 0, len(digits)+n), digits...), bytes.Repeat([]byte("0"), n)...)
}

// compareDecimal compares isDecimal values of the same sign.
func compareDecimal(a, b value) int {
	sign := numericSign(a)
	if sign == 0 {
		return 0
	}
	var bufA, bufB [24]byte
	x, y := decimal(bufA[:0], a), decimal(bufB[:0], b)
	if c := (len(x) - int(a.scale)) - (len(y) - int(b.scale)); c != 0 {
		return sign * max(-1, min(c, 1))
	}
	n := min(len(x), len(y))
	if c := bytes.Compare(x[:n], y[:n]); c != 0 {
		return sign * c
	}
	return sign * (len(bytes.TrimRight(x[n:], "0")) - len(bytes.TrimRight(y[n:], "0")))
}

// roundDecimal is roundNumeric for digits and another scale than theirs.
func roundDecimal(v value, scale int32, truncate bool) value {
	digits, neg := v.big.digits, v.big.neg
	if scale > v.scale {
		return numericDigits(appendZeros(digits, int(scale-v.scale)), neg, scale)
	}
	kept := len(digits) - int(v.scale-scale)
	if kept < 0 {
		return value{state: stateKnown, scale: max(scale, 0)}
	}
	out := append(make([]byte, 0, kept+1+int(max(-scale, 0))), '0') // for the carry
	out = append(out, digits[:kept]...)
	if !truncate && digits[kept] >= '5' {
		i := kept
		for ; out[i] == '9'; i-- {
			out[i] = '0'
		}
		out[i]++
	}
	return numericDigits(appendZeros(out, int(max(-scale, 0))), neg, max(scale, 0))
}

// addDecimal adds isDecimal values.
func addDecimal(a, b value) value {
	scale := max(a.scale, b.scale)
	var bufA, bufB [24]byte
	x := bytes.TrimLeft(appendZeros(decimal(bufA[:0], a), int(scale-a.scale)), "0") // of 0 nothing is left
	y := bytes.TrimLeft(appendZeros(decimal(bufB[:0], b), int(scale-b.scale)), "0")
	negX, negY := numericSign(a) < 0, numericSign(b) < 0
	if len(x) < len(y) || len(x) == len(y) && bytes.Compare(x, y) < 0 {
		x, y, negX, negY = y, x, negY, negX
	}
	out := slices.Insert(x, 0, '0') // for the carry
	carry := 0
	for i := 1; i <= len(y) || carry != 0; i++ {
		digit := 0
		if i <= len(y) {
			digit = int(y[len(y)-i] - '0')
		}
		if negX != negY {
			digit = -digit
		}
		sum := int(out[len(out)-i]-'0') + digit + carry
		carry = 0
		switch {
		case sum > 9:
			sum, carry = sum-10, 1
		case sum < 0:
			sum, carry = sum+10, -1
		}
		out[len(out)-i] = byte('0' + sum)
	}
	return numericDigits(out, negX, scale)
}

// mulInPieces multiplies digits by an isMedium value, in pieces that are short.
func mulInPieces(a, b value) value {
	high, low := new(big.Int).QuoRem(unscaled(b), big.NewInt(1e18), new(big.Int))
	v := product(a, numericBig(high, b.scale))
	v.scale -= 18
	return sumNumeric(v, product(a, numericBig(low, b.scale)))
}

// mulDecimal multiplies digits by a short value.
func mulDecimal(a, b value) value {
	factor, carry := magnitude(b.i), uint64(0)
	out := append(bytes.Repeat([]byte("0"), len("999999999999999999")), a.big.digits...)
	for i := len(out) - 1; i >= 0; i-- {
		carry += uint64(out[i]-'0') * factor
		out[i] = byte('0' + carry%10)
		carry /= 10
	}
	return numericDigits(out, a.big.neg != (b.i < 0), a.scale+b.scale)
}

// quoRemDecimal divides digits by a short value other than 0, and cuts the quotient at
// a scale. The digits of the remainder's magnitude are those of rem and tail.
func quoRemDecimal(a, b value, scale int32) (q value, rem uint64, tail []byte) {
	digits := a.big.digits
	if shift := int(scale + b.scale - a.scale); shift >= 0 {
		digits = appendZeros(digits, shift)
	} else {
		n := max(0, len(digits)+shift)
		digits, tail = digits[:n], digits[n:]
	}
	divisor := magnitude(b.i)
	out := make([]byte, len(digits))
	for i, c := range digits {
		rem = rem*10 + uint64(c-'0')
		out[i] = byte('0' + rem/divisor)
		rem %= divisor
	}
	return numericDigits(out, a.big.neg != (b.i < 0), scale), rem, tail
}

// quotientDigits bounds the digits of the quotient of isDecimal values at a scale: it is
// less than 10 to this power, which may be negative.
func quotientDigits(a, b value, scale int32) int {
	return decimalDigits(a) - int(a.scale) - (decimalDigits(b) - int(b.scale)) + 1 + int(scale)
}

// quoDecimal is quotient for isDecimal values, if the quotient has far fewer digits than
// they: their leading digits give it but for one in the last place, and the product decides
// that.
func quoDecimal(a, b value, scale int32) (q value, ok bool) {
	n := quotientDigits(a, b, scale)
	if n <= 0 {
		return value{state: stateKnown, scale: scale}, true
	}
	var bufA, bufB [24]byte
	x, y := decimal(bufA[:0], a), decimal(bufB[:0], b)
	const guard = 3 // so that two quotients of numbers cut to n+3 digits differ by less than 1
	keep := n + guard
	if keep > max(len(x), len(y))/4 {
		return value{}, false
	}
	power := scale + b.scale - a.scale + int32(max(len(x)-keep, 0)-max(len(y)-keep, 0))
	least, most := leading(x, keep)
	leastDivisor, mostDivisor := leading(y, keep)
	low := numericBig(quoPow10(least, mostDivisor, power), scale)
	high := numericBig(quoPow10(most, leastDivisor, power), scale)
	if compareNumeric(low, high) != 0 {
		if compareNumeric(absNumeric(a), product(absNumeric(b), high)) >= 0 {
			low = high
		}
	}
	if numericSign(a) != numericSign(b) {
		low = negNumeric(low)
	}
	return low, true
}

// leading bounds a number of digits by its first n, and those and 1.
func leading(digits []byte, n int) (least, most *big.Int) {
	if n >= len(digits) {
		least = parseDecimal(digits)
		return least, least
	}
	least = parseDecimal(digits[:n])
	return least, new(big.Int).Add(least, big.NewInt(1))
}
