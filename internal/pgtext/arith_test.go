package pgtext_test

import (
	"fmt"
	"math"
	"math/rand/v2"
	"strconv"
	"testing"
	"time"

	"gancho/internal/pgtext"
)

// zones have histories worth testing: changes at midnight, on other days than
// their neighbours', by half hours, over the date line, negative summer time,
// offsets with seconds.
func zones() []string {
	return []string{
		"America/Sao_Paulo", "Europe/Lisbon", "America/New_York", "Europe/Dublin", "Europe/Moscow", "Asia/Kolkata",
		"Pacific/Apia", "Australia/Lord_Howe", "Africa/Monrovia", "Africa/Casablanca", "America/Noronha", "UTC",
	}
}

func timestamps(r *rand.Rand, n int) []int64 {
	out := make([]int64, n)
	for i := range out {
		out[i] = randomTimestamp(r)
	}
	return out
}

func appended[T any](f func([]byte, T) []byte, v T, err error) string {
	if err != nil {
		return outcome(nil, err)
	}
	return string(f(nil, v))
}

func TestTimestampsPrintAndParse(t *testing.T) {
	t.Parallel()
	r := random(t)
	conn := connect(t, pg.Database(t, "", try), "UTC")
	var probes []probe
	for _, ts := range timestamps(r, rounds(t, 1500)) {
		text := string(pgtext.AppendTimestamp(nil, ts))
		back, err := pgtext.ParseTimestamp([]byte(text))
		if err != nil || back != ts {
			t.Errorf("parse %q: %d, %v; want %d", text, back, err, ts)
		}
		probes = append(probes, probe{"timestamp " + quote(text), text})
		if ts == pgtext.Infinity || ts == pgtext.NegInfinity {
			continue
		}
		// Independently of the text: by seconds and microseconds from 2000.
		day, micros := ts/86_400_000_000, ts%86_400_000_000
		probes = append(probes, probe{
			fmt.Sprintf("timestamp '2000-01-01' + interval '%d days' + interval '%d us'", day, micros), text,
		})
		d := pgtext.TimestampToDate(ts)
		date := string(pgtext.AppendDate(nil, d))
		if back, err := pgtext.ParseDate([]byte(date)); err != nil || back != d {
			t.Errorf("parse %q: %d, %v; want %d", date, back, err, d)
		}
		probes = append(probes,
			probe{fmt.Sprintf("date '2000-01-01' + %d", d), date},
			probe{fmt.Sprintf("(%s)::date", tsText(ts)), date},
			probe{fmt.Sprintf("date '%s'::timestamp", date), appended(pgtext.AppendTimestamp, int64(d)*86_400_000_000, nil)})
	}
	compare(t, conn, probes)
}

