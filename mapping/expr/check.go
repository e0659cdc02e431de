package expr

import (
	"cmp"
	"fmt"
	"slices"
	"strconv"

	"gancho/cdc"
)

// checker turns the syntax tree into typed terms. Every method that returns a
// term returns nil after it has reported an error, and nil when an argument is
// nil. So checking continues and finds all mistakes of an expression together.
type checker struct {
	scope   *Scope
	machine *Machine // for constants
	errs    Errors
	named   []Column
	hiding  int // masks and hashes around the current term
	lookups []LookupColumn
	needOld bool
}

// errorAt reports a mistake. The nil is for the caller to return.
func (c *checker) errorAt(p place, hint, format string, args ...any) *term {
	return c.report(&Error{Offset: p.off, Length: max(p.end-p.off, 1), Message: fmt.Sprintf(format, args...), Hint: hint})
}

// unsupported is errorAt for what PostgreSQL may have, and the language has not.
func (c *checker) unsupported(p place, hint, format string, args ...any) *term {
	c.errorAt(p, hint, format, args...)
	c.errs[len(c.errs)-1].Unsupported = true
	return nil
}

func (c *checker) report(err *Error) *term {
	c.errs = append(c.errs, err)
	return nil
}

// attempt checks something and, when that fails, returns the first error instead
// of reporting it.
func (c *checker) attempt(f func() *term) (*term, *Error) {
	before := len(c.errs)
	t := f()
	if t == nil {
		err := c.errs[before]
		c.errs = c.errs[:before]
		return nil, err
	}
	return t, nil
}

func placeOf(n node) place {
	off, end := n.span()
	return place{off, end}
}

// columns are the columns named, sorted and unique.
func (c *checker) columns() []Column {
	slices.SortFunc(c.named, func(a, b Column) int {
		byOld, byHidden := orderInt(nil, boolValue(a.Old), boolValue(b.Old)), orderInt(nil, boolValue(a.Hidden), boolValue(b.Hidden))
		byWhole := orderInt(nil, boolValue(a.Whole), boolValue(b.Whole))
		return cmp.Or(byOld, cmp.Compare(a.Index, b.Index), byHidden, byWhole)
	})
	// Where a column is named both hidden and not, the entry that is not hidden
	// comes first and is kept.
	return slices.CompactFunc(c.named, func(a, b Column) bool { return a.Old == b.Old && a.Index == b.Index })
}

// check is transformExpr.
func (c *checker) check(n node) *term { return c.fold(c.checkNode(n)) }

// checkAll checks a list; it is nil when one of them has a mistake.
func (c *checker) checkAll(list []node) []*term {
	terms := mapped(list, c.check)
	if slices.Contains(terms, nil) {
		return nil
	}
	return terms
}

func (c *checker) checkNode(n node) *term {
	switch n := n.(type) {
	case *literal:
		return c.literal(n)
	case *columnRef:
		return c.column(n)
	case *unary:
		return c.unary(n)
	case *rowExpr:
		return c.errorAt(n.place, "send or compare its fields one by one", "a row can only be compared with a row, or tested with is null")
	case *binary:
		if c.isRow(n.l) || c.isRow(n.r) {
			return c.compareRows(n.op, n.opPlace, n.place, n.l, n.r)
		}
		l, r := c.check(n.l), c.check(n.r)
		return c.operator(n.op, n.opPlace, n.place, l, r)
	case *logic:
		return c.logic(n)
	case *negation:
		return c.simple(opNot, n.place, c.boolean(c.check(n.x), "the argument of NOT"))
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
	case *collated:
		return c.collate(n)
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
		return c.overArray(n.op, n.opPlace, n.place, c.check(n.x), c.check(n.arr), n.all)
	}
	return c.errorAt(placeOf(n), "report this as a bug", "expression of an unknown kind")
}

// newTerm creates a term without a modifier, nil when an argument is.
func newTerm(op termOp, typ *cdc.Type, p place, args ...*term) *term {
	if slices.Contains(args, nil) {
		return nil
	}
	return &term{op: op, typ: typ, typmod: -1, place: p, args: args, vars: slices.ContainsFunc(args, func(a *term) bool { return a.vars })}
}

