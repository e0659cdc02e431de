package pgtext

import (
	"bytes"
	"math"
	"strings"
	"time"
)

// DateOrder is the order of the numbers in 01/02/2026: the second half of the setting
// DateStyle.
type DateOrder uint8

// The orders. Without one, texts that depend on it are refused.
const (
	OrderUnknown DateOrder = iota
	OrderMDY
	OrderDMY
	OrderYMD
)

// ParseDateOrder reads the setting DateStyle, such as "ISO, DMY".
func ParseDateOrder(datestyle string) DateOrder {
	_, order, _ := strings.Cut(datestyle, ", ")
	return map[string]DateOrder{"MDY": OrderMDY, "DMY": OrderDMY, "YMD": OrderYMD}[order]
}

// String is the order as ParseDateOrder reads it behind a comma; empty: unknown.
func (o DateOrder) String() string { return [...]string{"", "MDY", "DMY", "YMD"}[o] }

// ReadDate is the input function of date: besides what ParseDate reads, months by name
// ('8 Jan 1999', 'January 8, 1999'), 20260131, 31/01/2026 by the order, and a time and a
// zone behind the date, which are ignored. What the server's time decides (today), names
// of time zones and days of the year are refused.
func ReadDate(s []byte, order DateOrder) (int32, error) {
	d, err := ParseDate(s)
	if !isSyntax(err) {
		return d, err
	}
	p := inputParser{datetimeParser: datetimeParser{s: trimSpace(s)}, order: order}
	if p.epoch() {
		return TimestampToDate(epochTimestamp), nil
	}
	if err := p.moment(err); err != nil {
		return 0, err
	}
	days, ok := p.days()
	if !ok || !p.validTime() || days < MinDate || days > MaxDate {
		return 0, dateRange("date")
	}
	return int32(days), nil
}

// ReadTimestamp is the input function of timestamp, which ignores a zone; its dates are
// those of ReadDate, and its times may be 10:11 pm, 101112 and 1011.
func ReadTimestamp(s []byte, order DateOrder) (int64, error) {
	t, err := ParseTimestamp(s)
	if !isSyntax(err) {
		return t, err
	}
	p := inputParser{datetimeParser: datetimeParser{s: trimSpace(s)}, order: order}
	if p.epoch() {
		return epochTimestamp, nil
	}
	if t, err = p.instant(err); err != nil {
		return 0, err
	}
	return CheckTimestamp(t)
}

// ReadTimestampTZ is the input function of timestamptz; where ReadTimestamp ignores a
// zone, it counts: an offset, UTC or GMT. Without one the time is local in the location.
func ReadTimestampTZ(s []byte, order DateOrder, loc *time.Location) (int64, error) {
	t, err := ParseTimestampTZ(s, loc)
	if !isSyntax(err) {
		return t, err
	}
	p := inputParser{datetimeParser: datetimeParser{s: trimSpace(s)}, order: order}
	if p.epoch() {
		return epochTimestamp, nil
	}
	if t, err = p.instant(err); err != nil {
		return 0, err
	}
	if p.zoned {
		t -= p.zone * microsPerSecond
	} else {
		t = LocalToUTC(t, loc)
	}
	return CheckTimestamp(t)
}

// ReadTime is the input function of time, which ignores an offset and a date in ISO form.
func ReadTime(s []byte) (int64, error) {
	t, err := ParseTime(s)
	if !isSyntax(err) {
		return t, err
	}
	p := inputParser{datetimeParser: datetimeParser{s: trimSpace(s)}}
	if bytes.EqualFold(p.s, []byte("allballs")) {
		return 0, nil
	}
	if dated := p; dated.date() && len(dated.s) > 0 && isSpace(dated.s[0]) && dated.separator() && dated.time() {
		if _, ok := dated.days(); !ok {
			return 0, dateRange("time")
		}
		dated.s = p.s[bytes.IndexAny(p.s, " \t\n\v\f\r"):]
		dated.s = skipSpace(dated.s)
		p = dated
	} else if len(p.s) > 1 && (p.s[0] == 'T' || p.s[0] == 't') && isDigit(p.s[1]) {
		p.s = p.s[1:]
	}
	if !p.clock() || !p.offset() || !p.end() {
		return 0, err
	}
	if !p.validTime() {
		return 0, dateRange("time")
	}
	return p.micros, nil
}

