package api

import (
	"bytes"
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"net/http"
	"runtime"
	"slices"
	"strconv"
	"strings"

	"gancho/delivery/queue"
	"gancho/internal/control"
	"gancho/internal/state"
	"gancho/internal/strictyaml"
)

// panicError is a panic in a route: a mistake of ours.
type panicError struct {
	value any
	stack []byte
}

// Error says what happened, but not with which values: those of a panic that
// is not the runtime's own may be anything.
func (e *panicError) Error() string {
	var own runtime.Error
	if err, ok := e.value.(error); ok && errors.As(err, &own) {
		return "panic: " + own.Error()
	}
	return fmt.Sprintf("panic: a %T", e.value)
}

// reply sends the answer, or the problem that the error is, and returns the status.
func (c *call) reply(w http.ResponseWriter, a answer, err error) int {
	if a.written {
		return http.StatusOK
	}
	var body []byte
	if err == nil {
		body, err = encode(a.body)
	}
	header := w.Header()
	media := mediaJSON
	if err != nil {
		p := c.problemOf(err)
		maps.Copy(header, p.header)
		if body, err = encode(p); err != nil {
			body = nil // nothing in it can fail
		}
		a, media = answer{status: p.status}, mediaProblem
		if c.http.ContentLength != 0 && !c.drained { // else the server waits for the rest
			header.Set("Connection", "close")
		}
	}
	if a.version > 0 {
		header.Set("ETag", entityTag(a.version))
	}
	if a.location != "" {
		header.Set("Location", a.location)
	}
	if len(body) == 0 {
		status := cmp.Or(a.status, http.StatusNoContent)
		w.WriteHeader(status)
		return status
	}
	status := cmp.Or(a.status, http.StatusOK)
	header.Set("Content-Type", media)
	header.Set("Content-Length", strconv.Itoa(len(body)))
	w.WriteHeader(status)
	_, _ = w.Write(body) // an error means that the client has gone
	return status
}

// Unavailable answers a request that came too early to be handled; detail is a sentence.
func Unavailable(w http.ResponseWriter, detail string) {
	p := &problem{kind: kindUnavailable, Detail: detail}
	w.Header().Set("Content-Type", mediaProblem)
	w.Header().Set("Retry-After", "5")
	w.WriteHeader(p.status)
	_ = json.NewEncoder(w).Encode(p) // an error means that the client has gone
}

// encode writes JSON without escaping what only HTML minds.
func encode(body any) ([]byte, error) {
	switch b := body.(type) {
	case nil:
		return nil, nil
	case []byte:
		return b, nil
	}
	var buffer bytes.Buffer
	encoder := json.NewEncoder(&buffer)
	encoder.SetEscapeHTML(false)
	if err := encoder.Encode(body); err != nil {
		return nil, fmt.Errorf("encode answer: %w", err)
	}
	return buffer.Bytes(), nil
}

// entityTag is the ETag of a version.
func entityTag(version int64) string { return `"` + strconv.FormatInt(version, 10) + `"` }

// ifMatch is the version that the request's If-Match names; 0: any. A tag that
// is not one of ours matches nothing (RFC 9110, section 13.1.1).
func (c *call) ifMatch() (int64, error) {
	values := c.http.Header.Values("If-Match")
	tag := strings.TrimSpace(strings.Join(values, ","))
	if len(values) == 0 || tag == "*" {
		return 0, nil
	}
	version, err := strconv.ParseInt(strings.Trim(tag, `"`), 10, 64)
	if err != nil || version < 1 || tag != entityTag(version) {
		return 0, changed()
	}
	return version, nil
}

// kind is a kind of problem: the end of its type, its status and its title,
// which all problems of the kind share.
type kind struct {
	name   string
	status int
	title  string
}

// typePrefix begins each problem's type, which is a name and no address.
const typePrefix = "urn:gancho:problem:"

// The kinds of problems.
var (
	kindInvalid      = kind{"invalid", http.StatusBadRequest, "The request is not valid"}
	kindUnauthorized = kind{"unauthorized", http.StatusUnauthorized, "A valid token is needed"}
	kindForbidden    = kind{"forbidden", http.StatusForbidden, "The token's role does not suffice"}
	kindNotFound     = kind{"not-found", http.StatusNotFound, "It does not exist"}
	kindMethod       = kind{"method-not-allowed", http.StatusMethodNotAllowed, "The path does not have this method"}
	kindConflict     = kind{"conflict", http.StatusConflict, "The request conflicts with what exists"}
	kindReadOnly     = kind{"read-only", http.StatusConflict, "The endpoint is in the configuration file"}
	kindChanged      = kind{"changed", http.StatusPreconditionFailed, "It has changed since it was read"}
	kindTooLarge     = kind{"too-large", http.StatusRequestEntityTooLarge, "The body is too large"}
	kindMediaType    = kind{"media-type", http.StatusUnsupportedMediaType, "The body's media type is not accepted"}
	kindElsewhere    = kind{"elsewhere", http.StatusMisdirectedRequest, "Another process has to be asked"}
	kindThrottled    = kind{"throttled", http.StatusTooManyRequests, "Too many failed requests"}
	kindBusy         = kind{"busy", http.StatusTooManyRequests, "Too many requests are in flight"}
	kindQuota        = kind{"quota", http.StatusConflict, "A quota is used up"}
	kindSlow         = kind{"slow", http.StatusServiceUnavailable, "The request takes too long"}
	kindInternal     = kind{"internal", http.StatusInternalServerError, "Gancho failed"}
	kindUnavailable  = kind{"unavailable", http.StatusServiceUnavailable, "A database that Gancho needs is unreachable"}
)

