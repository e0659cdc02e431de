package expr

import (
	"slices"
	"strings"

	"gancho/cdc"
)

// This file is PostgreSQL's choice of operators, functions and common types:
// parse_oper.c, parse_func.c and parse_coerce.c of PostgreSQL 15, on the
// embedded catalogue. See also "Type Conversion" in its manual.

// castContext says which casts may be applied.
type castContext byte

const (
	implicitCast   castContext = 'i'
	assignmentCast castContext = 'a'
	explicitCast   castContext = 'e'
)

// pathKind is how a value is coerced.
type pathKind uint8

const (
	pathNone pathKind = iota
	pathRelabel
	pathFunction
	pathArray // element by element
	pathViaIO // by the text form
)

// pathway is find_coercion_pathway.
func pathway(from, to *cdc.Type, ctx castContext) (pathKind, castRow) {
	src, dst := from.Base(), to.Base()
	if src.OID == dst.OID {
		return pathRelabel, castRow{}
	}
	if kind, row, ok := textLikeCast(src, dst, ctx); ok {
		return kind, row
	}
	if row, ok := pg().casts[[2]uint32{src.OID, dst.OID}]; ok {
		if row.context != 'i' && ctx == implicitCast || row.context == 'e' && ctx != explicitCast {
			return pathNone, row
		}
		switch row.method {
		case 'b':
			return pathRelabel, row
		case 'f':
			return pathFunction, row
		}
		return pathViaIO, row
	}
	if src.Kind == cdc.KindArray && dst.Kind == cdc.KindArray && src.Elem != nil && dst.Elem != nil && !isVector(dst) {
		if kind, row := pathway(src.Elem, dst.Elem, ctx); kind != pathNone {
			return pathArray, row
		}
	}
	if ctx != implicitCast && category(dst) == 'S' || ctx == explicitCast && category(src) == 'S' {
		return pathViaIO, castRow{}
	}
	return pathNone, castRow{}
}

// isVector reports int2vector and oidvector, which are arrays in all but this.
func isVector(t *cdc.Type) bool { return t.OID == oidInt2vector || t.OID == oidOidvector }

// canCoerce is can_coerce_type, for implicit casts.
func canCoerce(from, to []*cdc.Type) bool {
	polymorphic := false
	for i, f := range from {
		t := to[i]
		switch {
		case f.OID == t.OID, t.OID == oidAny:
		case isPolymorphic(t):
			polymorphic = true
		case f.OID == oidUnknown:
		default:
			if kind, _ := pathway(f, t, implicitCast); kind == pathNone {
				return false
			}
		}
	}
	if !polymorphic {
		return true
	}
	_, ok := bindGenerics(from, to)
	return ok
}

func isPolymorphic(t *cdc.Type) bool {
	return t.Schema == "pg_catalog" && strings.HasPrefix(t.Name, "any") && t.OID != oidAny
}

// isCompatible reports the polymorphic types that need not be the same, but have a
// common type.
func isCompatible(t *cdc.Type) bool {
	return isPolymorphic(t) && strings.HasPrefix(t.Name, "anycompatible")
}

// undetermined reports that nothing says what a candidate's polymorphic types are.
func undetermined(cand *candidate, actual []*cdc.Type) bool {
	some := false
	for i, d := range cand.args {
		if isPolymorphic(d) && !isCompatible(d) {
			if actual[i].OID != oidUnknown {
				return false
			}
			some = true
		}
	}
	return some
}

// generics is what the arguments say about the polymorphic types.
type generics struct {
	elem, array *cdc.Type
	compatible  []*cdc.Type // of the anycompatible types, which must have a common type
}

