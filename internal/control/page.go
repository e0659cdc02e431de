package control

import (
	"strconv"

	"gancho/internal/state"
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

// numbered reads a cursor that is a row's number; empty: the list's beginning.
func numbered(cursor string) (int64, error) {
	if cursor == "" {
		return 0, nil
	}
	n, err := strconv.ParseInt(cursor, 10, 64)
	if err != nil || n < 1 {
		return 0, invalid("/cursor", "take the next of the page before, as it is", "the cursor is not one of this list")
	}
	return n, nil
}

// numberedPage reads what lists by row numbers are asked with: the store, if the
// actor may look, the most items, and the row to go on from.
func (s *Service) numberedPage(a Actor, cursor string, limit int) (store *state.Store, n int, from int64, err error) {
	if store, err = s.stored(a, state.Viewer); err != nil {
		return nil, 0, 0, err
	}
	if n, err = pageSize(limit); err != nil {
		return nil, 0, 0, err
	}
	from, err = numbered(cursor)
	return store, n, from, err
}

// cut makes a page of up to n+1 rows, so that a last page is known to be one.
func cut[T, V any](rows []T, n int, view func(T) V, id func(T) int64) Page[V] {
	page := Page[V]{Items: make([]V, 0, min(len(rows), n))}
	for _, r := range rows[:min(len(rows), n)] {
		page.Items = append(page.Items, view(r))
	}
	if len(rows) > n {
		page.Next = strconv.FormatInt(id(rows[n-1]), 10)
	}
	return page
}