// problem is an answer of RFC 9457. It is an error, so that whatever finds one
// returns it.
type problem struct {
	kind
	Detail string
	Errors []control.Problem
	header http.Header
}

// Error says what is wrong.
func (p *problem) Error() string { return p.Detail }

// MarshalJSON writes the members that RFC 9457 names, and errors.
func (p *problem) MarshalJSON() ([]byte, error) {
	return json.Marshal(struct {
		Type   string            `json:"type"`
		Title  string            `json:"title"`
		Status int               `json:"status"`
		Detail string            `json:"detail"`
		Errors []control.Problem `json:"errors,omitempty"`
	}{typePrefix + p.name, p.title, p.status, p.Detail, p.Errors})
}

// invalid is a request that is wrong in these ways, of which it lists as many as
// anybody reads.
func invalid(mistakes ...control.Problem) *problem {
	if len(mistakes) > strictyaml.MaxErrors {
		mistakes = append(mistakes[:strictyaml.MaxErrors:strictyaml.MaxErrors], control.Problem{Message: "there are more mistakes than these", Hint: "fix these first"})
	}
	detail := mistakes[0].Text()
	if len(mistakes) > 1 {
		detail = fmt.Sprintf("%d things are wrong with the request; see errors.", len(mistakes))
	}
	return &problem{kind: kindInvalid, Detail: detail, Errors: mistakes}
}

// notFound is the one answer to everything that does not exist, or not for the
// request's token.
func notFound() *problem {
	return &problem{kind: kindNotFound, Detail: "Nothing with that name or number exists, or not for this token."}
}

// changed: the version in If-Match is not the present one.
func changed() *problem {
	return &problem{kind: kindChanged, Detail: "If-Match names another version than the present one. Read it again, and repeat the change on that version."}
}

// problemOf is the answer to an error. Errors that are not the client's are
// logged, and only those.
func (c *call) problemOf(err error) *problem {
	var (
		own       *problem
		mistakes  *control.InvalidError
		forbidden *control.ForbiddenError
		readOnly  *control.ReadOnlyError
		quota     *control.QuotaError
		elsewhere *control.ElsewhereError
	)
	switch {
	case errors.As(err, &own):
		if own.kind == kindBusy && c.busy != nil {
			c.busy()
		}
		return own
	case errors.As(err, &mistakes):
		return invalid(c.mistakesOf(mistakes)...)
	case errors.As(err, &forbidden):
		return &problem{kind: kindForbidden, Detail: fmt.Sprintf("This needs a token with the role %s; the request's has the role %s.", forbidden.Needs, c.actor.Role)}
	case errors.As(err, &readOnly):
		return &problem{kind: kindReadOnly, Detail: readOnly.Error()}
	case errors.As(err, &quota):
		return &problem{kind: kindQuota, Detail: quota.Error() + "."}
	case errors.As(err, &elsewhere):
		return &problem{kind: kindElsewhere, Detail: sentence(elsewhere.Error())}
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
	p := &problem{kind: kindInternal, Detail: "The request was not carried out, through no fault of its own. Gancho's log says why."}
	var panicked *panicError
	switch {
	case c.http.Context().Err() != nil:
		event = c.log.Debug() // the client has gone, which canceled the request
	case errors.As(err, &panicked):
		event = event.Bytes("stack", panicked.stack)
	case errors.Is(err, state.ErrSlow):
		event = c.log.Warn()
		p = &problem{kind: kindSlow, Detail: "The state database would work on this for too long. Name an endpoint, a key or a shorter time, and fewer patterns."}
	case errors.Is(err, state.ErrBusy):
		event = c.log.Warn()
		p = &problem{
			kind: kindUnavailable, Detail: "Another session of the state database is in the way. Try again later; Gancho's log says more.",
			header: http.Header{"Retry-After": {"5"}},
		}
	case errors.Is(err, queue.ErrNotClaimed):
		event = c.log.Warn()
		p = &problem{
			kind: kindUnavailable, Detail: "Nothing was read of the source yet, so that its webhook-ids are not known. Try again later; GET /api/v1/sources says how it stands.",
			header: http.Header{"Retry-After": {"5"}},
		}
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
func (c *call) mistakesOf(e *control.InvalidError) []control.Problem {
	all := slices.Clone(e.Problems)
	for i := range all {
		if c.http.Method == http.MethodGet && all[i].Pointer != "" {
			all[i].Pointer, all[i].Parameter = "", strings.TrimPrefix(all[i].Pointer, "/")
		}
	}
	return all
}
