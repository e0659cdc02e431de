package strictyaml

import (
	"strings"
	"unicode"
	"unicode/utf8"

	"go.yaml.in/yaml/v4"
)

// Position returns the line and column in the file of the byte at offset in the
// value's text, as Text returns it without an environment.
//
// In every scalar style the characters that are not blank stand in the file in
// the order of the value; only blanks and line breaks are folded, stripped or
// indented. So the file is walked along the value by its non-blank characters,
// with what is special to a style (doubled quotes, escapes, a block's header)
// stepped over.
func (v Value) Position(offset int) (line, col int) {
	n := v.node
	if n == nil {
		return 0, 0
	}
	w := walker{lines: v.doc.lines, line: n.Line - 1, col: n.Column - 1}
	w.load()
	w.start(n)
	text := n.Value
	offset = min(offset, len(text))
	for i, r := range text {
		if i >= offset {
			break
		}
		w.step(r, n.Style)
	}
	if offset < len(text) {
		if r, _ := utf8.DecodeRuneInString(text[offset:]); !unicode.IsSpace(r) {
			w.blanks(n.Style)
		}
	}
	return w.line + 1, w.col + 1
}

// walker stands on one character of the file.
type walker struct {
	lines     []string
	line, col int // from 0
	text      []rune
}

func (w *walker) load() {
	w.text = nil
	if w.line < len(w.lines) {
		w.text = []rune(w.lines[w.line])
	}
}

func (w *walker) end() bool { return w.line >= len(w.lines) }

// peek is the character under the walker, '\n' at the end of a line.
func (w *walker) peek() rune {
	if w.col < len(w.text) {
		return w.text[w.col]
	}
	return '\n'
}

func (w *walker) next() {
	if w.end() {
		return
	}
	if w.col++; w.col > len(w.text) {
		w.line, w.col = w.line+1, 0
		w.load()
	}
}

// start steps over the anchor, the tag, and the opening of the scalar.
func (w *walker) start(n *yaml.Node) {
	for !w.end() && (w.peek() == '&' && n.Anchor != "" || w.peek() == '!') {
		for !w.end() && !unicode.IsSpace(w.peek()) {
			w.next()
		}
		w.blanks(0)
	}
	switch {
	case n.Style&(yaml.SingleQuotedStyle|yaml.DoubleQuotedStyle) != 0:
		w.next()
	case n.Style&(yaml.LiteralStyle|yaml.FoldedStyle) != 0:
		w.line, w.col = w.line+1, 0
		w.load()
	}
}

// blanks steps to the next character that is not blank; in double quotes also
// over an escaped line break.
func (w *walker) blanks(style yaml.Style) {
	for !w.end() {
		escaped := style&yaml.DoubleQuotedStyle != 0 && w.peek() == '\\' && w.col+1 >= len(w.text)
		if !escaped && !unicode.IsSpace(w.peek()) {
			return
		}
		w.next()
	}
}

// step moves behind the character r of the value.
func (w *walker) step(r rune, style yaml.Style) {
	if style&yaml.DoubleQuotedStyle != 0 {
		w.stepDouble(r)
		return
	}
	if unicode.IsSpace(r) {
		if w.peek() == r && r != '\n' {
			w.next()
		}
		return
	}
	w.blanks(style)
	if style&yaml.SingleQuotedStyle != 0 && r == '\'' {
		w.next()
	}
	w.next()
}

// stepDouble moves behind the character r within double quotes, where it may
// be an escape; https://yaml.org/spec/1.2.2/#57-escaped-characters.
func (w *walker) stepDouble(r rune) {
	if unicode.IsSpace(r) && w.peek() != '\\' {
		if w.peek() == r && r != '\n' {
			w.next()
		}
		return
	}
	w.blanks(yaml.DoubleQuotedStyle)
	if w.peek() != '\\' {
		w.next()
		return
	}
	w.next()
	digits := map[rune]int{'x': 2, 'u': 4, 'U': 8}[w.peek()]
	w.next()
	for range digits {
		if strings.ContainsRune("0123456789abcdefABCDEF", w.peek()) {
			w.next()
		}
	}
}
