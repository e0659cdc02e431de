package main

import (
	"cmp"
	"strings"

	"gancho/mapping"
)

// row says what the rules make of the row as it is now.
func (w *whyWriter) row() {
	v := w.view
	if v.RowUnread != "" {
		w.line(0, "")
		w.line(0, "The row could not be read: %s", v.RowUnread)
	}
	if v.Row == nil {
		return
	}
	w.line(0, "")
	if !v.Row.Found {
		w.line(0, "There is no row with this key at %s.", clock(v.Row.Time))
		return
	}
	w.line(0, "The row as it was at %s, which may be later than the changes above:", clock(v.Row.Time))
	if len(v.Row.Unreadable) > 0 {
		w.line(1, "the role of lookups may not read %s", strings.Join(v.Row.Unreadable, ", "))
	}
	for i := range v.Row.Rules {
		w.judged(&v.Row.Rules[i])
	}
}

func (w *whyWriter) judged(r *mapping.RuleJudgement) {
	w.line(1, "%s (%s), %s:", r.Event, r.Rule, w.said("on "+r.On))
	if r.Watch {
		w.line(2, "watch needs the row before: an update that changes none of its columns makes no event")
	}
	switch {
	case r.Truncate:
		w.line(2, "a truncate has no row")
	case len(r.Conjuncts) == 0:
		w.line(2, "it has no when")
	}
	for i := range r.Conjuncts {
		c := &r.Conjuncts[i]
		result := map[string]string{mapping.JudgedOld: "needs the row before", mapping.JudgedFailed: "fails"}[c.Result]
		line := w.said(cmp.Or(result, c.Result)) + ": " + c.Text
		if c.Reason != "" {
			line += ": " + reasonText(w.language, c.Reason)
		}
		w.line(2, "%s%s", line, valuesText(c.Values))
	}
}

// valuesText are the values that a conjunct names.
func valuesText(values []mapping.JudgedValue) string {
	var out []string
	for _, v := range values {
		text := "null"
		switch {
		case v.Hidden:
			text = "***"
		case v.Value != nil:
			text = "'" + *v.Value + "'"
		}
		out = append(out, v.Name+" = "+text)
	}
	if out == nil {
		return ""
	}
	return "   (" + strings.Join(out, ", ") + ")"
}
