package expr

import (
	"fmt"
	"maps"
	"slices"
	"strings"

	"gancho/cdc"
)

const comparisons = " = <> < <= > >= "

func (c *checker) unary(n *unary) *term {
	x := c.check(n.x)
	if x == nil {
		return nil
	}
	if isForeign(x.typ) {
		return c.foreign(x)
	}
	cand, ambiguous := prefixOperator(n.op, x.typ)
	switch {
	case ambiguous:
		return c.errorAt(n.place, "cast the value", "operator %s is ambiguous here", n.op)
	case cand == nil:
		return c.errorAt(n.place, "", "operator %s is not defined for %s", n.op, typeTitle(x.typ))
	}
	return c.apply(cand, n.place, "operator "+n.op, []*term{x})
}

// operator creates l op r.
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

// resolveInfix finds the operator, or reports why none fits.
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
		c.unsupported(opPlace, "operators: = <> < <= > >= + - * / % || ~ ~* !~ !~* -> ->> #> #>> @>", "operator %s is not supported", op)
	case ambiguous:
		c.errorAt(opPlace, "cast one side", "operator %s is ambiguous for %s and %s", op, lt, rt)
	case listed(comparisons, op) && lt == rt:
		c.errorAt(opPlace, comparisonHint(l.typ), "%s values cannot be compared with %s", lt, op)
	case listed(comparisons, op):
		c.errorAt(opPlace, "cast one side", "%s cannot be compared with %s", lt, rt)
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

// foreign refuses a type that the catalogue here does not know.
func (c *checker) foreign(t *term) *term {
	hint := "use it as it is, in is [not] null, or in changed()"
	if comparesOtherwise(t.typ) {
		hint = "use it as it is, or in is [not] null"
	}
	return c.unsupported(t.place, hint, "type %s is not known to the rules", typeTitle(t.typ))
}

