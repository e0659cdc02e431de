package expr

import (
	"math"

	"gancho/cdc"
	"gancho/internal/pgtext"
)

const microsPerDay = 24 * 3600 * 1000000

// timeImpls are the arithmetic of dates, times and intervals.
func timeImpls() map[string]*impl {
	all := map[string]*impl{
		"date_pli(date,int4)":        two(func(m *Machine, a, b value) value { return addDays(m, a.i, b.i) }),
		"integer_pl_date(int4,date)": two(func(m *Machine, a, b value) value { return addDays(m, b.i, a.i) }),
		"date_mii(date,int4)":        two(func(m *Machine, a, b value) value { return addDays(m, a.i, -b.i) }),
		"date_mi(date,date)":         two(subDates),
		"datetime_pl(date,time)":     two(dateAndTime),
		"timedate_pl(time,date)":     two(func(m *Machine, a, b value) value { return dateAndTime(m, b, a) }),
		"timestamp_mi(timestamp,timestamp)": two(func(m *Machine, a, b value) value {
			return m.intervalResult(pgtext.SubTimestamps(a.i, b.i))
		}),
		"interval_pl(interval,interval)":  two(func(m *Machine, a, b value) value { return m.intervalResult(interval(a).Add(interval(b))) }),
		"interval_mi(interval,interval)":  two(func(m *Machine, a, b value) value { return m.intervalResult(interval(a).Sub(interval(b))) }),
		"interval_um(interval)":           one(func(m *Machine, a value) value { return m.intervalResult(interval(a).Neg()) }),
		"time_mi_time(time,time)":         two(func(_ *Machine, a, b value) value { return value{state: stateKnown, i: a.i - b.i} }),
		"time_pl_interval(time,interval)": two(func(m *Machine, a, b value) value { return timePlus(m, a, b, 1) }),
		"interval_pl_time(interval,time)": two(func(m *Machine, a, b value) value { return timePlus(m, b, a, 1) }),
		"time_mi_interval(time,interval)": two(func(m *Machine, a, b value) value { return timePlus(m, a, b, -1) }),
	}
	all["timestamptz_mi(timestamptz,timestamptz)"] = all["timestamp_mi(timestamp,timestamp)"]
	for name, add := range map[string]func(m *Machine, a value, i pgtext.Interval) value{
		"date": func(m *Machine, a value, i pgtext.Interval) value {
			ts, err := pgtext.DateToTimestamp(int32(a.i))
			if err != nil {
				return m.failWith(err)
			}
			return m.wrap(pgtext.AddInterval(ts, i))
		},
		"timestamp":   func(m *Machine, a value, i pgtext.Interval) value { return m.wrap(pgtext.AddInterval(a.i, i)) },
		"timestamptz": func(m *Machine, a value, i pgtext.Interval) value { return m.wrap(pgtext.AddIntervalTZ(a.i, i, m.loc)) },
	} {
		all[name+"_pl_interval("+name+",interval)"] = two(func(m *Machine, a, b value) value { return add(m, a, interval(b)) })
		all["interval_pl_"+name+"(interval,"+name+")"] = two(func(m *Machine, a, b value) value { return add(m, b, interval(a)) })
		all[name+"_mi_interval("+name+",interval)"] = two(func(m *Machine, a, b value) value {
			if infinite := name == "date" && isInfiniteDate(a.i) || name != "date" && isInfinite(a.i); infinite && !interval(b).IsInfinite() {
				return add(m, a, pgtext.Interval{})
			}
			neg, err := interval(b).Neg()
			if err != nil {
				return m.failWith(err)
			}
			return add(m, a, neg)
		})
	}
	return all
}

// timePlus adds the time of an interval to a time of day, modulo a day.
func timePlus(m *Machine, t, i value, sign int64) value {
	if interval(i).IsInfinite() {
		return m.infiniteInterval()
	}
	return timeOfDay(t.i + sign*(i.i%microsPerDay))
}

// infiniteInterval fails where an infinite interval, which PostgreSQL has since
// version 17, has no meaning or one that is not implemented here.
func (m *Machine) infiniteInterval() value {
	return m.fail("22008", "infinite intervals are not supported here")
}

// timeOfDay brings a time back into the day.
func timeOfDay(i int64) value {
	i %= microsPerDay
	if i < 0 {
		i += microsPerDay
	}
	return intValue(i)
}

func isInfiniteDate(d int64) bool { return d == math.MaxInt32 || d == math.MinInt32 }

