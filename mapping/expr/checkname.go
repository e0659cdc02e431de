package expr

import (
	"bytes"
	"fmt"
	"math"
	"slices"
	"strconv"
	"strings"

	"gancho/cdc"
	"gancho/internal/strictyaml"
)

// column resolves old.x, new.x and x.
func (c *checker) column(n *columnRef) *term {
	id := n.path[len(n.path)-1]
	switch {
	case n.star:
		return c.errorAt(n.place, "name the columns", "%s.* is a whole row: it can only be compared with another, or tested with is null", id.text)
	case len(n.path) == 1:
		if c.isWholeRow(id) {
			return c.errorAt(n.place, "write "+id.text+".column", "%s is a whole row: it can only be compared with another, or tested with is null", id.text)
		}
		if (id.text == "op" || id.text == "tg_op") && (c.scope.Relation == nil || c.scope.Relation.Column(id.text) < 0) {
			return c.operation(id)
		}
		return c.columnOf(n.place, id, c.scope.Delete && !c.scope.Insert && !c.scope.Update, true)
	case slices.Contains(c.lookupNames(), n.path[0].text):
		return c.lookupColumn(n)
	case len(n.path) > 2 || n.path[0].text != "old" && n.path[0].text != "new":
		hint := "write old.x, new.x or x"
		if r := c.scope.Relation; r != nil && (n.path[0].text == r.Name || n.path[0].text == r.Schema) {
			hint = "write new." + quoteIdent(id)
		} else if near := closest(n.path[0].text, c.lookupNames()); near != "" {
			hint = fmt.Sprintf("did you mean %s.%s?", near, quoteIdent(id))
		}
		return c.errorAt(n.place, hint, "%s is not a row of this rule", quoteIdent(n.path[0]))
	}
	return c.columnOf(n.place, id, n.path[0].text == "old", false)
}

func (c *checker) lookupNames() []string {
	return mapped(c.scope.Lookups, func(l Lookup) string { return l.Name })
}

// lookupColumn creates the term of a lookup's column.
func (c *checker) lookupColumn(n *columnRef) *term {
	lookup := slices.Index(c.lookupNames(), n.path[0].text)
	l := &c.scope.Lookups[lookup]
	switch {
	case len(n.path) > 2:
		return c.errorAt(n.place, "write "+l.Name+".column", "%s is a lookup, which has columns only", l.Name)
	case c.scope.Early:
		return c.errorAt(n.place, "use columns of the table here; a lookup can be used in data, tenant and key", "lookup %s is read only after the rule has fired", l.Name)
	}
	id := n.path[1]
	i := slices.IndexFunc(l.Columns, func(col cdc.Column) bool { return col.Name == id.text })
	if i < 0 {
		return c.errorAt(n.place, columnHint(l.Columns, id), "column %q is not in lookup %s", id.text, l.Name)
	}
	col := &l.Columns[i]
	c.lookups = append(c.lookups, LookupColumn{Lookup: lookup, Index: i, Hidden: c.hiding > 0})
	return &term{op: opColumn, typ: col.Type, typmod: col.TypeMod, place: n.place, column: i, lookup: lookup + 1, name: l.Name + "." + col.Name, vars: true}
}

// isWholeRow reports a bare old or new that is not a column's name.
func (c *checker) isWholeRow(id ident) bool {
	return (id.text == "old" || id.text == "new") && (c.scope.Relation == nil || c.scope.Relation.Column(id.text) < 0)
}

// columnOf creates the term of a column, if the rule's operations have the row.
func (c *checker) columnOf(p place, id ident, old, bare bool) *term {
	i := c.columnIndex(p, id)
	if i < 0 {
		return nil
	}
	if old && !c.scope.Old || !old && !c.scope.New {
		return c.errorAt(p, c.rowHint(old, bare), "%s", c.rowMessage(old))
	}
	return c.columnTerm(p, i, old)
}

// columnIndex finds a column of the table; it is negative after an error.
func (c *checker) columnIndex(p place, id ident) int {
	r := c.scope.Relation
	if r == nil {
		c.errorAt(p, "", "the expression has no table, so it cannot name columns")
		return -1
	}
	i := r.Column(id.text)
	if i < 0 {
		c.errorAt(p, columnHint(r.Columns, id), "column %q is not in table %s", id.text, r.Name)
	}
	return i
}

func (c *checker) columnTerm(p place, i int, old bool) *term {
	col := &c.scope.Relation.Columns[i]
	c.named = append(c.named, Column{Old: old, Index: i, Name: col.Name, Hidden: c.hiding > 0})
	c.needOld = c.needOld || old
	return &term{op: opColumn, typ: col.Type, typmod: col.TypeMod, place: p, column: i, old: old, name: col.Name, vars: true}
}

