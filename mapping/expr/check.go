package expr

import (
	"cmp"
	"fmt"
	"slices"
	"strconv"

	"gancho/cdc"
)

// checker turns the syntax tree into typed terms. Every method that returns a
// term returns nil after it has reported an error; callers go on, so that all
// mistakes of an expression are found at once.
type checker struct {
	scope   *Scope
	machine *Machine // for constants
	errs    Errors
	named   []Column
	hiding  int // masks and hashes around the term at hand
	lookups []LookupColumn
	needOld bool
}

func (c *checker) errorAt(p place, hint, format string, args ...any) {
	c.errs = append(c.errs, &Error{Offset: p.off, Length: max(p.end-p.off, 1), Message: fmt.Sprintf(format, args...), Hint: hint})
}

func placeOf(n node) place {
	off, end := n.span()
	return place{off, end}
}

// columns are the columns named, sorted and unique.
func (c *checker) columns() []Column {
	slices.SortFunc(c.named, func(a, b Column) int {
		if a.Old != b.Old {
			if a.Old {
				return 1
			}
			return -1
		}
		if d := cmp.Compare(a.Index, b.Index); d != 0 || a.Hidden == b.Hidden {
			return d
		}
		if b.Hidden {
			return -1
		}
		return 1
	})
	// A column's clear mentions come first, and stand for all of them.
	return slices.CompactFunc(c.named, func(a, b Column) bool { return a.Old == b.Old && a.Index == b.Index })
}

// check is transformExpr.
func (c *checker) check(n node) *term {
	t := c.checkNode(n)
	if t == nil {
		return nil
	}
	return c.fold(t)
}

func (c *checker) checkNode(n node) *term {
	switch n := n.(type) {
	case *literal:
		return c.literal(n)
	case *columnRef:
		return c.column(n)
	case *unary:
		return c.unary(n)
	case *binary:
		l, r := c.check(n.l), c.check(n.r)
		return c.operator(n.op, n.opPlace, n.place, l, r)
	case *logic:
		return c.logic(n)
	case *negation:
		x := c.boolean(c.check(n.x), "the argument of NOT")
		if x == nil {
			return nil
		}
		return c.simple(opNot, n.place, x)
	case *cast:
		return c.explicitCast(n)
	case *call:
		return c.call(n)
	case *caseExpr:
		return c.caseExpr(n)
	case *arrayExpr:
		return c.array(n, nil)
	case *subscript:
		return c.subscript(n)
	case *atZone:
		return c.callNamed("timezone", n.place, []*term{c.check(n.zone), c.check(n.x)})
	}
	return c.predicate(n)
}

func (c *checker) predicate(n node) *term {
	switch n := n.(type) {
	case *isTest:
		return c.isTest(n)
	case *distinct:
		return c.distinct(n)
	case *inList:
		return c.in(n)
	case *between:
		return c.between(n)
	case *like:
		return c.like(n)
	case *quantified:
		return c.quantified(n)
	}
	c.errorAt(placeOf(n), "report this as a bug", "expression of an unknown kind")
	return nil
}

// simple makes a boolean term.
func (c *checker) simple(op termOp, p place, args ...*term) *term {
	return &term{op: op, typ: builtin(oidBool), typmod: -1, place: p, args: args, vars: anyVars(args)}
}

func (c *checker) literal(n *literal) *term {
	switch n.kind {
	case litNull:
		return constant(value{}, builtin(oidUnknown), n.place)
	case litTrue, litFalse:
		return constant(boolValue(n.kind == litTrue), builtin(oidBool), n.place)
	case litString:
		return constant(textValue([]byte(n.text)), builtin(oidUnknown), n.place)
	}
	if i, err := strconv.ParseInt(n.text, 10, 64); err == nil {
		if fitInt64(i, 32) {
			return constant(intValue(i), builtin(oidInt4), n.place)
		}
		return constant(intValue(i), builtin(oidInt8), n.place)
	}
	v, code := parseNumeric([]byte(n.text))
	if code != "" {
		c.errorAt(n.place, "write a smaller number", "number is out of range")
		return nil
	}
	return constant(v, builtin(oidNumeric), n.place)
}

