package simulate

import (
	"context"
	"errors"
	"fmt"
	"hash/maphash"
	"math"
	"slices"
	"time"

	"gancho/cdc"
	"gancho/mapping"
)

// RunReport is the run of a rule with schedule.
type RunReport struct {
	Schedule string `json:"schedule"`
	// At is the scheduled time that the query was run for, the next one.
	At time.Time `json:"at"`
	// Rows are those of the query. Of rows that are equal in the columns of once, or in all, one makes an event.
	Rows    int64   `json:"rows"`
	Seconds float64 `json:"seconds"`
	// PerDay is how often it runs, on the average of the next four weeks.
	PerDay float64 `json:"runs_per_day"`
	// Once: rows that a run has sent before are not sent again; which these are only the bridge's state database knows.
	Once bool `json:"once,omitempty"`
}

// averagedDays is over how many days runs are counted.
const averagedDays = 28

// Schedules runs the query of each rule with schedule for the next time at which it is due, in the zone, and makes its events
// of the rows as they are now: what the run sends if nothing changes until then. With the errors of queries that fail, the report is over the
// other rules.
func (s *Simulation) Schedules(ctx context.Context, now time.Time, zone *time.Location) (*Report, error) {
	var failed []error
	rules := s.main.rules.Schedules()
	for _, rule := range rules {
		r := s.tally.add(mapping.RuleName{Place: rule.Place(), Event: rule.Event()}, s.main.rules.Title(rule.Event()))
		r.On = cdc.Schedule.String()
		s.tally.masks[rule.Place()] = &masks{names: rule.ShownNames(), off: s.options.Unmasked}
		run, err := s.run(ctx, rule, now, zone)
		if ctx.Err() != nil {
			return nil, ctx.Err()
		}
		if err != nil {
			failed = append(failed, err)
			continue
		}
		r.Run = run
		s.tally.rows += run.Rows
	}
	out := s.Report(OverSchedules, now, now)
	out.Rules = slices.DeleteFunc(out.Rules, func(r RuleReport) bool { return r.Run == nil })
	for i := range out.Rules {
		if r := &out.Rules[i]; !r.Run.Once {
			r.PerHour = math.Round(float64(r.Events)*r.Run.PerDay/24*10) / 10
		}
	}
	out.Tables = []TableReport{}
	return out, errors.Join(failed...)
}

// run makes the events of a rule's next run.
func (s *Simulation) run(ctx context.Context, rule *mapping.Scheduled, now time.Time, zone *time.Location) (*RunReport, error) {
	at := rule.Timetable().Next(now, zone)
	if at.IsZero() {
		return nil, fmt.Errorf("%s: the schedule of %s is never due again", rule.Place(), rule.Event())
	}
	out := &RunReport{Schedule: rule.Timetable().String(), At: at, Once: rule.Once()}
	runs, end := 0, now.AddDate(0, 0, averagedDays)
	for due := at; !due.IsZero() && !due.After(end); due = rule.Timetable().Next(due, zone) {
		runs++
	}
	out.PerDay = math.Round(float64(runs)/averagedDays*100) / 100
	// Of rows that made an event hashes are known, 8 bytes each: there may be millions, and that two are the same by chance changes a count by 1.
	mapper, seen, seed, sink := rule.NewMapper(at), map[uint64]struct{}{}, maphash.MakeSeed(), &runSink{tally: s.tally}
	var identity []byte
	began := time.Now()
	err := rule.Run(ctx, s.main.source, at, func(row []cdc.Datum) error {
		out.Rows++
		identity = rule.AppendIdentity(identity[:0], row)
		hash := maphash.Bytes(seed, identity)
		if _, is := seen[hash]; is {
			return nil
		}
		before := sink.events
		err := mapper.Map(row, sink)
		if sink.events > before {
			seen[hash] = struct{}{}
		}
		return err
	})
	out.Seconds = time.Since(began).Round(time.Millisecond).Seconds()
	return out, err
}

// runSink counts what the rows of a run lead to.
type runSink struct {
	tally  *tally
	events int64
	rows   uint64
}

// scheduledID stands for the webhook-ids of schedules, which have the source and the run in them.
const scheduledID = "gancho-schedule-00000000000000000000000000000000"

// Event implements mapping.Sink.
func (s *runSink) Event(e *mapping.Event) error {
	s.events++
	s.rows++
	counted := eventOf(e)
	counted.id, counted.Position = scheduledID, cdc.Position{Commit: 1, Ordinal: s.rows}
	return s.tally.event(&counted)
}

// Park implements mapping.Sink.
func (s *runSink) Park(p *mapping.Parked) error {
	s.rows++
	parked := parkedOf(p)
	parked.id = fmt.Sprintf("row %d of the query", s.rows)
	return s.tally.event(&parked)
}
