package mapping

import (
	"slices"
	"strconv"

	"gancho/cdc"
	"gancho/internal/pgtext"
)

// ALTER TYPE changes an enum's labels and a composite type's fields without a
// message in the stream, so that the types of a relation are those of its last
// description. A value that does not fit them makes the reader read the catalogue
// again. (A field that was renamed fits: the bridge watches the catalogue for it.)

// misfit is a label, or the number of a composite's fields, that a version of a
// type does not know.
type misfit struct {
	version *cdc.Type
	text    string
}

// alterableColumns are the columns of types that may be altered that the table's
// rules depend on.
func alterableColumns(rs *Ruleset, rel *cdc.Relation) []int {
	var columns []int
	for i, column := range rel.Columns {
		if column.Type.Alterable() && slices.ContainsFunc(rs.byTable[rel.TableName()], func(b *boundRule) bool { return b.columns[column.Name] != nil }) {
			columns = append(columns, i)
		}
	}
	return columns
}

// outdated reports, once for each table, whether the rules were bound to another
// version of a type than the relation's.
func (m *Mapper) outdated(rel *cdc.Relation) bool {
	if m.compared[rel.OID] {
		return false
	}
	m.compared[rel.OID] = true
	for _, i := range alterableColumns(m.rules, rel) {
		for _, b := range m.rules.byTable[rel.TableName()] {
			if t := b.columns[rel.Columns[i].Name]; t != nil && !sameVersion(t, rel.Columns[i].Type) {
				return true
			}
		}
	}
	return false
}

// sameVersion reports whether two descriptions of a type say the same. What is
// another type altogether is no other version.
func sameVersion(a, b *cdc.Type) bool {
	if a == b || a.OID != b.OID {
		return true
	}
	return slices.Equal(a.Labels, b.Labels) && (a.Elem == nil || b.Elem == nil || sameVersion(a.Elem, b.Elem)) &&
		slices.EqualFunc(a.Fields, b.Fields, func(a, b cdc.Field) bool {
			return a.Name == b.Name && a.Type.OID == b.Type.OID && sameVersion(a.Type, b.Type)
		})
}

// stale reports whether a row has a value that does not fit the relation's types
// and for which the catalogue was not read yet.
func (m *Mapper) stale(plan *tablePlan, c *cdc.Change) bool {
	for _, i := range plan.alterable {
		t := plan.relation.Columns[i].Type
		for _, row := range [][]cdc.Datum{c.New, c.Old} {
			if row != nil && row[i].State == cdc.Present && m.unfit(t, row[i].Text) {
				return true
			}
		}
	}
	return false
}

// unfit reports, once for each misfit, that a value does not fit its type.
func (m *Mapper) unfit(t *cdc.Type, text []byte) bool {
	switch t = t.Base(); {
	case t.Kind == cdc.KindEnum:
		return !slices.ContainsFunc(t.Labels, func(l string) bool { return l == string(text) }) && m.isNew(t, string(text))
	case t.Kind == cdc.KindComposite:
		return m.unfitFields(t, text)
	case t.Kind != cdc.KindArray || t.Elem == nil || !t.Elem.Alterable():
		return false
	}
	asked := false
	for r := pgtext.ReadArray(text, t.Delim); ; {
		item, elem, err := r.Next()
		if err != nil || item == pgtext.ArrayEnd {
			return asked
		}
		asked = item == pgtext.ArrayElement && m.unfit(t.Elem, elem) || asked
	}
}

func (m *Mapper) unfitFields(t *cdc.Type, text []byte) bool {
	asked, n := false, 0
	if len(t.Fields) == 0 && string(text) == "()" {
		return false
	}
	for r := pgtext.SplitComposite(text); ; n++ {
		field, null, ok := r.Next()
		if !ok {
			break
		}
		asked = n < len(t.Fields) && !null && m.unfit(t.Fields[n].Type, field) || asked
	}
	return n != len(t.Fields) && m.isNew(t, "fields "+strconv.Itoa(n)) || asked
}

// isNew reports, once for each misfit, that the catalogue was not read for it.
func (m *Mapper) isNew(t *cdc.Type, text string) bool {
	l := misfit{t, text}
	if m.reread[l] {
		return false
	}
	m.reread[l] = true
	return true
}
