package console

import (
	"errors"
	"fmt"
	"html/template"
	"net/url"
	"strings"
	"time"

	"gancho/delivery/webhook"
	"gancho/internal/control"
	"gancho/internal/language"
	"gancho/internal/state"
)

// badge is a state in a word and an icon: no state is told by its color alone.
type badge struct{ Kind, Icon, Text string }

// newBadge returns the badge of a kind: good, bad, warn or idle.
func newBadge(kind, text string) badge {
	icons := map[string]string{"good": "✓", "bad": "✕", "warn": "!", "idle": "–"}
	return badge{kind, icons[kind], text}
}

// form is what was filled in, and what is wrong with it, by the names of fields. The mistakes that no field has are under "".
type form struct {
	Values   url.Values
	Problems map[string]string
}

// form returns what was sent, with the mistakes that the error has, each at its field; mistaken is false for an error that is none of
// the form's. A name that is taken is a mistake of the first field.
func (v *visit) form(values url.Values, err error, fields ...string) (f form, mistaken bool) {
	f = form{Values: values, Problems: map[string]string{}}
	var invalid *control.InvalidError
	switch {
	case errors.Is(err, state.ErrConflict) && len(fields) > 0:
		f.Problems[fields[0]] = v.text("form.taken")
		return f, true
	case !errors.As(err, &invalid):
		refusal := v.refusal(err)
		f.Problems[""] = refusal
		return f, refusal != ""
	}
	for i := range invalid.Problems {
		p := &invalid.Problems[i]
		at := ""
		for _, name := range fields {
			if p.Parameter == name || p.Pointer == "/"+name || strings.HasPrefix(p.Pointer, "/"+name+"/") {
				at = name
			}
		}
		if f.Problems[at] != "" {
			f.Problems[at] += "; "
		}
		if p.Line > 0 {
			f.Problems[at] += v.text("form.line", "line", p.Line) + " "
		}
		f.Problems[at] += v.problem(p)
	}
	return f, true
}

// field is one field of a form, with its mistake beside it.
type field struct {
	ID, Name, Label, Value, Problem, Hint, Type string
	Placeholder                                 string
	Lines                                       int // of a text that has several; 0: it has one
	Required                                    bool
	Options                                     []option // of a choice; nil: a text
}

type option struct {
	Value, Text string
	Selected    bool
}

func newField(f form, name, label string) field {
	return field{ID: "f-" + name, Name: name, Label: label, Value: f.Values.Get(name), Problem: f.Problems[name], Type: "text"}
}

// newChoice is a field whose values have their texts under words.
func newChoice(l *language.Language, f form, name, label, words string, values []string) field {
	out := newField(f, name, label)
	for _, value := range values {
		out.Options = append(out.Options, option{value, l.Word(words, value), value == out.Value})
	}
	return out
}

// pager leads to the part of a list that follows, by the key of its last row; both "" on the only page.
type pager struct{ First, Next string }

// pager keeps the rest of the page's query.
func (v *visit) pager(next string) pager {
	query := v.http.URL.Query()
	query.Del("done")
	var p pager
	at := func(cursor string) string {
		query.Set("cursor", cursor)
		if cursor == "" {
			query.Del("cursor")
		}
		return strings.TrimSuffix(v.http.URL.Path+"?"+query.Encode(), "?")
	}
	if query.Get("cursor") != "" {
		p.First = at("")
	}
	if next != "" {
		p.Next = at(next)
	}
	return p
}

// took is how long something took: 850 µs, 12 ms, 1,5 s.
func took(l *language.Language, d webhook.Milliseconds) string {
	switch d := time.Duration(d); {
	case d < time.Millisecond:
		return l.Number(d.Microseconds()) + " µs"
	case d < time.Second:
		return l.Number(d.Milliseconds()) + " ms"
	case d < time.Minute:
		return l.Decimal(d.Seconds()) + " s"
	default:
		return l.Duration(d)
	}
}

// The size of a sparkline, in its own units.
const (
	sparkWidth  = 120
	sparkHeight = 24
)

// spark draws numbers from left to right; the label says the same in words.
func spark(values []int64, label string) template.HTML {
	var points strings.Builder
	var most int64 = 1
	for _, v := range values {
		most = max(most, v)
	}
	for i, v := range values {
		x := float64(i) * sparkWidth / float64(max(1, len(values)-1))
		y := sparkHeight - 1 - float64(v)*(sparkHeight-2)/float64(most)
		fmt.Fprintf(&points, "%.1f,%.1f ", x, y)
	}
	return template.HTML(fmt.Sprintf(`<svg class="spark" viewBox="0 0 %d %d" role="img" aria-label="%s"><polyline points="%s"/></svg>`, //nolint:gosec // the label is escaped, the rest is numbers
		sparkWidth, sparkHeight, template.HTMLEscapeString(label), strings.TrimSpace(points.String())))
}
