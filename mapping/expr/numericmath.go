package expr

import (
	"math"
	"math/big"
	"strconv"
)

func subNumeric(m *Machine, a, b value) value { return addNumeric(m, a, negNumeric(b)) }

func addNumeric(m *Machine, a, b value) value {
	if a.aux != finite || b.aux != finite {
		switch {
		case a.aux == notANumber || b.aux == notANumber, a.aux != finite && b.aux != finite && a.aux != b.aux:
			return numericSpecial(notANumber)
		case a.aux != finite:
			return a
		}
		return b
	}
	return m.checkNumeric(sumNumeric(a, b))
}

// sumNumeric adds two finite values.
func sumNumeric(a, b value) value {
	scale := max(a.scale, b.scale)
	if a.big == nil && b.big == nil {
		x, ok1 := mulPow10(a.i, scale-a.scale)
		y, ok2 := mulPow10(b.i, scale-b.scale)
		if ok1 && ok2 {
			if z := x + y; (z > x) == (y > 0) && z != math.MinInt64 {
				return value{state: stateKnown, i: z, scale: scale}
			}
		}
	}
	if a, b = inDigits(a, b); isDecimal(a) && isDecimal(b) {
		return addDecimal(a, b)
	}
	return numericBig(new(big.Int).Add(scaleTo(a, scale), scaleTo(b, scale)), scale)
}

// checkNumeric fails when the format cannot hold the value, or the budget has no
// memory for it and what it was computed from.
func (m *Machine) checkNumeric(v value) value {
	if v.big != nil && !m.spend(4*v.big.length()) {
		return m.overMemory()
	}
	if overflowsNumeric(v) {
		return m.fail("22003", "value overflows numeric format")
	}
	return v
}

func negNumeric(a value) value {
	switch {
	case a.aux == plusInfinity || a.aux == minusInfinity:
		a.aux = -a.aux
	case hasDigits(a):
		a.big = &wide{digits: a.big.digits, neg: !a.big.neg}
	case a.big != nil:
		return numericBig(new(big.Int).Neg(a.big.int()), a.scale)
	default:
		a.i = -a.i
	}
	return a
}

func absNumeric(a value) value {
	if numericSign(a) < 0 {
		return negNumeric(a)
	}
	return a
}

func mulNumeric(m *Machine, a, b value) value {
	if a.aux != finite || b.aux != finite {
		sign := numericSign(a) * numericSign(b)
		if a.aux == notANumber || b.aux == notANumber || sign == 0 {
			return numericSpecial(notANumber)
		}
		return numericSpecial(int32(sign)) // an infinity
	}
	scale := a.scale + b.scale
	if a.big == nil && b.big == nil && scale <= maxScale {
		if i, ok := mulInt(a.i, b.i); ok {
			return value{state: stateKnown, i: i, scale: scale}
		}
	}
	v := product(a, b)
	if scale > maxScale {
		v = roundNumeric(v, maxScale, false)
	}
	return m.checkNumeric(v)
}

// product multiplies two finite values.
func product(a, b value) value {
	switch {
	case hasDigits(a) && isShort(b):
		return mulDecimal(a, b)
	case hasDigits(b) && isShort(a):
		return mulDecimal(b, a)
	case hasDigits(a) && isMedium(b):
		return mulInPieces(a, b)
	case hasDigits(b) && isMedium(a):
		return mulInPieces(b, a)
	}
	return numericBig(new(big.Int).Mul(unscaled(a), unscaled(b)), a.scale+b.scale)
}

func divNumeric(m *Machine, a, b value) value {
	if a.aux != finite || b.aux != finite {
		return divSpecial(m, a, b)
	}
	if numericSign(b) == 0 {
		return m.fail("22012", "division by zero")
	}
	scale := divScale(a, b)
	return m.checkNumeric(roundNumeric(quotient(a, b, scale+1), scale, false)) // the digit that was not cut off decides
}

// quotientNumeric is div: the quotient cut to an integer.
func quotientNumeric(m *Machine, a, b value) value {
	if a.aux != finite || b.aux != finite {
		return divSpecial(m, a, b)
	}
	if numericSign(b) == 0 {
		return m.fail("22012", "division by zero")
	}
	return m.checkNumeric(quotient(a, b, 0))
}

// quotient divides two finite values, b not 0, and cuts the quotient at a scale.
func quotient(a, b value, scale int32) value {
	a, b = inDigits(a, b)
	switch {
	case hasDigits(a) && isShort(b):
		q, _, _ := quoRemDecimal(a, b, scale)
		return q
	case isDecimal(a) && isDecimal(b) && (a.big != nil || b.big != nil):
		if q, ok := quoDecimal(a, b, scale); ok {
			return q
		}
	}
	return numericBig(quoPow10(unscaled(a), unscaled(b), scale+b.scale-a.scale), scale)
}

// quoPow10 is a times 10 to a power, divided by b.
func quoPow10(a, b *big.Int, power int32) *big.Int {
	if power >= 0 {
		a = new(big.Int).Mul(a, bigPow10(power))
	} else {
		b = new(big.Int).Mul(b, bigPow10(-power))
	}
	return new(big.Int).Quo(a, b)
}

func divSpecial(m *Machine, a, b value) value {
	switch {
	case a.aux == notANumber || b.aux == notANumber, a.aux != finite && b.aux != finite:
		return numericSpecial(notANumber)
	case a.aux == finite:
		return numericInt(0)
	case numericSign(b) == 0:
		return m.fail("22012", "division by zero")
	}
	return numericSpecial(int32(numericSign(a) * numericSign(b))) // an infinity
}