// decide gives a string literal that nothing else decided its type, text.
func (c *checker) decide(t *term) *term {
	if t.typ.OID == oidUnknown {
		return c.coerce(t, builtin(oidText), implicitCast, "")
	}
	return t
}

// boolean is coerce_to_boolean; what names the place in the error.
func (c *checker) boolean(t *term, what string) *term {
	if t == nil {
		return nil
	}
	if t.typ.OID == oidUnknown {
		return c.coerce(t, builtin(oidBool), implicitCast, "")
	}
	if t.typ.Base().OID != oidBool {
		c.errorAt(t.place, "write a comparison", "%s must be boolean, not %s", what, typeTitle(t.typ))
		return nil
	}
	return t
}

func (c *checker) logic(n *logic) *term {
	op, name := opAnd, "AND"
	if n.or {
		op, name = opOr, "OR"
	}
	var args []*term
	failed := false
	// A long chain leans to the left: walk down it instead of nesting.
	var chain []node
	for at := n; ; {
		chain = append(chain, at.r)
		left, ok := at.l.(*logic)
		if !ok || left.or != n.or {
			chain = append(chain, at.l)
			break
		}
		at = left
	}
	for _, part := range slices.Backward(chain) {
		x := c.boolean(c.check(part), "the argument of "+name)
		failed = failed || x == nil
		args = append(args, x)
	}
	if failed {
		return nil
	}
	return c.simple(op, n.place, args...)
}

func (c *checker) isTest(n *isTest) *term {
	x := c.check(n.x)
	if x == nil {
		return nil
	}
	if n.test == "null" {
		x = c.decide(x)
		if x == nil {
			return nil
		}
		t := c.simple(opNull, n.place, x)
		t.negate = n.not
		return t
	}
	if x = c.boolean(x, "the argument of IS "+n.test); x == nil {
		return nil
	}
	t := c.simple(opTruth, n.place, x)
	t.test, t.negate = n.test, n.not
	return t
}

// testDatum marks a test for null that does not look into a composite value:
// a row of nulls is null to IS NULL, and distinct from null all the same.
const testDatum = "datum"

func isNullLiteral(n node) bool {
	l, ok := n.(*literal)
	return ok && l.kind == litNull
}

func (c *checker) distinct(n *distinct) *term {
	for i, side := range []node{n.r, n.l} {
		if isNullLiteral(side) { // needs no equality
			other := []node{n.l, n.r}[i]
			t := c.isTest(&isTest{n.place, other, "null", !n.not})
			if t != nil {
				t.test = testDatum
			}
			return t
		}
	}
	return c.distinctTerms(n.place, c.check(n.l), c.check(n.r), n.not)
}

func (c *checker) distinctTerms(p place, l, r *term, not bool) *term {
	eq := c.operator("=", p, p, l, r)
	if eq == nil {
		return nil
	}
	if eq.typ.OID != oidBool {
		c.errorAt(p, "", "IS DISTINCT FROM needs an = that is boolean")
		return nil
	}
	t := c.simple(opDistinct, p, eq.args...)
	t.impl, t.negate = eq.impl, not
	return t
}

func (c *checker) in(n *inList) *term {
	x := c.check(n.x)
	list := make([]*term, 0, len(n.list))
	failed := x == nil
	for _, e := range n.list {
		t := c.check(e)
		failed = failed || t == nil
		list = append(list, t)
	}
	if failed {
		return nil
	}
	op, join := "=", opOr
	if n.not {
		op, join = "<>", opAnd
	}
	var parts []*term
	if fixed := slices.DeleteFunc(slices.Clone(list), func(t *term) bool { return t.vars }); len(fixed) > 1 {
		if t, ok := c.inConstants(n, op, x, fixed); ok {
			if t == nil {
				return nil
			}
			parts = append(parts, t)
			list = slices.DeleteFunc(list, func(t *term) bool { return !t.vars })
		}
	}
	for _, e := range list {
		t := c.operator(op, e.place, n.place, x, e)
		if t == nil {
			return nil
		}
		parts = append(parts, c.fold(t))
	}
	if len(parts) == 1 {
		return parts[0]
	}
	return c.simple(join, n.place, parts...)
}

