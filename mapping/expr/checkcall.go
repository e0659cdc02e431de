package expr

import (
	"fmt"
	"maps"
	"slices"
	"strings"

	"gancho/cdc"
)

func (c *checker) unary(n *unary) *term {
	x := c.check(n.x)
	if x == nil {
		return nil
	}
	if isForeign(x.typ) {
		c.foreign(x)
		return nil
	}
	cand, ambiguous := prefixOperator(n.op, x.typ)
	if cand == nil {
		if ambiguous {
			c.errorAt(n.place, "cast the value", "operator %s is ambiguous here", n.op)
		} else {
			c.errorAt(n.place, "", "operator %s is not defined for %s", n.op, typeTitle(x.typ))
		}
		return nil
	}
	return c.apply(cand, n.place, "operator "+n.op, []*term{x})
}

// operator makes l op r.
func (c *checker) operator(op string, opPlace, p place, l, r *term) *term {
	if l == nil || r == nil {
		return nil
	}
	cand := c.resolveInfix(op, opPlace, l, r)
	if cand == nil {
		return nil
	}
	return c.apply(cand, p, "operator "+op, []*term{l, r})
}

// resolveInfix finds the operator or reports why there is none.
func (c *checker) resolveInfix(op string, opPlace place, l, r *term) *candidate {
	for _, t := range []*term{l, r} {
		if isForeign(t.typ) {
			c.foreign(t)
			return nil
		}
	}
	cand, ambiguous := infixOperator(op, l.typ, r.typ)
	if cand != nil {
		return cand
	}
	lt, rt := typeTitle(l.typ), typeTitle(r.typ)
	switch {
	case pg().infix[op] == nil:
		c.errorAt(opPlace, "operators: = <> < <= > >= + - * / % || ~ ~* !~ !~* -> ->> #> #>> @>", "operator %s is not supported", op)
	case ambiguous:
		c.errorAt(opPlace, "cast one side", "operator %s is ambiguous for %s and %s", op, lt, rt)
	case isComparison(op) && lt == rt:
		c.errorAt(opPlace, comparisonHint(l.typ), "%s values cannot be compared with %s", lt, op)
	case isComparison(op):
		c.errorAt(opPlace, "cast one side", "comparing %s with %s", lt, rt)
	default:
		c.errorAt(opPlace, "cast one side", "operator %s is not defined for %s and %s", op, lt, rt)
	}
	return nil
}

func comparisonHint(t *cdc.Type) string {
	if t.Base().OID == oidJSON {
		return "cast both sides to jsonb or text"
	}
	return "cast both sides to text"
}

func isComparison(op string) bool {
	switch op {
	case "=", "<>", "<", "<=", ">", ">=":
		return true
	}
	return false
}

func (c *checker) foreign(t *term) {
	c.errorAt(t.place, "use it as it is, in is [not] null, or in changed()", "type %s is not known to the rules", typeTitle(t.typ))
}

// concrete is enforce_generic_type_consistency: the candidate's types with the
// polymorphic ones replaced.
func concrete(cand *candidate, actual []*cdc.Type) (args []*cdc.Type, result *cdc.Type) {
	var elem, arr *cdc.Type
	var compatible []*cdc.Type
	for i, d := range cand.args {
		a := actual[i]
		if a.OID == oidUnknown {
			continue
		}
		switch d.Name {
		case "anyelement", "anynonarray", "anyenum":
			elem = a
		case "anyarray":
			arr = a.Base()
			elem = arr.Elem
		case "anycompatible", "anycompatiblenonarray":
			compatible = append(compatible, a)
		case "anycompatiblearray":
			compatible = append(compatible, a.Base().Elem)
		}
	}
	if len(compatible) > 0 {
		elem, _ = commonType(compatible)
	}
	replace := func(d, a *cdc.Type) *cdc.Type {
		switch {
		case !isPolymorphic(d):
			return d
		case d.Name == "anyarray" && arr != nil:
			return arr
		case strings.HasSuffix(d.Name, "array") && !strings.HasSuffix(d.Name, "nonarray") && elem != nil:
			return arrayOf(elem)
		case elem != nil:
			return elem
		case a != nil && a.OID == oidUnknown:
			return builtin(oidText)
		case a != nil:
			return a
		}
		return d
	}
	for i, d := range cand.args {
		args = append(args, replace(d, actual[i]))
	}
	return args, replace(cand.result, nil)
}

