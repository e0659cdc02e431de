package pgtext

import (
	"math"
	"math/big"
	"strconv"
	"time"
)

// ExtractTimestamp appends extract(name from ts), the numeric that PostgreSQL
// 14 and later print: microseconds to millennium, quarter, week, dow, isodow,
// doy, isoyear, julian, epoch. Of an infinite timestamp, a nil slice (SQL's
// null) is returned for a field that repeats, such as the hour, and Infinity for
// one that grows without end, such as the year.
func ExtractTimestamp(dst []byte, name string, ts int64) ([]byte, error) {
	return extractTimestamp(dst, name, ts, nil, withoutZone, fieldEpoch)
}

// ExtractTimestampTZ is ExtractTimestamp for an instant seen in loc (nil is
// UTC), with timezone, timezone_hour and timezone_minute.
func ExtractTimestampTZ(dst []byte, name string, ts int64, loc *time.Location) ([]byte, error) {
	return extractTimestamp(dst, name, ts, loc, withZone, fieldZoneMinute)
}

// The types' names in errors.
const (
	withoutZone = "type timestamp without time zone"
	withZone    = "type timestamp with time zone"
)

func extractTimestamp(dst []byte, name string, ts int64, loc *time.Location, what string, last field) ([]byte, error) {
	f, err := extractUnit(name, what, last, fieldNone)
	if err != nil {
		return dst, err
	}
	if !finiteTimestamp(ts) {
		return extractInfinite(dst, f, ts < 0), nil
	}
	offset := int64(offsetAt(ts, loc))
	days, micros := splitTimestamp(ts + offset*microsPerSecond)
	switch {
	case f == fieldZone:
		return strconv.AppendInt(dst, offset, 10), nil
	case f == fieldZoneHour:
		return strconv.AppendInt(dst, offset/3600, 10), nil
	case f == fieldZoneMinute:
		return strconv.AppendInt(dst, offset/60%60, 10), nil
	case f == fieldEpoch:
		return appendEpoch(dst, ts), nil
	case f == fieldJulian:
		return appendJulian(dst, days, micros), nil
	case f <= fieldHour:
		return extractTime(dst, f, micros), nil
	}
	return extractDay(dst, f, days), nil
}

// ExtractDate is ExtractTimestamp for a date, of which there are the fields
// from the day up; julian and epoch are whole numbers.
func ExtractDate(dst []byte, name string, d int32) ([]byte, error) {
	f, err := extractUnit(name, "type date", fieldEpoch, fieldHour)
	if err != nil {
		return dst, err
	}
	if !finiteDate(d) {
		return extractInfinite(dst, f, d < 0), nil
	}
	switch f {
	case fieldJulian:
		return strconv.AppendInt(dst, int64(d)+julianEpoch, 10), nil
	case fieldEpoch:
		return strconv.AppendInt(dst, int64(d)*secondsPerDay+unixEpoch, 10), nil
	}
	return extractDay(dst, f, int64(d)), nil
}

// ExtractTime is ExtractTimestamp for a time of day: microseconds to hour, and epoch.
func ExtractTime(dst []byte, name string, t int64) ([]byte, error) {
	f, err := extractUnit(name, "type time without time zone", fieldEpoch, fieldNone)
	if err != nil {
		return dst, err
	}
	switch {
	case f == fieldEpoch:
		return appendDecimal(dst, t, 6), nil
	case f > fieldHour:
		return dst, unsupported(name, "type time without time zone")
	}
	return extractTime(dst, f, t), nil
}

// ExtractInterval is ExtractTimestamp for an interval: microseconds to
// millennium, quarter and epoch. Weeks, and quarters of negative months, on
// which PostgreSQL's versions differ, are refused.
func ExtractInterval(dst []byte, name string, i Interval) ([]byte, error) {
	f, err := extractUnit(name, "type interval", fieldEpoch, fieldNone)
	if err != nil {
		return dst, err
	}
	if inf := i.infinite(); inf != 0 {
		switch f {
		case fieldHour, fieldDay, fieldYear, fieldDecade, fieldCentury, fieldMillennium, fieldEpoch:
			return appendNumericInfinity(dst, inf < 0), nil
		}
		return nil, nil
	}
	switch months := int64(i.Months % 12); f {
	case fieldHour: // not of a day
		return strconv.AppendInt(dst, i.Micros/microsPerHour, 10), nil
	case fieldDay:
		return strconv.AppendInt(dst, int64(i.Days), 10), nil
	case fieldMonth:
		return strconv.AppendInt(dst, months, 10), nil
	case fieldQuarter:
		if i.Months < 0 { // 18 counts the quarters of negative intervals otherwise than 17
			return dst, unsupported(name, "an interval of negative months")
		}
		return strconv.AppendInt(dst, months/3+1, 10), nil
	case fieldYear, fieldDecade, fieldCentury, fieldMillennium:
		return strconv.AppendInt(dst, int64(i.Months)/fieldUnits[f], 10), nil
	case fieldEpoch:
		return appendIntervalEpoch(dst, i), nil
	case fieldMicroseconds, fieldMilliseconds, fieldSecond, fieldMinute:
		return extractTime(dst, f, i.Micros), nil
	}
	return dst, unsupported(name, "type interval")
}

func extractUnit(name, what string, last, after field) (field, error) {
	f, err := unit(name)
	if err != nil {
		return f, err
	}
	if f > last || f <= after {
		return f, unsupported(name, what)
	}
	return f, nil
}

