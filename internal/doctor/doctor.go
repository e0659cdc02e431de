package doctor

import (
	"cmp"
	"context"
	"fmt"
	"slices"
	"strings"
	"sync"
	"time"

	"gancho/cdc"
	"gancho/delivery/endpoint"
	"gancho/delivery/queue"
	"gancho/delivery/webhook"
	"gancho/internal/state"
	"gancho/internal/tracing"
)

const (
	// partTimeout bounds each part but the check of the rules, which asks the source for each
	// table and has checkTimeout; connectTimeout bounds a connection to a server.
	partTimeout    = 25 * time.Second
	checkTimeout   = 2 * time.Minute
	connectTimeout = 5 * time.Second
	// statementTimeout and lockTimeout are those of each statement in the source.
	statementTimeout = 5 * time.Second
	lockTimeout      = time.Second
)

// Finding is what was found, and where the setting that it is about is on a managed
// service.
type Finding struct {
	cdc.Finding
	Managed []Managed `json:"managed,omitempty"`
	// Sources are the names of those of several sources that it is about; none: it is about what they share, or there is one.
	Sources []string `json:"sources,omitempty"`
	// Snoozed is why somebody has put it off, and until when; nil: nobody has, or it is over.
	Snoozed *Snooze `json:"snoozed,omitempty"`
}

// Problem reports whether something has to be done now.
func (f *Finding) Problem() bool { return f.Severity == cdc.SeverityProblem && f.Snoozed == nil }

// Snooze puts the findings of an id off until the beginning of a day.
type Snooze struct {
	ID     string    `json:"-"`
	Until  time.Time `json:"until"`
	Reason string    `json:"reason"`
}

// Options are what Run needs.
type Options struct {
	Source cdc.Options
	// LagWarning is the WAL held for the slot, in bytes, from which on it is too much.
	LagWarning int64
	// Visited: the source is one of several, and the slot is read from time to time. Slots is how many
	// slots its server has to have for all of them; 0: not known.
	Visited bool
	Slots   int
	// Check checks the configuration and the rules, and if online is set also against the
	// source. It returns the tables of the rules, where they are known. Nil: nobody does.
	Check func(ctx context.Context, online bool) ([]cdc.Finding, []cdc.TableNeed)
	// Refused says why a bridge would not capture, because changes are missing or would come
	// again; "": it would. Nil: nobody compares the source with the queue.
	Refused func(ctx context.Context) (string, error)
	// Queue says where Redis is; nil: the configuration does not.
	Queue *queue.Options
	// Endpoints are those of the file. Run connects to their receivers, and to those of the
	// state's, by the Sender; nil: it connects to none.
	Endpoints []*endpoint.Endpoint
	Sender    *webhook.Sender
	// State connects to the state database; nil: there is none. Run closes what it returns.
	State func(ctx context.Context) (*state.Store, error)
	// Collector is where spans go; its zero value: nowhere.
	Collector tracing.Collector
	// Listeners are ours that speak TLS.
	Listeners []Listener
	Snooze    []Snooze
	Version   string
}

// Report is everything that was found, the best first and the problems last.
type Report struct {
	Version  string    `json:"version"`
	Time     time.Time `json:"time"`
	Findings []Finding `json:"findings"`
}

// Count is how many findings have the severity, without those that are snoozed.
func (r *Report) Count(s cdc.Severity) int {
	n := 0
	for i := range r.Findings {
		if r.Findings[i].Severity == s && r.Findings[i].Snoozed == nil {
			n++
		}
	}
	return n
}

// examination is one Run: its parts add what they find.
type examination struct {
	Options
	mu       sync.Mutex
	findings []cdc.Finding // guarded by mu
}

func (x *examination) add(findings ...cdc.Finding) {
	x.mu.Lock()
	defer x.mu.Unlock()
	x.findings = append(x.findings, findings...)
}

// say adds a finding without statements.
func (x *examination) say(s cdc.Severity, id, where, format string, args ...any) {
	x.add(cdc.Finding{ID: id, Severity: s, Where: where, Title: fmt.Sprintf(format, args...)})
}

// skip says why something was not looked at.
func (x *examination) skip(id, where, why string) { x.say(cdc.SeveritySkipped, id, where, "%s", why) }

// Run looks at everything. It returns within some 30 seconds, however many servers do
// not answer, and within three minutes if the source answers very slowly.
func Run(ctx context.Context, o Options) Report {
	x := &examination{Options: o}
	x.parts(ctx, append(x.sourceParts(), x.besideParts()...)...)
	return x.report(time.Now().UTC())
}

// report puts the findings in order, each once.
func (x *examination) report(now time.Time) Report {
	r := Report{Version: x.Version, Time: now}
	seen := map[string]bool{}
	for _, f := range x.findings {
		key := strings.Join([]string{f.ID, f.Where, f.Table, f.Title}, "\x00")
		if seen[key] {
			continue
		}
		seen[key] = true
		r.Findings = append(r.Findings, x.judged(f, now))
	}
	r.sort()
	return r
}

// sort puts the best first and the problems last.
func (r *Report) sort() {
	slices.SortStableFunc(r.Findings, func(a, b Finding) int {
		return cmp.Or(cmp.Compare(rank(&a), rank(&b)), strings.Compare(a.ID, b.ID), strings.Compare(a.Where, b.Where), strings.Compare(a.Table, b.Table))
	})
}

// rank is where a finding stands: the snoozed ones behind those that are in order.
func rank(f *Finding) int {
	if f.Snoozed != nil {
		return 1
	}
	return slices.Index([]cdc.Severity{cdc.SeverityOK, "", cdc.SeveritySkipped, cdc.SeverityNote, cdc.SeverityWarning, cdc.SeverityProblem}, f.Severity)
}

// judged adds what the configuration and the vendors say about a finding.
func (x *examination) judged(f cdc.Finding, now time.Time) Finding {
	out := Finding{Finding: f}
	if f.Severity == cdc.SeverityOK || f.Severity == cdc.SeveritySkipped {
		return out
	}
	out.Managed = managedOf(f.ID)
	for _, s := range x.Snooze {
		if s.ID != f.ID {
			continue
		}
		if now.Before(s.Until) {
			out.Snoozed = &s
		} else {
			out.Why = strings.TrimPrefix(out.Why+"; "+fmt.Sprintf("it was snoozed until %s (%s)", s.Until.Format(time.DateOnly), s.Reason), "; ")
		}
	}
	return out
}

// Bytes prints a number of bytes for people.
func Bytes(n int64) string {
	units := []string{"B", "kB", "MB", "GB", "TB"}
	f, i := float64(n), 0
	for ; f >= 1000 && i < len(units)-1; i++ {
		f /= 1000
	}
	if i == 0 {
		return fmt.Sprintf("%d B", n)
	}
	return fmt.Sprintf("%.1f %s", f, units[i])
}

// span prints a time that something takes, in one unit.
func span(d time.Duration) string {
	switch {
	case d >= 48*time.Hour:
		return fmt.Sprintf("%d days", int(d.Hours()/24))
	case d >= 2*time.Hour:
		return fmt.Sprintf("%d hours", int(d.Hours()))
	case d >= 2*time.Minute:
		return fmt.Sprintf("%d minutes", int(d.Minutes()))
	}
	return fmt.Sprintf("%d seconds", int(d.Seconds()))
}

// oneLine is an error's text in one line: that of a connection has one for each address.
func oneLine(err error) string { return strings.Join(strings.Fields(err.Error()), " ") }
