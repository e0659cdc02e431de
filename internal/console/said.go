package console

import (
	"errors"
	"html/template"
	"regexp"
	"strings"
	"time"

	"gancho/internal/control"
	"gancho/internal/language"
)

// The groups of keys of texts that are made in English below the console.
const (
	problemTexts = "problem"     // what is wrong with a request, or a setting
	findingTexts = "cli.finding" // what doctor and check find
	reasonTexts  = "reason"      // why an attempt, a change or a job failed, as it is stored
)

// storedTime is a time as a reason is stored with it.
var storedTime = regexp.MustCompile(`\b\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ`)

// withTimes is a reason with its times as those of the page are.
func (c *console) withTimes(l *language.Language, reason string) string {
	return storedTime.ReplaceAllStringFunc(reason, func(text string) string {
		at, err := time.Parse(time.RFC3339, text)
		if err != nil {
			return text
		}
		return l.Time(at, c.Zone)
	})
}

// saidHTML is a text of a group that was made in English as a page shows it: one that has no translation says that it is English.
func saidHTML(l *language.Language, group, text string) template.HTML {
	known := l.Code == language.English
	if !known {
		text, known = l.Translated(group, text)
	}
	return template.HTML(markedHTML(text, known)) //nolint:gosec // it is escaped there
}

// markedHTML is a text, which says that it is English where it is not in the language of the page.
func markedHTML(text string, known bool) string {
	escaped := template.HTMLEscapeString(text)
	if !known {
		escaped = `<span lang="en">` + escaped + `</span>`
	}
	return escaped
}

// linesHTML is saidHTML of why a source is not read, which may be the mistakes of all its rules.
func linesHTML(l *language.Language, text string) template.HTML {
	var lines []string
	for _, line := range l.Lines(text) {
		lines = append(lines, markedHTML(line.Text, line.Known))
	}
	return template.HTML(strings.Join(lines, "<br>")) //nolint:gosec // it is escaped there
}

// problem is a mistake in what was asked for: what is wrong, and what to write instead.
func (v *visit) problem(p *control.Problem) string {
	message := v.language.Translate(problemTexts, p.Message)
	if p.Hint == "" {
		return message
	}
	return message + "; " + v.language.Translate(problemTexts, p.Hint)
}

// refusal is why a request was refused that has no form to show it in; "": err is no such thing.
func (v *visit) refusal(err error) string {
	var invalid *control.InvalidError
	var quota *control.QuotaError
	var fixed *control.ReadOnlyError
	switch {
	case errors.As(err, &quota) && quota.Tenant == "":
		return v.text("error.quota_total")
	case errors.As(err, &quota):
		return v.text("error.quota", "what", v.language.Word("quota", quota.What), "used", v.language.Number(quota.Used), "limit", v.language.Number(quota.Limit))
	case errors.As(err, &fixed):
		return v.text("endpoint.read_only")
	case errors.As(err, &invalid):
		return v.text("error.invalid", "problem", v.problems(invalid))
	}
	return ""
}

// problems are the mistakes with the keys that they are about.
func (v *visit) problems(invalid *control.InvalidError) string {
	texts := make([]string, len(invalid.Problems))
	for i := range invalid.Problems {
		p := &invalid.Problems[i]
		if texts[i] = v.problem(p); p.Pointer != "" {
			texts[i] = strings.ReplaceAll(strings.TrimPrefix(p.Pointer, "/"), "/", ".") + ": " + texts[i]
		}
	}
	return strings.Join(texts, "; ")
}
