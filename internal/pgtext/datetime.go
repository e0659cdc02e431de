package pgtext

import (
	"math"
	"strconv"
	"time"
)

// The timestamps that represent infinity. Dates use math.MinInt32 and math.MaxInt32.
const (
	NegInfinity int64 = math.MinInt64
	Infinity    int64 = math.MaxInt64

	minInt32 = math.MinInt32
	maxInt32 = math.MaxInt32
)

const (
	dateForm      = "write YYYY-MM-DD, such as 2026-01-31"
	timestampForm = "write YYYY-MM-DD HH:MM:SS, such as 2026-01-31 14:30:00"
	zonedForm     = "write YYYY-MM-DD HH:MM:SS+HH:MM, such as 2026-01-31 14:30:00-03:00"
	timeForm      = "write HH:MM:SS, such as 14:30:00"
)

func datetimeSyntax(what, form string) error {
	return &Error{Code: codeDatetimeSyntax, Message: "invalid " + what + ": " + form}
}

// ParseDate reads an ISO date and returns the days since 2000-01-01. It accepts
// what PostgreSQL prints (years of four and more digits, " BC", infinity,
// -infinity) and months and days of one digit; PostgreSQL's other input forms
// (31/01/2026, 20260131, today) are refused.
func ParseDate(s []byte) (int32, error) {
	if len(s) == 10 {
		if days, ok := fixedDate(s); ok {
			return int32(days), nil
		}
	}
	p := datetimeParser{s: trimSpace(s)}
	if inf, ok := p.infinity(); ok {
		return TimestampToDate(inf), nil
	}
	if !p.date() || !p.era() {
		return 0, datetimeSyntax("date", dateForm)
	}
	days, ok := p.days()
	if !ok || days < MinDate || days > MaxDate {
		return 0, dateRange("date")
	}
	return int32(days), nil
}

// ParseTimestamp reads an ISO timestamp without time zone and returns the
// microseconds since 2000-01-01 00:00. It accepts what PostgreSQL prints, a T
// between date and time, and a date alone. A zone in the text, which
// PostgreSQL would ignore, is refused.
func ParseTimestamp(s []byte) (int64, error) {
	if len(s) >= 19 {
		if t, n, ok := fixedTimestamp(s); ok && n == len(s) {
			return t, nil
		}
	}
	p := datetimeParser{s: trimSpace(s)}
	t, err := p.timestamp("timestamp", timestampForm)
	if err == nil && p.zoned {
		return 0, datetimeSyntax("timestamp", "a timestamp without time zone takes no zone; leave it out, or cast to timestamptz")
	}
	return t, err
}

// ParseTimestampTZ reads an ISO timestamp with a numeric zone (+00, -03,
// +05:30, +HH:MM:SS, Z) and returns the microseconds since 2000-01-01 00:00 UTC.
// Without a zone in the text, the time is local in loc (nil is UTC), and gaps
// and overlaps are resolved as PostgreSQL does. Zone names are refused.
func ParseTimestampTZ(s []byte, loc *time.Location) (int64, error) {
	if len(s) >= 22 {
		if t, n, ok := fixedTimestamp(s); ok && n == len(s)-3 && s[n] == '+' && s[n+1] == '0' && s[n+2] == '0' {
			return t, nil
		}
	}
	p := datetimeParser{s: trimSpace(s)}
	t, err := p.timestamp("timestamp with time zone", zonedForm)
	if err != nil || !finiteTimestamp(t) {
		return t, err
	}
	if p.zoned {
		t -= p.zone * microsPerSecond
	} else {
		t = LocalToUTC(t, loc)
	}
	return CheckTimestamp(t)
}

// ParseTime reads a time of day without zone and returns the microseconds since
// midnight, 24:00:00 included.
func ParseTime(s []byte) (int64, error) {
	p := datetimeParser{s: trimSpace(s)}
	if !p.time() || !p.end() {
		return 0, datetimeSyntax("time", timeForm)
	}
	if !p.validTime() {
		return 0, dateRange("time")
	}
	return p.micros, nil
}