func (c *checker) rowMessage(old bool) string {
	row, op, without := "NEW", "delete", c.scope.Delete
	if old {
		row, op, without = "OLD", "insert", c.scope.Insert
	}
	if !without {
		op = "truncate"
	}
	return fmt.Sprintf("the rule's %s has no %s row", op, row)
}

func (c *checker) rowHint(old, bare bool) string {
	switch {
	case bare && !old && c.scope.Old:
		return "a bare column is new's: write old.x, or a rule for each operation"
	case c.scope.Insert || c.scope.Update || c.scope.Delete:
		return "write a rule for each operation"
	}
	return "leave the column out"
}

// columnHint proposes the closest column.
func columnHint(columns []cdc.Column, id ident) string {
	names := make([]string, len(columns))
	for i, col := range columns {
		names[i] = col.Name
		if strings.EqualFold(col.Name, id.text) {
			return "quote it to keep its case: " + quoteName(col.Name)
		}
	}
	return suggest(id.text, names, "did you mean %q?", "columns: "+strings.Join(names, ", "))
}

// suggest is a hint with the closest name, or otherwise when none is close.
func suggest(written string, names []string, format, otherwise string) string {
	if near := closest(written, names); near != "" {
		return fmt.Sprintf(format, near)
	}
	return otherwise
}

// closest is the name most likely meant: a similar one or, since columns are
// often written without their suffix, one that begins like what was written.
func closest(written string, names []string) string {
	if len(written) > 63 { // longer than PostgreSQL's names, and long to compare
		return ""
	}
	if near := strictyaml.Closest(written, names); near != "" {
		return near
	}
	i := slices.IndexFunc(names, func(name string) bool { return len(written) > 2 && strings.HasPrefix(name, written) })
	if i < 0 {
		return ""
	}
	return names[i]
}

// userType finds a type among those of the table's columns.
func (c *checker) userType(schema, name string) *cdc.Type {
	columns := slices.Clone(c.columnsOfTable())
	for _, l := range c.scope.Lookups {
		columns = append(columns, l.Columns...)
	}
	for i := range columns {
		for t := columns[i].Type; t != nil; t = t.Elem {
			if t.Name == name && (schema == "" || schema == t.Schema) {
				return t
			}
		}
	}
	return nil
}

func (c *checker) columnsOfTable() []cdc.Column {
	if c.scope.Relation == nil {
		return nil
	}
	return c.scope.Relation.Columns
}

// resolveType finds the type that a cast names, and its modifier.
func (c *checker) resolveType(n *typeName) (*cdc.Type, int32) {
	var t *cdc.Type
	if info := pg().byName[n.name]; info != nil && !info.pseudo && (n.schema == "" || n.schema == "pg_catalog") {
		t = info.typ
	}
	if t == nil || n.schema != "" && t.Schema != n.schema {
		t = c.userType(n.schema, n.name)
	}
	if t == nil || t.OID == oidUnknown {
		c.unsupported(n.place, c.typeHint(n), "type %q is not known here", n.name)
		return nil, -1
	}
	typmod, ok := c.typeModifier(n, t)
	if !ok {
		return nil, -1
	}
	if n.array && t.Kind != cdc.KindArray {
		if len(n.mods) > 0 && typmod >= 0 {
			c.unsupported(n.place, "cast to "+typeTitle(t)+"[]", "modifiers of array elements are not supported")
			return nil, -1
		}
		return arrayOf(t), -1
	}
	return t, typmod
}

func (c *checker) typeHint(n *typeName) string {
	names := []string{"text", "varchar", "char", "integer", "bigint", "smallint", "numeric", "decimal", "boolean", "date", "timestamp", "timestamptz",
		"time", "interval", "real", "jsonb", "json", "uuid", "bytea", "money"}
	for _, col := range c.columnsOfTable() {
		names = append(names, col.Type.Name)
	}
	return suggest(n.name, names, "did you mean %s?", "use a built-in type, or one of the table's columns")
}

