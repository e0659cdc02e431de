package expr

import (
	"bytes"
	"math"
	"strconv"

	"gancho/cdc"
)

// integerImpls are the arithmetic of integers of all sizes.
func integerImpls() map[string]*impl {
	all := map[string]*impl{}
	for _, op := range []string{"+", "-", "*", "/", "%"} {
		for _, c := range pg().infix[op] {
			if isInt(c.args[0]) && isInt(c.args[1]) {
				all[c.key()] = two(intArithmetic(op[0], typeBits[c.result.OID]))
			}
		}
	}
	for _, t := range []*cdc.Type{builtin(oidInt2), builtin(oidInt4), builtin(oidInt8)} {
		bits, name := typeBits[t.OID], t.Name
		neg := func(m *Machine, a value) value {
			if a.i == math.MinInt64 {
				return m.fail("22003", intNames[bits]+" out of range")
			}
			return fitInt(m, -a.i, bits)
		}
		all[name+"um("+name+")"] = one(neg)
		all[name+"up("+name+")"] = same()
		all["abs("+name+")"] = one(func(m *Machine, a value) value {
			if a.i < 0 {
				return neg(m, a)
			}
			return a
		})
		all["mod("+name+","+name+")"] = two(intArithmetic('%', bits))
	}
	return all
}

func intArithmetic(op byte, bits int) func(m *Machine, a, b value) value {
	return func(m *Machine, x, y value) value {
		a, b := x.i, y.i
		var r int64
		var ok bool
		switch op {
		case '+':
			r, ok = a+b, (a+b > a) == (b > 0)
		case '-':
			r, ok = a-b, (a-b < a) == (b > 0)
		case '*':
			if r, ok = mulInt(a, b); !ok && (a < 0) != (b < 0) && a*b == math.MinInt64 && math.MinInt64/b == a {
				r, ok = math.MinInt64, true
			}
		default:
			if b == 0 {
				return m.fail("22012", "division by zero")
			}
			if op == '%' {
				if b == -1 {
					return intValue(0)
				}
				return intValue(a % b)
			}
			r, ok = a/b, a != math.MinInt64 || b != -1
		}
		if !ok {
			return m.fail("22003", intNames[bits]+" out of range")
		}
		return fitInt(m, r, bits)
	}
}

func numericImpls() map[string]*impl {
	round := func(truncate bool) *impl {
		return two(func(m *Machine, a, b value) value {
			if b.i > maxResultScale {
				return m.fail("0A000", "rounding to more than 2000 digits differs between PostgreSQL's versions")
			}
			return m.checkNumeric(roundNumeric(a, int32(max(b.i, -maxIntegerDigits-1)), truncate))
		})
	}
	whole := func(truncate bool) *impl {
		return one(func(_ *Machine, a value) value { return roundNumeric(a, 0, truncate) })
	}
	ceil := one(func(_ *Machine, a value) value { return ceilNumeric(a, true) })
	return map[string]*impl{
		"numeric_add(numeric,numeric)": two(addNumeric),
		"numeric_sub(numeric,numeric)": two(subNumeric),
		"numeric_mul(numeric,numeric)": two(mulNumeric),
		"numeric_div(numeric,numeric)": two(divNumeric),
		"numeric_mod(numeric,numeric)": two(modNumeric),
		"mod(numeric,numeric)":         two(modNumeric),
		"div(numeric,numeric)":         two(quotientNumeric),
		"numeric_uminus(numeric)":      one(func(_ *Machine, a value) value { return negNumeric(a) }),
		"numeric_uplus(numeric)":       same(),
		"round(numeric,int4)":          round(false),
		"trunc(numeric,int4)":          round(true),
		"round(numeric)":               whole(false),
		"trunc(numeric)":               whole(true),
		"ceil(numeric)":                ceil,
		"ceiling(numeric)":             ceil,
		"floor(numeric)":               one(func(_ *Machine, a value) value { return ceilNumeric(a, false) }),
		"abs(numeric)":                 one(func(_ *Machine, a value) value { return absNumeric(a) }),
		"sign(numeric)": one(func(_ *Machine, a value) value {
			if a.aux == notANumber {
				return a
			}
			return numericInt(int64(numericSign(a)))
		}),
	}
}

