package pgtext

import (
	"cmp"
	"math"
	"strconv"
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
	aDays, aMicros := a.span()
	bDays, bMicros := b.span()
	if c := cmp.Compare(aDays, bDays); c != 0 {
		return c
	}
	return cmp.Compare(aMicros, bMicros)
}

// span is the interval's length in days, and microseconds under a day: what
// would take 128 bits in microseconds alone.
func (i Interval) span() (days, micros int64) {
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