// inConstants makes x op any/all (array of the constants), if they have a
// common type with x.
func (c *checker) inConstants(n *inList, op string, x *term, fixed []*term) (*term, bool) {
	types := []*cdc.Type{x.typ}
	for _, t := range fixed {
		types = append(types, t.typ)
	}
	common, ok := commonType(types)
	if !ok {
		return nil, false
	}
	elems := make([]*term, len(fixed))
	for i, t := range fixed {
		if elems[i] = c.coerce(t, common, implicitCast, ""); elems[i] == nil {
			return nil, true
		}
	}
	arr := &term{op: opArray, typ: arrayOf(common), typmod: -1, place: n.place, args: elems}
	return c.overArray(op, n.place, n.place, x, c.fold(arr), n.not), true
}

func (c *checker) between(n *between) *term {
	x, lo, hi := c.check(n.x), c.check(n.lo), c.check(n.hi)
	if x == nil || lo == nil || hi == nil {
		return nil
	}
	side := func(op string, bound *term) *term {
		t := c.operator(op, n.place, n.place, x, bound)
		if t == nil {
			return nil
		}
		return c.fold(t)
	}
	pair := func(a, b *term) *term {
		inner, cmps := opAnd, []string{">=", "<="}
		if n.not {
			inner, cmps = opOr, []string{"<", ">"}
		}
		l := side(cmps[0], a)
		if l == nil { // the other bound would fail for the same reason
			return nil
		}
		r := side(cmps[1], b)
		if r == nil {
			return nil
		}
		return c.simple(inner, n.place, l, r)
	}
	t := pair(lo, hi)
	if t == nil || !n.symmetric {
		return t
	}
	u := pair(hi, lo)
	if u == nil {
		return nil
	}
	join := opOr
	if n.not {
		join = opAnd
	}
	return c.simple(join, n.place, c.fold(t), c.fold(u))
}

func (c *checker) like(n *like) *term {
	op := "~~"
	if n.ilike {
		op += "*"
	}
	if n.not {
		op = "!" + op
	}
	x, pattern := c.check(n.x), c.check(n.pattern)
	if n.escape != nil {
		pattern = c.callNamed("like_escape", n.place, []*term{pattern, c.check(n.escape)})
		if pattern != nil {
			pattern = c.fold(pattern)
		}
	}
	return c.operator(op, n.place, n.place, x, pattern)
}

func (c *checker) quantified(n *quantified) *term {
	x, arr := c.check(n.x), c.check(n.arr)
	if x == nil || arr == nil {
		return nil
	}
	return c.overArray(n.op, n.opPlace, n.place, x, arr, n.all)
}

// overArray is make_scalar_array_op.
func (c *checker) overArray(op string, opPlace, p place, x, arr *term, all bool) *term {
	elem := arr.typ
	if base := arr.typ.Base(); base.Kind == cdc.KindArray && base.Elem != nil {
		elem = base.Elem
	} else if arr.typ.OID != oidUnknown {
		c.errorAt(arr.place, "use in (...) for a list of values", "ANY and ALL need an array, not %s", typeTitle(arr.typ))
		return nil
	}
	cand := c.resolveInfix(op, opPlace, x, &term{typ: elem, place: arr.place})
	if cand == nil {
		return nil
	}
	types, result := concrete(cand, []*cdc.Type{x.typ, elem})
	if result.OID != oidBool {
		c.errorAt(p, "", "ANY and ALL need an operator that is boolean")
		return nil
	}
	if x = c.coerce(x, types[0], implicitCast, ""); x == nil {
		return nil
	}
	if arr = c.coerce(arr, arrayOf(types[1]), implicitCast, ""); arr == nil {
		return nil
	}
	// The operator's own term, for binding its code to the types.
	one := &term{op: opCall, typ: result, typmod: -1, place: p, args: []*term{x, {op: opBound, typ: types[1], typmod: -1, place: arr.place, args: []*term{arr}}}}
	impl := c.bindImpl(cand, one, "operator "+op)
	if impl == nil {
		return nil
	}
	t := c.simple(opQuantified, p, x, arr)
	t.impl, t.all = impl, all
	return t
}
