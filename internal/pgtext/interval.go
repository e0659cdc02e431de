package pgtext

import (
	"bytes"
	"cmp"
	"math"
	"math/bits"
	"strconv"
	"strings"
)

// Interval is PostgreSQL's interval: months, days and microseconds, which do
// not convert into each other. All three at their limit are infinity
// (PostgreSQL 17 and later).
type Interval struct {
	Months, Days int32
	Micros       int64
}

// IsInfinite reports whether i is one of the infinities.
func (i Interval) IsInfinite() bool { return i.infinite() != 0 }

// infinite is 1 for infinity, -1 for -infinity and 0 for all others.
func (i Interval) infinite() int {
	switch {
	case i.Months == math.MaxInt32 && i.Days == math.MaxInt32 && i.Micros == math.MaxInt64:
		return 1
	case i.Months == math.MinInt32 && i.Days == math.MinInt32 && i.Micros == math.MinInt64:
		return -1
	}
	return 0
}

// AppendInterval appends an interval as PostgreSQL prints it under
// intervalstyle=postgres.
func AppendInterval(dst []byte, i Interval) []byte {
	if inf := i.infinite(); inf != 0 {
		return appendInfinity(dst, inf < 0)
	}
	p := intervalPrinter{dst: dst, start: len(dst)}
	p.part(int64(i.Months/12), "year")
	p.part(int64(i.Months%12), "mon")
	p.part(int64(i.Days), "day")
	p.time(i.Micros)
	return p.dst
}

type intervalPrinter struct {
	dst   []byte
	start int
	// negative: the part before was, so that a positive one shows its sign.
	negative bool
}

func (p *intervalPrinter) part(v int64, unit string) {
	if v == 0 {
		return
	}
	if len(p.dst) > p.start {
		p.dst = append(p.dst, ' ')
	}
	if p.negative && v > 0 {
		p.dst = append(p.dst, '+')
	}
	p.dst = strconv.AppendInt(p.dst, v, 10)
	p.dst = append(p.dst, ' ')
	p.dst = append(p.dst, unit...)
	if v != 1 {
		p.dst = append(p.dst, 's')
	}
	p.negative = v < 0
}

func (p *intervalPrinter) time(micros int64) {
	if micros == 0 && len(p.dst) > p.start {
		return
	}
	if len(p.dst) > p.start {
		p.dst = append(p.dst, ' ')
	}
	abs := uint64(micros)
	switch {
	case micros < 0:
		abs = -abs
		p.dst = append(p.dst, '-')
	case p.negative:
		p.dst = append(p.dst, '+')
	}
	p.dst = appendClock(p.dst, int64(abs/microsPerSecond), int64(abs%microsPerSecond))
}

// CompareIntervals returns -1, 0 or 1 as PostgreSQL orders intervals: a month
// counts 30 days, a day 24 hours.
func CompareIntervals(a, b Interval) int {
	aDays, aMicros := a.Span()
	bDays, bMicros := b.Span()
	return cmp.Or(cmp.Compare(aDays, bDays), cmp.Compare(aMicros, bMicros))
}

// Span returns the interval's length in days, and microseconds under a day: what
// would take 128 bits in microseconds alone. Equal intervals have the same.
func (i Interval) Span() (days, micros int64) {
	days, micros = splitTimestamp(i.Micros)
	return days + int64(i.Months)*30 + int64(i.Days), micros
}

// Neg returns -i.
func (i Interval) Neg() (Interval, error) {
	if inf := i.infinite(); inf != 0 {
		return infiniteInterval(-inf), nil
	}
	if i.Months == math.MinInt32 || i.Days == math.MinInt32 || i.Micros == math.MinInt64 {
		return Interval{}, errIntervalRange
	}
	return Interval{Months: -i.Months, Days: -i.Days, Micros: -i.Micros}, nil
}

// Add returns i + j, field by field.
func (i Interval) Add(j Interval) (Interval, error) { return i.combine(j, 1) }

// Sub returns i - j, field by field.
func (i Interval) Sub(j Interval) (Interval, error) { return i.combine(j, -1) }

// combine returns i + sign*j.
func (i Interval) combine(j Interval, sign int) (Interval, error) {
	if a, b := i.infinite(), sign*j.infinite(); a != 0 || b != 0 {
		if a+b == 0 {
			return Interval{}, errIntervalRange
		}
		return infiniteInterval(a + b), nil
	}
	months, days := int64(i.Months)+int64(sign)*int64(j.Months), int64(i.Days)+int64(sign)*int64(j.Days)
	micros := i.Micros + int64(sign)*j.Micros
	grows := (j.Micros > 0) == (sign > 0) && j.Micros != 0
	if int64(int32(months)) != months || int64(int32(days)) != days || (micros > i.Micros) != grows {
		return Interval{}, errIntervalRange
	}
	return finite(Interval{Months: int32(months), Days: int32(days), Micros: micros})
}

