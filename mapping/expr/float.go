package expr

import (
	"bytes"
	"cmp"
	"math"
	"math/big"
	"strconv"
)

// Floats are compared and computed as IEEE 754 numbers, as PostgreSQL does; a
// float4 is kept widened, which is exact.

func parseFloat(m *Machine, s []byte, bits int) value {
	s = trimBlanks(s)
	if f, ok := specialFloat(s); ok {
		return floatValue(f)
	}
	digits := false
	for _, c := range s {
		if isDigit(c) {
			digits = true
		} else if c != '.' && c != 'e' && c != 'E' && c != '+' && c != '-' {
			return m.invalid(floatNames[bits])
		}
	}
	if !digits {
		return m.invalid(floatNames[bits])
	}
	f, err := strconv.ParseFloat(string(s), bits)
	if err != nil && !math.IsInf(f, 0) {
		return m.invalid(floatNames[bits])
	}
	mantissa, _, _ := bytes.Cut(bytes.ToLower(s), []byte("e"))
	if math.IsInf(f, 0) || f == 0 && bytes.ContainsAny(mantissa, "123456789") {
		return m.fail("22003", "value is out of range for type "+floatNames[bits])
	}
	return floatValue(f)
}

func specialFloat(s []byte) (float64, bool) {
	body, sign := s, 1
	if len(s) > 0 && (s[0] == '-' || s[0] == '+') {
		body = s[1:]
		if s[0] == '-' {
			sign = -1
		}
	}
	switch {
	case len(body) == 3 && bytes.EqualFold(body, []byte("nan")):
		return math.NaN(), true
	case bytes.EqualFold(body, []byte("inf")), bytes.EqualFold(body, []byte("infinity")):
		return math.Inf(sign), true
	}
	return 0, false
}

// appendFloat writes the shortest digits that read back, as extra_float_digits
// 1 and above do.
func appendFloat(dst []byte, f float64, bits int) []byte {
	switch {
	case math.IsNaN(f):
		return append(dst, "NaN"...)
	case math.IsInf(f, 1):
		return append(dst, "Infinity"...)
	case math.IsInf(f, -1):
		return append(dst, "-Infinity"...)
	}
	var buf [40]byte
	digits := shortest(buf[:0], f, bits)
	exponent := decimalExponent(digits)
	limit := 15 // from here on PostgreSQL writes an exponent
	if bits == 32 {
		limit = 6
	}
	if exponent < -4 || exponent >= limit {
		return append(dst, digits...)
	}
	return appendPlain(dst, digits, exponent)
}

// appendPlain writes d.ddde+xx without its exponent.
func appendPlain(dst, digits []byte, exponent int) []byte {
	if digits[0] == '-' {
		dst = append(dst, '-')
		digits = digits[1:]
	}
	mantissa := digits[:bytes.IndexByte(digits, 'e')]
	whole, fraction := mantissa[:1], mantissa[min(2, len(mantissa)):]
	if exponent < 0 {
		dst = append(dst, '0', '.')
		for range -exponent - 1 {
			dst = append(dst, '0')
		}
		return append(append(dst, whole...), fraction...)
	}
	dst = append(dst, whole...)
	for i := range exponent {
		if i < len(fraction) {
			dst = append(dst, fraction[i])
		} else {
			dst = append(dst, '0')
		}
	}
	if len(fraction) > exponent {
		dst = append(append(dst, '.'), fraction[exponent:]...)
	}
	return dst
}

// decimalExponent reads the exponent off d.ddde+xx.
func decimalExponent(s []byte) int {
	n, _ := strconv.Atoi(string(s[bytes.IndexByte(s, 'e')+1:])) // AppendFloat's own output
	return n
}

