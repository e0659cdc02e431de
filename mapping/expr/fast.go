package expr

import (
	"bytes"
	"strings"

	"gancho/cdc"
)

// tri is the outcome of a condition. Conditions are compiled into a form of their
// own, because most changes match no rule and cost nothing else.
type tri uint8

const (
	triFalse tri = iota
	triTrue
	triNull
	triUnknown // Machine.missing says which column
	triFailed  // Machine.err says why
)

type testFunc func(m *Machine) tri

func (v value) tri() tri {
	switch v.state {
	case stateKnown:
		return tri(v.i)
	case stateNull:
		return triNull
	case stateUnknown:
		return triUnknown
	}
	return triFailed
}

func (x tri) value() value {
	switch x {
	case triFalse, triTrue:
		return value{state: stateKnown, i: int64(x)}
	case triNull:
		return value{}
	case triUnknown:
		return value{state: stateUnknown}
	}
	return value{state: stateFailed}
}

func triOf(b bool) tri {
	if b {
		return triTrue
	}
	return triFalse
}

// generateBool compiles a boolean term.
func generateBool(t *term) testFunc {
	switch t.op {
	case opAnd, opOr:
		return boolLogic(t)
	case opNot:
		x := generateBool(t.args[0])
		return func(m *Machine) tri {
			v := x(m)
			if v > triTrue {
				return v
			}
			return v ^ 1
		}
	case opRelabel:
		if t.args[0].typ.Base().OID == oidBool {
			return generateBool(t.args[0])
		}
	case opNull:
		if f := nullTest(t); f != nil {
			return f
		}
	case opCall:
		if f := fastComparison(t); f != nil {
			return f
		}
	case opDistinct:
		if f := fastDistinct(t); f != nil {
			return f
		}
	case opQuantified:
		if f := fastIn(t); f != nil {
			return f
		}
	case opByOp:
		update, insert := generateBool(t.args[0]), generateBool(t.args[1])
		return func(m *Machine) tri {
			if m.change.Op == cdc.Update {
				return update(m)
			}
			return insert(m)
		}
	}
	f := generate(t)
	return func(m *Machine) tri { return f(m).tri() }
}

// boolLogic compiles and / or: from left to right until one decides.
func boolLogic(t *term) testFunc {
	args := mapped(t.args, generateBool)
	stop := triOf(t.op == opOr)
	if len(args) == 2 {
		a, b := args[0], args[1]
		return func(m *Machine) tri {
			x := a(m)
			if x == stop || x == triFailed {
				return x
			}
			if y := b(m); y == stop || y > x || x <= triTrue {
				return y
			}
			return x
		}
	}
	return func(m *Machine) tri {
		r := stop ^ 1
		for _, f := range args {
			x := f(m)
			if x == stop || x == triFailed {
				return x
			}
			if x > triTrue && (r <= triTrue || x > r) {
				r = x
			}
		}
		return r
	}
}

// operand is a column that is read without parsing it.
type operand struct {
	side, column int // side 1 is the old row
	name         string
}

// strip removes the relabelings around a term.
func strip(t *term) *term {
	for t.op == opRelabel {
		t = t.args[0]
	}
	return t
}

// plainColumn returns a column that is kept as its text.
func plainColumn(t *term) (operand, bool) {
	t = strip(t)
	if t.op != opColumn || !codecOf(t.typ).plain {
		return operand{}, false
	}
	return columnOperand(t), true
}

func columnOperand(t *term) operand {
	return operand{t.side(), t.column, t.name}
}

// read returns the column's datum. Without a value it is nil, and why is the
// outcome of the comparison.
func (o *operand) read(m *Machine) (d *cdc.Datum, why tri) {
	d = m.datum(o.side, o.column)
	switch d.State {
	case cdc.Present:
		return d, triTrue
	case cdc.Null:
		return nil, triNull
	}
	m.missing = &UnknownError{Column: o.name, Old: o.side == 1, State: d.State}
	return nil, triUnknown
}

// textEquality is = or <> of texts; character ignores blanks at the end.
type textEquality struct{ negate, blanks bool }

