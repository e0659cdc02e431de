package pgtext

import (
	"math"
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
		if inf < 0 {
			return minInt32, nil
		}
		return maxInt32, nil
	}
	if !p.date() {
		return 0, datetimeSyntax("date", dateForm)
	}
	p.era()
	if !p.end() {
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
