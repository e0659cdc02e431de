package expr

import (
	"bytes"
	"encoding/hex"
	"slices"
	"strconv"
	"sync"

	"gancho/cdc"
	"gancho/internal/pgtext"
)

// codec reads and writes a type's text form.
type codec struct {
	// parse may return a value that refers to s.
	parse func(m *Machine, s []byte) value
	// print appends the text form of a known value.
	print func(m *Machine, dst []byte, v value) []byte
	// plain: value.s is the text form itself, and parse never fails on what the
	// server sends.
	plain bool
	// literals: the type's input function is known here, so that strings can
	// be converted to it.
	literals bool
	// input is that function, where parse knows only what the server sends.
	input func(m *Machine, s []byte) value
	// elem is the codec of an array's elements.
	elem *codec
}

func printText(_ *Machine, dst []byte, v value) []byte { return append(dst, v.s...) }

func printInt(_ *Machine, dst []byte, v value) []byte { return strconv.AppendInt(dst, v.i, 10) }

func parseText(_ *Machine, s []byte) value { return textValue(s) }

// opaque is the codec of the types that the language does not know.
var opaque = &codec{parse: parseText, print: printText, plain: true}

// zonedRange is the codec of tstzrange and the like, which are kept as their text.
var zonedRange = &codec{parse: parseText, print: func(m *Machine, dst []byte, v value) []byte {
	n := len(dst)
	out, err := pgtext.AppendZonedRange(dst, v.s, m.loc)
	if err != nil { // not what the server sends
		return append(out[:n], v.s...)
	}
	return out
}}

// read is the type's input function on any text.
func (c *codec) read(m *Machine, s []byte) value {
	if c.input != nil {
		return c.input(m, s)
	}
	return c.parse(m, s)
}

// codecOf returns the codec of a type, domains stripped. It is never nil: what
// the language does not know is kept as text.
func codecOf(t *cdc.Type) *codec {
	t = t.Base()
	switch {
	case t.Kind == cdc.KindEnum:
		return enumCodec(t)
	case t.Kind == cdc.KindArray && t.Elem != nil && !isVector(t): // vectors print otherwise
		return arrayCodec(t)
	case pgtext.IsZonedRange(t):
		return zonedRange
	case codecs()[t.OID] != nil:
		return codecs()[t.OID]
	case isCitext(t), isTextLike(t) && t.Extension == "orafce": // their input is that of text
		return codecs()[oidText]
	}
	return opaque
}

// codecs are those of the built-in types; they never change.
var codecs = sync.OnceValue(func() map[uint32]*codec {
	text := &codec{parse: parseText, print: printText, plain: true, literals: true}
	known := func(parse func(m *Machine, s []byte) value, print func(m *Machine, dst []byte, v value) []byte) *codec {
		return &codec{parse: parse, print: print, literals: true}
	}
	integer := func(bits int) *codec {
		return known(func(m *Machine, s []byte) value { return parseInt(m, s, bits) }, printInt)
	}
	float := func(bits int) *codec {
		return known(func(m *Machine, s []byte) value { return parseFloat(m, s, bits) },
			func(_ *Machine, dst []byte, v value) []byte { return appendFloat(dst, v.float(), bits) })
	}
	return map[uint32]*codec{
		oidText: text, oidVarchar: text, oidBpchar: text,
		oidJSON:  {parse: parseText, print: printText, plain: true, literals: true, input: jsonInput},
		oidJSONB: {parse: parseText, print: printText, plain: true, literals: true, input: jsonbInput},
		oidInt2:  integer(16), oidInt4: integer(32), oidInt8: integer(64), oidFloat4: float(32), oidFloat8: float(64),
		oidBool:    known(parseBool, printBool),
		oidNumeric: known(parseNumericValue, func(_ *Machine, dst []byte, v value) []byte { return appendNumeric(dst, v) }),
		oidMoney:   known(parseMoney, printMoney),
		oidBytea:   known(parseBytea, printBytea),
		oidUUID:    known(parseUUID, printText),
		oidDate: withInput(func(m *Machine, s []byte) value {
			d, err := pgtext.ReadDate(s, m.settings.DateOrder)
			return m.wrap(int64(d), err)
		}, known(func(m *Machine, s []byte) value {
			d, err := pgtext.ParseDate(s)
			return m.wrap(int64(d), err)
		}, func(_ *Machine, dst []byte, v value) []byte { return pgtext.AppendDate(dst, int32(v.i)) })),
		oidTime: withInput(func(m *Machine, s []byte) value { return m.wrap(pgtext.ReadTime(s)) }, known(func(m *Machine, s []byte) value { return m.wrap(pgtext.ParseTime(s)) },
			func(_ *Machine, dst []byte, v value) []byte { return pgtext.AppendTime(dst, v.i) })),
		oidTimestamp: withInput(func(m *Machine, s []byte) value { return m.wrap(pgtext.ReadTimestamp(s, m.settings.DateOrder)) }, known(func(m *Machine, s []byte) value { return m.wrap(pgtext.ParseTimestamp(s)) },
			func(_ *Machine, dst []byte, v value) []byte { return pgtext.AppendTimestamp(dst, v.i) })),
		oidTimestamptz: withInput(func(m *Machine, s []byte) value {
			return m.wrap(pgtext.ReadTimestampTZ(s, m.settings.DateOrder, m.loc))
		}, known(func(m *Machine, s []byte) value { return m.wrap(pgtext.ParseTimestampTZ(s, m.loc)) },
			func(m *Machine, dst []byte, v value) []byte { return pgtext.AppendTimestampTZ(dst, v.i, m.loc) })),
		oidInterval: {parse: parseInterval, literals: true, input: func(m *Machine, s []byte) value {
			v := parseInterval(m, s)
			if v.known() && interval(v).IsInfinite() {
				return m.fail("22007", infiniteIntervals)
			}
			return v
		}, print: func(_ *Machine, dst []byte, v value) []byte { return pgtext.AppendInterval(dst, interval(v)) }},
	}
})

