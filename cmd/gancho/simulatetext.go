package main

import (
	"cmp"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"gancho/internal/language"
	"gancho/internal/simulate"
)

// simulateText is a report for people.
func simulateText(l *language.Language, r *simulate.Report, unmasked bool) string {
	w := &simulateWriter{report: r, language: l}
	w.head()
	if r.Over == simulate.OverSchedules {
		w.runs()
	} else {
		w.rules()
	}
	w.tables()
	w.silent()
	w.waits()
	w.parked()
	w.alone()
	w.diff()
	w.samples(unmasked)
	w.notes()
	return w.text.String()
}

type simulateWriter struct {
	report   *simulate.Report
	language *language.Language
	text     strings.Builder
}

// line writes a line; its texts are from rules and databases.
func (w *simulateWriter) line(depth int, format string, args ...any) {
	w.text.WriteString(strings.Repeat("  ", depth) + printable(w.said(fmt.Sprintf(format, args...))) + "\n")
}

// said is a sentence, or the part of a line that is one, in the language.
func (w *simulateWriter) said(text string) string { return said(w.language, text) }

// count is a number with its noun, in the language.
func (w *simulateWriter) count(n int64, noun string) string { return w.said(plural(n, noun)) }

// asIs writes a line that is no sentence of ours.
func (w *simulateWriter) asIs(depth int, line string) {
	w.text.WriteString(strings.Repeat("  ", depth) + printable(line) + "\n")
}

func (w *simulateWriter) chapter(title string) {
	w.line(0, "")
	w.line(0, "%s", title)
}

func (w *simulateWriter) table(heading ...string) *table {
	w.line(0, "")
	return newTable(&w.text, headings(w.language, heading...)...)
}

// end ends a table, whose writer never fails.
func endTable(t *table) { _ = t.end() }

func (w *simulateWriter) head() {
	r := w.report
	events, parked := w.count(r.Events, "event"), w.count(r.Parked, "change")
	changes, transactions := w.count(r.Changes, "change"), w.count(r.Transactions, "transaction")
	switch r.Over {
	case simulate.OverSchedules:
		w.line(0, "The next run of each schedule, on the rows as they are now: %s; %s, and %s without an event. Nothing was sent.", w.count(r.Rows, "row"), events, w.count(r.Parked, "row"))
		return
	case simulate.OverRows:
		w.line(0, "%s read; %s, and %s would be parked. Nothing was sent.", w.count(r.Rows, "existing row"), events, parked)
		return
	case simulate.OverRecording:
		w.line(0, "A recording of %s, from %s on: %s in %s; %s, and %s would be parked. Nothing was sent.", seconds(r.Seconds), clock(r.From), changes, transactions, events, parked)
	default:
		w.line(0, "Live changes for %s: %s in %s; %s, and %s would be parked. Nothing was sent.", seconds(r.Seconds), changes, transactions, events, parked)
	}
	if r.Seconds >= 1 {
		w.line(0, "Events per hour are extrapolated from that time.")
	}
}

func seconds(s float64) string {
	return (time.Duration(s*1000) * time.Millisecond).Round(100 * time.Millisecond).String()
}

func (w *simulateWriter) rules() {
	t := w.table("EVENT", "RULE", "TABLE", "EVENTS", "PER HOUR", "MEDIAN", "P95", "LARGEST", "ENDPOINTS")
	for i := range w.report.Rules {
		r := &w.report.Rules[i]
		perHour := "-"
		if r.PerHour > 0 {
			perHour = fmt.Sprintf("%.0f", r.PerHour)
		}
		size := func(n int) string {
			if r.Events == 0 {
				return "-"
			}
			return byteSize(n)
		}
		t.row(r.Event, r.Rule, r.Table, fmt.Sprint(r.Events), perHour, size(r.Size.Median), size(r.Size.P95), size(r.Size.Largest), w.takers(r))
	}
	endTable(t)
}

// takers are the endpoints that get a rule's events.
func (w *simulateWriter) takers(r *simulate.RuleReport) string {
	var out []string
	for _, name := range slices.Sorted(maps.Keys(r.Endpoints)) {
		out = append(out, fmt.Sprintf("%s %d", name, r.Endpoints[name]))
	}
	if r.NoEndpoint > 0 {
		out = append(out, w.said(fmt.Sprintf("none %d", r.NoEndpoint)))
	}
	return cmp.Or(strings.Join(out, ", "), "-")
}

func byteSize(n int) string {
	switch {
	case n < 10_000:
		return fmt.Sprintf("%d B", n)
	case n < 10<<20:
		return fmt.Sprintf("%d KiB", (n+512)>>10)
	}
	return fmt.Sprintf("%d MiB", (n+512<<10)>>20)
}

// maxTables is how many tables are printed.
const maxTables = 20

func (w *simulateWriter) tables() {
	if w.report.Over == simulate.OverRows || w.report.Over == simulate.OverSchedules {
		return
	}
	t := w.table("TABLE", "CHANGES", "INSERT", "UPDATE", "DELETE", "EVENTS", "RULES")
	for i, of := range w.report.Tables {
		if i == maxTables {
			break
		}
		t.row(of.Table, fmt.Sprint(of.Changes), fmt.Sprint(of.Inserts), fmt.Sprint(of.Updates), fmt.Sprint(of.Deletes), fmt.Sprint(of.Events), fmt.Sprint(of.Rules))
	}
	endTable(t)
	if more := len(w.report.Tables) - maxTables; more > 0 {
		w.line(0, "and %s with fewer changes (--json has all)", plural(int64(more), "table"))
	}
}