func (e textEquality) equal(a, b []byte) bool {
	if e.blanks {
		a, b = trimEnd(a), trimEnd(b)
	}
	return string(a) == string(b)
}

// textOperands are a text column and what it is compared with: another column,
// or a constant that is not null.
func textOperands(t *term) (a, b operand, constant *value, ok bool) {
	if t.impl.text == nil {
		return a, b, nil, false
	}
	if a, ok = plainColumn(t.args[0]); !ok {
		return a, b, nil, false
	}
	if c := t.args[1]; c.isConst() && c.lit.state == stateKnown {
		return a, b, &c.lit, true
	}
	b, ok = plainColumn(t.args[1])
	return a, b, nil, ok
}

// fastComparison compiles = and <> of textOperands.
func fastComparison(t *term) testFunc {
	a, b, constant, ok := textOperands(t)
	if !ok {
		return nil
	}
	eq := *t.impl.text
	if constant != nil {
		return equalsConstant(a, string(constant.s), eq)
	}
	return func(m *Machine) tri {
		x, why := a.read(m)
		if why == triUnknown {
			return why
		}
		y, whyNot := b.read(m)
		if x == nil || y == nil {
			return max(why, whyNot)
		}
		return triOf(eq.equal(x.Text, y.Text) != eq.negate)
	}
}

// equalsConstant has its own code for either kind of text: most conditions are of
// this form.
func equalsConstant(a operand, want string, eq textEquality) testFunc {
	if eq.blanks {
		want = strings.TrimRight(want, " ")
		return func(m *Machine) tri {
			d, why := a.read(m)
			if d == nil {
				return why
			}
			return triOf((string(trimEnd(d.Text)) == want) != eq.negate)
		}
	}
	return func(m *Machine) tri {
		d, why := a.read(m)
		if d == nil {
			return why
		}
		return triOf((string(d.Text) == want) != eq.negate)
	}
}

// fastDistinct compiles is [not] distinct from of textOperands.
func fastDistinct(t *term) testFunc {
	a, b, constant, ok := textOperands(t)
	if !ok {
		return nil
	}
	eq, same := *t.impl.text, triOf(t.negate)
	return func(m *Machine) tri {
		x, why := a.read(m)
		if why == triUnknown {
			return why
		}
		if constant != nil {
			return triOf(x != nil && eq.equal(x.Text, constant.s)) ^ same ^ 1
		}
		y, whyNot := b.read(m)
		switch {
		case whyNot == triUnknown:
			return whyNot
		case x == nil || y == nil:
			return triOf((x == nil) == (y == nil)) ^ same ^ 1
		}
		return triOf(eq.equal(x.Text, y.Text)) ^ same ^ 1
	}
}

// fastIn compiles [not] in (...) of a text column and constants.
func fastIn(t *term) testFunc {
	if t.impl.text == nil || t.impl.text.negate != t.all || !t.args[1].isConst() || t.args[1].lit.state != stateKnown {
		return nil
	}
	elems := t.args[1].lit.arr.elems
	a, ok := plainColumn(t.args[0])
	if !ok || len(elems) == 0 {
		return nil
	}
	eq := *t.impl.text
	var list [][]byte
	otherwise := triOf(t.all)
	for _, e := range elems {
		if e.state == stateNull {
			otherwise = triNull
			continue
		}
		s := e.s
		if eq.blanks {
			s = trimEnd(s)
		}
		list = append(list, s)
	}
	found := triOf(!t.all)
	return func(m *Machine) tri {
		d, why := a.read(m)
		if d == nil {
			return why
		}
		text := d.Text
		if eq.blanks {
			text = trimEnd(text)
		}
		for _, s := range list {
			if bytes.Equal(s, text) {
				return found
			}
		}
		return otherwise
	}
}

// nullTest compiles is [not] null of a column.
func nullTest(t *term) testFunc {
	x := strip(t.args[0])
	if x.op != opColumn || x.typ.Base().Kind == cdc.KindComposite {
		return nil
	}
	a, negate := columnOperand(x), t.negate
	return func(m *Machine) tri {
		d, why := a.read(m)
		if why == triUnknown {
			return why
		}
		return triOf((d == nil) != negate)
	}
}
