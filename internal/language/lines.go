package language

import (
	"regexp"
	"strings"
)

// placed is what stands before a mistake in a line: an item's dash, or a file with a line and a column.
var placed = regexp.MustCompile(`^(?:\s*- )?(?:\S+:\d+(?::\d+)?: )?`)

// statement is SQL, which is the same in all languages.
var statement = regexp.MustCompile(`^[A-Z]{2,} .*;$`)

// Line is a line of an error in l's language.
type Line struct {
	Text  string
	Known bool // it is in that language
}

// Lines are those of why something cannot be done, as the log has it: mistakes of rules with their places, what the source lacks, and errors of
// commands. What is in none of these groups stays English.
func (l *Language) Lines(english string) []Line {
	var out []Line
	for _, line := range strings.Split(english, "\n") {
		place := placed.FindString(line)
		said, known := l.line(strings.TrimPrefix(line, place))
		out = append(out, Line{place + said, known})
	}
	return out
}

func (l *Language) line(english string) (said string, known bool) {
	if l.Code == English || english == "" || statement.MatchString(english) {
		return english, true
	}
	if said = l.mistake(english); said != english {
		return said, true
	}
	for _, group := range []string{"cli.label", "cli.error", "reason", "problem"} {
		if said = l.Translate(group, english); said != english { // one that translates nothing but what is the same in all languages says nothing
			return said, true
		}
	}
	return english, false
}
