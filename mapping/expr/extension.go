package expr

import (
	"bytes"
	"fmt"
	"strings"
	"unicode"
	"unicode/utf8"

	"gancho/cdc"
	"gancho/internal/pgtext"
)

// isTextLike reports the types of extensions that are text: by the rules of text,
// such as orafce's varchar2, or by those of citext.
func isTextLike(t *cdc.Type) bool {
	t = t.Base()
	return t.IsText && (!t.Equals || isCitext(t))
}

// isCitext reports the type of the extension citext, which compares in lower case.
// https://www.postgresql.org/docs/current/citext.html
func isCitext(t *cdc.Type) bool {
	t = t.Base()
	return t.Extension == "citext" && t.Name == "citext" && t.IsText
}

// comparesOtherwise reports a type that compares its values by a rule that is not
// known here, so that their texts do not tell whether they are equal.
func comparesOtherwise(t *cdc.Type) bool {
	t = t.Base()
	if t.Kind == cdc.KindArray && t.Elem != nil {
		return comparesOtherwise(t.Elem)
	}
	// The texts of these are unique.
	return t.Equals && !isTextLike(t) && t.Extension != "hstore" && t.Extension != "ltree"
}

// textLikeCast is the pathway from or to a type that is text.
func textLikeCast(src, dst *cdc.Type, ctx castContext) (pathKind, castRow, bool) {
	switch {
	case isTextLike(src) && (dst.OID == oidText || isCitext(src) && dst.OID == oidVarchar):
		return pathRelabel, castRow{}, true
	case ctx == implicitCast:
		return pathNone, castRow{}, isTextLike(src) || isTextLike(dst)
	case isCitext(src) && dst.OID == oidBpchar, isCitext(dst) && (src.OID == oidText || src.OID == oidVarchar):
		return pathRelabel, castRow{}, true
	case isCitext(dst) && src.OID == oidBpchar:
		return pathFunction, castRow{fn: "text"}, true
	}
	return pathNone, castRow{}, false
}

// citextOperators are the functions behind the operators of citext. Those that match
// patterns exist for a pattern of text, too.
var citextOperators = map[string]string{
	"=": "citext_eq", "<>": "citext_ne", "<": "citext_lt", "<=": "citext_le", ">": "citext_gt", ">=": "citext_ge",
	"~": "texticregexeq", "~*": "texticregexeq", "!~": "texticregexne", "!~*": "texticregexne",
	"~~": "texticlike", "~~*": "texticlike", "!~~": "texticnlike", "!~~*": "texticnlike",
}

// citextInfix adds the operators of citext to PostgreSQL's own, if one side is of it.
func citextInfix(op string, all []*candidate, sides ...*cdc.Type) []*candidate {
	name := citextOperators[op]
	citext := firstCitext(sides)
	if citext == nil || name == "" {
		return all
	}
	add := func(right *cdc.Type) {
		all = append(all[:len(all):len(all)], &candidate{name: name, args: []*cdc.Type{citext, right}, result: builtin(oidBool)})
	}
	add(citext)
	if strings.HasPrefix(name, "text") {
		add(builtin(oidText))
	}
	return all
}

func firstCitext(types []*cdc.Type) *cdc.Type {
	for _, t := range types {
		if isCitext(t) {
			return t.Base()
		}
	}
	return nil
}

// citextFunctions adds the functions that the extension has under the names of
// PostgreSQL's own. They are not implemented: they ignore case.
func citextFunctions(name string, all []*candidate, types []*cdc.Type) []*candidate {
	citext := firstCitext(types)
	if citext == nil {
		return all
	}
	var args []*cdc.Type
	switch name {
	case "replace":
		args = []*cdc.Type{citext, citext, citext}
	case "split_part":
		args = []*cdc.Type{citext, citext, builtin(oidInt4)}
	case "strpos":
		args = []*cdc.Type{citext, citext}
	case "translate":
		args = []*cdc.Type{citext, citext, builtin(oidText)}
	default:
		return all
	}
	return append(all[:len(all):len(all)], &candidate{name: "citext_" + name, args: args, result: citext})
}

