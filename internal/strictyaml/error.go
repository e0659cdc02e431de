package strictyaml

import (
	"cmp"
	"fmt"
	"slices"
	"strings"
)

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
	var b strings.Builder
	b.WriteString(e.File)
	if e.Line > 0 {
		fmt.Fprintf(&b, ":%d:%d", e.Line, e.Col)
	}
	b.WriteString(": ")
	b.WriteString(e.Message)
	if e.Hint != "" {
		b.WriteString("; ")
		b.WriteString(e.Hint)
	}
	return b.String()
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
// or nil if there are none. Files keep the order in which they first appear.
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
	return slices.CompactFunc(sorted, func(a, b *Error) bool { return *a == *b })
}
