package expr

import (
	"bytes"
	"strings"

	"gancho/cdc"
)

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