// floatImpls are the arithmetic of real and double precision, which is
// double as soon as one side is.
func floatImpls() map[string]*impl {
	all := map[string]*impl{}
	for _, op := range []string{"+", "-", "*", "/"} {
		for _, c := range pg().infix[op] {
			if isFloat(c.args[0]) && isFloat(c.args[1]) {
				all[c.key()] = two(floatArithmetic(op[0], typeBits[c.result.OID]))
			}
		}
	}
	unary := func(f func(float64) float64) *impl {
		return one(func(_ *Machine, a value) value { return floatValue(f(a.float())) })
	}
	for _, name := range []string{"float4", "float8"} {
		all[name+"um("+name+")"] = unary(func(f float64) float64 { return -f })
		all[name+"up("+name+")"] = same()
		all["abs("+name+")"] = unary(math.Abs)
	}
	all["round(float8)"] = unary(math.RoundToEven)
	all["trunc(float8)"] = unary(math.Trunc)
	all["ceil(float8)"] = unary(math.Ceil)
	all["ceiling(float8)"] = unary(math.Ceil)
	all["floor(float8)"] = unary(math.Floor)
	all["sign(float8)"] = unary(func(f float64) float64 {
		switch {
		case f > 0:
			return 1
		case f < 0:
			return -1
		}
		return 0 // of NaN too
	})
	all["sqrt(float8)"] = one(func(m *Machine, a value) value {
		if a.float() < 0 {
			return m.fail("2201F", "cannot take square root of a negative number")
		}
		return floatValue(math.Sqrt(a.float()))
	})
	return all
}

// typeBits are the sizes of the numbers of fixed size; intNames and floatNames their names in errors.
var (
	typeBits   = map[uint32]int{oidInt2: 16, oidInt4: 32, oidInt8: 64, oidFloat4: 32, oidFloat8: 64}
	intNames   = map[int]string{16: "smallint", 32: "integer", 64: "bigint"}
	floatNames = map[int]string{32: "real", 64: "double precision"}
)

// numberCastImpls are the casts among numbers, booleans and money.
func numberCastImpls() map[string]*impl {
	all := map[string]*impl{}
	sizes := map[string]int{"int2": 16, "int4": 32, "int8": 64}
	for to, bits := range sizes {
		all[to+"(numeric)"] = one(func(m *Machine, a value) value { return numericToInt(m, a, bits) })
		all[to+"(float4)"] = one(func(m *Machine, a value) value { return floatToInt(m, a.float(), bits) })
		all[to+"(float8)"] = all[to+"(float4)"]
		for from := range sizes {
			if from != to {
				all[to+"("+from+")"] = one(func(m *Machine, a value) value { return fitInt(m, a.i, bits) })
			}
		}
	}
	for from := range sizes {
		all["numeric("+from+")"] = one(func(_ *Machine, a value) value { return numericOfInt(a.i) })
		all["float8("+from+")"] = one(func(_ *Machine, a value) value { return floatValue(float64(a.i)) })
		all["float4("+from+")"] = one(func(_ *Machine, a value) value { return floatValue(float64(float32(a.i))) })
	}
	all["numeric(float8)"] = one(func(_ *Machine, a value) value { return floatToNumeric(a.float(), 15) })
	all["numeric(float4)"] = one(func(_ *Machine, a value) value { return floatToNumeric(a.float(), 6) })
	all["float8(numeric)"] = one(func(m *Machine, a value) value { return numericToFloat(m, a, 64) })
	all["float4(numeric)"] = one(func(m *Machine, a value) value { return numericToFloat(m, a, 32) })
	all["float8(float4)"] = same()
	all["float4(float8)"] = one(func(m *Machine, a value) value { return floatToFloat4(m, a.float()) })
	all["numeric(money)"] = one(func(_ *Machine, a value) value { return moneyToNumeric(a) })
	all["bool(int4)"] = one(func(_ *Machine, a value) value { return boolValue(a.i != 0) })
	all["int4(bool)"] = same()
	yes, no := []byte("true"), []byte("false")
	all["text(bool)"] = one(func(_ *Machine, a value) value {
		if a.i != 0 {
			return textValue(yes)
		}
		return textValue(no)
	})
	return all
}

// numericToFloat converts through the text form, as PostgreSQL does.
func numericToFloat(m *Machine, a value, bits int) value {
	if failed, ok := m.canPrint(a); !ok {
		return failed
	}
	var buf [64]byte
	return parseFloat(m, appendNumeric(buf[:0], a), bits)
}

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
