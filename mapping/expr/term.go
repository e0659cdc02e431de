package expr

import (
	"bytes"
	"maps"
	"slices"
	"sync"

	"gancho/cdc"
)

// termOp is what a term does with its arguments.
type termOp uint8

const (
	opConst      termOp = iota
	opColumn            // column of a row
	opCall              // impl on the arguments
	opAnd               // of all arguments
	opOr                // of all arguments
	opNot               // of one
	opNull              // args[0] is null; negate: is not null
	opTruth             // args[0] is true, false or unknown, by test
	opCase              // args: cond, result, cond, result, ..., else
	opSwitch            // args[0] is bound for opBound, then as opCase
	opBound             // the value that the enclosing opSwitch bound
	opCoalesce          // first argument that is not null
	opExtreme           // greatest or least by impl ("<")
	opNullIf            // null when impl ("=") holds, else args[0]
	opDistinct          // not impl ("="), two nulls being equal; negate: is not distinct
	opQuantified        // args[0] impl any or all of args[1]
	opArray             // a list of elements
	opElement           // args[0][args[1]]
	opRelabel           // the same value under another type
	opText              // to text and from there to the type
	opElements          // each element of an array through args[1], which refers to it as opBound
	opChanged           // old and new value of a column differ
	opByOp              // args[0] after an update, args[1] after an insert
)

// term is a checked piece of an expression, with its type.
type term struct {
	op     termOp
	typ    *cdc.Type
	typmod int32 // of a column or an explicit cast, else -1
	place
	args   []*term
	lit    value // opConst
	impl   *impl
	column int // opColumn, opChanged
	old    bool
	lookup int // 1 + the lookup whose column it is, 0: a column of the table
	negate bool
	all    bool   // opQuantified: all, not any; opExtreme: greatest
	test   string // opTruth; opNull: testDatum or empty
	name   string // of a column
	// function is the one that opCall and opQuantified call, by pg_proc's name.
	function string
	collate  bool // opRelabel: under collation "C"
	// size is the number of terms in the tree, where between repeats its operands.
	size int
	// stable: PostgreSQL evaluates it for each row, even if it is constant.
	stable bool
	// vars: the source names a column here, even if folding dropped it.
	vars bool
}

// impl is the code of an operator or function. Exactly one of the functions is
// set after bind.
type impl struct {
	none func(m *Machine) value
	one  func(m *Machine, a value) value
	two  func(m *Machine, a, b value) value
	many func(m *Machine, args []value) value
	// text: this is = or <> of texts, for which there is a shorter way.
	text *textEquality
	// lax: the function is called with nulls. Else the result is null with any.
	lax bool
	// bind creates the code for a call, from the arguments' types and constant
	// values, or refuses the call.
	bind func(c *checker, t *term) (*impl, *Error)
}

func (t *term) isConst() bool { return t.op == opConst }

// side is where the machine keeps the column's row.
func (t *term) side() int {
	if t.lookup > 0 {
		return 1 + t.lookup
	}
	if t.old {
		return 1
	}
	return 0
}

func (t *term) isNullConst() bool { return t.op == opConst && t.lit.state == stateNull }

// anyStable reports whether a part of the term is stable.
func (t *term) anyStable() bool {
	return t.stable || slices.ContainsFunc(t.args, (*term).anyStable)
}

// constant is the term of a value, whose bytes it copies.
func constant(v value, typ *cdc.Type, p place) *term {
	v.s = bytes.Clone(v.s)
	return &term{op: opConst, typ: typ, typmod: -1, place: p, lit: v}
}

// fold replaces a term by its value when nothing can change it, and by null
// when a strict function has a constant null, as PostgreSQL's planner does
// before it evaluates anything. An error in a constant part is reported.
func (c *checker) fold(t *term) *term {
	if t == nil {
		return nil
	}
	t.size = 1
	for _, a := range t.args {
		t.size += max(a.size, 1)
	}
	if t.size > maxSize {
		if len(c.errs) == 0 {
			c.errorAt(t.place, "split the rule", "expression is too large")
		}
		return constant(value{}, t.typ, t.place)
	}
	var r *term
	if t.collate { // a constant has no collation
		return t
	}
	switch t.op {
	case opConst, opColumn, opBound, opChanged, opByOp:
		return t
	case opAnd, opOr:
		r = foldLogic(t)
	case opCase, opSwitch:
		r = c.foldCase(t)
	case opCoalesce:
		r = foldCoalesce(t)
	case opNullIf:
		if r = c.foldCall(t); t.args[0].isNullConst() || t.args[1].isNullConst() { // nothing equals null
			r = c.foldCall(newTerm(opRelabel, t.typ, t.place, t.args[0]))
		}
	default:
		r = c.foldCall(t)
	}
	r.vars = t.vars
	if r.size = 1; r.op != opConst {
		r.size = t.size
	}
	return r
}

// maxSize bounds the terms of an expression.
const maxSize = 50_000

