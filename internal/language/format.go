package language

import (
	"time"
)

// Number returns 1234567 as 1.234.567 or 1,234,567.
func (l *Language) Number(n int64) string { return l.numbers.Sprintf("%d", n) }

// Decimal returns a number with one decimal: 1,5 or 1.5.
func (l *Language) Decimal(n float64) string { return l.numbers.Sprintf("%.1f", n) }

// Bytes returns a size with one decimal, in binary units.
func (l *Language) Bytes(n int64) string {
	units := []string{"B", "KiB", "MiB", "GiB", "TiB"}
	size, unit := float64(n), 0
	for size >= 1024 && unit < len(units)-1 {
		size /= 1024
		unit++
	}
	if unit == 0 {
		return l.Number(n) + " B"
	}
	return l.Decimal(size) + " " + units[unit]
}

// Time returns the day and the time, to the second, in a time zone: 28/11/2026 14:03:09, or 2026-11-28 14:03:09. A zero time
// is a dash.
func (l *Language) Time(t time.Time, zone *time.Location) string {
	if t.IsZero() {
		return "–"
	}
	layout := "2006-01-02 15:04:05"
	if l.Code == Portuguese {
		layout = "02/01/2006 15:04:05"
	}
	return t.In(zone).Format(layout)
}

// Date returns a day: 28/11/2026, or 2026-11-28.
func (l *Language) Date(t time.Time) string {
	if l.Code == Portuguese {
		return t.Format("02/01/2006")
	}
	return t.Format(time.DateOnly)
}

// Duration returns a time span in its largest unit: 40 s, 12 min, 3 h, 5 d.
func (l *Language) Duration(d time.Duration) string {
	const day = 24 * time.Hour
	switch d = d.Abs(); {
	case d < time.Minute:
		return l.Number(int64(d/time.Second)) + " s"
	case d < time.Hour:
		return l.Number(int64(d/time.Minute)) + " min"
	case d < 2*day:
		return l.Number(int64(d/time.Hour)) + " h"
	}
	return l.Number(int64(d/day)) + " d"
}

// Ago returns how long before now a time is: "há 3 min", "3 min ago". A zero time is a dash.
func (l *Language) Ago(t, now time.Time) string {
	if t.IsZero() {
		return "–"
	}
	if t.After(now) {
		return l.Text("time.in", "span", l.Duration(t.Sub(now)))
	}
	return l.Text("time.ago", "span", l.Duration(now.Sub(t)))
}
