package state

import (
	"fmt"
	"strconv"
	"strings"
	"time"
)

// where gathers the conditions of a query and their parameters.
type where struct {
	text       encoding
	conditions []string
	args       []any
}

// param adds a parameter and returns its placeholder.
func (w *where) param(v any) string {
	w.args = append(w.args, v)
	return "$" + strconv.Itoa(len(w.args))
}

// add adds a condition, in which each %s is the place of the next parameter.
func (w *where) add(condition string, params ...any) {
	places := make([]any, len(params))
	for i, p := range params {
		places[i] = w.param(p)
	}
	w.conditions = append(w.conditions, fmt.Sprintf(condition, places...))
}

// equal compares a column of any length, through the index on its beginning.
func (w *where) equal(column, value string) {
	place := w.param(w.text.encode(value))
	w.conditions = append(w.conditions, fmt.Sprintf("left(%[1]s, 128) = left(%[2]s, 128) and %[1]s = %[2]s", column, place))
}

// between limits a time, to exclusive; zero times do not.
func (w *where) between(column string, from, to time.Time) {
	if !from.IsZero() {
		w.add(column+" >= %s", from)
	}
	if !to.IsZero() {
		w.add(column+" < %s", to)
	}
}

// sql returns the where clause, or nothing.
func (w *where) sql() string {
	if len(w.conditions) == 0 {
		return ""
	}
	return " where " + strings.Join(w.conditions, " and ")
}
