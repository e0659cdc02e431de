package control

import (
	"strconv"

	"gancho/internal/state"
)

// Page is a part of a list. Next, when there is more, is the cursor of what follows.
type Page[T any] struct {
	Items []T    `json:"items"`
	Next  string `json:"next,omitempty"`
}

// MaxPage is the most items in a page; a limit of 0 means DefaultPage.
const (
	MaxPage     = 500
	DefaultPage = 50
)

// pageSize is how many items a page of the limit has.
func pageSize(limit int) (int, error) {
	switch {
	case limit == 0:
		return DefaultPage, nil
	case limit < 0 || limit > MaxPage:
		return 0, invalid("/limit", "", "limit is %d; it must be from 1 to %d", limit, MaxPage)
	}
	return limit, nil
}

// badCursor refuses a cursor that the list has not returned.
func badCursor() error {
	return invalid("/cursor", "use the next of the previous page, unchanged", "the cursor is not one of this list")
}

// numbered reads a page of a list of the store whose cursor is the number of
// the page's last row. read returns up to n rows after the one numbered from;
// 0: from the beginning. Needs Viewer.
func numbered[T any](s *Service, a Actor, cursor string, limit int, id func(*T) int64, read func(store *state.Store, from int64, n int) ([]T, error)) (Page[T], error) {
	none := Page[T]{Items: []T{}}
	store, err := s.stored(a, state.Viewer)
	if err != nil {
		return none, err
	}
	n, err := pageSize(limit)
	if err != nil {
		return none, err
	}
	var from int64
	if cursor != "" {
		if from, err = strconv.ParseInt(cursor, 10, 64); err != nil || from < 1 {
			return none, badCursor()
		}
	}
	rows, err := read(store, from, n+1)
	if err != nil {
		return none, err
	}
	return cut(rows, n, func(row *T) string { return strconv.FormatInt(id(row), 10) }), nil
}

// cut makes a page of up to n+1 rows: the last one only shows that there are more.
func cut[T any](rows []T, n int, cursor func(*T) string) Page[T] {
	if rows == nil {
		rows = []T{}
	}
	if len(rows) <= n {
		return Page[T]{Items: rows}
	}
	return Page[T]{Items: rows[:n:n], Next: cursor(&rows[n-1])}
}