// TestLiterals is of the input forms: what is accepted means what it means to
// PostgreSQL, and some forms must be accepted.
func TestLiterals(t *testing.T) {
	t.Parallel()
	conn := connect(t, pg.Database(t, "", try), "America/Sao_Paulo")
	loc := location(t, "America/Sao_Paulo")
	timestampOf := func(s string) string {
		v, err := pgtext.ParseTimestamp([]byte(s))
		return appended(pgtext.AppendTimestamp, v, err)
	}
	zonedOf := func(s string) string {
		v, err := pgtext.ParseTimestampTZ([]byte(s), loc)
		if err != nil {
			return outcome(nil, err)
		}
		return string(pgtext.AppendTimestampTZ(nil, v, loc))
	}
	dateOf := func(s string) string {
		v, err := pgtext.ParseDate([]byte(s))
		return appended(pgtext.AppendDate, v, err)
	}
	timeOf := func(s string) string {
		v, err := pgtext.ParseTime([]byte(s))
		return appended(pgtext.AppendTime, v, err)
	}
	intervalOf := func(s string) string {
		v, err := pgtext.ParseInterval([]byte(s))
		return appended(pgtext.AppendInterval, v, err)
	}
	for _, c := range []struct {
		kind     string
		of       func(string) string
		literals []string
	}{
		{"date", dateOf, []string{
			"2026-01-31", " 2026-1-5 ", "0044-03-15 BC", "0001-01-01 bc", "12026-01-01", "0004-02-29", "0001-02-29 BC", "5874897-12-31",
			"4714-11-24 BC", "infinity", "-Infinity", "2026-02-30", "2026-13-01", "0000-01-01", "5874898-01-01", "4714-11-23 BC", "1900-02-29", "2000-02-29 AD",
		}},
		{"timestamp", timestampOf, []string{
			"2026-01-31 14:30:00", "2026-01-31T14:30:00.5", "2026-01-31", "2026-01-31 14:30", "2026-01-31 24:00:00", "2026-01-31 23:59:60",
			"2026-01-31 14:30:00.1234565", "2026-01-31 14:30:00.9999999", "2026-01-31 1:2:3", "0044-03-15 12:00:00.25 BC", "infinity", "-infinity",
			"2026-01-31 25:00:00", "2026-01-31 12:60:00", "2026-01-31 24:00:01", "294276-12-31 23:59:59.999999", "294277-01-01 00:00:00", "4714-11-24 00:00:00 BC",
			"4714-11-23 23:59:59 BC", "2026-01-31 14:30:00.", "  2026-01-31   14:30:00  ",
		}},
		{"timestamptz", zonedOf, []string{
			"2026-01-31 14:30:00", "2026-01-31 14:30:00+00", "2026-01-31 14:30:00-03", "2026-01-31 14:30:00+05:30", "2026-01-31 14:30:00Z", "2026-01-31T14:30:00.25z",
			"2026-01-31 14:30:00 -03:00", "2026-01-31 14:30:00+0530", "2018-11-04 00:00:00", "2018-11-04 00:30:00", "2018-02-17 23:30:00", "1900-01-01 00:00:00",
			"1900-01-01 00:00:00-03:06:28", "2026-01-31", "0044-03-15 12:00:00+01 BC", "infinity", "2026-01-31 14:30:00+15:59", "294276-12-31 23:00:00-03", "294276-12-31 20:59:59-03",
		}},
		{"time", timeOf, []string{"14:30:00", "24:00:00", "00:00", "1:2:3.000001", "23:59:60", "24:00:01", "12:60:00"}},
		{"interval", intervalOf, []string{
			"1 day", "2 hours 30 minutes", "1 week", "-1 mon", "1 year 2 mons -3 days +04:05:06.7", "1.5 hours", "90 minutes", "04:05", "04:05:06", "-04:05:06.123456",
			"1 day ago", "1 year -2 days 03:00:00 ago", "1 millennium 1 century 1 decade", "10 ms", "1.5 ms", "10 us", "0.000001 seconds", "1h 5m", "1 DAY", "00:00:00",
			"1 day -02:03:04", "100:00:00", "2562047788:00:54.775807", "2147483647 days", "2147483648 days", "178956970 years", "178956971 years", "1 week 2 days", "00:60:00", "00:00:61", "00:00:60",
		}},
	} {
		var probes []probe
		refused := 0
		for _, s := range c.literals {
			got := c.of(s)
			if got == "ERROR 22007" {
				refused++ // a form of which we say that we do not read it
				continue
			}
			probes = append(probes, probe{c.kind + " " + quote(s), got})
		}
		if refused > 1 {
			t.Errorf("%s: %d literals were refused", c.kind, refused)
		}
		compare(t, conn, probes)
	}
}

func TestRefusedForms(t *testing.T) {
	t.Parallel()
	for _, s := range []string{"", "31/01/2026", "20260131", "today", "26-01-31", "2026-01", "2026-01-31x", "2026-01-31 14:30", "epoch", "2026-001-01"} {
		if v, err := pgtext.ParseDate([]byte(s)); err == nil {
			t.Errorf("date %q was read as %d", s, v)
		}
	}
	for _, s := range []string{"", "now", "2026-01-31 14", "2026-01-31 14:30:00-03", "2026-01-31 14:30:00 America/Sao_Paulo", "2026-01-31Z", "14:30", "2026-01-31 14:30 PM"} {
		if v, err := pgtext.ParseTimestamp([]byte(s)); err == nil {
			t.Errorf("timestamp %q was read as %d", s, v)
		}
	}
	for _, s := range []string{"2026-01-31 14:30:00 America/Sao_Paulo", "2026-01-31 14:30:00+1:2:3", "2026-01-31 14:30:00+16", "2026-01-31 14:30:00+123"} {
		if v, err := pgtext.ParseTimestampTZ([]byte(s), nil); err == nil {
			t.Errorf("timestamptz %q was read as %d", s, v)
		}
	}
	for _, s := range []string{
		"", "1-12", "P1.5D", "P1D1M", "1.5 months", "1 day 1 day", "1 fortnight", "day", "1 day 5", "@", "1 day -", "12:30.5", "1 hour 02:03", "1.5 s 2 ms", "999999999999999999999 days",
	} {
		if v, err := pgtext.ParseInterval([]byte(s)); err == nil {
			t.Errorf("interval %q was read as %+v", s, v)
		}
	}
}

