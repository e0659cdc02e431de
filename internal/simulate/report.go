package simulate

import (
	"math"
	"net/http"
	"slices"
	"time"

	"gancho/mapping"
)

// What a simulation was over.
const (
	OverLive      = "live"
	OverRecording = "recording"
	OverRows      = "rows"
	OverSchedules = "schedules" // the next run of each rule with schedule
)

// Report is what a simulation has seen and made.
type Report struct {
	Over string    `json:"over"`
	From time.Time `json:"from"`
	To   time.Time `json:"to"`
	// Seconds are those in which the changes were seen; 0: of rows.
	Seconds      float64 `json:"seconds,omitempty"`
	Transactions int64   `json:"transactions"`
	Changes      int64   `json:"changes"`
	// Rows is how many existing rows were read.
	Rows   int64 `json:"rows,omitempty"`
	Events int64 `json:"events"`
	// Parked changes would wait for somebody to fix a rule.
	Parked int64         `json:"parked"`
	Rules  []RuleReport  `json:"rules"`
	Tables []TableReport `json:"tables"`
	// Alone says how rules take existing rows.
	Alone []mapping.AloneRule `json:"rows_as,omitempty"`
	// Diff is what other rules make of the same changes.
	Diff []EventDiff `json:"diff,omitempty"`
	// Notes are what is to be known about the simulation.
	Notes []string `json:"notes,omitempty"`
}

// RuleReport is what a rule makes.
type RuleReport struct {
	Rule   string `json:"rule"` // file:line
	Event  string `json:"event"`
	Table  string `json:"table"`
	On     string `json:"on"`
	Events int64  `json:"events"`
	// PerHour is extrapolated from the time that was seen; 0 where that says nothing.
	PerHour float64    `json:"per_hour,omitempty"`
	Size    SizeReport `json:"size"`
	// Run is that of a rule with schedule.
	Run *RunReport `json:"run,omitempty"`
	// Endpoints are the events that each takes; NoEndpoint those that none does.
	Endpoints  map[string]int64 `json:"endpoints"`
	NoEndpoint int64            `json:"no_endpoint,omitempty"`
	// Looked is how many changes the rule was applied to. Unwatched of them changed none of
	// the columns of watch, of Refused when was false or null, and Collapsed were put
	// together with others, or undone, in their transaction.
	Looked    int64            `json:"looked_at"`
	Unwatched int64            `json:"unwatched,omitempty"`
	Refused   int64            `json:"when_refused,omitempty"`
	Collapsed int64            `json:"collapsed,omitempty"`
	When      []ConjunctReport `json:"when,omitempty"`
	Parked    int64            `json:"parked,omitempty"`
	ParkedFor []ParkedReport   `json:"parked_for,omitempty"`
	// Waits is what the changes mean for the rule's timers; nil: nothing.
	Waits   *WaitReport `json:"waits,omitempty"`
	Samples []Sample    `json:"samples,omitempty"`
}

// SizeReport is how large bodies are, in bytes.
type SizeReport struct {
	Median  int `json:"median"`
	P95     int `json:"p95"`
	Largest int `json:"largest"`
}

// ConjunctReport is how often a part of when was the one that refused a change.
type ConjunctReport struct {
	Number int    `json:"number"` // from 1
	Text   string `json:"text"`
	False  int64  `json:"false,omitempty"`
	Null   int64  `json:"null,omitempty"`
}

// ParkedReport is a reason for which changes would be parked.
type ParkedReport struct {
	Reason  string `json:"reason"`
	Changes int64  `json:"changes"`
	First   string `json:"first"`
}

// TableReport is what is seen of a table.
type TableReport struct {
	Table     string `json:"table"`
	Rules     int    `json:"rules"`
	Changes   int64  `json:"changes"`
	Inserts   int64  `json:"inserts,omitempty"`
	Updates   int64  `json:"updates,omitempty"`
	Deletes   int64  `json:"deletes,omitempty"`
	Truncates int64  `json:"truncates,omitempty"`
	Events    int64  `json:"events"`
	Parked    int64  `json:"parked,omitempty"`
}

// Sample is the first event of a rule, as it would leave to an endpoint, masked. It is not
// signed, and its webhook-id has no source.
type Sample struct {
	Endpoint string      `json:"endpoint,omitempty"` // empty: no endpoint takes it
	Format   string      `json:"format"`
	Header   http.Header `json:"header"`
	Body     string      `json:"body"`

	numbers bool // as strings
}

// Report returns what was seen from a time on, to another.
func (s *Simulation) Report(over string, from, to time.Time) *Report {
	out := s.tally.report()
	for i := range out.Rules {
		out.Rules[i].Waits = s.main.waits.of(out.Rules[i].Rule)
	}
	out.Over, out.From, out.To = over, from.UTC(), to.UTC()
	if over != OverRows && over != OverSchedules {
		out.Seconds = to.Sub(from).Round(time.Millisecond).Seconds()
	}
	for i := range out.Rules {
		if r := &out.Rules[i]; out.Seconds >= 1 {
			r.PerHour = math.Round(float64(r.Events)/out.Seconds*3600*10) / 10
		}
	}
	if s.main.rows != nil {
		out.Alone = s.main.rows.Rules()
		out.Rules = slices.DeleteFunc(out.Rules, func(r RuleReport) bool {
			return !slices.ContainsFunc(out.Alone, func(a mapping.AloneRule) bool { return a.Rule == r.Rule && a.Left == "" })
		})
	}
	if s.diff != nil {
		out.Diff = s.diff.report()
	}
	return out
}

// Worse reports whether other rules change or lose events, or park changes that these do not.
func (r *Report) Worse() bool { return worse(r.Diff) }

func worse(all []EventDiff) bool {
	return slices.ContainsFunc(all, func(d EventDiff) bool { return d.Changed+d.Gone+d.Parked > 0 })
}
