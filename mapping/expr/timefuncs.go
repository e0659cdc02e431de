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
			return m.intervalResult(pgtext.AgeTZ(a.i, b.i, m.loc))
		}),
		"age(timestamp)":             one(func(m *Machine, a value) value { return ageToday(m, a.i) }),
		"age(timestamptz)":           one(func(m *Machine, a value) value { return ageToday(m, m.localTime(a)) }),
		"make_date(int4,int4,int4)":  many(makeDate),
		"isfinite(date)":             one(func(_ *Machine, a value) value { return boolValue(!isInfiniteDate(a.i)) }),
		"isfinite(timestamp)":        one(func(_ *Machine, a value) value { return boolValue(!isInfinite(a.i)) }),
		"isfinite(timestamptz)":      one(func(_ *Machine, a value) value { return boolValue(!isInfinite(a.i)) }),
		"timezone(text,timestamp)":   zoneImpl(pgtext.LocalToUTC),
		"timezone(text,timestamptz)": zoneImpl(pgtext.UTCToLocal),
		"to_char(timestamp,text)":    toCharTime(false),
		"to_char(timestamptz,text)":  toCharTime(true),
		"date_trunc(text,timestamp)": truncImpl(func(m *Machine, unit string, a value) value { return m.wrap(pgtext.TruncTimestamp(unit, a.i)) }),
		"date_trunc(text,timestamptz)": truncImpl(func(m *Machine, unit string, a value) value {
			return m.wrap(pgtext.TruncTimestampTZ(unit, a.i, m.loc))
		}),
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
	return withConstant(0, "the time zone", constantHint, func(c *checker, t *term, name string) (*impl, *Error) {
		loc, known := loadZone(name)
		if !known {
			return nil, refusal(t.args[0], "time zone "+quoteLiteral(name)+" is not known here", "write it as in America/Sao_Paulo, or UTC")
		}
		if check := c.scope.Settings.CheckZone; check != nil {
			if err := check(loc); err != nil {
				return nil, refusal(t.args[0], err.Error(), "use the same version of the tz database here and in PostgreSQL, or another zone")
			}
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

// extractor appends extract(field from a) as text, nothing for null.
type extractor func(m *Machine, dst []byte, field string, a value) ([]byte, error)

// extractImpls are extract and date_part.
func extractImpls() map[string]*impl {
	all := map[string]*impl{}
	for name, f := range map[string]extractor{
		"date": func(_ *Machine, dst []byte, field string, a value) ([]byte, error) {
			return pgtext.ExtractDate(dst, field, int32(a.i))
		},
		"time": func(_ *Machine, dst []byte, field string, a value) ([]byte, error) {
			return pgtext.ExtractTime(dst, field, a.i)
		},
		"timestamp": func(_ *Machine, dst []byte, field string, a value) ([]byte, error) {
			return pgtext.ExtractTimestamp(dst, field, a.i)
		},
		"timestamptz": func(m *Machine, dst []byte, field string, a value) ([]byte, error) {
			return pgtext.ExtractTimestampTZ(dst, field, a.i, m.loc)
		},
		"interval": func(_ *Machine, dst []byte, field string, a value) ([]byte, error) {
			return pgtext.ExtractInterval(dst, field, interval(a))
		},
	} {
		all["extract(text,"+name+")"], all["date_part(text,"+name+")"] = extractImpl(f, false), extractImpl(f, true)
	}
	// Unlike extract, date_part takes a date for a timestamp.
	all["date_part(text,date)"] = extractImpl(func(_ *Machine, dst []byte, field string, a value) ([]byte, error) {
		ts, err := pgtext.DateToTimestamp(int32(a.i))
		if err != nil {
			return dst, err
		}
		return pgtext.ExtractTimestamp(dst, field, ts)
	}, true)
	return all
}

// extractImpl is extract, which yields numeric, or date_part, which yields
// double precision, of a constant field, which is tried out when the rule is
// compiled.
func extractImpl(f extractor, asFloat bool) *impl {
	return withConstant(0, "the field to extract", constantHint, func(c *checker, t *term, field string) (*impl, *Error) {
		if _, err := f(c.machine, nil, field, intValue(0)); err != nil {
			return nil, refusal(t.args[0], c.machine.conversionError(err, 0).Message, "")
		}
		finish := func(_ *Machine, v value) value { return v }
		if asFloat {
			if finish = partAsFloat(strings.ToLower(field), t.args[1].typ.OID == oidInterval); finish == nil {
				return nil, refusal(t.args[0], "date_part of "+field+" is not supported", "use extract("+field+" from ...), which is exact")
			}
		}
		return two(func(m *Machine, _, a value) value {
			start := len(m.arena)
			out, err := f(m, m.arena, field, a)
			switch {
			case err != nil:
				return m.failWith(err)
			case len(out) <= start: // null
				return value{}
			}
			m.arena = out
			v, _ := parseNumeric(out[start:]) // printed by us
			return finish(m, v)
		}), nil
	})
}

// partAsFloat returns date_part's double of extract's numeric; nil when they
// differ. Where fractions are involved, PostgreSQL computes in doubles, so the
// same steps are taken.
func partAsFloat(field string, ofInterval bool) func(m *Machine, v value) value {
	asFloat := func(m *Machine, v value) value { return numericToFloat(m, v, 64) }
	inMicros := func(of func(micros value) float64) func(m *Machine, v value) value {
		return func(m *Machine, v value) value {
			if v.aux != finite {
				return asFloat(m, v)
			}
			return floatValue(of(roundNumeric(v, 6, true)))
		}
	}
	switch field {
	case "year", "quarter", "month", "week", "day", "dow", "isodow", "doy", "hour", "minute", "decade", "century", "millennium", "isoyear", "microseconds":
		return asFloat
	case "second":
		return inMicros(func(v value) float64 { return float64(v.i/1000000) + float64(v.i%1000000)/1000000 })
	case "epoch":
		if !ofInterval {
			return inMicros(func(v value) float64 {
				f, _ := unscaled(v).Float64()
				return f / 1000000
			})
		}
	}
	return nil
}