// silent says why rules have made no event.
func (w *simulateWriter) silent() {
	titled := false
	for i := range w.report.Rules {
		r := &w.report.Rules[i]
		if r.Events > 0 || r.Parked > 0 || r.Waits != nil {
			continue
		}
		if !titled {
			w.chapter("Rules that never fired:")
			titled = true
		}
		w.line(1, "%s (%s): %s", r.Event, r.Rule, w.said(w.why(r)))
		for _, c := range r.When {
			w.line(2, "%s: %s: %s", w.said(fmt.Sprintf("part %d of when", c.Number)), c.Text, w.said(fmt.Sprintf("false %d, null %d times", c.False, c.Null)))
		}
	}
}

func (w *simulateWriter) why(r *simulate.RuleReport) string {
	if w.report.Over == simulate.OverRows {
		return "when was false or null for every row that it takes"
	}
	if r.Looked == 0 {
		return fmt.Sprintf("no %s of %s", r.On, r.Table)
	}
	out := []string{w.said("of " + plural(r.Looked, "change"))}
	for _, part := range []struct {
		n    int64
		what string
	}{{r.Unwatched, "changed none of the columns of watch"}, {r.Refused, "did not pass when"}, {r.Collapsed, "came to nothing in their transactions"}} {
		if part.n > 0 {
			out = append(out, w.said(fmt.Sprintf("%d %s", part.n, part.what)))
		}
	}
	return strings.Join(out, ", ")
}

func (w *simulateWriter) parked() {
	if w.report.Parked == 0 {
		return
	}
	w.chapter("Changes that would be parked:")
	for i := range w.report.Rules {
		r := &w.report.Rules[i]
		if r.Parked == 0 {
			continue
		}
		w.line(1, "%s (%s): %s", r.Event, r.Rule, w.said(plural(r.Parked, "change")))
		for _, p := range r.ParkedFor {
			w.line(2, "%d: %s (%s)", p.Changes, p.Reason, w.said("the first: "+p.First))
		}
	}
}

// alone says what could not be judged on rows alone.
func (w *simulateWriter) alone() {
	titled := false
	for _, a := range w.report.Alone {
		if a.Left == "" && len(a.Unjudged) == 0 {
			continue
		}
		if !titled {
			w.chapter("A row alone does not say what it was before:")
			titled = true
		}
		if a.Left != "" {
			w.line(1, "%s (%s) %s: %s", a.Event, a.Rule, w.said("is left out"), w.said(a.Left))
			continue
		}
		w.line(1, "%s (%s), %s", a.Event, a.Rule, w.said("as if by an "+a.As+"; not judged, counted as true:"))
		for _, u := range a.Unjudged {
			w.line(2, "%s", u)
		}
	}
}

func (w *simulateWriter) notes() {
	for _, note := range w.report.Notes {
		w.line(0, "")
		w.line(0, "Note: %s.", note)
	}
}

func (w *simulateWriter) diff() {
	if w.report.Diff != nil {
		w.differences("With the other rules:", w.report.Diff)
	}
}

// differences says what becomes of events.
func (w *simulateWriter) differences(title string, all []simulate.EventDiff) {
	w.chapter(title)
	t := w.table("EVENT", "SAME", "CHANGED", "NEW", "GONE", "PARKED", "NO LONGER PARKED")
	for _, d := range all {
		t.row(d.Event, fmt.Sprint(d.Same), fmt.Sprint(d.Changed), fmt.Sprint(d.Added), fmt.Sprint(d.Gone), fmt.Sprint(d.Parked), fmt.Sprint(d.Fixed))
	}
	endTable(t)
	for _, d := range all {
		for _, f := range slices.Sorted(maps.Keys(d.Fields)) {
			w.line(1, "%s: %s %s", d.Event, f, w.said("differs in "+plural(d.Fields[f], "event")))
		}
		for _, x := range d.Examples {
			w.line(1, "%s: %s (%s)", d.Event, w.said(strings.TrimSuffix(x.Kind+" at "+x.Change, " at ")), cmp.Or(x.Rule, w.said("no rule makes it now")))
			if x.Reason != "" {
				w.line(2, "%s", x.Reason)
			}
			for _, f := range x.Fields {
				w.line(2, "%s: %s, %s %s", f.Field, cmp.Or(f.Was, w.said("not there")), w.said("now"), cmp.Or(f.Is, w.said("not there")))
			}
		}
	}
}

func (w *simulateWriter) samples(unmasked bool) {
	titled := false
	for i := range w.report.Rules {
		r := &w.report.Rules[i]
		for _, s := range r.Samples {
			if !titled {
				w.chapter("The first event of each rule, not signed" + map[bool]string{false: "; *** stands for what its name says is personal (--unmasked shows it)"}[unmasked] + ":")
				titled = true
			}
			w.line(1, "%s (%s), %s, %s:", r.Event, r.Rule, cmp.Or(s.Endpoint, w.said("which no endpoint takes")), s.Format)
			for _, name := range slices.Sorted(maps.Keys(s.Header)) {
				w.asIs(2, name+": "+strings.Join(s.Header[name], ", "))
			}
			w.asIs(2, s.Body)
		}
	}
}