func TestTimestampArithmetic(t *testing.T) {
	t.Parallel()
	r := random(t)
	conn := connect(t, pg.Database(t, "", try), "UTC")
	var probes []probe
	other := pgtext.Infinity
	for _, ts := range timestamps(r, rounds(t, 2000)) {
		i := randomInterval(r)
		sum, err := pgtext.AddInterval(ts, i)
		probes = append(probes, probe{tsText(ts) + " + " + intervalText(i), appended(pgtext.AppendTimestamp, sum, err)})
		if neg, err := i.Neg(); err == nil {
			sum, err := pgtext.AddInterval(ts, neg)
			probes = append(probes, probe{tsText(ts) + " - " + intervalText(i), appended(pgtext.AppendTimestamp, sum, err)})
		}
		finite := ts != pgtext.Infinity && ts != pgtext.NegInfinity && other != pgtext.Infinity && other != pgtext.NegInfinity
		// Unlike ours, PostgreSQL 15's difference wraps around; and infinities subtract since 17.
		if finite && math.Abs(float64(ts)-float64(other)) < math.MaxInt64 {
			diff, err := pgtext.SubTimestamps(ts, other)
			probes = append(probes, probe{tsText(ts) + " - " + tsText(other), appended(pgtext.AppendInterval, diff, err)})
			age, err := pgtext.Age(ts, other)
			probes = append(probes, probe{"age(" + tsText(ts) + ", " + tsText(other) + ")", appended(pgtext.AppendInterval, age, err)})
		}
		field := pick(r, "microseconds", "milliseconds", "second", "minute", "hour", "day", "week", "month", "quarter", "year", "decade", "century", "millennium")
		truncated, err := pgtext.TruncTimestamp(field, ts)
		probes = append(probes, probe{"date_trunc('" + field + "', " + tsText(ts) + ")", appended(pgtext.AppendTimestamp, truncated, err)})
		other = ts
	}
	compare(t, conn, probes)
}

func TestIntervals(t *testing.T) {
	t.Parallel()
	r := random(t)
	conn := connect(t, pg.Database(t, "", try), "UTC")
	var probes []probe
	for range rounds(t, 1500) {
		i, j := randomInterval(r), randomInterval(r)
		text := string(pgtext.AppendInterval(nil, i))
		if back, err := pgtext.ParseInterval([]byte(text)); err != nil || back != i {
			t.Errorf("parse %q: %+v, %v; want %+v", text, back, err, i)
		}
		if r.IntN(3) == 0 { // close to each other
			j = i
			j.Days += 30
			j.Months--
			j.Micros += r.Int64N(3) - 1
		}
		sum, sumErr := i.Add(j)
		diff, diffErr := i.Sub(j)
		probes = append(probes,
			probe{intervalText(i), text},
			probe{fmt.Sprintf("make_interval(months => %d, days => %d) + %d * interval '1 us'", i.Months, i.Days, i.Micros%1_000_000_000_000), string(pgtext.AppendInterval(nil, pgtext.Interval{Months: i.Months, Days: i.Days, Micros: i.Micros % 1_000_000_000_000}))},
			probe{"interval_cmp(" + intervalText(i) + ", " + intervalText(j) + ")", strconv.Itoa(pgtext.CompareIntervals(i, j))})
		if sumErr == nil {
			probes = append(probes, probe{intervalText(i) + " + " + intervalText(j), string(pgtext.AppendInterval(nil, sum))})
		}
		if diffErr == nil {
			probes = append(probes, probe{intervalText(i) + " - " + intervalText(j), string(pgtext.AppendInterval(nil, diff))})
		}
	}
	compare(t, conn, probes)
}

func TestZones(t *testing.T) {
	t.Parallel()
	r := random(t)
	dsn := pg.Database(t, "", try)
	for _, name := range zones() {
		loc := location(t, name)
		conn := connect(t, dsn, name)
		show := func(ts int64, err error) string {
			return appended(func(dst []byte, ts int64) []byte { return pgtext.AppendTimestampTZ(dst, ts, loc) }, ts, err)
		}
		var probes []probe
		for _, ts := range append(timestamps(r, rounds(t, 150)), nearChanges(r, loc, rounds(t, 120))...) {
			finite := ts != pgtext.Infinity && ts != pgtext.NegInfinity
			shown := show(ts, nil)
			back, err := pgtext.ParseTimestampTZ([]byte(shown), loc)
			if err != nil || back != ts {
				t.Errorf("%s: parse %q: %d, %v; want %d", name, shown, back, err, ts)
			}
			probes = append(probes,
				probe{tstzText(ts), shown},
				probe{"(" + tstzText(ts) + ")::timestamp", appended(pgtext.AppendTimestamp, pgtext.UTCToLocal(ts, loc), nil)})
			if utc := pgtext.LocalToUTC(ts, loc); !finite || utc > -211_813_488_000_000_000 && utc < 9_223_371_331_200_000_000 {
				probes = append(probes, probe{"(" + tsText(ts) + ")::timestamptz", show(utc, nil)})
			}
			i := randomInterval(r)
			field := pick(r, "second", "minute", "hour", "day", "week", "month", "quarter", "year", "decade", "century", "millennium")
			part := pick(r, "second", "minute", "hour", "day", "dow", "doy", "week", "month", "year", "epoch", "julian", "timezone", "timezone_hour", "timezone_minute")
			probes = append(probes,
				probe{tstzText(ts) + " + " + intervalText(i), show(pgtext.AddIntervalTZ(ts, i, loc))},
				probe{"date_trunc('" + field + "', " + tstzText(ts) + ")", show(pgtext.TruncTimestampTZ(field, ts, loc))},
				probe{"extract(" + part + " from " + tstzText(ts) + ")", outcome(pgtext.ExtractTimestampTZ(nil, part, ts, loc))})
		}
		compare(t, conn, probes)
	}
}

