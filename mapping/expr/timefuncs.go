package expr

import (
	"strings"
	"time"

	"gancho/internal/pgtext"
)

func nowImpl() *impl { return &impl{none: (*Machine).now} }

// timeFunctionImpls are the functions of dates and times.
func timeFunctionImpls() map[string]*impl {
	return map[string]*impl{
		"now()":                    nowImpl(),
		"transaction_timestamp()":  nowImpl(),
		"age(timestamp,timestamp)": two(func(m *Machine, a, b value) value { return m.intervalResult(pgtext.Age(a.i, b.i)) }),
		"age(timestamptz,timestamptz)": two(func(m *Machine, a, b value) value {
			return m.intervalResult(pgtext.Age(m.localTime(a), m.localTime(b)))
		}),
		"age(timestamp)":               one(func(m *Machine, a value) value { return ageToday(m, a.i) }),
		"age(timestamptz)":             one(func(m *Machine, a value) value { return ageToday(m, m.localTime(a)) }),
		"make_date(int4,int4,int4)":    many(makeDate),
		"isfinite(date)":               one(func(_ *Machine, a value) value { return boolValue(!isInfiniteDate(a.i)) }),
		"isfinite(timestamp)":          one(func(_ *Machine, a value) value { return boolValue(!isInfinite(a.i)) }),
		"isfinite(timestamptz)":        one(func(_ *Machine, a value) value { return boolValue(!isInfinite(a.i)) }),
		"timezone(text,timestamp)":     zoneImpl(pgtext.LocalToUTC),
		"timezone(text,timestamptz)":   zoneImpl(pgtext.UTCToLocal),
		"to_char(timestamp,text)":      toCharTime(false),
		"to_char(timestamptz,text)":    toCharTime(true),
		"date_trunc(text,timestamp)":   truncImpl(truncTimestamp),
		"date_trunc(text,timestamptz)": truncImpl(truncTimestamptz),
		"date_trunc(text,interval)":    truncImpl(truncInterval),
		"extract(text,date)":           extractImpl(extractDate, false),
		"extract(text,time)":           extractImpl(extractTime, false),
		"extract(text,timestamp)":      extractImpl(extractTimestamp, false),
		"extract(text,timestamptz)":    extractImpl(extractTimestamptz, false),
		"extract(text,interval)":       extractImpl(extractInterval, false),
		"date_part(text,date)":         extractImpl(extractDateAsTimestamp, true),
		"date_part(text,time)":         extractImpl(extractTime, true),
		"date_part(text,timestamp)":    extractImpl(extractTimestamp, true),
		"date_part(text,timestamptz)":  extractImpl(extractTimestamptz, true),
		"date_part(text,interval)":     extractImpl(extractInterval, true),
		"to_char(numeric,text)":        toCharNumber(appendNumeric),
		"to_char(int4,text)":           toCharNumber(func(dst []byte, v value) []byte { return printInt(nil, dst, v) }),
		"to_char(int8,text)":           toCharNumber(func(dst []byte, v value) []byte { return printInt(nil, dst, v) }),
	}
}

// localTime is a timestamp with time zone as the session's clock shows it.
func (m *Machine) localTime(a value) int64 { return pgtext.UTCToLocal(a.i, m.loc) }

// ageToday is age of one argument: since current_date's midnight, that of the
// commit in the session's zone.
func ageToday(m *Machine, local int64) value {
	now := m.now()
	if now.state != stateKnown {
		return now
	}
	today := m.localTime(now)
	return m.intervalResult(pgtext.Age(today-timeOfDay(today).i, local))
}

// withConstant is an implementation for which an argument must be a constant; the
// call is null when that is null.
func withConstant(arg int, what, hint string, bind func(c *checker, t *term, s string) (*impl, *Error)) *impl {
	return bound(func(c *checker, t *term) (*impl, *Error) {
		switch a := t.args[arg]; {
		case a.isNullConst():
			return two(func(*Machine, value, value) value { return value{} }), nil
		case !a.isConst():
			return nil, refusal(a, what+" must be a constant", hint)
		default:
			return bind(c, t, string(a.lit.s))
		}
	})
}

const constantHint = "write it as a 'string'"

func makeDate(m *Machine, a []value) value {
	d, err := pgtext.MakeDate(a[0].i, a[1].i, a[2].i)
	return m.wrap(int64(d), err)
}

// zoneImpl is at time zone, for a zone of the tz database.
func zoneImpl(convert func(ts int64, loc *time.Location) int64) *impl {
	return withConstant(0, "the time zone", constantHint, func(_ *checker, t *term, name string) (*impl, *Error) {
		loc, known := loadZone(name)
		if !known {
			return nil, refusal(t.args[0], "time zone "+quoteLiteral(name)+" is not known here", "write it as in America/Sao_Paulo, or UTC")
		}
		return two(func(m *Machine, _, a value) value { return m.wrap(pgtext.CheckTimestamp(convert(a.i, loc))) }), nil
	})
}

func loadZone(name string) (*time.Location, bool) {
	if strings.EqualFold(name, "UTC") || strings.EqualFold(name, "GMT") {
		return time.UTC, true
	}
	if !strings.Contains(name, "/") || strings.HasPrefix(name, "posix/") || strings.HasPrefix(name, "right/") {
		return nil, false
	}
	loc, err := time.LoadLocation(name)
	return loc, err == nil
}

const otherPatterns = "write the format with other patterns"

func toCharTime(zoned bool) *impl {
	return withConstant(1, "the format of to_char", constantHint, func(_ *checker, t *term, format string) (*impl, *Error) {
		f, err := pgtext.CompileDateFormat(format)
		if err != nil {
			return nil, refusal(t.args[1], err.Error(), otherPatterns)
		}
		return two(func(m *Machine, a, _ value) value {
			var out []byte
			if zoned {
				out = f.AppendTimestampTZ(m.arena, a.i, m.loc)
			} else {
				out = f.AppendTimestamp(m.arena, a.i)
			}
			if out == nil {
				return value{}
			}
			return m.appended(out)
		}), nil
	})
}

func toCharNumber(text func(dst []byte, v value) []byte) *impl {
	return withConstant(1, "the format of to_char", constantHint, func(_ *checker, t *term, format string) (*impl, *Error) {
		f, err := pgtext.CompileNumberFormat(format)
		if err != nil {
			return nil, refusal(t.args[1], err.Error(), otherPatterns)
		}
		return two(func(m *Machine, a, _ value) value {
			digits := m.appended(text(m.arena, a)).s
			return m.textResult(f.AppendNumeric(m.arena, digits))
		}), nil
	})
}

// truncImpl is date_trunc to a constant unit, which is tried out when the rule
// is compiled.
func truncImpl(f func(m *Machine, unit string, a value) value) *impl {
	return withConstant(0, "the unit of date_trunc", constantHint, func(c *checker, t *term, unit string) (*impl, *Error) {
		if v := f(c.machine, unit, intValue(0)); v.state == stateFailed {
			return nil, refusal(t.args[0], c.machine.err.Message, "")
		}
		return two(func(m *Machine, _, a value) value { return f(m, unit, a) }), nil
	})
}

func truncTimestamp(m *Machine, unit string, a value) value {
	return m.wrap(pgtext.TruncTimestamp(unit, a.i))
}

func truncTimestamptz(m *Machine, unit string, a value) value {
	return m.wrap(pgtext.TruncTimestampTZ(unit, a.i, m.loc))
}

func truncInterval(m *Machine, unit string, a value) value {
	return m.intervalResult(pgtext.TruncInterval(unit, interval(a)))
}
