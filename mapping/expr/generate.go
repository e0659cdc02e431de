package expr

import (
	"gancho/cdc"
	"gancho/internal/pgtext"
)

// generate compiles a term into a closure.
func generate(t *term) evalFunc {
	switch t.op {
	case opConst:
		v := t.lit
		return func(*Machine) value { return v }
	case opColumn:
		return generateColumn(t)
	case opBound:
		return func(m *Machine) value { return m.bound }
	case opRelabel:
		return generate(t.args[0])
	case opCall:
		return generateCall(t)
	case opAnd, opOr, opNot, opByOp:
		f := generateBool(t)
		return func(m *Machine) value { return f(m).value() }
	case opNull, opTruth:
		return generateTest(t)
	case opCase, opSwitch:
		return generateCase(t)
	case opChanged:
		return generateChanged(t)
	case opCoalesce:
		args := mapped(t.args, generate)
		return func(m *Machine) value {
			for _, f := range args {
				if v := f(m); v.state != stateNull {
					return v
				}
			}
			return value{}
		}
	case opExtreme:
		return generateExtreme(t)
	case opNullIf, opDistinct:
		return generateEquality(t)
	case opQuantified:
		return generateQuantified(t)
	case opArray:
		return generateArray(t)
	case opElement:
		return generateElement(t)
	case opText:
		return generateText(t)
	}
	return generateElements(t)
}

// generateColumn reads a column; values that need parsing are parsed once per
// change.
func generateColumn(t *term) evalFunc {
	codec, o, off := codecOf(t.typ), columnOperand(t), t.off
	if codec.plain {
		return func(m *Machine) value {
			d, why := o.read(m)
			if d == nil {
				return why.value()
			}
			return value{state: stateKnown, s: d.Text}
		}
	}
	return func(m *Machine) value {
		c := m.cell(o.side, o.column)
		if c.turn == m.turn {
			return c.v
		}
		d, why := o.read(m)
		if d == nil {
			return why.value()
		}
		v := codec.parse(m, d.Text)
		if v.state == stateFailed {
			return m.placed(v, off)
		}
		c.turn, c.v = m.turn, v
		return v
	}
}

// placed gives an error its place, if it has none yet.
func (m *Machine) placed(v value, off int) value {
	if v.state == stateFailed && m.err.Offset == unplaced {
		m.err.Offset = off
	}
	return v
}

// generateCall compiles a call. Arguments are evaluated from left to right; an
// error has precedence over an unknown value, and that over null.
func generateCall(t *term) evalFunc {
	im, off := t.impl, t.off
	switch {
	case im.none != nil:
		return im.none
	case im.one != nil:
		f, a := im.one, generate(t.args[0])
		return func(m *Machine) value {
			x := a(m)
			if x.state != stateKnown {
				return x
			}
			return m.placed(f(m, x), off)
		}
	case im.two != nil:
		f, a, b := im.two, generate(t.args[0]), generate(t.args[1])
		return func(m *Machine) value {
			x := a(m)
			if x.state == stateFailed {
				return x
			}
			y := b(m)
			if x.state == stateKnown && y.state == stateKnown {
				return m.placed(f(m, x, y), off)
			}
			return value{state: worse(x.state, y.state)}
		}
	}
	f, args, lax := im.many, mapped(t.args, generate), im.lax
	return func(m *Machine) value {
		base := len(m.args)
		defer func() { m.args = m.args[:base] }()
		state := stateKnown
		for _, a := range args {
			v := a(m)
			if v.state == stateFailed {
				return v
			}
			if v.state == stateUnknown || !lax && v.state == stateNull {
				state = worse(state, v.state)
			}
			m.args = append(m.args, v)
		}
		if state != stateKnown {
			return value{state: state}
		}
		return m.placed(f(m, m.args[base:]), off)
	}
}

// worse is the state of a strict result: failed, then unknown, then null.
func worse(a, b state) state {
	switch stateKnown {
	case a:
		return b
	case b:
		return a
	}
	return max(a, b)
}

func generateTest(t *term) evalFunc {
	x, negate := generate(t.args[0]), t.negate
	if t.op == opNull && t.test != testDatum && t.args[0].typ.Base().Kind == cdc.KindComposite {
		return generateRowNull(x, negate)
	}
	test := func(v value) bool { return v.state == stateNull }
	if t.op == opTruth {
		switch t.test {
		case "true":
			test = value.isTrue
		case "false":
			test = value.isFalse
		}
	}
	return func(m *Machine) value {
		v := x(m)
		if v.state > stateKnown {
			return v
		}
		return boolValue(test(v) != negate)
	}
}

// generateRowNull is is [not] null of a composite value: whether all of its fields
// are null, or all are not.
func generateRowNull(x evalFunc, negate bool) evalFunc {
	return func(m *Machine) value {
		v := x(m)
		if v.state > stateKnown {
			return v
		}
		if v.state == stateNull {
			return boolValue(!negate)
		}
		fields := pgtext.SplitComposite(v.s)
		for _, null, ok := fields.Next(); ok; _, null, ok = fields.Next() {
			if null == negate {
				return boolValue(false)
			}
		}
		if err := fields.Err(); err != nil {
			return m.failWith(err)
		}
		return boolValue(true)
	}
}

// generateCase compiles both forms of case.
func generateCase(t *term) evalFunc {
	list := t.args
	var subject evalFunc
	if t.op == opSwitch {
		subject, list = generate(list[0]), list[1:]
	}
	args := mapped(list, generate)
	branches, other := args[:len(args)-1], args[len(args)-1]
	choose := func(m *Machine) value {
		for i := 0; i < len(branches); i += 2 {
			v := branches[i](m)
			if v.state > stateKnown {
				return v
			}
			if v.isTrue() {
				return branches[i+1](m)
			}
		}
		return other(m)
	}
	if subject == nil {
		return choose
	}
	return func(m *Machine) value {
		v := subject(m)
		if v.state > stateKnown {
			return v
		}
		outer := m.bound
		m.bound = v
		r := choose(m)
		m.bound = outer
		return r
	}
}

