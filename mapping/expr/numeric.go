package expr

import (
	"bytes"
	"cmp"
	"math"
	"math/big"
	"math/bits"
	"strconv"
)

// A numeric is an unscaled integer and its scale, which is PostgreSQL's display
// scale: 1.50 is 150 at 2. Unscaled values of up to 18 digits stay in a
// machine word; the rest are wide. The rules for result scales are those of
// numeric.c.

const (
	maxScale         = 16383  // NUMERIC_DSCALE_MAX
	maxIntegerDigits = 131072 // before the point
	maxDisplayScale  = 1000   // NUMERIC_MAX_DISPLAY_SCALE
	minSigDigits     = 16     // NUMERIC_MIN_SIG_DIGITS
	maxResultScale   = 2000   // NUMERIC_MAX_RESULT_SCALE
)

var powersOfTen = [19]int64{
	1, 1e1, 1e2, 1e3, 1e4, 1e5, 1e6, 1e7, 1e8, 1e9, 1e10, 1e11, 1e12, 1e13, 1e14, 1e15, 1e16, 1e17, 1e18,
}

func bigPow10(n int32) *big.Int {
	return new(big.Int).Exp(big.NewInt(10), big.NewInt(int64(n)), nil)
}

func numericInt(i int64) value { return value{state: stateKnown, i: i} }

func numericSpecial(aux int32) value { return value{state: stateKnown, aux: aux} }

// numericBig is the numeric of b at a scale. Unless b is small, the value refers to
// it.
func numericBig(b *big.Int, scale int32) value {
	if b.IsInt64() && b.Int64() != math.MinInt64 {
		return value{state: stateKnown, i: b.Int64(), scale: scale}
	}
	return value{state: stateKnown, big: &wide{number: b}, scale: scale}
}

// unscaled returns the unscaled value as a big.Int, not to be changed.
func unscaled(v value) *big.Int {
	if v.big != nil {
		return v.big.int()
	}
	return big.NewInt(v.i)
}

// numericSign is -1, 0 or 1; NaN has 1.
func numericSign(v value) int {
	switch {
	case v.aux != finite:
		return cmp.Compare(v.aux, finite)
	case v.big != nil:
		return v.big.sign()
	}
	return cmp.Compare(v.i, 0)
}

// scaleTo returns the unscaled value at a scale not smaller than its own.
func scaleTo(v value, scale int32) *big.Int {
	u := unscaled(v)
	if scale == v.scale {
		return u
	}
	return new(big.Int).Mul(u, bigPow10(scale-v.scale))
}

// mulPow10 multiplies by 10^n if the product stays in a word.
func mulPow10(i int64, n int32) (int64, bool) {
	if n == 0 || i == 0 {
		return i, true
	}
	if n > 18 {
		return 0, false
	}
	return mulInt(i, powersOfTen[n])
}

func mulInt(a, b int64) (int64, bool) {
	hi, lo := bits.Mul64(magnitude(a), magnitude(b))
	if hi != 0 || lo > math.MaxInt64 {
		return 0, false
	}
	if (a < 0) != (b < 0) {
		return -int64(lo), true
	}
	return int64(lo), true
}

func magnitude(i int64) uint64 {
	if i < 0 {
		return uint64(-i)
	}
	return uint64(i)
}

// parseNumeric reads numeric's text form; code is the SQLSTATE of its error.
func parseNumeric(s []byte) (v value, code string) {
	s = trimBlanks(s)
	if v, ok := parseShortNumeric(s); ok {
		return v, ""
	}
	neg := false
	body := s
	if len(body) > 0 && (body[0] == '-' || body[0] == '+') {
		neg = body[0] == '-'
		body = body[1:]
	}
	if len(body) > 0 && !isDigit(body[0]) && body[0] != '.' {
		return parseSpecialNumeric(body, neg, len(body) != len(s))
	}
	digits, scale, exp, ok := splitDecimal(body)
	if !ok {
		return value{}, "22P02"
	}
	// More digits than these are too many on one side of the point or the other.
	if exp > math.MaxInt32/2 || exp < -math.MaxInt32/2 || len(bytes.TrimLeft(digits, "0")) > maxIntegerDigits+maxScale {
		return value{}, "22003"
	}
	return shiftNumeric(digits, neg, int64(scale)-exp)
}