// apply makes the call of an operator or function; what names it.
func (c *checker) apply(cand *candidate, p place, what string, args []*term) *term {
	actual := make([]*cdc.Type, len(args))
	for i, a := range args {
		actual[i] = a.typ
	}
	types, result := concrete(cand, actual)
	converted := make([]*term, len(args))
	for i, a := range args {
		if converted[i] = c.coerce(a, types[i], implicitCast, ""); converted[i] == nil {
			return nil
		}
	}
	t := &term{op: opCall, typ: result, typmod: -1, place: p, args: converted, vars: anyVars(args), stable: cand.stable}
	if t.impl = c.bindImpl(cand, t, what); t.impl == nil {
		return nil
	}
	return t
}

// bindImpl finds the code of a candidate for a call, or refuses it by name.
func (c *checker) bindImpl(cand *candidate, t *term, what string) *impl {
	if err := c.collationProblem(t); err != nil {
		c.errs = append(c.errs, err)
		return nil
	}
	im, ok := implOf(cand)
	if !ok {
		var names []string
		for _, a := range t.args {
			names = append(names, typeTitle(a.typ))
		}
		c.errorAt(t.place, supportedForms(cand), "%s of %s is not supported", what, strings.Join(names, " and "))
		return nil
	}
	if im.bind == nil {
		return im
	}
	bound, err := im.bind(c, t)
	if err != nil {
		c.errs = append(c.errs, err)
		return nil
	}
	return bound
}

// supportedForms lists what is implemented under a candidate's name.
func supportedForms(cand *candidate) string {
	var forms []string
	for _, list := range []map[string][]*candidate{pg().functions, pg().infix} {
		for symbol, all := range list {
			if !slices.Contains(all, cand) && symbol != cand.name {
				continue
			}
			for _, c := range all {
				if _, ok := implOf(c); ok {
					forms = append(forms, strings.Join(typeTitles(c.args), ", "))
				}
			}
		}
	}
	slices.Sort(forms)
	if len(forms) == 0 || len(forms) > 12 {
		return "no form of it is supported for these types; cast to others"
	}
	return "it is supported for (" + strings.Join(slices.Compact(forms), "), (") + ")"
}

func typeTitles(types []*cdc.Type) []string {
	titles := make([]string, len(types))
	for i, t := range types {
		titles[i] = typeTitle(t)
	}
	return titles
}

// call checks a function call and the forms that look like one.
func (c *checker) call(n *call) *term {
	name := n.name.text
	if n.bare {
		return c.clock(n)
	}
	switch name {
	case "changed":
		return c.changed(n)
	case "became":
		return c.became(n)
	case "coalesce", "greatest", "least", "nullif":
		return c.choice(n)
	}
	if name == "hmac" {
		return c.hmac(n)
	}
	if f := maskFunctions()[name]; f != nil {
		return c.mask(n, f)
	}
	switch {
	case pg().functions[name] == nil:
		c.errorAt(n.name.place, functionHint(name), "function %s is not supported", name)
		return nil
	}
	var args []*term
	for _, a := range n.args {
		args = append(args, c.check(a))
	}
	return c.callNamed(name, n.place, args)
}

