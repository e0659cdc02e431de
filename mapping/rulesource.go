package mapping

import (
	"fmt"
	"maps"
	"slices"
	"strings"

	"gancho/internal/strictyaml"
)

// RuleSource is a rule as its file has it.
type RuleSource struct {
	Place string // file:line
	File  string
	Line  int // of the first line of Text, from 1
	// Text are the rule's lines.
	Text    string
	Event   string
	Title   string
	Table   string // as written; empty of a rule with schedule
	On      string // insert or update; schedule
	Version string // of the rule's text
}

// Sources returns the rules as their files have them, in the files' order.
func (r *Rules) Sources() []RuleSource {
	var out []RuleSource
	for _, rule := range r.all {
		file, title := rule.value.File(), ""
		if rule.title.Valid() {
			title = rule.title.Raw()
		}
		out = append(out, RuleSource{
			Place: rule.place(), File: file, Line: rule.value.Line(), Text: itemAt(r.texts[file], rule.value.Line()),
			Event: rule.event, Title: title, Table: rule.tableText(), On: rule.occasion(), Version: rule.version,
		})
	}
	return out
}

// Files are the texts of the rule files, by their names.
func (r *Rules) Files() map[string][]byte { return maps.Clone(r.texts) }

// Edited are the rules with another text of one of their files; the others are as they were read. The error is that of
// [Parse].
func (r *Rules) Edited(file string, text []byte) (*Rules, error) {
	if _, known := r.texts[file]; !known {
		return nil, strictyaml.Errors{{File: file, Message: "it is no rule file", Hint: "write one of " + strings.Join(r.options.Files, ", ")}}
	}
	edited, err := inspect(r.options, func(name string) ([]byte, error) {
		switch old, known := r.texts[name]; {
		case name == file:
			return text, nil
		case known:
			return old, nil
		}
		return nil, fmt.Errorf("%s was not read before", name)
	})
	if err != nil {
		return nil, err
	}
	return edited, nil
}

// With are the rules of other files, all of them, by their names, under the same options. The error is that of [Parse].
func (r *Rules) With(texts map[string][]byte) (*Rules, error) {
	o := r.options
	o.Files = slices.Sorted(maps.Keys(texts))
	other, err := inspect(o, func(name string) ([]byte, error) { return texts[name], nil })
	if err != nil {
		return nil, err
	}
	return other, nil
}

// itemAt are the lines of the list's item that begins at a line: those that follow it and are indented more than its dash.
// Comments and empty lines at its end belong to what comes next.
func itemAt(text []byte, line int) string {
	lines := strings.Split(string(text), "\n")
	if line < 1 || line > len(lines) {
		return ""
	}
	lines = lines[line-1:]
	dash := indentation(lines[0])
	if !strings.HasPrefix(lines[0][dash:], "-") {
		dash-- // of the lines above
	}
	end := 1
	for i, l := range lines[1:] {
		trimmed := strings.TrimSpace(l)
		if trimmed == "" || trimmed[0] == '#' {
			continue
		}
		if indentation(l) <= dash {
			break
		}
		end = i + 2
	}
	return strings.Join(lines[:end], "\n")
}

func indentation(line string) int { return len(line) - len(strings.TrimLeft(line, " ")) }
