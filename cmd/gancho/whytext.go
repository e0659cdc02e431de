package main

import (
	"fmt"
	"slices"
	"strings"

	"gancho/delivery/queue"
	"gancho/internal/control"
	"gancho/internal/language"
	"gancho/internal/state"
)

// whyText is the story of a row's changes, for people.
func whyText(l *language.Language, v *control.WhyView) string {
	w := &whyWriter{view: v, language: l}
	if v.WebhookID != "" {
		w.event()
		return w.text.String()
	}
	key := v.Key
	if len(v.KeyColumns) > 0 {
		key = strings.Join(v.KeyColumns, ",") + " = " + v.Key
	}
	if v.Queried() {
		w.line(0, "%s: %s", v.Table, w.said("no rule is for its changes; queries of rules with schedule read it"))
		w.schedules()
		w.row()
		return w.text.String()
	}
	w.line(0, "%s, %s: %s", v.Table, key, w.said(plural(int64(len(v.Changes)), "change")+" known"))
	switch {
	case v.Overwritten:
		w.line(0, "Changes are remembered since %s; older ones had to make room for newer ones, and are not known.", clock(v.Since))
	default:
		w.line(0, "Changes are remembered since %s, when this process began to capture; of older ones not all are known.", clock(v.Since))
	}
	if !v.ReadsSince.IsZero() {
		w.line(0, "Rows that backfills have read are remembered since %s; older ones had to make room for newer ones.", clock(v.ReadsSince))
	}
	if !v.Capturing {
		w.line(0, "The process does not capture at the moment: of what was changed since it lost the slot it knows nothing.")
	}
	w.unread()
	if v.QueueUnread {
		w.line(0, "Redis is unreachable: until when timers wait, and why changes are parked, is missing.")
	}
	if len(v.KeyColumns) == 0 {
		w.line(0, "The table has no primary key, so no row of it can be recognized.")
	}
	if v.More {
		w.line(0, "These are the newest; earlier ones are known, too.")
	}
	if len(v.Changes) == 0 {
		w.nothing()
	}
	for i := range v.Changes {
		w.change(&v.Changes[i])
	}
	w.schedules()
	w.row()
	return w.text.String()
}

// event is what became of the event of a webhook-id.
func (w *whyWriter) event() {
	v := w.view
	w.line(0, "%s", v.WebhookID)
	if v.Table != "" {
		w.line(0, "The change was one of the table %s.", v.Table)
	}
	if len(v.OfSources) > 0 {
		w.line(0, "The webhook-id is of this source: %s", names(v.OfSources))
	}
	w.unread()
	if v.QueueUnread {
		w.line(0, "Redis is unreachable: what waits there, and why changes are parked, is missing.")
	}
	for i := range v.Changes {
		w.change(&v.Changes[i])
	}
	if len(v.Changes) > 0 {
		return
	}
	w.line(0, "")
	w.line(0, "Nothing is known of this event:")
	if !v.Since.IsZero() {
		w.line(1, "its change is not remembered: of those before %s not all are;", clock(v.Since))
	}
	if !v.QueueUnread {
		w.line(1, "it waits in no queue that was looked at; what is sent again is not among them;")
	}
	w.line(1, "the delivery log has no attempt: what was sent is kept there for state.keep_log (gancho dead list --id has what was given up);")
	w.line(1, "or the webhook-id is of another bridge, or was not copied whole.")
}

func (w *whyWriter) unread() {
	if sources := w.view.SourcesUnread; len(sources) > 0 {
		w.line(0, "Nothing is known of these sources, which this process has not read: %s", names(sources))
	}
}

func (w *whyWriter) schedules() {
	for i := range w.view.Schedules {
		w.schedule(&w.view.Schedules[i])
	}
}

// schedule says when a query with rows of the table runs, and what was sent of this one.
func (w *whyWriter) schedule(s *control.WhySchedule) {
	w.line(0, "")
	w.line(0, "%s%s (%s): %s", sourcePrefix(s.Source), s.Event, s.Rule, w.said("makes its events of a query, "+s.Schedule+", and not of changes"))
	if s.Last != nil {
		w.line(1, "the last run was that of %s: rows %d, events %d", clock(s.Last.Scheduled), s.Last.Rows, s.Last.Events)
	}
	if !s.Next.IsZero() {
		w.line(1, "the next run is that of %s", clock(s.Next))
	}
	if trouble := s.Trouble(); trouble != "" {
		w.line(1, "%s", reasonText(w.language, trouble))
	}
	switch {
	case s.Sent != nil:
		w.line(1, "the newest event with this key is %s, of the run of %s", s.Sent.WebhookID, clock(s.Sent.Committed))
		w.line(2, "%s: %s", s.Sent.Endpoint, w.attempt(s.Sent))
	case w.view.Key != "":
		w.line(1, "the delivery log has no event of it with this key: no run has had the row, or the rule's key is another column")
	}
}