var errIntervalRange = &Error{Code: codeDatetimeRange, Message: "interval out of range"}

// finite refuses a result that would read as infinity.
func finite(i Interval) (Interval, error) {
	if i.infinite() != 0 {
		return Interval{}, errIntervalRange
	}
	return i, nil
}

func infiniteInterval(sign int) Interval {
	if sign < 0 {
		return Interval{Months: math.MinInt32, Days: math.MinInt32, Micros: math.MinInt64}
	}
	return Interval{Months: math.MaxInt32, Days: math.MaxInt32, Micros: math.MaxInt64}
}

const intervalForm = "invalid interval: write quantities with units, such as 1 year 2 mons 3 days 04:05:06"

// errIntervalField is of literals; arithmetic has another code.
var errIntervalField = &Error{Code: "22015", Message: "interval field value out of range"}

var errIntervalSyntax = &Error{Code: codeDatetimeSyntax, Message: intervalForm}

// ParseInterval reads what PostgreSQL prints under intervalstyle=postgres and
// the common literals: quantities with units in any order ('2 hours 30
// minutes', '1 week', '-1 mon', '1.5 hours'), a time (04:05:06.7) and a final
// ago; a number alone, which is seconds, or before a time, which is days; SQL's
// years and months (1-2) and ISO 8601's units (P1Y2M3DT4H5M6.7S). Units below the
// day take fractions that are whole microseconds. Fractions of longer units, which
// PostgreSQL versions convert differently, are refused.
func ParseInterval(s []byte) (Interval, error) {
	p := intervalParser{datetimeParser: datetimeParser{s: trimSpace(s)}}
	if inf, ok := p.infinity(); ok {
		return infiniteInterval(cmp.Compare(inf, 0)), nil
	}
	p.take('@')
	p.s = skipSpace(p.s)
	if p.end() {
		return Interval{}, errIntervalSyntax
	}
	if p.s[0] == 'P' && len(p.s) > 1 {
		if err := p.iso(); err != nil {
			return Interval{}, err
		}
	}
	for !p.end() {
		if err := p.part(); err != nil {
			return Interval{}, err
		}
		p.s = skipSpace(p.s)
		if bytes.EqualFold(p.s, []byte("ago")) {
			p.s = nil
			p.months, p.days = -p.months, -p.days
			if p.micros == math.MinInt64 {
				return Interval{}, errIntervalField
			}
			p.micros = -p.micros
		}
	}
	switch {
	case int64(int32(p.days)) != p.days:
		return Interval{}, errIntervalField
	case int64(int32(p.months)) != p.months:
		return Interval{}, errIntervalRange
	}
	return finite(Interval{Months: int32(p.months), Days: int32(p.days), Micros: p.micros})
}

// What a second with a fraction, and HH:MM:SS, have of the fields.
const (
	secondFields = 1<<fieldSecond | 1<<fieldMilliseconds | 1<<fieldMicroseconds
	clockFields  = 1<<fieldHour | 1<<fieldMinute | secondFields
)

type intervalParser struct {
	datetimeParser
	months, days int64
	micros       int64
	seen         uint32 // 1<<field for each
}

// part reads a quantity with its unit, or a time.
func (p *intervalParser) part() error {
	negative := p.take('-')
	if !negative {
		p.take('+')
	}
	whole, n := p.digits(18)
	if n == 0 || len(p.s) > 0 && isDigit(p.s[0]) {
		return errIntervalSyntax
	}
	if len(p.s) > 0 && p.s[0] == ':' {
		return p.clock(negative, whole)
	}
	fraction, fractional := int64(0), len(p.s) > 0 && p.s[0] == '.'
	if fractional {
		n := skipDigits(p.s, 1)
		if n == 1 || n > 7 {
			return errIntervalSyntax
		}
		fraction, _ = p.fraction() // at most six digits: exact
	}
	if yearMonths := 1<<fieldYear | 1<<fieldMonth; !fractional && p.seen&uint32(yearMonths) == 0 && len(p.s) > 1 && p.s[0] == '-' && isDigit(p.s[1]) {
		p.seen |= uint32(yearMonths)
		return p.yearMonths(negative, whole)
	}
	blank := len(p.s) > 0 && isSpace(p.s[0])
	p.s = skipSpace(p.s)
	switch {
	case p.end() && p.seen == 0: // a number alone
		p.seen |= secondFields
		return p.add(fieldSecond, negative, whole, fraction, fractional)
	case blank && !fractional && p.seen&^(1<<fieldYear|1<<fieldMonth) == 0 && isDigit(p.s[0]): // days before a time
		at := p.datetimeParser
		if at.digits(18); !at.take(':') {
			return errIntervalSyntax
		}
		p.seen |= 1 << fieldDay
		return p.add(fieldDay, negative, whole, 0, false)
	}
	n = 0
	for n < len(p.s) && p.s[n]|0x20 >= 'a' && p.s[n]|0x20 <= 'z' {
		n++
	}
	f := fieldOf(p.s[:n])
	if f == fieldNone || f == fieldQuarter || f > fieldMillennium || p.seen&(1<<f) != 0 {
		return errIntervalSyntax
	}
	p.seen |= 1 << f
	if f == fieldSecond && fractional { // the fraction is all of the smaller units
		if p.seen&(1<<fieldMilliseconds|1<<fieldMicroseconds) != 0 {
			return errIntervalSyntax
		}
		p.seen |= secondFields
	}
	p.s = p.s[n:]
	return p.add(f, negative, whole, fraction, fractional)
}

