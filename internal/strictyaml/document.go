package strictyaml

import (
	"cmp"
	"errors"
	"fmt"
	"io"
	"slices"
	"strconv"
	"strings"
	"unicode/utf8"

	"go.yaml.in/yaml/v4"
)

// maxAliased bounds the values that a file's aliases stand for: far above any
// hand-written file, far below what would hurt.
const maxAliased = 200_000

// MaxErrors is how many mistakes are reported together: more help nobody, and a
// document of somebody else's could have one for every few bytes.
const MaxErrors = 100

// Document is one YAML file.
type Document struct {
	name   string
	root   *yaml.Node
	lines  []string
	env    func(string) (string, bool)
	sql    bool                 // its values are SQL, and none is a secret
	filled []string             // pairs: what a variable was replaced by, and ${NAME}
	errors Errors               // MaxErrors, and one more: there are more
	found  int                  // mistakes, those that were not recorded included
	shapes map[*yaml.Node]place // of a document that stands for any
}

// Parse parses the text of the file called name, which may be empty of content.
// Syntax errors are in the document's Errors; its Root is then not valid.
// With a non-nil env, ${NAME} and ${NAME:-default} in scalars are replaced.
func Parse(name string, src []byte, env func(string) (string, bool)) *Document {
	return parse(&Document{name: name, env: env, lines: splitLines(string(src))}, src)
}

// ParseSQL is Parse for a document without variables and secrets, whose values are SQL: a
// value that a comma of its SQL ends is recognised, and shown.
func ParseSQL(name string, src []byte) *Document {
	return parse(&Document{name: name, sql: true, lines: splitLines(string(src))}, src)
}

func parse(d *Document, src []byte) *Document {
	if i := slices.IndexFunc(d.lines, func(s string) bool { return !utf8.ValidString(s) }); i >= 0 {
		d.errorAt(i+1, 1, "save the file as UTF-8", "the text is not UTF-8")
		return d
	}
	loader, err := yaml.NewLoader(strings.NewReader(string(src)))
	if err != nil {
		d.syntax(err)
		return d
	}
	var doc yaml.Node
	switch err := loader.Load(&doc); {
	case errors.Is(err, io.EOF):
		return d
	case err != nil:
		d.syntax(err)
		return d
	}
	var second yaml.Node
	switch err := loader.Load(&second); {
	case err == nil:
		d.errorAt(second.Line, second.Column, "use one file for each", "the file holds a second document (---)")
	case !errors.Is(err, io.EOF):
		d.syntax(err)
	}
	if doc.Kind == yaml.DocumentNode && len(doc.Content) == 1 && len(d.errors) == 0 {
		if aliased := 0; d.bounded(doc.Content[0], nil, false, &aliased) {
			d.root = doc.Content[0]
			if d.sql {
				d.joinBroken(d.root)
			}
		}
	}
	return d
}

// splitLines breaks where the YAML parser counts a line.
func splitLines(s string) []string {
	breaks := strings.NewReplacer("\r\n", "\n", "\r", "\n", "\u0085", "\n", "\u2028", "\n", "\u2029", "\n")
	return strings.Split(breaks.Replace(strings.TrimPrefix(s, "\ufeff")), "\n")
}

// Root is the document's content. It is not valid when the file is empty or has
// a syntax error.
func (d *Document) Root() Value { return Value{d, d.root} }

// Errors are the mistakes found so far, up to MaxErrors and one.
func (d *Document) Errors() Errors { return d.errors }

// Name is the name given to Parse.
func (d *Document) Name() string { return d.name }

// Add records a mistake of the whole file.
func (d *Document) Add(hint, format string, args ...any) { d.errorAt(0, 0, hint, format, args...) }

// full reports whether further mistakes are only counted.
func (d *Document) full() bool { return len(d.errors) > MaxErrors }

func (d *Document) errorAt(line, col int, hint, format string, args ...any) {
	if d.found++; d.full() {
		return
	}
	d.errors = append(d.errors, &Error{File: d.name, Line: line, Col: col, Hint: d.hint(hint), Message: d.message(format, args)})
}

// shortestConcealed is the shortest value of a variable, in bytes, that messages do
// not repeat: shorter ones stand in any message by chance, and keep nobody out.
const shortestConcealed = 6

// fill remembers what the variable was replaced by.
func (d *Document) fill(name, value string) {
	if len(value) < shortestConcealed {
		return
	}
	quoted := strconv.Quote(value)
	for _, form := range []string{value, quoted[1 : len(quoted)-1]} {
		d.filled = append(d.filled, form, "${"+name+"}")
	}
}

