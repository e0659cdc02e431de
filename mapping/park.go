package mapping

import (
	"errors"
	"fmt"

	"gancho/cdc"
	"gancho/internal/jsontext"
	"gancho/mapping/expr"
)

// reason says what went wrong, where, and what fixes it.
func (f *failure) reason(r *rulePlan, rel *cdc.Relation) string {
	part := f.part
	if f.expression != nil {
		part = f.expression.path
	}
	if unknown, ok := errors.AsType[*expr.UnknownError](f.err); ok {
		row, why, fix := "new", "which is outside of the replica identity", missingIdentity(rel)
		if unknown.Old {
			row = "old"
		}
		if unknown.State == cdc.Unchanged {
			why = "a large value that the update did not touch"
		}
		return fmt.Sprintf("%s needs %s.%s, %s and was not sent; %s",
			part, row, cdc.QuoteIdentifier(unknown.Column), why, fix)
	}
	if eval, ok := errors.AsType[*expr.EvalError](f.err); ok && f.expression != nil {
		return fmt.Sprintf("%s: evaluate %s: %v", f.expression.place(eval.Offset), part, eval)
	}
	return fmt.Sprintf("%s: evaluate %s: %v", r.place, part, f.err)
}

// park gives the change to the sink as one that the rule could not be applied to.
func (m *Mapper) park(r *rulePlan, n int, c *cdc.Change, sink Sink, reason string) error {
	m.row = append(m.row[:0], '{')
	m.row = appendRow(m.row, `"new":{`, c.New, r)
	m.row = appendRow(m.row, `"old":{`, c.Old, r)
	m.row = append(m.row, '}')
	m.parked = Parked{
		Position: c.Position, N: n, Type: r.bound.event, Rule: r.place, Table: r.table.String(),
		Op: c.Op, Time: c.Tx.Time, Reason: reason, Row: m.row,
	}
	if len(m.waiting.entries) > 0 {
		m.waiting.park(&m.parked)
		return nil
	}
	return sink.Park(&m.parked)
}

// appendRow appends the text forms of the columns that the rule names, without
// those that were not sent, those that privacy.deny has and those that the rule masks.
func appendRow(dst []byte, opening string, row []cdc.Datum, r *rulePlan) []byte {
	if row == nil {
		return dst
	}
	dst = append(comma(dst), opening...)
	for _, column := range r.row {
		d := row[column.index]
		if !d.Known() {
			continue
		}
		dst = append(comma(dst), column.key...)
		if d.State == cdc.Null {
			dst = append(dst, "null"...)
			continue
		}
		dst = jsontext.AppendString(dst, d.Text)
	}
	return append(dst, '}')
}