// nearChanges returns times within hours of the zone's changes of the clock.
func nearChanges(r *rand.Rand, loc *time.Location, n int) []int64 {
	const y2000 = 946_684_800
	var out []int64
	for range n {
		at := time.Unix(r.Int64N(200*365*86_400)-70*365*86_400, 0).In(loc)
		_, end := at.ZoneBounds()
		if end.IsZero() {
			continue
		}
		seconds := end.Unix() - y2000 + r.Int64N(6*3600) - 3*3600
		if r.IntN(2) == 0 {
			seconds -= seconds % 1800
		}
		if r.IntN(2) == 0 { // as a local time
			_, offset := end.Zone()
			seconds += int64(offset)
		}
		out = append(out, seconds*1_000_000)
	}
	return out
}

func TestExtract(t *testing.T) {
	t.Parallel()
	r := random(t)
	conn := connect(t, pg.Database(t, "", try), "UTC")
	day := []string{"day", "week", "month", "quarter", "year", "decade", "century", "millennium", "dow", "isodow", "doy", "isoyear", "julian", "epoch"}
	clock := []string{"microseconds", "milliseconds", "second", "minute", "hour"}
	var probes []probe
	for _, ts := range timestamps(r, rounds(t, 700)) {
		for range 4 {
			part := pick(r, pick(r, day, clock)...)
			probes = append(probes, probe{"extract(" + part + " from " + tsText(ts) + ")", outcome(pgtext.ExtractTimestamp(nil, part, ts))})
		}
		part := pick(r, day...)
		d := pgtext.TimestampToDate(ts)
		probes = append(probes, probe{fmt.Sprintf("extract(%s from date '%s')", part, pgtext.AppendDate(nil, d)), outcome(pgtext.ExtractDate(nil, part, d))})
		part = pick(r, append(clock, "epoch")...)
		micros := r.Int64N(86_400_000_001)
		probes = append(probes, probe{fmt.Sprintf("extract(%s from time '%s')", part, pgtext.AppendTime(nil, micros)), outcome(pgtext.ExtractTime(nil, part, micros))})
		part = pick(r, append(clock, "day", "month", "quarter", "year", "decade", "century", "millennium", "epoch")...)
		i := randomInterval(r)
		if part == "quarter" {
			i.Months = max(i.Months, 0)
		}
		probes = append(probes, probe{fmt.Sprintf("extract(%s from %s)", part, intervalText(i)), outcome(pgtext.ExtractInterval(nil, part, i))})
	}
	compare(t, conn, probes)
}

func TestUnsupportedFields(t *testing.T) {
	t.Parallel()
	for name, f := range map[string]func() error{
		"hour of a date":           func() error { _, err := pgtext.ExtractDate(nil, "hour", 0); return err },
		"zone of a timestamp":      func() error { _, err := pgtext.ExtractTimestamp(nil, "timezone", 0); return err },
		"day of a time":            func() error { _, err := pgtext.ExtractTime(nil, "day", 0); return err },
		"week of an interval":      func() error { _, err := pgtext.ExtractInterval(nil, "week", pgtext.Interval{}); return err },
		"no field":                 func() error { _, err := pgtext.ExtractTimestamp(nil, "fortnight", 0); return err },
		"truncate to dow":          func() error { _, err := pgtext.TruncTimestamp("dow", 0); return err },
		"truncate to the infinite": func() error { _, err := pgtext.TruncTimestamp("nothing", pgtext.Infinity); return err },
	} {
		if f() == nil {
			t.Errorf("%s: no error", name)
		}
	}
}
