package expr

import (
	"bytes"
	"math"
	"strconv"
)

// Money is kept in cents. Its text form depends on lc_monetary; only that of
// the C locale is known here, any other fails to parse and says so.

const moneyForm = "money is read only in the form of lc_monetary C, such as $1,234.50"

func parseMoney(m *Machine, s []byte) value {
	s = trimBlanks(s)
	neg := bytes.HasPrefix(s, []byte("-"))
	s = bytes.TrimPrefix(s, []byte("-"))
	s = bytes.TrimPrefix(s, []byte("$"))
	var cents uint64
	decimals := -1
	digits := 0
	for _, c := range s {
		switch {
		case isDigit(c) && decimals < 2:
			if cents > math.MaxInt64/10 {
				return m.fail("22003", "value is out of range for type money")
			}
			cents = cents*10 + uint64(c-'0')
			digits++
			if decimals >= 0 {
				decimals++
			}
		case c == ',' && decimals < 0 && digits > 0:
		case c == '.' && decimals < 0:
			decimals = 0
		default:
			return m.fail("22P02", moneyForm)
		}
	}
	if digits == 0 {
		return m.fail("22P02", moneyForm)
	}
	for decimals = max(decimals, 0); decimals < 2; decimals++ {
		if cents > math.MaxInt64/10 {
			return m.fail("22003", "value is out of range for type money")
		}
		cents *= 10
	}
	switch {
	case neg && cents <= 1<<63:
		return intValue(int64(-cents))
	case cents <= math.MaxInt64:
		return intValue(int64(cents))
	}
	return m.fail("22003", "value is out of range for type money")
}

func printMoney(_ *Machine, dst []byte, v value) []byte {
	if v.i < 0 {
		dst = append(dst, '-')
	}
	dst = append(dst, '$')
	cents := magnitude(v.i)
	var buf [24]byte
	whole := strconv.AppendUint(buf[:0], cents/100, 10)
	for i, c := range whole {
		if i > 0 && (len(whole)-i)%3 == 0 {
			dst = append(dst, ',')
		}
		dst = append(dst, c)
	}
	return append(dst, '.', byte('0'+cents/10%10), byte('0'+cents%10))
}

// moneyToNumeric has two decimals.
func moneyToNumeric(v value) value {
	n := numericOfInt(v.i)
	n.scale = 2
	return n
}

// numericToMoney rounds to cents.
func numericToMoney(m *Machine, v value) value {
	if v.aux != finite {
		return m.fail("0A000", "cannot convert NaN or infinity to money")
	}
	r := roundNumeric(v, 2, false)
	if r.big != nil && !r.big.IsInt64() {
		return m.fail("22003", "bigint out of range")
	}
	return intValue(unscaled(r).Int64())
}
