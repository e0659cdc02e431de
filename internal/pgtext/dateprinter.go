package pgtext

import "strings"

// datePrinter writes one timestamp in a DateFormat.
type datePrinter struct {
	dst          []byte
	days, micros int64
	date         civil
	offset       int    // seconds east of UTC
	zone         string // abbreviation
}

func (p *datePrinter) node(n *dateNode) {
	switch {
	case n.dateKeyword == nil:
		p.dst = append(p.dst, n.literal...)
	case n.print != nil:
		n.print(p, n)
	case n.word != nil:
		p.word(n, n.dateKeyword.word(p), n.width)
	default:
		start := len(p.dst)
		p.number(n, n.dateKeyword.number(p), n.width)
		p.ordinal(n.ordinal, start)
	}
}

// word prints a word in the letter case of the pattern, padded to width.
func (p *datePrinter) word(n *dateNode, s string, width int) {
	for i := range len(s) {
		c := s[i]
		switch {
		case (n.style == upperCase || n.style == titleCase && i == 0) && c >= 'a' && c <= 'z':
			c -= 'a' - 'A'
		case (n.style == lowerCase || n.style == titleCase && i > 0) && c >= 'A' && c <= 'Z':
			c += 'a' - 'A'
		}
		p.dst = append(p.dst, c)
	}
	if !n.fill {
		for range width - len(s) {
			p.dst = append(p.dst, ' ')
		}
	}
}

// number prints v with at least width digits.
func (p *datePrinter) number(n *dateNode, v int64, width int) {
	if n.fill {
		width = 1
	}
	if v < 0 {
		p.dst = append(p.dst, '-')
		v = -v
	}
	p.dst = appendPadded(p.dst, v, width)
}

func (p *datePrinter) meridiem() string { return p.dottedMeridiem()[:1] + "M" }

func (p *datePrinter) dottedMeridiem() string {
	if p.micros >= microsPerDay/2 {
		return "P.M."
	}
	return "A.M."
}

func (p *datePrinter) era() string {
	if p.date.year <= 0 {
		return "BC"
	}
	return "AD"
}

func (p *datePrinter) dottedEra() string { return p.era()[:1] + "." + p.era()[1:] + "." }

func (p *datePrinter) romanMonth() string {
	return [...]string{"I", "II", "III", "IV", "V", "VI", "VII", "VIII", "IX", "X", "XI", "XII"}[p.date.month-1]
}

func (p *datePrinter) hour12() int64 { return (p.micros/microsPerHour+11)%12 + 1 }

func (p *datePrinter) secondOfDay() int64 { return p.micros / microsPerSecond }

func (p *datePrinter) isoWeek() int64 {
	_, week := isoWeek(p.days)
	return int64(week)
}

func (p *datePrinter) year() int64 { return unsignedYear(p.date.year) }

func (p *datePrinter) isoYear() int64 {
	year, _ := isoWeek(p.days)
	return unsignedYear(year)
}

// unsignedYear counts years without sign, BC being a pattern of its own.
func unsignedYear(year int64) int64 {
	if year <= 0 {
		return 1 - year
	}
	return year
}

func (p *datePrinter) yearComma(n *dateNode) {
	start := len(p.dst)
	p.number(n, p.year()/1000, 1)
	p.dst = append(p.dst, ',')
	p.dst = appendPadded(p.dst, p.year()%1000, 3)
	p.ordinal(n.ordinal, start)
}

// century counts down before Christ, by another formula (formatting.c).
func (p *datePrinter) century() int64 {
	if p.date.year > 0 {
		return (p.date.year-1)/100 + 1
	}
	return p.date.year/100 - 1
}

// zoneName prints upper case as the time zone database has the name.
func (p *datePrinter) zoneName(n *dateNode) {
	if n.style == upperCase {
		p.dst = append(p.dst, p.zone...)
		return
	}
	p.word(n, p.zone, 0)
}

func (p *datePrinter) zoneHour(*dateNode) {
	p.dst = append(p.dst, signOf(p.offset < 0))
	p.dst = appendPair(p.dst, abs(p.offset)/3600)
}

func (p *datePrinter) zoneMinute(*dateNode) { p.dst = appendPair(p.dst, abs(p.offset)/60%60) }

func (p *datePrinter) zoneOffset(n *dateNode) {
	p.dst = append(p.dst, signOf(p.offset < 0))
	p.number(n, int64(abs(p.offset)/3600), 2)
	if abs(p.offset)%3600 != 0 {
		p.dst = append(p.dst, ':')
		p.zoneMinute(n)
	}
}

func signOf(negative bool) byte {
	if negative {
		return '-'
	}
	return '+'
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

func abs(v int) int {
	if v < 0 {
		return -v
	}
	return v
}
