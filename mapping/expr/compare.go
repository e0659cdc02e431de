package expr

import (
	"bytes"
	"cmp"
	"math"
	"slices"
	"strings"

	"gancho/cdc"
	"gancho/internal/pgtext"
)

// ordering compares two known values of its types.
type ordering func(m *Machine, a, b value) int

// comparisonImpls are = <> < <= > >= for every pair of types that PostgreSQL
// has them for and that we can order.
func comparisonImpls() map[string]*impl {
	all := map[string]*impl{}
	for _, op := range []string{"=", "<>", "<", "<=", ">", ">="} {
		for _, c := range pg().infix[op] {
			if im := comparison(op, c.args[0], c.args[1]); im != nil {
				all[c.key()] = im
			}
		}
	}
	return all
}

// comparison is the code of one operator, or nil.
func comparison(op string, l, r *cdc.Type) *impl {
	isEquality := op == "=" || op == "<>"
	switch {
	case l.Name == "anyenum":
		return enumComparison(compareBy(op, orderInt))
	case l.Name == "anyarray" && isEquality:
		return withEquality(func(m *Machine, a, b *array, eq equality) value {
			r := equalArrays(m, a, b, eq)
			if r.state == stateKnown && op == "<>" {
				r.i ^= 1
			}
			return r
		})
	case l.OID == oidText && r.OID == oidText, l.OID == oidBpchar && r.OID == oidBpchar:
		return textComparison(op, l.OID == oidBpchar)
	}
	if l.OID == r.OID && isEquality {
		switch l.OID {
		case oidUUID, oidBytea, oidInet:
			return equalBytes(op == "<>", bytes.Equal)
		case oidJSONB:
			return equalBytes(op == "<>", pgtext.JSONEqual)
		}
	}
	if o := orderingOf(l, r); o != nil {
		return compareBy(op, o)
	}
	return nil
}

func equalBytes(negate bool, equal func(a, b []byte) bool) *impl {
	return two(func(_ *Machine, a, b value) value { return boolValue(equal(a.s, b.s) != negate) })
}

func compareBy(op string, o ordering) *impl {
	switch op {
	case "=":
		return two(func(m *Machine, a, b value) value { return boolValue(o(m, a, b) == 0) })
	case "<>":
		return two(func(m *Machine, a, b value) value { return boolValue(o(m, a, b) != 0) })
	case "<":
		return two(func(m *Machine, a, b value) value { return boolValue(o(m, a, b) < 0) })
	case "<=":
		return two(func(m *Machine, a, b value) value { return boolValue(o(m, a, b) <= 0) })
	case ">":
		return two(func(m *Machine, a, b value) value { return boolValue(o(m, a, b) > 0) })
	}
	return two(func(m *Machine, a, b value) value { return boolValue(o(m, a, b) >= 0) })
}

// enumComparison compares labels by their position. One that the type does not
// have may be another name of one that it has, so that not even = can be answered.
func enumComparison(by *impl) *impl {
	return two(func(m *Machine, a, b value) value {
		if a.i < 0 || b.i < 0 {
			return m.fail("22P02", "the catalogue did not have the enum's label (added or renamed since); if it has it now, load the rules again (SIGHUP or a restart)")
		}
		return by.two(m, a, b)
	})
}

func orderInt(_ *Machine, a, b value) int { return cmp.Compare(a.i, b.i) }

// orderingOf returns the order of two types' values, or nil.
func orderingOf(l, r *cdc.Type) ordering {
	switch {
	case isInt(l) && isInt(r):
		return orderInt
	case isFloat(l) && isFloat(r):
		return func(_ *Machine, a, b value) int { return compareFloat(a.float(), b.float()) }
	case isMoment(l) && isMoment(r):
		return momentOrdering(l.OID, r.OID)
	case l.OID != r.OID:
		return nil
	}
	switch l.OID {
	case oidBool, oidMoney, oidTime:
		return orderInt
	case oidNumeric:
		return func(_ *Machine, a, b value) int { return compareNumeric(a, b) }
	case oidInterval:
		return func(_ *Machine, a, b value) int { return pgtext.CompareIntervals(interval(a), interval(b)) }
	case oidUUID, oidBytea:
		return func(_ *Machine, a, b value) int { return bytes.Compare(a.s, b.s) }
	}
	return nil
}