// typeModifier is the type's typmodin.
func (c *checker) typeModifier(n *typeName, t *cdc.Type) (int32, bool) {
	if len(n.mods) == 0 {
		return -1, true
	}
	var mods []int
	for _, s := range n.mods {
		v, err := strconv.Atoi(s)
		if err != nil { // digits only, so too many of them
			v = math.MaxInt32
		}
		mods = append(mods, v)
	}
	single := len(mods) == 1
	switch t.OID {
	case oidVarchar, oidBpchar:
		if single && mods[0] >= 1 && mods[0] <= 10485760 {
			return int32(mods[0]) + 4, true
		}
	case oidNumeric:
		if single {
			mods = append(mods, 0)
		}
		if len(mods) == 2 && mods[0] >= 1 && mods[0] <= 1000 && mods[1] <= mods[0] {
			return int32(mods[0]<<16|mods[1]) + 4, true
		}
	case oidTimestamp, oidTimestamptz, oidTime, oidInterval:
		if single && mods[0] <= 6 {
			return int32(mods[0]), true
		}
	default:
		c.errorAt(n.place, "leave it out", "type %s takes no modifier", typeTitle(t))
		return -1, false
	}
	c.errorAt(n.place, "see PostgreSQL's manual for its limits", "invalid modifier of type %s", typeTitle(t))
	return -1, false
}

// changed is changed(col): the update changed the column, null counting as a
// value. A large value that the server did not send did not change.
func (c *checker) changed(n *call) *term {
	i := c.columnArgument(n, "changed(column)", "one argument")
	if i < 0 {
		return nil
	}
	if !c.scope.Old || !c.scope.New {
		return c.errorAt(n.place, "write a rule for update alone; became() works for insert too", "changed() compares the old row with the new: %s", c.rowMessage(!c.scope.Old))
	}
	l, r := c.columnTerm(n.place, i, true), c.columnTerm(n.place, i, false)
	t := c.simple(opChanged, n.place, l, r)
	t.column, t.name = i, l.name
	if problem := c.scope.Settings.KeyProblem(l.typ); problem != "" {
		return c.errorAt(n.place, "leave the column out here, and compare parts of it with a lookup", "%s", problem)
	}
	if isForeign(l.typ) {
		return t
	}
	eq, err := c.attempt(func() *term { return c.operator("=", n.place, n.place, l, r) })
	if err == nil { // else a type without equality: its text form decides
		t.impl, t.args = eq.impl, eq.args
	}
	return t
}

// became is became(col, value): after this change the column has the value,
// and before it had not. On insert there is no before.
func (c *checker) became(n *call) *term {
	i := c.columnArgument(n, "became(column, value)", "two arguments")
	if i < 0 {
		return nil
	}
	if !c.scope.New || !c.scope.Insert && !c.scope.Update {
		return c.errorAt(n.place, "write a rule for insert and update", "became() looks at the new row: %s", c.rowMessage(false))
	}
	want := c.check(n.args[1])
	is := c.fold(c.operator("=", n.place, n.place, c.columnTerm(n.place, i, false), want))
	if is == nil || !c.scope.Update {
		return is
	}
	was := c.distinctTerms(n.place, c.columnTerm(n.place, i, true), want, false)
	update := c.fold(c.simple(opAnd, n.place, c.fold(was), is))
	if !c.scope.Insert {
		return update
	}
	return c.simple(opByOp, n.place, update, is)
}

// columnArgument is the column that the first argument names without a row; it
// is negative after an error.
func (c *checker) columnArgument(n *call, usage, arity string) int {
	if len(n.args) != strings.Count(usage, ",")+1 {
		c.errorAt(n.place, "write "+usage, "%s() takes %s", n.name.text, arity)
		return -1
	}
	ref, ok := n.args[0].(*columnRef)
	if !ok || len(ref.path) > 2 || len(ref.path) == 2 && ref.path[0].text != "new" {
		c.errorAt(placeOf(n.args[0]), "write the column's name alone", "%s() needs a column", n.name.text)
		return -1
	}
	return c.columnIndex(ref.place, ref.path[len(ref.path)-1])
}

// generateChanged compares text forms first: equal ones are equal values.
func generateChanged(t *term) evalFunc {
	column, off := t.column, t.off
	l, r := generate(t.args[0]), generate(t.args[1])
	var eq func(m *Machine, a, b value) value
	if t.impl != nil {
		eq = t.impl.two
	}
	return func(m *Machine) value {
		before, after := m.datum(1, column), m.datum(0, column)
		if after.State == cdc.Unchanged {
			return boolValue(false)
		}
		if before.Known() && after.Known() {
			switch {
			case before.State != after.State:
				return boolValue(true)
			case before.State == cdc.Null || bytes.Equal(before.Text, after.Text):
				return boolValue(false)
			case eq == nil:
				return boolValue(true)
			}
		}
		x, y := l(m), r(m)
		if s := worse(x.state, y.state); s != stateKnown {
			return value{state: s}
		}
		v := m.placed(eq(m, x, y), off)
		v.i ^= 1
		return v
	}
}
