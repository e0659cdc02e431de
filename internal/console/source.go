package console

import (
	"context"
	"slices"
	"sync"
	"time"

	"gancho/cdc"
	"gancho/internal/control"
	"gancho/internal/doctor"
	"gancho/internal/language"
	"gancho/internal/state"
)

func sourceScreen() screen {
	return screen{name: "source", path: "source", role: state.Operator, operators: true, sources: true, chosen: true, routes: []route{
		{pattern: "GET /source", handle: (*visit).showSource},
		{pattern: "POST /source/examine", handle: (*visit).examineSource},
	}}
}

// examineTime is how long looking at everything may take here: what has not answered by then is shown as not looked at.
const examineTime = 25 * time.Second

// examination keeps what was found last, for everybody who may see it.
type examination struct {
	running sync.Mutex // held while everything is looked at: who comes meanwhile gets the same report

	mu     sync.Mutex
	report *doctor.Report // guarded by mu; nil: nobody has looked yet
}

// examinations are those of all sources (""), and of each of several.
type examinations struct {
	mu sync.Mutex
	of map[string]*examination // guarded by mu
}

// at is that of a source that there is.
func (x *examinations) at(source string) *examination {
	x.mu.Lock()
	defer x.mu.Unlock()
	if x.of == nil {
		x.of = map[string]*examination{}
	}
	if x.of[source] == nil {
		x.of[source] = &examination{}
	}
	return x.of[source]
}

func (x *examination) last() *doctor.Report {
	x.mu.Lock()
	defer x.mu.Unlock()
	return x.report
}

// run looks at everything, unless somebody has since it was called.
func (x *examination) run(look func() (doctor.Report, error)) error {
	asked := time.Now()
	x.running.Lock()
	defer x.running.Unlock()
	if last := x.last(); last != nil && last.Time.After(asked) {
		return nil
	}
	report, err := look()
	if err != nil {
		return err
	}
	x.mu.Lock()
	defer x.mu.Unlock()
	x.report = &report
	return nil
}

// sourcePage is the slot, and what was found when everything was looked at last: what has to be done first.
type sourcePage struct {
	Status   control.StatusView
	Source   string
	Sources  []control.Source // all of several, when none of them is chosen
	Budget   int64            // percent of the WAL budget that is held
	Report   *doctor.Report   // nil: nobody has looked yet
	Open     []sourceFinding
	Snoozed  []sourceFinding
	Skipped  []sourceFinding
	Fine     []sourceFinding
	Problems int
}

// FineCount is how many checks have found nothing.
func (p *sourcePage) FineCount() int64 { return int64(len(p.Fine)) }

// sourceFinding is a finding with its statements in the order in which they must run.
type sourceFinding struct {
	doctor.Finding
	Steps []cdc.Statement
}

// Kind is that of the badge of the finding's severity.
func (f sourceFinding) Kind() string {
	kinds := map[cdc.Severity]string{cdc.SeverityProblem: "bad", cdc.SeverityWarning: "warn", cdc.SeverityOK: "good"}
	if kind, ok := kinds[f.Severity]; ok && f.Finding.Snoozed == nil {
		return kind
	}
	return "idle"
}

func (v *visit) showSource() (reply, error) {
	status, err := v.Control.SourceStatus(v.ctx(), v.actor)
	if err != nil {
		return reply{}, err
	}
	p := sourcePage{Status: status, Source: v.source, Report: v.examined.at(v.source).last()}
	if status.Slot != nil && status.WALBudget > 0 {
		p.Budget = int64(float64(status.Slot.HeldBytes) / float64(status.WALBudget) * 100)
	}
	if p.Report != nil {
		p.sort()
	}
	if v.source == "" {
		now, err := v.Control.SourcesNow(v.ctx(), v.actor)
		if err != nil {
			return reply{}, err
		}
		p.Sources = now.Sources
	}
	return page("source", &p)
}

// sort puts the findings where they are shown; the report has the worst last.
func (p *sourcePage) sort() {
	for _, f := range slices.Backward(p.Report.Findings) {
		shown := sourceFinding{f, cdc.Gather(f.Statements)}
		switch {
		case f.Snoozed != nil:
			p.Snoozed = append(p.Snoozed, shown)
		case f.Severity == cdc.SeverityOK:
			p.Fine = append(p.Fine, shown)
		case f.Severity == cdc.SeveritySkipped:
			p.Skipped = append(p.Skipped, shown)
		default:
			p.Open = append(p.Open, shown)
		}
	}
	p.Problems = p.Report.Count(cdc.SeverityProblem)
}

func (v *visit) examineSource() (reply, error) {
	err := v.examined.at(v.source).run(func() (doctor.Report, error) {
		ctx, cancel := context.WithTimeout(v.ctx(), examineTime)
		defer cancel()
		return v.Control.Doctor(ctx, v.actor)
	})
	if err != nil {
		return reply{}, err
	}
	r, err := goTo("source", "source_examined")
	if v.source != "" {
		r.location += "&" + queryOf(sourceField, v.source)
	}
	return r, err
}

// runner says who must run a statement.
func runner(l *language.Language, w cdc.Who) string {
	switch {
	case w.Role != "" && w.Owns != "":
		return l.Text("source.owner_named", "role", w.Role, "object", w.Owns)
	case w.Role != "":
		return w.Role
	case w.Owns != "":
		return l.Text("source.owner", "object", w.Owns)
	}
	return l.Text("source.superuser")
}
