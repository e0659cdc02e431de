package pgtext

import (
	"slices"
	"strings"
	"time"
	"unicode/utf8"
)

// DateFormat is a compiled format of to_char(timestamp, format) and
// to_char(date, format). It is immutable.
type DateFormat struct {
	nodes []dateNode
	empty bool // the empty format, which gives null
}

// dateNode is a piece of the format: literal text, or a keyword.
type dateNode struct {
	literal string
	*dateKeyword
	style   letterCase // of names
	fill    bool       // FM: no padding
	ordinal string     // "TH" or "th" after the number
}

type letterCase uint8

const (
	upperCase letterCase = iota
	titleCase
	lowerCase
)

// dateKeyword is a pattern, which is printed as a number of at least width
// digits, as a name padded to width, or in a way of its own.
type dateKeyword struct {
	name   string
	style  letterCase
	width  int
	number func(p *datePrinter) int64
	word   func(p *datePrinter) string
	print  func(p *datePrinter, n *dateNode)
}

func numberKeyword(name string, width int, of func(p *datePrinter) int64) dateKeyword {
	return dateKeyword{name: name, width: width, number: of}
}

func wordKeyword(name string, style letterCase, width int, of func(p *datePrinter) string) dateKeyword {
	return dateKeyword{name: name, style: style, width: width, word: of}
}

// dateKeywords are the patterns, a longer one before one that it begins with.
// Those without letter case of their own are looked up in either.
func dateKeywords() []dateKeyword {
	return slices.Concat(dateWords(), []dateKeyword{
		numberKeyword("CC", 2, (*datePrinter).century),
		numberKeyword("DDD", 3, func(p *datePrinter) int64 { return int64(yearDay(p.days, p.date.year)) }),
		numberKeyword("DD", 2, func(p *datePrinter) int64 { return int64(p.date.day) }),
		numberKeyword("D", 1, func(p *datePrinter) int64 { return int64(weekday(p.days)) + 1 }),
		fractionKeyword("FF1", 1), fractionKeyword("FF2", 2), fractionKeyword("FF3", 3), fractionKeyword("FF4", 4), fractionKeyword("FF5", 5), fractionKeyword("FF6", 6),
		{name: "FX", print: func(*datePrinter, *dateNode) {}}, // it has a meaning for to_date only
		numberKeyword("HH24", 2, func(p *datePrinter) int64 { return p.micros / microsPerHour }),
		numberKeyword("HH12", 2, (*datePrinter).hour12),
		numberKeyword("HH", 2, (*datePrinter).hour12),
		numberKeyword("IDDD", 3, func(p *datePrinter) int64 { return int64(isoYearDay(p.days)) }),
		numberKeyword("ID", 1, func(p *datePrinter) int64 { return int64(isoWeekday(p.days)) }),
		numberKeyword("IW", 2, (*datePrinter).isoWeek),
		numberKeyword("IYYY", 4, (*datePrinter).isoYear),
		numberKeyword("IYY", 3, func(p *datePrinter) int64 { return p.isoYear() % 1000 }),
		numberKeyword("IY", 2, func(p *datePrinter) int64 { return p.isoYear() % 100 }),
		numberKeyword("I", 1, func(p *datePrinter) int64 { return p.isoYear() % 10 }),
		numberKeyword("J", 1, func(p *datePrinter) int64 { return p.days + julianEpoch }),
		numberKeyword("MI", 2, func(p *datePrinter) int64 { return p.micros / microsPerMinute % 60 }),
		numberKeyword("MM", 2, func(p *datePrinter) int64 { return int64(p.date.month) }),
		fractionKeyword("MS", 3),
		{name: "OF", print: (*datePrinter).zoneOffset},
		numberKeyword("Q", 1, func(p *datePrinter) int64 { return int64(p.date.month-1)/3 + 1 }),
		numberKeyword("SSSSS", 1, (*datePrinter).secondOfDay),
		numberKeyword("SSSS", 1, (*datePrinter).secondOfDay),
		numberKeyword("SS", 2, func(p *datePrinter) int64 { return p.secondOfDay() % 60 }),
		{name: "TZH", print: (*datePrinter).zoneHour},
		{name: "TZM", print: (*datePrinter).zoneMinute},
		{name: "TZ", print: (*datePrinter).zoneName},
		fractionKeyword("US", 6),
		numberKeyword("WW", 2, func(p *datePrinter) int64 { return int64(yearDay(p.days, p.date.year)-1)/7 + 1 }),
		numberKeyword("W", 1, func(p *datePrinter) int64 { return int64(p.date.day-1)/7 + 1 }),
		{name: "Y,YYY", print: (*datePrinter).yearComma},
		numberKeyword("YYYY", 4, (*datePrinter).year),
		numberKeyword("YYY", 3, func(p *datePrinter) int64 { return p.year() % 1000 }),
		numberKeyword("YY", 2, func(p *datePrinter) int64 { return p.year() % 100 }),
		numberKeyword("Y", 1, func(p *datePrinter) int64 { return p.year() % 10 }),
	})
}

