package main

import (
	"cmp"
	"time"

	"gancho/internal/control"
	"gancho/internal/language"
)

// scheduleText is a table of the rules with schedule.
func (s *session) scheduleText(schedules []control.ScheduleView) error {
	if len(schedules) == 0 {
		return nil
	}
	if err := s.say("\n"); err != nil {
		return err
	}
	l, _ := language.From(s.cmd.Context())
	heading := []string{"RULE", "SCHEDULE", "NEXT RUN", "LAST RUN", "ROWS", "EVENTS", "TOOK", "TROUBLE"}
	for i, name := range heading {
		heading[i] = l.Translate("cli.heading", name)
	}
	t := newTable(s.cmd.OutOrStdout(), heading...)
	when := func(at time.Time) string {
		if at.IsZero() {
			return "-"
		}
		return at.In(cmp.Or(s.zone, time.UTC)).Format("2006-01-02 15:04:05")
	}
	for i := range schedules {
		v := &schedules[i]
		last, rows, events, took, trouble := "-", "-", "-", "-", v.Trouble()
		if r := v.Last; r != nil {
			last, rows, events = when(r.Scheduled), count(r.Rows), count(r.Events)
			took = time.Duration(r.Seconds * float64(time.Second)).Round(time.Millisecond).String()
		}
		t.row(v.Rule, v.Schedule, when(v.Next), last, rows, events, took, orDash(reasonText(l, trouble)))
	}
	return t.end()
}
