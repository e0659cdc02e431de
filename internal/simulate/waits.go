package simulate

import (
	"time"

	"gancho/mapping"
)

// WaitReport is what the changes mean for the timers of a rule with after. What was set before them is not known.
type WaitReport struct {
	Set      int64 `json:"set"` // timers that were set, or set again
	Canceled int64 `json:"canceled"`
	// Pending are those that would wait at the end, the first of them until First and the last until Last.
	Pending int64     `json:"pending"`
	First   time.Time `json:"first,omitzero"`
	Last    time.Time `json:"last,omitzero"`
	// Many: there were more than are remembered at a time; those beyond are not in Pending.
	Many bool `json:"many,omitempty"`
}

// maxWaits is how many pending timers of a rule are remembered.
const maxWaits = 200_000

// waits are the timers that the changes have set, by the rules' places.
type waits map[string]*ruleWaits

type ruleWaits struct {
	report  WaitReport
	pending map[string]time.Time // by the row's key
}

// Timer implements mapping.TimerSink.
func (s *side) Timer(t *mapping.TimerChange) error {
	w := s.waits[t.Place()]
	if w == nil {
		w = &ruleWaits{pending: map[string]time.Time{}}
		s.waits[t.Place()] = w
	}
	w.apply(t)
	return nil
}

func (w *ruleWaits) apply(t *mapping.TimerChange) {
	if t.All {
		w.report.Canceled += int64(len(w.pending))
		clear(w.pending)
		return
	}
	_, had := w.pending[string(t.Key)]
	if t.Former != nil {
		_, moved := w.pending[string(t.Former)]
		had = had || moved
		delete(w.pending, string(t.Former))
	}
	switch {
	case t.Due.IsZero():
		if had {
			w.report.Canceled++
		}
		delete(w.pending, string(t.Key))
	case t.Pending && !had:
	case len(w.pending) >= maxWaits && !had:
		w.report.Set++
		w.report.Many = true
	default:
		w.report.Set++
		w.pending[string(t.Key)] = t.Due
	}
}

// of is the report of a rule; nil: it has set no timer.
func (w waits) of(place string) *WaitReport {
	r := w[place]
	if r == nil {
		return nil
	}
	out := r.report
	out.Pending = int64(len(r.pending))
	for _, due := range r.pending {
		if out.First.IsZero() || due.Before(out.First) {
			out.First = due
		}
		if due.After(out.Last) {
			out.Last = due
		}
	}
	return &out
}
