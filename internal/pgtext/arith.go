package pgtext

import (
	"math"
	"time"
)

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
	if !finiteTimestamp(a) || !finiteTimestamp(b) {
		return Interval{}, errInfinite
	}
	// The later minus the earlier; borrowed days are those of the earlier's month.
	later, earlier := a, b
	if a < b {
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
	if a < b {
		return i.Neg()
	}
	return i, nil
}
