package mapping

import (
	"slices"

	"gancho/cdc"
	"gancho/internal/pgtext"
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
	for r := pgtext.ReadArray(d.Text, t.Base().Delim); ; {
		item, text, err := r.Next()
		if err != nil || item == pgtext.ArrayEnd {
			return asked
		}
		asked = item == pgtext.ArrayElement && m.isNew(enum, text) || asked
	}
}

// isNew reports, once for each label, that it is not known.
func (m *Mapper) isNew(enum *cdc.Type, text []byte) bool {
	if slices.ContainsFunc(enum.Labels, func(l string) bool { return l == string(text) }) {
		return false
	}
	l := label{enum.OID, string(text)}
	if m.reread[l] {
		return false
	}
	m.reread[l] = true
	return true
}