// simple creates a boolean term.
func (c *checker) simple(op termOp, p place, args ...*term) *term {
	return newTerm(op, builtin(oidBool), p, args...)
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
		typ := builtin(oidInt8)
		if fitsInt(i, 32) {
			typ = builtin(oidInt4)
		}
		return constant(intValue(i), typ, n.place)
	}
	v, code := parseNumeric([]byte(n.text))
	if code != "" {
		return c.errorAt(n.place, "write a smaller number", "number is out of range")
	}
	return constant(v, builtin(oidNumeric), n.place)
}

// decide makes text of a string literal whose type nothing else has decided.
func (c *checker) decide(t *term) *term {
	if t != nil && t.typ.OID == oidUnknown {
		return c.coerce(t, builtin(oidText), implicitCast, "")
	}
	return t
}

// boolean is coerce_to_boolean; what names the place in the error.
func (c *checker) boolean(t *term, what string) *term {
	switch {
	case t == nil:
		return nil
	case t.typ.OID == oidUnknown:
		return c.coerce(t, builtin(oidBool), implicitCast, "")
	case t.typ.Base().OID != oidBool:
		return c.errorAt(t.place, "write a comparison", "%s must be boolean, not %s", what, typeTitle(t.typ))
	}
	return t
}

func (c *checker) logic(n *logic) *term {
	op, name := opAnd, "AND"
	if n.or {
		op, name = opOr, "OR"
	}
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
	var args []*term
	for _, part := range slices.Backward(chain) {
		args = append(args, c.boolean(c.check(part), "the argument of "+name))
	}
	return c.simple(op, n.place, args...)
}

func (c *checker) isTest(n *isTest) *term {
	if c.isRow(n.x) {
		return c.nullRow(n)
	}
	op, x := opTruth, c.check(n.x)
	if n.test == "null" {
		op, x = opNull, c.decide(x)
	} else {
		x = c.boolean(x, "the argument of IS "+n.test)
	}
	t := c.simple(op, n.place, x)
	if t != nil {
		t.negate = n.not
		if op == opTruth {
			t.test = n.test
		}
	}
	return t
}

// testDatum marks a test for null of a composite value as a whole: a row of nulls
// is null to IS NULL, but it is distinct from null.
const testDatum = "datum"

func isNullLiteral(n node) bool {
	l, ok := n.(*literal)
	return ok && l.kind == litNull
}

func (c *checker) distinct(n *distinct) *term {
	if c.isRow(n.l) || c.isRow(n.r) {
		return c.distinctRows(n)
	}
	l, r := n.l, n.r
	if isNullLiteral(l) && !isNullLiteral(r) {
		l, r = r, l
	}
	if !isNullLiteral(r) {
		return c.distinctTerms(n.place, c.check(l), c.check(r), n.not)
	}
	t := c.isTest(&isTest{n.place, l, "null", !n.not}) // needs no equality
	if t != nil {
		t.test = testDatum
	}
	return t
}

func (c *checker) distinctTerms(p place, l, r *term, not bool) *term {
	eq := c.operator("=", p, p, l, r)
	if eq == nil {
		return nil
	}
	if eq.typ.OID != oidBool {
		return c.errorAt(p, "", "IS DISTINCT FROM needs an = that is boolean")
	}
	t := c.simple(opDistinct, p, eq.args...)
	t.impl, t.negate = eq.impl, not
	return t
}