// withInput gives a codec the type's input function.
func withInput(input func(m *Machine, s []byte) value, c *codec) *codec {
	c.input = input
	return c
}

// wrap returns a value for a result of pgtext.
func (m *Machine) wrap(i int64, err error) value {
	if err != nil {
		return m.failWith(err)
	}
	return intValue(i)
}

func parseInterval(m *Machine, s []byte) value { return m.intervalResult(pgtext.ParseInterval(s)) }

func (m *Machine) intervalResult(i pgtext.Interval, err error) value {
	if err != nil {
		return m.failWith(err)
	}
	return value{state: stateKnown, aux: i.Months, scale: i.Days, i: i.Micros}
}

func interval(v value) pgtext.Interval {
	return pgtext.Interval{Months: v.aux, Days: v.scale, Micros: v.i}
}

// textCodec is the codec of an argument whose text form a function prints.
func (c *checker) textCodec(arg *term, t *cdc.Type, hint string) (*codec, *Error) {
	if err := c.scope.Settings.moneyProblem(arg, t); err != nil {
		return nil, err
	}
	if isForeign(t) || hasZone(t) {
		return nil, refusal(arg, "the text form of "+typeTitle(t)+" is not supported", hint)
	}
	return codecOf(t), nil
}

// invalid is PostgreSQL's error for a text that the type's input refuses.
func (m *Machine) invalid(typ string) value {
	return m.fail("22P02", "invalid input syntax for type "+typ)
}

// parseBool accepts unique prefixes of true, false, yes, no, on and off, and 1 and 0.
func parseBool(m *Machine, s []byte) value {
	if len(s) == 1 && (s[0] == 't' || s[0] == 'f') {
		return boolValue(s[0] == 't')
	}
	s = bytes.ToLower(trimBlanks(s))
	for _, w := range []struct {
		word string
		min  int
		val  bool
	}{{"true", 1, true}, {"false", 1, false}, {"yes", 1, true}, {"no", 1, false}, {"on", 2, true}, {"off", 2, false}, {"1", 1, true}, {"0", 1, false}} {
		if len(s) >= w.min && len(s) <= len(w.word) && w.word[:len(s)] == string(s) {
			return boolValue(w.val)
		}
	}
	return m.invalid("boolean")
}

func printBool(_ *Machine, dst []byte, v value) []byte {
	if v.i != 0 {
		return append(dst, 't')
	}
	return append(dst, 'f')
}

func trimBlanks(s []byte) []byte {
	if len(s) > 0 && s[0] > ' ' && s[len(s)-1] > ' ' { // as the server prints it
		return s
	}
	return bytes.Trim(s, " \t\n\r\v\f")
}

