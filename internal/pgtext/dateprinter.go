package pgtext

import (
	"strings"
	"time"
)

// datePrinter writes one timestamp in a DateFormat.
type datePrinter struct {
	dst          []byte
	days, micros int64
	date         civil
	offset       int    // seconds east of UTC
	zone         string // abbreviation
}

func (p *datePrinter) node(n *dateNode) {
	switch n.pattern {
	case dateLiteral:
		p.dst = append(p.dst, n.literal...)
	case dateMeridiem, dateMeridiemDots, dateEra, dateEraDots, dateZoneName,
		dateMonthName, dateMonthShort, dateDayName, dateDayShort, dateRomanMonth:
		p.name(n)
	case dateZoneHour:
		p.sign()
		p.dst = appendPair(p.dst, abs(p.offset)/3600)
	case dateZoneMinute:
		p.dst = appendPair(p.dst, abs(p.offset)/60%60)
	case dateZoneOffset:
		p.sign()
		p.number(int64(abs(p.offset)/3600), 2, n.fill)
		if abs(p.offset)%3600 != 0 {
			p.dst = append(p.dst, ':')
			p.dst = appendPair(p.dst, abs(p.offset)/60%60)
		}
	case dateNothing:
	default:
		start := len(p.dst)
		p.numeral(n)
		p.ordinal(n.ordinal, start)
	}
}

func (p *datePrinter) name(n *dateNode) {
	width := 0
	var s string
	switch n.pattern {
	case dateMeridiem, dateMeridiemDots:
		s = "AM"
		if p.micros >= microsPerDay/2 {
			s = "PM"
		}
	case dateEra, dateEraDots:
		s = "AD"
		if p.date.year <= 0 {
			s = "BC"
		}
	case dateZoneName:
		s = p.zone
		if n.style == upperCase {
			p.dst = append(p.dst, s...) // as the time zone database has it
			return
		}
	case dateMonthName:
		s, width = time.Month(p.date.month).String(), 9
	case dateMonthShort:
		s = time.Month(p.date.month).String()[:3]
	case dateDayName:
		s, width = time.Weekday(weekday(p.days)).String(), 9
	case dateDayShort:
		s = time.Weekday(weekday(p.days)).String()[:3]
	case dateRomanMonth:
		s, width = romanMonth(p.date.month), 4
	}
	if n.pattern == dateMeridiemDots || n.pattern == dateEraDots {
		p.letter(s[0], n.style)
		p.dst = append(p.dst, '.')
		p.letter(s[1], n.style)
		p.dst = append(p.dst, '.')
		return
	}
	for i := range len(s) {
		style := n.style
		if style == titleCase && i == 0 {
			style = upperCase
		} else if style == titleCase {
			style = lowerCase
		}
		p.letter(s[i], style)
	}
	if !n.fill {
		for range width - len(s) {
			p.dst = append(p.dst, ' ')
		}
	}
}

func (p *datePrinter) letter(c byte, style letterCase) {
	switch {
	case style == upperCase && c >= 'a' && c <= 'z':
		c -= 'a' - 'A'
	case style == lowerCase && c >= 'A' && c <= 'Z':
		c += 'a' - 'A'
	}
	p.dst = append(p.dst, c)
}

func (p *datePrinter) numeral(n *dateNode) {
	year := p.date.year
	switch n.pattern {
	case dateISOYear4, dateISOYear3, dateISOYear2, dateISOYear1:
		year, _ = isoWeek(p.days)
	}
	if year <= 0 {
		year = 1 - year // years are counted without sign, BC being another pattern
	}
	switch n.pattern {
	case dateHour12:
		p.number((p.micros/microsPerHour+11)%12+1, 2, n.fill)
	case dateHour24:
		p.number(p.micros/microsPerHour, 2, n.fill)
	case dateMinute:
		p.number(p.micros/microsPerMinute%60, 2, n.fill)
	case dateSecond:
		p.number(p.micros/microsPerSecond%60, 2, n.fill)
	case dateFraction1, dateFraction2, dateFraction3, dateFraction4, dateFraction5, dateFraction6:
		p.fraction(int(n.pattern-dateFraction1) + 1)
	case dateSecondsOfDay:
		p.number(p.micros/microsPerSecond, 1, n.fill)
	case dateMonth:
		p.number(int64(p.date.month), 2, n.fill)
	case dateDayOfYear:
		p.number(int64(yearDay(p.days, p.date.year)), 3, n.fill)
	case dateISODayOfYear:
		p.number(int64(isoYearDay(p.days)), 3, n.fill)
	case dateDay:
		p.number(int64(p.date.day), 2, n.fill)
	case dateDayOfWeek:
		p.number(int64(weekday(p.days))+1, 1, n.fill)
	case dateISODayOfWeek:
		p.number(int64(isoWeekday(p.days)), 1, n.fill)
	case dateWeekOfYear:
		p.number(int64(yearDay(p.days, p.date.year)-1)/7+1, 2, n.fill)
	case dateISOWeek:
		_, week := isoWeek(p.days)
		p.number(int64(week), 2, n.fill)
	case dateWeekOfMonth:
		p.number(int64(p.date.day-1)/7+1, 1, n.fill)
	case dateQuarter:
		p.number(int64(p.date.month-1)/3+1, 1, n.fill)
	case dateCentury:
		p.century(n.fill)
	case dateJulian:
		p.number(p.days+julianEpoch, 1, n.fill)
	case dateYearComma:
		p.number(year/1000, 1, n.fill)
		p.dst = append(p.dst, ',')
		p.dst = appendPadded(p.dst, year%1000, 3)
	case dateYear4, dateISOYear4:
		p.number(year, 4, n.fill)
	case dateYear3, dateISOYear3:
		p.number(year%1000, 3, n.fill)
	case dateYear2, dateISOYear2:
		p.number(year%100, 2, n.fill)
	case dateYear1, dateISOYear1:
		p.number(year%10, 1, n.fill)
	}
}

func (p *datePrinter) number(v int64, width int, fill bool) {
	if fill {
		width = 1
	}
	p.dst = appendPadded(p.dst, v, width)
}

func (p *datePrinter) fraction(digits int) {
	v := p.micros % microsPerSecond
	for range 6 - digits {
		v /= 10
	}
	p.dst = appendPadded(p.dst, v, digits)
}

func (p *datePrinter) century(fill bool) {
	if p.date.year > 0 {
		p.number((p.date.year-1)/100+1, 2, fill)
		return
	}
	p.dst = append(p.dst, '-')
	p.number(1-p.date.year/100, 2, fill)
}

func (p *datePrinter) sign() {
	if p.offset < 0 {
		p.dst = append(p.dst, '-')
	} else {
		p.dst = append(p.dst, '+')
	}
}

// ordinal appends st, nd, rd or th to the number that begins at start.
func (p *datePrinter) ordinal(form string, start int) {
	if form == "" {
		return
	}
	suffix := ordinalSuffix(p.dst[start:])
	if form == "TH" {
		suffix = strings.ToUpper(suffix)
	}
	p.dst = append(p.dst, suffix...)
}

func ordinalSuffix(number []byte) string {
	n := len(number)
	if n > 1 && number[n-2] == '1' {
		return "th"
	}
	switch number[n-1] {
	case '1':
		return "st"
	case '2':
		return "nd"
	case '3':
		return "rd"
	}
	return "th"
}

func romanMonth(month int) string {
	return [...]string{"I", "II", "III", "IV", "V", "VI", "VII", "VIII", "IX", "X", "XI", "XII"}[month-1]
}

func abs(v int) int {
	if v < 0 {
		return -v
	}
	return v
}