// concrete is enforce_generic_type_consistency: the candidate's types with the
// polymorphic ones replaced.
func concrete(cand *candidate, actual []*cdc.Type) (args []*cdc.Type, result *cdc.Type) {
	g, _ := bindGenerics(actual, cand.args) // canCoerce has asked before
	if g.elem == nil && slices.ContainsFunc(cand.args, isCompatible) {
		g.elem = builtin(oidText) // all are unknown
	}
	replace := func(d, a *cdc.Type) *cdc.Type {
		switch {
		case !isPolymorphic(d):
			return d
		case d.Name == "anyarray" && g.array != nil:
			return g.array
		case strings.HasSuffix(d.Name, "array") && !strings.HasSuffix(d.Name, "nonarray") && g.elem != nil:
			return arrayOf(g.elem)
		case g.elem != nil:
			return g.elem
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

// apply creates the call of an operator or function; what names it.
func (c *checker) apply(cand *candidate, p place, what string, args []*term) *term {
	if undetermined(cand, typesOf(args)) {
		return c.errorAt(p, "cast the text, such as '{1,2}'::integer[]", "%s takes values of any type, so that the type of a text alone is not known", what)
	}
	types, result := concrete(cand, typesOf(args))
	if slices.ContainsFunc(types, isArrayOfArrays) {
		return c.errorAt(p, "cast the arguments", "%s needs an array of arrays, which is no type", what)
	}
	converted := make([]*term, len(args))
	for i, a := range args {
		if converted[i] = c.coerce(a, types[i], implicitCast, ""); converted[i] == nil {
			return nil
		}
	}
	t := newTerm(opCall, result, p, converted...)
	t.stable, t.function = cand.stable, cand.name
	if t.impl = c.bindImpl(cand, t, what); t.impl == nil {
		return nil
	}
	return t
}

func isArrayOfArrays(t *cdc.Type) bool {
	return t.Kind == cdc.KindArray && t.Elem != nil && t.Elem.Base().Kind == cdc.KindArray
}

func typesOf(terms []*term) []*cdc.Type {
	return mapped(terms, func(t *term) *cdc.Type { return t.typ })
}

// mapped returns what a function makes of each item.
func mapped[T, U any](list []T, f func(T) U) []U {
	out := make([]U, len(list))
	for i, item := range list {
		out[i] = f(item)
	}
	return out
}

// bindImpl finds the code of a candidate for a call, or refuses it by name.
func (c *checker) bindImpl(cand *candidate, t *term, what string) *impl {
	if err := c.collationProblem(t); err != nil {
		c.report(err)
		return nil
	}
	im, ok := implOf(cand)
	if !ok {
		c.unsupported(t.place, supportedForms(cand), "%s of %s is not supported", what, strings.Join(mapped(typesOf(t.args), typeTitle), " and "))
		return nil
	}
	return c.bound(im, t)
}

// bound is the code of an implementation for a call, nil when it is refused.
func (c *checker) bound(im *impl, t *term) *impl {
	if im.bind == nil {
		return im
	}
	bound, err := im.bind(c, t)
	if err != nil {
		c.report(err)
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
					forms = append(forms, strings.Join(mapped(c.args, typeTitle), ", "))
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

// call checks a function call and the forms with the syntax of one.
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
	case "hmac":
		return c.hmac(n)
	}
	if f := maskFunctions()[name]; f != nil {
		return c.mask(n, f)
	}
	if pg().functions[name] == nil {
		return c.unsupported(n.name.place, functionHint(name), "function %s is not supported", name)
	}
	args := c.checkAll(n.args)
	if args == nil {
		return nil
	}
	return c.callNamed(name, n.place, args)
}

// callNamed creates the call of a function of the catalogue.
func (c *checker) callNamed(name string, p place, args []*term) *term {
	if slices.Contains(args, nil) {
		return nil
	}
	if i := slices.IndexFunc(args, func(a *term) bool { return isForeign(a.typ) }); i >= 0 {
		return c.foreign(args[i])
	}
	types := typesOf(args)
	if name == "date" && len(args) == 1 && types[0].OID == oidUnknown { // date('2026-01-01') is a cast
		return c.coerce(args[0], builtin(oidDate), explicitCast, "")
	}
	cand, ambiguous := function(name, types)
	if cand != nil {
		return c.apply(cand, p, "function "+name, args)
	}
	sig := fmt.Sprintf("%s(%s)", name, strings.Join(mapped(types, typeTitle), ", "))
	if ambiguous {
		return c.errorAt(p, "cast the arguments", "function %s is ambiguous", sig)
	}
	return c.errorAt(p, "cast the arguments, or check their number", "function %s does not exist", sig)
}

// FunctionNames are the functions of the language, sorted.
func FunctionNames() []string {
	names := append(slices.Collect(maps.Keys(pg().functions)), "coalesce", "nullif", "greatest", "least", "changed", "became")
	names = append(names, maskNames()...)
	names = slices.DeleteFunc(names, func(n string) bool { return !hasImpl(n) })
	slices.Sort(names)
	return names
}

// functionHint proposes a function with a name like the one written.
func functionHint(name string) string {
	if near := ClosestFunction(name, FunctionNames()); near != "" {
		return "did you mean " + near + "?"
	}
	return ""
}

// hasImpl reports whether some form of the function is implemented.
func hasImpl(name string) bool {
	list := pg().functions[name]
	return list == nil || slices.ContainsFunc(list, func(c *candidate) bool {
		_, ok := implOf(c)
		return ok
	})
}

// clock creates current_date and the like, which are the commit's time.
func (c *checker) clock(n *call) *term {
	now := newTerm(opCall, builtin(oidTimestamptz), n.place)
	now.impl, now.stable, now.function = nowImpl(), true, "now"
	switch n.name.text {
	case "current_timestamp":
		return now
	case "current_date":
		return c.coerce(now, builtin(oidDate), explicitCast, "")
	case "localtimestamp":
		return c.coerce(now, builtin(oidTimestamp), explicitCast, "")
	}
	return c.unsupported(n.place, "write localtimestamp::time", "%s is not supported", n.name.text)
}

// choice creates coalesce, greatest, least and nullif.
func (c *checker) choice(n *call) *term {
	name := n.name.text
	args := c.checkAll(n.args)
	if name == "nullif" {
		return c.nullIf(n, args)
	}
	if args = c.unify(strings.ToUpper(name), n.place, args); args == nil {
		return nil
	}
	t := newTerm(opCoalesce, args[0].typ, n.place, args...)
	if name == "coalesce" {
		return t
	}
	t.op, t.all = opExtreme, name == "greatest"
	bound := newTerm(opBound, t.typ, n.place, args...)
	less := c.operator("<", n.place, n.place, bound, bound)
	if less == nil {
		return nil
	}
	t.impl = less.impl
	return t
}

// unify converts terms to their common type; nil after an error.
func (c *checker) unify(what string, p place, args []*term) []*term {
	if len(args) == 0 || slices.Contains(args, nil) {
		return nil
	}
	types := typesOf(args)
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
	if args = c.coerceAll(args, common); slices.Contains(args, nil) {
		return nil
	}
	return args
}

// coerceAll converts terms to a type that they convert to implicitly.
func (c *checker) coerceAll(args []*term, to *cdc.Type) []*term {
	return mapped(args, func(a *term) *term { return c.coerce(a, to, implicitCast, "") })
}

func (c *checker) nullIf(n *call, args []*term) *term {
	if len(n.args) != 2 {
		return c.errorAt(n.place, "write nullif(value, what becomes null)", "NULLIF takes two arguments")
	}
	if args == nil {
		return nil
	}
	eq := c.operator("=", n.place, n.place, args[0], args[1])
	if eq == nil {
		return nil
	}
	t := newTerm(opNullIf, eq.args[0].typ, n.place, eq.args...)
	t.impl = eq.impl
	return t
}

// caseExpr creates both forms of case.
func (c *checker) caseExpr(n *caseExpr) *term {
	var subject, bound *term
	if n.arg != nil {
		if subject = c.decide(c.check(n.arg)); subject == nil {
			return nil
		}
		if bound = subject; !subject.isConst() {
			bound = newTerm(opBound, subject.typ, subject.place, subject)
			bound.typmod = subject.typmod
		}
	}
	other := constant(value{}, builtin(oidUnknown), n.place)
	if n.other != nil {
		other = c.check(n.other)
	}
	conds, results := []*term{}, []*term{other} // the default decides the type first
	for _, w := range n.whens {
		cond := c.check(w.cond)
		if subject != nil && cond != nil {
			cond = c.fold(c.operator("=", cond.place, cond.place, bound, cond))
		}
		conds, results = append(conds, c.boolean(cond, "the condition of WHEN")), append(results, c.check(w.result))
	}
	if results = c.unify("CASE", n.place, results); results == nil {
		return nil
	}
	op, args := opCase, []*term(nil)
	if subject != nil && !subject.isConst() {
		op, args = opSwitch, []*term{subject}
	}
	for i, cond := range conds {
		args = append(args, cond, results[i+1])
	}
	return newTerm(op, results[0].typ, n.place, append(args, results[0])...)
}

// array creates array[...]; want is the type of a cast around it, or nil.
func (c *checker) array(n *arrayExpr, want *cdc.Type) *term {
	args := c.checkAll(n.list)
	switch {
	case args == nil:
		return nil
	case want != nil:
		for i, a := range args {
			if args[i] = c.coerceExplicit(a.place, a, want.Elem); args[i] == nil {
				return nil
			}
		}
	case len(args) == 0:
		return c.errorAt(n.place, "cast it: array[]::text[]", "the type of an empty array is not known")
	default:
		if args = c.unify("ARRAY", n.place, args); args == nil {
			return nil
		}
		want = arrayOf(args[0].typ)
	}
	if slices.ContainsFunc(args, func(a *term) bool { return a.typ.Base().Kind == cdc.KindArray }) {
		return c.unsupported(n.place, "write it as a string: '{{1,2},{3,4}}'::integer[]", "nested arrays are not supported here")
	}
	return newTerm(opArray, want, n.place, args...)
}

func (c *checker) subscript(n *subscript) *term {
	x, index := c.check(n.x), c.check(n.index)
	if x == nil || index == nil {
		return nil
	}
	base := x.typ.Base()
	switch {
	case base.OID == oidJSONB:
		return c.unsupported(n.place, "use -> or ->>", "subscripts of jsonb are not supported")
	case base.Kind != cdc.KindArray || base.Elem == nil:
		return c.errorAt(n.place, "", "%s is not an array", typeTitle(x.typ))
	case isForeign(base):
		return c.foreign(x)
	}
	return newTerm(opElement, base.Elem, n.place, x, c.coerce(index, builtin(oidInt4), assignmentCast, "a subscript"))
}