// epochTimestamp is 1970-01-01 00:00.
const epochTimestamp = -unixEpoch * microsPerSecond

func isSyntax(err error) bool {
	known, ok := err.(*Error) //nolint:errorlint // as this package returns it
	return ok && known.Code == codeDatetimeSyntax
}

// inputParser reads the forms that PostgreSQL accepts besides ISO's.
type inputParser struct {
	datetimeParser
	order     DateOrder
	twoDigits bool // of the year
	weekday   bool // stands before the date
}

func (p *inputParser) epoch() bool { return bytes.EqualFold(p.s, []byte("epoch")) }

// instant reads a whole text as a local time.
func (p *inputParser) instant(syntax error) (int64, error) {
	if err := p.moment(syntax); err != nil {
		return 0, err
	}
	days, ok := p.days()
	if !ok || !p.validTime() || days < MinDate || days > math.MaxInt64/microsPerDay-1 {
		return 0, dateRange("timestamp")
	}
	t := days*microsPerDay + p.micros
	if !p.zoned && !validTimestamp(t) {
		return 0, dateRange("timestamp")
	}
	return t, nil
}

// moment reads a date, perhaps with a time, a zone and an era; syntax is its error.
func (p *inputParser) moment(syntax error) error {
	if p.word(isWeekday) { // which PostgreSQL does not compare with the date
		p.weekday = true
		p.s = bytes.TrimLeft(p.s, " ,")
	}
	if ok, err := p.anyDate(); !ok || err != nil {
		if err == nil {
			err = syntax
		}
		return err
	}
	if p.separator() && (!p.clock() || !p.offset()) {
		return syntax
	}
	if rest := skipSpace(p.s); !p.zoned && len(rest) < len(p.s) {
		zone := *p
		zone.s = rest
		if zone.word(func(w string) bool { return w == "utc" || w == "gmt" }) {
			*p = zone
			p.zoned = true
		}
	}
	if !p.era() {
		return syntax
	}
	if p.twoDigits && !p.bc {
		if p.year += 1900; p.year < 1970 {
			p.year += 100
		}
	}
	return nil
}

// anyDate reads a date in one of the forms.
func (p *inputParser) anyDate() (bool, error) {
	if len(p.s) > 0 && !isDigit(p.s[0]) {
		return p.monthFirst()
	}
	first, n := p.digits(9)
	switch {
	case n == 0 || n > 8:
		return false, nil
	case p.atBoundary() && (n == 8 || n == 6):
		p.year, p.month, p.day, p.twoDigits = first/10000, first/100%100, first%100, n == 6
		return true, nil
	}
	separator, ok := p.between()
	if !ok || n > 5 {
		return false, nil
	}
	if p.word(p.isMonth) {
		if again, ok := p.between(); !ok || again != separator {
			return false, nil
		}
		last, m := p.digits(6)
		return p.named(separator, first, n, last, m)
	}
	if separator == ' ' || p.weekday {
		return false, nil
	}
	second, m := p.digits(3)
	if m < 1 || m > 2 || !p.take(separator) {
		return false, nil
	}
	third, k := p.digits(6)
	return p.numbers(first, second, third, n, k)
}

// monthFirst reads a month's name, and then two numbers.
func (p *inputParser) monthFirst() (bool, error) {
	if !p.word(p.isMonth) {
		return false, nil
	}
	separator, ok := p.between()
	first, n := p.digits(6)
	if !ok || n == 0 {
		return false, nil
	}
	if again, ok := p.between(); !ok || again != separator {
		return false, nil
	}
	last, m := p.digits(6)
	return p.named(separator, first, n, last, m)
}

// named has a month by name and two numbers, of n and m digits: what has three digits or
// more is the year.
func (p *inputParser) named(separator byte, first int64, n int, last int64, m int) (bool, error) {
	switch {
	case n < 1 || n > 5 || m < 1 || m > 5 || n > 2 && m > 2 || !p.atBoundary(), separator != ' ' && len(p.s) > 0 && !isSpace(p.s[0]):
		return false, nil
	case n > 2:
		p.year, p.day = first, last
	case m > 2:
		p.day, p.year = first, last
	case p.order == OrderUnknown:
		return false, errDateOrder
	case p.order == OrderYMD:
		p.year, p.day, p.twoDigits = first, last, true
	default:
		p.day, p.year, p.twoDigits = first, last, true
	}
	return true, nil
}

