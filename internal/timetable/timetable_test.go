package timetable_test

import (
	"testing"
	"time"
	_ "time/tzdata"

	"github.com/google/go-cmp/cmp"

	"gancho/internal/timetable"
)

const layout = "2006-01-02T15:04:05Z07:00"

func parse(t *testing.T, text string) timetable.Timetable {
	t.Helper()
	of, err := timetable.Parse(text)
	if fields, is := cutCron(text); is {
		of, err = timetable.ParseCron(fields)
	}
	if err != nil {
		t.Fatalf("%s: %v", text, err)
	}
	return of
}

func cutCron(text string) (string, bool) {
	const name = "cron "
	if len(text) > len(name) && text[:len(name)] == name {
		return text[len(name):], true
	}
	return "", false
}

// A time that does not exist, and one that exists twice, is due once.
func TestTurnedClocks(t *testing.T) {
	t.Parallel()
	for _, test := range []struct {
		name, zone, table, after string
		want                     []string
	}{
		// In 2018 São Paulo's clocks went from 00:00 to 01:00 on 4 November, and back from 00:00 to 23:00 on 18 February.
		{"midnight does not exist", "America/Sao_Paulo", "daily 00:00", "2018-11-03T12:00:00-03:00",
			[]string{"2018-11-04T01:00:00-02:00", "2018-11-05T00:00:00-02:00"}},
		{"half past midnight does not exist", "America/Sao_Paulo", "daily 00:30", "2018-11-03T12:00:00-03:00",
			[]string{"2018-11-04T01:00:00-02:00", "2018-11-05T00:30:00-02:00"}},
		{"two times of the hour that does not exist", "America/Sao_Paulo", "cron 0,30 0,1 * * *", "2018-11-03T12:00:00-03:00",
			[]string{"2018-11-04T01:00:00-02:00", "2018-11-04T01:30:00-02:00", "2018-11-05T00:00:00-02:00"}},
		{"eleven exists twice", "America/Sao_Paulo", "daily 23:30", "2018-02-16T23:30:00-02:00",
			[]string{"2018-02-17T23:30:00-02:00", "2018-02-18T23:30:00-03:00"}},
		{"eight is eight when they go forward", "America/Sao_Paulo", "daily 08:00", "2018-11-03T00:00:00-03:00",
			[]string{"2018-11-03T08:00:00-03:00", "2018-11-04T08:00:00-02:00"}},
		{"eight is eight when they go back", "America/Sao_Paulo", "daily 08:00", "2018-02-17T00:00:00-02:00",
			[]string{"2018-02-17T08:00:00-02:00", "2018-02-18T08:00:00-03:00"}},
		{"no summer time any more", "America/Sao_Paulo", "daily 00:00", "2026-11-01T12:00:00-03:00",
			[]string{"2026-11-02T00:00:00-03:00", "2026-11-03T00:00:00-03:00"}},
		// New York: 02:00 to 03:00 on 8 March 2026, 02:00 to 01:00 on 1 November 2026.
		{"half past two does not exist", "America/New_York", "daily 02:30", "2026-03-07T12:00:00-05:00",
			[]string{"2026-03-08T03:00:00-04:00", "2026-03-09T02:30:00-04:00"}},
		{"half past one exists twice", "America/New_York", "daily 01:30", "2026-10-31T12:00:00-04:00",
			[]string{"2026-11-01T01:30:00-04:00", "2026-11-02T01:30:00-05:00"}},
		{"asked between the two", "America/New_York", "daily 01:30", "2026-11-01T01:45:00-04:00",
			[]string{"2026-11-02T01:30:00-05:00"}},
		{"hourly is each hour that passes", "America/New_York", "hourly", "2026-11-01T00:10:00-04:00",
			[]string{"2026-11-01T01:00:00-04:00", "2026-11-01T01:00:00-05:00", "2026-11-01T02:00:00-05:00"}},
		{"every knows no clock", "America/New_York", "every 30m", "2026-03-08T01:31:00-05:00",
			[]string{"2026-03-08T03:00:00-04:00", "2026-03-08T03:30:00-04:00"}},
		{"hourly, clocks turned by half an hour", "Australia/Lord_Howe", "hourly", "2026-04-05T01:05:00+11:00",
			[]string{"2026-04-05T02:00:00+10:30", "2026-04-05T03:00:00+10:30"}},
		{"weekly", "America/Sao_Paulo", "weekly mon 07:15", "2026-11-29T09:00:00-03:00",
			[]string{"2026-11-30T07:15:00-03:00", "2026-12-07T07:15:00-03:00"}},
		{"monthly", "America/Sao_Paulo", "monthly 28 06:00", "2026-01-28T06:00:00-03:00",
			[]string{"2026-02-28T06:00:00-03:00", "2026-03-28T06:00:00-03:00"}},
		{"cron", "UTC", "cron */20 8 * * 1-5", "2026-11-27T08:30:00Z",
			[]string{"2026-11-27T08:40:00Z", "2026-11-30T08:00:00Z"}},
		{"a leap day", "UTC", "cron 0 0 29 2 *", "2025-01-01T00:00:00Z", []string{"2028-02-29T00:00:00Z"}},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			zone, err := time.LoadLocation(test.zone)
			if err != nil {
				t.Fatal(err)
			}
			at, err := time.Parse(layout, test.after)
			if err != nil {
				t.Fatal(err)
			}
			of := parse(t, test.table)
			var got []string
			for range test.want {
				at = of.Next(at, zone)
				got = append(got, at.Format(layout))
			}
			if diff := cmp.Diff(test.want, got); diff != "" {
				t.Error(diff)
			}
		})
	}
}

