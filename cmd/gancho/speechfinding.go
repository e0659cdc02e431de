package main

import (
	"slices"
	"strings"

	"gancho/cdc"
	"gancho/internal/language"
)

// translated is a finding in a language. Its id, its place, SQL and names stay what they are.
func translated(l *language.Language, f cdc.Finding) cdc.Finding {
	say := func(text string) string { return l.Translate("cli.finding", text) }
	f.Title, f.Why, f.Remedy = say(f.Title), say(f.Why), say(f.Remedy)
	f.Statements = slices.Clone(f.Statements)
	for i := range f.Statements {
		f.Statements[i].Why = say(f.Statements[i].Why)
	}
	return f
}

// findingLine is a finding in one line. gathered: its statements are printed behind all findings.
func findingLine(l *language.Language, f *cdc.Finding, gathered bool) string {
	switch {
	case l.Code == language.English && gathered:
		return f.Above()
	case l.Code == language.English:
		return f.String()
	}
	said := translated(l, *f)
	fix := said.Remedy
	if len(said.Statements) > 0 {
		texts := []string{l.Text("cli.label.run")}
		for _, s := range said.Statements {
			texts = append(texts, s.SQL)
		}
		separator := " "
		if gathered {
			texts, separator = []string{l.Text("cli.label.below")}, ", "
		}
		if fix != "" {
			texts = append(texts, fix)
		}
		fix = strings.Join(texts, separator)
	}
	parts := slices.DeleteFunc([]string{said.Title, said.Why, fix}, func(text string) bool { return text == "" })
	return said.Where + ": " + strings.Join(parts, "; ")
}

// instructions are those of [cdc.Instructions] and [cdc.Script], in a language: their comments and what stands above them.
func instructions(l *language.Language, script string) string {
	var b strings.Builder
	for line := range strings.Lines(script) {
		text := strings.TrimSuffix(line, "\n")
		said := l.Translate("cli.label", text)
		if why, found := strings.CutPrefix(text, "-- "); found && said == text {
			said = "-- " + l.Translate("cli.finding", why)
		}
		b.WriteString(said + line[len(text):])
	}
	return b.String()
}

// inLines is the text of a plan in a language, line by line; SQL stays.
func inLines(l *language.Language, text string) string {
	var b strings.Builder
	for line := range strings.Lines(text) {
		said, ended := strings.CutSuffix(line, "\n")
		if !strings.HasPrefix(said, "+ ") && !strings.HasPrefix(said, "~ ") && !strings.HasPrefix(said, "- ") {
			said = l.Translate("cli.plan", said)
		}
		b.WriteString(said)
		if ended {
			b.WriteString("\n")
		}
	}
	return b.String()
}