// numbers has three numbers, the first of n digits and the third of k.
func (p *inputParser) numbers(first, second, third int64, n, k int) (bool, error) {
	switch {
	case k < 1 || !p.atBoundary():
		return false, nil
	case n > 2:
		p.year, p.month, p.day = first, second, third
		return k <= 2, nil
	case p.order == OrderUnknown:
		return false, errDateOrder
	case p.order == OrderYMD:
		p.year, p.month, p.day, p.twoDigits = first, second, third, true
		return k <= 2, nil
	case p.order == OrderDMY:
		p.day, p.month = first, second
	default:
		p.month, p.day = first, second
	}
	p.year, p.twoDigits = third, k <= 2
	return true, nil
}

var errDateOrder = &Error{Code: codeUnsupported, Message: "the text is not read here as a date: the order of its numbers depends on DateStyle; write YYYY-MM-DD, such as 2026-01-31"}

// atBoundary: the date ends here.
func (p *inputParser) atBoundary() bool {
	return len(p.s) == 0 || isSpace(p.s[0]) || (p.s[0]|0x20) == 't' && len(p.s) > 1 && isDigit(p.s[1])
}

// between reads what separates the parts of a date: - / or ., or blanks and commas, for
// which it returns a blank.
func (p *inputParser) between() (byte, bool) {
	if len(p.s) == 0 {
		return 0, false
	}
	if c := p.s[0]; c == '-' || c == '/' || c == '.' {
		p.s = p.s[1:]
		return c, true
	}
	rest := bytes.TrimLeft(p.s, " ,")
	ok := len(rest) < len(p.s)
	p.s = rest
	return ' ', ok
}

// word reads a word of letters if it is one of those.
func (p *inputParser) word(is func(string) bool) bool {
	n := 0
	for n < len(p.s) && p.s[n]|0x20 >= 'a' && p.s[n]|0x20 <= 'z' {
		n++
	}
	if n == 0 || n > len("wednesday") || !is(strings.ToLower(string(p.s[:n]))) {
		return false
	}
	p.s = p.s[n:]
	return true
}

const (
	weekdayNames = " mon monday tue tues tuesday wed weds wednesday thu thur thurs thursday fri friday sat saturday sun sunday "
	monthNames   = " jan1 january1 feb2 february2 mar3 march3 apr4 april4 may5 jun6 june6 jul7 july7 aug8 august8 sep9 sept9 september9 oct10 october10 nov11 november11 dec12 december12 "
)

func isWeekday(word string) bool { return strings.Contains(weekdayNames, " "+word+" ") }

// isMonth sets the month that the word names.
func (p *inputParser) isMonth(word string) bool {
	_, rest, found := strings.Cut(monthNames, " "+word)
	if !found || !isDigit(rest[0]) {
		return false
	}
	p.month = int64(rest[0] - '0')
	if isDigit(rest[1]) {
		p.month = p.month*10 + int64(rest[1]-'0')
	}
	return true
}

// clock reads HH:MM[:SS[.f]], HHMMSS or HHMM, and am or pm behind it.
func (p *inputParser) clock() bool {
	n := 0
	for n < len(p.s) && isDigit(p.s[n]) {
		n++
	}
	switch {
	case (n == 4 || n == 6) && (n == len(p.s) || p.s[n] != ':' && p.s[n] != '.'):
		v, _ := p.digits(n)
		if n == 4 {
			v *= 100
		}
		p.hour, p.minute, p.second = v/10000, v/100%100, v%100
		p.micros = p.hour*microsPerHour + p.minute*microsPerMinute + p.second*microsPerSecond
	case !p.time():
		return false
	}
	at := *p
	at.s = skipSpace(p.s)
	pm := at.word(func(w string) bool { return w == "pm" })
	if !pm && !at.word(func(w string) bool { return w == "am" }) {
		return true
	}
	p.s = at.s
	hour := p.hour % 12
	if pm {
		hour += 12
	}
	if p.hour > 12 {
		hour = 25 // out of range
	}
	p.micros += (hour - p.hour) * microsPerHour
	p.hour = hour
	return true
}
