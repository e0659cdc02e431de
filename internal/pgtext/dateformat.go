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

// dateNode is a piece of the format: literal text, or a number of at least width digits.
type dateNode struct {
	literal string
	number  func(t *civilTime) int64
	width   int
}

// civilTime is a timestamp as its fields.
type civilTime struct {
	date   civil
	micros int64 // of the day
}

// datePattern is a number of a DateFormat, in upper or in lower case.
type datePattern struct {
	name   string
	width  int
	number func(t *civilTime) int64
}

func datePatterns() []datePattern {
	fraction := func(unit int64) func(t *civilTime) int64 {
		return func(t *civilTime) int64 { return t.micros % microsPerSecond / unit }
	}
	return []datePattern{
		{"YYYY", 4, func(t *civilTime) int64 { return unsignedYear(t.date.year) }},
		{"MM", 2, func(t *civilTime) int64 { return int64(t.date.month) }},
		{"DD", 2, func(t *civilTime) int64 { return int64(t.date.day) }},
		{"HH24", 2, func(t *civilTime) int64 { return t.micros / microsPerHour }},
		{"HH12", 2, func(t *civilTime) int64 { return (t.micros/microsPerHour+11)%12 + 1 }},
		{"MI", 2, func(t *civilTime) int64 { return t.micros / microsPerMinute % 60 }},
		{"SS", 2, func(t *civilTime) int64 { return t.micros / microsPerSecond % 60 }},
		{"MS", 3, fraction(1000)},
		{"US", 6, fraction(1)},
	}
}

// CompileDateFormat compiles the formats of numbers: YYYY, MM, DD, HH24, HH12, MI, SS, MS and
// US in upper or lower case, text in double quotes, and what is no letter. Any other letter is
// refused, because it may begin a pattern (TH, FM, Mon, TZ): those PostgreSQL evaluates.
// https://www.postgresql.org/docs/current/functions-formatting.html
func CompileDateFormat(format string) (*DateFormat, error) {
	f := &DateFormat{empty: format == ""}
	patterns := datePatterns()
	last := byte(0) // the last letter of the pattern before
	for rest := format; rest != ""; {
		if n := nextPattern(patterns, rest); n >= 0 && rest[0]|0x20 != last {
			name := patterns[n].name
			f.nodes = append(f.nodes, dateNode{number: patterns[n].number, width: patterns[n].width})
			last, rest = name[len(name)-1]|0x20, rest[len(name):]
			continue
		}
		if c := rest[0] | 0x20; c >= 'a' && c <= 'z' {
			return nil, &Error{Code: codeUnsupported, Message: "to_char pattern " + letters(rest) + " is not supported"}
		}
		var literal string
		literal, rest = formatLiteral(rest)
		f.nodes, last = append(f.nodes, dateNode{literal: literal}), 0
	}
	return f, nil
}

// nextPattern is the pattern that a format begins with, -1 if it is none.
func nextPattern(patterns []datePattern, format string) int {
	for i, p := range patterns {
		if strings.HasPrefix(format, p.name) || strings.HasPrefix(format, strings.ToLower(p.name)) {
			return i
		}
	}
	return -1
}

// letters are those that a format begins with.
func letters(format string) string {
	end := strings.IndexFunc(format, func(r rune) bool { return r|0x20 < 'a' || r|0x20 > 'z' })
	if end < 0 {
		end = len(format)
	}
	return format[:end]
}

// formatLiteral splits a text in double quotes, or one character, off a format.
func formatLiteral(s string) (literal, rest string) {
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

// AppendTimestamp appends to_char(ts, format) for a timestamp without zone (and
// a date, as a timestamp). A nil slice is SQL's null, which PostgreSQL gives
// for infinite timestamps and for the empty format.
func (f *DateFormat) AppendTimestamp(dst []byte, ts int64) []byte {
	if !finiteTimestamp(ts) || f.empty {
		return nil
	}
	days, micros := splitTimestamp(ts)
	t := civilTime{civilOf(days), micros}
	if dst == nil {
		dst = []byte{} // nil is null
	}
	for i := range f.nodes {
		n := &f.nodes[i]
		if dst = append(dst, n.literal...); n.number != nil {
			dst = appendPadded(dst, n.number(&t), n.width)
		}
	}
	return dst
}

// AppendTimestampTZ is AppendTimestamp for an instant, shown in loc (nil is UTC).
func (f *DateFormat) AppendTimestampTZ(dst []byte, ts int64, loc *time.Location) []byte {
	if loc == nil {
		loc = time.UTC
	}
	return f.AppendTimestamp(dst, UTCToLocal(ts, loc))
}
