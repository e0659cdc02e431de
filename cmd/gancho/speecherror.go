package main

import (
	"errors"
	"slices"
	"strings"

	"gancho/cdc"
	"gancho/internal/control"
	"gancho/internal/language"
	"gancho/internal/strictyaml"
)

// errorText is an error in a language. Mistakes of files and of requests, and what the source lacks, are translated by their parts;
// what an error of a command says around them, as a whole.
func errorText(l *language.Language, err error) string {
	text := err.Error()
	if l.Code == language.English {
		return text
	}
	if usage := (usageError{}); errors.As(err, &usage) {
		err = usage.error // what makes it wrong use says nothing
	}
	if inner, said := mistakesText(l, err); inner != "" {
		text = strings.Replace(text, inner, said, 1)
		if text == said {
			return said
		}
	}
	return l.Translate("cli.error", text)
}

// mistakesText is the part of an error that has mistakes, as it is in English and in a language; "": it has none.
func mistakesText(l *language.Language, err error) (english, said string) {
	var lacks *cdc.SetupError
	var invalid *control.InvalidError
	var list strictyaml.Errors
	switch {
	case errors.As(err, &lacks):
		return lacks.Error(), setupText(l, lacks)
	case errors.As(err, &invalid):
		translated := *invalid
		translated.Problems = slices.Clone(invalid.Problems)
		for i := range translated.Problems {
			p := &translated.Problems[i]
			p.Message, p.Hint = l.Translate("problem", p.Message), l.Translate("problem", p.Hint)
		}
		return invalid.Error(), translated.Error()
	case errors.As(err, &list):
		var out strings.Builder
		k := &checkup{language: l, stderr: &out}
		k.problem("", "", err)
		if k.print() != nil { // a builder never fails
			return "", ""
		}
		whole, _, _ := strings.Cut(err.Error(), list.Error())
		return strings.TrimPrefix(err.Error(), whole), strings.TrimSuffix(out.String(), "\n")
	}
	return "", ""
}

// setupText says what the source lacks.
func setupText(l *language.Language, lacks *cdc.SetupError) string {
	var b strings.Builder
	b.WriteString(l.Translate("cli.error", "the source is not ready:"))
	for i := range lacks.Findings {
		f := lacks.Findings[i]
		line := strings.TrimPrefix(findingLine(l, &f, true), f.Where+": ")
		b.WriteString("\n  - " + strings.TrimSuffix(line, "; "+l.Text("cli.label.below"))) // the headline says it for all
	}
	if script := lacks.Script(); script != "" {
		b.WriteString("\n" + strings.TrimSuffix(instructions(l, script), "\n"))
	}
	return b.String()
}