// callNamed makes the call of a function of the catalogue.
func (c *checker) callNamed(name string, p place, args []*term) *term {
	types := make([]*cdc.Type, len(args))
	for i, a := range args {
		if a == nil {
			return nil
		}
		if types[i] = a.typ; isForeign(a.typ) {
			c.foreign(a)
			return nil
		}
	}
	if name == "date" && len(args) == 1 && types[0].OID == oidUnknown { // date('2026-01-01') is a cast
		return c.coerce(args[0], builtin(oidDate), explicitCast, "")
	}
	cand, ambiguous := function(name, types)
	if cand == nil {
		sig := fmt.Sprintf("%s(%s)", name, strings.Join(typeTitles(types), ", "))
		if ambiguous {
			c.errorAt(p, "cast the arguments", "function %s is ambiguous", sig)
		} else {
			c.errorAt(p, "cast the arguments, or check their number", "function %s does not exist", sig)
		}
		return nil
	}
	return c.apply(cand, p, "function "+name, args)
}

// functionHint proposes functions with a name like the one written.
func functionHint(name string) string {
	names := append(slices.Collect(maps.Keys(pg().functions)), "coalesce", "nullif", "greatest", "least", "changed", "became")
	names = append(names, maskNames()...)
	names = slices.DeleteFunc(names, func(n string) bool { return !hasImpl(n) })
	slices.Sort(names)
	if near, ok := closest(name, names); ok {
		return fmt.Sprintf("did you mean %s?", near)
	}
	return "functions: " + strings.Join(names, ", ")
}

// hasImpl reports whether some form of the function is implemented.
func hasImpl(name string) bool {
	list := pg().functions[name]
	return list == nil || slices.ContainsFunc(list, func(c *candidate) bool {
		_, ok := implOf(c)
		return ok
	})
}

// clock makes current_date and its kin, which are the commit's time.
func (c *checker) clock(n *call) *term {
	now := &term{op: opCall, typ: builtin(oidTimestamptz), typmod: -1, place: n.place, impl: nowImpl(), stable: true}
	switch n.name.text {
	case "current_timestamp":
		return now
	case "current_date":
		return c.coerce(now, builtin(oidDate), explicitCast, "")
	case "localtimestamp":
		return c.coerce(now, builtin(oidTimestamp), explicitCast, "")
	}
	c.errorAt(n.place, "write localtimestamp::time", "%s is not supported", n.name.text)
	return nil
}

// choice makes coalesce, greatest, least and nullif.
func (c *checker) choice(n *call) *term {
	var args []*term
	for _, a := range n.args {
		t := c.check(a)
		if t == nil {
			return nil
		}
		args = append(args, t)
	}
	if n.name.text == "nullif" {
		return c.nullIf(n, args)
	}
	args = c.unify(strings.ToUpper(n.name.text), n.place, args)
	if args == nil {
		return nil
	}
	t := &term{op: opCoalesce, typ: args[0].typ, typmod: -1, place: n.place, args: args, vars: anyVars(args)}
	if n.name.text == "coalesce" {
		return t
	}
	t.op, t.all = opExtreme, n.name.text == "greatest"
	bound := &term{op: opBound, typ: t.typ, typmod: -1, place: n.place, args: args}
	less := c.operator("<", n.place, n.place, bound, bound)
	if less == nil {
		return nil
	}
	t.impl = less.impl
	return t
}

// unify converts terms to their common type.
func (c *checker) unify(what string, p place, args []*term) []*term {
	types := make([]*cdc.Type, len(args))
	for i, a := range args {
		types[i] = a.typ
	}
	common, ok := commonType(types)
	if !ok {
		var titles []string
		for _, t := range types {
			if title := typeTitle(t); t.OID != oidUnknown && !slices.Contains(titles, title) {
				titles = append(titles, title)
			}
		}
		c.errorAt(p, "cast them to one type", "%s types %s do not match", what, strings.Join(titles, " and "))
		return nil
	}
	out := make([]*term, len(args))
	for i, a := range args {
		if out[i] = c.coerce(a, common, implicitCast, ""); out[i] == nil {
			return nil
		}
	}
	return out
}

