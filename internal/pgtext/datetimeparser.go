package pgtext

import (
	"bytes"
	"math"
	"strconv"
)

// datetimeParser reads the ISO forms of dates and times, the long way.
type datetimeParser struct {
	s []byte

	year, month, day int64
	bc               bool

	hour, minute, second int64
	micros               int64 // of the whole time of day

	zoned bool
	zone  int64 // seconds east of UTC
}

func (p *datetimeParser) timestamp(what, form string) (int64, error) {
	if inf, ok := p.infinity(); ok {
		return inf, nil
	}
	if !p.date() || p.separator() && (!p.time() || !p.offset()) || !p.era() {
		return 0, datetimeSyntax(what, form)
	}
	days, ok := p.days()
	if !ok || !p.validTime() || days < MinDate || days > math.MaxInt64/microsPerDay-1 {
		return 0, dateRange("timestamp")
	}
	t := days*microsPerDay + p.micros
	// A zone may still move the time into the range, or out of it.
	if !p.zoned && !validTimestamp(t) {
		return 0, dateRange("timestamp")
	}
	return t, nil
}

// infinity reads infinity and -infinity, whole.
func (p *datetimeParser) infinity() (int64, bool) {
	if bytes.EqualFold(p.s, []byte("infinity")) {
		return Infinity, true
	}
	if bytes.EqualFold(p.s, []byte("-infinity")) {
		return NegInfinity, true
	}
	return 0, false
}

// date reads a year of at least four digits, a month and a day.
func (p *datetimeParser) date() bool {
	var n int
	if p.year, n = p.digits(7); n < 4 || !p.take('-') {
		return false
	}
	if p.month, n = p.digits(2); n < 1 || !p.take('-') {
		return false
	}
	p.day, n = p.digits(2)
	return n >= 1
}

// separator reads the blanks or the T before a time.
func (p *datetimeParser) separator() bool {
	if len(p.s) >= 2 && (p.s[0] == 'T' || p.s[0] == 't') && isDigit(p.s[1]) {
		p.s = p.s[1:]
		return true
	}
	rest := skipSpace(p.s)
	if len(rest) == len(p.s) || len(rest) == 0 || !isDigit(rest[0]) {
		return false
	}
	p.s = rest
	return true
}

// time reads HH:MM[:SS[.f...]].
func (p *datetimeParser) time() bool {
	var n int
	if p.hour, n = p.digits(2); n < 1 || !p.take(':') {
		return false
	}
	if p.minute, n = p.digits(2); n < 1 {
		return false
	}
	var fraction int64
	if p.take(':') {
		if p.second, n = p.digits(2); n < 1 {
			return false
		}
		var ok bool
		if fraction, ok = p.fraction(); !ok {
			return false
		}
	}
	p.micros = p.hour*microsPerHour + p.minute*microsPerMinute + p.second*microsPerSecond + fraction
	return true
}

// fraction reads the part of a second that follows a point, as microseconds.
// What is finer is rounded in floating point, because PostgreSQL does.
func (p *datetimeParser) fraction() (int64, bool) {
	if len(p.s) == 0 || p.s[0] != '.' {
		return 0, true
	}
	n := 1
	for n < len(p.s) && isDigit(p.s[n]) {
		n++
	}
	text := p.s[:n]
	p.s = p.s[n:]
	if n == 1 {
		return 0, true
	}
	if n <= 7 {
		var v int64
		for i := 1; i <= 6; i++ {
			v *= 10
			if i < n {
				v += int64(text[i] - '0')
			}
		}
		return v, true
	}
	f, err := strconv.ParseFloat("0"+string(text), 64)
	if err != nil {
		return 0, false
	}
	return int64(math.RoundToEven(f * microsPerSecond)), true
}

// validTime checks the fields; 24:00:00 and a second of 60 are times.
func (p *datetimeParser) validTime() bool {
	return p.hour <= 24 && p.minute < 60 && p.second <= 60 && p.micros <= microsPerDay
}

// offset reads the zone after a time, if there is one.
func (p *datetimeParser) offset() bool {
	rest := skipSpace(p.s)
	if len(rest) == 0 {
		return true
	}
	switch rest[0] {
	case 'Z', 'z':
		p.s, p.zoned = rest[1:], true
		return true
	case '+', '-':
	default:
		return true
	}
	negative := rest[0] == '-'
	p.s, p.zoned = rest[1:], true
	hour, n := p.digits(4)
	var minute, second int64
	switch {
	case n == 4:
		hour, minute = hour/100, hour%100
	case n != 1 && n != 2:
		return false
	case p.take(':'):
		if minute, n = p.digits(2); n != 2 {
			return false
		}
		if p.take(':') {
			if second, n = p.digits(2); n != 2 {
				return false
			}
		}
	}
	if hour > 15 || minute > 59 || second > 59 { // PostgreSQL's limit: less than 16 hours
		return false
	}
	p.zone = hour*3600 + minute*60 + second
	if negative {
		p.zone = -p.zone
	}
	return true
}

// era reads BC or AD, if it is there, and reports whether the text ends behind it.
func (p *datetimeParser) era() bool {
	if rest := skipSpace(p.s); len(rest) >= 2 && len(rest) < len(p.s) {
		p.bc = bytes.EqualFold(rest[:2], []byte("bc"))
		if p.bc || bytes.EqualFold(rest[:2], []byte("ad")) {
			p.s = rest[2:]
		}
	}
	return p.end()
}

func (p *datetimeParser) end() bool { return len(p.s) == 0 }

// days checks the calendar and returns the days since 2000-01-01.
func (p *datetimeParser) days() (int64, bool) {
	year := p.year
	if p.bc {
		year = 1 - year
	}
	days, ok := checkedDays(year, p.month, p.day)
	return days, ok && p.year != 0
}

// digits reads up to max digits and returns how many there were.
func (p *datetimeParser) digits(limit int) (v int64, n int) {
	for n < len(p.s) && n < limit && isDigit(p.s[n]) {
		v = v*10 + int64(p.s[n]-'0')
		n++
	}
	p.s = p.s[n:]
	return v, n
}

func (p *datetimeParser) take(c byte) bool {
	if len(p.s) > 0 && p.s[0] == c {
		p.s = p.s[1:]
		return true
	}
	return false
}

// skipSpace returns what follows the blanks at the start.
func skipSpace(s []byte) []byte {
	for len(s) > 0 && isSpace(s[0]) {
		s = s[1:]
	}
	return s
}

func isDigit(c byte) bool { return c-'0' <= 9 }