// divScale is select_div_scale: at least 16 significant digits, estimated from
// the first base-10000 digits.
func divScale(a, b value) int32 {
	wa, fa := leadingGroup(a)
	wb, fb := leadingGroup(b)
	weight := wa - wb
	if fa <= fb {
		weight--
	}
	scale := max(minSigDigits-weight*4, int(a.scale), int(b.scale), 0)
	return int32(min(scale, maxDisplayScale))
}

// leadingGroup returns the weight and the value of the first base-10000 digit.
func leadingGroup(v value) (weight, first int) {
	n := decimalDigits(v)
	if n == 0 {
		return 0, 0
	}
	var buf [24]byte
	digits := appendLeading(buf[:0], v, n)
	exp := n - 1 - int(v.scale)
	weight = exp / 4
	if exp < 0 && exp%4 != 0 {
		weight--
	}
	for i := range exp - weight*4 + 1 {
		first *= 10
		if i < len(digits) {
			first += int(digits[i] - '0')
		}
	}
	return weight, first
}

// appendLeading appends the first four of a value's n digits, or all.
func appendLeading(dst []byte, v value, n int) []byte {
	switch {
	case hasDigits(v):
		return append(dst, v.big.digits[:4]...)
	case v.big != nil && n > 18:
		v = numericBig(new(big.Int).Quo(v.big.int(), bigPow10(int32(n-4))), 0)
	}
	return appendDigits(dst, v)
}

func modNumeric(m *Machine, a, b value) value {
	if a.aux != finite || b.aux != finite {
		switch {
		case a.aux == notANumber || b.aux == notANumber:
			return numericSpecial(notANumber)
		case a.aux == finite:
			return a
		case numericSign(b) == 0:
			return m.fail("22012", "division by zero")
		}
		return numericSpecial(notANumber)
	}
	if numericSign(b) == 0 {
		return m.fail("22012", "division by zero")
	}
	if hasDigits(a) && isShort(b) {
		_, rem, tail := quoRemDecimal(a, b, 0)
		return numericDigits(append(strconv.AppendUint(nil, rem, 10), tail...), numericSign(a) < 0, max(a.scale, b.scale))
	}
	a, b = inDigits(a, b)
	if (hasDigits(a) || hasDigits(b)) && isDecimal(a) && isDecimal(b) && quotientDigits(a, b, 0) <= shortDecimal {
		return sumNumeric(a, negNumeric(product(b, quotient(a, b, 0))))
	}
	scale := max(a.scale, b.scale)
	return numericBig(new(big.Int).Rem(scaleTo(a, scale), scaleTo(b, scale)), scale)
}

// ceilNumeric is ceil, and floor when up is false.
func ceilNumeric(a value, up bool) value {
	if a.aux != finite {
		return a
	}
	t := roundNumeric(a, 0, true)
	c := compareNumeric(t, a)
	switch {
	case up && c < 0:
		return sumNumeric(t, numericInt(1))
	case !up && c > 0:
		return sumNumeric(t, numericInt(-1))
	}
	return t
}

// numericToInt rounds to an integer of the given size in bits.
func numericToInt(m *Machine, a value, bits int) value {
	switch a.aux {
	case notANumber:
		return m.fail("0A000", "cannot convert NaN to "+intNames[bits])
	case plusInfinity, minusInfinity:
		return m.fail("0A000", "cannot convert infinity to "+intNames[bits])
	}
	r := roundNumeric(a, 0, false)
	if r.big != nil {
		if i, ok := r.big.int64(); ok { // only the smallest bigint is kept big
			return fitInt(m, i, bits)
		}
		return m.fail("22003", intNames[bits]+" out of range")
	}
	return fitInt(m, r.i, bits)
}

// fitInt fails when i does not fit into the size.
func fitInt(m *Machine, i int64, bits int) value {
	if bits < 64 && (i < -1<<(bits-1) || i >= 1<<(bits-1)) {
		return m.fail("22003", intNames[bits]+" out of range")
	}
	return intValue(i)
}

// numericOfInt is the numeric of an integer.
func numericOfInt(i int64) value {
	if i == math.MinInt64 {
		return value{state: stateKnown, big: &wide{number: big.NewInt(i)}}
	}
	return numericInt(i)
}

// typmodNumeric rounds to numeric(p,s) and checks that it fits.
func typmodNumeric(m *Machine, a value, typmod int32) value {
	if a.aux == notANumber {
		return a
	}
	precision, scale := numericTypmod(typmod)
	if a.aux != finite {
		return m.fail("22003", "numeric field overflow")
	}
	v := roundNumeric(a, scale, false)
	if numericSign(v) != 0 && decimalDigits(v) > int(precision) {
		return m.fail("22003", "numeric field overflow")
	}
	return v
}

func numericTypmod(typmod int32) (precision, scale int32) {
	t := typmod - 4
	return t >> 16 & 0xffff, (t&0x7ff ^ 1024) - 1024
}

// floatToNumeric converts the 15 (real: 6) digits that every float of that size
// keeps.
func floatToNumeric(f float64, digits int) value {
	var buf [40]byte
	v, _ := parseNumeric(strconv.AppendFloat(buf[:0], f, 'g', digits, 64)) // its own output is well formed
	return trimZeros(v)
}

// trimZeros drops the zeros at the end of the fraction of a value in a word.
func trimZeros(v value) value {
	for v.big == nil && v.scale > 0 && v.i%10 == 0 {
		v.i /= 10
		v.scale--
	}
	return v
}
