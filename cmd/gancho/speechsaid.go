package main

import (
	"strings"

	"github.com/spf13/cobra"

	"gancho/internal/language"
)

// speech is the language of a command.
func speech(cmd *cobra.Command) *language.Language {
	l, _ := language.From(cmd.Context())
	return l
}

// said is what a command says, in a language: line by line, each as a whole. Names, values and documents stay what they are: who
// makes a line of them translates what it says about them.
func said(l *language.Language, text string) string {
	if l.Code == language.English {
		return text
	}
	var b strings.Builder
	for line := range strings.Lines(text) {
		sentence := strings.TrimSpace(line)
		from := strings.Index(line, sentence)
		b.WriteString(line[:from] + l.Translate("cli.said", sentence) + line[from+len(sentence):])
	}
	return b.String()
}

// headings are those of a table.
func headings(l *language.Language, names ...string) []string {
	out := make([]string, len(names))
	for i, name := range names {
		out[i] = l.Translate("cli.heading", name)
	}
	return out
}

// reasonText is why something failed, as it is stored, in a language.
func reasonText(l *language.Language, text string) string { return l.Translate("reason", text) }

// cells are those of a row of a table: what is a word of ours, or a reason, is said; names and values stay what they are.
func cells(l *language.Language, heading, row []string) []string {
	if l.Code == language.English {
		return row
	}
	for i, name := range heading[:min(len(heading), len(row))] {
		switch name {
		case "REASON", "ERROR", "ERROR OR WAIT":
			row[i] = reasonText(l, row[i])
		case "STATE", "REDRIVE", "FROM":
			row[i] = said(l, row[i])
		case "OUTCOME":
			outcome, again, repeated := strings.Cut(row[i], " ")
			if row[i] = strings.ToLower(l.Word("outcome", outcome)); repeated {
				row[i] += " " + said(l, again)
			}
		case "KIND":
			row[i] = strings.ToLower(l.Word("jobs.kind", row[i]))
		case "ROLE":
			row[i] = l.Word("role", row[i])
		}
	}
	return row
}
