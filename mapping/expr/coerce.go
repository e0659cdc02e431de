package expr

import (
	"fmt"
	"slices"
	"unicode/utf8"

	"gancho/cdc"
)

// coerce converts a term to a type, as far as the context allows. what names
// the place in the error; empty: the value itself.
func (c *checker) coerce(t *term, to *cdc.Type, ctx castContext, what string) *term {
	if t.typ.OID == to.OID || to.OID == oidAny {
		if to.OID == oidAny {
			return c.decide(t)
		}
		return t
	}
	if t.typ.OID == oidUnknown && t.isConst() {
		return c.coerceLiteral(t, to)
	}
	kind, row := pathway(t.typ, to, ctx)
	var r *term
	switch kind {
	case pathRelabel:
		r = c.relabel(t, to)
	case pathFunction:
		if r = c.castFunction(t, to, row.fn); r != nil {
			r.stable = row.stable
		}
	case pathViaIO:
		r = c.viaText(t, to)
	case pathArray:
		r = c.coerceElements(t, to, ctx)
	default:
		if what == "" {
			what = "a value"
		}
		c.errorAt(t.place, "cast it", "%s of type %s does not become %s by itself", what, typeTitle(t.typ), typeTitle(to))
		return nil
	}
	if r == nil {
		return nil
	}
	r.vars = t.vars
	return c.fold(r)
}

// coerceLiteral is the type's input function on a constant.
func (c *checker) coerceLiteral(t *term, to *cdc.Type) *term {
	if t.isNullConst() {
		return constant(value{}, to, t.place)
	}
	codec := codecOf(to)
	if !codec.literals || isForeign(to) {
		c.errorAt(t.place, "compare its text form: cast the other side to text", "constants of type %s are not supported", typeTitle(to))
		return nil
	}
	if to.Base().OID == oidBytea && !c.scope.Settings.utf8() && !isASCII(t.lit.s) {
		c.errorAt(t.place, `write it in hexadecimal: '\x41'`, "the bytes of text depend on the server's encoding %s, which the rules do not know", c.scope.Settings.Encoding)
		return nil
	}
	v := codec.parse(c.machine, t.lit.s)
	if v.state == stateFailed || hasNewLabel(to, v) {
		c.literalError(t, to)
		return nil
	}
	if o := to.Base().OID; o == oidJSON || o == oidJSONB {
		if v = jsonLiteral(c.machine, t.lit.s, o == oidJSONB); v.state == stateFailed {
			c.literalError(t, to)
			return nil
		}
	}
	if to.Base().OID == oidInterval && isInfiniteInterval(v) {
		c.errorAt(t.place, "compare with a long one, such as 1000 years", "infinite intervals are not supported: PostgreSQL has them since 17")
		return nil
	}
	if o := to.Base().OID; o == oidInet || o == oidCIDR {
		if _, _, ok := parseInet(t.lit.s); !ok {
			c.errorAt(t.place, "write an address such as 10.0.0.1 or 10.0.0.0/8", "invalid %s", to.Base().Name)
			return nil
		}
	}
	return constant(v, to, t.place)
}

func isASCII(s []byte) bool {
	for _, c := range s {
		if c >= utf8.RuneSelf {
			return false
		}
	}
	return true
}

func (c *checker) literalError(t *term, to *cdc.Type) {
	base := to.Base()
	if base.Kind == cdc.KindEnum {
		hint := "labels: " + listLabels(base.Labels)
		if near, ok := closest(string(t.lit.s), base.Labels); ok {
			hint = fmt.Sprintf("did you mean %q?", near)
		}
		c.errorAt(t.place, hint, "%q is not a label of enum %s", t.lit.s, base.Name)
		return
	}
	if hasEnum(base) {
		c.errorAt(t.place, "labels: "+listLabels(base.Elem.Base().Labels), "the array has what is not a label of enum %s", base.Elem.Base().Name)
		return
	}
	hint := "write a value of type " + typeTitle(base) + ", or cast the other side"
	c.errorAt(t.place, hint, "%s", c.machine.err.Message)
}

// hasNewLabel reports whether an enum's label is unknown, in an array too.
func hasNewLabel(t *cdc.Type, v value) bool {
	t = t.Base()
	if v.arr != nil && t.Elem != nil {
		return slices.ContainsFunc(v.arr.elems, func(e value) bool { return e.known() && hasNewLabel(t.Elem, e) })
	}
	return t.Kind == cdc.KindEnum && v.i < 0
}

func hasEnum(t *cdc.Type) bool {
	return t.Kind == cdc.KindArray && t.Elem != nil && t.Elem.Base().Kind == cdc.KindEnum
}

func listLabels(labels []string) string {
	s := ""
	for i, l := range labels {
		if i > 0 {
			s += ", "
		}
		s += quoteLiteral(l)
	}
	return s
}

// relabel changes the type of a value that stays as it is.
func (c *checker) relabel(t *term, to *cdc.Type) *term {
	from, base := t.typ.Base(), to.Base()
	if from.OID != base.OID && (!codecOf(from).plain || !codecOf(base).plain) && !sameElements(from, base) {
		c.errorAt(t.place, "compare with a value of the same type", "%s as %s is not supported", typeTitle(t.typ), typeTitle(to))
		return nil
	}
	if t.isConst() {
		return constant(t.lit, to, t.place)
	}
	typmod := int32(-1)
	if from.OID == base.OID {
		typmod = t.typmod
	}
	return &term{op: opRelabel, typ: to, typmod: typmod, place: t.place, args: []*term{t}, vars: t.vars}
}

