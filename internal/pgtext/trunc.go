package pgtext

import "time"

// TruncTimestamp returns date_trunc(name, ts) for a timestamp without zone:
// microseconds to millennium, week (Monday) and quarter.
func TruncTimestamp(name string, ts int64) (int64, error) {
	return truncTimestamp(name, ts, nil, withoutZone)
}

// TruncTimestampTZ returns date_trunc(name, ts) for an instant, in local time
// in loc (nil is UTC).
func TruncTimestampTZ(name string, ts int64, loc *time.Location) (int64, error) {
	return truncTimestamp(name, ts, loc, withZone)
}

func truncTimestamp(name string, ts int64, loc *time.Location, what string) (int64, error) {
	f, err := extractUnit(name, what, fieldMillennium, fieldNone)
	if err != nil || !finiteTimestamp(ts) {
		return ts, err
	}
	offset := int64(offsetAt(ts, loc)) * microsPerSecond
	t := truncLocal(f, ts+offset)
	if f >= fieldDay {
		t = LocalToUTC(t, loc)
	} else {
		t -= offset // within the hour, the offset stays what it was
	}
	return CheckTimestamp(t)
}

func truncLocal(f field, ts int64) int64 {
	switch f {
	case fieldMicroseconds:
		return ts
	case fieldMilliseconds:
		return floorDiv(ts, 1000) * 1000
	case fieldSecond:
		return floorDiv(ts, microsPerSecond) * microsPerSecond
	case fieldMinute:
		return floorDiv(ts, microsPerMinute) * microsPerMinute
	case fieldHour:
		return floorDiv(ts, microsPerHour) * microsPerHour
	}
	days := floorDiv(ts, microsPerDay)
	switch f {
	case fieldDay:
		return days * microsPerDay
	case fieldWeek:
		return (days - int64(isoWeekday(days)) + 1) * microsPerDay
	}
	c := civilOf(days)
	switch f {
	case fieldMonth:
	case fieldQuarter:
		c.month = (c.month-1)/3*3 + 1
	default:
		c.month = 1
		c.year = truncYear(f, c.year)
	}
	return daysOf(c.year, c.month, 1) * microsPerDay
}

// truncYear returns the first year of the decade, century or millennium.
// Centuries begin with year 1, decades with year 0.
func truncYear(f field, year int64) int64 {
	switch f {
	case fieldDecade:
		return floorDiv(year, 10) * 10
	case fieldCentury:
		return floorDiv(year-1, 100)*100 + 1
	case fieldMillennium:
		return floorDiv(year-1, 1000)*1000 + 1
	}
	return year
}

// TruncInterval returns date_trunc(name, i) for an interval. Weeks are refused,
// because months have a broken number of them.
func TruncInterval(name string, i Interval) (Interval, error) {
	f, err := extractUnit(name, "type interval", fieldMillennium, fieldNone)
	if err == nil && f == fieldWeek {
		err = unsupported(name, "type interval")
	}
	if err != nil || i.IsInfinite() {
		return i, err
	}
	if f >= fieldDay {
		i.Micros = 0
	}
	if f >= fieldMonth {
		i.Days = 0
	}
	switch f {
	case fieldMilliseconds:
		i.Micros -= i.Micros % 1000
	case fieldSecond:
		i.Micros -= i.Micros % microsPerSecond
	case fieldMinute:
		i.Micros -= i.Micros % microsPerMinute
	case fieldHour:
		i.Micros -= i.Micros % microsPerHour
	case fieldQuarter:
		i.Months -= i.Months % 3
	case fieldYear:
		i.Months -= i.Months % 12
	case fieldDecade:
		i.Months -= i.Months % 120
	case fieldCentury:
		i.Months -= i.Months % 1200
	case fieldMillennium:
		i.Months -= i.Months % 12_000
	}
	return i, nil
}
