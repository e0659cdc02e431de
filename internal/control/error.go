package control

import (
	"errors"
	"fmt"
	"strings"

	"gancho/internal/state"
)

// ErrNoState is the error of operations that need the state database, without one.
var ErrNoState = errors.New("the configuration has no state.key, without which Gancho stores nothing in a database; create a key with gancho secrets generate-key, add state: {key: '${GANCHO_STATE_KEY}'}, and run gancho migrate")

// ErrThrottled reports that too many requests without a valid token came from an address.
var ErrThrottled = errors.New("too many requests without a valid token came from this address")

// ForbiddenError reports an operation that the actor's role does not allow.
type ForbiddenError struct{ Needs state.Role }

// Error names the role that is needed.
func (e *ForbiddenError) Error() string {
	return fmt.Sprintf("this needs the role %s", e.Needs)
}

// ReadOnlyError reports a change to an endpoint that gancho.yaml declares.
type ReadOnlyError struct{ Endpoint string }

// Error says where to change it.
func (e *ReadOnlyError) Error() string {
	return fmt.Sprintf("the endpoint %q is in gancho.yaml and can only be changed there; edit the file and reload the bridge (SIGHUP)", e.Endpoint)
}

// TakenError reports a name that another endpoint has. It is a state.ErrConflict.
type TakenError struct{ Name string }

// Error names it.
func (e *TakenError) Error() string { return fmt.Sprintf("an endpoint %q exists already", e.Name) }

// Unwrap makes it a conflict.
func (e *TakenError) Unwrap() error { return state.ErrConflict }

// InvalidError reports everything that is wrong with a request.
type InvalidError struct {
	// Origin is what the places are in: a file's name, or "".
	Origin   string
	Problems []Problem
}

// Problem is one mistake. Its place is whichever is known of these.
type Problem struct {
	// Pointer is a JSON pointer (RFC 6901) such as /retry/2, Parameter the name of
	// a parameter of an HTTP query.
	Pointer   string `json:"pointer,omitempty"`
	Parameter string `json:"parameter,omitempty"`
	// Line and Column, from 1, are in the document as it was given; 0 when it was
	// merged from several.
	Line    int    `json:"line,omitempty"`
	Column  int    `json:"column,omitempty"`
	Message string `json:"message"`
	Hint    string `json:"hint,omitempty"`
	// Code is the kind of some mistakes, for pages that say it in words of their own; it is no part of answers.
	Code string `json:"-"`
}

// Text is the mistake without its place: what is wrong, and what to write instead.
func (p *Problem) Text() string {
	if p.Hint == "" {
		return p.Message
	}
	return p.Message + "; " + p.Hint
}

// Error has a line for each mistake: where, what, and what to write instead.
func (e *InvalidError) Error() string {
	lines := make([]string, len(e.Problems))
	for i, p := range e.Problems {
		var b strings.Builder
		switch {
		case p.Line > 0 && e.Origin != "":
			fmt.Fprintf(&b, "%s:%d:%d: ", e.Origin, p.Line, p.Column)
		case p.Pointer != "":
			fmt.Fprintf(&b, "%s: ", strings.ReplaceAll(strings.TrimPrefix(p.Pointer, "/"), "/", "."))
		case p.Parameter != "":
			b.WriteString(p.Parameter + ": ")
		}
		lines[i] = b.String() + p.Text()
	}
	return strings.Join(lines, "\n")
}

// invalid is an InvalidError with one mistake.
func invalid(pointer, hint, format string, args ...any) error {
	return &InvalidError{Problems: []Problem{{Pointer: pointer, Message: fmt.Sprintf(format, args...), Hint: hint}}}
}

// withCode is the InvalidError with a code for its problems.
func withCode(err error, code string) error {
	if e, ok := errors.AsType[*InvalidError](err); ok {
		for i := range e.Problems {
			e.Problems[i].Code = code
		}
	}
	return err
}

// problems collects mistakes in settings and members.
type problems []Problem

func (p *problems) add(key, hint, message string) {
	*p = append(*p, Problem{Pointer: "/" + key, Message: message, Hint: hint})
}

// err is an InvalidError when there are any.
func (p problems) err() error {
	if len(p) == 0 {
		return nil
	}
	return &InvalidError{Problems: p}
}
