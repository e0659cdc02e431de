package ruletest

import (
	"fmt"
	"slices"
	"strings"

	"gancho/cdc"
	"gancho/internal/strictyaml"
	"gancho/mapping"
)

// scheduledRun is a run of a rule with schedule in given: the rows that its query has at the time of the case.
type scheduledRun struct {
	event, list strictyaml.Value
	rule        *mapping.Scheduled
	rows        [][]cdc.Datum
}

func (r *scheduledRun) written() bool { return r.event.Valid() || r.list.Valid() }

// runFields reads schedule and rows.
func (s *Suite) runFields(r *scheduledRun) []strictyaml.Field {
	return []strictyaml.Field{
		strictyaml.Optional("schedule", func(v strictyaml.Value) {
			r.event = v
			v.Raw()
		}),
		strictyaml.Optional("rows", func(v strictyaml.Value) {
			r.list = v
			for _, item := range v.ListOrOne() {
				item.Entries() // whatever the query has, a row is a mapping
			}
		}),
	}
}

// readRun reads {schedule: event, rows: [{id: 1, ...}]}.
func (s *Suite) readRun(c *Case, v strictyaml.Value, r *scheduledRun) {
	switch {
	case !r.event.Valid():
		v.Errorf("write schedule: with the event of the rule", "rows are of a rule with schedule")
		return
	case !r.list.Valid():
		v.Errorf("write rows: with what the query has at that time, such as [{id: 1}], or []", "a run of %s needs rows", r.event.Raw())
		return
	}
	var names []string
	for _, rule := range s.rules.Schedules() {
		if names = append(names, rule.Event()); rule.Event() == r.event.Raw() {
			r.rule = rule
		}
	}
	if r.rule == nil {
		hint := "the rules have no schedule"
		if len(names) > 0 {
			hint = "their events are " + strings.Join(names, ", ")
		}
		if closest := strictyaml.Closest(r.event.Raw(), names); closest != "" {
			hint = fmt.Sprintf("did you mean %q?", closest)
		}
		r.event.Errorf(hint, "no rule with schedule makes event %q", r.event.Raw())
		return
	}
	result := r.rule.Result()
	for _, item := range r.list.ListOrOne() {
		r.rows = append(r.rows, s.row(item, result, slices.Repeat([]cdc.Datum{{State: cdc.Null}}, len(result.Relation.Columns))))
	}
	c.runs = append(c.runs, *r)
}

// playRuns makes the events of a case's runs, one after the other: what once has seen in one is no event of the next.
func (c *Case) playRuns(sink *sink) error {
	sent := map[string]bool{}
	for n := range c.runs {
		run := &c.runs[n]
		mapper := run.rule.NewMapper(c.now)
		seen := sent
		if !run.rule.Once() { // equal rows are one in a run
			seen = map[string]bool{}
		}
		for _, row := range run.rows {
			identity := run.rule.Event() + "\x00" + string(run.rule.AppendIdentity(nil, row))
			if seen[identity] {
				continue
			}
			events := len(sink.events)
			if err := mapper.Map(row, sink); err != nil {
				return err
			}
			seen[identity] = len(sink.events) > events && sink.events[events].parked == ""
		}
	}
	return nil
}

// unfired are the rules with schedule of which no case had an event.
func (s *Suite) unfired(fired map[string]bool) []string {
	var out []string
	for _, rule := range s.rules.Schedules() {
		if !fired[rule.Place()] {
			out = append(out, rule.Place()+": "+rule.Event())
		}
	}
	return out
}
