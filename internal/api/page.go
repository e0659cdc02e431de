package api

import (
	"encoding/base64"
	"strconv"
	"strings"

	"gancho/internal/control"
)

// page is a list's answer.
type page[T any] struct {
	Items []T    `json:"items"`
	Next  string `json:"next,omitempty"`
}

// list is the answer of what is never so long that it needs pages.
func list[T any](items []T, err error) (answer, error) {
	if err != nil {
		return answer{}, err
	}
	if items == nil {
		items = []T{}
	}
	return answer{body: page[T]{Items: items}}, nil
}

// paged answers with a page whose cursor is bound to the list, so that the
// cursor of another list is refused, and nobody takes it for something that
// can be computed.
func paged[T any](name string, p control.Page[T], err error) (answer, error) {
	if err != nil {
		return answer{}, err
	}
	out := page[T]{Items: p.Items}
	if p.Next != "" {
		out.Next = base64.RawURLEncoding.EncodeToString([]byte(name + ":" + p.Next))
	}
	return answer{body: out}, nil
}

// cursor is the control's cursor in the parameter of that name.
func (q *query) cursor(list string) string {
	if !q.values.Has("cursor") {
		return ""
	}
	text, err := base64.RawURLEncoding.DecodeString(q.values.Get("cursor"))
	name, cursor, ok := strings.Cut(string(text), ":")
	if err != nil || !ok || name != list || cursor == "" || !isText(cursor) {
		q.wrong("cursor", "take next of the page before as it is, or leave it out to begin", "the parameter %q is not a cursor of this list", "cursor")
		return ""
	}
	return cursor
}

// name is the path's {name}.
func (c *call) name() string { return c.http.PathValue("name") }

// number is the path's {id}. What is no number names nothing.
func (c *call) number() (int64, error) {
	id, err := strconv.ParseInt(c.http.PathValue("id"), 10, 64)
	if err != nil || id < 1 {
		return 0, notFound()
	}
	return id, nil
}

func jobPath(id int64) string { return root + "/resends/" + strconv.FormatInt(id, 10) }

// needBody refuses a request without a body.
func (c *call) needBody(what string) error {
	if len(c.body) > 0 {
		return nil
	}
	return invalid(mistake{Message: "the body is missing", Hint: "it is " + what + " as a JSON object"})
}