// sourcePrefix begins a line about one of several sources.
func sourcePrefix(source string) string {
	if source == "" {
		return ""
	}
	return source + ": "
}

type whyWriter struct {
	view     *control.WhyView
	language *language.Language
	text     strings.Builder
}

// line writes a line; its texts are from rules, databases and receivers.
func (w *whyWriter) line(depth int, format string, args ...any) {
	w.text.WriteString(strings.Repeat("  ", depth) + printable(w.said(fmt.Sprintf(format, args...))) + "\n")
}

// said is a sentence, or the part of a line that is one, in the language.
func (w *whyWriter) said(text string) string { return said(w.language, text) }

// nothing says why a change may not be known.
func (w *whyWriter) nothing() {
	w.line(0, "")
	w.line(0, "If the row was changed since then:")
	w.line(1, "its transaction has not committed, or was not read yet: gancho status shows how far the slot is behind;")
	w.line(1, "or the stream does not have it (a row filter, another table, a publication without the operation): gancho check;")
	w.line(1, "or the key is another: it is the primary key%s, not the rule's ordering key.", w.keyColumns())
}

func (w *whyWriter) keyColumns() string {
	if len(w.view.KeyColumns) == 0 {
		return ""
	}
	return " (" + strings.Join(w.view.KeyColumns, ",") + ")"
}

func (w *whyWriter) change(c *control.WhyChange) {
	w.line(0, "")
	what := c.Op + ", change " + fmt.Sprint(c.Ordinal) + " of its transaction"
	switch {
	case c.Op == "":
		what = "the change itself is not remembered any more"
	case c.Job != 0:
		what = fmt.Sprintf("read, as it was then, by backfill %d", c.Job)
	case c.Net:
		what = c.Op + ", what the transaction has made of the row"
	}
	at := clock(c.Time)
	if c.Position != "" {
		at += "  " + c.Position
	}
	w.line(0, "%s%s  %s", sourcePrefix(c.Source), at, w.said(what))
	if len(c.Rules) == 0 {
		w.line(1, "%s: %s", w.said("no rule is for "+c.Op), w.rules())
	}
	for i := range c.Rules {
		w.rule(c, &c.Rules[i])
	}
}

// rules lists the table's rules.
func (w *whyWriter) rules() string {
	var out []string
	for _, r := range w.view.Rules {
		out = append(out, fmt.Sprintf("%s (%s) %s", r.Event, r.Rule, w.said("is for "+r.On)))
	}
	return strings.Join(out, "; ")
}

func (w *whyWriter) rule(c *control.WhyChange, r *control.WhyRule) {
	name := r.Event + " (" + r.Rule + ")"
	switch {
	case r.Rule != "":
	case r.Event != "":
		name = r.Event
	default:
		name = w.said("a rule of before the last reloads")
	}
	w.line(1, "%s: %s", name, w.said(w.outcome(c, r)))
	if r.Outcome == control.WhyTimerSet || r.Outcome == control.WhyParked {
		for i := range r.Endpoints {
			w.endpoint(&r.Endpoints[i])
		}
	}
	if r.Outcome != control.WhyEvent {
		return
	}
	taken := 0
	for i := range r.Endpoints {
		if r.Endpoints[i].Refused == "" {
			taken++
		}
		w.endpoint(&r.Endpoints[i])
	}
	switch {
	case r.EndpointsUnknown && taken > 0:
		w.line(2, "which other endpoints it was offered to is not remembered any more; the delivery log has no attempt of theirs")
	case r.EndpointsUnknown:
		w.line(2, "which endpoints it was offered to is not remembered any more; the delivery log has no attempt")
	case taken > 0:
	default:
		w.line(2, "no endpoint got it")
	}
}

