package pgtext

import (
	"strconv"
	"time"
)

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
	year := c.year
	if year <= 0 {
		year = 1 - year
	}
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
	sign := byte('+')
	if seconds < 0 {
		sign, seconds = '-', -seconds
	}
	dst = append(dst, sign)
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
