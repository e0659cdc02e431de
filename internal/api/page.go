package api

import (
	"context"
	"encoding/base64"
	"strconv"
	"strings"

	"gancho/internal/control"
	"gancho/internal/state"
)

// handle answers a request of a route.
type handle func(*call) (answer, error)

// list is the answer of a list that is never so long that it needs pages.
func list[T any](items []T, err error) (answer, error) {
	if items == nil {
		items = []T{}
	}
	return answer{body: control.Page[T]{Items: items}}, err
}

// shown handles what is read as a whole.
func shown[T any](read func(*control.Service, context.Context, control.Actor) (T, error)) handle {
	return func(c *call) (answer, error) {
		view, err := read(c.control, c.ctx, c.actor)
		return answer{body: view}, err
	}
}

// whole handles a list without pages.
func whole[T any](read func(*control.Service, context.Context, control.Actor) ([]T, error)) handle {
	return func(c *call) (answer, error) { return list(read(c.control, c.ctx, c.actor)) }
}

// chosen handles a list without pages of what a filter chooses.
func chosen[T any](read func(*control.Service, context.Context, control.Actor, state.Filter) ([]T, error)) handle {
	return func(c *call) (answer, error) {
		filter := c.query.filter()
		if err := c.query.err(); err != nil {
			return answer{}, err
		}
		return list(read(c.control, c.ctx, c.actor, filter))
	}
}

// paged handles a list in pages.
func paged[T any](name string, read func(*control.Service, context.Context, control.Actor, string, int) (control.Page[T], error)) handle {
	type all struct{}
	return filtered(name, func(*query) all { return all{} },
		func(s *control.Service, ctx context.Context, a control.Actor, _ all, cursor string, limit int) (control.Page[T], error) {
			return read(s, ctx, a, cursor, limit)
		})
}

// filtered handles a list in pages of what a filter chooses. Its cursors are
// bound to the list's name, so that the cursor of another list is refused, and
// nobody takes it for a value that can be computed.
func filtered[F, T any](name string, choose func(*query) F,
	read func(*control.Service, context.Context, control.Actor, F, string, int) (control.Page[T], error),
) handle {
	return func(c *call) (answer, error) {
		filter, cursor, limit := choose(c.query), c.query.cursor(name), c.query.limit()
		if err := c.query.err(); err != nil {
			return answer{}, err
		}
		page, err := read(c.control, c.ctx, c.actor, filter, cursor, limit)
		if page.Next != "" {
			page.Next = Cursor(name, page.Next)
		}
		return answer{body: page}, err
	}
}

// Cursor is the control's cursor as an answer of the list has it.
func Cursor(list, cursor string) string {
	return base64.RawURLEncoding.EncodeToString([]byte(list + ":" + cursor))
}

// ParseCursor returns the control's cursor of one that Cursor has made for the list; false: it has not.
func ParseCursor(list, text string) (cursor string, ok bool) {
	src, err := base64.RawURLEncoding.DecodeString(text)
	name, cursor, found := strings.Cut(string(src), ":")
	return cursor, err == nil && found && name == list && cursor != "" && isText(cursor)
}

// cursor is the control's cursor in the parameter of that name.
func (q *query) cursor(list string) string {
	if !q.values.Has("cursor") {
		return ""
	}
	cursor, ok := ParseCursor(list, q.values.Get("cursor"))
	if !ok {
		q.wrong("cursor", "use the next of the previous page, unchanged, or leave it out to begin", "the parameter %q is not a cursor of this list", "cursor")
		return ""
	}
	return cursor
}

// numbered handles what is done with the path's {id}.
func numbered[T any](do func(*control.Service, context.Context, control.Actor, int64) (T, error)) handle {
	return func(c *call) (answer, error) {
		id, err := c.number()
		if err != nil {
			return answer{}, err
		}
		view, err := do(c.control, c.ctx, c.actor, id)
		return answer{body: view}, err
	}
}

// number is the path's {id}. Nothing has a number that is none.
func (c *call) number() (int64, error) {
	id, err := strconv.ParseInt(c.http.PathValue("id"), 10, 64)
	if err != nil || id < 1 {
		return 0, notFound()
	}
	return id, nil
}

// name is the path's {name}.
func (c *call) name() string { return c.http.PathValue("name") }