func sameElements(a, b *cdc.Type) bool {
	return a.Kind == cdc.KindArray && b.Kind == cdc.KindArray && codecOf(a.Elem).plain && codecOf(b.Elem).plain
}

// castFunction applies the function of a cast, such as int8(int4).
func (c *checker) castFunction(t *term, to *cdc.Type, fn string) *term {
	from := t.typ.Base()
	im, ok := castImpls()[fn+"("+from.Name+")"]
	if !ok {
		c.errorAt(t.place, "use the value as it is", "casting %s to %s is not supported", typeTitle(from), typeTitle(to))
		return nil
	}
	r := &term{op: opCall, typ: to, typmod: -1, place: t.place, args: []*term{t}, impl: im, vars: t.vars}
	if im.bind != nil {
		bound, err := im.bind(c, r)
		if err != nil {
			c.errs = append(c.errs, err)
			return nil
		}
		r.impl = bound
	}
	return r
}

// viaText converts by the text form.
func (c *checker) viaText(t *term, to *cdc.Type) *term {
	switch {
	case isForeign(t.typ), hasZone(t.typ), t.typ.Base().Kind == cdc.KindComposite:
		c.errorAt(t.place, "use the value as it is", "the text form of %s is not supported", typeTitle(t.typ))
		return nil
	case to.Base().OID == oidBytea && !c.scope.Settings.utf8():
		c.errorAt(t.place, "use the text as it is", "the bytes of text depend on the server's encoding %s, which the rules do not know", c.scope.Settings.Encoding)
		return nil
	case !codecOf(to).literals || isForeign(to):
		c.errorAt(t.place, "use the text as it is", "casting text to %s is not supported", typeTitle(to))
		return nil
	}
	stable := stableText(t.typ, true) || stableText(to, false)
	return &term{op: opText, typ: to, typmod: -1, place: t.place, args: []*term{t}, vars: t.vars, stable: stable}
}

// hasZone tells the opaque types whose text depends on the session's time zone.
func hasZone(t *cdc.Type) bool {
	t = t.Base()
	switch t.Kind {
	case cdc.KindRange, cdc.KindMultirange:
		return t.Elem == nil || t.Elem.Base().OID == oidTimestamptz || hasZone(t.Elem) || t.Name == "tstzrange" || t.Name == "tstzmultirange"
	case cdc.KindArray:
		return t.Elem != nil && hasZone(t.Elem)
	}
	return false
}

// coerceElements converts an array element by element.
func (c *checker) coerceElements(t *term, to *cdc.Type, ctx castContext) *term {
	bound := &term{op: opBound, typ: t.typ.Base().Elem, typmod: -1, place: t.place, vars: true}
	elem := c.coerce(bound, to.Base().Elem, ctx, "an element")
	if elem == nil {
		return nil
	}
	return &term{op: opElements, typ: to, typmod: -1, place: t.place, args: []*term{t, elem}, vars: t.vars, stable: elem.anyStable()}
}

// arrayOf is the array type over an element type.
func arrayOf(elem *cdc.Type) *cdc.Type {
	if info := pg().types[elem.OID]; info != nil && info.array != 0 {
		return builtin(info.array)
	}
	return &cdc.Type{OID: 0, Schema: elem.Schema, Name: "_" + elem.Name, Kind: cdc.KindArray, Elem: elem, TypeMod: -1, Delim: ','}
}

// explicitCast is x::t.
func (c *checker) explicitCast(n *cast) *term {
	to, typmod := c.resolveType(&n.t)
	var x *term
	if list, ok := n.x.(*arrayExpr); ok && to != nil && to.Kind == cdc.KindArray {
		x = c.array(list, to)
		if x != nil {
			x = c.fold(x)
		}
	} else {
		x = c.check(n.x)
	}
	if x == nil || to == nil {
		return nil
	}
	if to.Kind == cdc.KindDomain && x.typ.OID != to.OID {
		c.errorAt(n.t.place, "cast to "+typeTitle(to.Base()), "casting to domain %s would need its checks", to.Name)
		return nil
	}
	r := c.coerceExplicit(n.place, x, to)
	if r == nil || typmod < 0 {
		return r
	}
	return c.applyModifier(n.place, r, typmod)
}

func (c *checker) coerceExplicit(p place, x *term, to *cdc.Type) *term {
	if kind, _ := pathway(x.typ, to, explicitCast); x.typ.OID != oidUnknown && x.typ.OID != to.OID && kind == pathNone {
		c.errorAt(p, "", "%s cannot be cast to %s", typeTitle(x.typ), typeTitle(to))
		return nil
	}
	before := x.place
	x2 := *x
	if x.typ.OID != oidUnknown {
		x2.place = p
	}
	r := c.coerce(&x2, to, explicitCast, "")
	if r == &x2 { // nothing to do: the cast only hides the column's modifier
		r = &term{op: opRelabel, typ: to, typmod: x.typmod, place: before, args: []*term{x}, vars: x.vars}
		return c.fold(r)
	}
	return r
}

// applyModifier is the length coercion of an explicit cast: varchar(3).
func (c *checker) applyModifier(p place, x *term, typmod int32) *term {
	im := modifierImpl(x.typ, typmod)
	if im == nil {
		return x
	}
	return c.fold(&term{op: opCall, typ: x.typ, typmod: typmod, place: p, args: []*term{x}, impl: im, vars: x.vars})
}

// showsZone tells the types that are printed in the session's time zone.
func showsZone(t *cdc.Type) bool {
	t = t.Base()
	return t.OID == oidTimestamptz || t.Kind == cdc.KindArray && t.Elem != nil && showsZone(t.Elem)
}