// shiftNumeric is the numeric of digits at a scale, which may be negative.
func shiftNumeric(digits []byte, neg bool, scale int64) (value, string) {
	digits = bytes.TrimLeft(digits, "0")
	if scale < 0 && len(digits) > 0 {
		if -scale > maxIntegerDigits {
			return value{}, "22003"
		}
		digits = appendZeros(digits, int(-scale))
	}
	scale = max(scale, 0)
	if scale > maxScale {
		return value{}, "22003"
	}
	v := numericDigits(digits, neg, int32(scale))
	if overflowsNumeric(v) {
		return value{}, "22003"
	}
	return v, ""
}

// parseShortNumeric is the fast path: up to 18 digits with at most one point.
func parseShortNumeric(s []byte) (value, bool) {
	if len(s) == 0 || len(s) > 19 {
		return value{}, false
	}
	neg := s[0] == '-'
	if neg {
		s = s[1:]
	}
	var u int64
	scale, digits := int32(-1), 0
	for _, c := range s {
		switch {
		case isDigit(c):
			u = u*10 + int64(c-'0')
			digits++
			if scale >= 0 {
				scale++
			}
		case c == '.' && scale < 0:
			scale = 0
		default:
			return value{}, false
		}
	}
	if digits == 0 || digits > 18 {
		return value{}, false
	}
	if neg {
		u = -u
	}
	return value{state: stateKnown, i: u, scale: max(scale, 0)}, true
}

func parseSpecialNumeric(body []byte, neg, signed bool) (value, string) {
	switch {
	case !signed && bytes.EqualFold(body, []byte("nan")):
		return numericSpecial(notANumber), ""
	case !bytes.EqualFold(body, []byte("infinity")) && !bytes.EqualFold(body, []byte("inf")):
		return value{}, "22P02"
	case neg:
		return numericSpecial(minusInfinity), ""
	}
	return numericSpecial(plusInfinity), ""
}

// splitDecimal splits 12.5e3 into its parts.
func splitDecimal(s []byte) (digits []byte, scale int, exp int64, ok bool) {
	mantissa := s
	if i := bytes.IndexAny(s, "eE"); i >= 0 {
		mantissa = s[:i]
		n, err := strconv.ParseInt(string(s[i+1:]), 10, 64)
		if err != nil {
			if !allDigits(bytes.TrimLeft(s[i+1:], "+-")) {
				return nil, 0, 0, false
			}
			n = math.MaxInt64 // out of range either way
		}
		exp = n
	}
	whole, fraction, _ := bytes.Cut(mantissa, []byte("."))
	if len(whole)+len(fraction) == 0 || !allDigits(whole) || !allDigits(fraction) {
		return nil, 0, 0, false
	}
	digits = append(append(make([]byte, 0, len(mantissa)), whole...), fraction...)
	return digits, len(fraction), exp, true
}

func allDigits(s []byte) bool {
	for _, c := range s {
		if !isDigit(c) {
			return false
		}
	}
	return true
}

func overflowsNumeric(v value) bool {
	return v.big != nil && v.big.length()-int(v.scale) > maxIntegerDigits && decimalDigits(v)-int(v.scale) > maxIntegerDigits
}

// decimalDigits is how many digits the unscaled value has; 0 has none.
func decimalDigits(v value) int {
	switch {
	case hasDigits(v):
		return len(v.big.digits)
	case v.big != nil:
		b := v.big.int()
		n := int(float64(b.BitLen()-1) * log2) // 10^n is not above the value
		if b.CmpAbs(bigPow10(int32(n+1))) >= 0 {
			n++
		}
		return n + 1
	}
	n := 0
	for u := magnitude(v.i); u > 0; u /= 10 {
		n++
	}
	return n
}

// bigScratch is what reading or printing a numeric of many digits takes, besides
// the result, in bytes.
func bigScratch(digits int) int {
	if digits <= freeOutput {
		return 0
	}
	return 90 * digits
}

// appendDigits appends the unscaled value without its sign.
func appendDigits(dst []byte, v value) []byte {
	switch {
	case hasDigits(v):
		return append(dst, v.big.digits...)
	case v.big != nil:
		return new(big.Int).Abs(v.big.int()).Append(dst, 10)
	}
	return strconv.AppendUint(dst, magnitude(v.i), 10)
}