func (c *checker) in(n *inList) *term {
	op, join := "=", opOr
	if n.not {
		op, join = "<>", opAnd
	}
	var parts []*term
	if c.isRow(n.x) {
		for _, e := range n.list {
			parts = append(parts, c.fold(c.compareRows(op, placeOf(e), n.place, n.x, e)))
		}
		if len(parts) == 1 {
			return parts[0]
		}
		return c.simple(join, n.place, parts...)
	}
	x, list := c.check(n.x), c.checkAll(n.list)
	if x == nil || list == nil {
		return nil
	}
	if fixed := slices.DeleteFunc(slices.Clone(list), func(t *term) bool { return t.vars }); len(fixed) > 1 {
		if t, ok := c.inConstants(n, op, x, fixed); ok {
			parts = append(parts, t)
			list = slices.DeleteFunc(list, func(t *term) bool { return !t.vars })
		}
	}
	for _, e := range list {
		parts = append(parts, c.fold(c.operator(op, e.place, n.place, x, e)))
		if parts[len(parts)-1] == nil { // the others would fail for the same reason
			return nil
		}
	}
	if len(parts) == 1 {
		return parts[0]
	}
	return c.simple(join, n.place, parts...)
}

// inConstants creates x op any/all (array of the constants), if they have a
// common type with x.
func (c *checker) inConstants(n *inList, op string, x *term, fixed []*term) (*term, bool) {
	common, ok := commonType(typesOf(append([]*term{x}, fixed...)))
	if !ok {
		return nil, false
	}
	arr := newTerm(opArray, arrayOf(common), n.place, c.coerceAll(fixed, common)...)
	return c.overArray(op, n.place, n.place, x, c.fold(arr), n.not), true
}

func (c *checker) between(n *between) *term {
	if c.isRow(n.x) || c.isRow(n.lo) || c.isRow(n.hi) {
		return c.errorAt(n.place, "write >= and <=", "BETWEEN of rows is not supported")
	}
	x, lo, hi := c.check(n.x), c.check(n.lo), c.check(n.hi)
	inner, join, above, below := opAnd, opOr, ">=", "<="
	if n.not {
		inner, join, above, below = opOr, opAnd, "<", ">"
	}
	pair := func(lo, hi *term) *term {
		l := c.fold(c.operator(above, n.place, n.place, x, lo))
		if l == nil { // the other bound would fail for the same reason
			return nil
		}
		return c.simple(inner, n.place, l, c.fold(c.operator(below, n.place, n.place, x, hi)))
	}
	t := pair(lo, hi)
	if t == nil || !n.symmetric {
		return t
	}
	return c.simple(join, n.place, c.fold(t), c.fold(pair(hi, lo)))
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
		pattern = c.fold(c.callNamed("like_escape", n.place, []*term{pattern, c.check(n.escape)}))
	}
	return c.operator(op, n.place, n.place, x, pattern)
}

// overArray is make_scalar_array_op.
func (c *checker) overArray(op string, opPlace, p place, x, arr *term, all bool) *term {
	if x == nil || arr == nil {
		return nil
	}
	elem := arr.typ
	if base := arr.typ.Base(); base.Kind == cdc.KindArray && base.Elem != nil {
		elem = base.Elem
	} else if arr.typ.OID != oidUnknown {
		return c.errorAt(arr.place, "use in (...) for a list of values", "ANY and ALL need an array, not %s", typeTitle(arr.typ))
	}
	cand := c.resolveInfix(op, opPlace, x, &term{typ: elem, place: arr.place})
	if cand == nil {
		return nil
	}
	types, result := concrete(cand, []*cdc.Type{x.typ, elem})
	if result.OID != oidBool {
		return c.errorAt(p, "", "ANY and ALL need an operator that is boolean")
	}
	if isArrayOfArrays(arrayOf(types[1])) {
		return c.errorAt(arr.place, "cast it, or compare elements", "ANY and ALL of arrays need an array of arrays, which is no type")
	}
	x = c.coerce(x, types[0], implicitCast, "")
	arr = c.coerce(arr, arrayOf(types[1]), implicitCast, "")
	t := c.simple(opQuantified, p, x, arr)
	if t == nil {
		return nil
	}
	// The operator's own term, for binding its code to the types.
	one := newTerm(opCall, result, p, x, newTerm(opBound, types[1], arr.place, arr))
	t.function = cand.name
	if t.impl, t.all = c.bindImpl(cand, one, "operator "+op), all; t.impl == nil {
		return nil
	}
	return t
}