func (c *checker) nullIf(n *call, args []*term) *term {
	if len(args) != 2 {
		c.errorAt(n.place, "write nullif(value, what to make null)", "NULLIF takes two arguments")
		return nil
	}
	eq := c.operator("=", n.place, n.place, args[0], args[1])
	if eq == nil {
		return nil
	}
	return &term{op: opNullIf, typ: eq.args[0].typ, typmod: -1, place: n.place, args: eq.args, impl: eq.impl, vars: eq.vars}
}

// caseExpr makes both forms of case.
func (c *checker) caseExpr(n *caseExpr) *term {
	var subject *term
	if n.arg != nil {
		if subject = c.check(n.arg); subject == nil {
			return nil
		}
		if subject = c.decide(subject); subject == nil {
			return nil
		}
	}
	other := constant(value{}, builtin(oidUnknown), n.place)
	if n.other != nil {
		if other = c.check(n.other); other == nil {
			return nil
		}
	}
	conds, results := []*term{}, []*term{other} // the default decides the type first
	for _, w := range n.whens {
		cond := c.check(w.cond)
		if subject != nil && cond != nil {
			bound := subject
			if !subject.isConst() {
				bound = &term{op: opBound, typ: subject.typ, typmod: subject.typmod, place: subject.place, args: []*term{subject}}
			}
			if cond = c.operator("=", cond.place, cond.place, bound, cond); cond != nil {
				cond = c.fold(cond)
			}
		}
		cond = c.boolean(cond, "the condition of WHEN")
		result := c.check(w.result)
		if cond == nil || result == nil {
			return nil
		}
		conds, results = append(conds, cond), append(results, result)
	}
	if results = c.unify("CASE", n.place, results); results == nil {
		return nil
	}
	t := &term{op: opCase, typ: results[0].typ, typmod: -1, place: n.place}
	if subject != nil && !subject.isConst() {
		t.op, t.args = opSwitch, []*term{subject}
	}
	for i, cond := range conds {
		t.args = append(t.args, cond, results[i+1])
	}
	t.args = append(t.args, results[0])
	t.vars = anyVars(t.args)
	return t
}

// array makes array[...]; want is the type of a cast around it, or nil.
func (c *checker) array(n *arrayExpr, want *cdc.Type) *term {
	var args []*term
	for _, e := range n.list {
		t := c.check(e)
		if t == nil {
			return nil
		}
		args = append(args, t)
	}
	switch {
	case want != nil:
		for i, a := range args {
			if args[i] = c.coerceExplicit(a.place, a, want.Elem); args[i] == nil {
				return nil
			}
		}
	case len(args) == 0:
		c.errorAt(n.place, "cast it: array[]::text[]", "the type of an empty array is not known")
		return nil
	default:
		if args = c.unify("ARRAY", n.place, args); args == nil {
			return nil
		}
		want = arrayOf(args[0].typ)
	}
	for _, a := range args {
		if a.typ.Base().Kind == cdc.KindArray {
			c.errorAt(n.place, "write it as a string: '{{1,2},{3,4}}'::integer[]", "nested arrays are not supported here")
			return nil
		}
	}
	return &term{op: opArray, typ: want, typmod: -1, place: n.place, args: args, vars: anyVars(args)}
}

func (c *checker) subscript(n *subscript) *term {
	x, index := c.check(n.x), c.check(n.index)
	if x == nil || index == nil {
		return nil
	}
	base := x.typ.Base()
	switch {
	case base.OID == oidJSONB:
		c.errorAt(n.place, "use -> or ->>", "subscripts of jsonb are not supported")
		return nil
	case base.Kind != cdc.KindArray || base.Elem == nil:
		c.errorAt(n.place, "", "%s is not an array", typeTitle(x.typ))
		return nil
	case isForeign(base):
		c.foreign(x)
		return nil
	}
	if index = c.coerce(index, builtin(oidInt4), assignmentCast, "a subscript"); index == nil {
		return nil
	}
	return &term{op: opElement, typ: base.Elem, typmod: -1, place: n.place, args: []*term{x, index}, vars: x.vars || index.vars}
}
