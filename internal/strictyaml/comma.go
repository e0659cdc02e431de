package strictyaml

import (
	"slices"
	"strings"

	"go.yaml.in/yaml/v4"
)

// Between { and }, or [ and ], a comma ends a value, also that of an SQL expression:
// {when: id in (1, 2)} is a value "id in (1" and a key "2)". Such a slip is told once, with
// the value in quotes to be copied, and what the person meant is read on. It is recognised
// by ParseSQL alone: in other documents a value may be a secret, which is not repeated. A
// document that is in order without that stays so: only what cannot be a key of it is joined.

// span is a value on a line, in characters.
type span struct{ start, end int }

// brokenValue finds the value on a line that a comma before the character at cuts off.
// whole: it is one although its brackets and quotes are closed.
func brokenValue(line []rune, at int, whole bool) (span, bool) {
	start := -1
	for i := at - 1; i > 0 && start < 0; i-- {
		begins := line[i] == ' ' && line[i-1] == ':' || line[i-1] == '['
		if begins && (whole && line[i-1] == ':' || !closed(string(line[i:at]))) {
			start = i
		}
	}
	if start < 0 {
		return span{}, false
	}
	for start < len(line) && line[start] == ' ' {
		start++
	}
	depth, quoted := 0, false
	for i := start; i < len(line); i++ {
		switch c := line[i]; {
		case c == '\'':
			quoted = !quoted
		case quoted:
		case c == '(':
			depth++
		case c == ')':
			depth--
		case depth <= 0 && (c == '}' || c == ']' || c == ',' && i > at):
			return span{start, i}, true
		}
	}
	return span{}, false
}

// closed reports whether the text ends outside of brackets and of quotes, as SQL has them.
func closed(text string) bool {
	depth, quoted := 0, false
	for _, c := range text {
		switch {
		case c == '\'':
			quoted = !quoted
		case quoted:
		case c == '(':
			depth++
		case c == ')':
			depth--
		}
	}
	return depth <= 0 && !quoted
}

// commaHint is what to write instead of the value.
func commaHint(value string) string {
	quoted := `"` + value + `"`
	if strings.ContainsAny(value, `"\`) {
		quoted = "'" + strings.ReplaceAll(value, "'", "''") + "'"
	}
	return "write it in quotes: " + quoted
}

const commaMessage = "a comma ends the value here"

// brokenAt records the slip if an error of the parser at the character of a line is one.
func (d *Document) brokenAt(line, col int) bool {
	if !d.sql || line < 1 || line > len(d.lines) {
		return false
	}
	text := []rune(d.lines[line-1])
	s, ok := brokenValue(text, min(max(col-1, 0), len(text)), false)
	if ok {
		d.errorAt(line, s.start+1, commaHint(strings.TrimSpace(string(text[s.start:s.end]))), commaMessage)
	}
	return ok
}

// joinBroken records the slips below a node, and gives each value back what was cut off.
func (d *Document) joinBroken(n *yaml.Node) {
	step := 1
	if n.Kind == yaml.MappingNode {
		step = 2
	}
	if flow := n.Style&yaml.FlowStyle != 0; flow && (n.Kind == yaml.MappingNode || n.Kind == yaml.SequenceNode) {
		for i := step - 1; i+1 < len(n.Content); i += step {
			d.joinNext(n, i, step)
		}
	}
	for _, c := range n.Content {
		d.joinBroken(c)
	}
}

// joinNext joins the value at i with what follows if a comma has cut it off.
func (d *Document) joinNext(n *yaml.Node, i, step int) {
	value, next := n.Content[i], n.Content[i+1]
	plain := value.Kind == yaml.ScalarNode && value.Style == 0 && next.Kind == yaml.ScalarNode && next.Line == value.Line
	if !plain || value.Line < 1 || value.Line > len(d.lines) {
		return
	}
	// A key of several words without a value is none.
	whole := step == 2 && next.Style == 0 && strings.Contains(next.Value, " ") && d.cutOff(next, n.Content[i+2])
	if closed(value.Value) && !whole {
		return
	}
	line := []rune(d.lines[value.Line-1])
	s, ok := brokenValue(line, next.Column-1, closed(value.Value))
	if !ok || s.start != value.Column-1 {
		return
	}
	last := i + 1
	for last < len(n.Content) && n.Content[last].Line == value.Line && n.Content[last].Column-1 < s.end {
		if step == 2 && !d.cutOff(n.Content[last], n.Content[last+1]) {
			return
		}
		last += step
	}
	text := strings.TrimSpace(string(line[s.start:s.end]))
	d.errorAt(value.Line, value.Column, commaHint(text), commaMessage)
	value.Value = text
	n.Content = slices.Delete(n.Content, i+1, min(last, len(n.Content)))
}

// cutOff reports whether what stands as a key may be the rest of a value: nobody wrote a
// value of its own for it, or the colon. A text such as Caixa d'água has an odd quote, too, and
// the keys behind it are keys.
func (d *Document) cutOff(key, value *yaml.Node) bool {
	if value.Kind != yaml.ScalarNode || value.Value != "" || value.Style != 0 {
		return false
	}
	line := []rune(d.lines[key.Line-1])
	end := min(key.Column-1+len([]rune(key.Value)), len(line))
	return key.Style != 0 || !strings.HasPrefix(strings.TrimLeft(string(line[end:]), " "), ":")
}
