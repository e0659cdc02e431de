package mapping

import (
	"bytes"
	"errors"
	"fmt"
	"slices"
	"strings"

	"gancho/cdc"
	"gancho/internal/jsontext"
	"gancho/internal/pgtext"
	"gancho/mapping/expr"
)

// jsonString returns s as a JSON string.
func jsonString(s string) string { return string(jsontext.AppendString(nil, s)) }

// jsonKey returns s as the key of a JSON object, with its colon; "" for an item
// of a list, which has none.
func jsonKey(s string) string {
	if s == "" {
		return ""
	}
	return jsonString(s) + ":"
}

// comma separates from what is before, unless that is an opening bracket.
func comma(dst []byte) []byte {
	if last := dst[len(dst)-1]; last == '{' || last == '[' {
		return dst
	}
	return append(dst, ',')
}

func (m *Mapper) options(r *rulePlan) *pgtext.JSONOptions {
	if r.bound.numbersAsStrings {
		return &m.strings
	}
	return &m.numbers
}

// renderObject appends the JSON of a payload, or of an object in it, and collects
// in m.unchanged what is left out.
func (m *Mapper) renderObject(dst []byte, n *node, o *pgtext.JSONOptions) ([]byte, *failure) {
	dst = append(dst, '{')
	for _, child := range n.children {
		start, noted := len(dst), len(m.errors)
		dst = append(comma(dst), child.name...)
		var failed *failure
		switch {
		case child.leaf != nil:
			dst, failed = m.appendLeaf(dst, child, m.machine, o)
		case child.list:
			dst, failed = m.appendTree(dst, child, m.machine, o)
		default:
			dst, failed = m.renderObject(dst, child, o)
		}
		if failed == nil {
			continue
		}
		// What is in the row and cannot be read is not left out.
		if unknown, ok := errors.AsType[*expr.UnknownError](failed.err); !ok || unknown.State == cdc.Invalid {
			return dst, failed
		}
		dst, m.errors = dst[:start], m.errors[:noted]
		m.leaveOut(child.path)
	}
	return append(dst, '}'), nil
}

// leaveOut names a path in m.unchanged; path is a JSON string.
func (m *Mapper) leaveOut(path string) {
	if len(m.unchanged) == 0 {
		m.unchanged = append(m.unchanged, '[')
	}
	m.unchanged = append(comma(m.unchanged), path...)
}

func (m *Mapper) appendLeaf(dst []byte, n *node, machine *expr.Machine, o *pgtext.JSONOptions) ([]byte, *failure) {
	start := len(dst)
	if n.delegated > 0 && m.delegatedFailed(n.delegated-1, machine) {
		m.noteError(n, machine)
		return append(dst, "null"...), nil
	}
	err := machine.Sent(n.sent)
	if err == nil {
		dst, err = machine.AppendJSON(dst, n.leaf, o)
	}
	switch {
	case err == nil:
		return dst, nil
	case m.nullErrors && isDataError(err):
		m.noteError(n, machine)
		return append(dst[:start], "null"...), nil
	}
	return dst, &failure{expression: n.expression, err: err}
}

// delegatedFailed: the source could not evaluate the leaf of a lookup for the row that the
// machine has as the new one, and the leaf is null for it.
func (m *Mapper) delegatedFailed(lookup int, machine *expr.Machine) bool {
	found := m.found
	if machine == m.before {
		found = m.foundBefore
	}
	return lookup < len(found) && found[lookup].failed
}

// isDataError: the expression fails for this row's values, in PostgreSQL too.
func isDataError(err error) bool {
	eval, ok := errors.AsType[*expr.EvalError](err)
	return ok && strings.HasPrefix(eval.Code, "22")
}

// noteError names a leaf in m.errors, as a part of previous where it fails on the old row.
func (m *Mapper) noteError(n *node, machine *expr.Machine) {
	path := n.path
	if machine == m.before {
		path = `"previous.` + path[1:]
	}
	if bytes.Contains(m.errors, []byte(path)) { // previous looks at the present value again
		return
	}
	if len(m.errors) == 0 {
		m.errors = append(m.errors, '[')
	}
	m.errors = append(comma(m.errors), path...)
}