// citextImpls are the operators of citext.
func citextImpls() map[string]*impl {
	all := map[string]*impl{}
	for op, name := range citextOperators {
		for _, right := range []string{"citext", "text"} {
			key := name + "(citext," + right + ")"
			switch name {
			case "texticlike", "texticnlike":
				all[key] = ilikeImpl(name == "texticnlike")
			case "texticregexeq", "texticregexne":
				all[key] = regexImpl(true, name == "texticregexne")
			default:
				if right == "citext" {
					all[key] = citextComparison(op)
				}
			}
		}
	}
	return all
}

// citextComparison compares in lower case by the database's locale; order is then
// that of the collation.
func citextComparison(op string) *impl {
	byBytes := compareBy(op, func(_ *Machine, a, b value) int { return bytes.Compare(a.s, b.s) })
	return bound(func(c *checker, t *term) (*impl, *Error) {
		s := c.scope.Settings
		lower, ok := s.mapCase(unicode.ToLower)
		if !ok {
			return nil, refusal(t, "citext compares in lower case by the database's locale "+s.CType+", which the rules do not know", "cast it to text")
		}
		if op != "=" && op != "<>" {
			if err := c.ownCollation(t); err != nil {
				return nil, err
			}
			if !s.ordersByCodepoint() {
				return nil, refusal(t, "ordering citext with "+op+" depends on the database's collation "+s.Collation+", which the rules do not know", "compare with =")
			}
		}
		return two(func(m *Machine, a, b value) value {
			if a = m.mapRunes(a.s, lower); a.state != stateKnown {
				return a
			}
			if b = m.mapRunes(b.s, lower); b.state != stateKnown {
				return b
			}
			return byBytes.two(m, a, b)
		}), nil
	})
}

// KeyText returns a value as part of an ordering key: char(n) without its padding,
// citext in lower case. It may return text itself.
func (s Settings) KeyText(text []byte, t *cdc.Type) []byte {
	switch t = t.Base(); {
	case t.OID == oidBpchar:
		return trimEnd(text)
	case isCitext(t):
		return s.lowered(text)
	}
	return text
}

// EqualText returns the text of a value so that values which PostgreSQL calls equal
// have one: as KeyText, with numbers without zeros at the end of the fraction, and
// intervals as their length. It may return text itself.
func (s Settings) EqualText(text []byte, t *cdc.Type) []byte {
	switch base := t.Base(); {
	case base.OID == oidNumeric && bytes.IndexByte(text, '.') >= 0:
		return bytes.TrimSuffix(bytes.TrimRight(text, "0"), []byte("."))
	case isFloat(base) && string(text) == "-0":
		return text[1:]
	case base.OID == oidInterval:
		if i, err := pgtext.ParseInterval(text); err == nil && !i.IsInfinite() {
			days, micros := i.Span()
			return fmt.Appendf(nil, "%d days %d", days, micros)
		}
	}
	return s.KeyText(text, t)
}

// lowered is a citext in lower case, as far as it is known.
func (s Settings) lowered(text []byte) []byte {
	lower, ok := s.mapCase(unicode.ToLower)
	if !ok {
		return text
	}
	toLower := func(r rune) rune {
		to, _ := lower(r)
		return to
	}
	if !s.bytewise() {
		return bytes.Map(toLower, text)
	}
	out := bytes.Clone(text)
	for i, c := range out {
		if c < utf8.RuneSelf {
			out[i] = byte(toLower(rune(c))) // of ASCII
		}
	}
	return out
}

// KeyProblem says why EqualText cannot tell which values of a type are equal; empty if
// it can. Types without equality are compared by their texts.
func (s Settings) KeyProblem(t *cdc.Type) string {
	switch {
	case isCitext(t):
		if _, ok := s.mapCase(unicode.ToLower); !ok {
			return "citext compares in lower case by the database's locale " + s.CType + ", which the rules do not know"
		}
	case comparesOtherwise(t):
		return "type " + typeTitle(t.Base()) + " compares values by a rule of its own, which is not known here"
	}
	return ""
}