// conceal puts the names of variables in the place of their values: whatever key
// a variable stands under by mistake, it may be a secret.
func (d *Document) conceal(text string) string {
	if len(d.filled) == 0 {
		return text
	}
	return strings.NewReplacer(d.filled...).Replace(text)
}

// message formats a message, and conceals what comes from the document: the arguments. The
// format's own words may be a variable's value by chance.
func (d *Document) message(format string, args []any) string {
	shown := make([]any, len(args))
	for i, arg := range args {
		shown[i] = concealed{d, arg}
	}
	return fmt.Sprintf(format, shown...)
}

// concealed is an argument of a message.
type concealed struct {
	d   *Document
	arg any
}

// Format implements fmt.Formatter.
func (c concealed) Format(f fmt.State, verb rune) {
	_, _ = io.WriteString(f, c.d.conceal(fmt.Sprintf(fmt.FormatString(f, verb), c.arg)))
}

// hint conceals what a hint quotes. Outside of quotes a word is the hint's own, such as the
// name of a command.
func (d *Document) hint(text string) string {
	var others []string
	for pair := range slices.Chunk(d.filled, 2) {
		if strings.Trim(pair[0], "abcdefghijklmnopqrstuvwxyz") != "" {
			others = append(others, pair...)
		}
	}
	parts := strings.Split(text, `"`)
	for i := range parts {
		if i%2 == 1 {
			parts[i] = d.conceal(parts[i])
		}
	}
	return strings.NewReplacer(others...).Replace(strings.Join(parts, `"`))
}

// bounded reports whether the tree below n is finite and of reasonable size
// when its aliases are followed. What is written out is as large as its file, which may list ten thousand endpoints; only
// what aliases stand for is counted.
func (d *Document) bounded(n *yaml.Node, path []*yaml.Node, within bool, aliased *int) bool {
	if within {
		*aliased++
	}
	if *aliased > maxAliased {
		d.Add("use fewer aliases", "the file has more than %d values once its aliases are followed", maxAliased)
		return false
	}
	if n.Kind == yaml.AliasNode {
		if slices.Contains(path, n.Alias) {
			d.errorAt(n.Line, n.Column, "", "the alias *%s contains itself", n.Value)
			return false
		}
		return d.bounded(n.Alias, path, true, aliased)
	}
	if len(n.Content) > 0 {
		path = append(path, n)
	}
	for _, c := range n.Content {
		if !d.bounded(c, path, within, aliased) {
			return false
		}
	}
	return true
}

// Error is one mistake in a file.
type Error struct {
	File string
	// Line and Col count from 1, Col in characters. Line is 0 when the mistake
	// is the whole file's.
	Line, Col int
	// Message says what is wrong, Hint what to write instead; Hint may be empty.
	Message, Hint string
}

// Error returns file:line:col: message; hint.
func (e *Error) Error() string {
	text := e.File + ": " + e.Message
	if e.Line > 0 {
		text = fmt.Sprintf("%s:%d:%d: %s", e.File, e.Line, e.Col, e.Message)
	}
	if e.Hint != "" {
		text += "; " + e.Hint
	}
	return text
}

// Errors are the mistakes of one or more files.
type Errors []*Error

// Error returns one mistake per line.
func (e Errors) Error() string {
	lines := make([]string, len(e))
	for i := range e {
		lines[i] = e[i].Error()
	}
	return strings.Join(lines, "\n")
}

// Unwrap makes every mistake reachable by errors.As.
func (e Errors) Unwrap() []error {
	out := make([]error, len(e))
	for i := range e {
		out[i] = e[i]
	}
	return out
}

// Err returns the mistakes in the order of their places, without repetitions,
// or nil if there are none. Files keep the order in which they first appear. Of
// more than MaxErrors it returns the first, and one that says so.
func (e Errors) Err() error {
	if len(e) == 0 {
		return nil
	}
	rank := map[string]int{}
	for _, x := range e {
		if _, ok := rank[x.File]; !ok {
			rank[x.File] = len(rank)
		}
	}
	sorted := slices.Clone(e)
	slices.SortStableFunc(sorted, func(a, b *Error) int {
		return cmp.Or(cmp.Compare(rank[a.File], rank[b.File]), cmp.Compare(a.Line, b.Line), cmp.Compare(a.Col, b.Col))
	})
	sorted = slices.CompactFunc(sorted, func(a, b *Error) bool { return *a == *b })
	if len(sorted) <= MaxErrors {
		return sorted
	}
	next := sorted[MaxErrors]
	more := &Error{File: next.File, Line: next.Line, Col: next.Col, Message: "there are more mistakes than these", Hint: "fix these first"}
	return append(sorted[:MaxErrors:MaxErrors], more)
}
