package mapping

import (
	"bytes"
	"slices"

	"gancho/cdc"
)

// ALTER TYPE ... ADD VALUE and RENAME VALUE change an enum without a message in
// the stream, so that the relation's labels are those of its last description.
// A label that is not among them makes the reader read the catalogue again.

// label is a label of an enum that the relation did not know.
type label struct {
	enum uint32
	text string
}

// enumOf returns the enum that a type, or an array's elements, are of, or nil.
func enumOf(t *cdc.Type) *cdc.Type {
	t = t.Base()
	if t.Kind == cdc.KindArray && t.Elem != nil {
		t = t.Elem.Base()
	}
	if t.Kind == cdc.KindEnum {
		return t
	}
	return nil
}

// enumColumns are the columns of enums, and of arrays of them, that the table's
// rules depend on.
func enumColumns(rs *Ruleset, rel *cdc.Relation) []int {
	var columns []int
	for i, column := range rel.Columns {
		if enumOf(column.Type) != nil && slices.ContainsFunc(rs.byTable[rel.TableName()], func(b *boundRule) bool { return b.columns[column.Name] != nil }) {
			columns = append(columns, i)
		}
	}
	return columns
}

// outdated reports, once for each table, whether the rules were bound to an enum
// that has other labels than the relation's.
func (m *Mapper) outdated(rel *cdc.Relation) bool {
	if m.compared[rel.OID] {
		return false
	}
	m.compared[rel.OID] = true
	for _, i := range enumColumns(m.rules, rel) {
		streamed := enumOf(rel.Columns[i].Type)
		for _, b := range m.rules.byTable[rel.TableName()] {
			if t := b.columns[rel.Columns[i].Name]; t != nil {
				if bound := enumOf(t); bound != nil && bound.OID == streamed.OID && !slices.Equal(bound.Labels, streamed.Labels) {
					return true
				}
			}
		}
	}
	return false
}

// newLabel reports whether a row has a label that the relation does not know and
// for which the catalogue was not read yet.
func (m *Mapper) newLabel(plan *tablePlan, c *cdc.Change) bool {
	for _, i := range plan.enums {
		t := plan.relation.Columns[i].Type
		if c.New != nil && m.unknownLabel(t, c.New[i]) || c.Old != nil && m.unknownLabel(t, c.Old[i]) {
			return true
		}
	}
	return false
}

func (m *Mapper) unknownLabel(t *cdc.Type, d cdc.Datum) bool {
	if d.State != cdc.Present {
		return false
	}
	enum := enumOf(t)
	if t.Base() == enum {
		return m.isNew(enum, d.Text)
	}
	asked := false
	eachElement(d.Text, t.Base().Delim, func(text []byte) { asked = m.isNew(enum, text) || asked })
	return asked
}

// isNew reports, once for each label, that it is not known.
func (m *Mapper) isNew(enum *cdc.Type, text []byte) bool {
	for _, l := range enum.Labels {
		if l == string(text) {
			return false
		}
	}
	l := label{enum.OID, string(text)}
	if m.reread[l] {
		return false
	}
	m.reread[l] = true
	return true
}

// eachElement calls f with the elements of an array as array_out prints it,
// except null and those with a quote or backslash in them.
func eachElement(array []byte, delim byte, f func([]byte)) {
	if i := bytes.IndexByte(array, '{'); i >= 0 {
		array = array[i:] // behind the bounds
	}
	for len(array) > 0 {
		switch array[0] {
		case '{', '}', delim:
			array = array[1:]
		case '"':
			end := 1
			for end < len(array) && array[end] != '"' {
				if array[end] == '\\' {
					end++
				}
				end++
			}
			end = min(end, len(array))
			if text := array[1:end]; bytes.IndexByte(text, '\\') < 0 {
				f(text)
			}
			array = array[min(end+1, len(array)):]
		default:
			end := 0
			for end < len(array) && array[end] != delim && array[end] != '}' {
				end++
			}
			if text := array[:end]; string(text) != "NULL" {
				f(text)
			}
			array = array[end:]
		}
	}
}