// Over twenty years of turned clocks, whichever time of the day: one a day, each later than the one before, and whoever
// asks from any moment between two gets the same next one.
func TestOneADay(t *testing.T) {
	t.Parallel()
	for _, name := range []string{"America/Sao_Paulo", "America/New_York", "Australia/Lord_Howe", "UTC"} {
		zone, err := time.LoadLocation(name)
		if err != nil {
			t.Fatal(err)
		}
		for _, text := range []string{"daily 00:00", "daily 00:30", "daily 01:59", "daily 02:00", "daily 02:15", "daily 23:30"} {
			of := parse(t, text)
			at := of.Next(time.Date(2000, 1, 1, 23, 59, 0, 0, zone), zone)
			for day := time.Date(2000, 1, 2, 0, 0, 0, 0, time.UTC); day.Year() < 2020; day = day.AddDate(0, 0, 1) {
				if got := at.Format(time.DateOnly); got != day.Format(time.DateOnly) {
					t.Fatalf("%s in %s is due on %s, want %s", text, name, got, day.Format(time.DateOnly))
				}
				next := of.Next(at, zone)
				if again := of.Next(next.Add(-time.Second), zone); !again.Equal(next) {
					t.Fatalf("%s in %s after %s is %s a second before it, want %s", text, name, at, again, next)
				}
				at = next
			}
		}
	}
}

func TestNoTimetables(t *testing.T) {
	t.Parallel()
	for _, text := range []string{"", "sometimes", "every", "every 0s", "every 1ms", "every 25h", "daily", "daily 8", "daily 24:00", "weekly seg 08:00", "weekly mon", "monthly 29 08:00", "hourly 5", "weekly *,m 08:00"} {
		if of, err := timetable.Parse(text); err == nil {
			t.Errorf("%q is read as %s", text, of)
		}
	}
	for _, fields := range []string{"", "* * * *", "@daily", "@every 5m", "TZ=UTC 0 0 * * *", "0 0 31 2 *", "61 * * * *"} {
		if of, err := timetable.ParseCron(fields); err == nil {
			t.Errorf("cron %q is read as %s", fields, of)
		}
	}
}