// appendTree appends a value whole: in a list nothing can be left out.
func (m *Mapper) appendTree(dst []byte, n *node, machine *expr.Machine, o *pgtext.JSONOptions) ([]byte, *failure) {
	if n.leaf != nil {
		return m.appendLeaf(dst, n, machine, o)
	}
	opening, closing := byte('{'), byte('}')
	if n.list {
		opening, closing = '[', ']'
	}
	dst = append(dst, opening)
	for _, child := range n.children {
		var failed *failure
		dst, failed = m.appendTree(append(comma(dst), child.name...), child, machine, o)
		if failed != nil {
			return dst, failed
		}
	}
	return append(dst, closing), nil
}

// renderPrevious appends the object of what the payload showed before, where it
// differs.
func (m *Mapper) renderPrevious(dst []byte, r *rulePlan, c *cdc.Change) ([]byte, *failure) {
	if !m.beforeLoaded {
		if c.Old == nil {
			return dst, &failure{part: "previous", err: &expr.UnknownError{Column: c.Relation.Columns[0].Name, Old: true, State: cdc.Missing}}
		}
		m.loadBefore(c)
		for i := range m.found {
			found := m.found[i]
			if i < len(m.foundBefore) && (m.foundBefore[i].done || m.foundBefore[i].failed) {
				found = m.foundBefore[i]
			}
			m.before.LoadLookup(i, found.row)
		}
		m.beforeLoaded = true
	}
	return m.previousObject(dst, r.payload, c, m.options(r))
}

// loadBefore makes the old row the new one of the machine for previous.
func (m *Mapper) loadBefore(c *cdc.Change) {
	m.beforeChange = *c
	m.beforeChange.New = c.Old
	m.before.Load(&m.beforeChange)
}

func (m *Mapper) previousObject(dst []byte, n *node, c *cdc.Change, o *pgtext.JSONOptions) ([]byte, *failure) {
	dst = append(dst, '{')
	for _, child := range n.children {
		start := len(dst)
		dst = append(comma(dst), child.name...)
		value := len(dst)
		var failed *failure
		var differs bool
		if child.leaf == nil && !child.list {
			dst, failed = m.previousObject(dst, child, c, o)
			differs = len(dst) > value+len("{}")
		} else {
			dst, differs, failed = m.previousValue(dst, child, c, o)
		}
		if failed != nil {
			return dst, failed
		}
		if !differs {
			dst = dst[:start]
		}
	}
	return append(dst, '}'), nil
}

// previousValue appends the former value of a leaf or list, and reports whether it
// differs from the present one. A value that is not known now has not changed.
func (m *Mapper) previousValue(dst []byte, n *node, c *cdc.Change, o *pgtext.JSONOptions) ([]byte, bool, *failure) {
	if !n.changes(c) {
		return dst, false, nil
	}
	var failed *failure
	if m.scratch, failed = m.appendTree(m.scratch[:0], n, m.machine, o); failed != nil {
		if _, unknown := errors.AsType[*expr.UnknownError](failed.err); unknown {
			return dst, false, nil
		}
		return dst, false, failed
	}
	start := len(dst)
	dst, failed = m.appendTree(dst, n, m.before, o)
	if failed != nil {
		if unknown, ok := errors.AsType[*expr.UnknownError](failed.err); ok {
			of := *unknown
			of.Old = true // what that machine takes for the new row is the old one
			failed.err = &of
		}
		return dst, false, failed
	}
	return dst, !bytes.Equal(dst[start:], m.scratch), nil
}

// changes reports whether a column has changed that a leaf below n, which has a
// previous value, depends on.
func (n *node) changes(c *cdc.Change) bool {
	if n.fromRow {
		for _, i := range n.inputs {
			was, now := c.Old[i], c.New[i]
			if was.State != now.State || !bytes.Equal(was.Text, now.Text) {
				return true
			}
		}
	}
	return slices.ContainsFunc(n.children, func(child *node) bool { return child.changes(c) })
}

// reason says what went wrong, where, and what fixes it.
func (f *failure) reason(r *rulePlan, rel *cdc.Relation) string {
	part := f.part
	if f.expression != nil {
		part = f.expression.path
	}
	if unknown, ok := errors.AsType[*expr.UnknownError](f.err); ok {
		row, why, fix := "new", "which is outside of the replica identity", r.bound.missingIdentity(rel)
		if unknown.Old {
			row = "old"
		}
		if unknown.State == cdc.Invalid {
			return fmt.Sprintf("%s needs %s.%s, whose bytes are no text in source.encoding; correct the row, or the setting",
				part, row, cdc.QuoteIdentifier(unknown.Column))
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