// fixedDate reads exactly YYYY-MM-DD, which is what nearly every date is.
func fixedDate(s []byte) (days int64, ok bool) {
	_ = s[9]
	if s[4] != '-' || s[7] != '-' {
		return 0, false
	}
	year, ok1 := pair(s[0], s[1])
	low, ok2 := pair(s[2], s[3])
	month, ok3 := pair(s[5], s[6])
	day, ok4 := pair(s[8], s[9])
	year = year*100 + low
	if !ok1 || !ok2 || !ok3 || !ok4 || year == 0 || month < 1 || month > 12 || day < 1 ||
		day > 28 && day > daysInMonth(int64(year), month) {
		return 0, false
	}
	return daysOf(int64(year), month, day), true
}

// fixedTimestamp reads YYYY-MM-DD HH:MM:SS[.ffffff] at the start of s, which
// has at least 19 bytes, and returns the length of what it read.
func fixedTimestamp(s []byte) (ts int64, n int, ok bool) {
	_ = s[18]
	days, ok := fixedDate(s[:10])
	if !ok || s[10] != ' ' || s[13] != ':' || s[16] != ':' {
		return 0, 0, false
	}
	hour, ok1 := pair(s[11], s[12])
	minute, ok2 := pair(s[14], s[15])
	second, ok3 := pair(s[17], s[18])
	if !ok1 || !ok2 || !ok3 || hour > 23 || minute > 59 || second > 59 {
		return 0, 0, false
	}
	ts = days*microsPerDay + int64(hour*3600+minute*60+second)*microsPerSecond
	n = 19
	if len(s) == n || s[n] != '.' {
		return ts, n, true
	}
	n++
	scale := int64(microsPerSecond)
	for n < len(s) && s[n]-'0' <= 9 {
		if scale == 1 {
			return 0, 0, false // more than microseconds: the long way rounds
		}
		scale /= 10
		ts += int64(s[n]-'0') * scale
		n++
	}
	return ts, n, true
}

func pair(a, b byte) (int, bool) {
	a, b = a-'0', b-'0'
	return int(a)*10 + int(b), a <= 9 && b <= 9
}

func trimSpace(s []byte) []byte {
	s = skipSpace(s)
	for len(s) > 0 && isSpace(s[len(s)-1]) {
		s = s[:len(s)-1]
	}
	return s
}

func isSpace(c byte) bool { return c == ' ' || c >= '\t' && c <= '\r' }

// AppendDate appends a date, days since 2000-01-01, as PostgreSQL prints it.
func AppendDate(dst []byte, d int32) []byte {
	if !finiteDate(d) {
		return appendInfinity(dst, d < 0)
	}
	c := civilOf(int64(d))
	dst = appendCivil(dst, c)
	return appendEra(dst, c.year)
}

// AppendTimestamp appends a timestamp, microseconds since 2000-01-01 00:00, as
// PostgreSQL prints a timestamp without time zone.
func AppendTimestamp(dst []byte, t int64) []byte {
	if !finiteTimestamp(t) {
		return appendInfinity(dst, t < 0)
	}
	days, micros := splitTimestamp(t)
	c := civilOf(days)
	dst = appendDateTime(dst, c, ' ', micros)
	return appendEra(dst, c.year)
}

// AppendTimestampTZ appends an instant, microseconds since 2000-01-01 00:00 UTC,
// as PostgreSQL prints it in a session whose time zone is loc (nil is UTC).
func AppendTimestampTZ(dst []byte, t int64, loc *time.Location) []byte {
	if !finiteTimestamp(t) {
		return appendInfinity(dst, t < 0)
	}
	offset := offsetAt(t, loc)
	days, micros := splitTimestamp(t + int64(offset)*microsPerSecond)
	c := civilOf(days)
	dst = appendDateTime(dst, c, ' ', micros)
	dst = appendOffset(dst, offset)
	return appendEra(dst, c.year)
}

// AppendTime appends a time of day, microseconds since midnight.
func AppendTime(dst []byte, t int64) []byte {
	return appendClock(dst, t/microsPerSecond, t%microsPerSecond)
}