// outcome says what a rule made of a change.
func (w *whyWriter) outcome(c *control.WhyChange, r *control.WhyRule) string {
	switch r.Outcome {
	case control.WhyEvent:
		return "event " + r.WebhookID
	case control.WhyUnwatched:
		return "no event: the update changed none of the columns of watch"
	case control.WhyFalse:
		return "no event: when was false" + conjunct(r)
	case control.WhyNull:
		return "no event: when was null" + conjunct(r)
	case control.WhyParked:
		switch {
		case r.Redriven():
			return "the change was parked, and redriven: event " + r.WebhookID
		case r.Unparked:
			return "the change was parked, and is no longer: it was redriven or dropped (gancho audit)"
		case r.Parked != "":
			return "no event: the change is parked: " + reasonText(w.language, r.Parked) + "; see gancho parked list"
		}
		return "no event: the change is parked; see gancho parked list"
	case control.WhyAwaits:
		return "its lookups are being read"
	case control.WhyCommit:
		later := slices.ContainsFunc(w.view.Changes, func(n control.WhyChange) bool {
			return n.Net && n.Position == c.Position && slices.ContainsFunc(n.Rules, func(o control.WhyRule) bool { return o.Rule == r.Rule })
		})
		if later {
			return "applied to what the transaction has made of the row: see below"
		}
		return "no event yet: the rule waits for the commit; or what the transaction has made of the row is nothing that it is for"
	case control.WhyChild:
		return "counts as a change of its parent: ask for the parent's row"
	case control.WhyNothing:
		return "no event: the transaction left the row as it was"
	case control.WhyGrouped:
		return "collapsed: the rows with one collapse key make one event, that of the last of them"
	case control.WhyRoot:
		return "no event: root_only, and its parent was deleted in the same transaction"
	case control.WhyOtherTenant:
		return "no event: the backfill is for another tenant"
	case control.WhyTimerSet:
		switch {
		case r.TimerParked && r.Parked != "":
			return "no event: the change set the row's timer, which was due and is parked: " + reasonText(w.language, r.Parked) + "; see gancho parked list"
		case r.TimerParked:
			return "no event: the change set the row's timer, which was due and is parked; see gancho parked list"
		case r.Sent():
			return "the change set the row's timer, which was due: event " + r.WebhookID
		case !r.Due.IsZero():
			return fmt.Sprintf("waits until %s: event %s comes then, if no change cancels it", clock(r.Due), r.WebhookID)
		case !r.CanceledBy.IsZero():
			return "no event: the change sets the row's timer, and that of " + clock(r.CanceledBy) + " cancels it if it was not due before"
		case !r.SetAgainBy.IsZero():
			return "no event: the change sets the row's timer, and that of " + clock(r.SetAgainBy) + " sets it again if it was not due before"
		}
		return "no event yet: the change sets the row's timer; when it is due, and no later change cancels it, event " + r.WebhookID
	case control.WhyTimerCanceled:
		return "no event: the change cancels the row's timer"
	case control.WhyTimerWaits:
		return "no event: the row's timer stays as it is"
	}
	return r.Outcome
}

// conjunct says which part of when decided.
func conjunct(r *control.WhyRule) string {
	var out string
	if r.Of > 1 {
		out = fmt.Sprintf(", because of its part %d of %d", r.Number, r.Of)
	}
	if r.Conjunct != "" {
		out += ": " + r.Conjunct
	}
	return out
}

func (w *whyWriter) endpoint(e *control.WhyEndpoint) {
	switch e.Refused {
	case "event":
		w.line(2, "%s: %s", e.Endpoint, w.said("not queued: none of its events covers this one"))
	case "tenant":
		w.line(2, "%s: %s", e.Endpoint, w.said("not queued: the event is of none of its tenants"))
	case control.RefusedBackfill:
		w.line(2, "%s: %s", e.Endpoint, w.said("not queued: the backfill is for another endpoint"))
	case "inactive":
		w.line(2, "%s: %s", e.Endpoint, w.said("not queued: it was inactive"))
	case "":
		if len(e.Attempts) == 0 {
			w.line(2, "%s: %s", e.Endpoint, w.said("queued; the delivery log has no attempt yet (gancho endpoints show "+e.Endpoint+")"))
		}
	default:
		w.line(2, "%s: %s", e.Endpoint, w.said("not queued: "+e.Refused))
	}
	for i := range e.Attempts {
		w.line(2, "%s: %s", e.Endpoint, w.attempt(&e.Attempts[i]))
	}
}

// attempt is an attempt in one line.
func (w *whyWriter) attempt(a *state.Attempt) string {
	if a.Outcome == queue.OutcomeSuperseded {
		return w.said("not sent: a newer event of its key had come by " + clock(a.Time))
	}
	out := w.said(fmt.Sprintf("%s at %s, attempt %d", a.Outcome, clock(a.Time), a.Number))
	if a.Replay {
		out += ", " + w.said("sent again")
	}
	if a.Status > 0 {
		out += fmt.Sprintf(", status %d", a.Status)
	}
	if a.Error != "" {
		out += ": " + reasonText(w.language, a.Error)
	}
	return out
}