// foldCall evaluates a term whose arguments are all constants.
func (c *checker) foldCall(t *term) *term {
	strict := t.op == opCall && !t.impl.lax || t.op == opText
	constants := true
	args := t.args
	if t.op == opElements {
		args = args[:1] // the other converts an element
	}
	for _, a := range args {
		if strict && a.isNullConst() {
			return constant(value{}, t.typ, t.place)
		}
		constants = constants && a.isConst()
	}
	if !constants || t.stable {
		return t
	}
	v := generate(t)(c.machine)
	if v.state == stateFailed {
		at := t.place
		if e := c.machine.err; e.Offset > t.off && e.Offset < t.end {
			at = place{e.Offset, t.end}
		}
		c.errorAt(at, "this part is constant, so every row would fail", "%s", c.machine.err.Message)
		return t
	}
	r := constant(v, t.typ, t.place)
	r.typmod = t.typmod
	return r
}

// foldCoalesce drops nulls, and what follows a constant.
func foldCoalesce(t *term) *term {
	var kept []*term
	for _, a := range t.args {
		if a.isNullConst() {
			continue
		}
		kept = append(kept, a)
		if a.isConst() {
			break
		}
	}
	switch {
	case len(kept) == 0:
		return constant(value{}, t.typ, t.place)
	case kept[0].isConst():
		return constant(kept[0].lit, t.typ, t.place)
	}
	r := *t
	r.args = kept
	return &r
}

// foldLogic drops what cannot matter from and / or.
func foldLogic(t *term) *term {
	stop := t.op == opOr // the value that decides
	var kept []*term
	null := false
	for _, a := range t.args {
		switch {
		case !a.isConst():
			kept = append(kept, a)
		case a.lit.state == stateNull:
			null = true
		case a.lit.isTrue() == stop:
			return constant(boolValue(stop), t.typ, t.place)
		}
	}
	if null {
		kept = append(kept, constant(value{}, t.typ, t.place))
	}
	switch len(kept) {
	case 0:
		return constant(boolValue(!stop), t.typ, t.place)
	case 1:
		if kept[0].isConst() {
			return kept[0]
		}
		return newTerm(opRelabel, t.typ, t.place, kept...)
	}
	r := *t
	r.args = kept
	return &r
}

// foldCase drops branches that cannot be taken.
func (c *checker) foldCase(t *term) *term {
	var kept []*term
	first := 0
	if t.op == opSwitch {
		first, kept = 1, t.args[:1:1]
	}
	n := len(t.args) - 1
	other := t.args[n]
	for i := first; i < n; i += 2 {
		cond := t.args[i]
		if !cond.isConst() {
			kept = append(kept, cond, t.args[i+1])
			continue
		}
		if cond.lit.isTrue() {
			other = t.args[i+1]
			break
		}
	}
	r := *t
	r.args = slices.Concat(kept, []*term{other})
	if len(kept) == first {
		r.op, r.args = opRelabel, []*term{other}
		if other.isConst() {
			return constant(other.lit, t.typ, t.place)
		}
	}
	return &r
}

// table is filled at the first use and never changes. It is not a
// sync.OnceValue because its entries refer to the checker, which refers to it.
var table struct {
	once  sync.Once
	impls map[string]*impl
}

// implementations maps a candidate's key, such as int4pl(int4,int4), to its
// code. Casts are here under the names of their functions, and functions of any
// number of arguments without those.
func implementations() map[string]*impl {
	table.once.Do(func() {
		table.impls = map[string]*impl{}
		for _, part := range []map[string]*impl{
			comparisonImpls(), integerImpls(), numericImpls(), floatImpls(), numberCastImpls(), textImpls(), textFormImpls(),
			patternImpls(), timeImpls(), timeCastImpls(), timeFunctionImpls(), extractImpls(), jsonImpls(), arrayImpls(), variadicImpls(), citextImpls(),
		} {
			maps.Copy(table.impls, part)
		}
	})
	return table.impls
}

func implOf(c *candidate) (*impl, bool) {
	key := c.key()
	if c.variadic && len(c.args) > 0 {
		key = c.name
	}
	im, ok := implementations()[key]
	return im, ok
}

func one(f func(m *Machine, a value) value) *impl    { return &impl{one: f} }
func two(f func(m *Machine, a, b value) value) *impl { return &impl{two: f} }
func many(f func(m *Machine, a []value) value) *impl { return &impl{many: f} }

// same returns the value as it is, under another type.
func same() *impl { return one(func(_ *Machine, a value) value { return a }) }

// bound is an implementation that is created for each call.
func bound(f func(c *checker, t *term) (*impl, *Error)) *impl { return &impl{bind: f} }

// refusal is an error about a whole term.
func refusal(t *term, message, hint string) *Error {
	return &Error{Offset: t.off, Length: max(t.end-t.off, 1), Message: message, Hint: hint, Unsupported: true}
}
