package api

import (
	"bytes"
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"net/http"
	"runtime"
	"strconv"
	"strings"
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
	if len(values) == 0 {
		return 0, nil
	}
	tag := strings.TrimSpace(strings.Join(values, ","))
	if tag == "*" {
		return 0, nil
	}
	if text, ok := strings.CutPrefix(tag, `"`); ok {
		if text, ok = strings.CutSuffix(text, `"`); ok {
			if version, err := strconv.ParseInt(text, 10, 64); err == nil && version > 0 {
				return version, nil
			}
		}
	}
	return 0, changed()
}
