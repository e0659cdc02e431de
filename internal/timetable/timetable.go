// Package timetable says when something is due that people write as: every 5m, hourly, daily 08:00, weekly mon 08:00,
// monthly 1 08:00, or in cron's five fields.
//
// Times of day are those of the clocks of a zone. Where its clocks are turned, a time that does not exist is the moment at
// which they are turned, and one that exists twice is the first of the two: each is due once. every and hourly know no
// clock that is turned: they are due after the same time always.
package timetable

import (
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/robfig/cron/v3"
)

// Timetable says when something is due. The zero value is never due.
type Timetable struct {
	text  string
	every time.Duration // 0: not every
	// spec is of clock times; nil: every or hourly. cron's own Next skips times that do not exist and returns both of those
	// that exist twice, so that it is asked about clocks that are never turned.
	spec cron.Schedule
}

const (
	// minEvery and maxEvery bound every: below the first it would be a poll, and the second is daily.
	minEvery, maxEvery = 10 * time.Second, 24 * time.Hour
)

// Hint is what can be written.
const Hint = "write every 5m, hourly, daily 08:00, weekly mon 08:00, monthly 1 08:00, or {cron: \"0 8 * * 1-5\"}"

// Parse reads a timetable as people write it, and as String returns it. Its error says what is wrong; Hint, what can be written.
func Parse(text string) (Timetable, error) {
	words := strings.Fields(text)
	if len(words) == 0 {
		return Timetable{}, errors.New("it is empty")
	}
	of, args := words[0], words[1:]
	if of == "cron" {
		return ParseCron(strings.Join(args, " "))
	}
	wanted := map[string]int{"every": 1, "hourly": 0, "daily": 1, "weekly": 2, "monthly": 2}
	n, known := wanted[of]
	if !known {
		return Timetable{}, fmt.Errorf("%q is no timetable", text)
	}
	if len(args) != n {
		return Timetable{}, fmt.Errorf("%s takes %d words behind it, and there are %d", of, n, len(args))
	}
	t := Timetable{text: strings.Join(words, " ")}
	day, weekday := "*", "*"
	switch of {
	case "every":
		var err error
		t.every, err = time.ParseDuration(args[0])
		if err != nil || t.every < minEvery || t.every > maxEvery || t.every%time.Second != 0 {
			return Timetable{}, fmt.Errorf("%q is no time from %v to %v in whole seconds, such as 5m", args[0], minEvery, maxEvery)
		}
		return t, nil
	case "hourly":
		return t, nil
	case "weekly":
		weekday = strings.ToLower(args[0])
		if !slices.Contains([]string{"sun", "mon", "tue", "wed", "thu", "fri", "sat"}, weekday) {
			return Timetable{}, fmt.Errorf("%q is no day of the week: write sun, mon, tue, wed, thu, fri or sat", args[0])
		}
	case "monthly":
		if d, err := strconv.Atoi(args[0]); err != nil || d < 1 || d > 28 {
			return Timetable{}, fmt.Errorf("%q is no day that each month has, 1 to 28", args[0])
		}
		day = args[0]
	}
	at, err := time.Parse("15:04", args[len(args)-1])
	if err != nil {
		return Timetable{}, fmt.Errorf("%q is no time of day, such as 08:00", args[len(args)-1])
	}
	t.spec, err = parseCron(fmt.Sprintf("%d %d %s * %s", at.Minute(), at.Hour(), day, weekday))
	return t, err
}

// ParseCron reads cron's five fields: minute, hour, day of the month, month, day of the week. Of both days either suffices,
// unless one is *.
func ParseCron(fields string) (Timetable, error) {
	t := Timetable{text: "cron " + strings.Join(strings.Fields(fields), " ")}
	var err error
	t.spec, err = parseCron(fields)
	return t, err
}

func parseCron(fields string) (cron.Schedule, error) {
	if strings.ContainsAny(fields, "@=") { // descriptors and zones
		return nil, errors.New("it is not the five fields of cron: minute, hour, day of the month, month, day of the week")
	}
	spec, err := cron.NewParser(cron.Minute | cron.Hour | cron.Dom | cron.Month | cron.Dow).Parse(fields)
	if err != nil {
		return nil, fmt.Errorf("it is not the five fields of cron: %w", err)
	}
	if spec.Next(time.Date(2000, 1, 1, 0, 0, 0, 0, time.UTC)).IsZero() {
		return nil, errors.New("no date has what it says")
	}
	return spec, nil
}

// String is the timetable as it was written.
func (t Timetable) String() string { return t.text }

// Next returns the first time after one at which it is due in the zone, in whole seconds; the zero time for the zero
// Timetable.
func (t Timetable) Next(after time.Time, zone *time.Location) time.Time {
	switch {
	case t.text == "":
		return time.Time{}
	case t.every > 0: // a multiple of it since 1970
		return after.Truncate(time.Second).Add(t.every - time.Duration(after.Unix())*time.Second%t.every).In(zone)
	case t.spec == nil:
		return nextHour(after.In(zone))
	}
	// The first clock time may be one that has been: the second of two.
	for clock := asUTC(after.In(zone)); ; {
		clock = t.spec.Next(clock)
		if clock.IsZero() { // more than five years without one
			return time.Time{}
		}
		if due := firstAt(clock, zone); due.After(after) {
			return due
		}
	}
}

// nextHour is the next time with the minute 0: the clocks of a zone may be half an hour off those of others.
func nextHour(after time.Time) time.Time {
	next := after.Add(time.Hour - sinceHour(after))
	if off := sinceHour(next); off != 0 { // turned by half an hour
		next = next.Add(time.Hour - off)
	}
	return next
}

func sinceHour(t time.Time) time.Duration {
	return time.Duration(t.Minute())*time.Minute + time.Duration(t.Second())*time.Second + time.Duration(t.Nanosecond())
}

// asUTC is what the clocks show, as those that are never turned would show it.
func asUTC(t time.Time) time.Time {
	return time.Date(t.Year(), t.Month(), t.Day(), t.Hour(), t.Minute(), t.Second(), t.Nanosecond(), time.UTC)
}

// firstAt is the first time at which the zone's clocks show this or more.
func firstAt(clock time.Time, zone *time.Location) time.Time {
	t := time.Date(clock.Year(), clock.Month(), clock.Day(), clock.Hour(), clock.Minute(), clock.Second(), 0, zone)
	begin, end := t.ZoneBounds()
	shown := asUTC(t)
	switch {
	case shown.Before(clock): // it does not exist, and t is before the clocks are turned
		return end.In(zone)
	case shown.After(clock): // ... or behind that
		return begin.In(zone)
	}
	// It exists: earlier, too, if the clocks were turned back to before it.
	if !begin.IsZero() {
		_, now := t.Zone()
		_, before := begin.Add(-time.Second).Zone()
		if earlier := t.Add(-time.Duration(before-now) * time.Second); before > now && earlier.Before(begin) {
			return earlier
		}
	}
	return t
}
