package pgtext

import "strings"

// NumberFormat is a compiled format of to_char(number, format). It is immutable.
type NumberFormat struct {
	nodes []numberNode

	pre, post int // digit patterns before and after the point
	// zeroStart is the place of the first 0 before the point, counted from 0;
	// zeroEnd the number of digit patterns up to the last 0.
	zeroStart, zeroEnd int

	fill, zero, decimal  bool
	plus, minus, bracket bool // PL, MI (SG is both), PR
	sign                 signPlace
	preBeforeSign        int // digit patterns before S
}

type signPlace uint8

const (
	signNone signPlace = iota
	signBefore
	signAfter
)

type numberPattern uint8

const (
	numberLiteral numberPattern = iota
	numberDigit
	numberZero
	numberPoint
	numberComma
	numberMinus
	numberPlus
	numberSign
)

type numberNode struct {
	pattern numberPattern
	literal string
}

// CompileNumberFormat compiles a format of digits (9, 0), point and comma, FM,
// MI, PL, SG, PR, S and text. Refused by name are D, G and L, which depend on
// the server's locale, and B, C, EEEE, RN, SP, TH and V. S is taken to print -
// and +, as it does under nearly every lc_monetary.
func CompileNumberFormat(format string) (*NumberFormat, error) {
	f := &NumberFormat{}
	for rest := format; rest != ""; {
		n, err := f.pattern(rest)
		if err != nil {
			return nil, err
		}
		if n > 0 {
			rest = rest[n:]
			continue
		}
		var literal string
		literal, rest = formatLiteral(rest)
		f.nodes = append(f.nodes, numberNode{literal: literal})
	}
	return f, nil
}

// pattern adds the pattern that s begins with and returns its length, 0 without
// one.
func (f *NumberFormat) pattern(s string) (int, error) {
	switch s[0] {
	case '9':
		return 1, f.digit(numberDigit)
	case '0':
		return 1, f.digit(numberZero)
	case '.':
		return 1, f.point()
	case ',':
		f.add(numberComma)
		return 1, nil
	}
	for _, p := range []string{"FM", "MI", "PL", "PR", "SG", "SP", "EEEE", "RN", "TH", "B", "C", "D", "G", "L", "S", "V"} {
		if hasEitherPrefix(s, p) {
			return len(p), f.named(p)
		}
	}
	return 0, nil
}

func (f *NumberFormat) named(p string) error {
	switch p {
	case "FM":
		f.fill = true
		return nil
	case "MI", "PL", "SG":
		if f.sign != signNone {
			return formatConflict("S", p)
		}
		f.minus = f.minus || p != "PL"
		f.plus = f.plus || p != "MI"
		f.add(map[string]numberPattern{"MI": numberMinus, "PL": numberPlus, "SG": numberSign}[p])
		return nil
	case "PR":
		if f.sign != signNone || f.plus || f.minus {
			return formatConflict("PR", "S, PL, MI and SG")
		}
		f.bracket = true
		return nil
	case "S":
		return f.anchoredSign()
	case "D":
		return formatError("D", "it depends on the server's lc_numeric; write . for the point")
	case "G":
		return formatError("G", "it depends on the server's lc_numeric; write , for the thousands")
	case "L":
		return formatError("L", "it depends on the server's lc_monetary; write the currency in double quotes")
	}
	return formatError(p, "if it is text, write it in double quotes")
}

// anchoredSign is S: a sign that sticks to the number.
func (f *NumberFormat) anchoredSign() error {
	if f.sign != signNone {
		return formatConflict("S", "S")
	}
	if f.plus || f.minus || f.bracket {
		return formatConflict("S", "PL, MI, SG and PR")
	}
	f.sign = signAfter
	if !f.decimal {
		f.sign, f.preBeforeSign = signBefore, f.pre
	}
	return nil
}

func (f *NumberFormat) digit(p numberPattern) error {
	if f.bracket {
		return formatConflict("PR", "a digit after it")
	}
	if p == numberZero && !f.zero && !f.decimal {
		f.zero, f.zeroStart = true, f.pre
	}
	if f.decimal {
		f.post++
	} else {
		f.pre++
	}
	if p == numberZero {
		f.zeroEnd = f.pre + f.post
	}
	f.add(p)
	return nil
}

func (f *NumberFormat) point() error {
	if f.decimal {
		return &Error{Code: "42601", Message: "to_char format has two decimal points"}
	}
	f.decimal = true
	f.add(numberPoint)
	return nil
}

func (f *NumberFormat) add(p numberPattern) { f.nodes = append(f.nodes, numberNode{pattern: p}) }

func formatConflict(a, b string) error {
	return &Error{Code: "42601", Message: "to_char format cannot use " + a + " together with " + b}
}

// AppendNumeric appends to_char(value, format) of a numeric or an integer given
// its text form, rounded half away from zero.
func (f *NumberFormat) AppendNumeric(dst []byte, numericText []byte) ([]byte, error) {
	var scratch [64]byte
	number, negative, err := roundDecimal(scratch[:0], numericText, f.post)
	if err != nil {
		return dst, err
	}
	if dst == nil {
		dst = []byte{} // nil would be null
	}
	pre := len(number)
	if i := strings.IndexByte(string(number), '.'); i >= 0 {
		pre = i
	}
	padding := max(f.pre-pre, 0)
	if pre > f.pre { // too long for the format
		number = number[:0]
		for i := range f.pre + f.post + 1 {
			if i == f.pre {
				number = append(number, '.')
			} else {
				number = append(number, '#')
			}
		}
	}
	p := newNumberPrinter(f, dst, number, negative, padding)
	for i := range f.nodes {
		p.node(&f.nodes[i])
		if p.cut >= 0 {
			return p.dst[:p.cut], nil
		}
	}
	return p.dst, nil
}

// roundDecimal rounds a decimal number half away from zero and appends its
// digits, without sign.
func roundDecimal(dst, text []byte, decimals int) (number []byte, negative bool, err error) {
	digits := text
	if len(digits) > 0 && digits[0] == '-' {
		negative, digits = true, digits[1:]
	}
	switch string(digits) {
	case "NaN", "Infinity":
		return append(dst, digits...), negative, nil
	}
	point := skipDigits(digits, 0)
	end := point
	if point < len(digits) && digits[point] == '.' {
		end = skipDigits(digits, point+1)
	}
	if point == 0 || end != len(digits) {
		return dst, false, syntaxError("malformed number")
	}
	dst = append(dst, '0') // for the carry
	dst = append(dst, digits[:point]...)
	if decimals > 0 {
		dst = append(dst, '.')
	}
	up := false
	for i := range decimals {
		c := byte('0')
		if at := point + 1 + i; at < end {
			c = digits[at]
		}
		dst = append(dst, c)
	}
	if at := point + 1 + decimals; at < end {
		up = digits[at] >= '5'
	}
	for i := len(dst) - 1; up; i-- {
		switch dst[i] {
		case '.':
		case '9':
			dst[i] = '0'
		default:
			dst[i]++
			up = false
		}
	}
	if dst[0] == '0' {
		dst = dst[1:]
	}
	for _, c := range dst {
		if c != '0' && c != '.' {
			return dst, negative, nil
		}
	}
	return dst, false, nil // there is no -0
}