// bindGenerics is check_generic_arg_consistency, for the polymorphic types that
// our operators and functions have.
func bindGenerics(actual, declared []*cdc.Type) (g generics, ok bool) {
	for i, d := range declared {
		a := actual[i]
		if a.OID == oidUnknown || !isPolymorphic(d) {
			continue
		}
		kind := a.Base().Kind
		switch {
		case strings.HasSuffix(d.Name, "nonarray"):
			ok = kind != cdc.KindArray
		case strings.HasSuffix(d.Name, "array"):
			ok = kind == cdc.KindArray
		case strings.HasSuffix(d.Name, "multirange"):
			ok = kind == cdc.KindMultirange
		case strings.HasSuffix(d.Name, "range"):
			ok = kind == cdc.KindRange
		default:
			ok = d.Name != "anyenum" || kind == cdc.KindEnum
		}
		if !ok {
			return g, false
		}
		switch d.Name {
		case "anyelement", "anynonarray", "anyenum":
			if g.elem != nil && g.elem.OID != a.OID {
				return g, false
			}
			g.elem = a
		case "anyarray":
			if g.array != nil && g.array.OID != a.Base().OID {
				return g, false
			}
			g.array = a.Base()
		case "anycompatible", "anycompatiblenonarray":
			g.compatible = append(g.compatible, a)
		case "anycompatiblearray":
			g.compatible = append(g.compatible, a.Base().Elem)
		}
	}
	if g.array != nil {
		if g.elem != nil && g.array.Elem.OID != g.elem.OID {
			return g, false
		}
		g.elem = g.array.Elem
	}
	if len(g.compatible) > 0 {
		if g.elem, ok = commonType(g.compatible); !ok {
			return g, false
		}
	}
	return g, true
}

// commonType is select_common_type: what union, case and coalesce agree on. It
// fails when two types are of different categories, or one does not convert.
func commonType(types []*cdc.Type) (*cdc.Type, bool) {
	first := types[0]
	if first.OID != oidUnknown && !slices.ContainsFunc(types[1:], func(t *cdc.Type) bool { return t.OID != first.OID }) {
		return first, true // the only way to yield a domain
	}
	best := first.Base()
	for _, t := range types[1:] {
		t = t.Base()
		switch {
		case t.OID == oidUnknown || t.OID == best.OID:
		case best.OID == oidUnknown:
			best = t
		case category(t) != category(best):
			return nil, false
		case !preferred(best) && canCoerce([]*cdc.Type{best}, []*cdc.Type{t}) &&
			!canCoerce([]*cdc.Type{t}, []*cdc.Type{best}):
			best = t
		}
	}
	if best.OID == oidUnknown {
		best = builtin(oidText)
	}
	for _, t := range types {
		if !canCoerce([]*cdc.Type{t}, []*cdc.Type{best}) {
			return nil, false
		}
	}
	return best, true
}

// infixOperator is oper: the operator that the types choose. ambiguous says that
// too many fit, rather than none.
func infixOperator(op string, l, r *cdc.Type) (c *candidate, ambiguous bool) {
	all := citextInfix(op, pg().infix[op], l, r)
	// An unknown literal is first tried with the other side's type.
	al, ar, unknown := l, r, false
	if al.OID == oidUnknown {
		al, unknown = ar, true
	} else if ar.OID == oidUnknown {
		ar, unknown = al, true
	}
	if c := exact(all, al, ar); c != nil {
		return c, false
	}
	if unknown && al.Base() != al {
		if c := exact(all, al.Base(), ar.Base()); c != nil {
			return c, false
		}
	}
	return choose(all, []*cdc.Type{l, r})
}

// prefixOperator is left_oper.
func prefixOperator(op string, x *cdc.Type) (c *candidate, ambiguous bool) {
	all := pg().prefix[op]
	if c := exact(all, x); c != nil {
		return c, false
	}
	return choose(all, []*cdc.Type{x})
}

func exact(all []*candidate, types ...*cdc.Type) *candidate {
	for _, c := range all {
		if slices.EqualFunc(c.args, types, func(a, b *cdc.Type) bool { return a.OID == b.OID }) {
			return c
		}
	}
	return nil
}