// yearMonths reads the months of SQL's 1-2.
func (p *intervalParser) yearMonths(negative bool, years int64) error {
	p.take('-')
	months, _ := p.digits(18)
	switch {
	case len(p.s) > 0 && !isSpace(p.s[0]):
		return errIntervalSyntax
	case months > 11:
		return errIntervalField
	}
	if err := p.add(fieldYear, negative, years, 0, false); err != nil {
		return err
	}
	return p.add(fieldMonth, negative, months, 0, false)
}

// iso reads ISO 8601's P1Y2M3W4DT5H6M7.8S, each unit at most once and in order.
func (p *intervalParser) iso() error {
	p.take('P')
	units, fields := "YMWD", []field{fieldYear, fieldMonth, fieldWeek, fieldDay}
	for timed := false; !p.end(); {
		if !timed && p.take('T') {
			timed, units, fields = true, "HMS", []field{fieldHour, fieldMinute, fieldSecond}
		}
		negative := p.take('-')
		whole, n := p.digits(18)
		if n == 0 {
			return errIntervalSyntax
		}
		fraction, fractional := int64(0), len(p.s) > 0 && p.s[0] == '.'
		if fractional {
			if n := skipDigits(p.s, 1); n == 1 || n > 7 {
				return errIntervalSyntax
			}
			fraction, _ = p.fraction() // at most six digits: exact
		}
		i := -1
		if !p.end() {
			i = strings.IndexByte(units, p.s[0])
		}
		if i < 0 || fractional && fields[i] != fieldSecond {
			return errIntervalSyntax
		}
		if err := p.add(fields[i], negative, whole, fraction, fractional); err != nil {
			return err
		}
		p.s, units, fields = p.s[1:], units[i+1:], fields[i+1:]
	}
	return nil
}

// clock reads the rest of HH:MM[:SS[.f]].
func (p *intervalParser) clock(negative bool, hours int64) error {
	if p.seen&clockFields != 0 {
		return errIntervalSyntax
	}
	p.seen |= clockFields
	p.take(':')
	minutes, n := p.digits(2)
	if n == 0 {
		return errIntervalSyntax
	}
	var seconds, fraction int64
	if p.take(':') {
		ok := false
		if seconds, n = p.digits(2); n > 0 {
			ok = len(p.s) == 0 || p.s[0] != '.' || skipDigits(p.s, 1) <= 7
			fraction, _ = p.fraction()
		}
		if !ok {
			return errIntervalSyntax
		}
	}
	if len(p.s) > 0 && !isSpace(p.s[0]) {
		return errIntervalSyntax
	}
	if minutes > 59 || seconds > 60 || seconds == 60 && fraction > 0 {
		return errIntervalField
	}
	if err := p.addMicros(negative, hours, microsPerHour, 0); err != nil {
		return err
	}
	return p.addMicros(negative, 1, minutes*microsPerMinute+seconds*microsPerSecond+fraction, 0)
}

func (p *intervalParser) add(f field, negative bool, whole, fraction int64, fractional bool) error {
	unit := fieldUnits[f]
	if f <= fieldHour {
		if fraction*unit%microsPerSecond != 0 { // finer than a microsecond
			return errIntervalSyntax
		}
		return p.addMicros(negative, whole, unit, fraction*unit/microsPerSecond)
	}
	if fractional {
		return errIntervalSyntax
	}
	if whole > math.MaxInt32+1 { // what fits in no field, before it overflows
		return errIntervalField
	}
	if negative {
		whole = -whole
	}
	if f <= fieldWeek {
		p.days += whole * unit
	} else {
		p.months += whole * unit
	}
	return nil
}

// addMicros adds whole*unit+more, the sum being negated if told to.
func (p *intervalParser) addMicros(negative bool, whole, unit, more int64) error {
	hi, lo := bits.Mul64(uint64(whole), uint64(unit))
	lo, carry := bits.Add64(lo, uint64(more), 0)
	if hi+carry != 0 || lo > math.MaxInt64 {
		return errIntervalField
	}
	v := int64(lo)
	if negative {
		v = -v
	}
	sum := p.micros + v
	if (sum > p.micros) != (v > 0) {
		return errIntervalField
	}
	p.micros = sum
	return nil
}
