package pgtext

import (
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

type dateNode struct {
	pattern datePattern
	style   letterCase // of names
	fill    bool       // FM: no padding
	ordinal string     // "TH" or "th" after the number
	literal string
}

type letterCase uint8

const (
	upperCase letterCase = iota
	titleCase
	lowerCase
)

type datePattern uint8

const (
	dateLiteral datePattern = iota
	dateMeridiem
	dateMeridiemDots
	dateEra
	dateEraDots
	dateHour12
	dateHour24
	dateMinute
	dateSecond
	dateFraction1
	dateFraction2
	dateFraction3
	dateFraction4
	dateFraction5
	dateFraction6
	dateSecondsOfDay
	dateZoneName
	dateZoneHour
	dateZoneMinute
	dateZoneOffset
	dateMonthName
	dateMonthShort
	dateMonth
	dateRomanMonth
	dateDayName
	dateDayShort
	dateDayOfYear
	dateISODayOfYear
	dateDay
	dateDayOfWeek
	dateISODayOfWeek
	dateWeekOfYear
	dateISOWeek
	dateWeekOfMonth
	dateQuarter
	dateCentury
	dateJulian
	dateYearComma
	dateYear4
	dateYear3
	dateYear2
	dateYear1
	dateISOYear4
	dateISOYear3
	dateISOYear2
	dateISOYear1
	dateNothing // FX: it means something to to_date only
)

type dateKeyword struct {
	name    string
	pattern datePattern
	style   letterCase
}

// dateKeywords are the patterns, a longer one before one that it begins with.
// Those without letter case of their own are looked up in either.
func dateKeywords() []dateKeyword {
	return []dateKeyword{
		{"A.D.", dateEraDots, upperCase}, {"A.M.", dateMeridiemDots, upperCase}, {"AD", dateEra, upperCase}, {"AM", dateMeridiem, upperCase},
		{"B.C.", dateEraDots, upperCase}, {"BC", dateEra, upperCase}, {"CC", dateCentury, upperCase},
		{"DAY", dateDayName, upperCase}, {"DDD", dateDayOfYear, upperCase}, {"DD", dateDay, upperCase}, {"DY", dateDayShort, upperCase},
		{"Day", dateDayName, titleCase}, {"Dy", dateDayShort, titleCase}, {"D", dateDayOfWeek, upperCase},
		{"FF1", dateFraction1, upperCase}, {"FF2", dateFraction2, upperCase}, {"FF3", dateFraction3, upperCase},
		{"FF4", dateFraction4, upperCase}, {"FF5", dateFraction5, upperCase}, {"FF6", dateFraction6, upperCase}, {"FX", dateNothing, upperCase},
		{"HH24", dateHour24, upperCase}, {"HH12", dateHour12, upperCase}, {"HH", dateHour12, upperCase},
		{"IDDD", dateISODayOfYear, upperCase}, {"ID", dateISODayOfWeek, upperCase}, {"IW", dateISOWeek, upperCase},
		{"IYYY", dateISOYear4, upperCase}, {"IYY", dateISOYear3, upperCase}, {"IY", dateISOYear2, upperCase}, {"I", dateISOYear1, upperCase},
		{"J", dateJulian, upperCase}, {"MI", dateMinute, upperCase}, {"MM", dateMonth, upperCase},
		{"MONTH", dateMonthName, upperCase}, {"MON", dateMonthShort, upperCase}, {"MS", dateFraction3, upperCase},
		{"Month", dateMonthName, titleCase}, {"Mon", dateMonthShort, titleCase}, {"OF", dateZoneOffset, upperCase},
		{"P.M.", dateMeridiemDots, upperCase}, {"PM", dateMeridiem, upperCase}, {"Q", dateQuarter, upperCase}, {"RM", dateRomanMonth, upperCase},
		{"SSSSS", dateSecondsOfDay, upperCase}, {"SSSS", dateSecondsOfDay, upperCase}, {"SS", dateSecond, upperCase},
		{"TZH", dateZoneHour, upperCase}, {"TZM", dateZoneMinute, upperCase}, {"TZ", dateZoneName, upperCase},
		{"US", dateFraction6, upperCase}, {"WW", dateWeekOfYear, upperCase}, {"W", dateWeekOfMonth, upperCase},
		{"Y,YYY", dateYearComma, upperCase}, {"YYYY", dateYear4, upperCase}, {"YYY", dateYear3, upperCase}, {"YY", dateYear2, upperCase}, {"Y", dateYear1, upperCase},
	}
}

// CompileDateFormat compiles a format as PostgreSQL reads it: patterns in
// upper or lower case, the prefix FM, the suffixes TH and th, text in double
// quotes, and everything else as it stands. TM is refused, because it depends
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

// keyword takes the pattern that the format goes on with, if it does. In lower
// case a pattern is the same, but names come out in lower case.
func (c *dateCompiler) keyword(n *dateNode) bool {
	for _, k := range c.keywords {
		switch {
		case strings.HasPrefix(c.rest, k.name):
			n.style = k.style
		case k.style == upperCase && strings.HasPrefix(c.rest, strings.ToLower(k.name)):
			n.style = lowerCase
		default:
			continue
		}
		n.pattern = k.pattern
		c.rest = c.rest[len(k.name):]
		return true
	}
	return false
}

func (c *dateCompiler) literal(s string) {
	if s == "" {
		return
	}
	if last := len(c.nodes) - 1; last >= 0 && c.nodes[last].pattern == dateLiteral {
		c.nodes[last].literal += s
		return
	}
	c.nodes = append(c.nodes, dateNode{literal: s})
}

// formatLiteral takes a text in double quotes, or one character, off a format.
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
