package expr

import (
	"bytes"
	"strings"
	"unicode/utf8"

	"gancho/cdc"
	"gancho/internal/pgtext"
)

// coerce converts a term to a type, as far as the context allows. what names
// the place in the error; empty: the value itself.
func (c *checker) coerce(t *term, to *cdc.Type, ctx castContext, what string) *term {
	switch {
	case t == nil:
		return nil
	case to.OID == oidAny:
		return c.decide(t)
	case t.typ.OID == to.OID:
		return t
	case t.typ.OID == oidUnknown && t.isConst():
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
		return c.errorAt(t.place, "cast it", "%s of type %s does not become %s automatically", what, typeTitle(t.typ), typeTitle(to))
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
	codec, base := codecOf(to), to.Base()
	if err := c.scope.Settings.moneyProblem(t, to); err != nil {
		return c.report(err)
	}
	if !codec.literals || isForeign(to) {
		return c.unsupported(t.place, "compare its text form: cast the other side to text", "constants of type %s are not supported", typeTitle(to))
	}
	if base.OID == oidBytea && !c.scope.Settings.utf8() && !isASCII(t.lit.s) {
		return c.unsupported(t.place, `write it in hexadecimal: '\x41'`, "the bytes of text depend on the server's encoding %s, which the rules do not know", c.scope.Settings.Encoding)
	}
	v := codec.read(c.machine, t.lit.s)
	if v.state == stateFailed {
		return c.literalError(t, base)
	}
	return constant(v, to, t.place)
}

const infiniteIntervals = "infinite intervals are not supported: PostgreSQL has them since 17"

func isASCII(s []byte) bool {
	return bytes.IndexFunc(s, func(r rune) bool { return r >= utf8.RuneSelf }) < 0
}

func (c *checker) literalError(t *term, base *cdc.Type) *term {
	switch {
	case base.Kind == cdc.KindEnum:
		hint := suggest(string(t.lit.s), base.Labels, "did you mean %q?", "labels: "+listLabels(base.Labels))
		return c.errorAt(t.place, hint, "%q is not a label of enum %s", t.lit.s, base.Name)
	case base.Kind == cdc.KindArray && base.Elem != nil && base.Elem.Base().Kind == cdc.KindEnum:
		enum := base.Elem.Base()
		return c.errorAt(t.place, "labels: "+listLabels(enum.Labels), "the array contains a text that is not a label of enum %s", enum.Name)
	}
	hint := "write a value of type " + typeTitle(base) + ", or cast the other side"
	return c.errorAt(t.place, hint, "%s", c.machine.err.Message)
}

func listLabels(labels []string) string {
	return strings.Join(mapped(labels, quoteLiteral), ", ")
}

// relabel changes the type of a value that stays as it is.
func (c *checker) relabel(t *term, to *cdc.Type) *term {
	from, base := t.typ.Base(), to.Base()
	if from.OID != base.OID && !sameForm(from, base) {
		return c.unsupported(t.place, "compare with a value of the same type", "%s as %s is not supported", typeTitle(t.typ), typeTitle(to))
	}
	if t.isConst() {
		return constant(t.lit, to, t.place)
	}
	r := newTerm(opRelabel, to, t.place, t)
	if from.OID == base.OID {
		r.typmod = t.typmod
	}
	return r
}

// sameForm: values of the types have the same text form, and the same one here. The
// server also takes oid for regclass, which prints a name.
func sameForm(a, b *cdc.Type) bool {
	if a.OID == b.OID {
		return true
	}
	if a.Kind == cdc.KindArray && b.Kind == cdc.KindArray {
		return sameForm(a.Elem.Base(), b.Elem.Base())
	}
	isText := func(t *cdc.Type) bool {
		return category(t) == 'S' || t.Schema == "pg_catalog" && (t.Name == "xml" || t.Name == "bit" || t.Name == "varbit")
	}
	return codecOf(a).plain && codecOf(b).plain && isText(a) && isText(b)
}

// castFunction applies the function of a cast, such as int8(int4).
func (c *checker) castFunction(t *term, to *cdc.Type, fn string) *term {
	from := t.typ.Base()
	im, ok := implementations()[fn+"("+from.Name+")"]
	// The function's own result, such as int4 for a cast to oid, must be the same here.
	if result := pg().byName[fn]; !ok || result != nil && !sameForm(result.typ, to.Base()) {
		return c.unsupported(t.place, "use the value as it is", "casting %s to %s is not supported", typeTitle(from), typeTitle(to))
	}
	r := newTerm(opCall, to, t.place, t)
	r.function = fn
	if r.impl = c.bound(im, r); r.impl == nil {
		return nil
	}
	return r
}

// viaText converts by the text form.
func (c *checker) viaText(t *term, to *cdc.Type) *term {
	for _, typ := range []*cdc.Type{t.typ, to} {
		if err := c.scope.Settings.moneyProblem(t, typ); err != nil {
			return c.report(err)
		}
	}
	switch {
	case isForeign(t.typ), hasZone(t.typ), t.typ.Base().Kind == cdc.KindComposite:
		return c.unsupported(t.place, "use the value as it is", "the text form of %s is not supported", typeTitle(t.typ))
	case to.Base().OID == oidBytea && !c.scope.Settings.utf8():
		return c.unsupported(t.place, "use the text as it is", "the bytes of text depend on the server's encoding %s, which the rules do not know", c.scope.Settings.Encoding)
	case !codecOf(to).literals || isForeign(to):
		return c.unsupported(t.place, "use the text as it is", "casting text to %s is not supported", typeTitle(to))
	}
	r := newTerm(opText, to, t.place, t)
	r.stable = stableText(t.typ, true) || stableText(to, false)
	return r
}

// moneyProblem refuses the text form of money where it is not that of C: $1,234.50.
func (s Settings) moneyProblem(t *term, typ *cdc.Type) *Error {
	typ = typ.Base()
	if typ.Kind == cdc.KindArray && typ.Elem != nil {
		typ = typ.Elem.Base()
	}
	if typ.OID != oidMoney || s.Monetary == "" || isC(s.Monetary) {
		return nil
	}
	return refusal(t, "the text form of money depends on lc_monetary "+s.Monetary+", which the rules do not know", "cast it to numeric, or compare with 12.34::money")
}

// hasZone reports the opaque types whose text may depend on the session's time zone.
func hasZone(t *cdc.Type) bool {
	t = t.Base()
	switch t.Kind {
	case cdc.KindRange, cdc.KindMultirange:
		return !pgtext.IsZonedRange(t) && (t.Elem == nil || hasZone(t.Elem))
	case cdc.KindArray:
		return t.Elem != nil && hasZone(t.Elem)
	}
	return false
}

// coerceElements converts an array element by element.
func (c *checker) coerceElements(t *term, to *cdc.Type, ctx castContext) *term {
	bound := newTerm(opBound, t.typ.Base().Elem, t.place)
	bound.vars = true
	elem := c.coerce(bound, to.Base().Elem, ctx, "an element")
	if elem != nil && strip(elem) == bound {
		return newTerm(opRelabel, to, t.place, t)
	}
	r := newTerm(opElements, to, t.place, t, elem)
	if r != nil {
		r.stable = elem.anyStable()
	}
	return r
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
		x = c.fold(c.array(list, to))
	} else {
		x = c.check(n.x)
	}
	if x == nil || to == nil {
		return nil
	}
	if to.Kind == cdc.KindDomain && x.typ.OID != to.OID {
		return c.errorAt(n.t.place, "cast to "+typeTitle(to.Base()), "casting to domain %s would need its checks", to.Name)
	}
	r := c.coerceExplicit(n.place, x, to)
	if r == nil || typmod < 0 {
		return r
	}
	return c.applyModifier(n.place, r, typmod)
}

func (c *checker) coerceExplicit(p place, x *term, to *cdc.Type) *term {
	if kind, _ := pathway(x.typ, to, explicitCast); x.typ.OID != oidUnknown && x.typ.OID != to.OID && kind == pathNone {
		return c.errorAt(p, "", "%s cannot be cast to %s", typeTitle(x.typ), typeTitle(to))
	}
	placed := *x
	if x.typ.OID != oidUnknown {
		placed.place = p
	}
	r := c.coerce(&placed, to, explicitCast, "")
	if r == &placed { // nothing to do: the cast only hides the column's modifier
		r = newTerm(opRelabel, to, x.place, x)
		r.typmod = x.typmod
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
	r := newTerm(opCall, x.typ, p, x)
	r.typmod, r.impl = typmod, im
	return c.fold(r)
}

// showsZone reports the types that are printed in the session's time zone.
func showsZone(t *cdc.Type) bool {
	t = t.Base()
	return t.OID == oidTimestamptz || pgtext.IsZonedRange(t) || t.Kind == cdc.KindArray && t.Elem != nil && showsZone(t.Elem)
}
