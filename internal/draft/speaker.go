package draft

import (
	"fmt"

	"gancho/cdc"
	"gancho/internal/language"
)

// speaker says in a language what drafts say: in the comments of files, and of what was guessed or left out.
// Names and SQL stay what they are.
type speaker struct{ language *language.Language } // nil: English

// say is a text of ours in the language.
func (s speaker) say(text string) string { return s.of("cli.draft", text) }

func (s speaker) sayf(format string, args ...any) string { return s.say(fmt.Sprintf(format, args...)) }

func (s speaker) of(group, text string) string {
	if s.language == nil {
		return text
	}
	return s.language.Translate(group, text)
}

// mistake is a mistake that binding a draft has found, and what to do about it.
func (s speaker) mistake(message string, found *cdc.Finding) string {
	said := *found
	said.Remedy = s.of("cli.finding", found.Remedy)
	fix := said.Fix()
	if len(found.Statements) > 0 {
		fix = s.of("cli.label", "run") + fix[len("run"):]
	}
	if message = s.of("cli.finding", message); fix == "" {
		return message
	}
	return message + "; " + fix
}