func isInt(t *cdc.Type) bool { return t.OID == oidInt2 || t.OID == oidInt4 || t.OID == oidInt8 }

func isFloat(t *cdc.Type) bool { return t.OID == oidFloat4 || t.OID == oidFloat8 }

func isMoment(t *cdc.Type) bool {
	return t.OID == oidDate || t.OID == oidTimestamp || t.OID == oidTimestamptz
}

// momentOrdering compares dates and timestamps; what has no zone is local to
// the session.
func momentOrdering(l, r uint32) ordering {
	if l == r {
		return orderInt
	}
	zoned := l == oidTimestamptz || r == oidTimestamptz
	return func(m *Machine, a, b value) int {
		return cmp.Compare(m.moment(a, l, zoned), m.moment(b, r, zoned))
	}
}

// moment is a date or timestamp as a timestamp without or with time zone. A
// date beyond the timestamps' range is after all of them but infinity.
func (m *Machine) moment(v value, oid uint32, zoned bool) int64 {
	ts := v.i
	if oid == oidDate {
		var err error
		if ts, err = pgtext.DateToTimestamp(int32(v.i)); err != nil {
			return pgtext.Infinity - 1
		}
	}
	if zoned && oid != oidTimestamptz && ts != pgtext.Infinity && ts != pgtext.NegInfinity {
		ts = pgtext.LocalToUTC(ts, m.loc)
	}
	return ts
}

// textComparison compares texts; character ignores blanks at the end. Order
// needs a collation that we know.
func textComparison(op string, blanks bool) *impl {
	if op == "=" || op == "<>" {
		eq := &textEquality{negate: op == "<>", blanks: blanks}
		im := equalBytes(eq.negate, eq.equal)
		im.text = eq
		return im
	}
	return bound(func(c *checker, t *term) (*impl, *Error) {
		asC := t.args[0].underC() || t.args[1].underC()
		if err := c.ownCollation(t); err != nil && !asC {
			return nil, err
		}
		if asC && !c.scope.Settings.cIsCodepoint() {
			return nil, refusal(t, "the order of texts in encoding "+c.scope.Settings.Encoding+" is not known here", "compare with =")
		}
		if !asC && !c.scope.Settings.ordersByCodepoint() {
			return nil, refusal(t, "ordering text with "+op+" depends on the database's collation "+c.scope.Settings.Collation+", which the rules do not know",
				`compare with =, or compare numbers or dates, or write collate "C" behind a text for the order of its bytes`)
		}
		if blanks {
			return compareBy(op, func(_ *Machine, a, b value) int { return bytes.Compare(trimEnd(a.s), trimEnd(b.s)) }), nil
		}
		return compareBy(op, func(_ *Machine, a, b value) int { return bytes.Compare(a.s, b.s) }), nil
	})
}

// trimEnd cuts blanks off the end, which do not count in a char(n).
func trimEnd(s []byte) []byte { return bytes.TrimRight(s, " ") }

// ordersByCodepoint reports the collations that compare text as bytes of UTF-8.
// In a single-byte encoding C compares the server's bytes, which are in the
// order of the code points only for ASCII and LATIN1.
func (s Settings) ordersByCodepoint() bool {
	if !s.cIsCodepoint() {
		return false
	}
	switch s.Provider {
	case "i":
		return false
	case "b": // all of the builtin provider's locales order by code point
		return true
	}
	switch strings.ReplaceAll(strings.ToUpper(s.Collation), "-", "") {
	case "C", "POSIX", "C.UTF8":
		return true
	}
	return false
}

// cIsCodepoint reports whether collation C orders texts as their bytes here.
func (s Settings) cIsCodepoint() bool {
	encoding := strings.ToUpper(s.Encoding)
	return s.utf8() || encoding == "LATIN1" || encoding == "SQL_ASCII"
}

