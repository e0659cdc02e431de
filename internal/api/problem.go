package api

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"strings"

	"gancho/delivery/queue"
	"gancho/internal/control"
	"gancho/internal/state"
)

// kind is a sort of problem: the end of its type, its status and its title,
// which stay the same from one problem of the sort to the next.
type kind struct {
	name   string
	status int
	title  string
}

// typePrefix begins each problem's type. It names, and leads nowhere.
const typePrefix = "urn:gancho:problem:"

// The kinds of problems.
var (
	kindInvalid      = kind{"invalid", http.StatusBadRequest, "The request is not valid"}
	kindUnauthorized = kind{"unauthorized", http.StatusUnauthorized, "A valid token is needed"}
	kindForbidden    = kind{"forbidden", http.StatusForbidden, "The token's role does not suffice"}
	kindNotFound     = kind{"not-found", http.StatusNotFound, "There is no such thing"}
	kindMethod       = kind{"method-not-allowed", http.StatusMethodNotAllowed, "The method is not for this path"}
	kindConflict     = kind{"conflict", http.StatusConflict, "Something is in the way"}
	kindReadOnly     = kind{"read-only", http.StatusConflict, "The endpoint is in the configuration file"}
	kindChanged      = kind{"changed", http.StatusPreconditionFailed, "It has changed since it was read"}
	kindTooLarge     = kind{"too-large", http.StatusRequestEntityTooLarge, "The body is too large"}
	kindMediaType    = kind{"media-type", http.StatusUnsupportedMediaType, "The body is of another type"}
	kindThrottled    = kind{"throttled", http.StatusTooManyRequests, "Too many failed requests"}
	kindInternal     = kind{"internal", http.StatusInternalServerError, "Gancho failed"}
	kindUnavailable  = kind{"unavailable", http.StatusServiceUnavailable, "Something that Gancho needs is away"}
)

// mistake is one thing that is wrong with a request.
type mistake struct {
	// Pointer is a JSON pointer (RFC 6901) into the body, Parameter the name of
	// a query parameter, Line and Column a place in the body. Whichever is known.
	Pointer   string `json:"pointer,omitempty"`
	Parameter string `json:"parameter,omitempty"`
	Line      int    `json:"line,omitempty"`
	Column    int    `json:"column,omitempty"`
	Message   string `json:"message"`
	Hint      string `json:"hint,omitempty"`
}

// problem is an answer of RFC 9457. It is an error, so that whatever finds one
// returns it.
type problem struct {
	kind
	Detail string
	Errors []mistake
	header http.Header
}

// Error says what is wrong.
func (p *problem) Error() string { return p.Detail }

// MarshalJSON writes the members that RFC 9457 names, and errors.
func (p *problem) MarshalJSON() ([]byte, error) {
	return json.Marshal(struct {
		Type   string    `json:"type"`
		Title  string    `json:"title"`
		Status int       `json:"status"`
		Detail string    `json:"detail"`
		Errors []mistake `json:"errors,omitempty"`
	}{typePrefix + p.name, p.title, p.status, p.Detail, p.Errors})
}

// invalid is a request that is wrong in these ways.
func invalid(mistakes ...mistake) *problem {
	p := &problem{kind: kindInvalid, Errors: mistakes}
	switch {
	case len(mistakes) == 1:
		p.Detail = mistakes[0].text()
	default:
		p.Detail = fmt.Sprintf("%d things are wrong with the request; see errors.", len(mistakes))
	}
	return p
}

func (m *mistake) text() string {
	if m.Hint == "" {
		return m.Message
	}
	return m.Message + "; " + m.Hint
}

// notFound is the one answer to everything that does not exist, or not for the
// request's token.
func notFound() *problem {
	return &problem{kind: kindNotFound, Detail: "There is nothing here by that name or number, or not for this token."}
}

// changed: the version in If-Match is not that of what is there.
func changed() *problem {
	return &problem{kind: kindChanged, Detail: "If-Match names another version than the one that is there now. Read it again, and repeat the change on that."}
}

// problemOf is what the client is told of an error. What is not the client's
// business is logged, and only that.
func (c *call) problemOf(err error) *problem {
	var (
		own       *problem
		mistakes  *control.InvalidError
		forbidden *control.ForbiddenError
		readOnly  *control.ReadOnlyError
	)
	switch {
	case errors.As(err, &own):
		return own
	case errors.As(err, &mistakes):
		return invalid(c.mistakesOf(mistakes)...)
	case errors.As(err, &forbidden):
		return &problem{kind: kindForbidden, Detail: fmt.Sprintf("This needs a token with the role %s; the request's has the role %s.", forbidden.Needs, c.actor.Role)}
	case errors.As(err, &readOnly):
		return &problem{kind: kindReadOnly, Detail: readOnly.Error()}
	case errors.Is(err, state.ErrNotFound):
		return notFound()
	case errors.Is(err, state.ErrConflict) && c.http.Header.Get("If-Match") != "":
		return changed()
	case errors.Is(err, state.ErrConflict):
		return &problem{kind: kindConflict, Detail: "The name is taken, or somebody else has changed it in the meantime. Read it again."}
	}
	return c.failure(err)
}

// failure is an error that is not the client's.
func (c *call) failure(err error) *problem {
	event := c.log.Error()
	p := &problem{kind: kindInternal, Detail: "Something went wrong that is not the request's fault. Gancho's log says what."}
	var panicked *panicError
	switch {
	case c.http.Context().Err() != nil:
		event = c.log.Debug() // the client has gone, and took the request with it
	case errors.As(err, &panicked):
		event = event.Bytes("stack", panicked.stack)
	case errors.Is(err, state.ErrUnreachable), errors.Is(err, state.ErrSchema), errors.Is(err, control.ErrNoState),
		errors.Is(err, queue.ErrUnreachable), errors.Is(err, context.DeadlineExceeded):
		event = c.log.Warn()
		p = &problem{
			kind: kindUnavailable, Detail: "The state database or Redis did not answer. Try again later; GET /api/v1/status and Gancho's log say more.",
			header: http.Header{"Retry-After": {"5"}},
		}
	}
	event.Err(err).Str("method", c.http.Method).Msg("api request failed")
	return p
}

// mistakesOf are the control's, whose pointers are parameters where there is no body.
func (c *call) mistakesOf(e *control.InvalidError) []mistake {
	all := make([]mistake, len(e.Problems))
	for i, p := range e.Problems {
		all[i] = mistake{Line: p.Line, Column: p.Column, Pointer: p.Pointer, Message: p.Message, Hint: p.Hint}
		if c.http.Method == http.MethodGet {
			all[i].Pointer, all[i].Parameter = "", strings.TrimPrefix(p.Pointer, "/")
		}
	}
	return all
}
