package expr

import (
	"strings"
	"time"

	"gancho/internal/pgtext"
)

func nowImpl() *impl {
	return &impl{none: func(m *Machine) value {
		t, ok := m.commitTime()
		if !ok {
			return m.fail("XX000", "the change has no transaction, so no time")
		}
		return intValue(t)
	}}
}

// timeFunctionImpls makes the functions of dates and times.
func timeFunctionImpls() map[string]*impl {
	all := map[string]*impl{
		"now()":                    nowImpl(),
		"transaction_timestamp()":  nowImpl(),
		"age(timestamp,timestamp)": two(func(m *Machine, a, b value) value { return m.intervalResult(pgtext.Age(a.i, b.i)) }),
		"age(timestamptz,timestamptz)": two(func(m *Machine, a, b value) value {
			return m.intervalResult(pgtext.Age(localTime(m, a), localTime(m, b)))
		}),
		"age(timestamp)":               one(func(m *Machine, a value) value { return ageToday(m, a.i) }),
		"age(timestamptz)":             one(func(m *Machine, a value) value { return ageToday(m, localTime(m, a)) }),
		"make_date(int4,int4,int4)":    many(makeDate),
		"isfinite(date)":               one(func(_ *Machine, a value) value { return boolValue(!isInfiniteDate(a.i)) }),
		"isfinite(timestamp)":          one(func(_ *Machine, a value) value { return boolValue(!isInfinite(a.i)) }),
		"isfinite(timestamptz)":        one(func(_ *Machine, a value) value { return boolValue(!isInfinite(a.i)) }),
		"timezone(text,timestamp)":     zoneImpl(true),
		"timezone(text,timestamptz)":   zoneImpl(false),
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
	return all
}

// localTime is a timestamp with time zone as the session's clock shows it.
func localTime(m *Machine, a value) int64 {
	if isInfinite(a.i) {
		return a.i
	}
	return pgtext.UTCToLocal(a.i, m.loc)
}

// ageToday is age of one argument: since current_date's midnight, that of the
// commit in the session's zone.
func ageToday(m *Machine, local int64) value {
	commit, ok := m.commitTime()
	if !ok {
		return m.fail("XX000", "the change has no transaction, so no time")
	}
	t := pgtext.UTCToLocal(commit, m.loc)
	midnight := t - ((t%microsPerDay)+microsPerDay)%microsPerDay
	return m.intervalResult(pgtext.Age(midnight, local))
}

// constantText wants an argument constant. skip is true when it is null, which
// makes the whole call null.
func constantText(t *term, arg int, what string) (s string, skip bool, err *Error) {
	if t.args[arg].isNullConst() {
		return "", true, nil
	}
	s, ok := t.constText(arg)
	if !ok {
		return "", false, refusal(t.args[arg], what+" must be a constant", "write it as a 'string'")
	}
	return s, false, nil
}

// never is the code of a call that a constant null makes null.
func never() *impl { return two(func(*Machine, value, value) value { return value{} }) }

func makeDate(m *Machine, a []value) value {
	year, month, day := a[0].i, a[1].i, a[2].i
	bad := func() value { return m.fail("22008", "date field value out of range") }
	if year == 0 || month < 1 || month > 12 || day < 1 || day > 31 {
		return bad()
	}
	if year < 0 {
		year++ // 1 BC is the year 0
	}
	if year > 5874897 || year < -4713 {
		return bad()
	}
	t := time.Date(int(year), time.Month(month), int(day), 0, 0, 0, 0, time.UTC)
	if t.Day() != int(day) {
		return bad()
	}
	d := (t.Unix() - 946684800) / 86400
	if d < firstDate {
		return m.fail("22008", "date out of range")
	}
	return intValue(d)
}

// zoneImpl is at time zone, for a zone of the tz database.
func zoneImpl(toUTC bool) *impl {
	return bound(func(c *checker, t *term) (*impl, *Error) {
		name, skip, err := constantText(t, 0, "the time zone")
		if err != nil {
			return nil, err
		}
		if skip {
			return never(), nil
		}
		var loc *time.Location
		if strings.EqualFold(name, "UTC") || strings.EqualFold(name, "GMT") {
			loc = time.UTC
		} else if strings.Contains(name, "/") && !strings.HasPrefix(name, "posix/") && !strings.HasPrefix(name, "right/") {
			var problem error
			if loc, problem = time.LoadLocation(name); problem != nil {
				loc = nil
			}
		}
		if loc == nil {
			return nil, refusal(t.args[0], "time zone "+quoteLiteral(name)+" is not known here", "write it as in America/Sao_Paulo, or UTC")
		}
		convert := pgtext.UTCToLocal
		if toUTC {
			convert = pgtext.LocalToUTC
		}
		return two(func(m *Machine, _, a value) value {
			if isInfinite(a.i) {
				return a
			}
			r := convert(a.i, loc)
			if !validTimestamp(r) {
				return m.fail("22008", "timestamp out of range")
			}
			return intValue(r)
		}), nil
	})
}

func toCharTime(zoned bool) *impl {
	return bound(func(c *checker, t *term) (*impl, *Error) {
		format, skip, refused := constantText(t, 1, "the format of to_char")
		if refused != nil {
			return nil, refused
		}
		if skip {
			return never(), nil
		}
		f, err := pgtext.CompileDateFormat(format)
		if err != nil {
			return nil, refusal(t.args[1], err.Error(), "write the format with other patterns")
		}
		return two(func(m *Machine, a, _ value) value {
			if isInfinite(a.i) || format == "" {
				return value{}
			}
			start := len(m.arena)
			var out []byte
			var err error
			if zoned {
				out, err = f.AppendTimestampTZ(m.arena, a.i, m.loc)
			} else {
				out, err = f.AppendTimestamp(m.arena, a.i)
			}
			if err != nil {
				return m.failWith(err)
			}
			m.arena = out
			return m.grown(start)
		}), nil
	})
}

func toCharNumber(text func(dst []byte, v value) []byte) *impl {
	return bound(func(c *checker, t *term) (*impl, *Error) {
		format, skip, refused := constantText(t, 1, "the format of to_char")
		if refused != nil {
			return nil, refused
		}
		if skip {
			return never(), nil
		}
		f, err := pgtext.CompileNumberFormat(format)
		if err != nil {
			return nil, refusal(t.args[1], err.Error(), "write the format with other patterns")
		}
		return two(func(m *Machine, a, _ value) value {
			start := len(m.arena)
			m.arena = text(m.arena, a)
			digits := m.grown(start).s
			start = len(m.arena)
			out, err := f.AppendNumeric(m.arena, digits)
			if err != nil {
				return m.failWith(err)
			}
			m.arena = out
			return m.grown(start)
		}), nil
	})
}

// truncImpl is date_trunc to a constant unit, which is tried once.
func truncImpl(f func(m *Machine, unit string, a value) value) *impl {
	return bound(func(c *checker, t *term) (*impl, *Error) {
		unit, skip, err := constantText(t, 0, "the unit of date_trunc")
		if err != nil {
			return nil, err
		}
		if skip {
			return never(), nil
		}
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
