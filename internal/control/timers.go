package control

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"time"

	"gancho/delivery/queue"
)

// TimerView is how many timers of a rule with after are pending.
type TimerView struct {
	Rule    string    `json:"rule,omitempty"` // file:line; missing: the rule is gone, and its timers are dropped when they are due
	Event   string    `json:"event"`
	Table   string    `json:"table"`
	Pending int64     `json:"pending"`
	Next    time.Time `json:"next,omitzero"` // when the first of them is due; what is before now is late
	Failed  int64     `json:"failed"`        // whose events could not be computed when they were due: they are among the parked changes
}

// timers are the rules that have pending timers, by event and table.
func (s *Service) timers(ctx context.Context) ([]TimerView, error) {
	all, err := s.Queue.Timers(ctx)
	if err != nil {
		return nil, err
	}
	var out []TimerView
	for identity, of := range all {
		table, event := identity, ""
		if i := strings.LastIndexByte(table, ' '); i >= 0 {
			table, event = table[:i], table[i+1:]
		}
		number := ""
		if i := strings.LastIndexByte(table, ' '); i >= 0 {
			table, number = table[:i], table[i+1:]
		}
		out = append(out, TimerView{Rule: s.timerPlace(event, table, number), Event: event, Table: table, Pending: of.Pending, Next: of.Next, Failed: of.Failed})
	}
	sortTimers(out)
	return out, nil
}

// timerPlace is where a rule with after is; empty: it is gone.
func (s *Service) timerPlace(event, table, number string) string {
	if s.Catalogue == nil {
		return ""
	}
	before := 0
	for _, t := range s.Catalogue() {
		if t.Name != event {
			continue
		}
		for i := range t.Rules {
			r := &t.Rules[i]
			if r.Table != table && !strings.HasSuffix(table, "."+r.Table) {
				continue
			}
			if fmt.Sprint(before) == number && strings.Contains(r.On, ", after ") {
				return r.Place
			}
			before++
		}
	}
	return ""
}

// addTimers adds to the view until when timers wait, and which are parked.
func (s *Service) addTimers(ctx context.Context, q WhyQuestion, v *WhyView) error {
	if q.Key == "" {
		return nil // it asks about a change, and a row's timers are found by its key
	}
	var pending []queue.PendingTimer
	asked := false
	for i := range v.Changes {
		for j := range v.Changes[i].Rules {
			r := &v.Changes[i].Rules[j]
			if r.Outcome != WhyTimerSet {
				continue
			}
			if !asked && s.RowTimers != nil {
				var err error
				if pending, err = s.RowTimers(ctx, q); err != nil {
					return err
				}
				asked = true
			}
			for _, t := range pending {
				if !strings.HasSuffix(r.WebhookID, t.ID.WebhookID("")) {
					continue
				}
				r.Due, r.TimerParked = t.Due, t.Due.IsZero()
				if q.Tenant == nil {
					r.Parked = t.Reason
				}
			}
		}
	}
	return nil
}

// endTimers notes which later changes have ended timers, but of those whose events were sent.
func (v *WhyView) endTimers() {
	for i := range v.Changes {
		for j := range v.Changes[i].Rules {
			if r := &v.Changes[i].Rules[j]; r.Outcome == WhyTimerSet && r.Due.IsZero() && !r.TimerParked && !r.Sent() {
				r.endTimer(v.Changes[i+1:])
			}
		}
	}
}

// Sent reports whether the delivery log has an attempt to send the event.
func (r *WhyRule) Sent() bool {
	return slices.ContainsFunc(r.Endpoints, func(e WhyEndpoint) bool { return len(e.Attempts) > 0 })
}

// Redriven reports whether the change was parked, and its event was sent since.
func (r *WhyRule) Redriven() bool { return r.Outcome == WhyParked && r.Parked == "" && r.Sent() }

// endTimer notes which of the later changes has canceled the timer that a change has set, or has set it again.
func (r *WhyRule) endTimer(later []WhyChange) {
	for i := range later {
		for j := range later[i].Rules {
			o := &later[i].Rules[j]
			if o.Rule != r.Rule || o.Event != r.Event {
				continue
			}
			switch o.Outcome {
			case WhyTimerCanceled:
				r.CanceledBy = later[i].Time
				return
			case WhyTimerSet:
				r.SetAgainBy = later[i].Time
				return
			}
		}
	}
}