// shortest appends the fewest digits that read back to f, as d.ddde+xx. Unlike
// Go, PostgreSQL wants a decimal strictly between the neighbouring midpoints:
// one on a midpoint reads back only by rounding to even.
func shortest(dst []byte, f float64, bits int) []byte {
	own := strconv.AppendFloat(dst, f, 'e', -1, bits)
	if f == 0 {
		return own
	}
	precision := bytes.IndexByte(own, 'e') - 2 // digits after the point
	if f < 0 {
		precision--
	}
	precision = max(precision, 0)
	nearest := strconv.AppendFloat(nil, f, 'e', precision, bits)
	if bytes.Equal(own, nearest) || !insideMidpoints(f, nearest, bits) {
		nearest = own
	}
	for !insideMidpoints(f, nearest, bits) && precision < 17 {
		precision++
		nearest = strconv.AppendFloat(nil, f, 'e', precision, bits)
	}
	return append(dst, nearest...)
}

// insideMidpoints reports whether a decimal lies strictly between the midpoints
// to f's neighbours.
func insideMidpoints(f float64, decimal []byte, bits int) bool {
	d, ok := new(big.Rat).SetString(string(bytes.TrimPrefix(decimal, []byte("-"))))
	if !ok {
		return true
	}
	lo, hi := neighbours(math.Abs(f), bits)
	x := new(big.Rat).SetFloat64(math.Abs(f))
	two := big.NewRat(2, 1)
	below := new(big.Rat).SetFloat64(lo)
	below.Quo(below.Add(below, x), two)
	if d.Cmp(below) <= 0 {
		return false
	}
	if math.IsInf(hi, 1) {
		return true
	}
	above := new(big.Rat).SetFloat64(hi)
	above.Quo(above.Add(above, x), two)
	return d.Cmp(above) < 0
}

func neighbours(f float64, bits int) (lo, hi float64) {
	if bits == 32 {
		g := float32(f)
		return float64(math.Nextafter32(g, 0)), float64(math.Nextafter32(g, float32(math.Inf(1))))
	}
	return math.Nextafter(f, 0), math.Nextafter(f, math.Inf(1))
}

// compareFloat orders as PostgreSQL does: NaN is the greatest and equals itself.
func compareFloat(a, b float64) int {
	return cmp.Compare(-b, -a) // for which NaN is the least
}

// floatResult checks an arithmetic result as float.h does. float32 results are
// rounded by the caller.
func (m *Machine) floatResult(r float64, inputsInfinite, mayBeZero bool) value {
	if math.IsInf(r, 0) && !inputsInfinite {
		return m.fail("22003", "value out of range: overflow")
	}
	if r == 0 && !mayBeZero {
		return m.fail("22003", "value out of range: underflow")
	}
	return floatValue(r)
}

// narrow rounds to the size of the type.
func narrow(f float64, bits int) float64 {
	if bits == 32 {
		return float64(float32(f))
	}
	return f
}

// floatArithmetic is one of + - * / on two floats; the result has the given size.
func floatArithmetic(op byte, bits int) func(m *Machine, a, b value) value {
	return func(m *Machine, av, bv value) value {
		a, b := av.float(), bv.float()
		inf := math.IsInf(a, 0) || math.IsInf(b, 0)
		switch op {
		case '+':
			return m.floatResult(narrow(a+b, bits), inf, true)
		case '-':
			return m.floatResult(narrow(a-b, bits), inf, true)
		case '*':
			return m.floatResult(narrow(a*b, bits), inf, a == 0 || b == 0)
		}
		if b == 0 && !math.IsNaN(a) {
			return m.fail("22012", "division by zero")
		}
		return m.floatResult(narrow(a/b, bits), math.IsInf(a, 0), a == 0 || math.IsInf(b, 0))
	}
}

// floatToInt rounds half to even, as rint does, and checks the range.
func floatToInt(m *Machine, f float64, bits int) value {
	r := math.RoundToEven(f)
	limit := math.Ldexp(1, bits-1)
	if math.IsNaN(f) || r < -limit || r >= limit {
		return m.fail("22003", intNames[bits]+" out of range")
	}
	return intValue(int64(r))
}

// floatToFloat4 narrows and fails where the value does not fit.
func floatToFloat4(m *Machine, f float64) value {
	g := float64(float32(f))
	return m.floatResult(g, math.IsInf(f, 0), f == 0)
}