func parseInt(m *Machine, s []byte, bits int) value {
	s = trimBlanks(s)
	digits := s
	if len(s) > 0 && (s[0] == '-' || s[0] == '+') {
		digits = s[1:]
	}
	if len(digits) == 0 || !allDigits(digits) {
		return m.invalid(intNames[bits])
	}
	if len(digits) <= 18 {
		var u int64
		for _, c := range digits {
			u = u*10 + int64(c-'0')
		}
		if s[0] == '-' {
			u = -u
		}
		if fitsInt(u, bits) {
			return intValue(u)
		}
	}
	i, err := strconv.ParseInt(string(s), 10, bits)
	if err != nil { // only the range is left
		return m.fail("22003", "value is out of range for type "+intNames[bits])
	}
	return intValue(i)
}

func fitsInt(i int64, bits int) bool {
	return bits == 64 || i >= -1<<(bits-1) && i < 1<<(bits-1)
}

func parseNumericValue(m *Machine, s []byte) value {
	if !m.spend(bigScratch(len(s))) {
		return m.overMemory()
	}
	v, code := parseNumeric(s)
	switch code {
	case "22P02":
		return m.invalid("numeric")
	case "22003":
		return m.fail(code, "value overflows numeric format")
	}
	return v
}

// enumCodec keeps a label with its position, which is its order. A label that
// was added or renamed since the type was read has the position -1.
func enumCodec(t *cdc.Type) *codec {
	parse := func(_ *Machine, s []byte) value {
		i := slices.IndexFunc(t.Labels, func(l string) bool { return l == string(s) })
		return value{state: stateKnown, i: int64(i), s: s}
	}
	input := func(m *Machine, s []byte) value {
		v := parse(m, s)
		if v.i < 0 {
			return m.fail("22P02", "invalid input value for enum "+t.Name)
		}
		return v
	}
	return &codec{parse: parse, print: printText, literals: true, input: input}
}

func parseBytea(m *Machine, s []byte) value {
	if !m.room(len(s)) {
		return m.overMemory()
	}
	start := len(m.arena)
	if hexits, ok := bytes.CutPrefix(s, []byte(`\x`)); ok {
		for len(hexits) > 0 {
			if c := hexits[0]; c == ' ' || c == '\t' || c == '\n' || c == '\r' { // between two pairs
				hexits = hexits[1:]
				continue
			}
			var b [1]byte
			if _, err := hex.Decode(b[:], hexits[:min(2, len(hexits))]); err != nil {
				return m.fail("22023", "invalid hexadecimal data")
			}
			m.arena = append(m.arena, b[0])
			hexits = hexits[2:]
		}
		return m.grown(start)
	}
	for i := 0; i < len(s); i++ {
		switch {
		case s[i] != '\\':
			m.arena = append(m.arena, s[i])
		case i+1 < len(s) && s[i+1] == '\\':
			m.arena = append(m.arena, '\\')
			i++
		case i+3 < len(s) && s[i+1] >= '0' && s[i+1] <= '3' && isOctal(s[i+2]) && isOctal(s[i+3]):
			m.arena = append(m.arena, (s[i+1]-'0')<<6|(s[i+2]-'0')<<3|(s[i+3]-'0'))
			i += 3
		default:
			return m.invalid("bytea")
		}
	}
	return m.grown(start)
}

func isOctal(c byte) bool { return c >= '0' && c <= '7' }

func printBytea(_ *Machine, dst []byte, v value) []byte {
	return hex.AppendEncode(append(dst, `\x`...), v.s)
}

// parseUUID accepts every form that PostgreSQL accepts, and keeps the one that it
// prints.
func parseUUID(m *Machine, s []byte) value {
	if isCanonicalUUID(s) {
		return textValue(s)
	}
	body := s
	if len(body) > 1 && body[0] == '{' {
		if body[len(body)-1] != '}' {
			return m.invalid("uuid")
		}
		body = body[1 : len(body)-1]
	}
	start := len(m.arena)
	n := 0
	for i := range body {
		c := body[i]
		if c == '-' && n > 0 && n%4 == 0 && n < 32 && body[i-1] != '-' {
			continue
		}
		if !isHex(c) || n == 32 {
			return m.invalid("uuid")
		}
		if n == 8 || n == 12 || n == 16 || n == 20 {
			m.arena = append(m.arena, '-')
		}
		if c >= 'A' && c <= 'F' {
			c += 'a' - 'A'
		}
		m.arena = append(m.arena, c)
		n++
	}
	if n != 32 {
		return m.invalid("uuid")
	}
	return m.grown(start)
}

func isCanonicalUUID(s []byte) bool {
	if len(s) != 36 {
		return false
	}
	for i, c := range s {
		dash := i == 8 || i == 13 || i == 18 || i == 23
		if dash != (c == '-') || !dash && !isDigit(c) && (c < 'a' || c > 'f') {
			return false
		}
	}
	return true
}
