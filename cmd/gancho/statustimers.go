package main

import "gancho/internal/control"

// timerText is a table of the rules with after that have pending timers.
func (s *session) timerText(timers []control.TimerView) error {
	if len(timers) == 0 {
		return nil
	}
	if err := s.say("\n"); err != nil {
		return err
	}
	t := newTable(s.cmd.OutOrStdout(), headings(speech(s.cmd), "RULE", "EVENT", "TIMERS", "NEXT DUE", "PARKED")...)
	for i := range timers {
		v := &timers[i]
		rule := v.Rule
		if rule == "" {
			rule = s.said("gone")
		}
		t.row(rule, v.Event, count(v.Pending), clock(v.Next), count(v.Failed))
	}
	return t.end()
}