func addDays(m *Machine, date, days int64) value {
	if isInfiniteDate(date) {
		return intValue(date)
	}
	if d := date + days; d >= pgtext.MinDate && d <= pgtext.MaxDate {
		return intValue(d)
	}
	return m.fail("22008", "date out of range")
}

func subDates(m *Machine, a, b value) value {
	if isInfiniteDate(a.i) || isInfiniteDate(b.i) {
		return m.fail("22008", "cannot subtract infinite dates")
	}
	return intValue(int64(int32(a.i - b.i)))
}

func dateAndTime(m *Machine, date, time value) value {
	ts, err := pgtext.DateToTimestamp(int32(date.i))
	if err != nil {
		return m.failWith(err)
	}
	if isInfinite(ts) {
		return intValue(ts)
	}
	return m.wrap(pgtext.AddInterval(ts, pgtext.Interval{Micros: time.i}))
}

// timeCastImpls are the casts among dates, times and intervals.
func timeCastImpls() map[string]*impl {
	toUTC := func(m *Machine, ts int64) value { return m.wrap(pgtext.CheckTimestamp(pgtext.LocalToUTC(ts, m.loc))) }
	timeOf := func(ts int64) value {
		if isInfinite(ts) {
			return value{}
		}
		return timeOfDay(ts)
	}
	date := func(ts int64) value { return intValue(int64(pgtext.TimestampToDate(ts))) }
	return map[string]*impl{
		"timestamp(date)": one(func(m *Machine, a value) value { return m.wrap(pgtext.DateToTimestamp(int32(a.i))) }),
		"timestamptz(date)": one(func(m *Machine, a value) value {
			ts, err := pgtext.DateToTimestamp(int32(a.i))
			if err != nil {
				return m.failWith(err)
			}
			return toUTC(m, ts)
		}),
		"timestamptz(timestamp)": one(func(m *Machine, a value) value { return toUTC(m, a.i) }),
		"timestamp(timestamptz)": one(func(m *Machine, a value) value { return intValue(m.localTime(a)) }),
		"date(timestamp)":        one(func(_ *Machine, a value) value { return date(a.i) }),
		"date(timestamptz)":      one(func(m *Machine, a value) value { return date(m.localTime(a)) }),
		"time(timestamp)":        one(func(_ *Machine, a value) value { return timeOf(a.i) }),
		"time(timestamptz)":      one(func(m *Machine, a value) value { return timeOf(m.localTime(a)) }),
		"time(interval)": one(func(m *Machine, a value) value {
			if interval(a).IsInfinite() {
				return m.infiniteInterval()
			}
			return timeOfDay(a.i)
		}),
		"interval(time)": one(func(_ *Machine, a value) value { return value{state: stateKnown, i: a.i} }),
	}
}

// modifierImpl is the length coercion of a type to a modifier, nil when it has
// none.
func modifierImpl(t *cdc.Type, typmod int32) *impl {
	switch t.Base().OID {
	case oidVarchar:
		return one(func(m *Machine, a value) value { return textValue(a.s[:m.offset(a.s, int64(typmod-4))]) })
	case oidBpchar:
		return one(func(m *Machine, a value) value {
			n := int64(typmod - 4)
			if end := m.offset(a.s, n); end < len(a.s) {
				return textValue(a.s[:end])
			}
			return pad(m, a.s, n, []byte(" "), false)
		})
	case oidNumeric:
		return one(func(m *Machine, a value) value { return typmodNumeric(m, a, typmod) })
	case oidTime:
		return one(func(_ *Machine, a value) value { return intValue(roundUnits(a.i, typmod)) })
	case oidTimestamp, oidTimestamptz:
		return one(func(m *Machine, a value) value {
			if isInfinite(a.i) {
				return a
			}
			return m.wrap(pgtext.CheckTimestamp(roundUnits(a.i, typmod)))
		})
	case oidInterval:
		return one(func(_ *Machine, a value) value {
			if !interval(a).IsInfinite() {
				a.i = roundUnits(a.i, typmod)
			}
			return a
		})
	}
	return nil
}

// roundUnits rounds microseconds to a number of digits of the second, half away
// from zero.
func roundUnits(i int64, digits int32) int64 {
	unit := powersOfTen[6-digits]
	if i >= 0 {
		return (i + unit/2) / unit * unit
	}
	return -((-i + unit/2) / unit * unit)
}