func dateWords() []dateKeyword {
	month := func(p *datePrinter) string { return time.Month(p.date.month).String() }
	shortMonth := func(p *datePrinter) string { return month(p)[:3] }
	day := func(p *datePrinter) string { return time.Weekday(weekday(p.days)).String() }
	shortDay := func(p *datePrinter) string { return day(p)[:3] }
	return []dateKeyword{
		wordKeyword("A.D.", upperCase, 0, (*datePrinter).dottedEra), wordKeyword("B.C.", upperCase, 0, (*datePrinter).dottedEra),
		wordKeyword("AD", upperCase, 0, (*datePrinter).era), wordKeyword("BC", upperCase, 0, (*datePrinter).era),
		wordKeyword("A.M.", upperCase, 0, (*datePrinter).dottedMeridiem), wordKeyword("P.M.", upperCase, 0, (*datePrinter).dottedMeridiem),
		wordKeyword("AM", upperCase, 0, (*datePrinter).meridiem), wordKeyword("PM", upperCase, 0, (*datePrinter).meridiem),
		wordKeyword("DAY", upperCase, 9, day), wordKeyword("Day", titleCase, 9, day),
		wordKeyword("DY", upperCase, 0, shortDay), wordKeyword("Dy", titleCase, 0, shortDay),
		wordKeyword("MONTH", upperCase, 9, month), wordKeyword("Month", titleCase, 9, month),
		wordKeyword("MON", upperCase, 0, shortMonth), wordKeyword("Mon", titleCase, 0, shortMonth),
		wordKeyword("RM", upperCase, 4, (*datePrinter).romanMonth),
	}
}

// fractionKeyword prints so many digits of the fraction of a second.
func fractionKeyword(name string, digits int) dateKeyword {
	unit := int64(microsPerSecond)
	for range digits {
		unit /= 10
	}
	return dateKeyword{name: name, print: func(p *datePrinter, n *dateNode) {
		start := len(p.dst)
		p.dst = appendPadded(p.dst, p.micros%microsPerSecond/unit, digits)
		p.ordinal(n.ordinal, start)
	}}
}

// CompileDateFormat compiles a format as PostgreSQL reads it: patterns in
// upper or lower case, the prefix FM, the suffixes TH and th, text in double
// quotes, and everything else as literal text. TM is refused, because it depends
// on the server's lc_time, and so is what PostgreSQL itself ignores (SP).
func CompileDateFormat(format string) (*DateFormat, error) {
	c := dateCompiler{rest: format, keywords: dateKeywords()}
	for c.rest != "" {
		if err := c.next(); err != nil {
			return nil, err
		}
	}
	return &DateFormat{nodes: c.nodes, empty: format == ""}, nil
}

type dateCompiler struct {
	rest     string
	keywords []dateKeyword
	nodes    []dateNode
}

