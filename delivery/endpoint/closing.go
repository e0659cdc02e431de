package endpoint

import (
	"fmt"
	"strings"
	"time"
)

// Closing is when an endpoint is sent the closing of the day before: minutes after midnight, in
// the source's time zone; 0: it gets none. A trailer as banks put at the end of a file.
type Closing int

// minClosing leaves commits of the day's last moment the time to be in the WAL.
const minClosing = 1

// String returns the setting as the configuration spells it; "" when there is none.
func (c Closing) String() string {
	if c == 0 {
		return ""
	}
	return fmt.Sprintf("daily %02d:%02d", int(c)/60, int(c)%60)
}

// decodeClosing reads such as daily 00:10.
func decodeClosing(v value) Closing {
	text := v.Text()
	clock, daily := strings.CutPrefix(text, "daily ")
	at, err := time.Parse("15:04", clock)
	c := Closing(at.Hour()*60 + at.Minute())
	if !daily || err != nil || c < minClosing || c.String() != text {
		v.Errorf("write such as daily 00:10, from 00:01 to 23:59 of source.timezone, for the closing of the day before", "%q is not when a day is closed", text)
		return 0
	}
	return c
}

// Day is a date. Days compare as texts do: 2006-01-02.
type Day string

// ParseDay reads such as 2006-01-02.
func ParseDay(text string) (Day, bool) {
	_, err := time.Parse(time.DateOnly, text)
	return Day(text), err == nil && text >= "1970-01-01" && text < "9999-12-01" // whose next ones are dates, too
}

// DayOf is the date of a time, in its location.
func DayOf(t time.Time) Day { return Day(t.Format(time.DateOnly)) }

// Plus is the date some days later.
func (d Day) Plus(days int) Day {
	t, _ := time.Parse(time.DateOnly, string(d)) // a Day is one
	return DayOf(t.AddDate(0, 0, days))
}

// quarter divides all offsets of time zones.
const quarter = 15 * time.Minute

// Begins is the first quarter of an hour of the day in a time zone. Where clocks go forward at
// midnight that is 01:00, where they go back to it, the first of both; and a day that a zone has skipped ends when it begins.
func (d Day) Begins(zone *time.Location) time.Time {
	t, _ := time.Parse(time.DateOnly, string(d)) // a Day is one
	for t = t.Add(-27 * time.Hour); DayOf(t.In(zone)) < d; {
		t = t.Add(quarter)
	}
	return t.In(zone)
}

// Due is when the closing of a day is due.
func (c Closing) Due(d Day, zone *time.Location) time.Time {
	next := d.Plus(1)
	begins := next.Begins(zone)
	day, _ := time.Parse(time.DateOnly, string(next)) // a Day is one
	due := time.Date(day.Year(), day.Month(), day.Day(), int(c)/60, int(c)%60, 0, 0, zone)
	if earliest := begins.Add(minClosing * time.Minute); due.Before(earliest) {
		return earliest // clocks skip the time that was chosen
	}
	return due
}

// LastDue is the newest day whose closing is due.
func (c Closing) LastDue(now time.Time, zone *time.Location) Day {
	d := DayOf(now.In(zone)).Plus(-1)
	if now.Before(c.Due(d, zone)) {
		d = d.Plus(-1)
	}
	return d
}