// collate is x collate "C". It counts in the comparison whose operand it is; what else
// depends on a collation refuses it.
func (c *checker) collate(n *collated) *term {
	name := n.path[len(n.path)-1]
	if name.text != "C" || len(n.path) > 2 || len(n.path) == 2 && n.path[0].text != "pg_catalog" {
		return c.errorAt(n.place, `write collate "C", with the quotes`, "collation %s is not supported", quoteIdent(name))
	}
	x := c.decide(c.check(n.x))
	switch {
	case x == nil:
		return nil
	case category(x.typ) != 'S':
		return c.errorAt(n.place, "leave it out", "collations are not supported by type %s", typeTitle(x.typ))
	}
	t := newTerm(opRelabel, x.typ, n.place, x)
	t.typmod, t.collate = x.typmod, true
	return t
}

// underC: the term is collate "C", perhaps under another type.
func (t *term) underC() bool {
	for ; t.op == opRelabel; t = t.args[0] {
		if t.collate {
			return true
		}
	}
	return false
}

// collates reports a collate anywhere in the term.
func (t *term) collates() bool { return t.collate || slices.ContainsFunc(t.args, (*term).collates) }

// elementEquality is the = of the elements of the first argument's array.
func elementEquality(c *checker, t *term) (equality, *Error) {
	elem := newTerm(opBound, t.args[0].typ.Base().Elem, t.place, t.args...)
	eq, err := c.attempt(func() *term { return c.operator("=", t.place, t.place, elem, elem) })
	if err != nil {
		return nil, err
	}
	return eq.impl.two, nil
}

// equalArrays is array_eq: the same shape and equal elements, nulls being equal.
func equalArrays(m *Machine, a, b *array, eq equality) value {
	if !slices.Equal(a.dims, b.dims) || !slices.Equal(a.lower, b.lower) {
		return boolValue(false)
	}
	for left, right := a.reader(), b.reader(); ; {
		x, more := left.next(m)
		if !more {
			return boolValue(true)
		}
		y, _ := right.next(m)
		if x.state == stateFailed || y.state == stateFailed {
			return value{state: stateFailed}
		}
		if x.state == stateNull || y.state == stateNull {
			if x.state != y.state {
				return boolValue(false)
			}
			continue
		}
		if r := eq(m, x, y); !r.isTrue() {
			return r
		}
	}
}

// isInfinite reports the two infinities of a timestamp.
func isInfinite(ts int64) bool { return ts == math.MaxInt64 || ts == math.MinInt64 }

// collatedColumn finds a column of the term that has a collation of its own, with
// preference for a nondeterministic one.
func (c *checker) collatedColumn(t *term) (column, collation string, deterministic bool) {
	if c.scope.Collation == nil {
		return "", "", true
	}
	if t.lookup > 0 {
		return "", "", true // its collation is not known, nor is that of a table's expression
	}
	if t.op == opColumn || t.op == opChanged {
		name, ok := c.scope.Collation(t.column)
		return t.name, name, ok || name == ""
	}
	deterministic = true
	for _, a := range t.args {
		if col, name, ok := c.collatedColumn(a); name != "" && (deterministic || !ok) {
			column, collation, deterministic = col, name, ok
		}
	}
	return column, collation, deterministic
}

// ownCollation refuses what depends on order or case for a column whose
// collation is not the database's.
func (c *checker) ownCollation(t *term) *Error {
	if t.collates() {
		return refusal(t, "COLLATE is supported in comparisons alone", `write it behind an operand of < <= > >=: nome collate "C" < 'b'`)
	}
	column, collation, _ := c.collatedColumn(t)
	if collation == "" {
		return nil
	}
	return refusal(t, "the result depends on collation "+collation+" of column "+column+", which the rules do not know", "compare with =")
}

// collationProblem refuses to compare texts under a nondeterministic
// collation, where even equality is the collation's.
func (c *checker) collationProblem(t *term) *Error {
	if t.op == opCall && slices.ContainsFunc(t.args, (*term).underC) {
		return nil
	}
	for _, a := range t.args {
		if category(a.typ) != 'S' {
			continue
		}
		if column, collation, deterministic := c.collatedColumn(a); !deterministic {
			return refusal(t, "column "+column+" has the nondeterministic collation "+collation+", which the rules do not know", "use the column as it is")
		}
	}
	return nil
}
