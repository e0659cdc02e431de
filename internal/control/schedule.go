package control

import (
	"cmp"
	"context"
	"fmt"
	"time"

	"gancho/delivery/webhook"
	"gancho/internal/state"
	"gancho/internal/timetable"
)

// ScheduleView is a rule with schedule, and when it runs.
type ScheduleView struct {
	Rule     string `json:"rule"` // file:line
	Event    string `json:"event"`
	Schedule string `json:"schedule"`
	// Next is the scheduled time that is run next; what is before now is due. It is missing until the bridge knows the rule.
	Next time.Time `json:"next,omitzero"`
	// Running is the scheduled time of the run that has begun, and Failed when that failed last, because of Failure.
	Running time.Time `json:"running,omitzero"`
	Failed  time.Time `json:"failed,omitzero"`
	Failure string    `json:"failure,omitempty"`
	// Unread is why nothing of its runs is known: the state cannot be read.
	Unread string   `json:"unread,omitempty"`
	Last   *RunView `json:"last,omitempty"`
}

// Trouble is what is not in order with it; empty: nothing.
func (v *ScheduleView) Trouble() string {
	switch l := v.Last; {
	case v.Unread != "":
		return "when it ran and runs is not known: " + v.Unread
	case v.Failure != "":
		return v.Failure
	case l != nil && l.Uncomputed > 0:
		return fmt.Sprintf("rows without an event in the last run: %d; the first because of: %s", l.Uncomputed, l.Reason)
	}
	return ""
}

// RunView is a run that has ended.
type RunView struct {
	Scheduled  time.Time `json:"scheduled"`
	Ended      time.Time `json:"ended"`
	Seconds    float64   `json:"seconds"` // of its last attempt
	Rows       int64     `json:"rows"`
	Events     int64     `json:"events"`
	Uncomputed int64     `json:"uncomputed"` // rows of which no event could be made
	Reason     string    `json:"reason,omitempty"`
}

// Took is how long its last attempt took.
func (r *RunView) Took() webhook.Milliseconds {
	return webhook.Milliseconds(r.Seconds * float64(time.Second))
}

// schedules are the rules with schedule. With the error, which is that of the state, nothing of their runs is known.
func (s *Service) schedules(ctx context.Context) ([]ScheduleView, error) {
	var out []ScheduleView
	var known map[string]state.Schedule
	var unread error
	for _, t := range s.Catalogue() {
		for i := range t.Rules {
			r := &t.Rules[i]
			if r.Schedule == "" {
				continue
			}
			if known == nil && unread == nil && s.Store != nil {
				known, unread = s.Store.Schedules(ctx, s.SourceSlot)
			}
			v := ScheduleView{Rule: r.Place, Event: t.Name, Schedule: r.Schedule}
			if unread != nil {
				v.Unread = unread.Error()
			}
			if of, found := known[t.Name]; found {
				v.add(&of, cmp.Or(s.Zone, time.UTC))
			}
			out = append(out, v)
		}
	}
	return out, unread
}

// add adds what is known of the schedule.
func (v *ScheduleView) add(of *state.Schedule, zone *time.Location) {
	v.Running, v.Failed, v.Failure = of.Due, of.Failed, of.Failure
	since := of.Since
	if of.Due.After(since) {
		since = of.Due
	}
	if t, err := timetable.Parse(v.Schedule); err == nil {
		v.Next = t.Next(since, zone)
	}
	if l := of.Last; l != nil {
		v.Last = &RunView{Scheduled: l.Due, Ended: l.Ended, Seconds: l.Took.Seconds(), Rows: l.Rows, Events: l.Events, Uncomputed: l.Uncomputed, Reason: l.Reason}
	}
}