// extractTime is for a time of day, or an interval's (signed) time.
func extractTime(dst []byte, f field, micros int64) []byte {
	switch f {
	case fieldMicroseconds:
		return strconv.AppendInt(dst, micros%microsPerMinute, 10)
	case fieldMilliseconds:
		return appendDecimal(dst, micros%microsPerMinute, 3)
	case fieldSecond:
		return appendDecimal(dst, micros%microsPerMinute, 6)
	case fieldMinute:
		return strconv.AppendInt(dst, micros/microsPerMinute%60, 10)
	}
	return strconv.AppendInt(dst, micros/microsPerHour, 10)
}

func extractDay(dst []byte, f field, days int64) []byte {
	c := civilOf(days)
	var v int64
	switch f {
	case fieldDay:
		v = int64(c.day)
	case fieldWeek:
		_, week := isoWeek(days)
		v = int64(week)
	case fieldMonth:
		v = int64(c.month)
	case fieldQuarter:
		v = int64(c.month-1)/3 + 1
	case fieldYear:
		v = shownYear(c.year)
	case fieldDecade:
		v = floorDiv(c.year, 10)
	case fieldCentury:
		v = centuries(c.year, 100)
	case fieldMillennium:
		v = centuries(c.year, 1000)
	case fieldDayOfWeek:
		v = int64(weekday(days))
	case fieldISODayOfWeek:
		v = int64(isoWeekday(days))
	case fieldDayOfYear:
		v = int64(yearDay(days, c.year))
	case fieldISOYear:
		year, _ := isoWeek(days)
		v = shownYear(year)
	}
	return strconv.AppendInt(dst, v, 10)
}

// centuries counts from 1 after, and from -1 before the turn of the era.
func centuries(year, length int64) int64 {
	if year > 0 {
		return (year + length - 1) / length
	}
	return -((length - year) / length)
}

// extractInfinite appends infinity for fields that grow without end; it returns nil
// for those that repeat.
func extractInfinite(dst []byte, f field, negative bool) []byte {
	switch f {
	case fieldYear, fieldDecade, fieldCentury, fieldMillennium, fieldISOYear, fieldJulian, fieldEpoch:
		return appendNumericInfinity(dst, negative)
	}
	return nil
}

func appendNumericInfinity(dst []byte, negative bool) []byte {
	if negative {
		dst = append(dst, '-')
	}
	return append(dst, "Infinity"...)
}

// appendDecimal appends v / 10^scale with all scale digits.
func appendDecimal(dst []byte, v int64, scale int) []byte {
	abs := uint64(v)
	if v < 0 {
		dst = append(dst, '-')
		abs = -abs
	}
	return appendUnsignedDecimal(dst, abs, scale)
}

func appendUnsignedDecimal(dst []byte, v uint64, scale int) []byte {
	power := uint64(1)
	for range scale {
		power *= 10
	}
	dst = strconv.AppendUint(dst, v/power, 10)
	dst = append(dst, '.')
	return appendPadded(dst, int64(v%power), scale)
}

// appendEpoch appends the seconds since 1970, of which the microseconds do not
// always fit 64 bits with sign.
func appendEpoch(dst []byte, ts int64) []byte {
	const shift = unixEpoch * microsPerSecond
	if ts < math.MaxInt64-shift {
		return appendDecimal(dst, ts+shift, 6)
	}
	return appendUnsignedDecimal(dst, uint64(ts)+shift, 6)
}

// appendIntervalEpoch appends the seconds of an interval, a year having 365.25
// days and a month outside of years 30.
func appendIntervalEpoch(dst []byte, i Interval) []byte {
	quarterDays := 4*365.25*int64(i.Months/12) + 4*30*int64(i.Months%12) + 4*int64(i.Days)
	seconds := quarterDays * (secondsPerDay / 4)
	seconds += i.Micros / microsPerSecond
	micros := i.Micros % microsPerSecond
	// One sign for both.
	if seconds > 0 && micros < 0 {
		seconds, micros = seconds-1, micros+microsPerSecond
	} else if seconds < 0 && micros > 0 {
		seconds, micros = seconds+1, micros-microsPerSecond
	}
	if seconds < 0 || micros < 0 {
		dst = append(dst, '-')
		seconds, micros = -seconds, -micros
	}
	dst = strconv.AppendInt(dst, seconds, 10)
	dst = append(dst, '.')
	return appendPadded(dst, micros, 6)
}

// appendJulian appends the Julian day with the part of the day as a fraction,
// with the digits that PostgreSQL's numeric division gives it.
func appendJulian(dst []byte, days, micros int64) []byte {
	scale := divisionScale(micros)
	// micros * 10^scale / microsPerDay, rounded half up.
	v := new(big.Int).Exp(big.NewInt(10), big.NewInt(int64(scale)), nil)
	v.Mul(v, big.NewInt(2*micros))
	v.Add(v, big.NewInt(microsPerDay))
	v.Quo(v, big.NewInt(2*microsPerDay))
	digits := v.String()
	dst = strconv.AppendInt(dst, days+julianEpoch, 10)
	dst = append(dst, '.')
	for range scale - len(digits) {
		dst = append(dst, '0')
	}
	return append(dst, digits...)
}

// divisionScale is select_div_scale in numeric.c for v / microsPerDay, which
// gives at least 16 significant digits by counting groups of four.
func divisionScale(v int64) int {
	const weight, first = 2, 864 // of 864 0000 0000
	groups, lead := 0, v
	for lead >= 10_000 {
		groups++
		lead /= 10_000
	}
	quotient := groups - weight
	if lead <= first {
		quotient--
	}
	return max(16-4*quotient, 0)
}