// generateExtreme compiles greatest and least: nulls are ignored, and the first of
// equal values is kept.
func generateExtreme(t *term) evalFunc {
	args, less, greatest := mapped(t.args, generate), t.impl.two, t.all
	return func(m *Machine) value {
		best := value{}
		var unknown value
		for _, f := range args {
			v := f(m)
			switch {
			case v.state == stateFailed:
				return v
			case v.state == stateUnknown:
				unknown = v
			case v.state == stateNull:
			case best.state == stateNull:
				best = v
			case greatest && less(m, best, v).isTrue(), !greatest && less(m, v, best).isTrue():
				best = v
			}
		}
		if unknown.state == stateUnknown {
			return unknown
		}
		return best
	}
}

// generateEquality compiles nullif and is [not] distinct from.
func generateEquality(t *term) evalFunc {
	a, b, eq, off, negate := generate(t.args[0]), generate(t.args[1]), t.impl.two, t.off, t.negate
	operands := func(m *Machine) (x, y value, s state) {
		if x = a(m); x.state != stateFailed {
			y = b(m)
		}
		return x, y, worse(x.state, y.state)
	}
	if t.op == opNullIf {
		return func(m *Machine) value {
			x, y, s := operands(m)
			switch {
			case s > stateKnown:
				return value{state: s}
			case s == stateNull:
				return x
			}
			r := m.placed(eq(m, x, y), off)
			switch {
			case r.isFalse():
				return x
			case r.state == stateFailed:
				return r
			}
			return value{}
		}
	}
	return func(m *Machine) value {
		x, y, s := operands(m)
		switch {
		case s > stateKnown:
			return value{state: s}
		case s == stateNull:
			return boolValue((x.state == y.state) == negate)
		}
		r := m.placed(eq(m, x, y), off)
		if r.state == stateKnown && !negate {
			r.i ^= 1
		}
		return r
	}
}

// generateQuantified compiles x op any/all(array).
func generateQuantified(t *term) evalFunc {
	x, arr, f, all, off := generate(t.args[0]), generate(t.args[1]), t.impl.two, t.all, t.off
	stop := boolValue(!all).i // the comparison that decides
	return func(m *Machine) value {
		v := x(m)
		if v.state == stateFailed {
			return v
		}
		a := arr(m)
		if a.state != stateKnown {
			return value{state: worse(a.state, v.state)}
		}
		if len(a.arr.dims) == 0 {
			return boolValue(all)
		}
		if v.state != stateKnown {
			return v
		}
		state := stateKnown
		for elems := a.arr.reader(); ; {
			e, more := elems.next(m)
			if !more {
				return value{state: state, i: 1 - stop}
			}
			r := e
			if e.state == stateKnown {
				r = f(m, v, e)
			}
			if r.state == stateFailed || r.state == stateKnown && r.i == stop {
				return m.placed(r, off)
			}
			state = worse(state, r.state)
		}
	}
}

func generateArray(t *term) evalFunc {
	args, off := mapped(t.args, generate), t.off
	return func(m *Machine) value {
		elems, ok := m.elements(len(args))
		if !ok {
			return m.placed(m.overMemory(), off)
		}
		for i, f := range args {
			if elems[i] = f(m); elems[i].state > stateKnown {
				return elems[i]
			}
		}
		return listValue(elems)
	}
}

// generateElement compiles array[i]: null outside, and where the array has
// other than one dimension.
func generateElement(t *term) evalFunc {
	x, index, off := generate(t.args[0]), generate(t.args[1]), t.off
	return func(m *Machine) value {
		a := x(m)
		if a.state != stateKnown {
			return a
		}
		i := index(m)
		if i.state != stateKnown {
			return i
		}
		if len(a.arr.dims) != 1 || i.i < int64(a.arr.lower[0]) || i.i >= int64(a.arr.lower[0]+a.arr.dims[0]) {
			return value{}
		}
		return m.placed(m.element(a.arr, int(i.i)-a.arr.lower[0]), off)
	}
}

// generateText compiles a conversion through the text form.
func generateText(t *term) evalFunc {
	x, off := generate(t.args[0]), t.off
	from, to := codecOf(t.args[0].typ), codecOf(t.typ)
	return func(m *Machine) value {
		v := x(m)
		if v.state != stateKnown {
			return v
		}
		if v = m.printed(from, v); v.state == stateFailed {
			return m.placed(v, off)
		}
		s := v.s
		return m.placed(to.read(m, s), off)
	}
}

// generateElements compiles the conversion of an array.
func generateElements(t *term) evalFunc {
	x, convert, off := generate(t.args[0]), generate(t.args[1]), t.off
	return func(m *Machine) value {
		v := x(m)
		if v.state != stateKnown {
			return v
		}
		if failed, ok := m.readElements(v.arr); !ok {
			return m.placed(failed, off)
		}
		elems, ok := m.elements(len(v.arr.elems))
		if !ok {
			return m.placed(m.overMemory(), off)
		}
		out := &array{dims: v.arr.dims, lower: v.arr.lower, elems: elems}
		outer := m.bound
		defer func() { m.bound = outer }()
		for i, e := range v.arr.elems {
			m.bound = e
			if out.elems[i] = convert(m); out.elems[i].state > stateKnown {
				return out.elems[i]
			}
		}
		return value{state: stateKnown, arr: out}
	}
}