func (c *dateCompiler) next() error {
	var n dateNode
	switch {
	case hasEitherPrefix(c.rest, "FM"):
		n.fill = true
		c.rest = c.rest[2:]
	case hasEitherPrefix(c.rest, "TM"):
		return formatError("TM", `it depends on the server's lc_time; leave it out for English names`)
	}
	if c.keyword(&n) {
		switch {
		case strings.HasPrefix(c.rest, "TH"), strings.HasPrefix(c.rest, "th"):
			n.ordinal = c.rest[:2]
			c.rest = c.rest[2:]
		case strings.HasPrefix(c.rest, "SP"):
			return formatError("SP", "PostgreSQL does not implement it; leave it out")
		}
		c.nodes = append(c.nodes, n)
		return nil
	}
	var literal string
	literal, c.rest = formatLiteral(c.rest)
	c.literal(literal)
	return nil
}

// keyword moves past a pattern, if one is next. In lower case a pattern means the
// same, but names are printed in lower case.
func (c *dateCompiler) keyword(n *dateNode) bool {
	for i := range c.keywords {
		k := &c.keywords[i]
		switch {
		case strings.HasPrefix(c.rest, k.name):
			n.style = k.style
		case k.style == upperCase && strings.HasPrefix(c.rest, strings.ToLower(k.name)):
			n.style = lowerCase
		default:
			continue
		}
		n.dateKeyword = k
		c.rest = c.rest[len(k.name):]
		return true
	}
	return false
}

func (c *dateCompiler) literal(s string) {
	if s == "" {
		return
	}
	if last := len(c.nodes) - 1; last >= 0 && c.nodes[last].dateKeyword == nil {
		c.nodes[last].literal += s
		return
	}
	c.nodes = append(c.nodes, dateNode{literal: s})
}

// formatLiteral splits a text in double quotes, or one character, off a format.
func formatLiteral(s string) (literal, rest string) {
	if s == "" {
		return "", ""
	}
	if s[0] != '"' {
		if strings.HasPrefix(s, `\"`) {
			return `"`, s[2:]
		}
		_, n := utf8.DecodeRuneInString(s)
		return s[:n], s[n:]
	}
	var b strings.Builder
	for i := 1; i < len(s); i++ {
		switch {
		case s[i] == '"':
			return b.String(), s[i+1:]
		case s[i] == '\\' && i+1 < len(s):
			i++
		}
		b.WriteByte(s[i])
	}
	return b.String(), ""
}

// hasEitherPrefix compares with an upper-case prefix, and its lower case.
func hasEitherPrefix(s, prefix string) bool {
	return strings.HasPrefix(s, prefix) || strings.HasPrefix(s, strings.ToLower(prefix))
}

func formatError(pattern, hint string) error {
	return &Error{Code: codeUnsupported, Message: "to_char pattern " + pattern + " is not supported: " + hint}
}

// AppendTimestamp appends to_char(ts, format) for a timestamp without zone (and
// a date, as a timestamp). A nil slice is SQL's null, which PostgreSQL gives
// for infinite timestamps and for the empty format.
func (f *DateFormat) AppendTimestamp(dst []byte, ts int64) []byte {
	return f.append(dst, ts, 0, "")
}

// AppendTimestampTZ is AppendTimestamp for an instant, shown in loc (nil is UTC).
func (f *DateFormat) AppendTimestampTZ(dst []byte, ts int64, loc *time.Location) []byte {
	if loc == nil {
		loc = time.UTC
	}
	name, offset := time.Unix(floorDiv(ts, microsPerSecond)+unixEpoch, 0).In(loc).Zone()
	return f.append(dst, ts, offset, name)
}

func (f *DateFormat) append(dst []byte, ts int64, offset int, zone string) []byte {
	if !finiteTimestamp(ts) || f.empty {
		return nil
	}
	days, micros := splitTimestamp(ts + int64(offset)*microsPerSecond)
	p := datePrinter{dst: dst, days: days, micros: micros, date: civilOf(days), offset: offset, zone: zone}
	for i := range f.nodes {
		p.node(&f.nodes[i])
	}
	if p.dst == nil {
		p.dst = []byte{} // nil is null
	}
	return p.dst
}