// appendClock appends HH:MM:SS[.ffffff].
func appendClock(dst []byte, seconds, micros int64) []byte {
	dst = appendPair(dst, int(seconds/3600))
	dst = append(dst, ':')
	dst = appendPair(dst, int(seconds/60%60))
	dst = append(dst, ':')
	dst = appendPair(dst, int(seconds%60))
	return appendFraction(dst, micros)
}

// appendFraction appends microseconds as the digits after the point, without
// trailing zeros.
func appendFraction(dst []byte, micros int64) []byte {
	if micros == 0 {
		return dst
	}
	dst = append(dst, '.')
	dst = appendPadded(dst, micros, 6)
	for dst[len(dst)-1] == '0' {
		dst = dst[:len(dst)-1]
	}
	return dst
}

// appendDateTime appends a day and the time on it.
func appendDateTime(dst []byte, c civil, separator byte, micros int64) []byte {
	if c.year <= 0 || c.year > 9999 {
		dst = appendCivil(dst, c)
		dst = append(dst, separator)
		return AppendTime(dst, micros)
	}
	seconds := micros / microsPerSecond
	year, clock := int(c.year), int(seconds)
	b := [19]byte{4: '-', 7: '-', 10: separator, 13: ':', 16: ':'}
	b[0], b[1] = tens(year/100), ones(year/100)
	b[2], b[3] = tens(year%100), ones(year%100)
	b[5], b[6] = tens(c.month), ones(c.month)
	b[8], b[9] = tens(c.day), ones(c.day)
	b[11], b[12] = tens(clock/3600), ones(clock/3600)
	b[14], b[15] = tens(clock/60%60), ones(clock/60%60)
	b[17], b[18] = tens(clock%60), ones(clock%60)
	dst = append(dst, b[:]...)
	return appendFraction(dst, micros-seconds*microsPerSecond)
}

func tens(v int) byte { return byte('0' + v/10) }
func ones(v int) byte { return byte('0' + v%10) }

func appendCivil(dst []byte, c civil) []byte {
	year := unsignedYear(c.year)
	if year < 10_000 {
		dst = appendPair(dst, int(year/100))
		dst = appendPair(dst, int(year%100))
	} else {
		dst = strconv.AppendInt(dst, year, 10)
	}
	dst = append(dst, '-')
	dst = appendPair(dst, c.month)
	dst = append(dst, '-')
	return appendPair(dst, c.day)
}

func appendEra(dst []byte, year int64) []byte {
	if year <= 0 {
		dst = append(dst, " BC"...)
	}
	return dst
}

// appendOffset appends a zone as +HH[:MM[:SS]].
func appendOffset(dst []byte, seconds int) []byte {
	dst = append(dst, signOf(seconds < 0))
	seconds = abs(seconds)
	dst = appendPair(dst, seconds/3600)
	if seconds%3600 != 0 {
		dst = append(dst, ':')
		dst = appendPair(dst, seconds/60%60)
		if seconds%60 != 0 {
			dst = append(dst, ':')
			dst = appendPair(dst, seconds%60)
		}
	}
	return dst
}

func appendInfinity(dst []byte, negative bool) []byte {
	if negative {
		dst = append(dst, '-')
	}
	return append(dst, "infinity"...)
}

// appendPair appends a number under 100 as two digits; a larger one as it is.
func appendPair(dst []byte, v int) []byte {
	if v >= 100 {
		return strconv.AppendInt(dst, int64(v), 10)
	}
	return append(dst, tens(v), ones(v))
}

// appendPadded appends a number that is not negative, with zeros before it up
// to the width.
func appendPadded(dst []byte, v int64, width int) []byte {
	digits := 1
	for w := v; w >= 10; w /= 10 {
		digits++
	}
	for ; digits < width; digits++ {
		dst = append(dst, '0')
	}
	return strconv.AppendInt(dst, v, 10)
}

func signOf(negative bool) byte {
	if negative {
		return '-'
	}
	return '+'
}

func abs(v int) int {
	if v < 0 {
		return -v
	}
	return v
}