func appendNumeric(dst []byte, v value) []byte {
	switch v.aux {
	case notANumber:
		return append(dst, "NaN"...)
	case plusInfinity:
		return append(dst, "Infinity"...)
	case minusInfinity:
		return append(dst, "-Infinity"...)
	}
	if numericSign(v) < 0 {
		dst = append(dst, '-')
	}
	var buf [24]byte
	return appendDecimal(dst, appendDigits(buf[:0], v), int(v.scale))
}

func appendDecimal(dst, digits []byte, scale int) []byte {
	if scale == 0 {
		return append(dst, digits...)
	}
	if len(digits) > scale {
		dst = append(dst, digits[:len(digits)-scale]...)
		dst = append(dst, '.')
		return append(dst, digits[len(digits)-scale:]...)
	}
	dst = append(dst, '0', '.')
	for range scale - len(digits) {
		dst = append(dst, '0')
	}
	return append(dst, digits...)
}

// compareNumeric orders as PostgreSQL does: NaN is the greatest and equals itself.
func compareNumeric(a, b value) int {
	if a.aux != finite || b.aux != finite {
		return cmp.Compare(a.aux, b.aux)
	}
	if a.big == nil && b.big == nil {
		if a.scale == b.scale {
			return cmp.Compare(a.i, b.i)
		}
		if a.scale < b.scale {
			if x, ok := mulPow10(a.i, b.scale-a.scale); ok {
				return cmp.Compare(x, b.i)
			}
		} else if y, ok := mulPow10(b.i, a.scale-b.scale); ok {
			return cmp.Compare(a.i, y)
		}
	}
	if c := cmp.Compare(numericSign(a), numericSign(b)); c != 0 {
		return c
	}
	if a, b = inDigits(a, b); isDecimal(a) && isDecimal(b) {
		return compareDecimal(a, b)
	}
	// The power of ten of the first digit decides most of the others.
	low, high := firstDigit(a)
	lowB, highB := firstDigit(b)
	switch sign := numericSign(a); {
	case sign == 0:
		return 0
	case low > highB:
		return sign
	case high < lowB:
		return -sign
	}
	scale := max(a.scale, b.scale)
	return scaleTo(a, scale).Cmp(scaleTo(b, scale))
}

// firstDigit bounds the power of ten of the first digit of a value other than 0.
func firstDigit(v value) (low, high int) {
	length := bits.Len64(magnitude(v.i))
	if v.big != nil {
		length = v.big.int().BitLen()
	}
	return int(float64(length-1)*log2) - 1 - int(v.scale), int(float64(length)*log2) + 1 - int(v.scale)
}

// roundNumeric rounds half away from zero to a scale, which may be negative;
// with truncate it cuts. The result's scale is the wanted one, or 0.
func roundNumeric(v value, scale int32, truncate bool) value {
	if v.aux != finite {
		return v
	}
	if scale == v.scale {
		return v
	}
	if hasDigits(v) {
		return roundDecimal(v, scale, truncate)
	}
	if scale > v.scale {
		if v.big == nil {
			if i, ok := mulPow10(v.i, scale-v.scale); ok {
				return value{state: stateKnown, i: i, scale: scale}
			}
		}
		return numericBig(scaleTo(v, scale), scale)
	}
	drop := v.scale - scale
	if v.big == nil && drop <= 18 {
		p := powersOfTen[drop]
		q, r := v.i/p, v.i%p
		if !truncate && magnitude(r) >= uint64(p)-magnitude(r) {
			q += int64(numericSign(v))
		}
		if scale >= 0 {
			return value{state: stateKnown, i: q, scale: scale}
		}
		return numericBig(new(big.Int).Mul(big.NewInt(q), bigPow10(-scale)), 0)
	}
	q := divRound(unscaled(v), bigPow10(drop), truncate)
	if scale < 0 {
		q.Mul(q, bigPow10(-scale))
	}
	return numericBig(q, max(scale, 0))
}

// divRound divides, rounding half away from zero or towards zero.
func divRound(a, b *big.Int, truncate bool) *big.Int {
	q, r := new(big.Int).QuoRem(a, b, new(big.Int))
	if !truncate && r.CmpAbs(new(big.Int)) != 0 && new(big.Int).Lsh(r.Abs(r), 1).CmpAbs(b) >= 0 {
		if a.Sign()*b.Sign() < 0 {
			return q.Sub(q, big.NewInt(1))
		}
		return q.Add(q, big.NewInt(1))
	}
	return q
}