// function is func_get_detail without the function-style casts. The arguments
// of a variadic function come back expanded to the call's number.
func function(name string, types []*cdc.Type) (c *candidate, ambiguous bool) {
	var fitting []*candidate
	for _, c := range citextFunctions(name, pg().functions[name], types) {
		n := len(c.args)
		switch {
		case n == len(types):
			fitting = append(fitting, expandVariadic(c, n))
		case c.variadic && len(types) >= n:
			fitting = append(fitting, expandVariadic(c, len(types)))
		}
	}
	if c := exact(fitting, types...); c != nil {
		return c, false
	}
	return choose(fitting, types)
}

func expandVariadic(c *candidate, n int) *candidate {
	if !c.variadic {
		return c
	}
	last := c.args[len(c.args)-1]
	if last.OID != oidAny {
		last = last.Elem
	}
	e := *c
	e.args = slices.Clone(c.args[:len(c.args)-1])
	for len(e.args) < n {
		e.args = append(e.args, last)
	}
	return &e
}

// choose is func_match_argtypes and func_select_candidate.
func choose(all []*candidate, types []*cdc.Type) (c *candidate, ambiguous bool) {
	s := selection{list: accepting(all, types), base: mapped(types, (*cdc.Type).Base)}
	if len(s.list) == 0 {
		return nil, false
	}
	steps := []func(){s.mostExact, s.mostPreferred, s.guessUnknowns, s.assumeSame}
	for _, step := range steps {
		if len(s.list) == 1 {
			break
		}
		step()
	}
	if len(s.list) == 1 {
		return s.list[0], false
	}
	return nil, true
}

// accepting returns the candidates for which the types convert implicitly.
func accepting(all []*candidate, types []*cdc.Type) []*candidate {
	return slices.DeleteFunc(slices.Clone(all), func(c *candidate) bool { return !canCoerce(types, c.args) })
}

// selection narrows a list of candidates down, rule by rule.
type selection struct {
	list []*candidate
	base []*cdc.Type
}

// keepBest keeps the candidates with the highest score.
func (s *selection) keepBest(score func(arg, have *cdc.Type) bool) {
	best := -1
	var kept []*candidate
	for _, c := range s.list {
		n := 0
		for i, have := range s.base {
			if have.OID != oidUnknown && score(c.args[i], have) {
				n++
			}
		}
		if n > best {
			best, kept = n, nil
		}
		if n == best {
			kept = append(kept, c)
		}
	}
	s.list = kept
}

func (s *selection) mostExact() {
	s.keepBest(func(arg, have *cdc.Type) bool { return arg.OID == have.OID })
}

func (s *selection) mostPreferred() {
	s.keepBest(func(arg, have *cdc.Type) bool {
		return arg.OID == have.OID || category(arg) == category(have) && preferred(arg)
	})
}

// guessUnknowns gives unknown literals a category: strings have precedence, else
// it is the only one that the candidates accept there.
func (s *selection) guessUnknowns() {
	kept := s.list
	for i, have := range s.base {
		if have.OID != oidUnknown {
			continue
		}
		cat, hasPreferred, conflict := byte(0), false, false
		for _, c := range s.list {
			got := category(c.args[i])
			switch {
			case cat == 0:
				cat, hasPreferred = got, preferred(c.args[i])
			case got == cat:
				hasPreferred = hasPreferred || preferred(c.args[i])
			case got == 'S':
				cat, hasPreferred = got, preferred(c.args[i])
			default:
				conflict = true
			}
		}
		if conflict && cat != 'S' {
			return
		}
		kept = slices.DeleteFunc(slices.Clone(kept), func(c *candidate) bool {
			return category(c.args[i]) != cat || hasPreferred && !preferred(c.args[i])
		})
	}
	if len(kept) > 0 {
		s.list = kept
	}
}

// assumeSame gives unknown literals the type that all known arguments have.
func (s *selection) assumeSame() {
	var known *cdc.Type
	unknown := 0
	for _, t := range s.base {
		switch {
		case t.OID == oidUnknown:
			unknown++
		case known == nil:
			known = t
		case known.OID != t.OID:
			return
		}
	}
	if known == nil || unknown == 0 {
		return
	}
	if found := accepting(s.list, slices.Repeat([]*cdc.Type{known}, len(s.base))); len(found) == 1 {
		s.list = found
	}
}
