package strictyaml

import (
	"errors"
	"strings"
	"unicode"

	"go.yaml.in/yaml/v4"
)

// syntax records an error of the YAML parser, with a hint for the slips that
// SQL expressions provoke.
func (d *Document) syntax(err error) {
	var load *yaml.LoadError
	if !errors.As(err, &load) {
		d.Add("", "read YAML: %v", strings.TrimPrefix(err.Error(), "yaml: "))
		return
	}
	if strings.HasPrefix(load.Message, "control characters") { // it has no mark
		line, col := d.control()
		d.errorAt(line, col, `remove it, or write it as an escape in double quotes, as \x01 in "a\x01b"`, "read YAML: control characters are not allowed")
		return
	}
	s := slip{mark: load.Mark, opened: load.ContextMark, message: load.Message}
	if load.ContextMsg != "" {
		s.message += " " + load.ContextMsg
	}
	s.line, s.before, s.at = d.around(s.mark)
	if s.says("unknown anchor") { // it may be a password, so it is not repeated
		s.message = "unknown anchor"
	}
	if s.says("flow ") && d.brokenAt(s.mark.Line, s.mark.Column) {
		return
	}
	hint := s.hint(d)
	d.errorAt(s.mark.Line, s.mark.Column, hint, "read YAML: %s", s.message)
}

// control is where the first character is that YAML does not allow.
func (d *Document) control() (line, col int) {
	for i, text := range d.lines {
		for n, r := range []rune(text) {
			if unicode.IsControl(r) && r != '\t' || r == '\ufffe' || r == '\uffff' {
				return i + 1, n + 1
			}
		}
	}
	return 0, 0
}

// around is the line of the mark, what is on it before the mark, and what from there on.
func (d *Document) around(m yaml.Mark) (line, before, at string) {
	if m.Line < 1 || m.Line > len(d.lines) {
		return "", "", ""
	}
	line = d.lines[m.Line-1]
	runes := []rune(line)
	n := min(max(m.Column-1, 0), len(runes))
	return line, string(runes[:n]), string(runes[n:])
}

// slip is an error of the YAML parser with the place where it was noticed.
type slip struct {
	message string
	// mark is where it was noticed, opened where the value begins that was being read.
	mark, opened     yaml.Mark
	line, before, at string // of mark
}

func (s *slip) says(text string) bool { return strings.Contains(s.message, text) }

// begins reports whether nothing is on the line before the mark.
func (s *slip) begins() bool { return strings.TrimSpace(s.before) == "" }

const (
	indentHint = "indent the line as its neighbours are"
	quotedHint = "a value that begins with a quote ends with it: write such an expression in a block (key: >- and the expression on the next line)"
)

// hint says what to write instead, and moves the mark to the place to fix.
func (s *slip) hint(d *Document) string {
	switch {
	case strings.HasPrefix(strings.TrimLeft(s.line, " "), "\t"), s.says("a tab character"):
		return "indent with spaces, not with tabs"
	case s.says("unknown anchor"):
		return "quote a value that begins with *"
	case s.says("end of stream while scanning a quoted scalar"):
		s.mark = s.opened // it is noticed at the end of the file
		return `end the text with the quote that it begins with; inside of '...' a ' is written ''`
	case s.says("while scanning a quoted scalar"):
		return `inside of "..." write \\ for \, or use '...', in which \ stays as it is`
	case s.says("flow "):
		return s.flowHint(d)
	case s.says("mapping values are not allowed"):
		return s.colonHint(d)
	case s.says("could not find expected ':'"):
		s.mark = s.opened
		return "write a colon and a blank behind a key (key: value); indent the line if it continues the value before"
	case s.says("cannot start any token"):
		return "quote a value that begins with @, ` or %"
	case s.says("a block scalar"):
		if _, before, _ := d.around(s.opened); strings.HasSuffix(strings.TrimRight(before, " "), ":") {
			return "begin the text of > or | on the next line; quote a value that begins with one of these"
		}
		return quotedHint
	}
	return s.blockHint()
}

// flowHint is for what is between { and }, or [ and ].
func (s *slip) flowHint(d *Document) string {
	switch {
	case s.says("node content") && strings.TrimSpace(s.at) == "" || s.mark.Line != s.opened.Line && !s.says("node content"):
		if !s.says("node content") {
			s.mark = s.opened // it is noticed on a line behind
		} else if line, col := d.lastOpen(s.mark.Line); line > 0 {
			s.mark.Line, s.mark.Column = line, col
		}
		closing := "]"
		if _, _, at := d.around(s.mark); strings.HasPrefix(at, "{") {
			closing = "}"
		}
		return "write " + closing + " where this ends"
	case s.says("node content"):
		return "remove the comma, or write the value that is missing here"
	}
	return "separate values with commas, and quote a value that has a colon, a comma, a quote or a bracket in it"
}

// lastOpen is where the last bracket before the line opens.
func (d *Document) lastOpen(before int) (line, col int) {
	for i := min(before, len(d.lines)) - 1; i >= 0; i-- {
		if at := strings.LastIndexAny(d.lines[i], "{["); at >= 0 {
			return i + 1, len([]rune(d.lines[i][:at])) + 1
		}
	}
	return 0, 0
}

// colonHint is for a colon that is not behind a key.
func (s *slip) colonHint(d *Document) string {
	if s.mark.Line > 1 && !strings.ContainsAny(strings.TrimSpace(s.before), " \t") {
		previous := d.lines[s.mark.Line-2]
		indent := len(s.line) - len(strings.TrimLeft(s.line, " "))
		if text := strings.TrimLeft(previous, " "); len(previous)-len(text) == indent && text != "" && !strings.Contains(previous+" ", ": ") {
			return "write a colon and a blank behind the key on the line before (key: value)"
		}
	}
	return "quote a value that has a colon and a blank in it, or " + indentHint
}

// blockHint is for the other mistakes between lines.
func (s *slip) blockHint() string {
	first := strings.TrimLeft(s.at, " ")
	switch {
	case s.says("block sequence entries"):
		return "begin a list on the line behind its key, or write [a, b]; quote a value that begins with -"
	case s.says("mapping keys are not allowed"):
		return "quote a value that begins with ?"
	case s.says("expected '-' indicator"):
		return "begin each item of the list with - and a blank, and indent what belongs to an item"
	case s.says("directive"):
		return "quote a value that begins with %"
	case s.says("node content"):
		return "quote a value that begins with a bracket or a comma"
	case s.begins() && strings.HasPrefix(first, "-"):
		return "begin a list on the line behind its key, and indent all of its items alike"
	case s.begins():
		return indentHint
	case first != "" && strings.ContainsAny(first[:1], ",]}"):
		return "remove what is behind the closing bracket, or quote the whole value"
	}
	return quotedHint
}
