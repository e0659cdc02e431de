package remote

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"

	"gancho/internal/control"
	"gancho/internal/state"
)

// UnreachableError reports a bridge that did not answer.
type UnreachableError struct {
	Address string
	Err     error
}

// Error says which.
func (e *UnreachableError) Error() string {
	return fmt.Sprintf("ask gancho run at %s: %v", e.Address, e.Err)
}

// Unwrap is why.
func (e *UnreachableError) Unwrap() error { return e.Err }

// AnswerError is an answer that is not what was asked for.
type AnswerError struct {
	Address string
	// Status is that of HTTP, Kind the end of the problem's type, such as forbidden; "": it is no problem of ours.
	Status int
	Kind   string
	// Detail is the sentence that was answered, without its full stop.
	Detail string
}

// Error has the sentence.
func (e *AnswerError) Error() string {
	return fmt.Sprintf("ask gancho run at %s: %s", e.Address, e.Detail)
}

// Is makes it the error that control has for the same.
func (e *AnswerError) Is(target error) bool {
	switch e.Kind {
	case "not-found":
		return target == state.ErrNotFound
	case "conflict", "changed":
		return target == state.ErrConflict
	}
	return false
}

// isConflict reports whether the bridge has answered that something is there already.
func isConflict(err error) bool {
	answer, ok := errors.AsType[*AnswerError](err)
	return ok && answer.Kind == "conflict"
}

// refused is the error of an answer.
func (c *Client) refused(ctx context.Context, r *request, answer *http.Response, body []byte) error {
	var p struct {
		Type, Detail string
		Errors       []control.Problem
	}
	kind, ours := "", false
	if json.Unmarshal(body, &p) == nil {
		kind, ours = strings.CutPrefix(p.Type, "urn:gancho:problem:")
	}
	e := &AnswerError{Address: c.address, Status: answer.StatusCode, Kind: kind, Detail: strings.TrimSuffix(p.Detail, ".")}
	switch {
	case !ours:
		e.Kind, e.Detail = "", fmt.Sprintf("it answers %d; is the address that of its http.listen, and has it a state.key?", answer.StatusCode)
	case kind == "not-found", kind == "method-not-allowed":
		return c.older(ctx, r, e)
	case kind == "invalid" && len(p.Errors) > 0:
		for i := range p.Errors {
			m := &p.Errors[i]
			if m.Line, m.Column = 0, 0; m.Pointer == "" && m.Parameter != "" { // as control has it, for which parameters are members
				m.Pointer, m.Parameter = "/"+m.Parameter, ""
			}
		}
		return &control.InvalidError{Problems: p.Errors}
	case kind == "read-only" && len(r.args) > 0:
		return &control.ReadOnlyError{Endpoint: r.args[0]}
	case kind == "unauthorized":
		e.Detail += "; then log in with it: gancho login --api " + c.address
	}
	return e
}

// older tells a path that the bridge does not have, because it is of an older version, from a thing that it does not have.
func (c *Client) older(ctx context.Context, r *request, e *AnswerError) error {
	answer, err := c.send(ctx, &request{method: http.MethodGet, path: "/openapi.json"})
	if err != nil {
		return e // the answer that there is says more
	}
	defer func() { _ = answer.Body.Close() }() // it is read only
	var document struct {
		Info  struct{ Version string }
		Paths map[string]map[string]json.RawMessage
	}
	if answer.StatusCode != http.StatusOK || json.NewDecoder(io.LimitReader(answer.Body, maxAnswer)).Decode(&document) != nil || len(document.Paths) == 0 {
		return e
	}
	if _, there := document.Paths[r.path][strings.ToLower(r.method)]; there {
		return e
	}
	e.Kind = ""
	e.Detail = fmt.Sprintf("it is gancho %s, whose API has no %s %s%s; update it, or use the command of its version", document.Info.Version, r.method, root, r.path)
	return e
}
