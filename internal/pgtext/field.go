package pgtext

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

	fieldCount
)

// longestField is the length of the longest name.
const longestField = len("timezone_minute")

// fieldOf knows PostgreSQL's names and abbreviations (deltatktbl in
// datetime.c), in either case.
func fieldOf(name []byte) field {
	if len(name) > longestField {
		return fieldNone
	}
	var lower [longestField]byte
	for i, c := range name {
		if c >= 'A' && c <= 'Z' {
			c += 'a' - 'A'
		}
		lower[i] = c
	}
	switch string(lower[:len(name)]) {
	case "microsecond", "microseconds", "us", "usec", "usecs", "usecond", "useconds":
		return fieldMicroseconds
	case "millisecond", "milliseconds", "ms", "msec", "msecs", "mseconds":
		return fieldMilliseconds
	case "second", "seconds", "s", "sec", "secs":
		return fieldSecond
	case "minute", "minutes", "m", "min", "mins":
		return fieldMinute
	case "hour", "hours", "h", "hr", "hrs":
		return fieldHour
	case "day", "days", "d":
		return fieldDay
	case "week", "weeks", "w":
		return fieldWeek
	case "month", "months", "mon", "mons":
		return fieldMonth
	case "quarter", "qtr":
		return fieldQuarter
	case "year", "years", "y", "yr", "yrs":
		return fieldYear
	case "decade", "decades", "dec", "decs":
		return fieldDecade
	case "century", "centuries", "c", "cent":
		return fieldCentury
	case "millennium", "millennia", "mil", "mils":
		return fieldMillennium
	case "dow":
		return fieldDayOfWeek
	case "isodow":
		return fieldISODayOfWeek
	case "doy":
		return fieldDayOfYear
	case "isoyear":
		return fieldISOYear
	case "julian":
		return fieldJulian
	case "epoch":
		return fieldEpoch
	case "timezone":
		return fieldZone
	case "timezone_hour":
		return fieldZoneHour
	case "timezone_minute":
		return fieldZoneMinute
	}
	return fieldNone
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
