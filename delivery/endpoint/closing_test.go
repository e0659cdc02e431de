package endpoint_test

import (
	"testing"
	"time"

	"gancho/delivery/endpoint"
)

// TestDaysOverTimeZones has days on which clocks change, at midnight too.
func TestDaysOverTimeZones(t *testing.T) {
	t.Parallel()
	for _, test := range []struct {
		zone, closing string
		day           endpoint.Day
		begins        string // in UTC
		hours         float64
		due           string
	}{
		{"UTC", "daily 00:10", "2026-11-20", "2026-11-20T00:00:00Z", 24, "2026-11-21T00:10:00Z"},
		{"America/Sao_Paulo", "daily 00:10", "2026-11-20", "2026-11-20T03:00:00Z", 24, "2026-11-21T03:10:00Z"},
		{"America/Sao_Paulo", "daily 23:59", "2026-12-31", "2026-12-31T03:00:00Z", 24, "2027-01-02T02:59:00Z"},
		// Clocks went from 00:00 to 01:00, so that the day had no 00:10.
		{"America/Sao_Paulo", "daily 00:10", "2018-11-03", "2018-11-03T03:00:00Z", 24, "2018-11-04T03:01:00Z"},
		{"America/Sao_Paulo", "daily 00:10", "2018-11-04", "2018-11-04T03:00:00Z", 23, "2018-11-05T02:10:00Z"},
		// From 24:00 back to 23:00.
		{"America/Sao_Paulo", "daily 00:10", "2019-02-16", "2019-02-16T02:00:00Z", 25, "2019-02-17T03:10:00Z"},
		// From 01:00 back to 00:00: the day has two midnights.
		{"America/Havana", "daily 00:10", "2025-11-02", "2025-11-02T04:00:00Z", 25, "2025-11-03T05:10:00Z"},
		{"Europe/Lisbon", "daily 01:30", "2026-03-28", "2026-03-28T00:00:00Z", 24, "2026-03-29T01:30:00Z"},
		{"Asia/Kathmandu", "daily 00:01", "2026-11-20", "2026-11-19T18:15:00Z", 24, "2026-11-20T18:16:00Z"},
		{"Australia/Lord_Howe", "daily 00:10", "2026-04-05", "2026-04-04T13:00:00Z", 24.5, "2026-04-05T13:40:00Z"},
		{"Pacific/Apia", "daily 00:10", "2011-12-30", "2011-12-30T10:00:00Z", 0, "2011-12-30T10:10:00Z"}, // was skipped
		{"Pacific/Kiritimati", "daily 12:00", "2026-11-20", "2026-11-19T10:00:00Z", 24, "2026-11-20T22:00:00Z"},
	} {
		zone, err := time.LoadLocation(test.zone)
		if err != nil {
			t.Fatal(err)
		}
		e, err := endpoint.Parse("", []byte(`{"url":"https://x.com","closing":"`+test.closing+`"}`))
		if err != nil {
			t.Fatal(err)
		}
		begins, ends := test.day.Begins(zone), test.day.Plus(1).Begins(zone)
		due := e.Closing.Due(test.day, zone)
		if got := begins.UTC().Format(time.RFC3339); got != test.begins {
			t.Errorf("%s of %s begins at %s, want %s", test.day, test.zone, got, test.begins)
		}
		if got := ends.Sub(begins).Hours(); got != test.hours {
			t.Errorf("%s of %s has %g hours, want %g", test.day, test.zone, got, test.hours)
		}
		if got := due.UTC().Format(time.RFC3339); got != test.due {
			t.Errorf("%s of %s, %s, is due at %s, want %s", test.day, test.zone, test.closing, got, test.due)
		}
		if got := e.Closing.LastDue(due, zone); test.hours > 0 && got != test.day {
			t.Errorf("when %s of %s is due, the last one is %s", test.day, test.zone, got)
		}
		if got := e.Closing.LastDue(due.Add(-time.Second), zone); got >= test.day {
			t.Errorf("before %s of %s is due, the last one is %s", test.day, test.zone, got)
		}
	}
}

func TestClosingIsRefused(t *testing.T) {
	t.Parallel()
	for _, text := range []string{"", "daily", "00:10", "daily 00:00", "daily 24:00", "daily 0:10", "daily 00:60", "weekly 00:10", "daily 00:10 ", "Daily 00:10"} {
		if _, err := endpoint.Parse("", []byte(`{"url":"https://x.com","closing":"`+text+`"}`)); err == nil {
			t.Errorf("closing %q is accepted", text)
		}
	}
}
