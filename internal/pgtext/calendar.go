package pgtext

import (
	"math"
	"time"
)

const (
	microsPerSecond = 1_000_000
	microsPerMinute = 60 * microsPerSecond
	microsPerHour   = 60 * microsPerMinute
	microsPerDay    = 24 * microsPerHour
	secondsPerDay   = 86_400

	// julianEpoch is the Julian day number of 2000-01-01, and unixEpoch the
	// seconds from 1970-01-01 to it.
	julianEpoch = 2_451_545
	unixEpoch   = 946_684_800

	// MinDate and MaxDate are the first and the last date: 4714-11-24 BC and
	// 5874897-12-31. Timestamps end before 294277-01-01.
	MinDate      = -julianEpoch
	MaxDate      = 2_147_483_493 - julianEpoch
	minTimestamp = -211_813_488_000_000_000
	endTimestamp = 9_223_371_331_200_000_000
)

func finiteDate(d int32) bool      { return d != minInt32 && d != maxInt32 }
func finiteTimestamp(t int64) bool { return t != NegInfinity && t != Infinity }
func validTimestamp(t int64) bool  { return t >= minTimestamp && t < endTimestamp }

// CheckTimestamp returns ts, infinite or in the range of timestamps, or an error.
func CheckTimestamp(ts int64) (int64, error) {
	if finiteTimestamp(ts) && !validTimestamp(ts) {
		return 0, errTimestampRange
	}
	return ts, nil
}

// MakeDate returns make_date(year, month, day); years before Christ are negative.
func MakeDate(year, month, day int64) (int32, error) {
	if year < 0 {
		year++ // 1 BC is the year 0
	} else if year == 0 {
		return 0, errDateField
	}
	days, ok := checkedDays(year, month, day)
	switch {
	case !ok || year > 5_874_897 || year < -4713:
		return 0, errDateField
	case days < MinDate:
		return 0, dateRange("date")
	}
	return int32(days), nil
}

var errDateField = &Error{Code: codeDatetimeRange, Message: "date field value out of range"}

// checkedDays is daysOf for numbers that may be no day.
func checkedDays(year, month, day int64) (int64, bool) {
	if month < 1 || month > 12 || day < 1 || day > 31 || int(day) > daysInMonth(year, int(month)) {
		return 0, false
	}
	return daysOf(year, int(month), int(day)), true
}

// civil is a day of the proleptic Gregorian calendar. The year is
// astronomical: 0 is 1 BC.
type civil struct {
	year       int64
	month, day int
}

// daysOf returns the days from 2000-01-01 to the given day.
func daysOf(year int64, month, day int) int64 {
	// Years begin in March, so that the leap day is the last of the year.
	if month <= 2 {
		year--
		month += 12
	}
	days := int64(153*(month-3)+2)/5 + int64(day) - 1 - 730_425
	if year >= 0 {
		return days + year*365 + year/4 - year/100 + year/400
	}
	return days + year*365 + floorDiv(year, 4) - floorDiv(year, 100) + floorDiv(year, 400)
}

// civilOf is the inverse of daysOf.
func civilOf(days int64) civil {
	days += 730_425
	era := floorDiv(days, 146_097)
	doe := days - era*146_097
	yoe := (doe - doe/1460 + doe/36_524 - doe/146_096) / 365
	doy := doe - (365*yoe + yoe/4 - yoe/100)
	mp := (5*doy + 2) / 153
	c := civil{year: yoe + era*400, month: int(mp) + 3, day: int(doy-(153*mp+2)/5) + 1}
	if c.month > 12 {
		c.month -= 12
		c.year++
	}
	return c
}

func daysInMonth(year int64, month int) int {
	switch month {
	case 4, 6, 9, 11:
		return 30
	case 2:
		if year%4 == 0 && (year%100 != 0 || year%400 == 0) {
			return 29
		}
		return 28
	}
	return 31
}

// weekday is 0 for Sunday to 6 for Saturday.
func weekday(days int64) int { return int(floorMod(days+6, 7)) }

// isoWeekday is 1 for Monday to 7 for Sunday.
func isoWeekday(days int64) int { return int(floorMod(days+5, 7)) + 1 }

// isoWeek returns the ISO 8601 week and the (astronomical) year it belongs to:
// those of the week's Thursday.
func isoWeek(days int64) (year int64, week int) {
	thursday := days - int64(isoWeekday(days)) + 4
	year = civilOf(thursday).year
	return year, int(thursday-daysOf(year, 1, 1))/7 + 1
}

// yearDay is the day's number in its year, from 1.
func yearDay(days int64, year int64) int { return int(days-daysOf(year, 1, 1)) + 1 }

// unsignedYear counts years without sign: BC stands behind them, or is a pattern of its own.
func unsignedYear(year int64) int64 {
	if year <= 0 {
		return 1 - year
	}
	return year
}

// shownYear is the year as people count: there is no year 0, and 1 BC is -1.
func shownYear(year int64) int64 {
	if year <= 0 {
		return year - 1
	}
	return year
}

// splitTimestamp returns the day and the microseconds within it.
func splitTimestamp(ts int64) (days, micros int64) {
	days = floorDiv(ts, microsPerDay)
	return days, ts - days*microsPerDay
}

func floorDiv(a, b int64) int64 {
	q := a / b
	if a%b < 0 {
		q--
	}
	return q
}

func floorMod(a, b int64) int64 { return a - floorDiv(a, b)*b }

