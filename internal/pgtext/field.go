package pgtext

import "time"

// field is a part of a date, time or interval that SQL names.
type field uint8

const (
	fieldNone field = iota
	fieldMicroseconds
	fieldMilliseconds
	fieldSecond
	fieldMinute
	fieldHour
	fieldDay
	fieldWeek
	fieldMonth
	fieldQuarter
	fieldYear
	fieldDecade
	fieldCentury
	fieldMillennium
	fieldDayOfWeek
	fieldISODayOfWeek
	fieldDayOfYear
	fieldISOYear
	fieldJulian
	fieldEpoch
	fieldZone
	fieldZoneHour
	fieldZoneMinute
)

// fieldNames are PostgreSQL's names and abbreviations (deltatktbl in datetime.c).
var fieldNames = map[string]field{
	"microsecond": fieldMicroseconds, "microseconds": fieldMicroseconds, "us": fieldMicroseconds, "usec": fieldMicroseconds,
	"usecs": fieldMicroseconds, "usecond": fieldMicroseconds, "useconds": fieldMicroseconds,
	"millisecond": fieldMilliseconds, "milliseconds": fieldMilliseconds, "ms": fieldMilliseconds, "msec": fieldMilliseconds,
	"msecs": fieldMilliseconds, "mseconds": fieldMilliseconds,
	"second": fieldSecond, "seconds": fieldSecond, "s": fieldSecond, "sec": fieldSecond, "secs": fieldSecond,
	"minute": fieldMinute, "minutes": fieldMinute, "m": fieldMinute, "min": fieldMinute, "mins": fieldMinute,
	"hour": fieldHour, "hours": fieldHour, "h": fieldHour, "hr": fieldHour, "hrs": fieldHour,
	"day": fieldDay, "days": fieldDay, "d": fieldDay, "week": fieldWeek, "weeks": fieldWeek, "w": fieldWeek,
	"month": fieldMonth, "months": fieldMonth, "mon": fieldMonth, "mons": fieldMonth, "quarter": fieldQuarter, "qtr": fieldQuarter,
	"year": fieldYear, "years": fieldYear, "y": fieldYear, "yr": fieldYear, "yrs": fieldYear,
	"decade": fieldDecade, "decades": fieldDecade, "dec": fieldDecade, "decs": fieldDecade,
	"century": fieldCentury, "centuries": fieldCentury, "c": fieldCentury, "cent": fieldCentury,
	"millennium": fieldMillennium, "millennia": fieldMillennium, "mil": fieldMillennium, "mils": fieldMillennium,
	"dow": fieldDayOfWeek, "isodow": fieldISODayOfWeek, "doy": fieldDayOfYear, "isoyear": fieldISOYear, "julian": fieldJulian,
	"epoch": fieldEpoch, "timezone": fieldZone, "timezone_hour": fieldZoneHour, "timezone_minute": fieldZoneMinute,
}

// fieldUnits are lengths: up to the hour in microseconds, up to the week in days, and then in months.
var fieldUnits = [...]int64{
	fieldMicroseconds: 1, fieldMilliseconds: 1000, fieldSecond: microsPerSecond, fieldMinute: microsPerMinute, fieldHour: microsPerHour,
	fieldDay: 1, fieldWeek: 7, fieldMonth: 1, fieldQuarter: 3, fieldYear: 12, fieldDecade: 120, fieldCentury: 1200, fieldMillennium: 12_000,
}

// fieldOf knows the field names in either case.
func fieldOf(name []byte) field {
	var lower [len("timezone_minute")]byte // the longest
	if len(name) > len(lower) {
		return fieldNone
	}
	for i, c := range name {
		if c >= 'A' && c <= 'Z' {
			c += 'a' - 'A'
		}
		lower[i] = c
	}
	return fieldNames[string(lower[:len(name)])]
}

// unit is fieldOf with an error that names the unknown unit.
func unit(name string) (field, error) {
	if f := fieldOf([]byte(name)); f != fieldNone {
		return f, nil
	}
	return fieldNone, &Error{Code: codeParameter, Message: "unit " + quoteName(name) + " is not recognized: write one such as year, month, day, hour"}
}

func unsupported(name, what string) error {
	return &Error{Code: codeUnsupported, Message: "unit " + quoteName(name) + " is not supported for " + what}
}

func quoteName(name string) string {
	const limit = 40
	if len(name) > limit {
		name = name[:limit] + "..."
	}
	return `"` + name + `"`
}

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
	if f <= fieldHour {
		return floorDiv(ts, fieldUnits[f]) * fieldUnits[f]
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