var (
	errTimestampRange = &Error{Code: codeDatetimeRange, Message: "timestamp out of range"}
	errInfinite       = &Error{Code: codeDatetimeRange, Message: "cannot subtract infinite timestamps"}
)

// DateToTimestamp returns the first microsecond of a day.
func DateToTimestamp(d int32) (int64, error) {
	switch {
	case d == minInt32:
		return NegInfinity, nil
	case d == maxInt32:
		return Infinity, nil
	case int64(d) >= endTimestamp/microsPerDay:
		return 0, &Error{Code: codeDatetimeRange, Message: "date out of range for timestamp"}
	}
	return int64(d) * microsPerDay, nil
}

// TimestampToDate returns the day of a timestamp.
func TimestampToDate(ts int64) int32 {
	switch ts {
	case NegInfinity:
		return minInt32
	case Infinity:
		return maxInt32
	}
	return int32(floorDiv(ts, microsPerDay))
}

// AddInterval returns ts + i for a timestamp without zone: first the months, a
// day beyond the month's last becoming the last, then the days, then the time.
func AddInterval(ts int64, i Interval) (int64, error) {
	return AddIntervalTZ(ts, i, nil)
}

// AddIntervalTZ returns ts + i for an instant: months and days move the local
// time in loc (nil is UTC), the rest is exact.
func AddIntervalTZ(ts int64, i Interval, loc *time.Location) (int64, error) {
	if inf := i.infinite(); inf != 0 {
		return addInfinite(ts, inf)
	}
	if !finiteTimestamp(ts) {
		return ts, nil
	}
	if i.Months != 0 {
		local, err := addMonths(UTCToLocal(ts, loc), int64(i.Months))
		if err != nil {
			return 0, err
		}
		if ts = LocalToUTC(local, loc); !validTimestamp(ts) {
			return 0, errTimestampRange
		}
	}
	if i.Days != 0 {
		days, micros := splitTimestamp(UTCToLocal(ts, loc))
		days += int64(i.Days)
		if days < MinDate || days > endTimestamp/microsPerDay {
			return 0, errTimestampRange
		}
		if ts = LocalToUTC(days*microsPerDay+micros, loc); !validTimestamp(ts) {
			return 0, errTimestampRange
		}
	}
	sum := ts + i.Micros
	if i.Micros != 0 && (sum > ts) != (i.Micros > 0) || !validTimestamp(sum) {
		return 0, errTimestampRange
	}
	return sum, nil
}

func addInfinite(ts int64, sign int) (int64, error) {
	result := Infinity
	if sign < 0 {
		result = NegInfinity
	}
	if !finiteTimestamp(ts) && ts != result {
		return 0, errTimestampRange
	}
	return result, nil
}

func addMonths(ts, months int64) (int64, error) {
	days, micros := splitTimestamp(ts)
	c := civilOf(days)
	month := int64(c.month-1) + months
	year := c.year + floorDiv(month, 12)
	c.month = int(floorMod(month, 12)) + 1
	days = daysOf(year, c.month, min(c.day, daysInMonth(year, c.month)))
	if days < MinDate || days >= endTimestamp/microsPerDay {
		return 0, errTimestampRange
	}
	return days*microsPerDay + micros, nil
}

// SubTimestamps returns a - b as PostgreSQL does: days of 24 hours and the
// rest. Infinite timestamps are refused, as PostgreSQL does before version 17.
func SubTimestamps(a, b int64) (Interval, error) {
	if !finiteTimestamp(a) || !finiteTimestamp(b) {
		return Interval{}, errInfinite
	}
	diff := a - b
	if (a >= b) != (diff >= 0) {
		return Interval{}, errIntervalRange
	}
	return Interval{Days: int32(diff / microsPerDay), Micros: diff % microsPerDay}, nil
}

// Age returns a - b in years, months, days and time, as PostgreSQL's age()
// does for timestamps without zone.
func Age(a, b int64) (Interval, error) {
	return age(a, b, a < b)
}

// AgeTZ returns a - b of two instants as PostgreSQL's age() does: the difference
// of their local times in loc (nil is UTC), where the earlier instant may have the
// later local time.
func AgeTZ(a, b int64, loc *time.Location) (Interval, error) {
	return age(UTCToLocal(a, loc), UTCToLocal(b, loc), a < b)
}

// age is the difference of two local times; negative says that a is the earlier one.
func age(a, b int64, negative bool) (Interval, error) {
	if !finiteTimestamp(a) || !finiteTimestamp(b) {
		return Interval{}, errInfinite
	}
	// The later minus the earlier; borrowed days are those of the earlier's month.
	later, earlier := a, b
	if negative {
		later, earlier = b, a
	}
	laterDays, laterMicros := splitTimestamp(later)
	earlierDays, earlierMicros := splitTimestamp(earlier)
	x, y := civilOf(laterDays), civilOf(earlierDays)
	micros := laterMicros - earlierMicros
	days := x.day - y.day
	months := (x.year-y.year)*12 + int64(x.month-y.month)
	if micros < 0 {
		micros += microsPerDay
		days--
	}
	for days < 0 {
		days += daysInMonth(y.year, y.month)
		months--
	}
	if months > math.MaxInt32 {
		return Interval{}, errIntervalRange
	}
	i := Interval{Months: int32(months), Days: int32(days), Micros: micros}
	if negative {
		return i.Neg()
	}
	return i, nil
}
